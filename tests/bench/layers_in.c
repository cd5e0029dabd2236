/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layers_in DIR REPS ITEMS LABEL ARCHIVE COMMAND [MNT]: imports of ARCHIVE against "COMMAND -C PLACE -xf ARCHIVE", turn
 * by turn, each in a fresh directory below DIR. With a mount MNT, whose store lies below DIR, they are "cp ARCHIVE
 * MNT/active/KEY/layer.tar": both sides are one process then. Without, they go through the engine: no process start is
 * counted on our side, one on theirs, a few milliseconds. Neither side waits for the disk at its end.
 */
#include "bench.h"

#include "layer_import.h"
#include "prepare.h"
#include "strata.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK (128 << 10) /* as the kernel hands writes to a FUSE program */

static void new_place(const char *dir, char ret[BENCH_PATH])
{
        bench_path(ret, "%s/XXXXXX", dir);
        if (!mkdtemp(ret))
                bench_die("can't make a directory in %s", dir);
}

static void feed(struct strata_import *m, const char *archive)
{
        int fd = open(archive, O_RDONLY | O_CLOEXEC), r = 0;
        char *chunk = malloc(CHUNK);
        ssize_t n = -1;

        if (fd < 0 || !chunk)
                bench_die("can't read %s", archive);
        while (r == 0 && (n = read(fd, chunk, CHUNK)) > 0)
                r = strata_import_write(m, chunk, (size_t)n);
        if (r == 0 && n == 0)
                r = strata_import_finish(m);
        if (r < 0 || n < 0)
                bench_die("import of %s: %s", archive, strata_import_why(m));
        free(chunk);
        close(fd);
}

static double time_import(const char *dir, const char *archive)
{
        const struct strata_config config = { 0 };
        char place[BENCH_PATH], *reason = NULL;
        struct strata_import *m;
        struct strata_info info;
        struct strata *s;
        const char *why;
        uint64_t id;
        double start, ret;

        new_place(dir, place);
        if (strata_open(place, &config, &s, &reason) < 0)
                bench_die("%s: %s", place, reason ? reason : "no store");
        if (strata_prepare(s, STRATA_ACTIVE, "k", "", 0, 0, &id, &why) < 0 || strata_entry_info(s, id, &info) < 0)
                bench_die("%s: can't prepare", place);
        bench_settle(dir);
        start = bench_now();
        if (strata_import_new(s, &info, 0, &m, &why) < 0)
                bench_die("%s: can't import", place);
        feed(m, archive);
        strata_import_free(m);
        ret = bench_now() - start;
        strata_close_store(s);
        return ret;
}

static double time_cp(const char *dir, const char *archive, const char *mnt, unsigned number)
{
        char entry[BENCH_PATH], file[BENCH_PATH];
        double start;

        bench_path(entry, "%s/active/in%u-%d", mnt, number, (int)getpid());
        bench_path(file, "%s/layer.tar", entry);
        if (mkdir(entry, 0755) < 0)
                bench_die("can't make %s", entry);
        bench_settle(dir);
        start = bench_now();
        bench_spawn((char *[]){ (char *)"cp", (char *)archive, file, NULL });
        return bench_now() - start;
}

static double time_other(const char *dir, const char *archive, const char *command)
{
        char place[BENCH_PATH];
        char *argv[] = { (char *)command, (char *)"-C", place, (char *)"-xf", (char *)archive, NULL };
        double start;

        new_place(dir, place);
        bench_settle(dir);
        start = bench_now();
        bench_spawn(argv);
        return bench_now() - start;
}

int main(int argc, char **argv)
{
        struct series s = { 0 };
        unsigned reps, items;

        if (argc != 7 && argc != 8)
                bench_die("usage: layers_in DIR REPS ITEMS LABEL ARCHIVE COMMAND [MNT]");
        reps = bench_number(argv[2], BENCH_MAX_REPS);
        items = bench_number(argv[3], 1000000);
        for (unsigned i = 0; i < reps; i++) {
                double other = i % 2 ? time_other(argv[1], argv[5], argv[6]) : 0;
                double ours = argc == 8 ? time_cp(argv[1], argv[5], argv[7], i) : time_import(argv[1], argv[5]);

                series_add(&s, ours, i % 2 ? other : time_other(argv[1], argv[5], argv[6]));
        }
        row_times(argv[4], &s, items, (struct target){ .high = strcmp(argv[6], "tar") == 0 ? 0.7 : 0 });
        return 0;
}
