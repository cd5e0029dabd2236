/* SPDX-License-Identifier: Apache-2.0 */
#include "stress.h"

#include "util/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const kind_word[KINDS] = { "active", "view", "committed" };

bool scan_info(struct stress *x, int kind, int name, struct entry *ret, char *parent, size_t size)
{
        char path[PATH_MAX], word[16], updated[40];
        char got_name[NAME_MAX + 2], got_parent[NAME_MAX + 2];
        cleanup_free char *text = NULL;
        struct entry e = { 0 };
        const char *id;
        int n;

        real_path(x, kind, name, "/info", path, sizeof(path));
        n = (int)read_all_at(AT_FDCWD, path, &text);
        if (n < 0) {
                complain(x, "%s: %s", path, strerror(-n));
                return false;
        }
        got_parent[0] = '\0';
        n = sscanf(text, "kind: %15[^\n]\nname: %256[^\n]\nparent: %256[^\n]", word, got_name, got_parent);
        if (n == 3 && strncmp(got_parent, "id: ", 4) == 0)
                got_parent[0] = '\0'; /* %[ passes the newline of an empty one */
        id = strstr(text, "\nid: ");
        if (n < 2 || !id ||
            sscanf(id, "\nid: %" SCNu64 "\ndepth: %u\ncreated: %39[^\n]\nupdated: %39[^\n]", &e.id, &e.depth, e.created,
                   updated) != 4 ||
            strcmp(word, kind_word[kind]) != 0 || strcmp(got_name, name_of(name)) != 0) {
                complain(x, "%s is not what it should be: %s", path, text);
                return false;
        }
        snprintf(parent, size, "%s", got_parent);
        *ret = e;
        return true;
}

/* One file below fs/: whole, and one that is known. */
static void scan_file(struct stress *x, const char *fs, const char *name, struct entry *e)
{
        char path[PATH_MAX + NAME_MAX];
        int r;

        snprintf(path, sizeof(path), "%s/%s", fs, name);
        for (int i = 0; i < FILES; i++) {
                if (strcmp(file_of(i), name) != 0)
                        continue;
                r = read_contents(AT_FDCWD, path, &e->file[i]);
                if (r < 0)
                        complain(x, "%s: %s", path, strerror(-r));
                return;
        }
        complain(x, "%s: nobody has made this", path);
}

static void scan_folder(struct stress *x, const char *fs, const char *below, struct entry *e)
{
        char path[PATH_MAX], name[NAME_MAX * 2];
        struct dirent *de;

        snprintf(path, sizeof(path), "%s/%s", fs, below);
        cleanup_dir DIR *dir = opendir(path);
        if (!dir) {
                complain(x, "%s: %s", path, strerror(errno));
                return;
        }
        while ((errno = 0, de = readdir(dir))) {
                snprintf(name, sizeof(name), "%s%s", below, de->d_name);
                if (de->d_name[0] == '.')
                        continue;
                if (strcmp(name, "d") == 0)
                        e->dir = true;
                else
                        scan_file(x, fs, name, e);
        }
        if (errno)
                complain(x, "%s: %s", path, strerror(errno));
}

static void scan_labels(struct stress *x, const char *entry, struct entry *e)
{
        char path[PATH_MAX];
        struct dirent *de;

        snprintf(path, sizeof(path), "%s/labels", entry);
        cleanup_dir DIR *dir = opendir(path);
        if (!dir) {
                complain(x, "%s: %s", path, strerror(errno));
                return;
        }
        while ((errno = 0, de = readdir(dir))) {
                int i = 0, r;

                if (de->d_name[0] == '.')
                        continue;
                while (i < LABELS && strcmp(label_of(i), de->d_name) != 0)
                        i++;
                r = i == LABELS ? -ENODATA : read_label(dirfd(dir), de->d_name, &e->label[i]);
                if (r < 0)
                        complain(x, "%s/%s: %s", path, de->d_name, strerror(-r));
        }
        if (errno)
                complain(x, "%s: %s", path, strerror(errno));
}

