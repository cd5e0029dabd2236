/* SPDX-License-Identifier: Apache-2.0 */
/* A store examined, and what that said: for the tests of check. */
#ifndef STRATAFS_CHECKLIB_H
#define STRATAFS_CHECKLIB_H

#include "testlib.h"

#include "check.h"

/* The findings, a line each: path, text, and whether it was mended. */
struct told {
        char text[8192];
};

/* What strata_check.report is to be, with a struct told for its data. */
void check_note(void *told, const char *path, const char *text, int error, bool repaired);

struct strata_check check_store(struct test_store *t, enum strata_check_mode mode, struct told *told);

/* The same of a store that is closed, as `stratafs --check` does it. */
struct strata_check check_at_rest(struct test_store *t, enum strata_check_mode mode, struct told *told);

#endif
