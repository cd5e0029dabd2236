/* SPDX-License-Identifier: Apache-2.0 */
/* One operation, and all its points. */
#include "failpoints.h"

#include "util/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define POINTS_MAX 3000 /* an operation with more calls than that does not end */

const int errnos[ERRNOS] = { EIO, ENOSPC, ENOMEM, EINTR };

void show_difference(const char *a, const char *b)
{
        char x[] = "/tmp/failpoints.XXXXXX", y[] = "/tmp/failpoints.XXXXXX", command[128];
        FILE *f, *g;
        FILE *diff;
        char line[512];
        int n = 0;

        f = fdopen(mkstemp(x), "w");
        g = fdopen(mkstemp(y), "w");
        if (f && g) {
                fputs(a, f);
                fputs(b, g);
        }
        if (f)
                fclose(f);
        if (g)
                fclose(g);
        snprintf(command, sizeof(command), "diff %s %s", x, y);
        diff = popen(command, "r");
        while (diff && n++ < 20 && fgets(line, sizeof(line), diff)) {
                line[strcspn(line, "\n")] = '\0';
                diag("    %s", line);
        }
        if (diff)
                (void)pclose(diff);
        unlink(x);
        unlink(y);
}

struct sweep {
        struct fail *x;
        const struct op *op;
        int error;
        unsigned long n; /* the call that is to fail */
        char hit[512];
        char where[128];
        unsigned long failed, succeeded, wrong;
        struct strata_buf clean, done; /* rough states: without it, and after it */
};

static void wrong(struct sweep *s, const char *what, const char *detail)
{
        s->wrong++;
        if (s->wrong < 10)
                diag("%s, %s of call %lu, %s: %s%s", s->op->name, errno_name(s->error), s->n, s->hit, what,
                     detail ? detail : "");
}

/* Waits until nothing is left of what was removed; a removal makes the trash be tried again. */
static bool settle(struct fail *x, struct strata_buf *left)
{
        for (int tries = 0; tries < 1500; tries++) {
                left->len = 0;
                if (state_is_settled(x, true, left))
                        return true;
                if (tries % 100 == 99) {
                        char path[4096];

                        snprintf(path, sizeof(path), "%s/active/kick", x->mnt);
                        if (mkdir(path, 0755) == 0)
                                (void)rmdir(path);
                }
                pause_ms(2);
        }
        return false;
}

/* What is deleted in the background may have one open for a moment. */
static void check_counts(struct sweep *s)
{
        struct strata_buf left = STRATA_BUF_INIT;
        struct fail *x = s->x;
        unsigned fds = program_fds(x);

        if (!state_is_settled(x, s->op->background, &left) && !settle(x, &left))
                wrong(s, "not one layer a link, or trash:", left.data);
        for (int tries = 0; tries < 1000 && fds > x->n_fds; tries++) {
                pause_ms(2);
                fds = program_fds(x);
        }
        if (fds > x->n_fds) {
                char text[64];

                snprintf(text, sizeof(text), "%u, %u before", fds, x->n_fds);
                wrong(s, "descriptors: ", text);
                x->n_fds = fds;
        }
        strata_buf_free(&left);
}

/* The errno is the one of the call, but for what memory and threads are short of. */
static bool is_allowed(struct sweep *s, int r)
{
        enum call_class class = inject_class(s->x->inject);

        return r == s->error || ((class == CALL_MEMORY || class == CALL_THREAD) && (r == ENOMEM || r == EAGAIN));
}

static void trust(struct fail *x)
{
        char path[4096];
        FILE *f;

        snprintf(path, sizeof(path), "%s/active/k/labels/stratafs.trust", x->mnt);
        f = fopen(path, "w");
        if (f) {
                fputs("yes\n", f);
                fclose(f);
        }
}

static void check_failure(struct sweep *s, int r, const char *before)
{
        struct strata_buf after = STRATA_BUF_INIT, lines = STRATA_BUF_INIT;
        struct fail *x = s->x;

        s->failed++;
        if (!is_allowed(s, r))
                wrong(s, "it failed with ", errno_name(r));
        if (!state_log_tells(x, r, &lines))
                wrong(s, "no line in the log; instead: ", lines.data);
        state_get(x, s->op->touches, &after);
        if (strcmp(before, after.data) != 0) {
                wrong(s, "it failed, yet changed something", NULL);
                if (s->wrong < 10)
                        show_difference(before, after.data);
        }
        r = s->op->run(x);
        if (r == EIO && strstr(s->hit, "syncfs")) { /* whose bytes were lost nobody knows: its user has to say */
                trust(x);
                r = s->op->run(x);
        }
        if (r)
                wrong(s, "it does not work again: ", errno_name(r));
        strata_buf_free(&after);
        strata_buf_free(&lines);
}

