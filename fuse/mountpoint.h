/* SPDX-License-Identifier: Apache-2.0 */
/* The place where we are to be mounted: there, free, and not in the way of the store. */
#ifndef SFS_MOUNTPOINT_H
#define SFS_MOUNTPOINT_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Checks PATH, and takes away a dead mount of ours that a killed program left there. On success *RET is the absolute
 * path, the caller's to free. On failure *WHY is one line for the user (the caller's, may be NULL).
 * What lived on below the dead mount goes to *INHERITED (inherit.h), the caller's in any case.
 */
struct sfs_inherited;
int sfs_mountpoint_prepare(const char *path, struct sfs_inherited **inherited, char **ret, char **why);

/* PATH made absolute, of which the last component need not exist; the caller's to free, NULL with errno on failure. */
char *sfs_mountpoint_real_place(const char *path);

/* The device of what is mounted on the absolute path MNT, on top; 0 if nothing is. Asks no file system. */
dev_t sfs_mountpoint_device(const char *mnt);

/* True if that is another one than the device DEV. */
bool sfs_mountpoint_is_covered(const char *mnt, dev_t dev);

/* -EINVAL and *WHY if one of the two absolute paths lies in the other. */
int sfs_mountpoint_check_store(const char *mnt, const char *store, char **why);

#endif
