/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One system call, and the name of the errno it ends with: a shell sees only the text of a failure, mv(1) tries other
 * things on its way, and several errnos share a text.
 *
 *     syscall OP ARG...     prints "ok" and ends with 0, or prints the errno's name and ends with 1
 *
 * Ends with 2 on a wrong command line, and by SIGALRM when the call takes a minute.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SECONDS_MAX 60

static int opened(int fd)
{
        return fd < 0 ? -1 : close(fd);
}

/* Writes TEXT in one write(2), so that its errno is not hidden behind buffering; the close counts as well */
static int put(const char *path, int flags, const char *text)
{
        size_t len = strlen(text);
        int fd = open(path, flags | O_WRONLY | O_CLOEXEC, 0644);

        if (fd < 0)
                return -1;
        ssize_t n = write(fd, text, len);
        if (n < 0 || (size_t)n != len) {
                int err = n < 0 ? errno : EIO;
                close(fd);
                errno = err;
                return -1;
        }
        return close(fd);
}

/* Copies FROM into TO, which is there: the errno is that of the write(2) or of the close(2) that fails */
static int import(const char *from, const char *to)
{
        static char buf[65536];
        int in = open(from, O_RDONLY | O_CLOEXEC), out = in < 0 ? -1 : open(to, O_WRONLY | O_CLOEXEC), err = 0;
        ssize_t n;

        if (out < 0)
                return -1;
        while (!err && (n = read(in, buf, sizeof(buf))) > 0)
                if (write(out, buf, (size_t)n) != n)
                        err = errno;
        if (close(out) < 0 && !err)
                err = errno;
        close(in);
        errno = err;
        return err ? -1 : 0;
}

/* Reads the file to its end */
static int drain(const char *path)
{
        char buf[65536];
        ssize_t n;
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return -1;
        while ((n = read(fd, buf, sizeof(buf))) > 0)
                continue;
        if (n < 0) {
                int err = errno;
                close(fd);
                errno = err;
                return -1;
        }
        return close(fd);
}

static int run_one(const char *op, const char *path)
{
        struct stat st;
        struct statvfs vfs;

        if (!strcmp(op, "mkdir"))
                return mkdir(path, 0755);
        if (!strcmp(op, "rmdir"))
                return rmdir(path);
        if (!strcmp(op, "unlink"))
                return unlink(path);
        if (!strcmp(op, "stat"))
                return stat(path, &st);
        if (!strcmp(op, "lstat"))
                return lstat(path, &st);
        if (!strcmp(op, "statfs"))
                return statvfs(path, &vfs);
        if (!strcmp(op, "read"))
                return drain(path);
        if (!strcmp(op, "open"))
                return opened(open(path, O_RDONLY | O_CLOEXEC));
        if (!strcmp(op, "opath"))
                return opened(open(path, O_PATH | O_CLOEXEC));
        if (!strcmp(op, "opendir"))
                return opened(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!strcmp(op, "openw"))
                return opened(open(path, O_WRONLY | O_CLOEXEC));
        if (!strcmp(op, "create"))
                return opened(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
        if (!strcmp(op, "tmpfile"))
                return opened(open(path, O_WRONLY | O_TMPFILE | O_CLOEXEC, 0644));
        if (!strcmp(op, "mkfifo"))
                return mkfifo(path, 0644);
        if (!strcmp(op, "mknod"))
                return mknod(path, S_IFREG | 0644, 0);
        if (!strcmp(op, "touch"))
                return utimensat(AT_FDCWD, path, NULL, 0);
        return -2;
}

static int run_two(const char *op, const char *a, const char *b)
{
        if (!strcmp(op, "rename"))
                return rename(a, b);
        if (!strcmp(op, "noreplace"))
                return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_NOREPLACE);
        if (!strcmp(op, "exchange"))
                return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
        if (!strcmp(op, "whiteout"))
                return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_WHITEOUT);
        if (!strcmp(op, "link"))
                return link(a, b);
        if (!strcmp(op, "symlink"))
                return symlink(a, b);
        if (!strcmp(op, "truncate"))
                return truncate(a, atol(b));
        if (!strcmp(op, "chmod"))
                return chmod(a, (mode_t)strtoul(b, NULL, 8));
        if (!strcmp(op, "chown"))
                return chown(a, (uid_t)atol(b), (gid_t)-1);
        if (!strcmp(op, "setxattr"))
                return setxattr(a, b, "v", 1, 0);
        if (!strcmp(op, "getxattr"))
                return getxattr(a, b, NULL, 0) < 0 ? -1 : 0;
        if (!strcmp(op, "write"))
                return put(a, 0, b);
        if (!strcmp(op, "rewrite"))
                return put(a, O_CREAT | O_TRUNC, b);
        if (!strcmp(op, "import"))
                return import(a, b);
        if (!strcmp(op, "append"))
                return put(a, O_APPEND, b);
        return -2;
}

int main(int argc, char **argv)
{
        int r = -2;

        alarm(SECONDS_MAX);
        if (argc == 3)
                r = run_one(argv[1], argv[2]);
        else if (argc == 4)
                r = run_two(argv[1], argv[2], argv[3]);
        if (r == -2) {
                fprintf(stderr, "syscall: no such operation with %d arguments: %s\n", argc - 2,
                        argc > 1 ? argv[1] : "");
                return 2;
        }
        const char *name = r == 0 ? "ok" : strerrorname_np(errno);
        puts(name ? name : "?");
        return r == 0 ? 0 : 1;
}
