/* SPDX-License-Identifier: Apache-2.0 */
#include "stress.h"

#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const texts[] = {
        "info",      "mount",         "mount.json",      "overlay", "usage",     "parent/info", "../../tree",
        "../../log", "../../metrics", "../../graph.dot", "changes", "layer.tar", "verify",      "children",
};
#define N_TEXTS (sizeof(texts) / sizeof(*texts))
#define LAYER_TAR 11 /* in TEXTS */

/* What each operation may answer when others are at work, 0 aside. */
static const int allowed[OP_TYPES][6] = {
        [OP_PREPARE] = { EEXIST, ENOENT },
        [OP_RENAME] = { EEXIST, ENOENT, EPERM, EBUSY },
        [OP_RMDIR] = { ENOENT, ENOTEMPTY, EBUSY },
        [OP_LABEL_SET] = { ENOENT },
        [OP_LABEL_REMOVE] = { ENOENT },
        [OP_WRITE] = { ENOENT, EROFS },
        [OP_UNLINK] = { ENOENT, EROFS },
        [OP_READ] = { ENOENT },
        [OP_TOUCH] = { ENOENT },
        [OP_TEXTS] = { ENOENT },
};

/* The program is gone. */
static bool is_death(int error)
{
        return error == ENOTCONN || error == ECONNABORTED || error == EIO || error == ENODEV;
}

void many_effect(const struct op *op, int sign, int balance[KINDS][NAMES])
{
        bool same = op->kind == op->kind2 && op->a == op->b;

        if (op->type == OP_PREPARE)
                balance[op->kind][op->a] += sign;
        if (op->type == OP_RMDIR)
                balance[op->kind][op->a] -= sign;
        if (op->type == OP_RENAME && !same && !(op->flags & RENAME_EXCHANGE)) {
                balance[op->kind][op->a] -= sign;
                balance[op->kind2][op->b] += sign;
        }
}

static void take_note(struct client *c, uint64_t id, bool label, uint32_t stamp, bool maybe)
{
        if (c->n == c->size) {
                size_t size = c->size ? c->size * 2 : 256;
                struct note *notes = reallocarray(c->notes, size, sizeof(*notes));

                if (!notes) {
                        complain(c->x, "out of memory");
                        return;
                }
                c->notes = notes;
                c->size = size;
        }
        c->notes[c->n++] = (struct note){ .id = id, .label = label, .maybe = maybe, .stamp = stamp };
}

/* The id of the entry open at DIRFD. */
static int id_at(int dirfd, uint64_t *ret)
{
        cleanup_free char *text = NULL;
        ssize_t n = read_all_at(dirfd, "info", &text);
        const char *id = n < 0 ? NULL : strstr(text, "\nid: ");

        if (n < 0)
                return (int)-n;
        if (!id || sscanf(id, "\nid: %" SCNu64, ret) != 1)
                return EBADMSG;
        return 0;
}

static int change_note(struct client *c, const struct op *op, int dirfd)
{
        bool is_label = op->type == OP_LABEL_SET || op->type == OP_LABEL_REMOVE, set;
        const char *name = is_label ? label_of(SHARED_LABELS + c->number) : file_of(SHARED_FILES + c->number);
        char path[NAME_MAX];
        uint32_t stamp;
        uint64_t id;
        int r = id_at(dirfd, &id);

        if (r)
                return r;
        set = op->type == OP_LABEL_SET || op->type == OP_WRITE;
        stamp = set ? c->stamp++ : 0;
        snprintf(path, sizeof(path), "%s/%s", is_label ? "labels" : "fs", name);
        if (set)
                r = -write_text(dirfd, path, O_CREAT | O_TRUNC, stamp, is_label);
        else
                r = unlinkat(dirfd, path, 0) < 0 ? errno : 0;
        if (r == 0 || (is_label && is_death(r)))
                take_note(c, id, is_label, stamp, r != 0);
        return r;
}

/*
 * Works on the entry that has the name now, whatever it is called later. The kernel starts a walk again once only when
 * it is told ESTALE, so one that meets a mount and a commit or removal under way may end with that: then once more,
 * counted.
 */
static int work_in(struct client *c, const struct op *op, const char *entry)
{
        cleanup_fd int dirfd = open(entry, O_PATH | O_DIRECTORY | O_CLOEXEC);
        struct contents contents;
        char path[NAME_MAX];
        int r = ESTALE;

        if (dirfd < 0)
                return errno;
        snprintf(path, sizeof(path), "fs/%s", file_of(op->x));
        for (int tries = 0; tries < 3 && r == ESTALE; tries++) {
                c->stale += tries > 0;
                r = op->type == OP_READ ? -read_contents(dirfd, path, &contents) : change_note(c, op, dirfd);
        }
        return r;
}

