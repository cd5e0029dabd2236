/* SPDX-License-Identifier: Apache-2.0 */
#include "attach.h"

#include "keep.h"
#include "live.h"
#include "log.h"
#include "loop.h"
#include "metrics.h"
#include "node.h"
#include "ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CLAIM_SECONDS 10 /* how long a commit or removal waits for a mount under way */

/* Most likely mounted: so what is said of the way there may be valid for good. */
static bool is_in_place(const struct sfs_live *e)
{
        return (e->state == SFS_MOUNTED || (e->state == SFS_MOUNTING && e->looking)) && !e->suspect;
}

double sfs_attach_entry_timeout(struct sfs_attach *a, uint64_t id)
{
        struct sfs_live *e;
        double ret;

        pthread_mutex_lock(&a->lock);
        e = sfs_live_find(a, id);
        ret = !e || is_in_place(e) ? SFS_FOREVER : 0;
        pthread_mutex_unlock(&a->lock);
        return ret;
}

uint64_t sfs_attach_count(struct sfs_attach *a)
{
        uint64_t n = 0;

        pthread_mutex_lock(&a->lock);
        for (struct sfs_live *e = a->entries; e; e = e->hh.next)
                n += e->state == SFS_MOUNTED || e->state == SFS_RELEASING;
        pthread_mutex_unlock(&a->lock);
        return n;
}

void sfs_attach_arm(struct sfs_attach *a, uint64_t id)
{
        /* Offset -1: attributes only. -ENOENT, where the kernel does not know the entry, is as good. */
        (void)fuse_lowlevel_notify_inval_inode(a->sfs->se, sfs_node(id, SFS_SLOT_ENTRY), -1, 0);
}

/* ---- requests ---- */

/* One of our own threads: it is shown the bare directory, to mount there, or what is mounted there. */
static int look_inside(struct sfs_attach *a, uint64_t id, double *timeout)
{
        struct sfs_live *e;

        pthread_mutex_lock(&a->lock);
        e = sfs_live_get(a, id);
        if (e)
                sfs_live_known(a, e);
        *timeout = e && is_in_place(e) ? SFS_FOREVER : 0;
        pthread_mutex_unlock(&a->lock);
        return e ? 0 : -ENOMEM;
}

static void log_importing(struct sfs_attach *a, uint64_t id)
{
        char path[SFS_PATH_MAX];

        strata_log_add(a->sfs->store->log, "mount",
                       sfs_op_path(a->sfs, sfs_node(id, SFS_SLOT_FS), NULL, path, sizeof(path)), NULL, EBUSY,
                       "a layer is just being imported into it; wait for that, or end it");
}

/*
 * True for a LOOKUP that a worker before kept for a mount, which it does for known names only. Its count went with that
 * worker.
 */
static bool is_known_by_note(struct sfs_attach *a)
{
        struct sfs_note *n = sfs_loop_resent() ? sfs_keep_resumed(a->sfs->keep, sfs_loop_unique()) : NULL;

        sfs_keep_end(n);
        return n;
}

int sfs_attach_look(struct sfs_attach *a, fuse_req_t req, uint64_t id, double *timeout)
{
        pid_t tid = fuse_req_ctx(req)->pid;
        bool importing = false;
        struct sfs_parked *p;
        struct sfs_live *e;
        bool known = is_known_by_note(a);
        int r = -ESTALE, error;

        *timeout = 0;
        if (sfs_pool_is_walker(a->sfs->pool, tid))
                return look_inside(a, id, timeout);
        p = malloc(sizeof(*p));
        pthread_mutex_lock(&a->lock);
        known = known || sfs_keep_is_known(a->sfs->keep, id);
        e = known ? sfs_live_get(a, id) : sfs_live_find(a, id);
        if (e && known && !e->known)
                e->known = 1;
        if (e)
                sfs_live_asked(e, tid);
        if (e && e->state == SFS_MOUNTED && !e->suspect) {
                sfs_live_known(a, e);
                *timeout = SFS_FOREVER;
                r = 0;
                (void)sfs_ticket_take_error(&a->tickets, id, tid, &error); /* of a try before */
                /* It got there: a ticket that is left is of a worker that died before it sent the thread back. */
                (void)sfs_ticket_take(&a->tickets, id, tid, &error);
                sfs_keep_ticket_taken(a->sfs->keep, id, tid);
        } else if (sfs_ticket_take_error(&a->tickets, id, tid, &error)) {
                r = -error;
        } else if (e && e->importing) {
                r = -EBUSY;
                importing = true;
        } else if (e && e->known && p) {
                bool busy = e->state != SFS_BARE && e->state != SFS_MOUNTED;

                if (busy || sfs_live_mount(a, e)) {
                        sfs_live_park(e, p, req, true);
                        p = NULL;
                        r = 1;
                }
        }
        pthread_mutex_unlock(&a->lock);
        free(p);
        if (r == -ESTALE)
                sfs_attach_missed(a, req, id);
        if (importing)
                log_importing(a, id);
        return r;
}

