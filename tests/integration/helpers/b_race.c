/* SPDX-License-Identifier: Apache-2.0 */
/*
 * b_race N OPERATION PATH [TO]
 *
 * N processes wait at one barrier and then do one system call each at the same moment. In PATH and TO every `%` stands
 * for the number of the process (1..N). Prints how often each outcome was seen, one `OUTCOME COUNT` line each in the
 * order of their names, where OUTCOME is `ok` or the errno's name:
 *
 *     b_race 16 mkdir MNT/active/key       EEXIST 15
 *                                          ok 1
 *
 * Operations: mkdir, rmdir, rename (RENAME_NOREPLACE unset), exchange, overlay (open PATH, O_PATH; `ok` only when
 * that is a directory of an overlay, `bare` when it is something else), read (open PATH and read a byte; `empty` when
 * there is none).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OK = 0, BARE = -1, EMPTY = -2, KILLED = -3 };

static const char *outcome_name(int outcome)
{
        switch (outcome) {
        case OK:
                return "ok";
        case BARE:
                return "bare";
        case EMPTY:
                return "empty";
        case KILLED:
                return "killed";
        default:
                return strerrorname_np(outcome);
        }
}

static void fill(char *ret, const char *pattern, int number)
{
        size_t len = 0;

        for (; *pattern && len + 12 < PATH_MAX; pattern++) {
                if (*pattern == '%')
                        len += (size_t)sprintf(ret + len, "%d", number);
                else
                        ret[len++] = *pattern;
        }
        ret[len] = '\0';
}

static int do_overlay(const char *path)
{
        struct statfs sfs;
        int fd = open(path, O_PATH | O_CLOEXEC);

        if (fd < 0 || fstatfs(fd, &sfs) < 0)
                return errno;
        return sfs.f_type == 0x794c7630 ? OK : BARE;
}

static int do_read(const char *path)
{
        char byte;
        ssize_t got;
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return errno;
        got = read(fd, &byte, 1);
        if (got < 0)
                return errno;
        return got == 1 ? OK : EMPTY;
}

static int act(const char *operation, const char *path, const char *to)
{
        int ret;

        if (!strcmp(operation, "overlay"))
                return do_overlay(path);
        if (!strcmp(operation, "read"))
                return do_read(path);
        if (!strcmp(operation, "mkdir"))
                ret = mkdir(path, 0755);
        else if (!strcmp(operation, "rmdir"))
                ret = rmdir(path);
        else if (!strcmp(operation, "rename"))
                ret = rename(path, to);
        else if (!strcmp(operation, "exchange"))
                ret = renameat2(AT_FDCWD, path, AT_FDCWD, to, RENAME_EXCHANGE);
        else
                _exit(2);
        return ret < 0 ? errno : OK;
}

static int by_name(const void *a, const void *b)
{
        return strcmp(outcome_name(*(const int *)a), outcome_name(*(const int *)b));
}

int main(int argc, char **argv)
{
        int n = argc > 3 ? atoi(argv[1]) : 0;
        int barrier[2], *outcomes, status;
        char go;

        if (n < 1 || pipe2(barrier, O_CLOEXEC) < 0) {
                fprintf(stderr, "usage: b_race N OPERATION PATH [TO]\n");
                return 2;
        }
        outcomes = mmap(NULL, (size_t)n * sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (outcomes == MAP_FAILED)
                return 2;
        for (int i = 0; i < n; i++) {
                pid_t pid = fork();

                outcomes[i] = KILLED;
                if (pid < 0)
                        return 2;
                if (pid == 0) {
                        char path[PATH_MAX], to[PATH_MAX];

                        fill(path, argv[3], i + 1);
                        fill(to, argc > 4 ? argv[4] : "", i + 1);
                        close(barrier[1]);
                        (void)!read(barrier[0], &go, 1); /* end of file: all are there */
                        outcomes[i] = act(argv[2], path, to);
                        _exit(0);
                }
        }
        close(barrier[0]);
        close(barrier[1]);
        while (wait(&status) > 0)
                ;
        qsort(outcomes, (size_t)n, sizeof(int), by_name);
        for (int i = 0, from = 0; i < n; i++) {
                if (i + 1 == n || outcomes[i + 1] != outcomes[i]) {
                        printf("%s %d\n", outcome_name(outcomes[i]), i + 1 - from);
                        from = i + 1;
                }
        }
        return 0;
}
