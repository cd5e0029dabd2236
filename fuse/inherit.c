/* SPDX-License-Identifier: Apache-2.0 */
#include "inherit.h"

#include "attach.h"
#include "busy.h"
#include "log.h"
#include "mounts.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

struct sfs_inherited {
        enum strata_kind kind;
        char name[STRATA_NAME_MAX + 1];
        dev_t dev;
        int copy; /* of the mount, attached nowhere; or -1 if none could be had */
        struct sfs_inherited *next;
};

/*
 * A copy of the mount M, or -1. The last act of a program that was killed may take a mount away after it was listed:
 * what is found in its place is a directory of the dead mount.
 */
static int copy_mount(const struct sfs_mounted *m)
{
        /* Walks over names and attributes that the kernel still holds: the dead mount is not asked. */
        int copy = open_tree(AT_FDCWD, m->path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
        struct stat st;

        if (copy < 0 || (fstat(copy, &st) == 0 && st.st_dev == m->dev))
                return copy;
        close(copy);
        return -1;
}

static void collect(const struct sfs_mounted *m, void *data)
{
        struct sfs_inherited **list = data, *one;
        int copy = copy_mount(m);

        if (copy >= 0 && umount2(m->path, UMOUNT_NOFOLLOW) == 0) {
                close(copy); /* nobody was in it */
                return;
        }
        one = calloc(1, sizeof(*one));
        if (!one) {
                strata_close(copy);
                return;
        }
        one->kind = m->kind;
        snprintf(one->name, sizeof(one->name), "%s", m->name);
        one->dev = m->dev;
        one->copy = copy;
        one->next = *list;
        *list = one;
}

void sfs_inherit_collect(const char *mnt, struct sfs_inherited **ret)
{
        (void)sfs_mounts_each(mnt, 0, collect, ret);
}

void sfs_inherit_free(struct sfs_inherited *all)
{
        while (all) {
                struct sfs_inherited *one = all;

                all = one->next;
                strata_close(one->copy);
                free(one);
        }
}

/* The copy gets what a mount made now would have; what the processes use stays as it is. */
static int set_attributes(struct sfs *sfs, const struct sfs_inherited *one)
{
        const struct strata_config *config = &sfs->store->config;
        struct mount_attr attr = { .attr_set = config->attributes };

        if (attr.attr_set & MOUNT_ATTR__ATIME)
                attr.attr_clr = MOUNT_ATTR__ATIME; /* one value, not flags */
        if (config->restrict_mounts || one->kind == STRATA_COMMITTED)
                attr.attr_set |= MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
        if (config->read_only || one->kind != STRATA_ACTIVE)
                attr.attr_set |= MOUNT_ATTR_RDONLY;
        if (!attr.attr_set)
                return 0;
        return mount_setattr(one->copy, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

static void tell_holders(struct sfs *sfs, const struct sfs_inherited *one, int error)
{
        cleanup_buf struct strata_buf who = STRATA_BUF_INIT;
        char path[STRATA_NAME_MAX + 16];

        snprintf(path, sizeof(path), "%s/%s", strata_kind_folder(one->kind), one->name);
        if (!strata_busy_processes(one->dev, false, &who) && !strata_busy_elsewhere(one->dev, &who))
                return;
        strata_log_add(sfs->store->log, "start", path, NULL, error,
                       "a mount from before this start lives on in %s: end that to use this entry",
                       who.data ? who.data : "some process");
}

void sfs_inherit_hand_over(struct sfs *sfs, struct sfs_inherited *all)
{
        for (struct sfs_inherited *one = all; one; one = one->next) {
                uint64_t id;
                int r = one->copy < 0 ? -EBUSY : strata_entry_find(sfs->store, one->kind, one->name, &id);

                if (r == 0)
                        r = set_attributes(sfs, one);
                if (r == 0)
                        r = sfs_attach_inherit(sfs->attach, id, one->dev, one->copy);
                if (r < 0)
                        tell_holders(sfs, one, r);
                else
                        one->copy = -1;
        }
}