void sfs_attach_missed(struct sfs_attach *a, fuse_req_t req, uint64_t id)
{
        struct sfs_live *e;

        pthread_mutex_lock(&a->lock);
        e = sfs_live_get(a, id);
        if (e && e->state != SFS_BARE && e->state != SFS_MOUNTING)
                e->suspect = true;
        if (e) {
                sfs_ticket_give(&a->tickets, id, fuse_req_ctx(req)->pid, sfs_live_now());
                sfs_keep_ticket(a->sfs->keep, id, fuse_req_ctx(req)->pid);
                e->since = sfs_live_now(); /* listed as long as the ticket counts */
        }
        if (e && e->state == SFS_BARE)
                (void)sfs_live_mount(a, e); /* else the holder of the ticket does */
        pthread_mutex_unlock(&a->lock);
        sfs_attach_arm(a, id); /* after the state says so: answers from here on carry no validity */
}

void sfs_attach_forget(struct sfs_attach *a, uint64_t id, uint64_t n)
{
        struct sfs_parked *late = NULL;
        struct sfs_live *e;

        pthread_mutex_lock(&a->lock);
        e = sfs_live_find(a, id);
        if (!e || n >= e->known)
                sfs_keep_unknown(a->sfs->keep, id);
        if (e) {
                e->known -= n < e->known ? n : e->known;
                /*
                 * What is mounted pins the name: if that was dropped, so was the mount. The kernel drops a name of
                 * which a worker before knew and this one does not, when it is told ESTALE.
                 */
                if (e->state != SFS_BARE)
                        e->suspect = true;
                if (e->state == SFS_MOUNTED)
                        sfs_live_lost(e);
                if (!e->known) {
                        /* What was kept while this was on its way asked about an unknown name after all. */
                        late = sfs_live_unpark(e, true, sfs_live_now());
                        for (struct sfs_parked *p = late; p; p = p->next)
                                sfs_ticket_give(&a->tickets, id, fuse_req_ctx(p->req)->pid, sfs_live_now());
                }
        }
        pthread_mutex_unlock(&a->lock);
        if (late)
                sfs_attach_arm(a, id);
        sfs_live_answer(late, id, -ESTALE);
}

void sfs_attach_follow(struct sfs_attach *a, uint64_t id, pid_t tid)
{
        struct sfs_live *e;
        uint64_t old;

        pthread_mutex_lock(&a->lock);
        if (sfs_ticket_follow(a->tickets, id, tid, sfs_live_now(), &old)) {
                sfs_keep_ticket_taken(a->sfs->keep, old, tid);
                sfs_keep_ticket(a->sfs->keep, id, tid);
                e = sfs_live_get(a, id); /* listed, so that the entry's attributes are asked for */
                if (e && e->state == SFS_BARE)
                        e->since = sfs_live_now();
        }
        pthread_mutex_unlock(&a->lock);
}

