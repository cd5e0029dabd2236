/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics.h"

#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#define RESULTS 16 /* different errnos a verb; the last slot takes the rest */
#define BUCKETS 8

static const double bounds[BUCKETS] = { 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.1, 1, 10 };

static const char *const verbs[STRATA_VERBS] = {
        [STRATA_VERB_PREPARE] = "prepare", [STRATA_VERB_VIEW] = "view",       [STRATA_VERB_COMMIT] = "commit",
        [STRATA_VERB_RENAME] = "rename",   [STRATA_VERB_REMOVE] = "remove",   [STRATA_VERB_LABEL] = "label",
        [STRATA_VERB_MOUNT] = "mount",     [STRATA_VERB_UNMOUNT] = "unmount", [STRATA_VERB_IMPORT] = "import",
        [STRATA_VERB_EXPORT] = "export",
};

struct result {
        int error;
        uint64_t count; /* 0: a free slot */
        uint64_t nanoseconds;
        uint64_t buckets[BUCKETS]; /* not cumulative */
};

struct strata_metrics {
        pthread_mutex_t lock; /* protects all below; a leaf lock, held over memory operations only */
        struct result results[STRATA_VERBS][RESULTS];
        uint64_t imported;
        uint64_t exported;
};

int strata_metrics_new(struct strata_metrics **ret)
{
        struct strata_metrics *m = calloc(1, sizeof(*m));

        if (!m)
                return -ENOMEM;
        pthread_mutex_init(&m->lock, NULL);
        *ret = m;
        return 0;
}

void strata_metrics_free(struct strata_metrics *m)
{
        if (!m)
                return;
        pthread_mutex_destroy(&m->lock);
        free(m);
}

struct timespec strata_metrics_start(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return t;
}

void strata_metrics_count(struct strata_metrics *m, enum strata_verb verb, struct timespec start, int error)
{
        struct timespec end = strata_metrics_start();
        int64_t ns = (end.tv_sec - start.tv_sec) * INT64_C(1000000000) + (end.tv_nsec - start.tv_nsec);
        struct result *r = m->results[verb];
        int slot = 0;

        error = abs(error);
        pthread_mutex_lock(&m->lock);
        while (slot < RESULTS - 1 && r[slot].count && r[slot].error != error)
                slot++;
        r += slot;
        r->error = slot == RESULTS - 1 ? -1 : error;
        r->count++;
        r->nanoseconds += (uint64_t)ns;
        for (int i = 0; i < BUCKETS; i++) {
                if ((double)ns <= bounds[i] * 1e9) {
                        r->buckets[i]++;
                        break;
                }
        }
        pthread_mutex_unlock(&m->lock);
}

void strata_metrics_bytes(struct strata_metrics *m, uint64_t imported, uint64_t exported)
{
        pthread_mutex_lock(&m->lock);
        m->imported += imported;
        m->exported += exported;
        pthread_mutex_unlock(&m->lock);
}

void strata_metrics_show_gauge(struct strata_buf *buf, const char *name, const char *help, uint64_t value)
{
        strata_buf_addf(buf, "# TYPE stratafs_%s gauge\n# HELP stratafs_%s %s\nstratafs_%s %" PRIu64 "\n", name, name,
                        help, name, value);
}

static void show_result(struct strata_buf *buf, const char *verb, const struct result *r)
{
        const char *name = r->error < 0 ? "other" : strata_log_errno_name(r->error);
        uint64_t sum = 0;

        for (int i = 0; i < BUCKETS; i++) {
                sum += r->buckets[i];
                strata_buf_addf(buf,
                                "stratafs_operation_seconds_bucket{verb=\"%s\",errno=\"%s\",le=\"%g\"} %" PRIu64 "\n",
                                verb, name, bounds[i], sum);
        }
        strata_buf_addf(buf, "stratafs_operation_seconds_bucket{verb=\"%s\",errno=\"%s\",le=\"+Inf\"} %" PRIu64 "\n",
                        verb, name, r->count);
        strata_buf_addf(buf, "stratafs_operation_seconds_count{verb=\"%s\",errno=\"%s\"} %" PRIu64 "\n", verb, name,
                        r->count);
        strata_buf_addf(buf, "stratafs_operation_seconds_sum{verb=\"%s\",errno=\"%s\"} %" PRIu64 ".%09" PRIu64 "\n",
                        verb, name, r->nanoseconds / 1000000000, r->nanoseconds % 1000000000);
}

static void show_bytes(struct strata_buf *buf, const char *name, const char *help, uint64_t value)
{
        strata_buf_addf(buf,
                        "# TYPE stratafs_%s_bytes counter\n# UNIT stratafs_%s_bytes bytes\n"
                        "# HELP stratafs_%s_bytes %s\nstratafs_%s_bytes_total %" PRIu64 "\n",
                        name, name, name, help, name, value);
}

void strata_metrics_show(struct strata_metrics *m, struct strata_buf *buf)
{
        pthread_mutex_lock(&m->lock);
        strata_buf_addstr(buf, "# TYPE stratafs_operation_seconds histogram\n"
                               "# UNIT stratafs_operation_seconds seconds\n"
                               "# HELP stratafs_operation_seconds Operations and their time, by verb and errno.\n");
        for (int verb = 0; verb < STRATA_VERBS; verb++)
                for (int slot = 0; slot < RESULTS; slot++)
                        if (m->results[verb][slot].count)
                                show_result(buf, verbs[verb], &m->results[verb][slot]);
        show_bytes(buf, "imported", "Bytes of layers taken in.", m->imported);
        show_bytes(buf, "exported", "Bytes of layers given out.", m->exported);
        pthread_mutex_unlock(&m->lock);
}
