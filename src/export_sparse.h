/* SPDX-License-Identifier: Apache-2.0 */
/* Which parts of a file with holes go into an archive. Used by export_entry.c. */
#ifndef STRATA_EXPORT_SPARSE_H
#define STRATA_EXPORT_SPARSE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct strata_export_sink;

struct strata_extent {
        uint64_t at;
        uint64_t len;
};

/*
 * The parts of the open file FD that hold anything but zeroes, ascending, in *RET (the caller's to free) and *N; both
 * stay 0 for a file that holds zeroes alone. 1 if the file is worth storing without its holes, else 0; -errno. It may
 * have to be read whole: SINK tells whether that is still wanted.
 */
int strata_export_sparse(int fd, const struct stat *st, const struct strata_export_sink *sink,
                         struct strata_extent **ret, size_t *n);

#endif
