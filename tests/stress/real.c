/* SPDX-License-Identifier: Apache-2.0 */
#include "stress.h"

#include "util/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

void real_path(struct stress *x, int kind, int name, const char *below, char *buf, size_t size)
{
        snprintf(buf, size, "%s/%s/%s%s", x->mnt, kind_folder[kind], name_of(name), below);
}

static int result(int r)
{
        return r < 0 ? errno : 0;
}

int real_prepare(struct stress *x, const struct op *op)
{
        char path[PATH_MAX];
        size_t len;

        real_path(x, op->kind, op->a, "", path, sizeof(path));
        len = strlen(path);
        if (op->b >= 0)
                snprintf(path + len, sizeof(path) - len, "@%s", name_of(op->b));
        return result(mkdir(path, 0755));
}

int real_rename(struct stress *x, const struct op *op)
{
        char from[PATH_MAX], to[PATH_MAX];

        real_path(x, op->kind, op->a, "", from, sizeof(from));
        real_path(x, op->kind2, op->b, "", to, sizeof(to));
        return result(renameat2(AT_FDCWD, from, AT_FDCWD, to, op->flags));
}

/* The id that the new entry says it has. */
static int prepare(struct stress *x, const struct op *op)
{
        int r = real_prepare(x, op);
        struct entry *e = &x->model.at[op->kind][op->a < NAMES ? op->a : 0];
        struct entry got;
        char parent[NAME_MAX + 1];

        if (r || e->id != UINT64_MAX)
                return r;
        if (!scan_info(x, op->kind, op->a, &got, parent, sizeof(parent)))
                return EBADMSG;
        if (got.id <= x->model.last_id)
                complain(x, "id %ju of a new entry after %ju", (uintmax_t)got.id, (uintmax_t)x->model.last_id);
        e->id = x->model.last_id = got.id;
        snprintf(e->created, sizeof(e->created), "%s", got.created);
        return 0;
}

static int label(const char *entry, const struct op *op)
{
        char a[PATH_MAX], b[PATH_MAX];

        snprintf(a, sizeof(a), "%s/labels/%s", entry, label_of(op->x));
        snprintf(b, sizeof(b), "%s/labels/%s", entry, label_of(op->y));
        switch (op->type) {
        case OP_LABEL_SET:
                return -write_text(AT_FDCWD, a, O_CREAT | O_TRUNC, op->stamp, true);
        case OP_LABEL_MAKE:
                return -write_text(AT_FDCWD, a, O_CREAT | O_EXCL, op->stamp, true);
        case OP_LABEL_REMOVE:
                return result(unlink(a));
        default:
                return result(renameat2(AT_FDCWD, a, AT_FDCWD, b, op->flags));
        }
}

static int read_file(struct stress *x, const char *path, const struct op *op)
{
        const struct contents *want = &x->model.at[op->kind][op->a].file[op->x];
        struct contents got;
        int r = -read_contents(AT_FDCWD, path, &got);

        if (r == 0 && (got.n != want->n || memcmp(got.stamp, want->stamp, want->n * sizeof(*want->stamp)) != 0))
                return EBADMSG;
        return r;
}

static int below(struct stress *x, const char *entry, const struct op *op)
{
        char a[PATH_MAX], b[PATH_MAX];

        snprintf(a, sizeof(a), "%s/fs/%s", entry, file_of(op->x));
        snprintf(b, sizeof(b), "%s/fs/%s", entry, file_of(op->y));
        switch (op->type) {
        case OP_WRITE:
                return -write_text(AT_FDCWD, a, O_CREAT | O_TRUNC, op->stamp, false);
        case OP_APPEND:
                return -write_text(AT_FDCWD, a, O_APPEND, op->stamp, false);
        case OP_UNLINK:
                return result(unlink(a));
        case OP_MOVE:
                return result(rename(a, b));
        case OP_READ:
                return read_file(x, a, op);
        default:
                snprintf(a, sizeof(a), "%s/fs/d", entry);
                return result(op->type == OP_MKDIR ? mkdir(a, 0755) : rmdir(a));
        }
}

/* ---- touches ---- */

static int is_overlay(int r, const struct statfs *st)
{
        if (r < 0)
                return errno;
        return st->f_type == OVERLAYFS_SUPER_MAGIC ? 0 : EBADMSG;
}

static int touch_open(int dirfd, const char *path, int flags)
{
        cleanup_fd int fd = openat(dirfd, path, flags | O_CLOEXEC);
        struct statfs st;

        return fd < 0 ? errno : is_overlay(fstatfs(fd, &st), &st);
}

static int touch_relative(const char *entry)
{
        cleanup_fd int fd = open(entry, O_PATH | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? errno : touch_open(fd, "fs", O_RDONLY | O_DIRECTORY);
}

/* The thread has a working directory of its own, or is the only one. */
static int touch_cwd(struct stress *x, const char *entry)
{
        struct statfs st;
        int r;

        if (chdir(entry) < 0)
                return errno;
        r = is_overlay(statfs("fs", &st), &st);
        return chdir(x->base) < 0 ? errno : r;
}

int real_touch(struct stress *x, const char *entry, unsigned way)
{
        char path[PATH_MAX];
        struct statfs st;
        struct statx stx;

        snprintf(path, sizeof(path), "%s/fs", entry);
        switch (way) {
        case 0:
                return is_overlay(statfs(path, &st), &st);
        case 1:
                return touch_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
        case 2:
                return touch_open(AT_FDCWD, path, O_PATH);
        case 3:
                return touch_relative(entry);
        case 4:
                return touch_cwd(x, entry);
        case 5:
                if (statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &stx) < 0)
                        return errno;
                return stx.stx_attributes & STATX_ATTR_MOUNT_ROOT ? 0 : EBADMSG;
        default:
                strcat(path, "/.");
                return access(path, R_OK | X_OK) < 0 ? errno : is_overlay(statfs(path, &st), &st);
        }
}

