/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer.tar, written: a layer is applied as it arrives. From open to close the entry is claimed, and fs/ is not
 * mounted: writing below a live overlay is undefined. What close(2) says is what has become of it.
 */
#include "attach.h"
#include "busy.h"
#include "layer.h"
#include "layer_import.h"
#include "metrics.h"
#include "mount.h"
#include "node.h"
#include "place.h"
#include "show.h"
#include "takeover.h"
#include "util/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OPEN_TRIES 2000 /* a millisecond apart */

static void set_why(struct sfs_layer_job *j, const char *why)
{
        if (why)
                snprintf(j->why, sizeof(j->why), "%s", why);
}

/* ---- open ---- */

/* Opens the directory of the claimed entry. A rename that the kernel was just told of takes it a moment. */
static int open_entry(struct sfs_layer_job *j, int *ret)
{
        const struct timespec pause = { .tv_nsec = 1000000 };
        int r;

        for (int tries = 0;; tries++) {
                r = sfs_place_open_entry(j->sfs, j->l->info.kind, j->l->info.name, j->l->info.id, ret);
                if ((r != -ESTALE && r != -ENOENT) || tries == OPEN_TRIES)
                        return r == -ESTALE ? -EBUSY : r;
                nanosleep(&pause, NULL);
                r = strata_entry_info(j->sfs->store, j->l->info.id, &j->l->info);
                if (r < 0)
                        return r;
        }
}

/* Takes away the mount of the claimed entry, if nobody uses it. */
static int take_away(struct sfs_layer_job *j)
{
        struct strata_buf who = STRATA_BUF_INIT;
        cleanup_fd int entry = -1;
        char path[SFS_PLACE_FS_MAX];
        dev_t dev = 0;
        int r = open_entry(j, &entry);

        if (r < 0)
                return r;
        sfs_place_fs(entry, path);
        if (strata_mount_is_attached(path, &dev) > 0) {
                if (strata_busy_elsewhere(dev, &who))
                        r = -EBUSY;
                else
                        r = sfs_attach_unmount(j->sfs->attach, j->l->info.id, path, 0);
        }
        if (r == -EBUSY && !who.len)
                (void)strata_busy_processes(dev, false, &who);
        if (r == -EBUSY)
                snprintf(j->why, sizeof(j->why), "its fs/ is in use: %s; end that first", who.len ? who.data : "?");
        strata_buf_free(&who);
        return r;
}

static int begin(struct sfs_layer_job *j)
{
        struct strata *s = j->sfs->store;
        uint64_t id = j->l->info.id;
        const char *why = NULL;
        int r = strata_entry_info(s, id, &j->l->info); /* it may have been committed before the claim */

        if (r == 0 && j->l->info.kind != STRATA_ACTIVE) {
                set_why(j, "it was committed meanwhile; a snapshot does not change");
                r = -EROFS;
        }
        if (r == 0 && j->mounted)
                r = take_away(j);
        if (r == 0) {
                if (j->mounted)
                        strata_mount_left_all(s, &id, 1);
                j->mounted = false;
                r = strata_mount_lives_on(s, id);
                if (r > 0) {
                        cleanup_free char *text = strata_mount_explain_life(s, &j->l->info);

                        set_why(j, text);
                        r = -EBUSY;
                }
        }
        if (r == 0)
                r = strata_import_new(s, &j->l->info, j->sfs->max_layer, &j->l->in, &why);
        set_why(j, why);
        return r;
}

static void run_open(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;

        j->result = begin(j);
        j->ends = j->result < 0;
}

static void run_undo(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;

        strata_import_free(j->l->in);
        j->l->in = NULL;
}

static void done_undo(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;

        sfs_attach_release(j->sfs->attach, j->l->info.id, false);
        sfs_layer_unref(j->l);
        sfs_layer_job_free(j);
}

/* What was opened is given back: nobody can have it. */
static void undo_open(struct sfs_layer_job *j)
{
        j->job.run = run_undo;
        j->job.done = done_undo;
        sfs_pool_submit(j->sfs->pool, SFS_LANE_LAYER, &j->job);
}

static void done_open(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;

        if (j->result == 0 && !sfs_layers_add(j->sfs, j->l)) {
                fuse_reply_err(j->req, EBUSY); /* the program ends */
                undo_open(j);
                return;
        }
        if (j->result < 0) {
                sfs_layer_log(j, "import");
                strata_metrics_count(j->sfs->store->metrics, STRATA_VERB_IMPORT, j->l->start, j->result);
        } else {
                sfs_attach_import(j->sfs->attach, j->l->info.id);
        }
        if (sfs_layer_reply_open(j)) {
                sfs_layer_job_free(j);
        } else if (j->result < 0) {
                if (j->ends)
                        sfs_attach_release(j->sfs->attach, j->l->info.id, j->mounted);
                sfs_layer_unref(j->l);
                sfs_layer_job_free(j);
        } else { /* its caller was killed */
                undo_open(j);
        }
}

static void run_claim(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;
        enum sfs_claim claim = SFS_CLAIM_BUSY;

        if (sfs_takeover_wait(j->sfs, j->l->info.id))
                claim = sfs_attach_claim_import(j->sfs->attach, j->l->info.id);
        j->mounted = claim == SFS_CLAIM_MOUNTED;
        if (claim == SFS_CLAIM_BARE || claim == SFS_CLAIM_MOUNTED)
                return;
        set_why(j, claim == SFS_CLAIM_IMPORT
                           ? "a layer is being imported into it already; wait for that"
                           : "its fs/ is just being mounted or released, or the program ends; try again");
        j->result = -EBUSY;
}

