/* SPDX-License-Identifier: Apache-2.0 */
/* Mounting: the job that a first touch starts. */
#include "keep.h"
#include "live.h"
#include "log.h"
#include "metrics.h"
#include "mount.h"
#include "place.h"
#include "show.h"
#include "takeover.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#define PAUSES_MAX 5     /* see sfs_attach_pause() */
#define SETTLE_LOOKS 3   /* a millisecond apart */
#define TRIES_MAX 20     /* how often a mount is begun anew */
#define NAME_TRIES 5     /* how often a name that is not there is looked for at once, */
#define NAME_PAUSES 2000 /* and then how often a millisecond later */

/* True while the entry was not claimed, nor handed to another job, since this one was sent, and the program goes on. */
static bool is_mine(struct sfs_mount_job *m)
{
        struct sfs_attach *a = m->a;
        struct sfs_live *e;
        bool ret;

        pthread_mutex_lock(&a->lock);
        e = sfs_live_find(a, m->id);
        ret = sfs_live_is_mine(e, m) && !a->stopping;
        pthread_mutex_unlock(&a->lock);
        return ret;
}

/* Opens fs/ of the entry whose directory is open as ENTRY. */
static int open_fs(int entry, int *ret, bool *is_mounted)
{
        cleanup_fd int fd = openat(entry, "fs", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct statx stx;

        if (fd < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &stx) < 0)
                return -errno;
        *is_mounted = stx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
        *ret = steal_fd(&fd);
        return 0;
}

/* Attaches what an earlier try of this job made and lost, or a new mount. -EAGAIN: the name FD was opened by is gone.
 */
static int attach(struct sfs_mount_job *m, const struct strata_info *info, int fd)
{
        struct strata *s = m->a->sfs->store;
        int r;

        r = m->keep >= 0 ? strata_mount_move(m->keep, fd) : strata_mount_attach(s, info, fd, &m->dev);
        if (r == 0 && m->keep >= 0)
                strata_close(steal_fd(&m->keep));
        return r == -ENOENT ? -EAGAIN : r;
}

/*
 * Linux 6.16 and later: of several threads that look up a name for the first time at the same moment, one that waited
 * for the other's answer may take the new name for outdated (fs/fuse/dir.c, fuse_lookup(): d_time is set after the name
 * can be seen) and drop it, with what is mounted there by then. It does so at once, unless it is preempted: so where
 * many ask at the same moment, nobody is let in before they had the time to. -EAGAIN: what was attached is lost; a copy
 * is in m->keep.
 */
static int settle(struct sfs_mount_job *m, int entry)
{
        const struct timespec pause = { .tv_nsec = 1000000 };
        cleanup_fd int fd = -1;
        bool is_mounted = false;
        int r = open_fs(entry, &fd, &is_mounted);

        if (r == 0 && !is_mounted)
                r = -EAGAIN;
        if (r < 0)
                return r;
        m->keep = strata_mount_copy(fd);
        for (int i = 0; i < SETTLE_LOOKS && m->keep >= 0; i++) {
                int copy;

                nanosleep(&pause, NULL);
                copy = strata_mount_copy(fd); /* of what is attached somewhere only */
                if (copy < 0)
                        return -EAGAIN;
                strata_close(copy);
        }
        strata_close(steal_fd(&m->keep));
        return 0;
}

bool sfs_attach_pause(unsigned tries)
{
        const struct timespec pause = { .tv_nsec = 10000000 };

        if (tries >= PAUSES_MAX)
                return false;
        nanosleep(&pause, NULL);
        return true;
}

static bool is_crowded(struct sfs_mount_job *m)
{
        struct sfs_attach *a = m->a;
        struct sfs_live *e;
        bool ret;

        pthread_mutex_lock(&a->lock);
        e = sfs_live_find(a, m->id);
        ret = e && e->crowded;
        pthread_mutex_unlock(&a->lock);
        return ret;
}

/* The old interface of the kernel attaches what it makes without showing it. */
static void find_device(struct sfs_mount_job *m, int entry)
{
        bool is_mounted = false;
        cleanup_fd int fd = -1;

        if (open_fs(entry, &fd, &is_mounted) == 0 && is_mounted)
                (void)strata_mount_device(fd, &m->dev);
}

