/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "commit.h"
#include "index.h"
#include "link.h"
#include "record.h"
#include "util/sumfile.h"
#include "util/timefmt.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void assert_refused(struct test_store *t, const char *key, const char *name, int error, bool has_reason)
{
        char *before = test_state(t);
        const char *why = "stale";

        assert_int_equal(strata_commit(t->s, key, name, &why), error);
        if (has_reason)
                assert_non_null(why);
        if (why)
                assert_string_not_equal(why, "stale");
        test_assert_state(t, before);
}

static void makes_a_snapshot(void **state)
{
        struct test_store *t = *state;

        for (int durable = 0; durable < 2; durable++) {
                const char *why = "stale", *key = durable ? "k1" : "k0", *name = durable ? "n1" : "n0";
                uint64_t id = test_prepare(t, STRATA_ACTIVE, key, "");
                struct timespec before, after;
                struct strata_info info, old = test_info(t, STRATA_ACTIVE, key);
                char *text;

                t->s->config.durable = durable;
                test_write(test_path(t, "layers/%" PRIu64 "/fs/file", id), "contents");
                before = strata_time_now();
                assert_int_equal(strata_commit(t->s, key, name, &why), 0);
                after = strata_time_now();
                assert_null(why);
                assert_false(test_exists(t, "active/%s", key));
                info = test_info(t, STRATA_COMMITTED, name);
                assert_int_equal(info.id, id);
                assert_int_equal(info.kind, STRATA_COMMITTED);
                assert_memory_equal(&info.created, &old.created, sizeof(info.created));
                assert_true(info.committed.tv_sec >= before.tv_sec && info.committed.tv_sec <= after.tv_sec);
                assert_memory_equal(&info.updated, &info.committed, sizeof(info.updated));
                text = test_read(test_path(t, "layers/%" PRIu64 "/fs/file", id));
                assert_string_equal(text, "contents");
                free(text);
                assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", id));
        }
}

static void may_keep_the_name_and_lasts(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "same", "");
        struct strata_info first, again;

        test_commit(t, "same", "same");
        first = test_info(t, STRATA_COMMITTED, "same");
        assert_int_equal(first.id, id);
        test_store_crash(t);
        again = test_info(t, STRATA_COMMITTED, "same");
        assert_memory_equal(&first, &again, sizeof(first));
        test_prepare(t, STRATA_ACTIVE, "same", "same"); /* the key is free again */
}

static void the_parent_keeps_its_child(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", ""), child = test_prepare(t, STRATA_ACTIVE, "k", "base"), *ids;
        size_t n;

        test_commit(t, "k", "top");
        assert_int_equal(strata_entry_children(t->s, base, &ids, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(ids[0], child);
        free(ids);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "top").parent, base);
}

static void names_are_checked(void **state)
{
        struct test_store *t = *state;
        static const char *const bad[] = { "", ".", ".n", "a/b", "a@b", "a\x7f" };
        char longest[STRATA_NAME_MAX + 2];

        test_prepare(t, STRATA_ACTIVE, "k", "");
        for (size_t i = 0; i < COUNT(bad); i++)
                assert_refused(t, "k", bad[i], -EINVAL, true);
        memset(longest, 'n', sizeof(longest));
        longest[STRATA_NAME_MAX + 1] = '\0';
        assert_refused(t, "k", longest, -ENAMETOOLONG, true);
        longest[STRATA_NAME_MAX] = '\0';
        test_commit(t, "k", longest);
        assert_string_equal(test_info(t, STRATA_COMMITTED, longest).name, longest);
}

static void the_key_has_to_be_active(void **state)
{
        struct test_store *t = *state;

        test_snapshot(t, "base", "");
        test_prepare(t, STRATA_VIEW, "v", "base");
        assert_refused(t, "none", "n", -ENOENT, false);
        assert_refused(t, "v", "n", -ENOENT, false);
        assert_refused(t, "base", "n", -ENOENT, false);
        assert_refused(t, "../snapshots/base", "n", -ENOENT, false);
        assert_refused(t, "", "n", -ENOENT, false);
}

