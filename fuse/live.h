/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of entries that have, had or are to have a mount: what attach.c (the protocol), attach_mount.c (mounting)
 * and attach_idle.c (unmounting) share. Nobody else includes this. All sfs_live_*() but the table's own making want
 * sfs_attach.lock held, unless they say otherwise.
 */
#ifndef SFS_LIVE_H
#define SFS_LIVE_H

#include "attach.h"
#include "keep.h"
#include "pool.h"
#include "ticket.h"
#include "util/hash.h"

#include <time.h>

enum sfs_state {
        SFS_BARE,     /* nothing is mounted, nobody is at it */
        SFS_MOUNTING, /* a job is at it */
        SFS_MOUNTED,
        SFS_RELEASING, /* a job tries to unmount it, as it is idle */
        SFS_CLAIMED,   /* by a commit, rename or removal */
};

/* A request that waits until it is settled what is there. */
struct sfs_parked {
        fuse_req_t req;
        uint64_t unique; /* its number */
        time_t since;
        bool lookup;           /* of `fs`, not a GETATTR of the entry */
        struct sfs_note *note; /* of a LOOKUP: for the next worker, or NULL */
        struct sfs_parked *next;
};

struct sfs_live {
        uint64_t id;
        enum sfs_state state;
        uint64_t known; /* lookups of `fs` that the kernel was answered, less those it has forgotten */
        uint64_t job;   /* of MOUNTING and RELEASING: the number of the job that is at it */
        bool entered;   /* of these: its walk by names is through, it waits for no lock that a rename or removal has */
        struct sfs_parked *parked;
        time_t since;             /* of the state */
        time_t next_try;          /* of MOUNTED: when to try to release it */
        bool expires;             /* views and snapshots */
        bool suspect;             /* not BARE, but the mount, or one that is just made, may be lost: look again */
        bool for_import;          /* of CLAIMED: by an import; who claims is told so */
        bool importing;           /* it has begun, and may take long: who comes is told EBUSY */
        bool fresh;               /* MOUNTED, and not looked at again since */
        bool looking;             /* of MOUNTING: it was mounted when that began, and most likely is */
        pid_t toucher;            /* of MOUNTING: the first thread that asked */
        bool crowded;             /* of MOUNTING: others asked as well */
        bool idle_mark;           /* the last try set the kernel's mark of idleness */
        dev_t dev;                /* of what is mounted; 0: not known */
        bool inherited;           /* some process may have it mounted off the tree: inherit.h */
        dev_t lost[SFS_LOST_MAX]; /* of what somebody else took away, the last first: some process may be in it; or 0 */
        int copy;                 /* of what is to be attached, see there; or -1 */
        pid_t walk_anew;          /* this inner thread's next GETATTR of the entry gets ESTALE */
        UT_hash_handle hh;
        int oom;
};

struct sfs_attach {
        struct sfs *sfs;
        /*
         * Protects all below. A leaf lock, held over memory operations only: never over a reply, a notification, a
         * mount or a call of the engine.
         */
        pthread_mutex_t lock;
        pthread_cond_t settled; /* some state changed */
        struct sfs_live *entries;
        struct sfs_ticket *tickets;
        uint64_t last_job;
        unsigned n_jobs;
        unsigned n_releasing; /* of these: they try to unmount what is idle */
        unsigned n_claims;
        bool stopping;
};

/* The job of mounting or releasing an entry. */
struct sfs_mount_job {
        struct sfs_job job; /* first: the job is this */
        struct sfs_attach *a;
        uint64_t id;
        uint64_t number;
        int result;
        int keep;       /* of a mount: a copy of what was attached and got lost, to be attached again; or -1 */
        unsigned tries; /* of a mount: how often it was begun anew */
        int outer;      /* the same descriptor in the outer table, where KEEP was inherited; or -1 */
        bool thaw;      /* of a mount: what KEEP is may be frozen */
        bool there;     /* of a mount: something is mounted there, as far as this job knows, and at its beginning */
        bool expires;   /* of a mount: what it is may be released when idle */
        bool marked;    /* of a release: the kernel noted it as idle, this try may succeed */
        dev_t dev;
};

struct sfs_live *sfs_live_find(struct sfs_attach *a, uint64_t id);

/* Finds it, or lists it as SFS_BARE; NULL when out of memory. */
struct sfs_live *sfs_live_get(struct sfs_attach *a, uint64_t id);

void sfs_live_drop(struct sfs_attach *a, struct sfs_live *e);

void sfs_live_set(struct sfs_attach *a, struct sfs_live *e, enum sfs_state state);

/* True while no claim has overtaken job M, nor another job come: sfs_attach_claim(). */
bool sfs_live_is_mine(const struct sfs_live *e, const struct sfs_mount_job *m);

/* The walk by names of job M is through: from now on no claim overtakes it. False if one has. Takes the lock. */
bool sfs_live_enter(struct sfs_mount_job *m);

/* The kernel is told of the `fs` of E once more. */
void sfs_live_known(struct sfs_attach *a, struct sfs_live *e);

/*
 * What was mounted at E is not any more, and it was not us. Besides who unmounts it, that is a caller of rmdir(2) or
 * rename(2) who is killed before the request was read: the kernel then drops the name and what is mounted below
 * (fs/fuse/dir.c, fuse_rmdir(), -EINTR). Who is inside stays inside.
 */
void sfs_live_lost(struct sfs_live *e);

/* Thread TID asked about E, in whatever way. */
void sfs_live_asked(struct sfs_live *e, pid_t tid);

/* Takes P, an empty one, to wait with REQ at E. */
void sfs_live_park(struct sfs_live *e, struct sfs_parked *p, fuse_req_t req, bool lookup);

/* Takes out of E's list what is a LOOKUP (or is none) and came at or before BEFORE. */
struct sfs_parked *sfs_live_unpark(struct sfs_live *e, bool lookup, time_t before);

/*
 * Answers all in LIST: asks anew what they asked, or with ERROR (negative errno). On the outer side; the lock must not
 * be held.
 */
void sfs_live_answer(struct sfs_parked *list, uint64_t id, int error);

/* Makes a job, counted in n_jobs; NULL when out of memory. */
struct sfs_mount_job *sfs_live_job(struct sfs_attach *a, uint64_t id, void (*run)(struct sfs_job *),
                                   void (*done)(struct sfs_job *));

/* attach_mount.c: sends a job to mount E; false when out of memory or when the program ends. */
bool sfs_live_mount(struct sfs_attach *a, struct sfs_live *e);

/* Seconds of the clock that all times here are of. */
time_t sfs_live_now(void);

#endif
