/* SPDX-License-Identifier: Apache-2.0 */
/* rmdir active/KEY, views/KEY, snapshots/NAME */
#ifndef STRATA_REMOVE_H
#define STRATA_REMOVE_H

#include "entry.h"

/*
 * Removes an entry: it is gone when this returns, its space follows in the background. Its fs/ is not mounted any more:
 * the caller's duty. Errors: -ENOENT  no such entry   -ENOTEMPTY  a snapshot with children   -EBUSY  another caller is
 * moving or removing it and what the store's file system says. *WHY as for strata_prepare().
 */
int strata_remove(struct strata *s, enum strata_kind kind, const char *name, const char **why);

#endif
