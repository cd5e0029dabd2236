/* SPDX-License-Identifier: Apache-2.0 */
#include "damage.h"

#include "log.h"
#include "strata.h"
#include "util/sumfile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/* False if PATH is among the last that were told of. Two threads at once may both tell. */
static bool is_new(struct strata *s, const char *path)
{
        uint64_t hash = XXH3_64bits(path, strlen(path)) | 1;
        const unsigned n = sizeof(s->told) / sizeof(*s->told);

        for (unsigned i = 0; i < n; i++)
                if (atomic_load(&s->told[i]) == hash)
                        return false;
        atomic_store(&s->told[atomic_fetch_add(&s->n_told, 1) % n], hash);
        return true;
}

void strata_damage_note(struct strata *s, const char *path, const char *fmt, ...)
{
        char text[STRATA_LOG_REASON_MAX];
        va_list args;

        atomic_store(&s->rubbish, true);
        if (!is_new(s, path))
                return;
        va_start(args, fmt);
        vsnprintf(text, sizeof(text), fmt, args);
        va_end(args);
        strata_log_add(s->log, "check", path, NULL, EUCLEAN, "%s", text);
}

void strata_damage_note_sumfile(struct strata *s, uint64_t id, const char *name)
{
        char path[STRATA_ID_PATH_MAX + 16], text[STRATA_SUMFILE_MAX];

        snprintf(path, sizeof(path), "layers/%" PRIu64 "/%s", id, name);
        if (strata_sumfile_read(s->root_fd, path, text) == -EUCLEAN)
                strata_damage_note(s, path, "its checksum is wrong; it is made anew");
}
