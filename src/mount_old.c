/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount(2), for kernels before 6.8: all options in one string, which the kernel cuts at a page without saying so. Paths
 * are taken from the working directory layers/, to fit as many as possible.
 */
#include "mount.h"

#include "strata.h"
#include "util/buf.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef ST_NOSYMFOLLOW
#define ST_NOSYMFOLLOW 0x2000 /* linux/statfs.h, which can't stand beside the headers of glibc */
#endif

#define OPTIONS_MAX 4095 /* bytes with the NUL */

static void format_options(const struct strata_chain *chain, struct strata_buf *buf)
{
        strata_buf_addstr(buf, "index=off,metacopy=off,redirect_dir=nofollow,lowerdir=");
        for (size_t i = 0; i < chain->n; i++)
                strata_buf_addf(buf, "%s%" PRIu64 "/fs", i ? ":" : "", chain->lowers[i]);
        if (chain->n == 0 || (chain->n == 1 && !chain->upper))
                strata_buf_addf(buf, "%s../empty", chain->n ? ":" : "");
        if (chain->upper)
                strata_buf_addf(buf, ",upperdir=%" PRIu64 "/fs,workdir=%" PRIu64 "/work", chain->upper, chain->upper);
}

size_t strata_mount_options_length(const struct strata_chain *chain)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

        format_options(chain, &buf);
        strata_buf_addstr(&buf, ",userxattr,volatile"); /* with or without, so that options change no limit */
        return strata_buf_status(&buf) < 0 ? SIZE_MAX : buf.len + 1;
}

static unsigned long old_flags(unsigned attributes)
{
        static const struct {
                unsigned attribute;
                unsigned long flag;
        } flags[] = {
                { MOUNT_ATTR_NOEXEC, MS_NOEXEC },
                { MOUNT_ATTR_NOATIME, MS_NOATIME },
                { MOUNT_ATTR_NODIRATIME, MS_NODIRATIME },
                { MOUNT_ATTR_STRICTATIME, MS_STRICTATIME },
        };
        unsigned long ret = 0;

        for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++)
                if (attributes & flags[i].attribute)
                        ret |= flags[i].flag;
        return ret;
}

static int mount_at(struct strata *s, const struct strata_mount_spec *spec, const char *target)
{
        cleanup_buf struct strata_buf options = STRATA_BUF_INIT;
        unsigned long flags = old_flags(spec->attributes);
        int r;

        if (strata_mount_options_length(spec->chain) > OPTIONS_MAX)
                return -EMLINK;
        format_options(spec->chain, &options);
        if (s->in_userns)
                strata_buf_addstr(&options, ",userxattr");
        if (spec->is_volatile)
                strata_buf_addstr(&options, ",volatile");
        r = strata_buf_status(&options);
        if (r < 0)
                return r;
        if (spec->read_only)
                flags |= MS_RDONLY;
        if (spec->restricted)
                flags |= MS_NOSUID | MS_NODEV;
        return mount(spec->source, target, "overlay", flags, options.data) < 0 ? -errno : 0;
}

static int old_attach(struct strata *s, const struct strata_mount_spec *spec, int target_fd, dev_t *dev)
{
        char target[64];
        int r;

        snprintf(target, sizeof(target), "/proc/thread-self/fd/%d", target_fd);
        r = mount_at(s, spec, target);
        if (r == 0)
                *dev = 0; /* TARGET still names the directory below */
        return r;
}

/* By its descriptor, as a removal may have taken the directory that it is on elsewhere by now. */
static void detach(int fd, const char *target)
{
        char root[64];

        snprintf(root, sizeof(root), "/proc/thread-self/fd/%d", fd);
        if (fd < 0 || umount2(root, MNT_DETACH) < 0)
                (void)umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW);
}

#define SPARE_PLACE "../trash" /* from layers/ */

static const char place_prefix[] = "lower.";

bool strata_mount_is_left_place(const char *name)
{
        return strncmp(name, place_prefix, sizeof(place_prefix) - 1) == 0;
}