static int mount_entry(struct sfs_mount_job *m, const struct strata_info *info)
{
        struct sfs *sfs = m->a->sfs;
        bool is_mounted = false;
        cleanup_fd int entry = -1, fd = -1;
        int r = sfs_place_open_entry(sfs, info->kind, info->name, info->id, &entry);

        if (r == 0)
                r = open_fs(entry, &fd, &is_mounted);
        if (r < 0)
                return r;
        m->there = is_mounted;
        if (!sfs_live_enter(m))
                return -ECANCELED;
        if (is_mounted)
                return strata_mount_device(fd, &m->dev);
        sfs_keep_at(m->id);
        r = attach(m, info, fd);
        sfs_keep_at(0);
        m->there = r == 0;
        if (r == 0 && !m->dev)
                find_device(m, entry);
        if (r == 0 && is_crowded(m)) {
                r = settle(m, entry);
                m->there = r != -EAGAIN;
        }
        return r;
}

static void log_failure(struct sfs *sfs, const struct strata_info *info, int error)
{
        cleanup_free char *path = sfs_fs_path(sfs, info);
        const char *hint = "the kernel refused to mount it; its own log (dmesg) may tell more";
        cleanup_free char *busy = error == -EBUSY ? strata_mount_explain_life(sfs->store, info) : NULL;

        if (busy)
                hint = busy;
        else if (error == -ENOSPC || error == -EDQUOT)
                hint = "the store's disk has no room for what a writable mount needs; remove a snapshot, or make room";
        else if (error == -EUCLEAN)
                hint = "a layer is missing, damaged or cut off; another line here tells which";
        strata_log_add(sfs->store->log, "mount", path ? path : info->name, NULL, error, "%s", hint);
}

/* A commit may have frozen it when the program was killed. */
static void thaw(struct sfs *sfs, const struct strata_info *info)
{
        cleanup_fd int entry = -1;
        char path[SFS_PLACE_FS_MAX];

        if (!sfs->store->config.read_only && sfs_place_open_entry(sfs, info->kind, info->name, info->id, &entry) == 0)
                (void)strata_mount_thaw(sfs->store, sfs_place_fs(entry, path));
}

/*
 * A rename between the look at the name and the walk makes the walk fail: look again. The kernel has a new name only
 * once the thread that waited for our answer runs: until then the old name leads to the old place, and of an exchange
 * each name to the other's entry.
 */
static int mount_by_name(struct sfs_mount_job *m, struct strata_info *info)
{
        const struct timespec pause = { .tv_nsec = 1000000 };
        struct sfs *sfs = m->a->sfs;

        for (int tries = 0;; tries++) {
                int r = strata_entry_info(sfs->store, m->id, info);
                bool is_there = r == 0;

                if (is_there)
                        r = mount_entry(m, info);
                for (unsigned n = 0; r == -EBUSY && is_mine(m) && (sfs_attach_pause(n) || sfs_takeover_pause(sfs, n));
                     n++)
                        r = mount_entry(m, info);
                if (r != -ESTALE && r != -ENOENT)
                        return r;
                if (tries < NAME_TRIES)
                        continue;
                if (!is_there || !is_mine(m))
                        return r;
                if (tries >= NAME_TRIES + NAME_PAUSES)
                        return -ETIMEDOUT;
                nanosleep(&pause, NULL);
        }
}

static void run_mount(struct sfs_job *job)
{
        struct sfs_mount_job *m = (struct sfs_mount_job *)job;
        struct sfs *sfs = m->a->sfs;
        struct timespec start = strata_metrics_start();
        struct strata_info info = { 0 };

        m->result = sfs_takeover_wait(sfs, m->id) ? mount_by_name(m, &info) : -EBUSY;
        if (!info.name[0])
                (void)strata_entry_info(sfs->store, m->id, &info); /* for the log */
        m->expires = info.kind != STRATA_ACTIVE;
        if (m->result == 0 && m->thaw && !m->expires)
                thaw(sfs, &info);
        if (m->result == -EAGAIN && m->tries < TRIES_MAX)
                return; /* begun anew, see again() */
        strata_close(steal_fd(&m->keep));
        if (m->result < 0 && !is_mine(m))
                return;
        strata_metrics_count(sfs->store->metrics, STRATA_VERB_MOUNT, start, m->result);
        if (m->result < 0 && info.name[0] && !m->there)
                log_failure(sfs, &info, m->result);
}

