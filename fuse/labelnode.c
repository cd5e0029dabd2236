/* SPDX-License-Identifier: Apache-2.0 */
#include "labelnode.h"

#include "keep.h"
#include "node.h"
#include "util/hash.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_LOCKS 16 /* more than the threads that set labels (pool.c) */

struct label_key {
        uint64_t id;
        char name[STRATA_NAME_MAX + 1]; /* zero-padded, as it is hashed whole */
};

struct label_node {
        uint64_t node;
        uint64_t lookups;
        unsigned begun;  /* creations that are not set yet */
        uint64_t set_at; /* the count when it was set last */
        struct label_key key;
        bool removed;                /* not in by_key any more */
        struct sfs_kept_label *kept; /* the same, for the next worker; NULL if there was no place */
        UT_hash_handle hh_node;
        UT_hash_handle hh_key;
        int oom;
};

struct sfs_labels {
        pthread_mutex_t entries[ENTRY_LOCKS]; /* of all entries with the same rest; held over the disk's work */
        pthread_mutex_t lock;                 /* protects all below; a leaf lock */
        struct label_node *by_node;
        struct label_node *by_key;
        uint64_t next; /* without KEEP, as is COUNT */
        uint64_t count;
        struct sfs_keep *keep;
};

static int load(struct sfs_labels *t);

int sfs_labels_new(struct sfs_keep *keep, struct sfs_labels **ret)
{
        struct sfs_labels *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        pthread_mutex_init(&t->lock, NULL);
        for (unsigned i = 0; i < ENTRY_LOCKS; i++)
                pthread_mutex_init(&t->entries[i], NULL);
        t->next = SFS_LABEL_BIT + 1;
        t->keep = keep;
        if (load(t) < 0) {
                sfs_labels_free(t);
                return -ENOMEM;
        }
        *ret = t;
        return 0;
}

void sfs_labels_free(struct sfs_labels *t)
{
        struct label_node *l, *next;

        if (!t)
                return;
        HASH_CLEAR(hh_key, t->by_key);
        HASH_ITER(hh_node, t->by_node, l, next) {
                HASH_DELETE(hh_node, t->by_node, l);
                free(l);
        }
        for (unsigned i = 0; i < ENTRY_LOCKS; i++)
                pthread_mutex_destroy(&t->entries[i]);
        pthread_mutex_destroy(&t->lock);
        free(t);
}

static void set_key(struct label_key *key, uint64_t id, const char *name)
{
        memset(key, 0, sizeof(*key));
        key->id = id;
        strncpy(key->name, name, STRATA_NAME_MAX);
}

static struct label_node *find_key(struct sfs_labels *t, uint64_t id, const char *name)
{
        struct label_node *l;
        struct label_key key;

        set_key(&key, id, name);
        HASH_FIND(hh_key, t->by_key, &key, sizeof(key), l);
        return l;
}

static void drop_key(struct sfs_labels *t, struct label_node *l);

static struct label_node *add_node(struct sfs_labels *t, uint64_t node, uint64_t id, const char *name)
{
        struct label_node *l = calloc(1, sizeof(*l));

        if (!l)
                return NULL;
        l->node = node;
        set_key(&l->key, id, name);
        HASH_ADD(hh_node, t->by_node, node, sizeof(l->node), l);
        if (l->oom) {
                free(l);
                return NULL;
        }
        HASH_ADD(hh_key, t->by_key, key, sizeof(l->key), l);
        if (l->oom) {
                HASH_DELETE(hh_node, t->by_node, l);
                free(l);
                return NULL;
        }
        return l;
}

/* A number never given out before, by whatever worker. */
static uint64_t next_node(struct sfs_labels *t)
{
        return t->keep ? atomic_fetch_add(&t->keep->next_label, 1) : t->next++;
}

/* What workers before gave out. How often is not known: the kernel takes it all back with its last FORGET. */
static int load(struct sfs_labels *t)
{
        for (unsigned i = 0; t->keep && i < SFS_KEEP_LABELS; i++) {
                struct sfs_kept_label *kept = &t->keep->labels[i];
                uint64_t node = atomic_load(&kept->node);
                struct label_node *old, *l;

                if (!node)
                        continue;
                old = kept->removed ? NULL : find_key(t, kept->id, kept->name);
                if (old && old->node > node) {
                        kept->removed = true;
                } else if (old) {
                        drop_key(t, old);
                }
                l = add_node(t, node, kept->id, kept->name);
                if (!l)
                        return -ENOMEM;
                l->lookups = 1;
                l->set_at = kept->set_at;
                l->kept = kept;
                if (kept->removed)
                        drop_key(t, l);
        }
        for (unsigned i = 0; t->keep && i < SFS_KEEP_TEXTS; i++)
                if (atomic_load(&t->keep->texts[i].fh) && t->keep->texts[i].created)
                        sfs_labels_begin(t, t->keep->texts[i].node);
        return 0;
}

int sfs_labels_lookup(struct sfs_labels *t, uint64_t id, const char *name, uint64_t *ret)
{
        struct label_node *l;

        pthread_mutex_lock(&t->lock);
        l = find_key(t, id, name);
        if (!l)
                l = add_node(t, next_node(t), id, name);
        if (l && !l->kept)
                l->kept = sfs_keep_label(t->keep, l->node, id, name);
        if (l) {
                l->lookups++;
                *ret = l->node;
        }
        pthread_mutex_unlock(&t->lock);
        return l ? 0 : -ENOMEM;
}

