/* SPDX-License-Identifier: Apache-2.0 */
/* Unmounting: of idle views and snapshots, and of everything at the end. */
#include "busy.h"
#include "keep.h"
#include "live.h"
#include "log.h"
#include "metrics.h"
#include "mount.h"
#include "place.h"
#include "util/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#define TICKET_SECONDS 30  /* a walk again follows within microseconds; this only bounds what killed callers leave */
#define LOOKUP_SECONDS 5   /* how long a LOOKUP is kept for a mount; the FORGET that it may wait for is on its way */
#define GETATTR_SECONDS 30 /* how long a GETATTR is kept for a mount, whatever happens */
#define RELEASES_MAX 2     /* at once, as each looks at all processes, and first touches are to have threads left */
#define END_SECONDS 60     /* how long the end waits for mounts, commits and removals under way */

int sfs_attach_unmount(struct sfs_attach *a, uint64_t id, const char *path, int flags)
{
        struct timespec start = strata_metrics_start();
        struct sfs_live *e;
        int r;

        pthread_mutex_lock(&a->lock);
        e = sfs_live_find(a, id);
        if (e)
                e->walk_anew = gettid();
        pthread_mutex_unlock(&a->lock);
        sfs_keep_at(id);
        r = strata_mount_detach(path, flags);
        sfs_keep_at(0);
        if (r != -EAGAIN)
                strata_metrics_count(a->sfs->store->metrics, STRATA_VERB_UNMOUNT, start, r);
        return r;
}

/* ---- idle mounts ---- */

static void run_release(struct sfs_job *job)
{
        struct sfs_mount_job *m = (struct sfs_mount_job *)job;
        struct sfs *sfs = m->a->sfs;
        struct strata_buf who = STRATA_BUF_INIT;
        cleanup_fd int entry = -1;
        char path[SFS_PLACE_FS_MAX];
        struct strata_info info;

        m->result = strata_entry_info(sfs->store, m->id, &info);
        if (m->result == 0)
                m->result = sfs_place_open_entry(sfs, info.kind, info.name, info.id, &entry);
        if (m->result < 0)
                return; /* -ESTALE and the like: its name is just changing, it is tried again later */
        if (!sfs_live_enter(m)) {
                m->result = -ECANCELED;
                return;
        }
        /* While it is bound elsewhere it stays, so that a removal sees that it is in use. */
        if (m->marked && strata_busy_elsewhere(m->dev, &who))
                m->result = -EBUSY;
        else
                m->result = sfs_attach_unmount(m->a, m->id, sfs_place_fs(entry, path), MNT_EXPIRE);
        strata_buf_free(&who);
}

static void release_idle(struct sfs_attach *a);

static void done_release(struct sfs_job *job)
{
        struct sfs_mount_job *m = (struct sfs_mount_job *)job;
        struct sfs_attach *a = m->a;
        bool gone = m->result == 0;
        struct sfs_parked *parked = NULL;
        struct sfs_live *e;

        pthread_mutex_lock(&a->lock);
        a->n_jobs--;
        a->n_releasing--;
        e = sfs_live_find(a, m->id);
        if (sfs_live_is_mine(e, m)) {
                /* EAGAIN: the kernel has noted it as idle; untouched until the next try, it goes then. EINVAL: not a
                 * mount any more. */
                e->idle_mark = m->result == -EAGAIN;
                e->suspect = e->suspect || m->result == -EINVAL;
                if (m->result == -EINVAL)
                        sfs_live_lost(e);
                e->next_try = sfs_live_now() + a->sfs->expire;
                sfs_live_set(a, e, gone ? SFS_BARE : SFS_MOUNTED);
                if ((!gone && !e->suspect) || !e->parked || !sfs_live_mount(a, e)) {
                        parked = e->parked;
                        e->parked = NULL;
                }
        }
        pthread_mutex_unlock(&a->lock);
        sfs_live_answer(parked, m->id, gone ? -EIO : 0);
        free(m);
        release_idle(a);
}

