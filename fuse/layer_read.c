/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer.tar, read: the archive is made as it is read. Who reads in order gets it so; who skips forward, as tail(1)
 * does, gets there by what is in between being made and thrown away; who goes back gets one begun anew, but of an
 * active snapshot, which may have changed since: ESPIPE.
 */
#include "layer.h"
#include "layer_export.h"
#include "metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SKIP_CHUNK 262144

static void run_open(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;

        j->result = strata_export_new(j->sfs->store, &j->l->info, &j->l->out);
}

/* The end of a handle that nobody has any more: what it holds is on the inner side. */
static void run_free(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;
        struct sfs_layer *l = j->l;

        /* Who replied to the last read at once may not have let go yet. */
        pthread_mutex_lock(&l->order);
        strata_export_free(l->out);
        l->out = NULL;
        pthread_mutex_unlock(&l->order);
        strata_metrics_count(j->sfs->store->metrics, STRATA_VERB_EXPORT, l->start, l->result);
}

static void done_free(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;

        if (j->req)
                fuse_reply_err(j->req, 0);
        sfs_layer_unref(j->l);
        sfs_layer_job_free(j);
}

static void done_open(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;

        if (j->result < 0)
                sfs_layer_log(j, "open");
        else
                (void)sfs_layers_add(j->sfs, j->l);
        if (sfs_layer_reply_open(j)) {
                sfs_layer_job_free(j);
                return;
        }
        /* Refused, or its caller was killed: the descriptors go where they are. */
        j->req = NULL;
        j->job.run = run_free;
        j->job.done = done_free;
        j->l->result = j->result;
        sfs_pool_submit(j->sfs->pool, SFS_LANE_LAYER, &j->job);
}

void sfs_layer_open_read(fuse_req_t req, const struct strata_info *info, struct fuse_file_info *fi)
{
        struct sfs_layer_job *j = sfs_layer_open_job(req, info, fi, false, run_open, done_open);

        if (j)
                sfs_pool_submit(j->sfs->pool, SFS_LANE_READ, &j->job);
}

/* ---- reading ---- */

static int begin_anew(struct sfs_layer_job *j)
{
        struct sfs_layer *l = j->l;

        if (!l->out && l->result < 0)
                return l->result; /* opened with a worker that died, and its entry is gone since */
        if (l->info.kind == STRATA_ACTIVE) {
                snprintf(
                        j->why, sizeof(j->why),
                        "an active snapshot may change at any time, so its layer can't be read backwards; copy it, and "
                        "look into the copy");
                return -ESPIPE;
        }
        strata_export_free(l->out);
        l->out = NULL;
        l->pos = 0;
        return strata_export_new(j->sfs->store, &l->info, &l->out);
}

/* -EINTR if nobody waits any more for what J is to bring. */
static int check_wanted(struct sfs_layer_job *j)
{
        return sfs_interrupt_hit(&j->interrupt) || atomic_load(&j->sfs->layers_stopped) ? -EINTR : 0;
}

/* Up to SIZE bytes into BUF, less only at the end. How many, or -errno. */
static ssize_t read_on(struct sfs_layer_job *j, char *buf, size_t size)
{
        struct sfs_layer *l = j->l;
        size_t done = 0;

        while (done < size) {
                ssize_t n;
                int r = 0;

                while (r == 0 && !strata_export_wait(l->out, size - done))
                        r = check_wanted(j);
                if (r < 0)
                        return r;
                n = strata_export_read(l->out, buf + done, size - done);
                if (n < 0) {
                        const char *why = strata_export_why(l->out);

                        snprintf(j->why, sizeof(j->why), "%s", why ? why : "");
                        return n;
                }
                if (n == 0)
                        break;
                done += (size_t)n;
                l->pos += (uint64_t)n;
        }
        strata_metrics_bytes(j->sfs->store->metrics, 0, done);
        return (ssize_t)done;
}

