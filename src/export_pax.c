/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libarchive writes names of xattrs URL-encoded (archive_write_set_format_pax.c, url_encode()), and its reader leaves
 * SCHILY.xattr.* as they are: so a name would change with each way out and in, and for every other program. The format:
 * POSIX.1-2001, "pax Interchange Format", and the ustar header before it.
 */
#include "export_pax.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XATTR "SCHILY.xattr."
#define BLOCK ((size_t)512)

/* Of the ustar header: where its fields are. */
#define SIZE_AT 124
#define SIZE_DIGITS 11
#define CHECKSUM_AT 148
#define CHECKSUM_LEN 8
#define TYPE_AT 156

bool strata_export_pax_is_encoded(const char *xattr)
{
        for (const char *p = xattr; *p; p++)
                if (*p < 33 || *p > 126 || *p == '%' || *p == '=')
                        return true;
        return false;
}

static int hex(char c)
{
        return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void add_decoded(struct strata_buf *buf, const char *name, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                bool encoded = name[i] == '%' && i + 2 < len && hex(name[i + 1]) >= 0 && hex(name[i + 2]) >= 0;
                unsigned char c = encoded ? (unsigned char)(hex(name[i + 1]) * 16 + hex(name[i + 2])) : 0;

                if (encoded && c != '=') {
                        strata_buf_add(buf, &c, 1);
                        i += 2;
                } else {
                        strata_buf_add(buf, &name[i], 1);
                }
        }
}

/* "LENGTH KEY=VALUE\n", whose length counts itself. RECORD is what comes behind the blank. */
static void add_record(struct strata_buf *body, const char *record, size_t len)
{
        size_t total = len + 2;

        while (total != len + 1 + (size_t)snprintf(NULL, 0, "%zu", total))
                total = len + 1 + (size_t)snprintf(NULL, 0, "%zu", total);
        strata_buf_addf(body, "%zu ", total);
        strata_buf_add(body, record, len);
}

/* One record at AT, of which there are LEN bytes at most; the length of it, or 0 if it is none. */
static size_t copy_record(const char *at, size_t len, struct strata_buf *body)
{
        struct strata_buf record = STRATA_BUF_INIT;
        const char *blank = memchr(at, ' ', len < 20 ? len : 20), *equals;
        size_t total = blank ? strtoul(at, NULL, 10) : 0;

        if (!total || total > len || total <= (size_t)(blank + 1 - at) || at[total - 1] != '\n')
                return 0;
        equals = memchr(blank, '=', (size_t)(at + total - blank));
        if (!equals)
                return 0;
        if (strncmp(blank + 1, XATTR, strlen(XATTR)) == 0)
                add_decoded(&record, blank + 1, (size_t)(equals - blank - 1));
        else
                strata_buf_add(&record, blank + 1, (size_t)(equals - blank - 1));
        strata_buf_add(&record, equals, (size_t)(at + total - equals));
        if (strata_buf_status(&record) == 0)
                add_record(body, record.data, record.len);
        else
                total = 0;
        strata_buf_free(&record);
        return total;
}

/* The ustar header at HEADER with another SIZE of what follows. */
static void add_header(struct strata_buf *ret, const char *header, size_t size)
{
        char block[BLOCK], digits[32];
        unsigned sum = 0;

        memcpy(block, header, BLOCK);
        snprintf(digits, sizeof(digits), "%0*zo", SIZE_DIGITS, size);
        memcpy(block + SIZE_AT, digits, SIZE_DIGITS);
        memset(block + CHECKSUM_AT, ' ', CHECKSUM_LEN);
        for (size_t i = 0; i < BLOCK; i++)
                sum += (unsigned char)block[i];
        snprintf(digits, sizeof(digits), "%06o", sum);
        memcpy(block + CHECKSUM_AT, digits, 7); /* with its NUL; a blank is behind it */
        strata_buf_add(ret, block, BLOCK);
}

int strata_export_pax_decode(const struct strata_buf *header, struct strata_buf *ret)
{
        static const char zero[BLOCK];
        struct strata_buf body = STRATA_BUF_INIT;
        size_t size, end, at = BLOCK;
        int r = 0;

        if (header->len < BLOCK || header->data[TYPE_AT] != 'x')
                return -EIO;
        size = strtoul(header->data + SIZE_AT, NULL, 8);
        end = BLOCK + (size + BLOCK - 1) / BLOCK * BLOCK;
        if (end > header->len)
                return -EIO;
        while (at < BLOCK + size && r == 0) {
                size_t n = copy_record(header->data + at, BLOCK + size - at, &body);

                r = n ? strata_buf_status(&body) : -EIO;
                at += n;
        }
        if (r == 0) {
                add_header(ret, header->data, body.len);
                strata_buf_add(ret, body.data, body.len);
                strata_buf_add(ret, zero, (BLOCK - body.len % BLOCK) % BLOCK);
                strata_buf_add(ret, header->data + end, header->len - end);
        }
        strata_buf_free(&body);
        return r;
}
