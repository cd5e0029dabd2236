/* SPDX-License-Identifier: Apache-2.0 */
/* mkdir active/KEY[@PARENT], mkdir views/KEY[@PARENT]. */
#ifndef STRATA_PREPARE_H
#define STRATA_PREPARE_H

#include "entry.h"

#include <sys/types.h>

/*
 * Prepares an active snapshot or a view (KIND) called KEY on the committed snapshot PARENT ("" for none). The root of a
 * base belongs to UID and GID. Errors: -EINVAL, -ENAMETOOLONG  a bad name        -EEXIST  KEY is taken in active/ or
 * views/ -ENOENT  no such PARENT                   -EMLINK  the chain would be longer than the kernel can mount and
 * what the store's file system says. On failure nothing is left, and *WHY (constant text) tells the reason or is NULL
 * where the errno says it all.
 */
int strata_prepare(struct strata *s, enum strata_kind kind, const char *key, const char *parent, uid_t uid, gid_t gid,
                   uint64_t *ret_id, const char **why);

#endif
