/* SPDX-License-Identifier: Apache-2.0 */
#include "stress.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* `point ok DESC` or `point fail DESC` on stdout is what stress.sh makes test points of. */
static void point(bool ok, const char *desc)
{
        printf("point %s %s\n", ok ? "ok" : "fail", desc);
        fflush(stdout);
}

/* The leaves first, until nothing is left. */
static void remove_all(struct stress *x)
{
        struct model got;

        for (int round = 0; round < KINDS * NAMES; round++) {
                for (int n = 0; n < KINDS * NAMES; n++) {
                        const struct op op = { .type = OP_RMDIR, .kind = n / NAMES, .a = n % NAMES };
                        int want = model_apply(&x->model, &op);
                        int is = real_apply(x, &op, want);

                        if (is != want)
                                complain(x, "at the end, rmdir %s/%s: %s, where the model says %s",
                                         kind_folder[op.kind], name_of(op.a), errno_name(is), errno_name(want));
                }
        }
        if (scan(x, &got))
                model_equal(x, &x->model, &got);
}

static enum kill choose_kill(struct stress *x, const char *kills, unsigned round)
{
        bool keeper = program_worker(x) > 0;

        if (strcmp(kills, "none") == 0 || round % 3 == 0)
                return KILL_NONE;
        if (strcmp(kills, "worker") == 0)
                return keeper ? KILL_WORKER : KILL_NONE;
        if (strcmp(kills, "all") == 0)
                return KILL_ALL;
        return keeper && round % 3 == 1 ? KILL_WORKER : KILL_ALL;
}

static void run(struct stress *x, double seconds, const char *kills)
{
        double end = watch_now() + seconds;

        for (unsigned round = 0; x->failed == 0 && (round == 0 || watch_now() < end); round++) {
                uint64_t seed = x->seed + round * 1000003ull;
                enum kill kill;

                single_phase(x, seed, 400);
                if (x->failed || watch_now() > end)
                        break;
                kill = choose_kill(x, kills, round);
                many_phase(x, seed + 1, kill == KILL_ALL ? 900 : 1500, kill);
        }
}

static void tell_counts(const struct stress *x)
{
        static const char *const names[OP_TYPES] = {
                [OP_PREPARE] = "prepare", [OP_RENAME] = "rename/commit/exchange",
                [OP_RMDIR] = "rmdir",     [OP_WRITE] = "write",
                [OP_HOLD] = "hold",       [OP_LABEL_SET] = "label set",
        };
        unsigned long all = 0;
        char text[200];

        for (int i = 0; i < OP_TYPES; i++)
                all += x->done[i];
        fprintf(stderr,
                "# %lu operations, %lu of them by many clients at once; %lu quiet points; killed: %lu programs, %lu "
                "workers; walks told ESTALE: %lu\n",
                all, x->many_ops, x->quiet_points, x->kills, x->worker_kills, x->stale);
        op_describe(&x->slowest_op, text, sizeof(text));
        fprintf(stderr, "#   the slowest of many clients took %.0f ms: %s\n", x->slowest * 1000, text);
        for (int i = 0; i < OP_TYPES; i++)
                if (names[i])
                        fprintf(stderr, "#   %s: %lu, %lu succeeded\n", names[i], x->done[i], x->good[i]);
}

/* Everything is removed; then nothing may be left of it, neither in the kernel nor in the store nor in the program. */
static void check_leaks(struct stress *x)
{
        unsigned before = x->failed;
        int used, fresh, mounts;

        remove_all(x);
        point(x->failed == before, "all entries can be removed, leaves first");
        before = x->failed;
        point(program_settled(x, true), "no layer and no trash is left in the store");
        mounts = program_overlays(x);
        point(mounts == 0, "no mount is left");
        used = program_descriptors(x);
        point(program_stop(x), "the program ends with status 0");
        if (!program_start(x))
                return;
        fresh = program_descriptors(x);
        fprintf(stderr, "# descriptors: %d, of a program just started %d\n", used, fresh);
        point(used <= fresh + 12, "no descriptors are left open");
        (void)program_stop(x);
        point(x->failed == before, "nothing else was wrong at the end");
}

int main(int argc, char **argv)
{
        static struct stress x = { .next_stamp = 1 };

        if (argc != 8) {
                fprintf(stderr,
                        "usage: stress PROGRAM STORE MOUNTPOINT BASE OPTIONS SECONDS KILLS (with STRESS_SEED)\n");
                return 2;
        }
        x.program = argv[1];
        x.store = argv[2];
        x.mnt = argv[3];
        x.base = argv[4];
        x.options = argv[5];
        x.seed = getenv("STRESS_SEED") ? strtoull(getenv("STRESS_SEED"), NULL, 10) : (uint64_t)time(NULL);
        fprintf(stderr, "# replay with STRESS_SEED=%ju STRESS_SECONDS=%s STRESS_KILLS=%s\n", (uintmax_t)x.seed, argv[6],
                argv[7]);
        x.seconds = strtod(argv[6], NULL);
        watch_start(&x);
        if (!program_start(&x))
                return 1;
        run(&x, x.seconds, argv[7]);
        tell_counts(&x);
        point(x.failed == 0, "model and tree agree at every quiet point, and each answer is explained");
        /* A walk that meets two changes in a row may end with it: attach.h. More of them are a fault. */
        point(x.stale <= 1 + x.many_ops / 50000, "hardly any walk is told ESTALE");
        if (x.failed) {
                fprintf(stderr, "# %u disagreements; replay with STRESS_SEED=%ju\n", x.failed, (uintmax_t)x.seed);
                (void)program_stop(&x);
        } else {
                check_leaks(&x);
        }
        return x.failed != 0;
}
