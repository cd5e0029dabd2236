/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a mount that was taken off has come to its end, or lives on in some process: inotify(7) tells of the end with
 * IN_UNMOUNT, and keeps nothing from ending.
 */
#ifndef STRATA_MOUNT_WATCH_H
#define STRATA_MOUNT_WATCH_H

#include <stdbool.h>

/* To be called while it is mounted at PATH. A descriptor for the caller to close, or -1: of no watch nothing is known.
 */
int strata_mount_watch(const char *path);

/* True if the whole superblock that WATCH was set on has ended; false if not, not yet, or if that is not known. */
bool strata_mount_has_ended(int watch);

#endif
