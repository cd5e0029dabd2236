/* SPDX-License-Identifier: Apache-2.0 */
/* Commit, rename and removal, done to the store and to what is mounted. */
#include "change.h"

#include "attach.h"
#include "busy.h"
#include "commit.h"
#include "keep.h"
#include "link.h"
#include "mount.h"
#include "mount_watch.h"
#include "mounts.h"
#include "place.h"
#include "remove.h"
#include "rename.h"
#include "store.h"
#include "strata.h"
#include "takeover.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#define INTERRUPTIONS_MAX 100 /* in a row */
#define UNMOUNTS_MAX 3
#define PAUSES_MAX 20 /* of ten milliseconds */

void sfs_change_why(struct sfs_change *c, const char *why)
{
        if (why)
                snprintf(c->why, sizeof(c->why), "%s", why);
}

/* The engine's part, once. */
static int apply(struct sfs_change *c)
{
        struct strata *s = c->sfs->store;
        const char *why = NULL;
        int r;

        if (c->already)
                return strata_store_sync_dir(s, s->kind_fd[c->to]);
        if (c->change == SFS_COMMIT)
                r = strata_commit(s, c->info.name, c->newname, &why);
        else if (c->change == SFS_RENAME)
                r = strata_rename(s, c->info.kind, c->info.name, c->newname, &why);
        else if (c->change == SFS_EXCHANGE)
                r = strata_exchange(s, c->info.kind, c->info.name, c->newname, &why);
        else
                r = strata_remove(s, c->info.kind, c->info.name, &why);
        sfs_change_why(c, why);
        return r;
}

static void tell_busy(struct sfs_change *c, const char *what, const struct strata_buf *who)
{
        snprintf(c->why, sizeof(c->why), "%s: %s; end or close that first", what,
                 who->len ? who->data : "by the kernel");
}

/*
 * To be done again after a pause: what is nobody's that can be found is mostly a walk that passes through, or what a
 * dead worker's last thread still holds.
 */
static bool pause_for_nobody(struct sfs_change *c, unsigned tries)
{
        const struct timespec pause = { .tv_nsec = 10000000 };

        if (sfs_takeover_pause(c->sfs, tries))
                return true;
        if (tries >= PAUSES_MAX)
                return false;
        nanosleep(&pause, NULL);
        return true;
}

/* True if somebody was found. */
static bool describe_in_use(struct sfs_change *c, const char *path)
{
        struct strata_buf who = STRATA_BUF_INIT;
        bool ret;
        dev_t dev;

        if (strata_mount_is_attached(path, &dev) > 0 && strata_busy_processes(dev, false, &who) == 0 &&
            !strata_busy_elsewhere(dev, &who))
                (void)sfs_mounts_below(c->sfs->mnt, c->sfs->dev, c->info.kind, c->info.name, &who);
        tell_busy(c, "its fs/ is in use", &who);
        ret = who.len;
        strata_buf_free(&who);
        return ret;
}

/*
 * The kernel makes no file system read-only while a file is open for writing, or one that was deleted is open at all:
 * to keep that one would mean to write (sb_prepare_remount_readonly()).
 */
static bool describe_unfrozen(struct sfs_change *c, const char *path)
{
        const char *what = "a file below fs/ is open for writing";
        struct strata_buf who = STRATA_BUF_INIT;
        bool ret;
        dev_t dev;

        if (strata_mount_is_attached(path, &dev) > 0 && strata_busy_processes(dev, true, &who) == 0) {
                if (strata_busy_processes(dev, false, &who))
                        what = "something deleted below fs/ is still open";
                else
                        strata_busy_elsewhere(dev, &who);
        }
        tell_busy(c, what, &who);
        ret = who.len;
        strata_buf_free(&who);
        return ret;
}

/* Makes it read-only, without a writer. */
static int freeze(struct sfs_change *c, const char *path)
{
        int r;

        sfs_keep_at(c->info.id);
        r = strata_mount_freeze(c->sfs->store, path);
        for (unsigned tries = 0; r == -EBUSY; tries++) {
                if (describe_unfrozen(c, path) || !pause_for_nobody(c, tries))
                        break;
                r = strata_mount_freeze(c->sfs->store, path);
        }
        sfs_keep_at(0);
        if (r == 0)
                sfs_change_why(c, "");
        return r;
}

