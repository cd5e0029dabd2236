/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded cache from ID to struct strata_info. The store is the truth: whoever changes an entry on disk drops it
 * here, and a reader that was reading the old state meanwhile can't put it back.
 */
#ifndef STRATA_INDEX_H
#define STRATA_INDEX_H

#include "entry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STRATA_INDEX_MAX 4096 /* entries; beyond, one that was not used for long goes */

struct strata_index;

int strata_index_new(struct strata_index **ret);
void strata_index_free(struct strata_index *x);

/* True and a copy in *RET if ID is known. Otherwise *TICKET is to be passed to strata_index_put() for what is read now.
 */
bool strata_index_get(struct strata_index *x, uint64_t id, struct strata_info *ret, uint64_t *ticket);

/*
 * From ID down its chain of parents, as far as it is known: up to MAX of their IDs go to IDS, *N of them. Returns the
 * ID of the first that is not known or has no place any more; 0 at the end of the chain.
 */
uint64_t strata_index_descend(struct strata_index *x, uint64_t id, uint64_t *ids, size_t max, size_t *n);

/* Remembers INFO, unless anything was dropped since TICKET was given. */
void strata_index_put(struct strata_index *x, const struct strata_info *info, uint64_t ticket);

/* Forgets ID; to be called after the change on disk. */
void strata_index_drop(struct strata_index *x, uint64_t id);

/* Entries held now. */
size_t strata_index_size(struct strata_index *x);

#endif
