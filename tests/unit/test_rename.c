/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "index.h"
#include "link.h"
#include "remove.h"
#include "rename.h"
#include "util/cleanup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef int (*rename_fn)(struct strata *s, enum strata_kind kind, const char *a, const char *b, const char **why);

static void assert_refused(struct test_store *t, rename_fn fn, enum strata_kind kind, const char *old, const char *new,
                           int error, bool has_reason)
{
        char *before = test_state(t);
        const char *why = "stale";

        assert_int_equal(fn(t->s, kind, old, new, &why), error);
        if (has_reason)
                assert_non_null(why);
        if (why)
                assert_string_not_equal(why, "stale");
        test_assert_state(t, before);
        assert_null(t->s->ops);
}

/* One entry of each kind, called "old". */
static void make_each_kind(struct test_store *t)
{
        test_snapshot(t, "old", "");
        test_prepare(t, STRATA_ACTIVE, "old", "old");
        test_prepare(t, STRATA_VIEW, "oldview", "old");
}

static const char *old_name(int kind)
{
        return kind == STRATA_VIEW ? "oldview" : "old";
}

static void gives_another_name(void **state)
{
        struct test_store *t = *state;

        make_each_kind(t);
        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                static const char *const new[] = { "new", "newview", "newsnapshot" };
                struct strata_info before = test_info(t, kind, old_name(kind)), after;
                const char *why = "stale";

                t->s->config.durable = kind != STRATA_VIEW;
                assert_int_equal(strata_rename(t->s, kind, old_name(kind), new[kind], &why), 0);
                assert_null(why);
                for (int crash = 0; crash < 2; crash++) {
                        after = test_info(t, kind, new[kind]);
                        assert_int_equal(after.id, before.id);
                        assert_int_equal(after.parent, before.parent);
                        assert_memory_equal(&after.created, &before.created, sizeof(after.created));
                        assert_memory_equal(&after.updated, &before.updated, sizeof(after.updated));
                        assert_memory_equal(&after.committed, &before.committed, sizeof(after.committed));
                        assert_false(test_exists(t, "%s/%s", strata_kind_folder(kind), old_name(kind)));
                        test_store_crash(t);
                }
        }
}

static void children_follow(void **state)
{
        struct test_store *t = *state;
        const char *why;
        uint64_t base = test_snapshot(t, "base", ""), child = test_prepare(t, STRATA_ACTIVE, "k", "base"), *ids;
        struct strata_info info, parent;
        size_t n;

        assert_int_equal(strata_rename(t->s, STRATA_COMMITTED, "base", "ground", &why), 0);
        info = test_info(t, STRATA_ACTIVE, "k");
        assert_int_equal(strata_entry_parent(t->s, &info, &parent), 0);
        assert_string_equal(parent.name, "ground");
        assert_int_equal(strata_entry_children(t->s, base, &ids, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(ids[0], child);
        free(ids);
}

static void to_the_same_name_does_nothing(void **state)
{
        struct test_store *t = *state;

        make_each_kind(t);
        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                assert_refused(t, strata_rename, kind, old_name(kind), old_name(kind), 0, false);
                assert_refused(t, strata_exchange, kind, old_name(kind), old_name(kind), 0, false);
                assert_refused(t, strata_rename, kind, "none", "none", -ENOENT, false);
                assert_refused(t, strata_exchange, kind, "none", "none", -ENOENT, false);
        }
}

static void bad_names(void **state)
{
        struct test_store *t = *state;
        static const char *const bad[] = { "", "..", ".n", "a/b", "a@b", "a\x01" };
        char longest[STRATA_NAME_MAX + 2];

        make_each_kind(t);
        memset(longest, 'n', sizeof(longest));
        longest[STRATA_NAME_MAX + 1] = '\0';
        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                for (size_t i = 0; i < COUNT(bad); i++)
                        assert_refused(t, strata_rename, kind, old_name(kind), bad[i], -EINVAL, true);
                assert_refused(t, strata_rename, kind, old_name(kind), longest, -ENAMETOOLONG, true);
                assert_refused(t, strata_rename, kind, "none", "new", -ENOENT, false);
        }
}

static void nothing_is_replaced(void **state)
{
        struct test_store *t = *state;
        const char *why;

        make_each_kind(t);
        test_snapshot(t, "s2", "");
        test_prepare(t, STRATA_ACTIVE, "a2", "");
        test_prepare(t, STRATA_VIEW, "v2", "");
        assert_refused(t, strata_rename, STRATA_COMMITTED, "old", "s2", -EEXIST, true);
        /* KEYs are unique over both folders. */
        assert_refused(t, strata_rename, STRATA_ACTIVE, "old", "a2", -EEXIST, true);
        assert_refused(t, strata_rename, STRATA_ACTIVE, "old", "v2", -EEXIST, true);
        assert_refused(t, strata_rename, STRATA_VIEW, "oldview", "a2", -EEXIST, true);
        assert_refused(t, strata_rename, STRATA_VIEW, "oldview", "v2", -EEXIST, true);
        assert_int_equal(strata_rename(t->s, STRATA_ACTIVE, "old", "s2", &why), 0);
}