/* Takes it down, without a user. */
static int unmount_idle(struct sfs_change *c, const char *path)
{
        int r = sfs_attach_unmount(c->sfs->attach, c->info.id, path, 0);

        for (unsigned tries = 0; r == -EBUSY; tries++) {
                if (describe_in_use(c, path) || !pause_for_nobody(c, tries))
                        break;
                r = sfs_attach_unmount(c->sfs->attach, c->info.id, path, 0);
        }
        if (r == 0)
                sfs_change_why(c, "");
        return r;
}

/*
 * A mount that was just taken away is taken apart a moment later; one that a dead worker was making or taking down goes
 * with that worker's last thread.
 */
static int lives_on(struct sfs *sfs, uint64_t id)
{
        int ret = strata_mount_lives_on(sfs->store, id);

        for (unsigned tries = 0; ret > 0 && (sfs_attach_pause(tries) || sfs_takeover_pause(sfs, tries)); tries++)
                ret = strata_mount_lives_on(sfs->store, id);
        return ret;
}

/* True if C must not happen while somebody is in a mount of the entry that is not at its fs/ any more. */
bool sfs_change_minds_others(const struct sfs_change *c)
{
        if (c->already || !c->info.id)
                return false;
        return c->change == SFS_REMOVE ? c->info.kind != STRATA_VIEW : c->change == SFS_COMMIT;
}

/* Nobody may be at work in a mount that lives on elsewhere. */
static int check_others(struct sfs_change *c)
{
        int r = sfs_change_minds_others(c) ? lives_on(c->sfs, c->info.id) : 0;
        char *why;

        if (r <= 0)
                return r;
        why = strata_mount_explain_life(c->sfs->store, &c->info);
        sfs_change_why(c, why);
        free(why);
        return -EBUSY;
}

/*
 * -ENOTEMPTY if it has children, and is not to be unmounted in vain. The engine asks again; it is not left to that, as
 * the last child may go meanwhile, and what is mounted then be removed with whoever is in it.
 */
static int check_children(struct sfs_change *c)
{
        if (c->change != SFS_REMOVE || c->already || c->info.kind != STRATA_COMMITTED ||
            strata_entry_has_children(c->sfs->store, c->info.id) <= 0)
                return 0;
        sfs_change_why(c, STRATA_REMOVE_CHILDREN);
        return -ENOTEMPTY;
}

static int refuse_used(struct sfs_change *c, struct strata_buf *who)
{
        snprintf(c->why, sizeof(c->why), "its fs/ is in use: %s; end that first", who->data ? who->data : "");
        strata_buf_free(who);
        return -EBUSY;
}

/* Nobody may be in a mount of the entry that is off the tree, when the entry goes. */
static int check_left(struct sfs_change *c)
{
        struct strata_buf who = STRATA_BUF_INIT;
        dev_t dev, lost[SFS_LOST_MAX] = { 0 };

        if (c->change != SFS_REMOVE)
                return 0;
        if (sfs_attach_is_inherited(c->sfs->attach, c->info.id, &dev) && strata_busy_processes(dev, false, &who))
                return refuse_used(c, &who);
        /*
         * Of an active one check_others() knows for sure. Here a device is all there is, and if it is in a table it is
         * on the tree somewhere: its number is another one's by now.
         */
        if (c->info.kind != STRATA_ACTIVE)
                (void)sfs_attach_was_lost(c->sfs->attach, c->info.id, lost);
        for (unsigned i = 0; i < SFS_LOST_MAX && lost[i]; i++)
                if (!strata_busy_is_mounted(lost[i]) && strata_busy_processes(lost[i], false, &who))
                        return refuse_used(c, &who);
        return 0;
}

/* What is not mounted at its fs/. */
static int apply_bare(struct sfs_change *c)
{
        int r = check_children(c);

        if (r == 0)
                r = check_others(c);
        if (r == 0)
                r = check_left(c);
        return r < 0 ? r : apply(c);
}

/* As apply_bare(), of what was mounted and is found unmounted by somebody else. */
static int apply_lost(struct sfs_change *c)
{
        c->mounted = false;
        sfs_attach_lost(c->sfs->attach, c->info.id);
        return apply_bare(c);
}

/* What is mounted below its fs/ would go with that, and with all that was written there. */
static int check_below(struct sfs_change *c)
{
        struct strata_buf where = STRATA_BUF_INIT;
        int r = sfs_mounts_below(c->sfs->mnt, c->sfs->dev, c->info.kind, c->info.name, &where);

        if (r > 0)
                snprintf(c->why, sizeof(c->why),
                         "something is mounted below its fs/, which is no part of it: umount %s",
                         where.data ? where.data : "");
        strata_buf_free(&where);
        return r > 0 ? -EBUSY : r;
}

