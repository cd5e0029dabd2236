/* SPDX-License-Identifier: Apache-2.0 */
/* What an open file of ours is, shared by ops_file.c (texts) and ops_label.c (labels). */
#ifndef SFS_HANDLE_H
#define SFS_HANDLE_H

#include "sfs.h"
#include "util/buf.h"

struct sfs_handle {
        pthread_mutex_t lock; /* protects the rest but CREATED, of a label; a leaf lock, held over memory operations */
        pthread_mutex_t
                order; /* held while the label is set, by one after the other; protects CREATED. Inner side only */
        struct strata_buf text;
        uint64_t label;   /* node of a label, 0 for a text */
        bool created;     /* begun in the table of labels: to be ended once it is set */
        bool dirty;       /* TEXT is not set yet */
        bool written;     /* since it was set last: a shell closes a copy of the descriptor before it writes */
        unsigned flushes; /* closes of copies of the descriptor; with two and nothing written it is to be empty */
};

static inline struct sfs_handle *sfs_handle_of(struct fuse_file_info *fi)
{
        return (struct sfs_handle *)(uintptr_t)fi->fh;
}

/* LABEL: the node of a label, or 0. NULL when out of memory. */
struct sfs_handle *sfs_handle_new(uint64_t label);
void sfs_handle_free(struct sfs_handle *h);

/* Replies to an open with H, which belongs to the kernel from then on. */
void sfs_handle_reply(fuse_req_t req, struct sfs_handle *h, struct fuse_file_info *fi);

#endif
