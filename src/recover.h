/* SPDX-License-Identifier: Apache-2.0 */
/* What a crash left half-way, found and swept. */
#ifndef STRATA_RECOVER_H
#define STRATA_RECOVER_H

#include <stdatomic.h>

struct strata;

/*
 * Goes through the whole store and removes what no entry needs: links to layers that are not there, layers without a
 * link, staged records, marks of children that are none. Safe beside all other work, as it only touches IDs from before
 * this run; ends early when *STOP becomes true. Damaged records are named in the log and left alone. 0 or the first
 * error.
 */
int strata_recover_sweep(struct strata *s, atomic_bool *stop);

#endif
