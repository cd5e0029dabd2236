/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether somebody still waits for what this thread is at. What may take long asks from time to time, and ends with
 * -EINTR if nobody does. Per thread, as many calls lie between who knows and who asks.
 */
#ifndef STRATA_WANTED_H
#define STRATA_WANTED_H

#include <stdbool.h>

/* From here on IS_WANTED(DATA) tells, on this thread; NULL: all is wanted again. */
void strata_wanted_ask(bool (*is_wanted)(void *data), void *data);

bool strata_wanted(void);

#endif
