/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I/O below fs/ against an overlay of the same lower layer mounted by hand: each workload turn by turn on both, by
 * absolute paths and by paths relative to a working directory inside. Lists of paths are made before the clock runs.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The lower layer, made by "tree". */
#define FOLDERS 40
#define FILES 50 /* in each folder */
#define SMALL 1024
#define BIG (32 << 20)
#define COPIED 100 /* files that a repetition copies up */
#define CREATED 1000
#define WRITTEN (16 << 20)

/* Where a workload runs: PREFIX is "" with the working directory at the root, or the root's path and "/". */
struct place {
        char prefix[BENCH_PATH];
        const char *root;
        const char *tar;
        unsigned serial; /* of this repetition; names files and folders that must be fresh */
};

struct paths {
        char **list;
        unsigned n;
};

static void fail(const char *what, const char *path)
{
        bench_die("%s %s: %s", what, path, strerror(errno));
}

static struct paths paths_new(unsigned n)
{
        struct paths p = { .list = calloc(n, sizeof(*p.list)), .n = n };

        if (!p.list)
                bench_die("out of memory");
        return p;
}

static void paths_free(struct paths *p)
{
        for (unsigned i = 0; i < p->n; i++)
                free(p->list[i]);
        free(p->list);
}

/* The I-th path becomes PREFIX, FOLDER and its number, "/", FILE and its number. */
static void paths_set(struct paths *p, unsigned i, const char *prefix, const char *folder, unsigned folder_number,
                      const char *file, unsigned file_number)
{
        if (asprintf(&p->list[i], "%s%s%u/%s%u", prefix, folder, folder_number, file, file_number) < 0)
                bench_die("out of memory");
}

static struct paths walk_paths(const struct place *p)
{
        struct paths paths = paths_new(FOLDERS * FILES);

        for (unsigned i = 0; i < paths.n; i++)
                paths_set(&paths, i, p->prefix, "walk/d", i / FILES, "f", i % FILES);
        return paths;
}

static double work_stat(const struct place *p)
{
        struct paths paths = walk_paths(p);
        double start = bench_now();
        struct stat st;

        for (unsigned round = 0; round < 10; round++)
                for (unsigned i = 0; i < paths.n; i++)
                        if (lstat(paths.list[i], &st) < 0)
                                fail("stat", paths.list[i]);
        start = bench_now() - start;
        paths_free(&paths);
        return start;
}

static int visit(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)path;
        (void)st;
        (void)ftw;
        return type == FTW_NS || type == FTW_DNR;
}

static double work_walk(const struct place *p)
{
        char path[BENCH_PATH];
        double start;

        bench_path(path, "%swalk", p->prefix);
        start = bench_now();
        for (unsigned round = 0; round < 5; round++)
                if (nftw(path, visit, 16, FTW_PHYS))
                        fail("walk", path);
        return bench_now() - start;
}

static void read_all(const char *path)
{
        static char block[1 << 16];
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        if (fd < 0)
                fail("open", path);
        while ((n = read(fd, block, sizeof(block))) > 0)
                ;
        if (n < 0)
                fail("read", path);
        close(fd);
}

static double work_read_small(const struct place *p)
{
        struct paths paths = walk_paths(p);
        double start = bench_now();

        for (unsigned round = 0; round < 3; round++)
                for (unsigned i = 0; i < paths.n; i++)
                        read_all(paths.list[i]);
        start = bench_now() - start;
        paths_free(&paths);
        return start;
}

static double work_read_big(const struct place *p)
{
        char path[BENCH_PATH];
        double start;

        bench_path(path, "%sbig", p->prefix);
        start = bench_now();
        for (unsigned round = 0; round < 4; round++)
                read_all(path);
        return bench_now() - start;
}

static double work_create(const struct place *p)
{
        struct paths paths = paths_new(CREATED);
        char dir[BENCH_PATH];
        double start;

        bench_path(dir, "%snew%u", p->prefix, p->serial);
        for (unsigned i = 0; i < CREATED; i++)
                paths_set(&paths, i, p->prefix, "new", p->serial, "f", i);
        if (mkdir(dir, 0755) < 0)
                fail("mkdir", dir);
        start = bench_now();
        for (unsigned i = 0; i < CREATED; i++)
                bench_file(paths.list[i], 0);
        start = bench_now() - start;
        paths_free(&paths);
        return start;
}

/* Renames what work_create left. */
static double work_rename(const struct place *p)
{
        struct paths from = paths_new(CREATED), to = paths_new(CREATED);
        double start;

        for (unsigned i = 0; i < CREATED; i++) {
                paths_set(&from, i, p->prefix, "new", p->serial, "f", i);
                paths_set(&to, i, p->prefix, "new", p->serial, "g", i);
        }
        start = bench_now();
        for (unsigned i = 0; i < CREATED; i++)
                if (rename(from.list[i], to.list[i]) < 0)
                        fail("rename", from.list[i]);
        start = bench_now() - start;
        paths_free(&from);
        paths_free(&to);
        return start;
}

