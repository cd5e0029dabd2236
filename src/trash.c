/* SPDX-License-Identifier: Apache-2.0 */
#include "trash.h"

#include "log.h"
#include "mount.h"
#include "strata.h"
#include "util/cleanup.h"
#include "util/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

struct strata_trash {
        pthread_mutex_t lock; /* protects WORK; a leaf lock */
        pthread_cond_t wake;
        bool work; /* something was added since the last look */
        atomic_bool stop;
        atomic_ulong parts; /* number for the next part's name */

        uint64_t *again; /* layers that could not be moved here: tried with the next; protected by LOCK, as N_AGAIN */
        size_t n_again;
};

int strata_trash_new(struct strata_trash **ret)
{
        struct strata_trash *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        pthread_mutex_init(&t->lock, NULL);
        pthread_cond_init(&t->wake, NULL);
        t->work = true; /* what the last run left */
        *ret = t;
        return 0;
}

void strata_trash_free(struct strata_trash *t)
{
        if (!t)
                return;
        pthread_cond_destroy(&t->wake);
        pthread_mutex_destroy(&t->lock);
        free(t->again);
        free(t);
}

static void wake(struct strata_trash *t)
{
        pthread_mutex_lock(&t->lock);
        t->work = true;
        pthread_cond_signal(&t->wake);
        pthread_mutex_unlock(&t->lock);
}

static int move_layer(struct strata *s, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];

        snprintf(path, sizeof(path), "%" PRIu64, id);
        if (renameat(s->layers_fd, path, s->trash_fd, path) < 0)
                return errno == ENOENT ? 0 : -errno;
        return 0;
}

/* For want of memory the next start has to do it. */
static void remember(struct strata *s, uint64_t id)
{
        struct strata_trash *t = s->trash;
        uint64_t *again;

        atomic_store(&s->rubbish, true);
        pthread_mutex_lock(&t->lock);
        again = reallocarray(t->again, t->n_again + 1, sizeof(*again));
        if (again) {
                t->again = again;
                t->again[t->n_again++] = id;
        }
        pthread_mutex_unlock(&t->lock);
}

int strata_trash_layer(struct strata *s, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX + 8];
        int r = move_layer(s, id);

        if (r < 0) {
                snprintf(path, sizeof(path), "layers/%" PRIu64, id);
                strata_log_add(s->log, "delete", path, NULL, r,
                               "nothing leads to this layer any more, but it can't be moved to trash/; it is tried "
                               "again with the next removal and at the next start");
                remember(s, id);
                return r;
        }
        wake(s->trash);
        return 0;
}

static void try_again(struct strata *s)
{
        struct strata_trash *t = s->trash;
        struct strata_info info; /* a sweep may have found that it lacks a link, and given it one */
        uint64_t *again;
        size_t n;

        pthread_mutex_lock(&t->lock);
        again = t->again;
        n = t->n_again;
        t->again = NULL;
        t->n_again = 0;
        pthread_mutex_unlock(&t->lock);
        for (size_t i = 0; i < n; i++)
                if (strata_entry_info(s, again[i], &info) != 0 && move_layer(s, again[i]) < 0)
                        remember(s, again[i]);
        free(again);
}

int strata_trash_part(struct strata *s, int dirfd, const char *name, uint64_t id)
{
        char to[2 * STRATA_ID_PATH_MAX];

        for (;;) {
                snprintf(to, sizeof(to), "%" PRIu64 ".part.%lu", id, atomic_fetch_add(&s->trash->parts, 1));
                if (renameat2(dirfd, name, s->trash_fd, to, RENAME_NOREPLACE) == 0)
                        break;
                if (errno == ENOENT)
                        return 0;
                if (errno != EEXIST) { /* else a run before left a part of this name */
                        int r = -errno;

                        atomic_store(&s->rubbish, true);
                        return r;
                }
        }
        wake(s->trash);
        return 0;
}

/*
 * Takes immutable and append-only off NAME below DIRFD, or off DIRFD itself: what chattr(1) set in the store is not to
 * keep a removed layer there. Only files and folders have such flags, and nothing else is opened. True if they are off.
 */