/* ---- holding ---- */

/* As a user of `mount` does: the last word of it is the source. */
static int bind_mount(const char *entry, const char *target)
{
        cleanup_free char *text = NULL;
        char path[PATH_MAX];
        ssize_t n;
        char *source;

        snprintf(path, sizeof(path), "%s/mount", entry);
        n = read_all_at(AT_FDCWD, path, &text);
        if (n < 0)
                return (int)-n;
        source = strstr(text, " /");
        if (!source || strncmp(text, "-o rbind,r", 10) != 0 || text[n - 1] != '\n')
                return EBADMSG;
        text[n - 1] = '\0';
        if (mkdir(target, 0700) < 0 && errno != EEXIST)
                return errno;
        return result(mount(source + 1, target, NULL, MS_BIND | MS_REC, NULL));
}

static void bind_path(struct stress *x, int i, char *buf, size_t size)
{
        snprintf(buf, size, "%s/bind.%d", x->base, i);
}

static int hold(struct stress *x, const char *entry, const struct op *op, int want)
{
        struct hold *h = &x->model.hold[op->y]; /* filled in by the model if WANT is 0 */
        char path[PATH_MAX];
        int fd;

        snprintf(path, sizeof(path), "%s/fs/%s", entry, op->flags < 2 ? file_of(op->x) : ".");
        if (op->flags == 3) {
                bind_path(x, op->y, path, sizeof(path));
                return bind_mount(entry, path);
        }
        fd = open(path, (op->flags == 0 ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
        if (fd < 0)
                return errno;
        if (want == 0)
                h->fd = fd;
        else
                close(fd);
        return 0;
}

/* A bind of what has been committed is frozen: nothing can be made there. */
static int release(struct stress *x, int i)
{
        struct hold *h = &x->model.hold[i];
        char path[PATH_MAX], probe[PATH_MAX + 8];
        int r = 0;

        if (h->bind) {
                bind_path(x, i, path, sizeof(path));
                snprintf(probe, sizeof(probe), "%s/probe", path);
                if (h->left && (mkdir(probe, 0700) == 0 || errno != EROFS))
                        complain(x, "a bind of what was committed is not frozen: %s", strerrorname_np(errno));
                r = result(umount2(path, 0));
        } else {
                close(h->fd);
        }
        *h = (struct hold){ 0 };
        return r;
}

void real_release_all(struct stress *x)
{
        for (int i = 0; i < HOLDS; i++)
                if (x->model.hold[i].id)
                        (void)release(x, i);
}

/* ---- looking ---- */

static int read_texts(struct stress *x, const char *entry)
{
        static const char *const there[] = { "info", "mount", "mount.json", "overlay", "usage" };
        static const char *const maybe[] = { "parent", "children", "changes", "verify", "layer.tar" };
        static const char *const top[] = { "tree", "graph.dot", "log", "metrics", "version" };
        char path[PATH_MAX], target[PATH_MAX];

        for (size_t i = 0; i < 15; i++) {
                cleanup_free char *text = NULL;
                ssize_t n;

                if (i < 10)
                        snprintf(path, sizeof(path), "%s/%s", entry, i < 5 ? there[i] : maybe[i - 5]);
                else
                        snprintf(path, sizeof(path), "%s/%s", x->mnt, top[i - 10]);
                if (i == 5) {
                        n = readlink(path, target, sizeof(target)) < 0 ? -errno : 0;
                } else {
                        n = read_all_at(AT_FDCWD, path, &text);
                }
                if (n < 0 && (n != -ENOENT || i < 5 || i >= 10))
                        return (int)-n;
        }
        return 0;
}

static int list(struct stress *x, int kind)
{
        char path[PATH_MAX];
        unsigned seen = 0;
        struct dirent *de;

        snprintf(path, sizeof(path), "%s/%s", x->mnt, kind_folder[kind]);
        cleanup_dir DIR *dir = opendir(path);
        if (!dir)
                return errno;
        while ((errno = 0, de = readdir(dir))) {
                int name = name_find(de->d_name);

                if (de->d_name[0] == '.')
                        continue;
                if (name < 0 || (seen & 1u << name) || !x->model.at[kind][name].id)
                        return EBADMSG;
                seen |= 1u << name;
        }
        for (int name = 0; name < NAMES; name++)
                if (x->model.at[kind][name].id && !(seen & 1u << name))
                        return EBADMSG;
        return errno;
}

int real_apply(struct stress *x, const struct op *op, int want)
{
        char entry[ENTRY_MAX];

        watch_progress(x);
        real_path(x, op->kind, op->a, "", entry, sizeof(entry));
        switch (op->type) {
        case OP_PREPARE:
                return prepare(x, op);
        case OP_RENAME:
                return real_rename(x, op);
        case OP_RMDIR:
                return result(rmdir(entry));
        case OP_LABEL_SET:
        case OP_LABEL_MAKE:
        case OP_LABEL_REMOVE:
        case OP_LABEL_RENAME:
                return label(entry, op);
        case OP_TOUCH:
                return real_touch(x, entry, op->flags);
        case OP_HOLD:
                return hold(x, entry, op, want);
        case OP_RELEASE:
                return want == 0 ? release(x, op->y) : want;
        case OP_TEXTS:
                return read_texts(x, entry);
        case OP_LIST:
                return list(x, op->kind);
        default:
                return below(x, entry, op);
        }
}
