/* SPDX-License-Identifier: Apache-2.0 */
/* The file `verify` of a snapshot: made at the first read, on a lane of its own, until its reader is killed. */
#ifndef SFS_VERIFY_H
#define SFS_VERIFY_H

#include "sfs.h"

/* What ops_file.c and ops_label.c hand on for a `verify`. sfs_verify_open(): 0, or -errno without a reply. */
int sfs_verify_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void sfs_verify_read(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, size_t size, off_t off);
void sfs_verify_release(fuse_req_t req, struct fuse_file_info *fi);

#endif
