/* SPDX-License-Identifier: Apache-2.0 */
#include "layer_verify.h"

#include "layer_walk.h"
#include "log.h"
#include "manifest.h"
#include "record.h"
#include "strata.h"
#include "util/cleanup.h"
#include "util/inodes.h"
#include "util/wanted.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX ((size_t)512 << 20) /* bytes, as of `changes` */

/* Two sequences of the same order, the walk and the manifest, are merged. */
struct verify {
        struct strata_hasher *hasher;
        struct strata_manifest *manifest;
        struct strata_manifest_entry next; /* of the manifest, while there is one */
        bool has_next;
        uint64_t number;              /* of NEXT, from 1 */
        struct strata_inodes *inodes; /* by the number of their first entry */
        struct strata_buf *buf;
        uint64_t differences;
};

static int tell(struct verify *v, const char *what, const char *path)
{
        if (v->buf->len > TEXT_MAX)
                return -EFBIG;
        strata_buf_addf(v->buf, "%s ", what);
        strata_buf_add_layer_path(v->buf, path);
        strata_buf_addstr(v->buf, "\n");
        v->differences++;
        return strata_buf_status(v->buf);
}

static int advance(struct verify *v)
{
        int r = strata_manifest_next(v->manifest, &v->next);

        v->has_next = r > 0;
        v->number++;
        return r < 0 ? r : 0;
}

/* Nanoseconds that a copy of the store could not keep are no difference. */
static bool same_time(const struct timespec *then, const struct timespec *now)
{
        return then->tv_sec == now->tv_sec && (then->tv_nsec == now->tv_nsec || now->tv_nsec == 0);
}

static int compare_metadata(struct verify *v, const struct strata_fingerprint *then,
                            const struct strata_fingerprint *now)
{
        const char *path = v->next.path;
        int r = 0;

        if (then->mode != now->mode)
                r = tell(v, "mode", path);
        if (r == 0 && (then->uid != now->uid || then->gid != now->gid))
                r = tell(v, "owner", path);
        if (r == 0 && !same_time(&then->mtime, &now->mtime))
                r = tell(v, "time", path);
        if (r == 0 && !strata_sum_equal(&then->xattrs, &now->xattrs))
                r = tell(v, "xattr", path);
        return r;
}

/* Errors that are one object's, and not of the whole. */
static bool is_unreadable(int r)
{
        return r < 0 && r != -ENOMEM && r != -EMFILE && r != -ENFILE && r != -EINTR && r != -ENOENT && r != -EFBIG;
}

/* The content, unless it is that of an entry before: then it was compared there. */
static int compare_content(struct verify *v, const struct strata_subject *o, const struct strata_fingerprint *then,
                           struct strata_fingerprint *now)
{
        bool linked = !S_ISDIR(o->st.st_mode) && o->st.st_nlink > 1;
        uint64_t first = linked ? strata_inodes_find(v->inodes, &o->st) : 0;
        int r = 0;

        if (first != v->next.first)
                r = tell(v, "links", v->next.path);
        if (r == 0 && linked && !first)
                r = strata_inodes_add(&v->inodes, &o->st, v->number);
        if (r < 0 || (first && first == v->next.first))
                return r;
        if (v->next.first) {
                /* Of a link no content is kept, and its first one is not this any more. */
                return then->size != now->size ? tell(v, "content", v->next.path) : 0;
        }
        if (then->size == now->size)
                r = strata_fingerprint_content(v->hasher, o, now);
        if (is_unreadable(r))
                return tell(v, "unreadable", v->next.path);
        if (r == 0 && (then->size != now->size || !strata_sum_equal(&then->content, &now->content)))
                r = tell(v, "content", v->next.path);
        return r;
}

/* NEXT is the entry of what O is. */
static int compare(struct verify *v, const struct strata_subject *o)
{
        const struct strata_fingerprint *then = &v->next.fp;
        struct strata_fingerprint now;
        int r = strata_fingerprint_take(v->hasher, o, &now);

        if (is_unreadable(r))
                return tell(v, "unreadable", v->next.path);
        if (r < 0)
                return r;
        if (then->type != now.type)
                return tell(v, "type", v->next.path);
        if (now.type == 'w')
                return 0;
        r = compare_metadata(v, then, &now);
        return r == 0 ? compare_content(v, o, then, &now) : r;
}

