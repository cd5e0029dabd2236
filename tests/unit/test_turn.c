/* SPDX-License-Identifier: Apache-2.0 */
/* Where the turn is lost, a test would wait for ever: an alarm ends it then. */
#include "testlib.h"

#include "util/turn.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define THREADS 8
#define ROUNDS 2000
#define HANG_SECONDS 120

static int setup(void **state)
{
        struct strata_turn *t;
        int r = strata_turn_new(&t);

        *state = t;
        alarm(HANG_SECONDS);
        return r;
}

static int teardown(void **state)
{
        strata_turn_end(*state);
        strata_turn_free(*state);
        alarm(0);
        return 0;
}

static void pause_ms(long ms)
{
        const struct timespec t = { .tv_nsec = ms * 1000000 };

        nanosleep(&t, NULL);
}

struct other {
        struct strata_turn *turn;
        pthread_t thread;
        atomic_int came; /* 1: it had the turn; 2: as a guest; -1: there was none any more */
        atomic_bool let_go;
};

/* Takes the turn and keeps it, as one who receives, until it is let go. */
static void *take(void *data)
{
        struct other *o = data;
        enum strata_turn_seat got = strata_turn_take(o->turn);

        atomic_store(&o->came, got == STRATA_TURN_GUEST ? 2 : got == STRATA_TURN_MINE ? 1 : -1);
        while (got && !atomic_load(&o->let_go))
                pause_ms(1);
        if (got == STRATA_TURN_MINE)
                strata_turn_pass(o->turn, strata_turn_work(o->turn));
        return NULL;
}

static void begin(struct other *o, struct strata_turn *t)
{
        *o = (struct other){ .turn = t };
        assert_int_equal(pthread_create(&o->thread, NULL, take, o), 0);
}

static int finish(struct other *o)
{
        atomic_store(&o->let_go, true);
        pthread_join(o->thread, NULL);
        return atomic_load(&o->came);
}

static void wait_until_it_came(struct other *o)
{
        while (!atomic_load(&o->came))
                pause_ms(1);
}

/* A thread that does not get to run for a while may lose it, but not always. */
static void quick_work_keeps_the_turn(void **state)
{
        struct strata_turn *t = *state;
        unsigned kept = 0;

        for (int i = 0; i < 100; i++) {
                struct other o;

                assert_true(strata_turn_take(t));
                begin(&o, t);
                if (strata_turn_rest(t, strata_turn_work(t))) {
                        pause_ms(i ? 0 : 20); /* who receives may take as long as it likes */
                        assert_int_equal(atomic_load(&o.came), 0);
                        kept++;
                        strata_turn_pass(t, strata_turn_work(t));
                }
                assert_int_equal(finish(&o), 1);
        }
        assert_int_not_equal(kept, 0);
}

static void passed_on_it_is_another_thread_s(void **state)
{
        struct strata_turn *t = *state;
        struct other one, two;
        uint64_t work;

        assert_true(strata_turn_take(t));
        work = strata_turn_work(t);
        begin(&one, t);
        strata_turn_pass(t, work);
        wait_until_it_came(&one);
        begin(&two, t);
        strata_turn_pass(t, work); /* it is not ours any more */
        pause_ms(20);
        assert_int_equal(atomic_load(&two.came), 0);
        assert_false(strata_turn_rest(t, work));
        assert_int_equal(finish(&one), 1);
        assert_int_equal(finish(&two), 1);
}

static void nobody_there_takes_it_later(void **state)
{
        struct strata_turn *t = *state;
        uint64_t work;

        assert_true(strata_turn_take(t));
        work = strata_turn_work(t);
        strata_turn_pass(t, work);
        assert_false(strata_turn_rest(t, work));
        assert_true(strata_turn_take(t));
        assert_int_not_equal(strata_turn_work(t), work);
}

/* Also after a rest that sends the watcher to sleep. */
static void slow_work_loses_it(void **state)
{
        struct strata_turn *t = *state;

        for (int round = 0; round < 3; round++) {
                struct other o;
                uint64_t work;

                assert_true(strata_turn_take(t));
                begin(&o, t);
                work = strata_turn_work(t);
                wait_until_it_came(&o); /* while we are at work */
                assert_false(strata_turn_rest(t, work));
                assert_int_equal(finish(&o), 1);
                pause_ms(round ? 250 : 0);
        }
}

