/* SPDX-License-Identifier: Apache-2.0 */
#include "mountpoint.h"

#include "inherit.h"
#include "mounts.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as the kernel has it */

static int fail(int error, char **why, char *text)
{
        *why = text;
        return error;
}

static char *message(const char *fmt, const char *path, const char *more)
{
        char *ret;

        return asprintf(&ret, fmt, path, more) < 0 ? NULL : ret;
}

/* As realpath(3), but the last component is not touched: it may be a dead mount. */
char *sfs_mountpoint_real_place(const char *path)
{
        cleanup_free char *copy1 = strdup(path), *copy2 = strdup(path), *parent = NULL;
        char *ret;

        if (!copy1 || !copy2)
                return NULL;
        parent = realpath(dirname(copy1), NULL);
        if (!parent || asprintf(&ret, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, basename(copy2)) < 0)
                return NULL;
        return ret;
}

/* Takes away the "/" and "/." at the end of PATH. */
static void trim(char *path)
{
        size_t len = strlen(path);

        while (len > 1 && (path[len - 1] == '/' || (path[len - 1] == '.' && path[len - 2] == '/')))
                path[--len] = '\0';
}

/* Of PATH, trimmed. */
static bool ends_in_name(const char *path)
{
        const char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;

        return *last && strcmp(last, ".") != 0 && strcmp(last, "..") != 0;
}

/*
 * PATH without links and dots, the caller's; NULL with errno on failure. realpath(3) would do but for a dead mount,
 * which it may ask for its attributes; for one of no name, as ".", it does not.
 */
static char *find_place(const char *path)
{
        char *at = strdup(path);

        for (int links = 0; at && links < LINKS_MAX; links++) {
                cleanup_free char *from = at, *place = NULL;
                char link[PATH_MAX];
                ssize_t n;

                trim(from);
                if (!ends_in_name(from))
                        return realpath(from, NULL);
                place = sfs_mountpoint_real_place(from);
                n = place ? readlink(place, link, sizeof(link) - 1) : -1;
                if (n < 0)
                        return steal_ptr(&place); /* not a link */
                link[n] = '\0';
                if (asprintf(&at, "%s/%s", link[0] == '/' ? "" : dirname(place), link) < 0)
                        return NULL;
        }
        free(at);
        errno = ELOOP;
        return NULL;
}

/* True if the topmost mount on the absolute path PLACE is a stratafs. */
static bool is_ours(const char *place)
{
        cleanup_free char *source = sfs_mounts_source(place, SFS_MOUNTS_TYPE);

        return source;
}

/* Asks the file system itself: attributes of a dead one may still be at hand. 0, or -errno. */
static int ask(const char *path)
{
        struct statfs fs;

        return statfs(path, &fs) < 0 ? -errno : 0;
}

int sfs_mountpoint_prepare(const char *path, struct sfs_inherited **inherited, char **ret, char **why)
{
        cleanup_free char *place = find_place(path);
        struct stat st;
        char *real;
        int r = place ? ask(place) : -errno;

        for (int tries = 0; tries < 16 && (r == -ENOTCONN || r == -ECONNABORTED); tries++) {
                if (!place || !is_ours(place))
                        return fail(r, why,
                                    message("%s carries a dead mount that is not ours; unmount it first%s", path, ""));
                sfs_inherit_collect(place, inherited);
                if (umount2(place, MNT_DETACH) < 0)
                        return fail(-errno, why,
                                    message("can't take away the dead mount on %s: %s", path, strerror(errno)));
                r = ask(place); /* PATH may be "." within the dead one */
        }
        if (r == 0 && stat(place, &st) < 0)
                r = -errno;
        if (r < 0)
                return fail(r, why, message("the mount point %s can't be used: %s", path, strerror(-r)));
        if (!S_ISDIR(st.st_mode))
                return fail(-ENOTDIR, why, message("the mount point %s is not a directory%s", path, ""));
        real = realpath(place, NULL);
        if (!real)
                return fail(-errno, why, message("the mount point %s can't be used: %s", path, strerror(errno)));
        if (is_ours(real)) {
                free(real);
                return fail(-EBUSY, why, message("a stratafs is mounted on %s already%s", path, ""));
        }
        *ret = real;
        return 0;
}

dev_t sfs_mountpoint_device(const char *mnt)
{
        struct statx stx;

        if (statx(AT_FDCWD, mnt, AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &stx) < 0)
                return 0;
        if ((stx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) && !(stx.stx_attributes & STATX_ATTR_MOUNT_ROOT))
                return 0;
        return makedev(stx.stx_dev_major, stx.stx_dev_minor);
}

bool sfs_mountpoint_is_covered(const char *mnt, dev_t dev)
{
        dev_t there = sfs_mountpoint_device(mnt);

        return there && there != dev;
}

static bool is_below(const char *path, const char *dir)
{
        size_t len = strlen(dir);

        return strncmp(path, dir, len) == 0 && (path[len] == '\0' || path[len] == '/' || strcmp(dir, "/") == 0);
}

int sfs_mountpoint_check_store(const char *mnt, const char *store, char **why)
{
        if (is_below(mnt, store) || is_below(store, mnt))
                return fail(-EINVAL, why,
                            message("the mount point %s and the store %s must not lie one in the other", mnt, store));
        return 0;
}
