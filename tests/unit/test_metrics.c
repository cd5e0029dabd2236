/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int setup(void **state)
{
        struct strata_metrics *m;
        int r = strata_metrics_new(&m);

        *state = m;
        return r;
}

static int teardown(void **state)
{
        strata_metrics_free(*state);
        return 0;
}

static char *show(struct strata_metrics *m)
{
        struct strata_buf buf = STRATA_BUF_INIT;

        strata_metrics_show(m, &buf);
        assert_int_equal(strata_buf_status(&buf), 0);
        assert_non_null(buf.data);
        return buf.data;
}

/* The value behind the sample SAMPLE, or -1 without one. */
static double value(const char *text, const char *sample)
{
        size_t len = strlen(sample);

        for (const char *line = text; *line; line = strchr(line, '\n') + 1)
                if (strncmp(line, sample, len) == 0 && line[len] == ' ')
                        return strtod(line + len, NULL);
        return -1;
}

static struct timespec ago(double seconds)
{
        struct timespec t = strata_metrics_start();
        long long ns = t.tv_sec * 1000000000LL + t.tv_nsec - (long long)(seconds * 1e9);

        return (struct timespec){ ns / 1000000000, ns % 1000000000 };
}

static void counts_by_verb_and_errno(void **state)
{
        char *text;

        strata_metrics_count(*state, STRATA_VERB_COMMIT, strata_metrics_start(), 0);
        strata_metrics_count(*state, STRATA_VERB_COMMIT, strata_metrics_start(), 0);
        strata_metrics_count(*state, STRATA_VERB_COMMIT, strata_metrics_start(), -EBUSY);
        strata_metrics_count(*state, STRATA_VERB_COMMIT, strata_metrics_start(), EBUSY);
        strata_metrics_count(*state, STRATA_VERB_REMOVE, strata_metrics_start(), -EBUSY);
        text = show(*state);
        assert_true(value(text, "stratafs_operation_seconds_count{verb=\"commit\",errno=\"OK\"}") == 2);
        assert_true(value(text, "stratafs_operation_seconds_count{verb=\"commit\",errno=\"EBUSY\"}") == 2);
        assert_true(value(text, "stratafs_operation_seconds_count{verb=\"remove\",errno=\"EBUSY\"}") == 1);
        assert_true(value(text, "stratafs_operation_seconds_count{verb=\"remove\",errno=\"OK\"}") == -1);
        assert_true(value(text, "stratafs_operation_seconds_count{verb=\"prepare\",errno=\"OK\"}") == -1);
        free(text);
}

static void every_verb_has_its_word(void **state)
{
        static const char *const words[] = { "prepare", "view",  "commit",  "rename", "remove",
                                             "label",   "mount", "unmount", "import", "export" };
        char *text;

        assert_int_equal(COUNT(words), STRATA_VERBS);
        for (int verb = 0; verb < STRATA_VERBS; verb++)
                for (int n = 0; n <= verb; n++)
                        strata_metrics_count(*state, verb, strata_metrics_start(), 0);
        text = show(*state);
        for (int verb = 0; verb < STRATA_VERBS; verb++) {
                char sample[128];

                snprintf(sample, sizeof(sample), "stratafs_operation_seconds_count{verb=\"%s\",errno=\"OK\"}",
                         words[verb]);
                assert_true(value(text, sample) == verb + 1);
        }
        free(text);
}

static void buckets_add_up(void **state)
{
        static const double seconds[] = { 0.05, 0.5, 0.6, 5, 100 };
#define BUCKET(le) "stratafs_operation_seconds_bucket{verb=\"mount\",errno=\"OK\",le=\"" le "\"}"
        char *text;
        double sum;

        for (size_t i = 0; i < COUNT(seconds); i++)
                strata_metrics_count(*state, STRATA_VERB_MOUNT, ago(seconds[i]), 0);
        text = show(*state);
        assert_true(value(text, BUCKET("0.0001")) == 0);
        assert_true(value(text, BUCKET("0.01")) == 0);
        assert_true(value(text, BUCKET("0.1")) <= 1); /* a slow machine may take longer than that */
        assert_true(value(text, BUCKET("10")) == 4);
        assert_true(value(text, BUCKET("+Inf")) == 5);
        sum = value(text, "stratafs_operation_seconds_sum{verb=\"mount\",errno=\"OK\"}");
        assert_true(sum >= 106.15 && sum < 206.15);
        free(text);
}

