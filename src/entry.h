/* SPDX-License-Identifier: Apache-2.0 */
/* What an entry of active/, views/ or snapshots/ is, and how it is found by name and by ID. */
#ifndef STRATA_ENTRY_H
#define STRATA_ENTRY_H

#include "name.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct strata;

/* The order is that of struct strata.kind_fd. */
enum strata_kind {
        STRATA_ACTIVE,
        STRATA_VIEW,
        STRATA_COMMITTED,
};
#define STRATA_KINDS 3

/* "active", "views", "snapshots": the folder, in the store and below the mount point. */
const char *strata_kind_folder(enum strata_kind kind);

/* "active", "view", "committed": the word in `info`. */
const char *strata_kind_word(enum strata_kind kind);

/* Everything known of an entry without looking into its files; a copy, valid as of the call that gave it. */
struct strata_info {
        uint64_t id;
        uint64_t parent; /* ID of the snapshot below, 0 for a base */
        unsigned depth;  /* 1 for a base */
        enum strata_kind kind;
        char name[STRATA_NAME_MAX + 1];
        struct timespec created;
        struct timespec updated;   /* last prepared, committed or relabelled */
        struct timespec committed; /* of committed ones only */
};

/*
 * Writes what a link to layer ID holds: the ID twice, so that a damaged one is known as such, and mostly which it was.
 */
#define STRATA_TARGET_MAX 64
void strata_entry_target(uint64_t id, char target[STRATA_TARGET_MAX]);

/* The layer that such a target leads to. -EUCLEAN if it is damaged, or was never one. */
int strata_entry_parse_target(const char *target, uint64_t *ret);

/*
 * How layer ID speaks of the place (KIND, NAME): as its own; as the one it has until a move has come, which counts only
 * while its link is not at the new one; or 0. Errors are those of reading its record, or that link.
 */
enum {
        STRATA_CLAIM_WAS = 1,
        STRATA_CLAIM_NOW = 2,
};
int strata_entry_claims(struct strata *s, uint64_t id, enum strata_kind kind, const char *name);

/*
 * ID of the entry that is called NAME in the folder of KIND, even if a bit of its link is wrong, as long as one layer
 * alone claims that place. -ENOENT when there is none.
 */
int strata_entry_find(struct strata *s, enum strata_kind kind, const char *name, uint64_t *ret);

/*
 * 1 if the link at (KIND, NAME) is in order and leads to layer ID, 0 if not; -errno if that can't be told. For those
 * who ask on behalf of a record, which is what a damaged link is known by.
 */
int strata_entry_leads_to(struct strata *s, enum strata_kind kind, const char *name, uint64_t id);

/* The entry with ID. -ENOENT when it is no more; -EUCLEAN when its record is damaged. */
int strata_entry_info(struct strata *s, uint64_t id, struct strata_info *ret);

/* find and info in one. */
int strata_entry_get(struct strata *s, enum strata_kind kind, const char *name, struct strata_info *ret);

/* The parent's info; -ENOENT for a base. */
int strata_entry_parent(struct strata *s, const struct strata_info *info, struct strata_info *ret);

/* IDs of the entries on top of snapshot ID, ascending; *ret is the caller's to free. */
int strata_entry_children(struct strata *s, uint64_t id, uint64_t **ret, size_t *n);

/* True if any entry stands on snapshot ID. Negative errno when that can't be told. */
int strata_entry_has_children(struct strata *s, uint64_t id);

/* Sets the time that `updated` and the entry's mtime show to now. */
int strata_entry_touch(struct strata *s, const struct strata_info *info);
/* The same of entry ID, which may be renamed meanwhile. One that can't be touched keeps its time. */
void strata_entry_touch_id(struct strata *s, uint64_t id);

/* Number of entries of KIND: a walk over its folder. */
int strata_entry_count(struct strata *s, enum strata_kind kind, uint64_t *ret);

#endif
