/* SPDX-License-Identifier: Apache-2.0 */
#include "stress.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* What the VFS and the contract of the tree say, in the order in which they look. */

static struct entry *entry_at(struct model *m, int kind, int name)
{
        return name < NAMES && m->at[kind][name].id ? &m->at[kind][name] : NULL;
}

static bool is_taken(const struct model *m, int kind, int name)
{
        if (kind == COMMITTED)
                return m->at[COMMITTED][name].id;
        return m->at[ACTIVE][name].id || m->at[VIEW][name].id;
}

struct entry *model_by_id(struct model *m, uint64_t id)
{
        for (int kind = 0; id && kind < KINDS; kind++)
                for (int name = 0; name < NAMES; name++)
                        if (m->at[kind][name].id == id)
                                return &m->at[kind][name];
        return NULL;
}

const struct entry *model_nth(const struct model *m, int n)
{
        return &m->at[n / NAMES][n % NAMES];
}

bool model_has_children(const struct model *m, uint64_t id)
{
        for (int kind = 0; kind < KINDS; kind++)
                for (int name = 0; name < NAMES; name++)
                        if (m->at[kind][name].id && m->at[kind][name].parent == id)
                                return true;
        return false;
}

static bool is_held(const struct model *m, uint64_t id, bool writers)
{
        for (int i = 0; i < HOLDS; i++)
                if (m->hold[i].id == id && (m->hold[i].writer || !writers))
                        return true;
        return false;
}

/* The kernel makes no superblock read-only as long as a deleted file is open, by whomever. */
static bool holds_deleted(const struct model *m, uint64_t id)
{
        for (int i = 0; i < HOLDS; i++)
                if (m->hold[i].id == id && m->hold[i].deleted)
                        return true;
        return false;
}

/* FILE of the entry ID is deleted (TO: -1), or has another name now, which takes the place of what was there. */
static void follow_holds(struct model *m, uint64_t id, int file, int to)
{
        for (int i = 0; i < HOLDS; i++) {
                struct hold *h = &m->hold[i];

                if (h->id != id || h->deleted || h->file < 0 || file == to)
                        continue;
                if (h->file == to || (h->file == file && to < 0))
                        h->deleted = true;
                else if (h->file == file)
                        h->file = to;
        }
}

static bool is_long(int name)
{
        return name == NAMES + ODD - 1;
}

static int prepare(struct model *m, const struct op *op)
{
        struct entry *e, *parent = NULL;

        if (is_long(op->a) || is_long(op->b))
                return ENAMETOOLONG;
        if (op->kind == COMMITTED)
                return op->b < 0 && entry_at(m, COMMITTED, op->a) ? EEXIST : EPERM;
        if (op->a >= NAMES || op->b >= NAMES)
                return EINVAL;
        if (is_taken(m, op->kind, op->a))
                return EEXIST;
        if (op->b >= 0) {
                parent = entry_at(m, COMMITTED, op->b);
                if (!parent)
                        return ENOENT;
        }
        e = &m->at[op->kind][op->a];
        *e = (struct entry){ .id = UINT64_MAX, .depth = 1 };
        if (parent) {
                *e = *parent;
                e->id = UINT64_MAX; /* the real one is read */
                e->parent = parent->id;
                e->depth = parent->depth + 1;
                memset(e->label, 0, sizeof(e->label));
        }
        return 0;
}

static int change_name(struct model *m, const struct op *op)
{
        struct entry *from = entry_at(m, op->kind, op->a), *to, tmp;
        bool same = op->kind == op->kind2 && op->a == op->b;

        if (is_long(op->a))
                return ENAMETOOLONG;
        if (!from)
                return ENOENT;
        if (is_long(op->b))
                return ENAMETOOLONG;
        to = entry_at(m, op->kind2, op->b);
        if ((op->flags & RENAME_NOREPLACE) && to)
                return EEXIST;
        if ((op->flags & RENAME_EXCHANGE) && !to)
                return ENOENT;
        if (same)
                return 0;
        if (op->kind != op->kind2 && (op->kind != ACTIVE || op->kind2 != COMMITTED || (op->flags & RENAME_EXCHANGE)))
                return EPERM;
        if (op->b >= NAMES)
                return EINVAL;
        if (op->flags & RENAME_EXCHANGE) {
                tmp = *to;
                *to = *from;
                *from = tmp;
                return 0;
        }
        if (is_taken(m, op->kind2, op->b))
                return EEXIST;
        if (op->kind != op->kind2 && (is_held(m, from->id, true) || holds_deleted(m, from->id)))
                return EBUSY;
        for (int i = 0; i < HOLDS && op->kind != op->kind2; i++)
                if (m->hold[i].id == from->id)
                        m->hold[i].left = true;
        m->at[op->kind2][op->b] = *from;
        from->id = 0;
        return 0;
}

