/* SPDX-License-Identifier: Apache-2.0 */
#include "entry.h"

#include "damage.h"
#include "index.h"
#include "record.h"
#include "strata.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const struct {
        const char *folder;
        const char *word;
} kinds[STRATA_KINDS] = {
        [STRATA_ACTIVE] = { "active", "active" },
        [STRATA_VIEW] = { "views", "view" },
        [STRATA_COMMITTED] = { "snapshots", "committed" },
};

const char *strata_kind_folder(enum strata_kind kind)
{
        return kinds[kind].folder;
}

const char *strata_kind_word(enum strata_kind kind)
{
        return kinds[kind].word;
}

#define TARGET_PREFIX "../layers/"

void strata_entry_target(uint64_t id, char target[STRATA_TARGET_MAX])
{
        snprintf(target, STRATA_TARGET_MAX, TARGET_PREFIX "%" PRIu64 "/../%" PRIu64, id, id);
}

/* An ID alone, as earlier versions wrote it, or twice the same one. */
int strata_entry_parse_target(const char *target, uint64_t *ret)
{
        char again[STRATA_TARGET_MAX], number[STRATA_TARGET_MAX];
        unsigned long long id;

        if (strlen(target) >= STRATA_TARGET_MAX || strncmp(target, TARGET_PREFIX, strlen(TARGET_PREFIX)) != 0)
                return -EUCLEAN;
        strcpy(number, target + strlen(TARGET_PREFIX));
        number[strcspn(number, "/")] = '\0';
        if (!strata_io_parse_u64(number, &id) || id == 0)
                return -EUCLEAN;
        strata_entry_target(id, again);
        if (strchr(target + strlen(TARGET_PREFIX), '/') && strcmp(again, target) != 0)
                return -EUCLEAN;
        *ret = id;
        return 0;
}

/* What a link says, and no guess: -EUCLEAN if it is damaged. TARGET then has its text. */
static int read_link(struct strata *s, enum strata_kind kind, const char *name, char target[2 * STRATA_TARGET_MAX],
                     uint64_t *ret)
{
        ssize_t n = readlinkat(s->kind_fd[kind], name, target, 2 * STRATA_TARGET_MAX - 1);

        if (n < 0)
                return errno == EINVAL ? -ENOENT : -errno; /* not a link: not ours */
        target[n] = '\0';
        return strata_entry_parse_target(target, ret);
}

int strata_entry_leads_to(struct strata *s, enum strata_kind kind, const char *name, uint64_t id)
{
        char target[2 * STRATA_TARGET_MAX];
        uint64_t found;
        int r = read_link(s, kind, name, target, &found);

        if (r == -ENOENT || r == -EUCLEAN)
                return 0;
        return r < 0 ? r : found == id;
}

int strata_entry_claims(struct strata *s, uint64_t id, enum strata_kind kind, const char *name)
{
        char target[2 * STRATA_TARGET_MAX];
        struct strata_record rec;
        uint64_t found;
        int r = strata_record_load(s, id, &rec);

        if (r < 0)
                return r;
        if (rec.now.kind == kind && strcmp(rec.now.name, name) == 0)
                return STRATA_CLAIM_NOW;
        if (rec.was.kind != kind || strcmp(rec.was.name, name) != 0)
                return 0;
        /* It stays in the record for good, and the place may be another's for long. */
        r = read_link(s, rec.now.kind, rec.now.name, target, &found);
        if (r == -ENOENT || (r == 0 && found != id))
                return STRATA_CLAIM_WAS;
        return r == -EUCLEAN ? 0 : r;
}

/* How many of the layers whose numbers TARGET holds make that CLAIM, one of them in *RET; -errno. */
static int ask(struct strata *s, enum strata_kind kind, const char *name, const char *target, int claim, uint64_t *ret)
{
        char text[2 * STRATA_TARGET_MAX], *rest = text, *part;
        uint64_t last = 0;
        int n = 0;

        strcpy(text, target);
        while ((part = strsep(&rest, "/"))) {
                unsigned long long id;
                int r = 0;

                if (strata_io_parse_u64(part, &id) && id && id != last)
                        r = strata_entry_claims(s, id, kind, name);
                if (r < 0 && r != -ENOENT && r != -EUCLEAN)
                        return r;
                if (r != claim)
                        continue;
                *ret = last = id;
                n++;
        }
        return n;
}

/* The damaged TARGET holds a number that may be the right one still: the record there says whether it is. */
static int guess(struct strata *s, enum strata_kind kind, const char *name, const char *target, uint64_t *ret)
{
        char path[STRATA_NAME_MAX + 16];
        uint64_t id = 0;
        int n = ask(s, kind, name, target, STRATA_CLAIM_NOW, &id);

        if (n == 0)
                n = ask(s, kind, name, target, STRATA_CLAIM_WAS, &id);
        if (n <= 0)
                return n < 0 ? n : -ENOENT;
        snprintf(path, sizeof(path), "%s/%s", strata_kind_folder(kind), name);
        if (n > 1) {
                strata_damage_note(s, path, "this link is damaged, and more than one layer says that it leads there");
                return -ENOENT;
        }
        strata_damage_note(s, path, "a bit of this link is wrong; its layer is %" PRIu64 ", and says so itself", id);
        *ret = id;
        return 0;
}

int strata_entry_find(struct strata *s, enum strata_kind kind, const char *name, uint64_t *ret)
{
        char target[2 * STRATA_TARGET_MAX];
        int r = read_link(s, kind, name, target, ret);

        return r == -EUCLEAN ? guess(s, kind, name, target, ret) : r;
}

