/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations on a real mount, with a model of the tree beside it.
 *
 *   model    what the tree must hold, and what each operation must answer
 *   real     the same operations by system calls
 *   scan     the real tree read into a model, its texts checked against each other
 *   single   phases of one client: every errno must be the model's
 *   many     phases of many clients: what the tree holds in the end must follow from what was answered
 *   program  start, end, kill, and what it leaves behind
 *   watch    what is written down when nothing goes on any more
 *
 * Names come from a small set, so that operations meet.
 */
#ifndef STRESS_H
#define STRESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum {
        ACTIVE,
        VIEW,
        COMMITTED,
        KINDS,
        NAMES = 6,
        ODD = 5, /* names that break the rules, numbered NAMES and up */
        CLIENTS = 6,
        SHARED_FILES = 4, /* written by single clients; behind them one file a client of many */
        FILES = SHARED_FILES + CLIENTS,
        SHARED_LABELS = 3,
        LABELS = SHARED_LABELS + CLIENTS,
        STAMPS = 4, /* parts of a file at most */
        HOLDS = 6,
        CONTENTS_MAX = 66000,
        ENTRY_MAX = 2048, /* of the path of an entry */
};

/* What a file holds: parts, each recognised by its stamp. N 0: there is none. */
struct contents {
        unsigned n;
        uint32_t stamp[STAMPS];
};

struct entry {
        uint64_t id; /* 0: no such entry */
        uint64_t parent;
        unsigned depth;
        char created[40];
        bool dir; /* d/ is there */
        struct contents file[FILES];
        uint32_t label[LABELS]; /* 0: none */
};

/* Something below fs/ that stays open. */
struct hold {
        uint64_t id; /* 0: free */
        bool writer;
        bool left; /* its mount was left by a commit */
        bool bind;
        int file;     /* which; -1 for a directory */
        bool deleted; /* that file is, since then */
        int fd;
};

struct model {
        struct entry at[KINDS][NAMES];
        uint64_t last_id; /* no entry has had a higher ID */
        struct hold hold[HOLDS];
};

enum op_type {
        OP_PREPARE,
        OP_RENAME,
        OP_RMDIR,
        OP_LABEL_SET,
        OP_LABEL_MAKE,
        OP_LABEL_REMOVE,
        OP_LABEL_RENAME,
        OP_WRITE,
        OP_APPEND,
        OP_UNLINK,
        OP_MKDIR,
        OP_RMDIR_BELOW,
        OP_MOVE,
        OP_READ,
        OP_TOUCH,
        OP_HOLD,
        OP_RELEASE,
        OP_TEXTS,
        OP_LIST,
        OP_TYPES,
};

struct op {
        enum op_type type;
        int kind, a;    /* the entry */
        int kind2, b;   /* where it goes; of a prepare, B is the parent or -1 */
        unsigned flags; /* of a rename; which way of a touch or hold */
        int x, y;       /* files, labels, holds */
        uint32_t stamp; /* what is written */
};

struct rng {
        uint64_t state;
};

struct stress {
        const char *program, *store, *mnt, *base, *options;
        pid_t pid;
        uint64_t seed;
        unsigned failed;
        unsigned long done[OP_TYPES], good[OP_TYPES]; /* operations, and those that succeeded */
        unsigned long kills, worker_kills, quiet_points, many_ops, stale;
        struct model model;
        uint32_t next_stamp;
        const char *hang_script;
        double seconds; /* how long the run is to be */
        atomic_ulong progress;
        double slowest; /* operation, in seconds */
        struct op slowest_op;
};

/* ---- util.c ---- */

extern const char *const kind_folder[KINDS];
uint32_t rng_next(struct rng *r);
int rng_below(struct rng *r, int n);
const char *name_of(int name);
int name_find(const char *text);
const char *file_of(int file); /* relative to fs/ */
const char *label_of(int label);
void op_describe(const struct op *op, char *buf, size_t size);
const char *errno_name(int error);

