/* SPDX-License-Identifier: Apache-2.0 */
#include "attach.h"

#include "attr.h"
#include "busy.h"
#include "log.h"
#include "metrics.h"
#include "mount.h"
#include "node.h"
#include "ops.h"
#include "pool.h"
#include "show.h"
#include "util/cleanup.h"
#include "util/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define TICKET_SECONDS 30 /* a walk again follows within microseconds; this only bounds what killed callers leave */
#define CLAIM_SECONDS 10  /* how long a commit or removal waits for a mount under way */
#define PARK_SECONDS 30   /* how long a GETATTR is kept at most, whatever happens */

enum state {
        WANTED,   /* tickets are out, nothing is mounted */
        MOUNTING, /* a job is at it */
        MOUNTED,
        RELEASING, /* a job tries to unmount it, as it is idle */
        CLAIMED,   /* by a commit, rename or removal */
};

struct parked {
        fuse_req_t req;
        time_t since;
        bool lookup; /* of `fs`, not a GETATTR of the entry */
        struct parked *next;
};

/* The job of mounting or releasing an entry. */
struct mount_job {
        struct sfs_job job; /* first: the job is this */
        struct sfs_attach *a;
        uint64_t id;
        int result;
        bool marked; /* of a release: the kernel noted it as idle, the next try may succeed */
        dev_t dev;
        char reason[256];
};

struct live {
        uint64_t id;
        enum state state;
        bool suspect;          /* MOUNTED, but somebody got to the bare directory: look again at the next ticket */
        struct parked *parked; /* GETATTRs of ticket holders, answered when the state is settled */
        time_t since;          /* of the state */
        time_t next_try;       /* of MOUNTED: when to try to release it */
        bool expires;          /* views and snapshots */
        bool seen;             /* of MOUNTING: the kernel knows `fs`, as our own thread looked it up */
        bool was_mounted;      /* of CLAIMED: it was mounted at the claim */
        bool idle_mark;        /* the last try set the kernel's mark of idleness */
        dev_t dev;             /* of what is mounted */
        pid_t walk_anew;       /* this inner thread's next GETATTR of the entry gets ESTALE */
        UT_hash_handle hh;
        int oom;
};

/* Thread TID was told ESTALE at fs/ of entry ID: its next GETATTR of the entry comes with no lock held. */
struct ticket {
        struct {
                uint64_t id;
                uint64_t tid;
        } key;
        time_t since;
        UT_hash_handle hh;
        int oom;
};

struct sfs_attach {
        struct sfs *sfs;
        /*
         * Protects all below. A leaf lock, held over memory operations only: never over a reply, a notification, a
         * mount or a call of the engine.
         */
        pthread_mutex_t lock;
        pthread_cond_t settled; /* some state changed */
        struct live *entries;
        struct ticket *tickets;
        unsigned n_jobs;
        bool stopping;
};

static time_t now_seconds(void)
{
        return strata_metrics_start().tv_sec;
}

static struct live *find_live(struct sfs_attach *a, uint64_t id)
{
        struct live *e;

        HASH_FIND(hh, a->entries, &id, sizeof(id), e);
        return e;
}

static struct live *add_live(struct sfs_attach *a, uint64_t id, enum state state)
{
        struct live *e = calloc(1, sizeof(*e));

        if (!e)
                return NULL;
        e->id = id;
        e->state = state;
        e->since = now_seconds();
        HASH_ADD(hh, a->entries, id, sizeof(e->id), e);
        if (e->oom) {
                free(e);
                return NULL;
        }
        return e;
}

static void drop_live(struct sfs_attach *a, struct live *e)
{
        HASH_DEL(a->entries, e);
        free(e);
}

static void set_state(struct sfs_attach *a, struct live *e, enum state state)
{
        e->state = state;
        e->since = now_seconds();
        pthread_cond_broadcast(&a->settled);
}

int sfs_attach_new(struct sfs *sfs, struct sfs_attach **ret)
{
        struct sfs_attach *a = calloc(1, sizeof(*a));
        pthread_condattr_t attr;

        if (!a)
                return -ENOMEM;
        a->sfs = sfs;
        pthread_mutex_init(&a->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&a->settled, &attr);
        pthread_condattr_destroy(&attr);
        *ret = a;
        return 0;
}

