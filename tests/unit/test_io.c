/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "util/cleanup.h"
#include "util/io.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int open_dir(struct test_store *t)
{
        int fd = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

static void writes_and_reads_back(void **state)
{
        cleanup_fd int dir = open_dir(*state);
        static const size_t lengths[] = { 0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 100000 };

        for (size_t i = 0; i < COUNT(lengths); i++) {
                size_t len = lengths[i];
                char *data = malloc(len + 1);
                cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

                assert_non_null(data);
                for (size_t at = 0; at < len; at++)
                        data[at] = (char)(at * 31);
                assert_int_equal(strata_io_create_at(dir, "f", data, len, 0600, i % 2), 0);
                assert_int_equal(strata_io_read_at(dir, "f", len, &buf), 0);
                assert_int_equal(buf.len, len);
                if (len)
                        assert_memory_equal(buf.data, data, len);
                free(data);
        }
}

static void read_appends(void **state)
{
        cleanup_fd int dir = open_dir(*state);
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

        assert_int_equal(strata_io_create_at(dir, "f", "two", 3, 0600, false), 0);
        strata_buf_addstr(&buf, "one ");
        assert_int_equal(strata_io_read_at(dir, "f", 3, &buf), 0);
        assert_string_equal(buf.data, "one two");
}

static void read_refuses_what_is_too_large(void **state)
{
        cleanup_fd int dir = open_dir(*state);
        static char data[10000];
        static const size_t limits[] = { 0, 1, 4096, 9999 };

        assert_int_equal(strata_io_create_at(dir, "f", data, sizeof(data), 0600, false), 0);
        for (size_t i = 0; i < COUNT(limits); i++) {
                cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

                assert_int_equal(strata_io_read_at(dir, "f", limits[i], &buf), -EFBIG);
        }
}

static void read_tells_why_not(void **state)
{
        cleanup_fd int dir = open_dir(*state);
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

        assert_int_equal(strata_io_create_at(dir, "f", "x", 1, 0600, false), 0);
        assert_int_equal(symlinkat("f", dir, "link"), 0);
        assert_int_equal(mkdirat(dir, "d", 0700), 0);
        assert_int_equal(strata_io_read_at(dir, "none", 10, &buf), -ENOENT);
        assert_int_equal(strata_io_read_at(dir, "link", 10, &buf), -ELOOP);
        assert_int_equal(strata_io_read_at(dir, "d", 10, &buf), -EISDIR);
        assert_int_equal(strata_io_read_at(-1, "f", 10, &buf), -EBADF);
        assert_int_equal(buf.len, 0);
}

static void create_overwrites_and_sets_the_mode(void **state)
{
        cleanup_fd int dir = open_dir(*state);
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        mode_t mask = umask(0);
        struct stat st;

        assert_int_equal(strata_io_create_at(dir, "f", "long text", 9, 0640, false), 0);
        umask(mask);
        assert_int_equal(fstatat(dir, "f", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0640);
        assert_int_equal(strata_io_create_at(dir, "f", "short", 5, 0640, true), 0);
        assert_int_equal(strata_io_read_at(dir, "f", 100, &buf), 0);
        assert_string_equal(buf.data, "short");
}

static void create_never_writes_through_a_link(void **state)
{
        cleanup_fd int dir = open_dir(*state);
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

        assert_int_equal(strata_io_create_at(dir, "f", "safe", 4, 0600, false), 0);
        assert_int_equal(symlinkat("f", dir, "link"), 0);
        assert_int_equal(strata_io_create_at(dir, "link", "bad", 3, 0600, false), -ELOOP);
        assert_int_equal(strata_io_read_at(dir, "f", 100, &buf), 0);
        assert_string_equal(buf.data, "safe");
}

static void replace_puts_the_new_file_in_place(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t);
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

        assert_int_equal(strata_io_replace_at(dir, "tmp", "f", "one", 3, 0600, true), 0);
        assert_int_equal(strata_io_replace_at(dir, "tmp", "f", "two", 3, 0600, false), 0);
        assert_int_equal(strata_io_read_at(dir, "f", 100, &buf), 0);
        assert_string_equal(buf.data, "two");
        assert_int_equal(test_count_dir(t->dir), 1);
}

static void a_replace_without_its_rename_leaves_all_as_it_was(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t);

        assert_int_equal(mkdirat(dir, "d", 0700), 0);
        assert_int_equal(strata_io_replace_at(dir, "tmp", "d", "x", 1, 0600, false), -EISDIR);
        assert_int_equal(test_count_dir(t->dir), 1);
}

