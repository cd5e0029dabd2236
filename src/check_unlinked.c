/* SPDX-License-Identifier: Apache-2.0 */
/* A layer that no link leads to: whether that link is damaged, lost, or was taken away with it. */
#include "check_part.h"

#include "index.h"
#include "link.h"
#include "remove.h"
#include "strata.h"
#include "trash.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* True if layer ID speaks of PLACE as its own, in its record or in one that is staged. */
static bool claims(struct strata *s, uint64_t id, const struct strata_place *place)
{
        struct strata_record staged;
        int r = strata_entry_claims(s, id, place->kind, place->name);

        if (r)
                return r != -ENOENT; /* not known: better believe the link */
        r = strata_record_load_staged(s, id, &staged);
        return r == 0 ? staged.now.kind == place->kind && strcmp(staged.now.name, place->name) == 0
                      : r != -ENOENT && r != -EUCLEAN;
}

int strata_check_relink(struct strata *s, uint64_t id, const struct strata_place *place)
{
        int fd = s->kind_fd[place->kind];
        char target[STRATA_TARGET_MAX];
        const char *tmp = ".relink"; /* no name of an entry: removed by the next examination */

        strata_entry_target(id, target);
        (void)unlinkat(fd, tmp, 0);
        if (symlinkat(target, fd, tmp) < 0)
                return -errno;
        if (renameat(fd, tmp, fd, place->name) < 0) {
                int r = -errno;

                (void)unlinkat(fd, tmp, 0);
                return r;
        }
        strata_index_drop(s->index, id);
        return fsync(fd) < 0 ? -errno : 0;
}

/*
 * A damaged link: at the place that the record names, something leads elsewhere or nowhere, and where it leads nobody
 * knows that place. The record has a checksum and the link has none, so the record is right.
 */
static bool is_link_damaged(struct strata *s, const struct strata_record *rec)
{
        struct stat st;
        uint64_t other;
        int r;

        if (fstatat(s->kind_fd[rec->now.kind], rec->now.name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISLNK(st.st_mode))
                return false;
        r = strata_check_find(s, rec->now.kind, rec->now.name, &other);
        return r == 0 ? other != rec->id && !claims(s, other, &rec->now) : r == -ENOENT;
}

static void drop_mark(struct strata *s, uint64_t parent, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];

        snprintf(path, sizeof(path), "%" PRIu64 "/children/%" PRIu64, parent, id);
        (void)unlinkat(s->layers_fd, path, 0);
}

/* The link is lost, as WHY says, and there is one place for it. NAMES is held. */
static void check_lost(struct strata *s, struct strata_check *c, const struct strata_record *rec, const char *path,
                       const char *why)
{
        int r = STRATA_CHECK_LEFT;

        if (strata_check_is_there(s, s->kind_fd[rec->now.kind], rec->now.name)) {
                (void)strata_check_wants(c, STRATA_CHECK_DAMAGE);
                strata_check_tell(c, r, EUCLEAN, path,
                                  "%s, its link is lost, and something else is called %s/%s: rename that, then repair",
                                  why, strata_kind_folder(rec->now.kind), rec->now.name);
                return;
        }
        if (strata_check_wants(c, STRATA_CHECK_CRASH))
                r = strata_check_relink(s, rec->id, &rec->now);
        strata_check_tell(c, r, EUCLEAN, path, "%s, and its link %s/%s is lost", why, strata_kind_folder(rec->now.kind),
                          rec->now.name);
}

/* A link that leads here from a place that the record does not name. NAMES is held. */
static void check_stray(struct strata *s, struct strata_check *c, const struct strata_record *rec, const char *path,
                        const struct strata_place *stray)
{
        int r = STRATA_CHECK_LEFT;

        if (strata_check_wants(c, STRATA_CHECK_CRASH)) {
                r = renameat2(s->kind_fd[stray->kind], stray->name, s->kind_fd[rec->now.kind], rec->now.name,
                              RENAME_NOREPLACE) < 0
                            ? -errno
                            : 0;
                strata_index_drop(s->index, rec->id);
        }
        strata_check_tell(c, r, EUCLEAN, path, "the link %s/%s leads here, but the record says %s/%s",
                          strata_kind_folder(stray->kind), stray->name, strata_kind_folder(rec->now.kind),
                          rec->now.name);
}

/*
 * Why a layer that no link leads to, and on which nothing stands, is no rubbish all the same; NULL if it is. A removal
 * leaves the link in the layer, so one that is not there either was lost. Of what was never committed that says
 * nothing, as it may never have had a link: but where the folder is lost, all in it are.
 */
static const char *why_lost(struct strata *s, const struct strata_check *c, const struct strata_record *rec)
{
        if (strata_remove_has_begun(s, rec->id))
                return NULL;
        if (c->made_links)
                return "a folder of links was missing";
        if (rec->now.kind == STRATA_COMMITTED && rec->committed.tv_sec)
                return "it was committed, and not removed";
        return NULL;
}

void strata_check_unlinked(struct strata *s, struct strata_check *c, const struct strata_record *rec)
{
        struct strata_place stray = { 0 };
        char path[STRATA_CHECK_PATH_MAX];
        int r = STRATA_CHECK_LEFT, found;
        const char *why;

        strata_check_layer_path(rec->id, "", path);
        if (is_link_damaged(s, rec)) {
                if (strata_check_wants(c, STRATA_CHECK_CRASH))
                        r = strata_check_relink(s, rec->id, &rec->now);
                strata_check_tell(c, r, EUCLEAN, path, "the link %s/%s does not lead here as it should",
                                  strata_kind_folder(rec->now.kind), rec->now.name);
                return;
        }
        found = strata_check_find_link(s, rec->id, &stray);
        if (found > 0) {
                check_stray(s, c, rec, path, &stray);
                return;
        }
        if (found == 0)
                found = strata_entry_has_children(s, rec->id);
        if (found < 0) {
                strata_check_cannot_tell(c, found, path);
                return;
        }
        if (strata_op_is_under_way(s, rec->id))
                return; /* just being removed */
        why = found ? "other layers stand on this one" : why_lost(s, c, rec);
        if (why) {
                check_lost(s, c, rec, path, why);
                return;
        }
        if (strata_check_wants(c, STRATA_CHECK_CRASH)) {
                if (rec->parent)
                        drop_mark(s, rec->parent, rec->id);
                r = strata_trash_layer(s, rec->id);
        }
        strata_check_tell(c, r, 0, path, "no link leads to this layer: a crash left it");
}
