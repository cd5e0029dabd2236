/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commits that have something to write: of dirty files against a bare syncfs of as many, with fingerprints against
 * none kept, of many files against none; and mkdir(1), the verb as a process.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static void make_dir(const char *path)
{
        if (mkdir(path, 0755) < 0)
                bench_die("mkdir %s: %s", path, strerror(errno));
}

static void write_files(const char *dir, unsigned files, size_t each)
{
        char path[BENCH_PATH];

        for (unsigned i = 0; i < files; i++) {
                bench_path(path, "%s/f%u", dir, i);
                bench_file(path, each);
        }
}

static double commit(const char *mnt, const char *key)
{
        char path[BENCH_PATH], to[BENCH_PATH];
        double start;

        bench_path(path, "%s/active/%s", mnt, key);
        bench_path(to, "%s/snapshots/%s", mnt, key);
        start = bench_now();
        if (rename(path, to) < 0)
                bench_die("rename %s: %s", path, strerror(errno));
        return bench_now() - start;
}

/* Commits KEY after writing FILES files of EACH bytes, or after only looking at it. */
static double commit_written(const char *mnt, const char *key, unsigned files, size_t each)
{
        char path[BENCH_PATH];
        struct stat st;

        bench_path(path, "%s/active/%s", mnt, key);
        make_dir(path);
        bench_path(path, "%s/active/%s/fs", mnt, key);
        if (stat(path, &st) < 0)
                bench_die("stat %s: %s", path, strerror(errno));
        write_files(path, files, each);
        return commit(mnt, key);
}

static double sync_written(const char *dir, const char *key, unsigned files, size_t each)
{
        char path[BENCH_PATH];
        double start, took;
        int fd;

        bench_path(path, "%s/%s", dir, key);
        make_dir(path);
        write_files(path, files, each);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        start = bench_now();
        if (fd < 0 || syncfs(fd) < 0)
                bench_die("syncfs %s: %s", path, strerror(errno));
        took = bench_now() - start;
        close(fd);
        return took;
}

void bench_dirty(int argc, char **argv)
{
        unsigned reps = bench_number(argv[3], BENCH_MAX_REPS);
        unsigned megabytes = bench_number(argv[4], 100000), files = bench_number(argv[5], 100000);
        size_t each = ((size_t)megabytes << 20) / files;
        struct series series = { .n = 0 };
        char label[64], key[32];

        (void)argc;
        for (unsigned rep = 0; rep <= reps; rep++) {
                double took[2] = { 0 };

                snprintf(key, sizeof(key), "dirty%u", rep);
                for (unsigned turn = 0; turn < 2; turn++) {
                        bench_settle(argv[2]);
                        if ((rep + turn) % 2)
                                took[1] = sync_written(argv[2], key, files, each);
                        else
                                took[0] = commit_written(argv[1], key, files, each);
                }
                if (rep > 0)
                        series_add(&series, took[0], took[1]);
        }
        snprintf(label, sizeof(label), "commit of %u MB in %u files", megabytes, files);
        row_times(label, &series, 1, (struct target){ .high = 1.05 });
}

void bench_fingerprint(int argc, char **argv)
{
        unsigned reps = bench_number(argv[3], BENCH_MAX_REPS);
        unsigned megabytes = bench_number(argv[4], 100000), files = bench_number(argv[5], 1000000);
        size_t each = ((size_t)megabytes << 20) / files;
        struct series series = { .n = 0 };
        char label[64], key[32];

        (void)argc;
        for (unsigned rep = 0; rep <= reps; rep++) {
                double took[2];

                snprintf(key, sizeof(key), "fingerprint%u-%u", files, rep);
                for (unsigned turn = 0; turn < 2; turn++) {
                        unsigned which = (rep + turn) % 2;

                        bench_settle(argv[2]);
                        took[which] = commit_written(argv[1 + which], key, files, each);
                }
                if (rep > 0)
                        series_add(&series, took[0], took[1]);
        }
        snprintf(label, sizeof(label), "commit of %u MB in %u files", megabytes, files);
        row_times(label, &series, 1, (struct target){ .high = 1.15 });
}