/* Freeze, commit, unmount. The frozen mount goes last: up to there a failure can be undone. */
static int commit_mounted(struct sfs_change *c, const char *path)
{
        struct strata *s = c->sfs->store;
        int r = c->already ? 0 : check_below(c);
        cleanup_fd int watch = -1;
        dev_t dev;

        if (r == 0 && !c->already)
                r = freeze(c, path);
        if (r == -EINVAL && strata_mount_is_attached(path, &dev) == 0)
                return apply_lost(c);
        if (r < 0)
                return r;
        r = apply(c);
        if (r < 0 && c->already)
                return r;
        if (r < 0) {
                (void)strata_mount_thaw(s, path);
                return r;
        }
        watch = strata_mount_watch(path);
        for (unsigned tries = 0; tries < UNMOUNTS_MAX && c->mounted; tries++) {
                r = sfs_attach_unmount(c->sfs->attach, c->info.id, path, MNT_DETACH);
                c->mounted = r < 0 && r != -EINVAL;
        }
        if (!c->mounted) /* else it stays, frozen, until it is idle */
                strata_mount_committed(s, c->info.id, strata_mount_has_ended(watch));
        return 0;
}

static int remove_mounted(struct sfs_change *c, const char *path)
{
        struct strata_buf who = STRATA_BUF_INIT;
        int keep, r = check_children(c);
        dev_t dev;

        if (r == 0 && c->info.kind == STRATA_COMMITTED)
                r = check_others(c);
        if (r == 0)
                r = check_left(c);
        if (r < 0)
                return r;
        if (strata_mount_is_attached(path, &dev) > 0 && strata_busy_elsewhere(dev, &who))
                return refuse_used(c, &who);
        keep = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        r = unmount_idle(c, path);
        if (r == -EINVAL) {
                r = apply_lost(c);
        } else if (r == 0) {
                c->mounted = false;
                r = apply(c);
                if (r < 0 && c->info.kind == STRATA_ACTIVE) { /* it stays: was it left in order? */
                        strata_close(steal_fd(&keep));
                        strata_mount_left_all(c->sfs->store, &c->info.id, 1);
                }
        }
        sfs_mounts_let_go(keep);
        return r;
}

static int carry_out(struct sfs_change *c)
{
        const struct strata_info *info = &c->info;
        char path[SFS_PLACE_FS_MAX];
        const char *why = NULL;
        cleanup_fd int entry = -1;
        int r = 0;
        dev_t dev;

        if (c->change == SFS_COMMIT && !c->already)
                r = strata_link_check_free(c->sfs->store, STRATA_COMMITTED, c->newname, &why); /* before any work */
        sfs_change_why(c, why);
        if (r < 0)
                return r;
        if (c->mounted && (c->change == SFS_COMMIT || c->change == SFS_REMOVE)) {
                /*
                 * The table says it, not a walk: where somebody has unmounted it and the kernel has forgotten the name,
                 * that would wait for the lock which our caller holds until we answer.
                 */
                r = sfs_mounts_find(c->sfs->mnt, c->sfs->dev, info->kind, info->name, &dev);
                if (r <= 0)
                        return r < 0 ? r : apply_lost(c);
                if (sfs_place_open_entry(c->sfs, info->kind, info->name, info->id, &entry) < 0) {
                        sfs_change_why(c, "its fs/ can't be reached: something lies on top of the mount point, or "
                                          "of a folder below it; umount that");
                        return -EBUSY;
                }
                sfs_place_fs(entry, path);
        }
        if (c->mounted && c->change == SFS_COMMIT)
                return commit_mounted(c, path);
        if (c->mounted && c->change == SFS_REMOVE)
                return remove_mounted(c, path);
        return c->mounted ? apply(c) : apply_bare(c);
}

/*
 * A change that was interrupted has changed nothing, and is done again. The caller must not be told: the kernel takes
 * EINTR for "not known", and drops the name and what is mounted below (fs/fuse/dir.c, fuse_rename_common(),
 * fuse_rmdir()).
 */
static int again(struct sfs_change *c, int (*once)(struct sfs_change *))
{
        int r = -EINTR;

        for (unsigned tries = 0; tries < INTERRUPTIONS_MAX && r == -EINTR; tries++)
                r = once(c);
        return r == -EINTR ? -EIO : r;
}

int sfs_change_apply(struct sfs_change *c)
{
        return again(c, apply);
}

int sfs_change_carry_out(struct sfs_change *c)
{
        return again(c, carry_out);
}