/* Collects entries that are due, up to RELEASES_MAX in all; they are RELEASING then. */
static unsigned take_due(struct sfs_attach *a, struct sfs_mount_job *jobs[RELEASES_MAX])
{
        time_t now = sfs_live_now();
        unsigned n = 0;

        for (struct sfs_live *e = a->entries; e && a->n_releasing < RELEASES_MAX; e = e->hh.next) {
                if (e->state != SFS_MOUNTED || !e->expires || now < e->next_try)
                        continue;
                jobs[n] = sfs_live_job(a, e->id, run_release, done_release);
                if (!jobs[n])
                        break;
                jobs[n]->marked = e->idle_mark;
                jobs[n]->dev = e->dev;
                sfs_live_set(a, e, SFS_RELEASING);
                e->job = jobs[n]->number;
                a->n_releasing++;
                n++;
        }
        return n;
}

static void release_idle(struct sfs_attach *a)
{
        struct sfs_mount_job *jobs[RELEASES_MAX];
        unsigned n;

        pthread_mutex_lock(&a->lock);
        n = a->stopping ? 0 : take_due(a, jobs);
        pthread_mutex_unlock(&a->lock);
        for (unsigned i = 0; i < n; i++) {
                if (jobs[i]->marked)
                        sfs_attach_arm(a, jobs[i]->id); /* this try may unmount it */
                sfs_pool_submit(a->sfs->pool, SFS_LANE_MOUNT, &jobs[i]->job);
        }
}

/* ---- what is stale ---- */

/* Of one entry: requests that are kept for a mount longer than any takes. True if it found some. */
static bool answer_late(struct sfs_attach *a)
{
        struct sfs_parked *lookups = NULL, *getattrs = NULL;
        time_t now = sfs_live_now();
        struct sfs_live *e;
        uint64_t id = 0;

        pthread_mutex_lock(&a->lock);
        for (e = a->entries; e && !lookups && !getattrs; e = e->hh.next) {
                if (!e->parked || e->state != SFS_MOUNTING)
                        continue;
                id = e->id;
                lookups = sfs_live_unpark(e, true, now - LOOKUP_SECONDS);
                getattrs = sfs_live_unpark(e, false, now - GETATTR_SECONDS);
                for (struct sfs_parked *p = lookups; p; p = p->next)
                        sfs_ticket_give(&a->tickets, id, fuse_req_ctx(p->req)->pid, now);
                if (lookups) {
                        /* The FORGET of a name that did not come went with a worker that was killed. */
                        e->known = 0;
                        sfs_keep_unknown(a->sfs->keep, id);
                }
        }
        pthread_mutex_unlock(&a->lock);
        if (lookups)
                sfs_attach_arm(a, id);
        if (getattrs)
                strata_log_add(a->sfs->store->log, "mount", "fs", NULL, ETIMEDOUT,
                               "mounting entry %llu takes too long; its callers get an error, try again",
                               (unsigned long long)id);
        sfs_live_answer(lookups, id, -ESTALE);
        sfs_live_answer(getattrs, id, -ETIMEDOUT);
        return lookups || getattrs;
}

/* Tickets of callers that were killed, and entries that nobody knows any more. */
static void forget_stale(struct sfs_attach *a)
{
        time_t now = sfs_live_now();
        struct sfs_live *e, *next;

        pthread_mutex_lock(&a->lock);
        sfs_ticket_sweep(&a->tickets, now, TICKET_SECONDS);
        HASH_ITER(hh, a->entries, e, next) {
                if (e->state == SFS_BARE && !e->known && !e->parked && !e->lost[0] && now - e->since > TICKET_SECONDS)
                        sfs_live_drop(a, e);
        }
        pthread_mutex_unlock(&a->lock);
}

/*
 * Looks once more at what was mounted, or let go by a claim, a second ago. It may have been lost: attach_mount.c,
 * settle(). And by that walk the way there becomes valid for good, if nobody has walked it since: of two answers that
 * crossed, the kernel keeps the one that was asked for first, and that may have carried no validity. What is not valid
 * can't be walked once the program is killed, and a mount that is in use then not be taken over: inherit.c.
 */
