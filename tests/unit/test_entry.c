/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "entry.h"
#include "index.h"
#include "rename.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void kinds_have_their_words(void **state)
{
        (void)state;
        assert_string_equal(strata_kind_folder(STRATA_ACTIVE), "active");
        assert_string_equal(strata_kind_folder(STRATA_VIEW), "views");
        assert_string_equal(strata_kind_folder(STRATA_COMMITTED), "snapshots");
        assert_string_equal(strata_kind_word(STRATA_ACTIVE), "active");
        assert_string_equal(strata_kind_word(STRATA_VIEW), "view");
        assert_string_equal(strata_kind_word(STRATA_COMMITTED), "committed");
}

static void is_found_by_folder_and_name(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "same", ""), id;
        uint64_t active = test_prepare(t, STRATA_ACTIVE, "same", "same");

        assert_int_equal(strata_entry_find(t->s, STRATA_COMMITTED, "same", &id), 0);
        assert_int_equal(id, base);
        assert_int_equal(strata_entry_find(t->s, STRATA_ACTIVE, "same", &id), 0);
        assert_int_equal(id, active);
        id = 77;
        assert_int_equal(strata_entry_find(t->s, STRATA_VIEW, "same", &id), -ENOENT);
        assert_int_equal(strata_entry_find(t->s, STRATA_ACTIVE, "other", &id), -ENOENT);
        assert_int_equal(id, 77);
}

/* Whatever somebody put into the folders of the store by hand: no entry, no crash. */
static void what_is_no_link_of_ours_is_no_entry(void **state)
{
        struct test_store *t = *state;
        static const char *const targets[] = {
                "../layers/",
                "../layers/x",
                "../layers/0",
                "../layers/1/",
                "../layers/-1",
                "layers/1",
                "/etc",
                "x",
                "../layers/18446744073709551616",
                "../layers/00000000000000000000000000000000000000000000001",
        };
        struct strata_info info;
        uint64_t id = 77;

        test_prepare(t, STRATA_ACTIVE, "k", "");
        test_write(test_path(t, "active/file"), "x");
        assert_int_equal(mkdir(test_path(t, "active/dir"), 0700), 0);
        assert_int_equal(strata_entry_find(t->s, STRATA_ACTIVE, "file", &id), -ENOENT);
        assert_int_equal(strata_entry_find(t->s, STRATA_ACTIVE, "dir", &id), -ENOENT);
        for (size_t i = 0; i < COUNT(targets); i++) {
                assert_int_equal(symlink(targets[i], test_path(t, "active/link")), 0);
                assert_int_equal(strata_entry_get(t->s, STRATA_ACTIVE, "link", &info), -ENOENT);
                assert_int_equal(unlink(test_path(t, "active/link")), 0);
        }
        assert_int_equal(id, 77);
}

static void info_tells_all(void **state)
{
        struct test_store *t = *state;
        struct timespec before, after;
        struct strata_info base, top, found;

        clock_gettime(CLOCK_REALTIME, &before);
        test_snapshot(t, "base", "");
        test_prepare(t, STRATA_ACTIVE, "k", "base");
        test_commit(t, "k", "top");
        clock_gettime(CLOCK_REALTIME, &after);
        base = test_info(t, STRATA_COMMITTED, "base");
        top = test_info(t, STRATA_COMMITTED, "top");
        assert_int_equal(base.parent, 0);
        assert_int_equal(base.depth, 1);
        assert_int_equal(top.parent, base.id);
        assert_int_equal(top.depth, 2);
        assert_int_equal(top.kind, STRATA_COMMITTED);
        assert_string_equal(top.name, "top");
        assert_true(top.created.tv_sec >= before.tv_sec && top.committed.tv_sec <= after.tv_sec);
        assert_memory_equal(&top.committed, &top.updated, sizeof(top.updated));
        assert_int_equal(strata_entry_info(t->s, top.id, &found), 0);
        assert_memory_equal(&found, &top, sizeof(found));
        assert_int_equal(strata_entry_parent(t->s, &top, &found), 0);
        assert_int_equal(found.id, base.id);
        found.id = 77;
        assert_int_equal(strata_entry_parent(t->s, &base, &found), -ENOENT);
        assert_int_equal(strata_entry_info(t->s, 12345, &found), -ENOENT);
        assert_int_equal(found.id, 77);
}

