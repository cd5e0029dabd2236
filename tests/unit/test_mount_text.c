/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "index.h"
#include "mount_text.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static void bind_line(void **state)
{
        static const char *const lines[] = {
                [STRATA_ACTIVE] = "-o rbind,rw /mnt/active/k/fs\n",
                [STRATA_VIEW] = "-o rbind,ro /mnt/active/k/fs\n",
                [STRATA_COMMITTED] = "-o rbind,ro /mnt/active/k/fs\n",
        };

        (void)state;
        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
                struct strata_info info = { .kind = kind };

                strata_mount_text_bind(&info, "/mnt/active/k/fs", &buf);
                assert_string_equal(buf.data, lines[kind]);
        }
}

static void json_says_the_same(void **state)
{
        static const char *const paths[] = { "/mnt/active/k/fs", "/m \"q\" \\ \t/\xc3\xa4/fs" };

        (void)state;
        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                for (size_t i = 0; i < COUNT(paths); i++) {
                        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
                        struct strata_info info = { .kind = kind };
                        struct json_object *array, *mount, *options;

                        assert_int_equal(strata_mount_text_json(&info, paths[i], &buf), 0);
                        assert_int_equal(buf.data[buf.len - 1], '\n');
                        array = json_tokener_parse(buf.data);
                        assert_int_equal(json_object_get_type(array), json_type_array);
                        assert_int_equal(json_object_array_length(array), 1);
                        mount = json_object_array_get_idx(array, 0);
                        assert_int_equal(json_object_object_length(mount), 3);
                        assert_string_equal(json_object_get_string(json_object_object_get(mount, "type")), "bind");
                        assert_string_equal(json_object_get_string(json_object_object_get(mount, "source")), paths[i]);
                        options = json_object_object_get(mount, "options");
                        assert_int_equal(json_object_array_length(options), 2);
                        assert_string_equal(json_object_get_string(json_object_array_get_idx(options, 0)), "rbind");
                        assert_string_equal(json_object_get_string(json_object_array_get_idx(options, 1)),
                                            kind == STRATA_ACTIVE ? "rw" : "ro");
                        json_object_put(array);
                }
        }
}

/* Whatever a name holds: no terminal takes it for a command, one line, JSON by the book, and nothing is lost. */
static void controls_are_escaped(void **state)
{
        static const char path[] = "/m\x1b[2J\n\x7f/\xc2\x9b\x9b\xff\xc3\xa4\xe2\x82/fs";
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT, line = STRATA_BUF_INIT;
        struct strata_info info = { .kind = STRATA_ACTIVE };

        (void)state;
        assert_int_equal(strata_mount_text_json(&info, path, &buf), 0);
        assert_non_null(strstr(buf.data, "\"/m\\u001b[2J\\n\\u007f/\\u009b\\udc9b\\udcff\xc3\xa4\\udce2\\udc82/fs\""));
        strata_mount_text_bind(&info, path, &line);
        assert_string_equal(line.data, "-o rbind,rw \"/m\\033[2J\\n\\177/\\302\\233\\233\xff\xc3\xa4\xe2\\202/fs\"\n");
}

static void json_is_one_plain_line(void **state)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        struct strata_info info = { .kind = STRATA_ACTIVE };

        (void)state;
        assert_int_equal(strata_mount_text_json(&info, "/mnt/fs", &buf), 0);
        assert_ptr_equal(strchr(buf.data, '\n'), buf.data + buf.len - 1);
        assert_non_null(strstr(buf.data, "\"/mnt/fs\"")); /* slashes as they are */
}

static void overlay_line(void **state)
{
        struct test_store *t = *state;
        uint64_t one = test_snapshot(t, "s1", ""), two = test_snapshot(t, "s2", "s1");
        uint64_t a = test_prepare(t, STRATA_ACTIVE, "a", "s2"), b = test_prepare(t, STRATA_ACTIVE, "b", "");
        static const struct {
                enum strata_kind kind;
                const char *name;
                const char *layers; /* a letter each, topmost first; '-' for the empty directory */
        } cases[] = {
                { STRATA_ACTIVE, "a", "21" },     { STRATA_ACTIVE, "b", "-" }, { STRATA_COMMITTED, "s1", "1-" },
                { STRATA_COMMITTED, "s2", "21" }, { STRATA_VIEW, "v", "21" },  { STRATA_VIEW, "w", "w-" },
        };
        uint64_t w;

        test_prepare(t, STRATA_VIEW, "v", "s2");
        w = test_prepare(t, STRATA_VIEW, "w", "");
        for (size_t i = 0; i < COUNT(cases); i++) {
                cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
                struct strata_info info = test_info(t, cases[i].kind, cases[i].name);
                cleanup_buf struct strata_buf expected = STRATA_BUF_INIT;
                uint64_t upper = cases[i].name[0] == 'a' ? a : b;
                char mnt[PATH_MAX];

                for (const char *l = cases[i].layers; *l; l++) {
                        uint64_t id = *l == '1' ? one : *l == '2' ? two : w;

                        strata_buf_addstr(&expected, expected.len ? ":" : "lowerdir=");
                        if (*l == '-')
                                strata_buf_addf(&expected, "%s/empty", t->path);
                        else
                                strata_buf_addf(&expected, "%s/layers/%" PRIu64 "/fs", t->path, id);
                }
                if (cases[i].kind == STRATA_ACTIVE)
                        strata_buf_addf(&expected,
                                        ",upperdir=%s/layers/%" PRIu64 "/fs,workdir=%s/layers/%" PRIu64 "/work",
                                        t->path, upper, t->path, upper);
                strata_buf_addstr(&expected, "\n");
                assert_int_equal(strata_mount_text_overlay(t->s, &info, &buf), 0);
                assert_string_equal(buf.data, expected.data);
                /* And mount(2) takes it as it stands. */
                buf.data[buf.len - 1] = '\0';
                snprintf(mnt, sizeof(mnt), "%s/mnt", t->dir);
                assert_true(mkdir(mnt, 0700) == 0 || errno == EEXIST);
                assert_int_equal(mount("x", mnt, "overlay", 0, buf.data), 0);
                assert_int_equal(umount(mnt), 0);
        }
}

static void overlay_of_a_broken_chain(void **state)
{
        struct test_store *t = *state;
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        uint64_t base = test_snapshot(t, "base", "");
        struct strata_info info;

        test_prepare(t, STRATA_ACTIVE, "k", "base");
        info = test_info(t, STRATA_ACTIVE, "k");
        assert_int_equal(unlink(test_path(t, "layers/%" PRIu64 "/meta", base)), 0);
        strata_index_drop(t->s->index, base);
        assert_int_equal(strata_mount_text_overlay(t->s, &info, &buf), -EUCLEAN);
        assert_int_equal(buf.len, 0);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(bind_line),
                cmocka_unit_test(json_says_the_same),
                cmocka_unit_test(controls_are_escaped),
                cmocka_unit_test(json_is_one_plain_line),
                STORE_TEST(overlay_line),
                STORE_TEST(overlay_of_a_broken_chain),
        };

        return cmocka_run_group_tests_name("mount_text", tests, test_private_mounts, NULL);
}
