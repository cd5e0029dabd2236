/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include "entry.h"
#include "strata.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

struct node {
        uint64_t id;
        uint64_t parent;
        enum strata_kind kind;
        size_t name; /* offset in names */
};

struct forest {
        struct node *nodes; /* in the end by parent, then folder and name: siblings are neighbours */
        size_t n;
        size_t size;
        struct strata_buf names;
};

static void forest_free(struct forest *f)
{
        free(f->nodes);
        strata_buf_free(&f->names);
}

static int forest_add(struct forest *f, const struct strata_info *info)
{
        if (f->n == f->size) {
                size_t size = f->size ? f->size * 2 : 64;
                struct node *nodes = reallocarray(f->nodes, size, sizeof(*nodes));

                if (!nodes)
                        return -ENOMEM;
                f->nodes = nodes;
                f->size = size;
        }
        f->nodes[f->n++] = (struct node){
                .id = info->id,
                .parent = info->parent,
                .kind = info->kind,
                .name = f->names.len,
        };
        strata_buf_add(&f->names, info->name, strlen(info->name) + 1);
        return strata_buf_status(&f->names);
}

static int forest_add_folder(struct strata *s, struct forest *f, enum strata_kind kind)
{
        int fd = openat(s->kind_fd[kind], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *de;

        if (!dir) {
                int r = -errno;

                strata_close(fd);
                return r;
        }
        while ((errno = 0, de = readdir(dir))) {
                struct strata_info info;
                int r;

                if (de->d_name[0] == '.')
                        continue;
                r = strata_entry_get(s, kind, de->d_name, &info);
                if (r == 0)
                        r = forest_add(f, &info);
                if (r == -ENOMEM)
                        return r;
        }
        return -errno;
}

/* The order of kinds among siblings. */
static const int rank[STRATA_KINDS] = { [STRATA_COMMITTED] = 0, [STRATA_ACTIVE] = 1, [STRATA_VIEW] = 2 };

static int compare_nodes(const void *a, const void *b, void *names)
{
        const struct node *x = a, *y = b;

        if (x->parent != y->parent)
                return x->parent < y->parent ? -1 : 1;
        if (x->kind != y->kind)
                return rank[x->kind] - rank[y->kind];
        return strcmp((char *)names + x->name, (char *)names + y->name);
}

static int compare_by_id(const void *a, const void *b)
{
        const struct node *x = a, *y = b;

        return (x->id > y->id) - (x->id < y->id);
}

/* What stands on an entry that can't be read is listed at the top. */
static void adopt_orphans(struct forest *f)
{
        if (!f->n)
                return;
        qsort(f->nodes, f->n, sizeof(*f->nodes), compare_by_id);
        for (size_t i = 0; i < f->n; i++) {
                const struct node key = { .id = f->nodes[i].parent };

                if (key.id && !bsearch(&key, f->nodes, f->n, sizeof(*f->nodes), compare_by_id))
                        f->nodes[i].parent = 0;
        }
}

static int forest_build(struct strata *s, struct forest *f)
{
        int r = 0;

        for (int kind = 0; kind < STRATA_KINDS && r == 0; kind++)
                r = forest_add_folder(s, f, kind);
        if (r == 0)
                adopt_orphans(f);
        if (r == 0 && f->n)
                qsort_r(f->nodes, f->n, sizeof(*f->nodes), compare_nodes, f->names.data);
        return r;
}

/* Index of the first node that stands on PARENT, or f->n. */
static size_t forest_first_child(const struct forest *f, uint64_t parent)
{
        size_t low = 0, high = f->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (f->nodes[middle].parent < parent)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low < f->n && f->nodes[low].parent == parent ? low : f->n;
}

static void add_line(const struct forest *f, const struct node *node, size_t level, struct strata_buf *buf)
{
        for (size_t i = 0; i < level; i++)
                strata_buf_addstr(buf, "  ");
        if (node->kind != STRATA_COMMITTED)
                strata_buf_addf(buf, "%s/", strata_kind_folder(node->kind));
        strata_buf_add_escaped(buf, f->names.data + node->name);
        strata_buf_addstr(buf, "\n");
}

/* Depth first, with the next sibling of each level on a stack: chains may be long. */
static int add_lines(const struct forest *f, struct strata_buf *buf)
{
        size_t *stack = calloc(f->n + 1, sizeof(*stack)), level = 0;

        if (!stack)
                return -ENOMEM;
        stack[0] = forest_first_child(f, 0);
        for (;;) {
                size_t at = stack[level];
                size_t child;

                if (at == f->n) {
                        if (level == 0)
                                break;
                        level--;
                        continue;
                }
                add_line(f, &f->nodes[at], level, buf);
                stack[level] = at + 1 < f->n && f->nodes[at + 1].parent == f->nodes[at].parent ? at + 1 : f->n;
                child = forest_first_child(f, f->nodes[at].id);
                if (child != f->n && level < f->n)
                        stack[++level] = child;
        }
        free(stack);
        return strata_buf_status(buf);
}

int strata_tree_text(struct strata *s, struct strata_buf *buf)
{
        struct forest f = { 0 };
        int r = forest_build(s, &f);

        if (r == 0)
                r = add_lines(&f, buf);
        forest_free(&f);
        return r;
}

static const char *const shapes[STRATA_KINDS] = {
        [STRATA_ACTIVE] = "shape=box,style=dashed",
        [STRATA_VIEW] = "shape=box,style=dotted",
        [STRATA_COMMITTED] = "shape=box",
};

/*
 * NAME within a label in quotes. There Graphviz takes "&...;" for a character as in HTML, and a backslash for the
 * beginning of an escape; a control is to be seen as the file `tree` shows it.
 */
static void add_graph_name(struct strata_buf *buf, const char *name)
{
        bool control;

        for (size_t len; *name; name += len) {
                len = strata_buf_character(name, &control);
                if (*name == '&')
                        strata_buf_addstr(buf, "&amp;");
                else if (*name == '"' || *name == '\\')
                        strata_buf_addf(buf, "\\%c", *name);
                else if (!control)
                        strata_buf_add(buf, name, len);
                else
                        for (size_t i = 0; i < len; i++)
                                strata_buf_addf(buf, "\\\\%03o", (unsigned char)name[i]);
        }
}

int strata_tree_graph(struct strata *s, struct strata_buf *buf)
{
        struct forest f = { 0 };
        int r = forest_build(s, &f);

        if (r == 0) {
                strata_buf_addstr(buf, "digraph stratafs {\n  rankdir=BT;\n");
                for (size_t i = 0; i < f.n; i++) {
                        const struct node *node = &f.nodes[i];

                        strata_buf_addf(buf, "  %" PRIu64 " [label=\"%s/", node->id, strata_kind_folder(node->kind));
                        add_graph_name(buf, f.names.data + node->name);
                        strata_buf_addf(buf, "\",%s];\n", shapes[node->kind]);
                        if (node->parent)
                                strata_buf_addf(buf, "  %" PRIu64 " -> %" PRIu64 ";\n", node->id, node->parent);
                }
                strata_buf_addstr(buf, "}\n");
                r = strata_buf_status(buf);
        }
        forest_free(&f);
        return r;
}
