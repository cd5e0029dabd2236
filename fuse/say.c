/* SPDX-License-Identifier: Apache-2.0 */
#include "say.h"

#include "sfs.h"
#include "util/buf.h"
#include "util/cleanup.h"

#include <string.h>

static void put(FILE *to, const char *before, const char *text, const char *after)
{
        cleanup_buf struct strata_buf line = STRATA_BUF_INIT;

        strata_buf_addstr(&line, before);
        strata_buf_add_visible(&line, text);
        strata_buf_addstr(&line, after);
        /* In one piece, as other processes may write there too. */
        fputs(strata_buf_status(&line) == 0 ? line.data : "stratafs: out of memory\n", to);
        fflush(to);
}

void sfs_say(FILE *to, const char *fmt, ...)
{
        cleanup_free char *text = NULL;
        va_list args;

        va_start(args, fmt);
        if (vasprintf(&text, fmt, args) < 0)
                text = NULL;
        va_end(args);
        put(to, to == stderr ? "stratafs: " : "", text ? text : "out of memory", "\n");
}

static void libfuse_says(enum fuse_log_level level, const char *fmt, va_list args)
{
        cleanup_free char *text = NULL;
        char *rest, *line;

        (void)level;
        if (vasprintf(&text, fmt, args) < 0)
                text = NULL;
        rest = text;
        while ((line = strsep(&rest, "\n")))
                if (rest || *line)
                        put(stderr, "", line, rest ? "\n" : "");
}

void sfs_say_for_libfuse(void)
{
        fuse_set_log_func(libfuse_says);
}
