/* SPDX-License-Identifier: Apache-2.0 */
/* What an entry's own layer takes on the disk, hard links counted once. */
#ifndef STRATA_USAGE_H
#define STRATA_USAGE_H

#include "entry.h"

struct strata_usage {
        uint64_t bytes;  /* allocated, as st_blocks tells */
        uint64_t inodes; /* the layer's root among them */
};

/*
 * Counts by a walk over the layer; of a committed snapshot once, after that it is kept in layers/ID/usage. A view takes
 * nothing. -ENOENT if it is removed meanwhile; -EINTR as of util/wanted.h.
 */
int strata_usage_get(struct strata *s, const struct strata_info *info, struct strata_usage *ret);

/* True if it is known without a walk. */
bool strata_usage_known(struct strata *s, const struct strata_info *info, struct strata_usage *ret);

#endif
