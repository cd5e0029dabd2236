/* SPDX-License-Identifier: Apache-2.0 */
#include "attach.h"
#include "attr.h"
#include "busy.h"
#include "commit.h"
#include "keep.h"
#include "log.h"
#include "loop.h"
#include "metrics.h"
#include "mount.h"
#include "mounts.h"
#include "moves.h"
#include "node.h"
#include "ops.h"
#include "pool.h"
#include "remove.h"
#include "rename.h"
#include "show.h"
#include "store.h"
#include "strata.h"
#include "takeover.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

/* ---- commit, rename and removal: directly where nothing is mounted, else as a job ---- */

#define INTERRUPTIONS_MAX 100 /* in a row */
#define UNMOUNTS_MAX 3

enum change {
        COMMIT,
        RENAME,
        EXCHANGE,
        REMOVE,
};

static const enum strata_verb verb_of[] = {
        [COMMIT] = STRATA_VERB_COMMIT,
        [RENAME] = STRATA_VERB_RENAME,
        [EXCHANGE] = STRATA_VERB_RENAME,
        [REMOVE] = STRATA_VERB_REMOVE,
};

struct change_job {
        struct sfs_job job; /* first */
        struct sfs *sfs;
        fuse_req_t req;
        enum change change;
        struct timespec start;
        struct strata_info info; /* of the entry that is changed */
        enum strata_kind to;     /* of commit and rename */
        char newname[STRATA_NAME_MAX + 1];
        struct sfs_move *move;
        struct sfs_move *other_move; /* of exchange: of the entry called NEWNAME */
        struct sfs_note *note;       /* for the next worker; NULL without a keeper */
        bool already;                /* a worker before carried it out, but for what follows the store's part */
        bool claimed, late; /* LATE: by the job, so that the attributes are taken back once more before it goes on */
        bool mounted;       /* fs/ is mounted: at the claim, and in the end */
        int result;
        char why[1024];
};

static const enum sfs_note_op note_of[] = {
        [COMMIT] = SFS_NOTE_COMMIT,
        [RENAME] = SFS_NOTE_RENAME,
        [EXCHANGE] = SFS_NOTE_EXCHANGE,
        [REMOVE] = SFS_NOTE_RMDIR,
};

/*
 * Of a change that a dead worker was at: true if it had carried it out. The kernel holds the locks of the folders since
 * then, so that nobody else moved anything there.
 */
static bool was_carried_out(struct change_job *c)
{
        struct strata_info info;

        if (c->change == REMOVE)
                return c->note->id && c->note->id != c->info.id;
        if (strata_entry_info(c->sfs->store, c->note->id, &info) < 0 || info.kind != c->to ||
            strcmp(info.name, c->newname) != 0)
                return false;
        c->info.id = c->note->id;
        return true;
}

/* Notes what C is about for the next worker, or finds what the last one noted. */
static void begin_note(struct change_job *c)
{
        bool resumed;
        uint64_t other;

        c->note = sfs_takeover_note(c->sfs, note_of[c->change], &resumed);
        if (!c->note)
                return;
        if (resumed) {
                c->already = was_carried_out(c);
                return;
        }
        c->note->id = c->info.id;
        c->note->kind = c->info.kind;
        c->note->to = c->to;
        snprintf(c->note->name, sizeof(c->note->name), "%s", c->info.name);
        snprintf(c->note->newname, sizeof(c->note->newname), "%s", c->newname);
        if (c->change == EXCHANGE && strata_entry_find(c->sfs->store, c->to, c->newname, &other) == 0)
                c->note->other = other;
        sfs_keep_publish(c->note, sfs_loop_unique());
}

/* Of an exchange: the entry that the kernel knows as NEWNAME. */
static bool other_id(struct change_job *c, uint64_t *id)
{
        if (!c->note)
                return strata_entry_find(c->sfs->store, c->to, c->newname, id) == 0;
        *id = c->note->other;
        return *id;
}

static void begin_move(struct change_job *c)
{
        uint64_t other;

        if (c->change == REMOVE || !c->info.id)
                return;
        c->move = sfs_moves_begin(c->sfs, c->info.kind, c->info.name, c->info.id);
        if (c->change == EXCHANGE && other_id(c, &other))
                c->other_move = sfs_moves_begin(c->sfs, c->to, c->newname, other);
}