/* The write fails half-way: no file may grow past four bytes. */
static void a_replace_cut_off_leaves_all_as_it_was(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t);
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
        struct rlimit old, small;
        int r;

        assert_int_equal(strata_io_create_at(dir, "f", "old", 3, 0600, false), 0);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
        small = (struct rlimit){ 4, old.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        r = strata_io_replace_at(dir, "tmp", "f", "new and long", 12, 0600, false);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        signal(SIGXFSZ, handler);
        assert_int_equal(r, -EFBIG);
        assert_int_equal(strata_io_read_at(dir, "f", 100, &buf), 0);
        assert_string_equal(buf.data, "old");
        assert_int_equal(test_count_dir(t->dir), 1);
}

/* A pipe takes a large write in pieces. */
static void write_goes_on_until_all_is_written(void **state)
{
        static char data[1 << 20];
        int fds[2], status;
        pid_t pid;

        (void)state;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid = test_fork();
        if (pid == 0) {
                size_t total = 0;
                ssize_t n;

                close(fds[1]);
                while ((n = read(fds[0], data, 1000)) > 0)
                        total += (size_t)n;
                _exit(n == 0 && total == sizeof(data) ? 0 : 1);
        }
        close(fds[0]);
        assert_int_equal(strata_io_write(fds[1], data, sizeof(data)), 0);
        close(fds[1]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static void write_tells_what_failed(void **state)
{
        int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

        (void)state;
        assert_true(fd >= 0);
        assert_int_equal(strata_io_write(fd, "x", 1), -ENOSPC);
        assert_int_equal(strata_io_write(fd, "", 0), 0);
        close(fd);
        assert_int_equal(strata_io_write(-1, "x", 1), -EBADF);
}

static void parses_numbers_and_nothing_else(void **state)
{
        static const struct {
                const char *text;
                unsigned long long value;
        } good[] = {
                { "0", 0 }, { "7", 7 }, { "007", 7 }, { "4096", 4096 }, { "18446744073709551615", ULLONG_MAX },
        };
        static const char *const bad[] = {
                "",
                "-1",
                "+1",
                " 1",
                "1 ",
                "1\n",
                "0x10",
                "1e3",
                "a",
                "18446744073709551616",
                "99999999999999999999",
                "1.0",
        };

        (void)state;
        for (size_t i = 0; i < COUNT(good); i++) {
                unsigned long long value = 123;

                assert_true(strata_io_parse_u64(good[i].text, &value));
                assert_true(value == good[i].value);
        }
        for (size_t i = 0; i < COUNT(bad); i++) {
                unsigned long long value = 123;

                assert_false(strata_io_parse_u64(bad[i], &value));
                assert_int_equal(value, 123);
        }
}

static void lists_a_directory_and_nothing_else(void **state)
{
        cleanup_fd int dir = open_dir(*state);
        cleanup_dir DIR *list = NULL;
        unsigned names = 0;

        assert_int_equal(mkdirat(dir, "d", 0700), 0);
        assert_int_equal(strata_io_create_at(dir, "d/f", "", 0, 0600, false), 0);
        assert_int_equal(symlinkat("d", dir, "l"), 0);
        assert_int_equal(strata_io_list(dir, "none", &list), -ENOENT);
        assert_int_equal(strata_io_list(dir, "d/f", &list), -ENOTDIR);
        assert_true(strata_io_list(dir, "l", &list) < 0);
        assert_null(list);
        assert_int_equal(strata_io_list(dir, "d", &list), 0);
        for (struct dirent *de; (de = readdir(list));)
                names += strcmp(de->d_name, "f") == 0;
        assert_int_equal(names, 1);
}

#define DIR_TEST(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                DIR_TEST(writes_and_reads_back),
                DIR_TEST(read_appends),
                DIR_TEST(read_refuses_what_is_too_large),
                DIR_TEST(read_tells_why_not),
                DIR_TEST(create_overwrites_and_sets_the_mode),
                DIR_TEST(create_never_writes_through_a_link),
                DIR_TEST(replace_puts_the_new_file_in_place),
                DIR_TEST(a_replace_without_its_rename_leaves_all_as_it_was),
                DIR_TEST(a_replace_cut_off_leaves_all_as_it_was),
                DIR_TEST(lists_a_directory_and_nothing_else),
                cmocka_unit_test(write_goes_on_until_all_is_written),
                cmocka_unit_test(write_tells_what_failed),
                cmocka_unit_test(parses_numbers_and_nothing_else),
        };

        return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
