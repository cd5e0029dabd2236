/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include "util/timefmt.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct strata_log {
        pthread_mutex_t lock; /* protects all below; a leaf lock, held over memory operations only */
        char *lines[STRATA_LOG_LINES];
        size_t next; /* slot of the next line; once round, of the oldest */
};

int strata_log_new(struct strata_log **ret)
{
        struct strata_log *log = calloc(1, sizeof(*log));

        if (!log)
                return -ENOMEM;
        pthread_mutex_init(&log->lock, NULL);
        *ret = log;
        return 0;
}

void strata_log_free(struct strata_log *log)
{
        if (!log)
                return;
        for (size_t i = 0; i < STRATA_LOG_LINES; i++)
                free(log->lines[i]);
        pthread_mutex_destroy(&log->lock);
        free(log);
}

const char *strata_log_errno_name(int error)
{
        const char *name = error ? strerrorname_np(error < 0 ? -error : error) : "OK";

        return name ? name : "EUNKNOWN";
}

void strata_log_add(struct strata_log *log, const char *operation, const char *path, const char *path2, int error,
                    const char *fmt, ...)
{
        struct strata_buf line = STRATA_BUF_INIT;
        char time[STRATA_TIME_MAX], reason[STRATA_LOG_REASON_MAX];
        va_list args;

        va_start(args, fmt);
        vsnprintf(reason, sizeof(reason), fmt, args);
        va_end(args);
        strata_buf_addf(&line, "%s %s ", strata_time_format(strata_time_now(), time), operation);
        strata_buf_add_path(&line, path);
        if (path2) {
                strata_buf_addstr(&line, " ");
                strata_buf_add_path(&line, path2);
        }
        strata_buf_addf(&line, " %s ", strata_log_errno_name(error));
        strata_buf_add_visible(&line, reason); /* it may quote names as users gave them */
        strata_buf_addstr(&line, "\n");
        if (strata_buf_status(&line) < 0) {
                strata_buf_free(&line);
                return;
        }
        pthread_mutex_lock(&log->lock);
        free(log->lines[log->next]);
        log->lines[log->next] = line.data;
        log->next = (log->next + 1) % STRATA_LOG_LINES;
        pthread_mutex_unlock(&log->lock);
}

void strata_log_show(struct strata_log *log, struct strata_buf *buf)
{
        pthread_mutex_lock(&log->lock);
        for (size_t i = 0; i < STRATA_LOG_LINES; i++) {
                const char *line = log->lines[(log->next + i) % STRATA_LOG_LINES];

                if (line)
                        strata_buf_addstr(buf, line);
        }
        pthread_mutex_unlock(&log->lock);
}
