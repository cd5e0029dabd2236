/* SPDX-License-Identifier: Apache-2.0 */
/*
 * To compare a layer with its manifest takes as long as the reading of it, minutes or hours. So nothing is done before
 * somebody reads; the reading has a lane of its own, where nothing else waits; and a killed reader is gone at once,
 * also while it waits for the lane. A handle holds nothing but the finished text: one of a dead worker is made anew by
 * its next read.
 */
#include "verify.h"

#include "handle.h"
#include "interrupt.h"
#include "layer_verify.h"
#include "log.h"
#include "node.h"
#include "ops.h"
#include "pool.h"
#include "util/buf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is open. */
struct opened {
        atomic_uint refs;      /* the open file's, and one a job: that of a killed reader may outlast the file */
        pthread_mutex_t order; /* held while the text is made, by one read after the other; inner side only */
        pthread_mutex_t lock;  /* protects the rest; a leaf lock, held over memory operations and the reply */
        bool made;             /* TEXT is whole, and stays as it is */
        struct strata_buf text;
};

/* One read that waits for the text. */
struct verifying {
        struct sfs_job job; /* first */
        struct sfs *sfs;
        struct sfs_interrupt interrupt;
        uint64_t node;
        struct opened *o;
        size_t size;
        off_t off;
        int result;
        uint64_t differences;
        char first[512]; /* the first line, for the log */
};

static struct opened *opened_new(void)
{
        struct opened *o = calloc(1, sizeof(*o));

        if (!o)
                return NULL;
        atomic_init(&o->refs, 1);
        pthread_mutex_init(&o->order, NULL);
        pthread_mutex_init(&o->lock, NULL);
        return o;
}

static void opened_unref(void *object)
{
        struct opened *o = object;

        if (atomic_fetch_sub(&o->refs, 1) > 1)
                return;
        /* Who replied to the last read may still be on its way out of reply_text(). */
        pthread_mutex_lock(&o->lock);
        pthread_mutex_unlock(&o->lock);
        pthread_mutex_destroy(&o->order);
        pthread_mutex_destroy(&o->lock);
        strata_buf_free(&o->text);
        free(o);
}

int sfs_verify_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct sfs *sfs = sfs_of(req);
        struct strata_info info;
        struct opened *o;
        int r = strata_entry_info(sfs->store, sfs_node_id(ino), &info);

        if (r < 0)
                return r;
        o = opened_new();
        if (!o)
                return -ENOMEM;
        fi->fh = sfs_handle_number(sfs, o, false);
        fi->direct_io = 1; /* the size that stat shows is no limit */
        if (fuse_reply_open(req, fi) < 0)
                opened_unref(o);
        return 0;
}

/*
 * True if the text was there, and a reply is sent. With that the caller is free to close the file, and another thread
 * to release it: that one waits for the lock.
 */
static bool reply_text(fuse_req_t req, struct opened *o, size_t size, off_t off)
{
        size_t at = (size_t)off;
        bool made;

        pthread_mutex_lock(&o->lock);
        made = o->made;
        if (made && at >= o->text.len)
                fuse_reply_buf(req, NULL, 0);
        else if (made)
                fuse_reply_buf(req, o->text.data + at, size < o->text.len - at ? size : o->text.len - at);
        pthread_mutex_unlock(&o->lock);
        return made;
}

/* ---- the job ---- */

static int make_text(struct verifying *v, struct strata_buf *text)
{
        struct strata_info info;
        int r = strata_entry_info(v->sfs->store, sfs_node_id(v->node), &info);

        if (r == 0)
                r = strata_verify(v->sfs->store, &info, text, &v->differences);
        return r;
}

static void run_read(struct sfs_job *job)
{
        struct verifying *v = (struct verifying *)job;
        struct strata_buf text = STRATA_BUF_INIT;
        struct opened *o = v->o;

        pthread_mutex_lock(&o->order);
        if (!sfs_interrupt_work(&v->interrupt)) {
                v->result = -EINTR;
        } else if (!o->made) { /* only changed under ORDER */
                v->result = make_text(v, &text);
                if (v->result == 0) {
                        snprintf(v->first, sizeof(v->first), "%.*s", (int)strcspn(text.data, "\n"), text.data);
                        pthread_mutex_lock(&o->lock);
                        o->text = text;
                        o->made = true;
                        pthread_mutex_unlock(&o->lock);
                }
        }
        (void)sfs_interrupt_work(NULL);
        pthread_mutex_unlock(&o->order);
        if (v->result < 0)
                strata_buf_free(&text);
}

static void log_result(struct verifying *v)
{
        char path[SFS_PATH_MAX];

        sfs_op_path(v->sfs, v->node, NULL, path, sizeof(path));
        if (v->result < 0)
                strata_log_add(v->sfs->store->log, "read", path, NULL, v->result, "it could not be compared: %s",
                               strerror(-v->result));
        else if (v->differences && strncmp(v->first, "no fingerprints", 15) != 0)
                strata_log_add(v->sfs->store->log, "verify", path, NULL, EUCLEAN,
                               "%" PRIu64 " differences to what was committed, the first: %s", v->differences,
                               v->first);
}

static void done_read(struct sfs_job *job)
{
        struct verifying *v = (struct verifying *)job;

        if (v->result != -EINTR)
                log_result(v);
        if (sfs_interrupt_end(&v->interrupt)) {
                if (v->result < 0)
                        fuse_reply_err(v->interrupt.req, -v->result);
                else
                        (void)reply_text(v->interrupt.req, v->o, v->size, v->off);
        }
        opened_unref(v->o);
        free(v);
}

/* ---- requests ---- */

/* What FH is; one that a dead worker opened is made anew. NULL when out of memory. */
static struct opened *find(struct sfs *sfs, uint64_t fh)
{
        struct opened *o = sfs_handle_find(sfs, fh);

        if (o)
                return o;
        o = opened_new();
        return o ? sfs_adopted_add(sfs, fh, o, opened_unref) : NULL;
}

void sfs_verify_read(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, size_t size, off_t off)
{
        struct sfs *sfs = sfs_of(req);
        struct opened *o = find(sfs, fi->fh);
        struct verifying *v;

        if (o && reply_text(req, o, size, off))
                return;
        v = o ? calloc(1, sizeof(*v)) : NULL;
        if (!v) {
                fuse_reply_err(req, ENOMEM);
                return;
        }
        v->job = (struct sfs_job){ run_read, done_read, NULL };
        v->sfs = sfs;
        v->node = ino;
        v->o = o;
        v->size = size;
        v->off = off;
        atomic_fetch_add(&o->refs, 1);
        sfs_interrupt_arm(&v->interrupt, req);
        sfs_pool_submit(sfs->pool, SFS_LANE_VERIFY, &v->job);
}

void sfs_verify_release(fuse_req_t req, struct fuse_file_info *fi)
{
        struct sfs *sfs = sfs_of(req);
        struct opened *o = sfs_handle_find(sfs, fi->fh);

        sfs_handle_drop(sfs, fi->fh);
        if (o)
                opened_unref(o);
        fuse_reply_err(req, 0);
}
