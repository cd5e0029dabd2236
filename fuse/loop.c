/* SPDX-License-Identifier: Apache-2.0 */
#include "loop.h"

#include "keep.h"
#include "label.h"
#include "pool.h"
#include "takeover.h"
#include "util/turn.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 10 /* as libfuse has them at most */

/* What a request may be: data, in pages, and what comes before it, in bytes. libfuse 3.14 has the same limits. */
#define PAGES_MAX 256
#define HEADER_MAX 4096

/* Linux 6.9, include/uapi/linux/fuse.h; the headers at hand may be older. */
#define NOTIFY_RESEND 7
#define UNIQUE_RESEND (UINT64_C(1) << 63)

/* What this thread is at. Per thread, as libfuse hands no place for it through to the handlers. */
static _Thread_local struct sfs_loop_at current;

uint64_t sfs_loop_unique(void)
{
        return current.unique;
}

bool sfs_loop_resent(void)
{
        return current.resent;
}

struct sfs_loop_at sfs_loop_turn_to(struct sfs_loop_at at)
{
        struct sfs_loop_at before = current;

        current = at;
        return before;
}

int sfs_loop_resend(int fd)
{
        const struct fuse_out_header out = { .len = sizeof(out), .error = NOTIFY_RESEND };

        return write(fd, &out, sizeof(out)) < 0 ? -errno : 0;
}

/*
 * A thread of a dead worker, asleep in the midst of a system call until it is answered. EINTR ends that call before it
 * comes to anything, and is one of the two errors for which the kernel keeps the name that was asked about.
 */
static bool is_from_the_dead(struct sfs *sfs, const struct fuse_in_header *in)
{
        struct fuse_out_header out = { .len = sizeof(out), .error = -EINTR, .unique = in->unique };

        if ((in->opcode != FUSE_LOOKUP && in->opcode != FUSE_GETATTR) ||
            !sfs_pool_is_dead_walker(sfs->pool, (pid_t)in->pid))
                return false;
        return write(fuse_session_fd(sfs->se), &out, sizeof(out)) >= 0 || errno == ENOENT;
}

static void keep_init(struct sfs_keep *k, const struct fuse_buf *buf)
{
        if (!k || buf->size > sizeof(k->init) || atomic_load(&k->init_size))
                return;
        memcpy(k->init, buf->mem, buf->size);
        atomic_store(&k->init_size, buf->size);
}

static void process(struct sfs *sfs, struct fuse_buf *buf)
{
        const struct fuse_in_header *in = buf->mem;

        /* Not through a pipe: op_init() sees to that. */
        if (!(buf->flags & FUSE_BUF_IS_FD) && buf->size >= sizeof(*in)) {
                if (is_from_the_dead(sfs, in))
                        return;
                if (in->opcode == FUSE_INIT)
                        keep_init(sfs->keep, buf);
                current.unique = in->unique & ~UNIQUE_RESEND;
                current.resent = in->unique & UNIQUE_RESEND;
        }
        fuse_session_process_buf(sfs->se, buf);
        current = (struct sfs_loop_at){ 0 };
}

/* A request received before the loop ran. */
struct first {
        struct fuse_buf buf;
        struct first *next;
};

struct loop {
        struct sfs *sfs;
        struct strata_turn *turn;          /* or NULL */
        atomic_uint client, client_before; /* the last two threads that asked for something */
        pthread_mutex_t lock;              /* protects FIRST; a leaf lock */
        struct first *first;
};

static struct first *take_first(struct loop *l)
{
        struct first *f;

        pthread_mutex_lock(&l->lock);
        f = l->first;
        if (f)
                l->first = f->next;
        pthread_mutex_unlock(&l->lock);
        return f;
}

static void free_first(struct first *f)
{
        free(f->buf.mem);
        free(f);
}

static bool is_next_ready(int fd)
{
        struct pollfd p = { .fd = fd, .events = POLLIN };

        return poll(&p, 1, 0) > 0 && (p.revents & POLLIN);
}

/*
 * True for a request that may keep this thread while another one can be served, so that somebody else is to receive
 * that one: a commit, which syncs, and whatever takes longer than the wake-up of a thread if more has come already.
 */
