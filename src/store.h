/* SPDX-License-Identifier: Apache-2.0 */
/* The store's directory itself: finding or making it, its format file, its lock. Used by strata.c; see docs/format.md.
 */
#ifndef STRATA_STORE_H
#define STRATA_STORE_H

#include "strata.h"

#define STRATA_STORE_ID_BLOCK 4096 /* IDs reserved with one write of `next` */

/* -EINVAL and *WHY for a store path that overlayfs could not carry. */
int strata_store_check_path(const char *path, char **why);

/* Fills s->path, all fds, unclean. *WHY as for strata_open(). */
int strata_store_open(struct strata *s, const char *path, char **why);

/*
 * Writes the next ID and the mark of a clean end (when CLEAN), and closes the fds. The store is synced before if it
 * has to be; if durability is not wanted, or that fails, there is no mark.
 */
void strata_store_close(struct strata *s, bool clean);

/*
 * For the examination: opens a store that is there already, making and changing nothing; *LIVE tells whether a program
 * uses it. With REPAIR -EBUSY in that case; without, a program may start later, so nothing is locked. Its folders' fds
 * are negative where they are missing.
 */
int strata_store_open_check(struct strata *s, const char *path, bool repair, bool *live, char **why);

/*
 * What TEXT, found in `format`, says: 0 for our format, -EINVAL for one that is not known, -EUCLEAN for ours with a bit
 * or two wrong. 1 for ours as earlier versions wrote it, without a checksum.
 */
int strata_store_format_of(const char *text, size_t len);

/* The same of the store, or -ENOENT; -EINVAL for a format that is not known, -EUCLEAN for ours with a bit wrong; and
 * the writing of it. */
int strata_store_check_format(struct strata *s);
int strata_store_write_format(struct strata *s);

/* The number in `next`. -ENOENT, -EUCLEAN; and the writing of it, durably. */
int strata_store_read_next(struct strata *s, uint64_t *ret);
int strata_store_write_next(struct strata *s, uint64_t next);

/*
 * Where IDs go on, at the start. A damaged number is replaced by one well above all that the store holds; so is one
 * that is lost, but in a new store.
 */
int strata_store_begin_ids(struct strata *s);

/* Raises *HIGHEST to the highest ID that names something in the directory DIRFD. */
int strata_store_highest_id(int dirfd, uint64_t *highest);

/* To be called after something was done that is not synced, and that a sweep would look at. */
void strata_store_note_unsynced(struct strata *s);

/*
 * syncfs(2) of the whole store, whatever `durability` says. The kernel tells of a write that failed once, to whoever
 * syncs next, whosever data it was: so after a failure no layer that is there by then is known to be on the disk, and
 * none of those is to be committed but by the word of its user. 0 or -errno.
 */
int strata_store_sync(struct strata *s);

/* Fsyncs the directory FD; or notes that something in it is unsynced, if durability is not wanted. */
int strata_store_sync_dir(struct strata *s, int fd);

#endif
