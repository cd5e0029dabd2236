/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What outlives a worker: memory that the keeper (keeper.h) makes once and each worker shares with it and with the
 * workers before and after. A worker may be killed at any instant, so nothing here has a lock: each item is filled
 * first, and counts from the one store that publishes it.
 *
 * All functions take a NULL memory, as of a program without a keeper: they then do nothing and find nothing.
 */
#ifndef SFS_KEEP_H
#define SFS_KEEP_H

#include "entry.h"
#include "label.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SFS_KEEP_VERSION 5 /* of this layout: another one can't take over */

#define SFS_KEEP_INIT 1024
#define SFS_KEEP_WALKERS 1024
#define SFS_KEEP_NOTES 256
#define SFS_KEEP_NOTES_VERBS 64 /* of these not for LOOKUPs, of which any number may be kept at once */
#define SFS_KEEP_TICKETS 1024
#define SFS_KEEP_KNOWN 16384
#define SFS_KEEP_LABELS 16384
#define SFS_KEEP_TEXTS 512

/* An operation under way, by the number that the kernel gave its request. */
enum sfs_note_op {
        SFS_NOTE_MKDIR,
        SFS_NOTE_COMMIT,
        SFS_NOTE_RENAME,
        SFS_NOTE_EXCHANGE,
        SFS_NOTE_RMDIR,
        SFS_NOTE_LABEL_UNLINK,
        SFS_NOTE_LABEL_RENAME,
        SFS_NOTE_LOOKUP, /* of a known `fs`, kept for a mount */
};

struct sfs_note {
        atomic_uint_fast64_t unique; /* 0: free; all ones: being filled */
        unsigned generation;         /* of the worker that is at it */
        enum sfs_note_op op;
        uint64_t id;    /* of the entry; of MKDIR: the least that what is made can have */
        uint64_t other; /* of EXCHANGE: the entry that was called NEWNAME */
        enum strata_kind kind, to;
        char name[STRATA_NAME_MAX + 1];
        char newname[STRATA_NAME_MAX + 1];
};

/* A label that the kernel knows. */
struct sfs_kept_label {
        atomic_uint_fast64_t node; /* 0: free */
        uint64_t id;
        uint64_t set_at; /* labelnode.h */
        bool removed;
        char name[STRATA_NAME_MAX + 1];
};

/* A label that is open for writing: what was written and is not set yet. */
struct sfs_kept_text {
        atomic_uint_fast64_t fh; /* 0: free; all ones: being filled */
        uint64_t opened_by;      /* the request that opened it */
        uint64_t node;
        bool created, dirty, written;
        unsigned flushes;
        uint64_t flushed_by;  /* the last request that counted in FLUSHES */
        uint64_t closed_at;   /* when that was, by the labels' own count (labelnode.h) */
        uint64_t appended_by; /* the last one that appended, and where */
        size_t appended_at;
        size_t len;
        char text[STRATA_LABEL_MAX + 2];
};

struct sfs_keep {
        unsigned version;
        size_t size; /* of the whole */
        pid_t keeper;
        dev_t dev;              /* of the mount; 0: not known */
        bool no_resend;         /* the kernel can't hand requests out again: there is no keeper */
        atomic_uint generation; /* of the worker that serves now, from 1 */
        atomic_uint_fast64_t next_label;
        atomic_uint_fast64_t label_count;    /* labelnode.h */
        atomic_uint_fast64_t unsynced_below; /* of the store: strata.h */
        atomic_size_t init_size;             /* of INIT; 0: not asked yet */
        char init[SFS_KEEP_INIT];
        struct {
                atomic_int tid, tgid;
                atomic_uint_fast64_t at; /* the entry at whose fs/ it mounts or unmounts; 0: at none */
        } walkers[SFS_KEEP_WALKERS];
        struct {
                atomic_uint_fast64_t id;
                atomic_int tid;
        } tickets[SFS_KEEP_TICKETS];
        atomic_uint_fast64_t known[SFS_KEEP_KNOWN]; /* entries whose `fs` the kernel knows; 0: free */
        struct sfs_note notes[SFS_KEEP_NOTES];
        struct sfs_kept_label labels[SFS_KEEP_LABELS];
        struct sfs_kept_text texts[SFS_KEEP_TEXTS];
};

