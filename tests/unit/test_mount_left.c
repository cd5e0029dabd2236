/* SPDX-License-Identifier: Apache-2.0 */
/* What a mount leaves behind, in order or after a kill: the mark in its layer, and what overlayfs itself writes for
 * volatile mounts. */
#include "testlib.h"

#include "commit.h"
#include "label.h"
#include "log.h"
#include "mount.h"
#include "mount_watch.h"
#include "util/buf.h"
#include "util/sumfile.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static void volatile_mounts_leave_no_mark_in_the_end(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        char line[8192];

        t->s->config.volatile_mounts = true;
        for (int round = 0; round < 2; round++) {
                assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
                test_mount_line(test_mnt(t, ""), line);
                assert_non_null(strstr(line, "volatile"));
                assert_true(test_exists(t, "layers/%" PRIu64 "/work/work/incompat/volatile", id));
                test_write(test_mnt(t, "file"), "x");
                test_detach(t, id);
                assert_false(test_exists(t, "layers/%" PRIu64 "/work/work/incompat", id));
        }
        /* Only active snapshots are. */
        test_commit(t, "k", "n");
        assert_int_equal(test_attach(t, STRATA_COMMITTED, "n"), 0);
        test_mount_line(test_mnt(t, ""), line);
        assert_null(strstr(line, "volatile"));
        test_detach(t, 0);
}

static bool log_holds(struct test_store *t, const char *word)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

        strata_log_show(t->s->log, &buf);
        return buf.data && strstr(buf.data, word);
}

/* Killed while mounted, mount gone: within one boot everything is as the kernel has it. */
static void a_leftover_mark_of_this_boot(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");

        for (int is_volatile = 0; is_volatile < 2; is_volatile++) {
                t->s->config.volatile_mounts = is_volatile;
                assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
                test_write(test_mnt(t, "file"), "x");
                test_detach(t, 0); /* and no word to the store */
                assert_true(test_exists(t, "layers/%" PRIu64 "/mounted", id));
                assert_int_equal(test_exists(t, "layers/%" PRIu64 "/work/work/incompat/volatile", id), is_volatile);
                test_store_crash(t);
                t->s->config.volatile_mounts = is_volatile;
                assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
                test_assert_text(test_mnt(t, "file"), "x");
                test_detach(t, id);
                assert_false(test_exists(t, "layers/%" PRIu64 "/mounted", id));
        }
        assert_false(log_holds(t, "mount"));
}

