/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include "attach.h"
#include "handle.h"
#include "inherit.h"
#include "interrupt.h"
#include "keep.h"
#include "labelnode.h"
#include "layer.h"
#include "lastwords.h"
#include "log.h"
#include "loop.h"
#include "mountpoint.h"
#include "moves.h"
#include "ops.h"
#include "place.h"
#include "pool.h"
#include "recover.h"
#include "say.h"
#include "store.h"
#include "takeover.h"
#include "trash.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
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

#define LOOKS 20 /* in a second, for callers that were killed, while there are some that may be */

struct session {
        struct sfs sfs;
        const struct sfs_host *host;
        pthread_t control;
        atomic_bool ending; /* the control thread is to end */
        atomic_bool stop_sweep;
        pthread_mutex_t answer_lock; /* protects ANSWERED */
        pthread_cond_t answer_cond;
        bool answered; /* the mount answered its first request */
};

int sfs_complain(char *why, int error)
{
        sfs_say(stderr, "%s", why ? why : strerror(abs(error)));
        free(why);
        return 1;
}

int sfs_session_leave_terminal(void)
{
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (null >= 0) {
                dup2(null, STDIN_FILENO);
                dup2(null, STDOUT_FILENO);
                dup2(null, STDERR_FILENO);
                if (null > STDERR_FILENO)
                        close(null);
        }
        return chdir("/") < 0 ? -errno : 0;
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
                x->host->ready(x->host->data);
        sfs_attach_inherited(x->sfs.attach);
        pthread_mutex_lock(&x->answer_lock);
        x->answered = true;
        pthread_cond_broadcast(&x->answer_cond);
        pthread_mutex_unlock(&x->answer_lock);
        free(f);
}

/* ---- control: signals and the clock ---- */

/* True if something else lies on top of our mount, which is to stay then. */
static bool is_covered(const struct session *x)
{
        cleanup_free char *place = sfs_place_path(&x->sfs);

        return place && sfs_mountpoint_is_covered(place, x->sfs.dev);
}

static void unmount(struct session *x)
{
        if (is_covered(x)) {
                sfs_say(stderr,
                        "something else is mounted on top of %s and stays; the mount below it is dead: unmount both",
                        x->sfs.mnt);
                return;
        }
        if (sfs_place_unmount(x->sfs.mnt, x->sfs.dev, 0) < 0) {
                /* Somebody is in it: MNT_FORCE ends the connection, so that nobody waits for answers any more. */
                (void)sfs_place_unmount(x->sfs.mnt, x->sfs.dev, MNT_FORCE);
                (void)sfs_place_unmount(x->sfs.mnt, x->sfs.dev, MNT_DETACH);
        }
}

/* Takes the mount down while requests are still served. */
static void take_down(struct session *x)
{
        const struct timespec pause = { .tv_nsec = 5000000 };

        sfs_layers_stop(&x->sfs);
        sfs_attach_shutdown(x->sfs.attach);
        unmount(x);
        fuse_session_exit(x->sfs.se);
        /* Where another mount namespace has a copy of the mount, the connection lives on, and nothing ends the reads.
         */
        while (!atomic_load(&x->ending)) {
                sfs_loop_wake();
                nanosleep(&pause, NULL);
        }
}

/* A second, or until a signal comes, which is returned. Meanwhile those that were killed are let go. */
static int pass_second(struct session *x, const sigset_t *set)
{
        const struct timespec second = { .tv_sec = 1 }, moment = { .tv_nsec = 1000000000 / LOOKS };
        int sig = -1;

        for (unsigned i = 0; i < LOOKS && sig < 0; i++) {
                if (!sfs_interrupts_look(&x->sfs))
                        return sigtimedwait(set, NULL, &second);
                sig = sigtimedwait(set, NULL, &moment);
        }
        return sig;
}

