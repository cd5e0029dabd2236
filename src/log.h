/* SPDX-License-Identifier: Apache-2.0 */
/* The last failures, for the file `log`: a ring of STRATA_LOG_LINES lines in memory. */
#ifndef STRATA_LOG_H
#define STRATA_LOG_H

#include "util/buf.h"

#define STRATA_LOG_LINES 1000
#define STRATA_LOG_REASON_MAX 1024 /* bytes of a reason; longer ones are cut */

struct strata_log;

int strata_log_new(struct strata_log **ret);
void strata_log_free(struct strata_log *log);

/*
 * Adds the line TIME OPERATION PATH[ PATH2] ERRNO REASON. ERROR is an errno, negative or positive, or 0 for "OK". PATH2
 * may be NULL. The reason says what, why and what to do. Dropped silently when out of memory: logging never fails a
 * caller.
 */
void strata_log_add(struct strata_log *log, const char *operation, const char *path, const char *path2, int error,
                    const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* Appends all lines, newest last. */
void strata_log_show(struct strata_log *log, struct strata_buf *buf);

/* "ENOENT" for ENOENT or -ENOENT, "OK" for 0. */
const char *strata_log_errno_name(int error);

#endif
