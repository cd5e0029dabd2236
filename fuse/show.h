/* SPDX-License-Identifier: Apache-2.0 */
/* The texts of the control files, for the table in ctl.c; see struct sfs_ctl. */
#ifndef SFS_SHOW_H
#define SFS_SHOW_H

#include "sfs.h"
#include "util/buf.h"

int sfs_show_tree(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf);
int sfs_show_graph(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf);
int sfs_show_log(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf);
int sfs_show_metrics(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf);
int sfs_show_version(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf);
int sfs_show_parent(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf);
int sfs_show_info(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf);
int sfs_show_mount(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf);
int sfs_show_mount_json(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf);
int sfs_show_overlay(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf);
int sfs_show_usage(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf);
int sfs_show_children(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf);

int sfs_show_changes(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf);

/* What is known without a walk over the layer: see struct sfs_ctl. */
bool sfs_info_known(struct sfs *sfs, const struct strata_info *info, uint64_t *size);
bool sfs_usage_known(struct sfs *sfs, const struct strata_info *info, uint64_t *size);
bool sfs_changes_known(struct sfs *sfs, const struct strata_info *info, uint64_t *size);
bool sfs_layer_known(struct sfs *sfs, const struct strata_info *info, uint64_t *size);

/* "MNT/FOLDER/NAME" of an entry, the caller's to free; NULL when out of memory. */
char *sfs_entry_path(const struct sfs *sfs, const struct strata_info *info);

/* "MNT/FOLDER/NAME/fs" of an entry, the caller's to free; NULL when out of memory. */
char *sfs_fs_path(const struct sfs *sfs, const struct strata_info *info);

#endif
