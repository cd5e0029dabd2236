/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes of every node, and the answers that carry them. */
#ifndef SFS_ATTR_H
#define SFS_ATTR_H

#include "ctl.h"
#include "sfs.h"

#include <sys/stat.h>

/* Attributes of NODE and how long the kernel may keep them, in seconds. -ENOENT or -ESTALE when it is no more. */
int sfs_attr_get(struct sfs *sfs, uint64_t node, struct stat *st, double *timeout);

/* Those of an entry (its own directory), given its ID and mtime. */
void sfs_attr_of_entry(struct sfs *sfs, uint64_t id, struct timespec mtime, struct stat *st);

/* Those of the control file CTL, of INFO's entry or (INFO NULL) at the top. */
void sfs_attr_of_ctl(struct sfs *sfs, const struct sfs_ctl *ctl, const struct strata_info *info, struct stat *st);

/* Those of a label, which has SIZE bytes in the store; while it is written, its size is what was written. */
void sfs_attr_of_label(struct sfs *sfs, uint64_t node, uint64_t size, struct timespec mtime, struct stat *st);

/* Replies to a GETATTR of NODE; the second form to one of the open file FI, NULL for none. */
void sfs_attr_reply(fuse_req_t req, uint64_t node);
void sfs_attr_reply_open(fuse_req_t req, uint64_t node, const struct fuse_file_info *fi);

#endif
