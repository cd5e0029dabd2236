/* SPDX-License-Identifier: Apache-2.0 */
/* The operations: what has to be there before, the operation itself, and the way back. */
#include "failpoints.h"

#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *at(struct fail *x, const char *path, char buf[PATH_MAX])
{
        snprintf(buf, PATH_MAX, "%s/%s", x->mnt, path);
        return buf;
}

/* ---- calls of a user ---- */

static int make(struct fail *x, const char *path)
{
        char a[PATH_MAX];

        return mkdir(at(x, path, a), 0755) < 0 ? errno : 0;
}

static int drop(struct fail *x, const char *path)
{
        char a[PATH_MAX];

        return rmdir(at(x, path, a)) < 0 ? errno : 0;
}

static int move(struct fail *x, const char *from, const char *to, unsigned flags)
{
        char a[PATH_MAX], b[PATH_MAX];

        return renameat2(AT_FDCWD, at(x, from, a), AT_FDCWD, at(x, to, b), flags) < 0 ? errno : 0;
}

/* The errno of the first call that fails, the close among them. */
static int put(struct fail *x, const char *path, const char *text)
{
        char a[PATH_MAX];
        int fd = open(at(x, path, a), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), r = 0;

        if (fd < 0)
                return errno;
        if (write(fd, text, strlen(text)) < 0)
                r = errno;
        if (close(fd) < 0 && !r)
                r = errno;
        return r;
}

static int copy(const char *from, const char *to)
{
        int in = open(from, O_RDONLY | O_CLOEXEC), out = in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        static char buf[65536];
        ssize_t n = 0;
        int r = 0;

        if (out < 0)
                r = errno;
        while (!r && (n = read(in, buf, sizeof(buf))) > 0)
                if (write(out, buf, (size_t)n) != n)
                        r = errno;
        if (n < 0)
                r = errno;
        if (out >= 0 && close(out) < 0 && !r)
                r = errno;
        strata_close(in);
        return r;
}

static int look(struct fail *x, const char *path)
{
        char a[PATH_MAX];
        int fd = open(at(x, path, a), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return errno;
        close(fd);
        return 0;
}

static int read_all(struct fail *x, const char *path)
{
        static char buf[65536];
        char a[PATH_MAX];
        int fd = open(at(x, path, a), O_RDONLY | O_CLOEXEC), r = 0;
        ssize_t n;

        if (fd < 0)
                return errno;
        while ((n = read(fd, buf, sizeof(buf))) > 0)
                ;
        if (n < 0)
                r = errno;
        close(fd);
        return r;
}

/* ---- what has to work ---- */

static void must(int r, const char *what)
{
        if (r)
                give_up("%s: %s", what, errno_name(r));
}

/* Once more where a look that failed before left its error for this one. */
static void drop_if(struct fail *x, const char *path)
{
        char a[PATH_MAX];
        struct stat st;

        if (lstat(at(x, path, a), &st) == 0) {
                int r = drop(x, path);

                if (r)
                        state_log_show(x);
                must(r, path);
        }
}

static void no_setup(struct fail *x)
{
        (void)x;
}

static void set_untouched(struct fail *x)
{
        must(make(x, "active/k@base"), "mkdir active/k@base");
}

static void set_mounted(struct fail *x)
{
        set_untouched(x);
        must(put(x, "active/k/fs/file", "data\n"), "a file in active/k/fs");
}

static void set_committed(struct fail *x)
{
        set_mounted(x);
        must(move(x, "active/k", "snapshots/n", 0), "commit");
}

static void set_two(struct fail *x)
{
        set_mounted(x);
        must(make(x, "active/l"), "mkdir active/l");
}

static void set_label(struct fail *x)
{
        must(put(x, "snapshots/base/labels/l", "old"), "a label");
}

static void set_labels(struct fail *x)
{
        set_label(x);
        must(put(x, "snapshots/base/labels/m", "other"), "a label");
}

/* An import takes the mount away, so there is none. */
static void set_import(struct fail *x)
{
        set_untouched(x);
        must(put(x, "active/k/labels/stratafs.import.digest", "mine"), "a label");
}

static void undo_all(struct fail *x)
{
        static const char *const paths[] = { "active/k", "active/l",    "active/m",   "views/v",
                                             "views/w",  "snapshots/n", "snapshots/m" };

        for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++)
                drop_if(x, paths[i]);
}

static void undo_label(struct fail *x)
{
        char a[PATH_MAX];

        if (unlink(at(x, "snapshots/base/labels/l", a)) < 0 && errno != ENOENT)
                give_up("a label can't be removed: %s", errno_name(errno));
}

static void undo_label_too(struct fail *x)
{
        char a[PATH_MAX];

        undo_label(x);
        if (unlink(at(x, "snapshots/base/labels/m", a)) < 0 && errno != ENOENT)
                give_up("a label can't be removed: %s", errno_name(errno));
}

/* ---- the operations ---- */

static int run_prepare(struct fail *x)
{
        return make(x, "active/k");
}

static int run_prepare_child(struct fail *x)
{
        return make(x, "active/k@base");
}

