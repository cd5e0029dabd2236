/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's context: one open store. Opened once, handed to every call; all calls may come from any thread.
 * Everything returns 0 or -errno, and leaves its results untouched on failure, unless its comment says otherwise.
 */
#ifndef STRATA_H
#define STRATA_H

#include "entry.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct strata_index;
struct strata_log;
struct strata_metrics;
struct strata_mount_api;
struct strata_op;
struct strata_trash;

struct strata_config {
        bool durable;          /* a commit returns when all of it is on the disk */
        bool fingerprint;      /* a commit writes a manifest of what it commits */
        bool volatile_mounts;  /* active snapshots are mounted volatile: no fsync inside */
        bool old_mount_api;    /* mount(2) even where the kernel has the new mount API */
        bool restrict_mounts;  /* all mounts nosuid,nodev, not only those of snapshots */
        bool read_only;        /* all mounts read-only */
        unsigned attributes;   /* MOUNT_ATTR_* that all mounts have beside these: noexec, access times */
        const char *lock_note; /* more lines for the lock file, or NULL */
        pid_t owner;           /* whom to end to have the store free, for the message; 0: this process */
        bool reserved;         /* the store is reserved for this process, which goes on with it: storelock.h */

        /* Where UNSYNCED_BELOW (see below) is kept for the process that goes on after this one; NULL: nowhere. */
        atomic_uint_fast64_t *unsynced_below;
};

struct strata {
        struct strata_config config; /* constant */

        /* Constant while open. The fds are directories of the store. */
        char *path; /* absolute, no symbolic links */
        int root_fd;
        int lock_fd;
        int layers_fd;
        int trash_fd;
        int kind_fd[STRATA_KINDS];
        bool noted;        /* `lock` names this process: storelock.h */
        bool in_userns;    /* not in the initial user namespace: overlays need userxattr */
        char boot_id[40];  /* /proc/sys/kernel/random/boot_id */
        uint64_t first_id; /* IDs from here on were given out by this process */
        const struct strata_mount_api *mount_api;

        /* The store was not closed by its last user, and no sweep has come to its end since: record.h */
        atomic_bool unclean;

        uint64_t run;        /* in names of files being written: tells those of this run from what others left */
        atomic_bool rubbish; /* something was left that a sweep clears: the next start is to do one */
        /* What was done since the last strata_store_sync() may not be on the disk, and is not said to be clean. */
        atomic_bool unsynced;

        /* Layers below this ID may have lost bytes: strata_store_sync(). The one of CONFIG, or else the other one. */
        atomic_uint_fast64_t *unsynced_below;
        atomic_uint_fast64_t unsynced_here;

        /* Own locks inside. */
        struct strata_index *index;
        struct strata_log *log;
        struct strata_metrics *metrics;
        struct strata_trash *trash;

        /*
         * NAMES is held while links in active/, views/ and snapshots/ and the marks in children/ are looked at and
         * changed together; never over an fsync, a mount or a walk.
         */
        pthread_mutex_t names;

        /* Of damage.c: what was told of, by hashes. */
        atomic_uint_least64_t told[32];
        atomic_uint n_told;

        struct strata_op *ops; /* entries being moved or removed; protected by NAMES */
        pthread_cond_t moved;  /* of those, one that had moved its link is on the disk now, or back; with NAMES */

        pthread_mutex_t place; /* held over a mount on trash/ that is looked at from there: mount_old.c; a leaf lock */

        pthread_mutex_t ids; /* protects the two below; a leaf lock, held over one small write in 4,096 IDs */
        uint64_t next_id;
        uint64_t reserved_id; /* `next` on disk: IDs below may have been used */
};

/*
 * Opens the store at PATH, making it first if PATH is absent or an empty directory. On failure *WHY is one line for the
 * user, owned by the caller, or NULL when there was no memory for it. -EBUSY when another process has it open.
 */
int strata_open(const char *path, const struct strata_config *config, struct strata **ret, char **why);

/* Closes it and marks it as cleanly closed. No other call may be under way. NULL is fine. */
void strata_close_store(struct strata *s);

/*
 * Opens a store for strata_check_run() and nothing else: it has to be there, and is left as it is. *LIVE: another
 * program uses it; with REPAIR that is -EBUSY. *WHY as above. To be closed by strata_close_check().
 */
int strata_open_check(const char *path, bool repair, struct strata **ret, bool *live, char **why);
void strata_close_check(struct strata *s);

/* A fresh ID, never given out before. */
int strata_next_id(struct strata *s, uint64_t *ret);

/* The least ID that strata_next_id() may give from now on. */
uint64_t strata_least_id(struct strata *s);

/* "layers/ID" and the like: room for a 20-digit number and a short suffix. */
#define STRATA_ID_PATH_MAX 48

/* Opens layers/ID as O_PATH. -ENOENT when there is none. */
int strata_open_layer(struct strata *s, uint64_t id, int *ret);

/*
 * 0 if layers/ID is still where it was, -ENOENT once it was removed. Deleting begins only after that, so who has read
 * something of a layer and then is told 0 has seen all of it.
 */
int strata_layer_stays(struct strata *s, uint64_t id);

#endif
