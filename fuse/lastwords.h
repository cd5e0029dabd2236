/* SPDX-License-Identifier: Apache-2.0 */
/* STORE/gave-up: why the keeper of an earlier run gave up, for the log of the next run. */
#ifndef SFS_LASTWORDS_H
#define SFS_LASTWORDS_H

struct strata;

/* Leaves TEXT, one line, in the store at path STORE. Allocates nothing; what fails is not told. */
void sfs_lastwords_leave(const char *store, const char *text);

/* Moves what was left to the log. */
void sfs_lastwords_tell(struct strata *s);

#endif
