/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A busy client: goes through all verbs again and again, and says what went wrong.
 *
 *     k_client MNT NAME STOP
 *
 * Each round prepares a snapshot on `base`, writes below its fs/, sets labels and reads them, lists, commits, renames
 * and removes, and checks that each step happened just once. Ends once the file STOP is there, with a line "N rounds";
 * or at the first surprise, with a line about it and status 1. A file below the fs/ of active/NAME stays open all the
 * time.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *mnt, *me;

static int fail(const char *what, const char *path)
{
        printf("%s: %s %s: %s\n", me, what, path, strerror(errno));
        fflush(stdout);
        return -1;
}

static const char *at(char *buf, const char *fmt, const char *a, const char *b)
{
        char tail[900];

        snprintf(tail, sizeof(tail), fmt, a, b);
        snprintf(buf, 1024, "%s/%s", mnt, tail);
        return buf;
}

static int put(const char *path, const char *text, int flags)
{
        int fd = open(path, O_WRONLY | O_CREAT | flags, 0644);

        if (fd < 0)
                return fail("open", path);
        for (const char *p = text; *p; p++) /* byte by byte: many requests */
                if (write(fd, p, 1) != 1)
                        return fail("write", path);
        return close(fd) < 0 ? fail("close", path) : 0;
}

static int is(const char *path, const char *want)
{
        char got[256] = "";
        int fd = open(path, O_RDONLY);
        ssize_t n;

        if (fd < 0)
                return fail("open", path);
        n = read(fd, got, sizeof(got) - 1);
        if (n < 0)
                return fail("read", path);
        close(fd);
        if (strcmp(got, want) != 0) {
                printf("%s: %s holds \"%s\", not \"%s\"\n", me, path, got, want);
                return -1;
        }
        return 0;
}

/* How often NAME is listed in the folder PATH; -1 on an error. */
static int listed(const char *path, const char *name)
{
        DIR *dir = opendir(path);
        struct dirent *de;
        int n = 0;

        if (!dir)
                return fail("opendir", path);
        while ((errno = 0, de = readdir(dir)))
                n += strcmp(de->d_name, name) == 0;
        if (errno)
                return fail("readdir", path);
        closedir(dir);
        return n;
}

static int expect_listed(const char *path, const char *name, int want)
{
        int n = listed(path, name);

        if (n >= 0 && n != want)
                printf("%s: %s is listed %d times in %s, not %d\n", me, name, n, path, want);
        return n == want ? 0 : -1;
}

static int labels(const char *dir, const char *key)
{
        char a[1024], b[1024];

        if (put(at(a, "%s/labels/one", dir, ""), key, O_TRUNC) < 0 || put(a, "more", O_APPEND) < 0)
                return -1;
        snprintf(b, sizeof(b), "%s\nmore\n", key);
        if (is(a, b) < 0 || put(at(b, "%s/labels/two", dir, ""), "2", O_EXCL) < 0 || is(b, "2\n") < 0)
                return -1;
        if (rename(b, at(a, "%s/labels/three", dir, "")) < 0)
                return fail("rename", b);
        if (access(b, F_OK) == 0 || is(a, "2\n") < 0)
                return fail("still there:", b);
        return unlink(a) < 0 ? fail("unlink", a) : 0;
}

static int round_of(const char *key)
{
        char a[1024], b[1024], dir[128];

        if (mkdir(at(a, "active/%s@base", key, ""), 0755) < 0)
                return fail("mkdir", a);
        if (put(at(a, "active/%s/fs/new", key, ""), key, 0) < 0 ||
            is(at(a, "active/%s/fs/file", key, ""), "base\n") < 0)
                return -1;
        if (mkdir(at(a, "active/%s", key, ""), 0755) == 0 || errno != EEXIST)
                return fail("mkdir of what is there:", a);
        snprintf(dir, sizeof(dir), "active/%s", key);
        if (labels(dir, key) < 0 || expect_listed(at(a, "active", "", ""), key, 1) < 0)
                return -1;
        if (rename(at(a, "active/%s", key, ""), at(b, "snapshots/%s", key, "")) < 0)
                return fail("commit", a);
        if (is(at(a, "snapshots/%s/fs/new", key, ""), key) < 0 || expect_listed(at(a, "active", "", ""), key, 0) < 0)
                return -1;
        if (rename(b, at(a, "snapshots/%s-new", key, "")) < 0)
                return fail("rename", b);
        if (access(b, F_OK) == 0 || errno != ENOENT)
                return fail("still there:", b);
        if (is(at(b, "snapshots/%s-new/fs/file", key, ""), "base\n") < 0)
                return -1;
        if (rmdir(a) < 0)
                return fail("rmdir", a);
        return rmdir(a) == 0 || errno != ENOENT ? fail("rmdir of what is gone:", a) : 0;
}

int main(int argc, char **argv)
{
        unsigned long rounds = 0;
        char key[64], path[1024];
        int fd;

        if (argc != 4)
                return 2;
        mnt = argv[1];
        me = argv[2];
        if (mkdir(at(path, "active/%s", me, ""), 0755) < 0)
                return -fail("mkdir", path);
        fd = open(at(path, "active/%s/fs/open", me, ""), O_RDWR | O_CREAT | O_APPEND, 0644);
        if (fd < 0)
                return -fail("open", path);
        while (access(argv[3], F_OK) < 0) {
                snprintf(key, sizeof(key), "%s-%lu", me, rounds++);
                if (round_of(key) < 0)
                        return 1;
                if (write(fd, "x", 1) != 1)
                        return -fail("write to the open file", path);
        }
        if (lseek(fd, 0, SEEK_END) != (off_t)rounds)
                return -fail("size of the open file", path);
        printf("%lu rounds\n", rounds);
        return 0;
}
