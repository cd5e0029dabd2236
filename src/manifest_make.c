/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest_make.h"

#include "layer_walk.h"
#include "strata.h"
#include "util/cleanup.h"
#include "util/inodes.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct make {
        struct strata *s;
        struct strata_hasher *hasher;
        struct strata_manifest_writer *writer;
        struct strata_inodes *inodes; /* by the number of their first entry */
};

/* One object; a link of an inode that was there already is not read again. */
static int add_subject(struct make *m, const struct strata_subject *o, const char *path)
{
        bool linked = !S_ISDIR(o->st.st_mode) && o->type != 'w' && o->st.st_nlink > 1;
        struct strata_manifest_entry e = { .path = path };
        uint64_t number;
        int r = strata_fingerprint_take(m->hasher, o, &e.fp);

        if (r == 0 && linked)
                e.first = strata_inodes_find(m->inodes, &o->st);
        if (r == 0 && !e.first)
                r = strata_fingerprint_content(m->hasher, o, &e.fp);
        if (r == 0)
                r = strata_manifest_add(m->writer, &e, &number);
        if (r == 0 && linked && !e.first)
                r = strata_inodes_add(&m->inodes, &o->st, number);
        return r;
}

static int add(void *data, enum strata_layer_event event, const struct strata_layer_entry *e)
{
        struct make *m = data;
        struct strata_subject o;
        int r;

        if (event != STRATA_LAYER_ENTRY)
                return 0;
        r = strata_subject_begin(e->dirfd, e->name, e->type, &o);
        if (r < 0)
                return r;
        r = add_subject(m, &o, e->path);
        strata_subject_end(&o);
        return r;
}

static int walk(struct make *m, uint64_t id)
{
        const char *prefix = strata_layer_prefix(m->s->in_userns);
        char path[STRATA_ID_PATH_MAX];
        cleanup_fd int top = -1;
        struct strata_layer_walk w = { .below = -1, .prefix = prefix };

        snprintf(path, sizeof(path), "%" PRIu64 "/fs", id);
        top = openat(m->s->layers_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (top < 0)
                return -errno;
        w.top = top;
        return strata_layer_walk(&w, add, m);
}

int strata_manifest_make(struct strata *s, uint64_t id, char summary[STRATA_MANIFEST_SUMMARY_MAX])
{
        struct make m = { .s = s };
        int r = strata_hasher_new(&m.hasher);

        if (r == 0)
                r = strata_manifest_writer_new(s, id, &m.writer);
        if (r == 0)
                r = walk(&m, id);
        if (r == 0)
                r = strata_manifest_end(m.writer, summary);
        if (r < 0)
                strata_manifest_discard(s, id);
        strata_manifest_writer_free(m.writer);
        strata_hasher_free(m.hasher);
        strata_inodes_free(&m.inodes);
        return r;
}