static void *control_main(void *arg)
{
        struct session *x = arg;
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SFS_INTERRUPT_WAKE);
        while (!atomic_load(&x->ending)) {
                int sig = pass_second(x, &set);

                if (sig == SIGTERM || sig == SIGINT) {
                        take_down(x);
                        break;
                }
                sfs_takeover_tick(&x->sfs);
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
        sigaddset(&set, SFS_INTERRUPT_WAKE); /* wakes the control thread, also at the end */
        sigaddset(&set, SFS_LOOP_WAKE);
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

/* What the inner side must not hold: /dev/fuse, the pipe that tells our end, and the lock of the store. */
static int start_pool(struct session *x)
{
        static const sfs_service services[] = { service_trash, service_sweep };
        int hidden[6] = { fuse_session_fd(x->sfs.se), x->sfs.store->lock_fd };
        unsigned n = 2;

        if (x->host->hidden_fd >= 0)
                hidden[n++] = x->host->hidden_fd;
        for (int fd = STDIN_FILENO; x->host->background && fd <= STDERR_FILENO; fd++)
                hidden[n++] = fd;
        return sfs_pool_new(hidden, n, services, 2, x, x->sfs.keep, &x->sfs.pool);
}

static int serve(struct session *x)
{
        struct first_job *first = calloc(1, sizeof(*first));
        int r;

        r = first ? start_pool(x) : -ENOMEM;
        if (r < 0) {
                free(first);
                return r;
        }
        *first = (struct first_job){ .job = { run_first, done_first, NULL }, .x = x };
        sfs_pool_submit(x->sfs.pool, SFS_LANE_MOUNT, &first->job);
        r = -pthread_create(&x->control, NULL, control_main, x);
        if (r == 0) {
                r = sfs_loop_run(&x->sfs);
                sfs_attach_stop(x->sfs.attach);
                atomic_store(&x->ending, true);
                pthread_kill(x->control, SFS_INTERRUPT_WAKE);
                pthread_join(x->control, NULL);
        }
        atomic_store(&x->stop_sweep, true);
        atomic_store(&x->sfs.layers_stopped, true);
        pthread_mutex_lock(&x->answer_lock);
        pthread_cond_broadcast(&x->answer_cond);
        pthread_mutex_unlock(&x->answer_lock);
        strata_trash_stop(x->sfs.store);
        return r < 0 ? r : 0;
}

static int open_all(struct session *x, struct sfs_options *o, char **why)
{
        struct sfs *sfs = &x->sfs;
        int r = 0;

        sfs->mnt = strdup(o->mountpoint);
        sfs->se = sfs_session_new(&o->fuse, sfs);
        if (!sfs->mnt || !sfs->se)
                return -ENOMEM;
        r = strata_open(o->store, &o->config, &sfs->store, why);
        if (r == 0)
                r = sfs_mountpoint_check_store(sfs->mnt, sfs->store->path, why);
        if (r == 0)
                r = sfs_labels_new(sfs->keep, &sfs->labels);
        if (r == 0)
                r = sfs_attach_new(sfs, &sfs->attach);
        if (r == 0)
                r = sfs_takeover_begin(sfs);
        if (r == 0) {
                sfs_inherit_hand_over(sfs, o->inherited);
                sfs_inherit_free(o->inherited);
                o->inherited = NULL;
        }
        return r;
}

static int mount_session(struct session *x, const struct sfs_host *host)
{
        char path[32];
        int r;

        snprintf(path, sizeof(path), "/dev/fd/%d", host->fuse_fd);
        r = fuse_session_mount(x->sfs.se, host->fuse_fd < 0 ? x->sfs.mnt : path);
        if (r == 0)
                x->sfs.dev = host->keep ? host->keep->dev : sfs_mountpoint_device(x->sfs.mnt);
        return r;
}

static void session_init(struct session *x, const struct sfs_options *o, const struct sfs_host *host)
{
        struct sfs *sfs = &x->sfs;

        x->host = host;
        pthread_mutex_init(&x->answer_lock, NULL);
        pthread_cond_init(&x->answer_cond, NULL);
        pthread_mutex_init(&sfs->layers_lock, NULL);
        pthread_mutex_init(&sfs->moves_lock, NULL);
        pthread_mutex_init(&sfs->interrupted_lock, NULL);
        pthread_mutex_init(&sfs->adopted_lock, NULL);
        sfs->expire = o->expire;
        sfs->max_layer = o->max_layer;
        sfs->uid = getuid();
        sfs->gid = getgid();
        sfs->keep = host->keep;
        if (host->keep) {
                sfs_keep_begin(host->keep);
                sfs->generation = atomic_load(&host->keep->generation);
        }
}

static void log_start(struct session *x)
{
        if (x->host->no_keeper)
                strata_log_add(x->sfs.store->log, "start", "keeper", NULL, ENOSYS,
                               "%s: a kill of this program ends the mount, as with -o keeper=off", x->host->no_keeper);
        if (x->sfs.generation > 1)
                strata_log_add(x->sfs.store->log, "start", "worker", NULL, 0,
                               "process %d goes on where another one ended; it is number %u", (int)getpid(),
                               x->sfs.generation);
        sfs_lastwords_tell(x->sfs.store);
}

/*
 * Ends the connection. libfuse takes a descriptor with an error for that of a mount that is gone, and unmounts nothing:
 * lib/mount.c, fuse_kern_unmount(). A pipe without a reader has one.
 */
static bool break_connection(struct fuse_session *se)
{
        int fds[2];

        bool ret;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return false;
        ret = dup2(fds[1], fuse_session_fd(se)) >= 0;
        close(fds[0]);
        close(fds[1]);
        return ret;
}

/* What libfuse has mounted; of a mount that is covered only the connection ends. */
static void unmount_session(struct session *x)
{
        if (!is_covered(x) || break_connection(x->sfs.se))
                fuse_session_unmount(x->sfs.se);
}

/*
 * It can't serve, and a thread of the pool may wait for an answer already. A worker that has taken over leaves the
 * mount to the next one, and just ends; the first one has its keeper's mount end here.
 */
static void stop_waiting(struct session *x)
{
        if (x->host->fuse_fd >= 0 && x->sfs.generation > 1)
                _exit(1);
        if (x->host->fuse_fd >= 0 && !is_covered(x))
                (void)sfs_place_unmount(x->sfs.mnt, x->sfs.dev, MNT_FORCE | MNT_DETACH);
        unmount_session(x);
}

int sfs_session_run(struct sfs_options *o, const struct sfs_host *host)
{
        struct session x = { .host = host };
        struct sfs *sfs = &x.sfs;
        char *why = NULL;
        int r, status = 1;

        block_signals();
        raise_fd_limit();
        umask(0);
        session_init(&x, o, host);
        r = open_all(&x, o, &why);
        if (r < 0) {
                sfs_complain(why, r);
                goto out;
        }
        log_start(&x);
        if (mount_session(&x, host) < 0)
                goto out; /* libfuse has said why */
        r = serve(&x);
        if (r < 0) {
                sfs_complain(NULL, r);
                stop_waiting(&x);
        } else {
                status = 0;
        }
        sfs_pool_free(sfs->pool); /* its last jobs still reply, if to a connection that has ended */
        sfs_layers_free(sfs);
        unmount_session(&x);
        if (status == 0)
                sfs_attach_left(sfs->attach);
out:
        if (sfs->se)
                fuse_session_destroy(sfs->se);
        sfs_takeover_free(sfs);
        sfs_handles_free(sfs);
        sfs_attach_free(sfs->attach);
        sfs_labels_free(sfs->labels);
        sfs_moves_free(sfs);
        pthread_mutex_destroy(&sfs->layers_lock);
        pthread_mutex_destroy(&sfs->interrupted_lock);
        strata_close_store(sfs->store);
        free(sfs->mnt);
        return status;
}
