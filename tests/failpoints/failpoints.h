/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every system call of an operation fails, one after the other, with one errno after the other. After each failure the
 * operation has either failed with that errno, a line in `log` and all as before, and works when done again; or it has
 * succeeded whole. Nothing in between, no hang, nothing left over.
 *
 *     failpoints PROGRAM STORE MNT BASE OPTIONS STRIDE OFFSET [OPERATION]
 *
 * inject.c lets calls fail, calls.c says which; state.c tells what is there; ops.c has the operations, point.c does one
 * point, start.c those of the start itself. Prints TAP without a plan.
 *
 * Left out are: calls that talk to the kernel's FUSE or to other processes (/dev/fuse, pipes, eventfds), as those are
 * not of the store; close(2), as a call that is kept from being carried out would leave the descriptor open, which no
 * failing close() does; and locks, clocks and signals, which do not fail.
 */
#ifndef FAILPOINTS_H
#define FAILPOINTS_H

#include "util/buf.h"

#include <stdbool.h>
#include <stdint.h>
#include <linux/seccomp.h>
#include <sys/types.h>

/* ---- calls.c ---- */

enum call_class {
        CALL_PLAIN,
        CALL_FILE,   /* the first argument is a descriptor: counts only if that is a file or a directory */
        CALL_SYNC,   /* the same, and who asked for the operation has to be told that it failed */
        CALL_MEMORY, /* fails with ENOMEM, whatever is asked for */
        CALL_THREAD,
};

struct call {
        const char *name;
        int nr;
        enum call_class class;
        int path; /* the argument that is one, or -1 */
};

extern const struct call calls[];
extern const size_t n_calls;

const struct call *call_find(int nr);

/* ---- inject.c ---- */

struct inject;

/*
 * Runs ARGV with its errors appended to the file ERRORS. With ERROR, the Nth call fails from that on that first names a
 * path beginning with PLACE: what the dynamic linker does is not the program's.
 */
struct inject *inject_run(char *const argv[], const char *errors, bool sanitized, const char *place, unsigned long n,
                          int error, pid_t *pid);

/* The Nth call from now on fails with ERROR; with BACKGROUND, of those of threads that were made nice. */
void inject_order(struct inject *x, unsigned long n, int error, bool background);
bool inject_is_hit(struct inject *x);
unsigned long inject_seen(struct inject *x);

/* Ends the order. What was hit, in words, or NULL; *SEEN is how many calls counted. Valid until the next order. */
const char *inject_end(struct inject *x, unsigned long *seen);

enum call_class inject_class(struct inject *x); /* of the call that was hit */

/* The program has ended. */
void inject_free(struct inject *x);

/* ---- state.c, program.c ---- */

struct fail {
        const char *program, *store, *mnt, *base, *options;
        const char *errors; /* what the program writes to stderr */
        const char *layer;  /* an archive to import */
        unsigned long stride, offset;
        bool tell;      /* of each point */
        bool sanitized; /* a program of a sanitizer, which ends where memory fails */

        struct inject *inject;
        pid_t pid, worker;
        pid_t tables[8]; /* a thread for each table of descriptors */
        unsigned n_tables;
        unsigned n_fds; /* of all these, when nothing is under way */

        char *last_line; /* of the log */
        unsigned long tests, points, failed, succeeded, failures;
};

void diag(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void report(struct fail *x, bool ok, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
_Noreturn void give_up(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
const char *errno_name(int error);

/* Appends all that can be seen of the tree and of the store. With ROUGH without what differs each time: numbers, times.
 */
void state_get(struct fail *x, bool rough, struct strata_buf *ret);
void state_get_tree(struct fail *x, bool rough, struct strata_buf *ret);

/* What is not in both, a few lines of it. */
void show_difference(const char *a, const char *b);

unsigned long file_size(const char *path);

/* True if there is one layer a link and, with DELETED, nothing in the trash. *RET gets names of what is there. */
bool state_is_settled(struct fail *x, bool deleted, struct strata_buf *ret);

/* New lines of the log since the last call have ERROR's name. */
bool state_log_tells(struct fail *x, int error, struct strata_buf *lines);
void state_log_mark(struct fail *x);
void state_log_show(struct fail *x); /* its last line */

unsigned state_mounts(struct fail *x);

/* The whole of a file; NULL if it can't be read. */
char *read_file(int dirfd, const char *path);

/* ---- program.c ---- */

/* Starts the program and waits until it answers or ends. 0, or its exit status. */
int program_start(struct fail *x);
/* The same with the Nth call failing, and without waiting. */
void program_start_failing(struct fail *x, unsigned long n, int error);
void program_look(struct fail *x); /* for its worker and the tables of descriptors */
bool program_stop(struct fail *x);
unsigned program_fds(struct fail *x);
void pause_ms(long ms);

/* Ends the whole test if the operation WHAT, which begins now, takes too long. NULL: none is under way. */
void watch(struct fail *x, const char *what);
bool watch_begin(struct fail *x);

/* ---- ops.c, point.c, start.c ---- */

struct op {
        const char *name;
        bool background; /* fails the calls of the background thread, which nobody waits for */
        void (*setup)(struct fail *x);
        int (*run)(struct fail *x); /* an errno */
        void (*undo)(struct fail *x);
        bool touches; /* a failure may change the entry's time */
};

extern const struct op ops[];
extern const size_t n_ops;

void ops_prepare(struct fail *x); /* what all of them stand on */
void op_sweep(struct fail *x, const struct op *op);
void start_sweep(struct fail *x, const char *name, bool killed);

extern const int errnos[];
#define ERRNOS 4
#define START_STRIDE 6 /* a point of a start takes so much longer; not where all are tried */

#endif
