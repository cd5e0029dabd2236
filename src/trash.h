/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Background removal. What is to go is renamed into trash/, which is one step however large it is; one thread, which
 * the caller provides, deletes there. What a crash leaves in trash/ goes when that thread starts.
 */
#ifndef STRATA_TRASH_H
#define STRATA_TRASH_H

#include <stdint.h>

struct strata;
struct strata_trash;

int strata_trash_new(struct strata_trash **ret);
void strata_trash_free(struct strata_trash *t);

/* Moves layers/ID away and wakes the thread. 0 also when it is gone already. */
int strata_trash_layer(struct strata *s, uint64_t id);

/*
 * Moves whatever is called NAME below DIRFD, a part of layer ID, away in one step and wakes the thread. 0 also when
 * there is nothing. For directories it leaves the work on what they hold to the thread.
 */
int strata_trash_part(struct strata *s, int dirfd, const char *name, uint64_t id);

/* Deletes all that is in trash/ now; 0, or the first error met (the rest is tried all the same). */
int strata_trash_empty(struct strata *s);

/* The thread's work: empties trash/ whenever there is something, until strata_trash_stop(). */
void strata_trash_run(struct strata *s);

/* Makes strata_trash_run() return soon; what is left in trash/ stays for the next start. */
void strata_trash_stop(struct strata *s);

/* Layers in trash/ that are not deleted yet. */
uint64_t strata_trash_pending(struct strata *s);

#endif
