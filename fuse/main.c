/* SPDX-License-Identifier: Apache-2.0 */
/* stratafs STORE MOUNTPOINT: options, and the way to the background. */
#include "checkcmd.h"
#include "config.h"
#include "options.h"
#include "session.h"
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
        int null;

        if (b->pipe < 0)
                return;
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null >= 0) {
                dup2(null, STDIN_FILENO);
                dup2(null, STDOUT_FILENO);
                dup2(null, STDERR_FILENO);
                if (null > STDERR_FILENO)
                        close(null);
        }
        if (chdir("/") < 0 || write(b->pipe, "", 1) < 0)
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

static int run_in_background(struct sfs_options *o)
{
        struct background b;
        int fds[2];
        pid_t child;

        if (pipe2(fds, O_CLOEXEC) < 0 || (child = fork()) < 0) {
                fprintf(stderr, "stratafs: can't go to the background: %s\n", strerror(errno));
                return 1;
        }
        if (child > 0) {
                close(fds[1]);
                return wait_for(child, fds[0]);
        }
        close(fds[0]);
        (void)setsid();
        b.pipe = fds[1];
        return sfs_session_run(o, ready, &b, fds[1]);
}

int main(int argc, char **argv)
{
        struct background none = { .pipe = -1 };
        struct sfs_options o;
        int status = 0;

        if (sfs_check_asked(argc, argv))
                return sfs_check_main(argc, argv);
        if (sfs_options_parse(argc, argv, &o) < 0)
                status = 2;
        else if (o.help)
                sfs_options_usage();
        else if (o.version)
                printf("stratafs %s\nlibfuse %s\n", PACKAGE_VERSION, fuse_pkgversion());
        else if (o.foreground)
                status = sfs_session_run(&o, ready, &none, -1);
        else
                status = run_in_background(&o);
        sfs_options_free(&o);
        return status;
}
