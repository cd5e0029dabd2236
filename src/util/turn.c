/* SPDX-License-Identifier: Apache-2.0 */
#include "util/turn.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#define SLOW_NS 2000000 /* between two looks of the watcher: work that is seen twice is slow */
#define LOOKS_IDLE 50   /* looks at nothing new until the watcher goes to sleep */
#define OPEN_NS 100000000

/* One thread that waits for the turn, on its own stack. */
struct waiter {
        pthread_cond_t wake;
        struct waiter *next;
        enum strata_turn_seat seat; /* what it is given */
};

struct strata_turn {
        /*
         * Odd while the holder is at work, even while it receives. It only grows, so who was passed over finds another
         * number, and never takes the work of a later holder for its own.
         */
        atomic_uint_fast64_t work;
        atomic_bool watched; /* the watcher looks, or will before it sleeps */
        pthread_t watcher;
        atomic_int_fast64_t open_until; /* on the monotonic clock, in nanoseconds */

        pthread_mutex_t lock;   /* protects all below; a leaf lock, held over memory operations only */
        pthread_cond_t look;    /* the watcher is to begin */
        struct waiter *waiters; /* the last to come first: it is the one that is most awake */
        bool taken;
        bool end;
};

/* The turn becomes somebody's, or free. With LOCK held. */
static void hand_over(struct strata_turn *t)
{
        struct waiter *w = t->waiters;

        t->taken = w;
        if (w) {
                t->waiters = w->next;
                w->seat = STRATA_TURN_MINE;
                pthread_cond_signal(&w->wake);
        }
}

/* Ends WORK on behalf of the turn; true for the one who may do with the turn as it likes. */
static bool end_work(struct strata_turn *t, uint64_t work)
{
        uint_fast64_t expected = work;

        return atomic_compare_exchange_strong(&t->work, &expected, work + 1);
}

void strata_turn_pass(struct strata_turn *t, uint64_t work)
{
        if (!t || !end_work(t, work))
                return;
        pthread_mutex_lock(&t->lock);
        hand_over(t);
        pthread_mutex_unlock(&t->lock);
}

bool strata_turn_rest(struct strata_turn *t, uint64_t work)
{
        return !t || end_work(t, work);
}

/* Of the last tick of the kernel's clock, which is good enough here and asks nobody. */
static int64_t now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

bool strata_turn_is_open(struct strata_turn *t)
{
        return !t || atomic_load(&t->open_until) > now_ns();
}

void strata_turn_open(struct strata_turn *t)
{
        int64_t now = now_ns();

        if (!t || atomic_exchange(&t->open_until, now + OPEN_NS) > now)
                return;
        pthread_mutex_lock(&t->lock);
        for (struct waiter *w = t->waiters; w; w = w->next) {
                w->seat = STRATA_TURN_GUEST;
                pthread_cond_signal(&w->wake);
        }
        t->waiters = NULL;
        pthread_mutex_unlock(&t->lock);
}

enum strata_turn_seat strata_turn_take(struct strata_turn *t)
{
        struct waiter w = { .wake = PTHREAD_COND_INITIALIZER, .seat = STRATA_TURN_NONE };

        if (!t)
                return STRATA_TURN_GUEST;
        pthread_mutex_lock(&t->lock);
        if (t->end) {
                w.seat = STRATA_TURN_NONE;
        } else if (!t->taken) {
                t->taken = true;
                w.seat = STRATA_TURN_MINE;
        } else if (strata_turn_is_open(t)) {
                w.seat = STRATA_TURN_GUEST;
        } else {
                w.next = t->waiters;
                t->waiters = &w;
                while (w.seat == STRATA_TURN_NONE && !t->end)
                        pthread_cond_wait(&w.wake, &t->lock);
        }
        if (t->end)
                w.seat = STRATA_TURN_NONE;
        pthread_mutex_unlock(&t->lock);
        pthread_cond_destroy(&w.wake);
        return w.seat;
}

uint64_t strata_turn_work(struct strata_turn *t)
{
        uint64_t work;

        if (!t)
                return 0;
        work = atomic_fetch_add(&t->work, 1) + 1;
        /* The watcher first says that it sleeps and then looks once more; this is the other order: one sees the other.
         */
        if (!atomic_load(&t->watched)) {
                pthread_mutex_lock(&t->lock);
                atomic_store(&t->watched, true);
                pthread_cond_signal(&t->look);
                pthread_mutex_unlock(&t->lock);
        }
        return work;
}

/* Sleeps until there is something to watch; false at the end. */
static bool sleep_deep(struct strata_turn *t)
{
        bool ret;

        pthread_mutex_lock(&t->lock);
        while (!atomic_load(&t->watched) && !t->end)
                pthread_cond_wait(&t->look, &t->lock);
        ret = !t->end;
        pthread_mutex_unlock(&t->lock);
        return ret;
}

static void *watch(void *arg)
{
        const struct timespec slow = { .tv_nsec = SLOW_NS };
        struct strata_turn *t = arg;
        uint64_t last = 0, now;
        unsigned idle = 0;

        while (sleep_deep(t)) {
                nanosleep(&slow, NULL);
                now = atomic_load(&t->work);
                idle = now == last ? idle + 1 : 0;
                if (now % 2 && now == last) {
                        strata_turn_pass(t, now);
                } else if (idle >= LOOKS_IDLE) {
                        idle = 0;
                        atomic_store(&t->watched, false);
                        if (atomic_load(&t->work) != now)
                                atomic_store(&t->watched, true);
                }
                last = now;
        }
        return NULL;
}

int strata_turn_new(struct strata_turn **ret)
{
        struct strata_turn *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return -ENOMEM;
        pthread_mutex_init(&t->lock, NULL);
        pthread_cond_init(&t->look, NULL);
        r = -pthread_create(&t->watcher, NULL, watch, t);
        if (r < 0) {
                pthread_cond_destroy(&t->look);
                pthread_mutex_destroy(&t->lock);
                free(t);
                return r;
        }
        *ret = t;
        return 0;
}

void strata_turn_end(struct strata_turn *t)
{
        if (!t)
                return;
        pthread_mutex_lock(&t->lock);
        t->end = true;
        for (struct waiter *w = t->waiters; w; w = w->next)
                pthread_cond_signal(&w->wake);
        t->waiters = NULL;
        pthread_cond_signal(&t->look);
        pthread_mutex_unlock(&t->lock);
}

void strata_turn_free(struct strata_turn *t)
{
        if (!t)
                return;
        pthread_join(t->watcher, NULL);
        pthread_cond_destroy(&t->look);
        pthread_mutex_destroy(&t->lock);
        free(t);
}
