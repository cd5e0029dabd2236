/* SPDX-License-Identifier: Apache-2.0 */
/* A layer and its link: whether they know each other. */
#include "check_part.h"

#include "index.h"
#include "link.h"
#include "strata.h"
#include "trash.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool strata_check_layer_exists(struct strata *s, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];

        snprintf(path, sizeof(path), "%" PRIu64, id);
        return faccessat(s->layers_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

static bool same_place(const struct strata_place *a, const struct strata_place *b)
{
        return a->kind == b->kind && strcmp(a->name, b->name) == 0;
}

/* 1, 0, or -errno if that can't be told. */
static int leads_to(struct strata *s, const struct strata_place *place, uint64_t id)
{
        uint64_t found;
        int r = place->name[0] ? strata_check_find(s, place->kind, place->name, &found) : -ENOENT;

        return r == -ENOENT ? 0 : r < 0 ? r : found == id;
}

/*
 * Where layer ID is linked by its own account, which strata_record_resolve() takes too; but nothing is changed. 1; 0 if
 * nowhere; -errno if that can't be told.
 */
static int resolve(struct strata *s, uint64_t id, struct strata_record *rec, struct strata_place *ret)
{
        struct strata_record staged;
        int r = leads_to(s, &rec->now, id);

        if (r > 0)
                *ret = rec->now;
        if (r == 0) {
                r = leads_to(s, &rec->was, id);
                if (r > 0)
                        *ret = rec->was;
        }
        if (r)
                return r;
        r = strata_record_load_staged(s, id, &staged);
        if (r < 0)
                return r == -ENOENT || r == -EUCLEAN ? 0 : r;
        r = leads_to(s, &staged.now, id);
        if (r > 0) {
                *rec = staged;
                *ret = staged.now;
        }
        return r;
}

void strata_check_layer_path(uint64_t id, const char *file, char path[STRATA_CHECK_PATH_MAX])
{
        snprintf(path, STRATA_CHECK_PATH_MAX, "layers/%" PRIu64 "%s", id, file);
}

struct search {
        uint64_t id;
        enum strata_kind kind;
        struct strata_place *place;
        bool found;
        int error; /* of a link that can't be read */
};

static void search_link(struct strata *s, struct strata_check *c, int dirfd, const char *name, void *data)
{
        struct search *search = data;
        uint64_t found;

        (void)c;
        int r;

        (void)dirfd;
        if (search->found)
                return;
        r = strata_check_find(s, search->kind, name, &found);
        if (r < 0 && r != -ENOENT)
                search->error = r;
        if (r < 0 || found != search->id)
                return;
        search->found = true;
        search->place->kind = search->kind;
        snprintf(search->place->name, sizeof(search->place->name), "%s", name);
}

int strata_check_find_link(struct strata *s, uint64_t id, struct strata_place *ret)
{
        struct strata_check quiet = { .mode = STRATA_CHECK_LOOK };
        struct search search = { .id = id, .place = ret };

        for (int kind = STRATA_KINDS - 1; kind >= 0 && !search.found; kind--) {
                int r;

                search.kind = kind;
                r = strata_check_each(s->kind_fd[kind], ".", s, &quiet, search_link, &search);
                if (r < 0)
                        search.error = r;
        }
        return search.found ? 1 : search.error;
}

/* True also where that can't be told. */
static bool has_files(struct strata *s, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;
        int r;

        snprintf(path, sizeof(path), "%" PRIu64 "/fs", id);
        r = strata_io_list(s->layers_fd, path, &dir);
        if (r < 0)
                return r != -ENOENT;
        while ((errno = 0, de = readdir(dir)))
                if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
                        return true;
        return errno;
}

/* True if the record of layer ID is not there, or has no contents: it never reached the disk. */
static bool is_record_unwritten(struct strata *s, uint64_t id)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        char path[STRATA_ID_PATH_MAX];
        int r;

        snprintf(path, sizeof(path), "%" PRIu64 "/meta", id);
        r = strata_io_read_at(s->layers_fd, path, 4096, &buf);
        return r == -ENOENT || (r == 0 && (!buf.len || !buf.data[0]));
}

/*
 * A layer whose record can't be read, for ERROR. Of an entry that was never committed nothing was ever synced, and so a
 * power cut may have kept the link and not what the record holds; that is written anew from the rest.
 * NAMES is held.
 */
