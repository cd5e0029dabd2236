/* SPDX-License-Identifier: Apache-2.0 */
/* mv active/KEY snapshots/NAME */
#ifndef STRATA_COMMIT_H
#define STRATA_COMMIT_H

#include "entry.h"

/*
 * Makes the active snapshot KEY the committed snapshot NAME, in one atomic step. With durability all of the layer is on
 * the disk before the step, and the step itself when this returns. The caller has seen to it that nobody writes to the
 * layer any more (strata_mount_freeze()). Errors:
 *   -ENOENT  no such KEY                 -EEXIST  NAME is taken
 *   -EINVAL, -ENAMETOOLONG  a bad NAME   -EBUSY   another caller is moving or removing the same entry
 *   and what the store's file system says. After a failure all is as before; *WHY as for strata_prepare().
 */
int strata_commit(struct strata *s, const char *key, const char *name, const char **why);

#endif