static void a_taken_name_is_never_replaced(void **state)
{
        struct test_store *t = *state;

        test_snapshot(t, "base", "");
        test_prepare(t, STRATA_ACTIVE, "k", "base");
        assert_refused(t, "k", "base", -EEXIST, true);
        t->s->config.durable = true;
        assert_refused(t, "k", "base", -EEXIST, true);
        assert_int_equal(symlink("../layers/4000", test_path(t, "snapshots/dangling")), 0);
        assert_refused(t, "k", "dangling", -EEXIST, true);
}

static void another_mover_is_not_waited_for(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct strata_op op;

        assert_int_equal(strata_op_begin(t->s, &op, id), 0);
        assert_refused(t, "k", "n", -EBUSY, false);
        strata_op_end(t->s, &op);
        test_commit(t, "k", "n");
}

static void the_entry_is_free_after_a_failure(void **state)
{
        struct test_store *t = *state;

        test_snapshot(t, "base", "");
        test_prepare(t, STRATA_ACTIVE, "k", "");
        assert_refused(t, "k", "base", -EEXIST, true);
        assert_null(t->s->ops);
        test_commit(t, "k", "n");
        assert_null(t->s->ops);
}

/* The record can't be written: no file may grow. */
static void a_record_that_cannot_be_written(void **state)
{
        struct test_store *t = *state;
        void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
        const char *why = NULL;
        struct rlimit old, small;
        char *before;
        int r;

        test_prepare(t, STRATA_ACTIVE, "k", "");
        before = test_state(t);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
        small = (struct rlimit){ 10, old.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        r = strata_commit(t->s, "k", "n", &why);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        signal(SIGXFSZ, handler);
        assert_int_equal(r, -EFBIG);
        test_assert_state(t, before);
        test_commit(t, "k", "n");
}

static void a_record_that_is_in_the_way(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");

        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/meta.new", id), 0700), 0);
        assert_refused(t, "k", "n", -EISDIR, false);
        assert_int_equal(rmdir(test_path(t, "layers/%" PRIu64 "/meta.new", id)), 0);
        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/meta", id), 40), 0);
        strata_index_drop(t->s->index, id);
        assert_refused(t, "k", "n", -EUCLEAN, false);
}

/* What was staged by a commit that a crash cut off is in nobody's way. */
static void an_old_staged_record_is_overwritten(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct strata_record rec;

        assert_int_equal(strata_record_load(t->s, id, &rec), 0);
        rec.was = rec.now;
        rec.now.kind = STRATA_COMMITTED;
        memset(rec.now.name, 'x', STRATA_NAME_MAX); /* longer than what comes */
        assert_int_equal(strata_record_stage(t->s, &rec, true), 0);
        test_store_crash(t);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "k").id, id);
        test_commit(t, "k", "n");
        assert_int_equal(test_info(t, STRATA_COMMITTED, "n").id, id);
        test_store_crash(t);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "n").id, id);
}

/* The store's own sync, of all that is in the layer, fails: EBADF from an fd that syncfs(2) refuses. */
static void a_layer_that_cannot_be_synced_is_not_committed(void **state)
{
        struct test_store *t = *state;
        struct strata_info info, now;
        const char *why = NULL;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        int root = t->s->root_fd;

        t->s->config.durable = true;
        info = test_info(t, STRATA_ACTIVE, "k");
        t->s->root_fd = open(t->path, O_PATH | O_CLOEXEC);
        assert_int_equal(strata_commit(t->s, "k", "n", &why), -EBADF);
        close(t->s->root_fd);
        t->s->root_fd = root;
        now = test_info(t, STRATA_ACTIVE, "k");
        assert_memory_equal(&now, &info, sizeof(now)); /* the time as well */
        assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", id));
        assert_false(test_exists(t, "snapshots/n"));
}

static void a_step_that_cannot_be_synced_is_taken_back(void **state)
{
        struct test_store *t = *state;
        struct strata_info info, now;
        const char *why = NULL;
        int real = t->s->kind_fd[STRATA_COMMITTED];

        test_prepare(t, STRATA_ACTIVE, "k", "");
        info = test_info(t, STRATA_ACTIVE, "k");
        t->s->config.durable = true;
        t->s->kind_fd[STRATA_COMMITTED] = open(test_path(t, "snapshots"), O_PATH | O_CLOEXEC);
        assert_int_equal(strata_commit(t->s, "k", "n", &why), -EBADF);
        close(t->s->kind_fd[STRATA_COMMITTED]);
        t->s->kind_fd[STRATA_COMMITTED] = real;
        now = test_info(t, STRATA_ACTIVE, "k");
        assert_memory_equal(&now, &info, sizeof(now));
        assert_false(test_exists(t, "snapshots/n"));
        test_store_crash(t);
        now = test_info(t, STRATA_ACTIVE, "k");
        assert_memory_equal(&now, &info, sizeof(now));
        test_commit(t, "k", "n");
}

