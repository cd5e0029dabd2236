/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

double bench_now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec + t.tv_nsec / 1e9;
}

void bench_die(const char *format, ...)
{
        va_list args;

        fflush(stdout);
        fputs("bench: ", stderr);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fputc('\n', stderr);
        exit(1);
}

unsigned bench_number(const char *arg, unsigned max)
{
        char *end;
        unsigned long value = strtoul(arg, &end, 10);

        if (end == arg || *end || value < 1 || value > max)
                bench_die("'%s' is not a number from 1 to %u", arg, max);
        return value;
}

void bench_path(char *ret, const char *format, ...)
{
        va_list args;
        int len;

        va_start(args, format);
        len = vsnprintf(ret, BENCH_PATH, format, args);
        va_end(args);
        if (len < 0 || len >= BENCH_PATH)
                bench_die("path too long: %s", ret);
}

void bench_file(const char *path, size_t len)
{
        static char block[1 << 16];
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

        if (fd < 0)
                bench_die("create %s: %s", path, strerror(errno));
        if (!block[0])
                memset(block, 'x', sizeof(block));
        while (len > 0) {
                ssize_t n = write(fd, block, len < sizeof(block) ? len : sizeof(block));

                if (n <= 0)
                        bench_die("write %s: %s", path, strerror(errno));
                len -= n;
        }
        close(fd);
}

void bench_settle(const char *path)
{
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0 || syncfs(fd) < 0)
                bench_die("syncfs %s: %s", path, strerror(errno));
        close(fd);
}

void bench_spawn(char *const argv[])
{
        posix_spawn_file_actions_t actions;
        int status, r;
        pid_t pid;

        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        r = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
        posix_spawn_file_actions_destroy(&actions);
        if (r)
                bench_die("run %s: %s", argv[0], strerror(r));
        if (waitpid(pid, &status, 0) != pid || status)
                bench_die("%s failed (status %#x)", argv[0], status);
}

static int compare(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

double bench_median(const double *values, unsigned n)
{
        double sorted[BENCH_MAX_REPS];

        memcpy(sorted, values, n * sizeof(*values));
        qsort(sorted, n, sizeof(*sorted), compare);
        return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

void series_add(struct series *s, double ours, double other)
{
        if (s->n == BENCH_MAX_REPS)
                bench_die("more than %d repetitions", BENCH_MAX_REPS);
        s->ours[s->n] = ours;
        s->other[s->n++] = other;
}

/* TEXT gets "(target …) ok" or "(target …) MISSED"; nothing when there is no target. */
static void judge(char *text, size_t size, double value, const char *unit, struct target t)
{
        bool ok = (t.low <= 0 || value >= t.low) && (t.high <= 0 || value <= t.high);

        text[0] = '\0';
        if (t.low > 0 && t.high > 0)
                snprintf(text, size, "(target %.2f to %.2f) ", t.low, t.high);
        else if (t.low > 0)
                snprintf(text, size, "(target >= %.2f%s) ", t.low, unit);
        else if (t.high > 0)
                snprintf(text, size, "(target <= %.2f%s) ", t.high, unit);
        if (text[0])
                strncat(text, ok ? "ok" : "MISSED", size - strlen(text) - 1);
}

static void row(const char *label, const char *ours, const char *other, double ratio, struct target t)
{
        char verdict[64];

        judge(verdict, sizeof(verdict), ratio, "", t);
        printf("  %-40s %12s %12s %7.3f  %s\n", label, ours, other, ratio, verdict);
        fflush(stdout);
}

static void format_time(char *ret, size_t size, double seconds)
{
        if (seconds < 1e-3)
                snprintf(ret, size, "%.1f us", seconds * 1e6);
        else if (seconds < 1)
                snprintf(ret, size, "%.2f ms", seconds * 1e3);
        else
                snprintf(ret, size, "%.2f s", seconds);
}

void row_rates(const char *label, const struct series *s, unsigned items, struct target t)
{
        double ratios[BENCH_MAX_REPS];
        char ours[32], other[32];

        for (unsigned i = 0; i < s->n; i++)
                ratios[i] = s->other[i] / s->ours[i];
        snprintf(ours, sizeof(ours), "%.0f/s", items / bench_median(s->ours, s->n));
        snprintf(other, sizeof(other), "%.0f/s", items / bench_median(s->other, s->n));
        row(label, ours, other, bench_median(ratios, s->n), t);
}

void row_times(const char *label, const struct series *s, unsigned items, struct target t)
{
        double ratios[BENCH_MAX_REPS];
        char ours[32], other[32];

        for (unsigned i = 0; i < s->n; i++)
                ratios[i] = s->ours[i] / s->other[i];
        format_time(ours, sizeof(ours), bench_median(s->ours, s->n) / items);
        format_time(other, sizeof(other), bench_median(s->other, s->n) / items);
        row(label, ours, other, bench_median(ratios, s->n), t);
}

void row_value(const char *label, double value, const char *unit, struct target t)
{
        char text[32], verdict[64];

        snprintf(text, sizeof(text), "%.2f%s", value, unit);
        judge(verdict, sizeof(verdict), value, unit, t);
        printf("  %-40s %12s %12s %7s  %s\n", label, text, "", "", verdict);
        fflush(stdout);
}
