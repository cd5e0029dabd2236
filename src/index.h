/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded cache from ID to struct strata_info. The store is the truth: whoever changes an entry on disk drops it
 * here, and a reader that was reading the old state meanwhile can't put it back.
 */
#ifndef STRATA_INDEX_H
#define STRATA_INDEX_H

#include "entry.h"

#include <stdbool.h>

#define STRATA_INDEX_MAX 4096 /* entries; beyond, one that was not used for long goes */

struct strata_index;

int strata_index_new(struct strata_index **ret);
void strata_index_free(struct strata_index *x);

/* True and a copy in *RET if ID is known. Otherwise *TICKET is to be passed to strata_index_put() for what is read now.
 */
bool strata_index_get(struct strata_index *x, uint64_t id, struct strata_info *ret, uint64_t *ticket);

/* Remembers INFO, unless anything was dropped since TICKET was given. */
void strata_index_put(struct strata_index *x, const struct strata_info *info, uint64_t ticket);

/* Forgets ID; to be called after the change on disk. */
void strata_index_drop(struct strata_index *x, uint64_t id);

/* Entries held now. */
size_t strata_index_size(struct strata_index *x);

#endif
