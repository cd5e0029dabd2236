/* SPDX-License-Identifier: Apache-2.0 */
/* A seccomp filter hands the calls in question to a thread of this process: seccomp_unotify(2). */
#include "failpoints.h"

#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define SCANS_MAX 12

struct inject {
        int listener;
        pthread_t thread;
        const char *place; /* NULL once a call named it */
        bool sanitized;

        pthread_mutex_t lock; /* protects all below */
        unsigned long left;   /* calls until the one that fails; 0: none is to */
        unsigned long seen;
        int error;
        bool background;
        bool hit;
        enum call_class class; /* of the one that was hit */
        unsigned scans;
        char what[PATH_MAX + 64];
};

/* Installs the filter on this process; the listener. */
static int install(void)
{
        struct sock_filter code[256];
        size_t n = 0;

        code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
        for (size_t i = 0; i < n_calls; i++)
                code[n++] =
                        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].nr, n_calls - i, 0);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);

        struct sock_fprog prog = { .len = (unsigned short)n, .filter = code };
        return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
}

/* ---- what counts ---- */

static bool read_path(const struct seccomp_notif *req, const struct call *call, char *ret, size_t size)
{
        struct iovec local = { ret, size - 1 }, remote;
        ssize_t n;

        if (call->path < 0)
                return false;
        remote = (struct iovec){ (void *)(uintptr_t)req->data.args[call->path], size - 1 };
        /* Up to the end of a page, or the part behind it may not be there. */
        if (remote.iov_len > 4096 - ((uintptr_t)remote.iov_base & 4095))
                remote.iov_len = 4096 - ((uintptr_t)remote.iov_base & 4095);
        n = process_vm_readv((pid_t)req->pid, &local, 1, &remote, 1, 0);
        ret[n > 0 ? n : 0] = '\0';
        return n > 0;
}

/* Where the descriptor FD of the caller leads. */
static bool read_fd(const struct seccomp_notif *req, int fd, char *ret, size_t size)
{
        char link[64];
        ssize_t n;

        snprintf(link, sizeof(link), "/proc/%u/fd/%d", req->pid, fd);
        n = readlink(link, ret, size - 1);
        ret[n > 0 ? n : 0] = '\0';
        return n > 0;
}

/* True if the caller is at /proc: WHERE, or the directory that WHERE is relative to. */
static bool is_proc(const struct seccomp_notif *req, const struct call *call, const char *where)
{
        char dir[PATH_MAX];

        if (where[0] != '/' && call->path > 0 && read_fd(req, (int)req->data.args[call->path - 1], dir, sizeof(dir)))
                where = dir;
        return strncmp(where, "/proc", 5) == 0 &&
               (!where[5] || where[6] == '\0' || (where[6] >= '0' && where[6] <= '9'));
}

/* True if the call counts; WHAT tells of it. */
static bool counts(struct inject *x, const struct seccomp_notif *req, const struct call *call, char *what, size_t size)
{
        char where[PATH_MAX] = "";
        bool nice = getpriority(PRIO_PROCESS, req->pid) == 19;

        if (x->background != nice)
                return false;
        if (call->class == CALL_MEMORY || call->class == CALL_THREAD) {
                if (x->error != ENOMEM || x->sanitized)
                        return false;
        } else if (call->class == CALL_FILE || call->class == CALL_SYNC) {
                if ((int)req->data.args[0] <= STDERR_FILENO ||
                    !read_fd(req, (int)req->data.args[0], where, sizeof(where)) || where[0] != '/' ||
                    strncmp(where, "/dev/", 5) == 0 || strncmp(where, "/memfd:", 7) == 0)
                        return false;
        } else {
                (void)read_path(req, call, where, sizeof(where));
        }
        /* Who looks for users of a mount goes through all processes: some of that will do. */
        if (is_proc(req, call, where) && x->scans++ >= SCANS_MAX)
                return false;
        snprintf(what, size, "%s(%s)", call->name, where);
        return true;
}

/* Before the place was named, nothing counts. */
static bool is_placed(struct inject *x, const struct seccomp_notif *req, const struct call *call)
{
        char path[PATH_MAX];

        if (x->place && read_path(req, call, path, sizeof(path)) && strncmp(path, x->place, strlen(x->place)) == 0)
                x->place = NULL;
        return !x->place;
}