static bool is_slow(struct sfs *sfs, const struct fuse_buf *buf)
{
        const struct fuse_in_header *in = buf->mem;

        switch (in->opcode) {
        case FUSE_RENAME:
        case FUSE_RENAME2:
                return sfs->store->config.durable || is_next_ready(fuse_session_fd(sfs->se));
        case FUSE_LOOKUP:
        case FUSE_GETATTR:
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_INTERRUPT:
        case FUSE_RELEASE:
        case FUSE_RELEASEDIR:
                return false;
        default:
                return is_next_ready(fuse_session_fd(sfs->se));
        }
}

/* Only to end a read(2): see sfs_loop_wake(). */
static void wake(int sig)
{
        (void)sig;
}

/*
 * HOW: SIG_BLOCK or SIG_UNBLOCK, for this thread. Only who receives lets the signal in: the kernel picks one thread of
 * those that would take it, and goes on picking the same one.
 */
static void mask_wake(int how)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SFS_LOOP_WAKE);
        pthread_sigmask(how, &set, NULL);
}

/* As strata_turn_take(). */
static enum strata_turn_seat take_turn(struct loop *l)
{
        enum strata_turn_seat ret;

        mask_wake(SIG_BLOCK);
        ret = strata_turn_take(l->turn);
        mask_wake(SIG_UNBLOCK);
        return ret;
}

void sfs_loop_wake(void)
{
        (void)kill(getpid(), SFS_LOOP_WAKE);
}

unsigned sfs_loop_max_write(void)
{
        return PAGES_MAX * (unsigned)sysconf(_SC_PAGESIZE);
}

/*
 * Room for one request. Its pages are there before anything is received, as far as requests
 * reach whose caller must not notice our death: a label's value. Where the kernel has to make one while it copies a
 * request and we are being killed, it answers that request with EIO (fs/fuse/dev.c, fuse_dev_do_read()) instead of
 * handing it to the next worker. To be freed.
 */
static void *new_room(size_t *size)
{
        const size_t page = (size_t)sysconf(_SC_PAGESIZE);
        char *ret;

        *size = sfs_loop_max_write() + HEADER_MAX;
        ret = malloc(*size);
        if (ret)
                memset(ret, 0, STRATA_LABEL_MAX + HEADER_MAX + page);
        return ret;
}

/*
 * As fuse_session_receive_buf(), into BUF's memory of ROOM bytes: > 0, 0 when the mount is gone, or -errno. -EINTR also
 * for a request that was taken back before it came here.
 */
static int receive(struct fuse_session *se, struct fuse_buf *buf, size_t room)
{
        ssize_t n = read(fuse_session_fd(se), buf->mem, room);

        if (n < 0 && errno == ENODEV)
                return 0;
        if (n < 0)
                return errno == ENOENT || errno == EAGAIN ? -EINTR : -errno;
        if ((size_t)n < sizeof(struct fuse_in_header))
                return -EIO;
        buf->size = (size_t)n;
        buf->flags = 0;
        return (int)n;
}

/* One that asks, then another one, then the first again: they are at work at the same time. */
static void look_at_client(struct loop *l, const struct fuse_buf *buf)
{
        const struct fuse_in_header *in = buf->mem;
        unsigned last = atomic_load_explicit(&l->client, memory_order_relaxed);

        if (in->pid == 0 || in->pid == last)
                return;
        if (in->pid == atomic_load_explicit(&l->client_before, memory_order_relaxed))
                strata_turn_open(l->turn);
        atomic_store_explicit(&l->client_before, last, memory_order_relaxed);
        atomic_store_explicit(&l->client, in->pid, memory_order_relaxed);
}

static void *loop_main(void *arg)
{
        struct loop *l = arg;
        struct fuse_session *se = l->sfs->se;
        size_t room;
        struct fuse_buf buf = { .mem = new_room(&room) };
        enum strata_turn_seat seat = STRATA_TURN_NONE;
        struct first *f;
        uint64_t work = 0;
        int r;

        while ((f = take_first(l))) {
                process(l->sfs, &f->buf);
                free_first(f);
        }
        while (buf.mem && !fuse_session_exited(se) && (seat || (seat = take_turn(l)))) {
                r = receive(se, &buf, room);
                if (r == -EINTR)
                        continue;
                if (r <= 0) {
                        fuse_session_exit(se);
                        break;
                }
                look_at_client(l, &buf);
                if (seat == STRATA_TURN_MINE) {
                        work = strata_turn_work(l->turn);
                        if (is_slow(l->sfs, &buf))
                                strata_turn_pass(l->turn, work);
                }
                process(l->sfs, &buf);
                if (seat == STRATA_TURN_MINE ? !strata_turn_rest(l->turn, work) : !strata_turn_is_open(l->turn))
                        seat = STRATA_TURN_NONE;
        }
        strata_turn_end(l->turn); /* nobody is to wait for a turn that nobody gives on */
        free(buf.mem);
        return NULL;
}