/* Only from the claim on, what is said of the entry's attributes is not valid for good: now they can be taken back. */
static void done_claim(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;

        if (j->result < 0) {
                done_open(job);
                return;
        }
        sfs_attach_arm(j->sfs->attach, j->l->info.id);
        j->job.run = run_open;
        j->job.done = done_open;
        sfs_pool_submit(j->sfs->pool, SFS_LANE_CHANGE, &j->job);
}

void sfs_layer_open_write(fuse_req_t req, const struct strata_info *info, struct fuse_file_info *fi)
{
        struct sfs_layer_job *j = sfs_layer_open_job(req, info, fi, true, run_claim, done_claim);

        if (j)
                sfs_pool_submit(j->sfs->pool, SFS_LANE_CLAIM, &j->job);
}

/* ---- write ---- */

/* The import has come to its end, good or bad: fs/ can be used again. Of a bad one all is undone. */
static void conclude(struct sfs_layer_job *j)
{
        struct sfs_layer *l = j->l;

        set_why(j, strata_import_why(l->in));
        l->result = j->result;
        strata_import_free(l->in);
        l->in = NULL;
        l->finished = j->ends = true;
        strata_metrics_count(j->sfs->store->metrics, STRATA_VERB_IMPORT, l->start, l->result);
}

static void run_write(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;
        struct sfs_layer *l = j->l;

        pthread_mutex_lock(&l->order);
        if (l->finished) {
                j->result = l->result < 0 ? l->result : -EINVAL;
                set_why(j, l->result < 0
                                   ? "this import has failed before"
                                   : "the layer was complete when a copy of this file was closed; one process has "
                                     "to write all of it");
        } else if (j->off != l->pos) {
                j->result = -ESPIPE;
                conclude(j); /* its writer was told of a failure: nothing is to come of it */
                set_why(j, "a layer is applied as it arrives: it has to be written in order, from its first byte, and "
                           "without holes (cp --sparse=never, or cat); the snapshot is as before");
        } else {
                j->result = strata_import_write(l->in, j->data, j->size);
                if (j->result == 0)
                        l->pos += j->size;
                else
                        conclude(j);
        }
        pthread_mutex_unlock(&l->order);
}

/* The entry's labels and time have changed with an import. */
static void end_import(struct sfs_layer_job *j)
{
        sfs_attach_release(j->sfs->attach, j->l->info.id, false);
        sfs_attach_arm(j->sfs->attach, j->l->info.id);
}

static void done_write(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;

        if (j->result < 0)
                sfs_layer_log(j, "import");
        if (j->ends)
                end_import(j);
        /* The last look at j->l was before: with the reply its writer is free to close it. */
        if (j->result < 0)
                fuse_reply_err(j->req, -j->result);
        else
                fuse_reply_write(j->req, j->size);
        sfs_layer_job_free(j);
}

/* What needs no waiting is taken at once, by the FUSE worker itself: two hand-overs less for each piece. */
static bool write_now(struct sfs_layer *l, const char *data, size_t size, uint64_t off)
{
        bool taken;

        if (pthread_mutex_trylock(&l->order) != 0)
                return false;
        taken = l->in && !l->finished && off == l->pos && strata_import_offer(l->in, data, size) == 0;
        if (taken)
                l->pos += size;
        pthread_mutex_unlock(&l->order);
        return taken;
}

void sfs_layer_do_write(fuse_req_t req, struct sfs_layer *l, const char *data, size_t size, off_t off)
{
        struct sfs_layer_job *j;

        if (write_now(l, data, size, (uint64_t)off)) {
                fuse_reply_write(req, size);
                return;
        }
        j = sfs_layer_data_job(req, l, size, off, run_write, done_write);
        if (!j)
                return;
        memcpy(j->data, data, size);
        sfs_pool_submit(j->sfs->pool, SFS_LANE_LAYER, &j->job);
}

/* ---- close ---- */

/* A shell closes copies of a descriptor before anything is written: only what has begun can end. */
static void run_flush(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;
        struct sfs_layer *l = j->l;

        pthread_mutex_lock(&l->order);
        if (l->finished) {
                j->result = l->result;
        } else if (l->pos) {
                j->result = strata_import_finish(l->in);
                conclude(j);
        }
        pthread_mutex_unlock(&l->order);
}

static void done_flush(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;

        if (j->ends && j->result < 0)
                sfs_layer_log(j, "import");
        if (j->ends)
                end_import(j);
        fuse_reply_err(j->req, -j->result);
        sfs_layer_job_free(j);
}

void sfs_layer_do_flush(fuse_req_t req, struct sfs_layer *l)
{
        struct sfs_layer_job *j;

        if (!l->writing) {
                fuse_reply_err(req, 0);
                return;
        }
        j = sfs_layer_job(req, l, run_flush, done_flush);
        if (j)
                sfs_pool_submit(j->sfs->pool, SFS_LANE_LAYER, &j->job);
}

/* The last close: of what was never written, as the close of what was comes before. */
static void run_release(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;

        if (j->l->finished)
                return;
        j->result = -EINVAL;
        conclude(j);
        set_why(j, "nothing was written: an empty file is no layer; the snapshot is as before");
}

static void done_release(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;

        if (j->ends) {
                sfs_layer_log(j, "import");
                end_import(j);
        }
        fuse_reply_err(j->req, 0);
        sfs_layer_unref(j->l);
        sfs_layer_job_free(j);
}

void sfs_layer_release_write(fuse_req_t req, struct sfs_layer *l)
{
        struct sfs_layer_job *j = sfs_layer_job(req, l, run_release, done_release);

        if (j)
                sfs_pool_submit(j->sfs->pool, SFS_LANE_LAYER, &j->job);
}