static void only_committed_ones_have_a_commit_time(void **state)
{
        struct test_store *t = *state;

        test_snapshot(t, "base", "");
        test_prepare(t, STRATA_ACTIVE, "a", "base");
        test_prepare(t, STRATA_VIEW, "v", "base");
        assert_true(test_info(t, STRATA_COMMITTED, "base").committed.tv_sec > 0);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "a").committed.tv_sec, 0);
        assert_int_equal(test_info(t, STRATA_VIEW, "v").committed.tv_sec, 0);
}

/* The same answers from the cache, without it, and after a new start. */
static void the_cache_changes_nothing(void **state)
{
        struct test_store *t = *state;
        struct strata_info first, again;

        test_snapshot(t, "base", "");
        first = test_info(t, STRATA_COMMITTED, "base");
        again = test_info(t, STRATA_COMMITTED, "base");
        assert_memory_equal(&first, &again, sizeof(first));
        strata_index_drop(t->s->index, first.id);
        again = test_info(t, STRATA_COMMITTED, "base");
        assert_memory_equal(&first, &again, sizeof(first));
        test_store_reopen(t);
        again = test_info(t, STRATA_COMMITTED, "base");
        assert_memory_equal(&first, &again, sizeof(first));
}

static void a_damaged_record_is_told(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct strata_info info = { .id = 77 };

        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/meta", id), 50), 0);
        strata_index_drop(t->s->index, id);
        assert_int_equal(strata_entry_info(t->s, id, &info), -EUCLEAN);
        assert_int_equal(strata_entry_get(t->s, STRATA_ACTIVE, "k", &info), -EUCLEAN);
        assert_int_equal(info.id, 77);
}

static void a_link_that_its_layer_does_not_know_is_no_entry(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct strata_info info;
        char target[64];

        snprintf(target, sizeof(target), "../layers/%" PRIu64, id);
        assert_int_equal(symlink(target, test_path(t, "active/second")), 0);
        assert_int_equal(strata_entry_get(t->s, STRATA_ACTIVE, "second", &info), -ENOENT);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "k").id, id);
}

static void children_ascend(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", ""), expected[40], *ids = NULL;
        size_t n = 99;

        assert_int_equal(strata_entry_children(t->s, base, &ids, &n), 0);
        assert_int_equal(n, 0);
        free(ids);
        assert_int_equal(strata_entry_has_children(t->s, base), 0);
        for (size_t i = 0; i < COUNT(expected); i++) {
                char name[16];

                snprintf(name, sizeof(name), "k%zu", i);
                expected[i] = test_prepare(t, i % 2 ? STRATA_VIEW : STRATA_ACTIVE, name, "base");
        }
        test_commit(t, "k0", "done"); /* still a child */
        assert_int_equal(strata_entry_children(t->s, base, &ids, &n), 0);
        assert_int_equal(n, COUNT(expected));
        assert_memory_equal(ids, expected, sizeof(expected));
        free(ids);
        assert_int_equal(strata_entry_has_children(t->s, base), 1);
        assert_int_equal(strata_entry_has_children(t->s, expected[0]), 0);
}

/* Marks that a crash left: of a layer that is not there, of one that stands on another, and no number at all. */
static void marks_alone_make_no_children(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", ""), other = test_prepare(t, STRATA_ACTIVE, "other", ""), *ids;
        size_t n;

        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/children", base), 0700), 0);
        test_write(test_path(t, "layers/%" PRIu64 "/children/4000", base), "");
        test_write(test_path(t, "layers/%" PRIu64 "/children/%" PRIu64, base, other), "");
        test_write(test_path(t, "layers/%" PRIu64 "/children/x", base), "");
        assert_int_equal(strata_entry_has_children(t->s, base), 0);
        assert_int_equal(strata_entry_children(t->s, base, &ids, &n), 0);
        assert_int_equal(n, 0);
        free(ids);
}