/* A line on stderr and one failure more. The first says how to replay. */
void complain(struct stress *x, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The program's own last words, where it still runs. */
void tell_log(struct stress *x);
size_t stamp_text(uint32_t stamp, bool label, char *buf); /* BUF holds CONTENTS_MAX */

/* All of a file; *RET is NUL-terminated and the caller's. Its length, or -errno. */
ssize_t read_all_at(int dirfd, const char *path, char **ret);

/* 0, or -errno; -EBADMSG when FILE is not made of whole parts. */
int read_contents(int dirfd, const char *path, struct contents *ret);
int read_label(int dirfd, const char *path, uint32_t *ret);
int write_text(int dirfd, const char *path, int flags, uint32_t stamp, bool label);

/* ---- model.c ---- */

/* What OP must answer, 0 or a positive errno; carries it out in M if that is 0. */
int model_apply(struct model *m, const struct op *op);
struct entry *model_by_id(struct model *m, uint64_t id);
const struct entry *model_nth(const struct model *m, int n); /* of all KINDS * NAMES */
bool model_has_children(const struct model *m, uint64_t id);

/* True if they are the same; complains of each difference when X is given. */
bool model_equal(struct stress *x, const struct model *want, const struct model *got);
void model_tree_text(const struct model *m, FILE *f);

/* ---- real.c ---- */

/* Carries OP out; 0 or a positive errno. MODEL is as after the operation if it is one that succeeds. */
int real_apply(struct stress *x, const struct op *op, int want);
int real_rename(struct stress *x, const struct op *op);
int real_prepare(struct stress *x, const struct op *op);
void real_path(struct stress *x, int kind, int name, const char *below, char *buf, size_t size);
void real_release_all(struct stress *x);

/* Touches fs/ of the entry in DIRFD, WAY of TOUCH_WAYS; 0 or a positive errno, EBADMSG when it is no overlay. */
int real_touch(struct stress *x, const char *entry, unsigned way);
#define TOUCH_WAYS 7

/* ---- scan.c, scan_text.c ---- */

/* Reads the tree at a quiet point; complains of what contradicts itself. False if it could not be read. */
bool scan(struct stress *x, struct model *ret);
void scan_texts(struct stress *x, const struct model *m);
bool scan_info(struct stress *x, int kind, int name, struct entry *ret, char *parent, size_t size);

/* ---- phases ---- */

void single_phase(struct stress *x, uint64_t seed, int n);

/* What is killed in the middle of a phase. A worker's death must not be noticed; that of the whole program ends the
 * phase. */
enum kill {
        KILL_NONE,
        KILL_WORKER,
        KILL_ALL,
};
void many_phase(struct stress *x, uint64_t seed, unsigned milliseconds, enum kill kill);

/* What one of many clients knows: an entry's file or label that only this client writes. */
struct note {
        uint64_t id;
        bool label;
        bool maybe;     /* the program died before it answered: this, or what was before */
        uint32_t stamp; /* 0: removed */
};

struct client {
        struct stress *x;
        struct many *many;
        struct rng rng;
        int number;
        pthread_t thread;
        int balance[KINDS][NAMES]; /* entries made less entries removed */
        struct op unanswered;      /* when the program died */
        bool died;
        struct note *notes;
        size_t n, size;
        uint32_t stamp;
        unsigned long done[OP_TYPES], good[OP_TYPES], stale;
        double slowest;
        struct op slowest_op;
};

/* Shared by the clients of a phase. */
struct many {
        atomic_bool stop;
        atomic_bool dying; /* the program is being killed: it may not answer */
};

void *many_client(void *arg);                                               /* many_client.c */
void many_effect(const struct op *op, int sign, int balance[KINDS][NAMES]); /* of an operation that succeeded */
void many_check(struct stress *x, struct client *clients, const struct model *before); /* many_check.c */

/* ---- watch.c ---- */

void watch_start(struct stress *x);
void watch_progress(struct stress *x);
double watch_now(void); /* seconds */

/* ---- program.c ---- */

bool program_start(struct stress *x);
bool program_stop(struct stress *x);
void program_kill(struct stress *x);
pid_t program_worker(struct stress *x); /* of its keeper; 0 where there is none */
bool program_settled(struct stress *x, bool empty);
int program_descriptors(struct stress *x);
int program_overlays(struct stress *x);

#endif