/* What the manifest has before PATH is missing; all that is left, if PATH is NULL. */
static int skip_missing(struct verify *v, const char *path)
{
        int r = 0;

        while (r == 0 && v->has_next && (!path || strcmp(v->next.path, path) < 0)) {
                r = !strata_wanted() ? -EINTR : tell(v, "missing", v->next.path);
                if (r == 0)
                        r = advance(v);
        }
        return r;
}

static int look(void *data, enum strata_layer_event event, const struct strata_layer_entry *e)
{
        struct verify *v = data;
        struct strata_subject o;
        int r;

        if (event != STRATA_LAYER_ENTRY)
                return 0;
        if (!strata_wanted())
                return -EINTR;
        r = skip_missing(v, e->path);
        if (r < 0)
                return r;
        if (!v->has_next || strcmp(v->next.path, e->path) != 0)
                return tell(v, "added", e->path);
        r = strata_subject_begin(e->dirfd, e->name, e->type, &o);
        if (r == -ENOENT)
                return 0; /* vanished: found missing by what comes next */
        if (r == 0) {
                r = compare(v, &o);
                strata_subject_end(&o);
        } else if (is_unreadable(r)) {
                r = tell(v, "unreadable", e->path);
        }
        return r == 0 ? advance(v) : r;
}

static int walk(struct verify *v, struct strata *s, uint64_t id)
{
        struct strata_layer_walk w = { .below = -1, .prefix = strata_layer_prefix(s->in_userns) };
        char path[STRATA_ID_PATH_MAX];
        cleanup_fd int top = -1;
        int r;

        snprintf(path, sizeof(path), "%" PRIu64 "/fs", id);
        top = openat(s->layers_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (top < 0)
                return -errno;
        w.top = top;
        r = advance(v);
        if (r == 0)
                r = strata_layer_walk(&w, look, v);
        return r == 0 ? skip_missing(v, NULL) : r;
}

/* What there is to say without a manifest that could be compared, for ERROR of opening it. */
static int tell_manifest(struct verify *v, struct strata *s, const struct strata_info *info, int error)
{
        const char *what = error == -ENOENT ? "missing" : error == -EUCLEAN ? "damaged" : "unreadable";
        char path[STRATA_ID_PATH_MAX + 16];

        snprintf(path, sizeof(path), "layers/%" PRIu64 "/manifest", info->id);
        strata_log_add(s->log, "verify", path, NULL, error == -ENOENT ? EUCLEAN : error,
                       "the manifest of snapshots/%s is %s: its files can't be compared with anything", info->name,
                       what);
        strata_buf_addf(v->buf, "no fingerprints: the manifest of this snapshot is %s\n", what);
        v->differences++;
        return strata_buf_status(v->buf);
}

static int run(struct verify *v, struct strata *s, const struct strata_info *info)
{
        struct strata_record rec;
        int r = strata_record_load(s, info->id, &rec);

        if (r < 0)
                return r;
        if (!rec.manifest[0]) {
                strata_buf_addstr(v->buf,
                                  "no fingerprints: none were kept of this snapshot (-o fingerprint=on keeps them)\n");
                v->differences++;
                return strata_buf_status(v->buf);
        }
        r = strata_hasher_new(&v->hasher);
        if (r < 0)
                return r;
        r = strata_manifest_open(s, info->id, rec.manifest, &v->manifest);
        if (r == -ENOENT || is_unreadable(r))
                return tell_manifest(v, s, info, r);
        if (r < 0)
                return r;
        r = walk(v, s, info->id);
        return r == -EUCLEAN ? tell_manifest(v, s, info, r) : r;
}

int strata_verify(struct strata *s, const struct strata_info *info, struct strata_buf *buf, uint64_t *differences)
{
        cleanup_buf struct strata_buf text = STRATA_BUF_INIT;
        struct verify v = { .buf = &text };
        int r = run(&v, s, info), gone = strata_layer_stays(s, info->id);

        /* Of one that was removed meanwhile the files vanish one by one: that says nothing. */
        if (gone < 0 && r != -EINTR)
                r = gone;
        strata_manifest_close(v.manifest);
        strata_hasher_free(v.hasher);
        strata_inodes_free(&v.inodes);
        if (r < 0)
                return r;
        if (!v.differences)
                strata_buf_addstr(&text, "ok\n");
        strata_buf_add(buf, text.data, text.len);
        r = strata_buf_status(buf);
        if (r == 0)
                *differences = v.differences;
        return r;
}
