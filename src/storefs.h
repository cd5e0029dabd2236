/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a store's file system can carry the upper layers of overlays, and if not, what it lacks. */
#ifndef STRATA_STOREFS_H
#define STRATA_STOREFS_H

struct strata;

/*
 * Mounts an overlay over a scratch directory of the store, where nobody sees it, and lets it go again. 0, or
 * -EOPNOTSUPP or what the kernel said with *WHY: one line that names the missing feature, owned by the caller.
 */
int strata_storefs_check(struct strata *s, char **why);

#endif
