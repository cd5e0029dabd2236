/* SPDX-License-Identifier: Apache-2.0 */
/* A commit, rename or removal: what ops_verbs.c (the request) and change.c (the store, the mount) share. */
#ifndef SFS_CHANGE_H
#define SFS_CHANGE_H

#include "entry.h"
#include "keep.h"
#include "pool.h"
#include "sfs.h"

#include <time.h>

struct sfs_move;

enum sfs_change_kind {
        SFS_COMMIT,
        SFS_RENAME,
        SFS_EXCHANGE,
        SFS_REMOVE,
};

struct sfs_change {
        struct sfs_job job; /* first */
        struct sfs *sfs;
        fuse_req_t req;
        enum sfs_change_kind change;
        struct timespec start;
        struct strata_info info; /* of the entry that is changed */
        enum strata_kind to;     /* of commit and rename */
        char newname[STRATA_NAME_MAX + 1];
        struct sfs_move *move;
        struct sfs_move *other_move; /* of exchange: of the entry called NEWNAME */
        struct sfs_note *note;       /* for the next worker; NULL without a keeper */
        bool already;                /* a worker before carried it out, but for what follows the store's part */
        bool claimed, late; /* LATE: by the job, so that the attributes are taken back once more before it goes on */
        bool mounted;       /* fs/ is mounted: at the claim, and in the end */
        int result;
        char why[1024];
};

/* The reason of a failure; NULL: none is known. */
void sfs_change_why(struct sfs_change *c, const char *why);

/* The engine's part alone. 0 or -errno, as the others. */
int sfs_change_apply(struct sfs_change *c);

/* True if C must not happen while somebody is in a mount of the entry that is not at its fs/ any more. */
bool sfs_change_minds_others(const struct sfs_change *c);

/* On the inner side, the entry being claimed: does it, and says in C->mounted whether fs/ is mounted in the end. */
int sfs_change_carry_out(struct sfs_change *c);

#endif