/* Whether a mount stays at the other one of an exchange is not known: it may. */
static void end_move(struct change_job *c)
{
        sfs_moves_end(c->sfs, c->move, c->mounted && c->result == 0);
        sfs_moves_end(c->sfs, c->other_move, c->result == 0);
}

static void set_why(struct change_job *c, const char *why)
{
        if (why)
                snprintf(c->why, sizeof(c->why), "%s", why);
}

/* The engine's part. */
static int apply(struct change_job *c)
{
        struct strata *s = c->sfs->store;
        const char *why = NULL;
        int r;

        if (c->already)
                return strata_store_sync_dir(s, s->kind_fd[c->to]);
        if (c->change == COMMIT)
                r = strata_commit(s, c->info.name, c->newname, &why);
        else if (c->change == RENAME)
                r = strata_rename(s, c->info.kind, c->info.name, c->newname, &why);
        else if (c->change == EXCHANGE)
                r = strata_exchange(s, c->info.kind, c->info.name, c->newname, &why);
        else
                r = strata_remove(s, c->info.kind, c->info.name, &why);
        set_why(c, why);
        return r;
}

static void describe_busy(struct change_job *c, const char *path, const char *what, bool writers)
{
        struct strata_buf who = STRATA_BUF_INIT;
        dev_t dev;

        if (strata_mount_is_attached(path, &dev) > 0 && strata_busy_processes(dev, writers, &who) == 0)
                strata_busy_elsewhere(dev, &who);
        snprintf(c->why, sizeof(c->why), "%s: %s; end or close that first", what, who.len ? who.data : "by the kernel");
        strata_buf_free(&who);
}

/* A mount that a dead worker was just making or taking down goes with that worker's last thread. */
static int lives_on(struct sfs *sfs, uint64_t id)
{
        int ret = strata_mount_lives_on(sfs->store, id);

        for (unsigned tries = 0; ret > 0 && sfs_takeover_pause(sfs, tries); tries++)
                ret = strata_mount_lives_on(sfs->store, id);
        return ret;
}

/* An active snapshot that is not mounted at its fs/: nobody may be at work in a mount that lives on elsewhere. */
static int apply_bare(struct change_job *c)
{
        bool matters = !c->already && c->info.kind == STRATA_ACTIVE && (c->change == COMMIT || c->change == REMOVE);
        int r = matters && c->info.id ? lives_on(c->sfs, c->info.id) : 0;

        if (r > 0) {
                set_why(c,
                        "a mount of it from an earlier run of this program, or one that was unmounted lazily, is still "
                        "used by some process; end that process first");
                return -EBUSY;
        }
        return r < 0 ? r : apply(c);
}

/* Freeze, commit, unmount. The frozen mount goes last: up to there a failure can be undone. */
static int commit_mounted(struct change_job *c, const char *path)
{
        struct strata *s = c->sfs->store;
        int r = c->already ? 0 : strata_mount_freeze(s, path);
        dev_t dev;

        if (r == -EINVAL && strata_mount_is_attached(path, &dev) == 0) {
                c->mounted = false; /* unmounted by somebody else */
                return apply_bare(c);
        }
        if (r < 0) {
                if (r == -EBUSY)
                        describe_busy(c, path, "a file below fs/ is open for writing", true);
                return r;
        }
        r = apply(c);
        if (r < 0 && c->already)
                return r;
        if (r < 0) {
                (void)strata_mount_thaw(s, path);
                return r;
        }
        for (unsigned tries = 0; tries < UNMOUNTS_MAX && c->mounted; tries++) {
                r = sfs_attach_unmount(c->sfs->attach, c->info.id, path, MNT_DETACH);
                c->mounted = r < 0 && r != -EINVAL;
        }
        if (!c->mounted) /* else it stays, frozen, until it is idle */
                strata_mount_left(s, c->info.id);
        return 0;
}

