/* SPDX-License-Identifier: Apache-2.0 */
#include "checklib.h"

#include <stdio.h>
#include <string.h>

void check_note(void *data, const char *path, const char *text, int error, bool repaired)
{
        struct told *told = data;
        size_t len = strlen(told->text);

        (void)error;
        snprintf(told->text + len, sizeof(told->text) - len, "%s: %s%s\n", path, text, repaired ? " (mended)" : "");
}

struct strata_check check_store(struct test_store *t, enum strata_check_mode mode, struct told *told)
{
        struct strata_check c = { .mode = mode, .report = check_note, .data = told };

        told->text[0] = '\0';
        assert_int_equal(strata_check_run(t->s, &c), 0);
        return c;
}

struct strata_check check_at_rest(struct test_store *t, enum strata_check_mode mode, struct told *told)
{
        bool repair = mode == STRATA_CHECK_REPAIR;
        struct strata_check c = { .mode = mode, .unlocked = !repair, .report = check_note, .data = told };
        struct strata *s;
        char *why;

        told->text[0] = '\0';
        assert_int_equal(strata_open_check(t->path, repair, &s, &c.live, &why), 0);
        assert_int_equal(strata_check_run(s, &c), 0);
        strata_close_check(s);
        return c;
}
