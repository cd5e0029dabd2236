/* SPDX-License-Identifier: Apache-2.0 */
/* What lies in layers/ID: the files, the marks of children, the labels, and the way down to the base. */
#include "check_part.h"

#include "index.h"
#include "label.h"
#include "link.h"
#include "mount.h"
#include "remove.h"
#include "strata.h"
#include "trash.h"
#include "usage.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/sumfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct layer {
        const struct strata_record *rec;
        const struct strata_place *place;
};

#define PATH_SIZE (STRATA_NAME_MAX + 64)

/* ---- the parent ---- */

static void check_parent(struct strata *s, struct strata_check *c, const struct strata_record *rec, const char *path)
{
        char mark[STRATA_ID_PATH_MAX];
        struct strata_record parent;
        int fd, r;

        if (!rec->parent) {
                if (rec->depth != 1) {
                        (void)strata_check_wants(c, STRATA_CHECK_DAMAGE);
                        strata_check_tell(c, STRATA_CHECK_LEFT, EUCLEAN, path, "it has no parent, yet its depth is %u",
                                          rec->depth);
                }
                return;
        }
        /* IDs grow, so a parent's is the smaller one; where each is, there are no cycles. */
        r = rec->parent >= rec->id ? -ELOOP : strata_record_load(s, rec->parent, &parent);
        if (r == 0 && parent.depth + 1 != rec->depth)
                r = -ERANGE;
        /* A parent whose own record is the trouble is told of as such. */
        if (r == -ELOOP || r == -ERANGE || !strata_check_layer_exists(s, rec->parent)) {
                (void)strata_check_wants(c, STRATA_CHECK_DAMAGE);
                strata_check_tell(c, STRATA_CHECK_LEFT, EUCLEAN, path,
                                  r == -ELOOP    ? "its parent, layer %" PRIu64 ", is younger: the chain is a cycle"
                                  : r == -ERANGE ? "its depth is not one more than that of its parent, layer %" PRIu64
                                                 : "its parent, layer %" PRIu64 ", is missing",
                                  rec->parent);
                if (r != -ERANGE)
                        return;
        }
        snprintf(mark, sizeof(mark), "%" PRIu64 "/children/%" PRIu64, rec->parent, rec->id);
        if (faccessat(s->layers_fd, mark, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
                return;
        r = STRATA_CHECK_LEFT;
        if (strata_check_wants(c, STRATA_CHECK_CRASH)) {
                *strrchr(mark, '/') = '\0';
                (void)mkdirat(s->layers_fd, mark, 0700);
                snprintf(mark, sizeof(mark), "%" PRIu64 "/children/%" PRIu64, rec->parent, rec->id);
                fd = openat(s->layers_fd, mark, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
                r = fd < 0 ? -errno : 0;
                strata_close(fd);
        }
        strata_check_tell(c, r, EUCLEAN, path, "its parent, layer %" PRIu64 ", does not know of it", rec->parent);
}

/* ---- children, labels ---- */

static void check_mark(struct strata *s, struct strata_check *c, int dirfd, const char *name, void *data)
{
        const struct layer *l = data;
        unsigned long long child;
        char path[PATH_SIZE];
        struct strata_record rec;
        int r = STRATA_CHECK_LEFT;

        snprintf(path, sizeof(path), "layers/%" PRIu64 "/children/%s", l->rec->id, name);
        if (!strata_io_parse_u64(name, &child)) {
                strata_check_foreign(s, c, dirfd, name, path, "it is no mark of a child");
                return;
        }
        if (c->below && child >= c->below)
                return;
        if (strata_check_layer_exists(s, child)) {
                r = strata_record_load(s, child, &rec);
                if (r < 0 || rec.parent == l->rec->id)
                        return;
                r = STRATA_CHECK_LEFT;
        }
        /* A removal takes the mark before the layer, perhaps since the folder was read. */
        if (faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
                return;
        if (strata_check_wants(c, STRATA_CHECK_CRASH))
                r = unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
        strata_check_tell(c, r, 0, path, "the mark of a child that is none");
}

/* True if the digits at AT, in the name of a file on its way to its real name, say that this run is writing it. */
static bool is_of_this_run(const struct strata *s, const char *at)
{
        return strtoull(at, NULL, 16) == s->run;
}

static void check_label(struct strata *s, struct strata_check *c, int dirfd, const char *name, void *data)
{
        cleanup_buf struct strata_buf value = STRATA_BUF_INIT;
        const struct layer *l = data;
        char path[PATH_SIZE];
        struct stat st;
        int r = STRATA_CHECK_LEFT;

        snprintf(path, sizeof(path), "layers/%" PRIu64 "/labels/%s", l->rec->id, name);
        if (strata_check_missed(s, fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0) < 0)
                return;
        if (strncmp(name, ".new.", 5) == 0 && S_ISREG(st.st_mode)) {
                /* Another program's can be told by their age alone. */
                if (is_of_this_run(s, name + 5) || (c->live && time(NULL) - st.st_mtime <= 60))
                        return;
                if (strata_check_wants(c, STRATA_CHECK_CRASH))
                        r = unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
                strata_check_tell(c, r, 0, path, "a crash cut the setting of a label off");
        } else if (!S_ISREG(st.st_mode) || strata_name_check(name, NULL) < 0 || st.st_size >= STRATA_LABEL_FILE_MAX) {
                strata_check_foreign(s, c, dirfd, name, path, "it is no label");
        } else {
                r = strata_label_get(s, l->rec->id, name, &value);
                if (r == -EUCLEAN)
                        strata_check_foreign(s, c, dirfd, name, path, "the checksum of this label is wrong");
                else if (strata_check_missed(s, r) < 0 && r != -ENOENT)
                        strata_check_cannot_tell(c, r, path);
        }
}

/* ---- the layer's own files ---- */

static void check_usage(struct strata *s, struct strata_check *c, int dirfd, const struct layer *l, const char *path)
{
        struct strata_info info = { .id = l->rec->id, .kind = STRATA_COMMITTED };
        cleanup_buf struct strata_buf text = STRATA_BUF_INIT;
        struct strata_usage usage;
        int r = STRATA_CHECK_LEFT, error;

        if (strata_usage_known(s, &info, &usage))
                return;
        error = strata_io_read_at(dirfd, "usage", 256, &text);
        if (error == -ENOENT)
                return;
        if (error < 0 && error != -EFBIG && error != -ELOOP) {
                strata_check_cannot_tell(c, strata_check_missed(s, error), path);
                return;
        }
        if (strata_check_wants(c, STRATA_CHECK_CRASH))
                r = unlinkat(dirfd, "usage", 0) < 0 ? -errno : 0;
        strata_check_tell(c, r, EUCLEAN, path, "its checksum is wrong; it is counted anew when asked for");
}

/* What an import that was cut off had made of a layer; one under way holds the claim. */
static void check_import(struct strata *s, struct strata_check *c, int dirfd, const struct layer *l, const char *path)
{
        int r = STRATA_CHECK_LEFT;
        struct strata_op op;

        if (strata_check_missed(s, strata_op_begin(s, &op, l->rec->id)) < 0)
                return;
        if (strata_check_is_there(s, dirfd, "fs.new")) {
                if (strata_check_wants(c, STRATA_CHECK_CRASH))
                        r = strata_trash_part(s, dirfd, "fs.new", l->rec->id);
                strata_check_tell(c, r, 0, path, "a crash cut an import off");
        }
        strata_op_end(s, &op);
}

/* Of an active layer: while it is mounted, and what a kill then leaves. */
static void check_active_mark(struct strata *s, struct strata_check *c, const struct layer *l, const char *path)
{
        int r = STRATA_CHECK_LEFT;
        bool suspect;

        if (!strata_mount_mark_is_damaged(s, path))
                return;
        suspect = strata_mount_was_cut_off(s, l->rec->id) != 0;
        if (strata_check_wants(c, STRATA_CHECK_DAMAGE))
                r = strata_mount_drop_damaged_mark(s, l->rec->id);
        strata_check_tell(c, r, EUCLEAN, path, "its checksum is wrong%s",
                          suspect ? ", so the entry counts as suspect; the label " STRATA_MOUNT_TRUST " ends that"
                                  : "; the next mount makes it anew");
}

/*
 * A commit takes this mark away after its step, unless processes are still in the mount: then it keeps the snapshot
 * from being removed. Without them it says nothing; that they went while no program was there is nobody's mistake, so
 * it goes without a word.
 */
static void check_mounted(struct strata *s, struct strata_check *c, int dirfd, const struct layer *l, const char *path)
{
        int r = STRATA_CHECK_LEFT;
        struct strata_op op;
        bool damaged;
        uint64_t id;

        if (l->place->kind == STRATA_ACTIVE) {
                check_active_mark(s, c, l, path);
                return;
        }
        damaged = strata_mount_mark_is_damaged(s, path);
        if (strata_mount_lives_on(s, l->rec->id)) {
                if (c->mode == STRATA_CHECK_SWEEP) /* the next one may take it away */
                        atomic_store(&s->rubbish, true);
                return;
        }
        if (strata_check_missed(s, strata_op_begin(s, &op, l->rec->id)) < 0)
                return;
        if (strata_check_find(s, l->place->kind, l->place->name, &id) == 0 && id == l->rec->id) {
                if (damaged)
                        (void)strata_check_wants(c, STRATA_CHECK_CRASH);
                if (c->mode != STRATA_CHECK_LOOK)
                        r = unlinkat(dirfd, "mounted", 0) < 0 ? -errno : 0;
                if (damaged || r < 0)
                        strata_check_tell(c, r, EUCLEAN, path, "this mark of a mount %s",
                                          damaged ? "has a wrong checksum" : "that has ended can't be removed");
        }
        strata_op_end(s, &op);
}

/* A removal moves the link here; with the link in its place as well, of the two that one counts. */
static void check_removed(struct strata *s, struct strata_check *c, int dirfd, const struct layer *l, const char *path)
{
        int r = STRATA_CHECK_LEFT;
        struct strata_op op;
        uint64_t id;

        if (strata_check_missed(s, strata_op_begin(s, &op, l->rec->id)) < 0)
                return;
        if (strata_check_find(s, l->place->kind, l->place->name, &id) == 0 && id == l->rec->id) {
                if (strata_check_wants(c, STRATA_CHECK_CRASH))
                        r = unlinkat(dirfd, STRATA_REMOVE_LINK, 0) < 0 ? -errno : 0;
                strata_check_tell(c, r, 0, path, "a crash cut a removal off");
        }
        strata_op_end(s, &op);
}

/* Of what is computed again: `changes` and `export`. */
static void check_sumfile(struct strata *s, struct strata_check *c, int dirfd, const char *name, const char *path)
{
        char text[STRATA_SUMFILE_MAX];
        int r = STRATA_CHECK_LEFT;

        (void)s;
        if (strata_sumfile_read(dirfd, name, text) != -EUCLEAN)
                return;
        if (strata_check_wants(c, STRATA_CHECK_CRASH))
                r = unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
        strata_check_tell(c, r, EUCLEAN, path, "its checksum is wrong; it is made anew when asked for");
}

/* The length of "usage.new" and the like in NAME; 0 when it is another name. */
static size_t new_prefix(const char *name)
{
        static const char *const new[] = { "usage.new", "changes.new", "export.new", "mounted.new" };

        for (size_t i = 0; i < sizeof(new) / sizeof(*new); i++) {
                size_t len = strlen(new[i]);

                if (strncmp(name, new[i], len) == 0 && (!name[len] || name[len] == '.'))
                        return len;
        }
        return 0;
}

/* A file that a crash left on its way to its real name. */
static void check_new_file(struct strata *s, struct strata_check *c, int dirfd, const char *name, const char *path)
{
        const char *run = name + new_prefix(name);
        int r = STRATA_CHECK_LEFT;

        if (*run && is_of_this_run(s, run + 1))
                return;
        if (strata_check_wants(c, STRATA_CHECK_CRASH))
                r = unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
        strata_check_tell(c, r, 0, path, "a crash cut the writing of it off");
}

static bool is_one_of(const char *name, const char *const *names, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (strcmp(name, names[i]) == 0)
                        return true;
        return false;
}

static void check_name(struct strata *s, struct strata_check *c, int dirfd, const char *name, void *data)
{
        static const char *const known[] = { "meta", "meta.new", "fs", "work", "labels", "children" };
        static const char *const sums[] = { "changes", "export" };
        const struct layer *l = data;
        char path[PATH_SIZE];
        int r = STRATA_CHECK_LEFT;

        snprintf(path, sizeof(path), "layers/%" PRIu64 "/%s", l->rec->id, name);
        if (is_one_of(name, known, sizeof(known) / sizeof(*known)))
                return;
        if (is_one_of(name, sums, sizeof(sums) / sizeof(*sums))) {
                check_sumfile(s, c, dirfd, name, path);
        } else if (new_prefix(name)) {
                check_new_file(s, c, dirfd, name, path);
        } else if (strcmp(name, "usage") == 0) {
                check_usage(s, c, dirfd, l, path);
        } else if (strcmp(name, "mounted") == 0) {
                check_mounted(s, c, dirfd, l, path);
        } else if (strcmp(name, "manifest") == 0) {
                strata_check_manifest(s, c, l->rec->id, l->place);
        } else if (strata_mount_is_left_place(name)) {
                if (c->mode == STRATA_CHECK_SWEEP)
                        r = strata_mount_drop_left_place(dirfd, name);
                else if (strata_check_wants(c, STRATA_CHECK_CRASH))
                        r = unlinkat(dirfd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
                if (r != -EBUSY)
                        strata_check_tell(c, r, 0, path, "a crash left this place for a mount");
        } else if (strcmp(name, "fs.new") == 0) {
                check_import(s, c, dirfd, l, path);
        } else if (strcmp(name, STRATA_REMOVE_LINK) == 0) {
                check_removed(s, c, dirfd, l, path);
        } else {
                strata_check_foreign(s, c, dirfd, name, path, "it is no part of a layer");
        }
}

static void check_folder(struct strata *s, struct strata_check *c, const struct layer *l, const char *name,
                         bool can_be_made)
{
        char path[STRATA_ID_PATH_MAX + 8];
        struct stat st;
        int r = STRATA_CHECK_LEFT;

        snprintf(path, sizeof(path), "layers/%" PRIu64 "/%s", l->rec->id, name);
        if (fstatat(s->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ? S_ISDIR(st.st_mode) : errno != ENOENT)
                return;
        if (strata_check_wants(c, STRATA_CHECK_DAMAGE) && can_be_made)
                r = mkdirat(s->root_fd, path, 0700) < 0 ? -errno : 0;
        strata_check_tell(c, r, EUCLEAN, path, "this folder of %s/%s is missing", strata_kind_folder(l->place->kind),
                          l->place->name);
}

void strata_check_contents(struct strata *s, struct strata_check *c, const struct strata_record *rec,
                           const struct strata_place *place)
{
        struct layer l = { rec, place };
        char path[STRATA_ID_PATH_MAX + 8], below[STRATA_ID_PATH_MAX];
        uint64_t found;
        bool linked;

        snprintf(path, sizeof(path), "layers/%" PRIu64, rec->id);
        /* As long as the link is there and NAMES is held, nothing of this is being taken down. */
        pthread_mutex_lock(&s->names);
        linked = strata_check_find(s, place->kind, place->name, &found) == 0 && found == rec->id;
        if (linked) {
                check_parent(s, c, rec, path);
                if (place->kind != STRATA_VIEW || !rec->parent)
                        check_folder(s, c, &l, "fs", false);
                if (place->kind == STRATA_ACTIVE)
                        check_folder(s, c, &l, "work", true);
                if (place->kind == STRATA_COMMITTED)
                        strata_check_manifest_is_there(s, c, rec);
        }
        pthread_mutex_unlock(&s->names);
        if (!linked)
                return; /* moved or removed meanwhile */
        (void)strata_check_each(s->root_fd, path, s, c, check_name, &l);
        snprintf(below, sizeof(below), "%" PRIu64 "/children", rec->id);
        (void)strata_check_each(s->layers_fd, below, s, c, check_mark, &l);
        snprintf(below, sizeof(below), "%" PRIu64 "/labels", rec->id);
        (void)strata_check_each(s->layers_fd, below, s, c, check_label, &l);
}

void strata_check_marks(struct strata *s, struct strata_check *c, const void *what)
{
        const struct strata_record rec = { .id = *(const uint64_t *)what };
        struct layer l = { .rec = &rec };
        char below[STRATA_ID_PATH_MAX];

        snprintf(below, sizeof(below), "%" PRIu64 "/children", rec.id);
        (void)strata_check_each(s->layers_fd, below, s, c, check_mark, &l);
}

/* ---- a lost record ---- */

struct parents {
        uint64_t id;
        uint64_t parent; /* 0: none so far */
        unsigned n;
};

static void ask_parent(struct strata *s, struct strata_check *c, int dirfd, const char *name, void *data)
{
        struct parents *p = data;
        char mark[STRATA_ID_PATH_MAX + 8];
        unsigned long long id;

        (void)s;
        (void)c;
        if (!strata_io_parse_u64(name, &id) || id >= p->id)
                return;
        snprintf(mark, sizeof(mark), "%llu/children/%" PRIu64, id, p->id);
        if (faccessat(dirfd, mark, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
                p->parent = id;
                p->n++;
        }
}

/* The name stands in the link, the parent in that one's mark, and the times are those of the link. */
int strata_check_rebuild(struct strata *s, uint64_t id, struct strata_record *ret)
{
        struct strata_check quiet = { .mode = STRATA_CHECK_LOOK };
        struct strata_record rec = { .id = id, .depth = 1 }, parent;
        struct parents p = { .id = id };
        int r;

        r = strata_check_find_link(s, id, &rec.now);
        if (r <= 0)
                return r < 0 ? r : -EUCLEAN;
        r = strata_check_each(s->layers_fd, ".", s, &quiet, ask_parent, &p);
        if (r < 0 || p.n > 1)
                return r < 0 ? r : -EUCLEAN;
        if (p.parent) {
                r = strata_record_load(s, p.parent, &parent);
                if (r < 0)
                        return r;
                rec.parent = p.parent;
                rec.depth = parent.depth + 1;
        }
        r = strata_record_place_mtime(s, &rec.now, &rec.created);
        if (r < 0)
                return r;
        if (rec.now.kind == STRATA_COMMITTED) {
                rec.committed = rec.created;
                (void)strata_manifest_summarize(s, id, rec.manifest); /* if there is one */
        }
        *ret = rec;
        return 0;
}
