/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts of a program that was killed, keeper and all. Its own mount is dead, but what was mounted on fs/ there lives
 * on in the processes that use it. A start on the same mount point copies those mounts before it takes the dead one
 * away, and attaches the copies where their entries are now: the processes and all that come later share one superblock
 * again.
 */
#ifndef SFS_INHERIT_H
#define SFS_INHERIT_H

#include "sfs.h"

struct sfs_inherited;

/*
 * Copies what is in use on the fs/ below the dead mount MNT, and unmounts what is not. *RET is NULL if there is
 * nothing; out of memory, what did not fit is not inherited.
 */
void sfs_inherit_collect(const char *mnt, struct sfs_inherited **ret);
void sfs_inherit_free(struct sfs_inherited *all);

/* Hands what belongs to entries over to sfs->attach, before anything is served; names in the log who holds the rest. */
void sfs_inherit_hand_over(struct sfs *sfs, struct sfs_inherited *all);

#endif
