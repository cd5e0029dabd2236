/* SPDX-License-Identifier: Apache-2.0 */
#include "attach.h"
#include "attr.h"
#include "ctl.h"
#include "label.h"
#include "labelnode.h"
#include "log.h"
#include "moves.h"
#include "node.h"
#include "ops.h"
#include "pool.h"
#include "util/buf.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <sys/statvfs.h>

static bool from_walker(fuse_req_t req)
{
        return sfs_pool_is_walker(sfs_of(req)->pool, fuse_req_ctx(req)->pid);
}

/* True for the bare directory fs/ of an entry, which nobody but our own threads is to see. */
static bool is_bare_fs(fuse_ino_t ino)
{
        return !sfs_node_is_label(ino) && sfs_node_id(ino) && sfs_node_slot(ino) == SFS_SLOT_FS;
}

/* The kernel takes back N of the answers that named NODE, or never got one. */
static void forget(struct sfs *sfs, uint64_t node, uint64_t n)
{
        if (sfs_node_is_label(node))
                sfs_labels_forget(sfs->labels, node, n);
        else if (is_bare_fs(node))
                sfs_attach_forget(sfs->attach, sfs_node_id(node), n);
}

/* The store can't tell, which is no reason to let go of a name that something is mounted below. */
static int lookup_pinned(struct sfs *sfs, enum strata_kind kind, const char *name, int error,
                         struct fuse_entry_param *e)
{
        struct timespec now;
        uint64_t id;
        int r;

        /* A link that is in order tells more than a record that is damaged. */
        if (strata_entry_find(sfs->store, kind, name, &id) == 0 && sfs_attach_is_pinned(sfs->attach, id))
                r = 1;
        else
                r = sfs_attach_find_pinned(sfs->attach, kind, name, &id);
        sfs_op_log_error(sfs, "lookup", SFS_SLOT_FOLDER + (uint64_t)kind, name, error);
        if (r <= 0)
                return r < 0 ? r : error;
        e->ino = sfs_node(id, SFS_SLOT_ENTRY);
        if (sfs_attr_get(sfs, e->ino, &e->attr, &e->attr_timeout) < 0) {
                clock_gettime(CLOCK_REALTIME_COARSE, &now);
                sfs_attr_of_entry(sfs, id, now, &e->attr);
                e->attr_timeout = 0;
        }
        e->entry_timeout = SFS_FOREVER;
        return 0;
}

static int lookup_entry(fuse_req_t req, enum strata_kind kind, const char *name, struct fuse_entry_param *e)
{
        struct sfs *sfs = sfs_of(req);
        struct strata_info info;
        uint64_t id;
        int r = strata_name_check(name, NULL);

        if (r == 0 && sfs_moves_find(sfs, kind, name, &id)) {
                sfs_attach_follow(sfs->attach, id, fuse_req_ctx(req)->pid);
                e->ino = sfs_node(id, SFS_SLOT_ENTRY);
                e->entry_timeout = SFS_FOREVER; /* the name that follows has it as well */
                return sfs_attr_get(sfs, e->ino, &e->attr, &e->attr_timeout);
        }
        if (r == -EINVAL)
                return -ENOENT; /* a name that can't be is not there */
        if (r < 0)
                return r;
        r = strata_entry_get(sfs->store, kind, name, &info);
        if (r == 0) {
                sfs_attach_follow(sfs->attach, info.id, fuse_req_ctx(req)->pid);
                e->ino = sfs_node(info.id, SFS_SLOT_ENTRY);
                e->entry_timeout = SFS_FOREVER;
                r = sfs_attr_get(sfs, e->ino, &e->attr, &e->attr_timeout);
        }
        return r < 0 && r != -ENOENT ? lookup_pinned(sfs, kind, name, r, e) : r;
}

static int lookup_label(struct sfs *sfs, uint64_t id, const char *name, struct fuse_entry_param *e)
{
        struct timespec mtime;
        uint64_t size, node;
        int r = strata_label_stat(sfs->store, id, name, &size, &mtime);

        if (r == 0) {
                r = sfs_labels_lookup(sfs->labels, id, name, &node);
        } else if (r == -ENOENT) {
                size = 0;
                mtime = (struct timespec){ 0 };
                r = sfs_labels_lookup_begun(sfs->labels, id, name, &node);
        }
        if (r < 0)
                return strlen(name) > STRATA_NAME_MAX ? -ENAMETOOLONG : r;
        e->ino = node;
        e->entry_timeout = SFS_FOREVER;
        sfs_attr_of_label(sfs, node, size, mtime, &e->attr);
        return 0;
}

/* A file of the table: at the top (INFO NULL) or in an entry. 1: the request was taken by sfs_attach_look(). */
static int lookup_ctl(fuse_req_t req, const struct strata_info *info, const char *name, struct fuse_entry_param *e)
{
        const struct sfs_ctl *ctl = sfs_ctl_by_name(info, name);
        struct sfs *sfs = sfs_of(req);

        if (!ctl)
                return -ENOENT;
        e->entry_timeout = SFS_FOREVER;
        if (info && ctl->slot == SFS_SLOT_FS) {
                int r = sfs_attach_look(sfs->attach, req, info->id, &e->entry_timeout);

                if (r)
                        return r;
        }
        sfs_attr_of_ctl(sfs, ctl, info, &e->attr);
        e->ino = e->attr.st_ino;
        if (!info && S_ISDIR(ctl->mode))
                e->attr_timeout = SFS_FOREVER;
        return 0;
}

