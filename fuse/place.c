/* SPDX-License-Identifier: Apache-2.0 */
#include "place.h"

#include "mountpoint.h"
#include "mounts.h"
#include "node.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

char *sfs_place_path(const struct sfs *sfs)
{
        char *found = NULL;

        if (sfs_mountpoint_device(sfs->mnt) != sfs->dev)
                found = sfs_mounts_place(sfs->mnt, sfs->dev);
        return found ? found : strdup(sfs->mnt);
}

bool sfs_place_is(int fd, dev_t dev, uint64_t ino)
{
        struct statx stx;

        return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &stx) == 0 && stx.stx_ino == ino &&
               makedev(stx.stx_dev_major, stx.stx_dev_minor) == dev;
}

/* As open(O_PATH) of a directory, by a path without links: what was found free of them is to stay so. */
static int open_plain(const char *path, int *ret)
{
        const struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS };
        int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

        if (fd < 0)
                return -errno;
        *ret = fd;
        return 0;
}

static int open_root(const struct sfs *sfs, const char *path, int *ret)
{
        cleanup_fd int fd = -1;
        int r = open_plain(path, &fd);

        if (r < 0)
                return r;
        if (!sfs_place_is(fd, sfs->dev, FUSE_ROOT_ID))
                return -ESTALE;
        *ret = steal_fd(&fd);
        return 0;
}

int sfs_place_open(const struct sfs *sfs, int *ret)
{
        cleanup_free char *place = NULL;

        if (open_root(sfs, sfs->mnt, ret) == 0)
                return 0;
        place = sfs_mounts_place(sfs->mnt, sfs->dev);
        return place && open_root(sfs, place, ret) == 0 ? 0 : -ESTALE;
}

int sfs_place_open_entry(const struct sfs *sfs, enum strata_kind kind, const char *name, uint64_t id, int *ret)
{
        char path[STRATA_NAME_MAX + 16];
        cleanup_fd int root = -1, entry = -1;
        int r = sfs_place_open(sfs, &root);

        if (r < 0)
                return r;
        snprintf(path, sizeof(path), "%s/%s", strata_kind_folder(kind), name);
        entry = openat(root, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (entry < 0)
                return -errno;
        if (!sfs_place_is(entry, sfs->dev, sfs_node(id, SFS_SLOT_ENTRY)))
                return -ESTALE;
        *ret = steal_fd(&entry);
        return 0;
}

const char *sfs_place_fs(int entry, char *buf)
{
        snprintf(buf, SFS_PLACE_FS_MAX, "/proc/thread-self/fd/%d/fs", entry);
        return buf;
}

/* The name is walked from the folder that holds it: a descriptor of the mount itself would keep it busy. */
static int unmount_at(const char *path, dev_t dev, int flags)
{
        char folder[PATH_MAX], name[PATH_MAX + 32];
        const char *slash = strrchr(path, '/');
        cleanup_fd int fd = -1;
        int r;

        if (!slash || !slash[1] || (size_t)(slash - path) >= sizeof(folder) - 1)
                return -EINVAL;
        snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : (int)(slash - path), path);
        r = open_plain(folder, &fd);
        if (r < 0)
                return -EINVAL;
        snprintf(name, sizeof(name), "/proc/thread-self/fd/%d/%s", fd, slash + 1);
        if (sfs_mountpoint_device(name) != dev)
                return -EINVAL;
        return umount2(name, flags | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}

int sfs_place_unmount(const char *mnt, dev_t dev, int flags)
{
        cleanup_free char *place = NULL;
        int r = unmount_at(mnt, dev, flags);

        if (r != -EINVAL)
                return r;
        place = sfs_mounts_place(mnt, dev);
        return place ? unmount_at(place, dev, flags) : -EINVAL;
}