static void look_again(struct sfs_attach *a)
{
        time_t now = sfs_live_now();

        pthread_mutex_lock(&a->lock);
        for (struct sfs_live *e = a->entries; e; e = e->hh.next) {
                if (e->state != SFS_MOUNTED || !e->fresh || now <= e->since)
                        continue;
                e->fresh = false;
                if (!sfs_live_mount(a, e))
                        break;
        }
        pthread_mutex_unlock(&a->lock);
}

void sfs_attach_tick(struct sfs_attach *a)
{
        look_again(a);
        if (a->sfs->expire)
                release_idle(a);
        forget_stale(a);
        while (answer_late(a))
                ;
}

/* ---- the end ---- */

struct shutdown_job {
        struct sfs_job job; /* first */
        struct sfs_attach *a;
        uint64_t *ids;
        size_t n;
        bool finished; /* protected by a->lock */
};

static void run_shutdown(struct sfs_job *job)
{
        struct shutdown_job *d = (struct shutdown_job *)job;
        struct sfs *sfs = d->a->sfs;
        cleanup_fd int root = -1;

        if (sfs_place_open(sfs, &root) < 0)
                return; /* somebody mounted something on top */
        for (size_t i = 0; i < d->n; i++) {
                cleanup_free char *path = NULL;
                struct strata_info info;

                if (strata_entry_info(sfs->store, d->ids[i], &info) < 0)
                        continue;
                if (asprintf(&path, "/proc/thread-self/fd/%d/%s/%s/fs", root, strata_kind_folder(info.kind),
                             info.name) < 0) {
                        path = NULL;
                        continue;
                }
                if (strata_mount_detach(path, 0) < 0)
                        (void)strata_mount_detach(path, MNT_DETACH);
        }
}

static void done_shutdown(struct sfs_job *job)
{
        struct shutdown_job *d = (struct shutdown_job *)job;

        pthread_mutex_lock(&d->a->lock);
        d->finished = true;
        pthread_cond_broadcast(&d->a->settled);
        pthread_mutex_unlock(&d->a->lock);
}

void sfs_attach_stop(struct sfs_attach *a)
{
        pthread_mutex_lock(&a->lock);
        a->stopping = true;
        pthread_cond_broadcast(&a->settled);
        pthread_mutex_unlock(&a->lock);
}

void sfs_attach_shutdown(struct sfs_attach *a)
{
        struct shutdown_job d = { .job = { run_shutdown, done_shutdown, NULL }, .a = a };
        struct timespec end = strata_metrics_start();

        end.tv_sec += END_SECONDS;
        pthread_mutex_lock(&a->lock);
        a->stopping = true;
        while ((a->n_jobs || a->n_claims) && pthread_cond_timedwait(&a->settled, &a->lock, &end) == 0)
                ;
        d.ids = calloc(HASH_COUNT(a->entries) + 1, sizeof(*d.ids));
        for (struct sfs_live *e = a->entries; e && d.ids; e = e->hh.next)
                if (e->state == SFS_MOUNTED)
                        d.ids[d.n++] = e->id;
        sfs_pool_submit(a->sfs->pool, SFS_LANE_CHANGE, &d.job);
        while (!d.finished)
                pthread_cond_wait(&a->settled, &a->lock);
        pthread_mutex_unlock(&a->lock);
        free(d.ids);
}

void sfs_attach_left(struct sfs_attach *a)
{
        struct strata *store = a->sfs->store;
        cleanup_free uint64_t *ids = calloc(HASH_COUNT(a->entries) + 1, sizeof(*ids));
        struct strata_info info;
        size_t n = 0;

        for (struct sfs_live *e = a->entries; e && ids; e = e->hh.next)
                if (strata_mount_was_left(store, e->id) && strata_entry_info(store, e->id, &info) == 0 &&
                    info.kind == STRATA_ACTIVE)
                        ids[n++] = e->id;
        strata_mount_left_all(store, ids, n);
}