/* Makes POS what is asked for. 1 if it is behind the end. */
static int go_to(struct sfs_layer_job *j)
{
        size_t chunk = j->size > SKIP_CHUNK ? j->size : SKIP_CHUNK;
        struct sfs_layer *l = j->l;
        char *buf = NULL;
        int r = 0;

        if (j->off < l->pos || !l->out)
                r = begin_anew(j);
        if (r == 0 && l->pos < j->off) {
                buf = malloc(chunk);
                r = buf ? 0 : -ENOMEM;
        }
        while (r == 0 && l->pos < j->off) {
                ssize_t n = read_on(j, buf, j->off - l->pos < chunk ? (size_t)(j->off - l->pos) : chunk);

                r = n < 0 ? (int)n : n == 0;
        }
        free(buf);
        return r;
}

static void run_read(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;
        struct sfs_layer *l = j->l;
        char known_diffid[65];
        uint64_t known_size;
        ssize_t n = 0;
        int r;

        pthread_mutex_lock(&l->order);
        r = check_wanted(j);
        /* Nothing has to be made to tell that there is nothing. */
        if (r == 0 && j->off > l->pos && strata_export_known(j->sfs->store, &l->info, &known_size, known_diffid) &&
            j->off >= known_size)
                r = 1;
        if (r == 0 && (j->off != l->pos || !l->out))
                r = go_to(j);
        if (r == 0)
                n = read_on(j, j->data, j->size);
        if (r < 0)
                n = r;
        if (n < 0 && n != -ESPIPE && n != -EINTR)
                l->result = (int)n;
        pthread_mutex_unlock(&l->order);
        j->result = n < 0 ? (int)n : 0;
        j->size = n > 0 ? (size_t)n : 0;
}

static void done_read(struct sfs_job *job)
{
        struct sfs_layer_job *j = (struct sfs_layer_job *)job;

        /* EINTR without a reason is that of a reader who is gone. */
        if (j->result < 0 && (j->result != -EINTR || j->why[0]))
                sfs_layer_log(j, "read");
        sfs_layer_unref(j->l); /* not the last one, if the caller still waits: its file is open */
        if (sfs_interrupt_end(&j->interrupt)) {
                if (j->result < 0)
                        fuse_reply_err(j->req, -j->result);
                else
                        fuse_reply_buf(j->req, j->data, j->size);
        }
        sfs_layer_job_free(j);
}

/* What is made already is given at once, by the FUSE worker itself: two hand-overs less for each piece. */
static bool read_now(fuse_req_t req, struct sfs_layer *l, size_t size, uint64_t off)
{
        const void *data;
        bool is_there;

        if (pthread_mutex_trylock(&l->order) != 0)
                return false;
        is_there = l->out && off == l->pos && strata_export_peek(l->out, size, &data);
        if (is_there) {
                fuse_reply_buf(req, data, size);
                strata_export_skip(l->out, size);
                l->pos += size;
        }
        pthread_mutex_unlock(&l->order);
        return is_there;
}

void sfs_layer_do_read(fuse_req_t req, struct sfs_layer *l, size_t size, off_t off)
{
        struct sfs *sfs = sfs_of(req);
        struct sfs_layer_job *j;

        if (read_now(req, l, size, (uint64_t)off)) {
                strata_metrics_bytes(sfs->store->metrics, 0, size);
                return;
        }
        j = sfs_layer_data_job(req, l, size, off, run_read, done_read);
        if (!j)
                return;
        sfs_layer_ref(l);
        sfs_interrupt_arm(&j->interrupt, req);
        sfs_pool_submit(sfs->pool, SFS_LANE_LAYER, &j->job);
}

void sfs_layer_release_read(fuse_req_t req, struct sfs_layer *l)
{
        struct sfs_layer_job *j = sfs_layer_job(req, l, run_free, done_free);

        if (j)
                sfs_pool_submit(j->sfs->pool, SFS_LANE_LAYER, &j->job);
}