static int entry_read(struct strata *s, uint64_t id, struct strata_info *ret)
{
        struct strata_record rec;
        char path[STRATA_ID_PATH_MAX + 16];
        struct strata_place place;
        struct timespec mtime;
        int r;

        r = strata_record_load(s, id, &rec);
        if (r == -EUCLEAN) {
                snprintf(path, sizeof(path), "layers/%" PRIu64 "/meta", id);
                strata_damage_note(s, path, "this record is damaged; its entry can be removed");
        }
        if (r < 0)
                return r;
        r = strata_record_resolve(s, &rec, &place, &mtime);
        if (r < 0)
                return r;
        *ret = (struct strata_info){
                .id = id,
                .parent = rec.parent,
                .depth = rec.depth,
                .kind = place.kind,
                .created = rec.created,
                .updated = mtime,
        };
        if (place.kind == STRATA_COMMITTED)
                ret->committed = rec.committed;
        strcpy(ret->name, place.name);
        return 0;
}

int strata_entry_info(struct strata *s, uint64_t id, struct strata_info *ret)
{
        int r = -ENOENT;

        /* A rename between the reading of the record and that of the link makes both look wrong: look again. */
        for (int tries = 0; tries < 4 && r == -ENOENT; tries++) {
                uint64_t ticket;

                if (strata_index_get(s->index, id, ret, &ticket))
                        return 0;
                r = entry_read(s, id, ret);
                if (r == 0)
                        strata_index_put(s->index, ret, ticket);
        }
        return r;
}

int strata_entry_get(struct strata *s, enum strata_kind kind, const char *name, struct strata_info *ret)
{
        struct strata_info info;
        uint64_t id;
        int r;

        r = strata_entry_find(s, kind, name, &id);
        if (r < 0)
                return r;
        r = strata_entry_info(s, id, &info);
        if (r < 0)
                return r;
        if (info.kind != kind || strcmp(info.name, name) != 0)
                return -ENOENT; /* renamed meanwhile, or a link that its layer knows nothing of */
        *ret = info;
        return 0;
}

int strata_entry_parent(struct strata *s, const struct strata_info *info, struct strata_info *ret)
{
        return info->parent ? strata_entry_info(s, info->parent, ret) : -ENOENT;
}

/* Calls FN for the mark of each child that exists; marks of none are what a crash left, and are passed over. */
static int each_child(struct strata *s, uint64_t id, int (*fn)(void *, uint64_t), void *data)
{
        char path[STRATA_ID_PATH_MAX];
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;
        int r;

        snprintf(path, sizeof(path), "%" PRIu64 "/children", id);
        r = strata_io_list(s->layers_fd, path, &dir);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        for (;;) {
                struct strata_info child;
                unsigned long long number;

                errno = 0;
                de = readdir(dir);
                if (!de)
                        return -errno;
                if (!strata_io_parse_u64(de->d_name, &number))
                        continue;
                r = strata_entry_info(s, number, &child);
                if (r == -ENOENT || (r == 0 && child.parent != id))
                        continue;
                if (r < 0 && r != -EUCLEAN)
                        return r;
                r = fn(data, number); /* a damaged child still needs what is below it */
                if (r != 0)
                        return r;
        }
}

struct id_list {
        uint64_t *ids;
        size_t n;
        size_t size;
};

static int add_child(void *data, uint64_t id)
{
        struct id_list *list = data;

        if (list->n == list->size) {
                size_t size = list->size ? list->size * 2 : 16;
                uint64_t *ids = reallocarray(list->ids, size, sizeof(*ids));

                if (!ids)
                        return -ENOMEM;
                list->ids = ids;
                list->size = size;
        }
        list->ids[list->n++] = id;
        return 0;
}

static int compare_ids(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return (x > y) - (x < y);
}

int strata_entry_children(struct strata *s, uint64_t id, uint64_t **ret, size_t *n)
{
        struct id_list list = { 0 };
        int r = each_child(s, id, add_child, &list);

        if (r < 0) {
                free(list.ids);
                return r;
        }
        if (list.n)
                qsort(list.ids, list.n, sizeof(*list.ids), compare_ids);
        *ret = list.ids;
        *n = list.n;
        return 0;
}

static int stop_at_first(void *data, uint64_t id)
{
        (void)data;
        (void)id;
        return 1;
}

int strata_entry_has_children(struct strata *s, uint64_t id)
{
        return each_child(s, id, stop_at_first, NULL);
}

int strata_entry_touch(struct strata *s, const struct strata_info *info)
{
        const struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };
        int r = 0;

        if (utimensat(s->kind_fd[info->kind], info->name, now, AT_SYMLINK_NOFOLLOW) < 0)
                r = -errno;
        strata_index_drop(s->index, info->id);
        return r;
}

void strata_entry_touch_id(struct strata *s, uint64_t id)
{
        struct strata_info info;

        for (int tries = 0; tries < 3; tries++)
                if (strata_entry_info(s, id, &info) < 0 || strata_entry_touch(s, &info) != -ENOENT)
                        break; /* -ENOENT: renamed in between */
}

int strata_entry_count(struct strata *s, enum strata_kind kind, uint64_t *ret)
{
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;
        uint64_t n = 0;
        int r = strata_io_list(s->kind_fd[kind], ".", &dir);

        if (r < 0)
                return r;
        while ((errno = 0, de = readdir(dir)))
                if (strata_name_check(de->d_name, NULL) == 0)
                        n++;
        if (errno)
                return -errno;
        *ret = n;
        return 0;
}
