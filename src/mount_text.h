/* SPDX-License-Identifier: Apache-2.0 */
/* The files `mount`, `mount.json` and `overlay` of an entry. */
#ifndef STRATA_MOUNT_TEXT_H
#define STRATA_MOUNT_TEXT_H

#include "entry.h"
#include "util/buf.h"

/* "-o rbind,rw FS\n", with FS the absolute path of the entry's fs/; one with control bytes is a C string in quotes. */
void strata_mount_text_bind(const struct strata_info *info, const char *fs, struct strata_buf *buf);

/* The same as a JSON array of OCI runtime-spec mounts without destination. 0 or -ENOMEM. */
int strata_mount_text_json(const struct strata_info *info, const char *fs, struct strata_buf *buf);

/* "lowerdir=…[,upperdir=…,workdir=…]\n" with the store's real paths. -EUCLEAN if the chain is broken. */
int strata_mount_text_overlay(struct strata *s, const struct strata_info *info, struct strata_buf *buf);

#endif