static int remove_entry(struct model *m, const struct op *op)
{
        struct entry *e = entry_at(m, op->kind, op->a);

        if (is_long(op->a))
                return ENAMETOOLONG;
        if (!e)
                return ENOENT;
        if (model_has_children(m, e->id))
                return ENOTEMPTY;
        if (is_held(m, e->id, false))
                return EBUSY;
        e->id = 0;
        return 0;
}

static int label(struct entry *e, const struct op *op)
{
        uint32_t *a = &e->label[op->x], *b = &e->label[op->y];

        switch (op->type) {
        case OP_LABEL_MAKE:
                if (*a)
                        return EEXIST;
                *a = op->stamp;
                return 0;
        case OP_LABEL_SET:
                *a = op->stamp;
                return 0;
        case OP_LABEL_REMOVE:
                if (!*a)
                        return ENOENT;
                *a = 0;
                return 0;
        default:
                break;
        }
        if (!*a)
                return ENOENT;
        if ((op->flags & RENAME_NOREPLACE) && *b)
                return EEXIST;
        if ((op->flags & RENAME_EXCHANGE) && !*b)
                return ENOENT;
        if (a == b)
                return 0;
        if (op->flags & RENAME_EXCHANGE)
                return EPERM;
        *b = *a;
        *a = 0;
        return 0;
}

static bool is_in_dir(int file)
{
        return file == 2 || file == 3;
}

/* Below fs/, as any file system has it; READ_ONLY is told where the kernel tells it. */
static int below(struct entry *e, const struct op *op, bool read_only)
{
        struct contents *a = &e->file[op->x], *b = &e->file[op->y];

        switch (op->type) {
        case OP_MKDIR:
                if (e->dir)
                        return EEXIST;
                if (!read_only)
                        e->dir = true;
                return read_only ? EROFS : 0;
        case OP_RMDIR_BELOW:
                if (read_only)
                        return EROFS;
                if (!e->dir)
                        return ENOENT;
                if (e->file[2].n || e->file[3].n)
                        return ENOTEMPTY;
                e->dir = false;
                return 0;
        default:
                break;
        }
        if ((is_in_dir(op->x) || (op->type == OP_MOVE && is_in_dir(op->y))) && !e->dir)
                return ENOENT;
        switch (op->type) {
        case OP_WRITE:
                if (!read_only)
                        *a = (struct contents){ .n = 1, .stamp = { op->stamp } };
                return read_only ? EROFS : 0;
        case OP_APPEND:
                if (!a->n)
                        return ENOENT;
                if (read_only)
                        return EROFS;
                if (a->n == STAMPS)
                        return EALREADY; /* not tried */
                a->stamp[a->n++] = op->stamp;
                return 0;
        case OP_UNLINK:
                if (read_only)
                        return EROFS;
                if (!a->n)
                        return ENOENT;
                a->n = 0;
                return 0;
        case OP_MOVE:
                if (read_only)
                        return EROFS;
                if (!a->n)
                        return ENOENT;
                if (a != b) {
                        *b = *a;
                        a->n = 0;
                }
                return 0;
        default:
                return a->n ? 0 : ENOENT; /* OP_READ */
        }
}

/* Ways to hold: 0 write a file, 1 read it, 2 the root of fs/, 3 a bind of it. */
static int hold(struct model *m, struct entry *e, const struct op *op)
{
        int r = 0;

        if (op->type == OP_RELEASE)
                return m->hold[op->y].id ? 0 : ENOENT;
        if (m->hold[op->y].id)
                return EALREADY; /* not tried */
        if (!e)
                return ENOENT;
        if (op->flags < 2) {
                struct op open = *op;

                open.type = OP_READ;
                r = below(e, &open, false);
                if (r == 0 && op->flags == 0 && e != entry_at(m, ACTIVE, op->a))
                        r = EROFS;
        }
        if (r == 0)
                m->hold[op->y] = (struct hold){ .id = e->id,
                                                .writer = op->flags == 0,
                                                .bind = op->flags == 3,
                                                .file = op->flags < 2 ? op->x : -1 };
        return r;
}

