/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether there is a map, and what is in it, is told by the contents alone: what the file system calls a hole, and how
 * many blocks it counts, changes between two reads (preallocated blocks go, or lose their page cache; a store is
 * copied), and the archive must not change with it.
 */
#include "export_sparse.h"

#include "export_sink.h"
#include "util/cleanup.h"

#include <stdbool.h>
#include <string.h>

#define WORTH ((uint64_t)1 << 20) /* bytes in blocks of zeroes from which on a map is made */
#define BLOCK ((size_t)4096)
#define LARGE ((uint64_t)64 << 20) /* bytes of a file that is not read twice without a sign of zeroes */
#define SAMPLES 256                /* blocks of it that would show them */
#define CHUNK ((size_t)256 << 10)
#define GAP ((uint64_t)64 << 10) /* shorter holes are stored as zeroes */
/*
 * Some readers take maps of up to 1 MiB only (Go's archive/tar, since CVE-2025-58183): two numbers of up to 20 digits
 * with a newline each.
 */
#define EXTENTS_MAX 8192

struct map {
        const struct strata_export_sink *sink;
        struct strata_extent *list;
        size_t n, size;
        uint64_t gap;
        uint64_t data; /* bytes in blocks that are not all zeroes */
};

static void merge(struct map *m)
{
        size_t kept = 0;

        m->gap *= 2;
        for (size_t i = 1; i < m->n; i++) {
                struct strata_extent *last = &m->list[kept];

                if (m->list[i].at - (last->at + last->len) < m->gap)
                        last->len = m->list[i].at + m->list[i].len - last->at;
                else
                        m->list[++kept] = m->list[i];
        }
        m->n = kept + 1;
}

static int add(struct map *m, uint64_t at, uint64_t len)
{
        struct strata_extent *last = m->n ? &m->list[m->n - 1] : NULL;

        if (last && at - (last->at + last->len) < m->gap) {
                last->len = at + len - last->at;
                return 0;
        }
        if (m->n == EXTENTS_MAX) {
                merge(m);
                return add(m, at, len);
        }
        if (m->n == m->size) {
                size_t size = m->size ? m->size * 2 : 16;
                struct strata_extent *list = reallocarray(m->list, size, sizeof(*list));

                if (!list)
                        return -ENOMEM;
                m->list = list;
                m->size = size;
        }
        m->list[m->n++] = (struct strata_extent){ at, len };
        return 0;
}

static bool is_zero(const char *p, size_t len)
{
        return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* Adds what is not zero of FD from AT to END. Blocks are aligned to their size. */
static int scan(struct map *m, int fd, char *chunk, uint64_t at, uint64_t end)
{
        while (at < end) {
                size_t want = CHUNK - at % BLOCK;
                int gone = m->sink->check(m->sink->data);
                ssize_t n;

                if (gone < 0)
                        return gone;
                n = pread(fd, chunk, want < end - at ? want : (size_t)(end - at), (off_t)at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return 0; /* cut off meanwhile */
                for (size_t done = 0; done < (size_t)n;) {
                        size_t len = BLOCK - (at + done) % BLOCK;

                        if (len > (size_t)n - done)
                                len = (size_t)n - done;
                        if (!is_zero(chunk + done, len)) {
                                int r = add(m, at + done, len);

                                if (r < 0)
                                        return r;
                                m->data += len;
                        }
                        done += len;
                }
                at += (uint64_t)n;
        }
        return 0;
}

/* Fills M; what the file system calls a hole is not read. */
static int make_map(struct map *m, int fd, const struct stat *st, char *chunk)
{
        off_t at = 0;

        while (at < st->st_size) {
                off_t data = lseek(fd, at, SEEK_DATA), end;
                int r;

                if (data < 0 && errno == ENXIO)
                        break;
                end = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
                if (end < 0 && errno != EINVAL && errno != EOPNOTSUPP)
                        return -errno;
                if (end < 0) {
                        data = at; /* it can't tell */
                        end = st->st_size;
                }
                if (data >= st->st_size)
                        break;
                if (end > st->st_size)
                        end = st->st_size;
                /* From the start of a block of ours, as file systems differ in how fine their holes are. */
                data -= data % (off_t)BLOCK;
                r = scan(m, fd, chunk, (uint64_t)(data > at ? data : at), (uint64_t)end);
                if (r < 0)
                        return r;
                at = end;
        }
        return 0;
}

/* True if no block of some, evenly spread over the file, holds zeroes alone: what is missed is little beside the rest.
 */
static bool looks_dense(int fd, uint64_t size, char *chunk)
{
        if (size < LARGE)
                return false;
        for (unsigned i = 0; i < SAMPLES; i++) {
                uint64_t at = size / SAMPLES * i / BLOCK * BLOCK;

                if (pread(fd, chunk, BLOCK, (off_t)at) != (ssize_t)BLOCK || is_zero(chunk, BLOCK))
                        return false; /* what can't be read is told of by who has to */
        }
        return true;
}

int strata_export_sparse(int fd, const struct stat *st, const struct strata_export_sink *sink,
                         struct strata_extent **ret, size_t *n)
{
        cleanup_free char *chunk = NULL;
        struct map m = { .sink = sink, .gap = GAP };
        int r;

        if ((uint64_t)st->st_size < WORTH)
                return 0;
        chunk = malloc(CHUNK);
        if (!chunk)
                return -ENOMEM;
        if (looks_dense(fd, (uint64_t)st->st_size, chunk))
                return 0;
        r = make_map(&m, fd, st, chunk);
        if (r < 0 || (uint64_t)st->st_size - m.data < WORTH) {
                free(m.list);
                return r;
        }
        *ret = m.list;
        *n = m.n;
        return 1;
}