/*
 * As commit_written(), with the kernel's part alone: the superblock of a volatile overlay made read-only, which drops
 * what is cached of its names, and unmounted.
 */
static double freeze_written(const char *dir, const char *key, unsigned files, size_t each)
{
        static const char *const folders[] = { "lower", "upper", "work", "fs" };
        char path[BENCH_PATH], options[4 * BENCH_PATH];
        double start;
        int fd;

        for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
                bench_path(path, "%s/%s-%s", dir, key, folders[i]);
                make_dir(path);
        }
        snprintf(options, sizeof(options),
                 "lowerdir=%s/%s-lower,upperdir=%s/%s-upper,workdir=%s/%s-work,"
                 "index=off,metacopy=off,redirect_dir=off,volatile",
                 dir, key, dir, key, dir, key);
        if (mount("bench", path, "overlay", 0, options) < 0)
                bench_die("mount %s with %s: %s", path, options, strerror(errno));
        write_files(path, files, each);

        start = bench_now();
        fd = fspick(AT_FDCWD, path, FSPICK_CLOEXEC);
        if (fd < 0 || fsconfig(fd, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0 ||
            fsconfig(fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
                bench_die("make %s read-only: %s", path, strerror(errno));
        close(fd);
        if (umount2(path, MNT_DETACH) < 0)
                bench_die("umount %s: %s", path, strerror(errno));
        return bench_now() - start;
}

void bench_many(int argc, char **argv)
{
        unsigned reps = bench_number(argv[3], BENCH_MAX_REPS), files = bench_number(argv[4], 10000000);
        static struct series by_empty, by_freeze;
        char label[64], key[32];

        (void)argc;
        for (unsigned rep = 0; rep <= reps; rep++) {
                double took[3];

                for (unsigned turn = 0; turn < 3; turn++) {
                        unsigned which = (rep + turn) % 3;

                        bench_settle(argv[2]);
                        snprintf(key, sizeof(key), "many%u-%u", rep, which);
                        took[which] = which == 2 ? freeze_written(argv[2], key, files, 100)
                                                 : commit_written(argv[1], key, which ? 0 : files, 100);
                }
                if (rep == 0)
                        continue;
                series_add(&by_empty, took[0], took[1]);
                series_add(&by_freeze, took[0], took[2]);
        }
        snprintf(label, sizeof(label), "%u files, against none", files);
        row_times(label, &by_empty, 1, (struct target){ .high = 1.2 });
        snprintf(label, sizeof(label), "%u files, against a bare freeze", files);
        row_times(label, &by_freeze, 1, (struct target){ 0 });
}

static double run_mkdir(const char *dir, unsigned i)
{
        char path[BENCH_PATH];
        char *const argv[] = { (char *)"mkdir", path, NULL };
        double start;

        bench_path(path, "%s/p%u", dir, i);
        start = bench_now();
        bench_spawn(argv);
        return bench_now() - start;
}

void bench_process(int argc, char **argv)
{
        unsigned reps = bench_number(argv[3], BENCH_MAX_REPS), each = bench_number(argv[4], 100000);
        struct series series = { .n = 0 };
        char active[BENCH_PATH], label[64];

        (void)argc;
        bench_path(active, "%s/active", argv[1]);
        for (unsigned rep = 0; rep < reps; rep++) {
                double took[2] = { 0 };

                for (unsigned i = 0; i < each; i++)
                        for (unsigned turn = 0; turn < 2; turn++) {
                                unsigned which = (i + turn) % 2;

                                took[which] += run_mkdir(which ? argv[2] : active, rep * each + i);
                        }
                series_add(&series, took[0], took[1]);
        }
        snprintf(label, sizeof(label), "mkdir(1), mean of %u", each);
        row_times(label, &series, each, (struct target){ .high = 1.5 });
}
