/* SPDX-License-Identifier: Apache-2.0 */
#include "timefmt.h"

#include <stdio.h>
#include <string.h>

struct timespec strata_time_now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_REALTIME, &t);
        return t;
}

const char *strata_time_format(struct timespec t, char buf[STRATA_TIME_MAX])
{
        struct tm tm;

        gmtime_r(&t.tv_sec, &tm);
        snprintf(buf, STRATA_TIME_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ", (tm.tm_year + 1900) % 10000,
                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, t.tv_nsec);
        return buf;
}

bool strata_time_parse(const char *s, struct timespec *ret)
{
        struct tm tm = { 0 };
        long nsec;
        int end = 0;

        if (sscanf(s, "%4d-%2d-%2dT%2d:%2d:%2d.%9ldZ%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
                   &tm.tm_min, &tm.tm_sec, &nsec, &end) != 7 ||
            end == 0 || s[end] != '\0' || end != 30)
                return false;
        tm.tm_year -= 1900;
        tm.tm_mon -= 1;
        ret->tv_sec = timegm(&tm);
        ret->tv_nsec = nsec;
        return true;
}
