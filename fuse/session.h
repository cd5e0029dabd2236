/* SPDX-License-Identifier: Apache-2.0 */
/* From options to a served mount, and to its end. */
#ifndef SFS_SESSION_H
#define SFS_SESSION_H

#include "options.h"

struct sfs;
struct sfs_keep;

/* What a session is run by: the program itself, or a worker of the keeper (keeper.h). */
struct sfs_host {
        void (*ready)(void *data); /* called once the mount answers */
        void *data;
        int hidden_fd;         /* that the inner side is not to hold, or -1 */
        bool background;       /* nor the standard files */
        int fuse_fd;           /* mounted already, then the session's own; or -1 */
        struct sfs_keep *keep; /* NULL without a keeper */
        const char *no_keeper; /* why there is none though it was not refused: to be told in the log; or NULL */
};

/*
 * Looks at everything that can be seen before anything is made: mount point, store path, options. On success the
 * options' paths are absolute, and libfuse's part of them is complete. 0, or -errno with *WHY, one line for the user
 * (the caller's; NULL if it was told already).
 */
int sfs_session_check(struct sfs_options *o, char **why);

/* A session with libfuse's options FROM, which are copied, for SFS; NULL if they are wrong: libfuse has said why. */
struct fuse_session *sfs_session_new(const struct fuse_args *from, struct sfs *sfs);

/* As sfs_session_check(), for a mount that is served already, and whose paths are absolute. */
int sfs_session_check_resumed(struct sfs_options *o, char **why);

/*
 * Opens the store, mounts, serves until the mount is gone or SIGTERM or SIGINT comes. sfs_session_check() was called.
 * Returns the program's exit status; what went wrong is on stderr.
 */
int sfs_session_run(struct sfs_options *o, const struct sfs_host *host);

/* Leads the standard files to /dev/null and leaves the working directory. 0 or -errno. */
int sfs_session_leave_terminal(void);

/* Says on stderr what went wrong: *WHY if there is one, which is freed. Returns the exit status, 1. */
int sfs_complain(char *why, int error);

#endif
