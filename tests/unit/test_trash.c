/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "log.h"
#include "remove.h"
#include "trash.h"
#include "util/buf.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static void takes_a_layer_and_deletes_it_later(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");

        test_write(test_path(t, "layers/%" PRIu64 "/fs/file", id), "x");
        assert_int_equal(strata_trash_pending(t->s), 0);
        assert_int_equal(strata_trash_layer(t->s, id), 0);
        assert_false(test_exists(t, "layers/%" PRIu64, id));
        assert_true(test_exists(t, "trash/%" PRIu64 "/fs/file", id));
        assert_int_equal(strata_trash_pending(t->s), 1);
        assert_int_equal(strata_trash_layer(t->s, id), 0); /* gone already */
        assert_int_equal(strata_trash_empty(t->s), 0);
        assert_int_equal(strata_trash_pending(t->s), 0);
        assert_int_equal(strata_trash_empty(t->s), 0);
}

static void deletes_all_kinds_of_files(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/fs/closed", id), 0), 0);
        assert_int_equal(symlink("/", test_path(t, "layers/%" PRIu64 "/fs/link", id)), 0);
        assert_int_equal(mkfifo(test_path(t, "layers/%" PRIu64 "/fs/fifo", id), 0), 0);
        assert_int_equal(mknod(test_path(t, "layers/%" PRIu64 "/fs/whiteout", id), S_IFCHR, 0), 0);
        assert_int_equal(
                link(test_path(t, "layers/%" PRIu64 "/fs/fifo", id), test_path(t, "layers/%" PRIu64 "/fs/hard", id)),
                0);
        test_write(test_path(t, "trash/file"), "a plain file in trash/");
        assert_int_equal(symlink("/tmp", test_path(t, "trash/link")), 0);
        assert_int_equal(strata_trash_layer(t->s, id), 0);
        assert_int_equal(strata_trash_pending(t->s), 3);
        assert_int_equal(strata_trash_empty(t->s), 0);
        assert_int_equal(strata_trash_pending(t->s), 0);
        assert_int_equal(access("/tmp", F_OK), 0);
}

static void never_deletes_through_a_link(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        char outside[PATH_MAX];

        snprintf(outside, sizeof(outside), "%s/outside", t->dir);
        assert_int_equal(mkdir(outside, 0700), 0);
        strcat(outside, "/kept");
        test_write(outside, "x");
        *strrchr(outside, '/') = '\0';
        assert_int_equal(symlink(outside, test_path(t, "layers/%" PRIu64 "/fs/link", id)), 0);
        assert_int_equal(symlink(outside, test_path(t, "trash/top")), 0);
        assert_int_equal(strata_trash_layer(t->s, id), 0);
        assert_int_equal(strata_trash_empty(t->s), 0);
        assert_int_equal(test_count_dir(outside), 1);
}

/* One that can't be deleted is named in the log, and holds up no other. */
static void what_cannot_be_deleted_holds_up_nothing(void **state)
{
        struct test_store *t = *state;
        cleanup_buf struct strata_buf log = STRATA_BUF_INIT;
        char busy[PATH_MAX];

        for (int i = 0; i < 3; i++) {
                char key[8];

                snprintf(key, sizeof(key), "k%c", 'a' + i);
                test_prepare(t, STRATA_ACTIVE, key, "");
                assert_int_equal(strata_trash_layer(t->s, (uint64_t)i + 1), 0);
        }
        snprintf(busy, sizeof(busy), "%s", test_path(t, "trash/2/fs"));
        assert_int_equal(mount("tmpfs", busy, "tmpfs", 0, NULL), 0);
        assert_int_equal(strata_trash_empty(t->s), -EBUSY);
        assert_int_equal(strata_trash_pending(t->s), 1);
        strata_log_show(t->s->log, &log);
        assert_non_null(log.data);
        assert_non_null(strstr(log.data, " delete 2 EBUSY "));
        assert_int_equal(umount(busy), 0);
        assert_int_equal(strata_trash_empty(t->s), 0);
        assert_int_equal(strata_trash_pending(t->s), 0);
}

static void set_flag(const char *path, int flag)
{
        cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

        int flags;

        assert_true(fd >= 0);
        assert_int_equal(ioctl(fd, FS_IOC_GETFLAGS, &flags), 0);
        flags |= flag;
        assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &flags), 0);
}