static double work_write(const struct place *p)
{
        char path[BENCH_PATH];
        double start;

        bench_path(path, "%sout%u", p->prefix, p->serial);
        start = bench_now();
        bench_file(path, WRITTEN);
        return bench_now() - start;
}

static double work_copy_up(const struct place *p)
{
        struct paths paths = paths_new(COPIED);
        double start;

        for (unsigned i = 0; i < COPIED; i++)
                paths_set(&paths, i, p->prefix, "up", p->serial, "f", i);
        start = bench_now();
        for (unsigned i = 0; i < COPIED; i++) {
                int fd = open(paths.list[i], O_WRONLY | O_CLOEXEC);

                if (fd < 0)
                        fail("open", paths.list[i]);
                close(fd);
        }
        start = bench_now() - start;
        paths_free(&paths);
        return start;
}

static double work_untar(const struct place *p)
{
        char dir[BENCH_PATH];
        char *const argv[] = { (char *)"tar", (char *)"-xf", (char *)p->tar, (char *)"-C", dir, NULL };
        double start;

        bench_path(dir, "%star%u", p->prefix, p->serial);
        if (mkdir(dir, 0755) < 0)
                fail("mkdir", dir);
        start = bench_now();
        bench_spawn(argv);
        return bench_now() - start;
}

static const struct {
        const char *name;
        double (*run)(const struct place *p);
        bool dirties; /* wants a disk at rest before; the others are quick, and get more repetitions */
} works[] = {
        { "stat", work_stat, false },
        { "walk", work_walk, false },
        { "read 1 KB files", work_read_small, false },
        { "read 32 MB", work_read_big, false },
        { "create", work_create, true },
        { "rename", work_rename, true },
        { "write 16 MB", work_write, true },
        { "copy-up", work_copy_up, true },
        { "untar", work_untar, true },
};

static void make_folder(const char *dir, const char *name, unsigned number, unsigned files, size_t len)
{
        char path[BENCH_PATH];

        bench_path(path, "%s/%s%u", dir, name, number);
        if (mkdir(path, 0755) < 0)
                fail("mkdir", path);
        for (unsigned i = 0; i < files; i++) {
                bench_path(path, "%s/%s%u/f%u", dir, name, number, i);
                bench_file(path, len);
        }
}

/* The lower layer for "io" with as many repetitions. */
void bench_tree(int argc, char **argv)
{
        unsigned reps = bench_number(argv[2], BENCH_MAX_REPS);
        char path[BENCH_PATH];

        (void)argc;
        bench_path(path, "%s/walk", argv[1]);
        if (mkdir(path, 0755) < 0)
                fail("mkdir", path);
        for (unsigned i = 0; i < FOLDERS; i++)
                make_folder(path, "d", i, FILES, SMALL);
        for (unsigned i = 0; i < 2 * (reps + 1); i++)
                make_folder(argv[1], "up", i, COPIED, 4 * SMALL);
        bench_path(path, "%s/big", argv[1]);
        bench_file(path, BIG);
}

/* Once on P, in its working directory. */
static double run_at(struct place *p, size_t work)
{
        double took;

        if (works[work].dirties)
                bench_settle(p->root);
        if (!p->prefix[0] && chdir(p->root) < 0)
                fail("chdir", p->root);
        took = works[work].run(p);
        if (chdir("/") < 0)
                fail("chdir", "/");
        return took;
}

static void compare_work(size_t work, struct place places[2], unsigned first, unsigned reps, const char *how)
{
        unsigned rounds = works[work].dirties || 3 * reps > BENCH_MAX_REPS ? reps : 3 * reps;
        struct series series = { .n = 0 };
        char label[64];

        for (unsigned rep = 0; rep <= rounds; rep++) {
                double took[2] = { 0 };

                for (unsigned turn = 0; turn < 2; turn++) {
                        unsigned which = (rep + turn) % 2;

                        places[which].serial = first + rep;
                        took[which] = run_at(&places[which], work);
                }
                /* The first round warms up. */
                if (rep > 0)
                        series_add(&series, took[0], took[1]);
        }
        snprintf(label, sizeof(label), "%s, %s", works[work].name, how);
        row_times(label, &series, 1, (struct target){ 0.97, 1.03 });
}

void bench_io(int argc, char **argv)
{
        struct place places[2] = { { .root = argv[1], .tar = argv[4] }, { .root = argv[2], .tar = argv[4] } };
        unsigned reps = bench_number(argv[3], BENCH_MAX_REPS);

        (void)argc;
        for (size_t work = 0; work < sizeof(works) / sizeof(*works); work++) {
                for (unsigned i = 0; i < 2; i++)
                        bench_path(places[i].prefix, "%s/", places[i].root);
                compare_work(work, places, 0, reps, "absolute");
                for (unsigned i = 0; i < 2; i++)
                        places[i].prefix[0] = '\0';
                compare_work(work, places, reps + 1, reps, "from inside");
        }
}