int model_apply(struct model *m, const struct op *op)
{
        struct entry *e = entry_at(m, op->kind, op->a);
        int r;

        switch (op->type) {
        case OP_PREPARE:
                return prepare(m, op);
        case OP_RENAME:
                return change_name(m, op);
        case OP_RMDIR:
                return remove_entry(m, op);
        case OP_HOLD:
        case OP_RELEASE:
                return hold(m, e, op);
        case OP_LIST:
                return 0;
        case OP_TEXTS:
        case OP_TOUCH:
                return e ? 0 : ENOENT;
        case OP_LABEL_SET:
        case OP_LABEL_MAKE:
        case OP_LABEL_REMOVE:
        case OP_LABEL_RENAME:
                return e ? label(e, op) : ENOENT;
        default:
                r = e ? below(e, op, op->kind != ACTIVE) : ENOENT;
                if (r == 0 && (op->type == OP_UNLINK || op->type == OP_MOVE))
                        follow_holds(m, e->id, op->x, op->type == OP_MOVE ? op->y : -1);
                return r;
        }
}

/* ---- comparing ---- */

static bool same_contents(const struct contents *a, const struct contents *b)
{
        return a->n == b->n && memcmp(a->stamp, b->stamp, a->n * sizeof(*a->stamp)) == 0;
}

static bool entry_equal(struct stress *x, const char *where, const struct entry *a, const struct entry *b)
{
        bool same = true;

        if (a->id != b->id || (a->id && (a->parent != b->parent || a->depth != b->depth))) {
                if (x)
                        complain(x, "%s: id %ju, parent %ju, depth %u in the model, %ju, %ju, %u in the tree", where,
                                 (uintmax_t)a->id, (uintmax_t)a->parent, a->depth, (uintmax_t)b->id,
                                 (uintmax_t)b->parent, b->depth);
                return false;
        }
        if (!a->id)
                return true;
        same = a->dir == b->dir && (!a->created[0] || strcmp(a->created, b->created) == 0);
        if (!same && x)
                complain(x, "%s: d/ %d, created %s in the model, %d, %s in the tree", where, a->dir, a->created, b->dir,
                         b->created);
        for (int i = 0; i < FILES; i++) {
                if (same_contents(&a->file[i], &b->file[i]))
                        continue;
                if (x)
                        complain(x, "%s/fs/%s: %u parts, %u first in the model, %u parts, %u first in the tree", where,
                                 file_of(i), a->file[i].n, a->file[i].stamp[0], b->file[i].n, b->file[i].stamp[0]);
                same = false;
        }
        for (int i = 0; i < LABELS; i++) {
                if (a->label[i] == b->label[i])
                        continue;
                if (x)
                        complain(x, "%s/labels/%s: %u in the model, %u in the tree", where, label_of(i), a->label[i],
                                 b->label[i]);
                same = false;
        }
        return same;
}

bool model_equal(struct stress *x, const struct model *want, const struct model *got)
{
        char where[64];
        bool same = true;

        for (int kind = 0; kind < KINDS; kind++) {
                for (int name = 0; name < NAMES; name++) {
                        snprintf(where, sizeof(where), "%s/%s", kind_folder[kind], name_of(name));
                        same &= entry_equal(x, where, &want->at[kind][name], &got->at[kind][name]);
                }
        }
        return same;
}

/* ---- the tree ---- */

static void tree_below(const struct model *m, uint64_t parent, int level, FILE *f)
{
        static const int order[KINDS] = { COMMITTED, ACTIVE, VIEW };

        for (int i = 0; i < KINDS; i++) {
                for (int name = 0; name < NAMES; name++) {
                        const struct entry *e = &m->at[order[i]][name];

                        if (!e->id || e->parent != parent)
                                continue;
                        fprintf(f, "%*s%s%s", level * 2, "", order[i] == COMMITTED ? "" : kind_folder[order[i]],
                                order[i] == COMMITTED ? "" : "/");
                        for (const char *c = name_of(name); *c; c++)
                                fprintf(f, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
                        fputc('\n', f);
                        tree_below(m, e->id, level + 1, f);
                }
        }
}

void model_tree_text(const struct model *m, FILE *f)
{
        tree_below(m, 0, 0, f);
}
