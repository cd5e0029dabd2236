/* SPDX-License-Identifier: Apache-2.0 */
/* The file `changes`: what a layer changes relative to what lies below it. */
#ifndef STRATA_CHANGES_H
#define STRATA_CHANGES_H

#include "entry.h"
#include "util/buf.h"

/*
 * Appends a line a change in byte order of the paths: "A /PATH" added, "M /PATH" modified, "D /PATH" deleted.
 *
 * A file that the layer holds is M if that name exists below, whether it differs or was only copied up. A directory is
 * M if mode, owner or xattrs differ: its time changes with what it holds, so that alone does not count. A name that is
 * another type now is M. A deleted directory is one line; what an opaque directory hides are lines for what it held. A
 * view changes nothing. An active snapshot may be written meanwhile: what vanishes is passed over.
 *
 * Moves the working directory as strata_mount_attach() does. Errors as of strata_mount_open_lower(), and of reading;
 * -ENOENT if it is removed meanwhile; -EFBIG if the text grew over 512 MiB; -EINTR as of util/wanted.h.
 */
int strata_changes_get(struct strata *s, const struct strata_info *info, struct strata_buf *buf);

/* Bytes of that, if known without a walk: of views, and of committed snapshots once they were asked for. */
bool strata_changes_size(struct strata *s, const struct strata_info *info, uint64_t *ret);

#endif