int strata_mount_drop_left_place(int layer_fd, const char *name)
{
        char path[128];

        /* One of ours, just being used? An ID that by chance is one again keeps it until another start. */
        snprintf(path, sizeof(path), "/proc/self/task/%.20s", name + sizeof(place_prefix) - 1);
        if (access(path, F_OK) == 0)
                return -EBUSY;
        snprintf(path, sizeof(path), "/proc/thread-self/fd/%d/%.40s", layer_fd, name);
        (void)umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
        return unlinkat(layer_fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

void strata_mount_drop_left_places(int layer_fd)
{
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;

        if (strata_io_list(layer_fd, ".", &dir) < 0)
                return;
        while ((de = readdir(dir)))
                if (strata_mount_is_left_place(de->d_name))
                        (void)strata_mount_drop_left_place(layer_fd, de->d_name);
}

/* Mounts SPEC on TARGET, opens its root, and takes it off again. */
static int open_at(struct strata *s, const struct strata_mount_spec *spec, const char *target, int *ret)
{
        int r = mount_at(s, spec, target), fd;

        if (r < 0)
                return r;
        fd = openat(s->layers_fd, target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        r = fd < 0 ? -errno : 0;
        detach(fd, target);
        if (r == 0)
                *ret = fd;
        return r;
}

/*
 * On a disk that takes no new directory, trash/ has to do: nobody goes there by its path while the store is used, all
 * by a descriptor, which leads below the mount. empty/ would not do, as it is in other mounts' options.
 */
static int open_at_trash(struct strata *s, const struct strata_mount_spec *spec, int *ret)
{
        int r;

        pthread_mutex_lock(&s->place);
        r = open_at(s, spec, SPARE_PLACE, ret);
        pthread_mutex_unlock(&s->place);
        return r;
}

void strata_mount_drop_spare_place(int root_fd)
{
        char path[64];
        struct statfs fs;
        int fd = openat(root_fd, "trash", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        /* No store lies on an overlay, so this one is ours. */
        snprintf(path, sizeof(path), "/proc/thread-self/fd/%d", fd);
        if (fd >= 0 && fstatfs(fd, &fs) == 0 && (unsigned long)fs.f_type == OVERLAYFS_SUPER_MAGIC)
                (void)umount2(path, MNT_DETACH);
        strata_close(fd);
}

/* For an instant the mount is on a directory of the layer on top; the thread's ID tells such directories apart. */
static int old_open(struct strata *s, const struct strata_mount_spec *spec, int *ret)
{
        char target[STRATA_ID_PATH_MAX];
        int r;

        snprintf(target, sizeof(target), "%" PRIu64 "/%s%d", spec->chain->lowers[0], place_prefix, (int)gettid());
        if (mkdirat(s->layers_fd, target, 0700) < 0 && errno != EEXIST) {
                r = -errno;
                return r == -EROFS || r == -ENOSPC || r == -EDQUOT ? open_at_trash(s, spec, ret) : r;
        }
        r = open_at(s, spec, target, ret);
        (void)unlinkat(s->layers_fd, target, AT_REMOVEDIR);
        return r;
}

/*
 * A remount sets the mount's own flags along with the superblock's, so those that it has are to be given again; of the
 * access times the kernel keeps them by itself: do_remount() and path_mount() in fs/namespace.c.
 */
static int present_flags(const char *path, unsigned long *ret)
{
        static const struct {
                long shown; /* by statfs(2) */
                unsigned long flag;
        } kept[] = {
                { ST_NOSUID, MS_NOSUID },
                { ST_NODEV, MS_NODEV },
                { ST_NOEXEC, MS_NOEXEC },
                { ST_NOSYMFOLLOW, MS_NOSYMFOLLOW },
        };
        struct statfs fs;

        if (statfs(path, &fs) < 0)
                return -errno;
        *ret = 0;
        for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
                if ((long)fs.f_flags & kept[i].shown)
                        *ret |= kept[i].flag;
        return 0;
}

static int old_set_read_only(struct strata *s, const char *path, bool read_only)
{
        unsigned long flags = 0;
        int r = present_flags(path, &flags);

        (void)s;
        if (r < 0)
                return r;
        flags |= MS_REMOUNT | (read_only ? MS_RDONLY : 0);
        return mount(NULL, path, NULL, flags, NULL) < 0 ? -errno : 0;
}

const struct strata_mount_api strata_mount_old = {
        .name = "old",
        .max_options = OPTIONS_MAX,
        .attach = old_attach,
        .open = old_open,
        .set_read_only = old_set_read_only,
};
