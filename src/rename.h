/* SPDX-License-Identifier: Apache-2.0 */
/* mv A B within active/, views/ or snapshots/, and renameat2() with RENAME_EXCHANGE. */
#ifndef STRATA_RENAME_H
#define STRATA_RENAME_H

#include "entry.h"

/*
 * Gives an entry of KIND another name; its ID, and so its children and mounts, stay. Renaming to the same name does
 * nothing. Errors as for strata_commit(); a KEY must be free in active/ and views/.
 */
int strata_rename(struct strata *s, enum strata_kind kind, const char *old, const char *new, const char **why);

/* Two entries of KIND change names in one atomic step. Same errors. */
int strata_exchange(struct strata *s, enum strata_kind kind, const char *a, const char *b, const char **why);

#endif
