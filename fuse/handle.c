/* SPDX-License-Identifier: Apache-2.0 */
#include "handle.h"

#include "keep.h"
#include "label.h"
#include "labelnode.h"
#include "loop.h"
#include "util/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define GENERATION_SHIFT 48 /* user addresses have 47 bits, unless more are asked for: x86-64 and arm64, mm docs */
#define ADDRESS ((UINT64_C(1) << GENERATION_SHIFT) - 1)
#define UNPROTECTED UINT64_C(1) /* addresses are even */

/* Handles of dead workers that were asked for, by their number. */
struct sfs_adopted {
        uint64_t fh;
        void *object;
        void (*drop)(void *object);
        UT_hash_handle hh;
        int oom;
};

struct sfs_handle *sfs_handle_new(uint64_t label)
{
        struct sfs_handle *h = calloc(1, sizeof(*h));

        if (!h)
                return NULL;
        pthread_mutex_init(&h->lock, NULL);
        pthread_mutex_init(&h->order, NULL);
        h->label = label;
        atomic_init(&h->ahead, -1);
        return h;
}

static void add_writer(struct sfs *sfs, struct sfs_handle *h)
{
        h->writes = sfs;
        pthread_mutex_lock(&sfs->adopted_lock);
        DL_PREPEND(sfs->writers, h);
        pthread_mutex_unlock(&sfs->adopted_lock);
}

void sfs_handle_free(struct sfs_handle *h)
{
        struct sfs *sfs = h->writes;

        if (sfs) {
                pthread_mutex_lock(&sfs->adopted_lock);
                DL_DELETE(sfs->writers, h);
                pthread_mutex_unlock(&sfs->adopted_lock);
        }
        sfs_keep_drop_text(h->kept);
        strata_buf_free(&h->text);
        pthread_mutex_destroy(&h->order);
        pthread_mutex_destroy(&h->lock);
        free(h);
}

uint64_t sfs_handle_number(const struct sfs *sfs, const void *p, bool mark)
{
        return (uint64_t)(sfs->generation & 0xffff) << GENERATION_SHIFT | ((uintptr_t)p & ADDRESS) |
               (mark ? UNPROTECTED : 0);
}

void *sfs_handle_address(const struct sfs *sfs, uint64_t fh)
{
        if (fh >> GENERATION_SHIFT != (sfs->generation & 0xffff))
                return NULL;
        return (void *)(uintptr_t)(fh & ADDRESS & ~UNPROTECTED);
}

static void set_ahead(struct sfs_handle *h)
{
        atomic_store(&h->ahead, h->dirty ? (long long)h->text.len : -1);
}

void sfs_handle_keep(struct sfs_handle *h)
{
        struct sfs_kept_text *t = h->kept;

        set_ahead(h);
        if (!t)
                return;
        if (h->text.len)
                memcpy(t->text, h->text.data, h->text.len);
        t->len = h->text.len;
        t->written = h->written;
        t->flushes = h->flushes;
        t->closed_at = h->closed_at;
        t->created = h->created;
        t->dirty = h->dirty;
}

void sfs_handle_protect(struct sfs *sfs, struct sfs_handle *h)
{
        h->closed_at = sfs_labels_count(sfs->labels); /* the most that its closing can be said to be before */
        if (sfs_loop_resent())
                sfs_keep_drop_text_of(sfs->keep, sfs_loop_unique());
        /* A text whose label the next worker does not know would be set nowhere, and nobody told. */
        if (sfs_labels_is_kept(sfs->labels, h->label))
                h->kept = sfs_keep_text(sfs->keep, h->label, sfs_loop_unique());
        sfs_handle_keep(h);
        add_writer(sfs, h);
}

uint64_t sfs_handle_publish(struct sfs *sfs, struct sfs_handle *h, bool writing)
{
        uint64_t fh = sfs_handle_number(sfs, h, writing && sfs->keep && !h->kept);

        if (h->kept)
                atomic_store(&h->kept->fh, fh);
        return fh;
}

void sfs_handle_reply(fuse_req_t req, struct sfs_handle *h, struct fuse_file_info *fi)
{
        fi->fh = sfs_handle_publish(sfs_of(req), h, h->label && (fi->flags & O_ACCMODE) != O_RDONLY);
        fi->direct_io = 1; /* the size that stat shows is no limit */
        if (fuse_reply_open(req, fi) < 0)
                sfs_handle_free(h);
}

/* As below, of what dead workers held and this one was not asked for yet. The lock of the adopted ones is held. */
static int kept_length(struct sfs *sfs, uint64_t node, uint64_t *len)
{
        for (unsigned i = 0; sfs->keep && sfs->generation > 1 && i < SFS_KEEP_TEXTS; i++) {
                const struct sfs_kept_text *t = &sfs->keep->texts[i];
                uint64_t fh = atomic_load(&t->fh);
                struct sfs_adopted *a;

                if (!fh || fh == UINT64_MAX || sfs_handle_address(sfs, fh))
                        continue; /* free, being filled, or this worker's own */
                HASH_FIND(hh, sfs->adopted, &fh, sizeof(fh), a);
                if (!a && t->node == node && t->dirty) {
                        *len = t->len;
                        return 0;
                }
        }
        return -ENOENT;
}

