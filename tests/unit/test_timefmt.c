/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "util/timefmt.h"

#include <stdlib.h>
#include <string.h>

static const struct {
        time_t seconds;
        long nanoseconds;
        const char *text;
} times[] = {
        { 0, 0, "1970-01-01T00:00:00.000000000Z" },
        { 1, 1, "1970-01-01T00:00:01.000000001Z" },
        { 951782400, 999999999, "2000-02-29T00:00:00.999999999Z" },
        { 1769903999, 123456789, "2026-01-31T23:59:59.123456789Z" },
        { 2147483648, 500000000, "2038-01-19T03:14:08.500000000Z" },
        { 253402300799, 0, "9999-12-31T23:59:59.000000000Z" },
};

static void formats(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT(times); i++) {
                struct timespec t = { times[i].seconds, times[i].nanoseconds };
                char buf[STRATA_TIME_MAX];

                assert_ptr_equal(strata_time_format(t, buf), buf);
                assert_string_equal(buf, times[i].text);
        }
}

static void parses_what_it_formats(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT(times); i++) {
                struct timespec t = { 0 };

                assert_true(strata_time_parse(times[i].text, &t));
                assert_true(t.tv_sec == times[i].seconds);
                assert_int_equal(t.tv_nsec, times[i].nanoseconds);
        }
}

static void now_survives_the_text(void **state)
{
        struct timespec now = strata_time_now(), again = { 0 };
        char buf[STRATA_TIME_MAX];

        (void)state;
        assert_true(strata_time_parse(strata_time_format(now, buf), &again));
        assert_memory_equal(&now, &again, sizeof(now));
        assert_true(now.tv_sec > 1577836800); /* 2020 */
}

/* What the local time zone is must not matter. */
static void knows_utc_only(void **state)
{
        struct timespec t = { 0 };
        char buf[STRATA_TIME_MAX];

        (void)state;
        setenv("TZ", "XYZ-5:30", 1);
        tzset();
        assert_string_equal(strata_time_format((struct timespec){ 0 }, buf), times[0].text);
        assert_true(strata_time_parse(times[3].text, &t));
        assert_true(t.tv_sec == times[3].seconds);
        setenv("TZ", "UTC0", 1);
        tzset();
}

static void refuses_anything_else(void **state)
{
        static const char *const bad[] = {
                "",
                "now",
                "2026-01-31T23:59:59Z",
                "2026-01-31T23:59:59.123Z",
                "2026-01-31T23:59:59.123456789",
                "2026-01-31T23:59:59.123456789z",
                "2026-01-31T23:59:59.123456789Z ",
                "2026-01-31T23:59:59.123456789+00:00",
                " 2026-01-31T23:59:59.123456789Z",
                "2026-01-31 23:59:59.123456789Z",
                "2026/01/31T23:59:59.123456789Z",
                "12026-01-31T23:59:59.123456789Z",
                "2026-1-31T23:59:59.1234567890Z",
                "2026-13-01T00:00:00.000000000Z",
                "2026-00-01T00:00:00.000000000Z",
                "2026-02-30T00:00:00.000000000Z",
                "2026-01-01T24:00:00.000000000Z",
                "2026-01-01T00:60:00.000000000Z",
                "2026-01-01T00:00:61.000000000Z",
                "2026-01-01T 1:00:00.000000000Z",
                "2026-01-01T00:00:00.-12345678Z",
                "2026- 1-01T00:00:00.000000000Z",
                "+026-01-01T00:00:00.000000000Z",
        };

        (void)state;
        for (size_t i = 0; i < COUNT(bad); i++) {
                struct timespec t = { 0 };

                if (strata_time_parse(bad[i], &t))
                        fail_msg("\"%s\" was taken for a time", bad[i]);
        }
}

/* A right text with any one byte changed is wrong, or another time, and never crashes. */
static void survives_any_changed_byte(void **state)
{
        size_t len = strlen(times[3].text);

        (void)state;
        for (size_t at = 0; at < len; at++) {
                for (int c = 1; c < 256; c++) {
                        char text[STRATA_TIME_MAX], again[STRATA_TIME_MAX];
                        struct timespec t;

                        strcpy(text, times[3].text);
                        text[at] = (char)c;
                        if (strata_time_parse(text, &t))
                                assert_string_equal(strata_time_format(t, again), text);
                }
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(formats),
                cmocka_unit_test(parses_what_it_formats),
                cmocka_unit_test(now_survives_the_text),
                cmocka_unit_test(knows_utc_only),
                cmocka_unit_test(refuses_anything_else),
                cmocka_unit_test(survives_any_changed_byte),
        };

        return cmocka_run_group_tests_name("timefmt", tests, NULL, NULL);
}
