/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one step behind commit and rename: an entry's link gets another name or folder. Records are staged before it and
 * put in place just ahead of it, naming the old and the new place, so that at any instant one of the two is true.
 */
#ifndef STRATA_LINK_H
#define STRATA_LINK_H

#include "record.h"

/* An operation that moves or removes an entry; lives on the caller's stack from begin to end. */
struct strata_op {
        uint64_t id;
        /*
         * Of one whose link has moved and is not known to be on the disk, so that it may go back; else NULL. Protected
         * by NAMES, as is the list.
         */
        const struct strata_record *moving;
        struct strata_op *next;
};

/* Claims entry ID for one mover at a time. -EBUSY (never waits) while another holds it. */
int strata_op_begin(struct strata *s, struct strata_op *op, uint64_t id);
/*
 * Claims the entry that KIND's folder holds under NAME, and reads it as it is then; a record that a power cut left is
 * in its place afterwards, so that the next one can be staged. -ENOENT without one, -EBUSY as above.
 */
int strata_op_begin_entry(struct strata *s, struct strata_op *op, enum strata_kind kind, const char *name,
                          struct strata_info *ret);

/* True if somebody holds it; NAMES is held by the caller, so that nobody comes in between. */
bool strata_op_is_under_way(struct strata *s, uint64_t id);

/*
 * Waits until entry ID has no link that may go back. NAMES is held, and released meanwhile; what is waited for is an
 * fsync.
 */
void strata_op_wait_moved(struct strata *s, uint64_t id);

/* Ends a claim. */
void strata_op_end(struct strata *s, struct strata_op *op);

/* -EEXIST and *WHY if NAME can't be used in KIND's folder: KEYs are unique over active/ and views/ together. */
int strata_link_check_free(struct strata *s, enum strata_kind kind, const char *name, const char **why);

/* The same at the step itself, with NAMES held: a name that a link has left and may go back to is taken as well. */
int strata_link_check_free_held(struct strata *s, enum strata_kind kind, const char *name, const char **why);

/*
 * The record of INFO's entry for a move to (TO, NAME), with what the present one of a committed snapshot says of its
 * manifest. Errors are those of reading that.
 */
int strata_link_record(struct strata *s, const struct strata_info *info, enum strata_kind to, const char *name,
                       struct strata_record *ret);

/*
 * Puts into the index what REC says of its entry, now that the link is at rec->now: what was just made or moved is
 * asked for next. NAMES is held since before that step, so nothing has changed it yet.
 */
void strata_link_remember(struct strata *s, const struct strata_record *rec);

/*
 * Puts the staged record REC in place and moves the link from rec->was to rec->now, never replacing anything; then
 * makes it durable. On failure the link is where it was; -EEXIST with *WHY if the new name is taken.
 */
int strata_link_move(struct strata *s, const struct strata_record *rec, const char **why);

#endif
