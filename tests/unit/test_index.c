/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "index.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static int setup(void **state)
{
        struct strata_index *x;
        int r = strata_index_new(&x);

        *state = x;
        return r;
}

static int teardown(void **state)
{
        strata_index_free(*state);
        return 0;
}

static struct strata_info make_info(uint64_t id, const char *name)
{
        struct strata_info info = { .id = id, .depth = 1 };

        snprintf(info.name, sizeof(info.name), "%s", name);
        return info;
}

static void put(struct strata_index *x, uint64_t id, const char *name)
{
        struct strata_info info = make_info(id, name), found;
        uint64_t ticket;

        assert_false(strata_index_get(x, id, &found, &ticket));
        strata_index_put(x, &info, ticket);
}

static bool has(struct strata_index *x, uint64_t id)
{
        struct strata_info info;
        uint64_t ticket;

        return strata_index_get(x, id, &info, &ticket);
}

static void remembers_and_forgets(void **state)
{
        struct strata_index *x = *state;
        struct strata_info info;
        uint64_t ticket;

        put(x, 1, "one");
        put(x, UINT64_MAX, "last");
        assert_true(strata_index_get(x, 1, &info, &ticket));
        assert_string_equal(info.name, "one");
        assert_int_equal(info.id, 1);
        assert_true(strata_index_get(x, UINT64_MAX, &info, &ticket));
        assert_string_equal(info.name, "last");
        assert_int_equal(strata_index_size(x), 2);
        strata_index_drop(x, 1);
        assert_false(has(x, 1));
        assert_true(has(x, UINT64_MAX));
        strata_index_drop(x, 77);
        assert_int_equal(strata_index_size(x), 1);
}

static void descends_as_far_as_it_knows(void **state)
{
        struct strata_index *x = *state;
        const uint64_t parents[][2] = { { 9, 7 }, { 7, 4 }, { 4, 3 }, { 2, 0 } };
        uint64_t ids[5] = { 0 }, ticket;
        struct strata_info info;
        size_t n = 77;

        for (size_t i = 0; i < sizeof(parents) / sizeof(*parents); i++) {
                info = make_info(parents[i][0], "x");
                info.parent = parents[i][1];
                assert_false(strata_index_get(x, info.id, &info, &ticket));
                strata_index_put(x, &info, ticket);
        }
        assert_int_equal(strata_index_descend(x, 9, ids, 4, &n), 3); /* which is not known */
        assert_int_equal(n, 3);
        assert_int_equal(ids[0], 9);
        assert_int_equal(ids[1], 7);
        assert_int_equal(ids[2], 4);
        assert_int_equal(ids[3], 0);
        assert_int_equal(strata_index_descend(x, 9, ids + 3, 2, &n), 4); /* no place */
        assert_int_equal(n, 2);
        assert_int_equal(ids[4], 7);
        assert_int_equal(strata_index_descend(x, 9, ids, 0, &n), 9);
        assert_int_equal(n, 0);
        assert_int_equal(strata_index_descend(x, 2, ids, 5, &n), 0); /* the end */
        assert_int_equal(n, 1);
        assert_int_equal(strata_index_descend(x, 0, ids, 5, &n), 0);
        assert_int_equal(n, 0);
}

static void a_miss_leaves_the_result(void **state)
{
        struct strata_info info = make_info(9, "mine");
        uint64_t ticket;

        assert_false(strata_index_get(*state, 1, &info, &ticket));
        assert_string_equal(info.name, "mine");
}

/* A reader read the old state, then the entry changed: what it brings is stale. */
static void refuses_what_was_read_before_a_change(void **state)
{
        struct strata_index *x = *state;
        struct strata_info old = make_info(1, "old"), found;
        uint64_t ticket;

        assert_false(strata_index_get(x, 1, &found, &ticket));
        strata_index_drop(x, 1); /* the change, on disk already */
        strata_index_put(x, &old, ticket);
        assert_false(has(x, 1));
        put(x, 1, "new");
        assert_true(strata_index_get(x, 1, &found, &ticket));
        assert_string_equal(found.name, "new");
}

/* The same with the entry in the cache when it changes. */
static void refuses_a_stale_put_over_a_fresh_one(void **state)
{
        struct strata_index *x = *state;
        struct strata_info old = make_info(1, "old"), found;
        uint64_t ticket;

        assert_false(strata_index_get(x, 1, &found, &ticket));
        strata_index_drop(x, 1);
        put(x, 1, "new");
        strata_index_put(x, &old, ticket);
        assert_true(strata_index_get(x, 1, &found, &ticket));
        assert_string_equal(found.name, "new");
}

