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
#include <unistd.h>
#include <utlist.h>

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

/* Its job may be long in a queue, where nobody looks for it. */
static void list(struct sfs_interrupt *i)
{
        struct sfs *sfs = i->sfs;
        bool first;

        pthread_mutex_lock(&sfs->interrupted_lock);
        first = !sfs->interrupted;
        if (!i->listed)
                DL_APPEND(sfs->interrupted, i);
        i->listed = true;
        pthread_mutex_unlock(&sfs->interrupted_lock);
        if (first)
                (void)kill(getpid(), SFS_INTERRUPT_WAKE);
}

/* The lock is held. */
static void unlist(struct sfs_interrupt *i)
{
        if (i->listed)
                DL_DELETE(i->sfs->interrupted, i);
        i->listed = false;
}

static void interrupted(fuse_req_t req, void *data)
{
        struct sfs_interrupt *i = data;

        atomic_store(&i->came, true);
        if (is_killed(i->caller) && take(i))
                fuse_reply_err(req, EINTR); /* I is its job's from here on, which may free it */
        else
                list(i); /* also while it is being armed */
}

/* One of those that were killed, answered for from here on; NULL: none. */
static fuse_req_t next_killed(struct sfs *sfs)
{
        struct sfs_interrupt *i;
        fuse_req_t req = NULL;

        pthread_mutex_lock(&sfs->interrupted_lock);
        DL_FOREACH(sfs->interrupted, i) {
                if (is_killed(i->caller) && take(i)) {
                        req = i->req;
                        unlist(i);
                        break;
                }
        }
        pthread_mutex_unlock(&sfs->interrupted_lock);
        return req;
}

bool sfs_interrupts_look(struct sfs *sfs)
{
        fuse_req_t req;
        bool ret;

        while ((req = next_killed(sfs)))
                fuse_reply_err(req, EINTR);
        pthread_mutex_lock(&sfs->interrupted_lock);
        ret = sfs->interrupted;
        pthread_mutex_unlock(&sfs->interrupted_lock);
        return ret;
}

void sfs_interrupt_arm(struct sfs_interrupt *i, fuse_req_t req)
{
        i->req = req;
        i->sfs = sfs_of(req);
        i->caller = fuse_req_ctx(req)->pid;
        fuse_req_interrupt_func(req, interrupted, i);
        atomic_store(&i->state, SFS_INTERRUPT_OWED);
}

bool sfs_interrupt_hit(struct sfs_interrupt *i)
{
        return atomic_load(&i->state) == SFS_INTERRUPT_OVER || (atomic_load(&i->came) && is_killed(i->caller));
}

bool sfs_interrupt_end(struct sfs_interrupt *i)
{
        bool ret = take(i);

        if (ret)
                fuse_req_interrupt_func(i->req, NULL, NULL); /* waits for one that is just coming */
        pthread_mutex_lock(&i->sfs->interrupted_lock);
        unlist(i);
        pthread_mutex_unlock(&i->sfs->interrupted_lock);
        return ret;
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