bool sfs_attach_gate(struct sfs_attach *a, fuse_req_t req, uint64_t id, int *error)
{
        struct sfs_parked *p = malloc(sizeof(*p));
        /* One that a worker before may have kept, its ticket used up. */
        bool wants = sfs_loop_resent();
        struct sfs_live *e;
        bool kept = false, importing = false;

        *error = 0;
        pthread_mutex_lock(&a->lock);
        e = sfs_live_find(a, id);
        if (e)
                sfs_live_asked(e, fuse_req_ctx(req)->pid);
        if (sfs_ticket_take(&a->tickets, id, fuse_req_ctx(req)->pid, error))
                wants = true;
        if (wants)
                sfs_keep_ticket_taken(a->sfs->keep, id, fuse_req_ctx(req)->pid);
        if (wants && !*error) {
                e = sfs_live_get(a, id);
                if (!e || !p)
                        *error = ENOMEM;
                else if (e->importing)
                        importing = true;
                else if (e->state != SFS_BARE && e->state != SFS_MOUNTED)
                        kept = true;
                else if (e->state == SFS_BARE || e->suspect)
                        kept = sfs_live_mount(a, e);
                if (kept)
                        sfs_live_park(e, p, req, false);
                else if (importing)
                        *error = EBUSY;
                else if (!*error && e && (e->state != SFS_MOUNTED || e->suspect))
                        *error = a->stopping ? EIO : ENOMEM;
        }
        pthread_mutex_unlock(&a->lock);
        if (!kept)
                free(p);
        if (importing)
                log_importing(a, id);
        return kept;
}

bool sfs_attach_wants_anew(struct sfs_attach *a, pid_t tid, uint64_t id)
{
        struct sfs_live *e;
        bool ret;

        pthread_mutex_lock(&a->lock);
        e = sfs_live_find(a, id);
        ret = e && e->walk_anew == tid;
        if (ret)
                e->walk_anew = 0;
        pthread_mutex_unlock(&a->lock);
        return ret;
}

/* ---- what was before ---- */

void sfs_attach_found(struct sfs_attach *a, uint64_t id, bool expires, dev_t dev, bool suspect)
{
        struct sfs_live *e;

        pthread_mutex_lock(&a->lock);
        e = sfs_live_get(a, id);
        if (e && e->state == SFS_BARE) {
                e->known = e->known ? e->known : 1; /* pinned by what is mounted on it */
                e->dev = dev;
                e->expires = expires;
                e->next_try = sfs_live_now() + a->sfs->expire;
                sfs_live_set(a, e, SFS_MOUNTED);
                e->suspect = suspect;
        } else if (e && e->state == SFS_MOUNTING && !e->looking) {
                e->looking = true; /* the job finds it there; who claims the entry before has to know of it */
                e->suspect = suspect;
        }
        pthread_mutex_unlock(&a->lock);
}

void sfs_attach_found_ticket(struct sfs_attach *a, uint64_t id, pid_t tid)
{
        pthread_mutex_lock(&a->lock);
        if (sfs_live_get(a, id))
                sfs_ticket_give(&a->tickets, id, tid, sfs_live_now());
        pthread_mutex_unlock(&a->lock);
}

int sfs_attach_inherit(struct sfs_attach *a, uint64_t id, dev_t dev, int copy)
{
        struct sfs_live *e;
        int r = -ENOMEM;

        pthread_mutex_lock(&a->lock);
        e = sfs_live_get(a, id);
        if (e && e->copy >= 0) {
                r = -EBUSY; /* of two dead mounts one over the other, the upper one's counts */
        } else if (e) {
                e->dev = dev;
                e->copy = copy;
                e->inherited = true;
                r = 0;
        }
        pthread_mutex_unlock(&a->lock);
        return r;
}

void sfs_attach_inherited(struct sfs_attach *a)
{
        pthread_mutex_lock(&a->lock);
        for (struct sfs_live *e = a->entries; e; e = e->hh.next)
                if (e->copy >= 0 && e->state == SFS_BARE && !sfs_live_mount(a, e))
                        break;
        pthread_mutex_unlock(&a->lock);
}

bool sfs_attach_is_inherited(struct sfs_attach *a, uint64_t id, dev_t *dev)
{
        struct sfs_live *e;
        bool ret;

        pthread_mutex_lock(&a->lock);
        e = sfs_live_find(a, id);
        ret = e && e->inherited;
        if (ret)
                *dev = e->dev;
        pthread_mutex_unlock(&a->lock);
        return ret;
}

