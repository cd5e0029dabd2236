/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompression of a layer: gzip by zlib, which checks its sums and which libarchive leaves out; the others by
 * libarchive. Used by layer_stream.c.
 */
#ifndef STRATA_LAYER_UNPACK_H
#define STRATA_LAYER_UNPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Where compressed bytes come from and plain ones go. All calls pass DATA; a negative errno of theirs ends the work. */
struct strata_unpack_ends {
        void *data;
        /* The next bytes, valid until the next call; how many, 0 at the end. */
        ssize_t (*more)(void *data, const void **ret);
        /* Room for plain bytes; the same again until PUT. */
        int (*room)(void *data, void **ret, size_t *len);
        /* LEN plain bytes, at least one, lie there. */
        int (*put)(void *data, size_t len);
};

/* Whether LEN bytes at HEAD, the first of a stream, are those of a compressed one. */
bool strata_unpack_is_compressed(const void *head, size_t len);

/*
 * All of the compressed stream whose first bytes are HEAD, LEN of them, as a block of their own. What follows its end
 * is left where it is. -EINVAL for what is damaged or ends too early.
 */
int strata_unpack(const struct strata_unpack_ends *ends, const void *head, size_t len);

#endif
