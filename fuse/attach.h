/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First touch: mounting an entry's fs/ at the moment somebody walks into it, without a request ever waiting for one
 * that waits for it.
 *
 * What the kernel gives (Linux 5.x to 6.18):
 *
 *   1. A LOOKUP of a name that the kernel does not know, MKDIR, RENAME and RMDIR come while it holds the parent
 *      directory's inode lock. Mounting walks to entry/fs, and waits for that lock where `fs` is not known yet. So such
 *      a request is never kept waiting for a mount.
 *   2. The GETATTR that a path walk sends before it goes through a directory comes with no lock held, and so does a
 *      LOOKUP that asks anew about a name that the kernel knows.
 *   3. ESTALE makes the kernel walk the whole path once more, unseen by the caller, asking anew about each component.
 *   4. A walk sends that GETATTR only if the attributes it has are no longer valid; fuse_lowlevel_notify_inval_inode()
 *      sees to that, taking no lock. (fuse_lowlevel_notify_inval_entry() takes the lock of 1, and is never used.)
 *   5. Every positive answer to a LOOKUP is counted by the kernel, and taken back by FORGET once it knows the name no
 *      more. So we can tell the two kinds of LOOKUP apart: the count of `fs` is 0, or it is not.
 *
 * What follows:
 *
 *   - A LOOKUP of an unknown `fs` where nothing is mounted, and anything asked of the bare directory fs/ itself, is
 *     answered at once: with ESTALE. Before that the thread is given a ticket for the entry, the entry's attributes are
 *     declared invalid, and a job starts to mount.
 *   - The kernel walks again. Its GETATTR for the entry is from a thread with a ticket, so it is one of case 2: it is
 *     kept until the job is done. The walk then finds `fs` mounted. Without a ticket a GETATTR is answered at once.
 *   - A LOOKUP of a known `fs` is of case 2: it is kept until something is mounted there. It must not be denied: the
 *     kernel would drop the name, and what is mounted on it.
 *   - The name on the way may have changed hands between the two walks. So a thread with a ticket takes it along to
 *     whatever entry it finds by a LOOKUP of a name.
 *   - While fs/ is mounted, its name and the entry's attributes are valid for good: walks cost no request.
 *
 * The mounting threads (pool.h) walk into our own mount, so their own requests are told by thread ID and answered at
 * once.
 *
 * An entry is in one state at a time (live.h), or not listed: nothing mounted, nobody asks.
 */
#ifndef SFS_ATTACH_H
#define SFS_ATTACH_H

#include "sfs.h"

int sfs_attach_new(struct sfs *sfs, struct sfs_attach **ret);
void sfs_attach_free(struct sfs_attach *a);

/*
 * A LOOKUP of `fs` in entry ID. 0: to be answered with the node, which is valid for *TIMEOUT seconds; the answer counts
 * until sfs_attach_forget(). 1: REQ was taken, and is answered when it is settled what is there. -ESTALE: to be
 * answered with that, which only makes the kernel walk again. Or what kept this thread's last try from mounting.
 */
int sfs_attach_look(struct sfs_attach *a, fuse_req_t req, uint64_t id, double *timeout);

/* The kernel forgot N lookups of the fs/ of ID, or was not told of them in the end. */
void sfs_attach_forget(struct sfs_attach *a, uint64_t id, uint64_t n);

/* Somebody got to fs/ of ID with nothing mounted there. The caller then replies ESTALE. */
void sfs_attach_missed(struct sfs_attach *a, fuse_req_t req, uint64_t id);

/*
 * A GETATTR of entry ID. True: the request was taken, and is answered once fs/ is mounted, or can't be. False: the
 * caller answers it now, with *ERROR if that is not 0.
 */
bool sfs_attach_gate(struct sfs_attach *a, fuse_req_t req, uint64_t id, int *error);

/*
 * Thread TID is told that a name is entry ID. If it was sent to the fs/ of another one, it is as if it had been sent to
 * this one. To be called before the entry's attributes are looked at.
 */
void sfs_attach_follow(struct sfs_attach *a, uint64_t id, pid_t tid);

/* How long the kernel may keep the attributes of entry ID. */
double sfs_attach_entry_timeout(struct sfs_attach *a, uint64_t id);

/*
 * What a worker before had mounted: the kernel has FS of entry ID mounted, with device DEV. SUSPECT: it may be gone the
 * next moment, so that the next touch looks.
 */
void sfs_attach_found(struct sfs_attach *a, uint64_t id, bool expires, dev_t dev, bool suspect);

/* Thread TID was sent on another walk to entry ID by a worker before. */
void sfs_attach_found_ticket(struct sfs_attach *a, uint64_t id, pid_t tid);

/*
 * Before anything is served: COPY, of device DEV, is to be attached to the fs/ of entry ID, instead of a new mount.
 * Takes COPY on success only. 0 or -ENOMEM.
 */