/* While it looked like a snapshot somebody may have asked for what is kept then; it has other files afterwards. */
static void what_was_computed_before_it_was_taken_back_is_forgotten(void **state)
{
        static const char *const files[] = { "usage", "changes", "export" };
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        char path[64];

        for (size_t i = 0; i < COUNT(files); i++) {
                snprintf(path, sizeof(path), "%" PRIu64 "/%s", id, files[i]);
                assert_int_equal(strata_sumfile_write(t->s->layers_fd, path, 1, "1 1\n", 4, false), 0);
        }
        test_commit(t, "k", "n");
        for (size_t i = 0; i < COUNT(files); i++)
                assert_false(test_exists(t, "layers/%" PRIu64 "/%s", id, files[i]));
}

/* Between a commit's first look and its step another mover may finish. */
static int commit_in_thread(void *data)
{
        struct strata *s = data;
        const char *why;

        return strata_commit(s, "k", "n", &why);
}

static void a_rename_that_came_first_is_seen(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct test_thread *thread;

        pthread_mutex_lock(&t->s->names);
        thread = test_thread_start(commit_in_thread, t->s);
        test_rename_by_hand(t, STRATA_ACTIVE, id, "k", "moved");
        pthread_mutex_unlock(&t->s->names);
        assert_int_equal(test_thread_end(thread), -ENOENT);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "moved").id, id);
        assert_int_equal(test_count_dir(test_path(t, "snapshots")), 0);
        test_store_crash(t);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "moved").id, id);
}

/* The key is another entry's by now: either nothing is committed, or that one, but never one under the other's record.
 */
static void a_key_that_changed_hands_is_seen(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", ""), other = test_prepare(t, STRATA_ACTIVE, "other", "");
        struct test_thread *thread;
        int r;

        pthread_mutex_lock(&t->s->names);
        thread = test_thread_start(commit_in_thread, t->s);
        test_rename_by_hand(t, STRATA_ACTIVE, id, "k", "moved");
        test_rename_by_hand(t, STRATA_ACTIVE, other, "other", "k");
        pthread_mutex_unlock(&t->s->names);
        r = test_thread_end(thread);
        for (int round = 0; round < 2; round++) {
                assert_int_equal(test_info(t, STRATA_ACTIVE, "moved").id, id);
                if (r == 0)
                        assert_int_equal(test_info(t, STRATA_COMMITTED, "n").id, other);
                else
                        assert_int_equal(test_info(t, STRATA_ACTIVE, "k").id, other);
                test_store_crash(t);
        }
        assert_true(r == 0 || r == -ENOENT || r == -EBUSY);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(makes_a_snapshot),
                STORE_TEST(may_keep_the_name_and_lasts),
                STORE_TEST(the_parent_keeps_its_child),
                STORE_TEST(names_are_checked),
                STORE_TEST(the_key_has_to_be_active),
                STORE_TEST(a_taken_name_is_never_replaced),
                STORE_TEST(another_mover_is_not_waited_for),
                STORE_TEST(the_entry_is_free_after_a_failure),
                STORE_TEST(a_record_that_cannot_be_written),
                STORE_TEST(a_record_that_is_in_the_way),
                STORE_TEST(an_old_staged_record_is_overwritten),
                STORE_TEST(a_layer_that_cannot_be_synced_is_not_committed),
                STORE_TEST(a_step_that_cannot_be_synced_is_taken_back),
                STORE_TEST(what_was_computed_before_it_was_taken_back_is_forgotten),
                STORE_TEST(a_rename_that_came_first_is_seen),
                STORE_TEST(a_key_that_changed_hands_is_seen),
        };

        return cmocka_run_group_tests_name("commit", tests, NULL, NULL);
}
