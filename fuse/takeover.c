/* SPDX-License-Identifier: Apache-2.0 */
#include "takeover.h"

#include "attach.h"
#include "log.h"
#include "loop.h"
#include "metrics.h"
#include "mount.h"
#include "mounts.h"
#include "moves.h"
#include "place.h"
#include "pool.h"
#include "strata.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define RECENT_SECONDS 5 /* how long what a dead worker held may still be held */

#define PAUSES 200 /* of ten milliseconds */

struct sfs_past {
        atomic_bool tidied;                        /* no thread of a dead worker is left, and all mounts are known */
        pthread_mutex_t lock;                      /* protects MOVES; a leaf lock */
        struct sfs_move *moves[SFS_KEEP_NOTES][2]; /* by note: the old name, and the other one of an exchange */
};

/* ---- mounts ---- */

/* The entry that the kernel knows as NAME: with a rename under way, the store may have it under another already. */
static bool find_entry(struct sfs *sfs, enum strata_kind kind, const char *name, uint64_t *id)
{
        return sfs_moves_find(sfs, kind, name, id) || strata_entry_find(sfs->store, kind, name, id) == 0;
}

struct search {
        struct sfs *sfs;
        bool late; /* requests are served, so that what is found may be gone the next moment */
};

static void found_mount(const struct sfs_mounted *m, void *data)
{
        const struct search *x = data;
        uint64_t id;

        if (find_entry(x->sfs, m->kind, m->name, &id))
                sfs_attach_found(x->sfs->attach, id, m->kind != STRATA_ACTIVE, m->dev,
                                 x->late || sfs_takeover_must_wait(x->sfs, id));
}

static int find_mounts(struct sfs *sfs, bool late)
{
        struct search x = { .sfs = sfs, .late = late };

        return sfs_mounts_each(sfs->mnt, sfs->dev, found_mount, &x);
}

bool sfs_takeover_must_wait(struct sfs *sfs, uint64_t id)
{
        return sfs->past && !atomic_load(&sfs->past->tidied) && sfs_keep_dead_was_at(sfs->keep, id);
}

bool sfs_takeover_wait(struct sfs *sfs, uint64_t id)
{
        for (unsigned tries = 0; sfs_takeover_must_wait(sfs, id); tries++) {
                if (!sfs_keep_dead_is_at(sfs->keep, id) && find_mounts(sfs, true) == 0)
                        sfs_keep_dead_seen(sfs->keep, id);
                else if (!sfs_takeover_pause(sfs, tries))
                        return false;
        }
        return true;
}

/* ---- what was under way ---- */

static bool is_move(const struct sfs_note *n)
{
        return n->op == SFS_NOTE_COMMIT || n->op == SFS_NOTE_RENAME || n->op == SFS_NOTE_EXCHANGE;
}

static struct sfs_note *old_note(struct sfs *sfs, unsigned i)
{
        struct sfs_note *n = &sfs->keep->notes[i];

        return atomic_load(&n->unique) && n->generation != sfs->generation ? n : NULL;
}

static void begin_moves(struct sfs *sfs)
{
        struct sfs_past *past = sfs->past;

        for (unsigned i = 0; i < SFS_KEEP_NOTES; i++) {
                struct sfs_note *n = old_note(sfs, i);

                if (!n || !is_move(n))
                        continue;
                past->moves[i][0] = sfs_moves_begin(sfs, n->kind, n->name, n->id);
                if (n->op == SFS_NOTE_EXCHANGE && n->other)
                        past->moves[i][1] = sfs_moves_begin(sfs, n->to, n->newname, n->other);
        }
}

static void end_moves(struct sfs *sfs, unsigned i)
{
        struct sfs_move *moves[2];

        pthread_mutex_lock(&sfs->past->lock);
        memcpy(moves, sfs->past->moves[i], sizeof(moves));
        memset(sfs->past->moves[i], 0, sizeof(moves));
        pthread_mutex_unlock(&sfs->past->lock);
        sfs_moves_end(sfs, moves[0], false);
        sfs_moves_end(sfs, moves[1], false);
}

int sfs_takeover_begin(struct sfs *sfs)
{
        struct sfs_keep *k = sfs->keep;

        if (sfs->generation > 1 || sfs->store->unclean)
                sfs->killed_before = strata_metrics_start().tv_sec;
        if (!k || sfs->generation < 2)
                return 0;
        sfs->past = calloc(1, sizeof(*sfs->past));
        if (!sfs->past)
                return -ENOMEM;
        pthread_mutex_init(&sfs->past->lock, NULL);
        begin_moves(sfs);
        for (unsigned i = 0; i < SFS_KEEP_TICKETS; i++)
                if (atomic_load(&k->tickets[i].tid) > 0)
                        sfs_attach_found_ticket(sfs->attach, atomic_load(&k->tickets[i].id),
                                                atomic_load(&k->tickets[i].tid));
        return 0;
}

