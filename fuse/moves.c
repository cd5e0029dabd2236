/* SPDX-License-Identifier: Apache-2.0 */
#include "moves.h"

#include "attach.h"
#include "metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STAY_MS 100 /* the kernel needs microseconds from our answer to its new name, if nothing else runs */

struct sfs_move {
        enum strata_kind kind;
        char name[STRATA_NAME_MAX + 1];
        uint64_t id;
        pid_t tid; /* of the thread that waits for our answer */
        bool ended;
        int64_t since; /* of the end, in ms */
        struct sfs_move *next;
};

static void drop(struct sfs *sfs, struct sfs_move *m)
{
        struct sfs_move **p = &sfs->moves;

        while (*p != m)
                p = &(*p)->next;
        *p = m->next;
        free(m);
}

static int64_t now_ms(void)
{
        struct timespec t = strata_metrics_start();

        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void drop_old(struct sfs *sfs)
{
        int64_t now = now_ms();

        for (struct sfs_move *m = sfs->moves, *next; m; m = next) {
                next = m->next;
                if (m->ended && now - m->since > STAY_MS)
                        drop(sfs, m);
        }
}

struct sfs_move *sfs_moves_begin(struct sfs *sfs, enum strata_kind kind, const char *name, uint64_t id, pid_t tid)
{
        struct sfs_move *m = calloc(1, sizeof(*m));

        if (!m)
                return NULL;
        m->kind = kind;
        m->id = id;
        m->tid = tid;
        snprintf(m->name, sizeof(m->name), "%s", name);
        pthread_mutex_lock(&sfs->moves_lock);
        drop_old(sfs);
        m->next = sfs->moves;
        sfs->moves = m;
        pthread_mutex_unlock(&sfs->moves_lock);
        return m;
}

void sfs_moves_end(struct sfs *sfs, struct sfs_move *m, bool stays)
{
        if (!m)
                return;
        pthread_mutex_lock(&sfs->moves_lock);
        if (stays) {
                m->ended = true;
                m->since = now_ms();
        } else {
                drop(sfs, m);
        }
        pthread_mutex_unlock(&sfs->moves_lock);
}

bool sfs_moves_find(struct sfs *sfs, enum strata_kind kind, const char *name, pid_t tid, uint64_t *id)
{
        bool ended = false;
        uint64_t found = 0;

        pthread_mutex_lock(&sfs->moves_lock);
        drop_old(sfs);
        for (struct sfs_move *m = sfs->moves; m && (!found || ended); m = m->next) {
                /* Who waited for our answer and asks again has it, and the kernel its new name. */
                if (m->kind == kind && strcmp(m->name, name) == 0 && !(m->ended && m->tid == tid)) {
                        found = m->id;
                        ended = m->ended;
                }
        }
        pthread_mutex_unlock(&sfs->moves_lock);
        if (!found || (ended && !sfs_attach_was_sent(sfs->attach, found, tid)))
                return false;
        *id = found;
        return true;
}

void sfs_moves_free(struct sfs *sfs)
{
        while (sfs->moves)
                drop(sfs, sfs->moves);
        pthread_mutex_destroy(&sfs->moves_lock);
}
