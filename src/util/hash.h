/* SPDX-License-Identifier: Apache-2.0 */
/* uthash with XXH3 as its hash function, and out of memory as an error instead of an exit. */
#ifndef STRATA_HASH_H
#define STRATA_HASH_H

#include <xxhash.h>

#define HASH_FUNCTION(keyptr, keylen, hashv) ((hashv) = (unsigned)XXH3_64bits((keyptr), (keylen)))
#define HASH_NONFATAL_OOM 1
/* After a failed HASH_ADD the element is in no table; callers test this through the element's own flag or pointer. */
#define uthash_nonfatal_oom(elt) ((elt)->oom = 1)

#include <uthash.h>

#endif
