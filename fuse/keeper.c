/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper.h"

#include "devfuse.h"
#include "inherit.h"
#include "keep.h"
#include "lastwords.h"
#include "loop.h"
#include "mountpoint.h"
#include "place.h"
#include "storelock.h"
#include "upgrade.h"
#include "util/buf.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEATHS_MAX 3      /* in a row, each at once */
#define AT_ONCE_MSEC 100L /* a death that soon after the first answer is one at once */
#define DEATH_MSEC 250L   /* between the first such death and the next try, twice that after another one */
#define STARTS_MAX 100    /* in a row that fail, as there is no memory or the like, ten seconds in all */
#define START_MSEC 100L

/* What a worker writes to the pipe. No end of the worker but its death closes it without SAYS_END. */
#define SAYS_READY 'r'
#define SAYS_END 'e' /* followed by its exit status */

struct keeper {
        struct sfs_options *o;
        const struct sfs_host *host;
        struct sfs_keep *keep;
        int fuse_fd;
        int keep_fd;  /* of KEEP */
        int store_fd; /* reserves the store: storelock.h; -1 until some worker was ready */
        int signal_fd;
        char program[PATH_MAX]; /* where it is installed */
        char resume[64];        /* the argument for its successor */

        dev_t dev; /* of the mount; 0: not known */

        int worker_pidfd; /* of the worker that was started last */
        int pipe;         /* from it; -1 while there is none */
        long start_at;    /* by now_msec(): when to start one then */
        unsigned failed;  /* starts in a row */
        bool was_ready;   /* some worker was */
        bool ready;       /* this one is */
        long ready_at;
        int ending; /* the signal that asked for the end, or 0 */
        unsigned deaths;
};

/* ---- the worker's side ---- */

struct worker {
        int pipe;
        bool leaves_terminal; /* once ready */
};

static void worker_ready(void *data)
{
        struct worker *w = data;
        const char c = SAYS_READY;

        if (w->leaves_terminal)
                (void)sfs_session_leave_terminal();
        if (write(w->pipe, &c, 1) < 0)
                return; /* the keeper is gone: this process serves on without it */
}

static void worker_main(struct keeper *k, int pipe)
{
        struct worker w = { .pipe = pipe, .leaves_terminal = k->host->background && !k->was_ready };
        struct sfs_host host = *k->host;
        char end[2] = { SAYS_END }, layout[SFS_LAYOUT_MAX], note[160];

        snprintf(note, sizeof(note), "keeper %s\nworker %u\n", sfs_upgrade_layout(layout),
                 atomic_load(&k->keep->generation) + 1);
        k->o->config.lock_note = note;
        k->o->config.reserved = k->store_fd >= 0;
        k->o->config.unsynced_below = &k->keep->unsynced_below;
        strata_close(k->store_fd);
        strata_close(k->keep_fd);
        strata_close(k->signal_fd);
        strata_close(k->pipe);
        strata_close(k->worker_pidfd);
        if (k->host->hidden_fd >= 0 && !k->was_ready)
                strata_close(k->host->hidden_fd); /* the keeper's, to its own parent */
        signal(SIGCHLD, SIG_DFL);
        host.ready = worker_ready;
        host.data = &w;
        host.hidden_fd = pipe;
        host.fuse_fd = k->fuse_fd;
        host.keep = k->keep;
        k->o->config.owner = k->keep->keeper;
        end[1] = (char)sfs_session_run(k->o, &host);
        if (write(pipe, end, sizeof(end)) < 0)
                _exit(1);
}

/* ---- the keeper's side ---- */

/* Of worker PID, just forked. One that can't be told to end is none. */
static int adopt_worker(struct keeper *k, pid_t pid, int pipe)
{
        k->worker_pidfd = pidfd_open(pid, 0);
        if (k->worker_pidfd < 0) {
                int r = -errno;

                kill(pid, SIGKILL);
                close(pipe);
                return r;
        }
        sfs_inherit_free(k->o->inherited); /* the first worker's */
        k->o->inherited = NULL;
        k->pipe = pipe;
        k->ready = false;
        if (k->ending)
                (void)pidfd_send_signal(k->worker_pidfd, k->ending, NULL, 0);
        return 0;
}

static int start_worker(struct keeper *k)
{
        int fds[2], r;
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        pid = fork();
        if (pid < 0) {
                r = -errno;
                close(fds[0]);
                close(fds[1]);
                return r;
        }
        if (pid == 0) {
                close(fds[0]);
                worker_main(k, fds[1]);
                exit(0);
        }
        close(fds[1]);
        return adopt_worker(k, pid, fds[0]);
}

static void forget_worker(struct keeper *k)
{
        strata_close(steal_fd(&k->pipe));
        strata_close(steal_fd(&k->worker_pidfd));
}

