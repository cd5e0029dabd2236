/* SPDX-License-Identifier: Apache-2.0 */
/* The program's context, handed to every request as the session's user data. Constant once the session runs. */
#ifndef SFS_H
#define SFS_H

#define FUSE_USE_VERSION 312

#include "strata.h"

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct sfs_attach;
struct sfs_adopted;
struct sfs_handle;
struct sfs_interrupt;
struct sfs_keep;
struct sfs_labels;
struct sfs_layer;
struct sfs_move;
struct sfs_past;
struct sfs_pool;

struct sfs {
        struct strata *store;
        struct fuse_session *se;
        struct sfs_pool *pool;
        struct sfs_attach *attach;
        struct sfs_labels *labels;
        char *mnt;          /* absolute path of the mount point */
        dev_t dev;          /* of the mount: somebody may have put another one on top of it */
        unsigned expire;    /* seconds; 0: never */
        uint64_t max_layer; /* bytes of an imported layer, unpacked; 0: no limit */
        uid_t uid;          /* owner of all control files */
        gid_t gid;

        struct sfs_keep *keep; /* what outlives this process, or NULL without a keeper: keep.h */
        unsigned generation;   /* of this worker; 0 without a keeper */
        time_t killed_before;  /* when this process began, by the monotonic clock, if another was killed; or 0 */
        struct sfs_past *past; /* what workers before left to do, or NULL: takeover.h */

        pthread_mutex_t adopted_lock; /* protects ADOPTED and WRITERS; a leaf lock */
        struct sfs_adopted *adopted;  /* open files of workers before: handle.h */
        struct sfs_handle *writers;   /* labels open for writing, the last one first */

        pthread_mutex_t layers_lock; /* protects the next, and is taken before a layer's own: layer_list.c */
        struct sfs_layer *layers;    /* open layer.tar */
        atomic_bool layers_stopped;  /* no more of those that are written, and nobody is to wait: the program ends */

        pthread_mutex_t interrupted_lock;  /* protects INTERRUPTED; a leaf lock, held over looks into /proc */
        struct sfs_interrupt *interrupted; /* requests whose caller had a signal and waits on: interrupt.h */

        pthread_mutex_t moves_lock; /* protects MOVES; a leaf lock */
        struct sfs_move *moves;     /* names that are changing: moves.h */
};

/* How long the kernel may keep what never changes behind its back. */
#define SFS_FOREVER 1e8

static inline struct sfs *sfs_of(fuse_req_t req)
{
        return fuse_req_userdata(req);
}

#endif