static void two_readers_of_the_same_state_make_one_entry(void **state)
{
        struct strata_index *x = *state;
        struct strata_info info = make_info(1, "same"), found;
        uint64_t a, b;

        assert_false(strata_index_get(x, 1, &found, &a));
        assert_false(strata_index_get(x, 1, &found, &b));
        strata_index_put(x, &info, a);
        strata_index_put(x, &info, b);
        assert_int_equal(strata_index_size(x), 1);
        assert_true(has(x, 1));
}

static void holds_no_more_than_its_limit(void **state)
{
        struct strata_index *x = *state;

        for (uint64_t id = 1; id <= STRATA_INDEX_MAX; id++)
                put(x, id, "x");
        assert_int_equal(strata_index_size(x), STRATA_INDEX_MAX);
        assert_true(has(x, 1)); /* used now, so that 2 is the one longest unused */
        put(x, STRATA_INDEX_MAX + 1, "x");
        assert_int_equal(strata_index_size(x), STRATA_INDEX_MAX);
        assert_true(has(x, 1));
        assert_false(has(x, 2));
        assert_true(has(x, 3));
        assert_true(has(x, STRATA_INDEX_MAX + 1));
}

static void free_takes_nothing(void **state)
{
        (void)state;
        strata_index_free(NULL);
}

/*
 * A small world: the truth of each ID is a number that only grows, dropped after each change. Readers cache it; once a
 * change is finished nobody may be given an older number.
 */
#define IDS 8
#define READERS 12
#define CHANGES 20000

struct world {
        struct strata_index *x;
        atomic_uint truth[IDS];    /* on "disk" */
        atomic_uint finished[IDS]; /* changes that are over */
        atomic_bool stop;
        atomic_uint stale, hits;
};

static void *world_reader(void *data)
{
        struct world *w = data;

        for (unsigned turn = 0; !atomic_load(&w->stop); turn++) {
                unsigned id = turn % IDS;
                unsigned floor = atomic_load(&w->finished[id]);
                struct strata_info info = { 0 };
                uint64_t ticket;

                if (strata_index_get(w->x, id + 1, &info, &ticket)) {
                        atomic_fetch_add(&w->hits, 1);
                        if (info.depth < floor)
                                atomic_fetch_add(&w->stale, 1);
                        continue;
                }
                info.id = id + 1;
                info.depth = atomic_load(&w->truth[id]);
                strata_index_put(w->x, &info, ticket);
        }
        return NULL;
}

static void never_gives_what_is_older_than_the_last_change(void **state)
{
        struct world w = { .x = *state };
        pthread_t readers[READERS];

        for (int i = 0; i < READERS; i++)
                assert_int_equal(pthread_create(&readers[i], NULL, world_reader, &w), 0);
        /* on a busy machine it takes a while until a reader comes to run at all */
        for (unsigned n = 0; n < CHANGES || (!atomic_load(&w.hits) && n < 1000 * CHANGES); n++) {
                unsigned id = n * 7 % IDS;
                unsigned now = atomic_fetch_add(&w.truth[id], 1) + 1;

                strata_index_drop(w.x, id + 1);
                atomic_store(&w.finished[id], now);
                if (n % 64 == 0)
                        sched_yield();
        }
        atomic_store(&w.stop, true);
        for (int i = 0; i < READERS; i++)
                assert_int_equal(pthread_join(readers[i], NULL), 0);
        assert_int_equal(w.stale, 0);
        assert_true(w.hits > 0);
}

#define INDEX_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                INDEX_TEST(remembers_and_forgets),
                INDEX_TEST(a_miss_leaves_the_result),
                INDEX_TEST(refuses_what_was_read_before_a_change),
                INDEX_TEST(refuses_a_stale_put_over_a_fresh_one),
                INDEX_TEST(two_readers_of_the_same_state_make_one_entry),
                INDEX_TEST(holds_no_more_than_its_limit),
                INDEX_TEST(descends_as_far_as_it_knows),
                cmocka_unit_test(free_takes_nothing),
                INDEX_TEST(never_gives_what_is_older_than_the_last_change),
        };

        return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
