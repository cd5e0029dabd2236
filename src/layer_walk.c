/* SPDX-License-Identifier: Apache-2.0 */
#include "layer_walk.h"

#include "util/cleanup.h"
#include "util/io.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* One name in a directory, or the place where a subdirectory's own names come: its name with a slash. */
struct item {
        size_t at; /* of the name in the level's NAMES */
        unsigned char type;
        bool inside; /* a subdirectory's place */
        bool gone;   /* only below */
};

struct tree_fd {
        int fd; /* -1 while closed to save descriptors, or if there is none */
        bool there;
        dev_t dev; /* identity, to find it again through ".." */
        ino_t ino;
};

/* One directory on the way down. */
struct level {
        struct tree_fd own;
        struct tree_fd below;
        bool hidden;
        bool xwhiteouts; /* holds whiteouts in the form of xattrs */
        struct strata_buf names;
        struct item *items;
        size_t n, size, pos;
        size_t path_len;  /* of its own path */
        const char *last; /* the name sent last: what is below of the same name is not gone */
};

struct walk {
        const struct strata_layer_walk *w;
        strata_layer_fn fn;
        void *data;
        struct strata_buf path;
        struct level *levels;
        size_t n, size;
};

const char *strata_layer_prefix(bool in_userns)
{
        return in_userns ? "user.overlay." : "trusted.overlay.";
}

void strata_layer_proc_path(int dirfd, const char *name, char ret[STRATA_LAYER_PROC_MAX])
{
        snprintf(ret, STRATA_LAYER_PROC_MAX, "/proc/thread-self/fd/%d/%s", dirfd, name);
}

static void level_free(struct level *l)
{
        strata_close(l->own.fd);
        strata_close(l->below.fd);
        strata_buf_free(&l->names);
        free(l->items);
}

static int level_add(struct level *l, const char *name, unsigned char type, bool inside, bool gone)
{
        if (l->n == l->size) {
                size_t size = l->size ? l->size * 2 : 32;
                struct item *items = reallocarray(l->items, size, sizeof(*items));

                if (!items)
                        return -ENOMEM;
                l->items = items;
                l->size = size;
        }
        l->items[l->n++] = (struct item){ .at = l->names.len, .type = type, .inside = inside, .gone = gone };
        strata_buf_add(&l->names, name, strlen(name));
        strata_buf_add(&l->names, "/", inside ? 2 : 0);
        strata_buf_add(&l->names, "", inside ? 0 : 1);
        return strata_buf_status(&l->names);
}

/* A whiteout in the form of newer kernels: an empty file with an xattr, in a directory marked opaque=x. */
static bool is_xattr_whiteout(const struct walk *k, int fd, const char *name)
{
        char path[STRATA_LAYER_PROC_MAX], attr[64];
        struct stat st;

        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) || st.st_size)
                return false;
        strata_layer_proc_path(fd, name, path);
        snprintf(attr, sizeof(attr), "%swhiteout", k->w->prefix);
        return lgetxattr(path, attr, NULL, 0) >= 0;
}

