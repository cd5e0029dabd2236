/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread walks the layer and makes the archive, into a ring; the reader takes it from there, and does the hashing,
 * so that both halves use a processor each.
 */
#include "layer_export.h"

#include "damage.h"
#include "export_entry.h"
#include "layer_walk.h"
#include "mount.h"
#include "strata.h"
#include "util/cleanup.h"
#include "util/digest.h"
#include "util/ring.h"
#include "util/sumfile.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define READER 0 /* of the ring: the caller */
#define HASHER 1

#define RING_SIZE ((size_t)4 << 20)
#define WAIT 100 /* milliseconds */

/* SIZE DIFFID: the file layers/ID/export. */
#define KNOWN_FORMAT "%" PRIu64 " %s\n"

struct strata_export {
        struct strata *s;
        uint64_t id;
        int top; /* -1 of a view: it has no layer */
        int below;
        struct strata_ring *ring;
        pthread_t maker, hasher;
        bool making, hashing; /* these threads were started, and are not joined yet */
        const char *why;      /* the maker's until the ring has ended: why it failed, or NULL */

        /* The hasher's until it is joined; NULL where the digest is not wanted. */
        struct strata_digest *hash;
        bool hashed; /* all of the archive */

        /* The caller's. */
        uint64_t size;
        ssize_t end; /* what every further read returns, once ENDED */
        bool ended;
};

static int write_ring(void *data, const void *bytes, size_t len)
{
        return strata_ring_write(data, bytes, len);
}

static int reserve_ring(void *data, size_t want, void **ret, size_t *len)
{
        return strata_ring_reserve(data, want, ret, len);
}

static int check_ring(void *data)
{
        return strata_ring_is_cancelled(data) ? -ECANCELED : 0;
}

static int make_archive(struct strata_export *x)
{
        const struct strata_export_sink sink = {
                .data = x->ring,
                .write = write_ring,
                .reserve = reserve_ring,
                .check = check_ring,
        };
        const char *prefix = strata_layer_prefix(x->s->in_userns);
        const struct strata_layer_walk walk = {
                .top = x->top,
                .below = x->below,
                .prefix = prefix,
                .whiteouts_first = true,
        };
        struct strata_export_entries *entries;
        int r = strata_export_entries_new(&sink, prefix, &entries);

        if (r < 0)
                return r;
        if (x->top >= 0) {
                int gone;

                r = strata_layer_walk(&walk, strata_export_entries_add, entries);
                gone = strata_layer_stays(x->s, x->id);
                if (r != -ECANCELED && gone < 0)
                        r = gone; /* what was deleted in the midst of it is missing */
        }
        if (r == 0)
                r = strata_export_entries_end(entries);
        strata_export_entries_free(entries);
        return r;
}

static void *maker_main(void *data)
{
        struct strata_export *x = data;
        int r = make_archive(x);

        if (r == -EINVAL)
                x->why = "a name in it begins with .wh., which a layer can't carry: rename that file";
        else if (r == -EFBIG)
                x->why = "its files have holes of more than 128 PiB before their contents: such a layer would take "
                         "long to make and to read";
        else if (r == -ENOENT)
                x->why = "it was removed while its layer.tar was read";
        else if (r < 0)
                x->why = "reading its files failed";
        strata_ring_end(x->ring, r);
        return NULL;
}

static void *hasher_main(void *data)
{
        struct strata_export *x = data;
        const void *bytes;
        ssize_t n;

        while ((n = strata_ring_peek(x->ring, HASHER, RING_SIZE, &bytes)) > 0) {
                /* A failure is the end of the digest, not of the archive. */
                if (x->hash && strata_digest_add(x->hash, bytes, (size_t)n) < 0) {
                        strata_digest_free(x->hash);
                        x->hash = NULL;
                }
                strata_ring_skip(x->ring, HASHER, (size_t)n);
        }
        x->hashed = n == 0 && x->hash;
        return NULL;
}

