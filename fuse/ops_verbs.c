/* SPDX-License-Identifier: Apache-2.0 */
#include "attach.h"
#include "change.h"
#include "log.h"
#include "loop.h"
#include "metrics.h"
#include "mount.h"
#include "mounts.h"
#include "moves.h"
#include "node.h"
#include "ops.h"
#include "pool.h"
#include "strata.h"
#include "takeover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- commit, rename and removal: directly where nothing is mounted, else as a job ---- */

static const enum strata_verb verb_of[] = {
        [SFS_COMMIT] = STRATA_VERB_COMMIT,
        [SFS_RENAME] = STRATA_VERB_RENAME,
        [SFS_EXCHANGE] = STRATA_VERB_RENAME,
        [SFS_REMOVE] = STRATA_VERB_REMOVE,
};

static const enum sfs_note_op note_of[] = {
        [SFS_COMMIT] = SFS_NOTE_COMMIT,
        [SFS_RENAME] = SFS_NOTE_RENAME,
        [SFS_EXCHANGE] = SFS_NOTE_EXCHANGE,
        [SFS_REMOVE] = SFS_NOTE_RMDIR,
};

/*
 * Of a change that a dead worker was at: true if it had carried it out. The kernel holds the locks of the folders since
 * then, so that nobody else moved anything there.
 */
static bool was_carried_out(struct sfs_change *c)
{
        struct strata_info info;

        if (c->change == SFS_REMOVE)
                return c->note->id && c->note->id != c->info.id;
        if (strata_entry_info(c->sfs->store, c->note->id, &info) < 0 || info.kind != c->to ||
            strcmp(info.name, c->newname) != 0)
                return false;
        c->info.id = c->note->id;
        return true;
}

/* Notes what C is about for the next worker, or finds what the last one noted. */
static void begin_note(struct sfs_change *c)
{
        bool resumed;
        uint64_t other;

        c->note = sfs_takeover_note(c->sfs, note_of[c->change], &resumed);
        if (!c->note)
                return;
        if (resumed) {
                if (c->result == 0 || c->change != SFS_REMOVE)
                        c->already = was_carried_out(c);
                if (c->already)
                        c->result = 0;
                return;
        }
        c->note->id = c->info.id;
        c->note->kind = c->info.kind;
        c->note->to = c->to;
        snprintf(c->note->name, sizeof(c->note->name), "%s", c->info.name);
        snprintf(c->note->newname, sizeof(c->note->newname), "%s", c->newname);
        if (c->change == SFS_EXCHANGE && strata_entry_find(c->sfs->store, c->to, c->newname, &other) == 0)
                c->note->other = other;
        sfs_keep_publish(c->note, sfs_loop_unique());
}

/* Of an exchange: the entry that the kernel knows as NEWNAME. */
static bool other_id(struct sfs_change *c, uint64_t *id)
{
        if (!c->note)
                return strata_entry_find(c->sfs->store, c->to, c->newname, id) == 0;
        *id = c->note->other;
        return *id;
}

static void begin_move(struct sfs_change *c)
{
        uint64_t other;

        if (c->change == SFS_REMOVE || !c->info.id)
                return;
        c->move = sfs_moves_begin(c->sfs, c->info.kind, c->info.name, c->info.id);
        if (c->change == SFS_EXCHANGE && other_id(c, &other))
                c->other_move = sfs_moves_begin(c->sfs, c->to, c->newname, other);
}

/* Whether a mount stays at the other one of an exchange is not known: it may. */
static void end_move(struct sfs_change *c)
{
        sfs_moves_end(c->sfs, c->move, c->mounted && c->result == 0);
        sfs_moves_end(c->sfs, c->other_move, c->result == 0);
}

static void run_change(struct sfs_job *job)
{
        struct sfs_change *c = (struct sfs_change *)job;

        if (!c->claimed) {
                enum sfs_claim claim;

                if (!sfs_takeover_wait(c->sfs, c->info.id)) {
                        sfs_change_why(c, "a thread of a worker that was killed is still mounting its fs/; try again");
                        c->result = -EBUSY;
                        return;
                }
                claim = sfs_attach_claim(c->sfs->attach, c->info.id, true);
                if (claim == SFS_CLAIM_IMPORT) {
                        sfs_change_why(c, "a layer is just being imported into it; wait for that, or end it");
                        c->result = -EBUSY;
                        return;
                }
                if (claim == SFS_CLAIM_BUSY) {
                        sfs_change_why(c, "its fs/ is just being mounted or released, or the program ends; try again");
                        c->result = -EBUSY;
                        return;
                }
                c->claimed = c->late = true;
                c->mounted = claim == SFS_CLAIM_MOUNTED;
                return;
        }
        c->result = sfs_change_carry_out(c);
}

static const char *const operation_of[] = {
        [SFS_COMMIT] = "rename",
        [SFS_RENAME] = "rename",
        [SFS_EXCHANGE] = "rename",
        [SFS_REMOVE] = "rmdir",
};

static void done_change(struct sfs_job *job)
{
        struct sfs_change *c = (struct sfs_change *)job;
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
                                   SFS_SLOT_FOLDER + (uint64_t)c->to, c->change == SFS_REMOVE ? NULL : c->newname,
                                   c->result, c->why[0] ? c->why : NULL);
        end_move(c);
        fuse_reply_err(c->req, abs(c->result));
        sfs_keep_end(c->note);
        if (c->claimed)
                sfs_attach_release(sfs->attach, c->info.id, c->mounted);
        free(c);
}

