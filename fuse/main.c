/* SPDX-License-Identifier: Apache-2.0 */
/* stratafs STORE MOUNTPOINT: options, and the way to the background. */
#include "checkcmd.h"
#include "config.h"
#include "keeper.h"
#include "options.h"
#include "say.h"
#include "session.h"
#include "upgrade.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the background: the pipe to the parent, who waits for a byte; -1 in the foreground. */
struct background {
        int pipe;
};

static void ready(void *data)
{
        struct background *b = data;

        if (b->pipe < 0)
                return;
        if (sfs_session_leave_terminal() < 0 || write(b->pipe, "", 1) < 0)
                return; /* the parent then sees the pipe end without a byte */
        strata_close(steal_fd(&b->pipe));
}

/* The parent's exit status: 0 once the child is ready, else the child's own. */
static int wait_for(pid_t child, int fd)
{
        int status;
        char byte;

        if (read(fd, &byte, 1) == 1)
                return 0;
        if (waitpid(child, &status, 0) < 0 || !WIFEXITED(status))
                return 1;
        return WEXITSTATUS(status) ? WEXITSTATUS(status) : 1;
}

static int run(struct sfs_options *o, struct background *b, int argc, char **argv)
{
        bool resumed = o->resume_fuse >= 0;
        const struct sfs_host host = {
                .ready = ready,
                .data = b,
                .hidden_fd = b->pipe,
                .background = b->pipe >= 0 || o->resume_background,
                .fuse_fd = -1,
                .no_keeper = o->auto_unmount ? "with auto_unmount it is fusermount3 that mounts and stays" : NULL,
        };
        char *why;
        int r = resumed ? sfs_session_check_resumed(o, &why) : sfs_session_check(o, &why);

        if (r < 0)
                return why || r != -EINVAL ? sfs_complain(why, r) : 2; /* libfuse has said why */
        r = sfs_options_keep_args(o, argc, argv);
        if (r < 0)
                return sfs_complain(NULL, r);
        if (resumed)
                return sfs_keeper_resume(o, &host);
        return o->keeper ? sfs_keeper_run(o, &host) : sfs_session_run(o, &host);
}

static int run_in_background(struct sfs_options *o, int argc, char **argv)
{
        struct background b;
        int fds[2];
        pid_t child;

        if (pipe2(fds, O_CLOEXEC) < 0 || (child = fork()) < 0) {
                sfs_say(stderr, "can't go to the background: %s", strerror(errno));
                return 1;
        }
        if (child > 0) {
                close(fds[1]);
                return wait_for(child, fds[0]);
        }
        close(fds[0]);
        (void)setsid();
        b.pipe = fds[1];
        return run(o, &b, argc, argv);
}

/* Else /dev/fuse or a file of the store gets the number of a closed one, and sfs_session_leave_terminal() closes it. */
static int open_standard_files(void)
{
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
                        return -errno;
        return 0;
}

int main(int argc, char **argv)
{
        struct background none = { .pipe = -1 };
        struct sfs_options o;
        int status = 0, r = open_standard_files();

        sfs_say_for_libfuse();
        if (r < 0)
                return sfs_complain(strdup("some of stdin, stdout and stderr is closed, and /dev/null can't be opened"),
                                    r);
        if (sfs_check_asked(argc, argv))
                return sfs_check_main(argc, argv);
        if (argc == 3 && strcmp(argv[1], "--upgrade") == 0)
                return sfs_upgrade_run(argv[2]);
        if (argc >= 4 && strcmp(argv[1], "--probe") == 0)
                return sfs_upgrade_probe(argv[2], argc - 3, argv + 3);
        if (sfs_options_parse(argc, argv, &o) < 0)
                status = 2;
        else if (o.help)
                sfs_options_usage();
        else if (o.version)
                printf("stratafs %s\nlibfuse %s\n", PACKAGE_VERSION, fuse_pkgversion());
        else if (o.foreground || o.resume_fuse >= 0)
                status = run(&o, &none, argc, argv);
        else
                status = run_in_background(&o, argc, argv);
        sfs_options_free(&o);
        return status;
}