/* What may not have reached the disk is no success; an interrupted sync is done again. */
static void check_success(struct sweep *s)
{
        s->succeeded++;
        if (!s->op->background && s->error != EINTR && inject_class(s->x->inject) == CALL_SYNC)
                wrong(s, "it succeeded", NULL);
}

static void check_same(struct sweep *s, const struct strata_buf *want, const char *what)
{
        struct strata_buf now = STRATA_BUF_INIT;

        state_get(s->x, true, &now);
        if (strcmp(now.data, want->data) != 0) {
                wrong(s, what, NULL);
                if (s->wrong < 10)
                        show_difference(want->data, now.data);
        }
        strata_buf_free(&now);
}

/* False if there is no such point any more. */
static bool point(struct sweep *s)
{
        struct strata_buf before = STRATA_BUF_INIT, left = STRATA_BUF_INIT;
        struct fail *x = s->x;
        unsigned long seen;
        const char *hit;
        int r;

        snprintf(s->where, sizeof(s->where), "%s, %s of call %lu", s->op->name, errno_name(s->error), s->n);
        watch(x, s->where);
        s->op->setup(x);
        if (s->op->background && !settle(x, &left))
                give_up("%s: nothing settles: %s", s->op->name, left.data);
        state_get(x, s->op->touches, &before);
        state_log_mark(x);
        inject_order(x->inject, s->n, s->error, s->op->background);
        r = s->op->run(x);
        for (int tries = 0; s->op->background && tries < 1000 && !inject_is_hit(x->inject); tries++) {
                left.len = 0;
                if (state_is_settled(x, true, &left))
                        break;
                pause_ms(1);
        }
        hit = inject_end(x->inject, &seen);
        snprintf(s->hit, sizeof(s->hit), "%s", hit ? hit : "none");
        if (r && hit)
                check_failure(s, r, before.data);
        else if (hit)
                check_success(s);
        if (hit && x->tell)
                diag("%s: %s, %s", s->where, s->hit, r ? errno_name(r) : "succeeds");
        if (r && !hit)
                wrong(s, "it does not work without a failure: ", errno_name(r));
        check_same(s, &s->done, hit && !r ? "it succeeded, but not whole" : "not what it is to be");
        s->op->undo(x);
        check_counts(s);
        check_same(s, &s->clean, "not as before");
        strata_buf_free(&before);
        strata_buf_free(&left);
        return hit;
}

/* Once without a failure, for the states to compare with. */
static void learn(struct sweep *s)
{
        struct strata_buf left = STRATA_BUF_INIT;
        struct fail *x = s->x;
        int r;

        watch(x, s->op->name);
        if (!settle(x, &left))
                give_up("%s: nothing settles: %s", s->op->name, left.data);
        s->clean.len = s->done.len = 0;
        state_get(x, true, &s->clean);
        s->op->setup(x);
        r = s->op->run(x);
        if (r)
                give_up("%s does not work at all: %s", s->op->name, errno_name(r));
        if (!s->op->background || settle(x, &left))
                state_get(x, true, &s->done);
        s->op->undo(x);
        if (!settle(x, &left))
                give_up("%s: nothing settles: %s", s->op->name, left.data);
        x->n_fds = program_fds(x);
        strata_buf_free(&left);
}

void op_sweep(struct fail *x, const struct op *op)
{
        struct sweep s = { .x = x, .op = op, .clean = STRATA_BUF_INIT, .done = STRATA_BUF_INIT };
        struct strata_buf left = STRATA_BUF_INIT;
        unsigned long last = 0;

        learn(&s);
        for (unsigned i = 0; i < ERRNOS; i++) {
                s.error = errnos[i];
                s.n = 1 + (x->offset + i * (x->stride / ERRNOS + 1)) % x->stride;
                while (s.n < POINTS_MAX && point(&s)) {
                        x->points++;
                        s.n += x->stride;
                }
                last = s.n > last ? s.n : last;
        }
        if (!settle(x, &left))
                wrong(&s, "left over:", left.data);
        watch(x, NULL);
        report(x, s.wrong == 0 && last < POINTS_MAX,
               "%s: %lu points, %lu failed and changed nothing, %lu succeeded whole", op->name, s.failed + s.succeeded,
               s.failed, s.succeeded);
        x->failed += s.failed;
        x->succeeded += s.succeeded;
        strata_buf_free(&s.clean);
        strata_buf_free(&s.done);
        strata_buf_free(&left);
}
