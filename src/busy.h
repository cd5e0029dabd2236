/* SPDX-License-Identifier: Apache-2.0 */
/* Who uses a mounted file system: for the reason in `log`, and where umount2() can't see it. */
#ifndef STRATA_BUSY_H
#define STRATA_BUSY_H

#include "util/buf.h"

#include <stdbool.h>
#include <sys/types.h>

/*
 * Appends who uses the file system with device DEV, as "process 12 (vim), process 13 (sh)": through an open file, a
 * working or root directory, the program run; with WRITERS only files open for writing. Never waits for another file
 * system. Returns how many it found; at most some are named.
 */
unsigned strata_busy_processes(dev_t dev, bool writers, struct strata_buf *buf);

/*
 * Appends where else DEV is mounted than on the fs/ of a stratafs, as "mounted on /target (process 12)", in any mount
 * namespace that a process lives in; and, of processes in other namespaces than ours, whether one uses DEV. Returns how
 * many it found.
 */
unsigned strata_busy_elsewhere(dev_t dev, struct strata_buf *buf);

/* True if DEV is mounted anywhere, in any mount namespace that a process lives in. */
bool strata_busy_is_mounted(dev_t dev);

/*
 * The same of overlays with the upper directory UPPER, as an absolute path, and who uses them: mounts of an earlier run
 * of the program, whose device nobody knows any more. The old interface of the kernel shows it as it was given, as
 * RELATIVE, which in another store may be called the same. One that is in no process' table of mounts is not found.
 */
unsigned strata_busy_upper(const char *upper, const char *relative, struct strata_buf *buf);

#endif
