/* SPDX-License-Identifier: Apache-2.0 */
#include "checkcmd.h"

#include "check.h"
#include "say.h"
#include "strata.h"
#include "trash.h"
#include "util/buf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As fsck(8) has them. */
enum {
        EXIT_CLEAN = 0,
        EXIT_REPAIRED = 1,
        EXIT_USAGE = 2,
        EXIT_DAMAGED = 4,
        EXIT_FAILED = 8,
};

bool sfs_check_asked(int argc, char **argv)
{
        for (int i = 1; i < argc; i++)
                if (strcmp(argv[i], "--check") == 0 || strcmp(argv[i], "--repair") == 0)
                        return true;
        return false;
}

static void print_finding(void *data, const char *path, const char *text, int error, bool repaired)
{
        struct strata_buf line = STRATA_BUF_INIT;

        (void)data;
        (void)error;
        strata_buf_addstr(&line, repaired ? "mended: " : "found: ");
        strata_buf_add_escaped(&line, path);
        strata_buf_addstr(&line, ": ");
        strata_buf_add_escaped(&line, text);
        printf("%s\n", strata_buf_status(&line) == 0 ? line.data : "out of memory");
        strata_buf_free(&line);
}

static int examine(const char *path, bool repair)
{
        struct strata_check c = {
                .mode = repair ? STRATA_CHECK_REPAIR : STRATA_CHECK_LOOK,
                .unlocked = !repair,
                .report = print_finding,
        };
        struct strata *s;
        char *why;
        int r = strata_open_check(path, repair, &s, &c.live, &why);

        if (r < 0) {
                sfs_say(stderr, "%s", why ? why : strerror(-r));
                free(why);
                return EXIT_FAILED;
        }
        r = strata_check_run(s, &c);
        if (r == 0 && repair && s->trash_fd >= 0)
                r = strata_trash_empty(s);
        strata_close_check(s);
        if (r < 0) {
                sfs_say(stderr, "can't read all of %s: %s", path, strerror(-r));
                return EXIT_FAILED;
        }
        printf("%" PRIu64 " layers, %" PRIu64 " findings, %" PRIu64 " mended%s\n", c.layers, c.found, c.repaired,
               c.live ? "; the store is in use" : "");
        if (c.found == 0)
                return EXIT_CLEAN;
        return c.repaired == c.found ? EXIT_REPAIRED : EXIT_DAMAGED;
}

int sfs_check_main(int argc, char **argv)
{
        const char *store = NULL;
        bool check = false, repair = false, mistake = false;

        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--check") == 0)
                        check = true;
                else if (strcmp(argv[i], "--repair") == 0)
                        repair = true;
                else if (!store && argv[i][0] && argv[i][0] != '-')
                        store = argv[i];
                else
                        mistake = true;
        }
        if (!check || !store || mistake) {
                fprintf(stderr, "usage: stratafs --check STORE [--repair]\n");
                return EXIT_USAGE;
        }
        return examine(store, repair);
}
