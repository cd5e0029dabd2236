/* SPDX-License-Identifier: Apache-2.0 */
/* store.c and strata.c: opening, making, locking and closing a store. */
#include "testlib.h"

#include "label.h"
#include "link.h"
#include "recover.h"
#include "rename.h"
#include "store.h"
#include "util/cleanup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct strata_config plain = { 0 };

/* Opens PATH, which has to fail with ERROR and a reason that holds WORD, and leave *ret alone. */
static void assert_refused(const char *path, int error, const char *word)
{
        struct strata *s = (struct strata *)&plain;
        char *why = NULL;

        assert_int_equal(strata_open(path, &plain, &s, &why), error);
        assert_ptr_equal(s, &plain);
        assert_non_null(why);
        if (!strstr(why, word))
                fail_msg("the reason \"%s\" does not hold \"%s\"", why, word);
        assert_null(strchr(why, '\n'));
        free(why);
}

static void assert_whole(struct test_store *t)
{
        static const char *const dirs[] = { "empty", "trash", "layers", "active", "views", "snapshots" };
        char *format = test_read(test_path(t, "format"));
        struct stat st;

        assert_non_null(format);
        assert_int_equal(strata_store_format_of(format, strlen(format)), 0);
        free(format);
        for (size_t i = 0; i < COUNT(dirs); i++) {
                assert_int_equal(lstat(test_path(t, "%s", dirs[i]), &st), 0);
                assert_true(S_ISDIR(st.st_mode));
        }
        assert_false(test_exists(t, "format.new"));
}

