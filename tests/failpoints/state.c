/* SPDX-License-Identifier: Apache-2.0 */
/* What is there: in the tree, as its user sees it, and in the store, file by file. */
#include "failpoints.h"

#include "util/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const folders[] = { "active", "views", "snapshots" };
#define FOLDERS 3

char *read_file(int dirfd, const char *path)
{
        struct strata_buf buf = STRATA_BUF_INIT;
        int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
        char chunk[4096];
        ssize_t n;

        if (fd < 0)
                return NULL;
        while ((n = read(fd, chunk, sizeof(chunk))) > 0)
                strata_buf_add(&buf, chunk, (size_t)n);
        if (n < 0)
                strata_buf_addf(&buf, "(%s)", errno_name(errno));
        close(fd);
        strata_buf_add(&buf, "", 0);
        return buf.data ? buf.data : strdup("");
}

unsigned long file_size(const char *path)
{
        struct stat st;

        return stat(path, &st) < 0 ? 0 : (unsigned long)st.st_size;
}

/* ---- listings ---- */

struct names {
        char **names;
        size_t n;
};

static bool is_number(const char *s)
{
        return s[strspn(s, "0123456789")] == '\0';
}

/* Numbers by size. */
static int compare(const void *a, const void *b)
{
        const char *x = *(char *const *)a, *y = *(char *const *)b;

        if (is_number(x) && is_number(y) && strlen(x) != strlen(y))
                return strlen(x) < strlen(y) ? -1 : 1;
        return strcmp(x, y);
}

/* False if there is no such directory. */
static bool names_read(int at, const char *path, struct names *ret)
{
        int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *de;

        *ret = (struct names){ 0 };
        if (!dir)
                return false;
        while ((de = readdir(dir))) {
                if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
                        continue;
                ret->names = reallocarray(ret->names, ret->n + 1, sizeof(*ret->names));
                if (!ret->names || !(ret->names[ret->n++] = strdup(de->d_name)))
                        give_up("no memory");
        }
        if (ret->n)
                qsort(ret->names, ret->n, sizeof(*ret->names), compare);
        return true;
}

static void names_free(struct names *l)
{
        for (size_t i = 0; i < l->n; i++)
                free(l->names[i]);
        free(l->names);
}

/* ---- the tree ---- */

/* Without the lines of TEXT that differ each time. */
static void add_rough(struct strata_buf *buf, char *text)
{
        static const char *const skipped[] = { "id: ",   "created: ", "updated: ", "committed: ",
                                               "size: ", "inodes: ",  "diffid: " };

        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
                bool skip = false;

                for (size_t i = 0; i < sizeof(skipped) / sizeof(*skipped); i++)
                        skip = skip || strncmp(line, skipped[i], strlen(skipped[i])) == 0;
                if (!skip)
                        strata_buf_addf(buf, "    %s\n", line);
        }
}

static void add_text(struct strata_buf *buf, int dirfd, const char *path, bool rough)
{
        cleanup_free char *text = read_file(dirfd, path);

        strata_buf_addf(buf, "  %s:%s\n", path, text ? "" : " none");
        if (text && rough)
                add_rough(buf, text);
        else if (text)
                strata_buf_addstr(buf, text);
}

static void add_entry(struct strata_buf *buf, int fd, bool has_children, bool rough)
{
        char target[PATH_MAX], path[PATH_MAX];
        ssize_t n = readlinkat(fd, "parent", target, sizeof(target) - 1);
        struct names labels;

        strata_buf_addf(buf, "  parent: %.*s\n", n > 0 ? (int)n : 4, n > 0 ? target : "none");
        add_text(buf, fd, "info", rough);
        if (has_children)
                add_text(buf, fd, "children", rough);
        if (!names_read(fd, "labels", &labels))
                strata_buf_addf(buf, "  labels: %s\n", errno_name(errno));
        for (size_t i = 0; i < labels.n; i++) {
                snprintf(path, sizeof(path), "labels/%s", labels.names[i]);
                add_text(buf, fd, path, false);
        }
        names_free(&labels);
}

