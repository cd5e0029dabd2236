/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One layer out, in the engine alone: layers_out DIR REPS SOURCE. Copies SOURCE into a fresh store below DIR, then
 * compares, turn by turn, our archive to a file there with GNU tar and bsdtar of the same files, and `changes` with
 * find -ls. All of it from the page cache.
 */
#include "bench.h"

#include "changes.h"
#include "commit.h"
#include "layer_export.h"
#include "prepare.h"
#include "strata.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void check(int r, const char *what)
{
        if (r < 0)
                bench_die("%s: %s", what, strerror(-r));
}

static void put(int fd, const void *data, size_t len, const char *out)
{
        if (write(fd, data, len) != (ssize_t)len)
                bench_die("%s: can't write", out);
}

/* As the program hands it out: what is made already without a copy. */
static double export_to(struct strata *s, const struct strata_info *info, const char *out)
{
        static char buf[256 << 10];
        double begin = bench_now();
        struct strata_export *x;
        const void *data;
        ssize_t n = 1;
        int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        check(fd, out);
        check(strata_export_new(s, info, &x), "export");
        while (n > 0) {
                if (strata_export_peek(x, sizeof(buf), &data)) {
                        put(fd, data, sizeof(buf), out);
                        strata_export_skip(x, sizeof(buf));
                } else if ((n = strata_export_read(x, buf, sizeof(buf))) > 0) {
                        put(fd, buf, (size_t)n, out);
                }
        }
        check((int)n, "export");
        strata_export_free(x);
        close(fd);
        return bench_now() - begin;
}

static double spawn_timed(char *const argv[])
{
        double begin = bench_now();

        bench_spawn(argv);
        return bench_now() - begin;
}

static double changes_of(struct strata *s, const struct strata_info *info)
{
        struct strata_buf buf = STRATA_BUF_INIT;
        double begin = bench_now();

        check(strata_changes_get(s, info, &buf), "changes");
        strata_buf_free(&buf);
        return bench_now() - begin;
}

struct setting {
        char store[BENCH_PATH], fs[BENCH_PATH], ours[BENCH_PATH], theirs[BENCH_PATH], known[BENCH_PATH];
        struct strata *s;
        struct strata_info info;
};

static void make_snapshot(struct setting *g, const char *dir, char *source)
{
        const struct strata_config config = { 0 };
        char *why = NULL;
        const char *reason = NULL;
        uint64_t id;

        bench_path(g->store, "%s/store", dir);
        check(strata_open(g->store, &config, &g->s, &why), g->store);
        check(strata_prepare(g->s, STRATA_ACTIVE, "k", "", 0, 0, &id, &reason), "prepare");
        bench_path(g->fs, "%s/layers/%" PRIu64 "/fs", g->store, id);
        bench_path(g->known, "%s/layers/%" PRIu64 "/export", g->store, id);
        bench_spawn((char *[]){ "cp", "-a", source, g->fs, NULL });
        check(strata_commit(g->s, "k", "n", &reason), "commit");
        check(strata_entry_get(g->s, STRATA_COMMITTED, "n", &g->info), "n");
        bench_path(g->ours, "%s/ours.tar", dir);
        bench_path(g->theirs, "%s/theirs.tar", dir);
        bench_settle(dir);
}

/* So that the next export need not hash. */
static void remember_digest(struct setting *g)
{
        char diffid[STRATA_DIFFID_MAX];
        uint64_t size;

        if (!strata_export_known(g->s, &g->info, &size, diffid))
                export_to(g->s, &g->info, "/dev/null");
}

enum side {
        HASHED,
        GNU,
        OURS,
        BSD,
        CHANGES,
        FIND,
        SIDES,
};

/* Seconds of one side, with nothing left to write from before. */
static double run_side(struct setting *g, const char *dir, enum side side)
{
        char *const gnu[] = { "tar", "-C", g->fs, "-cf", g->theirs, ".", NULL };
        char *const bsdtar[] = { "bsdtar", "-C", g->fs, "-cf", g->theirs, ".", NULL };
        char *const find[] = { "find", g->fs, "-ls", NULL };

        unlink(g->ours);
        unlink(g->theirs);
        bench_settle(dir);
        switch (side) {
        case HASHED:
                unlink(g->known);
                return export_to(g->s, &g->info, g->ours);
        case OURS:
                remember_digest(g);
                return export_to(g->s, &g->info, g->ours);
        case GNU:
                return spawn_timed(gnu);
        case BSD:
                return spawn_timed(bsdtar);
        case CHANGES:
                return changes_of(g->s, &g->info);
        default:
                return spawn_timed(find);
        }
}

int main(int argc, char **argv)
{
        struct series hashed = { 0 }, known = { 0 }, bsd = { 0 }, bsd_hashed = { 0 }, changes = { 0 };
        struct setting g = { 0 };
        struct rusage usage;
        unsigned reps;

        if (argc != 4) {
                fprintf(stderr, "usage: layers_out DIR REPS SOURCE\n");
                return 2;
        }
        reps = bench_number(argv[2], BENCH_MAX_REPS);
        make_snapshot(&g, argv[1], argv[3]);
        for (unsigned i = 0; i < reps; i++) {
                double took[SIDES];

                /* Turned each time: whoever comes first pays for what was written before. */
                for (unsigned k = 0; k < SIDES; k++)
                        took[(i + k) % SIDES] = run_side(&g, argv[1], (i + k) % SIDES);
                series_add(&known, took[OURS], took[GNU]);
                series_add(&hashed, took[HASHED], took[GNU]);
                series_add(&bsd, took[OURS], took[BSD]);
                series_add(&bsd_hashed, took[HASHED], took[BSD]);
                series_add(&changes, took[CHANGES], took[FIND]);
        }
        row_times("export, digest known, and GNU tar", &known, 1, (struct target){ 0, 1.0 });
        row_times("export with its SHA-256, and GNU tar", &hashed, 1, (struct target){ 0, 1.2 });
        row_times("export, digest known, and bsdtar", &bsd, 1, (struct target){ 0 });
        row_times("export with its SHA-256, and bsdtar", &bsd_hashed, 1, (struct target){ 0 });
        row_times("changes, and find -ls", &changes, 1, (struct target){ 0, 1.5 });
        getrusage(RUSAGE_SELF, &usage);
        row_value("memory at most", (double)usage.ru_maxrss / 1024, " MiB", (struct target){ 0, 64 });
        strata_close_store(g.s);
        return 0;
}
