/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade.h"

#include "keep.h"
#include "mounts.h"
#include "options.h"
#include "say.h"
#include "session.h"
#include "store.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CMDLINE_MAX ((size_t)8 << 20)
#define WAIT_TRIES 3000 /* of ten milliseconds, for the new worker */

char *sfs_upgrade_layout(char text[SFS_LAYOUT_MAX])
{
        snprintf(text, SFS_LAYOUT_MAX, "%d.%zu", SFS_KEEP_VERSION, sizeof(struct sfs_keep));
        return text;
}

int sfs_upgrade_program(const char *proc, char *path, size_t size)
{
        static const char deleted[] = " (deleted)"; /* proc_pid_exe(5) */
        char link[64];
        ssize_t n;

        snprintf(link, sizeof(link), "/proc/%s/exe", proc);
        n = readlink(link, path, size - 1);
        if (n < 0)
                return -errno;
        path[n] = '\0';
        if ((size_t)n > strlen(deleted) && strcmp(path + n - strlen(deleted), deleted) == 0)
                path[(size_t)n - strlen(deleted)] = '\0';
        return 0;
}

static int complain(const char *what, const char *more)
{
        sfs_say(stderr, "%s%s", what, more);
        return 1;
}

/* What the keeper was called with, of which the places are known: 0 if it would be taken; why not is on stderr. */
static int try_arguments(const char *store, int argc, char **argv)
{
        struct sfs_options o;
        char *why = NULL;
        int r = sfs_options_parse(argc, argv, &o);

        if (r == 0 && !o.mountpoint)
                r = -EINVAL; /* but an order to tell the version or the like */
        if (r == 0) {
                free(o.store);
                o.store = strdup(store);
                r = o.store ? sfs_session_check_resumed(&o, &why) : -ENOMEM;
                if (why)
                        sfs_complain(why, r);
        }
        sfs_options_free(&o);
        return r;
}