/* chattr(1) in the store does not keep anything there. */
static void what_is_immutable_goes_as_well(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        char dir[PATH_MAX];

        snprintf(dir, sizeof(dir), "%s", test_path(t, "layers/%" PRIu64 "/fs/dir", id));
        assert_int_equal(mkdir(dir, 0700), 0);
        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/fs/dir/empty", id), 0700), 0);
        test_write(test_path(t, "layers/%" PRIu64 "/fs/dir/file", id), "x");
        test_write(test_path(t, "layers/%" PRIu64 "/fs/dir/log", id), "x");
        assert_int_equal(symlink("x", test_path(t, "layers/%" PRIu64 "/fs/dir/link", id)), 0);
        assert_int_equal(mkfifo(test_path(t, "layers/%" PRIu64 "/fs/dir/fifo", id), 0600), 0);
        set_flag(test_path(t, "layers/%" PRIu64 "/fs/dir/file", id), FS_IMMUTABLE_FL);
        set_flag(test_path(t, "layers/%" PRIu64 "/fs/dir/log", id), FS_APPEND_FL);
        set_flag(test_path(t, "layers/%" PRIu64 "/fs/dir/empty", id), FS_IMMUTABLE_FL);
        set_flag(dir, FS_IMMUTABLE_FL);
        assert_int_equal(unlink(test_path(t, "layers/%" PRIu64 "/fs/dir/fifo", id)), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(strata_trash_layer(t->s, id), 0);
        assert_int_equal(strata_trash_empty(t->s), 0);
        assert_int_equal(strata_trash_pending(t->s), 0);
        test_write(test_path(t, "trash/file"), "x");
        set_flag(test_path(t, "trash/file"), FS_IMMUTABLE_FL);
        assert_int_equal(strata_trash_empty(t->s), 0);
        assert_int_equal(strata_trash_pending(t->s), 0);
}

static int run(void *data)
{
        strata_trash_run(data);
        return 0;
}

/* Waits until trash/ is empty: the thread has no deadline, the test run has one. */
static void await_empty(struct test_store *t)
{
        while (strata_trash_pending(t->s) > 0)
                usleep(1000);
}

static void the_thread_deletes_what_comes(void **state)
{
        struct test_store *t = *state;
        struct test_thread *thread;
        const char *why;

        /* What an earlier run left goes first. */
        assert_int_equal(mkdir(test_path(t, "trash/old"), 0700), 0);
        thread = test_thread_start(run, t->s);
        await_empty(t);
        for (int i = 0; i < 20; i++) {
                test_prepare(t, STRATA_ACTIVE, "k", "");
                assert_int_equal(strata_remove(t->s, STRATA_ACTIVE, "k", &why), 0);
                if (i % 5 == 0)
                        await_empty(t);
        }
        await_empty(t);
        strata_trash_stop(t->s);
        assert_int_equal(test_thread_end(thread), 0);
        assert_int_equal(test_count_dir(test_path(t, "layers")), 0);
}

static void stop_ends_a_sleeping_thread(void **state)
{
        struct test_store *t = *state;
        struct test_thread *thread = test_thread_start(run, t->s);

        strata_trash_stop(t->s);
        assert_int_equal(test_thread_end(thread), 0);
}

static void what_is_left_at_the_stop_stays_for_the_next_start(void **state)
{
        struct test_store *t = *state;
        struct test_thread *thread;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");

        assert_int_equal(strata_trash_layer(t->s, id), 0);
        strata_trash_stop(t->s);
        thread = test_thread_start(run, t->s); /* told to stop before it began */
        assert_int_equal(test_thread_end(thread), 0);
        assert_int_equal(strata_trash_empty(t->s), -ECANCELED);
        assert_int_equal(strata_trash_pending(t->s), 1);
        test_store_reopen(t);
        assert_int_equal(strata_trash_pending(t->s), 1);
        thread = test_thread_start(run, t->s);
        await_empty(t);
        strata_trash_stop(t->s);
        assert_int_equal(test_thread_end(thread), 0);
}

static void freeing_nothing_is_fine(void **state)
{
        (void)state;
        strata_trash_free(NULL);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(takes_a_layer_and_deletes_it_later),
                STORE_TEST(deletes_all_kinds_of_files),
                STORE_TEST(never_deletes_through_a_link),
                STORE_TEST(what_cannot_be_deleted_holds_up_nothing),
                STORE_TEST(what_is_immutable_goes_as_well),
                STORE_TEST(the_thread_deletes_what_comes),
                STORE_TEST(stop_ends_a_sleeping_thread),
                STORE_TEST(what_is_left_at_the_stop_stays_for_the_next_start),
                cmocka_unit_test(freeing_nothing_is_fine),
        };

        return cmocka_run_group_tests_name("trash", tests, test_private_mounts, NULL);
}