int sfs_handle_written(struct sfs *sfs, uint64_t node, uint64_t *len)
{
        struct sfs_handle *h;
        long long ahead;
        int r = -ENOENT;

        pthread_mutex_lock(&sfs->adopted_lock);
        DL_FOREACH(sfs->writers, h) {
                ahead = h->label == node ? atomic_load(&h->ahead) : -1;
                if (ahead >= 0) {
                        *len = (uint64_t)ahead;
                        r = 0;
                        break;
                }
        }
        if (r < 0)
                r = kept_length(sfs, node, len);
        pthread_mutex_unlock(&sfs->adopted_lock);
        return r;
}

/* ---- handles of dead workers ---- */

static int read_again(struct sfs *sfs, uint64_t node, struct strata_buf *buf)
{
        char name[STRATA_NAME_MAX + 1];
        uint64_t id;
        int r = sfs_labels_find(sfs->labels, node, &id, name);

        if (r == 0)
                r = strata_label_get(sfs->store, id, name, buf);
        return r == -ENOENT || r == -ESTALE ? 0 : r;
}

static int make_again(struct sfs *sfs, uint64_t node, uint64_t fh, struct sfs_handle **ret)
{
        struct sfs_handle *h = sfs_handle_new(node);
        struct sfs_kept_text *kept = sfs_keep_find_text(sfs->keep, fh);
        int r;

        if (!h)
                return -ENOMEM;
        if (kept) {
                strata_buf_add(&h->text, kept->text, kept->len);
                h->created = kept->created;
                h->dirty = kept->dirty;
                h->written = kept->written;
                h->flushes = kept->flushes;
                h->closed_at = kept->closed_at;
                r = strata_buf_status(&h->text);
                h->kept = r == 0 ? kept : NULL;
        } else {
                r = read_again(sfs, node, &h->text);
                h->lost = fh & UNPROTECTED;
        }
        if (r < 0) {
                sfs_handle_free(h);
                return r;
        }
        set_ahead(h);
        if (kept || h->lost)
                add_writer(sfs, h);
        *ret = h;
        return 0;
}

void *sfs_adopted_find(struct sfs *sfs, uint64_t fh)
{
        struct sfs_adopted *a;

        pthread_mutex_lock(&sfs->adopted_lock);
        HASH_FIND(hh, sfs->adopted, &fh, sizeof(fh), a);
        pthread_mutex_unlock(&sfs->adopted_lock);
        return a ? a->object : NULL;
}

void *sfs_adopted_add(struct sfs *sfs, uint64_t fh, void *object, void (*drop)(void *object))
{
        struct sfs_adopted *a = calloc(1, sizeof(*a)), *old = NULL;
        void *ret = object;

        pthread_mutex_lock(&sfs->adopted_lock);
        if (a)
                HASH_FIND(hh, sfs->adopted, &fh, sizeof(fh), old);
        if (old) {
                ret = old->object;
        } else if (a) {
                *a = (struct sfs_adopted){ .fh = fh, .object = object, .drop = drop };
                HASH_ADD(hh, sfs->adopted, fh, sizeof(a->fh), a);
        }
        if (!a || (!old && a->oom))
                ret = NULL;
        pthread_mutex_unlock(&sfs->adopted_lock);
        if (ret != object) {
                drop(object);
                free(a);
        }
        return ret;
}

/* What is kept of it stays where it is. */
static void drop_handle(void *object)
{
        struct sfs_handle *h = object;

        h->kept = NULL;
        sfs_handle_free(h);
}

bool sfs_handle_is_marked(uint64_t fh)
{
        return fh & UNPROTECTED;
}

void *sfs_handle_find(struct sfs *sfs, uint64_t fh)
{
        void *h = sfs_handle_address(sfs, fh);

        return h ? h : sfs_adopted_find(sfs, fh);
}

struct sfs_handle *sfs_handle_adopt(struct sfs *sfs, uint64_t fh, struct sfs_handle *h)
{
        return sfs_adopted_add(sfs, fh, h, drop_handle);
}

int sfs_handle_get(struct sfs *sfs, uint64_t node, uint64_t fh, struct sfs_handle **ret)
{
        struct sfs_handle *h = sfs_handle_find(sfs, fh);
        int r;

        if (!h) {
                r = make_again(sfs, node, fh, &h);
                if (r < 0)
                        return r;
                h = sfs_handle_adopt(sfs, fh, h);
        }
        *ret = h;
        return h ? 0 : -ENOMEM;
}

void sfs_handle_drop(struct sfs *sfs, uint64_t fh)
{
        struct sfs_adopted *a;

        pthread_mutex_lock(&sfs->adopted_lock);
        HASH_FIND(hh, sfs->adopted, &fh, sizeof(fh), a);
        if (a)
                HASH_DEL(sfs->adopted, a);
        pthread_mutex_unlock(&sfs->adopted_lock);
        free(a);
}

void sfs_handles_free(struct sfs *sfs)
{
        struct sfs_adopted *a, *next;

        HASH_ITER(hh, sfs->adopted, a, next) {
                HASH_DEL(sfs->adopted, a);
                a->drop(a->object);
                free(a);
        }
        pthread_mutex_destroy(&sfs->adopted_lock);
}
