/* SPDX-License-Identifier: Apache-2.0 */
/*
 * To compare a layer with its manifest takes as long as the reading of it, minutes or hours. So nothing is done before
 * somebody reads; the reading has a lane of its own, where nothing else waits; and the request's interrupt, which the
 * kernel sends when its caller is hit by a signal, ends it, also while it waits for the lane. A handle holds nothing
 * but the finished text: one of a dead worker is made anew by its next read.
 */
#include "verify.h"

#include "handle.h"
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
        pthread_mutex_t order; /* held while the text is made, by one read after the other; inner side only */
        pthread_mutex_t lock;  /* protects the rest; a leaf lock, held over memory operations and the reply */
        bool made;             /* TEXT is whole, and stays as it is */
        struct strata_buf text;
};

enum state {
        ARMING,   /* its interrupt is being asked for: nobody but who does that may answer */
        QUEUED,   /* an interrupt answers it */
        RUNNING,  /* an interrupt sets STOP */
        ANSWERED, /* while it was queued: REQ is no more, and O may be none */
};

/* One read that waits for the text; in the program's list from its start to its end. */
struct sfs_verifying {
        struct sfs_job job; /* first */
        struct sfs *sfs;
        fuse_req_t req;
        uint64_t node;
        struct opened *o;
        size_t size;
        off_t off;
        atomic_bool stop;
        _Atomic enum state state;
        int result;
        uint64_t differences;
        char first[512]; /* the first line, for the log */
        struct sfs_verifying *next;
};

static struct opened *opened_new(void)
{
        struct opened *o = calloc(1, sizeof(*o));

        if (!o)
                return NULL;
        pthread_mutex_init(&o->order, NULL);
        pthread_mutex_init(&o->lock, NULL);
        return o;
}

static void opened_free(void *object)
{
        struct opened *o = object;

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
                opened_free(o);
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

static void list_add(struct sfs_verifying *v)
{
        struct sfs *sfs = v->sfs;

        pthread_mutex_lock(&sfs->verifying_lock);
        v->next = sfs->verifying;
        sfs->verifying = v;
        if (sfs->verify_stopped)
                atomic_store(&v->stop, true);
        pthread_mutex_unlock(&sfs->verifying_lock);
}

static void list_remove(struct sfs_verifying *v)
{
        struct sfs *sfs = v->sfs;

        pthread_mutex_lock(&sfs->verifying_lock);
        for (struct sfs_verifying **p = &sfs->verifying; *p; p = &(*p)->next) {
                if (*p == v) {
                        *p = v->next;
                        break;
                }
        }
        pthread_mutex_unlock(&sfs->verifying_lock);
}

void sfs_verify_stop(struct sfs *sfs)
{
        pthread_mutex_lock(&sfs->verifying_lock);
        sfs->verify_stopped = true;
        for (struct sfs_verifying *v = sfs->verifying; v; v = v->next)
                atomic_store(&v->stop, true);
        pthread_mutex_unlock(&sfs->verifying_lock);
}

/* True if V was queued, and is TO now. */
static bool leave_queue(struct sfs_verifying *v, enum state to)
{
        enum state queued = QUEUED;

        return atomic_compare_exchange_strong(&v->state, &queued, to);
}

static void interrupted(fuse_req_t req, void *data)
{
        struct sfs_verifying *v = data;

        atomic_store(&v->stop, true);
        if (leave_queue(v, ANSWERED)) /* V is its job's from here on, which may free it */
                fuse_reply_err(req, EINTR);
}

static int make_text(struct sfs_verifying *v, struct strata_buf *text)
{
        struct strata_info info;
        int r = strata_entry_info(v->sfs->store, sfs_node_id(v->node), &info);

        if (r == 0)
                r = strata_verify(v->sfs->store, &info, &v->stop, text, &v->differences);
        return r;
}

static void run_read(struct sfs_job *job)
{
        struct sfs_verifying *v = (struct sfs_verifying *)job;
        struct strata_buf text = STRATA_BUF_INIT;
        struct opened *o = v->o;

        if (!leave_queue(v, RUNNING))
                return;
        pthread_mutex_lock(&o->order);
        if (!o->made) { /* only changed under ORDER */
                v->result = make_text(v, &text);
                if (v->result == 0) {
                        snprintf(v->first, sizeof(v->first), "%.*s", (int)strcspn(text.data, "\n"), text.data);
                        pthread_mutex_lock(&o->lock);
                        o->text = text;
                        o->made = true;
                        pthread_mutex_unlock(&o->lock);
                }
        }
        pthread_mutex_unlock(&o->order);
        if (v->result < 0)
                strata_buf_free(&text);
}

static void log_result(struct sfs_verifying *v)
{
        char path[SFS_PATH_MAX];

        sfs_op_path(v->sfs, v->node, NULL, path, sizeof(path));
        if (v->result < 0 && v->result != -EINTR)
                strata_log_add(v->sfs->store->log, "read", path, NULL, v->result, "it could not be compared: %s",
                               strerror(-v->result));
        else if (v->differences && strncmp(v->first, "no fingerprints", 15) != 0)
                strata_log_add(v->sfs->store->log, "verify", path, NULL, EUCLEAN,
                               "%" PRIu64 " differences to what was committed, the first: %s", v->differences,
                               v->first);
}

static void done_read(struct sfs_job *job)
{
        struct sfs_verifying *v = (struct sfs_verifying *)job;

        if (atomic_load(&v->state) == ANSWERED) {
                list_remove(v);
                free(v);
                return;
        }
        log_result(v);
        /* From here on no interrupt can come, and V be freed. */
        fuse_req_interrupt_func(v->req, NULL, NULL);
        list_remove(v);
        if (v->result < 0)
                fuse_reply_err(v->req, -v->result);
        else
                (void)reply_text(v->req, v->o, v->size, v->off);
        free(v);
}

/* ---- requests ---- */

/* What FH is; one that a dead worker opened is made anew. NULL when out of memory. */
static struct opened *find(struct sfs *sfs, uint64_t fh)
{
        struct opened *o = sfs_handle_address(sfs, fh);

        if (!o)
                o = sfs_adopted_find(sfs, fh);
        if (o)
                return o;
        o = opened_new();
        return o ? sfs_adopted_add(sfs, fh, o, opened_free) : NULL;
}

void sfs_verify_read(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, size_t size, off_t off)
{
        struct sfs *sfs = sfs_of(req);
        struct opened *o = find(sfs, fi->fh);
        struct sfs_verifying *v;

        if (o && reply_text(req, o, size, off))
                return;
        v = o ? calloc(1, sizeof(*v)) : NULL;
        if (!v) {
                fuse_reply_err(req, ENOMEM);
                return;
        }
        v->job = (struct sfs_job){ run_read, done_read, NULL };
        v->sfs = sfs;
        v->req = req;
        v->node = ino;
        v->o = o;
        v->size = size;
        v->off = off;
        list_add(v);
        fuse_req_interrupt_func(req, interrupted, v);
        atomic_store(&v->state, QUEUED);
        if (atomic_load(&v->stop))
                interrupted(req, v); /* it came while that was being asked for */
        sfs_pool_submit(sfs->pool, SFS_LANE_VERIFY, &v->job);
}

/* The kernel sends it once no read is under way. */
void sfs_verify_release(fuse_req_t req, struct fuse_file_info *fi)
{
        struct sfs *sfs = sfs_of(req);
        struct opened *o = find(sfs, fi->fh);

        sfs_handle_drop(sfs, fi->fh);
        if (o)
                opened_free(o);
        fuse_reply_err(req, 0);
}
