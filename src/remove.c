/* SPDX-License-Identifier: Apache-2.0 */
#include "remove.h"

#include "index.h"
#include "link.h"
#include "strata.h"
#include "trash.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

bool strata_remove_has_begun(struct strata *s, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];

        snprintf(path, sizeof(path), "%" PRIu64 "/" STRATA_REMOVE_LINK, id);
        return faccessat(s->layers_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

/*
 * Into the layer, in one step: after a crash that tells what was removed from what lost its link. Where the layer can't
 * take it, the removal counts for more: a full disk is to be made room on.
 */
static int take_link(struct strata *s, const struct strata_info *info)
{
        char to[STRATA_ID_PATH_MAX];

        snprintf(to, sizeof(to), "%" PRIu64 "/" STRATA_REMOVE_LINK, info->id);
        if (renameat(s->kind_fd[info->kind], info->name, s->layers_fd, to) == 0)
                return 0;
        if (errno != ENOSPC && errno != EDQUOT && errno != EPERM && errno != ENOENT)
                return -errno;
        return unlinkat(s->kind_fd[info->kind], info->name, 0) < 0 ? -errno : 0;
}

/* What earlier versions let happen, where a commit was taken back. */
#define CHILDREN_OF_NO_SNAPSHOT                                                                                        \
        "other entries stand on it, though it is no snapshot: `cat tree` shows them; remove those first"

/* The step that counts: with NAMES held no child can come in between. */
static int unlink_entry(struct strata *s, const struct strata_info *info, const char **why)
{
        int r;

        pthread_mutex_lock(&s->names);
        r = strata_entry_has_children(s, info->id);
        if (r > 0) {
                *why = info->kind == STRATA_COMMITTED ? STRATA_REMOVE_CHILDREN : CHILDREN_OF_NO_SNAPSHOT;
                r = -ENOTEMPTY;
        }
        if (r == 0)
                r = take_link(s, info);
        strata_index_drop(s->index, info->id);
        pthread_mutex_unlock(&s->names);
        return r;
}

/* As strata_entry_get(), but what is damaged can be removed as well; then without knowing what it stands on. */
static int find_entry(struct strata *s, enum strata_kind kind, const char *name, struct strata_info *ret)
{
        int r = strata_entry_get(s, kind, name, ret);

        if (r != -EUCLEAN)
                return r;
        *ret = (struct strata_info){ .kind = kind };
        snprintf(ret->name, sizeof(ret->name), "%s", name);
        return strata_entry_find(s, kind, name, &ret->id);
}

int strata_remove(struct strata *s, enum strata_kind kind, const char *name, const char **why)
{
        char mark[STRATA_ID_PATH_MAX];
        struct strata_info info;
        struct strata_op op;
        uint64_t id;
        int r;

        *why = NULL;
        r = find_entry(s, kind, name, &info);
        if (r == 0)
                r = strata_op_begin(s, &op, info.id);
        if (r < 0)
                return r;
        id = info.id;
        r = find_entry(s, kind, name, &info); /* the name may have changed hands before the claim */
        if (r == 0 && info.id != id)
                r = -ENOENT;
        if (r == 0)
                r = unlink_entry(s, &info, why);
        if (r == 0) {
                /* It is gone. What fails from here on is tried again, or swept at the next start. */
                if (info.parent) {
                        snprintf(mark, sizeof(mark), "%" PRIu64 "/children/%" PRIu64, info.parent, info.id);
                        if (unlinkat(s->layers_fd, mark, 0) < 0 && errno != ENOENT)
                                atomic_store(&s->rubbish, true);
                }
                (void)strata_trash_layer(s, info.id);
        }
        strata_op_end(s, &op);
        return r;
}
