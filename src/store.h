/* SPDX-License-Identifier: Apache-2.0 */
/* The store's directory itself: finding or making it, its format file, its lock. Used by strata.c; see docs/format.md.
 */
#ifndef STRATA_STORE_H
#define STRATA_STORE_H

#include "strata.h"

#define STRATA_STORE_FORMAT "stratafs-store 1\n"

/* -EINVAL and *WHY for a store path that overlayfs could not carry. */
int strata_store_check_path(const char *path, char **why);

/* Fills s->path, all fds, unclean. *WHY as for strata_open(). */
int strata_store_open(struct strata *s, const char *path, char **why);

/* Writes the mark of a clean end (when CLEAN) and the next ID, and closes the fds. */
void strata_store_close(struct strata *s, bool clean);

/* Fsyncs the directory FD, unless durability is not wanted. */
int strata_store_sync_dir(struct strata *s, int fd);

#endif
