/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"

#include "ctl.h"
#include "labelnode.h"
#include "log.h"
#include "loop.h"
#include "node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
        (void)userdata;
        if (conn->capable & FUSE_CAP_READDIRPLUS)
                conn->want |= FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO;
        conn->want &= ~(unsigned)FUSE_CAP_AUTO_INVAL_DATA;
        conn->want &= ~(unsigned)FUSE_CAP_SPLICE_READ; /* loop.c looks at what it receives */
        if (conn->max_write > sfs_loop_max_write())
                conn->max_write = sfs_loop_max_write();
}

const struct fuse_lowlevel_ops sfs_ops = {
        .init = op_init,
        .lookup = sfs_op_lookup,
        .forget = sfs_op_forget,
        .forget_multi = sfs_op_forget_multi,
        .getattr = sfs_op_getattr,
        .readlink = sfs_op_readlink,
        .statfs = sfs_op_statfs,
        .opendir = sfs_op_opendir,
        .readdir = sfs_op_readdir,
        .readdirplus = sfs_op_readdirplus,
        .releasedir = sfs_op_releasedir,
        .setattr = sfs_op_setattr,
        .create = sfs_op_create,
        .open = sfs_op_open,
        .read = sfs_op_read,
        .write = sfs_op_write,
        .flush = sfs_op_flush,
        .fsync = sfs_op_fsync,
        .release = sfs_op_release,
        .unlink = sfs_op_unlink,
        .mkdir = sfs_op_mkdir,
        .rename = sfs_op_rename,
        .rmdir = sfs_op_rmdir,
        .mknod = sfs_op_mknod,
        .symlink = sfs_op_symlink,
        .link = sfs_op_link,
};

static void add_name(const char *name, char *buf, size_t size)
{
        size_t len = strlen(buf);

        if (name)
                snprintf(buf + len, size - len, "%s%s", len ? "/" : "", name);
}

const char *sfs_op_path(struct sfs *sfs, uint64_t node, const char *name, char *buf, size_t size)
{
        char label[STRATA_NAME_MAX + 1];
        const struct sfs_ctl *ctl;
        struct strata_info info;
        uint64_t id = sfs_node_id(node);
        bool is_label = sfs_node_is_label(node);

        buf[0] = '\0';
        if (is_label && sfs_labels_find(sfs->labels, node, &id, label) < 0)
                id = 0;
        if (id && strata_entry_info(sfs->store, id, &info) == 0) {
                add_name(strata_kind_folder(info.kind), buf, size);
                add_name(info.name, buf, size);
        }
        if (is_label) {
                add_name("labels", buf, size);
                add_name(id ? label : "?", buf, size);
        } else if (node != FUSE_ROOT_ID && sfs_node_slot(node) != SFS_SLOT_ENTRY) {
                ctl = sfs_ctl_by_slot(sfs_node_slot(node));
                add_name(ctl ? ctl->name : "?", buf, size);
        }
        add_name(name, buf, size);
        return buf;
}

int sfs_op_refuse(struct sfs *sfs, const char *operation, uint64_t node, const char *name)
{
        char path[SFS_PATH_MAX];
        struct strata_info info;
        int error = -EPERM;

        if (!sfs_node_is_label(node) && sfs_node_id(node) && !sfs_node_is_labels(node) &&
            strata_entry_info(sfs->store, sfs_node_id(node), &info) == 0 && info.kind != STRATA_ACTIVE)
                error = -EROFS;
        strata_log_add(sfs->store->log, operation, sfs_op_path(sfs, node, name, path, sizeof(path)), NULL, error,
                       error == -EROFS ? "views and snapshots do not change, but for their labels/"
                                       : "the control tree takes mkdir in active/ and views/, mv, rmdir, and files in "
                                         "labels/; files of a snapshot belong below its fs/");
        return error;
}

void sfs_op_log_failure(struct sfs *sfs, const char *operation, uint64_t parent, const char *name, uint64_t newparent,
                        const char *newname, int error, const char *why)
{
        char path[SFS_PATH_MAX], path2[SFS_PATH_MAX];

        sfs_op_path(sfs, parent, name, path, sizeof(path));
        if (newname)
                sfs_op_path(sfs, newparent, newname, path2, sizeof(path2));
        if (!why && error == -ENOENT)
                why = "there is no such entry";
        if (!why && error == -EUCLEAN)
                why = "the entry's record or one below it is damaged; it can be removed, and looked at in the store";
        strata_log_add(sfs->store->log, operation, path, newname ? path2 : NULL, error, "%s",
                       why ? why : strerror(abs(error)));
}

void sfs_op_log_error(struct sfs *sfs, const char *operation, uint64_t node, const char *name, int error)
{
        char path[SFS_PATH_MAX];

        if (error == -ENOENT || error == -ESTALE || error == -ENOTDIR || error == -EISDIR)
                return;
        strata_log_add(sfs->store->log, operation, sfs_op_path(sfs, node, name, path, sizeof(path)), NULL, error, "%s",
                       error == -ENAMETOOLONG    ? "a name has at most 255 bytes; choose a shorter one"
                       : error != -EUCLEAN       ? strerror(abs(error))
                       : sfs_node_is_label(node) ? "this label is damaged: it can be written anew, or removed"
                                                 : "the entry's record or one below it is damaged; it can be removed, "
                                                   "and looked at in the store");
}
