/* SPDX-License-Identifier: Apache-2.0 */
#include "timefmt.h"

#include <stdio.h>
#include <string.h>

struct timespec strata_time_now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_REALTIME_COARSE, &t); /* the clock of inode times: the two can be compared */
        return t;
}

const char *strata_time_format(struct timespec t, char buf[STRATA_TIME_MAX])
{
        struct tm tm;

        gmtime_r(&t.tv_sec, &tm);
        snprintf(buf, STRATA_TIME_MAX, "%04u-%02u-%02uT%02u:%02u:%02u.%09luZ", (tm.tm_year + 1900U) % 10000,
                 (tm.tm_mon + 1U) % 100, tm.tm_mday % 100U, tm.tm_hour % 100U, tm.tm_min % 100U, tm.tm_sec % 100U,
                 (unsigned long)t.tv_nsec % 1000000000UL);
        return buf;
}

/* True if S looks like PATTERN, in which a 0 stands for any digit. */
static bool has_form(const char *s, const char *pattern)
{
        for (; *pattern; s++, pattern++)
                if (*pattern == '0' ? *s < '0' || *s > '9' : *s != *pattern)
                        return false;
        return *s == '\0';
}

bool strata_time_parse(const char *s, struct timespec *ret)
{
        struct tm tm = { 0 }, again;
        long nsec;
        time_t sec;

        if (!has_form(s, "0000-00-00T00:00:00.000000000Z") ||
            sscanf(s, "%4d-%2d-%2dT%2d:%2d:%2d.%9ldZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
                   &tm.tm_sec, &nsec) != 7)
                return false;
        tm.tm_year -= 1900;
        tm.tm_mon -= 1;
        again = tm;
        sec = timegm(&again);
        /* timegm() puts right what is no date, as the 31st of June: so that it was one, nothing may have moved. */
        if (again.tm_mon != tm.tm_mon || again.tm_mday != tm.tm_mday || again.tm_hour != tm.tm_hour ||
            again.tm_min != tm.tm_min || again.tm_sec != tm.tm_sec)
                return false;
        ret->tv_sec = sec;
        ret->tv_nsec = nsec;
        return true;
}
