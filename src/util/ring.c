/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct strata_ring {
        pthread_mutex_t lock; /* a leaf, held over memory operations; protects all that follows, but for DATA */
        pthread_cond_t readable;
        pthread_cond_t writable;
        size_t size;
        size_t head; /* bytes ever written; the difference to TAIL is what is there */
        size_t tail; /* bytes ever read */
        bool reader_waits, writer_waits;
        bool ended, cancelled;
        int error;
        char data[]; /* bytes from TAIL to HEAD are the reader's, the rest are the writer's */
};

int strata_ring_new(size_t size, struct strata_ring **ret)
{
        struct strata_ring *r = malloc(sizeof(*r) + size);

        if (!r)
                return -ENOMEM;
        memset(r, 0, sizeof(*r));
        r->size = size;
        pthread_mutex_init(&r->lock, NULL);
        pthread_cond_init(&r->readable, NULL);
        pthread_cond_init(&r->writable, NULL);
        *ret = r;
        return 0;
}

void strata_ring_free(struct strata_ring *r)
{
        if (!r)
                return;
        pthread_cond_destroy(&r->writable);
        pthread_cond_destroy(&r->readable);
        pthread_mutex_destroy(&r->lock);
        free(r);
}

int strata_ring_reserve(struct strata_ring *r, size_t want, void **ret, size_t *len)
{
        size_t at, room;
        int error;

        pthread_mutex_lock(&r->lock);
        while (r->head - r->tail == r->size && !r->cancelled) {
                /* A reader that waits for more than there is would never make room. */
                if (r->reader_waits)
                        pthread_cond_signal(&r->readable);
                r->writer_waits = true;
                pthread_cond_wait(&r->writable, &r->lock);
                r->writer_waits = false;
        }
        error = r->cancelled ? -ECANCELED : 0;
        at = r->head % r->size;
        room = r->size - (r->head - r->tail);
        pthread_mutex_unlock(&r->lock);
        if (room > r->size - at)
                room = r->size - at;
        *ret = r->data + at;
        *len = room < want ? room : want;
        return error;
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
                /* Woken for a good piece only: a switch of threads costs more than a small file. */
                if (r->reader_waits && r->head - r->tail >= r->size / 8)
                        pthread_cond_signal(&r->readable);
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
        pthread_cond_signal(&r->readable);
        pthread_mutex_unlock(&r->lock);
}

ssize_t strata_ring_read(struct strata_ring *r, void *buf, size_t len)
{
        size_t there, at, n, first;

        pthread_mutex_lock(&r->lock);
        if (r->head == r->tail && !r->ended && len > 0) {
                r->reader_waits = true;
                while (r->head == r->tail && !r->ended)
                        pthread_cond_wait(&r->readable, &r->lock);
                r->reader_waits = false;
        }
        there = r->head - r->tail;
        at = r->tail % r->size;
        pthread_mutex_unlock(&r->lock);
        if (there == 0 || len == 0)
                return len ? r->error : 0;
        n = there < len ? there : len;
        first = n < r->size - at ? n : r->size - at;
        memcpy(buf, r->data + at, first);
        memcpy((char *)buf + first, r->data, n - first);
        pthread_mutex_lock(&r->lock);
        r->tail += n;
        if (r->writer_waits && r->head - r->tail <= r->size / 2)
                pthread_cond_signal(&r->writable);
        pthread_mutex_unlock(&r->lock);
        return (ssize_t)n;
}

void strata_ring_cancel(struct strata_ring *r)
{
        pthread_mutex_lock(&r->lock);
        r->cancelled = true;
        pthread_cond_signal(&r->writable);
        pthread_mutex_unlock(&r->lock);
}