static int start_thread(struct strata_export *x, void *(*fn)(void *), pthread_t *thread, bool *started)
{
        sigset_t all, old;
        int r;

        /* It takes no signals: they are for the program's own threads. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(thread, NULL, fn, x);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        *started = r == 0;
        return -r;
}

/* The hasher first: without it the maker would wait for its reading. */
static int start_threads(struct strata_export *x)
{
        int r = strata_ring_new(RING_SIZE, x->hash ? 2 : 1, &x->ring);

        if (r == 0 && x->hash)
                r = start_thread(x, hasher_main, &x->hasher, &x->hashing);
        if (r < 0)
                return r;
        r = start_thread(x, maker_main, &x->maker, &x->making);
        if (r < 0)
                strata_ring_end(x->ring, r);
        return r;
}

static int open_trees(struct strata_export *x, const struct strata_info *info)
{
        char path[STRATA_ID_PATH_MAX];
        int r, gone;

        if (info->kind == STRATA_VIEW)
                return 0;
        snprintf(path, sizeof(path), "%" PRIu64 "/fs", info->id);
        x->top = openat(x->s->layers_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (x->top < 0)
                return -errno;
        r = strata_mount_open_lower(x->s, info, &x->below);
        gone = r < 0 ? strata_layer_stays(x->s, info->id) : 0;
        return gone < 0 ? gone : r; /* with it, those below may be gone, which is no damage then */
}

int strata_export_new(struct strata *s, const struct strata_info *info, struct strata_export **ret)
{
        struct strata_export *x = calloc(1, sizeof(*x));
        char diffid[STRATA_DIFFID_MAX];
        uint64_t size;
        int r;

        if (!x)
                return -ENOMEM;
        x->s = s;
        x->id = info->id;
        x->top = x->below = -1;
        r = open_trees(x, info);
        if (r == 0 && info->kind == STRATA_COMMITTED && !strata_export_known(s, info, &size, diffid))
                r = strata_digest_new(&x->hash);
        if (r == 0)
                r = start_threads(x);
        if (r < 0) {
                strata_export_free(x);
                return r;
        }
        *ret = x;
        return 0;
}

/* A full disk is no reason to fail: the digest is computed again next time then. */
static void remember(struct strata_export *x)
{
        char hex[STRATA_DIFFID_MAX], text[STRATA_SUMFILE_MAX], path[STRATA_ID_PATH_MAX];
        int n;

        if (!x->hashed || strata_digest_end(x->hash, hex) < 0)
                return;
        strata_damage_note_sumfile(x->s, x->id, "export");
        n = snprintf(text, sizeof(text), KNOWN_FORMAT, x->size, hex);
        snprintf(path, sizeof(path), "%" PRIu64 "/export", x->id);
        (void)strata_sumfile_write(x->s->layers_fd, path, x->s->run, text, (size_t)n, false);
}

static void join_hasher(struct strata_export *x)
{
        if (x->hashing)
                pthread_join(x->hasher, NULL);
        x->hashing = false;
}

bool strata_export_wait(struct strata_export *x, size_t len)
{
        return x->ended || strata_ring_wait(x->ring, READER, len, WAIT);
}

ssize_t strata_export_read(struct strata_export *x, void *buf, size_t len)
{
        const void *bytes;
        ssize_t n;

        if (len == 0)
                return 0;
        if (x->ended)
                return x->end;
        n = strata_ring_peek(x->ring, READER, len, &bytes);
        if (n > 0) {
                memcpy(buf, bytes, (size_t)n);
                strata_ring_skip(x->ring, READER, (size_t)n);
                x->size += (uint64_t)n;
                return n;
        }
        x->ended = true;
        x->end = n;
        join_hasher(x);
        if (n == 0)
                remember(x);
        return n;
}

const char *strata_export_why(const struct strata_export *x)
{
        return x->ended && x->end < 0 ? x->why : NULL;
}

bool strata_export_peek(struct strata_export *x, size_t len, const void **ret)
{
        return !x->ended && strata_ring_has(x->ring, READER, len, ret);
}

void strata_export_skip(struct strata_export *x, size_t len)
{
        strata_ring_skip(x->ring, READER, len);
        x->size += len;
}

void strata_export_free(struct strata_export *x)
{
        if (!x)
                return;
        if (x->making) {
                strata_ring_cancel(x->ring);
                pthread_join(x->maker, NULL);
        }
        join_hasher(x);
        strata_ring_free(x->ring);
        strata_digest_free(x->hash);
        strata_close(x->top);
        strata_close(x->below);
        free(x);
}

bool strata_export_known(struct strata *s, const struct strata_info *info, uint64_t *size,
                         char diffid[STRATA_DIFFID_MAX])
{
        char path[STRATA_ID_PATH_MAX], text[STRATA_SUMFILE_MAX], hex[STRATA_DIFFID_MAX];
        uint64_t bytes;

        if (info->kind != STRATA_COMMITTED)
                return false;
        snprintf(path, sizeof(path), "%" PRIu64 "/export", info->id);
        if (strata_sumfile_read(s->layers_fd, path, text) < 0)
                return false;
        if (sscanf(text, "%" SCNu64 " %64[0-9a-f]\n", &bytes, hex) != 2 || strlen(hex) != STRATA_DIFFID_MAX - 1)
                return false;
        *size = bytes;
        strcpy(diffid, hex);
        return true;
}
