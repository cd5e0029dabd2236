/* SPDX-License-Identifier: Apache-2.0 */
/* Mounting by mount(2) with a descriptor of /dev/fuse that is ours to keep: what libfuse does, but without its session.
 */
#ifndef SFS_DEVFUSE_H
#define SFS_DEVFUSE_H

#include "options.h"

/* Opens /dev/fuse and mounts at O's mount point, both as O says. *RET is the descriptor. -errno with *WHY as usual. */
int sfs_devfuse_mount(const struct sfs_options *o, int *ret, char **why);

#endif
