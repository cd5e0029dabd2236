/* SPDX-License-Identifier: Apache-2.0 */
/* What the unit tests share: a store of their own in a temporary directory, and a few short ways to fill and to look at
 * it. */
#ifndef STRATAFS_TESTLIB_H
#define STRATAFS_TESTLIB_H

#include "strata.h"

/* cmocka.h needs these four before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct test_store {
        char dir[PATH_MAX / 4];  /* the temporary directory */
        char path[PATH_MAX / 2]; /* the store below it */
        struct strata_config config;
        struct strata *s;
};

/* cmocka's setup and teardown: an empty open store, not durable, in *state; then all of it removed. */
int test_store_setup(void **state);
int test_store_teardown(void **state);

/* The same with a bare temporary directory: *state is a struct test_store without an open store. */
int test_dir_setup(void **state);

/* For a group: mounts made by this process are its own, and are gone with it. 0 or -1. */
int test_private_mounts(void **state);

/* fork(2); the child is killed when this process ends, as after a test that failed. */
pid_t test_fork(void);

/* A store from nothing, for tests that want more than one or another configuration; ends the test when it can't be had.
 */
struct test_store *test_store_new(const struct strata_config *config);
void test_store_free(struct test_store *t);

/* The end of a run, and the start of one. */
void test_store_close(struct test_store *t);
void test_store_open(struct test_store *t);

/* Closes and opens again: after a clean end, or as after a kill. */
void test_store_reopen(struct test_store *t);
void test_store_crash(struct test_store *t);

/* Removes PATH and all below it. */
void test_remove_tree(const char *path);

/* A path below the store, in a buffer of this function that lasts for eight more calls. */
const char *test_path(struct test_store *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* True if there is something at that path, links not followed. */
bool test_exists(struct test_store *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Whole files by absolute path; TEXT and the result are strings. test_read() is NULL without a file; to be freed. */
void test_write(const char *path, const char *text);
char *test_read(const char *path);

/* Entries in the directory at PATH, "." and ".." not counted. */
unsigned test_count_dir(const char *path);

/* The verbs, expected to succeed. PARENT may be "". */
uint64_t test_prepare(struct test_store *t, enum strata_kind kind, const char *key, const char *parent);
void test_commit(struct test_store *t, const char *key, const char *name);

/* prepare and commit in one. */
uint64_t test_snapshot(struct test_store *t, const char *name, const char *parent);

/* The info of an entry that has to exist. */
struct strata_info test_info(struct test_store *t, enum strata_kind kind, const char *name);

/* What strata_rename() does on the disk, for a caller that holds NAMES: as if another thread had come first. */
void test_rename_by_hand(struct test_store *t, enum strata_kind kind, uint64_t id, const char *from, const char *to);

/*
 * All that is in the store, as text: every path with its type, mode, owner, contents or target, and for links the
 * mtime. Without trash/, `lock` and `next`, which failures may change. To be freed.
 */
char *test_state(struct test_store *t);

/* The state has to be BEFORE, which test_state() gave and this frees; else the first line that differs is shown. */
void test_assert_state(struct test_store *t, char *before);

/*
 * Runs FN(DATA) in a thread until it waits for a lock that the caller holds (or for something else), or has ended. To
 * be followed by test_thread_end(), which returns FN's result.
 */
struct test_thread;
struct test_thread *test_thread_start(int (*fn)(void *), void *data);
int test_thread_end(struct test_thread *thread);

/*
 * For tests of mounts: a store with the new or the old mount API, and a teardown that also unmounts what a failed test
 * left on test_mnt() and on "bind" beside it. They want test_private_mounts().
 */
int test_new_api_setup(void **state);
int test_old_api_setup(void **state);
int test_mount_teardown(void **state);

/* The test F with each of the two. */
#define TEST_BOTH_APIS(f)                                                                                              \
        { #f " (new)", f, test_new_api_setup, test_mount_teardown, NULL },                                             \
        {                                                                                                              \
#f " (old)", f, test_old_api_setup, test_mount_teardown, NULL                                          \
        }

/* The place where entries are mounted, or something BELOW it; good for eight more calls. */
const char *test_mnt(struct test_store *t, const char *below);

/* strata_mount_attach() there, through an O_PATH fd; and its end, with word to the store if ID is not 0. */
int test_attach(struct test_store *t, enum strata_kind kind, const char *name);
void test_detach(struct test_store *t, uint64_t id);

/* The line of /proc/self/mountinfo for the mount at PATH, or an empty one. */
void test_mount_line(const char *path, char line[8192]);

void test_assert_text(const char *path, const char *expected);
void test_assert_read_only(const char *path);

/* The number of elements of an array. */
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
