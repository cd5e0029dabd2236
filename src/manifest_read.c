/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest.h"

#include "manifest_part.h"
#include "strata.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/wanted.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define CHUNK 65536 /* bytes summed at once */

struct strata_manifest {
        FILE *file;  /* NULL of one that is all in the summary */
        char *line;  /* of getdelim(3) */
        size_t size; /* of LINE */
        struct strata_buf path;
        uint64_t total, n;
        char root[STRATA_MANIFEST_SUMMARY_MAX]; /* the only entry, if there is no file */
};

bool strata_manifest_has_file(const char *summary)
{
        return strncmp(summary, "1 ", 2) != 0;
}

/* The number of entries and the checksum, in digits, of a summary that speaks of a file. */
static bool parse_summary(const char *summary, uint64_t *total, char sum[33])
{
        char number[24];
        unsigned long long n;
        size_t digits = strcspn(summary, " ");

        if (digits == 0 || digits >= sizeof(number) || strlen(summary) != digits + 1 + 32)
                return false;
        memcpy(number, summary, digits);
        number[digits] = '\0';
        if (!strata_io_parse_u64(number, &n) || n < 2)
                return false;
        *total = n;
        strcpy(sum, summary + digits + 1);
        return true;
}

/* ---- the checksum ---- */

/* Sums the LEN bytes of FILE from where it is. */
static int sum_file(FILE *file, uint64_t len, XXH3_state_t *state)
{
        cleanup_free char *chunk = malloc(CHUNK);

        if (!chunk)
                return -ENOMEM;
        XXH3_128bits_reset(state);
        while (len > 0) {
                size_t want = len < CHUNK ? (size_t)len : CHUNK, n = fread(chunk, 1, want, file);

                if (!strata_wanted())
                        return -EINTR;
                if (n != want)
                        return ferror(file) ? -EIO : -EUCLEAN;
                XXH3_128bits_update(state, chunk, n);
                len -= n;
        }
        return 0;
}

/* The checksum of FILE, as digits, if its last line says the same: else -EUCLEAN. */
static int check_sum(FILE *file, char ret[33])
{
        char said[STRATA_MANIFEST_SUM_LEN + 1], own[STRATA_MANIFEST_SUM_LEN + 1];
        XXH3_state_t *state;
        XXH128_hash_t sum;
        struct stat st;
        int r;

        if (fstat(fileno(file), &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || st.st_size <= (off_t)STRATA_MANIFEST_SUM_LEN)
                return -EUCLEAN;
        state = XXH3_createState();
        if (!state)
                return -ENOMEM;
        r = sum_file(file, (uint64_t)st.st_size - STRATA_MANIFEST_SUM_LEN, state);
        if (r == 0) {
                sum = XXH3_128bits_digest(state);
                snprintf(own, sizeof(own), STRATA_MANIFEST_SUM_FORMAT, sum.high64, sum.low64);
                if (fread(said, 1, STRATA_MANIFEST_SUM_LEN, file) != STRATA_MANIFEST_SUM_LEN ||
                    memcmp(said, own, STRATA_MANIFEST_SUM_LEN) != 0)
                        r = -EUCLEAN;
                else
                        snprintf(ret, 33, "%.32s", own + strlen("xxh3: "));
        }
        XXH3_freeState(state);
        return r;
}

static int open_file(struct strata *s, uint64_t id, FILE **ret)
{
        char path[STRATA_ID_PATH_MAX];
        FILE *file;
        int fd;

        strata_manifest_path(id, path);
        fd = openat(s->layers_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return errno == ELOOP ? -EUCLEAN : -errno;
        file = fdopen(fd, "re");
        if (!file) {
                strata_close(fd);
                return -ENOMEM;
        }
        *ret = file;
        return 0;
}

/* ---- opening ---- */

/* The head, and that it is of layer ID: one that was put in another's place is not believed. */
static int read_head(struct strata_manifest *m, uint64_t id)
{
        char line[64], want[64];

        rewind(m->file);
        if (!fgets(line, sizeof(line), m->file) || strcmp(line, STRATA_MANIFEST_HEAD) != 0)
                return -EUCLEAN;
        snprintf(want, sizeof(want), "id: %" PRIu64 "\n", id);
        if (!fgets(line, sizeof(line), m->file) || strcmp(line, want) != 0)
                return -EUCLEAN;
        return 0;
}

static int open_summary(struct strata *s, uint64_t id, const char *summary, struct strata_manifest *m)
{
        char want[33], sum[33];
        int r;

        if (!strata_manifest_has_file(summary)) {
                m->total = 1;
                snprintf(m->root, sizeof(m->root), "%s", summary + 2);
                return 0;
        }
        if (!parse_summary(summary, &m->total, want))
                return -EUCLEAN;
        r = open_file(s, id, &m->file);
        if (r == 0)
                r = check_sum(m->file, sum);
        if (r == 0 && strcmp(sum, want) != 0)
                r = -EUCLEAN; /* in order, but another commit's */
        return r == 0 ? read_head(m, id) : r;
}

int strata_manifest_open(struct strata *s, uint64_t id, const char *summary, struct strata_manifest **ret)
{
        struct strata_manifest *m = calloc(1, sizeof(*m));
        int r = m ? open_summary(s, id, summary, m) : -ENOMEM;

        if (r < 0)
                strata_manifest_close(m);
        else
                *ret = m;
        return r;
}

void strata_manifest_close(struct strata_manifest *m)
{
        if (!m)
                return;
        if (m->file)
                fclose(m->file);
        strata_buf_free(&m->path);
        free(m->line);
        free(m);
}

/* ---- entries ---- */

/* Each takes its field and the space behind it from *P; false if that is not there. */
static bool take_number(const char **p, uint64_t *ret)
{
        uint64_t n = 0;
        const char *c = *p;

        if (*c < '0' || *c > '9')
                return false;
        for (; *c >= '0' && *c <= '9'; c++)
                if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(*c - '0'), &n))
                        return false;
        *p = *c == ' ' ? c + 1 : c;
        *ret = n;
        return *c == ' ' || *c == '\0' || *c == '.';
}

