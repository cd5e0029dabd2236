/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests: one that no record speaks of, one that is damaged, one that is missing. */
#include "check_part.h"

#include "index.h"
#include "link.h"
#include "manifest.h"
#include "strata.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* The layer can't be compared with anything any more: its record has to say so. */
static int drop_from_record(struct strata *s, const struct strata_record *rec)
{
        struct strata_record now = *rec;
        int r;

        now.manifest[0] = '\0';
        r = strata_record_stage(s, &now, true);
        if (r == 0)
                r = strata_record_publish(s, now.id);
        strata_index_drop(s->index, now.id);
        return r;
}

/*
 * 1 if the manifest is what a commit left that did not come: then it is removed, where that is wanted, and *RESULT is
 * what came of it. 0 if *REC speaks of it; -ENOENT if that can't be told now.
 */
static int check_belongs(struct strata *s, struct strata_check *c, uint64_t id, const struct strata_place *place,
                         struct strata_record *rec, int *result)
{
        char path[STRATA_ID_PATH_MAX];
        uint64_t found;
        int r;

        snprintf(path, sizeof(path), "%" PRIu64 "/manifest", id);
        /* No claim, which a mover would see as EBUSY: while a commit is under way, the manifest is that one's. */
        pthread_mutex_lock(&s->names);
        r = strata_op_is_under_way(s, id) || strata_check_find(s, place->kind, place->name, &found) < 0 || found != id
                    ? -ENOENT
                    : strata_record_load(s, id, rec);
        if (r == 0 &&
            (place->kind != STRATA_COMMITTED || !rec->manifest[0] || !strata_manifest_has_file(rec->manifest))) {
                if (strata_check_wants(c, STRATA_CHECK_CRASH))
                        *result = unlinkat(s->layers_fd, path, 0) < 0 ? -errno : 0;
                r = 1;
        }
        pthread_mutex_unlock(&s->names);
        return r < 0 ? -ENOENT : r;
}

void strata_check_manifest(struct strata *s, struct strata_check *c, uint64_t id, const struct strata_place *place)
{
        char path[STRATA_ID_PATH_MAX + 16], name[STRATA_ID_PATH_MAX];
        struct strata_manifest *m;
        struct strata_record rec;
        int result = STRATA_CHECK_LEFT;
        int r = check_belongs(s, c, id, place, &rec, &result);

        snprintf(path, sizeof(path), "layers/%" PRIu64 "/manifest", id);
        snprintf(name, sizeof(name), "%" PRIu64 "/manifest", id);
        if (r > 0)
                strata_check_tell(c, result, 0, path, "a crash cut the commit off that wrote it");
        if (r != 0 || c->mode == STRATA_CHECK_SWEEP)
                return; /* it may be large: who reads `verify` is told */
        r = strata_manifest_open(s, id, rec.manifest, &m);
        if (r == 0)
                strata_manifest_close(m);
        if (r != -EUCLEAN)
                return;
        if (strata_check_wants(c, STRATA_CHECK_DAMAGE)) {
                result = strata_check_lose(s, s->layers_fd, name, path, "the checksum of this manifest is wrong");
                if (result == 0)
                        result = drop_from_record(s, &rec);
        }
        strata_check_tell(c, result, EUCLEAN, path,
                          "the checksum of this manifest is wrong; the files of snapshots/%s can't be compared with it",
                          place->name);
}

void strata_check_manifest_is_there(struct strata *s, struct strata_check *c, const struct strata_record *rec)
{
        char path[STRATA_ID_PATH_MAX + 16];
        int r = STRATA_CHECK_LEFT;

        snprintf(path, sizeof(path), "layers/%" PRIu64 "/manifest", rec->id);
        if (!rec->manifest[0] || !strata_manifest_has_file(rec->manifest) ||
            faccessat(s->root_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
                return;
        if (strata_check_wants(c, STRATA_CHECK_DAMAGE))
                r = drop_from_record(s, rec);
        strata_check_tell(c, r, EUCLEAN, path, "the manifest that the record speaks of is missing");
}
