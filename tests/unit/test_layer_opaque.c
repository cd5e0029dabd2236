/* SPDX-License-Identifier: Apache-2.0 */
/* Whiteouts in directories that hide what lies below: overlayfs lists them there and finds them not. */
#include "exportlib.h"
#include "layerlib.h"

#include "changes.h"
#include "util/cleanup.h"
#include "util/walk.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is listed but can't be looked at, and what is a device 0/0: neither may be. */
static int look(void *data, enum strata_walk_event event, int dirfd, const char *name)
{
        unsigned *names = data;
        struct stat st;

        if (event == STRATA_WALK_LEAVE)
                return 0;
        ++*names;
        if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                print_error("%s is listed, but not there\n", name);
        else if (!S_ISCHR(st.st_mode) || st.st_rdev)
                return 0;
        return -EUCLEAN;
}

/* All that is below the mount, or the layer's own PATH. */
static unsigned count(struct test_store *t, uint64_t id, const char *path)
{
        unsigned names = 0;

        assert_int_equal(strata_walk(AT_FDCWD, id ? export_own(t, id, path) : test_mnt(t, path), look, &names), 0);
        return names;
}

static void make_base(struct test_store *t)
{
        struct layer l = { 0 };

        layer_add(&l, '0', "b/c", 0644, NULL, "c");
        layer_add(&l, '0', "b/d/e", 0644, NULL, "e");
        layer_add(&l, '0', "b/d/f/g", 0644, NULL, "g");
        layer_add(&l, '0', "other", 0644, NULL, "other");
        layer_snapshot(t, "base", "", &l);
}

/* Imports NAMES, files of a layer and marks, as the active snapshot "k", and shows it. */
static uint64_t show(struct test_store *t, const char *const *names)
{
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "base");
        struct layer l = { 0 };

        for (; *names; names++)
                layer_add(&l, (*names)[strlen(*names) - 1] == '/' ? '5' : '0', *names, 0755, NULL, NULL);
        layer_end(&l);
        assert_int_equal(layer_import(t, "k", l.tar.data, l.tar.len, 512, NULL), 0);
        strata_buf_free(&l.tar);
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        return id;
}

#define NAMES(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void assert_changes(struct test_store *t, const char *expected)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        struct strata_info info = test_info(t, STRATA_ACTIVE, "k");

        assert_int_equal(strata_changes_get(t->s, &info, &buf), 0);
        assert_string_equal(buf.data, expected);
}

/* The paths in the archive of "k", but for the root. */
static void assert_archive(struct test_store *t, const char *expected)
{
        cleanup_buf struct strata_buf buf = export_layer(t, STRATA_ACTIVE, "k", 100000), got = STRATA_BUF_INIT;
        struct archive *a = export_open(&buf);
        struct archive_entry *e;

        while (archive_read_next_header(a, &e) == ARCHIVE_OK)
                if (strcmp(archive_entry_pathname(e), "./") != 0)
                        strata_buf_addf(&got, "%s ", archive_entry_pathname(e));
        archive_read_free(a);
        assert_string_equal(got.data, expected);
}

static void a_mark_takes_the_whiteouts_beside_it(void **state)
{
        struct test_store *t = *state;
        uint64_t id = show(t, (make_base(t), NAMES("b/.wh.c", "b/.wh..wh..opq", "b/new")));

        assert_int_equal(count(t, 0, "b"), 1);
        assert_int_equal(count(t, id, "b"), 1);
        assert_changes(t, "D /b/c\nD /b/d\nA /b/new\n");
        assert_archive(t, "b/ b/.wh..wh..opq b/new ");
        assert_int_equal(unlink(test_mnt(t, "b/new")), 0);
        assert_int_equal(rmdir(test_mnt(t, "b")), 0);
}

static void a_mark_takes_those_further_down(void **state)
{
        struct test_store *t = *state;
        uint64_t id = show(t, (make_base(t), NAMES("b/d/f/.wh.g", "b/d/.wh.e", "b/.wh..wh..opq")));

        assert_int_equal(count(t, 0, "b"), 2);
        assert_int_equal(count(t, id, "b"), 2);
        assert_changes(t, "D /b/c\nD /b/d/e\nD /b/d/f/g\n");
        assert_int_equal(rmdir(test_mnt(t, "b/d/f")), 0);
        assert_int_equal(rmdir(test_mnt(t, "b/d")), 0);
        assert_int_equal(rmdir(test_mnt(t, "b")), 0);
}

static void a_mark_in_the_root_takes_those_in_folders(void **state)
{
        struct test_store *t = *state;
        uint64_t id = show(t, (make_base(t), NAMES("b/.wh.c", "b/d/.wh.e", ".wh..wh..opq")));

        assert_int_equal(count(t, 0, ""), 2);
        assert_int_equal(count(t, id, "b"), 1);
        assert_changes(t, "D /b/c\nD /b/d/e\nD /b/d/f\nD /other\n");
        assert_int_equal(rmdir(test_mnt(t, "b/d")), 0);
        assert_int_equal(rmdir(test_mnt(t, "b")), 0);
}

