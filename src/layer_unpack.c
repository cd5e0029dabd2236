/* SPDX-License-Identifier: Apache-2.0 */
#include "layer_unpack.h"

#include <archive.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <zlib.h>

#define GZIP_FIRST 0x1f       /* RFC 1952, 2.3.1: the first byte of each member */
#define GZIP_WINDOW (15 + 16) /* any window, and gzip's header and trailer: zlib.h, inflateInit2() */

struct unpack {
        const struct strata_unpack_ends *ends;
        const void *head; /* NULL once it was handed out */
        size_t head_len;
        int error; /* of the ends */
};

static bool starts_with(const unsigned char *head, size_t len, const char *bytes, size_t n)
{
        return len >= n && memcmp(head, bytes, n) == 0;
}

static bool is_gzip(const unsigned char *head, size_t len)
{
        return starts_with(head, len, "\x1f\x8b", 2);
}

bool strata_unpack_is_compressed(const void *data, size_t len)
{
        const unsigned char *head = data;

        return is_gzip(head, len) || starts_with(head, len, "\x28\xb5\x2f\xfd", 4) || /* Zstandard: RFC 8878, 3.1.1 */
               (len >= 4 && head[0] >> 4 == 5 && memcmp(head + 1, "\x2a\x4d\x18", 3) == 0) || /* 3.1.2 */
               starts_with(head, len, "\xfd\x37\x7a\x58\x5a\x00", 6) ||                       /* xz */
               starts_with(head, len, "BZh", 3);                                              /* bzip2 */
}

static ssize_t more(struct unpack *u, const void **ret)
{
        ssize_t n = (ssize_t)u->head_len;

        if (u->head) {
                *ret = u->head;
                u->head = NULL;
                return n;
        }
        n = u->ends->more(u->ends->data, ret);
        if (n < 0)
                u->error = (int)n;
        return n;
}

/* ---- gzip ---- */

/* What inflate() made of the room it had goes on. */
static int put_inflated(struct unpack *u, z_stream *z, size_t room)
{
        size_t n = room - z->avail_out;

        return n ? u->ends->put(u->ends->data, n) : 0;
}

/* Inflates what Z has been given, up to the end of a member: then 1. */
static int inflate_given(struct unpack *u, z_stream *z)
{
        while (z->avail_in > 0) {
                size_t room;
                void *to;
                int r = u->ends->room(u->ends->data, &to, &room), end;

                if (r < 0)
                        return r;
                room = room < UINT_MAX ? room : UINT_MAX;
                z->next_out = to;
                z->avail_out = (uInt)room;
                end = inflate(z, Z_NO_FLUSH);
                if (end == Z_MEM_ERROR)
                        return -ENOMEM;
                if (end != Z_OK && end != Z_STREAM_END)
                        return -EINVAL; /* a wrong sum in the trailer too */
                r = put_inflated(u, z, room);
                if (r < 0 || end == Z_STREAM_END)
                        return r < 0 ? r : 1;
        }
        return 0;
}

/* Members one after the other are one stream, as pigz and bgzip make them: RFC 1952, 2.2. */
static int inflate_members(struct unpack *u, z_stream *z)
{
        bool between = false;

        for (;;) {
                int r;

                if (z->avail_in == 0) {
                        const void *data;
                        ssize_t n = more(u, &data);

                        if (n <= 0)
                                return n < 0 ? (int)n : between ? 0 : -EINVAL;
                        z->next_in = (Bytef *)data; /* zlib does not write there */
                        z->avail_in = (uInt)n;
                }
                if (between && z->next_in[0] != GZIP_FIRST)
                        return 0; /* padding, or what else stands behind it */
                r = inflate_given(u, z);
                if (r < 0)
                        return r;
                between = r == 1;
                if (between && inflateReset(z) != Z_OK)
                        return -EINVAL;
        }
}

static int unpack_gzip(struct unpack *u)
{
        z_stream z = { 0 };
        int r = inflateInit2(&z, GZIP_WINDOW);

        if (r != Z_OK)
                return r == Z_MEM_ERROR ? -ENOMEM : -EOPNOTSUPP;
        r = inflate_members(u, &z);
        (void)inflateEnd(&z);
        return r;
}

/* ---- the others ---- */

static la_ssize_t feed(struct archive *a, void *data, const void **ret)
{
        ssize_t n = more(data, ret);

        if (n < 0)
                archive_set_error(a, (int)-n, "stopped");
        return n < 0 ? -1 : n;
}

static int open_archive(struct unpack *u, struct archive *a)
{
        struct archive_entry *entry;

        /* A warning would mean that libarchive lacks the library and starts a program for it. */
        if (archive_read_support_filter_zstd(a) != ARCHIVE_OK || archive_read_support_filter_xz(a) != ARCHIVE_OK ||
            archive_read_support_filter_bzip2(a) != ARCHIVE_OK || archive_read_support_format_raw(a) != ARCHIVE_OK)
                return -EOPNOTSUPP;
        if (archive_read_open(a, u, NULL, feed, NULL) != ARCHIVE_OK ||
            archive_read_next_header(a, &entry) != ARCHIVE_OK)
                return -EINVAL;
        return 0;
}

static int read_archive(struct unpack *u, struct archive *a)
{
        for (;;) {
                size_t room;
                la_ssize_t n;
                void *to;
                int r = u->ends->room(u->ends->data, &to, &room);

                if (r < 0)
                        return r;
                n = archive_read_data(a, to, room);
                if (n < 0)
                        return archive_errno(a) == ENOMEM ? -ENOMEM : -EINVAL;
                if (n == 0)
                        return 0;
                r = u->ends->put(u->ends->data, (size_t)n);
                if (r < 0)
                        return r;
        }
}

static int unpack_other(struct unpack *u)
{
        struct archive *a = archive_read_new();
        int r = a ? open_archive(u, a) : -ENOMEM;

        if (r == 0)
                r = read_archive(u, a);
        archive_read_free(a);
        return r;
}

int strata_unpack(const struct strata_unpack_ends *ends, const void *head, size_t len)
{
        struct unpack u = { .ends = ends, .head = head, .head_len = len };
        int r = is_gzip(head, len) ? unpack_gzip(&u) : unpack_other(&u);

        return u.error < 0 ? u.error : r;
}
