/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Labels: collected while open, and set in one step when closed. Setting one waits for the disk, so it is a job:
 * however many do it at once, the FUSE workers stay free.
 */
#include "attr.h"
#include "handle.h"
#include "keep.h"
#include "label.h"
#include "labeljob.h"
#include "labelnode.h"
#include "layer.h"
#include "log.h"
#include "loop.h"
#include "metrics.h"
#include "node.h"
#include "ops.h"
#include "pool.h"
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sfs_label_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct sfs *sfs = sfs_of(req);
        struct sfs_handle *h = sfs_handle_new(ino);
        char name[STRATA_NAME_MAX + 1];
        uint64_t id;
        int r = h ? sfs_labels_find(sfs->labels, ino, &id, name) : -ENOMEM;

        if (r == 0 && (fi->flags & O_TRUNC))
                h->dirty = true;
        else if (r == 0)
                r = strata_label_get(sfs->store, id, name, &h->text);
        if (r == -ENOENT)
                r = 0; /* created by somebody else who has not closed it yet */
        if (r < 0) {
                if (h)
                        sfs_handle_free(h);
                return r;
        }
        if ((fi->flags & O_ACCMODE) != O_RDONLY)
                sfs_handle_protect(sfs, h);
        sfs_handle_reply(req, h, fi);
        return 0;
}

/* Makes TEXT LEN bytes long. */
static int set_length(struct strata_buf *text, size_t len)
{
        if (len > STRATA_LABEL_MAX + 1)
                return -EFBIG;
        while (text->len < len && !text->failed)
                strata_buf_add(text, "", 1);
        if (text->data) {
                text->len = len < text->len ? len : text->len;
                text->data[text->len] = '\0';
        }
        return strata_buf_status(text);
}

static void log_label(struct sfs *sfs, uint64_t node, int error)
{
        char path[SFS_PATH_MAX];

        strata_log_add(sfs->store->log, "label", sfs_op_path(sfs, node, NULL, path, sizeof(path)), NULL, error, "%s",
                       error == -EFBIG ? "a label holds at most 65536 bytes; put longer values below fs/"
                                       : strerror(abs(error)));
}

/* The handle of an open label; NULL, having replied, if there is none. */
static struct sfs_handle *handle(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct sfs_handle *h;
        int r = sfs_handle_get(sfs_of(req), ino, fi->fh, &h);

        if (r == 0)
                return h;
        fuse_reply_err(req, -r);
        return NULL;
}

/* Where an append goes: for one that a dead worker took already, where it went then. H's lock is held. */
static size_t append_at(struct sfs_handle *h)
{
        struct sfs_kept_text *t = h->kept;

        if (t && sfs_loop_resent() && t->appended_by == sfs_loop_unique())
                return t->appended_at;
        if (t) {
                t->appended_at = h->text.len;
                t->appended_by = sfs_loop_unique();
        }
        return h->text.len;
}

void sfs_op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
        struct sfs_handle *h;
        size_t at;
        int r = 0;

        if (sfs_node_is_layer(ino)) {
                sfs_layer_write(req, ino, fi, data, size, off);
                return;
        }
        h = handle(req, ino, fi);
        if (!h) {
                return;
        }
        pthread_mutex_lock(&h->lock);
        at = fi->flags & O_APPEND ? append_at(h) : (size_t)off;
        if (at > STRATA_LABEL_MAX + 1 || size > STRATA_LABEL_MAX + 1 - at)
                r = -EFBIG;
        if (r == 0 && h->text.len < at + size)
                r = set_length(&h->text, at + size);
        if (r == 0) {
                memcpy(h->text.data + at, data, size);
                h->dirty = h->written = true;
                sfs_handle_keep(h);
        }
        pthread_mutex_unlock(&h->lock);
        if (r < 0) {
                log_label(sfs_of(req), ino, r);
                fuse_reply_err(req, -r);
        } else {
                fuse_reply_write(req, size);
        }
}

/* ---- jobs ---- */

