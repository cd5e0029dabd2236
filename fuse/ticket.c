/* SPDX-License-Identifier: Apache-2.0 */
#include "ticket.h"

#include "util/hash.h"

#include <stdlib.h>

#define ERROR_SECONDS 1 /* how long the error of a ticket counts: its thread asks within microseconds */

struct sfs_ticket {
        struct {
                uint64_t id; /* of a thread without a number, else 0 */
                uint64_t tid;
        } key;
        uint64_t id;
        int error;
        time_t since;
        UT_hash_handle hh;
        int oom;
};

/* The ticket of TID, whatever it is for; without a number the one for ID. */
static struct sfs_ticket *find_of(struct sfs_ticket *table, uint64_t id, pid_t tid)
{
        struct sfs_ticket key = { .key = { tid ? 0 : id, (uint64_t)tid } }, *t;

        HASH_FIND(hh, table, &key.key, sizeof(key.key), t);
        return t;
}

static struct sfs_ticket *find(struct sfs_ticket *table, uint64_t id, pid_t tid)
{
        struct sfs_ticket *t = find_of(table, id, tid);

        return t && t->id == id ? t : NULL;
}

static void drop(struct sfs_ticket **table, struct sfs_ticket *t)
{
        HASH_DEL(*table, t);
        free(t);
}

void sfs_ticket_give_error(struct sfs_ticket **table, uint64_t id, pid_t tid, int error, time_t now)
{
        struct sfs_ticket *t = find_of(*table, id, tid);

        if (!t) {
                t = calloc(1, sizeof(*t));
                if (!t)
                        return;
                t->key.id = tid ? 0 : id;
                t->key.tid = (uint64_t)tid;
                HASH_ADD(hh, *table, key, sizeof(t->key), t);
                if (t->oom) {
                        free(t);
                        return;
                }
        }
        t->id = id;
        t->error = error;
        t->since = now;
}

void sfs_ticket_give(struct sfs_ticket **table, uint64_t id, pid_t tid, time_t now)
{
        sfs_ticket_give_error(table, id, tid, 0, now);
}

void sfs_ticket_fail(struct sfs_ticket **table, uint64_t id, int error, time_t now)
{
        for (struct sfs_ticket *t = *table; t; t = t->hh.next) {
                if (t->id == id) {
                        t->error = error;
                        t->since = now;
                }
        }
}

bool sfs_ticket_take(struct sfs_ticket **table, uint64_t id, pid_t tid, int *error)
{
        struct sfs_ticket *t = find(*table, id, tid);

        if (!t)
                return false;
        *error = t->error;
        /* Others without a number may be on the same walk. */
        if (tid || t->error)
                drop(table, t);
        return true;
}

bool sfs_ticket_take_error(struct sfs_ticket **table, uint64_t id, pid_t tid, int *error)
{
        struct sfs_ticket *t = find(*table, id, tid);

        return t && t->error && sfs_ticket_take(table, id, tid, error);
}

bool sfs_ticket_follow(struct sfs_ticket *table, uint64_t id, pid_t tid, time_t now, uint64_t *old)
{
        struct sfs_ticket *t = tid ? find_of(table, id, tid) : NULL;

        if (!t || t->id == id)
                return false;
        *old = t->id;
        t->id = id;
        t->error = 0;
        t->since = now;
        return true;
}

void sfs_ticket_sweep(struct sfs_ticket **table, time_t now, time_t seconds)
{
        struct sfs_ticket *t, *next;

        HASH_ITER(hh, *table, t, next) {
                if (seconds < 0 || now - t->since > (t->error ? ERROR_SECONDS : seconds))
                        drop(table, t);
        }
}
