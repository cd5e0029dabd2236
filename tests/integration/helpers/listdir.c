/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a directory in steps that a script controls: what readdir(3) hides is how a listing goes on after the
 * directory has changed under it.
 *
 *     listdir PATH [BYTES [FIFO]]
 *
 * Calls getdents64 with a buffer of BYTES (32768) and prints "INODE NAME" for each entry but . and .., each line at
 * once. With FIFO it stops once after the first call, writes "first" to FIFO, and goes on when somebody has
 * read that and removed the FIFO. Ends with 1 and the errno's name on stderr when a call fails.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int failed(const char *what)
{
        fprintf(stderr, "listdir: %s: %s\n", what, strerrorname_np(errno));
        return 1;
}

static int pause_at(const char *fifo)
{
        int fd = open(fifo, O_WRONLY | O_CLOEXEC);

        if (fd < 0 || write(fd, "first\n", 6) != 6)
                return failed(fifo);
        close(fd);
        while (access(fifo, F_OK) == 0)
                usleep(10000);
        return 0;
}

int main(int argc, char **argv)
{
        size_t size = argc > 2 ? strtoul(argv[2], NULL, 10) : 32768;
        const char *fifo = argc > 3 ? argv[3] : NULL;
        char *buf = argc > 1 ? malloc(size) : NULL;
        ssize_t n;

        if (!buf)
                return 2;
        int fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return failed(argv[1]);
        while ((n = getdents64(fd, buf, size)) > 0) {
                for (ssize_t at = 0; at < n;) {
                        struct dirent64 *d = (struct dirent64 *)(buf + at);

                        if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
                                printf("%llu %s\n", (unsigned long long)d->d_ino, d->d_name);
                        at += d->d_reclen;
                }
                fflush(stdout);
                if (fifo && pause_at(fifo))
                        return 1;
                fifo = NULL;
        }
        if (n < 0)
                return failed("getdents64");
        close(fd);
        free(buf);
        return 0;
}
