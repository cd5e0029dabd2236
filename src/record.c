/* SPDX-License-Identifier: Apache-2.0 */
#include "record.h"

#include "damage.h"
#include "strata.h"
#include "util/cleanup.h"
#include "util/hash.h"
#include "util/io.h"
#include "util/timefmt.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define RECORD_HEAD "stratafs-meta 1\n"
#define RECORD_MAX 4096

static void format_place(struct strata_buf *buf, const char *key, const struct strata_place *place)
{
        if (place->name[0])
                strata_buf_addf(buf, "%s: %s/%s\n", key, strata_kind_folder(place->kind), place->name);
}

void strata_record_format(const struct strata_record *rec, struct strata_buf *buf)
{
        size_t start = buf->len;
        char time[STRATA_TIME_MAX];

        strata_buf_addstr(buf, RECORD_HEAD);
        strata_buf_addf(buf, "id: %" PRIu64 "\nparent: %" PRIu64 "\ndepth: %u\n", rec->id, rec->parent, rec->depth);
        strata_buf_addf(buf, "created: %s\n", strata_time_format(rec->created, time));
        if (rec->committed.tv_sec)
                strata_buf_addf(buf, "committed: %s\n", strata_time_format(rec->committed, time));
        format_place(buf, "name", &rec->now);
        format_place(buf, "was", &rec->was);
        if (rec->manifest[0])
                strata_buf_addf(buf, "manifest: %s\n", rec->manifest);
        if (buf->failed)
                return;
        strata_buf_addf(buf, "xxh3: %016" PRIx64 "\n", (uint64_t)XXH3_64bits(buf->data + start, buf->len - start));
}

static bool parse_place(const char *text, struct strata_place *ret)
{
        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                const char *folder = strata_kind_folder(kind);
                size_t len = strlen(folder);

                if (strncmp(text, folder, len) == 0 && text[len] == '/' &&
                    strata_name_check(text + len + 1, NULL) == 0) {
                        ret->kind = kind;
                        strcpy(ret->name, text + len + 1);
                        return true;
                }
        }
        return false;
}

static bool parse_field(struct strata_record *rec, const char *key, const char *value)
{
        unsigned long long n = 0;
        bool number = strata_io_parse_u64(value, &n);

        if (strcmp(key, "id") == 0) {
                rec->id = n;
                return number && n > 0;
        }
        if (strcmp(key, "parent") == 0) {
                rec->parent = n;
                return number;
        }
        if (strcmp(key, "depth") == 0) {
                rec->depth = (unsigned)n;
                return number && n > 0 && n < 1000000;
        }
        if (strcmp(key, "created") == 0)
                return strata_time_parse(value, &rec->created);
        if (strcmp(key, "committed") == 0)
                return strata_time_parse(value, &rec->committed);
        if (strcmp(key, "name") == 0)
                return parse_place(value, &rec->now);
        if (strcmp(key, "was") == 0)
                return parse_place(value, &rec->was);
        if (strcmp(key, "manifest") == 0) {
                snprintf(rec->manifest, sizeof(rec->manifest), "%s", value);
                return strlen(value) < sizeof(rec->manifest);
        }
        return true; /* a later version's field */
}

int strata_record_parse(char *text, size_t len, struct strata_record *ret)
{
        const size_t sum_len = strlen("xxh3: 0123456789abcdef\n");
        struct strata_record rec = { 0 };
        char sum[32], *line, *next;

        if (len < strlen(RECORD_HEAD) + sum_len || memchr(text, '\0', len) ||
            strncmp(text, RECORD_HEAD, strlen(RECORD_HEAD)) != 0)
                return -EUCLEAN;
        snprintf(sum, sizeof(sum), "xxh3: %016" PRIx64 "\n", (uint64_t)XXH3_64bits(text, len - sum_len));
        if (memcmp(text + len - sum_len, sum, sum_len) != 0)
                return -EUCLEAN;
        text[len - sum_len] = '\0';
        for (line = text + strlen(RECORD_HEAD); *line; line = next) {
                char *end = strchr(line, '\n');
                char *colon = end ? memchr(line, ':', (size_t)(end - line)) : NULL;

                if (!colon || colon[1] != ' ')
                        return -EUCLEAN;
                *end = *colon = '\0';
                next = end + 1;
                if (!parse_field(&rec, line, colon + 2))
                        return -EUCLEAN;
        }
        if (!rec.id || !rec.depth || !rec.now.name[0])
                return -EUCLEAN;
        *ret = rec;
        return 0;
}

/* A text that is a record, or not; it is left as it is. */
static bool is_record(const char *text, size_t len, struct strata_record *ret)
{
        cleanup_buf struct strata_buf copy = STRATA_BUF_INIT;

        strata_buf_add(&copy, text, len);
        return strata_buf_status(&copy) == 0 && len && strata_record_parse(copy.data, len, ret) == 0;
}

/* What a file of records holds: one twice, or one alone, as earlier versions wrote it. *WHOLE: nothing of it is wrong.
 */
static int parse_file(const char *text, size_t len, struct strata_record *ret, bool *whole)
{
        size_t half = len / 2;

        *whole = len % 2 == 0 && memcmp(text, text + half, half) == 0;
        if (*whole && is_record(text, half, ret))
                return 0;
        *whole = is_record(text, len, ret);
        if (*whole || (len % 2 == 0 && (is_record(text, half, ret) || is_record(text + half, half, ret))))
                return 0;
        return -EUCLEAN;
}

