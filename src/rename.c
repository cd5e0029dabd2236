/* SPDX-License-Identifier: Apache-2.0 */
#include "rename.h"

#include "index.h"
#include "link.h"
#include "store.h"
#include "strata.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * Stages REC, of an entry of KIND. The record of a snapshot takes the place of one that is mostly on the disk for long:
 * a power cut that kept the name and not the contents would cost it, and all that stands on it.
 */
static int stage(struct strata *s, enum strata_kind kind, const struct strata_record *rec)
{
        return strata_record_stage(s, rec, s->config.durable || kind == STRATA_COMMITTED);
}

int strata_rename(struct strata *s, enum strata_kind kind, const char *old, const char *new, const char **why)
{
        struct strata_record rec;
        struct strata_info info;
        struct strata_op op;
        int r;

        *why = NULL;
        r = strata_name_check(new, why);
        if (r == 0)
                r = strata_entry_get(s, kind, old, &info);
        if (r < 0 || strcmp(old, new) == 0)
                return r;
        r = strata_op_begin_entry(s, &op, kind, old, &info);
        if (r < 0)
                return r;
        r = strata_link_check_free(s, kind, new, why);
        if (r == 0)
                r = strata_link_record(s, &info, kind, new, &rec);
        if (r == 0)
                r = stage(s, kind, &rec);
        if (r == 0)
                r = strata_link_move(s, &rec, why);
        strata_op_end(s, &op);
        return r;
}

/* Stages the records of both entries, puts them in place, and swaps the links. */
static int exchange(struct strata *s, const struct strata_info *a, const struct strata_info *b)
{
        int fd = s->kind_fd[a->kind];
        struct strata_record rec;
        int r;

        r = strata_link_record(s, a, a->kind, b->name, &rec);
        if (r == 0)
                r = stage(s, a->kind, &rec);
        if (r == 0)
                r = strata_link_record(s, b, b->kind, a->name, &rec);
        if (r == 0)
                r = stage(s, a->kind, &rec);
        if (r == 0) {
                pthread_mutex_lock(&s->names);
                r = strata_record_publish(s, a->id);
                if (r == 0)
                        r = strata_record_publish(s, b->id);
                if (r == 0 && renameat2(fd, a->name, fd, b->name, RENAME_EXCHANGE) < 0)
                        r = -errno;
                strata_index_drop(s->index, a->id);
                strata_index_drop(s->index, b->id);
                pthread_mutex_unlock(&s->names);
        }
        if (r < 0) {
                strata_record_discard(s, a->id);
                strata_record_discard(s, b->id);
                return r;
        }
        r = strata_store_sync_dir(s, fd);
        if (r < 0) {
                /* Not known to be on the disk: go back. */
                pthread_mutex_lock(&s->names);
                (void)renameat2(fd, a->name, fd, b->name, RENAME_EXCHANGE);
                strata_index_drop(s->index, a->id);
                strata_index_drop(s->index, b->id);
                pthread_mutex_unlock(&s->names);
        }
        return r;
}

int strata_exchange(struct strata *s, enum strata_kind kind, const char *a, const char *b, const char **why)
{
        struct strata_info info_a, info_b;
        struct strata_op op_a, op_b;
        int r;

        *why = NULL;
        r = strata_entry_get(s, kind, a, &info_a);
        if (r == 0)
                r = strata_entry_get(s, kind, b, &info_b);
        if (r < 0 || info_a.id == info_b.id)
                return r;
        r = strata_op_begin_entry(s, &op_a, kind, a, &info_a);
        if (r < 0)
                return r;
        r = strata_op_begin_entry(s, &op_b, kind, b, &info_b);
        if (r == 0) {
                r = exchange(s, &info_a, &info_b);
                strata_op_end(s, &op_b);
        }
        strata_op_end(s, &op_a);
        return r;
}
