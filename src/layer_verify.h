/* SPDX-License-Identifier: Apache-2.0 */
/* The file `verify`: whether a committed layer still is what its commit took the fingerprints of. */
#ifndef STRATA_LAYER_VERIFY_H
#define STRATA_LAYER_VERIFY_H

#include "entry.h"
#include "util/buf.h"

/*
 * Reads the whole layer and appends "ok", or a line a difference, "WHAT /PATH", in byte order of the paths:
 *   content     a file's bytes, a link's target, a device's number
 *   mode, owner, time, xattr
 *   type        it is something else now
 *   links       it is, or is no longer, a name of the same file as before
 *   missing, added
 *   unreadable  reading it fails
 * One that was committed without fingerprints, or whose manifest is damaged, is one line that says so, and begins with
 * neither. *DIFFERENCES: how many lines but "ok" there are.
 *
 * Takes as long as the reading of the layer; -EINTR as of util/wanted.h. -ENOENT if the snapshot was removed meanwhile;
 * else -ENOMEM and the like. Any thread may call it; it holds no lock.
 */
int strata_verify(struct strata *s, const struct strata_info *info, struct strata_buf *buf, uint64_t *differences);

#endif
