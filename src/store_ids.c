/* SPDX-License-Identifier: Apache-2.0 */
/* The IDs of layers, and the file `next`. */
#include "store.h"

#include "log.h"
#include "util/cleanup.h"
#include "util/hash.h"
#include "util/io.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int format_next(uint64_t next, char *text, size_t size)
{
        char line[32];
        int n = snprintf(line, sizeof(line), "%" PRIu64 "\n", next);

        return snprintf(text, size, "%sxxh3: %016" PRIx64 "\n", line, (uint64_t)XXH3_64bits(line, (size_t)n));
}

int strata_store_read_next(struct strata *s, uint64_t *ret)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        int r = strata_io_read_at(s->root_fd, "next", 128, &buf);
        char again[128], number[32];
        unsigned long long next;
        size_t digits;

        if (r < 0)
                return r == -EFBIG ? -EUCLEAN : r;
        digits = buf.data ? strcspn(buf.data, "\n") : 0;
        if (!digits || digits >= sizeof(number) || buf.data[digits] != '\n')
                return -EUCLEAN;
        snprintf(number, sizeof(number), "%.*s", (int)digits, buf.data);
        if (!strata_io_parse_u64(number, &next) || next == 0)
                return -EUCLEAN;
        format_next(next, again, sizeof(again));
        if (strcmp(again, buf.data) != 0 && buf.len != digits + 1) /* a number alone: from before it had a checksum */
                return -EUCLEAN;
        *ret = next;
        return 0;
}

int strata_store_write_next(struct strata *s, uint64_t next)
{
        char text[128];
        int n = format_next(next, text, sizeof(text));

        return strata_io_replace_at(s->root_fd, "next.new", "next", text, (size_t)n, 0600, true);
}

/* The ID in a name in layers/ or trash/, "ID" or "ID.part.N"; 0 in others. */
static uint64_t id_of_name(const char *name)
{
        size_t len = strspn(name, "0123456789");
        unsigned long long id;
        char digits[24];

        if (len >= sizeof(digits) || (name[len] && name[len] != '.'))
                return 0;
        snprintf(digits, sizeof(digits), "%.*s", (int)len, name);
        return strata_io_parse_u64(digits, &id) && id < UINT64_MAX / 512 ? id : 0;
}

int strata_store_highest_id(int dirfd, uint64_t *highest)
{
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;
        int r = strata_io_list(dirfd, ".", &dir);

        if (r < 0)
                return r;
        while ((errno = 0, de = readdir(dir)))
                if (id_of_name(de->d_name) > *highest)
                        *highest = id_of_name(de->d_name);
        return -errno;
}

/* -EUCLEAN if the directory DIRFD holds anything. */
static int check_is_empty(int dirfd)
{
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;
        int r = strata_io_list(dirfd, ".", &dir);

        if (r < 0)
                return r;
        while ((errno = 0, de = readdir(dir)))
                if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
                        return -EUCLEAN;
        return -errno;
}

int strata_store_begin_ids(struct strata *s)
{
        uint64_t next = 1, highest = 0;
        int r = strata_store_read_next(s, &next);
        bool lost = r == -ENOENT;

        if (lost)
                r = check_is_empty(s->layers_fd);
        if (lost && r == 0)
                r = check_is_empty(s->trash_fd);
        if (r == -EUCLEAN) {
                r = strata_store_highest_id(s->layers_fd, &highest);
                if (r == 0)
                        r = strata_store_highest_id(s->trash_fd, &highest);
                next = highest + STRATA_STORE_ID_BLOCK;
                if (r == 0)
                        r = strata_store_write_next(s, next);
                strata_log_add(s->log, "recover", "next", NULL, EUCLEAN,
                               "it was %s; IDs go on from %" PRIu64 ", above all in layers/ (mended)",
                               lost ? "lost" : "damaged", next);
                s->unclean = true;
        }
        if (r < 0)
                return r;
        s->first_id = s->next_id = s->reserved_id = next;
        return 0;
}

int strata_next_id(struct strata *s, uint64_t *ret)
{
        int r = 0;

        pthread_mutex_lock(&s->ids);
        if (s->next_id >= s->reserved_id) {
                r = strata_store_write_next(s, s->next_id + STRATA_STORE_ID_BLOCK);
                if (r == 0)
                        s->reserved_id = s->next_id + STRATA_STORE_ID_BLOCK;
        }
        if (r == 0)
                *ret = s->next_id++;
        pthread_mutex_unlock(&s->ids);
        return r;
}

uint64_t strata_least_id(struct strata *s)
{
        uint64_t ret;

        pthread_mutex_lock(&s->ids);
        ret = s->next_id;
        pthread_mutex_unlock(&s->ids);
        return ret;
}