static void check_unreadable(struct strata *s, struct strata_check *c, uint64_t id, int error)
{
        struct strata_place place = { 0 };
        struct strata_record rec;
        enum strata_check_cause cause = STRATA_CHECK_DAMAGE;
        char path[STRATA_CHECK_PATH_MAX], meta[STRATA_CHECK_PATH_MAX];
        int r = strata_check_find_link(s, id, &place);

        strata_check_layer_path(id, "", path);
        if (r < 0) {
                strata_check_cannot_tell(c, r, path);
                return;
        }
        if (r == 0) {
                r = strata_entry_has_children(s, id);
                if (r < 0) {
                        strata_check_cannot_tell(c, r, path);
                        return;
                }
                if (r > 0) {
                        (void)strata_check_wants(c, STRATA_CHECK_DAMAGE);
                        strata_check_tell(c, STRATA_CHECK_LEFT, EUCLEAN, path,
                                          "its record and its link are lost, but other layers stand on it");
                        return;
                }
                if (has_files(s, id) || c->made_links) {
                        strata_check_foreign(s, c, s->layers_fd, strrchr(path, '/') + 1, path,
                                             has_files(s, id)
                                                     ? "it has no record in order and no link leads to it, but it "
                                                       "holds files"
                                                     : "it has no record in order, and its link may be lost");
                        return;
                }
                r = STRATA_CHECK_LEFT;
                if (strata_check_wants(c, STRATA_CHECK_CRASH))
                        r = strata_trash_layer(s, id);
                strata_check_tell(c, r, 0, path, "it has no record, and no link leads to it: a crash left it");
                return;
        }
        r = STRATA_CHECK_LEFT;
        if (place.kind != STRATA_COMMITTED && is_record_unwritten(s, id))
                cause = STRATA_CHECK_CRASH;
        if (strata_check_wants(c, cause)) {
                r = strata_check_rebuild(s, id, &rec);
                strata_check_layer_path(id, "/meta", meta);
                if (r == 0 && error != -ENOENT && cause == STRATA_CHECK_DAMAGE)
                        r = strata_check_lose(s, s->root_fd, meta, meta, "this record is damaged");
                if (r == 0)
                        r = strata_record_stage(s, &rec, true);
                if (r == 0)
                        r = strata_record_publish(s, id);
                strata_index_drop(s->index, id);
        }
        strata_check_tell(c, r, error, path,
                          "the record of layer %" PRIu64 " is %s; its entry %s/%s can be removed, its files lie in the "
                          "store's layers/%" PRIu64 "/fs",
                          id, error == -ENOENT ? "missing" : "damaged", strata_kind_folder(place.kind), place.name, id);
}

