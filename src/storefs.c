/* SPDX-License-Identifier: Apache-2.0 */
#include "storefs.h"

#include "strata.h"
#include "util/cleanup.h"
#include "util/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#define SCRATCH "probe.new" /* in the store */
#define SPARE 8             /* more than the trial makes */
#define OPTION_MAX 256      /* bytes of a value that fsconfig() takes, with its NUL */

/* What overlayfs wants of the file system of an upper layer: Documentation/filesystems/overlayfs.rst, "Upper and
 * Lower". */

static bool has_d_type(int fd)
{
        int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        cleanup_dir DIR *dir = copy < 0 ? NULL : fdopendir(copy);
        struct dirent *de;
        bool ret = true;

        if (!dir)
                strata_close(copy);
        while (dir && (de = readdir(dir)))
                if (de->d_type == DT_UNKNOWN)
                        ret = false;
        return ret;
}

static const char *kind_of_fs(int fd)
{
        struct statfs fs;

        if (fstatfs(fd, &fs) < 0)
                return NULL;
        switch ((unsigned long)fs.f_type) {
        case OVERLAYFS_SUPER_MAGIC:
                return "it is an overlay itself";
        case NFS_SUPER_MAGIC:
                return "it is NFS, which changes behind the kernel's back";
        case FUSE_SUPER_MAGIC:
                return "it is a FUSE file system, which changes behind the kernel's back";
        default:
                return NULL;
        }
}

static bool is_full(int r)
{
        return r == -ENOSPC || r == -EDQUOT;
}

static bool is_refused(int r)
{
        return r < 0 && (errno == EOPNOTSUPP || errno == EPERM || errno == ENOSYS || errno == EINVAL);
}

/* The first feature that FD, an empty directory of the store, lacks; NULL if none is known. */
static const char *missing(struct strata *s, int fd)
{
        const char *xattr = s->in_userns ? "user.overlay.opaque" : "trusted.overlay.opaque";

        if (is_refused(symlinkat("x", fd, "link")))
                return "it has no symbolic links";
        if (is_refused(fsetxattr(fd, xattr, "x", 1, 0)))
                return s->in_userns ? "it has no extended attributes user.*, for marks of opaque directories"
                                    : "it has no extended attributes trusted.*, for marks of opaque directories";
        if (is_refused(mknodat(fd, "whiteout", S_IFCHR, 0)))
                return "it has no device nodes, for whiteouts";
        if (!has_d_type(fd))
                return "its directories do not tell the types of their entries (d_type; of XFS: ftype=0)";
        return NULL;
}

/* Makes an overlay with the upper directory upper/ and the work directory work/ of PATH, and tries whether it is
 * writable. */
static int try_overlay(struct strata *s, const char *path)
{
        cleanup_fd int fs = fsopen("overlay", FSOPEN_CLOEXEC), mnt = -1, root = -1;
        const char *const options[][2] = { { "lowerdir", "empty" }, { "upperdir", "upper" }, { "workdir", "work" } };
        char value[OPTION_MAX];

        if (fs < 0)
                return errno == ENOSYS ? 0 : -errno;
        for (size_t i = 0; i < 3; i++) {
                if (snprintf(value, sizeof(value), "%s/%s", path, options[i][1]) >= (int)sizeof(value))
                        return 0; /* not to be told so: the first mount will */
                if (fsconfig(fs, FSCONFIG_SET_STRING, options[i][0], value, 0) < 0)
                        return -errno;
        }
        if (s->in_userns && fsconfig(fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0)
                return -errno;
        if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0);
        root = mnt < 0 ? -1 : openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        /* What the kernel can't work with it may still take, read-only. */
        return root < 0 || mkdirat(root, "new", 0700) < 0 ? -errno : 0;
}

/* What the scratch's file system lacks; NULL if nothing that is known. */
static const char *look_for_missing(struct strata *s)
{
        cleanup_fd int fd = -1;

        (void)mkdirat(s->root_fd, SCRATCH "/looked-at", 0700);
        fd = openat(s->root_fd, SCRATCH "/looked-at", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? NULL : missing(s, fd);
}

/* False where the trial failed for want of a few files more: the kernel falls back to a read-only overlay then. */
static bool has_room(struct strata *s)
{
        char path[sizeof(SCRATCH) + 16];

        for (int i = 0; i < SPARE; i++) {
                snprintf(path, sizeof(path), SCRATCH "/spare%d", i);
                if (mkdirat(s->root_fd, path, 0700) < 0 && is_full(-errno))
                        return false;
        }
        return true;
}

static int explain(struct strata *s, int error, const char *what, char **why)
{
        const char *kind = kind_of_fs(s->root_fd);

        if (kind)
                what = kind;
        if (asprintf(why, "the file system of the store %s can't carry overlays: %s; choose another place", s->path,
                     what ? what : strerror(-error)) < 0)
                *why = NULL;
        return what ? -EOPNOTSUPP : error;
}

static int delete_one(void *data, enum strata_walk_event event, int dirfd, const char *name)
{
        (void)data;
        if (event != STRATA_WALK_ENTER)
                (void)unlinkat(dirfd, name, event == STRATA_WALK_LEAVE ? AT_REMOVEDIR : 0);
        return 0;
}

static void clear(struct strata *s)
{
        (void)strata_walk(s->root_fd, SCRATCH, delete_one, NULL);
        (void)unlinkat(s->root_fd, SCRATCH, AT_REMOVEDIR);
}

int strata_storefs_check(struct strata *s, char **why)
{
        static const char *const dirs[] = { SCRATCH, SCRATCH "/empty", SCRATCH "/upper", SCRATCH "/work" };
        cleanup_free char *path = NULL;
        int r = 0;

        if (s->config.reserved)
                return 0; /* it was tried when it was first opened; by now the disk may be read-only */
        if (asprintf(&path, "%s/" SCRATCH, s->path) < 0)
                return -ENOMEM;
        clear(s); /* of a start that was cut off */
        for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs) && r == 0; i++)
                if (mkdirat(s->root_fd, dirs[i], 0700) < 0)
                        r = -errno;
        if (r < 0 && !is_full(r) && asprintf(why, "can't write to the store %s: %s", s->path, strerror(-r)) < 0)
                *why = NULL;
        if (r == 0) {
                /* Without d_type or xattrs the kernel only warns, but lists what is deleted, shows what is hidden. */
                const char *what = look_for_missing(s);

                r = try_overlay(s, path);
                if (r == 0 && what)
                        r = -EOPNOTSUPP;
                if (r < 0 && !what && !has_room(s))
                        r = -ENOSPC;
                if (r < 0 && !is_full(r))
                        r = explain(s, r, what, why);
        }
        clear(s);
        return is_full(r) ? 0 : r; /* who can't start can't make room */
}