/* The parent, as `info` and `parent` say it. */
static void scan_parent(struct stress *x, const struct model *m, int kind, int name, const char parent[NAME_MAX + 1],
                        struct entry *e)
{
        char path[PATH_MAX], link[NAME_MAX + 32], want[NAME_MAX + 32];
        int i = name_find(parent);
        struct stat st;
        ssize_t n;

        real_path(x, kind, name, "/parent", path, sizeof(path));
        n = readlink(path, link, sizeof(link) - 1);
        if (!parent[0]) {
                if (n >= 0 || errno != ENOENT || e->depth != 1)
                        complain(x, "%s of a base: %s, depth %u", path, n < 0 ? strerror(errno) : "there", e->depth);
                return;
        }
        link[n < 0 ? 0 : n] = '\0';
        snprintf(want, sizeof(want), "../../snapshots/%.255s", parent);
        if (i < 0 || strcmp(link, want) != 0 || stat(path, &st) < 0 || !m->at[COMMITTED][i].id) {
                complain(x, "%s: leads to '%s', where info says %s", path, link, parent);
                return;
        }
        e->parent = m->at[COMMITTED][i].id;
        if (e->depth != m->at[COMMITTED][i].depth + 1)
                complain(x, "%s: depth %u on a parent of depth %u", path, e->depth, m->at[COMMITTED][i].depth);
}

static bool scan_names(struct stress *x, int kind, struct model *m, char parents[NAMES][NAME_MAX + 1])
{
        char path[PATH_MAX];
        struct dirent *de;

        snprintf(path, sizeof(path), "%s/%s", x->mnt, kind_folder[kind]);
        cleanup_dir DIR *dir = opendir(path);
        if (!dir) {
                complain(x, "%s: %s", path, strerror(errno));
                return false;
        }
        while ((errno = 0, de = readdir(dir))) {
                int name = name_find(de->d_name);

                if (de->d_name[0] == '.')
                        continue;
                if (name < 0 || m->at[kind][name].id) {
                        complain(x, "%s/%s is listed %s", path, de->d_name, name < 0 ? "out of nothing" : "twice");
                        continue;
                }
                if (!scan_info(x, kind, name, &m->at[kind][name], parents[name], NAME_MAX + 1))
                        return false;
                if (m->at[kind][name].id > m->last_id)
                        m->last_id = m->at[kind][name].id;
        }
        return true;
}

static void check_keys(struct stress *x, const struct model *m)
{
        for (int name = 0; name < NAMES; name++)
                if (m->at[ACTIVE][name].id && m->at[VIEW][name].id)
                        complain(x, "the key %s is in active/ and in views/", name_of(name));
        for (int i = 0; i < KINDS * NAMES; i++)
                for (int j = 0; j < i; j++)
                        if (model_nth(m, i)->id && model_nth(m, i)->id == model_nth(m, j)->id)
                                complain(x, "id %ju is there twice", (uintmax_t)model_nth(m, i)->id);
}

bool scan(struct stress *x, struct model *ret)
{
        char parents[KINDS][NAMES][NAME_MAX + 1] = { 0 };
        struct model m = { 0 };
        char entry[ENTRY_MAX], fs[ENTRY_MAX];
        unsigned before = x->failed;

        x->quiet_points++;
        for (int kind = 0; kind < KINDS; kind++)
                if (!scan_names(x, kind, &m, parents[kind]))
                        return false;
        for (int kind = 0; kind < KINDS; kind++) {
                for (int name = 0; name < NAMES; name++) {
                        struct entry *e = &m.at[kind][name];

                        if (!e->id)
                                continue;
                        real_path(x, kind, name, "", entry, sizeof(entry));
                        real_path(x, kind, name, "/fs", fs, sizeof(fs));
                        scan_parent(x, &m, kind, name, parents[kind][name], e);
                        scan_folder(x, fs, "", e);
                        if (e->dir)
                                scan_folder(x, fs, "d/", e);
                        scan_labels(x, entry, e);
                }
        }
        check_keys(x, &m);
        scan_texts(x, &m);
        *ret = m;
        return x->failed == before;
}
