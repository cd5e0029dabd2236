/* SPDX-License-Identifier: Apache-2.0 */
#include "walk.h"

#include "buf.h"
#include "cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* One directory on the way down. */
struct level {
        int fd;    /* -1 while closed to save descriptors */
        dev_t dev; /* identity, to find it again through ".." */
        ino_t ino;
        struct strata_buf list; /* its entries: a type byte (DT_*) and a name with NUL each */
        size_t pos;             /* the next entry in LIST */
        char *name;             /* what the level above calls it; NULL for the top */
};

struct stack {
        struct level *levels;
        size_t n;
        size_t size;
};

static void level_free(struct level *l)
{
        strata_close(l->fd);
        strata_buf_free(&l->list);
        free(l->name);
}

static int level_list(struct level *l)
{
        int fd = openat(l->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *de;

        if (!dir) {
                int r = -errno;

                strata_close(fd);
                return r;
        }
        for (;;) {
                char type;

                errno = 0;
                de = readdir(dir);
                if (!de)
                        return errno ? -errno : strata_buf_status(&l->list);
                if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
                        continue;
                type = (char)de->d_type;
                strata_buf_add(&l->list, &type, 1);
                strata_buf_add(&l->list, de->d_name, strlen(de->d_name) + 1);
        }
}

/* Opens NAME below DIRFD as a new level on top of S. -ENOENT when it is no directory (any more), -EXDEV for a mount. */
static int stack_push(struct stack *s, int dirfd, const char *name, bool top)
{
        struct level l = { .fd = -1 };
        struct stat st;
        int r;

        if (s->n == s->size) {
                size_t size = s->size ? s->size * 2 : 16;
                struct level *levels = reallocarray(s->levels, size, sizeof(*levels));

                if (!levels)
                        return -ENOMEM;
                s->levels = levels;
                s->size = size;
        }
        l.fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (l.fd < 0)
                return errno == ENOTDIR || errno == ELOOP ? -ENOENT : -errno;
        if (fstat(l.fd, &st) < 0) {
                r = -errno;
                goto fail;
        }
        if (!top && st.st_dev != s->levels[0].dev) {
                r = -EXDEV; /* something is mounted there: no part of this tree */
                goto fail;
        }
        l.dev = st.st_dev;
        l.ino = st.st_ino;
        if (!top) {
                l.name = strdup(name);
                if (!l.name) {
                        r = -ENOMEM;
                        goto fail;
                }
        }
        r = level_list(&l);
        if (r < 0)
                goto fail;
        s->levels[s->n++] = l;
        if (s->n > STRATA_WALK_FDS + 1) { /* the top stays open */
                struct level *far = &s->levels[s->n - 1 - STRATA_WALK_FDS];

                strata_close(steal_fd(&far->fd));
        }
        return 0;
fail:
        level_free(&l);
        return r;
}

static bool is_level(const struct level *l, int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino;
}

/* Walks down from the top again. The number of levels that are where they were, *FD then being the last of them. */
static size_t stack_descend(const struct stack *s, size_t n, int *fd)
{
        cleanup_fd int at = openat(s->levels[0].fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        size_t found = 1;

        if (at < 0)
                return 0;
        for (; found < n; found++) {
                cleanup_fd int next =
                        openat(at, s->levels[found].name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

                if (next < 0 || !is_level(&s->levels[found], next))
                        break;
                strata_close(at);
                at = steal_fd(&next);
        }
        *fd = steal_fd(&at);
        return found;
}

/*
 * Makes sure that the level below the topmost has an open fd. Should the tree have been changed meanwhile so that it
 * can't be found, it and the levels above it are dropped, as everything that vanishes is passed over: 1 then.
 */
static int stack_reopen_parent(struct stack *s)
{
        struct level *child = &s->levels[s->n - 1];
        struct level *parent = &s->levels[s->n - 2];
        cleanup_fd int fd = -1;
        size_t found;

        if (parent->fd >= 0)
                return 0;
        fd = openat(child->fd, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && is_level(parent, fd)) {
                parent->fd = steal_fd(&fd);
                return 0;
        }
        strata_close(steal_fd(&fd));
        found = stack_descend(s, s->n - 1, &fd);
        if (found == 0)
                return -EMFILE; /* the top is open: only a lack of descriptors or memory is left */
        if (found == s->n - 1) {
                parent->fd = steal_fd(&fd);
                return 0;
        }
        while (s->n > found)
                level_free(&s->levels[--s->n]);
        if (s->levels[found - 1].fd < 0)
                s->levels[found - 1].fd = steal_fd(&fd);
        return 1;
}

static bool is_directory(int dirfd, const char *name, char type)
{
        struct stat st;

        if (type != DT_UNKNOWN)
                return type == DT_DIR;
        return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int walk_step(struct stack *s, strata_walk_fn fn, void *data)
{
        struct level *l = &s->levels[s->n - 1];
        int r;

        if (l->pos < l->list.len) {
                char type = l->list.data[l->pos];
                const char *name = l->list.data + l->pos + 1;

                l->pos += strlen(name) + 2;
                if (!is_directory(l->fd, name, type))
                        return fn(data, STRATA_WALK_FILE, l->fd, name);
                r = fn(data, STRATA_WALK_ENTER, l->fd, name);
                if (r)
                        return r < 0 ? r : 0;
                r = stack_push(s, l->fd, name, false);
                if (r == -EXDEV)
                        return fn(data, STRATA_WALK_LEAVE, s->levels[s->n - 1].fd, name);
                return r == -ENOENT ? 0 : r;
        }
        if (s->n == 1) {
                level_free(l);
                s->n = 0;
                return 0;
        }
        r = stack_reopen_parent(s);
        if (r == 0)
                r = fn(data, STRATA_WALK_LEAVE, s->levels[s->n - 2].fd, l->name);
        if (r)
                return r < 0 ? r : 0;
        level_free(&s->levels[--s->n]);
        return 0;
}

int strata_walk(int dirfd, const char *name, strata_walk_fn fn, void *data)
{
        struct stack s = { 0 };
        int r = stack_push(&s, dirfd, name, true);

        while (r == 0 && s.n > 0)
                r = walk_step(&s, fn, data);
        while (s.n > 0)
                level_free(&s.levels[--s.n]);
        free(s.levels);
        return r;
}
