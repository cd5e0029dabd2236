/* SPDX-License-Identifier: Apache-2.0 */
/* Contents of files into an archive. Used by export_entry.c. */
#ifndef STRATA_EXPORT_DATA_H
#define STRATA_EXPORT_DATA_H

#include "export_sink.h"

#include <archive.h>
#include <stdint.h>

struct strata_extent;

/* Of one archive. SINK and ERROR are the user's, the rest begins as 0. */
struct strata_export_data {
        const struct strata_export_sink *sink;
        const int *error; /* the sink's first */
        char *zeroes;
        char *chunk;
        uint64_t holes; /* bytes in them so far, as libarchive counts them */
};

void strata_export_data_free(struct strata_export_data *d);

/* What libarchive's RESULT means: a warning is none here, as all it warns of is in an extended header too. */
int strata_export_data_status(const struct strata_export_data *d, struct archive *a, la_ssize_t result);

/* SIZE bytes of FD to A, whose header for the file is written. One that was cut off meanwhile is filled up. */
int strata_export_data_plain(struct strata_export_data *d, struct archive *a, int fd, uint64_t size);

/*
 * The parts LIST of FD, which the header tells of. -EFBIG where the holes before the last of them, with those of the
 * files before, are so large that it takes long to count them.
 */
int strata_export_data_sparse(struct strata_export_data *d, struct archive *a, int fd, const struct strata_extent *list,
                              size_t n);

#endif
