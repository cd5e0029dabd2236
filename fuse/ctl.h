/* SPDX-License-Identifier: Apache-2.0 */
/* The one table of control files: what there is, where, how it looks and what it shows. All of fuse/ goes by it. */
#ifndef SFS_CTL_H
#define SFS_CTL_H

#include "node.h"
#include "sfs.h"
#include "util/buf.h"

#include <sys/stat.h>

/* What it costs to know a file's text. */
enum sfs_cost {
        SFS_COST_NONE,  /* a directory, or a link */
        SFS_COST_LOW,   /* made at each look: stat shows the true size */
        SFS_COST_ONCE,  /* a walk over the layer, unless KNOWN says that it is not needed */
        SFS_COST_LAYER, /* a walk over the layer; KNOWN may tell the size */
        SFS_COST_WALK,  /* a walk over the store: stat shows 0, as in /proc */
        SFS_COST_LONG,  /* memory alone, but too long to be made for a stat: that shows 0 */
};

/* Where a file is: a bit for the mount point itself and one for each kind of entry. */
#define SFS_AT_TOP (1u << STRATA_KINDS)
#define SFS_AT(kind) (1u << (kind))
#define SFS_AT_ENTRIES (SFS_AT(STRATA_ACTIVE) | SFS_AT(STRATA_VIEW) | SFS_AT(STRATA_COMMITTED))

struct sfs_ctl {
        enum sfs_slot slot;
        const char *name;
        mode_t mode; /* with the type */
        unsigned where;
        enum sfs_cost cost;
        /* Appends the text; INFO is NULL at the top. 0 or -errno. */
        int (*show)(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf);
        /* Of what takes a walk over the layer: true if what that gives is at hand; *SIZE then is that of the text, or
         * as it was where SHOW tells it. */
        bool (*known)(struct sfs *sfs, const struct strata_info *info, uint64_t *size);
};

/* The table's line for SLOT, NULL without one. */
const struct sfs_ctl *sfs_ctl_by_slot(enum sfs_slot slot);

/* The line for NAME at the top (INFO NULL) or in INFO's entry; NULL if there is no such file. */
const struct sfs_ctl *sfs_ctl_by_name(const struct strata_info *info, const char *name);

/* The Nth file there, from 0; NULL past the last. */
const struct sfs_ctl *sfs_ctl_nth(const struct strata_info *info, unsigned n);

/* The size that stat shows. */
off_t sfs_ctl_size(struct sfs *sfs, const struct sfs_ctl *ctl, const struct strata_info *info);

/* True if the text is to be made on the read lane, not by a FUSE worker. */
bool sfs_ctl_is_slow(struct sfs *sfs, const struct sfs_ctl *ctl, const struct strata_info *info);

#endif
