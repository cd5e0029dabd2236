/* SPDX-License-Identifier: Apache-2.0 */
/* mkdir; and what is refused. */
#include "attr.h"
#include "keep.h"
#include "loop.h"
#include "metrics.h"
#include "node.h"
#include "ops.h"
#include "prepare.h"
#include "takeover.h"

#include <errno.h>
#include <time.h>

/*
 * True if this is a request that a dead worker had carried out: *ID is what it made. The kernel holds the folder's lock
 * since then, so an entry of that name with an ID as new as that can be nobody else's.
 */
static bool was_made(struct sfs *sfs, enum strata_kind kind, const char *key, struct sfs_note **note, uint64_t *id)
{
        bool resumed;
        uint64_t found;

        *note = sfs_takeover_note(sfs, SFS_NOTE_MKDIR, &resumed);
        if (*note && resumed && strata_entry_find(sfs->store, kind, key, &found) == 0 && found >= (*note)->id) {
                *id = found;
                return true;
        }
        if (*note && !resumed) {
                (*note)->id = strata_least_id(sfs->store);
                sfs_keep_publish(*note, sfs_loop_unique());
        }
        return false;
}

void sfs_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
        struct sfs *sfs = sfs_of(req);
        struct fuse_entry_param e = { .generation = 1 };
        struct timespec start = strata_metrics_start();
        struct strata_name_pair pair;
        enum strata_kind kind;
        const char *why = NULL;
        struct timespec now;
        struct sfs_note *note = NULL;
        uint64_t id;
        int r;

        (void)mode;
        if (!sfs_node_is_folder(parent, &kind) || kind == STRATA_COMMITTED) {
                fuse_reply_err(req, -sfs_op_refuse(sfs, "mkdir", parent, name));
                return;
        }
        r = strata_name_split(name, &pair, &why);
        if (r == 0 && !was_made(sfs, kind, pair.key, &note, &id))
                r = strata_prepare(sfs->store, kind, pair.key, pair.parent, fuse_req_ctx(req)->uid,
                                   fuse_req_ctx(req)->gid, &id, &why);
        strata_metrics_count(sfs->store->metrics, kind == STRATA_VIEW ? STRATA_VERB_VIEW : STRATA_VERB_PREPARE, start,
                             r);
        if (r < 0) {
                sfs_op_log_failure(sfs, "mkdir", parent, name, 0, NULL, r, why);
                fuse_reply_err(req, -r);
                sfs_keep_end(note);
                return;
        }
        e.ino = sfs_node(id, SFS_SLOT_ENTRY);
        if (sfs_attr_get(sfs, e.ino, &e.attr, &e.attr_timeout) < 0) {
                clock_gettime(CLOCK_REALTIME_COARSE, &now); /* it is made, whatever there is to say of it */
                sfs_attr_of_entry(sfs, id, now, &e.attr);
        }
        /*
         * The name with '@' is not kept: it is valid for no time. The kernel gives what it has made under it the name
         * KEY at the first look, as a directory can't have two: so none of many who then touch it at once finds that
         * name half made (attach_mount.c, settle()).
         */
        e.entry_timeout = pair.parent[0] ? 0 : SFS_FOREVER;
        fuse_reply_entry(req, &e);
        sfs_keep_end(note);
}

/* ---- what is refused ---- */

void sfs_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
        (void)mode;
        (void)rdev;
        fuse_reply_err(req, -sfs_op_refuse(sfs_of(req), "mknod", parent, name));
}

void sfs_op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
        (void)link;
        fuse_reply_err(req, -sfs_op_refuse(sfs_of(req), "symlink", parent, name));
}

void sfs_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
        (void)ino;
        fuse_reply_err(req, -sfs_op_refuse(sfs_of(req), "link", newparent, newname));
}
