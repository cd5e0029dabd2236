/* SPDX-License-Identifier: Apache-2.0 */
/* Layers' archives made in memory, and imported: for the tests of layer_import. */
#ifndef STRATAFS_LAYERLIB_H
#define STRATAFS_LAYERLIB_H

#include "testlib.h"

#include "util/buf.h"

struct archive_entry;

/* An archive being put together, header by header: any header, also wrong ones. */
struct layer {
        struct strata_buf tar;
};

/* One entry of type FLAG (a ustar typeflag) with DATA; LINK may be NULL. Owner 0:0, mtime 1000000000. */
void layer_add(struct layer *l, char flag, const char *name, unsigned mode, const char *link, const char *data);

/* A device; the numbers as text of the header's octal fields. */
void layer_add_device(struct layer *l, char flag, const char *name, const char *major, const char *minor);

/* The next entry gets pax records: N strings "key=value". */
void layer_add_pax(struct layer *l, const char *const *records, unsigned n);

/* The two blocks at the end. */
void layer_end(struct layer *l);

/* LEN bytes compressed with the libarchive filter of that number, in *RET. */
void layer_compress(const void *data, size_t len, int filter, struct strata_buf *ret);

/*
 * Imports LEN bytes into active KEY, CHUNK at a time; what import said. *WHY (if WHY) is the reason, in a buffer of
 * this function's.
 */
int layer_import(struct test_store *t, const char *key, const void *data, size_t len, size_t chunk, const char **why);

/* A new snapshot NAME on PARENT whose layer is L, which is ended and freed. */
uint64_t layer_snapshot(struct test_store *t, const char *name, const char *parent, struct layer *l);

#endif
