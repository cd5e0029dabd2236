/* SPDX-License-Identifier: Apache-2.0 */
/* The small parsers: names, KEY@PARENT, times, numbers. What they take, they have to give back. */
#include "name.h"
#include "util/io.h"
#include "util/timefmt.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void try_names(const char *s)
{
        struct strata_name_pair pair;
        const char *why;

        if (strata_name_check(s, &why) == 0 &&
            (strlen(s) > STRATA_NAME_MAX || strpbrk(s, "/@\n\x7f") || s[0] == '.' || !s[0]))
                abort();
        if (strata_name_split(s, &pair, &why) < 0)
                return;
        if (strata_name_check(pair.key, NULL) < 0 || (pair.parent[0] && strata_name_check(pair.parent, NULL) < 0) ||
            strlen(pair.key) + strlen(pair.parent) + (strchr(s, '@') != NULL) != strlen(s))
                abort();
}

static void try_time(const char *s)
{
        char buf[STRATA_TIME_MAX];
        struct timespec t, again;

        if (!strata_time_parse(s, &t))
                return;
        if (!strata_time_parse(strata_time_format(t, buf), &again) || again.tv_sec != t.tv_sec ||
            again.tv_nsec != t.tv_nsec)
                abort();
}

static void try_number(const char *s)
{
        unsigned long long v;
        char buf[32];

        if (!strata_io_parse_u64(s, &v))
                return;
        while (s[0] == '0' && s[1])
                s++;
        snprintf(buf, sizeof(buf), "%llu", v);
        if (strcmp(buf, s) != 0)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
        char *s = malloc(len + 1);

        if (!s)
                return 0;
        memcpy(s, data, len);
        s[len] = '\0';
        try_names(s);
        try_time(s);
        try_number(s);
        free(s);
        return 0;
}
