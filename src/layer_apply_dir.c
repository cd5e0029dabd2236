/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directories of a layer that is being made: a table of those in use, a bounded number of them open. A directory's
 * times are set when it is closed, and read back should it be opened again, so that nothing has to be remembered of
 * those that are done with. Whatever is in the table has its parents there too, up to the root.
 */
#include "layer_apply.h"

#include "strata.h"
#include "trash.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utlist.h>

#define OPEN_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define LOWER_FLAGS (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* A directory's address and a name in it: what the table is sorted by. Its length. */
static unsigned make_key(struct strata_apply_dir *parent, const char *name,
                         char ret[STRATA_APPLY_ADDRESS + NAME_MAX + 1])
{
        size_t len = strlen(name) + 1;

        memcpy(ret, &parent, STRATA_APPLY_ADDRESS);
        memcpy(ret + STRATA_APPLY_ADDRESS, name, len);
        return (unsigned)(STRATA_APPLY_ADDRESS + len);
}

struct strata_apply_dir *strata_apply_dir_find(struct strata_apply *a, struct strata_apply_dir *d, const char *name)
{
        char key[STRATA_APPLY_ADDRESS + NAME_MAX + 1];
        struct strata_apply_dir *found = NULL;
        unsigned len;

        if (!d->children)
                return NULL;
        len = make_key(d, name, key);
        HASH_FIND(hh, a->dirs, key, len, found);
        return found;
}

/* Closes D's fds; its times are set before, unless it is LOST. */
static int close_dir(struct strata_apply *a, struct strata_apply_dir *d, bool lost)
{
        const struct timespec times[2] = { d->mtime, d->mtime };
        int r = 0;

        if (d->fd < 0)
                return 0;
        if (d->dirty && !lost && futimens(d->fd, times) < 0)
                r = strata_apply_fail(a, -errno, strata_apply_dir_name(d), "its times can't be set");
        d->dirty = false;
        strata_close(steal_fd(&d->fd));
        strata_close(steal_fd(&d->lower_fd));
        if (d != a->root) {
                DL_DELETE(a->open, d);
                a->n_open--;
        }
        return r;
}

/* Takes D out of the table, and those above that were there only for it. */
static void forget(struct strata_apply *a, struct strata_apply_dir *d)
{
        while (d != a->root && d->fd < 0 && d->children == 0) {
                struct strata_apply_dir *parent = d->parent;

                if (a->last_dir == d)
                        a->last_dir = NULL;
                HASH_DEL(a->dirs, d); /* NOLINT(clang-analyzer-core.NullDereference): D is in the table */
                free(d);
                parent->children--;
                d = parent;
        }
}

/* Closes the directory unused the longest, so that one more can be opened; never KEEP. */
static int make_room(struct strata_apply *a, const struct strata_apply_dir *keep)
{
        while (a->n_open >= APPLY_DIRS) {
                struct strata_apply_dir *d;
                int r;

                DL_FOREACH(a->open, d)
                        if (d != keep && atomic_load(&d->pending) == 0)
                                break;
                if (!d) {
                        r = strata_apply_settle(a);
                        if (r < 0)
                                return r;
                        continue;
                }
                r = close_dir(a, d, false);
                if (r < 0)
                        return r;
                forget(a, d);
        }
        return 0;
}

static void note_open(struct strata_apply *a, struct strata_apply_dir *d)
{
        DL_APPEND(a->open, d);
        a->n_open++;
}

/* Opens D itself; its parent is open. */
static int open_again(struct strata_apply *a, struct strata_apply_dir *d)
{
        const char *name = strata_apply_dir_name(d);

        d->fd = openat(d->parent->fd, name, OPEN_FLAGS);
        if (d->fd < 0)
                return -errno;
        if (d->has_lower)
                d->lower_fd = openat(d->parent->lower_fd, name, LOWER_FLAGS);
        if (d->has_lower && d->lower_fd < 0) {
                int r = -errno;

                strata_close(steal_fd(&d->fd));
                return r;
        }
        note_open(a, d);
        return 0;
}

int strata_apply_dir_open(struct strata_apply *a, struct strata_apply_dir *d)
{
        int r;

        if (d == a->root)
                return 0;
        if (d->fd >= 0) {
                DL_DELETE(a->open, d);
                DL_APPEND(a->open, d);
                return 0;
        }
        d->children++; /* keeps D and all above it in the table */
        for (r = 0; r == 0 && d->fd < 0;) {
                struct strata_apply_dir *next = d;

                while (next->parent->fd < 0)
                        next = next->parent;
                r = make_room(a, next->parent);
                if (r == 0)
                        r = open_again(a, next);
        }
        d->children--;
        return r < 0 ? strata_apply_fail(a, r, strata_apply_dir_name(d), NULL) : 0;
}

