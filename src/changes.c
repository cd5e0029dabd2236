/* SPDX-License-Identifier: Apache-2.0 */
#include "changes.h"

#include "damage.h"
#include "layer_walk.h"
#include "mount.h"
#include "strata.h"
#include "util/cleanup.h"
#include "util/sumfile.h"
#include "util/wanted.h"
#include "xattrs.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/*
 * Bytes. The text is made in memory, and each line holds a whole path: of folders that lie thousands deep in each other
 * a few megabytes of names make gigabytes of text.
 */
#define TEXT_MAX ((size_t)512 << 20)

#define SIZE_FORMAT "%" PRIu64 "\n"

struct collect {
        struct strata_buf *buf;
        const char *prefix;
};

static int add_line(struct collect *c, char what, const char *path)
{
        struct strata_buf *buf = c->buf;
        if (buf->len > TEXT_MAX)
                return -EFBIG;
        strata_buf_addf(buf, "%c ", what);
        strata_buf_add_layer_path(buf, path);
        strata_buf_addstr(buf, "\n");
        return strata_buf_status(buf);
}

/* 1 if NAME exists below, *ST then being what it is; 0; -errno. */
static int look_below(const struct strata_layer_entry *e, struct stat *st)
{
        if (e->below < 0)
                return 0;
        if (fstatat(e->below, e->name, st, AT_SYMLINK_NOFOLLOW) == 0)
                return 1;
        return errno == ENOENT ? 0 : -errno;
}

/* 1 if the directory of E has another mode, owner or xattrs than the one below, ST; 0; -errno. */
static int directory_differs(struct collect *c, const struct strata_layer_entry *e, const struct stat *st)
{
        const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
        cleanup_fd int own = openat(e->dirfd, e->name, flags);
        cleanup_fd int other = own < 0 ? -1 : openat(e->below, e->name, flags);
        struct stat now;
        int r;

        if (other < 0)
                return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : -errno;
        if (fstat(own, &now) < 0)
                return -errno;
        if (now.st_mode != st->st_mode || now.st_uid != st->st_uid || now.st_gid != st->st_gid)
                return 1;
        r = strata_xattrs_equal(own, NULL, c->prefix, other);
        return r < 0 ? r : !r;
}

static int look(void *data, enum strata_layer_event event, const struct strata_layer_entry *e)
{
        struct collect *c = data;
        struct stat st;
        int r;

        if (!strata_wanted())
                return -EINTR;
        if (event == STRATA_LAYER_INSIDE)
                return 0;
        if (event == STRATA_LAYER_GONE)
                return add_line(c, 'D', e->path);
        r = look_below(e, &st);
        if (r < 0)
                return r;
        if (e->type == DT_WHT)
                return r ? add_line(c, 'D', e->path) : 0;
        if (!r)
                return add_line(c, 'A', e->path);
        if (e->type == DT_DIR && S_ISDIR(st.st_mode)) {
                r = directory_differs(c, e, &st);
                if (r <= 0)
                        return r;
        }
        return add_line(c, 'M', e->path);
}

static bool has_no_layer(const struct strata_info *info)
{
        return info->kind == STRATA_VIEW;
}

int strata_changes_get(struct strata *s, const struct strata_info *info, struct strata_buf *buf)
{
        cleanup_buf struct strata_buf text = STRATA_BUF_INIT;
        cleanup_fd int top = -1, below = -1;
        struct collect c = { .buf = &text, .prefix = strata_layer_prefix(s->in_userns) };
        struct strata_layer_walk walk;
        char path[STRATA_ID_PATH_MAX], line[32];
        uint64_t known;
        int r, n, gone;

        if (has_no_layer(info))
                return strata_buf_status(buf);
        snprintf(path, sizeof(path), "%" PRIu64 "/fs", info->id);
        top = openat(s->layers_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (top < 0)
                return -errno;
        r = strata_mount_open_lower(s, info, &below);
        gone = r < 0 ? strata_layer_stays(s, info->id) : 0;
        if (r < 0)
                return gone < 0 ? gone : r; /* with it, those below may be gone, which is no damage then */
        walk = (struct strata_layer_walk){ .top = top, .below = below, .prefix = c.prefix, .want_gone = true };
        r = strata_layer_walk(&walk, look, &c);
        gone = strata_layer_stays(s, info->id);
        if (r < 0 || gone < 0)
                return gone < 0 ? gone : r;
        if (info->kind == STRATA_COMMITTED && !strata_changes_size(s, info, &known)) {
                strata_damage_note_sumfile(s, info->id, "changes");
                /* A full disk is no reason to tell nothing. */
                n = snprintf(line, sizeof(line), SIZE_FORMAT, (uint64_t)text.len);
                snprintf(path, sizeof(path), "%" PRIu64 "/changes", info->id);
                (void)strata_sumfile_write(s->layers_fd, path, s->run, line, (size_t)n, false);
        }
        if (!buf->len && !buf->failed) { /* it may be long: no copy */
                strata_buf_free(buf);
                *buf = text;
                text = STRATA_BUF_INIT;
        }
        strata_buf_add(buf, text.data, text.len);
        return strata_buf_status(buf);
}

bool strata_changes_size(struct strata *s, const struct strata_info *info, uint64_t *ret)
{
        char path[STRATA_ID_PATH_MAX], text[STRATA_SUMFILE_MAX];
        uint64_t size;

        if (has_no_layer(info)) {
                *ret = 0;
                return true;
        }
        if (info->kind != STRATA_COMMITTED)
                return false;
        snprintf(path, sizeof(path), "%" PRIu64 "/changes", info->id);
        if (strata_sumfile_read(s->layers_fd, path, text) < 0 || sscanf(text, SIZE_FORMAT, &size) != 1)
                return false;
        *ret = size;
        return true;
}
