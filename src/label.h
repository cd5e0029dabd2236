/* SPDX-License-Identifier: Apache-2.0 */
/* Labels: small files below layers/ID/labels/, each replaced in one step. */
#ifndef STRATA_LABEL_H
#define STRATA_LABEL_H

#include "entry.h"
#include "util/buf.h"

#define STRATA_LABEL_MAX 65536                        /* bytes of a value, its newline not counted */
#define STRATA_LABEL_FILE_MAX (STRATA_LABEL_MAX + 64) /* bytes that no file of a label has */

/* Appends the value, one newline at its end. -ENOENT without such a label; -EUCLEAN, with a line in the log, for a
 * damaged one. */
int strata_label_get(struct strata *s, uint64_t id, const char *label, struct strata_buf *ret);

/* Bytes that strata_label_get() gives and the time of the last change. -ENOENT likewise. */
int strata_label_stat(struct strata *s, uint64_t id, const char *label, uint64_t *size, struct timespec *mtime);

/*
 * Sets the label atomically, adding a newline where VALUE does not end in one; durable when this returns. -EINVAL,
 * -ENAMETOOLONG for a bad name, -EFBIG for a value that is too long, -ENOENT if the entry is no more.
 */
int strata_label_set(struct strata *s, uint64_t id, const char *label, const char *value, size_t len);

/*
 * The same, but durable only with the commit of the entry: for what goes together with files that are no safer. A sync
 * here would take all of those to the disk.
 */
int strata_label_set_later(struct strata *s, uint64_t id, const char *label, const char *value, size_t len);

/* -ENOENT without such a label. */
int strata_label_remove(struct strata *s, uint64_t id, const char *label);

/* Gives a label another name, replacing what is there, in one step. */
int strata_label_rename(struct strata *s, uint64_t id, const char *old, const char *new);

/* Opens the directory of the labels for reading. -ENOENT when there never was one. */
int strata_label_open_dir(struct strata *s, uint64_t id, int *ret);

#endif
