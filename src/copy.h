/* SPDX-License-Identifier: Apache-2.0 */
/* What one inode has beside its contents, carried over to another in a layer. */
#ifndef STRATA_COPY_H
#define STRATA_COPY_H

#include <sys/stat.h>

struct strata;

/* What FROM is, and so how its xattrs are called that users called as overlayfs calls its own. */
enum strata_copy_source {
        STRATA_COPY_LAYER,  /* an inode of a layer: escaped, beside overlayfs' own */
        STRATA_COPY_MERGED, /* one as an overlay shows it: as users called them */
};

/*
 * Gives TO, an inode of a layer whose state is NOW, the owner, mode, xattrs, ACLs and times of FROM, whose state is ST;
 * both are open for reading or writing. Overlayfs' own xattrs stay where they are.
 */
int strata_copy_attributes(const struct strata *s, enum strata_copy_source source, int from, const struct stat *st,
                           int to, const struct stat *now);

/*
 * Takes from FD, a directory just made, what it has of a default ACL of the directory it was made in. Its mode still
 * shows that.
 */
int strata_copy_drop_inherited(int fd);

#endif
