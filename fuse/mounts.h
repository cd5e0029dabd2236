/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel has mounted on the fs/ of entries, read from its table of mounts: that asks no file system. */
#ifndef SFS_MOUNTS_H
#define SFS_MOUNTS_H

#include "entry.h"
#include "util/buf.h"

#include <sys/types.h>

struct sfs_mounted {
        const char *path; /* MNT/FOLDER/NAME/fs */
        enum strata_kind kind;
        const char *name; /* as the kernel knows it */
        dev_t dev;
};

/* Calls FOUND for each overlay mounted on an fs/ below MNT, an absolute path. 0 or -errno. */
int sfs_mounts_each(const char *mnt, void (*found)(const struct sfs_mounted *m, void *data), void *data);

/* 1 if an overlay is mounted on fs/ of the entry KIND, NAME below MNT, *DEV then its device; 0 if not; -errno. */
int sfs_mounts_find(const char *mnt, enum strata_kind kind, const char *name, dev_t *dev);

/* 1 if something is mounted below PATH, an absolute path; the place of the first is added to WHERE. 0; -errno. */
int sfs_mounts_below(const char *path, struct strata_buf *where);

/*
 * Closes FD, the last use of a superblock, on a thread of its own: it may write back for long what is to be deleted.
 * Nothing for a negative one.
 */
void sfs_mounts_let_go(int fd);

#endif