static void a_damaged_child_is_still_one(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", ""), child = test_prepare(t, STRATA_ACTIVE, "k", "base");

        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/meta", child), 50), 0);
        strata_index_drop(t->s->index, child);
        assert_int_equal(strata_entry_has_children(t->s, base), 1);
}

static void touch_sets_the_time(void **state)
{
        struct test_store *t = *state;
        struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } }, now;
        struct strata_info info;
        struct stat st;

        test_prepare(t, STRATA_ACTIVE, "k", "");
        assert_int_equal(utimensat(AT_FDCWD, test_path(t, "active/k"), old, AT_SYMLINK_NOFOLLOW), 0);
        strata_index_drop(t->s->index, 1);
        info = test_info(t, STRATA_ACTIVE, "k");
        assert_int_equal(info.updated.tv_sec, 1000);
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
        assert_int_equal(strata_entry_touch(t->s, &info), 0);
        info = test_info(t, STRATA_ACTIVE, "k"); /* not from the cache */
        assert_true(info.updated.tv_sec >= now.tv_sec);
        assert_int_equal(lstat(test_path(t, "active/k"), &st), 0);
        assert_memory_equal(&st.st_mtim, &info.updated, sizeof(st.st_mtim));
        strcpy(info.name, "gone");
        assert_int_equal(strata_entry_touch(t->s, &info), -ENOENT);
}

static void counts_each_kind(void **state)
{
        struct test_store *t = *state;
        uint64_t n = 77;

        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                assert_int_equal(strata_entry_count(t->s, kind, &n), 0);
                assert_int_equal(n, 0);
        }
        test_snapshot(t, "base", "");
        test_prepare(t, STRATA_ACTIVE, "a", "base");
        test_prepare(t, STRATA_ACTIVE, "b", "base");
        test_prepare(t, STRATA_VIEW, "c", "base");
        assert_int_equal(strata_entry_count(t->s, STRATA_ACTIVE, &n), 0);
        assert_int_equal(n, 2);
        assert_int_equal(strata_entry_count(t->s, STRATA_VIEW, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(strata_entry_count(t->s, STRATA_COMMITTED, &n), 0);
        assert_int_equal(n, 1);
}

static void more_entries_than_the_cache_holds(void **state)
{
        struct test_store *t = *state;
        enum { N = STRATA_INDEX_MAX + 300 };
        char name[16];

        for (int i = 0; i < N; i++) {
                snprintf(name, sizeof(name), "k%d", i);
                test_prepare(t, STRATA_ACTIVE, name, "");
        }
        for (int round = 0; round < 2; round++) {
                for (int i = 0; i < N; i++) {
                        snprintf(name, sizeof(name), "k%d", i);
                        assert_int_equal(test_info(t, STRATA_ACTIVE, name).id, i + 1);
                }
                assert_int_equal(strata_index_size(t->s->index), STRATA_INDEX_MAX);
        }
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(kinds_have_their_words),
                STORE_TEST(is_found_by_folder_and_name),
                STORE_TEST(what_is_no_link_of_ours_is_no_entry),
                STORE_TEST(info_tells_all),
                STORE_TEST(only_committed_ones_have_a_commit_time),
                STORE_TEST(the_cache_changes_nothing),
                STORE_TEST(a_damaged_record_is_told),
                STORE_TEST(a_link_that_its_layer_does_not_know_is_no_entry),
                STORE_TEST(children_ascend),
                STORE_TEST(marks_alone_make_no_children),
                STORE_TEST(a_damaged_child_is_still_one),
                STORE_TEST(touch_sets_the_time),
                STORE_TEST(counts_each_kind),
                STORE_TEST(more_entries_than_the_cache_holds),
        };

        return cmocka_run_group_tests_name("entry", tests, NULL, NULL);
}
