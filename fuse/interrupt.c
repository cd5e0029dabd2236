/* SPDX-License-Identifier: Apache-2.0 */
#include "interrupt.h"

#include "util/cleanup.h"
#include "util/wanted.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_EACH 64 /* steps of what takes long: to ask may take longer than some of them */

#define BIT(signal) (UINT64_C(1) << ((signal)-1))

/* Those that end a process with a dump of its memory; of all others that end one the kernel makes a SIGKILL. */
#define DUMPS                                                                                                          \
        (BIT(SIGQUIT) | BIT(SIGILL) | BIT(SIGTRAP) | BIT(SIGABRT) | BIT(SIGBUS) | BIT(SIGFPE) | BIT(SIGSEGV) |         \
         BIT(SIGXCPU) | BIT(SIGXFSZ) | BIT(SIGSYS))

/* The set of signals called NAME in the TEXT of a /proc/PID/status. */
static uint64_t signals(const char *text, const char *name)
{
        const char *line = strstr(text, name);

        return line ? strtoull(line + strlen(name), NULL, 16) : 0;
}

/* True if the thread, which waits for us, is on its way out. */
static bool is_killed(pid_t thread)
{
        char path[64], text[4096];
        cleanup_fd int fd = -1;
        uint64_t pending, kept;
        ssize_t n;

        if (thread <= 0)
                return false;
        snprintf(path, sizeof(path), "/proc/%d/status", thread);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return false;
        text[n] = '\0';
        pending = signals(text, "\nSigPnd:\t") | signals(text, "\nShdPnd:\t");
        kept = signals(text, "\nSigBlk:\t") | signals(text, "\nSigIgn:\t") | signals(text, "\nSigCgt:\t");
        return (pending & BIT(SIGKILL)) || (pending & DUMPS & ~kept);
}

/* True if the reply was owed, and is for who asked to give. */
static bool take(struct sfs_interrupt *i)
{
        enum sfs_interrupt_state owed = SFS_INTERRUPT_OWED;

        return atomic_compare_exchange_strong(&i->state, &owed, SFS_INTERRUPT_OVER);
}

static void interrupted(fuse_req_t req, void *data)
{
        struct sfs_interrupt *i = data;

        atomic_store(&i->came, true);
        if (is_killed(i->caller) && take(i)) /* I is its job's from here on, which may free it */
                fuse_reply_err(req, EINTR);
}

void sfs_interrupt_arm(struct sfs_interrupt *i, fuse_req_t req)
{
        i->req = req;
        i->sfs = sfs_of(req);
        i->caller = fuse_req_ctx(req)->pid;
        fuse_req_interrupt_func(req, interrupted, i);
        atomic_store(&i->state, SFS_INTERRUPT_OWED);
        if (atomic_load(&i->came))
                interrupted(req, i); /* while that was being asked for */
}

bool sfs_interrupt_hit(struct sfs_interrupt *i)
{
        return atomic_load(&i->state) == SFS_INTERRUPT_OVER || (atomic_load(&i->came) && is_killed(i->caller));
}

bool sfs_interrupt_end(struct sfs_interrupt *i)
{
        if (!take(i))
                return false;
        fuse_req_interrupt_func(i->req, NULL, NULL); /* waits for one that is just coming */
        return true;
}

static bool is_wanted(void *data)
{
        struct sfs_interrupt *i = data;

        if (i->asked++ % ASK_EACH)
                return true;
        return !sfs_interrupt_hit(i) && !atomic_load(&i->sfs->layers_stopped);
}

bool sfs_interrupt_work(struct sfs_interrupt *i)
{
        strata_wanted_ask(i ? is_wanted : NULL, i);
        return strata_wanted();
}
