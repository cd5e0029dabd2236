/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded ring of bytes from one writing thread to one or two reading ones, each of which reads all of it. */
#ifndef STRATA_RING_H
#define STRATA_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct strata_ring;

#define STRATA_RING_READERS 2

int strata_ring_new(size_t size, unsigned readers, struct strata_ring **ret);
void strata_ring_free(struct strata_ring *r);

/*
 * The writer: waits for room, and gives a free range at the write position, *LEN bytes long, at least one and at most
 * WANT. -ECANCELED once the readers have gone.
 */
int strata_ring_reserve(struct strata_ring *r, size_t want, void **ret, size_t *len);

/* True then, for a writer that has nothing to write for a while. */
bool strata_ring_is_cancelled(struct strata_ring *r);

/* Copies all of DATA; no copy is made where DATA is what strata_ring_reserve() gave. -ECANCELED likewise. */
int strata_ring_write(struct strata_ring *r, const void *data, size_t len);

/* No more will come: ERROR is 0 or a negative errno, which the reader gets after what is there. */
void strata_ring_end(struct strata_ring *r, int error);

/*
 * Reader READER, from 0: waits for WANT bytes or an eighth of the ring, whatever is less, and gives what is there in
 * one piece, up to WANT bytes, where it lies. 0 at the end, or what strata_ring_end() was given.
 */
ssize_t strata_ring_peek(struct strata_ring *r, unsigned reader, size_t want, const void **ret);

/* Waits likewise, MSEC milliseconds at most; true if strata_ring_peek() would not wait any more. */
bool strata_ring_wait(struct strata_ring *r, unsigned reader, size_t want, unsigned msec);

/* Without waiting: true if LEN bytes, and not the last, are there for READER, in one piece. */
bool strata_ring_has(struct strata_ring *r, unsigned reader, size_t len, const void **ret);

/* Has done with LEN bytes of that. */
void strata_ring_skip(struct strata_ring *r, unsigned reader, size_t len);

/* Nobody reads any more. */
void strata_ring_cancel(struct strata_ring *r);

#endif
