/* SPDX-License-Identifier: Apache-2.0 */
#include "layer_stream.h"

#include "layer_unpack.h"
#include "util/cleanup.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)128 << 10) /* as much as the kernel hands on of a cp(1) at once */
/* Of a queue. Enough to bridge what the other threads do at once; more would be cold when its turn comes. */
#define QUEUE_BLOCKS 32

struct strata_block {
        struct strata_block *next;
        size_t len;
        unsigned refs; /* under the lock: the one who has it at hand, and those who keep it */
        unsigned char data[BLOCK_BYTES];
};

struct queue {
        struct strata_block *first, **last;
        unsigned n;
        bool ended; /* nothing more will be added */
};

struct strata_stream {
        uint64_t max_bytes;

        pthread_mutex_t lock; /* protects the five below; a leaf lock, held over no copying */
        pthread_cond_t moved; /* a block was added or taken, an end was reached, or all was stopped */
        struct queue in, out;
        struct strata_block *spare; /* used blocks, so that their pages stay */
        int error;
        const char *why;

        struct strata_block *filling; /* the writer's own */
        struct strata_block *reading; /* the reader's own */

        /* Of the thread between. */
        struct strata_digest *given, *plain;
        bool is_plain; /* nothing is compressed: one digest serves for both */
        uint64_t plain_bytes;
        struct strata_block *feeding; /* what is being decompressed */
        struct strata_block *making;  /* what it is decompressed to */
};

int strata_stream_new(uint64_t max_bytes, struct strata_stream **ret)
{
        struct strata_stream *st = calloc(1, sizeof(*st));
        int r;

        if (!st)
                return -ENOMEM;
        pthread_mutex_init(&st->lock, NULL);
        pthread_cond_init(&st->moved, NULL);
        st->max_bytes = max_bytes;
        st->in.last = &st->in.first;
        st->out.last = &st->out.first;
        r = strata_digest_new(&st->given);
        if (r == 0)
                r = strata_digest_new(&st->plain);
        if (r < 0) {
                strata_stream_free(st);
                return r;
        }
        *ret = st;
        return 0;
}

static void free_blocks(struct strata_block *b)
{
        while (b) {
                struct strata_block *next = b->next;

                free(b);
                b = next;
        }
}

void strata_stream_free(struct strata_stream *st)
{
        if (!st)
                return;
        free_blocks(st->in.first);
        free_blocks(st->out.first);
        free_blocks(st->spare);
        free(st->filling);
        free(st->reading);
        free(st->feeding);
        free(st->making);
        strata_digest_free(st->given);
        strata_digest_free(st->plain);
        pthread_cond_destroy(&st->moved);
        pthread_mutex_destroy(&st->lock);
        free(st);
}

static struct strata_block *get_block(struct strata_stream *st)
{
        struct strata_block *b;

        pthread_mutex_lock(&st->lock);
        b = st->spare;
        if (b)
                st->spare = b->next;
        pthread_mutex_unlock(&st->lock);
        if (!b)
                b = malloc(sizeof(*b));
        if (b) {
                b->len = 0;
                b->refs = 1;
        }
        return b;
}

static void put_block(struct strata_stream *st, struct strata_block *b)
{
        if (!b)
                return;
        pthread_mutex_lock(&st->lock);
        if (--b->refs == 0) {
                b->next = st->spare;
                st->spare = b;
        }
        pthread_mutex_unlock(&st->lock);
}

struct strata_block *strata_stream_block(struct strata_stream *st, const void *data, size_t len)
{
        struct strata_block *b = st->reading;
        const uintptr_t at = (uintptr_t)data, start = b ? (uintptr_t)b->data : 0;

        return b && at >= start && at - start <= b->len && len <= b->len - (at - start) ? b : NULL;
}

void strata_stream_keep(struct strata_stream *st, struct strata_block *b)
{
        pthread_mutex_lock(&st->lock);
        b->refs++;
        pthread_mutex_unlock(&st->lock);
}

