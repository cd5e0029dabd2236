/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a layer on their way in: from whoever writes, through decompression and SHA-256 in a thread of their
 * own, to whoever reads the plain archive. Both queues are bounded, so a writer waits for the slowest.
 */
#ifndef STRATA_LAYER_STREAM_H
#define STRATA_LAYER_STREAM_H

#include "util/digest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STRATA_DIGEST_MAX (7 + STRATA_DIGEST_HEX) /* "sha256:" and the digest */

struct strata_stream;
struct strata_block;

/* MAX_BYTES limits the uncompressed stream; 0 is no limit. */
int strata_stream_new(uint64_t max_bytes, struct strata_stream **ret);
/* No thread may be in a call any more, and nothing be kept. */
void strata_stream_free(struct strata_stream *st);

/* The writer: LEN more bytes; waits while the queue is full. Once the stream was stopped, the errno of that. */
int strata_stream_write(struct strata_stream *st, const void *data, size_t len);
/* True if strata_stream_write() of LEN bytes would not wait now, and nothing was stopped. */
bool strata_stream_has_room(struct strata_stream *st, size_t len);
/* The writer's last word. */
int strata_stream_end(struct strata_stream *st);

/*
 * The work of the thread between: returns when all has passed through, or the stream was stopped. What is wrong with
 * the input stops the stream: -EINVAL for compressed data that is damaged or ends too early, -EFBIG past the limit.
 */
void strata_stream_run(struct strata_stream *st);

/*
 * The reader: the next plain bytes, valid until the next call. Returns how many, 0 at the end, or the errno with which
 * the stream was stopped.
 */
ssize_t strata_stream_read(struct strata_stream *st, const void **ret);

/*
 * The reader: the block that the last strata_stream_read() gave, if LEN bytes at DATA are a part of it; else NULL.
 * Kept, it stays valid beyond the next one, until it is dropped as often, by any thread.
 */
struct strata_block *strata_stream_block(struct strata_stream *st, const void *data, size_t len);
void strata_stream_keep(struct strata_stream *st, struct strata_block *b);
void strata_stream_drop(struct strata_stream *st, struct strata_block *b);

/* Ends all waiting, in every thread, with ERROR (a negative errno); the first error and its constant WHY stay. */
void strata_stream_stop(struct strata_stream *st, int error, const char *why);
/* The errno of strata_stream_stop(), *WHY likewise; 0 while nothing has gone wrong. */
int strata_stream_error(struct strata_stream *st, const char **why);

/* Once, when the reader has seen the end: digests of the bytes as they were given, and of the plain ones. */
int strata_stream_digests(struct strata_stream *st, char given[STRATA_DIGEST_MAX], char plain[STRATA_DIGEST_MAX]);

#endif