/* True once the mount is gone: fuse_dev_poll() reports an error then. */
static bool is_unmounted(struct keeper *k)
{
        struct pollfd p = { .fd = k->fuse_fd, .events = POLLIN };

        return poll(&p, 1, 0) > 0 && (p.revents & POLLERR);
}

/*
 * A mount that another namespace has a copy of lives on, and what is at the mount point may be somebody else's. Takes
 * memory only where a folder above was renamed.
 */
static void unmount(struct keeper *k)
{
        if (!is_unmounted(k))
                (void)sfs_place_unmount(k->o->mountpoint, k->dev, MNT_DETACH);
}

static long now_msec(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void note_ready(struct keeper *k)
{
        k->ready = true;
        k->ready_at = now_msec();
        if (k->store_fd < 0)
                k->store_fd = strata_storelock_reserve(k->o->store);
        if (!k->was_ready)
                k->host->ready(k->host->data);
        k->was_ready = true;
}

static bool died_at_once(const struct keeper *k)
{
        return !k->ready || now_msec() - k->ready_at < AT_ONCE_MSEC;
}

/* In place, as a keeper that gives up may be short of memory too: what would be a command to a terminal becomes "?". */
static void make_plain(char *line)
{
        bool control;

        for (size_t len; *line && *line != '\n'; line += len) {
                len = strata_buf_character(line, &control);
                if (control)
                        memset(line, '?', len);
        }
}

static int give_up(struct keeper *k, const char *what)
{
        char text[512];

        snprintf(text, sizeof(text),
                 "the keeper of %.200s gave up: %s; it was unmounted, nothing that was reported done is lost: start "
                 "stratafs again, and if it comes back report it with a core dump\n",
                 k->o->mountpoint, what);
        make_plain(text);
        unmount(k);
        sfs_lastwords_leave(k->o->store, text);
        if (write(STDERR_FILENO, "stratafs: ", 10) < 0 || write(STDERR_FILENO, text, strlen(text)) < 0)
                return 1;
        return 1;
}

/* There is no worker, and the pause is over. -1 to go on, else the exit status. */
static int start(struct keeper *k)
{
        if (is_unmounted(k))
                return k->was_ready ? 0 : 1;
        k->failed = start_worker(k) < 0 ? k->failed + 1 : 0;
        if (k->failed >= STARTS_MAX)
                return give_up(k, "no worker could be started for some seconds");
        k->start_at = now_msec() + START_MSEC;
        return -1;
}

/* The worker is no more. -1: another one is to serve; else the exit status. */
static int after_death(struct keeper *k)
{
        forget_worker(k);
        if (is_unmounted(k))
                return k->was_ready ? 0 : 1;
        k->deaths = died_at_once(k) ? k->deaths + 1 : 0;
        if (k->deaths >= DEATHS_MAX)
                return give_up(k, "three of its workers in a row died right after their start");
        k->start_at = now_msec() + DEATH_MSEC * (long)k->deaths; /* what was in its way may pass */
        return -1;
}

/* What the worker says. -1 to go on, else the exit status. */
static int hear(struct keeper *k)
{
        unsigned char text[2];
        ssize_t n = read(k->pipe, text, 1);

        if (n < 0)
                return -1;
        if (n == 0)
                return after_death(k);
        if (text[0] == SAYS_READY) {
                note_ready(k);
                return -1;
        }
        if (read(k->pipe, text + 1, 1) != 1)
                return after_death(k);
        if (text[1] && k->was_ready && !is_unmounted(k))
                return after_death(k); /* it could not take over */
        unmount(k);
        return text[1];
}

/* ---- another program ---- */

/* What the installed program goes on with stays open for it, or is the keeper's again. */
static void hand_on(const struct keeper *k, bool yes)
{
        const int fds[] = { k->fuse_fd, k->keep_fd, k->store_fd };

        for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
                if (fds[i] >= 0)
                        (void)fcntl(fds[i], F_SETFD, yes ? 0 : FD_CLOEXEC);
}

/* Becomes the installed program, which goes on with the descriptors. Returns only if that fails. */
static void become_installed(struct keeper *k)
{
        char **argv = k->o->args - 2;

        snprintf(k->resume, sizeof(k->resume), "--resume=%d:%d:%d:%d", k->fuse_fd, k->keep_fd, k->store_fd,
                 k->host->background);
        argv[0] = k->program;
        argv[1] = k->resume; /* before a "--" */
        hand_on(k, true);
        execv(k->program, argv);
        hand_on(k, false);
}

/* True if the installed program says that it can go on. Workers that end meanwhile are buried after it. */
static bool installed_can(struct keeper *k)
{
        char layout[SFS_LAYOUT_MAX];
        bool ret;

        signal(SIGCHLD, SIG_DFL);
        ret = sfs_upgrade_ask(k->program, sfs_upgrade_layout(layout), k->o->store, k->o->args) == 0;
        signal(SIGCHLD, SIG_IGN);
        while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
        return ret;
}

/* The worker may be stopped anywhere: its successor takes over as after any death. */
static void upgrade(struct keeper *k)
{
        char c;

        if (k->ending || !installed_can(k))
                return;
        if (k->pipe >= 0) {
                (void)pidfd_send_signal(k->worker_pidfd, SIGKILL, NULL, 0);
                while (read(k->pipe, &c, 1) != 0)
                        ;
        }
        become_installed(k);
        k->deaths = 0;
        k->ready = true; /* not a death at once */
        k->ready_at = 0;
}

static void take_signal(struct keeper *k)
{
        struct signalfd_siginfo info;

        if (read(k->signal_fd, &info, sizeof(info)) != sizeof(info))
                return;
        if (info.ssi_signo == SIGUSR2) {
                upgrade(k);
                return;
        }
        k->ending = (int)info.ssi_signo;
        if (k->worker_pidfd >= 0)
                (void)pidfd_send_signal(k->worker_pidfd, k->ending, NULL, 0);
}

static int keep(struct keeper *k)
{
        int status = -1;

        while (status < 0) {
                struct pollfd p[] = { { .fd = k->pipe, .events = POLLIN }, { .fd = k->signal_fd, .events = POLLIN } };
                long pause = k->pipe < 0 ? k->start_at - now_msec() : -1;

                if (k->pipe < 0 && pause <= 0) {
                        status = start(k);
                        continue;
                }
                if (poll(p, 2, (int)pause) < 0)
                        continue; /* EINTR */
                if (p[1].revents)
                        take_signal(k);
                if (p[0].revents && k->pipe >= 0)
                        status = hear(k);
        }
        return status;
}

/* SIGCHLD is ignored: the kernel buries the workers, whenever their last threads end. */
static int take_signals(struct keeper *k)
{
        sigset_t set;

        signal(SIGCHLD, SIG_IGN);
        signal(SIGPIPE, SIG_IGN);
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGUSR2);
        k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
        if (k->signal_fd < 0)
                return -errno;
        sigaddset(&set, SIGHUP);
        return sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -errno : 0;
}

