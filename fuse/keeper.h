/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper: a process that mounts, holds /dev/fuse, and has a worker serve it. When the worker dies it starts another
 * one, which goes on where the first one ended (takeover.h): callers only wait a little.
 *
 * It is to be the part that never fails: of the store it holds the reservation (storelock.h) and knows no more, it
 * allocates nothing once it runs, and waits for two things only, signals and the pipe whose other end the worker holds.
 */
#ifndef SFS_KEEPER_H
#define SFS_KEEPER_H

#include "session.h"

/*
 * Mounts and serves as sfs_session_run() does, by a worker. With a kernel that can't hand requests out again the
 * session is run by this process, as without a keeper. HOST as of that. Returns the exit status.
 */
int sfs_keeper_run(struct sfs_options *o, const struct sfs_host *host);

/* Goes on with what the program that was this process before left in the descriptors that O names: upgrade.h. */
int sfs_keeper_resume(struct sfs_options *o, const struct sfs_host *host);

#endif
