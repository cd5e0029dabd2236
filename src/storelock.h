/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STORE/lock. Who uses the store holds a flock(2) of it. A keeper whose workers come and go holds no such lock but a
 * reservation, a record lock of its open file (F_OFD_SETLK in fcntl_locking(2)): it stands between the death of a
 * worker and the next one's start, so that nobody else takes the store then.
 */
#ifndef STRATA_STORELOCK_H
#define STRATA_STORELOCK_H

#include "strata.h"

/* What ends may need a moment for it, after the mount has gone already: so long is waited before it is "in use". */
#define STRATA_STORELOCK_WAIT_MSEC 2000

/*
 * Locks FD, an open STORE/lock, if it can be had within WAIT milliseconds. RESERVED: the store is reserved for this
 * process, else a reservation counts like a lock. 0, -EBUSY, -errno.
 */
int strata_storelock_take(int fd, bool reserved, long wait);

/*
 * Keeps the store from being used by a program for as long as something is looked at, so never for long: whoever starts
 * then waits. Many may look at once. 0, -EBUSY if a program uses it, -errno.
 */
int strata_storelock_hold(struct strata *s);
void strata_storelock_let_go(struct strata *s);

/* Opens s->lock_fd, and takes it. On failure *WHY names the process in use. */
int strata_storelock_open(struct strata *s, char **why);

/*
 * Writes into the lock file whom to end to have the store free, for messages, and the note of s->config; and empties it
 * again at the end.
 */
void strata_storelock_note(struct strata *s);
void strata_storelock_clear(struct strata *s);

/* The note of a repair. */
#define STRATA_STORELOCK_REPAIR "repair\n"

/* Reserves the store at PATH, which this process's worker has locked: a descriptor that holds it, or -errno. */
int strata_storelock_reserve(const char *path);

#endif
