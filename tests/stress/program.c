/* SPDX-License-Identifier: Apache-2.0 */
#include "stress.h"

#include "util/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void pause_ms(long ms)
{
        const struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

        nanosleep(&t, NULL);
}

/* It ends with us, whatever ends us. */
static pid_t spawn(char *const argv[])
{
        pid_t parent = getpid(), pid = fork();

        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() == parent)
                        execv(argv[0], argv);
                _exit(127);
        }
        return pid;
}

bool program_start(struct stress *x)
{
        char *argv[] = { (char *)x->program,
                         (char *)x->store,
                         (char *)x->mnt,
                         (char *)"-f",
                         (char *)"-o",
                         (char *)x->options,
                         NULL };
        char version[PATH_MAX];
        struct stat st;

        x->pid = spawn(argv);
        snprintf(version, sizeof(version), "%s/version", x->mnt);
        while (x->pid > 0 && stat(version, &st) < 0) {
                if (waitpid(x->pid, NULL, WNOHANG) == x->pid)
                        x->pid = -1;
                pause_ms(10);
        }
        if (x->pid < 0)
                complain(x, "the program does not start");
        return x->pid > 0;
}

bool program_stop(struct stress *x)
{
        char *argv[] = { (char *)"/bin/umount", (char *)"-R", (char *)x->mnt, NULL };
        int status = -1;

        /* The program itself is in it while it looks after a mount: stratafs(8) says so. */
        for (int tries = 0; tries < 20 && status != 0; tries++) {
                pid_t umount;

                if (tries)
                        pause_ms(100);
                umount = spawn(argv);
                if (waitpid(umount, &status, 0) != umount)
                        status = -1;
        }
        if (status != 0) {
                complain(x, "umount -R: status %d", status);
                kill(x->pid, SIGTERM);
        }
        if (waitpid(x->pid, &status, 0) != x->pid || status != 0)
                complain(x, "the program ended with status %d", status);
        x->pid = 0;
        return status == 0;
}

pid_t program_worker(struct stress *x)
{
        cleanup_free char *text = NULL;
        char path[64];
        pid_t worker = 0;

        snprintf(path, sizeof(path), "/proc/%d/task/%d/children", x->pid, x->pid);
        if (read_all_at(AT_FDCWD, path, &text) > 0)
                worker = (pid_t)strtol(text, NULL, 10);
        return worker;
}

void program_kill(struct stress *x)
{
        pid_t worker = program_worker(x);

        kill(x->pid, SIGKILL);
        if (worker > 0)
                kill(worker, SIGKILL);
        waitpid(x->pid, NULL, 0);
        x->pid = 0;
        x->kills++;
}

static int count_in(const char *dir, const char *below)
{
        char path[PATH_MAX];
        struct dirent *de;
        int n = 0;

        snprintf(path, sizeof(path), "%s%s", dir, below);
        cleanup_dir DIR *d = opendir(path);
        while (d && (de = readdir(d)))
                n += strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0;
        return d ? n : -1;
}

/* Polls until each layer has a link and nothing is to be deleted: a minute at most, as it is done in the background. */
bool program_settled(struct stress *x, bool empty)
{
        int links, layers, trash;

        for (int tries = 0;; tries++) {
                links = count_in(x->store, "/active") + count_in(x->store, "/views") + count_in(x->store, "/snapshots");
                layers = count_in(x->store, "/layers");
                trash = count_in(x->store, "/trash");
                if (links == layers && trash == 0 && (!empty || links == 0))
                        return true;
                if (tries == 600)
                        break;
                watch_progress(x);
                pause_ms(100);
        }
        complain(x, "left in the store: %d links, %d layers, %d in the trash", links, layers, trash);
        return false;
}

int program_descriptors(struct stress *x)
{
        pid_t worker = program_worker(x);
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/fd", worker > 0 ? worker : x->pid);
        return count_in(path, "");
}

int program_overlays(struct stress *x)
{
        FILE *f = setmntent("/proc/self/mounts", "r");
        size_t len = strlen(x->base);
        struct mntent *m;
        int n = 0;

        while (f && (m = getmntent(f))) {
                if (strcmp(m->mnt_type, "overlay") != 0 || strncmp(m->mnt_dir, x->base, len) != 0)
                        continue;
                fprintf(stderr, "# left mounted: %s at %s\n", m->mnt_fsname, m->mnt_dir);
                n++;
        }
        if (f)
                endmntent(f);
        return n;
}