void sfs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
        struct sfs *sfs = sfs_of(req);
        struct fuse_entry_param e = { .generation = 1 };
        struct strata_info info;
        enum strata_kind kind;
        bool told = false; /* of an error, in the log */
        int r;

        if (parent == FUSE_ROOT_ID) {
                r = lookup_ctl(req, NULL, name, &e);
        } else if (sfs_node_is_folder(parent, &kind)) {
                r = lookup_entry(req, kind, name, &e);
                told = r != -ENAMETOOLONG;
        } else if (sfs_node_is_labels(parent)) {
                r = lookup_label(sfs, sfs_node_id(parent), name, &e);
        } else if (sfs_node_is_entry(parent)) {
                r = strata_entry_info(sfs->store, sfs_node_id(parent), &info);
                if (r == -EUCLEAN && from_walker(req)) {
                        info = (struct strata_info){ .id = sfs_node_id(parent) }; /* to take away what is mounted */
                        r = 0;
                }
                told = r == 0; /* or by who can't mount there */
                if (r == 0) {
                        r = lookup_ctl(req, &info, name, &e);
                } else if (r != -ENOENT && strcmp(name, "fs") == 0 &&
                           sfs_attach_is_pinned(sfs->attach, sfs_node_id(parent))) {
                        /* One that was just removed has no mount any more: it is said to be gone. */
                        sfs_op_log_error(sfs, "lookup", parent, name, r);
                        told = true;
                        r = -EINTR; /* as above */
                }
        } else if (is_bare_fs(parent)) {
                sfs_attach_missed(sfs->attach, req, sfs_node_id(parent));
                r = -ESTALE;
        } else {
                r = -ENOTDIR;
        }
        if (r < 0 && !told)
                sfs_op_log_error(sfs, "lookup", parent, name, r);
        if (r < 0)
                fuse_reply_err(req, -r);
        else if (r == 0 && fuse_reply_entry(req, &e) < 0)
                forget(sfs, e.ino, 1); /* its caller was killed */
}

void sfs_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
        forget(sfs_of(req), ino, nlookup);
        fuse_reply_none(req);
}

void sfs_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
        for (size_t i = 0; i < count; i++)
                forget(sfs_of(req), forgets[i].ino, forgets[i].nlookup);
        fuse_reply_none(req);
}

void sfs_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct sfs *sfs = sfs_of(req);
        int error = 0;

        if (sfs_node_is_entry(ino)) {
                if (from_walker(req)) {
                        if (sfs_attach_wants_anew(sfs->attach, fuse_req_ctx(req)->pid, sfs_node_id(ino)))
                                error = ESTALE;
                } else if (sfs_attach_gate(sfs->attach, req, sfs_node_id(ino), &error)) {
                        return;
                }
        } else if (is_bare_fs(ino) && !from_walker(req)) {
                sfs_attach_missed(sfs->attach, req, sfs_node_id(ino));
                error = ESTALE;
        }
        if (error)
                fuse_reply_err(req, error);
        else
                sfs_attr_reply_open(req, ino, fi);
}

void sfs_op_readlink(fuse_req_t req, fuse_ino_t ino)
{
        struct sfs *sfs = sfs_of(req);
        struct strata_buf buf = STRATA_BUF_INIT;
        struct strata_info info;
        const struct sfs_ctl *ctl;
        int r = -EINVAL;

        ctl = sfs_node_is_label(ino) ? NULL : sfs_ctl_by_slot(sfs_node_slot(ino));
        if (ctl && S_ISLNK(ctl->mode))
                r = strata_entry_info(sfs->store, sfs_node_id(ino), &info);
        if (r == 0)
                r = ctl->show(sfs, &info, &buf);
        if (r < 0) {
                sfs_op_log_error(sfs, "readlink", ino, NULL, r);
                fuse_reply_err(req, -r);
        } else {
                fuse_reply_readlink(req, buf.data);
        }
        strata_buf_free(&buf);
}

void sfs_op_statfs(fuse_req_t req, fuse_ino_t ino)
{
        struct statvfs st;

        if (is_bare_fs(ino) && !from_walker(req)) {
                sfs_attach_missed(sfs_of(req)->attach, req, sfs_node_id(ino));
                fuse_reply_err(req, ESTALE);
                return;
        }
        if (fstatvfs(sfs_of(req)->store->root_fd, &st) < 0) {
                int error = errno;

                sfs_op_log_error(sfs_of(req), "statfs", ino, NULL, -error);
                fuse_reply_err(req, error);
                return;
        }
        st.f_namemax = STRATA_NAME_MAX;
        fuse_reply_statfs(req, &st);
}