void sfs_label_touch_entry(struct sfs_label_job *l, uint64_t id)
{
        strata_entry_touch_id(l->sfs->store, id);
        l->touched = id;
}

/* What is to be set. */
struct taken {
        struct strata_buf text;
        uint64_t emptied_at; /* not 0: it was closed then, nothing written; what was set since is to stay */
};

/* Finds NODE and holds the labels of its entry, to be let go also on failure. */
static int hold_label(struct sfs *sfs, uint64_t node, uint64_t *id, char name[STRATA_NAME_MAX + 1])
{
        int r = sfs_labels_find(sfs->labels, node, id, name);

        if (r < 0)
                *id = 0;
        sfs_labels_hold(sfs->labels, *id);
        return r < 0 ? r : sfs_labels_find(sfs->labels, node, id, name); /* renamed or removed in between */
}

/* Sets what hold_label() found. */
static int set_label(struct sfs_label_job *l, uint64_t node, uint64_t id, const char *name,
                     const struct strata_buf *text)
{
        struct timespec start = strata_metrics_start();
        int r = strata_label_set(l->sfs->store, id, name, text->len ? text->data : "", text->len);

        if (r == 0) {
                sfs_labels_was_set(l->sfs->labels, node);
                sfs_label_touch_entry(l, id);
        }
        strata_metrics_count(l->sfs->store->metrics, STRATA_VERB_LABEL, start, r);
        if (r < 0)
                log_label(l->sfs, node, r);
        return r;
}

/* Sets the text of H. Removed while it was open, it is written to nowhere, as on any file system. */
static int set_text(struct sfs_label_job *l, struct sfs_handle *h, const struct taken *t)
{
        char name[STRATA_NAME_MAX + 1];
        uint64_t id;
        int r = hold_label(l->sfs, h->label, &id, name);

        if (r == 0 && (!t->emptied_at || t->emptied_at > sfs_labels_set_at(l->sfs->labels, h->label)))
                r = set_label(l, h->label, id, name, &t->text);
        sfs_labels_let_go(l->sfs->labels, id);
        return r == -ESTALE ? 0 : r;
}

/* True if the label is to be set: if something was written, or if it was only emptied and that was all. */
static bool is_due(struct sfs_handle *h, bool last)
{
        bool ret;

        pthread_mutex_lock(&h->lock);
        ret = h->lost || (h->label && h->dirty && (h->written || last || h->flushes > 1));
        pthread_mutex_unlock(&h->lock);
        return ret;
}

/* Takes a copy of what is to be set; false if there is nothing. */
static bool take_text(struct sfs_handle *h, const struct sfs_label_job *l, struct taken *ret)
{
        if (!is_due(h, l->last))
                return false; /* another close came first */
        pthread_mutex_lock(&h->lock);
        strata_buf_add(&ret->text, h->text.len ? h->text.data : "", h->text.len);
        ret->emptied_at = l->late && !h->written ? h->closed_at : 0;
        h->dirty = h->written = false;
        pthread_mutex_unlock(&h->lock);
        return true;
}

/* What H created and could not set is no label, unless somebody else sets or has set it. */
static void forget_created(struct sfs_label_job *l, const struct sfs_handle *h)
{
        char name[STRATA_NAME_MAX + 1];
        struct timespec mtime;
        uint64_t id, size;
        int r = hold_label(l->sfs, h->label, &id, name);

        if (r == 0 && strata_label_stat(l->sfs->store, id, name, &size, &mtime) == -ENOENT)
                sfs_labels_give_up(l->sfs->labels, h->label);
        sfs_labels_let_go(l->sfs->labels, id);
}

