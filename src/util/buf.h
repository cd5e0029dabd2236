/* SPDX-License-Identifier: Apache-2.0 */
/* A growing byte string. All appends after a failed one do nothing, so only the end has to be checked. */
#ifndef STRATA_BUF_H
#define STRATA_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct strata_buf {
        char *data; /* LEN bytes and a NUL behind them, or NULL while empty */
        size_t len;
        size_t size;
        bool failed; /* an append ran out of memory */
};

#define STRATA_BUF_INIT ((struct strata_buf){ 0 })

void strata_buf_free(struct strata_buf *b);
void strata_buf_add(struct strata_buf *b, const void *data, size_t len);
void strata_buf_addstr(struct strata_buf *b, const char *s);
void strata_buf_addf(struct strata_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * Bytes of the first character of TEXT, at least 1. *CONTROL: a terminal may take it for a command. Besides the control
 * bytes of ASCII that is C1 (U+0080 to U+009F; 0x9b alone begins an escape sequence), encoded in UTF-8 or as a byte
 * that is part of no well-formed character.
 */
size_t strata_buf_character(const char *text, bool *control);
bool strata_buf_has_control(const char *s);

/* Appends S as it is, but for controls, which become C escapes. */
void strata_buf_add_visible(struct strata_buf *b, const char *s);

/* Appends S for people and line-based tools: controls, `"` and `\` become C escapes. */
void strata_buf_add_escaped(struct strata_buf *b, const char *s);

/* Appends S as it is, or, where it holds white space, controls, `"` or `\`, as a C string in quotes. */
void strata_buf_add_path(struct strata_buf *b, const char *s);

/*
 * Appends S as the one value of a line that scripts read to its end: as it is, or, where it holds controls or begins
 * with `"`, as a C string in quotes.
 */
void strata_buf_add_value(struct strata_buf *b, const char *s);

/* Appends "/" and S, a path in a layer; where it holds controls, `"` or `\`, as a C string in quotes. */
void strata_buf_add_layer_path(struct strata_buf *b, const char *s);

/* 0, or -ENOMEM if any append so far failed. */
int strata_buf_status(const struct strata_buf *b);

#define cleanup_buf __attribute__((cleanup(strata_buf_free)))

#endif