static void another_mover_is_not_waited_for(void **state)
{
        struct test_store *t = *state;
        struct strata_op op;

        test_prepare(t, STRATA_ACTIVE, "a", "");
        test_prepare(t, STRATA_ACTIVE, "b", "");
        assert_int_equal(strata_op_begin(t->s, &op, test_info(t, STRATA_ACTIVE, "b").id), 0);
        for (int i = 0; i < 3; i++) {
                char *before = test_state(t);
                const char *why;

                assert_int_equal(i == 0   ? strata_rename(t->s, STRATA_ACTIVE, "b", "c", &why)
                                 : i == 1 ? strata_exchange(t->s, STRATA_ACTIVE, "a", "b", &why)
                                          : strata_exchange(t->s, STRATA_ACTIVE, "b", "a", &why),
                                 -EBUSY);
                test_assert_state(t, before);
        }
        assert_ptr_equal(t->s->ops, &op);
        assert_null(op.next);
        strata_op_end(t->s, &op);
}

static void exchanges_two_names(void **state)
{
        struct test_store *t = *state;

        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                const char *x = kind == STRATA_VIEW ? "vx" : "x", *y = kind == STRATA_VIEW ? "vy" : "y", *why = "stale";
                struct strata_info a, b, now;

                t->s->config.durable = kind == STRATA_ACTIVE;
                if (kind == STRATA_COMMITTED) {
                        test_snapshot(t, "sx", "");
                        test_snapshot(t, "sy", "sx");
                        x = "sx";
                        y = "sy";
                } else {
                        test_prepare(t, kind, x, "");
                        test_prepare(t, kind, y, "");
                }
                a = test_info(t, kind, x);
                b = test_info(t, kind, y);
                assert_int_equal(strata_exchange(t->s, kind, x, y, &why), 0);
                assert_null(why);
                assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new",
                                         a.id)); /* before anybody looks and puts it in place */
                assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", b.id));
                for (int crash = 0; crash < 2; crash++) {
                        now = test_info(t, kind, y);
                        assert_int_equal(now.id, a.id);
                        assert_int_equal(now.parent, a.parent);
                        assert_memory_equal(&now.updated, &a.updated, sizeof(now.updated));
                        now = test_info(t, kind, x);
                        assert_int_equal(now.id, b.id);
                        assert_int_equal(now.parent, b.parent);
                        test_store_crash(t);
                }
                assert_null(t->s->ops);
        }
}

static void exchange_wants_both(void **state)
{
        struct test_store *t = *state;

        make_each_kind(t);
        test_snapshot(t, "other", "");
        assert_refused(t, strata_exchange, STRATA_COMMITTED, "old", "none", -ENOENT, false);
        assert_refused(t, strata_exchange, STRATA_COMMITTED, "none", "old", -ENOENT, false);
        assert_refused(t, strata_exchange, STRATA_ACTIVE, "old", "oldview", -ENOENT, false);
        assert_refused(t, strata_exchange, STRATA_ACTIVE, "old", "other", -ENOENT, false);
}

static void an_exchange_that_fails_half_way(void **state)
{
        struct test_store *t = *state;
        uint64_t a = test_prepare(t, STRATA_ACTIVE, "a", ""), b = test_prepare(t, STRATA_ACTIVE, "b", "");

        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/meta.new", b), 0700), 0);
        assert_refused(t, strata_exchange, STRATA_ACTIVE, "a", "b", -EISDIR, false);
        assert_int_equal(rmdir(test_path(t, "layers/%" PRIu64 "/meta.new", b)), 0);
        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/meta", a), 40), 0);
        strata_index_drop(t->s->index, a);
        assert_refused(t, strata_exchange, STRATA_ACTIVE, "b", "a", -EUCLEAN, false);
}

static void what_cannot_be_synced_is_taken_back(void **state)
{
        struct test_store *t = *state;
        int real = t->s->kind_fd[STRATA_ACTIVE];
        struct strata_info a, b, now;

        test_prepare(t, STRATA_ACTIVE, "a", "");
        test_prepare(t, STRATA_ACTIVE, "b", "");
        a = test_info(t, STRATA_ACTIVE, "a");
        b = test_info(t, STRATA_ACTIVE, "b");
        for (int exchange = 0; exchange < 2; exchange++) {
                const char *why;

                t->s->config.durable = true;
                t->s->kind_fd[STRATA_ACTIVE] = open(test_path(t, "active"), O_PATH | O_CLOEXEC);
                assert_int_equal(exchange ? strata_exchange(t->s, STRATA_ACTIVE, "a", "b", &why)
                                          : strata_rename(t->s, STRATA_ACTIVE, "a", "c", &why),
                                 -EBADF);
                close(t->s->kind_fd[STRATA_ACTIVE]);
                t->s->kind_fd[STRATA_ACTIVE] = real;
                now = test_info(t, STRATA_ACTIVE, "a");
                assert_memory_equal(&now, &a, sizeof(now));
                now = test_info(t, STRATA_ACTIVE, "b");
                assert_memory_equal(&now, &b, sizeof(now));
                test_store_crash(t);
                real = t->s->kind_fd[STRATA_ACTIVE];
                assert_int_equal(test_info(t, STRATA_ACTIVE, "a").id, a.id);
                assert_int_equal(test_info(t, STRATA_ACTIVE, "b").id, b.id);
        }
}

