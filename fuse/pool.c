/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include "keep.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SERVICES_MAX 4
#define DEAD_MAX 64

static const unsigned lane_threads[SFS_LANES] = {
        [SFS_LANE_MOUNT] = 4, [SFS_LANE_CLAIM] = 4, [SFS_LANE_CHANGE] = 4, [SFS_LANE_LABEL] = 2,
        [SFS_LANE_READ] = 2,  [SFS_LANE_WALK] = 2,  [SFS_LANE_LAYER] = 4,  [SFS_LANE_VERIFY] = 2,
};
#define THREADS_MAX 24 /* of all lanes */

struct queue {
        pthread_mutex_t lock; /* protects all below; a leaf lock */
        pthread_cond_t wake;
        struct sfs_job *head, **tail;
        bool stop; /* end once empty */
};

struct worker {
        struct sfs_pool *pool;
        struct queue *queue; /* of a lane, or NULL for a service */
        sfs_service service;
        pthread_t thread;
        atomic_int tid; /* 0 until it runs, -1 once it has ended: its number may be given to others then */
};

struct sfs_pool {
        struct queue lanes[SFS_LANES];
        struct queue finished; /* jobs whose second half is to be run */
        struct worker workers[THREADS_MAX + SERVICES_MAX];
        unsigned n_workers; /* running; constant once sfs_pool_new() returned */
        pthread_t outer;
        struct sfs_keep *keep;
        atomic_int dead[DEAD_MAX]; /* walkers of dead workers; 0: none, or gone */
        atomic_uint n_dead;        /* places of DEAD in use */
        void *data;                /* of the services */

        /* For starting only. */
        const int *hidden_fds;
        unsigned n_hidden;
        const sfs_service *services;
        unsigned n_services;
        int start_error;
        atomic_int unshare_error;
        atomic_int gate; /* 0 while threads are started; then 1, or -1 if one could not be */
};

static void queue_init(struct queue *q)
{
        pthread_mutex_init(&q->lock, NULL);
        pthread_cond_init(&q->wake, NULL);
        q->head = NULL;
        q->tail = &q->head;
        q->stop = false;
}

static void queue_push(struct queue *q, struct sfs_job *job)
{
        job->next = NULL;
        pthread_mutex_lock(&q->lock);
        *q->tail = job;
        q->tail = &job->next;
        pthread_mutex_unlock(&q->lock);
        pthread_cond_signal(&q->wake); /* after the unlock: who wakes finds the lock free */
}

/* The next job; NULL when there is none and never will be. */
static struct sfs_job *queue_pop(struct queue *q)
{
        struct sfs_job *job;

        pthread_mutex_lock(&q->lock);
        while (!q->head && !q->stop)
                pthread_cond_wait(&q->wake, &q->lock);
        job = q->head;
        if (job) {
                q->head = job->next;
                if (!q->head)
                        q->tail = &q->head;
        }
        pthread_mutex_unlock(&q->lock);
        return job;
}

static void queue_stop(struct queue *q)
{
        pthread_mutex_lock(&q->lock);
        q->stop = true;
        pthread_cond_broadcast(&q->wake);
        pthread_mutex_unlock(&q->lock);
}

static void queue_destroy(struct queue *q)
{
        pthread_cond_destroy(&q->wake);
        pthread_mutex_destroy(&q->lock);
}

/* A service ends when its owner says so, who can't before all have started: where one did not, none begins. */
static bool may_serve(struct sfs_pool *p)
{
        int gate;

        while (!(gate = atomic_load(&p->gate)))
                sched_yield();
        return gate > 0;
}

static void *worker_main(void *arg)
{
        struct worker *w = arg;
        struct sfs_job *job;

        sfs_keep_add_walker(w->pool->keep, gettid());
        /* A working directory of its own: mounting moves it. */
        if (unshare(CLONE_FS) < 0)
                atomic_store(&w->pool->unshare_error, -errno);
        atomic_store(&w->tid, gettid());
        if (w->service && may_serve(w->pool))
                w->service(w->pool->data);
        while (!w->service && (job = queue_pop(w->queue))) {
                bool ends = job->done; /* without a second half it may be gone once the first is through */

                job->run(job);
                if (ends)
                        queue_push(&w->pool->finished, job);
        }
        atomic_store(&w->tid, -1);
        return NULL;
}

static int start_worker(struct sfs_pool *p, struct queue *queue, sfs_service service)
{
        struct worker *w = &p->workers[p->n_workers];
        int r;

        *w = (struct worker){ .pool = p, .queue = queue, .service = service };
        r = pthread_create(&w->thread, NULL, worker_main, w);
        if (r == 0)
                p->n_workers++;
        return -r;
}

#ifdef __SANITIZE_THREAD__
/*
 * ThreadSanitizer knows one table of descriptors only. It takes a close in the inner table for one in the outer, and no
 * longer sees that a reply comes before the next request. So the number stays taken, and it is not told.
 */
