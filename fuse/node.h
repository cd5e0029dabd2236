/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inode numbers, computed and never used for a second object:
 *
 *     1 to 255              what lies directly below the mount point, by its slot
 *     ID * 256 + slot       an entry (slot 0) and what lies in it
 *     2^63 + n              a label; see labelnode.h
 */
#ifndef SFS_NODE_H
#define SFS_NODE_H

#include "entry.h"

#include <stdbool.h>
#include <stdint.h>

enum sfs_slot {
        SFS_SLOT_ENTRY = 0,
        SFS_SLOT_ROOT = 1,   /* FUSE_ROOT_ID */
        SFS_SLOT_FOLDER = 2, /* and the two after it: active, views, snapshots, in the order of enum strata_kind */
        SFS_SLOT_TREE = 5,
        SFS_SLOT_GRAPH,
        SFS_SLOT_LOG,
        SFS_SLOT_METRICS,
        SFS_SLOT_VERSION,
        SFS_SLOT_FS = 32,
        SFS_SLOT_PARENT,
        SFS_SLOT_INFO,
        SFS_SLOT_MOUNT,
        SFS_SLOT_MOUNT_JSON,
        SFS_SLOT_OVERLAY,
        SFS_SLOT_USAGE,
        SFS_SLOT_LABELS,
        SFS_SLOT_CHILDREN,
        SFS_SLOT_CHANGES,
        SFS_SLOT_LAYER,
        SFS_SLOT_VERIFY,
};

#define SFS_LABEL_BIT (UINT64_C(1) << 63)

static inline uint64_t sfs_node(uint64_t id, enum sfs_slot slot)
{
        return id << 8 | (uint64_t)slot;
}

static inline bool sfs_node_is_label(uint64_t node)
{
        return node & SFS_LABEL_BIT;
}

/* The entry's ID; 0 for what lies directly below the mount point. Not for labels. */
static inline uint64_t sfs_node_id(uint64_t node)
{
        return node >> 8;
}

static inline enum sfs_slot sfs_node_slot(uint64_t node)
{
        return (enum sfs_slot)(node & 0xff);
}

/* True for active/, views/ and snapshots/; *KIND then says which. */
static inline bool sfs_node_is_folder(uint64_t node, enum strata_kind *kind)
{
        if (node < SFS_SLOT_FOLDER || node >= SFS_SLOT_FOLDER + STRATA_KINDS)
                return false;
        *kind = (enum strata_kind)(node - SFS_SLOT_FOLDER);
        return true;
}

static inline bool sfs_node_is_entry(uint64_t node)
{
        return !sfs_node_is_label(node) && sfs_node_id(node) && sfs_node_slot(node) == SFS_SLOT_ENTRY;
}

/* True for an entry's layer.tar. */
static inline bool sfs_node_is_layer(uint64_t node)
{
        return !sfs_node_is_label(node) && sfs_node_id(node) && sfs_node_slot(node) == SFS_SLOT_LAYER;
}

/* True for a snapshot's `verify`. */
static inline bool sfs_node_is_verify(uint64_t node)
{
        return !sfs_node_is_label(node) && sfs_node_id(node) && sfs_node_slot(node) == SFS_SLOT_VERIFY;
}

/* True for an entry's directory of labels. */
static inline bool sfs_node_is_labels(uint64_t node)
{
        return !sfs_node_is_label(node) && sfs_node_id(node) && sfs_node_slot(node) == SFS_SLOT_LABELS;
}

#endif
