/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel has mounted on the fs/ of entries, read from its table of mounts: that asks no file system. */
#ifndef SFS_MOUNTS_H
#define SFS_MOUNTS_H

#include "entry.h"
#include "util/buf.h"

#include <sys/types.h>

#define SFS_MOUNTS_TYPE "fuse.stratafs"

struct sfs_mounted {
        const char *path; /* MNT/FOLDER/NAME/fs */
        enum strata_kind kind;
        const char *name; /* as the kernel knows it */
        dev_t dev;
};

/* The source of what is mounted on the absolute path MNT, on top, if it is of TYPE; the caller's. Else NULL. */
char *sfs_mounts_source(const char *mnt, const char *type);

/*
 * In all of the following the mount is the one of device ON, or DEV, that was made on MNT, an absolute path: wherever
 * that is by now, as folders above it may be renamed. If it is 0, MNT is the place, whatever is mounted there.
 */

/* The absolute path where it is now, the caller's; NULL if it is nowhere, or out of memory. */
char *sfs_mounts_place(const char *mnt, dev_t dev);

/* Calls FOUND for each overlay mounted on an fs/ below. 0 or -errno. */
int sfs_mounts_each(const char *mnt, dev_t dev, void (*found)(const struct sfs_mounted *m, void *data), void *data);

/* 1 if an overlay is mounted on fs/ of the entry KIND, NAME, *DEV then its device; 0 if not; -errno. */
int sfs_mounts_find(const char *mnt, dev_t on, enum strata_kind kind, const char *name, dev_t *dev);

/* 1 if something is mounted below that fs/; the place of the first is added to WHERE. 0; -errno. */
int sfs_mounts_below(const char *mnt, dev_t on, enum strata_kind kind, const char *name, struct strata_buf *where);

/*
 * Closes FD, the last use of a superblock, on a thread of its own: it may write back for long what is to be deleted.
 * Nothing for a negative one.
 */
void sfs_mounts_let_go(int fd);

#endif
