/* SPDX-License-Identifier: Apache-2.0 */
#include "live.h"

#include "attr.h"
#include "loop.h"
#include "metrics.h"
#include "node.h"
#include "ops.h"
#include "util/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

time_t sfs_live_now(void)
{
        return strata_metrics_start().tv_sec;
}

int sfs_attach_new(struct sfs *sfs, struct sfs_attach **ret)
{
        struct sfs_attach *a = calloc(1, sizeof(*a));
        pthread_condattr_t attr;

        if (!a)
                return -ENOMEM;
        a->sfs = sfs;
        pthread_mutex_init(&a->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&a->settled, &attr);
        pthread_condattr_destroy(&attr);
        *ret = a;
        return 0;
}

void sfs_attach_free(struct sfs_attach *a)
{
        struct sfs_live *e, *next;

        if (!a)
                return;
        HASH_ITER(hh, a->entries, e, next)
                sfs_live_drop(a, e);
        sfs_ticket_sweep(&a->tickets, 0, -1);
        pthread_cond_destroy(&a->settled);
        pthread_mutex_destroy(&a->lock);
        free(a);
}

struct sfs_live *sfs_live_find(struct sfs_attach *a, uint64_t id)
{
        struct sfs_live *e;

        HASH_FIND(hh, a->entries, &id, sizeof(id), e);
        return e;
}

struct sfs_live *sfs_live_get(struct sfs_attach *a, uint64_t id)
{
        struct sfs_live *e = sfs_live_find(a, id);

        if (e)
                return e;
        e = calloc(1, sizeof(*e));
        if (!e)
                return NULL;
        e->id = id;
        e->copy = -1;
        e->since = sfs_live_now();
        HASH_ADD(hh, a->entries, id, sizeof(e->id), e);
        if (e->oom) {
                free(e);
                return NULL;
        }
        return e;
}

void sfs_live_drop(struct sfs_attach *a, struct sfs_live *e)
{
        HASH_DEL(a->entries, e);
        strata_close(e->copy);
        free(e);
}

void sfs_live_set(struct sfs_attach *a, struct sfs_live *e, enum sfs_state state)
{
        /* A look between the two tries of a release would take the kernel's mark away. */
        e->fresh = state == SFS_MOUNTED && !(e->state == SFS_MOUNTING && e->looking) &&
                   !(e->state == SFS_RELEASING && e->idle_mark);
        e->state = state;
        e->suspect = e->suspect && state != SFS_BARE;
        e->since = sfs_live_now();
        e->entered = false;
        e->toucher = 0;
        e->crowded = false;
        pthread_cond_broadcast(&a->settled);
}

bool sfs_live_is_mine(const struct sfs_live *e, const struct sfs_mount_job *m)
{
        return e && (e->state == SFS_MOUNTING || e->state == SFS_RELEASING) && e->job == m->number;
}

bool sfs_live_enter(struct sfs_mount_job *m)
{
        struct sfs_live *e;
        bool ret;

        pthread_mutex_lock(&m->a->lock);
        e = sfs_live_find(m->a, m->id);
        ret = sfs_live_is_mine(e, m);
        if (ret)
                e->entered = true;
        pthread_mutex_unlock(&m->a->lock);
        return ret;
}

void sfs_live_known(struct sfs_attach *a, struct sfs_live *e)
{
        e->known++;
        sfs_keep_known(a->sfs->keep, e->id);
}

void sfs_live_lost(struct sfs_live *e)
{
        if (!e->dev || e->lost[0] == e->dev)
                return;
        memmove(&e->lost[1], &e->lost[0], (SFS_LOST_MAX - 1) * sizeof(e->lost[0]));
        e->lost[0] = e->dev;
}

void sfs_live_asked(struct sfs_live *e, pid_t tid)
{
        if (!e->toucher)
                e->toucher = tid;
        else if (e->toucher != tid)
                e->crowded = true;
}

void sfs_live_park(struct sfs_live *e, struct sfs_parked *p, fuse_req_t req, bool lookup)
{
        p->req = req;
        p->unique = sfs_loop_unique();
        p->since = sfs_live_now();
        p->lookup = lookup;
        p->note = lookup ? sfs_keep_note(sfs_of(req)->keep, SFS_NOTE_LOOKUP) : NULL;
        sfs_keep_publish(p->note, p->unique);
        p->next = e->parked;
        e->parked = p;
}

struct sfs_parked *sfs_live_unpark(struct sfs_live *e, bool lookup, time_t before)
{
        struct sfs_parked *taken = NULL, **p = &e->parked;

        while (*p) {
                struct sfs_parked *one = *p;

                if (one->lookup != lookup || one->since > before) {
                        p = &one->next;
                        continue;
                }
                *p = one->next;
                one->next = taken;
                taken = one;
        }
        return taken;
}

void sfs_live_answer(struct sfs_parked *list, uint64_t id, int error)
{
        while (list) {
                struct sfs_parked *p = list;
                struct sfs_loop_at before = sfs_loop_turn_to((struct sfs_loop_at){ .unique = p->unique });

                list = p->next;
                if (error)
                        fuse_reply_err(p->req, -error);
                else if (p->lookup)
                        sfs_op_lookup(p->req, sfs_node(id, SFS_SLOT_ENTRY), "fs");
                else
                        sfs_attr_reply(p->req, sfs_node(id, SFS_SLOT_ENTRY));
                sfs_loop_turn_to(before);
                sfs_keep_end(p->note);
                free(p);
        }
}

struct sfs_mount_job *sfs_live_job(struct sfs_attach *a, uint64_t id, void (*run)(struct sfs_job *),
                                   void (*done)(struct sfs_job *))
{
        struct sfs_mount_job *m = calloc(1, sizeof(*m));

        if (!m)
                return NULL;
        m->job.run = run;
        m->job.done = done;
        m->a = a;
        m->id = id;
        m->keep = m->outer = -1;
        m->number = ++a->last_job;
        a->n_jobs++;
        return m;
}
