/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "index.h"
#include "link.h"
#include "remove.h"
#include "trash.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void assert_refused(struct test_store *t, enum strata_kind kind, const char *name, int error, bool has_reason)
{
        char *before = test_state(t);
        const char *why = "stale";

        assert_int_equal(strata_remove(t->s, kind, name, &why), error);
        if (has_reason)
                assert_non_null(why);
        if (why)
                assert_string_not_equal(why, "stale");
        test_assert_state(t, before);
}

static void remove_ok(struct test_store *t, enum strata_kind kind, const char *name)
{
        const char *why = "stale";

        assert_int_equal(strata_remove(t->s, kind, name, &why), 0);
        assert_null(why);
        assert_null(t->s->ops);
}

/* Removing is the exact reverse of making, whatever the kind. */
static void leaves_no_trace(void **state)
{
        struct test_store *t = *state;

        uint64_t base = test_snapshot(t, "base", "");

        test_prepare(t, STRATA_ACTIVE, "first", "base"); /* makes children/ */
        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                for (int child = 0; child < 2; child++) {
                        char *before = test_state(t);
                        uint64_t id;
                        struct strata_info info;

                        if (kind == STRATA_COMMITTED)
                                id = test_snapshot(t, "x", child ? "base" : "");
                        else
                                id = test_prepare(t, kind, "x", child ? "base" : "");
                        remove_ok(t, kind, "x");
                        test_assert_state(t, before);
                        assert_int_equal(strata_entry_info(t->s, id, &info), -ENOENT);
                        assert_int_equal(strata_entry_get(t->s, kind, "x", &info), -ENOENT);
                        assert_true(test_exists(t, "trash/%" PRIu64, id));
                }
        }
        assert_int_equal(strata_trash_pending(t->s), 6);
        assert_int_equal(strata_trash_empty(t->s), 0);
        assert_int_equal(test_count_dir(test_path(t, "layers")), 2);
        assert_int_equal(strata_entry_has_children(t->s, base), 1);
}

static void what_is_not_there(void **state)
{
        struct test_store *t = *state;

        test_snapshot(t, "s", "");
        test_prepare(t, STRATA_ACTIVE, "a", "");
        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                assert_refused(t, kind, "none", -ENOENT, false);
                assert_refused(t, kind, "", -ENOENT, false);
                assert_refused(t, kind, "..", -ENOENT, false);
                assert_refused(t, kind, "../snapshots/s", -ENOENT, false);
        }
        assert_refused(t, STRATA_VIEW, "a", -ENOENT, false);
        assert_refused(t, STRATA_ACTIVE, "s", -ENOENT, false);
        assert_refused(t, STRATA_COMMITTED, "a", -ENOENT, false);
        remove_ok(t, STRATA_ACTIVE, "a");
        assert_refused(t, STRATA_ACTIVE, "a", -ENOENT, false);
}

static void a_snapshot_with_children_stays(void **state)
{
        struct test_store *t = *state;

        test_snapshot(t, "base", "");
        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                if (kind == STRATA_COMMITTED)
                        test_snapshot(t, "x", "base");
                else
                        test_prepare(t, kind, "x", "base");
                assert_refused(t, STRATA_COMMITTED, "base", -ENOTEMPTY, true);
                remove_ok(t, kind, "x");
        }
        remove_ok(t, STRATA_COMMITTED, "base");
}

/* It is no snapshot: its commit was taken back after somebody had prepared on it, as earlier versions let them. */
static void any_parent_stays(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_snapshot(t, "n", "");
        const char *why;

        test_prepare(t, STRATA_VIEW, "v", "n");
        assert_int_equal(rename(test_path(t, "snapshots/n"), test_path(t, "active/n")), 0);
        strata_index_drop(t->s->index, id);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "n").id, id);
        assert_refused(t, STRATA_ACTIVE, "n", -ENOTEMPTY, true);
        assert_int_equal(strata_remove(t->s, STRATA_VIEW, "v", &why), 0);
        assert_int_equal(strata_remove(t->s, STRATA_ACTIVE, "n", &why), 0);
}

static void a_damaged_child_keeps_its_parent(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", ""), child = test_prepare(t, STRATA_ACTIVE, "k", "base");

        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/meta", child), 40), 0);
        strata_index_drop(t->s->index, child);
        assert_refused(t, STRATA_COMMITTED, "base", -ENOTEMPTY, true);
        /* It can be removed itself, and then its parent can. */
        remove_ok(t, STRATA_ACTIVE, "k");
        assert_false(test_exists(t, "layers/%" PRIu64, child));
        remove_ok(t, STRATA_COMMITTED, "base");
        assert_false(test_exists(t, "layers/%" PRIu64, base));
}

static void a_damaged_snapshot_with_children_stays(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", "");

        test_prepare(t, STRATA_ACTIVE, "k", "base");
        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/meta", base), 40), 0);
        strata_index_drop(t->s->index, base);
        assert_refused(t, STRATA_COMMITTED, "base", -ENOTEMPTY, true);
        remove_ok(t, STRATA_ACTIVE, "k");
        remove_ok(t, STRATA_COMMITTED, "base");
}

