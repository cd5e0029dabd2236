/* SPDX-License-Identifier: Apache-2.0 */
#include "usage.h"

#include "damage.h"
#include "strata.h"
#include "util/hash.h"
#include "util/sumfile.h"
#include "util/walk.h"
#include "util/wanted.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define USAGE_FORMAT "%" PRIu64 " %" PRIu64 "\n"

/* An inode with several links that was counted. */
struct seen {
        ino_t ino;
        UT_hash_handle hh;
        int oom;
};

struct count {
        struct strata_usage usage;
        struct seen *seen;
};

static int add_inode(struct count *c, const struct stat *st)
{
        if (!S_ISDIR(st->st_mode) && st->st_nlink > 1) {
                struct seen *seen;

                HASH_FIND(hh, c->seen, &st->st_ino, sizeof(st->st_ino), seen);
                if (seen)
                        return 0;
                seen = calloc(1, sizeof(*seen));
                if (!seen)
                        return -ENOMEM;
                seen->ino = st->st_ino;
                HASH_ADD(hh, c->seen, ino, sizeof(seen->ino), seen);
                if (seen->oom) {
                        free(seen);
                        return -ENOMEM;
                }
        }
        c->usage.bytes += (uint64_t)st->st_blocks * 512;
        c->usage.inodes++;
        return 0;
}

static int count_one(void *data, enum strata_walk_event event, int dirfd, const char *name)
{
        struct stat st;

        if (!strata_wanted())
                return -EINTR;
        if (event == STRATA_WALK_LEAVE)
                return 0;
        if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        return add_inode(data, &st);
}

static int count_layer(struct strata *s, uint64_t id, struct strata_usage *ret)
{
        struct count c = { 0 };
        struct seen *seen, *next;
        char path[STRATA_ID_PATH_MAX];
        struct stat st;
        int r, gone;

        snprintf(path, sizeof(path), "%" PRIu64 "/fs", id);
        if (fstatat(s->layers_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        r = add_inode(&c, &st);
        if (r == 0)
                r = strata_walk(s->layers_fd, path, count_one, &c);
        HASH_ITER(hh, c.seen, seen, next) {
                HASH_DEL(c.seen, seen);
                free(seen);
        }
        gone = strata_layer_stays(s, id);
        if (r < 0 || gone < 0)
                return gone < 0 ? gone : r;
        *ret = c.usage;
        return 0;
}

bool strata_usage_known(struct strata *s, const struct strata_info *info, struct strata_usage *ret)
{
        char path[STRATA_ID_PATH_MAX], text[STRATA_SUMFILE_MAX];
        struct strata_usage usage = { 0 };

        if (info->kind == STRATA_VIEW && info->parent) {
                *ret = usage;
                return true;
        }
        if (info->kind != STRATA_COMMITTED)
                return false;
        snprintf(path, sizeof(path), "%" PRIu64 "/usage", info->id);
        if (strata_sumfile_read(s->layers_fd, path, text) < 0 ||
            sscanf(text, USAGE_FORMAT, &usage.bytes, &usage.inodes) != 2)
                return false; /* damaged: it can be counted anew */
        *ret = usage;
        return true;
}

int strata_usage_get(struct strata *s, const struct strata_info *info, struct strata_usage *ret)
{
        char path[STRATA_ID_PATH_MAX], text[STRATA_SUMFILE_MAX];
        struct strata_usage usage;
        int r, n;

        if (strata_usage_known(s, info, ret))
                return 0;
        if (info->kind == STRATA_COMMITTED)
                strata_damage_note_sumfile(s, info->id, "usage");
        r = count_layer(s, info->id, &usage);
        if (r < 0)
                return r;
        if (info->kind == STRATA_COMMITTED) {
                /* A full disk is no reason to tell nothing: it is counted again next time then. */
                n = snprintf(text, sizeof(text), USAGE_FORMAT, usage.bytes, usage.inodes);
                snprintf(path, sizeof(path), "%" PRIu64 "/usage", info->id);
                (void)strata_sumfile_write(s->layers_fd, path, s->run, text, (size_t)n, false);
        }
        *ret = usage;
        return 0;
}
