/* SPDX-License-Identifier: Apache-2.0 */
/* Who uses a file system: child processes hold a tmpfs of this test in each way there is. */
#include "testlib.h"

#include "busy.h"
#include "util/cleanup.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char place[PATH_MAX / 2]; /* where the tmpfs is mounted */
static dev_t device;

static int setup(void **state)
{
        struct test_store *t;
        struct stat st;

        test_dir_setup(state);
        t = *state;
        snprintf(place, sizeof(place), "%s/fs", t->dir);
        if (mkdir(place, 0700) < 0 || mount("tmpfs", place, "tmpfs", 0, NULL) < 0 || stat(place, &st) < 0)
                return -1;
        device = st.st_dev;
        return 0;
}

static int teardown(void **state)
{
        umount2(place, MNT_DETACH);
        return test_store_teardown(state);
}

/* Runs FN in a child that then waits to be killed; its exit in case FN fails. */
static pid_t hold(int (*fn)(void))
{
        int fds[2];
        char ok = 0;
        pid_t pid;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid = test_fork();
        if (pid == 0) {
                ok = fn() == 0;
                if (write(fds[1], &ok, 1) == 1)
                        pause();
                _exit(0);
        }
        assert_int_equal(read(fds[0], &ok, 1), 1);
        close(fds[0]);
        close(fds[1]);
        assert_int_equal(ok, 1);
        return pid;
}

static void release(pid_t pid)
{
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static const char *file(const char *name)
{
        static char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/%s", place, name);
        return path;
}

static int open_reading(void)
{
        return open(file("f"), O_RDONLY | O_CREAT, 0600) < 0 ? -1 : 0;
}

static int open_writing(void)
{
        return open(file("f"), O_WRONLY | O_CREAT, 0600) < 0 ? -1 : 0;
}

static int open_path(void)
{
        return open(place, O_PATH) < 0 ? -1 : 0;
}

static int work_there(void)
{
        return chdir(place);
}

static int root_there(void)
{
        return chroot(place);
}

/* Asserts how many are found, and that PID is named, or is not. */
static void assert_found(bool writers, unsigned n, pid_t pid, bool named)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        char text[64];

        assert_int_equal(strata_busy_processes(device, writers, &buf), n);
        snprintf(text, sizeof(text), "process %d (", (int)pid);
        assert_int_equal(buf.data && strstr(buf.data, text), named);
}

static void nobody(void **state)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

        (void)state;
        assert_int_equal(strata_busy_processes(device, false, &buf), 0);
        assert_int_equal(strata_busy_processes(device, true, &buf), 0);
        assert_int_equal(buf.len, 0);
}

static void every_way_of_use(void **state)
{
        static const struct {
                int (*fn)(void);
                bool writer;
        } ways[] = {
                { open_reading, false }, { open_writing, true }, { open_path, false },
                { work_there, false },   { root_there, false },
        };

        (void)state;
        for (size_t i = 0; i < COUNT(ways); i++) {
                pid_t pid = hold(ways[i].fn);

                assert_found(false, 1, pid, true);
                assert_found(true, ways[i].writer, pid, ways[i].writer);
                release(pid);
                assert_found(false, 0, pid, false);
        }
}

static void a_program_run_from_there(void **state)
{
        char command[PATH_MAX + 32];
        pid_t pid;
        int fds[2];
        char byte;

        (void)state;
        snprintf(command, sizeof(command), "cp /bin/cat %s", file("cat"));
        assert_int_equal(system(command), 0);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid = test_fork();
        if (pid == 0) {
                int in[2];

                if (pipe(in) == 0 && dup2(in[0], 0) == 0)
                        execl(file("cat"), "cat", NULL);
                if (write(fds[1], "x", 1) == 1)
                        _exit(1);
                _exit(2);
        }
        close(fds[1]);
        assert_int_equal(read(fds[0], &byte, 1), 0); /* closed by a successful exec */
        close(fds[0]);
        assert_found(false, 1, pid, true);
        assert_found(true, 0, pid, false);
        release(pid);
}

static void names_some_and_counts_all(void **state)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        pid_t pids[12];
        int named = 0;

        (void)state;
        for (size_t i = 0; i < COUNT(pids); i++)
                pids[i] = hold(work_there);
        assert_int_equal(strata_busy_processes(device, false, &buf), COUNT(pids));
        for (const char *at = buf.data; (at = strstr(at, "process ")); at++)
                named++;
        assert_int_equal(named, 8);
        assert_string_equal(strstr(buf.data, " and "), " and 4 more");
        for (size_t i = 0; i < COUNT(pids); i++)
                release(pids[i]);
}

static void a_bind_mount_elsewhere(void **state)
{
        struct test_store *t = *state;
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        char target[PATH_MAX], text[PATH_MAX + 32];
        unsigned before = strata_busy_elsewhere(device, &buf);

        assert_int_equal(before, 1); /* the mount itself: this test has no stratafs around it */
        strata_buf_free(&buf);
        snprintf(target, sizeof(target), "%s/else", t->dir);
        assert_int_equal(mkdir(target, 0700), 0);
        assert_int_equal(mount(place, target, NULL, MS_BIND, NULL), 0);
        assert_int_equal(strata_busy_elsewhere(device, &buf), 2);
        snprintf(text, sizeof(text), "mounted on %s (", target);
        assert_non_null(strstr(buf.data, text));
        assert_int_equal(umount(target), 0);
}

static int other_namespace(void)
{
        return unshare(CLONE_NEWNS);
}

static int other_namespace_working_there(void)
{
        return unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || chdir(place) < 0 ||
                               umount2(place, MNT_DETACH) < 0
                       ? -1
                       : 0;
}

static void other_mount_namespaces(void **state)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        pid_t pid = hold(other_namespace);
        char text[64];

        (void)state;
        assert_int_equal(strata_busy_elsewhere(device, &buf), 2); /* their copy of the mount */
        snprintf(text, sizeof(text), "process %d)", (int)pid);
        assert_non_null(strstr(buf.data, text));
        release(pid);
        strata_buf_free(&buf);

        pid = hold(other_namespace_working_there);
        assert_int_equal(strata_busy_elsewhere(device, &buf), 2); /* no mount there, but a user */
        snprintf(text, sizeof(text), "process %d (", (int)pid);
        assert_non_null(strstr(buf.data, text));
        release(pid);
}

/* Here, there alone, nowhere though somebody is inside. */
static void mounted_in_any_namespace(void **state)
{
        pid_t there = hold(other_namespace), inside = hold(work_there);

        (void)state;
        assert_true(strata_busy_is_mounted(device));
        assert_int_equal(umount2(place, MNT_DETACH), 0);
        assert_true(strata_busy_is_mounted(device));
        release(there);
        assert_false(strata_busy_is_mounted(device));
        release(inside);
}

#define BUSY_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                BUSY_TEST(nobody),
                BUSY_TEST(every_way_of_use),
                BUSY_TEST(a_program_run_from_there),
                BUSY_TEST(names_some_and_counts_all),
                BUSY_TEST(a_bind_mount_elsewhere),
                BUSY_TEST(other_mount_namespaces),
                BUSY_TEST(mounted_in_any_namespace),
        };

        return cmocka_run_group_tests_name("busy", tests, test_private_mounts, NULL);
}
