/* SPDX-License-Identifier: Apache-2.0 */
#include "stress.h"

#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* The text of a file of the tree; NULL, having complained, when it can't be read. */
static char *text_of(struct stress *x, int kind, int name, const char *file, char *path, size_t size)
{
        char *text = NULL;
        ssize_t n;

        if (name >= 0)
                real_path(x, kind, name, file, path, size);
        else
                snprintf(path, size, "%s%s", x->mnt, file);
        n = read_all_at(AT_FDCWD, path, &text);
        if (n < 0)
                complain(x, "%s: %s", path, strerror((int)-n));
        return n < 0 ? NULL : text;
}

static void must_equal(struct stress *x, const char *path, const char *got, const char *want)
{
        if (got && strcmp(got, want) != 0)
                complain(x, "%s: it should hold\n%s\nand holds\n%s", path, want, got);
}

static void check_tree(struct stress *x, const struct model *m)
{
        cleanup_free char *want = NULL, *got = NULL;
        char path[PATH_MAX];
        size_t len;
        FILE *f = open_memstream(&want, &len);

        if (!f)
                return;
        model_tree_text(m, f);
        fclose(f);
        got = text_of(x, 0, -1, "/tree", path, sizeof(path));
        must_equal(x, path, got, want);
}

static int compare_lines(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In no order that is promised. */
static void sort_lines(const char *text, char *ret, size_t size)
{
        cleanup_free char *copy = strdup(text);
        char *lines[KINDS * NAMES + 1], *save = NULL;
        size_t n = 0;

        ret[0] = '\0';
        if (!copy)
                return;
        for (char *l = strtok_r(copy, "\n", &save); l && n <= KINDS * NAMES; l = strtok_r(NULL, "\n", &save))
                lines[n++] = l;
        qsort(lines, n, sizeof(*lines), compare_lines);
        for (size_t i = 0; i < n; i++)
                snprintf(ret + strlen(ret), size - strlen(ret), "%s\n", lines[i]);
}

static void check_children(struct stress *x, const struct model *m, int name)
{
        char path[PATH_MAX], all[4096] = "", want[4096], got[4096];
        cleanup_free char *text = text_of(x, COMMITTED, name, "/children", path, sizeof(path));

        for (int kind = 0; kind < KINDS; kind++)
                for (int i = 0; i < NAMES; i++)
                        if (m->at[kind][i].id && m->at[kind][i].parent == m->at[COMMITTED][name].id)
                                snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s/%s\n", kind_folder[kind],
                                         name_of(i));
        sort_lines(all, want, sizeof(want));
        if (text)
                sort_lines(text, got, sizeof(got));
        must_equal(x, path, text ? got : NULL, want);
}

static void check_mount(struct stress *x, int kind, int name)
{
        char path[PATH_MAX], want[PATH_MAX + 32];
        cleanup_free char *text = text_of(x, kind, name, "/mount", path, sizeof(path));

        snprintf(want, sizeof(want), "-o rbind,%s %s/%s/%s/fs\n", kind == ACTIVE ? "rw" : "ro", x->mnt,
                 kind_folder[kind], name_of(name));
        must_equal(x, path, text, want);
}

/* As many lower layers as the chain has below the upper one; an empty one stands in where there would be too few. */
static void check_overlay(struct stress *x, int kind, int name, const struct entry *e)
{
        char path[PATH_MAX];
        cleanup_free char *text = text_of(x, kind, name, "/overlay", path, sizeof(path));
        bool own = kind == COMMITTED || (kind == VIEW && !e->parent); /* its own layer is one of the lower ones */
        unsigned layers = 1, want = own ? e->depth : e->depth - 1;
        const char *end;

        if (!text)
                return;
        if (want < 2 && (want == 0 || kind != ACTIVE))
                want++;
        end = strstr(text, ",upperdir=");
        for (const char *c = text; *c && c != end; c++)
                layers += *c == ':';
        if (strncmp(text, "lowerdir=", 9) != 0 || layers != want || !end != (kind != ACTIVE))
                complain(x, "%s: %u layers are below, not %u: %s", path, want, layers, text);
}

static void check_usage(struct stress *x, int kind, int name)
{
        char path[PATH_MAX], rest[2];
        cleanup_free char *text = text_of(x, kind, name, "/usage", path, sizeof(path));
        unsigned long long bytes, inodes;

        if (text && sscanf(text, "%llu %llu%1[\n]", &bytes, &inodes, rest) != 3)
                complain(x, "%s: %s", path, text);
}

static void check_metrics(struct stress *x, const struct model *m)
{
        static const char *const words[KINDS] = { "active", "view", "committed" };
        char path[PATH_MAX], want[64];
        cleanup_free char *text = text_of(x, 0, -1, "/metrics", path, sizeof(path));

        for (int kind = 0; text && kind < KINDS; kind++) {
                int n = 0;

                for (int name = 0; name < NAMES; name++)
                        n += m->at[kind][name].id != 0;
                snprintf(want, sizeof(want), "\nstratafs_snapshots{kind=\"%s\"} %d\n", words[kind], n);
                if (!strstr(text, want))
                        complain(x, "%s: not there: %s", path, want + 1);
        }
        if (text && !strstr(text, "\n# EOF\n"))
                complain(x, "%s is cut off", path);
}

static void check_graph(struct stress *x, const struct model *m)
{
        char path[PATH_MAX], want[64];
        cleanup_free char *text = text_of(x, 0, -1, "/graph.dot", path, sizeof(path));
        int lines = 0, wanted = 3;

        for (int i = 0; text && i < KINDS * NAMES; i++) {
                const struct entry *e = model_nth(m, i);

                if (!e->id)
                        continue;
                wanted += e->parent ? 2 : 1;
                snprintf(want, sizeof(want), "  %ju -> %ju;\n", (uintmax_t)e->id, (uintmax_t)e->parent);
                if (e->parent && !strstr(text, want))
                        complain(x, "%s: not there: %s", path, want);
        }
        for (const char *c = text; c && *c; c++)
                lines += *c == '\n';
        if (text && lines != wanted)
                complain(x, "%s: %d lines, not %d", path, lines, wanted);
}

void scan_texts(struct stress *x, const struct model *m)
{
        char path[PATH_MAX];
        cleanup_free char *log = text_of(x, 0, -1, "/log", path, sizeof(path));
        cleanup_free char *version = text_of(x, 0, -1, "/version", path, sizeof(path));

        if (version && strncmp(version, "program: stratafs ", 18) != 0)
                complain(x, "version: %s", version);
        if (log && log[0] && log[strlen(log) - 1] != '\n')
                complain(x, "the log ends in the middle of a line");
        for (int kind = 0; kind < KINDS; kind++) {
                for (int name = 0; name < NAMES; name++) {
                        if (!m->at[kind][name].id)
                                continue;
                        check_mount(x, kind, name);
                        check_overlay(x, kind, name, &m->at[kind][name]);
                        check_usage(x, kind, name);
                        if (kind == COMMITTED)
                                check_children(x, m, name);
                }
        }
        check_tree(x, m);
        check_graph(x, m);
        check_metrics(x, m);
}
