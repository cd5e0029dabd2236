/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded ring of bytes between one writing and one reading thread. Either may end it at any time. */
#ifndef STRATA_RING_H
#define STRATA_RING_H

#include <stddef.h>
#include <sys/types.h>

struct strata_ring;

int strata_ring_new(size_t size, struct strata_ring **ret);
void strata_ring_free(struct strata_ring *r);

/*
 * The writer: waits for room, and gives a free range at the write position, *LEN bytes long, at least one and at most
 * WANT. -ECANCELED once the reader has gone.
 */
int strata_ring_reserve(struct strata_ring *r, size_t want, void **ret, size_t *len);

/* Copies all of DATA; no copy is made where DATA is what strata_ring_reserve() gave. -ECANCELED likewise. */
int strata_ring_write(struct strata_ring *r, const void *data, size_t len);

/* No more will come: ERROR is 0 or a negative errno, which the reader gets after what is there. */
void strata_ring_end(struct strata_ring *r, int error);

/* The reader: waits, and copies at least one byte; 0 at the end, or what strata_ring_end() was given. */
ssize_t strata_ring_read(struct strata_ring *r, void *buf, size_t len);

/* Nobody reads any more. */
void strata_ring_cancel(struct strata_ring *r);

#endif
