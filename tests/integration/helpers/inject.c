/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a program whose system calls fail on demand, as those of a store on a broken or full disk do.
 *
 *     inject CONTROL PROGRAM ARG...
 *
 * Whoever puts a file CONTROL in place (by rename) with the line "CALL N ERRNO" makes the program's Nth CALL from then
 * on fail with that errno number, once; CALL "any" counts all calls that change something but unlinkat. When that
 * happens CONTROL.hit appears, with the call's name. Ends with the program's exit status. ERRNO 0 kills the program
 * instead, just before the call is carried out; then that is CONTROL.hit too. CALL "change" counts all that change
 * something. ERRNO -1 holds the call, of that thread alone, until there is a file CONTROL.go; any other negative one
 * makes it fail then.
 *
 * It works by a seccomp filter that hands the calls in question to this process (seccomp_unotify(2)), so that it
 * is the same for every build of the program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct call {
        const char *name;
        int nr;
} calls[] = {
#ifdef SYS_mkdir
        { "mkdir", SYS_mkdir },           { "rename", SYS_rename },       { "symlink", SYS_symlink },
#endif
#ifdef SYS_renameat
        { "renameat", SYS_renameat },
#endif
        { "mkdirat", SYS_mkdirat },       { "symlinkat", SYS_symlinkat }, { "renameat2", SYS_renameat2 },
        { "linkat", SYS_linkat },         { "unlinkat", SYS_unlinkat },   { "fsync", SYS_fsync },
        { "fdatasync", SYS_fdatasync },   { "syncfs", SYS_syncfs },       { "utimensat", SYS_utimensat },
        { "mount", SYS_mount },           { "fsopen", SYS_fsopen },       { "fspick", SYS_fspick },
        { "fsconfig", SYS_fsconfig },     { "fsmount", SYS_fsmount },     { "move_mount", SYS_move_mount },
        { "statfs", SYS_statfs },         { "pipe2", SYS_pipe2 },         { "clone", SYS_clone },
        { "getdents64", SYS_getdents64 }, { "openat", SYS_openat }, /* the last: see install() */
};
#define CALLS (sizeof(calls) / sizeof(*calls))

/* What to do next; N is 0 when there is nothing */
struct order {
        char call[32];
        unsigned long n;
        int error;
};

/* Installs the filter on this process, returns the listener */
static int install(void)
{
        struct sock_filter code[CALLS + 6];
        size_t n = 0, notify = CALLS + 4;

        code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
        for (size_t i = 0; i < CALLS - 1; i++, n++)
                code[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].nr, notify - n - 1, 0);
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[CALLS - 1].nr, 0, 2);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2]));
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT, 1, 0);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);

        struct sock_fprog prog = { .len = (unsigned short)n, .filter = code };
        return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
}

static int send_fd(int sock, int fd)
{
        char byte = 0, control[CMSG_SPACE(sizeof(int))] = { 0 };
        struct iovec iov = { &byte, 1 };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
        return sendmsg(sock, &msg, 0) == 1 ? 0 : -1;
}

static int receive_fd(int sock)
{
        char byte, control[CMSG_SPACE(sizeof(int))];
        struct iovec iov = { &byte, 1 };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        int fd = -1;

        if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&msg))
                return -1;
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
        return fd;
}

static void take_order(const char *control, struct order *order)
{
        FILE *f = fopen(control, "re");

        if (!f)
                return;
        if (fscanf(f, "%31s %lu %d", order->call, &order->n, &order->error) != 3)
                order->n = 0;
        fclose(f);
        unlink(control);
}

static void tell_hit(const char *control, const char *name)
{
        char path[4096];

        snprintf(path, sizeof(path), "%s.hit", control);
        FILE *f = fopen(path, "we");
        if (f) {
                fprintf(f, "%s\n", name);
                fclose(f);
        }
}

static const char *call_name(int nr)
{
        for (size_t i = 0; i < CALLS; i++)
                if (calls[i].nr == nr)
                        return calls[i].name;
        return "?";
}

static bool only_reads(const char *name)
{
        return strcmp(name, "getdents64") == 0 || strcmp(name, "statfs") == 0 || strcmp(name, "pipe2") == 0 ||
               strcmp(name, "clone") == 0;
}

static int wanted(const struct order *order, const char *name)
{
        if (order->n == 0)
                return 0;
        if (strcmp(order->call, "change") == 0)
                return !only_reads(name);
        if (strcmp(order->call, "any") == 0)
                return strcmp(name, "unlinkat") != 0 && !only_reads(name);
        return strcmp(order->call, name) == 0;
}

/* The calls that are held */
static struct {
        uint64_t id;
        int error; /* -1: it is carried out */
} held[16];
static size_t n_held;

static void let_go(int listener, const char *control)
{
        char path[4096];

        snprintf(path, sizeof(path), "%s.go", control);
        if (unlink(path) < 0)
                return;
        while (n_held > 0) {
                struct seccomp_notif_resp resp = { .id = held[--n_held].id };

                if (held[n_held].error == -1)
                        resp.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
                else
                        resp.error = held[n_held].error;
                ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
        }
}

static void supervise(int listener, const char *control, pid_t pid)
{
        struct order order = { .n = 0 };
        struct pollfd p = { .fd = listener, .events = POLLIN };

        while (poll(&p, 1, n_held ? 10 : -1) >= 0 || errno == EINTR) {
                struct seccomp_notif req = { 0 };
                struct seccomp_notif_resp resp = { .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };

                if (n_held)
                        let_go(listener, control);
                if (p.revents & (POLLHUP | POLLERR))
                        return;
                if (!(p.revents & POLLIN))
                        continue;
                if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &req) < 0)
                        continue; /* the caller was killed meanwhile */
                take_order(control, &order);
                const char *name = call_name(req.data.nr);
                if (wanted(&order, name) && --order.n == 0) {
                        bool hold = order.error < 0 && n_held < sizeof(held) / sizeof(*held);
                        if (hold) {
                                held[n_held].id = req.id;
                                held[n_held++].error = order.error;
                        }
                        tell_hit(control, name);
                        if (hold)
                                continue;
                        resp.flags = 0;
                        resp.error = -order.error;
                        if (!order.error)
                                kill(pid, SIGKILL);
                }
                resp.id = req.id;
                ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
        }
}

int main(int argc, char **argv)
{
        int sock[2], status;

        if (argc < 3 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock) < 0)
                return 125;
        pid_t pid = fork();
        if (pid < 0)
                return 125;
        if (pid == 0) {
                int listener = install();
                if (listener < 0 || send_fd(sock[1], listener) < 0) {
                        perror("inject: seccomp");
                        _exit(125);
                }
                close(listener);
                execvp(argv[2], argv + 2);
                perror(argv[2]);
                _exit(125);
        }
        close(sock[1]);
        int listener = receive_fd(sock[0]);
        if (listener >= 0)
                supervise(listener, argv[1], pid);
        if (waitpid(pid, &status, 0) < 0)
                return 125;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