/* Killed while mounted, and some process still works in the mount: a second overlay would break both. */
static void a_mount_that_lives_on_is_not_doubled(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        int user;

        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        user = open(test_mnt(t, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(user >= 0);
        assert_int_equal(strata_mount_detach(test_mnt(t, ""), MNT_DETACH), 0);
        test_store_crash(t);
        for (int tries = 0; tries < 2; tries++) {
                dev_t dev;

                assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), -EBUSY);
                assert_int_equal(strata_mount_is_attached(test_mnt(t, ""), &dev), 0);
                assert_int_equal(strata_mount_is_attached(test_path(t, "layers"), &dev),
                                 0); /* the probe left nothing */
                assert_true(test_exists(t, "layers/%" PRIu64 "/mounted", id));
        }
        /* The user's mount is whole. */
        int fd = openat(user, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        close(fd);
        close(user);
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        assert_int_equal(access(test_mnt(t, "file"), F_OK), 0);
        test_detach(t, id);
}

/* The end of the whole superblock counts: neither a descriptor nor a bind may be left. */
static void the_end_of_a_mount_is_seen(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        int user, watch;

        for (int used = 0; used < 2; used++) {
                assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
                user = used ? open(test_mnt(t, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
                watch = strata_mount_watch(test_mnt(t, ""));
                assert_true(watch >= 0);
                assert_false(strata_mount_has_ended(watch));
                assert_int_equal(strata_mount_detach(test_mnt(t, ""), MNT_DETACH), 0);
                if (used) {
                        assert_false(strata_mount_has_ended(watch));
                        assert_int_equal(strata_mount_lives_on(t->s, id), 1);
                        close(user);
                }
                assert_true(strata_mount_has_ended(watch));
                assert_int_equal(strata_mount_lives_on(t->s, id), 0);
                close(watch);
        }
        assert_false(strata_mount_has_ended(-1));
        assert_int_equal(strata_mount_watch(test_path(t, "not/there")), -1);
}

/* A commit takes the mark away once its mount has ended, however that is found out. */
static void what_is_committed_stays_marked_while_used(void **state)
{
        struct test_store *t = *state;

        for (int ended = 0; ended < 2; ended++) {
                uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
                int user;

                assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
                user = open(test_mnt(t, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert_true(user >= 0);
                assert_int_equal(strata_mount_detach(test_mnt(t, ""), MNT_DETACH), 0);
                atomic_store(&t->s->rubbish, false);
                test_commit(t, "k", ended ? "n" : "m");
                strata_mount_committed(t->s, id, false);
                assert_true(test_exists(t, "layers/%" PRIu64 "/mounted", id));
                assert_true(t->s->rubbish); /* so that the next start looks whether it has ended */
                close(user);
                strata_mount_committed(t->s, id, ended);
                assert_false(test_exists(t, "layers/%" PRIu64 "/mounted", id));
        }
}

/* The machine went down with the snapshot mounted volatile: what is in it may be anything. */
static void a_leftover_mark_of_another_boot(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");

        for (int was_volatile = 0; was_volatile < 2; was_volatile++) {
                test_write(test_path(t, "layers/%" PRIu64 "/mounted", id),
                           was_volatile ? "01234567-89ab-cdef-0123-456789abcdef volatile\n"
                                        : "01234567-89ab-cdef-0123-456789abcdef synced\n");
                if (was_volatile) {
                        assert_true(mkdir(test_path(t, "layers/%" PRIu64 "/work/work", id), 0) == 0 || errno == EEXIST);
                        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/work/work/incompat", id), 0), 0);
                        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/work/work/incompat/volatile", id), 0),
                                         0);
                        test_write(test_path(t, "layers/%" PRIu64 "/work/work/incompat/volatile/dirty", id), "");
                }
                if (was_volatile) {
                        const char *why;

                        test_write(test_path(t, "layers/%" PRIu64 "/fs/file", id), "seen");
                        assert_true(strata_mount_is_suspect(t->s, id));
                        for (int times = 0; times < 2; times++) { /* it does not wear off */
                                assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
                                assert_true(log_holds(t, " mount k EUCLEAN "));
                                test_assert_text(test_mnt(t, "file"), "seen");
                                test_assert_read_only(test_mnt(t, "file"));
                                assert_int_equal(strata_commit(t->s, "k", "n", &why), -EUCLEAN);
                                assert_non_null(strstr(why, "volatile"));
                                test_detach(t, id);
                        }
                        assert_int_equal(strata_label_set(t->s, id, STRATA_MOUNT_TRUST, "no", 2), 0);
                        assert_true(strata_mount_is_suspect(t->s, id));
                        assert_int_equal(strata_label_set(t->s, id, STRATA_MOUNT_TRUST, "yes", 3), 0);
                        assert_false(strata_mount_is_suspect(t->s, id));
                }
                assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
                assert_int_equal(log_holds(t, " mount "), was_volatile);
                test_detach(t, id);
                assert_false(test_exists(t, "layers/%" PRIu64 "/mounted", id));
        }
        /* What is trusted is so once: the next time the machine goes down it is suspect again. */
        assert_false(test_exists(t, "layers/%" PRIu64 "/labels/" STRATA_MOUNT_TRUST, id));
}

/* An empty mark is one that nobody had synced, so not of a volatile mount; of one that may have been anything the worst
 * is said. */
static void marks_that_say_nothing(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        char garbage[68] = "";

        test_write(test_path(t, "layers/%" PRIu64 "/mounted", id), "");
        assert_int_equal(strata_mount_is_suspect(t->s, id), 0);
        memset(garbage, '~', sizeof(garbage) - 1);
        test_write(test_path(t, "layers/%" PRIu64 "/mounted", id), garbage);
        assert_int_equal(strata_mount_is_suspect(t->s, id), 1);
}

/* Marks are links to one file, so a wrong bit is in all of them: what was not volatile is not suspect for it. */
static void marks_with_a_wrong_bit(void **state)
{
        static const char *const words[] = { "synced", "volatile" };
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        char path[48], text[128];

        snprintf(path, sizeof(path), "%" PRIu64 "/mounted", id);
        for (int is_volatile = 0; is_volatile < 2; is_volatile++) {
                int n = snprintf(text, sizeof(text), "01234567-89ab-cdef-0123-456789abcdef %s\n", words[is_volatile]);
                char *good;

                assert_int_equal(strata_sumfile_write(t->s->layers_fd, path, 1, text, (size_t)n, false), 0);
                assert_int_equal(strata_mount_is_suspect(t->s, id), is_volatile);
                good = test_read(test_path(t, "layers/%s", path));
                for (size_t bit = 0; bit < 8 * strlen(good); bit++) {
                        char bad[128];

                        strcpy(bad, good);
                        bad[bit / 8] = (char)(bad[bit / 8] ^ (1 << bit % 8));
                        if (!bad[bit / 8])
                                continue; /* test_write() ends there */
                        test_write(test_path(t, "layers/%s", path), bad);
                        assert_int_equal(strata_mount_is_suspect(t->s, id), is_volatile);
                }
                free(good);
                assert_true(log_holds(t, "that was not volatile")); /* a mark is told of once */
        }
}

/* Of this boot, and damaged where it does not say so: as before. */
static void a_damaged_mark_of_this_boot(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        char *text;
        int user;

        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        user = open(test_mnt(t, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(user >= 0);
        assert_int_equal(strata_mount_detach(test_mnt(t, ""), MNT_DETACH), 0);
        text = test_read(test_path(t, "layers/%" PRIu64 "/mounted", id));
        for (int at = 3; at < 44; at += 36) {
                text[at] ^= 1;
                test_write(test_path(t, "layers/%" PRIu64 "/mounted", id), text);
                text[at] ^= 1;
                assert_false(strata_mount_is_suspect(t->s, id));
                assert_int_equal(strata_mount_lives_on(t->s, id), 1);
                assert_int_equal(strata_mount_drop_damaged_mark(t->s, id), 1);
        }
        free(text);
        close(user);
        assert_int_equal(strata_mount_drop_damaged_mark(t->s, id), 0);
        assert_false(test_exists(t, "layers/%" PRIu64 "/mounted", id));
}

/* A start makes the marks anew: those of an earlier one tell of another boot. */
static void marks_are_of_this_run(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");

        test_write(test_path(t, "mark.synced"), "01234567-89ab-cdef-0123-456789abcdef synced\n");
        test_store_crash(t);
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        assert_int_equal(strata_mount_lives_on(t->s, id), 1);
        test_detach(t, id);
}

/* Trusted and committed without being touched before. */
static void what_is_trusted_can_be_committed(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");

        test_write(test_path(t, "layers/%" PRIu64 "/mounted", id), "01234567-89ab-cdef-0123-456789abcdef volatile\n");
        assert_int_equal(strata_label_set(t->s, id, STRATA_MOUNT_TRUST, "yes\n", 4), 0);
        test_commit(t, "k", "n");
        assert_false(test_exists(t, "layers/%" PRIu64 "/mounted", id));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_BOTH_APIS(volatile_mounts_leave_no_mark_in_the_end),
                TEST_BOTH_APIS(a_leftover_mark_of_this_boot),
                TEST_BOTH_APIS(a_mount_that_lives_on_is_not_doubled),
                TEST_BOTH_APIS(the_end_of_a_mount_is_seen),
                TEST_BOTH_APIS(what_is_committed_stays_marked_while_used),
                TEST_BOTH_APIS(a_leftover_mark_of_another_boot),
                TEST_BOTH_APIS(marks_that_say_nothing),
                TEST_BOTH_APIS(marks_with_a_wrong_bit),
                TEST_BOTH_APIS(a_damaged_mark_of_this_boot),
                TEST_BOTH_APIS(marks_are_of_this_run),
                TEST_BOTH_APIS(what_is_trusted_can_be_committed),
        };

        return cmocka_run_group_tests_name("mount_left", tests, test_private_mounts, NULL);
}
