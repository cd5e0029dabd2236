/* SPDX-License-Identifier: Apache-2.0 */
#include "io.h"

#include "cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

int strata_io_write(int fd, const void *data, size_t len)
{
        const char *p = data;

        while (len > 0) {
                ssize_t n = write(fd, p, len);

                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                p += n;
                len -= (size_t)n;
        }
        return 0;
}

int strata_io_read_at(int dirfd, const char *name, size_t max, struct strata_buf *ret)
{
        cleanup_fd int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        char chunk[4096];
        size_t total = 0;

        if (fd < 0)
                return -errno;
        for (;;) {
                ssize_t n = read(fd, chunk, sizeof(chunk));

                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                if (n == 0)
                        return strata_buf_status(ret);
                total += (size_t)n;
                if (total > max)
                        return -EFBIG;
                strata_buf_add(ret, chunk, (size_t)n);
        }
}

int strata_io_create_at(int dirfd, const char *name, const void *data, size_t len, unsigned mode, bool sync)
{
        int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
        int r;

        if (fd < 0)
                return -errno;
        r = strata_io_write(fd, data, len);
        if (r == 0 && sync && fsync(fd) < 0)
                r = -errno;
        if (close(fd) < 0 && r == 0)
                r = -errno;
        return r;
}

int strata_io_replace_at(int dirfd, const char *tmp, const char *name, const void *data, size_t len, unsigned mode,
                         bool sync)
{
        int r = strata_io_create_at(dirfd, tmp, data, len, mode, sync);

        if (r == 0 && renameat(dirfd, tmp, dirfd, name) < 0)
                r = -errno;
        if (r < 0)
                unlinkat(dirfd, tmp, 0);
        return r;
}

int strata_io_list(int dirfd, const char *name, DIR **ret)
{
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);

        if (!dir) {
                int r = -errno;

                strata_close(fd);
                return r;
        }
        *ret = dir;
        return 0;
}

bool strata_io_parse_u64(const char *s, unsigned long long *ret)
{
        unsigned long long v = 0;

        if (!*s)
                return false;
        for (; *s; s++) {
                unsigned digit = (unsigned char)*s - '0';

                if (digit > 9 || v > (ULLONG_MAX - digit) / 10)
                        return false;
                v = v * 10 + digit;
        }
        *ret = v;
        return true;
}
