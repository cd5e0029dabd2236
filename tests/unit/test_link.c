/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "index.h"
#include "link.h"
#include "rename.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void an_entry_has_one_mover_at_a_time(void **state)
{
        struct test_store *t = *state;
        struct strata_op a, b, c;

        assert_int_equal(strata_op_begin(t->s, &a, 1), 0);
        assert_int_equal(strata_op_begin(t->s, &b, 1), -EBUSY);
        assert_int_equal(strata_op_begin(t->s, &b, 2), 0);
        assert_int_equal(strata_op_begin(t->s, &c, 3), 0);
        strata_op_end(t->s, &b); /* from the middle */
        assert_int_equal(strata_op_begin(t->s, &b, 1), -EBUSY);
        assert_int_equal(strata_op_begin(t->s, &b, 3), -EBUSY);
        assert_int_equal(strata_op_begin(t->s, &b, 2), 0);
        strata_op_end(t->s, &a);
        assert_int_equal(strata_op_begin(t->s, &a, 1), 0);
        strata_op_end(t->s, &a);
        strata_op_end(t->s, &b);
        strata_op_end(t->s, &c);
        assert_null(t->s->ops);
}

static void check_free_knows_where_names_are_unique(void **state)
{
        struct test_store *t = *state;
        const char *why = NULL;

        test_snapshot(t, "s", "");
        test_prepare(t, STRATA_ACTIVE, "a", "");
        test_prepare(t, STRATA_VIEW, "v", "");
        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                bool snapshots = kind == STRATA_COMMITTED;

                assert_int_equal(strata_link_check_free(t->s, kind, "none", &why), 0);
                assert_null(why);
                assert_int_equal(strata_link_check_free(t->s, kind, "s", &why), snapshots ? -EEXIST : 0);
                assert_int_equal(strata_link_check_free(t->s, kind, "a", &why), snapshots ? 0 : -EEXIST);
                assert_int_equal(strata_link_check_free(t->s, kind, "v", &why), snapshots ? 0 : -EEXIST);
                assert_non_null(why);
                why = NULL;
        }
}

/* Of what can't be looked at it is not known whether it is free. */
static void check_free_needs_to_know(void **state)
{
        struct test_store *t = *state;
        int views = t->s->kind_fd[STRATA_VIEW], r;
        const char *why = NULL;

        t->s->kind_fd[STRATA_VIEW] = open(test_path(t, "format"), O_RDONLY | O_CLOEXEC);
        r = strata_link_check_free(t->s, STRATA_ACTIVE, "k", &why);
        close(t->s->kind_fd[STRATA_VIEW]);
        t->s->kind_fd[STRATA_VIEW] = views;
        assert_int_equal(r, -ENOTDIR);
}

static struct strata_record staged_move(struct test_store *t, const struct strata_info *info, enum strata_kind to,
                                        const char *name)
{
        struct strata_record rec;

        assert_int_equal(strata_link_record(t->s, info, to, name, &rec), 0);
        assert_int_equal(rec.id, info->id);
        assert_string_equal(rec.was.name, info->name);
        assert_string_equal(rec.now.name, name);
        assert_int_equal(strata_record_stage(t->s, &rec, false), 0);
        return rec;
}

static void moves_the_link_and_the_record(void **state)
{
        struct test_store *t = *state;
        const char *why = NULL;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");
        struct strata_info info = test_info(t, STRATA_ACTIVE, "a");
        struct strata_record rec = staged_move(t, &info, STRATA_COMMITTED, "n");

        assert_int_equal(strata_link_move(t->s, &rec, &why), 0);
        assert_null(why);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "n").id, id);
        assert_false(test_exists(t, "active/a"));
        assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", id));
}

static void never_replaces(void **state)
{
        struct test_store *t = *state;
        const char *why = NULL;
        uint64_t a = test_prepare(t, STRATA_ACTIVE, "a", ""), n = test_snapshot(t, "n", "");
        struct strata_info info = test_info(t, STRATA_ACTIVE, "a");
        char *before = test_state(t);
        struct strata_record rec = staged_move(t, &info, STRATA_COMMITTED, "n");

        assert_int_equal(strata_link_move(t->s, &rec, &why), -EEXIST);
        assert_non_null(why);
        test_assert_state(t, before);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "a").id, a);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "n").id, n);
}

/* Nor what is in the way without being an entry: a file that somebody put there. */
static void never_replaces_strange_files(void **state)
{
        struct test_store *t = *state;
        const char *why = NULL;
        uint64_t a = test_prepare(t, STRATA_ACTIVE, "a", "");
        struct strata_info info = test_info(t, STRATA_ACTIVE, "a");
        struct strata_record rec = staged_move(t, &info, STRATA_COMMITTED, "n");
        char *text;

        test_write(test_path(t, "snapshots/n"), "strange");
        assert_int_equal(strata_link_move(t->s, &rec, &why), -EEXIST);
        text = test_read(test_path(t, "snapshots/n"));
        assert_string_equal(text, "strange");
        free(text);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "a").id, a);
}

static void moves_nothing_without_a_staged_record(void **state)
{
        struct test_store *t = *state;
        const char *why = NULL;
        uint64_t a = test_prepare(t, STRATA_ACTIVE, "a", "");
        struct strata_info info = test_info(t, STRATA_ACTIVE, "a");
        struct strata_record rec;

        assert_int_equal(strata_link_record(t->s, &info, STRATA_ACTIVE, "b", &rec), 0);
        assert_int_equal(strata_link_move(t->s, &rec, &why), -ENOENT);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "a").id, a);
}