/* Between the first look and the step, another mover may have finished. */
static int rename_in_thread(void *data)
{
        const char *why;

        return strata_rename(data, STRATA_ACTIVE, "a", "target", &why);
}

static int exchange_in_thread(void *data)
{
        const char *why;

        return strata_exchange(data, STRATA_ACTIVE, "a", "b", &why);
}

static void a_rename_that_came_first_is_seen(void **state)
{
        struct test_store *t = *state;

        for (int retaken = 0; retaken < 2; retaken++) {
                uint64_t a = test_prepare(t, STRATA_ACTIVE, "a", ""),
                         other = test_prepare(t, STRATA_ACTIVE, "other", "");
                struct test_thread *thread;
                const char *why;
                int r;

                pthread_mutex_lock(&t->s->names);
                thread = test_thread_start(rename_in_thread, t->s);
                test_rename_by_hand(t, STRATA_ACTIVE, a, "a", "moved");
                if (retaken)
                        test_rename_by_hand(t, STRATA_ACTIVE, other, "other", "a");
                pthread_mutex_unlock(&t->s->names);
                r = test_thread_end(thread);
                if (!retaken)
                        assert_int_equal(r, -ENOENT);
                for (int crash = 0; crash < 2; crash++) {
                        assert_int_equal(test_info(t, STRATA_ACTIVE, "moved").id, a);
                        assert_int_equal(test_info(t, STRATA_ACTIVE,
                                                   r == 0    ? "target"
                                                   : retaken ? "a"
                                                             : "other")
                                                 .id,
                                         other);
                        assert_int_equal(test_count_dir(test_path(t, "active")), 2);
                        test_store_crash(t);
                }
                assert_int_equal(strata_remove(t->s, STRATA_ACTIVE, "moved", &why), 0);
                assert_int_equal(strata_remove(t->s, STRATA_ACTIVE,
                                               r == 0    ? "target"
                                               : retaken ? "a"
                                                         : "other",
                                               &why),
                                 0);
        }
}

/* Either of the two may be the one that changed hands. */
static void an_exchange_sees_a_rename_that_came_first(void **state)
{
        struct test_store *t = *state;

        for (int second = 0; second < 2; second++) {
                const char *moved = second ? "b" : "a", *still = second ? "a" : "b", *why;
                uint64_t id = test_prepare(t, STRATA_ACTIVE, moved, ""),
                         stays = test_prepare(t, STRATA_ACTIVE, still, ""),
                         other = test_prepare(t, STRATA_ACTIVE, "other", "");
                struct test_thread *thread;
                int r;

                pthread_mutex_lock(&t->s->names);
                thread = test_thread_start(exchange_in_thread, t->s);
                test_rename_by_hand(t, STRATA_ACTIVE, id, moved, "moved");
                test_rename_by_hand(t, STRATA_ACTIVE, other, "other", moved);
                pthread_mutex_unlock(&t->s->names);
                r = test_thread_end(thread);
                for (int crash = 0; crash < 2; crash++) {
                        assert_int_equal(test_info(t, STRATA_ACTIVE, "moved").id, id);
                        assert_int_equal(test_info(t, STRATA_ACTIVE, r == 0 ? still : moved).id, other);
                        assert_int_equal(test_info(t, STRATA_ACTIVE, r == 0 ? moved : still).id, stays);
                        test_store_crash(t);
                }
                assert_int_equal(test_count_dir(test_path(t, "active")), 3);
                assert_int_equal(strata_remove(t->s, STRATA_ACTIVE, "a", &why), 0);
                assert_int_equal(strata_remove(t->s, STRATA_ACTIVE, "b", &why), 0);
                assert_int_equal(strata_remove(t->s, STRATA_ACTIVE, "moved", &why), 0);
        }
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(gives_another_name),
                STORE_TEST(children_follow),
                STORE_TEST(to_the_same_name_does_nothing),
                STORE_TEST(bad_names),
                STORE_TEST(nothing_is_replaced),
                STORE_TEST(another_mover_is_not_waited_for),
                STORE_TEST(exchanges_two_names),
                STORE_TEST(exchange_wants_both),
                STORE_TEST(an_exchange_that_fails_half_way),
                STORE_TEST(what_cannot_be_synced_is_taken_back),
                STORE_TEST(a_rename_that_came_first_is_seen),
                STORE_TEST(an_exchange_sees_a_rename_that_came_first),
        };

        return cmocka_run_group_tests_name("rename", tests, NULL, NULL);
}
