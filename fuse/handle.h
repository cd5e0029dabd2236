/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an open file of ours is, shared by ops_file.c (texts) and ops_label.c (labels).
 *
 * The kernel holds a number for it, `fh`: the handle's address, and in the upper 16 bits the generation of the worker
 * that opened it. A worker that is given a number of a dead one makes the handle anew: a label comes back with what was
 * written to it (keep.h), a text is made again once somebody reads it (ops_file.c).
 */
#ifndef SFS_HANDLE_H
#define SFS_HANDLE_H

#include "sfs.h"
#include "util/buf.h"

#include <stdatomic.h>

struct sfs_kept_text;

struct sfs_handle {
        pthread_mutex_t lock; /* protects the rest but CREATED, of a label; a leaf lock, held over memory operations */
        pthread_mutex_t
                order; /* held while the label is set, by one after the other; protects CREATED. Inner side only */
        struct strata_buf text;
        uint64_t label;     /* node of a label, 0 for a text */
        bool created;       /* begun in the table of labels: to be ended once it is set */
        bool dirty;         /* TEXT is not set yet */
        bool written;       /* since it was set last: a shell closes a copy of the descriptor before it writes */
        bool lost;          /* of a dead worker that could not keep what was written: a close says EIO */
        unsigned flushes;   /* closes of copies of the descriptor; with two and nothing written it is to be empty */
        uint64_t closed_at; /* when the last of these was, by the labels' count */
        struct sfs_kept_text *kept; /* of a label open for writing: the same, for the next worker; or NULL */

        atomic_llong ahead;             /* the length of TEXT while the store has another one, else negative */
        struct sfs *writes;             /* among whose WRITERS it is, or NULL; constant once others know it */
        struct sfs_handle *prev, *next; /* there */
};

/* LABEL: the node of a label, or 0. NULL when out of memory. */
struct sfs_handle *sfs_handle_new(uint64_t label);
void sfs_handle_free(struct sfs_handle *h);

/* The number for the address P. MARK: one of a label open for writing that has no place in the kept memory. */
uint64_t sfs_handle_number(const struct sfs *sfs, const void *p, bool mark);

/* The address behind FH if it is of this worker, else NULL. */
void *sfs_handle_address(const struct sfs *sfs, uint64_t fh);

/* What is open as FH, if this worker opened it or has made it anew; else NULL. */
void *sfs_handle_find(struct sfs *sfs, uint64_t fh);

/* The handle of an open label, made anew if a dead worker opened it. 0 or -errno. */
int sfs_handle_get(struct sfs *sfs, uint64_t node, uint64_t fh, struct sfs_handle **ret);

/* True if FH was made with a mark. */
bool sfs_handle_is_marked(uint64_t fh);

/*
 * What dead workers opened and this one was asked for, by its number. Adding drops OBJECT and returns another one if a
 * thread was faster, NULL when out of memory.
 */
void *sfs_adopted_find(struct sfs *sfs, uint64_t fh);
void *sfs_adopted_add(struct sfs *sfs, uint64_t fh, void *object, void (*drop)(void *object));

/* The same of a text's handle H, which belongs to the table from then on. */
struct sfs_handle *sfs_handle_adopt(struct sfs *sfs, uint64_t fh, struct sfs_handle *h);

/* FH is not used any more: the next use of that number is another's. To be called before the handle is freed. */
void sfs_handle_drop(struct sfs *sfs, uint64_t fh);

/* To be told of each change of H, whose lock is held: makes KEPT, if there is one, the same. */
void sfs_handle_keep(struct sfs_handle *h);

/* H is open for writing: others see its length, and it has a place in the kept memory, if there is one. */
void sfs_handle_protect(struct sfs *sfs, struct sfs_handle *h);

/* Its `fh`, with which it is found from now on. */
uint64_t sfs_handle_publish(struct sfs *sfs, struct sfs_handle *h, bool writing);

/* Replies to an open with H, which belongs to the kernel from then on. */
void sfs_handle_reply(fuse_req_t req, struct sfs_handle *h, struct fuse_file_info *fi);

/*
 * The length of what somebody writes to the label NODE and has not closed yet, also if it was written before a worker's
 * death; of several the one who opened it last. -ENOENT if nobody does.
 */
int sfs_handle_written(struct sfs *sfs, uint64_t node, uint64_t *len);

void sfs_handles_free(struct sfs *sfs);

#endif
