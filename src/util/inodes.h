/* SPDX-License-Identifier: Apache-2.0 */
/* Which inodes were seen already, each with a number: for hard links. */
#ifndef STRATA_INODES_H
#define STRATA_INODES_H

#include <stdint.h>
#include <sys/stat.h>

struct strata_inodes;

/* *TABLE is NULL while it is empty. The number that ST's inode was added with, or 0. */
uint64_t strata_inodes_find(const struct strata_inodes *table, const struct stat *st);

/* 0 or -ENOMEM. Not to be called for one that is there. */
int strata_inodes_add(struct strata_inodes **table, const struct stat *st, uint64_t number);

void strata_inodes_free(struct strata_inodes **table);

#endif
