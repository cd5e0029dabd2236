/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a phase of many clients: their answers and the tree must agree.
 *
 * For each name, entries made less entries removed is what is there now less what was there before; operations that the
 * program's death left unanswered may be done or not, in any combination. Files and labels are each written by one
 * client alone, who has noted down the entry's ID with the last value. What nobody noted is as it was, or as in the
 * parent.
 */
#include "stress.h"

#include <string.h>

static bool balanced(const int want[KINDS][NAMES], const struct client *clients, unsigned chosen)
{
        int sum[KINDS][NAMES] = { 0 };

        for (int i = 0; i < CLIENTS; i++) {
                for (int n = 0; n < KINDS * NAMES; n++)
                        sum[n / NAMES][n % NAMES] += clients[i].balance[n / NAMES][n % NAMES];
                if (clients[i].died && (chosen & 1u << i))
                        many_effect(&clients[i].unanswered, 1, sum);
        }
        return memcmp(sum, want, sizeof(sum)) == 0;
}

static void check_balance(struct stress *x, const struct client *clients, const struct model *before,
                          const struct model *now)
{
        int want[KINDS][NAMES];

        for (int n = 0; n < KINDS * NAMES; n++)
                want[n / NAMES][n % NAMES] = (model_nth(now, n)->id != 0) - (model_nth(before, n)->id != 0);
        for (unsigned chosen = 0; chosen < 1u << CLIENTS; chosen++)
                if (balanced(want, clients, chosen))
                        return;
        complain(x, "what was answered and what is there do not add up:");
        for (int n = 0; n < KINDS * NAMES; n++) {
                int sum = 0;

                for (int i = 0; i < CLIENTS; i++)
                        sum += clients[i].balance[n / NAMES][n % NAMES];
                if (sum != want[n / NAMES][n % NAMES])
                        complain(x, "  %s/%s: %+d answered, %+d there", kind_folder[n / NAMES], name_of(n % NAMES), sum,
                                 want[n / NAMES][n % NAMES]);
        }
        for (int i = 0; i < CLIENTS; i++) {
                char text[200];

                if (!clients[i].died)
                        continue;
                op_describe(&clients[i].unanswered, text, sizeof(text));
                complain(x, "  unanswered: %s", text);
        }
}

/* Whether GOT may be the stamp of ID's label or file of client C; BASE is what it was before the phase. */
static bool is_noted(const struct client *c, uint64_t id, bool label, uint32_t base, uint32_t got)
{
        for (size_t i = c->n; i-- > 0;) {
                const struct note *note = &c->notes[i];

                if (note->id != id || note->label != label)
                        continue;
                if (note->stamp == got)
                        return true;
                if (!note->maybe)
                        return false;
        }
        return base == got;
}

static bool is_there(const struct entry *e)
{
        return e && e->id;
}

static uint32_t first_stamp(const struct entry *e, int file)
{
        return is_there(e) && e->file[file].n ? e->file[file].stamp[0] : 0;
}

static void check_entry(struct stress *x, const struct client *clients, struct model *before, struct model *now,
                        int kind, int name)
{
        const struct entry *e = &now->at[kind][name], *was = model_by_id(before, e->id);
        const struct entry *base = was ? was : model_by_id(now, e->parent);
        const struct entry none = { 0 };

        if (!was && e->id <= before->last_id)
                complain(x, "%s/%s has the id %ju, which is not new", kind_folder[kind], name_of(name),
                         (uintmax_t)e->id);
        if (was && (was->parent != e->parent || was->depth != e->depth || strcmp(was->created, e->created) != 0))
                complain(x, "%s/%s, id %ju, has another parent, depth or time of making", kind_folder[kind],
                         name_of(name), (uintmax_t)e->id);
        if (was && was >= before->at[COMMITTED] && was < before->at[COMMITTED] + NAMES && kind != COMMITTED)
                complain(x, "%s/%s, id %ju, was committed", kind_folder[kind], name_of(name), (uintmax_t)e->id);
        if (!base)
                base = &none;
        for (int i = 0; i < FILES; i++) {
                bool shared = i < SHARED_FILES;
                uint32_t got = first_stamp(e, i);

                if (shared ? memcmp(&e->file[i], &base->file[i], sizeof(e->file[i])) != 0 &&
                                     (e->file[i].n || base->file[i].n)
                           : !is_noted(&clients[i - SHARED_FILES], e->id, false, first_stamp(base, i), got))
                        complain(x, "%s/%s/fs/%s, id %ju: holds %u, before or in the parent it was %u",
                                 kind_folder[kind], name_of(name), file_of(i), (uintmax_t)e->id, got,
                                 first_stamp(base, i));
        }
        for (int i = 0; i < LABELS; i++) {
                uint32_t old = was ? was->label[i] : 0;

                if (i < SHARED_LABELS ? e->label[i] != old
                                      : !is_noted(&clients[i - SHARED_LABELS], e->id, true, old, e->label[i]))
                        complain(x, "%s/%s/labels/%s, id %ju: %u, before it was %u", kind_folder[kind], name_of(name),
                                 label_of(i), (uintmax_t)e->id, e->label[i], old);
        }
}

void many_check(struct stress *x, struct client *clients, const struct model *before)
{
        struct model now, was = *before;

        if (!scan(x, &now)) {
                complain(x, "after many clients the tree contradicts itself");
                return;
        }
        check_balance(x, clients, before, &now);
        for (int n = 0; n < KINDS * NAMES; n++)
                if (model_nth(&now, n)->id)
                        check_entry(x, clients, &was, &now, n / NAMES, n % NAMES);
        if (now.last_id < before->last_id)
                now.last_id = before->last_id;
        x->model = now;
}
