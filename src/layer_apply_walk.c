/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an entry's path to the directory it belongs in. Each step is one component from an open directory, never
 * following a link; links are read and walked here, from the snapshot's root, so nothing can lead out of it.
 */
#include "layer_apply.h"

#include "copy.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define LINKS_MAX 40 /* symbolic links on one path, as in the kernel */
#define REST_MAX (2UL * PATH_MAX)

/* A directory that the archive takes for granted: as it is below, else 0755, root's, and as old as the epoch. */
static int make_missing(struct strata_apply *a, struct strata_apply_dir *d, const char *name,
                        struct strata_apply_dir **ret)
{
        const struct strata_apply_meta plain = { .mode = 0755, .xattrs = "" };
        cleanup_fd int from = -1;
        struct stat st, now;
        bool made;
        int r;

        d->dirty = true;
        r = strata_apply_dir_make(a, d, name, 0755, ret, &made);

        if (r < 0 || !made)
                return r;
        if ((*ret)->lower_fd < 0)
                return strata_apply_meta_dir(a, *ret, true, &plain);
        from = openat((*ret)->lower_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = from < 0 || fstat(from, &st) < 0 || fstat((*ret)->fd, &now) < 0 ? -errno : 0;
        if (r == 0 && d->default_acl)
                r = strata_apply_meta_clear(a, (*ret)->fd);
        if (r == 0)
                r = strata_copy_attributes(a->s, STRATA_COPY_MERGED, from, &st, (*ret)->fd, &now);
        if (r == 0)
                r = strata_apply_dir_read(a, *ret);
        (*ret)->dirty = true;
        return r < 0 ? strata_apply_fail(a, r, name, "what is below can't be copied") : 0;
}

/* The target of the symbolic link NAME below FD: 1; -ENOENT if there is nothing to go through (a whiteout is nothing).
 */
static int read_link(struct strata_apply *a, int fd, const char *name, char target[PATH_MAX])
{
        ssize_t n = fd < 0 ? -1 : readlinkat(fd, name, target, PATH_MAX - 1);
        struct stat st;

        if (n >= 0) {
                target[n] = '\0';
                return 1;
        }
        if (fd < 0 || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode) ||
            (S_ISCHR(st.st_mode) && st.st_rdev == 0))
                return -ENOENT;
        return strata_apply_fail(a, -EINVAL, name, "a path leads through it, and it is no folder");
}

/* One step down from D (open): 0 and a child, or 1 and the target of a symbolic link. */
static int step(struct strata_apply *a, struct strata_apply_dir *d, const char *name, struct strata_apply_dir **ret,
                char target[PATH_MAX])
{
        int r = strata_apply_dir_enter(a, d, name, ret);

        if (r == -ENOTDIR)
                r = read_link(a, d->fd, name, target);
        else if (r == -ENOENT)
                r = read_link(a, d->lower_fd, name, target);
        else
                return r < 0 ? strata_apply_fail(a, r, name, NULL) : 0;
        return r == -ENOENT ? make_missing(a, d, name, ret) : r;
}

/* Takes the first component off REST into NAME. False, and REST as it is, if that is the last one. */
static int next_component(struct strata_apply *a, char *rest, char name[NAME_MAX + 1])
{
        char *start = rest + strspn(rest, "/"), *end = start + strcspn(start, "/");
        char *next = end + strspn(end, "/");
        size_t len = (size_t)(end - start);

        if (!*next)
                return 0;
        if (len > NAME_MAX)
                return strata_apply_fail(a, -EINVAL, start, "a symbolic link holds a name of over 255 bytes");
        memcpy(name, start, len);
        name[len] = '\0';
        memmove(rest, next, strlen(next) + 1);
        return 1;
}

/* Puts a link's TARGET in front of REST. */
static int prepend(struct strata_apply *a, char rest[REST_MAX], const char *target)
{
        size_t len = strlen(target);

        if (len + strlen(rest) + 2 > REST_MAX)
                return strata_apply_fail(a, -EINVAL, target, "a symbolic link makes a path too long");
        memmove(rest + len + 1, rest, strlen(rest) + 1);
        memcpy(rest, target, len); /* NOLINT(bugprone-not-null-terminated-result): REST goes on behind it */
        rest[len] = '/';
        return 0;
}

/* The walk behind resolve(): along REST, its last component left alone. *STRAIGHT: it led through no link. */
static int walk(struct strata_apply *a, char rest[REST_MAX], struct strata_apply_dir **ret, bool *straight)
{
        struct strata_apply_dir *d = a->root, *child;
        char name[NAME_MAX + 1], target[PATH_MAX];
        unsigned links = 0;
        int r;

        *straight = true;
        while ((r = next_component(a, rest, name)) > 0) {
                if (strcmp(name, ".") == 0)
                        continue;
                /* Of a link's target only: an archive's own are refused before. */
                if (strcmp(name, "..") == 0) {
                        d = d->parent ? d->parent : d;
                        r = strata_apply_dir_open(a, d);
                } else if ((r = step(a, d, name, &child, target)) == 0) {
                        d = child;
                } else if (r > 0) {
                        *straight = false;
                        if (++links > LINKS_MAX)
                                return strata_apply_fail(a, -EINVAL, name, "symbolic links without end on a path");
                        d = target[0] == '/' ? a->root : d;
                        r = prepend(a, rest, target);
                }
                if (r < 0)
                        return r;
        }
        *ret = d;
        return r;
}

int strata_apply_dir_resolve(struct strata_apply *a, char *path, struct strata_apply_dir **ret, const char **name)
{
        char *slash = strrchr(path, '/'), rest[REST_MAX];
        size_t len = slash ? (size_t)(slash - path) : 0;
        bool straight;
        int r;

        *name = slash ? slash + 1 : path;
        if (a->last_dir && len == a->last_path.len && (!len || memcmp(path, a->last_path.data, len) == 0)) {
                *ret = a->last_dir;
        } else {
                strcpy(rest, path);
                r = walk(a, rest, ret, &straight);
                if (r < 0)
                        return r;
                a->last_path.len = 0;
                strata_buf_add(&a->last_path, path, len);
                a->last_dir = straight && strata_buf_status(&a->last_path) == 0 ? *ret : NULL;
        }
        r = strata_apply_dir_open(a, *ret);
        if (r == 0)
                (*ret)->dirty = true;
        return r;
}
