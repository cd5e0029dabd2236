/* SPDX-License-Identifier: Apache-2.0 */
#include "layer_stream.h"

#include "util/cleanup.h"

#include <archive.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)256 << 10)
#define QUEUE_BLOCKS 32 /* a queue; both together hold 16 MiB */

struct block {
        struct block *next;
        size_t len;
        unsigned char data[BLOCK_BYTES];
};

struct queue {
        struct block *first, **last;
        unsigned n;
        bool ended; /* nothing more will be added */
};

struct strata_stream {
        uint64_t max_bytes;

        pthread_mutex_t lock; /* protects the five below; a leaf lock, held over no copying */
        pthread_cond_t moved; /* a block was added or taken, an end was reached, or all was stopped */
        struct queue in, out;
        struct block *spare; /* used blocks, so that their pages stay */
        int error;
        const char *why;

        struct block *filling; /* the writer's own */
        struct block *reading; /* the reader's own */

        /* Of the thread between. */
        EVP_MD_CTX *given, *plain;
        bool is_plain; /* nothing is compressed: one digest serves for both */
        uint64_t plain_bytes;
        struct block *peeked;  /* the first, which tells the compression */
        struct block *feeding; /* what the decompressor reads from */
};

int strata_stream_new(uint64_t max_bytes, struct strata_stream **ret)
{
        struct strata_stream *st = calloc(1, sizeof(*st));

        if (!st)
                return -ENOMEM;
        pthread_mutex_init(&st->lock, NULL);
        pthread_cond_init(&st->moved, NULL);
        st->max_bytes = max_bytes;
        st->in.last = &st->in.first;
        st->out.last = &st->out.first;
        st->given = EVP_MD_CTX_new();
        st->plain = EVP_MD_CTX_new();
        if (!st->given || !st->plain || EVP_DigestInit_ex(st->given, EVP_sha256(), NULL) != 1 ||
            EVP_DigestInit_ex(st->plain, EVP_sha256(), NULL) != 1) {
                strata_stream_free(st);
                return -ENOMEM;
        }
        *ret = st;
        return 0;
}

