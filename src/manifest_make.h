/* SPDX-License-Identifier: Apache-2.0 */
/* The fingerprints of a whole layer, for its commit. */
#ifndef STRATA_MANIFEST_MAKE_H
#define STRATA_MANIFEST_MAKE_H

#include "manifest.h"

/*
 * Writes the manifest of layer ID, to which nobody writes any more; *SUMMARY is for the record. It is not on the disk
 * yet: the commit's own sync takes it there. On failure no manifest is left. Errors are those of reading the layer and
 * of writing to the store.
 */
int strata_manifest_make(struct strata *s, uint64_t id, char summary[STRATA_MANIFEST_SUMMARY_MAX]);

#endif
