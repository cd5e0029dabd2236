/* SPDX-License-Identifier: Apache-2.0 */
#include "commit.h"

#include "index.h"
#include "link.h"
#include "mount.h"
#include "strata.h"
#include "util/timefmt.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The entry's mtime, which is that of its link. */
static int set_time(struct strata *s, const struct strata_info *info, struct timespec t)
{
        const struct timespec times[2] = { t, t };

        if (utimensat(s->kind_fd[info->kind], info->name, times, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        strata_index_drop(s->index, info->id);
        return 0;
}

/* One syncfs covers the layer's files, its record and its directories, whatever the file system. */
static int sync_all(struct strata *s)
{
        return s->config.durable && syncfs(s->root_fd) < 0 ? -errno : 0;
}

static int commit_entry(struct strata *s, const struct strata_info *info, const char *name, const char **why)
{
        int cut_off = strata_mount_was_cut_off(s, info->id);
        struct strata_record rec;
        int r;

        r = strata_link_check_free(s, STRATA_COMMITTED, name, why); /* before any work, and again at the step */
        if (r == 0)
                r = cut_off > 0 ? strata_mount_is_suspect(s, info->id) : cut_off;
        if (r > 0) {
                *why = STRATA_MOUNT_CUT_OFF;
                r = -EUCLEAN;
        }
        if (r < 0)
                return r;
        strata_link_record(info, STRATA_COMMITTED, name, &rec);
        rec.committed = strata_time_now();
        r = strata_record_stage(s, &rec, false);
        if (r < 0)
                return r;
        r = set_time(s, info, rec.committed);
        if (r == 0)
                r = sync_all(s);
        if (r < 0)
                strata_record_discard(s, rec.id);
        else
                r = strata_link_move(s, &rec, why);
        if (r < 0)
                (void)set_time(s, info, info->updated);
        else if (cut_off)
                strata_mount_forget_cut(s, info->id);
        return r;
}

int strata_commit(struct strata *s, const char *key, const char *name, const char **why)
{
        struct strata_info info;
        struct strata_op op;
        int r;

        *why = NULL;
        r = strata_name_check(name, why);
        if (r == 0)
                r = strata_op_begin_entry(s, &op, STRATA_ACTIVE, key, &info);
        if (r < 0)
                return r;
        r = commit_entry(s, &info, name, why);
        strata_op_end(s, &op);
        return r;
}