void strata_stream_drop(struct strata_stream *st, struct strata_block *b)
{
        put_block(st, b);
}

/* Takes B, also on failure. */
static int push(struct strata_stream *st, struct queue *q, struct strata_block *b)
{
        int r;

        pthread_mutex_lock(&st->lock);
        while (q->n >= QUEUE_BLOCKS && !st->error)
                pthread_cond_wait(&st->moved, &st->lock);
        r = st->error;
        if (r == 0) {
                b->next = NULL;
                *q->last = b;
                q->last = &b->next;
                if (q->n++ == 0)
                        pthread_cond_broadcast(&st->moved);
        }
        pthread_mutex_unlock(&st->lock);
        if (r < 0)
                put_block(st, b);
        return r;
}

/* 1 and a block, 0 at the end, or the error of the stream. */
static int pop(struct strata_stream *st, struct queue *q, struct strata_block **ret)
{
        int r;

        pthread_mutex_lock(&st->lock);
        while (!q->first && !q->ended && !st->error)
                pthread_cond_wait(&st->moved, &st->lock);
        r = st->error;
        if (r == 0 && q->first) {
                *ret = q->first;
                q->first = q->first->next;
                if (!q->first)
                        q->last = &q->first;
                /* Waking at half full spares the two sides from taking turns at every block. */
                if (--q->n == QUEUE_BLOCKS / 2)
                        pthread_cond_broadcast(&st->moved);
                r = 1;
        }
        pthread_mutex_unlock(&st->lock);
        return r;
}

static int end_queue(struct strata_stream *st, struct queue *q)
{
        int r;

        pthread_mutex_lock(&st->lock);
        q->ended = true;
        r = st->error;
        pthread_cond_broadcast(&st->moved);
        pthread_mutex_unlock(&st->lock);
        return r;
}

bool strata_stream_has_room(struct strata_stream *st, size_t len)
{
        size_t blocks = ((st->filling ? st->filling->len : 0) + len) / BLOCK_BYTES;
        bool ret;

        pthread_mutex_lock(&st->lock);
        ret = !st->error && st->in.n + blocks <= QUEUE_BLOCKS;
        pthread_mutex_unlock(&st->lock);
        return ret;
}

int strata_stream_write(struct strata_stream *st, const void *data, size_t len)
{
        const unsigned char *p = data;
        const char *why;
        int r = strata_stream_error(st, &why);

        while (r == 0 && len > 0) {
                size_t n;

                if (!st->filling)
                        st->filling = get_block(st);
                if (!st->filling)
                        return -ENOMEM;
                n = BLOCK_BYTES - st->filling->len;
                n = n < len ? n : len;
                memcpy(st->filling->data + st->filling->len, p, n);
                st->filling->len += n;
                p += n;
                len -= n;
                if (st->filling->len == BLOCK_BYTES)
                        r = push(st, &st->in, steal_ptr(&st->filling));
        }
        return r;
}

int strata_stream_end(struct strata_stream *st)
{
        int r = 0;

        if (st->filling && st->filling->len)
                r = push(st, &st->in, steal_ptr(&st->filling));
        return r < 0 ? r : end_queue(st, &st->in);
}

ssize_t strata_stream_read(struct strata_stream *st, const void **ret)
{
        int r;

        put_block(st, steal_ptr(&st->reading));
        r = pop(st, &st->out, &st->reading);
        if (r <= 0)
                return r;
        *ret = st->reading->data;
        return (ssize_t)st->reading->len;
}

void strata_stream_stop(struct strata_stream *st, int error, const char *why)
{
        pthread_mutex_lock(&st->lock);
        if (!st->error) {
                st->error = error;
                st->why = why;
        }
        pthread_cond_broadcast(&st->moved);
        pthread_mutex_unlock(&st->lock);
}

