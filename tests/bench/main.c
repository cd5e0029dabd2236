/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <stdio.h>
#include <string.h>

static const struct {
        const char *name;
        void (*run)(int argc, char **argv);
        int args;
        const char *usage;
} benches[] = {
        { "verbs", bench_verbs, 5,
          "SIDE SIDE REPS BATCH TARGET, a SIDE is mount:MNT:STORE, bare:DIR or bare-sync:DIR" },
        { "fill", bench_fill, 2, "MNT COUNT" },
        { "chain", bench_chain, 2, "MNT DEPTH" },
        { "dirty", bench_dirty, 5, "MNT DIR REPS MEGABYTES FILES" },
        { "fingerprint", bench_fingerprint, 5, "MNT MNT REPS MEGABYTES FILES" },
        { "many", bench_many, 4, "MNT DIR REPS FILES" },
        { "process", bench_process, 4, "MNT DIR REPS EACH" },
        { "tree", bench_tree, 2, "DIR REPS" },
        { "io", bench_io, 4, "DIR DIR REPS TAR" },
        { "touch", bench_touch, 4, "MNT DIR DEPTH REPS" },
        { "start", bench_start, 5, "PROGRAM STORE STORE MNT REPS" },
        { "size", bench_size, 4, "PROGRAM STORE MNT REPS" },
};

int main(int argc, char **argv)
{
        for (size_t i = 0; argc > 1 && i < sizeof(benches) / sizeof(*benches); i++)
                if (strcmp(argv[1], benches[i].name) == 0 && argc - 2 == benches[i].args) {
                        benches[i].run(argc - 1, argv + 1);
                        return 0;
                }
        for (size_t i = 0; i < sizeof(benches) / sizeof(*benches); i++)
                fprintf(stderr, "usage: bench %s %s\n", benches[i].name, benches[i].usage);
        return 2;
}
