/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "util/buf.h"

#include <string.h>

static void starts_empty(void **state)
{
        struct strata_buf b = STRATA_BUF_INIT;

        (void)state;
        assert_null(b.data);
        assert_int_equal(b.len, 0);
        assert_int_equal(strata_buf_status(&b), 0);
        strata_buf_free(&b);
        strata_buf_free(&b);
}

static void appends_bytes_strings_and_formats(void **state)
{
        struct strata_buf b = STRATA_BUF_INIT;

        (void)state;
        strata_buf_add(&b, "a\0b", 3);
        strata_buf_addstr(&b, "cd");
        strata_buf_addf(&b, "%d-%s", 42, "x");
        assert_int_equal(b.len, 9);
        assert_memory_equal(b.data, "a\0bcd42-x", 10); /* with the NUL behind */
        strata_buf_free(&b);
        assert_null(b.data);
        assert_int_equal(b.len, 0);
}

static void nothing_appended_is_an_empty_string(void **state)
{
        struct strata_buf b = STRATA_BUF_INIT;

        (void)state;
        strata_buf_add(&b, NULL, 0);
        strata_buf_addstr(&b, "");
        strata_buf_addf(&b, "%s", "");
        assert_int_equal(b.len, 0);
        if (b.data)
                assert_string_equal(b.data, "");
        strata_buf_free(&b);
}

/* Every length around the places where it grows, each byte checked. */
static void grows(void **state)
{
        struct strata_buf b = STRATA_BUF_INIT;
        char piece[600];

        (void)state;
        memset(piece, 'p', sizeof(piece));
        for (size_t len = 0; len < sizeof(piece); len++) {
                size_t before = b.len;

                strata_buf_add(&b, piece, len);
                assert_int_equal(b.len, before + len);
                if (b.len)
                        assert_int_equal(b.data[b.len], '\0');
        }
        for (size_t i = 0; i < b.len; i++)
                assert_int_equal(b.data[i], 'p');
        strata_buf_free(&b);
        for (int len = 250; len < 262; len++) {
                strata_buf_addf(&b, "%.*s", len, piece);
                assert_int_equal(b.len, len);
                assert_int_equal(strlen(b.data), len);
                strata_buf_free(&b);
        }
}

static void an_append_after_a_failed_one_does_nothing(void **state)
{
        struct strata_buf b = STRATA_BUF_INIT;

        (void)state;
        strata_buf_addstr(&b, "kept");
        b.failed = true;
        strata_buf_addstr(&b, "lost");
        strata_buf_addf(&b, "%s", "lost");
        strata_buf_add_escaped(&b, "lost\n");
        strata_buf_add_path(&b, "lo st");
        assert_string_equal(b.data, "kept");
        assert_int_equal(b.len, 4);
        assert_int_equal(strata_buf_status(&b), -ENOMEM);
        strata_buf_free(&b);
        assert_int_equal(strata_buf_status(&b), 0);
}

static void escapes_what_would_break_a_line(void **state)
{
        static const struct {
                const char *in, *out;
        } cases[] = {
                { "plain", "plain" },
                { "a b", "a b" },
                { "a\nb", "a\\nb" },
                { "a\tb", "a\\tb" },
                { "\x01\x1f", "\\001\\037" },
                { "\x7f", "\\177" },
                { "\"", "\\\"" },
                { "\\", "\\\\" },
                { "\xc3\xa4", "\xc3\xa4" },
                { "\r", "\\015" },
                { "", "" },
                /* C1: in UTF-8, alone, and in what only a lax decoder takes for UTF-8; then bytes that just look like
                   it */
                { "\xc2\x9b"
                  "2J",
                  "\\302\\2332J" },
                { "\x9b"
                  "2J",
                  "\\2332J" },
                { "\xe0\x82\x9b", "\xe0\\202\\233" },
                { "\xc2\x80\xc2\x9f\xc2\xa0", "\\302\\200\\302\\237\xc2\xa0" },
                { "\xe4\xbd\x9b", "\xe4\xbd\x9b" },
                { "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
                { "\xe4\xbd", "\xe4\xbd" },
                { "\xe4\x9b", "\xe4\\233" },
                { "\xf4\x90\x80\x80", "\xf4\\220\\200\\200" },
        };

        (void)state;
        for (size_t i = 0; i < COUNT(cases); i++) {
                struct strata_buf b = STRATA_BUF_INIT;

                strata_buf_addstr(&b, "<");
                strata_buf_add_escaped(&b, cases[i].in);
                assert_string_equal(b.data + 1, cases[i].out);
                strata_buf_free(&b);
        }
}

static void quotes_paths_that_need_it(void **state)
{
        static const struct {
                const char *in, *out;
        } cases[] = {
                { "active/web", "active/web" }, { "a b", "\"a b\"" },
                { "a\nb", "\"a\\nb\"" },        { "a\"b", "\"a\\\"b\"" },
                { "a\\b", "\"a\\\\b\"" },       { "", "\"\"" },
                { "\x7f", "\"\\177\"" },        { "\xff\xfe", "\xff\xfe" },
                { "a\x9b", "\"a\\233\"" },      { "\xe4\xbd\x9b", "\xe4\xbd\x9b" },
        };

        (void)state;
        for (size_t i = 0; i < COUNT(cases); i++) {
                struct strata_buf b = STRATA_BUF_INIT;

                strata_buf_add_path(&b, cases[i].in);
                assert_string_equal(b.data, cases[i].out);
                strata_buf_free(&b);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(starts_empty),
                cmocka_unit_test(appends_bytes_strings_and_formats),
                cmocka_unit_test(nothing_appended_is_an_empty_string),
                cmocka_unit_test(grows),
                cmocka_unit_test(an_append_after_a_failed_one_does_nothing),
                cmocka_unit_test(escapes_what_would_break_a_line),
                cmocka_unit_test(quotes_paths_that_need_it),
        };

        return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