void sfs_attach_free(struct sfs_attach *a)
{
        struct live *e, *next_e;
        struct ticket *t, *next_t;

        if (!a)
                return;
        HASH_ITER(hh, a->entries, e, next_e)
                drop_live(a, e);
        HASH_ITER(hh, a->tickets, t, next_t) {
                HASH_DEL(a->tickets, t);
                free(t);
        }
        pthread_cond_destroy(&a->settled);
        pthread_mutex_destroy(&a->lock);
        free(a);
}

double sfs_attach_entry_timeout(struct sfs_attach *a, uint64_t id)
{
        struct live *e;
        double ret;

        pthread_mutex_lock(&a->lock);
        e = find_live(a, id);
        ret = !e || (e->state == MOUNTED && !e->suspect) ? SFS_FOREVER : 0;
        pthread_mutex_unlock(&a->lock);
        return ret;
}

uint64_t sfs_attach_count(struct sfs_attach *a)
{
        uint64_t n = 0;

        pthread_mutex_lock(&a->lock);
        for (struct live *e = a->entries; e; e = e->hh.next)
                n += e->state == MOUNTED || e->state == RELEASING;
        pthread_mutex_unlock(&a->lock);
        return n;
}

/* ---- tickets ---- */

static struct ticket *find_ticket(struct sfs_attach *a, uint64_t id, pid_t tid)
{
        struct ticket key = { .key = { id, (uint64_t)tid } }, *t;

        HASH_FIND(hh, a->tickets, &key.key, sizeof(key.key), t);
        return t;
}

static void give_ticket(struct sfs_attach *a, uint64_t id, pid_t tid)
{
        struct ticket *t = find_ticket(a, id, tid);

        if (!t) {
                t = calloc(1, sizeof(*t));
                if (!t)
                        return; /* the caller sees ESTALE, the one thing left to say */
                t->key.id = id;
                t->key.tid = (uint64_t)tid;
                HASH_ADD(hh, a->tickets, key, sizeof(t->key), t);
                if (t->oom) {
                        free(t);
                        return;
                }
        }
        t->since = now_seconds();
}

static bool take_ticket(struct sfs_attach *a, uint64_t id, pid_t tid)
{
        struct ticket *t = find_ticket(a, id, tid);

        if (!t)
                return false;
        HASH_DEL(a->tickets, t);
        free(t);
        return true;
}

void sfs_attach_arm(struct sfs_attach *a, uint64_t id)
{
        /* Offset -1: attributes only. -ENOENT, where the kernel does not know the entry, is as good. */
        (void)fuse_lowlevel_notify_inval_inode(a->sfs->se, sfs_node(id, SFS_SLOT_ENTRY), -1, 0);
}

void sfs_attach_missed(struct sfs_attach *a, fuse_req_t req, uint64_t id)
{
        struct live *e;

        pthread_mutex_lock(&a->lock);
        e = find_live(a, id);
        if (!e)
                e = add_live(a, id, WANTED);
        else if (e->state == MOUNTED)
                e->suspect = true;
        if (e)
                give_ticket(a, id, fuse_req_ctx(req)->pid);
        pthread_mutex_unlock(&a->lock);
        sfs_attach_arm(a, id); /* after the state says so: answers from here on carry no validity */
}

/* ---- parked requests ---- */

static void park(struct live *e, struct parked *p, fuse_req_t req)
{
        p->req = req;
        p->since = now_seconds();
        p->lookup = false;
        p->next = e->parked;
        e->parked = p;
}

/* Answers all in LIST: with the attributes of the entry, or with ERROR. Outer side, no lock held. */
static void answer_parked(struct parked *list, uint64_t id, int error)
{
        while (list) {
                struct parked *p = list;

                list = p->next;
                if (error)
                        fuse_reply_err(p->req, abs(error));
                else if (p->lookup)
                        sfs_op_lookup(p->req, sfs_node(id, SFS_SLOT_ENTRY), "fs");
                else
                        sfs_attr_reply(p->req, sfs_node(id, SFS_SLOT_ENTRY));
                free(p);
        }
}

/*
 * Makes the kernel forget the name `fs`, on which nothing is mounted any more, so that the next walk looks it up as an
 * unknown one. Takes the entry's inode lock: on the outer side, after the reply to whatever the kernel holds that lock
 * for. Requests kept for the entry hold no lock.
 */
static void forget_name(struct sfs_attach *a, uint64_t id)
{
        (void)fuse_lowlevel_notify_inval_entry(a->sfs->se, sfs_node(id, SFS_SLOT_ENTRY), "fs", 2);
}