/* Makes the memory; *FD is a descriptor of it. NULL and errno on failure. For the keeper, before its first worker. */
struct sfs_keep *sfs_keep_new(int *fd);

/* Maps what another program image made, whose descriptor is FD. NULL if it can't be used. */
struct sfs_keep *sfs_keep_map(int fd);

/* A new worker begins: the only one there is. Its number goes to GENERATION, what the last one was filling is free. */
void sfs_keep_begin(struct sfs_keep *k);

/* ---- walkers: threads that walk into our own mount ---- */

void sfs_keep_add_walker(struct sfs_keep *k, pid_t tid);

/*
 * Copies to TIDS the walkers of dead workers that are not gone yet: each sleeps in a walk, until it is answered.
 * Returns how many; at most MAX.
 */
unsigned sfs_keep_dead_walkers(struct sfs_keep *k, pid_t *tids, unsigned max);

/*
 * This walker begins to mount or unmount, or to freeze, at entry ID; 0: it is through. Such a call may come to its end
 * after the death of its worker.
 */
void sfs_keep_at(uint64_t id);

/* True if a walker of a dead worker was at entry ID, and nobody has looked since what came of it; or still is at it. */
bool sfs_keep_dead_was_at(struct sfs_keep *k, uint64_t id);
bool sfs_keep_dead_is_at(struct sfs_keep *k, uint64_t id);

/* What came of it was looked at; ID 0: of all that dead workers were at. */
void sfs_keep_dead_seen(struct sfs_keep *k, uint64_t id);

/* ---- operations under way ---- */

/* Notes that request UNIQUE is at OP; to be filled, then published. NULL if there is no place: it is not noted then. */
struct sfs_note *sfs_keep_note(struct sfs_keep *k, enum sfs_note_op op);
void sfs_keep_publish(struct sfs_note *n, uint64_t unique);

/* What a worker before noted of UNIQUE, which is this worker's now; or NULL. */
struct sfs_note *sfs_keep_resumed(struct sfs_keep *k, uint64_t unique);

/* It is answered. NULL is fine. */
void sfs_keep_end(struct sfs_note *n);

/* ---- tickets (ticket.h) ---- */

void sfs_keep_ticket(struct sfs_keep *k, uint64_t id, pid_t tid);
void sfs_keep_ticket_taken(struct sfs_keep *k, uint64_t id, pid_t tid);

/* ---- entries whose `fs` the kernel knows (attach.h); one place for several, the last one stays ---- */

void sfs_keep_known(struct sfs_keep *k, uint64_t id);
void sfs_keep_unknown(struct sfs_keep *k, uint64_t id);
bool sfs_keep_is_known(struct sfs_keep *k, uint64_t id);

/* ---- labels ---- */

/* The place of NODE, of label NAME of entry ID; NULL if its place is in use. */
struct sfs_kept_label *sfs_keep_label(struct sfs_keep *k, uint64_t node, uint64_t id, const char *name);

/* Another name. Between two stores the label is not known: a walk finds it again. */
void sfs_keep_label_rename(struct sfs_kept_label *l, const char *name);

/* A place for the text of a label, to be filled and published by storing FH; NULL without one. */
struct sfs_kept_text *sfs_keep_text(struct sfs_keep *k, uint64_t node, uint64_t opened_by);
struct sfs_kept_text *sfs_keep_find_text(struct sfs_keep *k, uint64_t fh);

/* Frees what request UNIQUE took when it was first handed out. */
void sfs_keep_drop_text_of(struct sfs_keep *k, uint64_t unique);
void sfs_keep_drop_text(struct sfs_kept_text *t);

#endif