static void another_mover_is_not_waited_for(void **state)
{
        struct test_store *t = *state;
        struct strata_op op;

        test_prepare(t, STRATA_ACTIVE, "a", "");
        assert_int_equal(strata_op_begin(t->s, &op, test_info(t, STRATA_ACTIVE, "a").id), 0);
        assert_refused(t, STRATA_ACTIVE, "a", -EBUSY, false);
        strata_op_end(t->s, &op);
        remove_ok(t, STRATA_ACTIVE, "a");
}

/* It is gone all the same: what is left over is swept at the next start. */
static void a_layer_that_cannot_go_to_trash(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");
        struct strata_info info;

        assert_int_equal(mkdir(test_path(t, "trash/%" PRIu64, id), 0700), 0);
        test_write(test_path(t, "trash/%" PRIu64 "/in-the-way", id), "");
        remove_ok(t, STRATA_ACTIVE, "a");
        assert_int_equal(strata_entry_get(t->s, STRATA_ACTIVE, "a", &info), -ENOENT);
        assert_int_equal(strata_entry_info(t->s, id, &info), -ENOENT);
        test_prepare(t, STRATA_ACTIVE, "a", "");
}

static int remove_in_thread(void *data)
{
        const char *why;

        return strata_remove(data, STRATA_ACTIVE, "a", &why);
}

/* Between the first look and the step the name went to another entry: the one that has it now goes, or none, but never
 * parts of both. */
/* The parent's mark can't be taken away: the entry is gone all the same, and the next start sweeps. */
static void a_mark_that_stays(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", ""), id = test_prepare(t, STRATA_ACTIVE, "k", "base");

        assert_int_equal(unlink(test_path(t, "layers/%" PRIu64 "/children/%" PRIu64, base, id)), 0);
        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/children/%" PRIu64, base, id), 0700), 0);
        remove_ok(t, STRATA_ACTIVE, "k");
        assert_true(t->s->rubbish);
}

static void a_name_that_changed_hands_is_seen(void **state)
{
        struct test_store *t = *state;
        uint64_t a = test_prepare(t, STRATA_ACTIVE, "a", ""), other = test_prepare(t, STRATA_ACTIVE, "other", "");
        struct test_thread *thread;
        int r;

        pthread_mutex_lock(&t->s->names);
        thread = test_thread_start(remove_in_thread, t->s);
        test_rename_by_hand(t, STRATA_ACTIVE, a, "a", "moved");
        test_rename_by_hand(t, STRATA_ACTIVE, other, "other", "a");
        pthread_mutex_unlock(&t->s->names);
        r = test_thread_end(thread);
        for (int crash = 0; crash < 2; crash++) {
                assert_int_equal(test_info(t, STRATA_ACTIVE, "moved").id, a);
                assert_true(test_exists(t, "layers/%" PRIu64 "/fs", a));
                if (r < 0)
                        assert_int_equal(test_info(t, STRATA_ACTIVE, "a").id, other);
                assert_int_equal(test_count_dir(test_path(t, "active")), r < 0 ? 2 : 1);
                assert_int_equal(test_count_dir(test_path(t, "layers")), r < 0 ? 2 : 1);
                test_store_crash(t);
        }
}

static int remove_base_in_thread(void *data)
{
        const char *why;

        return strata_remove(data, STRATA_COMMITTED, "base", &why);
}

/* A child that comes in between keeps its parent. */
static void a_child_prepared_meanwhile_is_seen(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", ""), child = test_prepare(t, STRATA_ACTIVE, "k", "base");
        struct test_thread *thread;
        const char *why;

        /* Taken apart, to be put together again while the removal waits. */
        assert_int_equal(rename(test_path(t, "active/k"), test_path(t, "link")), 0);
        assert_int_equal(unlink(test_path(t, "layers/%" PRIu64 "/children/%" PRIu64, base, child)), 0);
        strata_index_drop(t->s->index, child);
        pthread_mutex_lock(&t->s->names);
        thread = test_thread_start(remove_base_in_thread, t->s);
        test_write(test_path(t, "layers/%" PRIu64 "/children/%" PRIu64, base, child), "");
        assert_int_equal(rename(test_path(t, "link"), test_path(t, "active/k")), 0);
        pthread_mutex_unlock(&t->s->names);
        assert_int_equal(test_thread_end(thread), -ENOTEMPTY);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "base").id, base);
        assert_int_equal(strata_remove(t->s, STRATA_ACTIVE, "k", &why), 0);
        assert_int_equal(strata_remove(t->s, STRATA_COMMITTED, "base", &why), 0);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(leaves_no_trace),
                STORE_TEST(what_is_not_there),
                STORE_TEST(a_snapshot_with_children_stays),
                STORE_TEST(any_parent_stays),
                STORE_TEST(a_damaged_child_keeps_its_parent),
                STORE_TEST(a_damaged_snapshot_with_children_stays),
                STORE_TEST(another_mover_is_not_waited_for),
                STORE_TEST(a_layer_that_cannot_go_to_trash),
                STORE_TEST(a_mark_that_stays),
                STORE_TEST(a_name_that_changed_hands_is_seen),
                STORE_TEST(a_child_prepared_meanwhile_is_seen),
        };

        return cmocka_run_group_tests_name("remove", tests, NULL, NULL);
}
