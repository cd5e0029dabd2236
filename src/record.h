/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layers/ID/meta: what does not change of an entry, and the way back from its ID to its name. Small text whose last
 * line is the XXH3-64 of all before it, and all of that a second time; the format stands in docs/format.md.
 */
#ifndef STRATA_RECORD_H
#define STRATA_RECORD_H

#include "entry.h"
#include "manifest.h"
#include "util/buf.h"

/* The folder and the name of a link to a layer. */
struct strata_place {
        enum strata_kind kind;
        char name[STRATA_NAME_MAX + 1]; /* empty: no such place */
};

struct strata_record {
        uint64_t id;
        uint64_t parent;
        unsigned depth;
        struct timespec created;
        struct timespec committed; /* 0 until a commit began; counts only when the entry is in snapshots/ */
        struct strata_place now;   /* where the link is, or will be once the rename under way is done */
        struct strata_place was;   /* where it is until then */
        char manifest[STRATA_MANIFEST_SUMMARY_MAX]; /* its summary, manifest.h; empty: committed without one */
};

/* Appends the text of REC to BUF. */
void strata_record_format(const struct strata_record *rec, struct strata_buf *buf);

/* Reads such a text (changed in place). -EUCLEAN when it is damaged. */
int strata_record_parse(char *text, size_t len, struct strata_record *ret);

/*
 * True if a power cut may have left layer ID a staged record that is the true one: it may have kept the link's move and
 * lost the renaming of the record just before, and on btrfs even the end of the former link, to which `meta` leads
 * then. So it is until a sweep was there, for a layer from before this run. Of a step under way nobody takes the staged
 * record for true, as that is in place before the link moves.
 */
bool strata_record_may_be_left(struct strata *s, uint64_t id);

/*
 * The record of layer ID, which its file holds twice; or its staged one, where that may be left and the link that it
 * speaks of is there. -ENOENT without one, -EUCLEAN if both are damaged.
 */
int strata_record_load(struct strata *s, uint64_t id, struct strata_record *ret);

/* False if one of the two is damaged, and the other one to be had. */
bool strata_record_is_whole(struct strata *s, uint64_t id);

/* The record of a step under way, beside it. Errors likewise. */
int strata_record_load_staged(struct strata *s, uint64_t id, struct strata_record *ret);

/* Writes the first record of a layer whose directory is LAYER_FD. Not synced: a layer is durable from its commit on. */
int strata_record_create(int layer_fd, const struct strata_record *rec);

/* Writes REC beside the present record of its layer; strata_record_publish() puts it in place, discard throws it away.
 */
int strata_record_stage(struct strata *s, const struct strata_record *rec, bool sync);
int strata_record_publish(struct strata *s, uint64_t id);
void strata_record_discard(struct strata *s, uint64_t id);

/* The mtime of the link at PLACE, which is its entry's. -ENOENT if there is none. */
int strata_record_place_mtime(struct strata *s, const struct strata_place *place, struct timespec *ret);

/*
 * Which of the record's places is linked to its layer now, with the link's mtime. -ENOENT if nothing links to the
 * layer; other errors where that can't be told.
 */
int strata_record_resolve(struct strata *s, const struct strata_record *rec, struct strata_place *ret,
                          struct timespec *mtime);

/*
 * Puts the staged record of layer ID in place if the link that it speaks of is there: what a power cut may leave, which
 * kept the link and lost the record's rename. 1 if it did, 0 if there is nothing to put in place, -errno if that can't
 * be told or done. NAMES is held, and the layer is nobody else's who moves it.
 */
int strata_record_settle(struct strata *s, uint64_t id);

#endif
