/* SPDX-License-Identifier: Apache-2.0 */
/* From an entry to the layers that its fs/ is made of. */
#ifndef STRATA_CHAIN_H
#define STRATA_CHAIN_H

#include "entry.h"

/* Lower layers that overlayfs can mount: OVL_MAX_STACK of the kernel's fs/overlayfs/params.h. */
#define STRATA_CHAIN_MAX 500

struct strata_chain {
        uint64_t upper;   /* ID of the layer written to; 0 for views and snapshots */
        uint64_t *lowers; /* IDs of the layers below, topmost first */
        size_t n;         /* of LOWERS; 0 for an active base */
};

/*
 * The layers of INFO's entry; to be freed. -ENOENT if it was removed since, -EUCLEAN if a parent is missing or the
 * chain is no chain.
 */
int strata_chain_get(struct strata *s, const struct strata_info *info, struct strata_chain *ret);
void strata_chain_free(struct strata_chain *chain);

/*
 * 0 if a snapshot on top of BELOW can be mounted, active and (once committed) read-only, by the mount API in use; if
 * not ACTIVE, whether a view of BELOW can. Else -EMLINK.
 */
int strata_chain_check(struct strata *s, const struct strata_info *below, bool active);

#define cleanup_chain __attribute__((cleanup(strata_chain_free)))

#endif
