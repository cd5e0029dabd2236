/* SPDX-License-Identifier: Apache-2.0 */
/* Starting, stopping and watching the program. */
#include "failpoints.h"

#include "util/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define HANG_SECONDS 60

void pause_ms(long ms)
{
        const struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

        nanosleep(&t, NULL);
}

/* ---- hangs ---- */

static struct {
        pthread_mutex_t lock; /* protects the two below */
        const char *what;
        time_t since;
} watched = { .lock = PTHREAD_MUTEX_INITIALIZER };

static time_t seconds(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec;
}

void watch(struct fail *x, const char *what)
{
        (void)x;
        pthread_mutex_lock(&watched.lock);
        watched.what = what;
        watched.since = seconds();
        pthread_mutex_unlock(&watched.lock);
}

/* Nobody may wait for ever: the script clears the mounts away. */
static void *watch_main(void *data)
{
        struct fail *x = data;

        for (;;) {
                pause_ms(500);
                pthread_mutex_lock(&watched.lock);
                if (watched.what && seconds() - watched.since > HANG_SECONDS) {
                        unsigned long seen;
                        const char *hit = x->inject ? inject_end(x->inject, &seen) : NULL;

                        printf("not ok hangs: %s\n# after %s\n", watched.what, hit ? hit : "no failure");
                        fflush(stdout);
                        _exit(3);
                }
                pthread_mutex_unlock(&watched.lock);
        }
        return NULL;
}

bool watch_begin(struct fail *x)
{
        pthread_t thread;

        return pthread_create(&thread, NULL, watch_main, x) == 0 && pthread_detach(thread) == 0;
}

/* ---- start and end ---- */

static bool is_ended(pid_t pid)
{
        siginfo_t info = { 0 };

        return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

static void run(struct fail *x, const char *place, unsigned long n, int error)
{
        char *argv[] = { (char *)x->program,
                         (char *)x->store,
                         (char *)x->mnt,
                         (char *)"-f",
                         (char *)"-o",
                         (char *)x->options,
                         NULL };

        x->inject = inject_run(argv, x->errors, x->sanitized, place, n, error, &x->pid);
}

void program_start_failing(struct fail *x, unsigned long n, int error)
{
        run(x, x->base, n, error);
}

int program_start(struct fail *x)
{
        char version[PATH_MAX];
        struct stat st;
        int status;

        snprintf(version, sizeof(version), "%s/version", x->mnt);
        run(x, NULL, 0, 0);
        while (stat(version, &st) < 0) {
                if (is_ended(x->pid)) {
                        (void)waitpid(x->pid, &status, 0);
                        inject_free(steal_ptr(&x->inject));
                        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
                }
                pause_ms(2);
        }
        program_look(x);
        return 0;
}

/* A thread of each table of descriptors of process PID. */
static void add_tables(struct fail *x, pid_t pid)
{
        cleanup_dir DIR *dir = NULL;
        char path[64];
        struct dirent *de;

        snprintf(path, sizeof(path), "/proc/%d/task", pid);
        dir = opendir(path);
        while (dir && (de = readdir(dir))) {
                pid_t tid = (pid_t)atoi(de->d_name);
                bool known = !tid;

                for (unsigned i = 0; i < x->n_tables && !known; i++)
                        known = syscall(SYS_kcmp, x->tables[i], tid, KCMP_FILES, 0, 0) == 0;
                if (!known && x->n_tables < sizeof(x->tables) / sizeof(*x->tables))
                        x->tables[x->n_tables++] = tid;
        }
}

void program_look(struct fail *x)
{
        cleanup_free char *text = NULL;
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/task/%d/children", x->pid, x->pid);
        text = read_file(AT_FDCWD, path);
        x->worker = text ? (pid_t)strtol(text, NULL, 10) : 0;
        x->n_tables = 0;
        add_tables(x, x->pid);
        if (x->worker > 0)
                add_tables(x, x->worker);
        x->n_fds = 0;
}

unsigned program_fds(struct fail *x)
{
        unsigned n = 0;

        for (unsigned i = 0; i < x->n_tables; i++) {
                cleanup_dir DIR *dir = NULL;
                char path[64];

                snprintf(path, sizeof(path), "/proc/%d/fd", x->tables[i]);
                dir = opendir(path);
                while (dir && readdir(dir))
                        n++;
        }
        return n;
}

/* Runs umount(8), which knows -R. */
static int unmount_all(struct fail *x)
{
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                execl("/bin/umount", "umount", "-R", x->mnt, NULL);
                _exit(127);
        }
        return waitpid(pid, &status, 0) == pid ? status : -1;
}

bool program_stop(struct fail *x)
{
        int status = unmount_all(x);

        if (status != 0) {
                diag("umount -R: status %d", status);
                kill(x->pid, SIGTERM);
        }
        if (waitpid(x->pid, &status, 0) != x->pid)
                status = -1;
        inject_free(steal_ptr(&x->inject));
        x->pid = x->worker = 0;
        if (status != 0)
                diag("the program ended with status %d", status);
        return status == 0;
}