int strata_apply_dir_read(struct strata_apply *a, struct strata_apply_dir *d)
{
        struct stat st;

        if (fstat(d->fd, &st) < 0)
                return -errno;
        errno = ENODATA; /* of an ACL without an entry */
        d->mtime = st.st_mtim;
        d->plain_owner = st.st_gid == a->egid;
        d->setgid = st.st_mode & S_ISGID;
        d->default_acl = fgetxattr(d->fd, "system.posix_acl_default", NULL, 0) > 0;
        return d->default_acl || errno == ENODATA || errno == ENOTSUP ? 0 : -errno;
}

/* Enters into the table the directory NAME below PARENT with its fds, which it takes, also on failure. */
static int add(struct strata_apply *a, struct strata_apply_dir *parent, const char *name, int fd, int lower_fd,
               bool fresh, struct strata_apply_dir **ret)
{
        size_t key_len = STRATA_APPLY_ADDRESS + strlen(name) + 1;
        struct strata_apply_dir *d = calloc(1, sizeof(*d) + key_len);
        int r = d ? 0 : -ENOMEM;

        if (r == 0) {
                d->fd = fd;
                d->lower_fd = lower_fd;
                d->has_lower = lower_fd >= 0;
                d->parent = parent;
                d->depth = parent ? parent->depth + 1 : 0;
                d->key_len = make_key(parent, name, d->key);
                d->dirty = fresh; /* its mtime then is the epoch, until somebody knows better */
                r = fresh ? 0 : strata_apply_dir_read(a, d);
        }
        if (r == 0 && parent) {
                HASH_ADD(hh, a->dirs, key, d->key_len, d);
                r = d->oom ? -ENOMEM : 0;
        }
        if (r < 0) {
                strata_close(fd);
                strata_close(lower_fd);
                free(d);
                return r;
        }
        if (parent) {
                parent->children++;
                note_open(a, d);
        }
        *ret = d;
        return 0;
}

int strata_apply_dir_root(struct strata_apply *a, int fs_fd, int lower_fd)
{
        return add(a, NULL, "", fs_fd, lower_fd, false, &a->root);
}

