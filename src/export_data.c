/* SPDX-License-Identifier: Apache-2.0 */
#include "export_data.h"

#include "export_sparse.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define READ_AT_ONCE ((size_t)256 << 10)
#define ZEROES ((size_t)2 << 30) /* of address space, all of it the one page of zeroes; more libarchive takes not */
#define STEPS 4096               /* of a hole between two looks at whether somebody still reads: a tenth of a ms */

/*
 * Bytes in holes of all files together: libarchive counts each hole before other contents in steps of 2 GiB, 25 million
 * a second, and here is what takes it a few seconds. File systems that have such files are few.
 */
#define HOLES_MAX ((uint64_t)1 << 57)

void strata_export_data_free(struct strata_export_data *d)
{
        if (d->zeroes)
                munmap(d->zeroes, ZEROES);
        free(d->chunk);
}

int strata_export_data_status(const struct strata_export_data *d, struct archive *a, la_ssize_t result)
{
        if (*d->error < 0)
                return *d->error;
        if (result >= ARCHIVE_WARN)
                return 0;
        return archive_errno(a) == ENOMEM ? -ENOMEM : -EIO;
}

/* One read of up to LEN bytes at AT. Bytes, 0 at the end, or -errno. */
static ssize_t read_some(int fd, void *buf, size_t len, off_t at)
{
        ssize_t n;

        do
                n = pread(fd, buf, len, at);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

/* Zeroes, which libarchive counts but does not write where its map says hole. */
static int write_zeroes(struct strata_export_data *d, struct archive *a, uint64_t len)
{
        if (!d->zeroes) {
                void *p = mmap(NULL, ZEROES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

                if (p == MAP_FAILED)
                        return -errno;
                d->zeroes = p;
        }
        for (unsigned steps = 0; len > 0; steps++) {
                la_ssize_t n = archive_write_data(a, d->zeroes, len < ZEROES ? (size_t)len : ZEROES);
                int r = strata_export_data_status(d, a, n);

                if (r == 0 && n <= 0)
                        r = -EIO;
                if (r == 0 && steps % STEPS == STEPS - 1)
                        r = d->sink->check(d->sink->data);
                if (r < 0)
                        return r;
                len -= (uint64_t)n;
        }
        return 0;
}

int strata_export_data_plain(struct strata_export_data *d, struct archive *a, int fd, uint64_t size)
{
        uint64_t at = 0; /* not that of FD, which looking for holes moves */

        while (at < size) {
                size_t want = size - at < READ_AT_ONCE ? (size_t)(size - at) : READ_AT_ONCE, len;
                void *to;
                ssize_t n;
                int r = d->sink->reserve(d->sink->data, want, &to, &len);

                if (r < 0)
                        return r;
                /* Straight to where they leave from. */
                n = read_some(fd, to, len, (off_t)at);
                if (n < 0)
                        return (int)n;
                if (n == 0)
                        return write_zeroes(d, a, size - at); /* cut off meanwhile */
                r = strata_export_data_status(d, a, archive_write_data(a, to, (size_t)n));
                if (r < 0)
                        return r;
                at += (uint64_t)n;
        }
        return 0;
}

static int write_extent(struct strata_export_data *d, struct archive *a, int fd, const struct strata_extent *e)
{
        uint64_t at = e->at, end = e->at + e->len;

        while (at < end) {
                size_t want = end - at < READ_AT_ONCE ? (size_t)(end - at) : READ_AT_ONCE;
                ssize_t n = read_some(fd, d->chunk, want, (off_t)at);
                int r;

                if (n < 0)
                        return (int)n;
                if (n == 0)
                        return write_zeroes(d, a, end - at); /* cut off meanwhile */
                r = strata_export_data_status(d, a, archive_write_data(a, d->chunk, (size_t)n));
                if (r < 0)
                        return r;
                at += (uint64_t)n;
        }
        return 0;
}

/* Adds up the holes between the parts LIST. */
static int count_holes(struct strata_export_data *d, const struct strata_extent *list, size_t n)
{
        uint64_t at = 0;

        for (size_t i = 0; i < n; i++) {
                d->holes += list[i].at - at;
                at = list[i].at + list[i].len;
                if (d->holes > HOLES_MAX)
                        return -EFBIG;
        }
        return 0;
}

int strata_export_data_sparse(struct strata_export_data *d, struct archive *a, int fd, const struct strata_extent *list,
                              size_t n)
{
        uint64_t at = 0;
        int r = count_holes(d, list, n);

        if (!d->chunk)
                d->chunk = malloc(READ_AT_ONCE);
        if (r == 0 && !d->chunk)
                r = -ENOMEM;
        for (size_t i = 0; i < n && r == 0; i++) {
                r = write_zeroes(d, a, list[i].at - at);
                if (r == 0)
                        r = write_extent(d, a, fd, &list[i]);
                at = list[i].at + list[i].len;
        }
        /* What follows is a hole, which libarchive takes for granted; but the map goes with the first contents. */
        return r < 0 || n ? r : strata_export_data_status(d, a, archive_write_data(a, "", 0));
}
