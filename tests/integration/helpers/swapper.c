/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes a tree as fast as it can, to lead a walk over it astray:
 *
 *     swapper TREE CANARY OUTSIDE
 *
 * In TREE each "dirN" changes places with a link to CANARY, each "fileN" with a folder and with a link to a file in
 * CANARY, and the folder "deep/d/d/...", some levels down, is moved to OUTSIDE and back, and changes places with one
 * there. Whatever TREE is called meanwhile, it is this folder. Prints "ready" after the first round, and goes on until
 * SIGTERM; then all is where it was.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SWAPS 8
#define LEVEL 40 /* of the folder that is moved: far enough that the walk has closed those above it at the bottom */

static volatile sig_atomic_t ended;

static void end(int sig)
{
        (void)sig;
        ended = 1;
}

static int open_at(int dirfd, const char *path)
{
        int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0) {
                perror(path);
                exit(1);
        }
        return fd;
}

static void prepare(int tree, int outside, const char *canary)
{
        char name[64], target[4096];

        for (int i = 0; i < SWAPS; i++) {
                snprintf(name, sizeof(name), "link%d", i);
                (void)symlinkat(canary, outside, name);
                snprintf(name, sizeof(name), "folder%d", i);
                (void)mkdirat(outside, name, 0755);
                snprintf(name, sizeof(name), "filelink%d", i);
                snprintf(target, sizeof(target), "%s/secret", canary);
                (void)symlinkat(target, outside, name);
        }
        (void)mkdirat(outside, "other", 0755);
        (void)mkdirat(outside, "other/d", 0755);
        (void)tree;
}

/* One change there, and the same change back. */
static void exchange(int a_dir, const char *a, int b_dir, const char *b)
{
        (void)renameat2(a_dir, a, b_dir, b, RENAME_EXCHANGE);
}

static void round_of(int tree, int outside, const char *deep)
{
        char in[64], link[64], folder[64], filelink[64];

        for (int back = 0; back < 2; back++) {
                for (int i = 0; i < SWAPS; i++) {
                        snprintf(in, sizeof(in), "dir%d", i);
                        snprintf(link, sizeof(link), "link%d", i);
                        exchange(tree, in, outside, link);
                        snprintf(in, sizeof(in), "file%d", i);
                        snprintf(folder, sizeof(folder), "folder%d", i);
                        exchange(tree, in, outside, folder);
                }
                exchange(tree, deep, outside, "other");
        }
        for (int i = 0; i < SWAPS; i++) {
                snprintf(in, sizeof(in), "file%d", i);
                snprintf(filelink, sizeof(filelink), "filelink%d", i);
                exchange(tree, in, outside, filelink);
                exchange(tree, in, outside, filelink);
        }
        if (renameat(tree, deep, outside, "moved") == 0)
                (void)renameat(outside, "moved", tree, deep);
}

int main(int argc, char **argv)
{
        char deep[2 * LEVEL + 8] = "deep";
        int tree, outside;

        if (argc != 4)
                return 2;
        tree = open_at(AT_FDCWD, argv[1]);
        outside = open_at(AT_FDCWD, argv[3]);
        for (int i = 0; i < LEVEL; i++)
                strcat(deep, "/d");
        signal(SIGTERM, end);
        prepare(tree, outside, argv[2]);
        for (unsigned n = 0; !ended; n++) {
                round_of(tree, outside, deep);
                if (n == 0) {
                        puts("ready");
                        fflush(stdout);
                }
        }
        return 0;
}