/* Takes the kept LOOKUPs out of E's list: the name they ask about is forgotten, so they are to walk again, with a
 * ticket. */
static struct parked *take_lookups(struct sfs_attach *a, struct live *e)
{
        struct parked *lookups = NULL, **p = &e->parked;

        while (*p) {
                struct parked *one = *p;

                if (!one->lookup) {
                        p = &one->next;
                        continue;
                }
                *p = one->next;
                one->next = lookups;
                lookups = one;
                give_ticket(a, e->id, fuse_req_ctx(one->req)->pid);
        }
        return lookups;
}

/* ---- mounting ---- */

/* Opens fs/ of the entry, wherever it is called now; -ESTALE when the kernel and the store don't agree on that. */
static int open_fs(struct sfs *sfs, const struct strata_info *info, const char *path, int *ret, bool *is_mounted)
{
        cleanup_fd int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct statx stx;

        (void)sfs;
        if (fd < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &stx) < 0)
                return -errno;
        *is_mounted = stx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
        if (!*is_mounted && stx.stx_ino != sfs_node(info->id, SFS_SLOT_FS))
                return -ESTALE;
        *ret = steal_fd(&fd);
        return 0;
}

static int mount_entry(struct sfs *sfs, const struct strata_info *info, dev_t *dev)
{
        cleanup_free char *path = sfs_fs_path(sfs, info);
        cleanup_fd int fd = -1;
        bool is_mounted = false;
        int r;

        if (!path)
                return -ENOMEM;
        r = open_fs(sfs, info, path, &fd, &is_mounted);
        if (r < 0)
                return r;
        if (!is_mounted) {
                r = strata_mount_attach(sfs->store, info, fd);
                if (r < 0)
                        return r;
        }
        strata_close(steal_fd(&fd));
        return strata_mount_is_attached(path, dev) < 0 ? -errno : 0;
}

static void run_mount(struct sfs_job *job)
{
        struct mount_job *m = (struct mount_job *)job;
        struct sfs *sfs = m->a->sfs;
        struct timespec start = strata_metrics_start();
        struct strata_info info = { 0 };

        /* A rename between the look at the name and the walk makes the walk fail: look again. */
        for (int tries = 0; tries < 5; tries++) {
                m->result = strata_entry_info(sfs->store, m->id, &info);
                if (m->result == 0)
                        m->result = mount_entry(sfs, &info, &m->dev);
                if (m->result != -ESTALE && m->result != -ENOENT)
                        break;
        }
        m->marked = info.kind != STRATA_ACTIVE;
        strata_metrics_count(sfs->store->metrics, STRATA_VERB_MOUNT, start, m->result);
        if (m->result < 0 && info.name[0]) {
                cleanup_free char *path = sfs_fs_path(sfs, &info);
                const char *hint = "the kernel refused to mount it; its own log (dmesg) may tell more";

                if (m->result == -EBUSY)
                        hint = "a mount from an earlier run of this program is still used by some process; end that "
                               "process first";
                else if (m->result == -EUCLEAN)
                        hint = "a layer below is missing or damaged; other lines here name it";
                strata_log_add(sfs->store->log, "mount", path ? path : info.name, NULL, m->result, "%s", hint);
        }
}

static void done_mount(struct sfs_job *job)
{
        struct mount_job *m = (struct mount_job *)job;
        struct sfs_attach *a = m->a;
        struct parked *parked = NULL;
        struct live *e;

        if (m->result < 0)
                forget_name(a, m->id);
        pthread_mutex_lock(&a->lock);
        a->n_jobs--;
        e = find_live(a, m->id);
        if (e) {
                parked = e->parked;
                e->parked = NULL;
                if (m->result == 0) {
                        e->dev = m->dev;
                        e->expires = m->marked;
                        e->suspect = false;
                        e->idle_mark = false;
                        e->next_try = now_seconds() + a->sfs->expire;
                        set_state(a, e, MOUNTED);
                } else {
                        pthread_cond_broadcast(&a->settled);
                        drop_live(a, e);
                }
        }
        pthread_mutex_unlock(&a->lock);
        answer_parked(parked, m->id, m->result);
        free(m);
}