static int remove_mounted(struct change_job *c, const char *path)
{
        struct strata_buf who = STRATA_BUF_INIT;
        int keep, r;
        dev_t dev;

        if (c->info.kind == STRATA_COMMITTED && strata_entry_has_children(c->sfs->store, c->info.id) > 0)
                return apply(c); /* which refuses, with the reason */
        if (strata_mount_is_attached(path, &dev) > 0 && strata_busy_elsewhere(dev, &who)) {
                snprintf(c->why, sizeof(c->why), "its fs/ is in use: %s; end that first", who.data ? who.data : "");
                strata_buf_free(&who);
                return -EBUSY;
        }
        if (sfs_attach_is_inherited(c->sfs->attach, c->info.id, &dev) && strata_busy_processes(dev, false, &who)) {
                snprintf(c->why, sizeof(c->why), "its fs/ is in use: %s; end that first", who.data ? who.data : "");
                strata_buf_free(&who);
                return -EBUSY;
        }
        keep = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        r = sfs_attach_unmount(c->sfs->attach, c->info.id, path, 0);
        if (r == -EBUSY)
                describe_busy(c, path, "its fs/ is in use", false);
        if (r == -EINVAL) {
                c->mounted = false; /* unmounted by somebody else */
                r = apply_bare(c);
        } else if (r == 0) {
                c->mounted = false;
                if (c->info.kind == STRATA_ACTIVE)
                        strata_mount_left(c->sfs->store, c->info.id);
                r = apply(c);
        }
        sfs_mounts_let_go(keep);
        return r;
}

static int change_once(struct change_job *c)
{
        cleanup_free char *path = sfs_fs_path(c->sfs, &c->info);

        if (!path)
                return -ENOMEM;
        if (c->mounted && c->change == COMMIT)
                return commit_mounted(c, path);
        if (c->mounted && c->change == REMOVE)
                return remove_mounted(c, path);
        return c->mounted ? apply(c) : apply_bare(c);
}

/*
 * A change that was interrupted has changed nothing, and is done again. The caller must not be told: the kernel takes
 * EINTR for "not known", and drops the name and what is mounted below (fs/fuse/dir.c, fuse_rename_common(),
 * fuse_rmdir()).
 */
static int change(struct change_job *c, int (*once)(struct change_job *))
{
        int r = -EINTR;

        for (unsigned tries = 0; tries < INTERRUPTIONS_MAX && r == -EINTR; tries++)
                r = once(c);
        return r == -EINTR ? -EIO : r;
}

static void run_change(struct sfs_job *job)
{
        struct change_job *c = (struct change_job *)job;

        if (!c->claimed) {
                enum sfs_claim claim = sfs_attach_claim(c->sfs->attach, c->info.id, true);

                if (claim == SFS_CLAIM_IMPORT) {
                        set_why(c, "a layer is just being imported into it; wait for that, or end it");
                        c->result = -EBUSY;
                        return;
                }
                if (claim == SFS_CLAIM_BUSY) {
                        set_why(c, "its fs/ is just being mounted or released, or the program ends; try again");
                        c->result = -EBUSY;
                        return;
                }
                c->claimed = c->late = true;
                c->mounted = claim == SFS_CLAIM_MOUNTED;
                return;
        }
        c->result = change(c, change_once);
}

static const char *const operation_of[] = {
        [COMMIT] = "rename",
        [RENAME] = "rename",
        [EXCHANGE] = "rename",
        [REMOVE] = "rmdir",
};

static void done_change(struct sfs_job *job)
{
        struct change_job *c = (struct change_job *)job;
        struct sfs *sfs = c->sfs;

        if (c->late) {
                /* What was said of them before the claim may be valid for good. */
                c->late = false;
                sfs_attach_arm(sfs->attach, c->info.id);
                sfs_pool_submit(sfs->pool, SFS_LANE_CHANGE, &c->job);
                return;
        }
        strata_metrics_count(sfs->store->metrics, verb_of[c->change], c->start, c->result);
        if (c->result < 0)
                sfs_op_log_failure(sfs, operation_of[c->change], SFS_SLOT_FOLDER + (uint64_t)c->info.kind, c->info.name,
                                   SFS_SLOT_FOLDER + (uint64_t)c->to, c->change == REMOVE ? NULL : c->newname,
                                   c->result, c->why[0] ? c->why : NULL);
        end_move(c);
        fuse_reply_err(c->req, abs(c->result));
        sfs_keep_end(c->note);
        if (c->claimed)
                sfs_attach_release(sfs->attach, c->info.id, c->mounted);
        free(c);
}

