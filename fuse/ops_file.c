/* SPDX-License-Identifier: Apache-2.0 */
/* Texts are made whole at open and read from there. Labels are collected while open and set, in one step, when closed.
 */
#include "attr.h"
#include "ctl.h"
#include "label.h"
#include "labelnode.h"
#include "log.h"
#include "metrics.h"
#include "node.h"
#include "ops.h"
#include "pool.h"
#include "util/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct open_file {
        pthread_mutex_t lock; /* protects TEXT and DIRTY of a label; a leaf lock but for the engine's own */
        struct strata_buf text;
        uint64_t label; /* node of a label, 0 for a text */
        bool created;   /* begun in the table of labels: to be ended once it is set */
        bool dirty;     /* TEXT is not set yet */
        unsigned
                flushes; /* closes of copies of the descriptor so far; with two and nothing written it is to be empty */
        bool written;    /* since it was set last: a shell closes a copy of the descriptor before it writes */
};

static struct open_file *handle_of(struct fuse_file_info *fi)
{
        return (struct open_file *)(uintptr_t)fi->fh;
}

static struct open_file *new_handle(uint64_t label)
{
        struct open_file *h = calloc(1, sizeof(*h));

        if (!h)
                return NULL;
        pthread_mutex_init(&h->lock, NULL);
        h->label = label;
        return h;
}

static void free_handle(struct open_file *h)
{
        strata_buf_free(&h->text);
        pthread_mutex_destroy(&h->lock);
        free(h);
}

static void reply_handle(fuse_req_t req, struct open_file *h, struct fuse_file_info *fi)
{
        fi->fh = (uintptr_t)h;
        fi->direct_io = 1; /* the size that stat shows is no limit */
        if (fuse_reply_open(req, fi) < 0)
                free_handle(h);
}

/* ---- texts ---- */

struct text_job {
        struct sfs_job job; /* first */
        struct sfs *sfs;
        fuse_req_t req;
        struct fuse_file_info fi;
        const struct sfs_ctl *ctl;
        bool in_entry;
        struct strata_info info;
        struct open_file *handle;
        int result;
};

static void run_text(struct sfs_job *job)
{
        struct text_job *t = (struct text_job *)job;

        t->result = t->ctl->show(t->sfs, t->in_entry ? &t->info : NULL, &t->handle->text);
}

static void done_text(struct sfs_job *job)
{
        struct text_job *t = (struct text_job *)job;
        char path[SFS_PATH_MAX];

        if (t->result < 0) {
                uint64_t node = t->in_entry ? sfs_node(t->info.id, t->ctl->slot) : (uint64_t)t->ctl->slot;

                strata_log_add(t->sfs->store->log, "open", sfs_op_path(t->sfs, node, NULL, path, sizeof(path)), NULL,
                               t->result, "can't make this text: %s", strerror(-t->result));
                fuse_reply_err(t->req, -t->result);
                free_handle(t->handle);
        } else {
                reply_handle(t->req, t->handle, &t->fi);
        }
        free(t);
}

static int open_text(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct sfs *sfs = sfs_of(req);
        struct text_job *t = calloc(1, sizeof(*t));
        int r = 0;

        if (!t)
                return -ENOMEM;
        *t = (struct text_job){ .job = { run_text, done_text, NULL }, .sfs = sfs, .req = req, .fi = *fi };
        t->ctl = sfs_ctl_by_slot(sfs_node_slot(ino));
        t->in_entry = sfs_node_id(ino);
        if (!t->ctl || !t->ctl->show)
                r = -EISDIR;
        if (r == 0 && t->in_entry)
                r = strata_entry_info(sfs->store, sfs_node_id(ino), &t->info);
        if (r == 0) {
                t->handle = new_handle(0);
                r = t->handle ? 0 : -ENOMEM;
        }
        if (r < 0) {
                free(t);
                return r;
        }
        if (sfs_ctl_is_slow(sfs, t->ctl, t->in_entry ? &t->info : NULL)) {
                sfs_pool_submit(sfs->pool, SFS_LANE_READ, &t->job);
        } else {
                run_text(&t->job);
                done_text(&t->job);
        }
        return 0;
}

