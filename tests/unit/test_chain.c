/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "chain.h"
#include "index.h"
#include "mount.h"
#include "prepare.h"
#include "remove.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void assert_chain(struct test_store *t, enum strata_kind kind, const char *name, uint64_t upper,
                         const uint64_t *lowers, size_t n)
{
        struct strata_info info = test_info(t, kind, name);
        cleanup_chain struct strata_chain chain = { 0 };

        assert_int_equal(strata_chain_get(t->s, &info, &chain), 0);
        assert_int_equal(chain.upper, upper);
        assert_int_equal(chain.n, n);
        if (n)
                assert_memory_equal(chain.lowers, lowers, n * sizeof(*lowers));
}

static void each_kind_has_its_layers(void **state)
{
        struct test_store *t = *state;
        uint64_t s1 = test_snapshot(t, "s1", ""), s2 = test_snapshot(t, "s2", "s1"), s3 = test_snapshot(t, "s3", "s2");
        uint64_t a = test_prepare(t, STRATA_ACTIVE, "a", "s3"), b = test_prepare(t, STRATA_ACTIVE, "b", "");
        const uint64_t lowers[] = { s3, s2, s1 };
        uint64_t w;

        test_prepare(t, STRATA_VIEW, "v", "s3");
        w = test_prepare(t, STRATA_VIEW, "w", "");
        assert_chain(t, STRATA_COMMITTED, "s1", 0, lowers + 2, 1);
        assert_chain(t, STRATA_COMMITTED, "s3", 0, lowers, 3);
        assert_chain(t, STRATA_ACTIVE, "a", a, lowers, 3);
        assert_chain(t, STRATA_ACTIVE, "b", b, NULL, 0);
        assert_chain(t, STRATA_VIEW, "v", 0, lowers, 3);
        assert_chain(t, STRATA_VIEW, "w", 0, &w, 1);
}

static void freeing_twice_is_fine(void **state)
{
        struct test_store *t = *state;
        struct strata_chain chain;
        struct strata_info info;

        test_snapshot(t, "s", "");
        info = test_info(t, STRATA_COMMITTED, "s");
        assert_int_equal(strata_chain_get(t->s, &info, &chain), 0);
        strata_chain_free(&chain);
        assert_null(chain.lowers);
        assert_int_equal(chain.n, 0);
        strata_chain_free(&chain);
}

static void a_missing_or_damaged_parent(void **state)
{
        struct test_store *t = *state;
        struct strata_chain chain = { .n = 77 };
        uint64_t s1 = test_snapshot(t, "s1", "");
        struct strata_info info;

        test_prepare(t, STRATA_ACTIVE, "k", "s1");
        info = test_info(t, STRATA_ACTIVE, "k");
        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/meta", s1), 40), 0);
        strata_index_drop(t->s->index, s1);
        assert_int_equal(strata_chain_get(t->s, &info, &chain), -EUCLEAN);
        assert_int_equal(unlink(test_path(t, "layers/%" PRIu64 "/meta", s1)), 0);
        assert_int_equal(strata_chain_get(t->s, &info, &chain), -EUCLEAN);
        info.parent = 4000;
        assert_int_equal(strata_chain_get(t->s, &info, &chain), -EUCLEAN);
        assert_int_equal(chain.n, 77);
}

/* By another thread, between the look at the entry and that at its chain. */
static void removed_with_its_parent(void **state)
{
        struct test_store *t = *state;
        struct strata_chain chain;
        struct strata_info info;
        const char *why;

        test_snapshot(t, "s1", "");
        test_snapshot(t, "s2", "s1");
        info = test_info(t, STRATA_COMMITTED, "s2");
        assert_int_equal(strata_remove(t->s, STRATA_COMMITTED, "s2", &why), 0);
        assert_int_equal(strata_remove(t->s, STRATA_COMMITTED, "s1", &why), 0);
        assert_int_equal(strata_chain_get(t->s, &info, &chain), -ENOENT);
}

