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

/* Bytes of the well-formed UTF-8 character at S, or 0: RFC 3629, section 4. */
static size_t utf8_length(const unsigned char *s)
{
        unsigned char low = 0x80, high = 0xbf;
        size_t len;

        if (s[0] < 0x80)
                return 1;
        if (s[0] < 0xc2 || s[0] > 0xf4)
                return 0;
        len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
        if (s[0] == 0xe0)
                low = 0xa0;
        else if (s[0] == 0xed)
                high = 0x9f;
        else if (s[0] == 0xf0)
                low = 0x90;
        else if (s[0] == 0xf4)
                high = 0x8f;
        if (s[1] < low || s[1] > high)
                return 0;
        for (size_t i = 2; i < len; i++)
                if (s[i] < 0x80 || s[i] > 0xbf)
                        return 0;
        return len;
}

size_t strata_buf_character(const char *text, bool *control)
{
        const unsigned char *s = (const unsigned char *)text;
        size_t len = utf8_length(s);

        *control = s[0] < 0x20 || s[0] == 0x7f || (len == 0 && s[0] >= 0x80 && s[0] <= 0x9f) ||
                   (len == 2 && s[0] == 0xc2 && s[1] <= 0x9f);
        return len ? len : 1;
}

bool strata_buf_has_control(const char *s)
{
        bool control = false;

        while (*s && !control)
                s += strata_buf_character(s, &control);
        return control;
}

void strata_buf_add_visible(struct strata_buf *b, const char *s)
{
        bool control;

        for (size_t len; *s; s += len) {
                len = strata_buf_character(s, &control);
                if (!control)
                        strata_buf_add(b, s, len);
                for (size_t i = 0; control && i < len; i++)
                        strata_buf_addf(b, "\\%03o", (unsigned char)s[i]);
        }
}

void strata_buf_add_escaped(struct strata_buf *b, const char *s)
{
        bool control;

        for (size_t len; *s; s += len) {
                len = strata_buf_character(s, &control);
                if (*s == '\n')
                        strata_buf_addstr(b, "\\n");
                else if (*s == '\t')
                        strata_buf_addstr(b, "\\t");
                else if (*s == '"' || *s == '\\')
                        strata_buf_addf(b, "\\%c", *s);
                else if (!control)
                        strata_buf_add(b, s, len);
                else
                        for (size_t i = 0; i < len; i++)
                                strata_buf_addf(b, "\\%03o", (unsigned char)s[i]);
        }
}

void strata_buf_add_path(struct strata_buf *b, const char *s)
{
        if (*s && !strpbrk(s, " \"\\") && !strata_buf_has_control(s)) {
                strata_buf_addstr(b, s);
                return;
        }
        strata_buf_addstr(b, "\"");
        strata_buf_add_escaped(b, s);
        strata_buf_addstr(b, "\"");
}

void strata_buf_add_value(struct strata_buf *b, const char *s)
{
        if (*s != '"' && !strata_buf_has_control(s)) {
                strata_buf_addstr(b, s);
                return;
        }
        strata_buf_addstr(b, "\"");
        strata_buf_add_escaped(b, s);
        strata_buf_addstr(b, "\"");
}

void strata_buf_add_layer_path(struct strata_buf *b, const char *s)
{
        bool quote = strpbrk(s, "\"\\") || strata_buf_has_control(s);

        strata_buf_addstr(b, quote ? "\"/" : "/");
        if (quote)
                strata_buf_add_escaped(b, s);
        else
                strata_buf_addstr(b, s);
        strata_buf_addstr(b, quote ? "\"" : "");
}

int strata_buf_status(const struct strata_buf *b)
{
        return b->failed ? -ENOMEM : 0;
}
