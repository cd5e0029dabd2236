/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The texts of the control tree: made whole at open, and read from there. One that a dead worker opened is made again
 * by its next read, in the same way.
 */
#include "ctl.h"
#include "handle.h"
#include "interrupt.h"
#include "layer.h"
#include "log.h"
#include "node.h"
#include "ops.h"
#include "pool.h"
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* ---- texts ---- */

/* An OPEN; or a READ of what a dead worker opened. */
struct text_job {
        struct sfs_job job; /* first */
        struct sfs *sfs;
        fuse_req_t req;
        struct fuse_file_info fi;
        bool again; /* a READ, of SIZE bytes at OFF */
        size_t size;
        off_t off;
        struct sfs_interrupt interrupt; /* armed for those that go to the pool */
        const struct sfs_ctl *ctl;
        bool in_entry;
        struct strata_info info;
        struct sfs_handle *handle;
        int result;
};

static void make_text(struct text_job *t)
{
        t->result = t->ctl->show(t->sfs, t->in_entry ? &t->info : NULL, &t->handle->text);
}

static void run_text(struct sfs_job *job)
{
        struct text_job *t = (struct text_job *)job;

        t->result = -EINTR;
        if (sfs_interrupt_work(&t->interrupt)) /* it waited for the lane */
                make_text(t);
        (void)sfs_interrupt_work(NULL);
}

/* The lock is what the end of the handle waits for: with the reply another thread is free to release the file. */
static void reply_piece(fuse_req_t req, struct sfs_handle *h, size_t size, off_t off)
{
        size_t at = (size_t)off;

        pthread_mutex_lock(&h->lock);
        if (at >= h->text.len)
                fuse_reply_buf(req, NULL, 0);
        else
                fuse_reply_buf(req, h->text.data + at, size < h->text.len - at ? size : h->text.len - at);
        pthread_mutex_unlock(&h->lock);
}

/* The text is that of the open file from now on, unless another read was faster. */
static void give_again(struct text_job *t)
{
        struct sfs_handle *h = sfs_handle_adopt(t->sfs, t->fi.fh, t->handle);

        if (h)
                reply_piece(t->req, h, t->size, t->off);
        else
                fuse_reply_err(t->req, ENOMEM);
}

/* Owns T. */
static void give_text(struct text_job *t)
{
        char path[SFS_PATH_MAX];

        if (t->result < 0) {
                uint64_t node = t->in_entry ? sfs_node(t->info.id, t->ctl->slot) : (uint64_t)t->ctl->slot;

                strata_log_add(t->sfs->store->log, t->again ? "read" : "open",
                               sfs_op_path(t->sfs, node, NULL, path, sizeof(path)), NULL, t->result,
                               "can't make this text: %s", strerror(-t->result));
                fuse_reply_err(t->req, -t->result);
                sfs_handle_free(t->handle);
        } else if (t->again) {
                give_again(t);
        } else {
                sfs_handle_reply(t->req, t->handle, &t->fi);
        }
        free(t);
}

static void done_text(struct sfs_job *job)
{
        struct text_job *t = (struct text_job *)job;

        if (sfs_interrupt_end(&t->interrupt)) {
                give_text(t);
                return;
        }
        sfs_handle_free(t->handle);
        free(t);
}

/* What T is filled in for: AGAIN, SIZE and OFF. */
static int begin_text(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, const struct text_job *how)
{
        struct sfs *sfs = sfs_of(req);
        struct text_job *t = malloc(sizeof(*t));
        int r = 0;

        if (!t)
                return -ENOMEM;
        *t = *how;
        t->job = (struct sfs_job){ run_text, done_text, NULL };
        t->sfs = sfs;
        t->req = req;
        t->fi = *fi;
        t->ctl = sfs_ctl_by_slot(sfs_node_slot(ino));
        t->in_entry = sfs_node_id(ino);
        if (!t->ctl || !t->ctl->show)
                r = -EISDIR;
        if (r == 0 && t->in_entry)
                r = strata_entry_info(sfs->store, sfs_node_id(ino), &t->info);
        if (r == 0) {
                t->handle = sfs_handle_new(0);
                r = t->handle ? 0 : -ENOMEM;
        }
        if (r < 0) {
                free(t);
                return r;
        }
        if (sfs_ctl_is_slow(sfs, t->ctl, t->in_entry ? &t->info : NULL)) {
                sfs_interrupt_arm(&t->interrupt, req);
                sfs_pool_submit(sfs->pool, t->ctl->cost == SFS_COST_WALK ? SFS_LANE_READ : SFS_LANE_WALK, &t->job);
        } else {
                make_text(t);
                give_text(t);
        }
        return 0;
}

void sfs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        int r;

        if (sfs_node_is_label(ino))
                r = sfs_label_open(req, ino, fi);
        else if (sfs_node_is_layer(ino))
                r = sfs_layer_open(req, ino, fi);
        else if ((fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC))
                r = sfs_op_refuse(sfs_of(req), "open", ino, NULL);
        else if (sfs_node_is_verify(ino))
                r = sfs_verify_open(req, ino, fi);
        else
                r = begin_text(req, ino, fi, &(struct text_job){ .again = false });
        if (r < 0 && r != -EPERM && r != -EROFS && r != -EINVAL) /* those are told of already */
                sfs_op_log_error(sfs_of(req), "open", ino, NULL, r);
        if (r < 0)
                fuse_reply_err(req, -r);
}

void sfs_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
        struct sfs_handle *h = NULL;
        int r = 0;

        if (sfs_node_is_layer(ino)) {
                sfs_layer_read(req, ino, fi, size, off);
                return;
        }
        if (sfs_node_is_verify(ino)) {
                sfs_verify_read(req, ino, fi, size, off);
                return;
        }
        if (sfs_node_is_label(ino))
                r = sfs_handle_get(sfs_of(req), ino, fi->fh, &h);
        else
                h = sfs_handle_find(sfs_of(req), fi->fh);
        if (r == 0 && !h) {
                r = begin_text(req, ino, fi, &(struct text_job){ .again = true, .size = size, .off = off });
                r = r == -ESTALE ? -ENOENT : r; /* its entry was removed meanwhile */
        } else if (r == 0) {
                reply_piece(req, h, size, off);
        }
        if (r < 0) {
                sfs_op_log_error(sfs_of(req), "read", ino, NULL, r);
                fuse_reply_err(req, -r);
        }
}