/*
 * The name was dropped, so those who ask about it now ask about an unknown one, and the walk of this job would wait for
 * them: they are sent on another walk before. True if the job is under way again.
 */
static bool again(struct sfs_mount_job *m)
{
        struct sfs_attach *a = m->a;
        struct sfs_parked *lookups = NULL;
        time_t now = sfs_live_now();
        struct sfs_live *e;

        if (m->result != -EAGAIN || m->tries >= TRIES_MAX)
                return false;
        m->tries++;
        pthread_mutex_lock(&a->lock);
        e = sfs_live_find(a, m->id);
        if (sfs_live_is_mine(e, m))
                e->entered = false;
        if (e)
                lookups = sfs_live_unpark(e, true, now);
        for (struct sfs_parked *p = lookups; p; p = p->next)
                sfs_ticket_give(&a->tickets, m->id, fuse_req_ctx(p->req)->pid, now);
        pthread_cond_broadcast(&a->settled); /* a claim may overtake now */
        pthread_mutex_unlock(&a->lock);
        if (lookups)
                sfs_attach_arm(a, m->id);
        sfs_live_answer(lookups, m->id, -ESTALE);
        sfs_pool_submit(a->sfs->pool, SFS_LANE_MOUNT, &m->job);
        return true;
}

static void done_mount(struct sfs_job *job)
{
        struct sfs_mount_job *m = (struct sfs_mount_job *)job;
        struct sfs_attach *a = m->a;
        struct sfs_parked *parked = NULL;
        time_t now = sfs_live_now();
        int answer = m->result;
        struct sfs_live *e;
        bool lost;

        if (again(m))
                return;
        strata_close(m->outer);
        pthread_mutex_lock(&a->lock);
        a->n_jobs--;
        e = sfs_live_find(a, m->id);
        if (sfs_live_is_mine(e, m)) {
                lost = m->result == 0 && e->suspect;
                parked = e->parked;
                e->parked = NULL;
                e->suspect = false;
                if (m->result == 0) {
                        if (e->looking && m->dev && m->dev != e->dev)
                                sfs_live_lost(e);
                        e->dev = m->dev ? m->dev : e->dev;
                        e->expires = m->expires;
                        e->idle_mark = false;
                        e->next_try = now + a->sfs->expire;
                } else if (m->there) {
                        /*
                         * Something is in place, or was when it was last seen, and this job could not tell: it is tried
                         * again. EINTR leaves the kernel what it knows (is_from_the_dead() in loop.c).
                         */
                        e->suspect = true;
                        answer = -EINTR;
                } else {
                        /* Who is on the way here gets this error, instead of a try of his own. */
                        sfs_ticket_fail(&a->tickets, m->id, -m->result, now);
                        /* A LOOKUP is sent again, but after these two: fs/fuse/dir.c, fuse_dentry_revalidate(). */
                        for (struct sfs_parked *p = parked; p; p = p->next)
                                if (p->lookup && m->result != -ENOMEM && m->result != -EINTR)
                                        sfs_ticket_give_error(&a->tickets, m->id, fuse_req_ctx(p->req)->pid, -m->result,
                                                              now);
                }
                sfs_live_set(a, e, m->result == 0 || m->there ? SFS_MOUNTED : SFS_BARE);
                if (m->result < 0 && m->there)
                        e->fresh = true; /* look_again() in attach_idle.c */
                if (lost && sfs_live_mount(a, e)) {
                        e->parked = parked; /* until that has looked */
                        parked = NULL;
                }
        }
        pthread_cond_broadcast(&a->settled);
        pthread_mutex_unlock(&a->lock);
        sfs_live_answer(parked, m->id, answer);
        free(m);
}

bool sfs_live_mount(struct sfs_attach *a, struct sfs_live *e)
{
        struct sfs_mount_job *m = a->stopping ? NULL : sfs_live_job(a, e->id, run_mount, done_mount);

        if (!m)
                return false;
        m->there = e->state == SFS_MOUNTED;
        m->keep = m->outer = steal_fd(&e->copy); /* opened before the tables parted: it is in both */
        m->thaw = m->keep >= 0;
        sfs_live_set(a, e, SFS_MOUNTING);
        e->looking = m->there;
        e->suspect = false; /* from here on: what happens to what this job makes or finds */
        e->job = m->number;
        sfs_pool_submit(a->sfs->pool, SFS_LANE_MOUNT, &m->job);
        return true;
}
