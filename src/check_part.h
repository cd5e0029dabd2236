/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the examination share; see check.h. Only for src/check*.c. */
#ifndef STRATA_CHECK_PART_H
#define STRATA_CHECK_PART_H

#include "check.h"
#include "entry.h"
#include "record.h"
#include "strata.h"

/* What a finding is, and so who may put it in order. */
enum strata_check_cause {
        STRATA_CHECK_CRASH,  /* a crash explains it, or there is one way to mend it: a sweep does */
        STRATA_CHECK_DAMAGE, /* a repair does, if anybody */
};

/* True if the caller is to mend what it found; it then passes its result to strata_check_tell(). */
bool strata_check_wants(struct strata_check *c, enum strata_check_cause cause);

/* Counts and reports a finding; RESULT is 0 if it was mended, anything else if it stays. */
void strata_check_tell(struct strata_check *c, int result, int error, const char *path, const char *fmt, ...)
        __attribute__((format(printf, 5, 6)));

/* Tells that PATH can't be looked at, for ERROR. Nothing is done to it: it may be as it should. */
void strata_check_cannot_tell(struct strata_check *c, int error, const char *path);

/* What strata_check_tell() takes for "not tried". */
#define STRATA_CHECK_LEFT 1

/*
 * Moves what DIRFD has as NAME to lost+found/ and writes the note: FROM is its path in the store, WHY in words. 0 or
 * -errno; then nothing was moved.
 */
int strata_check_lose(struct strata *s, int dirfd, const char *name, const char *from, const char *why);

/* Tells of something that no store holds, and moves it to lost+found/ where that is wanted. */
void strata_check_foreign(struct strata *s, struct strata_check *c, int dirfd, const char *name, const char *from,
                          const char *why);

/* Runs FN(S, C, WHAT); in a live store again and again, until it finds nothing or is to be believed, in one that is
 * not locked with a lock where it finds something. */
void strata_check_steady(struct strata *s, struct strata_check *c,
                         void (*fn)(struct strata *s, struct strata_check *c, const void *what), const void *what);

/* Calls FN for each name of the directory PATH below AT but "." and "..". 0, -errno; 0 if there is none. */
int strata_check_each(int at, const char *path, struct strata *s, struct strata_check *c,
                      void (*fn)(struct strata *s, struct strata_check *c, int dirfd, const char *name, void *data),
                      void *data);

/* Returns ERROR. Where something could not be looked at (< 0, but for -ENOENT), the next start sweeps once more. */
int strata_check_missed(struct strata *s, int error);

/* Whether PATH is below DIRFD, as far as that can be told. */
bool strata_check_is_there(struct strata *s, int dirfd, const char *path);

/* As strata_entry_find(). */
int strata_check_find(struct strata *s, enum strata_kind kind, const char *name, uint64_t *id);

bool strata_check_stopped(const struct strata_check *c);

/* "layers/ID" and FILE behind it, in PATH. */
#define STRATA_CHECK_PATH_MAX (STRATA_ID_PATH_MAX + 16)
void strata_check_layer_path(uint64_t id, const char *file, char path[STRATA_CHECK_PATH_MAX]);

/* A layer in layers/, by its ID; and an entry's link, by its place. */
void strata_check_layer(struct strata *s, struct strata_check *c, const void *id);
void strata_check_link(struct strata *s, struct strata_check *c, const void *place);

/* A layer with a record in order, REC, that nothing leads to at the places it names. NAMES is held. */
void strata_check_unlinked(struct strata *s, struct strata_check *c, const struct strata_record *rec);

/* Puts a link to layer ID at PLACE, in one step, whatever is there. 0 or -errno. */
int strata_check_relink(struct strata *s, uint64_t id, const struct strata_place *place);

/* The marks of children in a layer, by its ID. */
void strata_check_marks(struct strata *s, struct strata_check *c, const void *what);

/* What lies in a layer whose record REC is in order and linked at PLACE. */
void strata_check_contents(struct strata *s, struct strata_check *c, const struct strata_record *rec,
                           const struct strata_place *place);

/*
 * The manifest of layer ID, linked at PLACE: that it belongs to a commit, and, but in a sweep, that its checksum is
 * right. And that the one is there that the record REC of a committed layer speaks of; NAMES is held.
 */
void strata_check_manifest(struct strata *s, struct strata_check *c, uint64_t id, const struct strata_place *place);
void strata_check_manifest_is_there(struct strata *s, struct strata_check *c, const struct strata_record *rec);

/* A record for layer ID, whose own is lost, from what else the store knows; *RET is where it is linked. -EUCLEAN if
 * that is not enough. */
int strata_check_rebuild(struct strata *s, uint64_t id, struct strata_record *ret);

/* True if layers/ID is there, or that can't be told. */
bool strata_check_layer_exists(struct strata *s, uint64_t id);

/*
 * 1 if a link leads to layer ID: the long way, over all links. *RET then is one of them, the best known. 0 if none
 * does; -errno if that can't be told.
 */
int strata_check_find_link(struct strata *s, uint64_t id, struct strata_place *ret);

#endif
