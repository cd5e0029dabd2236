/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "name.h"

#include <string.h>

static void accepts_what_the_rules_allow(void **state)
{
        static const char *const good[] = {
                "a", "web", "A b", "-rf", "~", "a.b", "a..", "na\xc3\xafve", "\xff\xfe", "\x80", " ", "a\\b", "\"", "*",
        };

        (void)state;
        for (size_t i = 0; i < COUNT(good); i++) {
                const char *why = "untouched";

                assert_int_equal(strata_name_check(good[i], &why), 0);
                assert_string_equal(why, "untouched");
                assert_int_equal(strata_name_check(good[i], NULL), 0);
        }
}

static void refuses_and_says_why(void **state)
{
        static const char *const bad[] = { "",    ".", "..",   ".hidden", "a/b",  "/",
                                           "a@b", "@", "a\nb", "a\x01",   "\x1f", "a\x7f" };

        (void)state;
        for (size_t i = 0; i < COUNT(bad); i++) {
                const char *why = NULL;

                assert_int_equal(strata_name_check(bad[i], &why), -EINVAL);
                assert_non_null(why);
                assert_int_equal(strata_name_check(bad[i], NULL), -EINVAL);
        }
}

/* Every byte alone, and behind another: the table of the rules. */
static void judges_every_byte(void **state)
{
        (void)state;
        for (int c = 1; c < 256; c++) {
                char first[] = { (char)c, '\0' }, second[] = { 'a', (char)c, '\0' };
                bool forbidden = c < 0x20 || c == 0x7f || c == '/' || c == '@';

                assert_int_equal(strata_name_check(first, NULL), forbidden || c == '.' ? -EINVAL : 0);
                assert_int_equal(strata_name_check(second, NULL), forbidden ? -EINVAL : 0);
        }
}

static void knows_the_longest_name(void **state)
{
        char name[STRATA_NAME_MAX + 2];
        const char *why = NULL;

        (void)state;
        memset(name, 'x', sizeof(name));
        name[STRATA_NAME_MAX] = '\0';
        assert_int_equal(strata_name_check(name, &why), 0);
        name[STRATA_NAME_MAX] = 'x';
        name[STRATA_NAME_MAX + 1] = '\0';
        assert_int_equal(strata_name_check(name, &why), -ENAMETOOLONG);
        assert_non_null(why);
}

static void splits_key_and_parent(void **state)
{
        struct strata_name_pair pair;

        (void)state;
        assert_int_equal(strata_name_split("web", &pair, NULL), 0);
        assert_string_equal(pair.key, "web");
        assert_string_equal(pair.parent, "");
        assert_int_equal(strata_name_split("web@base", &pair, NULL), 0);
        assert_string_equal(pair.key, "web");
        assert_string_equal(pair.parent, "base");
}

static void refuses_bad_pairs_and_leaves_the_result(void **state)
{
        static const char *const bad[] = { "",     "@",    "@p",    "k@",    "k@@p",  "k@p@q", "k@p@",
                                           ".k@p", "k@.p", "k/x@p", "k@p/x", "k\n@p", "k@p\t", "." };

        (void)state;
        for (size_t i = 0; i < COUNT(bad); i++) {
                struct strata_name_pair pair, before;
                const char *why = NULL;

                memset(&pair, 'z', sizeof(pair));
                before = pair;
                assert_int_equal(strata_name_split(bad[i], &pair, &why), -EINVAL);
                assert_non_null(why);
                assert_memory_equal(&pair, &before, sizeof(pair));
        }
}

static void splits_the_longest_component(void **state)
{
        char text[STRATA_NAME_MAX + 2];
        struct strata_name_pair pair;

        (void)state;
        memset(text, 'k', sizeof(text));
        text[100] = '@';
        text[STRATA_NAME_MAX] = '\0';
        assert_int_equal(strata_name_split(text, &pair, NULL), 0);
        assert_int_equal(strlen(pair.key), 100);
        assert_int_equal(strlen(pair.parent), STRATA_NAME_MAX - 101);
        text[STRATA_NAME_MAX] = 'k';
        text[STRATA_NAME_MAX + 1] = '\0';
        assert_int_equal(strata_name_split(text, &pair, NULL), -ENAMETOOLONG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(accepts_what_the_rules_allow),
                cmocka_unit_test(refuses_and_says_why),
                cmocka_unit_test(judges_every_byte),
                cmocka_unit_test(knows_the_longest_name),
                cmocka_unit_test(splits_key_and_parent),
                cmocka_unit_test(refuses_bad_pairs_and_leaves_the_result),
                cmocka_unit_test(splits_the_longest_component),
        };

        return cmocka_run_group_tests_name("name", tests, NULL, NULL);
}
