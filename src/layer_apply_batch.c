/* SPDX-License-Identifier: Apache-2.0 */
/* Small regular files: gathered with their contents, made by several threads. */
#include "layer_apply.h"

#include "layer_stream.h"
#include "strata.h"
#include "trash.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <archive.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCH_FILES 32
#define BATCH_BYTES ((size_t)256 << 10) /* of names, xattrs, and contents that lie in two blocks of the stream */
#define BATCH_KEPT 4                    /* blocks of the stream, half a MiB */
#define BATCHES 24                      /* on the way, so 18 MiB at the most; mostly it is less than 6 */
#define BATCHES_WAKE 4 /* queued, before a maker is woken: waking one for each would cost more than it helps */

struct file {
        struct strata_apply_dir *dir;
        int dir_fd; /* open as long as the directory has files pending */
        bool plain_owner;
        bool default_acl;
        unsigned slot; /* in the counters of names */
        const char *name;
        const char *data;
        size_t len;
        struct strata_apply_meta meta;
};

struct strata_batch {
        struct strata_batch *next;
        unsigned n;
        size_t used;
        unsigned n_kept;
        struct strata_block *kept[BATCH_KEPT]; /* where other contents lie, for the files' own DATA */
        struct file files[BATCH_FILES];
        char bytes[BATCH_BYTES];
};

static unsigned slot_of(const struct strata_apply_dir *d, const char *name)
{
        return (unsigned)XXH3_64bits_withSeed(name, strlen(name), (XXH64_hash_t)(uintptr_t)d) % APPLY_NAMES;
}

/* Opens the file for writing in place of whatever is there. */
static int open_file(const struct strata_apply *a, const struct file *f, int *ret)
{
        for (;;) {
                int fd = openat(f->dir_fd, f->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                                f->meta.mode & 0777);
                int r;

                if (fd >= 0) {
                        *ret = fd;
                        return 0;
                }
                if (errno != EEXIST)
                        return -errno;
                if (unlinkat(f->dir_fd, f->name, 0) == 0)
                        continue;
                if (errno != EISDIR)
                        return -errno;
                /* A directory that the planner did not know of, so nothing is on the way below it. */
                r = strata_trash_part(a->s, f->dir_fd, f->name, a->id);
                if (r < 0)
                        return r;
        }
}

static int make_file(const struct strata_apply *a, const struct file *f, const char **why)
{
        int fd = -1, r;

        *why = NULL;
        r = open_file(a, f, &fd);
        if (r < 0)
                return r;
        r = strata_io_write(fd, f->data, f->len);
        if (r == 0)
                r = strata_apply_meta_file(a, fd, f->plain_owner, f->default_acl, &f->meta, why);
        if (close(fd) < 0 && r == 0)
                r = -errno;
        return r;
}

/* Nothing of B is needed any more. */
static void let_go(struct strata_apply *a, struct strata_batch *b)
{
        while (b->n_kept)
                strata_stream_drop(a->stream, b->kept[--b->n_kept]);
}

/* Any thread, WHO in A->at: puts B's files on the disk, all of them or up to the first failure. */
static void work(struct strata_apply *a, struct strata_batch *b, unsigned who)
{
        const char *why = NULL;
        unsigned i = 0;
        int r = 0;

        while (i < b->n && (r = make_file(a, &b->files[i], &why)) == 0)
                i++;
        pthread_mutex_lock(&a->lock);
        if (r < 0 && !a->error) {
                a->error = r;
                strata_buf_addstr(&a->error_why, b->files[i].name);
                strata_buf_addstr(&a->error_why, ": ");
                strata_buf_addstr(&a->error_why, why ? why : strerror(-r));
        }
        pthread_mutex_unlock(&a->lock);
        for (i = 0; i < b->n; i++) {
                atomic_fetch_sub(&a->names[b->files[i].slot], 1);
                atomic_fetch_sub(&b->files[i].dir->pending, 1);
        }
        let_go(a, b);
        pthread_mutex_lock(&a->lock);
        b->next = a->spare;
        a->spare = b;
        a->at[who] = NULL;
        a->n_busy--;
        pthread_cond_signal(&a->done);
        pthread_mutex_unlock(&a->lock);
}

