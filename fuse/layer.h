/* SPDX-License-Identifier: Apache-2.0 */
/* An open layer.tar, shared by layer_read.c (a layer going out) and layer_write.c (one coming in). */
#ifndef SFS_LAYER_H
#define SFS_LAYER_H

#include "interrupt.h"
#include "pool.h"
#include "sfs.h"
#include "util/buf.h"

#include <stdatomic.h>
#include <time.h>

struct strata_export;
struct strata_import;

/*
 * What is open. All of it belongs to the inner side, where its descriptors are: jobs of one handle run one after the
 * other, as ORDER is held. A FUSE worker may look at the constant fields, and take ORDER where it is free and nothing
 * is to be done but to copy memory.
 */
struct sfs_layer {
        atomic_uint refs; /* who has it open, and reads under way: one whose caller was killed may outlast the rest */
        struct strata_info info; /* constant */
        bool writing;            /* constant */
        struct timespec start;   /* constant; of the metrics' clock */

        pthread_mutex_t order;
        uint64_t pos; /* bytes read or written so far */
        int result;   /* the first error; it stays */

        struct strata_export *out;
        struct strata_import *in;
        bool finished; /* what was written is applied, or is not and never will be */

        struct sfs *sfs;               /* NULL while it is not in the list */
        struct sfs_layer *prev, *next; /* in the list */
};

/* One request for an open layer.tar, on its way through the pool. */
struct sfs_layer_job {
        struct sfs_job job; /* first */
        struct sfs *sfs;
        fuse_req_t req;
        struct sfs_interrupt interrupt; /* of a read */
        struct fuse_file_info fi;       /* of an open */
        struct sfs_layer *l;
        char *data; /* read, or to be written; freed with the job */
        size_t size;
        uint64_t off;
        int result;
        bool mounted; /* of an open for writing: fs/ is */
        bool ends;    /* the import of L has come to its end with this */
        char why[1024];
};

/*
 * What FH of the layer.tar INO is. One that a dead worker opened is made anew: a layer going out goes on where it was,
 * if it is committed; one coming in has failed, as what came of it is gone. NULL when out of memory.
 */
struct sfs_layer *sfs_layer_get(struct sfs *sfs, fuse_ino_t ino, uint64_t fh);

/*
 * A job for a request on L; sfs_layer_data_job() gives it SIZE bytes of data, from or to OFF, and sfs_layer_open_job()
 * a new L. All NULL, having replied ENOMEM, when out of memory.
 */
struct sfs_layer_job *sfs_layer_job(fuse_req_t req, struct sfs_layer *l, void (*run)(struct sfs_job *),
                                    void (*done)(struct sfs_job *));
struct sfs_layer_job *sfs_layer_data_job(fuse_req_t req, struct sfs_layer *l, size_t size, off_t off,
                                         void (*run)(struct sfs_job *), void (*done)(struct sfs_job *));
struct sfs_layer_job *sfs_layer_open_job(fuse_req_t req, const struct strata_info *info, struct fuse_file_info *fi,
                                         bool writing, void (*run)(struct sfs_job *), void (*done)(struct sfs_job *));

void sfs_layer_job_free(struct sfs_layer_job *j);
struct sfs_layer *sfs_layer_ref(struct sfs_layer *l);
void sfs_layer_unref(struct sfs_layer *l); /* the last one frees it */

/* Replies to an open, with L or with J's error. True if it was taken. */
bool sfs_layer_reply_open(struct sfs_layer_job *j);

/* A line in the log for J's error; OPERATION as in the contract. */
void sfs_layer_log(struct sfs_layer_job *j, const char *operation);

/* layer_list.c: all that are open, as the program may end before they are closed. */

/* Enters L, which the last sfs_layer_unref() takes out. False for one being written once the program ends: it is to be
 * refused.
 */
bool sfs_layers_add(struct sfs *sfs, struct sfs_layer *l);

/*
 * Ends all that are being written: their snapshots are as before, their writers get EIO. Reads that wait end with
 * EINTR. Does not wait.
 */
void sfs_layers_stop(struct sfs *sfs);

/* Frees all that are left, once nothing is asked for any more. */
void sfs_layers_free(struct sfs *sfs);

/* layer_read.c */
void sfs_layer_open_read(fuse_req_t req, const struct strata_info *info, struct fuse_file_info *fi);
void sfs_layer_do_read(fuse_req_t req, struct sfs_layer *l, size_t size, off_t off);
void sfs_layer_release_read(fuse_req_t req, struct sfs_layer *l);

/* layer_write.c */
void sfs_layer_open_write(fuse_req_t req, const struct strata_info *info, struct fuse_file_info *fi);
void sfs_layer_do_write(fuse_req_t req, struct sfs_layer *l, const char *data, size_t size, off_t off);
void sfs_layer_do_flush(fuse_req_t req, struct sfs_layer *l);
void sfs_layer_release_write(fuse_req_t req, struct sfs_layer *l);

/* layer.c: what ops_file.c and ops_label.c hand on for a layer.tar. */
int sfs_layer_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void sfs_layer_read(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, size_t size, off_t off);
void sfs_layer_write(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, const char *data, size_t size,
                     off_t off);
void sfs_layer_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void sfs_layer_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

#endif
