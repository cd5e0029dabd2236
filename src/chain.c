/* SPDX-License-Identifier: Apache-2.0 */
#include "chain.h"

#include "index.h"
#include "mount.h"
#include "strata.h"

#include <errno.h>
#include <stdlib.h>

void strata_chain_free(struct strata_chain *chain)
{
        free(chain->lowers);
        *chain = (struct strata_chain){ 0 };
}

/* What to say when INFO's chain ends where it should go on: nothing of it is damaged if the entry is gone by now. */
static int broken(struct strata *s, const struct strata_info *info)
{
        struct strata_info now;

        return strata_entry_info(s, info->id, &now) == -ENOENT ? -ENOENT : -EUCLEAN;
}

int strata_chain_get(struct strata *s, const struct strata_info *info, struct strata_chain *ret)
{
        struct strata_chain chain = { .upper = info->kind == STRATA_ACTIVE ? info->id : 0 };
        bool own_files = info->kind == STRATA_COMMITTED || (info->kind == STRATA_VIEW && !info->parent);
        uint64_t id = own_files ? info->id : info->parent;

        chain.lowers = calloc(info->depth, sizeof(*chain.lowers));
        if (!chain.lowers)
                return -ENOMEM;
        while (id) {
                struct strata_info layer;
                size_t n;
                int r = 0;

                id = strata_index_descend(s->index, id, chain.lowers + chain.n, info->depth - chain.n, &n);
                chain.n += n;
                if (!id)
                        break;
                if (chain.n == info->depth)
                        r = -EUCLEAN;
                if (r == 0)
                        r = strata_entry_info(s, id, &layer);
                if (r < 0) {
                        strata_chain_free(&chain);
                        return r == -ENOENT ? broken(s, info) : r;
                }
                chain.lowers[chain.n++] = id;
                id = layer.parent;
        }
        *ret = chain;
        return 0;
}

int strata_chain_check(struct strata *s, const struct strata_info *below, bool active)
{
        struct strata_chain chain;
        int r;

        if (below->depth + (active ? 1 : 0) > STRATA_CHAIN_MAX)
                return -EMLINK;
        if (!s->mount_api->max_options)
                return 0;
        r = strata_chain_get(s, below, &chain);
        if (r < 0)
                return r;
        if (active)
                chain.upper = UINT32_MAX; /* stands for any ID that it may get */
        r = strata_mount_options_length(&chain) > s->mount_api->max_options ? -EMLINK : 0;
        strata_chain_free(&chain);
        return r;
}
