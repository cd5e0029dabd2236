/* SPDX-License-Identifier: Apache-2.0 */
/* FUSE request -> engine call -> exactly one reply. One file a group of requests; ops.c puts them together. */
#ifndef SFS_OPS_H
#define SFS_OPS_H

#include "sfs.h"

extern const struct fuse_lowlevel_ops sfs_ops;

/* ops_lookup.c: names and attributes */
void sfs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void sfs_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void sfs_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void sfs_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void sfs_op_readlink(fuse_req_t req, fuse_ino_t ino);
void sfs_op_statfs(fuse_req_t req, fuse_ino_t ino);

/* ops_dir.c: listing */
void sfs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void sfs_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void sfs_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void sfs_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* ops_file.c: open files, and texts */
void sfs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void sfs_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);

/* ops_label.c: labels; ops_label_name.c: their names */
void sfs_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi);
void sfs_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void sfs_op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi);
void sfs_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void sfs_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void sfs_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void sfs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);

/* Opens a label: 0 once it has replied, or -errno. */
int sfs_label_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* A rename of what lies in PARENT, a labels/. */
void sfs_label_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
                      unsigned flags);

/* ops_make.c: mkdir, and what is refused; ops_verbs.c: mv, rmdir */
void sfs_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void sfs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
                   unsigned flags);
void sfs_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void sfs_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void sfs_op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name);
void sfs_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname);

/*
 * The path of NAME (or of NODE itself, if NAME is NULL) from the mount point, for the log: "active/web/info". Cut to
 * SIZE; returns BUF.
 */
const char *sfs_op_path(struct sfs *sfs, uint64_t node, const char *name, char *buf, size_t size);

/* -EROFS for what lies in an entry of views/ or snapshots/, else -EPERM; and a line in the log. */
int sfs_op_refuse(struct sfs *sfs, const char *operation, uint64_t node, const char *name);

/*
 * Logs that OPERATION on NODE (its NAME, or itself with NULL) failed with ERROR, unless that is a mere answer: nothing
 * of that name, or a walk sent back.
 */
void sfs_op_log_error(struct sfs *sfs, const char *operation, uint64_t node, const char *name, int error);

/* A line in the log for a failed verb; WHY may be NULL. */
void sfs_op_log_failure(struct sfs *sfs, const char *operation, uint64_t parent, const char *name, uint64_t newparent,
                        const char *newname, int error, const char *why);

#define SFS_PATH_MAX 1024

#endif