/* Makes a job; its submission is the caller's, after the lock is dropped or not, as it never blocks. */
static struct mount_job *new_job(struct sfs_attach *a, uint64_t id, void (*run)(struct sfs_job *),
                                 void (*done)(struct sfs_job *))
{
        struct mount_job *m = calloc(1, sizeof(*m));

        if (!m)
                return NULL;
        m->job.run = run;
        m->job.done = done;
        m->a = a;
        m->id = id;
        a->n_jobs++;
        return m;
}

static bool start_mount(struct sfs_attach *a, struct live *e)
{
        struct mount_job *m = new_job(a, e->id, run_mount, done_mount);

        if (!m)
                return false;
        set_state(a, e, MOUNTING);
        e->seen = false;
        sfs_pool_submit(a->sfs->pool, SFS_LANE_MOUNT, &m->job);
        return true;
}

bool sfs_attach_gate(struct sfs_attach *a, fuse_req_t req, uint64_t id, int *error)
{
        struct parked *p = malloc(sizeof(*p));
        struct live *e;
        bool kept = false;

        *error = 0;
        pthread_mutex_lock(&a->lock);
        if (take_ticket(a, id, fuse_req_ctx(req)->pid)) {
                e = find_live(a, id);
                if (!e)
                        e = add_live(a, id, WANTED); /* mounted, released, and forgotten since the ticket was given */
                if (!e || !p || a->stopping)
                        *error = a->stopping ? EIO : ENOMEM;
                else if (e->state == WANTED || (e->state == MOUNTED && e->suspect))
                        kept = start_mount(a, e);
                else
                        kept = e->state != MOUNTED;
                if (kept)
                        park(e, p, req);
        }
        pthread_mutex_unlock(&a->lock);
        if (!kept)
                free(p);
        return kept;
}

/* True while the kernel is sure to know `fs` of E, and what is there may change any moment. */
static bool is_unsettled(const struct live *e)
{
        return (e->state == MOUNTING && e->seen) || e->state == RELEASING || (e->state == CLAIMED && e->was_mounted);
}

enum sfs_fs sfs_attach_look(struct sfs_attach *a, fuse_req_t req, uint64_t id)
{
        struct parked *p = malloc(sizeof(*p));
        enum sfs_fs ret = SFS_FS_BARE;
        struct live *e;

        pthread_mutex_lock(&a->lock);
        e = find_live(a, id);
        if (e && e->state == MOUNTED) {
                ret = SFS_FS_MOUNTED;
        } else if (e && is_unsettled(e) && p) {
                park(e, p, req);
                p->lookup = true;
                ret = SFS_FS_KEPT;
        }
        pthread_mutex_unlock(&a->lock);
        if (ret != SFS_FS_KEPT)
                free(p);
        return ret;
}

void sfs_attach_seen(struct sfs_attach *a, uint64_t id)
{
        struct live *e;

        pthread_mutex_lock(&a->lock);
        e = find_live(a, id);
        if (e)
                e->seen = true;
        pthread_mutex_unlock(&a->lock);
}

/* ---- claims ---- */

enum sfs_claim sfs_attach_claim(struct sfs_attach *a, uint64_t id, bool wait)
{
        enum sfs_claim ret = SFS_CLAIM_BUSY;
        struct timespec end = strata_metrics_start();
        struct live *e;

        end.tv_sec += CLAIM_SECONDS;
        pthread_mutex_lock(&a->lock);
        for (;;) {
                e = find_live(a, id);
                if (!e) {
                        e = add_live(a, id, CLAIMED);
                        ret = e ? SFS_CLAIM_BARE : SFS_CLAIM_BUSY;
                        break;
                }
                if (e->state == WANTED || e->state == MOUNTED) {
                        e->was_mounted = e->state == MOUNTED;
                        ret = e->was_mounted ? SFS_CLAIM_MOUNTED : SFS_CLAIM_BARE;
                        set_state(a, e, CLAIMED);
                        break;
                }
                if (!wait || pthread_cond_timedwait(&a->settled, &a->lock, &end) != 0)
                        break;
        }
        pthread_mutex_unlock(&a->lock);
        return ret;
}

