/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PIECE 8 /* of the ring: what is worth a switch of threads, which costs more than a small file */

struct reader {
        pthread_cond_t readable;
        size_t tail; /* bytes ever read */
        bool waits;
};

struct strata_ring {
        pthread_mutex_t lock; /* a leaf, held over memory operations; protects all that follows, but for DATA */
        pthread_cond_t writable;
        struct reader readers[STRATA_RING_READERS];
        unsigned n;
        size_t size;
        size_t head; /* bytes ever written; the difference to a reader's tail is what is there for it */
        bool writer_waits;
        bool ended, cancelled;
        int error;
        char data[]; /* bytes from the last reader's tail to HEAD are the readers', the rest are the writer's */
};

/* Bytes that some reader has not read yet. */
static size_t held(const struct strata_ring *r)
{
        size_t most = 0;

        for (unsigned i = 0; i < r->n; i++)
                if (r->head - r->readers[i].tail > most)
                        most = r->head - r->readers[i].tail;
        return most;
}

int strata_ring_new(size_t size, unsigned readers, struct strata_ring **ret)
{
        struct strata_ring *r = malloc(sizeof(*r) + size);
        pthread_condattr_t monotonic;

        if (!r)
                return -ENOMEM;
        pthread_condattr_init(&monotonic);
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        memset(r, 0, sizeof(*r));
        r->size = size;
        r->n = readers;
        pthread_mutex_init(&r->lock, NULL);
        pthread_cond_init(&r->writable, NULL);
        for (unsigned i = 0; i < STRATA_RING_READERS; i++)
                pthread_cond_init(&r->readers[i].readable, &monotonic);
        pthread_condattr_destroy(&monotonic);
        *ret = r;
        return 0;
}

void strata_ring_free(struct strata_ring *r)
{
        if (!r)
                return;
        for (unsigned i = 0; i < STRATA_RING_READERS; i++)
                pthread_cond_destroy(&r->readers[i].readable);
        pthread_cond_destroy(&r->writable);
        pthread_mutex_destroy(&r->lock);
        free(r);
}

int strata_ring_reserve(struct strata_ring *r, size_t want, void **ret, size_t *len)
{
        size_t at, room;
        int error;

        pthread_mutex_lock(&r->lock);
        r->writer_waits = true;
        while (held(r) == r->size && !r->cancelled)
                pthread_cond_wait(&r->writable, &r->lock);
        r->writer_waits = false;
        error = r->cancelled ? -ECANCELED : 0;
        at = r->head % r->size;
        room = r->size - held(r);
        pthread_mutex_unlock(&r->lock);
        if (room > r->size - at)
                room = r->size - at;
        *ret = r->data + at;
        *len = room < want ? room : want;
        return error;
}

bool strata_ring_is_cancelled(struct strata_ring *r)
{
        bool ret;

        pthread_mutex_lock(&r->lock);
        ret = r->cancelled;
        pthread_mutex_unlock(&r->lock);
        return ret;
}

int strata_ring_write(struct strata_ring *r, const void *data, size_t len)
{
        while (len > 0) {
                size_t n;
                void *to;
                int error = strata_ring_reserve(r, len, &to, &n);

                if (error < 0)
                        return error;
                if (to != data)
                        memcpy(to, data, n);
                pthread_mutex_lock(&r->lock);
                r->head += n;
                for (unsigned i = 0; i < r->n; i++)
                        if (r->readers[i].waits && r->head - r->readers[i].tail >= r->size / PIECE)
                                pthread_cond_signal(&r->readers[i].readable);
                pthread_mutex_unlock(&r->lock);
                data = (const char *)data + n;
                len -= n;
        }
        return 0;
}

void strata_ring_end(struct strata_ring *r, int error)
{
        pthread_mutex_lock(&r->lock);
        r->ended = true;
        r->error = error;
        for (unsigned i = 0; i < r->n; i++)
                pthread_cond_signal(&r->readers[i].readable);
        pthread_mutex_unlock(&r->lock);
}

/* What to wait for, of WANT: a good piece, as many small ones would cost the reader a call each. */
static size_t enough_of(const struct strata_ring *r, size_t want)
{
        return want < r->size / PIECE ? want : r->size / PIECE;
}

bool strata_ring_wait(struct strata_ring *r, unsigned reader, size_t want, unsigned msec)
{
        struct reader *me = &r->readers[reader];
        const size_t enough = enough_of(r, want);
        struct timespec until;
        int error = 0;
        bool ret;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += (long)msec * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&r->lock);
        me->waits = true;
        while (r->head - me->tail < enough && !r->ended && error == 0)
                error = pthread_cond_timedwait(&me->readable, &r->lock, &until);
        me->waits = false;
        ret = r->head - me->tail >= enough || r->ended;
        pthread_mutex_unlock(&r->lock);
        return ret;
}

ssize_t strata_ring_peek(struct strata_ring *r, unsigned reader, size_t want, const void **ret)
{
        struct reader *me = &r->readers[reader];
        const size_t enough = enough_of(r, want);
        size_t there, at;
        int error;

        pthread_mutex_lock(&r->lock);
        me->waits = true;
        while (r->head - me->tail < enough && !r->ended)
                pthread_cond_wait(&me->readable, &r->lock);
        me->waits = false;
        there = r->head - me->tail;
        at = me->tail % r->size;
        error = r->error;
        pthread_mutex_unlock(&r->lock);
        if (there == 0)
                return error;
        if (there > r->size - at)
                there = r->size - at;
        *ret = r->data + at;
        return (ssize_t)(there < want ? there : want);
}

bool strata_ring_has(struct strata_ring *r, unsigned reader, size_t len, const void **ret)
{
        const struct reader *me = &r->readers[reader];
        size_t there, at;

        pthread_mutex_lock(&r->lock);
        there = r->head - me->tail;
        at = me->tail % r->size;
        pthread_mutex_unlock(&r->lock);
        if (there <= len || len > r->size - at)
                return false;
        *ret = r->data + at;
        return true;
}

void strata_ring_skip(struct strata_ring *r, unsigned reader, size_t len)
{
        pthread_mutex_lock(&r->lock);
        r->readers[reader].tail += len;
        if (r->writer_waits && held(r) <= r->size / 2)
                pthread_cond_signal(&r->writable);
        pthread_mutex_unlock(&r->lock);
}

void strata_ring_cancel(struct strata_ring *r)
{
        pthread_mutex_lock(&r->lock);
        r->cancelled = true;
        pthread_cond_signal(&r->writable);
        pthread_mutex_unlock(&r->lock);
}