static int look(struct client *c, const struct op *op, const char *entry)
{
        char path[PATH_MAX];
        cleanup_free char *text = NULL;
        ssize_t n;

        if (op->type == OP_TOUCH) {
                int r = real_touch(c->x, entry, op->flags);

                for (int tries = 0; tries < 2 && r == ESTALE; tries++, c->stale++)
                        r = real_touch(c->x, entry, op->flags);
                return r;
        }
        snprintf(path, sizeof(path), "%s/%s", entry, texts[op->stamp % N_TEXTS]);
        n = read_all_at(AT_FDCWD, path, &text);
        return n < 0 ? (int)-n : 0;
}

static struct op random_op(struct client *c)
{
        static const enum op_type types[] = { OP_PREPARE, OP_PREPARE, OP_PREPARE, OP_RENAME,    OP_RENAME,
                                              OP_RENAME,  OP_RMDIR,   OP_RMDIR,   OP_WRITE,     OP_WRITE,
                                              OP_WRITE,   OP_UNLINK,  OP_READ,    OP_LABEL_SET, OP_LABEL_REMOVE,
                                              OP_TOUCH,   OP_TEXTS };
        static const unsigned flags[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
        struct rng *r = &c->rng;
        struct op op = { .type = types[rng_below(r, sizeof(types) / sizeof(*types))] };

        op.kind = rng_below(r, 8) < 4 ? ACTIVE : rng_below(r, KINDS);
        if (op.type == OP_PREPARE && op.kind == COMMITTED)
                op.kind = VIEW;
        op.kind2 = op.kind == ACTIVE && rng_below(r, 3) ? COMMITTED : op.kind;
        op.a = rng_below(r, NAMES);
        op.b = op.type == OP_PREPARE ? rng_below(r, NAMES + 2) - 2 : rng_below(r, NAMES);
        if (op.b < -1)
                op.b = -1;
        op.flags = flags[rng_below(r, 5)];
        op.x = SHARED_FILES + rng_below(r, CLIENTS);
        if (op.type == OP_TOUCH)
                op.flags = (unsigned)rng_below(r, TOUCH_WAYS);
        op.stamp = rng_next(r);
        return op;
}

static int carry_out(struct client *c, const struct op *op)
{
        char entry[ENTRY_MAX];

        real_path(c->x, op->kind, op->a, "", entry, sizeof(entry));
        switch (op->type) {
        case OP_PREPARE:
                return real_prepare(c->x, op);
        case OP_RENAME:
                return real_rename(c->x, op);
        case OP_RMDIR:
                return rmdir(entry) < 0 ? errno : 0;
        case OP_TOUCH:
        case OP_TEXTS:
                return look(c, op, entry);
        default:
                return work_in(c, op, entry);
        }
}

static bool is_allowed(const struct op *op, int error)
{
        for (int i = 0; i < 6; i++)
                if (error == allowed[op->type][i])
                        return true;
        /* What a dead worker had begun to show of an active layer may have changed since: layer_read.c. */
        if (error == ESPIPE && op->type == OP_TEXTS && op->kind == ACTIVE)
                return op->stamp % N_TEXTS == LAYER_TAR;
        /* Read while it is written: parts are there. What is committed, or looked at, is whole. */
        return error == 0 || (error == EBADMSG && op->type == OP_READ && op->kind == ACTIVE);
}

void *many_client(void *arg)
{
        struct client *c = arg;

        (void)unshare(CLONE_FS); /* a working directory of its own */
        while (!atomic_load(&c->many->stop)) {
                struct op op = random_op(c);
                double start = watch_now();
                int r = carry_out(c, &op);
                char text[200];

                watch_progress(c->x);
                if (watch_now() - start > c->slowest) {
                        c->slowest = watch_now() - start;
                        c->slowest_op = op;
                }
                c->done[op.type]++;
                c->good[op.type] += r == 0;
                if (r == 0)
                        many_effect(&op, 1, c->balance);
                if (is_allowed(&op, r))
                        continue;
                if (is_death(r) && atomic_load(&c->many->dying)) {
                        c->unanswered = op;
                        c->died = true;
                        break;
                }
                op_describe(&op, text, sizeof(text));
                complain(c->x, "client %d of many: %s: %s%s", c->number, text, errno_name(r),
                         atomic_load(&c->many->dying) ? " (the program is being killed)" : "");
        }
        return NULL;
}
