/* SPDX-License-Identifier: Apache-2.0 */
#include "index.h"

#include "util/hash.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct slot {
        uint64_t id;
        struct strata_info info;
        bool used; /* since it came to the end of the list */
        UT_hash_handle hh;
        int oom;
};

struct strata_index {
        pthread_mutex_t lock; /* protects all below; a leaf lock, held over memory operations only */
        struct slot *slots;   /* in the order in which they came, or were spared when it was their turn to go */
        uint64_t drops;       /* counts strata_index_drop() */
};

int strata_index_new(struct strata_index **ret)
{
        struct strata_index *x = calloc(1, sizeof(*x));

        if (!x)
                return -ENOMEM;
        pthread_mutex_init(&x->lock, NULL);
        *ret = x;
        return 0;
}

static void slot_remove(struct strata_index *x, struct slot *slot)
{
        HASH_DEL(x->slots, slot);
        free(slot);
}

void strata_index_free(struct strata_index *x)
{
        struct slot *slot, *next;

        if (!x)
                return;
        HASH_ITER(hh, x->slots, slot, next)
                slot_remove(x, slot);
        pthread_mutex_destroy(&x->lock);
        free(x);
}

/* One has to go: the first that was not used since it was last looked at here. */
static void make_room(struct strata_index *x)
{
        while (x->slots->used) {
                struct slot *slot = x->slots;

                HASH_DEL(x->slots, slot);
                slot->used = false;
                slot->oom = 0;
                HASH_ADD(hh, x->slots, id, sizeof(slot->id), slot);
                if (slot->oom) {
                        free(slot); /* which makes room as well */
                        return;
                }
        }
        slot_remove(x, x->slots);
}

bool strata_index_get(struct strata_index *x, uint64_t id, struct strata_info *ret, uint64_t *ticket)
{
        struct slot *slot;

        pthread_mutex_lock(&x->lock);
        HASH_FIND(hh, x->slots, &id, sizeof(id), slot);
        if (slot) {
                *ret = slot->info;
                slot->used = true; /* a long chain asks for hundreds: no list is put in order at each */
                pthread_mutex_unlock(&x->lock);
                return true;
        }
        *ticket = x->drops;
        pthread_mutex_unlock(&x->lock);
        return false;
}

uint64_t strata_index_descend(struct strata_index *x, uint64_t id, uint64_t *ids, size_t max, size_t *n)
{
        struct slot *slot;

        pthread_mutex_lock(&x->lock);
        for (*n = 0; id && *n < max; id = slot->info.parent) {
                HASH_FIND(hh, x->slots, &id, sizeof(id), slot);
                if (!slot)
                        break;
                slot->used = true;
                ids[(*n)++] = id;
        }
        pthread_mutex_unlock(&x->lock);
        return id;
}

void strata_index_put(struct strata_index *x, const struct strata_info *info, uint64_t ticket)
{
        struct slot *slot = calloc(1, sizeof(*slot)), *old;

        if (!slot)
                return; /* a cache may forget */
        slot->id = info->id;
        slot->info = *info;
        pthread_mutex_lock(&x->lock);
        if (ticket != x->drops) {
                free(slot);
        } else {
                HASH_FIND(hh, x->slots, &slot->id, sizeof(slot->id), old);
                if (old)
                        slot_remove(x, old);
                if (HASH_COUNT(x->slots) >= STRATA_INDEX_MAX)
                        make_room(x);
                HASH_ADD(hh, x->slots, id, sizeof(slot->id), slot);
                if (slot->oom)
                        free(slot);
        }
        pthread_mutex_unlock(&x->lock);
}

void strata_index_drop(struct strata_index *x, uint64_t id)
{
        struct slot *slot;

        pthread_mutex_lock(&x->lock);
        x->drops++;
        HASH_FIND(hh, x->slots, &id, sizeof(id), slot);
        if (slot)
                slot_remove(x, slot);
        pthread_mutex_unlock(&x->lock);
}

size_t strata_index_size(struct strata_index *x)
{
        size_t n;

        pthread_mutex_lock(&x->lock);
        n = HASH_COUNT(x->slots);
        pthread_mutex_unlock(&x->lock);
        return n;
}
