/* SPDX-License-Identifier: Apache-2.0 */
/* What is found damaged of the store's own files while they are used: a line in the log, and a look at the next start.
 */
#ifndef STRATA_DAMAGE_H
#define STRATA_DAMAGE_H

#include <stdint.h>

struct strata;

/*
 * Tells of PATH, in the store, once: it may be asked for again and again. The store then is not closed as in order, so
 * that the next start sweeps it.
 */
void strata_damage_note(struct strata *s, const char *path, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same for the file NAME of layer ID, if that is one of util/sumfile.h and damaged. */
void strata_damage_note_sumfile(struct strata *s, uint64_t id, const char *name);

#endif
