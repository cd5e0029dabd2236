/* SPDX-License-Identifier: Apache-2.0 */
/* The file `layer.tar`, read: a layer as an uncompressed OCI layer, streamed. */
#ifndef STRATA_LAYER_EXPORT_H
#define STRATA_LAYER_EXPORT_H

#include "entry.h"
#include "util/digest.h"

#include <sys/types.h>

struct strata_export;

#define STRATA_DIFFID_MAX STRATA_DIGEST_HEX /* a SHA-256 in lowercase hexadecimal, with its NUL */

/*
 * Begins to make the archive, in a thread of its own, a few MiB ahead of the reader. Of a view the archive is empty; of
 * an active snapshot it shows what is there as it is read. Moves the working directory as strata_mount_attach() does.
 */
int strata_export_new(struct strata *s, const struct strata_info *info, struct strata_export **ret);

/* Waits a tenth of a second at most; true if strata_export_read() would not wait for LEN bytes then. */
bool strata_export_wait(struct strata_export *x, size_t len);

/*
 * Up to LEN next bytes; 0 at the end; -errno, and then the same again: -ENOENT if the entry is removed before all was
 * read. One thread at a time.
 */
ssize_t strata_export_read(struct strata_export *x, void *buf, size_t len);

/* Constant text: why making the archive failed, as strata_export_read() has told. NULL if it has not. */
const char *strata_export_why(const struct strata_export *x);

/*
 * For a thread that must not wait: true if LEN next bytes are there, with more to come, in one piece at *RET. They are
 * read once strata_export_skip() says so, the same LEN.
 */
bool strata_export_peek(struct strata_export *x, size_t len, const void **ret);
void strata_export_skip(struct strata_export *x, size_t len);

/* Ends it, also in the middle. NULL is fine. */
void strata_export_free(struct strata_export *x);

/* Size and SHA-256 of the archive, if it is of a committed snapshot that was once read to its end. */
bool strata_export_known(struct strata *s, const struct strata_info *info, uint64_t *size,
                         char diffid[STRATA_DIFFID_MAX]);

#endif
