/* SPDX-License-Identifier: Apache-2.0 */
#include "commit.h"

#include "index.h"
#include "label.h"
#include "link.h"
#include "manifest_make.h"
#include "mount.h"
#include "store.h"
#include "strata.h"
#include "util/timefmt.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The entry's mtime, which is that of its link. */
static int set_time(struct strata *s, const struct strata_info *info, struct timespec t)
{
        const struct timespec times[2] = { t, t };

        if (utimensat(s->kind_fd[info->kind], info->name, times, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        strata_index_drop(s->index, info->id);
        return 0;
}

/* One syncfs covers the layer's files, its record and its directories, whatever the file system. */
static int sync_all(struct strata *s)
{
        return s->config.durable ? strata_store_sync(s) : 0;
}

/*
 * What was computed of the layer while it was a snapshot before: until a commit was taken back whose last sync failed
 * or which the power cut off. It may have been changed since.
 */
static int forget_computed(struct strata *s, uint64_t id)
{
        static const char *const files[] = { "usage", "changes", "export" };
        char path[STRATA_ID_PATH_MAX];

        for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
                snprintf(path, sizeof(path), "%" PRIu64 "/%s", id, files[i]);
                if (unlinkat(s->layers_fd, path, 0) < 0 && errno != ENOENT)
                        return -errno;
        }
        return 0;
}

/* The fingerprints of the layer, and the record that names them, beside the present one. */
static int stage(struct strata *s, struct strata_record *rec, const char **why)
{
        int r = forget_computed(s, rec->id);

        if (r == 0 && s->config.fingerprint) {
                r = strata_manifest_make(s, rec->id, rec->manifest);
                if (r < 0)
                        *why = "its files could not be read, or their fingerprints not written; without those it "
                               "commits under -o fingerprint=off";
        }
        if (r == 0)
                r = strata_record_stage(s, rec, false);
        return r;
}

/* What was staged, gone again. */
static void unstage(struct strata *s, const struct strata_info *info, const struct strata_record *rec)
{
        strata_record_discard(s, rec->id);
        if (rec->manifest[0])
                strata_manifest_discard(s, rec->id);
        (void)set_time(s, info, info->updated);
}

/*
 * After the sync: whether an earlier one, or one at the same time, failed and leaves open what of entry INFO is on the
 * disk. *TRUSTED: its user says that it is to be used all the same.
 */
static int check_synced(struct strata *s, const struct strata_info *info, bool *trusted, const char **why)
{
        int r;

        if (!s->config.durable || info->id >= atomic_load(s->unsynced_below))
                return 0;
        r = strata_mount_is_trusted(s, info->id);
        *trusted = r > 0;
        if (r == 0)
                *why = "the store's disk failed to take a write since this was made, and may have lost files of it: "
                       "look at them, then remove it, or `echo yes > labels/" STRATA_MOUNT_TRUST "` in it and commit";
        return r > 0 ? 0 : r < 0 ? r : -EIO;
}

static int commit_entry(struct strata *s, const struct strata_info *info, const char *name, const char **why)
{
        int cut_off = strata_mount_was_cut_off(s, info->id);
        struct strata_record rec;
        bool trusted = false;
        int r;

        r = strata_link_check_free(s, STRATA_COMMITTED, name, why); /* before any work, and again at the step */
        if (r == 0)
                r = cut_off > 0 ? strata_mount_is_suspect(s, info->id) : cut_off;
        if (r > 0) {
                *why = STRATA_MOUNT_CUT_OFF;
                r = -EUCLEAN;
        }
        if (r < 0)
                return r;
        r = strata_link_record(s, info, STRATA_COMMITTED, name, &rec);
        if (r < 0)
                return r;
        rec.committed = strata_time_now();
        r = stage(s, &rec, why);
        if (r == 0)
                r = set_time(s, info, rec.committed);
        if (r == 0)
                r = sync_all(s);
        if (r == 0)
                r = check_synced(s, info, &trusted, why);
        if (r == 0)
                r = strata_link_move(s, &rec, why);
        if (r < 0)
                unstage(s, info, &rec);
        else if (cut_off)
                strata_mount_forget_cut(s, info->id);
        if (r == 0 && trusted)
                (void)strata_label_remove(s, info->id, STRATA_MOUNT_TRUST);
        return r;
}

int strata_commit(struct strata *s, const char *key, const char *name, const char **why)
{
        struct strata_info info;
        struct strata_op op;
        int r;

        *why = NULL;
        r = strata_name_check(name, why);
        if (r == 0)
                r = strata_op_begin_entry(s, &op, STRATA_ACTIVE, key, &info);
        if (r < 0)
                return r;
        r = commit_entry(s, &info, name, why);
        strata_op_end(s, &op);
        return r;
}