static void run_publish(struct sfs_job *job)
{
        struct sfs_label_job *l = (struct sfs_label_job *)job;
        struct taken t = { STRATA_BUF_INIT, 0 };
        struct sfs_handle *h = l->h;

        pthread_mutex_lock(&h->order);
        if (h->lost) {
                /* Said once: what was written to it went with the process that held it. */
                l->result = -EIO;
                log_label(l->sfs, h->label, -EIO);
                h->lost = false;
        } else if (take_text(h, l, &t)) {
                l->result = strata_buf_status(&t.text);
                if (l->result == 0)
                        l->result = set_text(l, h, &t);
                if (h->created)
                        sfs_labels_end(l->sfs->labels, h->label);
                if (h->created && l->result < 0)
                        forget_created(l, h);
                h->created = false;
                /* Only now: had this process died before, the next one would have had it to set. */
                pthread_mutex_lock(&h->lock);
                sfs_handle_keep(h);
                pthread_mutex_unlock(&h->lock);
        }
        pthread_mutex_unlock(&h->order);
        strata_buf_free(&t.text);
}

/* truncate(2) without an open file. */
static void run_truncate(struct sfs_job *job)
{
        struct sfs_label_job *l = (struct sfs_label_job *)job;
        struct strata_buf text = STRATA_BUF_INIT;
        char name[STRATA_NAME_MAX + 1];
        uint64_t id;
        int r = hold_label(l->sfs, l->node, &id, name);

        /* A damaged one can be emptied all the same. */
        if (r == 0 && l->size)
                r = strata_label_get(l->sfs->store, id, name, &text);
        if (r == 0 || r == -ENOENT)
                r = set_length(&text, (size_t)l->size);
        if (r == 0)
                r = set_label(l, l->node, id, name, &text);
        sfs_labels_let_go(l->sfs->labels, id);
        strata_buf_free(&text);
        l->result = r;
}

void sfs_label_tell_touched(struct sfs_label_job *l)
{
        if (l->touched)
                (void)fuse_lowlevel_notify_inval_inode(l->sfs->se, sfs_node(l->touched, SFS_SLOT_ENTRY), -1, 0);
}

void sfs_label_done_reply(struct sfs_job *job)
{
        struct sfs_label_job *l = (struct sfs_label_job *)job;

        sfs_label_tell_touched(l);
        fuse_reply_err(l->req, -l->result);
        sfs_keep_end(l->note);
        free(l);
}

static void done_release(struct sfs_job *job)
{
        struct sfs_label_job *l = (struct sfs_label_job *)job;

        sfs_handle_free(l->h);
        l->result = 0; /* nobody hears of it any more but the log */
        sfs_label_done_reply(job);
}

static void done_truncate(struct sfs_job *job)
{
        struct sfs_label_job *l = (struct sfs_label_job *)job;

        if (l->result < 0) {
                log_label(l->sfs, l->node, l->result);
                sfs_label_done_reply(job);
                return;
        }
        sfs_label_tell_touched(l);
        sfs_attr_reply(l->req, l->node);
        free(l);
}

struct sfs_label_job *sfs_label_job(fuse_req_t req, uint64_t node, void (*run)(struct sfs_job *),
                                    void (*done)(struct sfs_job *))
{
        struct sfs_label_job *l = calloc(1, sizeof(*l));

        if (!l) {
                fuse_reply_err(req, ENOMEM);
                return NULL;
        }
        l->job.run = run;
        l->job.done = done;
        l->sfs = sfs_of(req);
        l->req = req;
        l->node = node;
        return l;
}

void sfs_label_submit(struct sfs_label_job *l)
{
        sfs_pool_submit(l->sfs->pool, SFS_LANE_LABEL, &l->job);
}

/* ---- requests ---- */

/* Sets the label of a handle if it is due, then replies. */
static void publish(fuse_req_t req, struct sfs_handle *h, bool last, bool late, void (*done)(struct sfs_job *))
{
        struct sfs_label_job *l = sfs_label_job(req, h->label, run_publish, done);

        if (!l)
                return;
        l->h = h;
        l->last = last;
        l->late = late;
        if (is_due(h, last))
                sfs_label_submit(l);
        else
                done(&l->job);
}

