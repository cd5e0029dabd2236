/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries of a layer's archive, one after the other, to a directory in overlayfs' form. Inside of layer_import only.
 *
 * One thread, the planner, reads the archive and works in order. Contents of small regular files it hands on in
 * batches, which makers (threads) and the planner itself put on the disk in any order; before it does anything to a
 * name whose file may still be on the way, it waits (strata_apply_settle_name()). Unless said otherwise a function is
 * the planner's. Each thread has umask 0 and a working directory of its own.
 */
#ifndef STRATA_LAYER_APPLY_H
#define STRATA_LAYER_APPLY_H

#include "util/buf.h"
#include "util/hash.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct archive;
struct archive_entry;
struct strata;
struct strata_batch;
struct strata_stream;
struct stat;

#define APPLY_DIRS 128                  /* directories open at once, of each also what lies below */
#define APPLY_DEPTH_MAX 2048            /* folders in folders: more no path can name (PATH_MAX) */
#define APPLY_NAMES (1U << 16)          /* counters of names on the way */
#define APPLY_SMALL ((size_t)128 << 10) /* files up to this go to the makers */
#define APPLY_MAKERS 1                  /* threads beside the planner; a third would find no processor of its own */

#define STRATA_APPLY_ADDRESS sizeof(uintptr_t) /* bytes of an address at the head of a key */

/* A directory of the layer being made. */
struct strata_apply_dir {
        UT_hash_handle hh; /* by KEY */
        int oom;
        struct strata_apply_dir *parent;
        struct strata_apply_dir *prev, *next; /* of those with open fds, the one used last at the end */
        int fd;                               /* -1 while closed to save descriptors */
        int lower_fd;                         /* the same in the merged view of what lies below (O_PATH), or -1 */
        bool has_lower;
        bool doomed;      /* on its way out of the table */
        bool dirty;       /* its mtime has to be set anew when it is closed */
        bool plain_owner; /* new files in it belong to this process' user and group */
        bool setgid;
        bool default_acl;      /* new files in it are given ACLs */
        unsigned depth;        /* 0: the root */
        unsigned children;     /* in the table */
        struct timespec mtime; /* as it has to be in the end */
        atomic_uint pending;   /* files on the way to it */
        unsigned key_len;
        char key[]; /* the parent's address and the name with its NUL */
};

/* Owner, mode and the like of an entry. */
struct strata_apply_meta {
        uid_t uid;
        gid_t gid;
        mode_t mode; /* the lower 12 bits */
        struct timespec mtime;
        const char *xattrs; /* one after the other: the name with its NUL, 4 bytes of length, the value */
        size_t xattrs_len;
};

struct strata_apply {
        struct strata *s; /* constant, the five */
        struct strata_stream *stream;
        uint64_t id;
        uid_t euid;
        gid_t egid;

        struct strata_apply_dir *dirs; /* the table */
        struct strata_apply_dir *open; /* list of open ones but the root */
        unsigned n_open;
        struct strata_apply_dir *root;
        struct strata_apply_dir *last_dir; /* where LAST_PATH leads without a symbolic link, or NULL */
        struct strata_buf last_path;
        struct strata_buf xattrs; /* of the entry at hand */
        bool has_links;           /* there are files that AUFS keeps for hard links */
        char scratch[65536 + 1];

        /* The makers' queue. */
        pthread_mutex_t lock; /* protects up to ERROR; a leaf lock, memory operations only */
        pthread_cond_t work;  /* for the makers */
        pthread_cond_t done;  /* for the planner */
        struct strata_batch *queued, **last_queued;
        struct strata_batch *spare;
        unsigned n_batches; /* made so far */
        unsigned n_queued;
        unsigned n_busy;                                     /* queued or being worked on */
        const struct strata_apply_dir *at[1 + APPLY_MAKERS]; /* where the planner and the makers just make files */
        bool no_more;
        int error; /* the first of a maker */
        struct strata_buf error_why;

        struct strata_batch *filling;    /* the planner's own */
        atomic_uchar names[APPLY_NAMES]; /* files on the way, by hash of directory and name */

        int why_error; /* what WHY explains */
        struct strata_buf why;
};

/* --- layer_apply.c: entries --- */

/*
 * Takes FS_FD, the new root, and LOWER_FD, what lies below it or -1; both also on failure. STREAM is what the archive
 * is read from, and has to live longer.
 */
int strata_apply_new(struct strata *s, uint64_t id, struct strata_stream *stream, int fs_fd, int lower_fd,
                     struct strata_apply **ret);
void strata_apply_free(struct strata_apply *a);

/* Reads A's archive AR (opened) to its end. -EINVAL for what is broken or hostile. */
int strata_apply_archive(struct strata_apply *a, struct archive *ar);

/* Notes the reason for ERROR, unless there is one already, and returns ERROR. NAME may be NULL. */
int strata_apply_fail(struct strata_apply *a, int error, const char *name, const char *why);

/* --- layer_apply_dir.c: directories --- */

/* Takes the fds on success only. */
int strata_apply_dir_root(struct strata_apply *a, int fs_fd, int lower_fd);

/* Sees to it that D's fds are open; they stay so until the next directory is opened. */
int strata_apply_dir_open(struct strata_apply *a, struct strata_apply_dir *d);

/* Makes NAME in D (open) a directory, or takes the one that is there, as D's child in the table; *MADE if it is new. */
int strata_apply_dir_make(struct strata_apply *a, struct strata_apply_dir *d, const char *name, mode_t mode,
                          struct strata_apply_dir **ret, bool *made);

