/* SPDX-License-Identifier: Apache-2.0 */
/* Archives that want out, or that make no sense: each is refused, and the world outside the layer is as it was. */
#include "layerlib.h"

#include "util/cleanup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Imports L, which has to fail with -EINVAL and a reason that holds WORDS, the store then as before. */
static void refused(struct test_store *t, struct layer *l, const char *words)
{
        char *before, outside[PATH_MAX];
        const char *why;

        snprintf(outside, sizeof(outside), "%s/outside", t->dir);
        assert_true(mkdir(outside, 0700) == 0 || errno == EEXIST);
        test_prepare(t, STRATA_ACTIVE, "k", "");
        before = test_state(t);
        assert_int_equal(layer_import(t, "k", l->tar.data, l->tar.len, 700, &why), -EINVAL);
        if (!strstr(why, words))
                print_error("reason: %s\n", why);
        assert_non_null(strstr(why, words));
        test_assert_state(t, before);
        assert_int_equal(test_count_dir(outside), 0);
        strata_buf_free(&l->tar);
}

static void refuse_one(struct test_store *t, char flag, const char *name, const char *link, const char *words)
{
        struct layer l = { 0 };

        layer_add(&l, '0', "good", 0644, NULL, "x");
        layer_add(&l, flag, name, 0644, link, NULL);
        layer_end(&l);
        refused(t, &l, words);
}

#define REFUSE(test, flag, name, link, words)                                                                          \
        static void test(void **state)                                                                                 \
        {                                                                                                              \
                refuse_one(*state, flag, name, link, words);                                                           \
        }

REFUSE(no_name, '0', "", NULL, "without a name")
REFUSE(dotdot, '0', "../outside/x", NULL, "\"..\"")
REFUSE(dotdot_inside, '0', "a/../../outside/x", NULL, "\"..\"")
REFUSE(dotdot_last, '5', "a/..", NULL, "\"..\"")
REFUSE(absolute, '0', "/tmp/stratafs-x", NULL, "absolute")
REFUSE(absolute_dotdot, '5', "/..", NULL, "absolute")
REFUSE(absolute_whiteout, '0', "/.wh.x", NULL, "absolute")
REFUSE(slash_is_a_link, '2', "/", "x", "root")
REFUSE(slash_is_a_hard_link, '1', "//", "good", "root")
REFUSE(slash_is_a_fifo, '6', "/", NULL, "root")
REFUSE(hard_link_to_slash, '1', "x", "/", "absolute")
REFUSE(hard_link_out, '1', "x", "../../../../../etc/passwd", "\"..\"")
REFUSE(hard_link_absolute, '1', "x", "/etc/passwd", "absolute")
REFUSE(hard_link_to_nothing, '1', "x", "no/such", "nothing is there")
REFUSE(hard_link_under_itself, '1', "good", "good/x", "would replace")
REFUSE(hard_link_to_root, '1', "x", "./", "root")
REFUSE(root_is_a_file, '0', ".", NULL, "root")
REFUSE(bare_whiteout, '0', ".wh.", NULL, "whiteout")
REFUSE(whiteout_of_dot, '0', "d/.wh..", NULL, "whiteout")
REFUSE(whiteout_of_dotdot, '0', "d/.wh...", NULL, "whiteout")
REFUSE(whiteout_folder, '0', ".wh.d/x", NULL, "whiteout")
REFUSE(symlink_to_nothing, '2', "x", NULL, "symbolic link")
REFUSE(through_a_file, '0', "good/x", NULL, "no folder")

static void through_a_symlink_out(void **state)
{
        static const char *const ways[] = { "../../../../outside", "/outside" };
        struct test_store *t = *state;
        char outside[PATH_MAX], key[8];

        snprintf(outside, sizeof(outside), "%s/outside", t->dir);
        assert_int_equal(mkdir(outside, 0700), 0);
        for (size_t i = 0; i < COUNT(ways) + 1; i++) {
                struct layer l = { 0 };
                uint64_t id;

                layer_add(&l, '2', "way", 0777, i < COUNT(ways) ? ways[i] : outside, NULL);
                layer_add(&l, '0', "way/x", 0644, NULL, "x");
                layer_end(&l);
                snprintf(key, sizeof(key), "k%zu", i);
                id = test_prepare(t, STRATA_ACTIVE, key, "");
                assert_int_equal(layer_import(t, key, l.tar.data, l.tar.len, 512, NULL), 0);
                assert_int_equal(test_count_dir(outside), 0);
                /* as a chroot would have it */
                assert_true(test_exists(t, "layers/%" PRIu64 "/fs/%s/x", id, i < COUNT(ways) ? "outside" : outside));
                strata_buf_free(&l.tar);
        }
}