static int record_load_file(struct strata *s, uint64_t id, const char *file, struct strata_record *ret, bool *whole)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        char path[STRATA_ID_PATH_MAX];
        struct strata_record rec;
        int r;

        snprintf(path, sizeof(path), "%" PRIu64 "/%s", id, file);
        r = strata_io_read_at(s->layers_fd, path, RECORD_MAX, &buf);
        if (r < 0)
                return r == -EFBIG ? -EUCLEAN : r;
        r = parse_file(buf.len ? buf.data : "", buf.len, &rec, whole);
        if (r == 0 && rec.id != id)
                r = -EUCLEAN;
        if (r == 0)
                *ret = rec;
        return r;
}

bool strata_record_may_be_left(struct strata *s, uint64_t id)
{
        return atomic_load(&s->unclean) && id < s->first_id;
}

/* The staged record of layer ID, if a power cut left it and it is the one that is true. -ENOENT if not. */
static int load_left(struct strata *s, uint64_t id, struct strata_record *ret)
{
        struct strata_record staged;
        int r = strata_record_may_be_left(s, id) ? strata_record_load_staged(s, id, &staged) : -ENOENT;

        if (r == 0)
                r = strata_entry_leads_to(s, staged.now.kind, staged.now.name, id);
        if (r <= 0)
                return r == 0 || r == -EUCLEAN ? -ENOENT : r;
        *ret = staged;
        return 0;
}

int strata_record_load(struct strata *s, uint64_t id, struct strata_record *ret)
{
        char path[STRATA_ID_PATH_MAX + 16];
        bool whole;
        /* In this order: it may be put in place meanwhile. */
        int r = load_left(s, id, ret);

        if (r != -ENOENT)
                return r;
        r = record_load_file(s, id, "meta", ret, &whole);
        if (r == 0 && !whole) {
                snprintf(path, sizeof(path), "layers/%" PRIu64 "/meta", id);
                strata_damage_note(s, path, "one of the two copies in this record is damaged; the other one is used");
        }
        return r;
}

bool strata_record_is_whole(struct strata *s, uint64_t id)
{
        struct strata_record rec;
        bool whole;

        return record_load_file(s, id, "meta", &rec, &whole) < 0 || whole;
}

int strata_record_load_staged(struct strata *s, uint64_t id, struct strata_record *ret)
{
        bool whole;

        return record_load_file(s, id, "meta.new", ret, &whole);
}

/* The record twice: a wrong bit in one of them costs nothing, and what stands on the entry least of all. */
static int format_file(const struct strata_record *rec, struct strata_buf *buf)
{
        strata_record_format(rec, buf);
        strata_record_format(rec, buf);
        return strata_buf_status(buf);
}

int strata_record_create(int layer_fd, const struct strata_record *rec)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        int r = format_file(rec, &buf);

        if (r < 0)
                return r;
        return strata_io_create_at(layer_fd, "meta", buf.data, buf.len, 0600, false);
}

int strata_record_stage(struct strata *s, const struct strata_record *rec, bool sync)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        char path[STRATA_ID_PATH_MAX];
        int r = format_file(rec, &buf);

        if (r < 0)
                return r;
        snprintf(path, sizeof(path), "%" PRIu64 "/meta.new", rec->id);
        r = strata_io_create_at(s->layers_fd, path, buf.data, buf.len, 0600, sync);
        if (r < 0)
                strata_record_discard(s, rec->id);
        return r;
}

int strata_record_publish(struct strata *s, uint64_t id)
{
        char from[STRATA_ID_PATH_MAX], to[STRATA_ID_PATH_MAX];

        snprintf(from, sizeof(from), "%" PRIu64 "/meta.new", id);
        snprintf(to, sizeof(to), "%" PRIu64 "/meta", id);
        return renameat(s->layers_fd, from, s->layers_fd, to) < 0 ? -errno : 0;
}

void strata_record_discard(struct strata *s, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];
        int saved = errno;

        snprintf(path, sizeof(path), "%" PRIu64 "/meta.new", id);
        unlinkat(s->layers_fd, path, 0);
        errno = saved;
}

int strata_record_place_mtime(struct strata *s, const struct strata_place *place, struct timespec *ret)
{
        struct stat st;

        if (fstatat(s->kind_fd[place->kind], place->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        *ret = st.st_mtim;
        return 0;
}

/* 1 if PLACE is a link to layer ID, *MTIME then the link's; 0 if not; -errno if that can't be told. */
static int place_holds(struct strata *s, const struct strata_place *place, uint64_t id, struct timespec *mtime)
{
        uint64_t found;
        int r = place->name[0] ? strata_entry_find(s, place->kind, place->name, &found) : -ENOENT;

        if (r == 0)
                r = found == id ? strata_record_place_mtime(s, place, mtime) : -ENOENT;
        return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

int strata_record_settle(struct strata *s, uint64_t id)
{
        struct strata_record staged;
        struct timespec mtime;
        int r = strata_record_load_staged(s, id, &staged);

        if (r == -ENOENT || r == -EUCLEAN)
                return 0;
        if (r == 0)
                r = place_holds(s, &staged.now, id, &mtime);
        if (r > 0) {
                r = strata_record_publish(s, id);
                r = r < 0 ? r : 1;
        }
        return r;
}

int strata_record_resolve(struct strata *s, const struct strata_record *rec, struct strata_place *ret,
                          struct timespec *mtime)
{
        const struct strata_place *places[] = { &rec->now, &rec->was };

        for (size_t i = 0; i < 2; i++) {
                int r = place_holds(s, places[i], rec->id, mtime);

                if (r > 0)
                        *ret = *places[i];
                if (r)
                        return r < 0 ? r : 0;
        }
        return -ENOENT;
}
