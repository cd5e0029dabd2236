/* SPDX-License-Identifier: Apache-2.0 */
/* Where an archive goes that is being made. */
#ifndef STRATA_EXPORT_SINK_H
#define STRATA_EXPORT_SINK_H

#include <stddef.h>

/*
 * RESERVE gives room where file data can be read to, so that WRITE need not copy them. CHECK is for work that writes
 * nothing for long. Each is 0, or -ECANCELED once nobody reads any more.
 */
struct strata_export_sink {
        void *data;
        int (*write)(void *data, const void *bytes, size_t len);
        int (*reserve)(void *data, size_t want, void **ret, size_t *len);
        int (*check)(void *data);
};

#endif
