/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include "attach.h"
#include "labelnode.h"
#include "mountpoint.h"
#include "moves.h"
#include "ops.h"
#include "pool.h"
#include "recover.h"
#include "store.h"
#include "trash.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct session {
        struct sfs sfs;
        void (*ready)(void *data);
        void *ready_data;
        pthread_t control;
        atomic_bool ending; /* the control thread is to end */
        atomic_bool stop_sweep;
        pthread_mutex_t answer_lock; /* protects ANSWERED */
        pthread_cond_t answer_cond;
        bool answered; /* the mount answered its first request */
};

static int complain(char *why, int error)
{
        fprintf(stderr, "stratafs: %s\n", why ? why : strerror(abs(error)));
        free(why);
        return 1;
}

/* ---- inner services ---- */

static void service_trash(void *data)
{
        struct session *x = data;

        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), 19); /* nobody waits for it */
        strata_trash_run(x->sfs.store);
}

/* After a crash: once the mount answers, so that the start is not slower for it. */
static void service_sweep(void *data)
{
        struct session *x = data;

        pthread_mutex_lock(&x->answer_lock);
        while (!x->answered && !atomic_load(&x->stop_sweep))
                pthread_cond_wait(&x->answer_cond, &x->answer_lock);
        pthread_mutex_unlock(&x->answer_lock);
        if (x->sfs.store->unclean)
                (void)strata_recover_sweep(x->sfs.store, &x->stop_sweep);
}

/* ---- the first answer ---- */

struct first_job {
        struct sfs_job job; /* first */
        struct session *x;
        bool answered;
};

static void run_first(struct sfs_job *job)
{
        struct first_job *f = (struct first_job *)job;
        char *path;
        struct stat st;

        if (asprintf(&path, "%s/version", f->x->sfs.mnt) < 0)
                return;
        f->answered = stat(path, &st) == 0;
        free(path);
}

static void done_first(struct sfs_job *job)
{
        struct first_job *f = (struct first_job *)job;
        struct session *x = f->x;

        if (f->answered)
                x->ready(x->ready_data);
        pthread_mutex_lock(&x->answer_lock);
        x->answered = true;
        pthread_cond_broadcast(&x->answer_cond);
        pthread_mutex_unlock(&x->answer_lock);
        free(f);
}

/* ---- control: signals and the clock ---- */

/* Takes the mount down while requests are still served. */
static void take_down(struct session *x)
{
        sfs_attach_shutdown(x->sfs.attach);
        if (umount2(x->sfs.mnt, UMOUNT_NOFOLLOW) < 0) {
                /* Somebody is in it: MNT_FORCE ends the connection, so that nobody waits for answers any more. */
                (void)umount2(x->sfs.mnt, MNT_FORCE | UMOUNT_NOFOLLOW);
                (void)umount2(x->sfs.mnt, MNT_DETACH | UMOUNT_NOFOLLOW);
        }
        fuse_session_exit(x->sfs.se);
}

static void *control_main(void *arg)
{
        struct session *x = arg;
        const struct timespec second = { .tv_sec = 1 };
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGUSR1);
        while (!atomic_load(&x->ending)) {
                int sig = sigtimedwait(&set, NULL, &second);

                if (sig == SIGTERM || sig == SIGINT) {
                        take_down(x);
                        break;
                }
                sfs_attach_tick(x->sfs.attach);
        }
        return NULL;
}

static void block_signals(void)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGHUP);
        sigaddset(&set, SIGUSR1); /* wakes the control thread at the end */
        sigaddset(&set, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* Deep directories and many callers take descriptors. */
static void raise_fd_limit(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &limit);
        }
}

/* ---- start, loop, end ---- */

