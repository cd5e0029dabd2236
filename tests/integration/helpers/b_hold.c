/* SPDX-License-Identifier: Apache-2.0 */
/*
 * b_hold KIND PATH: uses PATH in one way, prints `held`, and waits on standard input. Each line read is an attempt:
 * the answer is `ok` or the errno's name (write: a byte written, read: a byte read, create: a file made in it). Ends at
 * the end of its input.
 *
 * KIND: write (open for writing), mapped (mapped shared and writable, the descriptor closed again), read (open for
 * reading), cwd (working directory), unlinked (opened for writing, then unlinked).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void say(int ok)
{
        puts(ok ? "ok" : strerrorname_np(errno));
        fflush(stdout);
}

static void check(int ok, const char *what)
{
        if (ok)
                return;
        printf("%s: %s\n", what, strerrorname_np(errno));
        exit(1);
}

int main(int argc, char **argv)
{
        char line[256], byte = 'h';
        char *map = NULL;
        const char *kind;
        int fd = -1;

        if (argc != 3)
                return 2;
        kind = argv[1];
        if (!strcmp(kind, "cwd")) {
                check(chdir(argv[2]) == 0, "chdir");
        } else {
                fd = open(argv[2], !strcmp(kind, "read") ? O_RDONLY : O_RDWR | O_CREAT, 0644);
                check(fd >= 0, "open");
        }
        if (!strcmp(kind, "unlinked"))
                check(unlink(argv[2]) == 0, "unlink");
        if (!strcmp(kind, "mapped")) {
                check(ftruncate(fd, 4096) == 0, "ftruncate");
                map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                check(map != MAP_FAILED, "mmap");
                close(fd);
        }
        printf("held\n");
        fflush(stdout);
        while (fgets(line, sizeof(line), stdin)) {
                if (!strcmp(kind, "cwd")) {
                        int made = open("made-by-b_hold", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

                        say(made >= 0);
                        if (made >= 0)
                                close(made);
                } else if (!strcmp(kind, "read")) {
                        say(pread(fd, &byte, 1, 0) == 1);
                } else if (map) {
                        map[0]++;
                        say(1);
                } else {
                        say(pwrite(fd, &byte, 1, 0) == 1);
                }
        }
        return 0;
}
