/* SPDX-License-Identifier: Apache-2.0 */
#include "prepare.h"

#include "chain.h"
#include "copy.h"
#include "link.h"
#include "record.h"
#include "store.h"
#include "strata.h"
#include "trash.h"
#include "util/cleanup.h"
#include "util/timefmt.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Makes the root of a child, TO, look like the root of its parent: owner, mode, xattrs, ACLs, times. */
static int copy_root(struct strata *s, int to, const struct stat *now, uint64_t parent)
{
        char path[STRATA_ID_PATH_MAX];
        cleanup_fd int from = -1;
        struct stat st;

        snprintf(path, sizeof(path), "%" PRIu64 "/fs", parent);
        from = openat(s->layers_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (from < 0 || fstat(from, &st) < 0)
                return -errno;
        return strata_copy_attributes(s, STRATA_COPY_LAYER, from, &st, to, now);
}

static int set_root(int fd, const struct stat *now, uid_t uid, gid_t gid)
{
        if ((now->st_mode & 07777) != 0755 && fchmod(fd, 0755) < 0) /* whatever the umask is */
                return -errno;
        if (now->st_uid == uid && now->st_gid == gid)
                return 0;
        return fchown(fd, uid, gid) < 0 ? -errno : 0;
}

/* Makes layers/ID/fs, a child's root if there is a PARENT. What the store's own place hands down is not for its users.
 */
static int make_root(struct strata *s, int layer_fd, uint64_t parent, uid_t uid, gid_t gid)
{
        cleanup_fd int fd = -1;
        struct stat now;
        int r;

        if (mkdirat(layer_fd, "fs", 0755) < 0)
                return -errno;
        fd = openat(layer_fd, "fs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = strata_copy_drop_inherited(fd);
        if (r < 0)
                return r;
        if (fstat(fd, &now) < 0)
                return -errno;
        return parent ? copy_root(s, fd, &now, parent) : set_root(fd, &now, uid, gid);
}

/* Makes an empty layers/ID. An ID that the store holds already, as when `next` was lost, is passed over. */
static int new_layer_dir(struct strata *s, uint64_t *ret)
{
        char path[STRATA_ID_PATH_MAX];
        int r;

        for (;;) {
                r = strata_next_id(s, ret);
                if (r < 0)
                        return r;
                snprintf(path, sizeof(path), "%" PRIu64, *ret);
                if (mkdirat(s->layers_fd, path, 0700) == 0)
                        return 0;
                if (errno != EEXIST)
                        return -errno;
        }
}

/* Fills layers/ID with all that belongs in it, still unlinked. What is left after a failure is the caller's to remove.
 */
static int make_layer(struct strata *s, const struct strata_record *rec, uid_t uid, gid_t gid)
{
        bool own_files = rec->now.kind == STRATA_ACTIVE || !rec->parent;
        cleanup_fd int fd = -1;
        char path[STRATA_ID_PATH_MAX];
        int r;

        snprintf(path, sizeof(path), "%" PRIu64, rec->id);
        fd = openat(s->layers_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = own_files ? make_root(s, fd, rec->parent, uid, gid) : 0;
        if (r < 0)
                return r;
        if (rec->now.kind == STRATA_ACTIVE && mkdirat(fd, "work", 0700) < 0)
                return -errno;
        return strata_record_create(fd, rec);
}

/* Marks ID as a child of PARENT, which the caller knows to exist: NAMES is held. */
static int add_mark(struct strata *s, uint64_t parent, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];
        int fd;

        snprintf(path, sizeof(path), "%" PRIu64 "/children/%" PRIu64, parent, id);
        fd = openat(s->layers_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno == ENOENT) {
                *strrchr(path, '/') = '\0';
                if (mkdirat(s->layers_fd, path, 0700) < 0 && errno != EEXIST)
                        return -errno;
                snprintf(path, sizeof(path), "%" PRIu64 "/children/%" PRIu64, parent, id);
                fd = openat(s->layers_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        }
        if (fd < 0)
                return -errno;
        strata_close(fd);
        return 0;
}

static void drop_mark(struct strata *s, uint64_t parent, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];

        snprintf(path, sizeof(path), "%" PRIu64 "/children/%" PRIu64, parent, id);
        if (unlinkat(s->layers_fd, path, 0) < 0 && errno != ENOENT)
                atomic_store(&s->rubbish, true);
}

/* The last step: makes the layer an entry. */
static int publish(struct strata *s, const struct strata_record *rec, const char **why)
{
        char target[STRATA_TARGET_MAX];
        struct strata_info parent;
        int r;

        strata_entry_target(rec->id, target);
        pthread_mutex_lock(&s->names);
        if (rec->parent) /* its commit may not be on the disk yet, and be taken back */
                strata_op_wait_moved(s, rec->parent);
        r = strata_link_check_free_held(s, rec->now.kind, rec->now.name, why);
        if (r == 0 && rec->parent) {
                r = strata_entry_info(s, rec->parent, &parent);
                if (r == 0 && parent.kind != STRATA_COMMITTED) {
                        *why = "there is no such parent in snapshots/: its commit failed";
                        r = -ENOENT;
                }
                if (r == 0)
                        r = add_mark(s, rec->parent, rec->id);
        }
        if (r == 0 && symlinkat(target, s->kind_fd[rec->now.kind], rec->now.name) < 0) {
                r = -errno;
                if (rec->parent)
                        drop_mark(s, rec->parent, rec->id);
        }
        if (r == 0)
                strata_link_remember(s, rec);
        pthread_mutex_unlock(&s->names);
        return r;
}

/* True if the parent was removed while a child was being made: whatever failed then failed of that. */
static bool is_gone(struct strata *s, uint64_t parent, const char **why)
{
        struct strata_info info;

        if (strata_entry_info(s, parent, &info) != -ENOENT)
                return false;
        *why = "the parent was removed meanwhile";
        return true;
}

int strata_prepare(struct strata *s, enum strata_kind kind, const char *key, const char *parent, uid_t uid, gid_t gid,
                   uint64_t *ret_id, const char **why)
{
        struct strata_record rec = { .depth = 1, .now.kind = kind };
        struct strata_info below;
        int r;

        *why = NULL;
        r = strata_name_check(key, why);
        if (r == 0 && parent[0])
                r = strata_name_check(parent, why);
        if (r == 0)
                r = strata_link_check_free(s, kind, key, why);
        if (r < 0)
                return r;
        strcpy(rec.now.name, key);
        if (parent[0]) {
                r = strata_entry_get(s, STRATA_COMMITTED, parent, &below);
                if (r == -ENOENT)
                        *why = "there is no such parent in snapshots/; `ls snapshots` shows what is there";
                if (r < 0)
                        return r;
                rec.parent = below.id;
                rec.depth = below.depth + 1;
                r = strata_chain_check(s, &below, kind == STRATA_ACTIVE);
                if (r == -EMLINK)
                        *why = "the chain of parents is as long as the kernel can mount; prepare on a snapshot with "
                               "fewer layers below";
                if (r < 0)
                        return is_gone(s, below.id, why) ? -ENOENT : r;
        }
        rec.created = strata_time_now();
        r = new_layer_dir(s, &rec.id);
        if (r < 0)
                return r;
        r = make_layer(s, &rec, uid, gid);
        if (r == 0)
                r = publish(s, &rec, why);
        if (r < 0) {
                (void)strata_trash_layer(s, rec.id);
                return rec.parent && is_gone(s, rec.parent, why) ? -ENOENT : r;
        }
        strata_store_note_unsynced(s);
        *ret_id = rec.id;
        return 0;
}