/* More errnos than there are slots: none is lost, the last are counted together. */
static void counts_the_rest_together(void **state)
{
        double total = 0;
        char *text;

        for (int error = 1; error <= 40; error++)
                strata_metrics_count(*state, STRATA_VERB_LABEL, strata_metrics_start(), -error);
        text = show(*state);
        for (const char *at = text; (at = strstr(at, "_count{verb=\"label\"")); at++)
                total += strtod(strchr(at, ' '), NULL);
        assert_true(total == 40);
        assert_true(value(text, "stratafs_operation_seconds_count{verb=\"label\",errno=\"EPERM\"}") == 1);
        assert_true(value(text, "stratafs_operation_seconds_count{verb=\"label\",errno=\"other\"}") > 1);
        free(text);
}

static void counts_bytes(void **state)
{
        char *text = show(*state);

        assert_true(value(text, "stratafs_imported_bytes_total") == 0);
        assert_true(value(text, "stratafs_exported_bytes_total") == 0);
        free(text);
        strata_metrics_bytes(*state, 100, 7);
        strata_metrics_bytes(*state, 0, 1ULL << 40);
        text = show(*state);
        assert_true(value(text, "stratafs_imported_bytes_total") == 100);
        assert_true(value(text, "stratafs_exported_bytes_total") == (double)((1ULL << 40) + 7));
        free(text);
}

static void shows_a_gauge(void **state)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

        (void)state;
        strata_metrics_show_gauge(&buf, "mounts", "Live mounts.", UINT64_MAX);
        assert_string_equal(buf.data, "# TYPE stratafs_mounts gauge\n"
                                      "# HELP stratafs_mounts Live mounts.\n"
                                      "stratafs_mounts 18446744073709551615\n");
}

/* OpenMetrics: each family is told once, before its samples, with all of them together, and nothing else stands in the
 * text. */
static void families_are_in_order(void **state)
{
        char *text, family[128] = "";
        int families = 0;

        for (int verb = 0; verb < STRATA_VERBS; verb++)
                for (int error = 0; error < 3; error++)
                        strata_metrics_count(*state, verb, strata_metrics_start(), error);
        text = show(*state);
        for (char *line = text, *end; *line; line = end + 1) {
                end = strchr(line, '\n');
                assert_non_null(end);
                *end = '\0';
                if (strncmp(line, "# TYPE ", 7) == 0) {
                        assert_null(strstr(family[0] ? family : "-", line + 7));
                        assert_int_equal(sscanf(line, "# TYPE %127s", family), 1);
                        families++;
                        continue;
                }
                if (line[0] == '#') {
                        assert_true(strncmp(line, "# UNIT ", 7) == 0 || strncmp(line, "# HELP ", 7) == 0);
                        line += 7;
                } else {
                        const char *number = strrchr(line, ' ');
                        char *rest;

                        assert_non_null(number);
                        strtod(number + 1, &rest);
                        assert_string_equal(rest, "");
                }
                assert_int_equal(strncmp(line, family, strlen(family)), 0);
        }
        assert_int_equal(families, 3);
        free(text);
}

#define THREADS 16
#define EACH 5000

static void *count_many(void *data)
{
        for (int i = 0; i < EACH; i++) {
                strata_metrics_count(data, i % STRATA_VERBS, strata_metrics_start(), i % 3 ? 0 : -EIO);
                strata_metrics_bytes(data, 1, 2);
        }
        return NULL;
}

static void loses_nothing_among_threads(void **state)
{
        pthread_t threads[THREADS];
        double total = 0;
        char *text;

        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, count_many, *state), 0);
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        text = show(*state);
        for (const char *at = text; (at = strstr(at, "_count{")); at++)
                total += strtod(strchr(at, ' '), NULL);
        assert_true(total == THREADS * EACH);
        assert_true(value(text, "stratafs_imported_bytes_total") == THREADS * EACH);
        assert_true(value(text, "stratafs_exported_bytes_total") == 2 * THREADS * EACH);
        free(text);
}

static void freeing_nothing_is_fine(void **state)
{
        (void)state;
        strata_metrics_free(NULL);
}

#define METRICS_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                METRICS_TEST(counts_by_verb_and_errno),
                METRICS_TEST(every_verb_has_its_word),
                METRICS_TEST(buckets_add_up),
                METRICS_TEST(counts_the_rest_together),
                METRICS_TEST(counts_bytes),
                cmocka_unit_test(shows_a_gauge),
                METRICS_TEST(families_are_in_order),
                METRICS_TEST(loses_nothing_among_threads),
                cmocka_unit_test(freeing_nothing_is_fine),
        };

        return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