static void a_link_is_replaced_not_written_through(void **state)
{
        struct test_store *t = *state;
        char outside[PATH_MAX];
        struct layer l = { 0 };
        struct stat st;
        uint64_t id;

        snprintf(outside, sizeof(outside), "%s/victim", t->dir);
        test_write(outside, "before");
        layer_add(&l, '2', "x", 0777, outside, NULL);
        layer_add(&l, '0', "x", 0644, NULL, "after");
        layer_add(&l, '2', "y", 0777, outside, NULL);
        layer_add(&l, '1', "z", 0644, "y", NULL);
        id = layer_snapshot(t, "s", "", &l);
        test_assert_text(outside, "before");
        test_assert_text(test_path(t, "layers/%" PRIu64 "/fs/x", id), "after");
        assert_int_equal(lstat(test_path(t, "layers/%" PRIu64 "/fs/z", id), &st), 0);
        assert_true(S_ISLNK(st.st_mode));
}

static void links_without_end(void **state)
{
        struct layer l = { 0 };

        layer_add(&l, '2', "a", 0777, "b", NULL);
        layer_add(&l, '2', "b", 0777, "a", NULL);
        layer_add(&l, '0', "a/x", 0644, NULL, "x");
        layer_end(&l);
        refused(*state, &l, "without end");
}

static void links_into_a_path_too_long(void **state)
{
        char record[4000] = "linkpath=b/";
        const char *records[] = { record };
        struct layer l = { 0 };

        for (size_t i = strlen(record); i < sizeof(record) - 1; i++)
                record[i] = i % 2 ? '.' : '/';
        for (char name[] = "a"; name[0] < 'd'; name[0]++) {
                record[strlen("linkpath=")] = (char)(name[0] + 1);
                layer_add_pax(&l, records, 1);
                layer_add(&l, '2', name, 0777, "short", NULL);
        }
        layer_add(&l, '0', "a/x", 0644, NULL, "x");
        layer_end(&l);
        refused(*state, &l, "a path too long");
}

static void a_link_to_a_long_name(void **state)
{
        char record[400] = "linkpath=";
        const char *records[] = { record };
        struct layer l = { 0 };

        memset(record + strlen(record), 'n', 300);
        layer_add_pax(&l, records, 1);
        layer_add(&l, '2', "way", 0777, "short", NULL);
        layer_add(&l, '0', "way/x", 0644, NULL, "x");
        layer_end(&l);
        refused(*state, &l, "holds a name of over 255");
}

/* Deeper than any path, by a link to where a path of full length leads. */
static void folders_without_end(void **state)
{
        char path[4000 + 6] = "path=", link[4000 + 10] = "linkpath=", more[220] = "path=s/";
        const char *records[] = { path };
        struct layer l = { 0 };

        for (unsigned i = 0; i < 2000; i++) {
                strcat(path, "d/");
                strcat(link, "d/");
        }
        for (unsigned i = 0; i < 100; i++)
                strcat(more, "e/");
        layer_add_pax(&l, records, 1);
        layer_add(&l, '5', "short", 0755, NULL, NULL);
        records[0] = link;
        layer_add_pax(&l, records, 1);
        layer_add(&l, '2', "s", 0777, "short", NULL);
        records[0] = more;
        layer_add_pax(&l, records, 1);
        layer_add(&l, '5', "short", 0755, NULL, NULL);
        layer_end(&l);
        refused(*state, &l, "deeper than a path");
}

static void what_no_file_can_have(void **state)
{
        static char name[400] = "SCHILY.xattr.user.", value[70000] = "SCHILY.xattr.user.a=";
        static const char *const cases[][2] = {
                { "uid=4294967295", "no number of an owner" },
                { "gid=4294967295", "no number of an owner" },
                { "SCHILY.acl.access=user::rw-,user:somebody:r--,group::r--,mask::r--,other::---",
                  "without its number" },
                { name, "name is too long" },
                { value, "over 64 KiB" },
        };

        memset(name + strlen(name), 'n', 256);
        strcat(name, "=1");
        memset(value + strlen(value), 'v', 66000);
        for (size_t i = 0; i < COUNT(cases); i++) {
                struct layer l = { 0 };

                layer_add_pax(&l, &cases[i][0], 1);
                layer_add(&l, '0', "x", 0644, NULL, "x");
                layer_end(&l);
                refused(*state, &l, cases[i][1]);
                test_store_teardown(state);
                test_store_setup(state);
        }
}

/* As long as the mark of a whiteout may be. */
static void a_hard_link_to_a_long_name(void **state)
{
        char record[300] = "linkpath=.wh.";
        const char *records[] = { record };
        struct layer l = { 0 };

        memset(record + strlen(record), 'n', 255);
        layer_add_pax(&l, records, 1);
        layer_add(&l, '1', "x", 0644, "short", NULL);
        layer_end(&l);
        refused(*state, &l, "255");
}