/* Carries the change out: at once if nothing is mounted at the entry, otherwise by a job on the inner side. */
static void start_change(struct change_job *c)
{
        enum sfs_claim claim = SFS_CLAIM_BARE;

        c->job.run = run_change;
        c->job.done = done_change;
        c->start = strata_metrics_start();
        begin_note(c);
        if (c->already && c->change == REMOVE) {
                c->info.id = 0;
                done_change(&c->job);
                return;
        }
        begin_move(c);
        if (c->note)
                sfs_takeover_resume(c->sfs, c->note);
        if (c->info.id) {
                claim = sfs_attach_claim(c->sfs->attach, c->info.id, false);
                c->claimed = claim == SFS_CLAIM_BARE || claim == SFS_CLAIM_MOUNTED;
                c->mounted = claim == SFS_CLAIM_MOUNTED;
        }
        if (claim == SFS_CLAIM_BARE && c->info.kind == STRATA_ACTIVE && c->info.id &&
            (c->change == COMMIT || c->change == REMOVE) && strata_mount_was_left(c->sfs->store, c->info.id))
                claim = SFS_CLAIM_BUSY; /* to be looked at on the inner side */
        if (claim == SFS_CLAIM_BARE || (claim == SFS_CLAIM_MOUNTED && (c->change == RENAME || c->change == EXCHANGE))) {
                c->result = change(c, apply);
                done_change(&c->job);
                return;
        }
        sfs_attach_arm(c->sfs->attach, c->info.id);
        sfs_pool_submit(c->sfs->pool, SFS_LANE_CHANGE, &c->job);
}

static struct change_job *new_change(fuse_req_t req, enum change change, enum strata_kind kind, const char *name)
{
        struct change_job *c = calloc(1, sizeof(*c));
        int r;

        if (!c) {
                fuse_reply_err(req, ENOMEM);
                return NULL;
        }
        c->sfs = sfs_of(req);
        c->req = req;
        c->change = change;
        c->to = kind;
        r = strata_name_check(name, NULL);
        if (r == 0)
                r = strata_entry_get(c->sfs->store, kind, name, &c->info);
        if (r < 0) {
                /* The engine says what is wrong, and removes what is damaged. */
                c->info = (struct strata_info){ .kind = kind };
                snprintf(c->info.name, sizeof(c->info.name), "%s", name);
        }
        return c;
}

void sfs_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
        enum strata_kind kind;
        struct change_job *c;

        if (!sfs_node_is_folder(parent, &kind)) {
                fuse_reply_err(req, -sfs_op_refuse(sfs_of(req), "rmdir", parent, name));
                return;
        }
        c = new_change(req, REMOVE, kind, name);
        if (c)
                start_change(c);
}

/* What a rename between two folders is, or why it is none. */
static int choose_change(enum strata_kind from, enum strata_kind to, unsigned flags, enum change *ret, const char **why)
{
        if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) {
                *why = "only RENAME_NOREPLACE and RENAME_EXCHANGE are known here";
                return -EINVAL;
        }
        if (from == to) {
                *ret = flags & RENAME_EXCHANGE ? EXCHANGE : RENAME;
                return 0;
        }
        *why = "only an active snapshot can be moved to snapshots/; a committed one stays, a view can't be committed";
        if (from != STRATA_ACTIVE || to != STRATA_COMMITTED)
                return -EPERM;
        *why = "only entries of the same folder can change names";
        if (flags & RENAME_EXCHANGE)
                return -EPERM;
        *ret = COMMIT;
        return 0;
}

void sfs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
                   unsigned flags)
{
        struct sfs *sfs = sfs_of(req);
        enum strata_kind from = STRATA_ACTIVE, to = STRATA_ACTIVE;
        enum change change = RENAME;
        struct change_job *c;
        const char *why = NULL;
        int r;

        if (sfs_node_is_labels(parent)) {
                sfs_label_rename(req, parent, name, newparent, newname, flags);
                return;
        }
        if (!sfs_node_is_folder(parent, &from)) {
                r = sfs_op_refuse(sfs, "rename", parent, name);
                fuse_reply_err(req, -r);
                return;
        } else if (sfs_node_is_entry(newparent)) {
                why = "the name is taken: nothing is ever moved into an entry or replaced; choose another name";
                r = -EEXIST;
        } else if (!sfs_node_is_folder(newparent, &to)) {
                why = "entries live in active/, views/ and snapshots/ only";
                r = -EPERM;
        } else {
                r = choose_change(from, to, flags, &change, &why);
        }
        if (r == 0)
                r = strata_name_check(newname, &why);
        if (r < 0) {
                sfs_op_log_failure(sfs, "rename", parent, name, newparent, newname, r, why);
                fuse_reply_err(req, -r);
                return;
        }
        c = new_change(req, change, from, name);
        if (!c)
                return;
        c->to = to;
        snprintf(c->newname, sizeof(c->newname), "%s", newname);
        start_change(c);
}
