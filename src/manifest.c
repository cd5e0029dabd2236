/* SPDX-License-Identifier: Apache-2.0 */
/* The writing; what is read is in manifest_read.c. */
#include "manifest.h"

#include "manifest_part.h"
#include "strata.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define CHUNK 65536 /* bytes written at once */

struct strata_manifest_writer {
        struct strata *s;
        uint64_t id;
        int fd; /* -1 before the first chunk */
        XXH3_state_t *sum;
        struct strata_buf out;  /* what is not written yet */
        struct strata_buf path; /* of the entry before */
        uint64_t n;
        char root[STRATA_MANIFEST_SUMMARY_MAX]; /* the first entry, for the summary */
};

void strata_manifest_path(uint64_t id, char path[STRATA_ID_PATH_MAX])
{
        snprintf(path, STRATA_ID_PATH_MAX, "%" PRIu64 "/manifest", id);
}

int strata_manifest_writer_new(struct strata *s, uint64_t id, struct strata_manifest_writer **ret)
{
        struct strata_manifest_writer *w = calloc(1, sizeof(*w));

        if (w) {
                w->s = s;
                w->id = id;
                w->fd = -1;
                w->sum = XXH3_createState();
        }
        if (!w || !w->sum) {
                strata_manifest_writer_free(w);
                return -ENOMEM;
        }
        XXH3_128bits_reset(w->sum);
        strata_buf_addf(&w->out, STRATA_MANIFEST_HEAD "id: %" PRIu64 "\n", id);
        *ret = w;
        return 0;
}

void strata_manifest_writer_free(struct strata_manifest_writer *w)
{
        if (!w)
                return;
        strata_close(w->fd);
        XXH3_freeState(w->sum);
        strata_buf_free(&w->out);
        strata_buf_free(&w->path);
        free(w);
}

void strata_manifest_discard(struct strata *s, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];
        int saved = errno;

        strata_manifest_path(id, path);
        (void)unlinkat(s->layers_fd, path, 0);
        errno = saved;
}

static int flush(struct strata_manifest_writer *w)
{
        char path[STRATA_ID_PATH_MAX];
        int r = strata_buf_status(&w->out);

        if (r < 0)
                return r;
        if (w->fd < 0) {
                strata_manifest_path(w->id, path);
                w->fd = openat(w->s->layers_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
                if (w->fd < 0)
                        return -errno;
        }
        r = strata_io_write(w->fd, w->out.data, w->out.len);
        w->out.len = 0;
        return r;
}

/* ---- one entry ---- */

/* By hand: there may be millions, and printf(3) takes longer than the reading of a small file. */
static char *put_number(char *p, uint64_t n)
{
        char digits[20];
        unsigned len = 0;

        do
                digits[len++] = (char)('0' + n % 10);
        while (n /= 10);
        while (len)
                *p++ = digits[--len];
        *p++ = ' ';
        return p;
}

static char *put_octal(char *p, unsigned n)
{
        for (int shift = 9; shift >= 0; shift -= 3)
                *p++ = (char)('0' + (n >> shift & 7));
        *p++ = ' ';
        return p;
}

static char *put_hex(char *p, uint64_t n)
{
        for (int shift = 60; shift >= 0; shift -= 4)
                *p++ = "0123456789abcdef"[n >> shift & 15];
        return p;
}

static char *put_sum(char *p, const struct strata_sum *sum)
{
        if (!sum->high && !sum->low) {
                *p++ = '-';
        } else {
                p = put_hex(p, sum->high);
                p = put_hex(p, sum->low);
        }
        *p++ = ' ';
        return p;
}

static char *put_time(char *p, const struct timespec *t)
{
        if (t->tv_sec < 0)
                *p++ = '-';
        p = put_number(p, t->tv_sec < 0 ? -(uint64_t)t->tv_sec : (uint64_t)t->tv_sec);
        p[-1] = '.';
        for (long nsec = t->tv_nsec, unit = 100000000; unit; unit /= 10)
                *p++ = (char)('0' + nsec / unit % 10);
        *p++ = ' ';
        return p;
}

#define FIELDS_MAX 256 /* bytes: eight numbers of at most 20 digits, two sums */

/* The fields of an entry, a space behind each. Returns the end. */
static char *put_fields(char *p, const struct strata_fingerprint *fp)
{
        *p++ = fp->type;
        *p++ = ' ';
        p = put_octal(p, fp->mode);
        p = put_number(p, fp->uid);
        p = put_number(p, fp->gid);
        p = put_time(p, &fp->mtime);
        p = put_sum(p, &fp->xattrs);
        p = put_number(p, fp->size);
        return put_sum(p, &fp->content);
}

/* Bytes that PATH begins with as the path before does. */
static size_t shared_with(const struct strata_buf *before, const char *path)
{
        size_t n = 0;

        while (n < before->len && before->data[n] == path[n])
                n++;
        return n;
}

int strata_manifest_add(struct strata_manifest_writer *w, const struct strata_manifest_entry *e, uint64_t *ret)
{
        size_t shared = shared_with(&w->path, e->path), len = strlen(e->path);
        char fields[FIELDS_MAX], *end = put_fields(fields, &e->fp);

        if (w->n == 0)
                snprintf(w->root, sizeof(w->root), "%.*s", (int)(end - fields - 1), fields);
        end = put_number(end, e->first);
        end = put_number(end, shared);
        strata_buf_add(&w->out, fields, (size_t)(end - fields));
        strata_buf_add(&w->out, e->path + shared, len - shared + 1); /* with its NUL */
        w->path.len = shared;
        strata_buf_add(&w->path, e->path + shared, len - shared);
        *ret = ++w->n;
        if (w->path.failed)
                return -ENOMEM;
        if (w->out.len < CHUNK)
                return strata_buf_status(&w->out);
        XXH3_128bits_update(w->sum, w->out.data, w->out.len);
        return flush(w);
}

int strata_manifest_end(struct strata_manifest_writer *w, char summary[STRATA_MANIFEST_SUMMARY_MAX])
{
        XXH128_hash_t sum;
        int r = strata_buf_status(&w->out);

        if (r == 0 && w->n == 1) {
                snprintf(summary, STRATA_MANIFEST_SUMMARY_MAX, "1 %.150s", w->root);
                strata_manifest_discard(w->s, w->id); /* of a commit that did not come */
                return 0;
        }
        strata_buf_addf(&w->out, "entries: %" PRIu64 "\n", w->n);
        r = strata_buf_status(&w->out);
        if (r < 0)
                return r;
        XXH3_128bits_update(w->sum, w->out.data, w->out.len);
        sum = XXH3_128bits_digest(w->sum);
        strata_buf_addf(&w->out, STRATA_MANIFEST_SUM_FORMAT, sum.high64, sum.low64);
        r = flush(w);
        if (r == 0 && close(steal_fd(&w->fd)) < 0)
                r = -errno;
        if (r == 0)
                snprintf(summary, STRATA_MANIFEST_SUMMARY_MAX, "%" PRIu64 " %016" PRIx64 "%016" PRIx64, w->n,
                         sum.high64, sum.low64);
        return r;
}
