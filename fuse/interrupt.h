/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request that may take long, and whose caller is killed meanwhile: the kernel lets it go only once it is answered.
 * Other signals do not count, as they would be an EINTR that nobody expects of a file; should it be killed later, the
 * kernel does not say so again, and we have to look: who works for it, and the control thread for those that wait.
 */
#ifndef SFS_INTERRUPT_H
#define SFS_INTERRUPT_H

#include "sfs.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

enum sfs_interrupt_state {
        SFS_INTERRUPT_ARMING, /* it is being asked for: nobody but who does that may answer */
        SFS_INTERRUPT_OWED,   /* a reply is */
        SFS_INTERRUPT_OVER,   /* the caller has had EINTR, or is just given the reply; REQ is no more */
};

/* Part of a request's job. */
struct sfs_interrupt {
        fuse_req_t req;
        struct sfs *sfs;  /* constant */
        pid_t caller;     /* constant; the thread, 0 if it can't be seen from here */
        atomic_bool came; /* some signal */
        _Atomic enum sfs_interrupt_state state;
        unsigned asked; /* how often the last function below was */

        bool listed; /* among INTERRUPTED (sfs.h), whose lock protects it and the next two */
        struct sfs_interrupt *prev, *next;
};

#define SFS_INTERRUPT_WAKE SIGUSR1 /* to this process, every thread of which blocks it: the first one is listed */

/* Begins it for REQ: the caller may have been answered with EINTR when this returns, or at any time after it. */
void sfs_interrupt_arm(struct sfs_interrupt *i, fuse_req_t req);

/* Any side, from time to time: true if nobody waits for the reply any more. */
bool sfs_interrupt_hit(struct sfs_interrupt *i);

/* The control thread, many times a second: lets those go that were killed. False if none is left to be looked at. */
bool sfs_interrupts_look(struct sfs *sfs);

/* The outer side, before the reply: false if there was one already. Afterwards I may be freed. */
bool sfs_interrupt_end(struct sfs_interrupt *i);

/*
 * Inner side: what this thread does from here on is for I, and not wanted (util/wanted.h) once nobody waits for it or
 * the program ends. False if it is not even now. NULL: for nobody in particular.
 */
bool sfs_interrupt_work(struct sfs_interrupt *i);

#endif