/* Whether another than WHO makes files where B begins. A->lock is held. */
static bool is_crowded(const struct strata_apply *a, const struct strata_batch *b, unsigned who)
{
        for (unsigned i = 0; i < 1 + APPLY_MAKERS; i++)
                if (i != who && a->at[i] == b->files[0].dir)
                        return true;
        return false;
}

/*
 * The next batch, or NULL. One for another directory than others are at comes first: the kernel lets one thread at a
 * time make files in a directory, and has the others spin. A->lock is held.
 */
static struct strata_batch *take(struct strata_apply *a, unsigned who)
{
        struct strata_batch **at = &a->queued, *b;

        while (*at && is_crowded(a, *at, who))
                at = &(*at)->next;
        if (!*at)
                at = &a->queued;
        b = *at;
        if (!b)
                return NULL;
        *at = b->next;
        if (!*at)
                a->last_queued = at;
        a->n_queued--;
        a->at[who] = b->files[0].dir;
        return b;
}

void strata_apply_batch_run(struct strata_apply *a, unsigned maker)
{
        for (;;) {
                struct strata_batch *b;

                pthread_mutex_lock(&a->lock);
                while (!(b = take(a, 1 + maker)) && !a->no_more)
                        pthread_cond_wait(&a->work, &a->lock);
                pthread_mutex_unlock(&a->lock);
                if (!b)
                        return;
                work(a, b, 1 + maker);
        }
}

void strata_apply_batch_end(struct strata_apply *a)
{
        pthread_mutex_lock(&a->lock);
        a->no_more = true;
        pthread_cond_broadcast(&a->work);
        pthread_mutex_unlock(&a->lock);
}

static void free_batch(struct strata_apply *a, struct strata_batch *b)
{
        if (b)
                let_go(a, b);
        free(b);
}

void strata_apply_batch_free(struct strata_apply *a)
{
        struct strata_batch *b;

        while ((b = take(a, 0)))
                free_batch(a, b);
        while ((b = a->spare)) {
                a->spare = b->next;
                free_batch(a, b);
        }
        free_batch(a, steal_ptr(&a->filling));
}

static void hand_on(struct strata_apply *a)
{
        struct strata_batch *b = steal_ptr(&a->filling);

        if (!b)
                return;
        b->next = NULL;
        pthread_mutex_lock(&a->lock);
        *a->last_queued = b;
        a->last_queued = &b->next;
        a->n_busy++;
        if (++a->n_queued >= BATCHES_WAKE)
                pthread_cond_signal(&a->work);
        pthread_mutex_unlock(&a->lock);
}

/* The error of a maker, with its reason. A->lock is held. */
static int maker_error(struct strata_apply *a)
{
        return a->error ? strata_apply_fail(a, a->error, NULL, a->error_why.data) : 0;
}

/* The planner while it has nothing else to do: makes a batch, or waits for the end of one. A->lock is held. */
static void help(struct strata_apply *a)
{
        struct strata_batch *b = take(a, 0);

        if (!b) {
                pthread_cond_wait(&a->done, &a->lock);
                return;
        }
        pthread_mutex_unlock(&a->lock);
        work(a, b, 0);
        pthread_mutex_lock(&a->lock);
}

int strata_apply_settle(struct strata_apply *a)
{
        int r;

        hand_on(a);
        pthread_mutex_lock(&a->lock);
        while (a->n_busy)
                help(a);
        r = maker_error(a);
        pthread_mutex_unlock(&a->lock);
        return r;
}

int strata_apply_settle_name(struct strata_apply *a, struct strata_apply_dir *d, const char *name)
{
        return atomic_load(&a->names[slot_of(d, name)]) ? strata_apply_settle(a) : 0;
}

