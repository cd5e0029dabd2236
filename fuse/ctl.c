/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl.h"

#include "show.h"

#include <string.h>

/* `changes`, `layer.tar`, `verify` and `log` tell what is in closed directories and files: the owner's alone. */
static const struct sfs_ctl table[] = {
        { SFS_SLOT_FOLDER + STRATA_ACTIVE, "active", S_IFDIR | 0755, SFS_AT_TOP, SFS_COST_NONE, NULL, NULL },
        { SFS_SLOT_FOLDER + STRATA_VIEW, "views", S_IFDIR | 0755, SFS_AT_TOP, SFS_COST_NONE, NULL, NULL },
        { SFS_SLOT_FOLDER + STRATA_COMMITTED, "snapshots", S_IFDIR | 0755, SFS_AT_TOP, SFS_COST_NONE, NULL, NULL },
        { SFS_SLOT_TREE, "tree", S_IFREG | 0444, SFS_AT_TOP, SFS_COST_WALK, sfs_show_tree, NULL },
        { SFS_SLOT_GRAPH, "graph.dot", S_IFREG | 0444, SFS_AT_TOP, SFS_COST_WALK, sfs_show_graph, NULL },
        { SFS_SLOT_LOG, "log", S_IFREG | 0400, SFS_AT_TOP, SFS_COST_LONG, sfs_show_log, NULL },
        { SFS_SLOT_METRICS, "metrics", S_IFREG | 0444, SFS_AT_TOP, SFS_COST_WALK, sfs_show_metrics, NULL },
        { SFS_SLOT_VERSION, "version", S_IFREG | 0444, SFS_AT_TOP, SFS_COST_LOW, sfs_show_version, NULL },
        { SFS_SLOT_FS, "fs", S_IFDIR | 0755, SFS_AT_ENTRIES, SFS_COST_NONE, NULL, NULL },
        { SFS_SLOT_PARENT, "parent", S_IFLNK | 0777, SFS_AT_ENTRIES, SFS_COST_LOW, sfs_show_parent, NULL },
        { SFS_SLOT_INFO, "info", S_IFREG | 0444, SFS_AT_ENTRIES, SFS_COST_ONCE, sfs_show_info, sfs_info_known },
        { SFS_SLOT_MOUNT, "mount", S_IFREG | 0444, SFS_AT_ENTRIES, SFS_COST_LOW, sfs_show_mount, NULL },
        { SFS_SLOT_MOUNT_JSON, "mount.json", S_IFREG | 0444, SFS_AT_ENTRIES, SFS_COST_LOW, sfs_show_mount_json, NULL },
        { SFS_SLOT_OVERLAY, "overlay", S_IFREG | 0444, SFS_AT_ENTRIES, SFS_COST_LOW, sfs_show_overlay, NULL },
        { SFS_SLOT_USAGE, "usage", S_IFREG | 0444, SFS_AT_ENTRIES, SFS_COST_ONCE, sfs_show_usage, sfs_usage_known },
        { SFS_SLOT_CHANGES, "changes", S_IFREG | 0400, SFS_AT_ENTRIES, SFS_COST_LAYER, sfs_show_changes,
          sfs_changes_known },
        { SFS_SLOT_LAYER, "layer.tar", S_IFREG | 0600, SFS_AT_ENTRIES, SFS_COST_LAYER, NULL, sfs_layer_known },
        { SFS_SLOT_VERIFY, "verify", S_IFREG | 0400, SFS_AT(STRATA_COMMITTED), SFS_COST_WALK, NULL, NULL },
        { SFS_SLOT_LABELS, "labels", S_IFDIR | 0755, SFS_AT_ENTRIES, SFS_COST_NONE, NULL, NULL },
        { SFS_SLOT_CHILDREN, "children", S_IFREG | 0444, SFS_AT(STRATA_COMMITTED), SFS_COST_WALK, sfs_show_children,
          NULL },
};
#define TABLE_SIZE (sizeof(table) / sizeof(*table))

/* A base has no parent; all else follows from the kind. */
static bool is_there(const struct sfs_ctl *ctl, const struct strata_info *info)
{
        if (ctl->slot == SFS_SLOT_PARENT && info && !info->parent)
                return false;
        return ctl->where & (info ? SFS_AT(info->kind) : SFS_AT_TOP);
}

const struct sfs_ctl *sfs_ctl_by_slot(enum sfs_slot slot)
{
        for (size_t i = 0; i < TABLE_SIZE; i++)
                if (table[i].slot == slot)
                        return &table[i];
        return NULL;
}

const struct sfs_ctl *sfs_ctl_by_name(const struct strata_info *info, const char *name)
{
        for (size_t i = 0; i < TABLE_SIZE; i++)
                if (is_there(&table[i], info) && strcmp(table[i].name, name) == 0)
                        return &table[i];
        return NULL;
}

const struct sfs_ctl *sfs_ctl_nth(const struct strata_info *info, unsigned n)
{
        for (size_t i = 0; i < TABLE_SIZE; i++)
                if (is_there(&table[i], info) && n-- == 0)
                        return &table[i];
        return NULL;
}

bool sfs_ctl_is_slow(struct sfs *sfs, const struct sfs_ctl *ctl, const struct strata_info *info)
{
        uint64_t size;

        return ctl->cost == SFS_COST_WALK || ctl->cost == SFS_COST_LAYER ||
               (ctl->cost == SFS_COST_ONCE && !ctl->known(sfs, info, &size));
}

off_t sfs_ctl_size(struct sfs *sfs, const struct sfs_ctl *ctl, const struct strata_info *info)
{
        struct strata_buf buf = STRATA_BUF_INIT;
        uint64_t known = 0;
        off_t size = 0;

        if (ctl->cost == SFS_COST_LAYER)
                return ctl->known(sfs, info, &known) ? (off_t)known : 0;
        if (!ctl->show || ctl->cost == SFS_COST_LONG || sfs_ctl_is_slow(sfs, ctl, info))
                return 0;
        if (ctl->show(sfs, info, &buf) == 0)
                size = (off_t)buf.len;
        strata_buf_free(&buf);
        return size;
}
