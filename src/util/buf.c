/* SPDX-License-Identifier: Apache-2.0 */
#include "buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void strata_buf_free(struct strata_buf *b)
{
        free(b->data);
        *b = STRATA_BUF_INIT;
}

static bool buf_reserve(struct strata_buf *b, size_t more)
{
        size_t size = b->size ? b->size : 256;
        char *data;

        if (b->failed)
                return false;
        if (more < b->size - b->len)
                return true;
        while (size - b->len <= more)
                size *= 2;
        data = realloc(b->data, size);
        if (!data) {
                b->failed = true;
                return false;
        }
        b->data = data;
        b->size = size;
        return true;
}

void strata_buf_add(struct strata_buf *b, const void *data, size_t len)
{
        if (!buf_reserve(b, len))
                return;
        if (len)
                memcpy(b->data + b->len, data, len);
        b->len += len;
        b->data[b->len] = '\0';
}

void strata_buf_addstr(struct strata_buf *b, const char *s)
{
        strata_buf_add(b, s, strlen(s));
}

void strata_buf_addf(struct strata_buf *b, const char *fmt, ...)
{
        va_list args;
        int len;

        va_start(args, fmt);
        len = vsnprintf(NULL, 0, fmt, args);
        va_end(args);
        if (len < 0 || !buf_reserve(b, (size_t)len)) {
                b->failed = true;
                return;
        }
        va_start(args, fmt);
        vsnprintf(b->data + b->len, b->size - b->len, fmt, args);
        va_end(args);
        b->len += (size_t)len;
}

void strata_buf_add_escaped(struct strata_buf *b, const char *s)
{
        for (; *s; s++) {
                unsigned char c = (unsigned char)*s;

                if (c == '\n')
                        strata_buf_addstr(b, "\\n");
                else if (c == '\t')
                        strata_buf_addstr(b, "\\t");
                else if (c < 0x20 || c == 0x7f)
                        strata_buf_addf(b, "\\%03o", c);
                else if (c == '"' || c == '\\')
                        strata_buf_addf(b, "\\%c", c);
                else
                        strata_buf_add(b, s, 1);
        }
}

void strata_buf_add_path(struct strata_buf *b, const char *s)
{
        bool quote = *s == '\0';

        for (const char *p = s; *p && !quote; p++)
                quote = (unsigned char)*p <= 0x20 || *p == 0x7f || *p == '"' || *p == '\\';
        if (!quote) {
                strata_buf_addstr(b, s);
                return;
        }
        strata_buf_addstr(b, "\"");
        strata_buf_add_escaped(b, s);
        strata_buf_addstr(b, "\"");
}

int strata_buf_status(const struct strata_buf *b)
{
        return b->failed ? -ENOMEM : 0;
}