/* ---- labels ---- */

static int open_label(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct sfs *sfs = sfs_of(req);
        struct open_file *h = new_handle(ino);
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
                        free_handle(h);
                return r;
        }
        reply_handle(req, h, fi);
        return 0;
}

void sfs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        int r;

        if (sfs_node_is_label(ino))
                r = open_label(req, ino, fi);
        else if ((fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC))
                r = sfs_op_refuse(sfs_of(req), "open", ino, NULL);
        else
                r = open_text(req, ino, fi);
        if (r < 0)
                fuse_reply_err(req, -r);
}

void sfs_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
        struct sfs *sfs = sfs_of(req);
        struct fuse_entry_param e = { .generation = 1, .entry_timeout = SFS_FOREVER };
        struct timespec now;
        struct open_file *h;
        char path[SFS_PATH_MAX];
        const char *why = NULL;
        uint64_t node;
        int r;

        (void)mode;
        if (!sfs_node_is_labels(parent)) {
                fuse_reply_err(req, -sfs_op_refuse(sfs, "create", parent, name));
                return;
        }
        r = strata_name_check(name, &why);
        if (r == 0)
                r = sfs_labels_lookup(sfs->labels, sfs_node_id(parent), name, &node);
        if (r < 0) {
                strata_log_add(sfs->store->log, "create", sfs_op_path(sfs, parent, name, path, sizeof(path)), NULL, r,
                               "%s", why ? why : strerror(-r));
                fuse_reply_err(req, -r);
                return;
        }
        h = new_handle(node);
        if (!h) {
                sfs_labels_forget(sfs->labels, node, 1);
                fuse_reply_err(req, ENOMEM);
                return;
        }
        h->dirty = h->created = true;
        sfs_labels_begin(sfs->labels, node);
        clock_gettime(CLOCK_REALTIME, &now);
        sfs_attr_of_label(sfs, node, 0, now, &e.attr);
        e.ino = node;
        fi->fh = (uintptr_t)h;
        fi->direct_io = 1;
        if (fuse_reply_create(req, &e, fi) < 0)
                free_handle(h);
}

void sfs_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
        struct open_file *h = handle_of(fi);
        size_t at = (size_t)off;

        (void)ino;
        pthread_mutex_lock(&h->lock);
        if (at >= h->text.len)
                fuse_reply_buf(req, NULL, 0);
        else
                fuse_reply_buf(req, h->text.data + at, size < h->text.len - at ? size : h->text.len - at);
        pthread_mutex_unlock(&h->lock);
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

void sfs_op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
        struct open_file *h = handle_of(fi);
        size_t at;
        int r = 0;

        pthread_mutex_lock(&h->lock);
        at = fi->flags & O_APPEND ? h->text.len : (size_t)off;
        if (at > STRATA_LABEL_MAX + 1 || size > STRATA_LABEL_MAX + 1 - at)
                r = -EFBIG;
        if (r == 0 && h->text.len < at + size)
                r = set_length(&h->text, at + size);
        if (r == 0) {
                memcpy(h->text.data + at, data, size);
                h->dirty = h->written = true;
        }
        pthread_mutex_unlock(&h->lock);
        if (r < 0) {
                log_label(sfs_of(req), ino, r);
                fuse_reply_err(req, -r);
        } else {
                fuse_reply_write(req, size);
        }
}

/* The entry shows the time of its last label: its attributes change with it. */
static void touch_entry(struct sfs *sfs, uint64_t id)
{
        struct strata_info info;

        for (int tries = 0; tries < 3; tries++)
                if (strata_entry_info(sfs->store, id, &info) < 0 || strata_entry_touch(sfs->store, &info) != -ENOENT)
                        break; /* -ENOENT: renamed in between */
        (void)fuse_lowlevel_notify_inval_inode(sfs->se, sfs_node(id, SFS_SLOT_ENTRY), -1, 0);
}