static int hide(int fd)
{
        int null = (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
        int r = 0;

        if (null < 0 || syscall(SYS_dup3, null, fd, O_CLOEXEC) < 0)
                r = -errno;
        if (null >= 0)
                (void)syscall(SYS_close, null);
        return r;
}
#else
/* Takes FD out of the inner table. The standard ones stay in use, but for nothing. */
static int hide(int fd)
{
        int null = fd <= STDERR_FILENO ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
        int r = 0;

        if (fd > STDERR_FILENO)
                return close(fd) < 0 ? -errno : 0;
        if (null < 0 || dup2(null, fd) < 0)
                r = -errno;
        if (null > STDERR_FILENO)
                close(null);
        return r;
}
#endif

/* The first inner thread: leaves the table of the FUSE workers, then starts the others, which share its own. */
static void *inner_main(void *arg)
{
        struct sfs_pool *p = arg;
        int r = 0;

        if (unshare(CLONE_FILES) < 0)
                r = -errno;
        for (unsigned i = 0; i < p->n_hidden && r == 0; i++)
                r = hide(p->hidden_fds[i]);
        for (int lane = 0; lane < SFS_LANES; lane++)
                for (unsigned i = 0; i < lane_threads[lane] && r == 0; i++)
                        r = start_worker(p, &p->lanes[lane], NULL);
        for (unsigned i = 0; i < p->n_services && r == 0; i++)
                r = start_worker(p, NULL, p->services[i]);
        p->start_error = r;
        return NULL;
}

static void *outer_main(void *arg)
{
        struct sfs_pool *p = arg;
        struct sfs_job *job;

        while ((job = queue_pop(&p->finished)))
                job->done(job);
        return NULL;
}

/* Once, before anything is received: nobody joins the dead later. */
static void find_dead(struct sfs_pool *p)
{
        pid_t tids[DEAD_MAX];
        unsigned n = sfs_keep_dead_walkers(p->keep, tids, DEAD_MAX);

        for (unsigned i = 0; i < n; i++)
                atomic_store(&p->dead[i], tids[i]);
        atomic_store(&p->n_dead, n);
}

bool sfs_pool_is_dead_walker(struct sfs_pool *p, pid_t tid)
{
        unsigned n = atomic_load(&p->n_dead);

        if (tid <= 0)
                return false; /* a caller from a PID namespace that is not below ours; 0 is a free place */
        for (unsigned i = 0; i < n; i++)
                if (atomic_load(&p->dead[i]) == tid)
                        return true;
        return false;
}

bool sfs_pool_bury(struct sfs_pool *p)
{
        pid_t tids[SFS_KEEP_WALKERS];
        unsigned n = atomic_load(&p->n_dead), alive, left = 0;

        if (!n)
                return false;
        alive = sfs_keep_dead_walkers(p->keep, tids, SFS_KEEP_WALKERS);
        for (unsigned i = 0; i < n; i++) {
                bool there = false;

                for (unsigned k = 0; k < alive; k++)
                        there = there || tids[k] == atomic_load(&p->dead[i]);
                if (!there)
                        atomic_store(&p->dead[i], 0);
                left += there;
        }
        if (!left)
                atomic_store(&p->n_dead, 0);
        return left;
}

int sfs_pool_new(const int *hidden_fds, unsigned n, const sfs_service *services, unsigned n_services, void *data,
                 struct sfs_keep *keep, struct sfs_pool **ret)
{
        struct sfs_pool *p = calloc(1, sizeof(*p));
        pthread_t inner;
        int r;

        if (!p)
                return -ENOMEM;
        for (int lane = 0; lane < SFS_LANES; lane++)
                queue_init(&p->lanes[lane]);
        queue_init(&p->finished);
        p->hidden_fds = hidden_fds;
        p->n_hidden = n;
        p->services = services;
        p->n_services = n_services < SERVICES_MAX ? n_services : SERVICES_MAX;
        p->data = data;
        p->keep = keep;
        find_dead(p);
        r = -pthread_create(&p->outer, NULL, outer_main, p);
        if (r < 0) {
                free(p);
                return r;
        }
        r = -pthread_create(&inner, NULL, inner_main, p);
        if (r == 0) {
                pthread_join(inner, NULL);
                r = p->start_error;
        }
        for (unsigned i = 0; i < p->n_workers; i++)
                while (!atomic_load(&p->workers[i].tid))
                        sched_yield();
        r = r < 0 ? r : atomic_load(&p->unshare_error);
        atomic_store(&p->gate, r < 0 ? -1 : 1);
        if (r < 0) {
                sfs_pool_free(p);
                return r;
        }
        *ret = p;
        return 0;
}

void sfs_pool_submit(struct sfs_pool *p, enum sfs_lane lane, struct sfs_job *job)
{
        queue_push(&p->lanes[lane], job);
}

bool sfs_pool_is_walker(const struct sfs_pool *p, pid_t tid)
{
        for (unsigned i = 0; i < p->n_workers; i++)
                if (atomic_load(&p->workers[i].tid) == tid)
                        return true;
        return false;
}

void sfs_pool_free(struct sfs_pool *p)
{
        if (!p)
                return;
        for (int lane = 0; lane < SFS_LANES; lane++)
                queue_stop(&p->lanes[lane]);
        for (unsigned i = 0; i < p->n_workers; i++)
                pthread_join(p->workers[i].thread, NULL);
        queue_stop(&p->finished);
        pthread_join(p->outer, NULL);
        for (int lane = 0; lane < SFS_LANES; lane++)
                queue_destroy(&p->lanes[lane]);
        queue_destroy(&p->finished);
        free(p);
}