int strata_stream_error(struct strata_stream *st, const char **why)
{
        int r;

        pthread_mutex_lock(&st->lock);
        r = st->error;
        *why = st->why;
        pthread_mutex_unlock(&st->lock);
        return r;
}

int strata_stream_digests(struct strata_stream *st, char given[STRATA_DIGEST_MAX], char plain[STRATA_DIGEST_MAX])
{
        int n = sprintf(plain, "sha256:"), r;

        r = strata_digest_end(st->plain, plain + n);
        if (r == 0 && st->is_plain)
                memcpy(given, plain, STRATA_DIGEST_MAX);
        else if (r == 0)
                r = strata_digest_end(st->given, given + sprintf(given, "sha256:"));
        return r;
}

/* Counts, hashes and hands on plain bytes; takes B. */
static int deliver(struct strata_stream *st, struct strata_block *b)
{
        int r;

        st->plain_bytes += b->len;
        if (st->max_bytes && st->plain_bytes > st->max_bytes) {
                put_block(st, b);
                strata_stream_stop(st, -EFBIG, "the layer is larger, uncompressed, than the mount allows");
                return -EFBIG;
        }
        r = strata_digest_add(st->plain, b->data, b->len);
        if (r < 0) {
                put_block(st, b);
                strata_stream_stop(st, r, NULL);
                return r;
        }
        return push(st, &st->out, b);
}

/* ---- decompression: the ends of strata_unpack() ---- */

static ssize_t more(void *data, const void **ret)
{
        struct strata_stream *st = data;
        int r;

        put_block(st, steal_ptr(&st->feeding));
        r = pop(st, &st->in, &st->feeding);
        if (r > 0)
                r = strata_digest_add(st->given, st->feeding->data, st->feeding->len);
        else
                return r;
        *ret = st->feeding->data;
        return r < 0 ? r : (ssize_t)st->feeding->len;
}

static int room(void *data, void **ret, size_t *len)
{
        struct strata_stream *st = data;

        if (!st->making)
                st->making = get_block(st);
        if (!st->making)
                return -ENOMEM;
        *ret = st->making->data + st->making->len;
        *len = BLOCK_BYTES - st->making->len;
        return 0;
}

static int put(void *data, size_t len)
{
        struct strata_stream *st = data;

        st->making->len += len;
        return st->making->len < BLOCK_BYTES ? 0 : deliver(st, steal_ptr(&st->making));
}

/* FIRST, a block, is that of more() before its first call. */
static void decompress(struct strata_stream *st, struct strata_block *first)
{
        const struct strata_unpack_ends ends = { .data = st, .more = more, .room = room, .put = put };
        const void *data;
        ssize_t n;
        int r;

        st->feeding = first;
        r = strata_digest_add(st->given, first->data, first->len);
        if (r == 0)
                r = strata_unpack(&ends, first->data, first->len);
        if (r == 0 && st->making && st->making->len)
                r = deliver(st, steal_ptr(&st->making));
        /* What follows the compressed data belongs to the stream as given all the same. */
        for (n = r; n == 0 && (n = more(st, &data)) > 0; n = 0)
                ;
        /* Nothing, if it was stopped already. */
        if (n < 0)
                strata_stream_stop(st, (int)n, n == -EINVAL ? "the compressed data is damaged or cut off" : NULL);
}

static void pass_on(struct strata_stream *st, struct strata_block *b)
{
        int r = b ? 1 : 0;

        st->is_plain = true;
        while (r > 0) {
                r = deliver(st, b);
                if (r == 0)
                        r = pop(st, &st->in, &b);
        }
}

void strata_stream_run(struct strata_stream *st)
{
        struct strata_block *first = NULL;
        const char *why;

        if (pop(st, &st->in, &first) < 0)
                return;
        if (first && strata_unpack_is_compressed(first->data, first->len))
                decompress(st, first);
        else
                pass_on(st, first);
        if (strata_stream_error(st, &why) == 0)
                (void)end_queue(st, &st->out);
}
