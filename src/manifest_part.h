/* SPDX-License-Identifier: Apache-2.0 */
/* What the writing and the reading of manifests share. Only for src/manifest*.c. */
#ifndef STRATA_MANIFEST_PART_H
#define STRATA_MANIFEST_PART_H

#include "strata.h"

#include <inttypes.h>

#define STRATA_MANIFEST_HEAD "stratafs-manifest 1\n"
#define STRATA_MANIFEST_SUM_FORMAT "xxh3: %016" PRIx64 "%016" PRIx64 "\n"
#define STRATA_MANIFEST_SUM_LEN (sizeof("xxh3: ") - 1 + 32 + 1)

/* "ID/manifest", below layers/. */
void strata_manifest_path(uint64_t id, char path[STRATA_ID_PATH_MAX]);

#endif
