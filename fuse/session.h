/* SPDX-License-Identifier: Apache-2.0 */
/* From options to a served mount, and to its end. */
#ifndef SFS_SESSION_H
#define SFS_SESSION_H

#include "options.h"

/*
 * Opens the store, mounts, serves until the mount is gone or SIGTERM or SIGINT comes. READY is called once the mount
 * answers. Returns the program's exit status; what went wrong is on stderr.
 */
int sfs_session_run(struct sfs_options *o, void (*ready)(void *data), void *data, int hidden_fd);

#endif
