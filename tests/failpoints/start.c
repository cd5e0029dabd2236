/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start itself, of a store that was left in order and of one that a kill left. It either fails, with a line for the
 * user, or the program serves; in both cases the next start finds the store as it was, in order, and clears it of what
 * the kill left.
 */
#include "failpoints.h"

#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define POINTS_MAX 3000
#define LOOKS_MAX 60
#define QUIET_MS 60 /* so long without a call: the sweep of a start is through */

struct sweep {
        struct fail *x;
        const char *name;
        bool killed;
        int error;
        unsigned long n;
        char hit[512], where[128];
        unsigned long refused, served, wrong;
        struct strata_buf want; /* the tree */
};

static void wrong(struct sweep *s, const char *what, const char *detail)
{
        s->wrong++;
        if (s->wrong < 10)
                diag("%s, %s of call %lu, %s: %s%s", s->name, errno_name(s->error), s->n, s->hit, what,
                     detail ? detail : "");
}

/* ---- what a kill leaves ---- */

static void must(int r, const char *what)
{
        if (r < 0)
                give_up("%s: %s", what, errno_name(errno));
}

static void put(const char *path, const char *text)
{
        cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
                give_up("%s: %s", path, errno_name(errno));
}

/* A layer without a link, one half removed, the record of a step that did not come, an import that was cut off. */
static void litter(struct fail *x)
{
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/layers/3", x->store);
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                give_up("%s: %s", path, errno_name(errno));
        snprintf(path, sizeof(path), "%s/layers/3/fs", x->store);
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                give_up("%s: %s", path, errno_name(errno));
        snprintf(path, sizeof(path), "%s/trash/4", x->store);
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                give_up("%s: %s", path, errno_name(errno));
        snprintf(path, sizeof(path), "%s/trash/4/file", x->store);
        put(path, "x");
        snprintf(path, sizeof(path), "%s/layers/1/meta.new", x->store);
        put(path, "x");
        snprintf(path, sizeof(path), "%s/layers/2/fs.new", x->store);
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                give_up("%s: %s", path, errno_name(errno));
        snprintf(path, sizeof(path), "%s/layers/1/children/3", x->store);
        put(path, "");
        snprintf(path, sizeof(path), "%s/import.2", x->store);
        put(path, "");
        snprintf(path, sizeof(path), "%s/clean", x->store);
        must(unlink(path) < 0 && errno != ENOENT ? -1 : 0, path);
}

/* ---- one point ---- */

static bool is_ended(struct fail *x, int *status)
{
        return waitpid(x->pid, status, WNOHANG) == x->pid;
}

/* Waits until it serves and makes no more calls, or has ended: true then. */
static bool wait_for_it(struct fail *x, int *status)
{
        unsigned long before = 0, now;
        char version[PATH_MAX];
        struct stat st;
        int quiet = 0;

        snprintf(version, sizeof(version), "%s/version", x->mnt);
        while (stat(version, &st) < 0) {
                if (is_ended(x, status))
                        return true;
                pause_ms(2);
        }
        while (quiet < QUIET_MS && !inject_is_hit(x->inject)) {
                pause_ms(5);
                now = inject_seen(x->inject);
                quiet = now == before ? quiet + 5 : 0;
                before = now;
        }
        if (inject_is_hit(x->inject))
                pause_ms(20); /* what follows the failure */
        return is_ended(x, status);
}

static bool is_in_order(struct fail *x)
{
        cleanup_free char *command = NULL;

        return asprintf(&command, "'%s' --check '%s' >'%s/check.out' 2>&1", x->program, x->store, x->base) > 0 &&
               system(command) == 0;
}

static void show_check(struct fail *x)
{
        cleanup_free char *path = NULL, *text = NULL;

        if (asprintf(&path, "%s/check.out", x->base) > 0)
                text = read_file(AT_FDCWD, path);
        diag("    %s", text ? text : "");
}