static void a_hard_link_to_a_folder(void **state)
{
        struct layer l = { 0 };

        layer_add(&l, '5', "d", 0755, NULL, NULL);
        layer_add(&l, '1', "x", 0644, "d", NULL);
        layer_end(&l);
        refused(*state, &l, "leads to this folder");
}

static void devices(void **state)
{
        struct layer major = { 0 }, minor = { 0 }, whiteout = { 0 };

        layer_add_device(&major, '3', "x", "0010000", "0000001");
        layer_add_device(&minor, '4', "x", "0000001", "7777777");
        layer_add_device(&whiteout, '3', "x", "0000000", "0000000");
        layer_end(&whiteout);
        refused(*state, &major, "Linux does not have");
        test_store_teardown(state);
        test_store_setup(state);
        refused(*state, &minor, "Linux does not have");
        test_store_teardown(state);
        test_store_setup(state);
        refused(*state, &whiteout, "whiteout");
}

static void long_name(void **state)
{
        char record[400] = "path=";
        const char *records[] = { record };
        struct layer l = { 0 };

        memset(record + 5, 'n', 256);
        layer_add_pax(&l, records, 1);
        layer_add(&l, '0', "short", 0644, NULL, "x");
        layer_end(&l);
        refused(*state, &l, "255");
}

static void long_path(void **state)
{
        char record[5100] = "path=";
        const char *records[] = { record };
        struct layer l = { 0 };

        for (size_t i = 5; i < 5005; i++)
                record[i] = i % 2 ? 'd' : '/';
        layer_add_pax(&l, records, 1);
        layer_add(&l, '0', "short", 0644, NULL, "x");
        layer_end(&l);
        refused(*state, &l, "4,095");
}

static void cut_off(void **state)
{
        struct layer l = { 0 };
        char big[3000];

        memset(big, 'x', sizeof(big));
        big[sizeof(big) - 1] = '\0';
        layer_add(&l, '0', "good", 0644, NULL, "x");
        layer_add(&l, '0', "big", 0644, NULL, big);
        l.tar.len -= 1024;
        refused(*state, &l, "");
}

static void cut_off_in_a_header(void **state)
{
        struct layer l = { 0 };

        layer_add(&l, '0', "good", 0644, NULL, "x");
        layer_add(&l, '0', "more", 0644, NULL, "x");
        l.tar.len -= 700;
        refused(*state, &l, "");
}

static void damaged_header(void **state)
{
        struct layer l = { 0 };

        layer_add(&l, '0', "good", 0644, NULL, "x");
        layer_add(&l, '0', "more", 0644, NULL, "x");
        l.tar.data[1024 + 3] ^= 1;
        layer_end(&l);
        refused(*state, &l, "");
}

static void nothing_at_all(void **state)
{
        struct layer l = { 0 };

        strata_buf_addstr(&l.tar, "");
        refused(*state, &l, "");
}

static void no_archive(void **state)
{
        struct layer l = { 0 };

        for (int i = 0; i < 1000; i++)
                strata_buf_addstr(&l.tar, "this is no archive\n");
        refused(*state, &l, "");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(no_name),
                TEST(dotdot),
                TEST(dotdot_inside),
                TEST(dotdot_last),
                TEST(absolute),
                TEST(absolute_dotdot),
                TEST(absolute_whiteout),
                TEST(slash_is_a_link),
                TEST(slash_is_a_hard_link),
                TEST(slash_is_a_fifo),
                TEST(hard_link_to_slash),
                TEST(hard_link_out),
                TEST(hard_link_absolute),
                TEST(hard_link_to_nothing),
                TEST(hard_link_under_itself),
                TEST(hard_link_to_root),
                TEST(root_is_a_file),
                TEST(bare_whiteout),
                TEST(whiteout_of_dot),
                TEST(whiteout_of_dotdot),
                TEST(whiteout_folder),
                TEST(symlink_to_nothing),
                TEST(through_a_file),
                TEST(through_a_symlink_out),
                TEST(a_link_is_replaced_not_written_through),
                TEST(links_without_end),
                TEST(links_into_a_path_too_long),
                TEST(a_link_to_a_long_name),
                TEST(folders_without_end),
                TEST(what_no_file_can_have),
                TEST(a_hard_link_to_a_long_name),
                TEST(a_hard_link_to_a_folder),
                TEST(devices),
                TEST(long_name),
                TEST(long_path),
                TEST(cut_off),
                TEST(cut_off_in_a_header),
                TEST(damaged_header),
                TEST(nothing_at_all),
                TEST(no_archive),
        };

        return cmocka_run_group_tests_name("layer_hostile", tests, NULL, NULL);
}
