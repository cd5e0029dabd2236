/* SPDX-License-Identifier: Apache-2.0 */
#include "stress.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#define HISTORY 25

/* How often each kind of operation comes, in a thousand or so. */
static const int weight[OP_TYPES] = {
        [OP_PREPARE] = 180,     [OP_RENAME] = 200,      [OP_RMDIR] = 90,  [OP_LABEL_SET] = 40, [OP_LABEL_MAKE] = 20,
        [OP_LABEL_REMOVE] = 20, [OP_LABEL_RENAME] = 20, [OP_WRITE] = 110, [OP_APPEND] = 40,    [OP_UNLINK] = 40,
        [OP_MKDIR] = 40,        [OP_RMDIR_BELOW] = 15,  [OP_MOVE] = 30,   [OP_READ] = 60,      [OP_TOUCH] = 60,
        [OP_HOLD] = 40,         [OP_RELEASE] = 70,      [OP_TEXTS] = 15,  [OP_LIST] = 15,
};

static enum op_type random_type(struct rng *r)
{
        int sum = 0, at, type = 0;

        for (int i = 0; i < OP_TYPES; i++)
                sum += weight[i];
        for (at = rng_below(r, sum); at >= weight[type]; type++)
                at -= weight[type];
        return (enum op_type)type;
}

/* Now and then one that breaks the rules. */
static int random_name(struct rng *r)
{
        return rng_below(r, 40) ? rng_below(r, NAMES) : NAMES + rng_below(r, ODD);
}

static struct op random_op(struct stress *x, struct rng *r)
{
        static const unsigned flags[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
        struct op op = { .type = random_type(r), .stamp = x->next_stamp++ };
        bool verb = op.type == OP_PREPARE || op.type == OP_RENAME || op.type == OP_RMDIR;

        op.kind = rng_below(r, 8) < 5 ? ACTIVE : rng_below(r, KINDS);
        op.kind2 = rng_below(r, 8) < 5 ? COMMITTED : rng_below(r, KINDS);
        op.a = verb ? random_name(r) : rng_below(r, NAMES);
        op.b = random_name(r);
        op.x = rng_below(r, SHARED_FILES);
        op.y = rng_below(r, SHARED_FILES);
        switch (op.type) {
        case OP_PREPARE:
                if (rng_below(r, 3) == 0)
                        op.b = -1;
                break;
        case OP_RENAME:
                op.flags = flags[rng_below(r, 5)];
                break;
        case OP_RMDIR:
                op.kind = rng_below(r, KINDS);
                break;
        case OP_LABEL_SET:
        case OP_LABEL_MAKE:
        case OP_LABEL_REMOVE:
        case OP_LABEL_RENAME:
                op.kind = rng_below(r, KINDS);
                op.x = rng_below(r, SHARED_LABELS);
                op.y = rng_below(r, SHARED_LABELS);
                op.flags = flags[rng_below(r, 5)];
                break;
        case OP_READ:
        case OP_TOUCH:
        case OP_TEXTS:
        case OP_LIST:
                op.kind = rng_below(r, KINDS);
                op.flags = (unsigned)rng_below(r, TOUCH_WAYS);
                break;
        case OP_HOLD:
        case OP_RELEASE:
                op.kind = rng_below(r, KINDS);
                op.flags = (unsigned)rng_below(r, 4);
                op.y = rng_below(r, HOLDS);
                break;
        default:
                break;
        }
        return op;
}

static void tell_history(struct stress *x, const struct op *history, int n)
{
        char text[200];

        fprintf(stderr, "# the last operations, newest last:\n");
        for (int i = n < HISTORY ? 0 : n - HISTORY; i < n; i++) {
                op_describe(&history[i % HISTORY], text, sizeof(text));
                fprintf(stderr, "#   %s\n", text);
        }
        (void)x;
}

void single_phase(struct stress *x, uint64_t seed, int n)
{
        struct op history[HISTORY];
        struct rng r = { seed };
        struct model got;
        unsigned before = x->failed;
        int i;

        for (i = 0; i < n && x->failed == before; i++) {
                struct op op = random_op(x, &r);
                int want = model_apply(&x->model, &op), is;

                history[i % HISTORY] = op;
                if (want == EALREADY)
                        continue;
                is = real_apply(x, &op, want);
                x->done[op.type]++;
                x->good[op.type] += is == 0;
                if (is != want) {
                        char text[200];

                        op_describe(&op, text, sizeof(text));
                        complain(x, "%s: %s, where the model says %s", text, errno_name(is), errno_name(want));
                }
        }
        real_release_all(x);
        if (scan(x, &got))
                model_equal(x, &x->model, &got);
        if (x->failed != before) {
                tell_history(x, history, i);
                tell_log(x);
                fprintf(stderr, "# in a phase of one client of seed %ju\n", (uintmax_t)seed);
                x->model = got;
        }
}