static int run_view(struct fail *x)
{
        return make(x, "views/v@base");
}

static int run_touch(struct fail *x)
{
        return look(x, "active/k/fs");
}

static int run_touch_snapshot(struct fail *x)
{
        return look(x, "snapshots/n/fs");
}

static int run_commit(struct fail *x)
{
        return move(x, "active/k", "snapshots/n", 0);
}

static int run_rename(struct fail *x)
{
        return move(x, "active/k", "active/m", 0);
}

static int run_rename_snapshot(struct fail *x)
{
        return move(x, "snapshots/n", "snapshots/m", RENAME_NOREPLACE);
}

static int run_exchange(struct fail *x)
{
        return move(x, "active/k", "active/l", RENAME_EXCHANGE);
}

static int run_remove(struct fail *x)
{
        return drop(x, "active/k");
}

static int run_remove_snapshot(struct fail *x)
{
        return drop(x, "snapshots/n");
}

static int run_label(struct fail *x)
{
        return put(x, "snapshots/base/labels/l", "new");
}

/* If only the write(2) fails there is an empty one, as on any file system; it comes with the last close, a bit later.
 */
static int run_new_label(struct fail *x)
{
        char a[PATH_MAX];
        int r = run_label(x);

        for (int tries = 0; tries < 20 && r; tries++) {
                pause_ms(5);
                (void)unlink(at(x, "snapshots/base/labels/l", a));
        }
        return r;
}

static int run_unlabel(struct fail *x)
{
        char a[PATH_MAX];

        return unlink(at(x, "snapshots/base/labels/l", a)) < 0 ? errno : 0;
}

static int run_rename_label(struct fail *x)
{
        return move(x, "snapshots/base/labels/l", "snapshots/base/labels/m", 0);
}

static int run_import(struct fail *x)
{
        char a[PATH_MAX];

        return copy(x->layer, at(x, "active/k/layer.tar", a));
}

static int run_export(struct fail *x)
{
        return read_all(x, "snapshots/n/layer.tar");
}

static int run_changes(struct fail *x)
{
        return read_all(x, "active/k/changes");
}

static int run_usage(struct fail *x)
{
        return read_all(x, "active/k/usage");
}

static int run_tree(struct fail *x)
{
        return read_all(x, "tree");
}

const struct op ops[] = {
        { "prepare", false, no_setup, run_prepare, undo_all, false },
        { "prepare on a parent", false, no_setup, run_prepare_child, undo_all, false },
        { "view", false, no_setup, run_view, undo_all, false },
        { "first touch", false, set_untouched, run_touch, undo_all, false },
        { "first touch of a snapshot", false, set_committed, run_touch_snapshot, undo_all, false },
        { "commit", false, set_mounted, run_commit, undo_all, false },
        { "commit of an untouched one", false, set_untouched, run_commit, undo_all, false },
        { "rename", false, set_mounted, run_rename, undo_all, false },
        { "rename of a snapshot", false, set_committed, run_rename_snapshot, undo_all, false },
        { "exchange", false, set_two, run_exchange, undo_all, false },
        { "remove", false, set_mounted, run_remove, undo_all, false },
        { "remove an untouched one", false, set_untouched, run_remove, undo_all, false },
        { "remove a snapshot", false, set_committed, run_remove_snapshot, undo_all, false },
        { "deletion in the background", true, set_committed, run_remove_snapshot, undo_all, false },
        { "new label", false, no_setup, run_new_label, undo_label, true },
        { "changed label", false, set_label, run_label, undo_label, false },
        { "removed label", false, set_label, run_unlabel, undo_label, false },
        { "renamed label", false, set_label, run_rename_label, undo_label_too, false },
        { "label renamed over another", false, set_labels, run_rename_label, undo_label_too, false },
        { "import", false, set_import, run_import, undo_all, false },
        { "export", false, set_committed, run_export, undo_all, false },
        { "changes", false, set_mounted, run_changes, undo_all, false },
        { "usage", false, set_mounted, run_usage, undo_all, false },
        { "tree", false, set_two, run_tree, undo_all, false },
};
const size_t n_ops = sizeof(ops) / sizeof(*ops);

/* A base with a child and labels: what all stands on. */
void ops_prepare(struct fail *x)
{
        char a[PATH_MAX];

        must(make(x, "active/b"), "mkdir active/b");
        must(put(x, "active/b/fs/text", "of the base\n"), "a file");
        must(mkdir(at(x, "active/b/fs/d", a), 0755) < 0 ? errno : 0, "a folder");
        must(put(x, "active/b/fs/d/inner", "inner\n"), "a file");
        must(put(x, "active/b/fs/gone", "gone\n"), "a file");
        must(move(x, "active/b", "snapshots/base", 0), "commit");
        must(make(x, "active/other@base"), "mkdir active/other@base");
        must(put(x, "active/other/labels/x", "y"), "a label");
        /* Two IDs that were used, for what is put in the store by hand. */
        for (int i = 0; i < 2; i++) {
                must(make(x, "active/k"), "mkdir active/k");
                must(drop(x, "active/k"), "rmdir active/k");
        }
}