/* Before 6.9 the kernel does not know the notification; sent before anything was received it does nothing. */
static bool kernel_can(int fuse_fd)
{
        return sfs_loop_resend(fuse_fd) == 0;
}

static int run(struct keeper *k)
{
        int status, r = sfs_upgrade_program("self", k->program, sizeof(k->program));

        if (r == 0)
                r = take_signals(k);
        if (r < 0) {
                unmount(k);
                return sfs_complain(NULL, r);
        }
        status = keep(k);
        strata_close(k->store_fd);
        strata_close(k->keep_fd);
        strata_close(k->signal_fd);
        strata_close(k->fuse_fd);
        return status;
}

static void keeper_init(struct keeper *k, struct sfs_options *o, const struct sfs_host *host)
{
        memset(k, 0, sizeof(*k));
        k->o = o;
        k->host = host;
        k->fuse_fd = k->keep_fd = k->store_fd = k->signal_fd = k->worker_pidfd = k->pipe = -1;
}

int sfs_keeper_run(struct sfs_options *o, const struct sfs_host *host)
{
        struct keeper k;
        char *why = NULL;
        int r;

        keeper_init(&k, o, host);
        r = sfs_devfuse_mount(o, &k.fuse_fd, &why);
        if (r < 0)
                return sfs_complain(why, r);
        k.dev = sfs_mountpoint_device(o->mountpoint);
        if (!kernel_can(k.fuse_fd)) {
                struct sfs_host alone = *host;

                alone.fuse_fd = k.fuse_fd;
                alone.no_keeper = "this kernel can't hand requests out again (Linux before 6.9)";
                r = sfs_session_run(o, &alone);
                if (r)
                        (void)umount2(o->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
                return r;
        }
        k.keep = sfs_keep_new(&k.keep_fd);
        if (!k.keep) {
                r = -errno;
                unmount(&k);
                return sfs_complain(NULL, r);
        }
        k.keep->dev = k.dev;
        return run(&k);
}

int sfs_keeper_resume(struct sfs_options *o, const struct sfs_host *host)
{
        struct keeper k;

        keeper_init(&k, o, host);
        k.fuse_fd = o->resume_fuse;
        k.keep_fd = o->resume_keep;
        k.store_fd = o->resume_store;
        k.was_ready = true;
        k.keep = sfs_keep_map(k.keep_fd);
        if (!k.keep) {
                k.dev = sfs_mountpoint_device(o->mountpoint);
                unmount(&k);
                return sfs_complain(strdup("--resume: these descriptors are not a keeper's"), -EINVAL);
        }
        k.dev = k.keep->dev;
        hand_on(&k, false);
        return run(&k);
}