int strata_apply_dir_lower_has(struct strata_apply_dir *d, const char *name)
{
        struct stat st;

        if (d->lower_fd < 0)
                return 0;
        if (fstatat(d->lower_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
                return 1;
        return errno == ENOENT ? 0 : -errno;
}

/* *RET: what is below D as NAME, if that is a directory; -1 if not. */
static int open_lower(struct strata_apply_dir *d, const char *name, int *ret)
{
        *ret = d->lower_fd < 0 ? -1 : openat(d->lower_fd, name, LOWER_FLAGS);
        if (*ret >= 0 || d->lower_fd < 0 || errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
                return 0;
        return -errno;
}

int strata_apply_dir_mark(struct strata_apply *a, int fd)
{
        return fsetxattr(fd, strata_apply_opaque_name(a), "y", 1, 0) < 0 ? -errno : 0;
}

/* Another value than one byte is no mark. */
int strata_apply_dir_is_marked(struct strata_apply *a, int fd)
{
        char c;
        ssize_t n = fgetxattr(fd, strata_apply_opaque_name(a), &c, 1);

        if (n < 0 && errno != ENODATA && errno != ENOTSUP && errno != ERANGE)
                return -errno;
        return n == 1 && c == 'y';
}

/* The directory NAME that D holds already, with its FD. */
static int take(struct strata_apply *a, struct strata_apply_dir *d, const char *name, int fd,
                struct strata_apply_dir **ret)
{
        int lower_fd, r = open_lower(d, name, &lower_fd);

        if (r == 0 && lower_fd >= 0)
                r = strata_apply_dir_is_marked(a, fd);
        if (r < 0) {
                strata_close(fd);
                strata_close(lower_fd);
                return r;
        }
        if (r > 0)
                strata_close(steal_fd(&lower_fd));
        return add(a, d, name, fd, lower_fd, false, ret);
}

/* A new directory in a place where nothing is; with HIDE what lies below there stays hidden. */
static int make_fresh(struct strata_apply *a, struct strata_apply_dir *d, const char *name, mode_t mode, bool hide,
                      struct strata_apply_dir **ret)
{
        int fd, lower_fd, r;

        if (d->depth >= APPLY_DEPTH_MAX)
                return strata_apply_fail(a, -EINVAL, name, "folders in folders deeper than a path can name");
        if (mkdirat(d->fd, name, mode & 0777) < 0)
                return -errno;
        fd = openat(d->fd, name, OPEN_FLAGS);
        if (fd < 0)
                return -errno;
        r = open_lower(d, name, &lower_fd);
        if (hide && lower_fd >= 0) {
                strata_close(steal_fd(&lower_fd));
                r = strata_apply_dir_mark(a, fd);
        }
        if (r < 0) {
                strata_close(fd);
                return r;
        }
        return add(a, d, name, fd, lower_fd, true, ret);
}

int strata_apply_dir_enter(struct strata_apply *a, struct strata_apply_dir *d, const char *name,
                           struct strata_apply_dir **ret)
{
        int fd, r;

        *ret = strata_apply_dir_find(a, d, name);
        if (*ret)
                return strata_apply_dir_open(a, *ret);
        r = strata_apply_settle_name(a, d, name);
        if (r == 0)
                r = make_room(a, d);
        if (r < 0)
                return r;
        fd = openat(d->fd, name, OPEN_FLAGS);
        if (fd < 0)
                return errno == ELOOP ? -ENOTDIR : -errno;
        return take(a, d, name, fd, ret);
}

int strata_apply_dir_make(struct strata_apply *a, struct strata_apply_dir *d, const char *name, mode_t mode,
                          struct strata_apply_dir **ret, bool *made)
{
        int r;

        *made = false;
        *ret = strata_apply_dir_find(a, d, name);
        if (*ret)
                return strata_apply_dir_open(a, *ret);
        r = strata_apply_settle_name(a, d, name);
        if (r == 0)
                r = make_room(a, d);
        if (r == 0) {
                *made = true;
                r = make_fresh(a, d, name, mode, false, ret);
        }
        if (r == -EEXIST) {
                r = strata_apply_dir_enter(a, d, name, ret);
                *made = r < 0;
        }
        if (r == -ENOTDIR) /* what is there, a whiteout or not, hides what lies below: so must what comes instead */
                r = unlinkat(d->fd, name, 0) < 0 ? -errno : make_fresh(a, d, name, mode, true, ret);
        return r < 0 ? strata_apply_fail(a, r, name, NULL) : 0;
}

/* Forgets TOP and all below it, which were moved away. */
static void purge(struct strata_apply *a, struct strata_apply_dir *top)
{
        struct strata_apply_dir *d, *tmp, *up;

        a->last_dir = NULL;
        HASH_ITER(hh, a->dirs, d, tmp) {
                for (up = d; up && up != top; up = up->parent)
                        ;
                d->doomed = up;
        }
        top->parent->children--;
        HASH_ITER(hh, a->dirs, d, tmp) {
                if (!d->doomed)
                        continue;
                (void)close_dir(a, d, true);
                HASH_DEL(a->dirs, d);
                free(d);
        }
}

int strata_apply_dir_remove(struct strata_apply *a, struct strata_apply_dir *d, const char *name)
{
        struct strata_apply_dir *child = strata_apply_dir_find(a, d, name);
        int r = child ? strata_apply_settle(a) : strata_apply_settle_name(a, d, name);

        if (r < 0)
                return r;
        if (!child && (unlinkat(d->fd, name, 0) == 0 || errno == ENOENT))
                return 0;
        r = child || errno == EISDIR ? strata_trash_part(a->s, d->fd, name, a->id) : -errno;
        if (r == 0 && child)
                purge(a, child);
        return r < 0 ? strata_apply_fail(a, r, name, "what an earlier entry made can't be replaced") : 0;
}

static int end_dirs(struct strata_apply *a, bool lost)
{
        struct strata_apply_dir *d, *tmp;
        int first = 0, r;

        a->last_dir = NULL;
        HASH_ITER(hh, a->dirs, d, tmp) {
                r = close_dir(a, d, lost);
                first = first ? first : r;
                HASH_DEL(a->dirs, d);
                free(d);
        }
        if (a->root) {
                r = close_dir(a, a->root, lost);
                first = first ? first : r;
                free(steal_ptr(&a->root));
        }
        return first;
}

int strata_apply_dir_finish(struct strata_apply *a)
{
        return end_dirs(a, false);
}

void strata_apply_dir_drop(struct strata_apply *a)
{
        (void)end_dirs(a, true);
}