/* Parents in a ring, or more of them than the depth says: must end, and with an error. */
static void a_chain_that_is_none(void **state)
{
        struct test_store *t = *state;
        struct strata_chain chain = { .n = 77 };
        struct strata_info one, two, info;
        uint64_t ticket;

        test_snapshot(t, "s1", "");
        test_snapshot(t, "s2", "s1");
        test_prepare(t, STRATA_ACTIVE, "k", "s2");
        one = test_info(t, STRATA_COMMITTED, "s1");
        two = test_info(t, STRATA_COMMITTED, "s2");
        info = test_info(t, STRATA_ACTIVE, "k");
        info.depth = 1;
        assert_int_equal(strata_chain_get(t->s, &info, &chain), -EUCLEAN);
        /* s1 stands on s2, by way of the cache. */
        info = test_info(t, STRATA_ACTIVE, "k");
        strata_index_drop(t->s->index, one.id);
        assert_false(strata_index_get(t->s->index, one.id, &one, &ticket));
        one.parent = two.id;
        strata_index_put(t->s->index, &one, ticket);
        assert_int_equal(strata_chain_get(t->s, &info, &chain), -EUCLEAN);
        assert_int_equal(chain.n, 77);
}

static void depth_decides_with_the_new_api(void **state)
{
        struct test_store *t = *state;
        struct strata_info below = { .id = 1, .depth = STRATA_CHAIN_MAX - 1, .kind = STRATA_COMMITTED };

        t->s->mount_api = &strata_mount_new;
        assert_int_equal(strata_chain_check(t->s, &below, true), 0);
        below.depth = STRATA_CHAIN_MAX;
        assert_int_equal(strata_chain_check(t->s, &below, true), -EMLINK);
        assert_int_equal(strata_chain_check(t->s, &below, false), 0);
        below.depth = STRATA_CHAIN_MAX + 1;
        assert_int_equal(strata_chain_check(t->s, &below, false), -EMLINK);
}

/* The old API's options have to fit a page, and what was accepted has to be committed and viewed as well. */
static void length_decides_with_the_old_api(void **state)
{
        struct test_store *t = *state;
        char name[16] = "", parent[16] = "";
        const char *why = NULL;
        struct strata_info info;
        uint64_t id;
        int depth, r = 0;

        /* IDs of eight digits, so that fewer layers fit than STRATA_CHAIN_MAX. */
        strata_close_store(t->s);
        test_write(test_path(t, "next"), "10000000\n");
        assert_int_equal(strata_open(t->path, &t->config, &t->s, &(char *){ NULL }), 0);
        t->s->mount_api = &strata_mount_old;
        for (depth = 1; depth <= STRATA_CHAIN_MAX; depth++) {
                snprintf(name, sizeof(name), "s%d", depth);
                r = strata_prepare(t->s, STRATA_ACTIVE, name, parent, 0, 0, &id, &why);
                if (r < 0)
                        break;
                for (int committed = 0; committed < 2; committed++) {
                        cleanup_chain struct strata_chain chain = { 0 };

                        if (committed)
                                test_commit(t, name, name);
                        info = test_info(t, committed ? STRATA_COMMITTED : STRATA_ACTIVE, name);
                        assert_int_equal(strata_chain_get(t->s, &info, &chain), 0);
                        assert_true(strata_mount_options_length(&chain) <= strata_mount_old.max_options);
                }
                strcpy(parent, name);
        }
        assert_int_equal(r, -EMLINK);
        assert_non_null(why);
        assert_true(depth > 200 && depth < STRATA_CHAIN_MAX);
        test_prepare(t, STRATA_VIEW, "v", parent);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(each_kind_has_its_layers),        STORE_TEST(freeing_twice_is_fine),
                STORE_TEST(a_missing_or_damaged_parent),     STORE_TEST(a_chain_that_is_none),
                STORE_TEST(removed_with_its_parent),         STORE_TEST(depth_decides_with_the_new_api),
                STORE_TEST(length_decides_with_the_old_api),
        };

        return cmocka_run_group_tests_name("chain", tests, NULL, NULL);
}