/* True if somebody may be in a mount of the entry that is not at its fs/. */
static bool is_to_be_looked_at(const struct sfs_change *c)
{
        dev_t lost[SFS_LOST_MAX];

        return (sfs_change_minds_others(c) && strata_mount_was_left(c->sfs->store, c->info.id)) ||
               (c->change == SFS_REMOVE && sfs_attach_was_lost(c->sfs->attach, c->info.id, lost));
}

/* Carries the change out: at once if nothing is mounted at the entry, otherwise by a job on the inner side. */
static void start_change(struct sfs_change *c)
{
        enum sfs_claim claim = SFS_CLAIM_BARE;

        c->job.run = run_change;
        c->job.done = done_change;
        c->start = strata_metrics_start();
        begin_note(c);
        if (c->result < 0) {
                done_change(&c->job);
                return;
        }
        if (c->already && c->change == SFS_REMOVE) {
                c->info.id = 0;
                done_change(&c->job);
                return;
        }
        begin_move(c);
        if (c->note)
                sfs_takeover_resume(c->sfs, c->note);
        if (c->info.id && sfs_takeover_must_wait(c->sfs, c->info.id)) {
                claim = SFS_CLAIM_BUSY; /* on the inner side */
        } else if (c->info.id) {
                claim = sfs_attach_claim(c->sfs->attach, c->info.id, false);
                c->claimed = claim == SFS_CLAIM_BARE || claim == SFS_CLAIM_MOUNTED;
                c->mounted = claim == SFS_CLAIM_MOUNTED;
        }
        if (claim == SFS_CLAIM_BARE && is_to_be_looked_at(c))
                claim = SFS_CLAIM_BUSY; /* on the inner side */
        if (claim == SFS_CLAIM_BARE ||
            (claim == SFS_CLAIM_MOUNTED && (c->change == SFS_RENAME || c->change == SFS_EXCHANGE))) {
                c->result = sfs_change_apply(c);
                if (c->change == SFS_COMMIT && c->result == 0 && c->info.id)
                        sfs_attach_arm(c->sfs->attach, c->info.id); /* its time is another one now */
                done_change(&c->job);
                return;
        }
        sfs_attach_arm(c->sfs->attach, c->info.id);
        sfs_pool_submit(c->sfs->pool, c->claimed ? SFS_LANE_CHANGE : SFS_LANE_CLAIM, &c->job);
}

/* Never EINTR, for the reason at sfs_change_apply(). */
static int find_entry(struct sfs *sfs, enum strata_kind kind, const char *name, struct strata_info *ret)
{
        int r = -EINTR;

        for (unsigned tries = 0; tries < 100 && r == -EINTR; tries++)
                r = strata_entry_get(sfs->store, kind, name, ret);
        return r == -EINTR ? -EIO : r;
}

static struct sfs_change *new_change(fuse_req_t req, enum sfs_change_kind change, enum strata_kind kind,
                                     const char *name)
{
        struct sfs_change *c = calloc(1, sizeof(*c));
        uint64_t id;
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
                r = find_entry(c->sfs, kind, name, &c->info);
        if (r < 0) {
                /* The engine says what is wrong, and removes what is damaged. */
                c->info = (struct strata_info){ .kind = kind };
                snprintf(c->info.name, sizeof(c->info.name), "%s", name);
                /* Something may be mounted there all the same, and be in use. */
                if (r == -EUCLEAN && strata_entry_find(c->sfs->store, kind, name, &id) == 0)
                        c->info.id = id;
        }
        /* Of what can't be told something may be mounted, and the engine may be told the next moment: not without a
         * claim. */
        if (r < 0 && r != -ENOENT && r != -EINVAL && r != -ENAMETOOLONG && !(r == -EUCLEAN && change == SFS_REMOVE))
                c->result = r;
        return c;
}

void sfs_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
        enum strata_kind kind;
        struct sfs_change *c;

        if (!sfs_node_is_folder(parent, &kind)) {
                fuse_reply_err(req, -sfs_op_refuse(sfs_of(req), "rmdir", parent, name));
                return;
        }
        c = new_change(req, SFS_REMOVE, kind, name);
        if (c)
                start_change(c);
}

/* What a rename between two folders is, or why it is none. */
static int choose_change(enum strata_kind from, enum strata_kind to, unsigned flags, enum sfs_change_kind *ret,
                         const char **why)
{
        if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) {
                *why = "only RENAME_NOREPLACE and RENAME_EXCHANGE are known here";
                return -EINVAL;
        }
        if (from == to) {
                *ret = flags & RENAME_EXCHANGE ? SFS_EXCHANGE : SFS_RENAME;
                return 0;
        }
        *why = "only an active snapshot can be moved to snapshots/; a committed one stays, a view can't be committed";
        if (from != STRATA_ACTIVE || to != STRATA_COMMITTED)
                return -EPERM;
        *why = "only entries of the same folder can change names";
        if (flags & RENAME_EXCHANGE)
                return -EPERM;
        *ret = SFS_COMMIT;
        return 0;
}

void sfs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
                   unsigned flags)
{
        struct sfs *sfs = sfs_of(req);
        enum strata_kind from = STRATA_ACTIVE, to = STRATA_ACTIVE;
        enum sfs_change_kind change = SFS_RENAME;
        struct sfs_change *c;
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
