/* SPDX-License-Identifier: Apache-2.0 */
/* `changes`, through both kernel interfaces: the layers are written through real overlay mounts. */
#include "testlib.h"

#include "changes.h"
#include "mount.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static char *changes_of(struct test_store *t, enum strata_kind kind, const char *name)
{
        struct strata_info info = test_info(t, kind, name);
        struct strata_buf buf = STRATA_BUF_INIT;

        assert_int_equal(strata_changes_get(t->s, &info, &buf), 0);
        return buf.data ? buf.data : strdup("");
}

static void assert_changes(struct test_store *t, enum strata_kind kind, const char *name, const char *expected)
{
        char *text = changes_of(t, kind, name);

        assert_string_equal(text, expected);
        free(text);
}

static const char *fs(struct test_store *t, const char *name)
{
        return test_mnt(t, name);
}

static void make_dir(struct test_store *t, const char *name)
{
        assert_int_equal(mkdir(fs(t, name), 0755), 0);
}

static void put(struct test_store *t, const char *name)
{
        test_write(fs(t, name), "x");
}

/* A base with a few things in it, and a mounted active snapshot "k" on top. */
static uint64_t begin(struct test_store *t)
{
        static const char *const dirs[] = { "d", "d/e", "gone", "gone/deep", "re", "re/sub", "meta", "only" };
        static const char *const files[] = { "f",       "d/x",       "d/e/y", "gone/a", "gone/deep/b", "re/old",
                                             "re/both", "re/sub/in", "type",  "linked", "only/touched" };
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "b", "");

        assert_int_equal(test_attach(t, STRATA_ACTIVE, "b"), 0);
        for (size_t i = 0; i < COUNT(dirs); i++)
                make_dir(t, dirs[i]);
        for (size_t i = 0; i < COUNT(files); i++)
                put(t, files[i]);
        test_detach(t, id);
        test_commit(t, "b", "base");
        id = test_prepare(t, STRATA_ACTIVE, "k", "base");
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        return id;
}

static void all_of_a_base_is_added(void **state)
{
        struct test_store *t = *state;

        test_detach(t, begin(t));
        assert_changes(t, STRATA_COMMITTED, "base",
                       "A /d\nA /d/e\nA /d/e/y\nA /d/x\nA /f\nA /gone\nA /gone/a\nA /gone/deep\nA /gone/deep/b\n"
                       "A /linked\nA /meta\nA /only\nA /only/touched\nA /re\nA /re/both\nA /re/old\nA /re/sub\n"
                       "A /re/sub/in\nA /type\n");
}

static void nothing_is_changed_at_first(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);

        assert_changes(t, STRATA_ACTIVE, "k", "");
        test_detach(t, id);
}

static void each_kind_of_change_is_told(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);

        put(t, "d/new");                                 /* d only carries it */
        test_write(fs(t, "f"), "changed");               /* contents */
        assert_int_equal(chmod(fs(t, "d/x"), 0711), 0);  /* metadata of a file */
        assert_int_equal(chmod(fs(t, "meta"), 0700), 0); /* and of a directory */
        assert_int_equal(unlink(fs(t, "linked")), 0);    /* a whiteout */
        test_remove_tree(fs(t, "gone"));                 /* a whole directory: one line */
        assert_int_equal(unlink(fs(t, "type")), 0);      /* a file that is a directory now */
        make_dir(t, "type");
        put(t, "type/in");
        assert_int_equal(link(fs(t, "d/new"), fs(t, "hard")), 0);
        assert_changes(t, STRATA_ACTIVE, "k",
                       "A /d/new\nM /d/x\nM /f\nD /gone\nA /hard\nD /linked\nM /meta\nM /type\nA /type/in\n");
        test_detach(t, id);
        test_commit(t, "k", "n");
        assert_changes(t, STRATA_COMMITTED, "n",
                       "A /d/new\nM /d/x\nM /f\nD /gone\nA /hard\nD /linked\nM /meta\nM /type\nA /type/in\n");
}

static void an_opaque_directory_deletes_what_it_hides(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);

        test_remove_tree(fs(t, "re"));
        make_dir(t, "re");
        put(t, "re/both");
        put(t, "re/fresh");
        make_dir(t, "re/sub");
        put(t, "re/sub/other");
        assert_changes(t, STRATA_ACTIVE, "k", "M /re/both\nA /re/fresh\nD /re/old\nD /re/sub/in\nA /re/sub/other\n");
        test_detach(t, id);
}

static void xattrs_of_a_directory_count(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);

        assert_int_equal(setxattr(fs(t, "d"), "user.a", "1", 1, 0), 0);
        assert_changes(t, STRATA_ACTIVE, "k", "M /d\n");
        assert_int_equal(removexattr(fs(t, "d"), "user.a"), 0);
        assert_changes(t, STRATA_ACTIVE, "k", ""); /* the directory is in the layer, and as it was */
        test_detach(t, id);
}