/* D's child NAME (open), if the layer itself holds such a directory. -ENOTDIR for something else, -ENOENT for none. */
int strata_apply_dir_enter(struct strata_apply *a, struct strata_apply_dir *d, const char *name,
                           struct strata_apply_dir **ret);

/* Reads anew what D's inode (open) says. */
int strata_apply_dir_read(struct strata_apply *a, struct strata_apply_dir *d);

/* Removes whatever NAME in D (open) is in the layer itself. */
int strata_apply_dir_remove(struct strata_apply *a, struct strata_apply_dir *d, const char *name);

/* Marks the directory FD as opaque for overlayfs. */
int strata_apply_dir_mark(struct strata_apply *a, int fd);
/* 1, 0, or -errno. */
int strata_apply_dir_is_marked(struct strata_apply *a, int fd);

/* 1 if something is called NAME below D (open), 0 if not, -errno if that can't be told. */
int strata_apply_dir_lower_has(struct strata_apply_dir *d, const char *name);

/* D's child in the table, or NULL. */
struct strata_apply_dir *strata_apply_dir_find(struct strata_apply *a, struct strata_apply_dir *d, const char *name);

/* Sets the times of all that are open, and forgets all. Nothing may be on the way. */
int strata_apply_dir_finish(struct strata_apply *a);
/* Forgets all, after a failure. */
void strata_apply_dir_drop(struct strata_apply *a);

/* --- layer_apply_hide.c: what an opaque mark means --- */

/* Hides all that lies below D (open). Nothing may be on the way. */
int strata_apply_dir_opaque(struct strata_apply *a, struct strata_apply_dir *d);

/* --- layer_apply_walk.c: paths --- */

/*
 * The directory that holds the last component of PATH (changed in place), which goes to *NAME. Symbolic links on the
 * way are followed inside the snapshot, with what lies below it in view; what is missing is made. *RET is open.
 */
int strata_apply_dir_resolve(struct strata_apply *a, char *path, struct strata_apply_dir **ret, const char **name);

/* --- layer_apply_node.c: all but directories --- */

/* Each puts something at NAME in D (open) in place of what is there. */
int strata_apply_symlink(struct strata_apply *a, struct strata_apply_dir *d, const char *name, const char *target,
                         const struct strata_apply_meta *meta);
int strata_apply_special(struct strata_apply *a, struct strata_apply_dir *d, const char *name, mode_t type, dev_t dev,
                         const struct strata_apply_meta *meta);
int strata_apply_stream(struct strata_apply *a, struct strata_apply_dir *d, const char *name, struct archive *ar,
                        uint64_t size, const struct strata_apply_meta *meta);
/* Both are paths, checked, and changed in place. */
int strata_apply_hardlink(struct strata_apply *a, char *path, char *target);
int strata_apply_whiteout(struct strata_apply *a, struct strata_apply_dir *d, const char *name);

/* --- layer_apply_batch.c: small regular files; any thread where it says so --- */

/* Hands on a file of SIZE bytes, at most APPLY_SMALL, read from AR. */
int strata_apply_small(struct strata_apply *a, struct strata_apply_dir *d, const char *name, struct archive *ar,
                       size_t size, const struct strata_apply_meta *meta);

/* Waits for all that is on the way. */
int strata_apply_settle(struct strata_apply *a);
/* The same if NAME in D may be. */
int strata_apply_settle_name(struct strata_apply *a, struct strata_apply_dir *d, const char *name);

/* The work of maker MAKER, from 0; returns after strata_apply_batch_end(). */
void strata_apply_batch_run(struct strata_apply *a, unsigned maker);
void strata_apply_batch_end(struct strata_apply *a);
void strata_apply_batch_free(struct strata_apply *a);

/* --- layer_apply_meta.c --- */

/* What entry E says, checked; the xattrs lie in A. */
int strata_apply_meta_get(struct strata_apply *a, struct archive_entry *e, struct strata_apply_meta *ret);

/* The same of NAME below D (open), as seen there with ST; with ACLs as xattrs. */
int strata_apply_meta_below(struct strata_apply *a, struct strata_apply_dir *d, const char *name, const struct stat *st,
                            struct strata_apply_meta *ret);

/* Any thread. Makes the file FD, just made in a directory with these traits, what META says. *WHY on failure. */
int strata_apply_meta_file(const struct strata_apply *a, int fd, bool plain_owner, bool default_acl,
                           const struct strata_apply_meta *meta, const char **why);

/* The directory D (open), whose old xattrs go unless it was just MADE. */
int strata_apply_meta_dir(struct strata_apply *a, struct strata_apply_dir *d, bool made,
                          const struct strata_apply_meta *meta);

/* Removes all xattrs of FD but the mark of an opaque directory, and what is the machine's own (xattrs.h). */
int strata_apply_meta_clear(struct strata_apply *a, int fd);

/* NAME in D, no directory, no regular file, just made. */
int strata_apply_meta_node(struct strata_apply *a, struct strata_apply_dir *d, const char *name,
                           const struct strata_apply_meta *meta, bool is_link);

/* "trusted.overlay.opaque" or what a user namespace has instead. */
const char *strata_apply_opaque_name(const struct strata_apply *a);

/* Name within D: behind the parent's address. */
static inline const char *strata_apply_dir_name(const struct strata_apply_dir *d)
{
        return d->key + STRATA_APPLY_ADDRESS;
}

#endif