/* The program serves, whole: the tree is as it was, and in the end the store in order. */
static void check_served(struct sweep *s, const char *when)
{
        struct strata_buf now = STRATA_BUF_INIT;
        struct fail *x = s->x;

        state_get_tree(x, true, &now);
        if (strcmp(now.data, s->want.data) != 0) {
                wrong(s, when, ": another tree");
                show_difference(s->want.data, now.data);
        }
        strata_buf_free(&now);
}

/* The start after it: everything has to be there, and to be cleared away. */
static void check_next(struct sweep *s)
{
        struct strata_buf left = STRATA_BUF_INIT;
        struct fail *x = s->x;
        int r = program_start(x);

        if (r) {
                char text[32];

                snprintf(text, sizeof(text), "%d", r);
                wrong(s, "the next start fails with status ", text);
                return;
        }
        check_served(s, "the next start");
        for (int tries = 0; tries < LOOKS_MAX; tries++) {
                left.len = 0;
                if (state_is_settled(x, true, &left) && is_in_order(x))
                        break;
                if (tries == LOOKS_MAX - 1) {
                        wrong(s, "the next start does not put the store in order:", left.data);
                        show_check(x);
                }
                pause_ms(tries < 10 ? 2 : 50);
        }
        if (!program_stop(x))
                wrong(s, "the next start does not end well", NULL);
        strata_buf_free(&left);
}

/* False if there is no such point any more. */
static bool point(struct sweep *s)
{
        struct fail *x = s->x;
        unsigned long seen, errors;
        const char *hit;
        int status;
        bool ended;

        if (s->killed)
                litter(x);
        snprintf(s->where, sizeof(s->where), "%s, %s of call %lu", s->name, errno_name(s->error), s->n);
        watch(x, s->where);
        errors = file_size(x->errors);
        program_start_failing(x, s->n, s->error);
        ended = wait_for_it(x, &status);
        hit = inject_end(x->inject, &seen);
        snprintf(s->hit, sizeof(s->hit), "%s", hit ? hit : "none");
        if (x->tell && hit)
                diag("%s: %s, %s", s->where, s->hit, ended ? "refuses" : "serves");
        if (ended) {
                if (!WIFEXITED(status) || WEXITSTATUS(status) == 0)
                        wrong(s, "it does not serve, nor end with a status", NULL);
                if (file_size(x->errors) == errors)
                        wrong(s, "it says nothing", NULL);
                if (state_mounts(x))
                        wrong(s, "it leaves a mount", NULL);
                inject_free(steal_ptr(&x->inject));
                s->refused++;
        } else {
                program_look(x);
                check_served(s, "it serves");
                if (!program_stop(x))
                        wrong(s, "it does not end well", NULL);
                s->served++;
        }
        check_next(s);
        return hit;
}

void start_sweep(struct fail *x, const char *name, bool killed)
{
        struct sweep s = { .x = x, .name = name, .killed = killed, .want = STRATA_BUF_INIT };
        unsigned long last = 0, stride = x->stride * START_STRIDE;

        if (program_start(x) != 0)
                give_up("the program does not start");
        state_get_tree(x, true, &s.want);
        (void)program_stop(x);
        if (stride == START_STRIDE)
                stride = 1;
        for (unsigned i = 0; i < ERRNOS; i++) {
                s.error = errnos[i];
                s.n = 1 + (x->offset + i * (stride / ERRNOS + 1)) % stride;
                while (s.n < POINTS_MAX && point(&s)) {
                        x->points++;
                        s.n += stride;
                }
                last = s.n > last ? s.n : last;
        }
        watch(x, NULL);
        report(x, s.wrong == 0 && last < POINTS_MAX, "%s: %lu points, %lu refused, %lu served whole", name,
               s.refused + s.served, s.refused, s.served);
        x->failed += s.refused;
        x->succeeded += s.served;
        strata_buf_free(&s.want);
}