int sfs_attach_inherit(struct sfs_attach *a, uint64_t id, dev_t dev, int copy);

/* Attaches what was inherited and not touched yet. */
void sfs_attach_inherited(struct sfs_attach *a);

/* True if processes may use what is mounted at ID by another mount than that one, off the tree; *DEV is its device. */
bool sfs_attach_is_inherited(struct sfs_attach *a, uint64_t id, dev_t *dev);

/*
 * True if processes may be in what was mounted at ID and somebody else took away. DEVS were its devices, the last few
 * times, or 0; numbers that may have been given to others since, or to what is there again.
 */
#define SFS_LOST_MAX 4
bool sfs_attach_was_lost(struct sfs_attach *a, uint64_t id, dev_t devs[SFS_LOST_MAX]);

/*
 * Waits a hundredth of a second: what was just taken away is taken apart a moment later, and its layer in use until
 * then. False, at once, after some TRIES.
 */
bool sfs_attach_pause(unsigned tries);

/* What was mounted at ID, which is claimed, was found taken away by somebody else. */
void sfs_attach_lost(struct sfs_attach *a, uint64_t id);

/* Mounts attached now. */
uint64_t sfs_attach_count(struct sfs_attach *a);

/* What an operation on an entry found, see sfs_attach_claim(). */
enum sfs_claim {
        SFS_CLAIM_BARE,    /* nothing is mounted */
        SFS_CLAIM_MOUNTED, /* fs/ is mounted */
        SFS_CLAIM_IMPORT,  /* a layer is being imported there */
        SFS_CLAIM_BUSY, /* a mount is being made or released, and WAIT was false; it took too long; or the end has come
                         */
};

/*
 * Claims ID for a commit, rename or removal: until sfs_attach_release() nothing is mounted or released there by others.
 * A job that is still on its way there, by the names, is overtaken: it may be waiting for the lock that a rename or
 * removal is called with, and gives up once it sees. With WAIT any other is waited for, some seconds at most; only an
 * inner thread may. If something is mounted, the entry's attributes must be invalid while it is unmounted:
 * sfs_attach_arm() first, on the outer side.
 */
enum sfs_claim sfs_attach_claim(struct sfs_attach *a, uint64_t id, bool wait);

/* The same for an import, with WAIT. Who claims until its end does not wait for it, and is told SFS_CLAIM_IMPORT. */
enum sfs_claim sfs_attach_claim_import(struct sfs_attach *a, uint64_t id);

/* Such an import begins, and may take long: from now until its end, who walks into fs/ is told EBUSY. On the outer
 * side. */
void sfs_attach_import(struct sfs_attach *a, uint64_t id);

/* Ends a claim, on the outer side and after the reply. MOUNTED: whether fs/ is mounted now. */
void sfs_attach_release(struct sfs_attach *a, uint64_t id, bool mounted);

/* Declares the entry's attributes invalid in the kernel. Outer side only; takes no lock of the kernel's. */
void sfs_attach_arm(struct sfs_attach *a, uint64_t id);

/*
 * Unmounts PATH, the fs/ of a claimed or expiring entry, on the inner side. The walk there is made to ask anew about
 * `fs`, so that the kernel does not take the bare name for valid afterwards. 0 or what umount2() said.
 */
int sfs_attach_unmount(struct sfs_attach *a, uint64_t id, const char *path, int flags);

/* For requests of inner threads: true if this GETATTR of entry ID is to be answered with ESTALE (see above). */
bool sfs_attach_wants_anew(struct sfs_attach *a, pid_t tid, uint64_t id);

/* True if something is, or may be, mounted on the fs/ of entry ID. */
bool sfs_attach_is_pinned(struct sfs_attach *a, uint64_t id);

/*
 * Of a name that the store can't tell about just now: 1 if it is that of such an entry, *RET; 0 if not; -EINTR if that
 * can't be told either. With any error but EINTR and ENOMEM the kernel would drop a name that it knows, and what is
 * mounted below (fs/fuse/dir.c, fuse_dentry_revalidate()).
 */
int sfs_attach_find_pinned(struct sfs_attach *a, enum strata_kind kind, const char *name, uint64_t *ret);

/* To be called every second or so from an outer thread: releases idle mounts, forgets what is stale. */
void sfs_attach_tick(struct sfs_attach *a);

/* The mount of the program is gone: what is queued is to end at once, and nothing new begins. */
void sfs_attach_stop(struct sfs_attach *a);

/*
 * Refuses new mounts and claims, waits for those under way, and unmounts all there are, in-use ones lazily. Blocks;
 * from a thread that serves no request.
 */
void sfs_attach_shutdown(struct sfs_attach *a);

/*
 * The last call, once no job is left and whatever ended the mount: the marks of the active snapshots that were mounted
 * go, but for those whose mounts live on. Moves the working directory.
 */
void sfs_attach_left(struct sfs_attach *a);

#endif
