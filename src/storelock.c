/* SPDX-License-Identifier: Apache-2.0 */
#include "storelock.h"

#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define RESERVED_WAIT_MSEC 10000L /* for the last thread of a worker that was killed */
#define PAUSE_MSEC 10L

/* The first byte; as a file that is not open for writing can only be locked for reading, so that is the reservation. */
static struct flock range(short type)
{
        return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1 };
}

/* 1, 0, -errno. */
static int is_reserved(int fd)
{
        struct flock lock = range(F_WRLCK);

        if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
                return -errno;
        return lock.l_type != F_UNLCK;
}

/* Looks before it locks too: the next worker of a keeper is not to find it locked by who is only refused. */
static int try_lock(int fd, bool reserved, int how)
{
        int r = reserved ? 0 : is_reserved(fd);

        if (r == 0 && flock(fd, how | LOCK_NB) < 0)
                r = errno == EWOULDBLOCK ? -EBUSY : -errno;
        else if (r == 0 && !reserved && (r = is_reserved(fd)) != 0)
                (void)flock(fd, LOCK_UN);
        return r > 0 ? -EBUSY : r;
}

int strata_storelock_take(int fd, bool reserved, long wait)
{
        const struct timespec pause = { .tv_nsec = PAUSE_MSEC * 1000000 };
        int r = try_lock(fd, reserved, LOCK_EX);

        for (; r == -EBUSY && wait > 0; wait -= PAUSE_MSEC) {
                nanosleep(&pause, NULL);
                r = try_lock(fd, reserved, LOCK_EX);
        }
        return r;
}

int strata_storelock_hold(struct strata *s)
{
        if (s->lock_fd < 0) /* perhaps made meanwhile; without it nobody uses the store */
                s->lock_fd = openat(s->root_fd, "lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (s->lock_fd < 0)
                return errno == ENOENT ? 0 : -errno;
        return try_lock(s->lock_fd, false, LOCK_SH);
}

void strata_storelock_let_go(struct strata *s)
{
        if (s->lock_fd >= 0)
                (void)flock(s->lock_fd, LOCK_UN);
}

static int fail(int error, char **why, const char *fmt, const char *path, const char *what)
{
        if (asprintf(why, fmt, path, what) < 0)
                *why = NULL;
        return error;
}

int strata_storelock_open(struct strata *s, char **why)
{
        bool reserved = s->config.reserved;
        char text[64] = "", pid[24];
        const char *note;
        int r;

        /* Not for writing: no file that stays open keeps the file system from being made read-only. */
        s->lock_fd = openat(s->root_fd, "lock", O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (s->lock_fd < 0)
                return fail(-errno, why, "can't open %s/lock: %s", s->path, strerror(errno));
        r = strata_storelock_take(s->lock_fd, reserved, reserved ? RESERVED_WAIT_MSEC : STRATA_STORELOCK_WAIT_MSEC);
        if (r == -EBUSY) {
                if (pread(s->lock_fd, text, sizeof(text) - 1, 0) < 0)
                        text[0] = '\0';
                snprintf(pid, sizeof(pid), "%.*s", (int)strcspn(text, "\n"), text);
                note = text + strcspn(text, "\n");
                return fail(r, why,
                            strcmp(note, "\n" STRATA_STORELOCK_REPAIR) == 0
                                    ? "the store %s is being repaired by process %s; wait for its end"
                                    : "the store %s is in use by process %s; end that one first",
                            s->path, pid[0] ? pid : "(unknown)");
        }
        return r < 0 ? fail(r, why, "can't lock %s/lock: %s", s->path, strerror(-r)) : 0;
}

/* Cut after it is written, as it may be read at any time. */
void strata_storelock_note(struct strata *s)
{
        cleanup_fd int fd = openat(s->root_fd, "lock", O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
        char pid[256];
        int n = snprintf(pid, sizeof(pid), "%d\n%s", (int)(s->config.owner ? s->config.owner : getpid()),
                         s->config.lock_note ? s->config.lock_note : "");

        s->noted = true;
        if (fd >= 0 && pwrite(fd, pid, (size_t)n, 0) == n && ftruncate(fd, n) < 0)
                return; /* it is for people only */
}

void strata_storelock_clear(struct strata *s)
{
        if (s->noted)
                strata_close(openat(s->root_fd, "lock", O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC));
        s->noted = false;
}

int strata_storelock_reserve(const char *path)
{
        cleanup_fd int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
        struct flock lock = range(F_RDLCK);

        if (dir < 0)
                return -errno;
        fd = openat(dir, "lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fcntl(fd, F_OFD_SETLK, &lock) < 0)
                return -errno;
        return steal_fd(&fd);
}