int sfs_upgrade_probe(const char *layout, int argc, char **argv)
{
        cleanup_buf struct strata_buf format = STRATA_BUF_INIT;
        const char *store = argv[0];
        cleanup_fd int dir = open(store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        char own[SFS_LAYOUT_MAX];

        if (strcmp(layout, sfs_upgrade_layout(own)) != 0)
                return complain("the installed program can't go on with the memory of the running one; unmount and "
                                "start it again",
                                "");
        if (dir < 0 || strata_io_read_at(dir, "format", 256, &format) < 0 || !format.data)
                return complain("can't read the format of the store ", store);
        if (strata_store_format_of(format.data, format.len) == -EINVAL)
                return complain("the installed program does not know the format of the store ", store);
        if (argc > 1 && try_arguments(store, argc, argv) < 0)
                return complain("the installed program does not take the arguments of the running one", "");
        return 0;
}

int sfs_upgrade_ask(char *path, char *layout, char *store, char **args)
{
        char probe[] = "--probe", **argv = args - 4;
        int status = 0;
        pid_t pid, r;

        argv[0] = path;
        argv[1] = probe;
        argv[2] = layout;
        argv[3] = store;
        pid = fork();
        if (pid == 0) {
                sigset_t none;

                sigemptyset(&none);
                sigprocmask(SIG_SETMASK, &none, NULL);
                execv(path, argv);
                _exit(127);
        }
        if (pid < 0)
                return -errno;
        while ((r = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
                ;
        return r == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPROTO;
}

/* ---- finding the keeper ---- */

struct running {
        char *mnt;
        char *store;
        int pid;
        int keep_fd;     /* of the keeper's memory, or -1 */
        unsigned worker; /* its number */
        char layout[SFS_LAYOUT_MAX];
};

/* What the one who holds the store says of itself in STORE/lock; -ESRCH if nobody holds it or there is no keeper. */
static int read_lock(struct running *r)
{
        cleanup_fd int dir = open(r->store, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
        char text[256] = "";

        if (dir < 0)
                return -errno;
        fd = openat(dir, "lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (pread(fd, text, sizeof(text) - 1, 0) < 0)
                return -errno;
        return sscanf(text, "%d\nkeeper %63s\nworker %u", &r->pid, r->layout, &r->worker) == 3 ? 0 : -ESRCH;
}

/* A descriptor of the memory that process PID keeps, or -1 if it keeps none: its number may be another's by now. */
static int open_keep(int pid)
{
        char path[64], link[64];
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;

        snprintf(path, sizeof(path), "/proc/%d/fd", pid);
        dir = opendir(path);
        while (dir && (de = readdir(dir))) {
                ssize_t n = readlinkat(dirfd(dir), de->d_name, link, sizeof(link) - 1);

                if (n > 0 && strncmp(link, "/memfd:stratafs-keep", strlen("/memfd:stratafs-keep")) == 0)
                        return openat(dirfd(dir), de->d_name, O_RDONLY | O_CLOEXEC);
        }
        return -1;
}

/* The number of the worker, from the memory: a disk that was made read-only has that of an earlier one. */
static int read_worker(struct running *r)
{
        char own[SFS_LAYOUT_MAX];

        if (strcmp(r->layout, sfs_upgrade_layout(own)) != 0)
                return read_lock(r);
        return pread(r->keep_fd, &r->worker, sizeof(r->worker), offsetof(struct sfs_keep, generation)) ==
                               sizeof(r->worker)
                       ? 0
                       : -EIO;
}

/* Waits for the first answer of a worker after number OLD. An open is always asked for, attributes may be at hand. */
static int wait_for_next(struct running *r, unsigned old)
{
        const struct timespec pause = { .tv_nsec = 10000000 };
        cleanup_free char *path = NULL;
        cleanup_fd int fd = -1;

        if (asprintf(&path, "%s/version", r->mnt) < 0)
                return -ENOMEM;
        for (int i = 0; i < WAIT_TRIES; i++) {
                if (read_worker(r) == 0 && r->worker > old) {
                        fd = open(path, O_RDONLY | O_CLOEXEC);
                        return fd < 0 ? -errno : 0;
                }
                nanosleep(&pause, NULL);
        }
        return -ETIMEDOUT;
}

/* Asks the program at PATH with the keeper's own command line. */
static int ask(struct running *r, char *path)
{
        cleanup_buf struct strata_buf line = STRATA_BUF_INIT;
        cleanup_free char **argv = NULL;
        char proc[40], *end;
        int n = 0, error;

        snprintf(proc, sizeof(proc), "/proc/%d/cmdline", r->pid);
        error = strata_io_read_at(AT_FDCWD, proc, CMDLINE_MAX, &line);
        if (error == 0)
                argv = calloc(SFS_ARGS_ROOM + line.len + 1, sizeof(*argv));
        if (!argv)
                return error < 0 ? error : -ENOMEM;
        end = line.data + line.len;
        for (char *arg = line.data; arg < end; arg += strlen(arg) + 1)
                argv[SFS_ARGS_ROOM - 1 + n++] = arg; /* the program's name is not among them */
        return sfs_upgrade_ask(path, r->layout, r->store, argv + SFS_ARGS_ROOM);
}

static int upgrade(struct running *r)
{
        char proc[24], path[PATH_MAX];
        cleanup_fd int keeper = -1;
        unsigned old;

        r->store = sfs_mounts_source(r->mnt, SFS_MOUNTS_TYPE);
        if (!r->store)
                return complain("no stratafs is mounted on ", r->mnt);
        if (read_lock(r) < 0)
                return complain("there is no keeper (-o keeper=off, or an old kernel): unmount and start again, on ",
                                r->mnt);
        keeper = pidfd_open(r->pid, 0);
        r->keep_fd = open_keep(r->pid);
        if (keeper < 0 || r->keep_fd < 0 || read_worker(r) < 0)
                return complain("the keeper is gone or not to be seen by this user: unmount and start again, on ",
                                r->mnt);
        old = r->worker;
        snprintf(proc, sizeof(proc), "%d", r->pid);
        if (sfs_upgrade_program(proc, path, sizeof(path)) < 0)
                return complain("can't tell where the program lies that serves ", r->mnt);
        if (ask(r, path) < 0)
                return complain("refused, and nothing was stopped, by ", path);
        if (pidfd_send_signal(keeper, SIGUSR2, NULL, 0) < 0)
                return complain("can't signal the keeper: ", strerror(errno));
        if (wait_for_next(r, old) < 0)
                return complain("no new worker answers yet; see the file log in ", r->mnt);
        sfs_say(stdout, "%s is served by %s now, worker %u of keeper %d", r->mnt, path, r->worker, r->pid);
        return 0;
}

int sfs_upgrade_run(const char *mountpoint)
{
        struct running r = { .mnt = realpath(mountpoint, NULL), .keep_fd = -1 };
        int status;

        if (!r.mnt)
                return complain("can't find ", mountpoint);
        status = upgrade(&r);
        strata_close(r.keep_fd);
        free(r.mnt);
        free(r.store);
        return status;
}
