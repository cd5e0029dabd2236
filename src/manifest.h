/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layers/ID/manifest: the fingerprints of a committed layer, an entry an object in the order of the walk. The entry's
 * record names the number of entries and the checksum, or, of a layer that holds nothing, all of it. The format stands
 * in docs/format.md.
 */
#ifndef STRATA_MANIFEST_H
#define STRATA_MANIFEST_H

#include "fingerprint.h"
#include "util/buf.h"

#include <stddef.h>
#include <stdint.h>

struct strata;

/* Bytes of what the record says of a manifest, with its NUL. */
#define STRATA_MANIFEST_SUMMARY_MAX 192

struct strata_manifest_entry {
        struct strata_fingerprint fp;
        uint64_t first; /* number, from 1, of the first entry that is a link of the same inode; 0: this is the first */
        const char *path; /* from the layer's root, without a leading slash; borrowed until the next entry */
};

/* ---- writing ---- */

struct strata_manifest_writer;

/* Of layer ID. Nothing is on the disk before the second entry. */
int strata_manifest_writer_new(struct strata *s, uint64_t id, struct strata_manifest_writer **ret);

/* The number of the entry, from 1, is *RET. */
int strata_manifest_add(struct strata_manifest_writer *w, const struct strata_manifest_entry *e, uint64_t *ret);

/* Ends it, not synced; *SUMMARY is for the record. */
int strata_manifest_end(struct strata_manifest_writer *w, char summary[STRATA_MANIFEST_SUMMARY_MAX]);

/* What was written and not ended stays, and is nobody's: strata_manifest_discard(). */
void strata_manifest_writer_free(struct strata_manifest_writer *w);

/* Removes the manifest of a layer that has, or is to have, none. */
void strata_manifest_discard(struct strata *s, uint64_t id);

/* ---- reading ---- */

struct strata_manifest;

/*
 * Opens the manifest of layer ID that SUMMARY, from its record, speaks of, once its checksum is found to be right.
 * -EUCLEAN if it is not, or the summary is no summary; -ENOENT if the file is missing. -EINTR as of
 * util/wanted.h.
 */
int strata_manifest_open(struct strata *s, uint64_t id, const char *summary, struct strata_manifest **ret);

/* 1 with the next entry, 0 at the end; -EUCLEAN for one that can't be read. */
int strata_manifest_next(struct strata_manifest *m, struct strata_manifest_entry *ret);
void strata_manifest_close(struct strata_manifest *m);

/* The summary for a file that is in order by its own checksum: for a record that was lost. Errors as above. */
int strata_manifest_summarize(struct strata *s, uint64_t id, char summary[STRATA_MANIFEST_SUMMARY_MAX]);

/* True if the manifest of SUMMARY is a file, and not all in the summary. */
bool strata_manifest_has_file(const char *summary);

#endif
