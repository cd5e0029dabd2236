/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of a layer to entries of its archive, through libarchive's pax writer. Used by layer_export.c. */
#ifndef STRATA_EXPORT_ENTRY_H
#define STRATA_EXPORT_ENTRY_H

#include "export_sink.h"
#include "layer_walk.h"

struct strata_export_entries;

/* PREFIX, of overlayfs' own xattrs, has to live as long. */
int strata_export_entries_new(const struct strata_export_sink *sink, const char *prefix,
                              struct strata_export_entries **ret);
void strata_export_entries_free(struct strata_export_entries *x);

/* A strata_layer_fn, for a walk with whiteouts first; DATA is the struct strata_export_entries. */
int strata_export_entries_add(void *data, enum strata_layer_event event, const struct strata_layer_entry *e);

/* Writes the end of the archive. */
int strata_export_entries_end(struct strata_export_entries *x);

#endif