/* The errno that the call is to fail with, or 0. */
static int judge(struct inject *x, const struct seccomp_notif *req)
{
        const struct call *call = call_find(req->data.nr);
        int ret = 0;

        pthread_mutex_lock(&x->lock);
        if (x->left && call && is_placed(x, req, call) && counts(x, req, call, x->what, sizeof(x->what))) {
                x->seen++;
                if (--x->left == 0) {
                        x->hit = true;
                        x->class = call->class;
                        ret = x->error;
                }
        }
        pthread_mutex_unlock(&x->lock);
        return ret;
}

static void *supervise(void *data)
{
        struct inject *x = data;
        struct pollfd p = { .fd = x->listener, .events = POLLIN };

        while (poll(&p, 1, -1) >= 0 || errno == EINTR) {
                struct seccomp_notif req = { 0 };
                struct seccomp_notif_resp resp = { 0 };

                if (p.revents & (POLLHUP | POLLERR))
                        break;
                if (ioctl(x->listener, SECCOMP_IOCTL_NOTIF_RECV, &req) < 0)
                        continue; /* the caller was killed meanwhile */
                resp.id = req.id;
                resp.error = -judge(x, &req);
                resp.flags = resp.error ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
                (void)ioctl(x->listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
        }
        return NULL;
}

/* ---- the program ---- */

static void run_child(char *const argv[], const char *errors, int sock, pid_t parent)
{
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        int log = open(errors, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        int listener;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (null < 0 || log < 0 || getppid() != parent || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
                _exit(125);
        listener = install();
        /* The number is enough: the parent takes the descriptor by pidfd_getfd(2). */
        if (listener < 0 || send(sock, &listener, sizeof(listener), 0) != sizeof(listener) ||
            recv(sock, &listener, sizeof(listener), 0) != sizeof(listener))
                _exit(125);
        close(listener);
        execv(argv[0], argv);
        _exit(125);
}

/* Takes the listener of the child PID over. */
static int take_listener(pid_t pid, int sock)
{
        cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        int number, ret;

        if (pidfd < 0 || recv(sock, &number, sizeof(number), 0) != sizeof(number))
                return -1;
        ret = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
        return send(sock, &number, sizeof(number), 0) == sizeof(number) ? ret : -1;
}

struct inject *inject_run(char *const argv[], const char *errors, bool sanitized, const char *place, unsigned long n,
                          int error, pid_t *pid)
{
        struct inject *x = calloc(1, sizeof(*x));
        pid_t self = getpid();
        int sock[2];

        if (!x || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
                give_up("no memory or no sockets");
        x->place = place;
        x->sanitized = sanitized;
        x->left = n;
        x->error = error;
        pthread_mutex_init(&x->lock, NULL);
        *pid = fork();
        if (*pid == 0)
                run_child(argv, errors, sock[1], self);
        close(sock[1]);
        x->listener = *pid > 0 ? take_listener(*pid, sock[0]) : -1;
        close(sock[0]);
        if (x->listener < 0 || pthread_create(&x->thread, NULL, supervise, x) != 0)
                give_up("no seccomp notifications here");
        return x;
}

void inject_free(struct inject *x)
{
        if (!x)
                return;
        pthread_join(x->thread, NULL);
        close(x->listener);
        pthread_mutex_destroy(&x->lock);
        free(x);
}

void inject_order(struct inject *x, unsigned long n, int error, bool background)
{
        pthread_mutex_lock(&x->lock);
        x->left = n;
        x->seen = 0;
        x->error = error;
        x->background = background;
        x->hit = false;
        x->class = CALL_PLAIN;
        x->scans = 0;
        pthread_mutex_unlock(&x->lock);
}

bool inject_is_hit(struct inject *x)
{
        bool ret;

        pthread_mutex_lock(&x->lock);
        ret = x->hit;
        pthread_mutex_unlock(&x->lock);
        return ret;
}

unsigned long inject_seen(struct inject *x)
{
        unsigned long ret;

        pthread_mutex_lock(&x->lock);
        ret = x->seen;
        pthread_mutex_unlock(&x->lock);
        return ret;
}

enum call_class inject_class(struct inject *x)
{
        enum call_class ret;

        pthread_mutex_lock(&x->lock);
        ret = x->class;
        pthread_mutex_unlock(&x->lock);
        return ret;
}

const char *inject_end(struct inject *x, unsigned long *seen)
{
        const char *ret;

        pthread_mutex_lock(&x->lock);
        x->left = 0;
        *seen = x->seen;
        ret = x->hit ? x->what : NULL;
        pthread_mutex_unlock(&x->lock);
        return ret;
}
