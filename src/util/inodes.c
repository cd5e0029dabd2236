/* SPDX-License-Identifier: Apache-2.0 */
#include "inodes.h"

#include "hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct key {
        uint64_t dev;
        uint64_t ino;
};

struct strata_inodes {
        struct key key;
        uint64_t number;
        UT_hash_handle hh;
        int oom;
};

static struct key key_of(const struct stat *st)
{
        return (struct key){ .dev = (uint64_t)st->st_dev, .ino = (uint64_t)st->st_ino };
}

uint64_t strata_inodes_find(const struct strata_inodes *table, const struct stat *st)
{
        struct key key = key_of(st);
        struct strata_inodes *i;

        HASH_FIND(hh, table, &key, sizeof(key), i);
        return i ? i->number : 0;
}

int strata_inodes_add(struct strata_inodes **table, const struct stat *st, uint64_t number)
{
        struct strata_inodes *i = calloc(1, sizeof(*i));

        if (!i)
                return -ENOMEM;
        i->key = key_of(st);
        i->number = number;
        HASH_ADD(hh, *table, key, sizeof(i->key), i);
        if (i->oom) {
                free(i);
                return -ENOMEM;
        }
        return 0;
}

void strata_inodes_free(struct strata_inodes **table)
{
        struct strata_inodes *i, *next;

        HASH_ITER(hh, *table, i, next) {
                HASH_DEL(*table, i);
                free(i);
        }
}