void sfs_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct sfs_handle *h;

        if (sfs_node_is_layer(ino)) {
                sfs_layer_flush(req, ino, fi);
                return;
        }
        if (!sfs_node_is_label(ino)) {
                fuse_reply_err(req, 0);
                return;
        }
        h = handle(req, ino, fi);
        if (!h)
                return;
        pthread_mutex_lock(&h->lock);
        if (!h->kept || !sfs_loop_resent() || h->kept->flushed_by != sfs_loop_unique()) {
                h->flushes++;
                h->closed_at = sfs_labels_count(sfs_of(req)->labels);
        }
        if (h->kept) {
                h->kept->flushes = h->flushes;
                h->kept->closed_at = h->closed_at;
                h->kept->flushed_by = sfs_loop_unique();
        }
        pthread_mutex_unlock(&h->lock);
        publish(req, h, false, false, sfs_label_done_reply);
}

void sfs_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
        struct sfs_handle *h;

        (void)datasync;
        if (!sfs_node_is_label(ino)) {
                fuse_reply_err(req, 0); /* what counts is the commit */
                return;
        }
        h = handle(req, ino, fi);
        if (h)
                publish(req, h, true, false, sfs_label_done_reply);
}

void sfs_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct sfs_handle *h;

        if (sfs_node_is_layer(ino)) {
                sfs_layer_release(req, ino, fi);
                return;
        }
        if (sfs_node_is_verify(ino)) {
                sfs_verify_release(req, fi);
                return;
        }
        if (!sfs_node_is_label(ino) && !sfs_handle_find(sfs_of(req), fi->fh)) {
                fuse_reply_err(req, 0); /* a text that a dead worker made, and nobody has read since */
                return;
        }
        h = handle(req, ino, fi);
        if (!h)
                return;
        sfs_handle_drop(sfs_of(req), fi->fh);
        publish(req, h, true, true, done_release);
}

/* Who copies a file tells all its attributes, also those that are as they should be. */
static bool changes_owner(struct sfs *sfs, fuse_ino_t ino, const struct stat *attr, int to_set)
{
        struct stat now;
        double timeout;

        if (!(to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)))
                return false;
        return sfs_attr_get(sfs, ino, &now, &timeout) < 0 ||
               ((to_set & FUSE_SET_ATTR_MODE) && (attr->st_mode ^ now.st_mode) & 07777) ||
               ((to_set & FUSE_SET_ATTR_UID) && attr->st_uid != now.st_uid) ||
               ((to_set & FUSE_SET_ATTR_GID) && attr->st_gid != now.st_gid);
}

/* Times are the store's own: those that somebody gives are passed over. */
static bool is_refused(struct sfs *sfs, fuse_ino_t ino, const struct stat *attr, int to_set)
{
        const int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW |
                          FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_CTIME;

        if ((to_set & times) && !sfs_node_is_label(ino) && !sfs_node_is_labels(ino) && !sfs_node_is_layer(ino))
                return true;
        return ((to_set & FUSE_SET_ATTR_SIZE) && !sfs_node_is_label(ino)) || changes_owner(sfs, ino, attr, to_set);
}

void sfs_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
        struct sfs_label_job *l;
        int r = 0;

        if (is_refused(sfs_of(req), ino, attr, to_set)) {
                r = sfs_op_refuse(sfs_of(req), "setattr", ino, NULL);
        } else if ((to_set & FUSE_SET_ATTR_SIZE) && fi) {
                struct sfs_handle *h = handle(req, ino, fi);

                if (!h)
                        return;
                pthread_mutex_lock(&h->lock);
                r = set_length(&h->text, (size_t)attr->st_size);
                if (r == 0) {
                        h->dirty = h->written = true;
                        sfs_handle_keep(h);
                }
                pthread_mutex_unlock(&h->lock);
                if (r < 0)
                        log_label(sfs_of(req), ino, r);
        } else if (to_set & FUSE_SET_ATTR_SIZE) {
                l = sfs_label_job(req, ino, run_truncate, done_truncate);
                if (l) {
                        l->size = attr->st_size;
                        sfs_label_submit(l);
                }
                return;
        }
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                sfs_attr_reply_open(req, ino, fi);
}