static void add_begun(struct sfs_labels *t, uint64_t node, int n)
{
        struct label_node *l;

        pthread_mutex_lock(&t->lock);
        HASH_FIND(hh_node, t->by_node, &node, sizeof(node), l);
        if (l)
                l->begun += (unsigned)n;
        pthread_mutex_unlock(&t->lock);
}

void sfs_labels_begin(struct sfs_labels *t, uint64_t node)
{
        add_begun(t, node, 1);
}

void sfs_labels_end(struct sfs_labels *t, uint64_t node)
{
        add_begun(t, node, -1);
}

int sfs_labels_lookup_begun(struct sfs_labels *t, uint64_t id, const char *name, uint64_t *ret)
{
        struct label_node *l;
        bool found;

        pthread_mutex_lock(&t->lock);
        l = find_key(t, id, name);
        found = l && l->begun;
        if (found) {
                l->lookups++;
                *ret = l->node;
        }
        pthread_mutex_unlock(&t->lock);
        return found ? 0 : -ENOENT;
}

void sfs_labels_hold(struct sfs_labels *t, uint64_t id)
{
        pthread_mutex_lock(&t->entries[id % ENTRY_LOCKS]);
}

void sfs_labels_let_go(struct sfs_labels *t, uint64_t id)
{
        pthread_mutex_unlock(&t->entries[id % ENTRY_LOCKS]);
}

/* T's lock is held. */
static uint64_t next_count(struct sfs_labels *t)
{
        return (t->keep ? atomic_fetch_add(&t->keep->label_count, 1) : t->count++) + 1;
}

uint64_t sfs_labels_count(struct sfs_labels *t)
{
        uint64_t ret;

        pthread_mutex_lock(&t->lock);
        ret = next_count(t);
        pthread_mutex_unlock(&t->lock);
        return ret;
}

void sfs_labels_was_set(struct sfs_labels *t, uint64_t node)
{
        struct label_node *l;

        pthread_mutex_lock(&t->lock);
        HASH_FIND(hh_node, t->by_node, &node, sizeof(node), l);
        if (l) {
                l->set_at = next_count(t);
                if (l->kept)
                        l->kept->set_at = l->set_at;
        }
        pthread_mutex_unlock(&t->lock);
}

uint64_t sfs_labels_set_at(struct sfs_labels *t, uint64_t node)
{
        struct label_node *l;
        uint64_t ret;

        pthread_mutex_lock(&t->lock);
        HASH_FIND(hh_node, t->by_node, &node, sizeof(node), l);
        ret = l ? l->set_at : 0;
        pthread_mutex_unlock(&t->lock);
        return ret;
}

bool sfs_labels_is_kept(struct sfs_labels *t, uint64_t node)
{
        struct label_node *l;
        bool ret;

        pthread_mutex_lock(&t->lock);
        HASH_FIND(hh_node, t->by_node, &node, sizeof(node), l);
        ret = l && l->kept;
        pthread_mutex_unlock(&t->lock);
        return ret;
}

static void drop_key(struct sfs_labels *t, struct label_node *l)
{
        if (!l->removed)
                HASH_DELETE(hh_key, t->by_key, l); /* NOLINT(clang-analyzer-core.NullDereference): L is in the table */
        l->removed = true;
        if (l->kept)
                l->kept->removed = true;
}

void sfs_labels_give_up(struct sfs_labels *t, uint64_t node)
{
        struct label_node *l;

        pthread_mutex_lock(&t->lock);
        HASH_FIND(hh_node, t->by_node, &node, sizeof(node), l);
        if (l && !l->begun)
                drop_key(t, l);
        pthread_mutex_unlock(&t->lock);
}

void sfs_labels_forget(struct sfs_labels *t, uint64_t node, uint64_t n)
{
        struct label_node *l;

        pthread_mutex_lock(&t->lock);
        HASH_FIND(hh_node, t->by_node, &node, sizeof(node), l);
        if (l) {
                l->lookups -= n < l->lookups ? n : l->lookups;
                if (!l->lookups) {
                        drop_key(t, l);
                        HASH_DELETE(hh_node, t->by_node, l);
                        if (l->kept)
                                atomic_store(&l->kept->node, 0);
                        free(l);
                }
        }
        pthread_mutex_unlock(&t->lock);
}

int sfs_labels_find(struct sfs_labels *t, uint64_t node, uint64_t *id, char name[STRATA_NAME_MAX + 1])
{
        struct label_node *l;
        int r = -ESTALE;

        pthread_mutex_lock(&t->lock);
        HASH_FIND(hh_node, t->by_node, &node, sizeof(node), l);
        if (l && !l->removed) {
                *id = l->key.id;
                strcpy(name, l->key.name);
                r = 0;
        }
        pthread_mutex_unlock(&t->lock);
        return r;
}

void sfs_labels_remove(struct sfs_labels *t, uint64_t id, const char *name)
{
        struct label_node *l;

        pthread_mutex_lock(&t->lock);
        l = find_key(t, id, name);
        if (l)
                drop_key(t, l);
        pthread_mutex_unlock(&t->lock);
}

void sfs_labels_rename(struct sfs_labels *t, uint64_t id, const char *old, const char *new)
{
        struct label_node *l, *gone;

        pthread_mutex_lock(&t->lock);
        l = find_key(t, id, old);
        gone = find_key(t, id, new);
        if (gone && gone != l)
                drop_key(t, gone);
        if (l && gone != l) {
                drop_key(t, l);
                set_key(&l->key, id, new);
                HASH_ADD(hh_key, t->by_key, key, sizeof(l->key), l);
                l->removed = l->oom;
                if (!l->oom)
                        sfs_keep_label_rename(l->kept, new);
        }
        pthread_mutex_unlock(&t->lock);
}
