/* SPDX-License-Identifier: Apache-2.0 */
/* Names that the kernel must not be told an error about, as it would drop them with what is mounted below. */
#include "live.h"

#include "strata.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool sfs_attach_is_pinned(struct sfs_attach *a, uint64_t id)
{
        struct sfs_live *e;
        bool ret;

        pthread_mutex_lock(&a->lock);
        e = sfs_live_find(a, id);
        ret = e && e->state != SFS_BARE;
        pthread_mutex_unlock(&a->lock);
        return ret;
}

/* The IDs of all that is not bare; to be freed. */
static uint64_t *list_pinned(struct sfs_attach *a, size_t *n)
{
        uint64_t *ids;

        *n = 0;
        pthread_mutex_lock(&a->lock);
        ids = calloc(HASH_COUNT(a->entries) + 1, sizeof(*ids));
        for (struct sfs_live *e = a->entries; e && ids; e = e->hh.next)
                if (e->state != SFS_BARE)
                        ids[(*n)++] = e->id;
        pthread_mutex_unlock(&a->lock);
        return ids;
}

int sfs_attach_find_pinned(struct sfs_attach *a, enum strata_kind kind, const char *name, uint64_t *ret)
{
        size_t n;
        uint64_t *ids = list_pinned(a, &n);
        int r = 0;

        if (!ids)
                return -EINTR;
        for (size_t i = 0; i < n && r <= 0; i++) {
                struct strata_info info;
                int error = strata_entry_info(a->sfs->store, ids[i], &info);

                if (error < 0 && error != -ENOENT)
                        r = -EINTR; /* it may be this one */
                if (error == 0 && info.kind == kind && strcmp(info.name, name) == 0) {
                        *ret = ids[i];
                        r = 1;
                }
        }
        free(ids);
        return r;
}