static int serve(struct session *x, int hidden_fd)
{
        static const sfs_service services[] = { service_trash, service_sweep };
        int hidden[] = { fuse_session_fd(x->sfs.se), hidden_fd, STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO };
        struct fuse_loop_config *config;
        struct first_job *first = calloc(1, sizeof(*first));
        int r;

        r = first ? sfs_pool_new(hidden, hidden_fd < 0 ? 1 : 5, services, 2, x, &x->sfs.pool) : -ENOMEM;
        if (r < 0)
                return r;
        config = fuse_loop_cfg_create();
        *first = (struct first_job){ .job = { run_first, done_first, NULL }, .x = x };
        sfs_pool_submit(x->sfs.pool, SFS_LANE_MOUNT, &first->job);
        r = -pthread_create(&x->control, NULL, control_main, x);
        if (r == 0) {
                r = fuse_session_loop_mt(x->sfs.se, config);
                atomic_store(&x->ending, true);
                pthread_kill(x->control, SIGUSR1);
                pthread_join(x->control, NULL);
        }
        fuse_loop_cfg_destroy(config);
        atomic_store(&x->stop_sweep, true);
        pthread_mutex_lock(&x->answer_lock);
        pthread_cond_broadcast(&x->answer_cond);
        pthread_mutex_unlock(&x->answer_lock);
        strata_trash_stop(x->sfs.store);
        return r < 0 ? r : 0;
}

/* libfuse looks at the options first, so that a mistake there leaves no new store behind. */
static int open_session(struct sfs *sfs, struct sfs_options *o, char **why)
{
        char *store = NULL;
        int r = strata_store_check_path(o->store, why);

        if (r == 0) {
                store = sfs_mountpoint_real_place(o->store);
                if (!store)
                        r = asprintf(why, "can't make the store %s: %s", o->store, strerror(errno)) < 0 ? -ENOMEM
                                                                                                        : -ENOENT;
        }
        if (r == 0)
                r = strata_store_check_path(store, why);
        if (r == 0)
                r = sfs_mountpoint_check_store(sfs->mnt, store, why);
        if (r == 0)
                r = sfs_options_complete(o, store);
        free(store);
        if (r < 0)
                return r;
        sfs->se = fuse_session_new(&o->fuse, &sfs_ops, sizeof(sfs_ops), sfs);
        if (!sfs->se) {
                *why = strdup("can't go on with these options; see `stratafs -h`");
                return -EINVAL; /* libfuse has said which */
        }
        return 0;
}

static int open_all(struct session *x, struct sfs_options *o, char **why)
{
        struct sfs *sfs = &x->sfs;
        int r;

        r = sfs_mountpoint_prepare(o->mountpoint, &sfs->mnt, why);
        if (r == 0)
                r = open_session(sfs, o, why);
        if (r == 0)
                r = strata_open(o->store, &o->config, &sfs->store, why);
        if (r == 0)
                r = sfs_mountpoint_check_store(sfs->mnt, sfs->store->path, why);
        if (r == 0)
                r = sfs_labels_new(&sfs->labels);
        if (r == 0)
                r = sfs_attach_new(sfs, &sfs->attach);
        return r;
}

int sfs_session_run(struct sfs_options *o, void (*ready)(void *data), void *data, int hidden_fd)
{
        struct session x = { .ready = ready, .ready_data = data };
        struct sfs *sfs = &x.sfs;
        char *why = NULL;
        int r, status = 1;

        pthread_mutex_init(&x.answer_lock, NULL);
        pthread_cond_init(&x.answer_cond, NULL);
        pthread_mutex_init(&sfs->moves_lock, NULL);
        block_signals();
        raise_fd_limit();
        umask(0);
        sfs->expire = o->expire;
        sfs->max_layer = o->max_layer;
        sfs->uid = getuid();
        sfs->gid = getgid();
        r = open_all(&x, o, &why);
        if (r < 0) {
                if (sfs->se || r != -EINVAL || !why || !strstr(why, "these options"))
                        complain(why, r);
                else
                        free(why);
                goto out;
        }
        if (fuse_session_mount(sfs->se, sfs->mnt) < 0)
                goto out; /* libfuse has said why */
        r = serve(&x, hidden_fd);
        if (r < 0) {
                complain(NULL, r);
                fuse_session_unmount(sfs->se); /* or the pool's threads would wait for answers */
        } else {
                status = 0;
        }
        sfs_pool_free(sfs->pool); /* its last jobs still reply, if to a connection that has ended */
        fuse_session_unmount(sfs->se);
out:
        if (sfs->se)
                fuse_session_destroy(sfs->se);
        sfs_attach_free(sfs->attach);
        sfs_labels_free(sfs->labels);
        sfs_moves_free(sfs);
        strata_close_store(sfs->store);
        free(sfs->mnt);
        return status;
}