void sfs_takeover_free(struct sfs *sfs)
{
        if (!sfs->past)
                return;
        pthread_mutex_destroy(&sfs->past->lock);
        free(sfs->past);
}

static bool is_recent(struct sfs *sfs)
{
        return sfs->killed_before && strata_metrics_start().tv_sec - sfs->killed_before <= RECENT_SECONDS;
}

bool sfs_takeover_pause(struct sfs *sfs, unsigned tries)
{
        const struct timespec pause = { .tv_nsec = 10000000 };

        if (tries >= PAUSES || !is_recent(sfs))
                return false;
        nanosleep(&pause, NULL);
        return true;
}

struct sfs_note *sfs_takeover_note(struct sfs *sfs, enum sfs_note_op op, bool *resumed)
{
        struct sfs_note *n = sfs_loop_resent() ? sfs_keep_resumed(sfs->keep, sfs_loop_unique()) : NULL;

        *resumed = n;
        return n ? n : sfs_keep_note(sfs->keep, op);
}

void sfs_takeover_resume(struct sfs *sfs, const struct sfs_note *n)
{
        if (sfs->past)
                end_moves(sfs, (unsigned)(n - sfs->keep->notes));
}

/* ---- what nobody asked for again ---- */

struct tidy_job {
        struct sfs_job job; /* first */
        struct sfs *sfs;
        struct sfs_note *note;
};

/* A commit: half-way is a frozen mount, or one that is left where the kernel still has the old name. */
static void run_tidy(struct sfs_job *job)
{
        struct tidy_job *t = (struct tidy_job *)job;
        struct strata *s = t->sfs->store;
        struct sfs_note *n = t->note;
        char path[SFS_PLACE_FS_MAX];
        cleanup_fd int entry = -1;
        struct strata_info info;
        dev_t dev;

        /* The kernel may still have the entry under its old name. */
        if (!sfs_takeover_wait(t->sfs, n->id) || sfs_place_open_entry(t->sfs, n->kind, n->name, n->id, &entry) < 0 ||
            strata_entry_info(s, n->id, &info) < 0 ||
            sfs_mounts_find(t->sfs->mnt, t->sfs->dev, n->kind, n->name, &dev) <= 0 ||
            strata_mount_is_attached(sfs_place_fs(entry, path), &dev) <= 0)
                return;
        if (info.kind == STRATA_ACTIVE && !s->config.read_only) {
                (void)strata_mount_thaw(s, path);
        } else if (info.kind == STRATA_COMMITTED && strata_mount_detach(path, MNT_DETACH) == 0) {
                strata_mount_committed(s, n->id, false);
        }
}

static void done_tidy(struct sfs_job *job)
{
        struct tidy_job *t = (struct tidy_job *)job;

        sfs_keep_end(t->note);
        free(t);
}

/* The old name is the store's again at once: if the request was answered, it may be another's by now. */
static void tidy(struct sfs *sfs, struct sfs_note *n)
{
        struct tidy_job *t = n->op == SFS_NOTE_COMMIT ? calloc(1, sizeof(*t)) : NULL;

        end_moves(sfs, (unsigned)(n - sfs->keep->notes));
        if (!t) {
                sfs_keep_end(n);
                return;
        }
        *t = (struct tidy_job){ .job = { run_tidy, done_tidy, NULL }, .sfs = sfs, .note = n };
        n->generation = sfs->generation;
        sfs_pool_submit(sfs->pool, SFS_LANE_CHANGE, &t->job);
}

void sfs_takeover_tick(struct sfs *sfs)
{
        if (!sfs->past || atomic_load(&sfs->past->tidied))
                return;
        if (sfs_pool_bury(sfs->pool) || find_mounts(sfs, true) < 0)
                return; /* a dead thread may still attach something */
        sfs_keep_dead_seen(sfs->keep, 0);
        atomic_store(&sfs->past->tidied, true);
}

void sfs_takeover_settle(struct sfs *sfs)
{
        for (unsigned i = 0; i < SFS_KEEP_NOTES; i++) {
                struct sfs_note *n = old_note(sfs, i);

                if (n)
                        tidy(sfs, n);
        }
        (void)find_mounts(sfs, false); /* by the names of now, and those of renames under way */
}
