/* SPDX-License-Identifier: Apache-2.0 */
/* Times as RFC 3339 in UTC with nanoseconds: 2026-01-31T23:59:59.123456789Z */
#ifndef STRATA_TIMEFMT_H
#define STRATA_TIMEFMT_H

#include <stdbool.h>
#include <time.h>

#define STRATA_TIME_MAX 40 /* bytes of the text with its NUL */

/* The wall clock of now. */
struct timespec strata_time_now(void);

/* Writes T as text to BUF and returns BUF. */
const char *strata_time_format(struct timespec t, char buf[STRATA_TIME_MAX]);

/* Reads what strata_time_format() writes; false on anything else. */
bool strata_time_parse(const char *s, struct timespec *ret);

#endif