/* The step itself fails when the record is in place already: the entry stays what it was. */
static void a_failed_step_leaves_the_entry(void **state)
{
        struct test_store *t = *state;
        const char *why = NULL;
        uint64_t a = test_prepare(t, STRATA_ACTIVE, "a", "");
        struct strata_info info = test_info(t, STRATA_ACTIVE, "a"), now;
        struct strata_record rec = staged_move(t, &info, STRATA_COMMITTED, "n");
        int snapshots = t->s->kind_fd[STRATA_COMMITTED];

        assert_int_equal(mkdir(test_path(t, "gone"), 0700), 0);
        t->s->kind_fd[STRATA_COMMITTED] = open(test_path(t, "gone"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(rmdir(test_path(t, "gone")), 0);
        assert_int_equal(strata_link_move(t->s, &rec, &why), -ENOENT); /* nothing can be made in there */
        close(t->s->kind_fd[STRATA_COMMITTED]);
        t->s->kind_fd[STRATA_COMMITTED] = snapshots;
        now = test_info(t, STRATA_ACTIVE, "a");
        assert_memory_equal(&now, &info, sizeof(now));
        assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", a));
        /* And it can be moved later on, the same way or another. */
        rec = staged_move(t, &info, STRATA_ACTIVE, "b");
        assert_int_equal(strata_link_move(t->s, &rec, &why), 0);
        test_store_reopen(t);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "b").id, a);
}

/* An fd that can be renamed in but not synced: the step is done, and not known to be on the disk. */
static void goes_back_when_the_step_cannot_be_synced(void **state)
{
        struct test_store *t = *state;

        const char *why = NULL;
        uint64_t a = test_prepare(t, STRATA_ACTIVE, "a", "");
        struct strata_info info = test_info(t, STRATA_ACTIVE, "a"), now;
        struct strata_record rec = staged_move(t, &info, STRATA_COMMITTED, "n");
        int real = t->s->kind_fd[STRATA_COMMITTED];

        t->s->config.durable = true;
        t->s->kind_fd[STRATA_COMMITTED] = open(test_path(t, "snapshots"), O_PATH | O_CLOEXEC);
        assert_int_equal(strata_link_move(t->s, &rec, &why), -EBADF);
        close(t->s->kind_fd[STRATA_COMMITTED]);
        t->s->kind_fd[STRATA_COMMITTED] = real;
        now = test_info(t, STRATA_ACTIVE, "a");
        assert_memory_equal(&now, &info, sizeof(now));
        assert_int_equal(now.id, a);
        assert_int_equal(test_count_dir(test_path(t, "snapshots")), 0);
}

/* Another mover came first, between the look at the entry and the step: what is known of it is old. */
static void a_move_from_where_the_entry_no_longer_is_harms_nothing(void **state)
{
        struct test_store *t = *state;
        const char *why = NULL;
        uint64_t a = test_prepare(t, STRATA_ACTIVE, "a", "");
        struct strata_info info = test_info(t, STRATA_ACTIVE, "a");
        struct strata_record rec;

        assert_int_equal(strata_rename(t->s, STRATA_ACTIVE, "a", "moved", &why), 0);
        test_prepare(t, STRATA_ACTIVE, "a", ""); /* another one of that name */
        rec = staged_move(t, &info, STRATA_COMMITTED, "n");
        assert_int_equal(strata_link_move(t->s, &rec, &why), -ENOENT);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "moved").id, a);
        assert_int_not_equal(test_info(t, STRATA_ACTIVE, "a").id, a);
        test_store_crash(t);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "moved").id, a);
}

/* The record is made from what is known of the entry, so a move mends it. */
static void a_move_writes_the_record_anew(void **state)
{
        struct test_store *t = *state;
        uint64_t a = test_prepare(t, STRATA_ACTIVE, "a", "");
        struct strata_info info = test_info(t, STRATA_ACTIVE, "a"), moved;
        struct strata_record rec;
        const char *why = NULL;

        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/meta", a), 50), 0);
        assert_int_equal(strata_record_load(t->s, a, &rec), -EUCLEAN);
        rec = staged_move(t, &info, STRATA_ACTIVE, "b");
        assert_int_equal(strata_link_move(t->s, &rec, &why), 0);
        test_store_crash(t);
        moved = test_info(t, STRATA_ACTIVE, "b");
        assert_int_equal(moved.id, a);
        assert_int_equal(moved.depth, info.depth);
        assert_int_equal(moved.created.tv_nsec, info.created.tv_nsec);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(an_entry_has_one_mover_at_a_time),
                STORE_TEST(check_free_knows_where_names_are_unique),
                STORE_TEST(check_free_needs_to_know),
                STORE_TEST(moves_the_link_and_the_record),
                STORE_TEST(never_replaces),
                STORE_TEST(never_replaces_strange_files),
                STORE_TEST(moves_nothing_without_a_staged_record),
                STORE_TEST(a_failed_step_leaves_the_entry),
                STORE_TEST(goes_back_when_the_step_cannot_be_synced),
                STORE_TEST(a_move_from_where_the_entry_no_longer_is_harms_nothing),
                STORE_TEST(a_move_writes_the_record_anew),
        };

        return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
