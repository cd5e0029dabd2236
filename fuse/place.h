/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where our mount is. Folders above it may be renamed while we run, and by somebody who is to gain nothing from it: a
 * path is only ever walked up to the root of our mount, which is known by its device, and from there by descriptors.
 */
#ifndef SFS_PLACE_H
#define SFS_PLACE_H

#include "entry.h"
#include "sfs.h"

#include <sys/types.h>

/* The absolute path of the mount point now, the caller's; NULL if out of memory. Asks no file system. */
char *sfs_place_path(const struct sfs *sfs);

/*
 * Opens the root of our mount, O_PATH: to be closed soon, as nobody can unmount it meanwhile. -ESTALE if it can't be
 * reached: something lies on top of it, or it is in no place any more. Not on a FUSE worker.
 */
int sfs_place_open(const struct sfs *sfs, int *ret);

/*
 * Opens, O_PATH, the directory of entry ID, by way of the name that it has. -ESTALE, too, when the kernel knows another
 * entry by that name: store and kernel change names one after the other. Who holds no lock of the kernel's (as a
 * removal does on the folder) must come by this way, or may meet another entry's mount. Inner side only.
 */
int sfs_place_open_entry(const struct sfs *sfs, enum strata_kind kind, const char *name, uint64_t id, int *ret);

/*
 * The path of fs/ in the directory ENTRY for this thread, which is to reach no other entry; BUF has SFS_PLACE_FS_MAX
 * bytes and is returned.
 */
#define SFS_PLACE_FS_MAX 48
const char *sfs_place_fs(int entry, char *buf);

/* True if the object FD is on the device DEV and has inode number INO; asks no file system. */
bool sfs_place_is(int fd, dev_t dev, uint64_t ino);

/*
 * umount2(FLAGS) of the mount of device DEV that was made on MNT, wherever that is by now, and of no other one.
 * -EINVAL if it is not there, or something lies on top of it.
 */
int sfs_place_unmount(const char *mnt, dev_t dev, int flags);

#endif
