/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of what was done, as OpenMetrics text (openmetrics.io, version 1.0.0). */
#ifndef STRATA_METRICS_H
#define STRATA_METRICS_H

#include "util/buf.h"

#include <stdint.h>
#include <time.h>

struct strata_metrics;

enum strata_verb {
        STRATA_VERB_PREPARE,
        STRATA_VERB_VIEW,
        STRATA_VERB_COMMIT,
        STRATA_VERB_RENAME,
        STRATA_VERB_REMOVE,
        STRATA_VERB_LABEL,
        STRATA_VERB_MOUNT,
        STRATA_VERB_UNMOUNT,
        STRATA_VERB_IMPORT,
        STRATA_VERB_EXPORT,
};
#define STRATA_VERBS 10

int strata_metrics_new(struct strata_metrics **ret);
void strata_metrics_free(struct strata_metrics *m);

/* Monotonic now, to be handed to strata_metrics_count(). */
struct timespec strata_metrics_start(void);

/* Counts one operation that began at START and ended with ERROR (0 or an errno of either sign). */
void strata_metrics_count(struct strata_metrics *m, enum strata_verb verb, struct timespec start, int error);

/* Counts bytes of layers taken in and given out. */
void strata_metrics_bytes(struct strata_metrics *m, uint64_t imported, uint64_t exported);

/* Appends a gauge family with one sample; NAME without prefix. */
void strata_metrics_show_gauge(struct strata_buf *buf, const char *name, const char *help, uint64_t value);

/* Appends the operation families; the caller ends the text with "# EOF\n". */
void strata_metrics_show(struct strata_metrics *m, struct strata_buf *buf);

#endif
