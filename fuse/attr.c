/* SPDX-License-Identifier: Apache-2.0 */
#include "attr.h"

#include "attach.h"
#include "handle.h"
#include "label.h"
#include "labelnode.h"
#include "ops.h"

#include <errno.h>

#define LAYER_BLOCK 1048576 /* bytes that cp(1) and the like read and write at once: as much as one request carries */

static void attr_init(struct sfs *sfs, uint64_t node, mode_t mode, struct timespec mtime, struct stat *st)
{
        *st = (struct stat){
                .st_ino = node,
                .st_mode = mode,
                .st_nlink = 1, /* of directories: not counted */
                .st_uid = sfs->uid,
                .st_gid = sfs->gid,
                .st_blksize = 4096,
                .st_mtim = mtime,
                .st_ctim = mtime,
                .st_atim = mtime,
        };
}

void sfs_attr_of_entry(struct sfs *sfs, uint64_t id, struct timespec mtime, struct stat *st)
{
        attr_init(sfs, sfs_node(id, SFS_SLOT_ENTRY), S_IFDIR | 0755, mtime, st);
}

void sfs_attr_of_ctl(struct sfs *sfs, const struct sfs_ctl *ctl, const struct strata_info *info, struct stat *st)
{
        struct timespec mtime = { 0 };
        enum strata_kind kind;
        uint64_t node;

        if (info) {
                node = sfs_node(info->id, ctl->slot);
                mtime = info->updated;
        } else {
                struct stat folder;

                node = ctl->slot;
                if (fstat(sfs_node_is_folder(node, &kind) ? sfs->store->kind_fd[kind] : sfs->store->root_fd, &folder) ==
                    0)
                        mtime = folder.st_mtim;
        }
        attr_init(sfs, node, ctl->mode, mtime, st);
        if (info && info->kind != STRATA_ACTIVE && S_ISREG(ctl->mode))
                st->st_mode &= ~0222U;
        st->st_size = sfs_ctl_size(sfs, ctl, info);
        st->st_blocks = (st->st_size + 511) / 512; /* or cp(1) takes it for a sparse file */
        if (ctl->slot == SFS_SLOT_LAYER)
                st->st_blksize = LAYER_BLOCK;
}

void sfs_attr_of_label(struct sfs *sfs, uint64_t node, uint64_t size, struct timespec mtime, struct stat *st)
{
        attr_init(sfs, node, S_IFREG | 0644, mtime, st);
        (void)sfs_handle_written(sfs, node, &size); /* else it is the store's */
        st->st_size = (off_t)size;
}

static int label_attr(struct sfs *sfs, uint64_t node, struct stat *st)
{
        char name[STRATA_NAME_MAX + 1];
        struct timespec mtime = { 0 };
        uint64_t id, size = 0;
        int r = sfs_labels_find(sfs->labels, node, &id, name);

        if (r == 0)
                r = strata_label_stat(sfs->store, id, name, &size, &mtime);
        if (r == -ENOENT)
                r = 0; /* created, and not written yet */
        if (r == 0)
                sfs_attr_of_label(sfs, node, size, mtime, st);
        return r;
}

int sfs_attr_get(struct sfs *sfs, uint64_t node, struct stat *st, double *timeout)
{
        const struct sfs_ctl *ctl;
        struct strata_info info;
        struct stat root;
        int r;

        *timeout = 0;
        if (sfs_node_is_label(node))
                return label_attr(sfs, node, st);
        if (node == FUSE_ROOT_ID) {
                if (fstat(sfs->store->root_fd, &root) < 0)
                        return -errno;
                attr_init(sfs, node, S_IFDIR | 0755, root.st_mtim, st);
                *timeout = SFS_FOREVER;
                return 0;
        }
        ctl = sfs_ctl_by_slot(sfs_node_slot(node));
        if (!sfs_node_id(node)) {
                if (!ctl)
                        return -ESTALE;
                sfs_attr_of_ctl(sfs, ctl, NULL, st);
                if (S_ISDIR(ctl->mode))
                        *timeout = SFS_FOREVER; /* the kernel asks anew after each change that it made */
                return 0;
        }
        r = strata_entry_info(sfs->store, sfs_node_id(node), &info);
        if (r < 0)
                return r;
        if (sfs_node_slot(node) == SFS_SLOT_ENTRY) {
                sfs_attr_of_entry(sfs, info.id, info.updated, st);
                *timeout = sfs_attach_entry_timeout(sfs->attach, info.id);
                return 0;
        }
        if (!ctl)
                return -ESTALE;
        sfs_attr_of_ctl(sfs, ctl, &info, st);
        return 0;
}

/* What is open has a length of its own, until it is closed: where an end is looked for, it is that one. */
static int length_of_open(struct sfs *sfs, uint64_t node, uint64_t fh, struct stat *st)
{
        struct sfs_handle *h;
        int r = sfs_handle_get(sfs, node, fh, &h);

        if (r < 0)
                return r;
        pthread_mutex_lock(&h->lock);
        st->st_size = (off_t)h->text.len;
        pthread_mutex_unlock(&h->lock);
        return 0;
}

void sfs_attr_reply_open(fuse_req_t req, uint64_t node, const struct fuse_file_info *fi)
{
        struct stat st;
        double timeout;
        struct sfs *sfs = sfs_of(req);
        int r = sfs_attr_get(sfs, node, &st, &timeout);

        if (r == -EUCLEAN && sfs_node_is_entry(node) && sfs_attach_is_pinned(sfs->attach, sfs_node_id(node))) {
                /* What is mounted in a damaged entry can still be walked to, and taken away. */
                sfs_attr_of_entry(sfs, sfs_node_id(node), (struct timespec){ 0 }, &st);
                timeout = 0;
                r = 0;
        }
        if (r == 0 && fi && sfs_node_is_label(node))
                r = length_of_open(sfs, node, fi->fh, &st);
        if (r < 0) {
                sfs_op_log_error(sfs, "stat", node, NULL, r);
                fuse_reply_err(req, -r);
        } else {
                fuse_reply_attr(req, &st, timeout);
        }
}

void sfs_attr_reply(fuse_req_t req, uint64_t node)
{
        sfs_attr_reply_open(req, node, NULL);
}