void sfs_attach_release(struct sfs_attach *a, uint64_t id, bool mounted)
{
        struct parked *lookups;
        bool was_mounted;
        struct live *e;

        pthread_mutex_lock(&a->lock);
        e = find_live(a, id); /* claimed: it stays listed until here */
        was_mounted = e->was_mounted;
        pthread_mutex_unlock(&a->lock);
        if (was_mounted && !mounted)
                forget_name(a, id);
        pthread_mutex_lock(&a->lock);
        if (mounted) {
                struct parked *parked = e->parked;

                e->parked = NULL;
                set_state(a, e, MOUNTED);
                pthread_mutex_unlock(&a->lock);
                answer_parked(parked, id, 0);
                return;
        }
        lookups = take_lookups(a, e);
        if (!e->parked || !start_mount(a, e)) {
                /* Tickets that are out find nothing listed here, and list it anew. */
                drop_live(a, e);
                pthread_cond_broadcast(&a->settled);
        }
        pthread_mutex_unlock(&a->lock);
        answer_parked(lookups, id, ESTALE);
}

/* ---- unmounting ---- */

int sfs_attach_unmount(struct sfs_attach *a, uint64_t id, const char *path, int flags)
{
        struct timespec start = strata_metrics_start();
        struct live *e;
        int r;

        pthread_mutex_lock(&a->lock);
        e = find_live(a, id);
        if (e)
                e->walk_anew = gettid();
        pthread_mutex_unlock(&a->lock);
        r = strata_mount_detach(path, flags);
        if (r != -EAGAIN)
                strata_metrics_count(a->sfs->store->metrics, STRATA_VERB_UNMOUNT, start, r);
        return r;
}

bool sfs_attach_wants_anew(struct sfs_attach *a, pid_t tid, uint64_t id)
{
        struct live *e;
        bool ret;

        pthread_mutex_lock(&a->lock);
        e = find_live(a, id);
        ret = e && e->walk_anew == tid;
        if (ret)
                e->walk_anew = 0;
        pthread_mutex_unlock(&a->lock);
        return ret;
}

/* ---- release of idle mounts ---- */

static void run_release(struct sfs_job *job)
{
        struct mount_job *m = (struct mount_job *)job;
        struct sfs *sfs = m->a->sfs;
        cleanup_free char *path = NULL;
        struct strata_buf who = STRATA_BUF_INIT;
        struct strata_info info;

        m->result = strata_entry_info(sfs->store, m->id, &info);
        if (m->result < 0)
                return;
        path = sfs_fs_path(sfs, &info);
        if (!path) {
                m->result = -ENOMEM;
                return;
        }
        /* While it is bound elsewhere it stays, so that a removal sees that it is in use. */
        if (m->marked && strata_busy_elsewhere(m->dev, &who))
                m->result = -EBUSY;
        else
                m->result = sfs_attach_unmount(m->a, m->id, path, MNT_EXPIRE);
        strata_buf_free(&who);
}

static void done_release(struct sfs_job *job)
{
        struct mount_job *m = (struct mount_job *)job;
        struct sfs_attach *a = m->a;
        struct parked *parked = NULL;
        struct live *e;
        int error = 0;

        if (m->result == 0)
                forget_name(a, m->id);
        pthread_mutex_lock(&a->lock);
        a->n_jobs--;
        e = find_live(a, m->id);
        if (e && m->result == 0) {
                parked = take_lookups(a, e);
                error = ESTALE;
                if (!e->parked || !start_mount(a, e)) {
                        drop_live(a, e);
                        pthread_cond_broadcast(&a->settled);
                }
        } else if (e) {
                parked = e->parked;
                e->parked = NULL;
                /* EAGAIN: the kernel has noted it as idle; untouched until the next try, it goes then. EINVAL: not a
                 * mount any more. */
                e->idle_mark = m->result == -EAGAIN;
                e->suspect = m->result == -EINVAL;
                e->next_try = now_seconds() + a->sfs->expire;
                set_state(a, e, MOUNTED);
        }
        pthread_mutex_unlock(&a->lock);
        answer_parked(parked, m->id, error);
        free(m);
}

/* Collects up to MAX entries that are due; they are RELEASING then. */
static unsigned take_due(struct sfs_attach *a, struct mount_job **jobs, unsigned max)
{
        time_t now = now_seconds();
        unsigned n = 0;

        for (struct live *e = a->entries; e && n < max; e = e->hh.next) {
                if (e->state != MOUNTED || !e->expires || now < e->next_try)
                        continue;
                jobs[n] = new_job(a, e->id, run_release, done_release);
                if (!jobs[n])
                        break;
                jobs[n]->marked = e->idle_mark;
                jobs[n]->dev = e->dev;
                set_state(a, e, RELEASING);
                n++;
        }
        return n;
}

