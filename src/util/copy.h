/* SPDX-License-Identifier: Apache-2.0 */
/* What one inode has beside its contents, carried over to another. */
#ifndef STRATA_COPY_H
#define STRATA_COPY_H

#include <stdbool.h>
#include <sys/stat.h>

/* True for the xattrs in which overlayfs keeps its own state. */
bool strata_copy_is_overlay_xattr(const char *name);

/* Copies all xattrs but overlayfs' own, ACLs among them, from FROM to TO, both open for reading or writing. */
int strata_copy_xattrs(int from, int to);

/* Gives TO, whose state is NOW, the owner, mode, xattrs, ACLs and times of FROM, whose state is ST. */
int strata_copy_attributes(int from, const struct stat *st, int to, const struct stat *now);

#endif
