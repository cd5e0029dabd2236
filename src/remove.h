/* SPDX-License-Identifier: Apache-2.0 */
/* rmdir active/KEY, views/KEY, snapshots/NAME */
#ifndef STRATA_REMOVE_H
#define STRATA_REMOVE_H

#include "entry.h"

/* Why a snapshot with children is not removed. */
#define STRATA_REMOVE_CHILDREN                                                                                         \
        "other entries stand on this snapshot: `cat children` in it lists them; remove those first"

/*
 * Removes an entry: it is gone when this returns, its space follows in the background. Its fs/ is not mounted any more:
 * the caller's duty. Errors: -ENOENT  no such entry   -ENOTEMPTY  it has children   -EBUSY  another caller is
 * moving or removing it and what the store's file system says. *WHY as for strata_prepare().
 */
int strata_remove(struct strata *s, enum strata_kind kind, const char *name, const char **why);

/*
 * True if the link of layer ID was taken away by a removal, which leaves it in the layer: what then is left of that is
 * rubbish. Also if that can't be told.
 */
#define STRATA_REMOVE_LINK "removed"
bool strata_remove_has_begun(struct strata *s, uint64_t id);

#endif
