/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is remembered of one object of a committed layer, so that it can be compared later: contents and the metadata
 * that belong to it. Not what changes without anybody's doing: times of access and change, inode and device numbers,
 * allocated blocks, sizes and link counts of directories, xattrs that the kernel or a security module keeps for itself.
 */
#ifndef STRATA_FINGERPRINT_H
#define STRATA_FINGERPRINT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

/* An XXH3-128, by its two halves; all zero where there is nothing to hash. */
struct strata_sum {
        uint64_t high;
        uint64_t low;
};

/* Of a whiteout the type alone counts: overlayfs makes many of them links of one inode. */
struct strata_fingerprint {
        char type;     /* d f l c b p s, as find(1) has them but for f; w is a whiteout */
        unsigned mode; /* of 07777; 0 of a link, which has none */
        uid_t uid;
        gid_t gid;
        struct timespec mtime;
        struct strata_sum xattrs;
        uint64_t size;             /* of files and links; of devices their number */
        struct strata_sum content; /* of files, and of the target of links */
};

/* Buffers, for one thread. */
struct strata_hasher;

/* What it hashes ends with -EINTR as of util/wanted.h. */
int strata_hasher_new(struct strata_hasher **ret);
void strata_hasher_free(struct strata_hasher *h);

/*
 * An object being looked at. TYPE is as strata_layer_walk() has it. A file is open from begin to end, so that what is
 * known of it is of one inode.
 */
struct strata_subject {
        int dirfd; /* borrowed */
        const char *name;
        int fd; /* of a file, else -1 */
        struct stat st;
        char type;
};

/* Opens NAME below DIRFD, links not followed. What it is now counts: *RET's type may be another one than TYPE. */
int strata_subject_begin(int dirfd, const char *name, unsigned char type, struct strata_subject *ret);
void strata_subject_end(struct strata_subject *o);

/* All but the content. */
int strata_fingerprint_take(struct strata_hasher *h, const struct strata_subject *o, struct strata_fingerprint *ret);

/* The content as well: reads the whole file. */
int strata_fingerprint_content(struct strata_hasher *h, const struct strata_subject *o, struct strata_fingerprint *fp);

static inline bool strata_sum_equal(const struct strata_sum *a, const struct strata_sum *b)
{
        return a->high == b->high && a->low == b->low;
}

#endif
