/* SPDX-License-Identifier: Apache-2.0 */
/* What a store's size costs: the time from starting the program to its first answer, and its memory. */
#include "bench.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const double PATIENCE = 60; /* seconds */

static pid_t run_program(const char *program, const char *store, const char *mnt)
{
        pid_t pid = fork();

        if (pid < 0)
                bench_die("fork: %s", strerror(errno));
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGTERM);
                execl(program, program, store, mnt, "-f", "-o", "durability=none", (char *)NULL);
                _exit(127);
        }
        return pid;
}

/* Seconds until MNT/version is there. */
static double start(const char *program, const char *store, const char *mnt, pid_t *ret)
{
        double begin = bench_now();
        char path[BENCH_PATH];
        struct stat st;

        bench_path(path, "%s/version", mnt);
        *ret = run_program(program, store, mnt);
        while (stat(path, &st) < 0) {
                if (waitpid(*ret, NULL, WNOHANG) == *ret)
                        bench_die("%s ended at once", program);
                if (bench_now() - begin > PATIENCE) {
                        kill(*ret, SIGTERM);
                        bench_die("%s: %s", path, strerror(errno));
                }
                usleep(100);
        }
        return bench_now() - begin;
}

static void stop(pid_t pid)
{
        double limit = bench_now() + PATIENCE;

        kill(pid, SIGTERM);
        while (waitpid(pid, NULL, WNOHANG) == 0) {
                if (bench_now() > limit) {
                        kill(pid, SIGKILL);
                        bench_die("process %d did not end on SIGTERM", (int)pid);
                }
                usleep(1000);
        }
}

void bench_start(int argc, char **argv)
{
        unsigned reps = bench_number(argv[5], BENCH_MAX_REPS);
        struct series series = { .n = 0 };

        (void)argc;
        for (unsigned rep = 0; rep <= reps; rep++) {
                double took[2] = { 0 };

                for (unsigned turn = 0; turn < 2; turn++) {
                        unsigned which = (rep + turn) % 2;
                        pid_t pid;

                        took[which] = start(argv[1], argv[2 + which], argv[4], &pid);
                        stop(pid);
                }
                if (rep > 0)
                        series_add(&series, took[0], took[1]);
        }
        row_times("start to first answer", &series, 1, (struct target){ .high = 1.5 });
        row_value("start to first answer", bench_median(series.ours, series.n) * 1e3, " ms",
                  (struct target){ .high = 60 });
}

/* The line FIELD of /proc/PID/status, in MB. */
static double memory(pid_t pid, const char *field)
{
        char path[BENCH_PATH], line[256];
        double kilobytes = -1;
        FILE *f;

        bench_path(path, "/proc/%d/status", (int)pid);
        f = fopen(path, "re");
        if (!f)
                bench_die("open %s: %s", path, strerror(errno));
        while (fgets(line, sizeof(line), f))
                if (strncmp(line, field, strlen(field)) == 0)
                        kilobytes = strtod(line + strlen(field), NULL);
        fclose(f);
        if (kilobytes < 0)
                bench_die("%s holds no %s", path, field);
        return kilobytes / 1024;
}

void bench_size(int argc, char **argv)
{
        unsigned reps = bench_number(argv[4], BENCH_MAX_REPS);
        char command[BENCH_PATH + 64];
        char *const list[] = { (char *)"sh", (char *)"-c", command, NULL };
        double took[BENCH_MAX_REPS];
        pid_t pid;

        (void)argc;
        start(argv[1], argv[2], argv[3], &pid);
        snprintf(command, sizeof(command), "ls '%s/snapshots' | wc -l", argv[3]);
        for (unsigned rep = 0; rep < reps; rep++) {
                double begin = bench_now();

                bench_spawn(list);
                took[rep] = bench_now() - begin;
        }
        row_value("ls snapshots | wc -l", bench_median(took, reps), " s", (struct target){ .high = 0.5 });
        row_value("memory after it (VmRSS)", memory(pid, "VmRSS:"), " MB", (struct target){ .high = 38 });
        row_value("memory at its most (VmHWM)", memory(pid, "VmHWM:"), " MB", (struct target){ .high = 38 });
        stop(pid);
}
