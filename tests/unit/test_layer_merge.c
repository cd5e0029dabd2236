/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel makes of an imported layer over those below it: the merged view, through both mount APIs. */
#include "layerlib.h"

#include "remove.h"
#include "util/cleanup.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* d/{a,b,sub/deep}, e/x, f (a file), l -> d, with an odd mode on d */
static void make_base(struct test_store *t)
{
        struct layer l = { 0 };

        layer_add(&l, '5', "d", 0701, NULL, NULL);
        layer_add(&l, '0', "d/a", 0644, NULL, "a");
        layer_add(&l, '0', "d/b", 0644, NULL, "b");
        layer_add(&l, '5', "d/sub", 0755, NULL, NULL);
        layer_add(&l, '0', "d/sub/deep", 0644, NULL, "deep");
        layer_add(&l, '5', "e", 0755, NULL, NULL);
        layer_add(&l, '0', "e/x", 0644, NULL, "x");
        layer_add(&l, '0', "f", 0644, NULL, "f");
        layer_add(&l, '2', "l", 0777, "d", NULL);
        layer_snapshot(t, "base", "", &l);
}

/* Imports L over the base and shows it. */
static void show(struct test_store *t, struct layer *l)
{
        make_base(t);
        layer_snapshot(t, "top", "base", l);
        assert_int_equal(test_attach(t, STRATA_COMMITTED, "top"), 0);
}

static bool seen(struct test_store *t, const char *path)
{
        struct stat st;

        return lstat(test_mnt(t, path), &st) == 0;
}