static void free_blocks(struct block *b)
{
        while (b) {
                struct block *next = b->next;

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
        free(st->peeked);
        free(st->feeding);
        EVP_MD_CTX_free(st->given);
        EVP_MD_CTX_free(st->plain);
        pthread_cond_destroy(&st->moved);
        pthread_mutex_destroy(&st->lock);
        free(st);
}

static struct block *get_block(struct strata_stream *st)
{
        struct block *b;

        pthread_mutex_lock(&st->lock);
        b = st->spare;
        if (b)
                st->spare = b->next;
        pthread_mutex_unlock(&st->lock);
        if (!b)
                b = malloc(sizeof(*b));
        if (b)
                b->len = 0;
        return b;
}

static void put_block(struct strata_stream *st, struct block *b)
{
        if (!b)
                return;
        pthread_mutex_lock(&st->lock);
        b->next = st->spare;
        st->spare = b;
        pthread_mutex_unlock(&st->lock);
}

/* Takes B, also on failure. */
static int push(struct strata_stream *st, struct queue *q, struct block *b)
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
static int pop(struct strata_stream *st, struct queue *q, struct block **ret)
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

static void hex(EVP_MD_CTX *ctx, char ret[STRATA_DIGEST_MAX])
{
        unsigned char md[EVP_MAX_MD_SIZE];
        unsigned n = 0;
        char *p = ret + sprintf(ret, "sha256:");

        EVP_DigestFinal_ex(ctx, md, &n);
        for (unsigned i = 0; i < n && i < 32; i++)
                p += sprintf(p, "%02x", md[i]);
}

void strata_stream_digests(struct strata_stream *st, char given[STRATA_DIGEST_MAX], char plain[STRATA_DIGEST_MAX])
{
        hex(st->plain, plain);
        if (st->is_plain)
                memcpy(given, plain, STRATA_DIGEST_MAX);
        else
                hex(st->given, given);
}

/* Counts, hashes and hands on plain bytes; takes B. */
static int deliver(struct strata_stream *st, struct block *b)
{
        st->plain_bytes += b->len;
        if (st->max_bytes && st->plain_bytes > st->max_bytes) {
                put_block(st, b);
                strata_stream_stop(st, -EFBIG, "the layer is larger, uncompressed, than the mount allows");
                return -EFBIG;
        }
        EVP_DigestUpdate(st->plain, b->data, b->len);
        return push(st, &st->out, b);
}

static bool starts_with(const struct block *b, const char *bytes, size_t len)
{
        return b->len >= len && memcmp(b->data, bytes, len) == 0;
}

static bool is_compressed(const struct block *b)
{
        return starts_with(b, "\x1f\x8b", 2) ||         /* gzip: RFC 1952, 2.3.1 */
               starts_with(b, "\x28\xb5\x2f\xfd", 4) || /* Zstandard: RFC 8878, 3.1.1 */
               (b->len >= 4 && b->data[0] >> 4 == 5 && memcmp(b->data + 1, "\x2a\x4d\x18", 3) == 0) || /* 3.1.2 */
               starts_with(b, "\xfd\x37\x7a\x58\x5a\x00", 6) ||                                        /* xz */
               starts_with(b, "BZh", 3);                                                               /* bzip2 */
}

static la_ssize_t feed(struct archive *a, void *data, const void **ret)
{
        struct strata_stream *st = data;
        int r = 1;

        put_block(st, steal_ptr(&st->feeding));
        if (st->peeked)
                st->feeding = steal_ptr(&st->peeked);
        else
                r = pop(st, &st->in, &st->feeding);
        if (r < 0) {
                if (a)
                        archive_set_error(a, -r, "stopped");
                return -1;
        }
        if (r == 0)
                return 0;
        EVP_DigestUpdate(st->given, st->feeding->data, st->feeding->len);
        *ret = st->feeding->data;
        return (la_ssize_t)st->feeding->len;
}

/* What follows the compressed data belongs to the stream as given all the same. */
static int drain(struct strata_stream *st)
{
        const void *data;
        la_ssize_t n;

        while ((n = feed(NULL, st, &data)) > 0)
                ;
        return n < 0 ? -ECANCELED : 0;
}

static void decompress(struct strata_stream *st)
{
        static const char broken[] = "the compressed data is damaged or cut off";
        struct archive *a = archive_read_new();
        struct archive_entry *entry;
        la_ssize_t n = 0;
        int r = a ? 0 : -ENOMEM;

        /* A warning would mean that libarchive lacks the library and starts a program for it. */
        if (r == 0 &&
            (archive_read_support_filter_gzip(a) != ARCHIVE_OK || archive_read_support_filter_zstd(a) != ARCHIVE_OK ||
             archive_read_support_filter_xz(a) != ARCHIVE_OK || archive_read_support_filter_bzip2(a) != ARCHIVE_OK ||
             archive_read_support_format_raw(a) != ARCHIVE_OK))
                r = -EOPNOTSUPP;
        if (r == 0 && (archive_read_open(a, st, NULL, feed, NULL) != ARCHIVE_OK ||
                       archive_read_next_header(a, &entry) != ARCHIVE_OK))
                r = -EINVAL;
        while (r == 0) {
                struct block *b = get_block(st);

                if (!b) {
                        r = -ENOMEM;
                        break;
                }
                n = archive_read_data(a, b->data, BLOCK_BYTES);
                if (n <= 0) {
                        put_block(st, b);
                        break;
                }
                b->len = (size_t)n;
                r = deliver(st, b);
        }
        if (r == 0 && n < 0)
                r = archive_errno(a) == ENOMEM ? -ENOMEM : -EINVAL;
        archive_read_free(a);
        if (r == 0)
                r = drain(st);
        if (r < 0)
                strata_stream_stop(st, r, r == -EINVAL ? broken : NULL); /* nothing, if it was stopped already */
}

static void pass_on(struct strata_stream *st)
{
        struct block *b = steal_ptr(&st->peeked);
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
        const char *why;

        if (pop(st, &st->in, &st->peeked) < 0)
                return;
        if (st->peeked && is_compressed(st->peeked))
                decompress(st);
        else
                pass_on(st);
        if (strata_stream_error(st, &why) == 0)
                (void)end_queue(st, &st->out);
}