static bool take_off_flags(int dirfd, const char *name)
{
        const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
        cleanup_fd int fd = -1;
        struct stat st;
        int attributes;

        if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
                return false;
        fd = openat(dirfd, name, flags);
        if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &attributes) < 0)
                return false;
        if (!(attributes & (FS_IMMUTABLE_FL | FS_APPEND_FL)))
                return true;
        attributes &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
        return ioctl(fd, FS_IOC_SETFLAGS, &attributes) == 0;
}

/* unlinkat(), also of what is immutable or lies in what is. */
static int delete_name(int dirfd, const char *name, int flags)
{
        if (unlinkat(dirfd, name, flags) == 0)
                return 0;
        if (errno == EPERM && take_off_flags(dirfd, ".")) {
                (void)take_off_flags(dirfd, name);
                if (unlinkat(dirfd, name, flags) == 0)
                        return 0;
        }
        return -errno;
}

struct deletion {
        struct strata *s;
        int first; /* error of what was left out, 0 if nothing was */
};

static int delete_one(void *data, enum strata_walk_event event, int dirfd, const char *name)
{
        struct deletion *d = data;
        int r;

        if (atomic_load(&d->s->trash->stop))
                return -ECANCELED;
        if (event == STRATA_WALK_ENTER)
                return 0;
        r = delete_name(dirfd, name, event == STRATA_WALK_LEAVE ? AT_REMOVEDIR : 0);
        switch (r) {
        case -EISDIR: /* it is another thing by now, */
        case -ENOTDIR:
        case -ENOTEMPTY: /* or something came in, */
        case -EBUSY:     /* or is mounted there: the rest goes all the same */
                d->first = d->first ? d->first : r;
                return 0;
        default:
                return r == -ENOENT ? 0 : r;
        }
}

static int delete_tree(struct strata *s, const char *name)
{
        struct deletion d = { .s = s };
        int r = delete_name(s->trash_fd, name, 0);
        cleanup_fd int fd = -1;

        if (r != -EISDIR && r != -EPERM)
                return r;
        fd = openat(s->trash_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0)
                strata_mount_drop_left_places(fd);
        r = strata_walk(s->trash_fd, name, delete_one, &d);
        if (r == 0)
                r = d.first;
        if (r == 0)
                r = delete_name(s->trash_fd, name, AT_REMOVEDIR);
        return r == -ENOENT ? 0 : r;
}

int strata_trash_empty(struct strata *s)
{
        int fd = openat(s->trash_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *de;
        int first = 0;

        if (!dir) {
                int r = -errno;

                strata_close(fd);
                return r;
        }
        while ((errno = 0, de = readdir(dir))) {
                int r;

                if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
                        continue;
                r = delete_tree(s, de->d_name);
                if (r == -ECANCELED)
                        return r;
                if (r < 0) {
                        strata_log_add(s->log, "delete", de->d_name, NULL, r,
                                       "can't delete this layer in the store's trash/; it is tried again with the "
                                       "next removal and at the next start");
                        first = first ? first : r;
                }
        }
        return errno && !first ? -errno : first;
}

void strata_trash_run(struct strata *s)
{
        const struct timespec pause = { .tv_nsec = 20000000 };
        struct strata_trash *t = s->trash;

        while (!atomic_load(&t->stop)) {
                pthread_mutex_lock(&t->lock);
                while (!t->work && !atomic_load(&t->stop))
                        pthread_cond_wait(&t->wake, &t->lock);
                pthread_mutex_unlock(&t->lock);
                /* Who removes one often removes more: not to get in the way of each. */
                if (!atomic_load(&t->stop))
                        nanosleep(&pause, NULL);
                pthread_mutex_lock(&t->lock);
                t->work = false;
                pthread_mutex_unlock(&t->lock);
                if (!atomic_load(&t->stop)) {
                        try_again(s);
                        (void)strata_trash_empty(s);
                }
        }
}

void strata_trash_stop(struct strata *s)
{
        pthread_mutex_lock(&s->trash->lock);
        atomic_store(&s->trash->stop, true);
        pthread_cond_broadcast(&s->trash->wake);
        pthread_mutex_unlock(&s->trash->lock);
}

uint64_t strata_trash_pending(struct strata *s)
{
        int fd = openat(s->trash_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *de;
        uint64_t n = 0;

        if (!dir) {
                strata_close(fd);
                return 0;
        }
        while ((de = readdir(dir)))
                if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
                        n++;
        return n;
}
