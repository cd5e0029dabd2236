/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker that goes on where another was killed: what that one had mounted, whom it had sent on another walk, what it
 * was at. Requests that it had not answered come again (loop.h), and are resumed by what was noted of them (keep.h).
 */
#ifndef SFS_TAKEOVER_H
#define SFS_TAKEOVER_H

#include "entry.h"
#include "keep.h"
#include "sfs.h"

/* Before anything is received. 0 or -errno; next to nothing to do for a first worker, or without a keeper. */
int sfs_takeover_begin(struct sfs *sfs);
void sfs_takeover_free(struct sfs *sfs);

/*
 * To be called once all requests that are handed out again are known, and their notes with them: what else was noted
 * is over. Either it was answered, or its caller was killed: then it is tidied up.
 */
void sfs_takeover_settle(struct sfs *sfs);

/* To be called every second or so from an outer thread: finds mounts that were just being attached or released. */
void sfs_takeover_tick(struct sfs *sfs);

/*
 * Waits a moment: true, TRIES times, while what was found busy may be so for a dead worker only, or a dead program: in
 * the first seconds after either. Inner side.
 */
bool sfs_takeover_pause(struct sfs *sfs, unsigned tries);

/*
 * True if a dead worker's thread was mounting or unmounting at entry ID, and it is not known yet what came of it: then
 * nothing may be done to what is mounted there before sfs_takeover_wait().
 */
bool sfs_takeover_must_wait(struct sfs *sfs, uint64_t id);

/*
 * Waits for that thread, two seconds at the most, and learns what came of it; at once where there is none. False if it
 * still is at it. Inner side, with nothing held.
 */
bool sfs_takeover_wait(struct sfs *sfs, uint64_t id);

/*
 * The note of the request that this thread is at: a resumed one of a dead worker (*RESUMED), or a new one, to be
 * filled and published; NULL without a keeper.
 */
struct sfs_note *sfs_takeover_note(struct sfs *sfs, enum sfs_note_op op, bool *resumed);

/* The request of N is resumed: the names that it changes are its own affair from now on. */
void sfs_takeover_resume(struct sfs *sfs, const struct sfs_note *n);

#endif
