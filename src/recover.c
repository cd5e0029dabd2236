/* SPDX-License-Identifier: Apache-2.0 */
#include "recover.h"

#include "check_part.h"
#include "log.h"
#include "strata.h"

/* The rubbish of a crash is not worth a line. */
static void log_finding(void *data, const char *path, const char *text, int error, bool repaired)
{
        struct strata *s = data;

        if (error)
                strata_log_add(s->log, "recover", path, NULL, error, "%s%s", text, repaired ? " (mended)" : "");
}

int strata_recover_sweep(struct strata *s, atomic_bool *stop)
{
        struct strata_check c = {
                .mode = STRATA_CHECK_SWEEP,
                .below = s->first_id,
                .stop = stop,
                .report = log_finding,
                .data = s,
        };
        int r;

        r = strata_check_run(s, &c);
        /*
         * What stays is told of again at the next start, and what was not come to is looked at then. Where there was
         * rubbish, the next start makes sure that it is gone: an error on the way may have hidden some. What could not
         * be looked at is noted as rubbish.
         */
        if (r == 0 && !strata_check_stopped(&c) && !c.found && !atomic_load(&s->rubbish))
                s->unclean = false;
        return r;
}
