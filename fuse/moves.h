/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that are just changing. The store has a rename before the kernel has it, which is when it gets our answer. A
 * walk that asks anew about the old name in between must be told that it is there: the kernel would drop it, and with
 * it what is mounted below. No other walk asks then, as the kernel holds the folder's lock.
 *
 * Right after the answer the kernel may have its new name or not, and the wrong word does harm both ways: with a denial
 * it drops what is mounted, and told the old name it gives the entry that one back. So where a mount stays at the entry
 * the kernel's own memory is looked at, which asks nobody.
 */
#ifndef SFS_MOVES_H
#define SFS_MOVES_H

#include "entry.h"
#include "sfs.h"

struct sfs_move;

/*
 * From now on until sfs_moves_end() NAME of KIND is entry ID, whatever the store says. NULL when out of memory, which
 * sfs_moves_end() accepts.
 */
struct sfs_move *sfs_moves_begin(struct sfs *sfs, enum strata_kind kind, const char *name, uint64_t id);

/* To be called right before the answer. STAYS: fs/ is mounted, and stays so. */
void sfs_moves_end(struct sfs *sfs, struct sfs_move *m, bool stays);

/* True if who asks for NAME of KIND is to be told *ID. */
bool sfs_moves_find(struct sfs *sfs, enum strata_kind kind, const char *name, uint64_t *id);

void sfs_moves_free(struct sfs *sfs);

#endif
