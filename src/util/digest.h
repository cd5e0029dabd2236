/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 of a stream, as OCI's digests have it. */
#ifndef STRATA_DIGEST_H
#define STRATA_DIGEST_H

#include <stddef.h>

struct strata_digest;

#define STRATA_DIGEST_HEX 65 /* 64 hexadecimal digits and a NUL */

/* -ENOMEM */
int strata_digest_new(struct strata_digest **ret);
/* NULL is fine. */
void strata_digest_free(struct strata_digest *d);

/* -EIO if libcrypto fails; the digest is of no use then. */
int strata_digest_add(struct strata_digest *d, const void *data, size_t len);
/* The end: in lowercase; nothing can be added any more. -EIO likewise. */
int strata_digest_end(struct strata_digest *d, char ret[STRATA_DIGEST_HEX]);

#endif
