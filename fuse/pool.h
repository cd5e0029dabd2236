/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads beside the FUSE workers, for all that may take long or has to walk into our own mount.
 *
 * They live on the inner side: in a table of file descriptors of their own that does not hold /dev/fuse. A thread that
 * waits for an answer of our own mount can't be killed; were /dev/fuse open in its table, a killed program would never
 * be gone. So nothing on the inner side may reply to a request or send a notification: a job has a second half, run on
 * the outer side, for that.
 *
 * Lanes keep kinds of work from waiting behind each other.
 */
#ifndef SFS_POOL_H
#define SFS_POOL_H

#include <stdbool.h>
#include <sys/types.h>

enum sfs_lane {
        SFS_LANE_MOUNT,  /* attach, expire: short; needs LOOKUP and GETATTR to be answered */
        SFS_LANE_CLAIM,  /* those of CHANGE, before they may: they wait for others that are at the same entry */
        SFS_LANE_CHANGE, /* commit, rename, remove of what is mounted */
        SFS_LANE_LABEL,  /* labels on their way to the disk */
        SFS_LANE_READ,   /* text that takes a walk over the store */
        SFS_LANE_WALK,   /* text that takes a walk over a layer */
        SFS_LANE_LAYER,  /* pieces of layers, going out and coming in */
        SFS_LANE_VERIFY, /* whole layers being read */
};
#define SFS_LANES 8

struct sfs_keep;
struct sfs_pool;

/* Lives in the caller's own structure until DONE was called. */
struct sfs_job {
        void (*run)(struct sfs_job *job);  /* on the inner side */
        void (*done)(struct sfs_job *job); /* on the outer side, after RUN; NULL: nothing */
        struct sfs_job *next;
};

/* A long-lived inner thread besides the lanes; ends when its own module says so. */
typedef void (*sfs_service)(void *data);

/*
 * Starts all threads. HIDDEN_FDS (N of them) are closed in the inner table, standard ones lead to /dev/null. The inner
 * threads' numbers go to KEEP, if that is not NULL, before they do anything. 0 or -errno.
 */
int sfs_pool_new(const int *hidden_fds, unsigned n, const sfs_service *services, unsigned n_services, void *data,
                 struct sfs_keep *keep, struct sfs_pool **ret);

/* Queues JOB; may be called from any thread. */
void sfs_pool_submit(struct sfs_pool *p, enum sfs_lane lane, struct sfs_job *job);

/* True if TID (as FUSE requests give it) is a thread of the inner side. */
bool sfs_pool_is_walker(const struct sfs_pool *p, pid_t tid);

/* True if TID was a thread of the inner side of a dead worker, and is not gone yet. */
bool sfs_pool_is_dead_walker(struct sfs_pool *p, pid_t tid);

/* Looks which of those are gone. True while there are some. */
bool sfs_pool_bury(struct sfs_pool *p);

/* Finishes the queued jobs, their second halves included, and ends all threads. The services must be ending already. */
void sfs_pool_free(struct sfs_pool *p);

#endif
