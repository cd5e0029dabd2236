/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

/*
 * What the benches share: a clock, paired samples and the rows of the table.
 *
 * Every row compares two sides measured in the same run, turn by turn; the ratio is the median of the ratios of the
 * pairs, so that what slows the machine for a while slows both halves of a pair. The target stands beside the ratio;
 * missing one is printed and is no failure. A bench that cannot run calls bench_die().
 */

#define BENCH_MAX_REPS 101

/* Seconds of both sides, a pair a repetition. */
struct series {
        double ours[BENCH_MAX_REPS];
        double other[BENCH_MAX_REPS];
        unsigned n;
};

/* What a ratio or value is held to; 0 is no bound on that side. */
struct target {
        double low;
        double high;
};

double bench_now(void);
void bench_die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* The number ARG holds, from 1 to MAX; dies otherwise. */
unsigned bench_number(const char *arg, unsigned max);

/* A path from a format; dies when it does not fit. */
#define BENCH_PATH 4096
void bench_path(char *ret, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Makes the file PATH of LEN bytes. */
void bench_file(const char *path, size_t len);
/* Everything dirty on the file system of PATH goes to disk, so that nobody's timing pays for it. */
void bench_settle(const char *path);
/* Runs ARGV with its output to /dev/null and waits; dies when it fails. */
void bench_spawn(char *const argv[]);

double bench_median(const double *values, unsigned n);
void series_add(struct series *s, double ours, double other);

/* ITEMS a sample: both as rates, the ratio is our rate by the other. */
void row_rates(const char *label, const struct series *s, unsigned items, struct target t);
/* ITEMS a sample: both as time an item, the ratio is our time by the other. */
void row_times(const char *label, const struct series *s, unsigned items, struct target t);
/* One number without another side. */
void row_value(const char *label, double value, const char *unit, struct target t);

/* The benches, ARGV[0] is the name; see usage in main.c. */
void bench_verbs(int argc, char **argv);
void bench_fill(int argc, char **argv);
void bench_chain(int argc, char **argv);
void bench_dirty(int argc, char **argv);
void bench_fingerprint(int argc, char **argv);
void bench_many(int argc, char **argv);
void bench_process(int argc, char **argv);
void bench_tree(int argc, char **argv);
void bench_io(int argc, char **argv);
void bench_touch(int argc, char **argv);
void bench_start(int argc, char **argv);
void bench_size(int argc, char **argv);
