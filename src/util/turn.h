/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The turn: of the threads that serve, one at a time receives. As long as its requests are quick it goes on receiving,
 * so that the requests of one client find the same thread, awake or just gone to sleep, on a processor that knows it;
 * the kernel would wake them in a circle. Whoever is about to do something slow passes the turn on before. Who proves
 * slow without having known loses it to a thread that watches.
 *
 * So between two requests that are received one after the other lies no more than a few milliseconds of the first,
 * whatever that one waits for.
 */
#ifndef STRATA_TURN_H
#define STRATA_TURN_H

#include <stdbool.h>
#include <stdint.h>

struct strata_turn;

/* How a thread came to receive. */
enum strata_turn_seat {
        STRATA_TURN_NONE,
        STRATA_TURN_MINE,  /* it has the turn */
        STRATA_TURN_GUEST, /* all may, for now: it has nothing to pass on */
};

/*
 * Starts the watching thread as well. 0 or -errno. Without that thread there can be no turn: in all functions below
 * NULL stands for none, where everybody may receive at any time.
 */
int strata_turn_new(struct strata_turn **ret);

/* After strata_turn_end(), once nobody is in a function of this page. */
void strata_turn_free(struct strata_turn *t);

/* Waits for the turn, or until all may receive. STRATA_TURN_NONE: there will be none any more. */
enum strata_turn_seat strata_turn_take(struct strata_turn *t);

/*
 * For the next tenth of a second all may receive, beside who has the turn: several clients are at work at once, and
 * each is answered best by a thread on its own processor. Anybody may call it, any time.
 */
void strata_turn_open(struct strata_turn *t);
bool strata_turn_is_open(struct strata_turn *t);

/* The holder has received something and begins to work on it. Returns a number for the two below. */
uint64_t strata_turn_work(struct strata_turn *t);

/* Gives the turn to another thread, before the work is done. Only the first call, and only in time, does anything. */
void strata_turn_pass(struct strata_turn *t, uint64_t work);

/* The work is done. True if the turn is still the caller's; else to be taken anew. */
bool strata_turn_rest(struct strata_turn *t, uint64_t work);

/* From now on strata_turn_take() returns false, at once. Whoever has the turn may call it, and whoever has not. */
void strata_turn_end(struct strata_turn *t);

#endif