bool sfs_attach_was_lost(struct sfs_attach *a, uint64_t id, dev_t devs[SFS_LOST_MAX])
{
        struct sfs_live *e;

        memset(devs, 0, SFS_LOST_MAX * sizeof(*devs));
        pthread_mutex_lock(&a->lock);
        e = sfs_live_find(a, id);
        if (e)
                memcpy(devs, e->lost, sizeof(e->lost));
        pthread_mutex_unlock(&a->lock);
        return devs[0];
}

void sfs_attach_lost(struct sfs_attach *a, uint64_t id)
{
        struct sfs_live *e;

        pthread_mutex_lock(&a->lock);
        e = sfs_live_find(a, id);
        if (e)
                sfs_live_lost(e);
        pthread_mutex_unlock(&a->lock);
}

/* ---- claims ---- */

static bool may_claim(const struct sfs_live *e)
{
        bool at_work = e->state == SFS_MOUNTING || e->state == SFS_RELEASING;

        return e->state == SFS_BARE || e->state == SFS_MOUNTED || (at_work && !e->entered);
}

static bool is_mounted(const struct sfs_live *e)
{
        return e->state == SFS_MOUNTED || e->state == SFS_RELEASING || (e->state == SFS_MOUNTING && e->looking);
}

static enum sfs_claim claim(struct sfs_attach *a, uint64_t id, bool wait, bool for_import)
{
        enum sfs_claim ret = SFS_CLAIM_BUSY;
        struct timespec end = strata_metrics_start();
        struct sfs_live *e;

        end.tv_sec += CLAIM_SECONDS;
        pthread_mutex_lock(&a->lock);
        while (!a->stopping && (e = sfs_live_get(a, id))) {
                if (may_claim(e)) {
                        a->n_claims++;
                        ret = is_mounted(e) ? SFS_CLAIM_MOUNTED : SFS_CLAIM_BARE;
                        e->for_import = for_import;
                        sfs_live_set(a, e, SFS_CLAIMED);
                        break;
                }
                if (e->for_import) {
                        ret = SFS_CLAIM_IMPORT;
                        break;
                }
                if (!wait || pthread_cond_timedwait(&a->settled, &a->lock, &end) != 0)
                        break;
        }
        pthread_mutex_unlock(&a->lock);
        return ret;
}

enum sfs_claim sfs_attach_claim(struct sfs_attach *a, uint64_t id, bool wait)
{
        return claim(a, id, wait, false);
}

enum sfs_claim sfs_attach_claim_import(struct sfs_attach *a, uint64_t id)
{
        return claim(a, id, true, true);
}

void sfs_attach_import(struct sfs_attach *a, uint64_t id)
{
        struct sfs_parked *parked;
        struct sfs_live *e;

        pthread_mutex_lock(&a->lock);
        e = sfs_live_find(a, id); /* claimed: it stays listed until the end of that */
        e->importing = true;
        parked = e->parked;
        e->parked = NULL;
        pthread_cond_broadcast(&a->settled);
        pthread_mutex_unlock(&a->lock);
        if (parked)
                log_importing(a, id);
        sfs_live_answer(parked, id, -EBUSY);
}

void sfs_attach_release(struct sfs_attach *a, uint64_t id, bool mounted)
{
        struct sfs_parked *parked = NULL;
        struct sfs_live *e;

        pthread_mutex_lock(&a->lock);
        a->n_claims--;
        e = sfs_live_find(a, id); /* claimed: it stays listed until here */
        e->importing = e->for_import = false;
        sfs_live_set(a, e, mounted ? SFS_MOUNTED : SFS_BARE);
        e->inherited = e->inherited && mounted;
        if ((mounted && !e->suspect) || !e->parked || !sfs_live_mount(a, e)) {
                parked = e->parked;
                e->parked = NULL;
        }
        pthread_mutex_unlock(&a->lock);
        sfs_live_answer(parked, id, mounted ? 0 : -EIO);
}