static void makes_a_store_where_there_was_nothing(void **state)
{
        struct test_store *t = *state;
        struct stat st;

        assert_whole(t);
        assert_int_equal(lstat(t->path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
        assert_string_equal(t->s->path, t->path);
        assert_false(t->s->unclean); /* there is nothing to sweep */
        assert_int_equal(t->s->first_id, 1);
        assert_int_equal(strlen(t->s->boot_id), 36);
        assert_non_null(t->s->mount_api);
}

static void makes_a_store_of_an_empty_directory(void **state)
{
        struct test_store *t = *state;

        test_store_close(t);
        test_remove_tree(t->path);
        assert_int_equal(mkdir(t->path, 0755), 0);
        test_store_open(t);
        assert_whole(t);
}

static void makes_a_store_of_a_fresh_file_system(void **state)
{
        struct test_store *t = *state;

        test_store_close(t);
        test_remove_tree(t->path);
        assert_int_equal(mkdir(t->path, 0755), 0);
        assert_int_equal(mkdir(test_path(t, "lost+found"), 0700), 0);
        test_store_open(t);
        assert_whole(t);
}

/* Cut off anywhere before the format file is there, the next start goes on. */
static void finishes_a_store_that_was_begun(void **state)
{
        struct test_store *t = *state;
        static const char *const begun[] = { "lock",   "empty", "trash",     "layers",
                                             "active", "views", "snapshots", "format.new" };

        test_store_close(t);
        for (size_t n = 0; n <= COUNT(begun); n++) {
                test_remove_tree(t->path);
                assert_int_equal(mkdir(t->path, 0700), 0);
                for (size_t i = 0; i < n; i++) {
                        if (i == 0 || i == COUNT(begun) - 1)
                                test_write(test_path(t, "%s", begun[i]), "strata");
                        else
                                assert_int_equal(mkdir(test_path(t, "%s", begun[i]), 0700), 0);
                }
                test_store_open(t);
                assert_whole(t);
                test_store_close(t);
        }
}

static void touches_no_directory_of_others(void **state)
{
        struct test_store *t = *state;
        static const char *const files[] = { "notes.txt", ".hidden", "formats" };

        test_store_close(t);
        for (size_t i = 0; i < COUNT(files); i++) {
                struct stat st;

                test_remove_tree(t->path);
                assert_int_equal(mkdir(t->path, 0755), 0);
                test_write(test_path(t, "%s", files[i]), "mine");
                assert_refused(t->path, -EINVAL, "neither a store nor empty");
                assert_int_equal(test_count_dir(t->path), 1);
                assert_int_equal(lstat(t->path, &st), 0);
                assert_int_equal(st.st_mode & 07777, 0755);
        }
}

static void refuses_what_is_no_directory(void **state)
{
        struct test_store *t = *state;
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/file", t->dir);
        test_write(path, "x");
        assert_refused(path, -ENOTDIR, path);
        snprintf(path, sizeof(path), "%s/no/such", t->dir);
        assert_refused(path, -ENOENT, "no/such");
}

static void refuses_paths_that_overlayfs_cannot_carry(void **state)
{
        struct test_store *t = *state;
        static const char *const names[] = { "a b", "a,b", "a:b", "a\\b", "a\nb", "a\tb", "a\001b" };

        for (size_t i = 0; i < COUNT(names); i++) {
                char path[PATH_MAX], *why = NULL;
                struct strata *s = NULL;
                struct stat st;

                snprintf(path, sizeof(path), "%s/%s", t->dir, names[i]);
                assert_int_equal(strata_open(path, &plain, &s, &why), -EINVAL);
                assert_non_null(why);
                free(why);
                assert_int_equal(lstat(path, &st), -1); /* it was not made either */
        }
}

/* The rule holds for the real path: a harmless link may lead there. */
static void sees_through_links_to_the_store(void **state)
{
        struct test_store *t = *state;
        char bad[PATH_MAX], link[PATH_MAX];

        test_store_close(t);
        snprintf(link, sizeof(link), "%s/link", t->dir);
        snprintf(bad, sizeof(bad), "%s/a b", t->dir);
        assert_int_equal(mkdir(bad, 0700), 0);
        assert_int_equal(symlink(bad, link), 0);
        assert_refused(link, -EINVAL, "a b");
        assert_int_equal(unlink(link), 0);
        assert_int_equal(symlink("store", link), 0);
        assert_int_equal(strata_open(link, &plain, &t->s, &(char *){ NULL }), 0);
        assert_string_equal(t->s->path, t->path);
}

static void refuses_another_format(void **state)
{
        struct test_store *t = *state;
        static const char *const formats[] = { "stratafs-store 2\n", "", "stratafs-store 1", "stratafs-store 1\nmore\n",
                                               "stratafs-store 2\nxxh3: 2e93c77a09b0f12c\n" };

        test_store_close(t);
        for (size_t i = 0; i < COUNT(formats); i++) {
                test_write(test_path(t, "format"), formats[i]);
                assert_refused(t->path, -EINVAL, "format");
        }
        assert_true(test_exists(t, "clean"));                     /* still what the last user left */
        test_write(test_path(t, "format"), "stratafs-store 1\n"); /* from before it had a checksum */
        test_store_open(t);
        assert_whole(t);
}

static void is_used_by_one_process_at_a_time(void **state)
{
        struct test_store *t = *state;
        int status, fds[2];
        char pid_text[32];
        pid_t pid;

        snprintf(pid_text, sizeof(pid_text), "process %d", (int)getpid());
        assert_refused(t->path, -EBUSY, pid_text);
        test_store_close(t);

        /* The lock goes with its process, however that ends. */
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid = test_fork();
        if (pid == 0) {
                char *why = NULL;
                int r = strata_open(t->path, &plain, &t->s, &why);

                if (write(fds[1], &r, sizeof(r)) == sizeof(r))
                        pause();
                _exit(0);
        }
        assert_int_equal(read(fds[0], &status, sizeof(status)), sizeof(status));
        assert_int_equal(status, 0);
        snprintf(pid_text, sizeof(pid_text), "process %d", (int)pid);
        assert_refused(t->path, -EBUSY, pid_text);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        close(fds[0]);
        close(fds[1]);
        test_store_open(t);
        assert_true(t->s->unclean);
}

static void knows_a_clean_end(void **state)
{
        struct test_store *t = *state;

        t->config.durable = t->s->config.durable = true;
        assert_false(test_exists(t, "clean"));
        test_store_reopen(t);
        assert_false(t->s->unclean);
        assert_false(test_exists(t, "clean"));
        test_store_crash(t);
        assert_true(t->s->unclean);
        test_store_reopen(t); /* before a sweep came: it is to come still */
        assert_true(t->s->unclean);
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        assert_false(t->s->unclean);
        test_store_reopen(t);
        assert_false(t->s->unclean);
        atomic_store(&t->s->rubbish, true);
        test_store_reopen(t);
        assert_true(t->s->unclean);
}

/* A power cut after the end may cost what is in memory only, and a start that finds the mark looks at nothing. */
static void a_clean_end_is_on_the_disk(void **state)
{
        struct test_store *t = *state;
        const char *why;
        int fd;

        test_prepare(t, STRATA_ACTIVE, "a", "");
        test_store_reopen(t);
        assert_true(t->s->unclean); /* durability is not wanted */
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        assert_int_equal(strata_store_sync(t->s), 0);
        test_store_reopen(t);
        assert_false(t->s->unclean);
        assert_int_equal(strata_label_set(t->s, 1, "key", "value", 5), 0);
        test_store_reopen(t);
        assert_true(t->s->unclean);
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        assert_int_equal(strata_store_sync(t->s), 0);
        assert_int_equal(strata_rename(t->s, STRATA_ACTIVE, "a", "b", &why), 0);
        test_store_reopen(t);
        assert_true(t->s->unclean);
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);

        /* Where it is, the end syncs, also what was found after a crash. */
        t->config.durable = true;
        t->s->config.durable = true;
        test_store_reopen(t);
        assert_false(t->s->unclean);
        test_prepare(t, STRATA_ACTIVE, "c", "");
        test_store_reopen(t);
        assert_false(t->s->unclean);

        /* If it can't, nothing is said. */
        test_prepare(t, STRATA_ACTIVE, "d", "");
        fd = open(t->path, O_PATH | O_CLOEXEC); /* syncfs(2) refuses it */
        assert_true(fd >= 0);
        assert_int_equal(dup3(fd, t->s->root_fd, O_CLOEXEC), t->s->root_fd);
        close(fd);
        assert_int_equal(strata_store_sync(t->s), -EBADF);
        assert_true(t->s->unsynced);
        test_store_reopen(t);
        assert_true(t->s->unclean);
}

/* One that was told to stop has not seen all. */
static void a_sweep_that_stops_counts_for_nothing(void **state)
{
        struct test_store *t = *state;
        atomic_bool stop = true;

        test_store_crash(t);
        assert_int_equal(strata_recover_sweep(t->s, &stop), 0);
        assert_true(t->s->unclean);
        test_store_reopen(t);
        assert_true(t->s->unclean);
}

/* An error on the way may have hidden some: only the sweep that finds nothing ends the matter. */
static void a_sweep_that_found_something_is_followed_by_another(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");

        t->config.durable = true;
        test_store_crash(t);
        assert_int_equal(unlink(test_path(t, "active/k")), 0);
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        assert_false(test_exists(t, "layers/%" PRIu64, id));
        test_store_reopen(t);
        assert_true(t->s->unclean);
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        test_store_reopen(t);
        assert_false(t->s->unclean);
}

/* Here it is claimed; EIO and the like are as good. */
static void what_could_not_be_looked_at_is_swept_by_the_next_start(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct strata_op op;

        test_store_crash(t);
        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/fs.new", id), 0700), 0);
        assert_int_equal(strata_op_begin(t->s, &op, id), 0);
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        strata_op_end(t->s, &op);
        assert_true(test_exists(t, "layers/%" PRIu64 "/fs.new", id));
        test_store_reopen(t);
        assert_true(t->s->unclean);
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        assert_false(test_exists(t, "layers/%" PRIu64 "/fs.new", id));
}

static void a_refused_open_keeps_the_clean_mark(void **state)
{
        struct test_store *t = *state;

        test_store_close(t);
        assert_int_equal(rename(test_path(t, "views"), test_path(t, "gone")), 0);
        assert_refused(t->path, -ENOENT, "views");
        assert_true(test_exists(t, "clean"));
        assert_int_equal(rename(test_path(t, "gone"), test_path(t, "views")), 0);
        assert_int_equal(rename(test_path(t, "trash"), test_path(t, "gone")), 0);
        assert_refused(t->path, -EUCLEAN, "trash");
        assert_int_equal(rename(test_path(t, "gone"), test_path(t, "trash")), 0);
        test_store_open(t);
        assert_false(t->s->unclean);
}

static void closing_nothing_is_fine(void **state)
{
        (void)state;
        strata_close_store(NULL);
}

static void leaves_no_descriptor_behind(void **state)
{
        struct test_store *t = *state;
        unsigned fds;

        test_store_close(t);
        fds = test_count_dir("/proc/self/fd");
        test_store_open(t);
        assert_refused(t->path, -EBUSY, "in use");
        test_store_close(t);
        assert_int_equal(test_count_dir("/proc/self/fd"), fds);
}

static void opens_layers_by_id(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        int fd = -1;

        assert_int_equal(strata_open_layer(t->s, id, &fd), 0);
        assert_int_equal(faccessat(fd, "meta", F_OK, 0), 0);
        close(fd);
        fd = -7;
        assert_int_equal(strata_open_layer(t->s, id + 1, &fd), -ENOENT);
        assert_int_equal(fd, -7);
        assert_int_equal(symlink("1", test_path(t, "layers/99")), 0);
        assert_true(strata_open_layer(t->s, 99, &fd) < 0);
}

static void syncs_a_directory_only_where_wanted(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int path_fd = open(t->path, O_PATH | O_CLOEXEC); /* fsync(2) refuses it */

        assert_int_equal(strata_store_sync_dir(t->s, path_fd), 0);
        t->s->config.durable = true;
        assert_int_equal(strata_store_sync_dir(t->s, path_fd), -EBADF);
        assert_int_equal(strata_store_sync_dir(t->s, t->s->root_fd), 0);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(makes_a_store_where_there_was_nothing),
                STORE_TEST(makes_a_store_of_an_empty_directory),
                STORE_TEST(makes_a_store_of_a_fresh_file_system),
                STORE_TEST(finishes_a_store_that_was_begun),
                STORE_TEST(touches_no_directory_of_others),
                STORE_TEST(refuses_what_is_no_directory),
                STORE_TEST(refuses_paths_that_overlayfs_cannot_carry),
                STORE_TEST(sees_through_links_to_the_store),
                STORE_TEST(refuses_another_format),
                STORE_TEST(is_used_by_one_process_at_a_time),
                STORE_TEST(knows_a_clean_end),
                STORE_TEST(a_clean_end_is_on_the_disk),
                STORE_TEST(a_sweep_that_stops_counts_for_nothing),
                STORE_TEST(a_sweep_that_found_something_is_followed_by_another),
                STORE_TEST(what_could_not_be_looked_at_is_swept_by_the_next_start),
                STORE_TEST(a_refused_open_keeps_the_clean_mark),
                cmocka_unit_test(closing_nothing_is_fine),
                STORE_TEST(leaves_no_descriptor_behind),
                STORE_TEST(opens_layers_by_id),
                STORE_TEST(syncs_a_directory_only_where_wanted),
        };

        return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
