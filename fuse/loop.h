/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop that receives requests. libfuse's own can't tell what a takeover needs to know: whether a request was handed
 * out to a worker before, and which one it is.
 */
#ifndef SFS_LOOP_H
#define SFS_LOOP_H

#include "sfs.h"

#include <signal.h>

/*
 * Serves until the connection ends or the session exits. With a keeper: the first worker's INIT is kept, a later one is
 * fed with it, and has the kernel hand out again what the last one had not answered. 0 or -errno.
 */
int sfs_loop_run(struct sfs *sfs);

/* The bytes of data that a request may carry: it is received into one piece of memory. */
unsigned sfs_loop_max_write(void);

/*
 * To be called over and over once the session exits, until the loop has ended: one of its threads that wait for a
 * request looks up. Needed where the connection lives on without our mount.
 */
void sfs_loop_wake(void);
#define SFS_LOOP_WAKE SIGRTMIN /* blocked everywhere else */

/* The number of the request that this thread is at, as the kernel gave it first; 0 outside a request. */
uint64_t sfs_loop_unique(void);

/* True if that request was handed out before, to a worker that died before it answered. */
bool sfs_loop_resent(void);

struct sfs_loop_at {
        uint64_t unique;
        bool resent;
};

/* From here on this thread is at AT, a request that was kept. Returns what it was at before, to be turned to after. */
struct sfs_loop_at sfs_loop_turn_to(struct sfs_loop_at at);

/* Asks the kernel to hand out again what is not answered. -EINVAL before Linux 6.9, which can't. */
int sfs_loop_resend(int fd);

#endif