/* Sees to it that there is a batch to fill. Where all are on the way, the planner makes files as well. */
static int get_batch(struct strata_apply *a)
{
        struct strata_batch *b = NULL;
        int r;

        pthread_mutex_lock(&a->lock);
        while ((r = maker_error(a)) == 0) {
                b = a->spare;
                if (b) {
                        a->spare = b->next;
                        break;
                }
                if (a->n_batches < BATCHES) {
                        b = malloc(sizeof(*b));
                        r = b ? 0 : -ENOMEM;
                        a->n_batches += b ? 1 : 0;
                        break;
                }
                help(a);
        }
        pthread_mutex_unlock(&a->lock);
        if (r < 0 || !b)
                return r;
        b->n = b->n_kept = 0;
        b->used = 0;
        a->filling = b;
        return 0;
}

static const char *put(struct strata_batch *b, const void *data, size_t len)
{
        char *p = b->bytes + b->used;

        if (len)
                memcpy(p, data, len);
        b->used += len;
        return p;
}

/* Sees to it that LEN bytes at DATA stay valid until B is made, without a copy; false where that can't be. */
static bool keep(struct strata_apply *a, struct strata_batch *b, const void *data, size_t len)
{
        struct strata_block *block = strata_stream_block(a->stream, data, len);

        if (!block)
                return false;
        if (b->n_kept && b->kept[b->n_kept - 1] == block)
                return true;
        if (b->n_kept == BATCH_KEPT)
                return false;
        strata_stream_keep(a->stream, block);
        b->kept[b->n_kept++] = block;
        return true;
}

/* The contents of F, SIZE bytes at hand in AR: left in the stream's block if they lie in one, else copied to B. */
static int get_contents(struct strata_apply *a, struct strata_batch *b, struct file *f, struct archive *ar, size_t size)
{
        char *to = b->bytes + b->used;
        size_t done = 0;

        f->data = to;
        while (done < size) {
                const void *data;
                la_int64_t offset;
                size_t len;
                int r = archive_read_data_block(ar, &data, &len, &offset);

                if (r != ARCHIVE_OK)
                        return r != ARCHIVE_EOF && archive_errno(ar) == ENOMEM ? -ENOMEM : -EINVAL;
                if (offset < 0 || (uint64_t)offset < done || (uint64_t)offset > size || len > size - (size_t)offset)
                        return -EINVAL;
                if (len == size && keep(a, b, data, len)) {
                        f->data = data;
                        return 0;
                }
                memset(to + done, 0, (size_t)offset - done);
                memcpy(to + offset, data, len);
                done = (size_t)offset + len;
        }
        b->used += size;
        return 0;
}

/* The batch that takes a file with NEED bytes, in a->filling. */
static int make_room(struct strata_apply *a, size_t need)
{
        if (a->filling &&
            (a->filling->n == BATCH_FILES || a->filling->n_kept == BATCH_KEPT || a->filling->used + need > BATCH_BYTES))
                hand_on(a);
        return a->filling ? 0 : get_batch(a);
}

int strata_apply_small(struct strata_apply *a, struct strata_apply_dir *d, const char *name, struct archive *ar,
                       size_t size, const struct strata_apply_meta *meta)
{
        size_t name_len = strlen(name) + 1, need = name_len + meta->xattrs_len + size;
        struct strata_batch *b;
        struct file *f;
        int r;

        if (need > BATCH_BYTES)
                return strata_apply_stream(a, d, name, ar, size, meta);
        r = strata_apply_settle_name(a, d, name);
        if (r == 0 && strata_apply_dir_find(a, d, name))
                r = strata_apply_dir_remove(a, d, name);
        if (r == 0)
                r = make_room(a, need);
        if (r < 0)
                return r;
        b = a->filling;
        f = &b->files[b->n];
        *f = (struct file){
                .dir = d,
                .dir_fd = d->fd,
                .plain_owner = d->plain_owner,
                .default_acl = d->default_acl,
                .slot = slot_of(d, name),
                .name = put(b, name, name_len),
                .meta = *meta,
                .len = size,
        };
        f->meta.xattrs = put(b, meta->xattrs, meta->xattrs_len);
        r = get_contents(a, b, f, ar, size);
        if (r < 0)
                return strata_apply_fail(a, r, name,
                                         "the archive ends in the middle of this file, or is damaged there");
        b->n++;
        atomic_fetch_add(&a->names[f->slot], 1);
        atomic_fetch_add(&d->pending, 1);
        return 0;
}
