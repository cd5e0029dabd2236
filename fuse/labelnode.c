/* SPDX-License-Identifier: Apache-2.0 */
#include "labelnode.h"

#include "node.h"
#include "util/hash.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct label_key {
        uint64_t id;
        char name[STRATA_NAME_MAX + 1]; /* zero-padded, as it is hashed whole */
};

struct label_node {
        uint64_t node;
        uint64_t lookups;
        unsigned begun; /* creations that are not set yet */
        struct label_key key;
        bool removed; /* not in by_key any more */
        UT_hash_handle hh_node;
        UT_hash_handle hh_key;
        int oom;
};

struct sfs_labels {
        pthread_mutex_t lock; /* protects all below; a leaf lock */
        struct label_node *by_node;
        struct label_node *by_key;
        uint64_t next;
};

int sfs_labels_new(struct sfs_labels **ret)
{
        struct sfs_labels *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        pthread_mutex_init(&t->lock, NULL);
        t->next = SFS_LABEL_BIT + 1;
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

static struct label_node *add_node(struct sfs_labels *t, uint64_t id, const char *name)
{
        struct label_node *l = calloc(1, sizeof(*l));

        if (!l)
                return NULL;
        l->node = t->next++;
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

int sfs_labels_lookup(struct sfs_labels *t, uint64_t id, const char *name, uint64_t *ret)
{
        struct label_node *l;

        pthread_mutex_lock(&t->lock);
        l = find_key(t, id, name);
        if (!l)
                l = add_node(t, id, name);
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

static void drop_key(struct sfs_labels *t, struct label_node *l)
{
        if (!l->removed)
                HASH_DELETE(hh_key, t->by_key, l); /* NOLINT(clang-analyzer-core.NullDereference): L is in the table */
        l->removed = true;
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
        }
        pthread_mutex_unlock(&t->lock);
}