/* ---- the first moments of a takeover ---- */

/* True if BUF is a request of now: the kernel puts those that it hands out again before all that wait. */
static bool is_new(const struct fuse_buf *buf)
{
        const struct fuse_in_header *in = buf->mem;

        return !(in->unique & UNIQUE_RESEND) && in->opcode != FUSE_FORGET && in->opcode != FUSE_BATCH_FORGET &&
               in->opcode != FUSE_INTERRUPT;
}

/* Puts a copy of BUF at *END; false when out of memory. */
static bool put_aside(const struct fuse_buf *buf, struct first ***end)
{
        struct first *f = calloc(1, sizeof(*f));

        if (f && buf->size)
                f->buf.mem = malloc(buf->size);
        if (!f || !f->buf.mem) {
                free(f);
                return false;
        }
        memcpy(f->buf.mem, buf->mem, buf->size);
        f->buf.size = buf->size;
        **end = f;
        *end = &f->next;
        return true;
}

/*
 * Receives all that the dead worker had not answered before any of it is processed: only then it is known what of its
 * notes is still to be done, and what it had answered in its last instant.
 */
static void receive_first(struct loop *l)
{
        struct fuse_session *se = l->sfs->se;
        size_t room;
        struct fuse_buf buf = { .mem = new_room(&room) };
        struct first **end = &l->first;

        while (buf.mem && is_next_ready(fuse_session_fd(se)) && receive(se, &buf, room) > 0) {
                const struct fuse_in_header *in = buf.mem;

                if (in->unique & UNIQUE_RESEND)
                        (void)sfs_keep_resumed(l->sfs->keep, in->unique & ~UNIQUE_RESEND);
                if (!put_aside(&buf, &end))
                        process(l->sfs, &buf);
                if (is_new(&buf))
                        break;
        }
        free(buf.mem);
        sfs_takeover_settle(l->sfs);
}

/* The last worker is dead; nothing was received yet. */
static int take_over(struct loop *l)
{
        struct sfs_keep *k = l->sfs->keep;
        struct fuse_buf buf = { .size = k ? atomic_load(&k->init_size) : 0 };
        char init[SFS_KEEP_INIT];
        int r;

        if (!k || l->sfs->generation < 2)
                return 0;
        if (buf.size) {
                /* The reply is refused with ENOENT if a worker before has given it. */
                memcpy(init, k->init, buf.size);
                buf.mem = init;
                fuse_session_process_buf(l->sfs->se, &buf);
        }
        r = sfs_loop_resend(fuse_session_fd(l->sfs->se));
        if (r == 0)
                receive_first(l);
        return r;
}

int sfs_loop_run(struct sfs *sfs)
{
        const struct sigaction action = { .sa_handler = wake };
        struct loop l = { .sfs = sfs };
        pthread_t threads[THREADS];
        struct first *f;
        unsigned n = 0;
        int r;

        (void)strata_turn_new(&l.turn); /* without it all receive, which is only slower */
        pthread_mutex_init(&l.lock, NULL);
        (void)sigaction(SFS_LOOP_WAKE, &action, NULL);
        r = take_over(&l);
        while (n < THREADS && r == 0) {
                r = -pthread_create(&threads[n], NULL, loop_main, &l);
                if (r == 0)
                        n++;
        }
        if (n)
                r = 0; /* fewer do as well */
        for (unsigned i = 0; i < n; i++)
                pthread_join(threads[i], NULL);
        while ((f = take_first(&l)))
                free_first(f);
        pthread_mutex_destroy(&l.lock);
        strata_turn_end(l.turn);
        strata_turn_free(l.turn);
        return r;
}