static void the_root_is_told_when_it_differs(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);

        assert_int_equal(chmod(fs(t, ""), 0711), 0);
        put(t, "z");
        assert_changes(t, STRATA_ACTIVE, "k", "M /\nA /z\n");
        test_detach(t, id);
}

static void paths_are_in_byte_order_and_quoted(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);

        make_dir(t, "a");
        put(t, "a/x");
        put(t, "a-b");
        put(t, "a b");
        put(t, "n\nl");
        put(t, "q\"\\");
        put(t, "\xff");
        assert_changes(t, STRATA_ACTIVE, "k",
                       "A /a\nA /a b\nA /a-b\nA /a/x\nA \"/n\\nl\"\nA \"/q\\\"\\\\\"\nA /\xff\n");
        test_detach(t, id);
}

static void whiteouts_as_xattrs_are_known(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);
        const char *dir;

        test_detach(t, id);
        dir = test_path(t, "layers/%" PRIu64 "/fs/d", id);
        assert_int_equal(mkdir(dir, 0755), 0);
        assert_int_equal(setxattr(dir, "trusted.overlay.opaque", "x", 1, 0), 0);
        test_write(test_path(t, "layers/%" PRIu64 "/fs/d/x", id), "");
        test_write(test_path(t, "layers/%" PRIu64 "/fs/d/plain", id), "");
        assert_int_equal(setxattr(test_path(t, "layers/%" PRIu64 "/fs/d/x", id), "trusted.overlay.whiteout", "", 0, 0),
                         0);
        assert_changes(t, STRATA_ACTIVE, "k", "A /d/plain\nD /d/x\n");
}

static void a_whiteout_of_nothing_is_no_change(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);

        test_detach(t, id);
        assert_int_equal(mknod(test_path(t, "layers/%" PRIu64 "/fs/no", id), S_IFCHR, makedev(0, 0)), 0);
        assert_int_equal(mknod(test_path(t, "layers/%" PRIu64 "/fs/null", id), S_IFCHR | 0666, makedev(1, 3)), 0);
        assert_changes(t, STRATA_ACTIVE, "k", "A /null\n");
}

static void a_view_changes_nothing(void **state)
{
        struct test_store *t = *state;
        uint64_t size = 77;
        struct strata_info info;

        test_detach(t, begin(t));
        test_prepare(t, STRATA_VIEW, "v", "base");
        assert_changes(t, STRATA_VIEW, "v", "");
        info = test_info(t, STRATA_VIEW, "v");
        assert_true(strata_changes_size(t->s, &info, &size));
        assert_int_equal(size, 0);
}

static void the_size_is_known_once_computed(void **state)
{
        struct test_store *t = *state;
        struct strata_info info;
        uint64_t size = 77;
        char *text, *path;
        FILE *f;

        test_detach(t, begin(t));
        info = test_info(t, STRATA_ACTIVE, "k");
        assert_false(strata_changes_size(t->s, &info, &size));
        info = test_info(t, STRATA_COMMITTED, "base");
        assert_false(strata_changes_size(t->s, &info, &size));
        assert_int_equal(size, 77);
        text = changes_of(t, STRATA_COMMITTED, "base");
        assert_true(strata_changes_size(t->s, &info, &size));
        assert_int_equal(size, strlen(text));
        free(text);
        /* Damage is noticed. */
        path = strdup(test_path(t, "layers/%" PRIu64 "/changes", info.id));
        f = fopen(path, "r+e");
        assert_non_null(f);
        fputc('9', f);
        fclose(f);
        free(path);
        assert_false(strata_changes_size(t->s, &info, &size));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_BOTH_APIS(all_of_a_base_is_added),
                TEST_BOTH_APIS(nothing_is_changed_at_first),
                TEST_BOTH_APIS(each_kind_of_change_is_told),
                TEST_BOTH_APIS(an_opaque_directory_deletes_what_it_hides),
                TEST_BOTH_APIS(xattrs_of_a_directory_count),
                TEST_BOTH_APIS(the_root_is_told_when_it_differs),
                TEST_BOTH_APIS(paths_are_in_byte_order_and_quoted),
                TEST_BOTH_APIS(whiteouts_as_xattrs_are_known),
                TEST_BOTH_APIS(a_whiteout_of_nothing_is_no_change),
                TEST_BOTH_APIS(a_view_changes_nothing),
                TEST_BOTH_APIS(the_size_is_known_once_computed),
        };

        return cmocka_run_group_tests_name("changes", tests, test_private_mounts, NULL);
}
