/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's archive into an active snapshot: OCI or Docker layers, plain or compressed with gzip, Zstandard, xz or
 * bzip2. It is applied beside the snapshot's files while it arrives, and takes their place in one step at the end.
 */
#ifndef STRATA_LAYER_IMPORT_H
#define STRATA_LAYER_IMPORT_H

#include "entry.h"

#include <stddef.h>
#include <stdint.h>

#define STRATA_IMPORT_LABEL_DIFFID "stratafs.import.diffid" /* sha256:HEX of the uncompressed stream */
#define STRATA_IMPORT_LABEL_DIGEST "stratafs.import.digest" /* the same of the stream as it was given */

struct strata_import;

/*
 * Begins to apply a layer to the active snapshot INFO, whose own layer must be empty and not mounted: the caller's
 * duty. MAX_BYTES limits the uncompressed stream; 0 is no limit. Until strata_import_free() the entry can't be moved,
 * removed or imported to. Errors: -ENOTEMPTY  the layer holds something already   -EROFS  no active snapshot   -EBUSY
 * another caller is at work on the entry, and what the store's file system says; *WHY as for strata_prepare().
 *
 * All work on files is done by threads that this starts. They share the table of file descriptors of the thread that
 * calls this, and have working directories of their own; the calls below may come from any thread, one at a time.
 */
int strata_import_new(struct strata *s, const struct strata_info *info, uint64_t max_bytes, struct strata_import **ret,
                      const char **why);

/*
 * The next LEN bytes of the archive; waits while the pipeline is full. What is wrong may show only calls later, and the
 * first error stays: -EINVAL for a broken or hostile archive, -EFBIG past MAX_BYTES, -ENOSPC and the like as the
 * store's file system says. The snapshot then is as before.
 */
int strata_import_write(struct strata_import *m, const void *data, size_t len);

/*
 * The same where it takes no waiting, not even for the disk: for a thread that must not wait. -EAGAIN, and nothing is
 * taken, where strata_import_write() has to be called; no other error.
 */
int strata_import_offer(struct strata_import *m, const void *data, size_t len);

/* The end of the archive: waits until all of it is applied and published, and the labels are set. Same errors. */
int strata_import_finish(struct strata_import *m);

/*
 * After an error: the reason, "NAME: WORDS". Bytes of names are as they came; the log escapes them. Never NULL;
 * borrowed.
 */
const char *strata_import_why(const struct strata_import *m);

/* Bytes of the archive taken so far, as they were given. */
uint64_t strata_import_bytes(const struct strata_import *m);

/* NULL is fine. An import that was not finished is undone, and waited for. */
void strata_import_free(struct strata_import *m);

#endif