/* Who waits already and who comes; for a while only. */
static void open_it_has_guests(void **state)
{
        struct strata_turn *t = *state;
        struct other before, meanwhile, after;

        assert_false(strata_turn_is_open(t));
        assert_int_equal(strata_turn_take(t), STRATA_TURN_MINE);
        begin(&before, t);
        pause_ms(20);
        assert_int_equal(atomic_load(&before.came), 0);
        do { /* in good time, on whatever machine */
                strata_turn_open(t);
                begin(&meanwhile, t);
                wait_until_it_came(&before);
                wait_until_it_came(&meanwhile);
        } while (finish(&meanwhile) != 2);
        assert_int_equal(finish(&before), 2);
        while (strata_turn_is_open(t))
                pause_ms(5);
        begin(&after, t);
        pause_ms(20);
        assert_int_equal(atomic_load(&after.came), 0);
        strata_turn_pass(t, strata_turn_work(t));
        assert_int_equal(finish(&after), 1);
}

static void the_end_wakes_all(void **state)
{
        struct strata_turn *t = *state;
        struct other others[4];

        assert_true(strata_turn_take(t));
        for (size_t i = 0; i < 4; i++)
                begin(&others[i], t);
        pause_ms(20);
        strata_turn_end(t);
        for (size_t i = 0; i < 4; i++)
                assert_int_equal(finish(&others[i]), -1);
        assert_false(strata_turn_take(t));
        strata_turn_end(t);
}

static void without_a_turn_all_may(void **state)
{
        (void)state;
        assert_true(strata_turn_take(NULL));
        assert_true(strata_turn_take(NULL));
        strata_turn_pass(NULL, strata_turn_work(NULL));
        assert_true(strata_turn_rest(NULL, strata_turn_work(NULL)));
        strata_turn_end(NULL);
        assert_true(strata_turn_take(NULL));
        strata_turn_free(NULL);
}

struct crowd {
        struct strata_turn *turn;
        atomic_int inside, most; /* threads between taking the turn and beginning to work */
        atomic_uint done;
};

static void *serve(void *data)
{
        struct crowd *c = data;
        bool mine = false;
        unsigned i;

        while (mine || strata_turn_take(c->turn)) {
                int inside = atomic_fetch_add(&c->inside, 1) + 1;
                uint64_t work;

                if (inside > atomic_load(&c->most))
                        atomic_store(&c->most, inside);
                i = atomic_fetch_add(&c->done, 1);
                atomic_fetch_sub(&c->inside, 1);
                work = strata_turn_work(c->turn);
                if (i >= THREADS * ROUNDS) {
                        strata_turn_end(c->turn);
                        break;
                }
                if (i % 3 == 0)
                        strata_turn_pass(c->turn, work);
                if (i % 512 == 0)
                        pause_ms(5);
                mine = strata_turn_rest(c->turn, work);
        }
        return NULL;
}

static void one_at_a_time(void **state)
{
        struct crowd c = { .turn = *state };
        pthread_t threads[THREADS];

        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, serve, &c), 0);
        for (int i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
        assert_int_equal(atomic_load(&c.most), 1);
        assert_true(atomic_load(&c.done) > THREADS * ROUNDS);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(quick_work_keeps_the_turn, setup, teardown),
                cmocka_unit_test_setup_teardown(passed_on_it_is_another_thread_s, setup, teardown),
                cmocka_unit_test_setup_teardown(nobody_there_takes_it_later, setup, teardown),
                cmocka_unit_test_setup_teardown(slow_work_loses_it, setup, teardown),
                cmocka_unit_test_setup_teardown(open_it_has_guests, setup, teardown),
                cmocka_unit_test_setup_teardown(the_end_wakes_all, setup, teardown),
                cmocka_unit_test(without_a_turn_all_may),
                cmocka_unit_test_setup_teardown(one_at_a_time, setup, teardown),
        };

        return cmocka_run_group_tests_name("turn", tests, NULL, NULL);
}