/* DT_* of NAME, DT_WHT for a whiteout; DT_UNKNOWN if it is no more. */
static unsigned char type_of(const struct walk *k, const struct level *l, const char *name, unsigned char type)
{
        struct stat st;

        if (type == DT_UNKNOWN || type == DT_CHR) {
                if (fstatat(l->own.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        return DT_UNKNOWN;
                type = (unsigned char)IFTODT(st.st_mode);
                if (type == DT_CHR && st.st_rdev == 0)
                        return DT_WHT;
        }
        if (type == DT_REG && l->xwhiteouts && is_xattr_whiteout(k, l->own.fd, name))
                return DT_WHT;
        return type;
}

/* Adds what the directory FD of level L holds; with GONE it is the one below. */
static int level_list(const struct walk *k, struct level *l, int fd, bool gone)
{
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;
        int r = strata_io_list(fd, ".", &dir);

        if (r < 0)
                return r;
        for (;;) {
                unsigned char type = DT_UNKNOWN;

                errno = 0;
                de = readdir(dir);
                if (!de)
                        return errno == ENOENT ? 0 : -errno;
                if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
                        continue;
                if (!gone) {
                        type = type_of(k, l, de->d_name, de->d_type);
                        if (type == DT_UNKNOWN)
                                continue;
                }
                r = level_add(l, de->d_name, type, false, gone);
                if (r == 0 && type == DT_DIR)
                        r = level_add(l, de->d_name, type, true, false);
                if (r < 0)
                        return r;
        }
}

struct order {
        const char *names;
        bool whiteouts_first;
};

static int compare(const void *a, const void *b, void *data)
{
        const struct item *x = a, *y = b;
        const struct order *o = data;
        int r;

        if (o->whiteouts_first && (x->type == DT_WHT) != (y->type == DT_WHT))
                return x->type == DT_WHT ? -1 : 1;
        r = strcmp(o->names + x->at, o->names + y->at);
        return r ? r : (int)x->gone - (int)y->gone;
}

/* NAME below DIRFD. -ENOENT if it is no directory (any more). */
static int tree_open(int dirfd, const char *name, struct tree_fd *ret)
{
        cleanup_fd int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;

        if (fd < 0)
                return errno == ENOTDIR || errno == ELOOP ? -ENOENT : -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        *ret = (struct tree_fd){ .fd = steal_fd(&fd), .there = true, .dev = st.st_dev, .ino = st.st_ino };
        return 0;
}

static bool same_tree(const struct tree_fd *a, const struct tree_fd *b)
{
        return a->dev == b->dev && a->ino == b->ino;
}

/* Opens PARENT again, which CHILD lies in. -ESTALE when it can't be found. */
static int tree_reopen(struct tree_fd *parent, const struct tree_fd *child)
{
        struct tree_fd up;
        int r;

        if (!parent->there || parent->fd >= 0)
                return 0;
        if (child->fd < 0)
                return -ESTALE;
        r = tree_open(child->fd, "..", &up);
        if (r < 0)
                return r;
        if (!same_tree(&up, parent)) {
                strata_close(up.fd);
                return -ESTALE;
        }
        parent->fd = up.fd;
        return 0;
}

/* How the directory FD is marked: 'y' opaque, 'x' holding whiteouts as xattrs, else 0. */
static int opaque_mark(const struct walk *k, int fd)
{
        char attr[64], value[2];

        snprintf(attr, sizeof(attr), "%sopaque", k->w->prefix);
        if (fgetxattr(fd, attr, value, sizeof(value)) != 1 || (value[0] != 'y' && value[0] != 'x'))
                return 0;
        return value[0];
}

/*
 * What lies below must stay open as long as levels above need it to be found again: a level keeps no descriptor of its
 * own only if the level under it has one.
 */
static void save_fds(struct walk *k)
{
        struct level *far;

        if (k->n <= STRATA_LAYER_WALK_FDS)
                return;
        far = &k->levels[k->n - 1 - STRATA_LAYER_WALK_FDS];
        strata_close(steal_fd(&far->own.fd));
        if ((far + 1)->below.there)
                strata_close(steal_fd(&far->below.fd));
}

static int grow(struct walk *k)
{
        size_t size = k->size ? k->size * 2 : 16;
        struct level *levels;

        if (k->n < k->size)
                return 0;
        levels = reallocarray(k->levels, size, sizeof(*levels));
        if (!levels)
                return -ENOMEM;
        k->levels = levels;
        k->size = size;
        return 0;
}

/* Sends INSIDE for the opened level L, and reads its names. E is what ENTRY was sent for. */
static int level_fill(struct walk *k, struct level *l, struct strata_layer_entry *e)
{
        int mark = k->n ? opaque_mark(k, l->own.fd) : 0;
        struct order order;
        int r;

        l->xwhiteouts = mark == 'x';
        e->opaque = mark == 'y';
        e->fd = l->own.fd;
        e->fd_below = l->below.fd;
        r = k->fn(k->data, STRATA_LAYER_INSIDE, e);
        l->hidden = e->hidden || (e->opaque && l->below.there);
        if (r == 0)
                r = level_list(k, l, l->own.fd, false);
        if (r == 0 && l->hidden && l->below.there && k->w->want_gone)
                r = level_list(k, l, l->below.fd, true);
        if (r < 0)
                return r;
        order = (struct order){ l->names.data, k->w->whiteouts_first };
        if (l->n)
                qsort_r(l->items, l->n, sizeof(*l->items), compare, &order);
        return 0;
}

/* Goes into the directory of E. -ENOENT when it is no directory (any more). */
static int push(struct walk *k, struct strata_layer_entry *e)
{
        struct level l = { .own.fd = -1, .below.fd = -1, .path_len = k->path.len };
        int r = grow(k);

        if (r == 0)
                r = tree_open(e->dirfd, e->name, &l.own);
        if (r == 0 && k->n && l.own.dev != k->levels[0].own.dev)
                r = -ENOENT; /* something is mounted there: no part of the layer */
        if (r == 0 && e->below >= 0) {
                r = tree_open(e->below, e->name, &l.below);
                if (r == -ENOENT)
                        r = 0;
        }
        if (r == 0)
                r = level_fill(k, &l, e);
        if (r < 0) {
                level_free(&l);
                return r;
        }
        k->levels[k->n++] = l;
        save_fds(k);
        return 0;
}

/* Level I as it is found by its name below AT. */
static int open_level(const struct walk *k, size_t i, int at, struct tree_fd *ret)
{
        size_t from = k->levels[i - 1].path_len;
        cleanup_free char *name = NULL;
        struct tree_fd found;
        int r;

        from += from > 0; /* the slash */
        name = strndup(k->path.data + from, k->levels[i].path_len - from);
        if (!name)
                return -ENOMEM;
        r = tree_open(at, name, &found);
        if (r < 0)
                return r;
        if (!same_tree(&found, &k->levels[i].own)) {
                strata_close(found.fd);
                return -ENOENT;
        }
        *ret = found;
        return 0;
}

/*
 * For a parent that can't be found through "..", as the layer was changed meanwhile: walks down from the top again.
 * What is not where it was is dropped, with all in it. Afterwards the topmost level has its descriptor.
 */
static int find_again(struct walk *k)
{
        struct tree_fd at = { .fd = -1 };
        size_t found = 1;
        int r = tree_open(k->w->top, ".", &at);

        while (r == 0 && found < k->n - 1) {
                struct tree_fd next;

                r = open_level(k, found, at.fd, &next);
                if (r == -ENOENT) {
                        r = 0;
                        break;
                }
                if (r == 0) {
                        strata_close(at.fd);
                        at = next;
                        found++;
                }
        }
        if (r < 0) {
                strata_close(at.fd);
                return r;
        }
        while (k->n > found && r == 0) {
                struct level *l = &k->levels[k->n - 1];

                r = tree_reopen(&l[-1].below, &l->below); /* nothing changes below */
                level_free(l);
                k->n--;
        }
        strata_close(k->levels[found - 1].own.fd);
        k->levels[found - 1].own.fd = at.fd;
        return r;
}

static int pop(struct walk *k)
{
        struct level *l = &k->levels[k->n - 1];
        int r = 0;

        if (k->n > 1) {
                r = tree_reopen(&l[-1].own, &l->own);
                if (r == -ESTALE || r == -ENOENT)
                        return find_again(k);
                if (r == 0)
                        r = tree_reopen(&l[-1].below, &l->below);
        }
        level_free(l);
        k->n--;
        return r;
}

static void set_path(struct walk *k, const struct level *l, const char *name, size_t len)
{
        k->path.len = l->path_len;
        if (l->path_len)
                strata_buf_add(&k->path, "/", 1);
        strata_buf_add(&k->path, name, len);
}

static int step(struct walk *k)
{
        struct level *l = &k->levels[k->n - 1];
        struct strata_layer_entry e = { .fd = -1, .fd_below = -1, .dirfd = l->own.fd, .below = l->below.fd };
        const struct item *item;
        char *name;
        int r;

        if (l->pos == l->n)
                return pop(k);
        item = &l->items[l->pos++];
        name = l->names.data + item->at;
        set_path(k, l, name, strlen(name) - (item->inside ? 1 : 0));
        r = strata_buf_status(&k->path);
        if (r < 0)
                return r;
        e.path = k->path.data;
        e.name = name;
        e.type = item->type;
        e.hidden = l->hidden;
        if (item->gone)
                return l->last && strcmp(l->last, name) == 0 ? 0 : k->fn(k->data, STRATA_LAYER_GONE, &e);
        if (!item->inside) {
                l->last = name;
                return k->fn(k->data, STRATA_LAYER_ENTRY, &e);
        }
        name[strlen(name) - 1] = '\0';
        r = push(k, &e);
        return r == -ENOENT ? 0 : r;
}

int strata_layer_walk(const struct strata_layer_walk *w, strata_layer_fn fn, void *data)
{
        struct walk k = { .w = w, .fn = fn, .data = data };
        struct strata_layer_entry e = {
                .path = "", .name = ".", .dirfd = w->top, .below = w->below, .fd = -1, .fd_below = -1, .type = DT_DIR
        };
        int r = fn(data, STRATA_LAYER_ENTRY, &e);

        if (r == 0)
                r = push(&k, &e);
        while (r == 0 && k.n > 0)
                r = step(&k);
        while (k.n > 0)
                level_free(&k.levels[--k.n]);
        free(k.levels);
        strata_buf_free(&k.path);
        return r;
}
