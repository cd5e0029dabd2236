/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include "index.h"
#include "store.h"
#include "strata.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct strata_op *find_op(struct strata *s, uint64_t id)
{
        struct strata_op *o = s->ops;

        while (o && o->id != id)
                o = o->next;
        return o;
}

bool strata_op_is_under_way(struct strata *s, uint64_t id)
{
        return find_op(s, id);
}

void strata_op_wait_moved(struct strata *s, uint64_t id)
{
        for (struct strata_op *o = find_op(s, id); o && o->moving; o = find_op(s, id))
                pthread_cond_wait(&s->moved, &s->names);
}

static void set_moving(struct strata *s, uint64_t id, const struct strata_record *rec)
{
        struct strata_op *o = find_op(s, id);

        if (o)
                o->moving = rec;
        pthread_cond_broadcast(&s->moved);
}

int strata_op_begin(struct strata *s, struct strata_op *op, uint64_t id)
{
        int r;

        op->id = id;
        op->moving = NULL;
        pthread_mutex_lock(&s->names);
        r = strata_op_is_under_way(s, id) ? -EBUSY : 0;
        if (r == 0) {
                op->next = s->ops;
                s->ops = op;
        }
        pthread_mutex_unlock(&s->names);
        return r;
}

/* What a power cut left of the entry's record, before another one is staged in its place. */
static int settle_left(struct strata *s, uint64_t id)
{
        int r = 0;

        if (strata_record_may_be_left(s, id)) {
                pthread_mutex_lock(&s->names);
                r = strata_record_settle(s, id);
                pthread_mutex_unlock(&s->names);
        }
        return r < 0 ? r : 0;
}

int strata_op_begin_entry(struct strata *s, struct strata_op *op, enum strata_kind kind, const char *name,
                          struct strata_info *ret)
{
        struct strata_info info;
        uint64_t id;
        int r = strata_entry_find(s, kind, name, &id);

        if (r == 0)
                r = strata_op_begin(s, op, id);
        if (r < 0)
                return r;
        /* Only now nobody else moves it; the name may have changed hands before. */
        r = settle_left(s, id);
        if (r == 0)
                r = strata_entry_get(s, kind, name, &info);
        if (r == 0 && info.id != id)
                r = -ENOENT;
        if (r < 0) {
                strata_op_end(s, op);
                return r;
        }
        *ret = info;
        return 0;
}

void strata_op_end(struct strata *s, struct strata_op *op)
{
        pthread_mutex_lock(&s->names);
        for (struct strata_op **o = &s->ops; *o; o = &(*o)->next) {
                if (*o == op) {
                        *o = op->next;
                        break;
                }
        }
        pthread_mutex_unlock(&s->names);
}

static const char *const taken[STRATA_KINDS] = {
        [STRATA_ACTIVE] = "the key is taken in active/; choose another or remove that one first",
        [STRATA_VIEW] = "the key is taken in views/; choose another or remove that one first",
        [STRATA_COMMITTED] = ("the name is taken in snapshots/; nothing is ever replaced: choose another or "
                              "remove that one first"),
};

/* Names are unique over active/ and views/ together. */
static bool share_names(enum strata_kind a, enum strata_kind b)
{
        return (a == STRATA_COMMITTED) == (b == STRATA_COMMITTED);
}

int strata_link_check_free(struct strata *s, enum strata_kind kind, const char *name, const char **why)
{
        uint64_t id;

        for (int k = 0; k < STRATA_KINDS; k++) {
                int r;

                if (!share_names(k, kind))
                        continue;
                r = strata_entry_find(s, k, name, &id);
                if (r == 0) {
                        *why = taken[k];
                        return -EEXIST;
                }
                if (r != -ENOENT)
                        return r; /* not known to be free */
        }
        return 0;
}

int strata_link_check_free_held(struct strata *s, enum strata_kind kind, const char *name, const char **why)
{
        for (struct strata_op *o = s->ops; o; o = o->next) {
                if (o->moving && share_names(o->moving->was.kind, kind) && strcmp(o->moving->was.name, name) == 0) {
                        *why = taken[o->moving->was.kind];
                        return -EEXIST;
                }
        }
        return strata_link_check_free(s, kind, name, why);
}

int strata_link_record(struct strata *s, const struct strata_info *info, enum strata_kind to, const char *name,
                       struct strata_record *ret)
{
        struct strata_record present = { 0 };
        int r = info->kind == STRATA_COMMITTED ? strata_record_load(s, info->id, &present) : 0;

        if (r < 0)
                return r;
        *ret = (struct strata_record){
                .id = info->id,
                .parent = info->parent,
                .depth = info->depth,
                .created = info->created,
                .committed = info->committed,
                .was.kind = info->kind,
                .now.kind = to,
        };
        strcpy(ret->was.name, info->name);
        strcpy(ret->now.name, name);
        strcpy(ret->manifest, present.manifest);
        return 0;
}

/* RENAME_NOREPLACE, or where the file system has none, a look before: NAMES is held, the store is ours alone. */
static int rename_link(struct strata *s, const struct strata_place *from, const struct strata_place *to)
{
        if (renameat2(s->kind_fd[from->kind], from->name, s->kind_fd[to->kind], to->name, RENAME_NOREPLACE) == 0)
                return 0;
        if (errno != EINVAL && errno != ENOSYS)
                return -errno;
        if (renameat(s->kind_fd[from->kind], from->name, s->kind_fd[to->kind], to->name) == 0)
                return 0;
        return -errno;
}

void strata_link_remember(struct strata *s, const struct strata_record *rec)
{
        struct strata_info info;
        struct timespec mtime;
        uint64_t ticket;

        if (strata_index_get(s->index, rec->id, &info, &ticket) || strata_record_place_mtime(s, &rec->now, &mtime) < 0)
                return;
        info = (struct strata_info){
                .id = rec->id,
                .parent = rec->parent,
                .depth = rec->depth,
                .kind = rec->now.kind,
                .created = rec->created,
                .updated = mtime,
        };
        if (info.kind == STRATA_COMMITTED)
                info.committed = rec->committed;
        strcpy(info.name, rec->now.name);
        strata_index_put(s->index, &info, ticket);
}

int strata_link_move(struct strata *s, const struct strata_record *rec, const char **why)
{
        uint64_t id;
        int r;

        pthread_mutex_lock(&s->names);
        r = strata_link_check_free_held(s, rec->now.kind, rec->now.name, why);
        if (r == 0)
                r = strata_entry_find(s, rec->was.kind, rec->was.name, &id);
        if (r == 0 && id != rec->id)
                r = -ENOENT;
        if (r == 0)
                r = strata_record_publish(s, rec->id);
        if (r == 0)
                r = rename_link(s, &rec->was, &rec->now);
        strata_index_drop(s->index, rec->id);
        if (r == 0) {
                strata_link_remember(s, rec);
                set_moving(s, rec->id, rec);
        }
        pthread_mutex_unlock(&s->names);
        if (r < 0) {
                strata_record_discard(s, rec->id);
                return r;
        }
        /* The new name is enough: an old one that a power cut brings back is swept, see strata_recover_sweep(). */
        r = strata_store_sync_dir(s, s->kind_fd[rec->now.kind]);
        pthread_mutex_lock(&s->names);
        if (r < 0) {
                /* Not known to be on the disk: go back, and let the caller hear of it. Nobody has built on it yet. */
                (void)rename_link(s, &rec->now, &rec->was);
                strata_index_drop(s->index, rec->id);
        }
        set_moving(s, rec->id, NULL);
        pthread_mutex_unlock(&s->names);
        return r;
}