static int set_label(struct sfs *sfs, uint64_t node, const struct strata_buf *text)
{
        struct timespec start = strata_metrics_start();
        char name[STRATA_NAME_MAX + 1];
        uint64_t id;
        int r = sfs_labels_find(sfs->labels, node, &id, name);

        if (r == -ESTALE)
                return 0; /* removed while it was open: written to nowhere, as on any file system */
        if (r == 0)
                r = strata_label_set(sfs->store, id, name, text->len ? text->data : "", text->len);
        if (r == 0)
                touch_entry(sfs, id);
        strata_metrics_count(sfs->store->metrics, STRATA_VERB_LABEL, start, r);
        if (r < 0)
                log_label(sfs, node, r);
        return r;
}

/* Sets the label if something was written, or at the LAST close if it was only emptied. */
static int publish(struct sfs *sfs, struct open_file *h, bool last)
{
        int r = 0;

        pthread_mutex_lock(&h->lock);
        if (h->label && h->dirty && (h->written || last || h->flushes > 1)) {
                r = set_label(sfs, h->label, &h->text);
                h->dirty = h->written = false;
                if (h->created)
                        sfs_labels_end(sfs->labels, h->label);
                h->created = false;
        }
        pthread_mutex_unlock(&h->lock);
        return r;
}

void sfs_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct open_file *h = handle_of(fi);

        (void)ino;
        pthread_mutex_lock(&h->lock);
        h->flushes++;
        pthread_mutex_unlock(&h->lock);
        fuse_reply_err(req, -publish(sfs_of(req), h, false));
}

void sfs_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
        (void)ino;
        (void)datasync;
        fuse_reply_err(req, -publish(sfs_of(req), handle_of(fi), true));
}

void sfs_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        (void)ino;
        (void)publish(sfs_of(req), handle_of(fi), true);
        free_handle(handle_of(fi));
        fuse_reply_err(req, 0);
}

/* truncate(2) without an open file. */
static int truncate_label(struct sfs *sfs, uint64_t node, off_t size)
{
        struct strata_buf text = STRATA_BUF_INIT;
        char name[STRATA_NAME_MAX + 1];
        uint64_t id;
        int r = sfs_labels_find(sfs->labels, node, &id, name);

        if (r == 0)
                r = strata_label_get(sfs->store, id, name, &text);
        if (r == 0 || r == -ENOENT)
                r = set_length(&text, (size_t)size);
        if (r == 0)
                r = set_label(sfs, node, &text);
        strata_buf_free(&text);
        return r;
}

void sfs_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
        const int owner = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
        struct sfs *sfs = sfs_of(req);
        int r = 0;

        if (!sfs_node_is_label(ino) || (to_set & owner)) {
                r = sfs_op_refuse(sfs, "setattr", ino, NULL);
        } else if ((to_set & FUSE_SET_ATTR_SIZE) && fi) {
                struct open_file *h = handle_of(fi);

                pthread_mutex_lock(&h->lock);
                r = set_length(&h->text, (size_t)attr->st_size);
                h->dirty = true;
                pthread_mutex_unlock(&h->lock);
        } else if (to_set & FUSE_SET_ATTR_SIZE) {
                r = truncate_label(sfs, ino, attr->st_size);
        }
        if (r < 0)
                fuse_reply_err(req, -r);
        else
                sfs_attr_reply(req, ino);
}

void sfs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
        struct sfs *sfs = sfs_of(req);
        char path[SFS_PATH_MAX];
        int r;

        if (!sfs_node_is_labels(parent)) {
                fuse_reply_err(req, -sfs_op_refuse(sfs, "unlink", parent, name));
                return;
        }
        r = strata_label_remove(sfs->store, sfs_node_id(parent), name);
        if (r == 0) {
                sfs_labels_remove(sfs->labels, sfs_node_id(parent), name);
                touch_entry(sfs, sfs_node_id(parent));
        } else {
                strata_log_add(sfs->store->log, "unlink", sfs_op_path(sfs, parent, name, path, sizeof(path)), NULL, r,
                               "%s", strerror(-r));
        }
        fuse_reply_err(req, -r);
}
