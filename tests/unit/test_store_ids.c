/* SPDX-License-Identifier: Apache-2.0 */
/* store.c: the IDs of layers, never given twice. */
#include "testlib.h"

#include "prepare.h"
#include "store.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t next(struct test_store *t)
{
        uint64_t id = 0;

        assert_int_equal(strata_next_id(t->s, &id), 0);
        return id;
}

static void ids_only_grow(void **state)
{
        struct test_store *t = *state;
        uint64_t last = 0;

        for (int round = 0; round < 6; round++) {
                for (int i = 0; i < 5000; i++) { /* more than one reserved block */
                        uint64_t id = next(t);

                        assert_true(id > last);
                        last = id;
                }
                assert_true(t->s->first_id <= last);
                if (round % 2)
                        test_store_crash(t);
                else
                        test_store_reopen(t);
                assert_true(t->s->first_id > last);
        }
}

static void a_clean_end_wastes_no_id(void **state)
{
        struct test_store *t = *state;
        uint64_t id = next(t);

        test_store_reopen(t);
        assert_int_equal(next(t), id + 1);
        test_store_reopen(t);
        test_store_reopen(t); /* without a single one in between */
        assert_int_equal(next(t), id + 2);
}

static void an_id_that_cannot_be_reserved_is_not_given(void **state)
{
        struct test_store *t = *state;
        uint64_t id = 77;

        assert_int_equal(mkdir(test_path(t, "next.new"), 0700), 0);
        assert_true(strata_next_id(t->s, &id) < 0);
        assert_int_equal(id, 77);
        assert_int_equal(rmdir(test_path(t, "next.new")), 0);
        assert_int_equal(next(t), 1);
}

#define THREADS 16
#define EACH 2000

static void *take_ids(void *data)
{
        uint64_t *ids = data;
        struct strata *s = (struct strata *)(uintptr_t)ids[0];

        for (int i = 0; i < EACH; i++)
                if (strata_next_id(s, &ids[i]) < 0)
                        ids[i] = 0;
        return NULL;
}

static int compare(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return (x > y) - (x < y);
}

static void no_two_threads_get_the_same_id(void **state)
{
        struct test_store *t = *state;
        static uint64_t ids[THREADS][EACH];
        pthread_t threads[THREADS];

        for (int i = 0; i < THREADS; i++) {
                ids[i][0] = (uintptr_t)t->s;
                assert_int_equal(pthread_create(&threads[i], NULL, take_ids, ids[i]), 0);
        }
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        qsort(ids, (size_t)THREADS * EACH, sizeof(uint64_t), compare);
        for (int i = 0; i < THREADS * EACH; i++)
                assert_int_equal((&ids[0][0])[i], i + 1);
}

static void a_damaged_next_is_mended(void **state)
{
        struct test_store *t = *state;
        static const char *const bad[] = {
                "", "5", "0\n", "-1\n", "x\n", "5 \n", "99999999999999999999\n", "5\nxxh3: 0000000000000000\n"
        };

        assert_int_equal(next(t), 1);
        assert_int_equal(mkdir(test_path(t, "layers/70000"), 0700), 0);
        for (size_t i = 0; i < COUNT(bad); i++) {
                test_store_close(t);
                test_write(test_path(t, "next"), bad[i]);
                test_store_open(t);
                assert_true(t->s->unclean);
                assert_true(next(t) > 70000);
        }
        test_store_close(t);
        assert_int_equal(rmdir(test_path(t, "layers/70000")), 0);
        test_write(test_path(t, "next"), "1000\n");
        test_store_open(t);
        assert_int_equal(next(t), 1000);
}

/* A store whose `next` was lost or is old, as from a careless backup: what is there already must not suffer. */
static void a_lost_next_harms_no_layer(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "precious", "");

        test_write(test_path(t, "layers/%" PRIu64 "/fs/file", id), "data");
        for (int old = 0; old < 2; old++) {
                const char *why = NULL;
                uint64_t other;
                char *text;

                test_store_close(t);
                if (old)
                        test_write(test_path(t, "next"), "1\n");
                else
                        assert_int_equal(unlink(test_path(t, "next")), 0);
                test_store_open(t);
                if (strata_prepare(t->s, STRATA_ACTIVE, old ? "b" : "a", "", 0, 0, &other, &why) == 0)
                        assert_int_not_equal(other, id);
                text = test_read(test_path(t, "layers/%" PRIu64 "/fs/file", id));
                assert_non_null(text);
                assert_string_equal(text, "data");
                free(text);
                assert_int_equal(test_info(t, STRATA_ACTIVE, "precious").id, id);
        }
}

/* IDs are never given twice, also where those above all that are there were removed. */
static void a_lost_next_is_not_that_of_a_new_store(void **state)
{
        struct test_store *t = *state;

        for (int i = 0; i < 9; i++)
                next(t);
        test_snapshot(t, "base", "");
        assert_int_equal(test_info(t, STRATA_COMMITTED, "base").id, 10);
        test_store_close(t);
        assert_int_equal(unlink(test_path(t, "next")), 0);
        test_store_open(t);
        assert_true(t->s->unclean);
        assert_true(next(t) >= 4096);
        test_store_close(t);
        /* What is being deleted had one as well. */
        assert_int_equal(rename(test_path(t, "layers/10"), test_path(t, "trash/9000.part.0")), 0);
        assert_int_equal(unlink(test_path(t, "snapshots/base")), 0);
        assert_int_equal(unlink(test_path(t, "next")), 0);
        test_store_open(t);
        assert_true(next(t) > 9000);
        test_store_close(t);
        test_remove_tree(test_path(t, "trash/9000.part.0"));
        assert_int_equal(unlink(test_path(t, "next")), 0);
        test_store_open(t);
        assert_int_equal(next(t), 1);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(ids_only_grow),
                STORE_TEST(a_clean_end_wastes_no_id),
                STORE_TEST(an_id_that_cannot_be_reserved_is_not_given),
                STORE_TEST(no_two_threads_get_the_same_id),
                STORE_TEST(a_damaged_next_is_mended),
                STORE_TEST(a_lost_next_harms_no_layer),
                STORE_TEST(a_lost_next_is_not_that_of_a_new_store),
        };

        return cmocka_run_group_tests_name("store_ids", tests, NULL, NULL);
}
