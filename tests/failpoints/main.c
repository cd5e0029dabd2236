/* SPDX-License-Identifier: Apache-2.0 */
#include "failpoints.h"

#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void diag(const char *fmt, ...)
{
        va_list args;

        printf("# ");
        va_start(args, fmt);
        vprintf(fmt, args);
        va_end(args);
        printf("\n");
        fflush(stdout);
}

void report(struct fail *x, bool ok, const char *fmt, ...)
{
        va_list args;

        x->tests++;
        if (!ok)
                x->failures++;
        printf("%s ", ok ? "ok" : "not ok");
        va_start(args, fmt);
        vprintf(fmt, args);
        va_end(args);
        printf("\n");
        fflush(stdout);
}

void give_up(const char *fmt, ...)
{
        va_list args;

        printf("not ok gives up: ");
        va_start(args, fmt);
        vprintf(fmt, args);
        va_end(args);
        printf("\n");
        fflush(stdout);
        _exit(2);
}

const char *errno_name(int error)
{
        const char *name = strerrorname_np(error);

        return name ? name : "?";
}

/* Memory that fails ends a program of AddressSanitizer. */
static bool is_sanitized(const char *program)
{
        cleanup_free char *command = NULL;

        return asprintf(&command, "grep -q __asan_init '%s'", program) > 0 && system(command) == 0;
}

static unsigned long number(const char *text)
{
        return strtoul(text, NULL, 10);
}

static void sweep_all(struct fail *x, const char *only)
{
        if (program_start(x) != 0)
                give_up("the program does not start");
        ops_prepare(x);
        for (size_t i = 0; i < n_ops; i++)
                if (!*only || strcmp(only, ops[i].name) == 0)
                        op_sweep(x, &ops[i]);
        report(x, program_stop(x), "the program ends as it should");
        if (!*only || strcmp(only, "start") == 0)
                start_sweep(x, "start", false);
        if (!*only || strcmp(only, "start after a kill") == 0)
                start_sweep(x, "start after a kill", true);
}

int main(int argc, char **argv)
{
        struct fail x = { 0 };

        if (argc != 11) {
                fprintf(stderr, "usage: failpoints PROGRAM STORE MNT BASE ERRORS LAYER OPTIONS STRIDE OFFSET ONLY\n");
                return 2;
        }
        x.program = argv[1];
        x.store = argv[2];
        x.mnt = argv[3];
        x.base = argv[4];
        x.errors = argv[5];
        x.layer = argv[6];
        x.options = argv[7];
        x.stride = number(argv[8]) ? number(argv[8]) : 1;
        x.offset = number(argv[9]);
        x.tell = getenv("FAILPOINTS_TELL");
        x.sanitized = is_sanitized(x.program);
        if (!watch_begin(&x))
                give_up("no threads");
        sweep_all(&x, argv[10]);
        diag("%lu points: %lu failed and changed nothing, %lu succeeded whole", x.points, x.failed, x.succeeded);
        free(x.last_line);
        return x.failures ? 1 : 0;
}