static void release_idle(struct sfs_attach *a)
{
        struct mount_job *jobs[64];
        unsigned n;

        do {
                pthread_mutex_lock(&a->lock);
                n = a->stopping ? 0 : take_due(a, jobs, 64);
                pthread_mutex_unlock(&a->lock);
                for (unsigned i = 0; i < n; i++) {
                        if (jobs[i]->marked)
                                sfs_attach_arm(a, jobs[i]->id); /* this try may unmount it */
                        sfs_pool_submit(a->sfs->pool, SFS_LANE_MOUNT, &jobs[i]->job);
                }
        } while (n == 64);
}

/* Tickets of callers that were killed, entries only they wanted, and requests kept longer than anything can take. */
static void forget_stale(struct sfs_attach *a)
{
        time_t now = now_seconds();
        struct ticket *t, *next_t;
        struct live *e, *next_e;
        struct parked *late = NULL;
        uint64_t late_id = 0;

        pthread_mutex_lock(&a->lock);
        HASH_ITER(hh, a->tickets, t, next_t) {
                if (now - t->since > TICKET_SECONDS) {
                        HASH_DEL(a->tickets, t);
                        free(t);
                }
        }
        HASH_ITER(hh, a->entries, e, next_e) {
                if (e->parked && !late && now - e->parked->since > PARK_SECONDS) {
                        late = e->parked;
                        late_id = e->id;
                        e->parked = NULL;
                } else if (e->state == WANTED && now - e->since > TICKET_SECONDS) {
                        drop_live(a, e);
                }
        }
        pthread_mutex_unlock(&a->lock);
        if (late)
                strata_log_add(a->sfs->store->log, "mount", "fs", NULL, ETIMEDOUT,
                               "mounting entry %llu takes too long; its callers get an error, try again",
                               (unsigned long long)late_id);
        answer_parked(late, late_id, ETIMEDOUT);
}

void sfs_attach_tick(struct sfs_attach *a)
{
        if (a->sfs->expire)
                release_idle(a);
        forget_stale(a);
}

/* ---- the end ---- */

struct shutdown_job {
        struct sfs_job job; /* first */
        struct sfs_attach *a;
        uint64_t *ids;
        size_t n;
        bool finished; /* protected by a->lock */
};

static void run_shutdown(struct sfs_job *job)
{
        struct shutdown_job *d = (struct shutdown_job *)job;
        struct sfs *sfs = d->a->sfs;

        for (size_t i = 0; i < d->n; i++) {
                cleanup_free char *path = NULL;
                struct strata_info info;

                if (strata_entry_info(sfs->store, d->ids[i], &info) < 0)
                        continue;
                path = sfs_fs_path(sfs, &info);
                if (!path)
                        continue;
                if (strata_mount_detach(path, 0) == 0) {
                        if (info.kind == STRATA_ACTIVE)
                                strata_mount_left(sfs->store, info.id);
                } else {
                        (void)strata_mount_detach(path, MNT_DETACH);
                }
        }
}

static void done_shutdown(struct sfs_job *job)
{
        struct shutdown_job *d = (struct shutdown_job *)job;

        pthread_mutex_lock(&d->a->lock);
        d->finished = true;
        pthread_cond_broadcast(&d->a->settled);
        pthread_mutex_unlock(&d->a->lock);
}

void sfs_attach_shutdown(struct sfs_attach *a)
{
        struct shutdown_job d = { .job = { run_shutdown, done_shutdown, NULL }, .a = a };
        struct timespec end = strata_metrics_start();

        end.tv_sec += CLAIM_SECONDS;
        pthread_mutex_lock(&a->lock);
        a->stopping = true;
        while (a->n_jobs && pthread_cond_timedwait(&a->settled, &a->lock, &end) == 0)
                ;
        d.ids = calloc(HASH_COUNT(a->entries) + 1, sizeof(*d.ids));
        for (struct live *e = a->entries; e && d.ids; e = e->hh.next)
                if (e->state == MOUNTED)
                        d.ids[d.n++] = e->id;
        sfs_pool_submit(a->sfs->pool, SFS_LANE_CHANGE, &d.job);
        while (!d.finished)
                pthread_cond_wait(&a->settled, &a->lock);
        pthread_mutex_unlock(&a->lock);
        free(d.ids);
}
