/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inode numbers of labels. Unlike all others they can't be computed back to a name, so those that the kernel knows
 * stand in a table: from lookup to forget.
 */
#ifndef SFS_LABELNODE_H
#define SFS_LABELNODE_H

#include "name.h"

#include <stdbool.h>
#include <stdint.h>

struct sfs_keep;
struct sfs_labels;

/* With a keeper, KEEP holds the numbers that workers before gave out; else it is NULL. */
int sfs_labels_new(struct sfs_keep *keep, struct sfs_labels **ret);
void sfs_labels_free(struct sfs_labels *t);

/* The number of label NAME of entry ID, known to the kernel once more. -ENOMEM. */
int sfs_labels_lookup(struct sfs_labels *t, uint64_t id, const char *name, uint64_t *ret);

/*
 * A label that was created and is not set yet: it is there for everybody from the creation on. BEGIN and end as often
 * as it is created; the second form of lookup finds only such labels, -ENOENT otherwise.
 */
void sfs_labels_begin(struct sfs_labels *t, uint64_t node);
void sfs_labels_end(struct sfs_labels *t, uint64_t node);
int sfs_labels_lookup_begun(struct sfs_labels *t, uint64_t id, const char *name, uint64_t *ret);

/* NODE is no label after all, unless it is begun once more. */
void sfs_labels_give_up(struct sfs_labels *t, uint64_t node);

/*
 * The names and values of the labels of entry ID are changed by one thread after the other: from HOLD to LET_GO the
 * store and this table say the same, and nobody else sets, removes or renames a label of it. Held while the disk is
 * waited for, so on the inner side only.
 */
void sfs_labels_hold(struct sfs_labels *t, uint64_t id);
void sfs_labels_let_go(struct sfs_labels *t, uint64_t id);

/*
 * What came first, a close or the setting of a value, is told by a count that goes on from worker to worker. The next
 * number of it; and the number that NODE was set at last, 0 for never.
 */
uint64_t sfs_labels_count(struct sfs_labels *t);
void sfs_labels_was_set(struct sfs_labels *t, uint64_t node);
uint64_t sfs_labels_set_at(struct sfs_labels *t, uint64_t node);

/* True if the next worker will know NODE. */
bool sfs_labels_is_kept(struct sfs_labels *t, uint64_t node);

/* The kernel forgot it N times. */
void sfs_labels_forget(struct sfs_labels *t, uint64_t node, uint64_t n);

/* What NODE stands for. -ESTALE if it was removed or is not known. */
int sfs_labels_find(struct sfs_labels *t, uint64_t node, uint64_t *id, char name[STRATA_NAME_MAX + 1]);

/* The label is no more: its number stays used, a new label of that name gets another. */
void sfs_labels_remove(struct sfs_labels *t, uint64_t id, const char *name);

/* The label OLD is now called NEW; what was called NEW is no more. */
void sfs_labels_rename(struct sfs_labels *t, uint64_t id, const char *old, const char *new);

#endif