static void marks_inside_of_marks(void **state)
{
        struct test_store *t = *state;
        uint64_t id = show(t, (make_base(t), NAMES("b/d/f/.wh.g", "b/d/f/.wh..wh..opq", "b/d/.wh.e", "b/.wh.c",
                                                   "b/.wh..wh..opq", "b/d/f/.wh..wh..opq", ".wh..wh..opq")));

        assert_int_equal(count(t, 0, ""), 3);
        assert_int_equal(count(t, id, "b"), 2);
        assert_archive(t, ".wh.other b/ b/.wh..wh..opq b/d/ b/d/f/ ");
}

static void no_whiteout_is_made_behind_a_mark(void **state)
{
        struct test_store *t = *state;
        uint64_t id = show(t, (make_base(t), NAMES("b/.wh..wh..opq", "b/.wh.c", "b/d/.wh.e", "b/d/f/.wh.g")));

        assert_int_equal(count(t, 0, "b"), 2);
        assert_int_equal(count(t, id, "b"), 2);
}

static void no_whiteout_is_made_in_what_replaces(void **state)
{
        struct test_store *t = *state;
        uint64_t id = show(t, (make_base(t), NAMES("b/.wh.d", "b/d/", "b/d/.wh.e", "b/d/f/.wh.g", "b/.wh..wh..opq")));

        assert_int_equal(count(t, 0, "b"), 2);
        assert_int_equal(count(t, id, "b"), 2);
}

/* A file in place of the folder with its whiteouts, and a folder in place of that. */
static void what_was_replaced_leaves_none(void **state)
{
        struct test_store *t = *state;
        uint64_t id = show(t, (make_base(t), NAMES("b/d/.wh.e", "b/d", "b/d/", "b/d/.wh.e", "b/d/f/.wh.g")));

        assert_int_equal(count(t, 0, "b/d"), 1);
        assert_int_equal(count(t, id, "b/d"), 1);
        assert_true(count(t, 0, "") > 0);
}

/* Taking a whiteout away is no change that an entry spoke of. */
static void times_stay(void **state)
{
        struct test_store *t = *state;
        struct stat st;

        make_base(t);
        show(t, NAMES("b/", "b/d/", "b/d/.wh.e", "b/.wh.c", "b/.wh..wh..opq"));
        assert_int_equal(stat(test_mnt(t, "b"), &st), 0);
        assert_int_equal(st.st_mtim.tv_sec, 1000000000);
        assert_int_equal(stat(test_mnt(t, "b/d"), &st), 0);
        assert_int_equal(st.st_mtim.tv_sec, 1000000000);
}

/* More directories than are kept open: those that are closed have their times already. */
static void many_folders(void **state)
{
        enum { FOLDERS = 300 };
        struct test_store *t = *state;
        struct layer base = { 0 }, l = { 0 };
        struct stat st;
        char name[64];

        for (unsigned i = 0; i < FOLDERS; i++) {
                snprintf(name, sizeof(name), "b/%u/x", i);
                layer_add(&base, '0', name, 0644, NULL, NULL);
                snprintf(name, sizeof(name), "b/%u", i);
                layer_add(&l, '5', name, 0755, NULL, NULL);
                snprintf(name, sizeof(name), "b/%u/.wh.x", i);
                layer_add(&l, '0', name, 0644, NULL, NULL);
        }
        layer_add(&l, '0', "b/.wh..wh..opq", 0644, NULL, NULL);
        layer_snapshot(t, "base", "", &base);
        layer_snapshot(t, "top", "base", &l);
        assert_int_equal(test_attach(t, STRATA_COMMITTED, "top"), 0);
        assert_int_equal(count(t, 0, ""), 1 + FOLDERS);
        for (unsigned i = 0; i < FOLDERS; i++) {
                snprintf(name, sizeof(name), "b/%u", i);
                assert_int_equal(stat(test_mnt(t, name), &st), 0);
                assert_int_equal(st.st_mtim.tv_sec, 1000000000);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_BOTH_APIS(a_mark_takes_the_whiteouts_beside_it),
                TEST_BOTH_APIS(a_mark_takes_those_further_down),
                TEST_BOTH_APIS(a_mark_in_the_root_takes_those_in_folders),
                TEST_BOTH_APIS(marks_inside_of_marks),
                TEST_BOTH_APIS(no_whiteout_is_made_behind_a_mark),
                TEST_BOTH_APIS(no_whiteout_is_made_in_what_replaces),
                TEST_BOTH_APIS(what_was_replaced_leaves_none),
                TEST_BOTH_APIS(times_stay),
                TEST_BOTH_APIS(many_folders),
        };

        return cmocka_run_group_tests_name("layer_opaque", tests, test_private_mounts, NULL);
}
