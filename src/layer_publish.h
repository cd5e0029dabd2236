/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of an import: the finished layer takes the place of fs/ and the two labels with its digests are set, as one
 * step. Inside of layer_import, the start and the examination only.
 */
#ifndef STRATA_LAYER_PUBLISH_H
#define STRATA_LAYER_PUBLISH_H

#include <stdbool.h>
#include <stdint.h>

struct strata;
struct strata_check;

#define STRATA_PUBLISH_FS_NEW "fs.new" /* in layers/ID: what is being imported */

/*
 * Exchanges fs.new of layer ID, whose directory is LAYER_FD, with the empty fs/, and sets the labels. On failure all is
 * as before, fs.new still there; *WHY then is constant text or NULL. The caller has claimed the entry.
 */
int strata_publish_layer(struct strata *s, uint64_t id, int layer_fd, const char *diffid, const char *digest,
                         const char **why);

/*
 * At the start: completes what a kill cut off between the exchange and the last label, and undoes what came less far. A
 * line in the log for what can't be done; it is tried again at the next start.
 */
void strata_publish_recover(struct strata *s);

/* The examination of NAME, a file of the store that begins with "import.". False if it is none of a publication. */
bool strata_publish_check(struct strata *s, struct strata_check *c, const char *name);

#endif
