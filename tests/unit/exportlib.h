/* SPDX-License-Identifier: Apache-2.0 */
/* Layers exported, and their archives parsed back with libarchive: for the tests of layer_export. */
#ifndef STRATAFS_EXPORTLIB_H
#define STRATAFS_EXPORTLIB_H

#include "testlib.h"

#include "util/buf.h"

struct archive;
struct archive_entry;

/* The archive of entry NAME, read LEN bytes at a time. To be freed. */
struct strata_buf export_layer(struct test_store *t, enum strata_kind kind, const char *name, size_t len);

/* Parses the archive in BUF, which must outlive it. To be freed with archive_read_free(). */
struct archive *export_open(const struct strata_buf *buf);

/* As export_open(), at the data of the entry PATH, which is in *RET. */
struct archive *export_find(const struct strata_buf *buf, const char *path, struct archive_entry **ret);

/* The path of NAME in the layer ID itself, in a buffer of test_path()'s. */
const char *export_own(struct test_store *t, uint64_t id, const char *name);

#endif
