/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of labels on the disk: what ops_label.c (contents) and ops_label_name.c (names) share. */
#ifndef SFS_LABELJOB_H
#define SFS_LABELJOB_H

#include "entry.h"
#include "pool.h"
#include "sfs.h"

struct sfs_handle;
struct sfs_note;

/* A request that changes a label on the disk. */
struct sfs_label_job {
        struct sfs_job job; /* first */
        struct sfs *sfs;
        fuse_req_t req;
        struct sfs_handle *h; /* of a close or fsync */
        bool last;            /* set also what was only emptied */
        bool late;            /* close(2) has returned before */
        uint64_t node;        /* of the label, or of labels/ for a removal or rename */
        off_t size;           /* of a truncation */
        char name[STRATA_NAME_MAX + 1];
        char newname[STRATA_NAME_MAX + 1];
        struct sfs_note *note; /* of a removal or rename; NULL without a keeper */
        bool resumed;          /* a worker before was at it */
        uint64_t touched;      /* the entry whose time changed with it, or 0 */
        unsigned flags;        /* of a rename */
        const char *why;
        int result;
};

/* A job for REQ, to be filled in and submitted; NULL, having replied, when out of memory. */
struct sfs_label_job *sfs_label_job(fuse_req_t req, uint64_t node, void (*run)(struct sfs_job *),
                                    void (*done)(struct sfs_job *));
void sfs_label_submit(struct sfs_label_job *l);

/* Inner side: the entry shows the time of its last label. */
void sfs_label_touch_entry(struct sfs_label_job *l, uint64_t id);

/* The end of each job but for its reply: the entry's attributes are asked anew. */
void sfs_label_tell_touched(struct sfs_label_job *l);

/* The end of each job: replies with its result, and frees it. */
void sfs_label_done_reply(struct sfs_job *job);

#endif