/* The record of a step that did not come: put in place where its link came first, else removed. */
static void check_staged(struct strata *s, struct strata_check *c, uint64_t id)
{
        char path[STRATA_CHECK_PATH_MAX];
        int r = STRATA_CHECK_LEFT;
        bool found;

        snprintf(path, sizeof(path), "%" PRIu64 "/meta.new", id);
        if (!strata_check_is_there(s, s->layers_fd, path))
                return;
        /* No claim, which a mover would see as EBUSY: while a step is under way, the record is that step's. */
        pthread_mutex_lock(&s->names);
        found = !strata_op_is_under_way(s, id) && strata_check_is_there(s, s->layers_fd, path);
        if (found && strata_check_wants(c, STRATA_CHECK_CRASH)) {
                r = strata_record_settle(s, id);
                if (r == 0)
                        strata_record_discard(s, id);
                strata_index_drop(s->index, id);
                if (r >= 0)
                        r = faccessat(s->layers_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : -EIO;
        }
        pthread_mutex_unlock(&s->names);
        if (!found)
                return;
        strata_check_layer_path(id, "/meta.new", path);
        strata_check_tell(c, r, 0, path, "the record of a step that a crash cut off");
}

/* One of the two copies in a record is damaged. NAMES is held; a mover writes both anew. */
static void check_copies(struct strata *s, struct strata_check *c, const struct strata_record *rec)
{
        char path[STRATA_CHECK_PATH_MAX];
        int r = STRATA_CHECK_LEFT;

        if (strata_record_is_whole(s, rec->id) || strata_op_is_under_way(s, rec->id))
                return;
        if (strata_check_wants(c, STRATA_CHECK_CRASH)) {
                r = strata_record_stage(s, rec, true);
                if (r == 0)
                        r = strata_record_publish(s, rec->id);
        }
        strata_check_layer_path(rec->id, "/meta", path);
        strata_check_tell(c, r, EUCLEAN, path, "one of the two copies in this record is damaged");
}

/* Returns 1 if the layer has a link now, *RET. */
static int check_unlinked(struct strata *s, struct strata_check *c, struct strata_record *rec, struct strata_place *ret)
{
        uint64_t before = c->repaired;

        strata_check_unlinked(s, c, rec);
        return c->repaired != before && resolve(s, rec->id, rec, ret) > 0;
}

void strata_check_layer(struct strata *s, struct strata_check *c, const void *what)
{
        uint64_t id = *(const uint64_t *)what;
        struct strata_place place;
        struct strata_record rec;
        char path[STRATA_CHECK_PATH_MAX];
        int r, linked = 0;

        /* First, as of two links of a move that a power cut kept both the new one counts. */
        check_staged(s, c, id);
        pthread_mutex_lock(&s->names);
        r = strata_record_load(s, id, &rec);
        if (r == 0)
                linked = resolve(s, id, &rec, &place);
        strata_check_layer_path(id, "", path);
        if (r == 0 && linked > 0)
                check_copies(s, c, &rec);
        else if (r == 0 && linked == 0)
                linked = check_unlinked(s, c, &rec, &place);
        else if (r == 0 && linked < 0)
                strata_check_cannot_tell(c, linked, path);
        else if (r == -ENOENT && !strata_check_layer_exists(s, id))
                ; /* removed meanwhile */
        else if (r == -ENOENT || r == -EUCLEAN)
                check_unreadable(s, c, id, r);
        else if (r < 0)
                strata_check_cannot_tell(c, r, path);
        pthread_mutex_unlock(&s->names);
        if (linked > 0)
                strata_check_contents(s, c, &rec, &place);
}

/* ---- links ---- */

/* True if the link at PLACE, which leads to a layer, does so by what it holds and not by that layer's record. */
static bool is_whole(struct strata *s, const struct strata_place *place)
{
        char target[2 * STRATA_TARGET_MAX];
        ssize_t n = readlinkat(s->kind_fd[place->kind], place->name, target, sizeof(target) - 1);
        uint64_t id;

        if (n < 0)
                return true; /* gone meanwhile */
        target[n] = '\0';
        return strata_entry_parse_target(target, &id) == 0;
}

static void check_good_link(struct strata *s, struct strata_check *c, const struct strata_place *place, uint64_t id,
                            const char *path)
{
        struct strata_place other;
        struct strata_record rec;
        int r = STRATA_CHECK_LEFT;

        if (c->below && id >= c->below)
                return;
        if (!strata_check_layer_exists(s, id)) {
                if (strata_check_wants(c, STRATA_CHECK_CRASH) && !c->lost_layers)
                        r = unlinkat(s->kind_fd[place->kind], place->name, 0) < 0 ? -errno : 0;
                strata_check_tell(c, r, ENOENT, path, "layer %" PRIu64 " of this entry in %s/ is not in the store%s",
                                  id, strata_kind_folder(place->kind), r == 0 ? ": the entry is removed" : "");
                return;
        }
        if (!is_whole(s, place)) {
                if (strata_check_wants(c, STRATA_CHECK_CRASH))
                        r = strata_check_relink(s, id, place);
                strata_check_tell(c, r, EUCLEAN, path, "a bit of this link to layer %" PRIu64 " is wrong", id);
                return;
        }
        if (strata_record_load(s, id, &rec) < 0 || resolve(s, id, &rec, &other) <= 0 || same_place(place, &other))
                return; /* in order, or told of with its layer */
        if (strata_check_wants(c, STRATA_CHECK_CRASH))
                r = unlinkat(s->kind_fd[place->kind], place->name, 0) < 0 ? -errno : 0;
        strata_check_tell(c, r, EEXIST, path, "an old name of what is %s/%s now", strata_kind_folder(other.kind),
                          other.name);
}

static void check_bad_link(struct strata *s, struct strata_check *c, const struct strata_place *place, const char *path)
{
        static const char why[] = "this link does not lead to a layer";

        if (!c->lost_layers) {
                strata_check_foreign(s, c, s->kind_fd[place->kind], place->name, path, why);
                return;
        }
        (void)strata_check_wants(c, STRATA_CHECK_DAMAGE);
        strata_check_tell(c, STRATA_CHECK_LEFT, EUCLEAN, path, "%s", why);
}

void strata_check_link(struct strata *s, struct strata_check *c, const void *what)
{
        const struct strata_place *place = what;
        int fd = s->kind_fd[place->kind];
        char path[STRATA_NAME_MAX + 32];
        struct stat st;
        uint64_t id;
        int r = STRATA_CHECK_LEFT;

        snprintf(path, sizeof(path), "%s/%s", strata_kind_folder(place->kind), place->name);
        if (fstatat(fd, place->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return; /* gone meanwhile */
        if (strcmp(place->name, ".relink") == 0) {
                if (strata_check_wants(c, STRATA_CHECK_CRASH))
                        r = unlinkat(fd, place->name, 0) < 0 ? -errno : 0;
                strata_check_tell(c, r, 0, path, "a crash cut the mending of a link off");
        } else if (!S_ISLNK(st.st_mode) || strata_name_check(place->name, NULL) < 0) {
                strata_check_foreign(s, c, fd, place->name, path, "it is no link to a layer");
        } else {
                pthread_mutex_lock(&s->names);
                r = strata_check_find(s, place->kind, place->name, &id);
                if (r == 0)
                        check_good_link(s, c, place, id, path);
                else if (r != -ENOENT)
                        strata_check_cannot_tell(c, r, path);
                else if (fstatat(fd, place->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
                        check_bad_link(s, c, place, path);
                pthread_mutex_unlock(&s->names);
        }
}