void state_get_tree(struct fail *x, bool rough, struct strata_buf *buf)
{
        cleanup_fd int mnt = open(x->mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        for (unsigned kind = 0; kind < FOLDERS; kind++) {
                cleanup_fd int folder = openat(mnt, folders[kind], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                struct names entries;

                if (!names_read(folder, ".", &entries))
                        strata_buf_addf(buf, "%s: %s\n", folders[kind], errno_name(errno));
                for (size_t i = 0; i < entries.n; i++) {
                        cleanup_fd int fd = openat(folder, entries.names[i], O_PATH | O_DIRECTORY | O_CLOEXEC);

                        strata_buf_addf(buf, "%s/%s%s\n", folders[kind], entries.names[i],
                                        fd < 0 ? errno_name(errno) : "");
                        if (fd >= 0)
                                add_entry(buf, fd, kind == FOLDERS - 1, rough);
                }
                names_free(&entries);
        }
        add_text(buf, mnt, "tree", rough);
}

/* ---- the store ---- */

/* The entry whose link leads to layer ID, "active/k", or "?". */
static void owner_of(int store, const char *id, char ret[PATH_MAX])
{
        char target[PATH_MAX], want[PATH_MAX], path[PATH_MAX];
        struct names entries;

        snprintf(want, sizeof(want), "../layers/%s", id);
        strcpy(ret, "?");
        for (unsigned kind = 0; kind < FOLDERS; kind++) {
                (void)names_read(store, folders[kind], &entries);
                for (size_t i = 0; i < entries.n; i++) {
                        ssize_t n;

                        snprintf(path, sizeof(path), "%s/%s", folders[kind], entries.names[i]);
                        n = readlinkat(store, path, target, sizeof(target) - 1);
                        target[n > 0 ? n : 0] = '\0';
                        if (strcmp(target, want) == 0)
                                strcpy(ret, path);
                }
                names_free(&entries);
        }
}

/* Everything below PATH: types, modes, owners, sizes, contents, times. */
static void add_files(struct strata_buf *buf, int at, const char *path)
{
        struct names l;

        (void)names_read(at, path, &l);
        for (size_t i = 0; i < l.n; i++) {
                char sub[PATH_MAX], target[PATH_MAX] = "";
                struct stat st = { 0 };

                if (strncmp(l.names[i], ".new.", 5) == 0)
                        continue; /* of a label: nobody sees it, and the next start clears it away */
                if (snprintf(sub, sizeof(sub), "%s/%s", path, l.names[i]) >= (int)sizeof(sub))
                        give_up("a path too long");
                (void)fstatat(at, sub, &st, AT_SYMLINK_NOFOLLOW);
                strata_buf_addf(buf, "    %s %o %u:%u %u", sub, st.st_mode, st.st_uid, st.st_gid,
                                (unsigned)(S_ISDIR(st.st_mode) ? 0 : st.st_nlink));
                if (S_ISLNK(st.st_mode) && readlinkat(at, sub, target, sizeof(target) - 1) > 0)
                        strata_buf_addf(buf, " -> %s", target);
                if (S_ISREG(st.st_mode)) {
                        cleanup_free char *text = read_file(at, sub);

                        strata_buf_addf(buf, " %" PRIdMAX " %.200s", (intmax_t)st.st_size, text ? text : "?");
                }
                strata_buf_addstr(buf, "\n");
                if (S_ISDIR(st.st_mode))
                        add_files(buf, at, sub);
        }
        names_free(&l);
}

/* What may be there or not: computed again, or empty, or of a mount. */
static bool is_passing(const char *name)
{
        static const char *const names[] = { "usage", "changes", "export", "mounted", "work", "children", "labels" };

        for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
                if (strcmp(names[i], name) == 0)
                        return true;
        return false;
}

static void add_layer(struct strata_buf *buf, int store, const char *id)
{
        char path[PATH_MAX], owner[PATH_MAX];
        struct names l;

        snprintf(path, sizeof(path), "layers/%s", id);
        owner_of(store, id, owner);
        if (strcmp(owner, "?") == 0)
                return; /* of what was removed; whether it goes away is another question */
        strata_buf_addf(buf, "  layer of %s\n", owner);
        (void)names_read(store, path, &l);
        for (size_t i = 0; i < l.n; i++)
                if (!is_passing(l.names[i]))
                        strata_buf_addf(buf, "    %s\n", l.names[i]);
        names_free(&l);
        snprintf(path, sizeof(path), "layers/%s/children", id);
        (void)names_read(store, path, &l);
        for (size_t i = 0; i < l.n; i++) {
                owner_of(store, l.names[i], owner);
                if (strcmp(owner, "?") != 0) /* a mark of none counts for nothing: docs/format.md */
                        strata_buf_addf(buf, "    child %s\n", owner);
        }
        names_free(&l);
        snprintf(path, sizeof(path), "layers/%s/fs", id);
        if (faccessat(store, path, F_OK, 0) == 0) {
                cleanup_fd int fd = openat(store, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

                add_files(buf, fd, ".");
        }
        snprintf(path, sizeof(path), "layers/%s/labels", id);
        if (faccessat(store, path, F_OK, 0) == 0) {
                cleanup_fd int fd = openat(store, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

                add_files(buf, fd, ".");
        }
}

static void add_store(struct fail *x, struct strata_buf *buf)
{
        cleanup_fd int store = open(x->store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct names l;

        (void)names_read(store, ".", &l);
        for (size_t i = 0; i < l.n; i++) {
                struct stat st;

                /* An empty record of an import that came to its end could not be removed, and counts as none. */
                if (strncmp(l.names[i], "import.", 7) == 0 && fstatat(store, l.names[i], &st, 0) == 0 && !st.st_size)
                        continue;
                if (strcmp(l.names[i], "next") != 0 && strncmp(l.names[i], "mark.", 5) != 0 &&
                    strcmp(l.names[i], "clean") != 0)
                        strata_buf_addf(buf, "store: %s\n", l.names[i]);
        }
        names_free(&l);
        (void)names_read(store, "layers", &l);
        for (size_t i = 0; i < l.n; i++)
                add_layer(buf, store, l.names[i]);
        names_free(&l);
}

void state_get(struct fail *x, bool rough, struct strata_buf *ret)
{
        state_get_tree(x, rough, ret);
        add_store(x, ret);
        if (strata_buf_status(ret) < 0)
                give_up("no memory");
}

/* ---- counts ---- */

static size_t count(int store, const char *folder, struct strata_buf *say)
{
        struct names l;
        size_t n;

        (void)names_read(store, folder, &l);
        n = l.n;
        for (size_t i = 0; i < n && i < 10 && say; i++)
                strata_buf_addf(say, " %s/%s", folder, l.names[i]);
        names_free(&l);
        return n;
}

bool state_is_settled(struct fail *x, bool deleted, struct strata_buf *ret)
{
        cleanup_fd int store = open(x->store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        size_t links = 0, layers, trash;

        for (unsigned kind = 0; kind < FOLDERS; kind++)
                links += count(store, folders[kind], ret);
        layers = count(store, "layers", ret);
        trash = count(store, "trash", ret);
        return links == layers && (!deleted || trash == 0);
}

unsigned state_mounts(struct fail *x)
{
        cleanup_free char *text = read_file(AT_FDCWD, "/proc/self/mountinfo");
        char place[PATH_MAX];
        unsigned n = 0;

        snprintf(place, sizeof(place), " %s", x->mnt);
        for (char *p = text; p && (p = strstr(p, place)); p += strlen(place))
                if (p[strlen(place)] == ' ' || p[strlen(place)] == '/')
                        n++;
        return n;
}

/* ---- the log ---- */

static char *read_log(struct fail *x)
{
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/log", x->mnt);
        return read_file(AT_FDCWD, path);
}

/* Where the last line of TEXT begins. */
static char *last_line(char *text)
{
        char *end = text + strlen(text), *p;

        if (end > text && end[-1] == '\n')
                *--end = '\0';
        p = strrchr(text, '\n');
        return p ? p + 1 : text;
}

void state_log_mark(struct fail *x)
{
        cleanup_free char *text = read_log(x);

        free(x->last_line);
        x->last_line = text && *text ? strdup(last_line(text)) : NULL;
}

void state_log_show(struct fail *x)
{
        cleanup_free char *text = read_log(x);

        if (text)
                diag("log: %s", last_line(text));
}

bool state_log_tells(struct fail *x, int error, struct strata_buf *lines)
{
        cleanup_free char *text = read_log(x);
        char want[64], *p = text;

        snprintf(want, sizeof(want), " %s ", errno_name(error));
        while (p && x->last_line) {
                char *q = strstr(p, x->last_line);

                if (!q)
                        break;
                p = q + strlen(x->last_line);
        }
        if (p)
                strata_buf_addstr(lines, p);
        return p && strstr(p, want);
}
