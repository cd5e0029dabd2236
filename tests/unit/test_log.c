/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "log.h"
#include "util/timefmt.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int setup(void **state)
{
        struct strata_log *log;
        int r = strata_log_new(&log);

        *state = log;
        return r;
}

static int teardown(void **state)
{
        strata_log_free(*state);
        return 0;
}

/* All lines without their times, which are checked; to be freed. */
static char *show(struct strata_log *log)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        struct strata_buf ret = STRATA_BUF_INIT;

        strata_log_show(log, &buf);
        strata_buf_addstr(&ret, "");
        for (char *line = buf.data, *end; line && *line; line = end + 1) {
                struct timespec t;

                end = strchr(line, '\n');
                assert_non_null(end);
                assert_true(end - line > 31);
                assert_int_equal(line[30], ' ');
                line[30] = '\0';
                assert_true(strata_time_parse(line, &t));
                strata_buf_add(&ret, line + 31, (size_t)(end - line - 30));
        }
        return ret.data ? ret.data : strdup("");
}

static void assert_shows(struct strata_log *log, const char *text)
{
        char *all = show(log);

        assert_string_equal(all, text);
        free(all);
}

static void starts_empty(void **state)
{
        assert_shows(*state, "");
        strata_log_free(NULL);
}

static void lines_come_in_order(void **state)
{
        strata_log_add(*state, "mkdir", "active/k", NULL, -EEXIST, "the key is taken");
        strata_log_add(*state, "rename", "active/a", "snapshots/b", EBUSY, "process %d (%s)", 12, "vim");
        strata_log_add(*state, "start", "store", NULL, 0, "swept");
        assert_shows(*state, "mkdir active/k EEXIST the key is taken\n"
                             "rename active/a snapshots/b EBUSY process 12 (vim)\n"
                             "start store OK swept\n");
}

static void nothing_breaks_a_line(void **state)
{
        strata_log_add(*state, "mkdir", "a b\nc", "d\"e", ENOENT, "say \"%s\"", "x\ny\x1b[31m\x7f");
        assert_shows(*state, "mkdir \"a b\\nc\" \"d\\\"e\" ENOENT say \"x\\012y\\033[31m\\177\"\n");
}

static void long_reasons_are_cut(void **state)
{
        char *long_text = malloc(100000), *all;

        assert_non_null(long_text);
        memset(long_text, 'x', 100000);
        long_text[99999] = '\0';
        strata_log_add(*state, "op", "p", NULL, EIO, "%s", long_text);
        strata_log_add(*state, "op", "p", NULL, EIO, "next");
        all = show(*state);
        assert_int_equal(strlen(all), strlen("op p EIO \n") + STRATA_LOG_REASON_MAX - 1 + strlen("op p EIO next\n"));
        assert_string_equal(strchr(all, '\n') + 1, "op p EIO next\n");
        free(all);
        free(long_text);
}

static void keeps_the_newest_lines(void **state)
{
        char *all, *line;

        for (int i = 0; i < STRATA_LOG_LINES * 2 + 7; i++)
                strata_log_add(*state, "op", "p", NULL, EIO, "%d", i);
        all = line = show(*state);
        for (int i = STRATA_LOG_LINES + 7; i < STRATA_LOG_LINES * 2 + 7; i++) {
                char expected[64];

                snprintf(expected, sizeof(expected), "op p EIO %d\n", i);
                assert_int_equal(strncmp(line, expected, strlen(expected)), 0);
                line += strlen(expected);
        }
        assert_string_equal(line, "");
        free(all);
}

static void names_errnos(void **state)
{
        (void)state;
        assert_string_equal(strata_log_errno_name(0), "OK");
        assert_string_equal(strata_log_errno_name(ENOENT), "ENOENT");
        assert_string_equal(strata_log_errno_name(-ENOENT), "ENOENT");
        assert_string_equal(strata_log_errno_name(-EUCLEAN), "EUCLEAN");
        assert_string_equal(strata_log_errno_name(123456), "EUNKNOWN");
        assert_string_equal(strata_log_errno_name(-123456), "EUNKNOWN");
}

#define THREADS 16
#define EACH 500

static void *add_lines(void *data)
{
        for (int i = 0; i < EACH; i++) {
                cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

                strata_log_add(data, "op", "path", NULL, EIO, "whole");
                if (i % 50 == 0)
                        strata_log_show(data, &buf);
        }
        return NULL;
}

static void many_threads_write_whole_lines(void **state)
{
        pthread_t threads[THREADS];
        char *all;
        int n = 0;

        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, add_lines, *state), 0);
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        all = show(*state);
        for (char *line = all; *line; line = strchr(line, '\n') + 1, n++)
                assert_int_equal(strncmp(line, "op path EIO whole\n", 18), 0);
        assert_int_equal(n, STRATA_LOG_LINES);
        free(all);
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                LOG_TEST(starts_empty),
                LOG_TEST(lines_come_in_order),
                LOG_TEST(nothing_breaks_a_line),
                LOG_TEST(long_reasons_are_cut),
                LOG_TEST(keeps_the_newest_lines),
                cmocka_unit_test(names_errnos),
                LOG_TEST(many_threads_write_whole_lines),
        };

        return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
