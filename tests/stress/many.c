/* SPDX-License-Identifier: Apache-2.0 */
#include "stress.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

static void pause_us(unsigned long us)
{
        const struct timespec t = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };

        nanosleep(&t, NULL);
}

#define GRACE_MS 150 /* workers that die sooner after their first answer make the keeper give up */

/* Returns once the worker of now answers. */
static void await_answer(struct stress *x)
{
        char path[PATH_MAX];
        struct stat st;

        snprintf(path, sizeof(path), "%s/version", x->mnt);
        (void)stat(path, &st);
}

/* Kills workers until the phase is over. One that does not serve yet is left alone. */
static void kill_workers(struct stress *x, struct rng *r, unsigned milliseconds)
{
        for (unsigned at = 0; at < milliseconds;) {
                unsigned ms = 150 + (unsigned)rng_below(r, 400);
                pid_t worker;

                await_answer(x);
                pause_us((ms + GRACE_MS) * 1000ul);
                at += ms + GRACE_MS;
                worker = program_worker(x);
                if (worker > 0 && kill(worker, SIGKILL) == 0)
                        x->worker_kills++;
        }
}

static void add_up(struct stress *x, const struct client *c)
{
        x->stale += c->stale;
        if (c->slowest > x->slowest) {
                x->slowest = c->slowest;
                x->slowest_op = c->slowest_op;
        }
        for (int i = 0; i < OP_TYPES; i++) {
                x->done[i] += c->done[i];
                x->good[i] += c->good[i];
                x->many_ops += c->done[i];
        }
}

void many_phase(struct stress *x, uint64_t seed, unsigned milliseconds, enum kill kill)
{
        struct client clients[CLIENTS] = { 0 };
        const struct model before = x->model;
        unsigned failed = x->failed;
        struct rng r = { seed };
        struct many many;

        atomic_init(&many.stop, false);
        atomic_init(&many.dying, false);
        for (int i = 0; i < CLIENTS; i++) {
                struct client *c = &clients[i];

                *c = (struct client){ .x = x, .many = &many, .rng.state = seed ^ rng_next(&r), .number = i };
                c->stamp = x->next_stamp + (uint32_t)i * 100000;
                if (pthread_create(&c->thread, NULL, many_client, c) != 0)
                        abort();
        }
        x->next_stamp += CLIENTS * 100000;
        if (kill == KILL_WORKER)
                kill_workers(x, &r, milliseconds);
        else
                pause_us((unsigned long)rng_below(&r, (int)milliseconds * 1000));
        if (kill == KILL_ALL) {
                atomic_store(&many.dying, true);
                program_kill(x);
        }
        if (kill != KILL_ALL)
                atomic_store(&many.stop, true);
        for (int i = 0; i < CLIENTS; i++) {
                pthread_join(clients[i].thread, NULL);
                add_up(x, &clients[i]);
        }
        if (kill != KILL_ALL || program_start(x))
                many_check(x, clients, &before);
        for (int i = 0; i < CLIENTS; i++)
                free(clients[i].notes);
        if (x->failed == failed)
                return;
        fprintf(stderr, "# in a phase of many clients of seed %ju, kill %d\n", (uintmax_t)seed, (int)kill);
        tell_log(x);
}
