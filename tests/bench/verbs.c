/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prepare, commit and remove a second: mkdir(2), rename(2) and rmdir(2) on a mount against the bare system calls
 * that no store of this layout can do without, from one thread, with the deletion of removed files in a second one.
 */
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct side {
        const char *mount; /* NULL: bare system calls in STORE */
        const char *store;
        bool sync;

        /* bare only */
        int fd, snapshots_fd;
        pthread_mutex_t lock;
        pthread_cond_t wake;
        unsigned trashed, deleted; /* ids below are in trash, are gone; under lock */
};

enum { PREPARE, COMMIT, REMOVE, REMOVE_ALL, PAIR, LIFE, LIFE_ALL, N_PHASES };

static void check(int r, const char *what, const char *path)
{
        if (r < 0)
                bench_die("%s %s: %s", what, path, strerror(errno));
}

static void bare_meta(int fd, const char *path)
{
        static const char meta[200] = "bench";
        int meta_fd = openat(fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

        check(meta_fd, "create", path);
        if (write(meta_fd, meta, sizeof(meta)) != sizeof(meta))
                bench_die("write %s: %s", path, strerror(errno));
        close(meta_fd);
}

static void bare_prepare(struct side *s, unsigned id)
{
        char path[64], target[64];

        snprintf(path, sizeof(path), "layers/%u", id);
        check(mkdirat(s->fd, path, 0755), "mkdir", path);
        snprintf(path, sizeof(path), "layers/%u/fs", id);
        check(mkdirat(s->fd, path, 0755), "mkdir", path);
        snprintf(path, sizeof(path), "layers/%u/work", id);
        check(mkdirat(s->fd, path, 0755), "mkdir", path);
        snprintf(path, sizeof(path), "layers/%u/meta", id);
        bare_meta(s->fd, path);
        snprintf(target, sizeof(target), "../layers/%u", id);
        snprintf(path, sizeof(path), "active/k%u", id);
        check(symlinkat(target, s->fd, path), "symlink", path);
}

static void bare_commit(struct side *s, unsigned id)
{
        char path[64], to[64];

        snprintf(path, sizeof(path), "layers/%u/meta.new", id);
        snprintf(to, sizeof(to), "layers/%u/meta", id);
        bare_meta(s->fd, path);
        check(renameat(s->fd, path, s->fd, to), "rename", path);
        if (s->sync)
                check(syncfs(s->fd), "syncfs", s->store);
        snprintf(path, sizeof(path), "active/k%u", id);
        snprintf(to, sizeof(to), "snapshots/k%u", id);
        check(renameat2(s->fd, path, s->fd, to, RENAME_NOREPLACE), "rename", path);
        if (s->sync)
                check(fsync(s->snapshots_fd), "fsync", s->store);
}

static void bare_remove(struct side *s, unsigned id)
{
        char path[64], to[64];

        snprintf(path, sizeof(path), "snapshots/k%u", id);
        check(unlinkat(s->fd, path, 0), "unlink", path);
        snprintf(path, sizeof(path), "layers/%u", id);
        snprintf(to, sizeof(to), "trash/%u", id);
        check(renameat(s->fd, path, s->fd, to), "rename", path);
        pthread_mutex_lock(&s->lock);
        s->trashed = id + 1;
        pthread_cond_broadcast(&s->wake);
        pthread_mutex_unlock(&s->lock);
}

static void *bare_delete(void *data)
{
        struct side *s = data;
        char path[64];

        for (;;) {
                unsigned id;

                pthread_mutex_lock(&s->lock);
                while (s->deleted == s->trashed)
                        pthread_cond_wait(&s->wake, &s->lock);
                id = s->deleted;
                pthread_mutex_unlock(&s->lock);

                snprintf(path, sizeof(path), "trash/%u/meta", id);
                check(unlinkat(s->fd, path, 0), "unlink", path);
                snprintf(path, sizeof(path), "trash/%u/fs", id);
                check(unlinkat(s->fd, path, AT_REMOVEDIR), "rmdir", path);
                snprintf(path, sizeof(path), "trash/%u/work", id);
                check(unlinkat(s->fd, path, AT_REMOVEDIR), "rmdir", path);
                snprintf(path, sizeof(path), "trash/%u", id);
                check(unlinkat(s->fd, path, AT_REMOVEDIR), "rmdir", path);

                pthread_mutex_lock(&s->lock);
                s->deleted = id + 1;
                pthread_cond_broadcast(&s->wake);
                pthread_mutex_unlock(&s->lock);
        }
        return NULL;
}

static void bare_open(struct side *s)
{
        static const char *const folders[] = { "active", "snapshots", "layers", "trash" };
        pthread_t thread;

        check(s->fd = open(s->store, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open", s->store);
        for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
                check(mkdirat(s->fd, folders[i], 0755), "mkdir", folders[i]);
        check(s->snapshots_fd = openat(s->fd, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open", s->store);
        pthread_mutex_init(&s->lock, NULL);
        pthread_cond_init(&s->wake, NULL);
        if (pthread_create(&thread, NULL, bare_delete, s))
                bench_die("no thread");
        pthread_detach(thread);
}

static void side_open(struct side *s, char *arg)
{
        *s = (struct side){ 0 };
        if (strncmp(arg, "mount:", 6) == 0) {
                char *colon = strchr(arg + 6, ':');

                if (!colon)
                        bench_die("'%s' names no store", arg);
                *colon = '\0';
                s->mount = arg + 6;
                s->store = colon + 1;
                return;
        }
        s->sync = strncmp(arg, "bare-sync:", 10) == 0;
        if (!s->sync && strncmp(arg, "bare:", 5) != 0)
                bench_die("'%s' is not a side", arg);
        s->store = strchr(arg, ':') + 1;
        bare_open(s);
}

static void mount_step(struct side *s, unsigned phase, unsigned i)
{
        char path[BENCH_PATH], to[BENCH_PATH];

        switch (phase) {
        case PREPARE:
                snprintf(path, sizeof(path), "%s/active/k%u", s->mount, i);
                check(mkdir(path, 0755), "mkdir", path);
                break;
        case COMMIT:
                snprintf(path, sizeof(path), "%s/active/k%u", s->mount, i);
                snprintf(to, sizeof(to), "%s/snapshots/k%u", s->mount, i);
                check(rename(path, to), "rename", path);
                break;
        default:
                snprintf(path, sizeof(path), "%s/snapshots/k%u", s->mount, i);
                check(rmdir(path), "rmdir", path);
        }
}

/* PHASE of the entries FIRST to FIRST + N. */
static double side_batch(struct side *s, unsigned phase, unsigned first, unsigned n)
{
        static void (*const bare_step[])(struct side * s, unsigned id) = { bare_prepare, bare_commit, bare_remove };
        double start = bench_now();

        for (unsigned i = 0; i < n; i++)
                if (s->mount)
                        mount_step(s, phase, first + i);
                else
                        bare_step[phase](s, first + i);
        return bench_now() - start;
}

static bool trash_empty(const char *store)
{
        char path[BENCH_PATH];
        struct dirent *entry;
        bool empty = true;
        DIR *dir;

        bench_path(path, "%s/trash", store);
        dir = opendir(path);
        if (!dir)
                bench_die("open %s: %s", path, strerror(errno));
        while (empty && (entry = readdir(dir)))
                empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
        closedir(dir);
        return empty;
}

/* Until the background deletion is through, so that the other side is not timed beside it. */
static void side_rest(struct side *s)
{
        double limit = bench_now() + 60;

        if (s->mount) {
                while (!trash_empty(s->store)) {
                        if (bench_now() > limit)
                                bench_die("%s/trash is not emptied", s->store);
                        usleep(200);
                }
                return;
        }
        pthread_mutex_lock(&s->lock);
        while (s->deleted != s->trashed)
                pthread_cond_wait(&s->wake, &s->lock);
        pthread_mutex_unlock(&s->lock);
}

/* PHASE of batch REP on both sides, who is first by turns: until the last call has returned, until nothing is left. */
static void both_batches(struct side sides[2], unsigned phase, unsigned rep, unsigned batch, double took[2],
                         double took_all[2])
{
        for (unsigned turn = 0; turn < 2; turn++) {
                unsigned which = (rep + turn) % 2;
                double start;

                bench_settle(sides[which].store);
                start = bench_now();
                took[which] = side_batch(&sides[which], phase, rep * batch, batch);
                if (phase == REMOVE)
                        side_rest(&sides[which]);
                took_all[which] = bench_now() - start;
        }
}

/*
 * Removals come after all else: ext4 gives no inode out again for minutes after its deletion, and creating files near
 * many deleted ones costs a search that would hide everything else. The first round of each warms up.
 */
void bench_verbs(int argc, char **argv)
{
        static const char *const labels[] = { "prepare",           "commit",         "remove",
                                              "remove, all gone",  "prepare+commit", "prepare+commit+remove",
                                              "the same, all gone" };
        unsigned reps = bench_number(argv[3], BENCH_MAX_REPS - 1), batch = bench_number(argv[4], 100000);
        struct target t = { .low = strtod(argv[5], NULL) };
        static struct series series[N_PHASES];
        struct side sides[2];

        (void)argc;
        side_open(&sides[0], argv[1]);
        side_open(&sides[1], argv[2]);
        for (unsigned rep = 0; rep <= reps; rep++) {
                double prepare[2], commit[2], all[2];

                both_batches(sides, PREPARE, rep, batch, prepare, all);
                both_batches(sides, COMMIT, rep, batch, commit, all);
                if (rep == 0)
                        continue;
                series_add(&series[PREPARE], prepare[0], prepare[1]);
                series_add(&series[COMMIT], commit[0], commit[1]);
                series_add(&series[PAIR], prepare[0] + commit[0], prepare[1] + commit[1]);
        }
        for (unsigned rep = 0; rep <= reps; rep++) {
                double remove[2], all[2];

                both_batches(sides, REMOVE, rep, batch, remove, all);
                if (rep == 0)
                        continue;
                series_add(&series[REMOVE], remove[0], remove[1]);
                series_add(&series[REMOVE_ALL], all[0], all[1]);
                series_add(&series[LIFE], series[PAIR].ours[rep - 1] + remove[0],
                           series[PAIR].other[rep - 1] + remove[1]);
                series_add(&series[LIFE_ALL], series[PAIR].ours[rep - 1] + all[0],
                           series[PAIR].other[rep - 1] + all[1]);
        }
        for (unsigned phase = 0; phase < N_PHASES; phase++)
                row_rates(labels[phase], &series[phase], batch, t);
}

/* COUNT committed snapshots named s1 and so on. */
void bench_fill(int argc, char **argv)
{
        unsigned count = bench_number(argv[2], 10000000);
        char path[BENCH_PATH], to[BENCH_PATH];

        (void)argc;
        for (unsigned i = 1; i <= count; i++) {
                bench_path(path, "%s/active/s%u", argv[1], i);
                bench_path(to, "%s/snapshots/s%u", argv[1], i);
                check(mkdir(path, 0755), "mkdir", path);
                check(rename(path, to), "rename", path);
        }
}

/* Committed snapshots c1, c2 on top of c1 and so on up to cDEPTH; what is there already is kept. */
void bench_chain(int argc, char **argv)
{
        unsigned depth = bench_number(argv[2], 500);
        char path[BENCH_PATH], to[BENCH_PATH];

        (void)argc;
        for (unsigned i = 1; i <= depth; i++) {
                bench_path(to, "%s/snapshots/c%u", argv[1], i);
                if (access(to, F_OK) == 0)
                        continue;
                if (i == 1)
                        bench_path(path, "%s/active/c1", argv[1]);
                else
                        bench_path(path, "%s/active/c%u@c%u", argv[1], i, i - 1);
                check(mkdir(path, 0755), "mkdir", path);
                bench_path(path, "%s/active/c%u", argv[1], i);
                check(rename(path, to), "rename", path);
        }
}
