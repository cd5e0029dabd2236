/* SPDX-License-Identifier: Apache-2.0 */
/* Names of labels: creation; and removal and renaming, each a job. */
#include "attr.h"
#include "handle.h"
#include "keep.h"
#include "label.h"
#include "labeljob.h"
#include "labelnode.h"
#include "log.h"
#include "loop.h"
#include "name.h"
#include "node.h"
#include "ops.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void sfs_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
        struct sfs *sfs = sfs_of(req);
        struct fuse_entry_param e = { .generation = 1, .entry_timeout = SFS_FOREVER };
        struct timespec now;
        struct sfs_handle *h;
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
        h = sfs_handle_new(node);
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
        sfs_handle_protect(sfs, h);
        fi->fh = sfs_handle_publish(sfs, h, true);
        fi->direct_io = 1;
        if (fuse_reply_create(req, &e, fi) < 0)
                sfs_handle_free(h);
}

/* A label that was created, and whose close is not through yet: it is not in the store, but there for everybody. */
static bool is_begun(struct sfs_label_job *l, uint64_t id, const char *name)
{
        uint64_t node;

        if (sfs_labels_lookup_begun(l->sfs->labels, id, name, &node) < 0)
                return false;
        sfs_labels_forget(l->sfs->labels, node, 1);
        return true;
}

static void run_remove(struct sfs_job *job)
{
        struct sfs_label_job *l = (struct sfs_label_job *)job;
        struct sfs_labels *labels = l->sfs->labels;
        uint64_t id = sfs_node_id(l->node);

        sfs_labels_hold(labels, id);
        l->result = strata_label_remove(l->sfs->store, id, l->name);
        /* Of one that is only begun, the close sets nothing from now on; or the worker before has done it. */
        if (l->result == -ENOENT && (is_begun(l, id, l->name) || l->resumed))
                l->result = 0;
        if (l->result == 0) {
                sfs_labels_remove(labels, id, l->name);
                sfs_label_touch_entry(l, id);
        }
        sfs_labels_let_go(labels, id);
}

static bool is_there(struct sfs_label_job *l, uint64_t id, const char *name)
{
        struct timespec mtime;
        uint64_t size;

        return strata_label_stat(l->sfs->store, id, name, &size, &mtime) == 0 || is_begun(l, id, name);
}

static int change_name(struct sfs_label_job *l, uint64_t id)
{
        struct strata *s = l->sfs->store;
        struct timespec mtime;
        uint64_t size;
        bool missing = strata_label_stat(s, id, l->name, &size, &mtime) == -ENOENT;

        if (l->resumed && missing)
                return 0; /* the worker before has renamed it */
        if ((l->flags & RENAME_NOREPLACE) && is_there(l, id, l->newname)) {
                l->why = "there is a label of that name";
                return -EEXIST;
        }
        /* What is only begun is set: empty, until its close. */
        if (missing && is_begun(l, id, l->name)) {
                int r = strata_label_set(s, id, l->name, "", 0);

                if (r < 0)
                        return r;
        }
        return strata_label_rename(s, id, l->name, l->newname);
}

static void run_rename(struct sfs_job *job)
{
        struct sfs_label_job *l = (struct sfs_label_job *)job;
        uint64_t id = sfs_node_id(l->node);

        sfs_labels_hold(l->sfs->labels, id);
        l->result = change_name(l, id);
        if (l->result == 0) {
                sfs_labels_rename(l->sfs->labels, id, l->name, l->newname);
                sfs_label_touch_entry(l, id);
        }
        sfs_labels_let_go(l->sfs->labels, id);
}

static void done_remove(struct sfs_job *job)
{
        struct sfs_label_job *l = (struct sfs_label_job *)job;
        char path[SFS_PATH_MAX];

        if (l->result < 0)
                strata_log_add(l->sfs->store->log, "unlink", sfs_op_path(l->sfs, l->node, l->name, path, sizeof(path)),
                               NULL, l->result, "%s", strerror(-l->result));
        sfs_label_done_reply(job);
}

static void log_rename(struct sfs *sfs, uint64_t parent, const char *name, uint64_t newparent, const char *newname,
                       int error, const char *why)
{
        char path[SFS_PATH_MAX], path2[SFS_PATH_MAX];

        strata_log_add(sfs->store->log, "rename", sfs_op_path(sfs, parent, name, path, sizeof(path)),
                       sfs_op_path(sfs, newparent, newname, path2, sizeof(path2)), error, "%s",
                       why ? why : strerror(-error));
}

static void done_rename(struct sfs_job *job)
{
        struct sfs_label_job *l = (struct sfs_label_job *)job;

        if (l->result < 0)
                log_rename(l->sfs, l->node, l->name, l->node, l->newname, l->result, l->why);
        sfs_label_done_reply(job);
}

/*
 * Notes that L changes a name that is there, or finds that a dead worker has noted it: it may have been carried out
 * then. The kernel holds the lock of labels/ meanwhile, so that nobody else changes names there.
 */
static void note(struct sfs_label_job *l, enum sfs_note_op op)
{
        struct sfs_keep *k = l->sfs->keep;
        struct timespec mtime;
        uint64_t size;

        if (sfs_loop_resent())
                l->note = sfs_keep_resumed(k, sfs_loop_unique());
        l->resumed = l->note;
        if (l->note || strata_label_stat(l->sfs->store, sfs_node_id(l->node), l->name, &size, &mtime) < 0)
                return;
        l->note = sfs_keep_note(k, op);
        sfs_keep_publish(l->note, sfs_loop_unique());
}

void sfs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
        struct sfs_label_job *l;

        if (!sfs_node_is_labels(parent)) {
                fuse_reply_err(req, -sfs_op_refuse(sfs_of(req), "unlink", parent, name));
                return;
        }
        l = sfs_label_job(req, parent, run_remove, done_remove);
        if (l) {
                snprintf(l->name, sizeof(l->name), "%s", name);
                note(l, SFS_NOTE_LABEL_UNLINK);
                sfs_label_submit(l);
        }
}

void sfs_label_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
                      unsigned flags)
{
        const char *why = "a label can be renamed within its own labels/ only";
        int r = parent != newparent || (flags & ~(unsigned)RENAME_NOREPLACE) ? -EPERM : 0;
        struct sfs_label_job *l;

        if (parent == newparent)
                why = "labels do not change places in one step; rename one after the other";
        if (r == 0)
                r = strata_name_check(newname, &why);
        if (r < 0) {
                log_rename(sfs_of(req), parent, name, newparent, newname, r, why);
                fuse_reply_err(req, -r);
                return;
        }
        l = sfs_label_job(req, parent, run_rename, done_rename);
        if (l) {
                l->flags = flags;
                snprintf(l->name, sizeof(l->name), "%s", name);
                snprintf(l->newname, sizeof(l->newname), "%s", newname);
                note(l, SFS_NOTE_LABEL_RENAME);
                sfs_label_submit(l);
        }
}