static bool take_octal(const char **p, unsigned *ret)
{
        unsigned n = 0;

        for (int i = 0; i < 4; i++, (*p)++) {
                if (**p < '0' || **p > '7')
                        return false;
                n = n * 8 + (unsigned)(**p - '0');
        }
        *ret = n;
        return *(*p)++ == ' ';
}

static bool take_hex(const char **p, uint64_t *ret)
{
        uint64_t n = 0;

        for (int i = 0; i < 16; i++, (*p)++) {
                unsigned char c = (unsigned char)**p;

                if (c >= '0' && c <= '9')
                        n = n << 4 | (uint64_t)(c - '0');
                else if (c >= 'a' && c <= 'f')
                        n = n << 4 | (uint64_t)(c - 'a' + 10);
                else
                        return false;
        }
        *ret = n;
        return true;
}

static bool take_sum(const char **p, struct strata_sum *ret)
{
        if (**p == '-')
                (*p)++;
        else if (!take_hex(p, &ret->high) || !take_hex(p, &ret->low))
                return false;
        if (**p == ' ')
                (*p)++;
        else if (**p)
                return false;
        return true;
}

static bool take_time(const char **p, struct timespec *ret)
{
        bool negative = **p == '-';
        uint64_t sec, nsec;

        *p += negative;
        if (!take_number(p, &sec) || *(*p)++ != '.' || !take_number(p, &nsec) || nsec > 999999999)
                return false;
        ret->tv_sec = (time_t)(negative ? -sec : sec);
        ret->tv_nsec = (long)nsec;
        return true;
}

static bool take_fields(const char **p, struct strata_fingerprint *ret)
{
        struct strata_fingerprint fp = { .type = **p };
        uint64_t uid, gid;

        if (!fp.type || !strchr("dflcbpsw", fp.type) || (*p)[1] != ' ')
                return false;
        *p += 2;
        if (!take_octal(p, &fp.mode) || !take_number(p, &uid) || !take_number(p, &gid) || !take_time(p, &fp.mtime) ||
            !take_sum(p, &fp.xattrs) || !take_number(p, &fp.size) || !take_sum(p, &fp.content))
                return false;
        fp.uid = (uid_t)uid;
        fp.gid = (gid_t)gid;
        *ret = fp;
        return true;
}

/* The only entry of a layer that holds nothing. */
static int next_of_summary(struct strata_manifest *m, struct strata_manifest_entry *ret)
{
        const char *p = m->root;
        struct strata_manifest_entry e = { .path = "" };

        if (!take_fields(&p, &e.fp) || *p)
                return -EUCLEAN;
        m->n++;
        *ret = e;
        return 1;
}

int strata_manifest_next(struct strata_manifest *m, struct strata_manifest_entry *ret)
{
        struct strata_manifest_entry e = { 0 };
        uint64_t shared;
        const char *p;
        ssize_t len;

        if (m->n == m->total)
                return 0;
        if (!m->file)
                return next_of_summary(m, ret);
        errno = 0;
        len = getdelim(&m->line, &m->size, '\0', m->file);
        if (len <= 0)
                return errno == ENOMEM ? -ENOMEM : -EUCLEAN;
        p = m->line;
        if (m->line[len - 1] != '\0' || !take_fields(&p, &e.fp) || !take_number(&p, &e.first) ||
            !take_number(&p, &shared) || shared > m->path.len || e.first > m->n)
                return -EUCLEAN;
        m->path.len = (size_t)shared;
        strata_buf_addstr(&m->path, p);
        if (m->path.failed)
                return -ENOMEM;
        m->n++;
        e.path = m->path.data;
        *ret = e;
        return 1;
}

int strata_manifest_summarize(struct strata *s, uint64_t id, char summary[STRATA_MANIFEST_SUMMARY_MAX])
{
        struct strata_manifest m = { 0 };
        char sum[33], line[64] = "";
        uint64_t n = 0;
        int r = open_file(s, id, &m.file);

        if (r < 0)
                return r;
        r = check_sum(m.file, sum);
        if (r == 0)
                r = read_head(&m, id);
        /* The number of entries is the line before the checksum. */
        if (r == 0 && fseeko(m.file, -(off_t)(STRATA_MANIFEST_SUM_LEN + 40), SEEK_END) == 0) {
                size_t len = fread(line, 1, 40, m.file);
                const char *at = memmem(line, len, "entries: ", strlen("entries: "));
                const char *p = at ? at + strlen("entries: ") : "";
                char *newline = at ? memchr(at, '\n', len - (size_t)(at - line)) : NULL;

                if (newline)
                        *newline = '\0';
                if (!newline || !take_number(&p, &n) || n < 2)
                        r = -EUCLEAN;
        }
        fclose(m.file);
        if (r == 0)
                snprintf(summary, STRATA_MANIFEST_SUMMARY_MAX, "%" PRIu64 " %s", n, sum);
        return r;
}