static void a_whiteout_hides_only_what_it_names(void **state)
{
        struct test_store *t = *state;
        struct layer l = { 0 };
        struct stat st;

        layer_add(&l, '0', "d/.wh.a", 0, NULL, NULL);
        layer_add(&l, '0', "d/.wh.sub", 0, NULL, NULL);
        layer_add(&l, '0', "d/.wh.never", 0, NULL, NULL);
        layer_add(&l, '0', ".wh.e", 0, NULL, NULL);
        show(t, &l);
        assert_false(seen(t, "d/a"));
        assert_false(seen(t, "d/sub"));
        assert_false(seen(t, "e"));
        test_assert_text(test_mnt(t, "d/b"), "b");
        assert_int_equal(test_count_dir(test_mnt(t, "d")), 1);
        /* the folder that no entry spoke of is as it is below */
        assert_int_equal(stat(test_mnt(t, "d"), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0701);
        assert_int_equal(st.st_mtim.tv_sec, 1000000000);
        /* nothing lay below, so nothing is there to hide it */
        assert_int_equal(test_count_dir(test_path(t, "layers/2/fs/d")), 2);
}

static void an_opaque_mark_spares_its_siblings(void **state)
{
        struct test_store *t = *state;
        struct layer l = { 0 };

        layer_add(&l, '5', "d", 0755, NULL, NULL);
        layer_add(&l, '0', "d/new", 0644, NULL, "new");
        layer_add(&l, '0', "d/sub/new", 0644, NULL, "new");
        layer_add(&l, '0', "d/.wh..wh..opq", 0, NULL, NULL);
        layer_add(&l, '0', "d/later", 0644, NULL, "later");
        show(t, &l);
        assert_int_equal(test_count_dir(test_mnt(t, "d")), 3);
        test_assert_text(test_mnt(t, "d/new"), "new");
        test_assert_text(test_mnt(t, "d/later"), "later");
        assert_int_equal(test_count_dir(test_mnt(t, "d/sub")), 1);
}

static void an_opaque_root_hides_all(void **state)
{
        struct test_store *t = *state;
        struct layer l = { 0 };

        layer_add(&l, '0', "d/new", 0644, NULL, "new");
        layer_add(&l, '0', ".wh..wh..opq", 0, NULL, NULL);
        layer_add(&l, '5', "e", 0755, NULL, NULL);
        layer_add(&l, '0', "f/new", 0644, NULL, "new");
        show(t, &l);
        assert_int_equal(test_count_dir(test_mnt(t, "")), 3);
        assert_int_equal(test_count_dir(test_mnt(t, "d")), 1);
        assert_int_equal(test_count_dir(test_mnt(t, "e")), 0);
        assert_int_equal(test_count_dir(test_mnt(t, "f")), 1);
}

static void a_folder_over_a_whiteout_starts_empty(void **state)
{
        struct test_store *t = *state;
        struct layer l = { 0 };

        layer_add(&l, '0', ".wh.d", 0, NULL, NULL);
        layer_add(&l, '5', "d", 0755, NULL, NULL);
        layer_add(&l, '0', "d/new", 0644, NULL, "new");
        layer_add(&l, '0', ".wh.e", 0, NULL, NULL);
        layer_add(&l, '0', "e/new", 0644, NULL, "new");
        show(t, &l);
        assert_int_equal(test_count_dir(test_mnt(t, "d")), 1);
        assert_int_equal(test_count_dir(test_mnt(t, "e")), 1);
}

static void a_folder_over_a_folder_merges(void **state)
{
        struct test_store *t = *state;
        struct layer l = { 0 };
        struct stat st;

        layer_add(&l, '5', "d", 0750, NULL, NULL);
        show(t, &l);
        assert_int_equal(test_count_dir(test_mnt(t, "d")), 3);
        assert_int_equal(stat(test_mnt(t, "d"), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0750);
}

static void later_entries_win(void **state)
{
        struct test_store *t = *state;
        struct layer l = { 0 };
        struct stat st;

        layer_add(&l, '0', "d", 0644, NULL, "now a file");
        layer_add(&l, '5', "d", 0755, NULL, NULL);
        layer_add(&l, '0', "d/new", 0644, NULL, "1");
        layer_add(&l, '0', "d/new", 0644, NULL, "2");
        layer_add(&l, '5', "f", 0755, NULL, NULL);
        layer_add(&l, '0', "f/x", 0644, NULL, "x");
        layer_add(&l, '5', "f/y", 0755, NULL, NULL);
        layer_add(&l, '0', "f", 0600, NULL, "a file again");
        layer_add(&l, '0', "gone", 0600, NULL, "x");
        layer_add(&l, '0', ".wh.gone", 0600, NULL, NULL);
        layer_add(&l, '5', "l", 0755, NULL, NULL);
        layer_add(&l, '0', "l/own", 0600, NULL, "x");
        show(t, &l);
        assert_int_equal(test_count_dir(test_mnt(t, "d")), 1);
        test_assert_text(test_mnt(t, "d/new"), "2");
        test_assert_text(test_mnt(t, "f"), "a file again");
        assert_false(seen(t, "gone"));
        assert_int_equal(lstat(test_mnt(t, "l"), &st), 0);
        assert_true(S_ISDIR(st.st_mode));
        assert_int_equal(test_count_dir(test_mnt(t, "l")), 1);
}

static void links_below_are_followed_and_copied_up(void **state)
{
        struct test_store *t = *state;
        struct layer l = { 0 };
        struct stat a, b;

        layer_add(&l, '0', "l/new", 0644, NULL, "new");       /* through the link of the base, to d */
        layer_add(&l, '1', "hard", 0644, "l/sub/deep", NULL); /* a file that lies below only */
        show(t, &l);
        test_assert_text(test_mnt(t, "d/new"), "new");
        assert_int_equal(lstat(test_mnt(t, "l"), &a), 0);
        assert_true(S_ISLNK(a.st_mode));
        test_assert_text(test_mnt(t, "hard"), "deep");
        assert_int_equal(stat(test_mnt(t, "hard"), &a), 0);
        assert_int_equal(stat(test_mnt(t, "d/sub/deep"), &b), 0);
        assert_int_equal(a.st_ino, b.st_ino);
        assert_int_equal(a.st_mtim.tv_sec, 1000000000);
        assert_int_equal(test_count_dir(test_mnt(t, "d")), 4);
}

/* TARGET of a hard link after an entry NAME of type FLAG: refused with a reason that holds WORDS. */
static void refuse_link(struct test_store *t, char flag, const char *name, const char *target, const char *words)
{
        struct layer l = { 0 };
        const char *why;

        layer_add(&l, flag, name, 0644, NULL, NULL);
        layer_add(&l, '1', "hard", 0644, target, NULL);
        layer_end(&l);
        test_prepare(t, STRATA_ACTIVE, "k", "base");
        assert_int_equal(layer_import(t, "k", l.tar.data, l.tar.len, 512, &why), -EINVAL);
        assert_non_null(strstr(why, words));
        assert_int_equal(strata_remove(t->s, STRATA_ACTIVE, "k", &why), 0);
        strata_buf_free(&l.tar);
}

static void hard_links_that_lead_nowhere(void **state)
{
        struct test_store *t = *state;

        make_base(t);
        refuse_link(t, '0', "other", "d/sub", "folder");
        refuse_link(t, '0', ".wh.f", "f", "nothing is there");
        refuse_link(t, '0', "d/.wh.sub", "d/sub/deep", "nothing is there");
        refuse_link(t, '0', ".wh..wh.plnk/1.2", ".wh..wh.plnk/3.4", "nothing is there");
        refuse_link(t, '0', ".wh..wh.plnk/1.2", ".wh..wh.plnk", "folder");
}

static void a_fifo_below_is_copied_up(void **state)
{
        struct test_store *t = *state;
        struct layer below = { 0 }, l = { 0 };
        struct stat a, b;

        layer_add(&below, '6', "p", 0640, NULL, NULL);
        layer_snapshot(t, "base", "", &below);
        layer_add(&l, '1', "hard", 0644, "p", NULL);
        layer_snapshot(t, "top", "base", &l);
        assert_int_equal(test_attach(t, STRATA_COMMITTED, "top"), 0);
        assert_int_equal(lstat(test_mnt(t, "hard"), &a), 0);
        assert_int_equal(lstat(test_mnt(t, "p"), &b), 0);
        assert_true(S_ISFIFO(a.st_mode));
        assert_int_equal(a.st_mode & 07777, 0640);
        assert_int_equal(a.st_ino, b.st_ino);
        assert_int_equal(a.st_mtim.tv_sec, 1000000000);
}

static void aufs_own_is_passed_over(void **state)
{
        struct test_store *t = *state;
        struct layer l = { 0 };

        layer_add(&l, '5', ".wh..wh.plnk", 0755, NULL, NULL);
        layer_add(&l, '0', ".wh..wh.plnk/1.2", 0644, NULL, "x");
        layer_add(&l, '0', ".wh..wh.plnk/.wh.x", 0644, NULL, "x");
        layer_add(&l, '0', ".wh..wh.plnk/d/x", 0644, NULL, "x");
        layer_add(&l, '5', ".wh..wh.plnk/e", 0755, NULL, NULL);
        layer_add(&l, '2', ".wh..wh.plnk/l", 0777, "/", NULL);
        layer_add(&l, '0', ".wh..wh.aufs", 0644, NULL, NULL);
        layer_add(&l, '0', "d/.wh..wh.plnk/x", 0644, NULL, NULL);
        show(t, &l);
        assert_int_equal(test_count_dir(test_mnt(t, "")), 4);
        assert_int_equal(test_count_dir(test_path(t, "layers/2/fs")), 0);
}

/* Files that AUFS keeps aside for hard links, small and large; the folder goes, their other names stay. */
static void aufs_hard_links_are_resolved(void **state)
{
        struct test_store *t = *state;
        cleanup_free char *large = calloc(1, 300001);
        struct layer l = { 0 };
        struct stat a, b, root;

        memset(large, 'x', 300000);
        layer_add(&l, '5', "./", 0755, NULL, NULL);
        layer_add(&l, '5', ".wh..wh.plnk", 0755, NULL, NULL);
        layer_add(&l, '0', ".wh..wh.plnk/1.2", 0640, NULL, "small");
        layer_add(&l, '0', "./.wh..wh.plnk/3.4", 0644, NULL, large);
        layer_add(&l, '0', ".wh..wh.plnk/unused", 0644, NULL, "x");
        layer_add(&l, '1', "one", 0644, ".wh..wh.plnk/1.2", NULL);
        layer_add(&l, '1', "d/two", 0644, "./.wh..wh.plnk/1.2", NULL);
        layer_add(&l, '1', "three", 0644, ".wh..wh.plnk/3.4", NULL);
        show(t, &l);
        test_assert_text(test_mnt(t, "one"), "small");
        test_assert_text(test_mnt(t, "three"), large);
        assert_int_equal(stat(test_mnt(t, "one"), &a), 0);
        assert_int_equal(stat(test_mnt(t, "d/two"), &b), 0);
        assert_int_equal(a.st_ino, b.st_ino);
        assert_int_equal(a.st_nlink, 2);
        assert_int_equal(a.st_mode & 07777, 0640);
        assert_int_equal(stat(test_mnt(t, "three"), &b), 0);
        assert_int_equal(b.st_nlink, 1);
        assert_int_equal(test_count_dir(test_path(t, "layers/2/fs")), 3);
        assert_int_equal(stat(test_mnt(t, ""), &root), 0);
        assert_int_equal(root.st_mtim.tv_sec, 1000000000);
}

#define TEST(f)                                                                                                        \
        cmocka_unit_test_setup_teardown(f, test_new_api_setup, test_mount_teardown),                                   \
                cmocka_unit_test_setup_teardown(f, test_old_api_setup, test_mount_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_whiteout_hides_only_what_it_names),
                TEST(an_opaque_mark_spares_its_siblings),
                TEST(an_opaque_root_hides_all),
                TEST(a_folder_over_a_whiteout_starts_empty),
                TEST(a_folder_over_a_folder_merges),
                TEST(later_entries_win),
                TEST(links_below_are_followed_and_copied_up),
                TEST(hard_links_that_lead_nowhere),
                TEST(a_fifo_below_is_copied_up),
                TEST(aufs_own_is_passed_over),
                TEST(aufs_hard_links_are_resolved),
        };

        return cmocka_run_group_tests_name("layer_merge", tests, test_private_mounts, NULL);
}
