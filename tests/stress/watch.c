/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where nothing goes on any more: what all threads are at is written down before anything is ended (hang.sh), then the
 * run ends. Each operation has to call watch_progress().
 */
#include "stress.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Requests that are kept for a mount end after 30 seconds, and a claim waits 10; a sanitizer is slow. */
#define STALL_SECONDS 120

/* A run whose every step goes on, but slowly, has to tell before the test's own time is up. */
#define OVERTIME_SECONDS 400

void watch_progress(struct stress *x)
{
        atomic_fetch_add(&x->progress, 1);
}

double watch_now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void tell_hang(struct stress *x)
{
        char program[16], worker[16], own[16];
        char *argv[] = { (char *)"/bin/bash", (char *)x->hang_script, (char *)x->mnt, program, worker, own, NULL };
        pid_t pid;

        snprintf(program, sizeof(program), "%d", x->pid);
        snprintf(worker, sizeof(worker), "%d", program_worker(x));
        snprintf(own, sizeof(own), "%d", getpid());
        fprintf(stderr, "# nothing goes on for %d seconds, or it does not end: what the threads are at\n",
                STALL_SECONDS);
        pid = fork();
        if (pid == 0) {
                dup2(STDERR_FILENO, STDOUT_FILENO);
                execv(argv[0], argv);
                _exit(127);
        }
        while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
}

static void *watch_main(void *arg)
{
        struct stress *x = arg;
        const struct timespec second = { .tv_sec = 1 };
        const double end = watch_now() + x->seconds + OVERTIME_SECONDS;
        unsigned long last = 0;

        for (int idle = 0; idle < STALL_SECONDS && watch_now() < end; idle++) {
                unsigned long now = atomic_load(&x->progress);

                if (now != last)
                        idle = 0;
                last = now;
                nanosleep(&second, NULL);
        }
        tell_hang(x);
        printf("point fail the run goes on\n");
        fflush(stdout);
        if (x->pid > 0)
                kill(x->pid, SIGKILL);
        _exit(3);
}

void watch_start(struct stress *x)
{
        pthread_t thread;

        x->hang_script = getenv("STRESS_HANG_SCRIPT");
        if (x->hang_script && pthread_create(&thread, NULL, watch_main, x) == 0)
                pthread_detach(thread);
}
