/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listing. The folders and labels/ stream from the store's own directories, whose positions serve as cookies: so they
 * are as stable as the store's file system makes them, and nothing is kept in memory however much there is.
 */
#include "attach.h"
#include "attr.h"
#include "ctl.h"
#include "handle.h"
#include "label.h"
#include "labelnode.h"
#include "node.h"
#include "ops.h"

#include "util/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK 32768

struct dir_handle {
        int fd;        /* of the store's directory; -1 where the listing comes from the table */
        off_t next;    /* the cookie that BUF goes on with */
        size_t pos;    /* in BUF */
        size_t filled; /* bytes of BUF */
        char buf[CHUNK] __attribute__((aligned(8)));
};

/* One reply being filled. */
struct listing {
        fuse_req_t req;
        uint64_t node; /* of the directory */
        char *reply;
        size_t size;
        size_t used;
        bool plus;
        int error; /* why it ends before its end */
};

/* Opens the store's directory behind INO; *RET is -1 where the listing comes from the table, or is empty. */
static int open_store_dir(struct sfs *sfs, fuse_ino_t ino, int *ret)
{
        enum strata_kind kind;
        int r = 0;

        *ret = -1;
        if (sfs_node_is_folder(ino, &kind)) {
                *ret = openat(sfs->store->kind_fd[kind], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                r = *ret < 0 ? -errno : 0;
        } else if (sfs_node_is_labels(ino)) {
                r = strata_label_open_dir(sfs->store, sfs_node_id(ino), ret);
                if (r == -ENOENT)
                        r = 0; /* none yet */
        }
        return r;
}

/* A handle at the start of the listing; NULL and *ERROR (a positive errno) on failure. */
static struct dir_handle *open_handle(struct sfs *sfs, fuse_ino_t ino, int *error)
{
        struct dir_handle *h = malloc(sizeof(*h));
        int r = h ? open_store_dir(sfs, ino, &h->fd) : -ENOMEM;

        if (r < 0) {
                free(h);
                *error = -r;
                return NULL;
        }
        h->next = 0;
        h->pos = h->filled = 0;
        return h;
}

static void close_handle(struct dir_handle *h)
{
        strata_close(h->fd);
        free(h);
}

void sfs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct sfs *sfs = sfs_of(req);
        struct dir_handle *h;
        int error;

        if (!sfs_node_is_label(ino) && sfs_node_id(ino) && sfs_node_slot(ino) == SFS_SLOT_FS) {
                sfs_attach_missed(sfs->attach, req, sfs_node_id(ino));
                fuse_reply_err(req, ESTALE);
                return;
        }
        h = open_handle(sfs, ino, &error);
        if (!h) {
                sfs_op_log_error(sfs, "opendir", ino, NULL, -error);
                fuse_reply_err(req, error);
                return;
        }
        fi->fh = sfs_handle_number(sfs, h, false);
        if (fuse_reply_open(req, fi) < 0)
                close_handle(h);
}

void sfs_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct dir_handle *h = sfs_handle_address(sfs_of(req), fi->fh);

        (void)ino;
        if (h)
                close_handle(h);
        fuse_reply_err(req, 0);
}

/* Adds one name; false when the reply is full. E->ino 0: a name whose attributes are not told. */
static bool add(struct listing *l, const char *name, struct fuse_entry_param *e, off_t next)
{
        size_t room = l->size - l->used, n;

        if (l->plus)
                n = fuse_add_direntry_plus(l->req, l->reply + l->used, room, name, e, next);
        else
                n = fuse_add_direntry(l->req, l->reply + l->used, room, name, &e->attr, next);
        if (n > room)
                return false;
        l->used += n;
        return true;
}

static bool add_plain(struct listing *l, const char *name, uint64_t ino, mode_t mode, off_t next)
{
        struct fuse_entry_param e = { .attr = { .st_ino = ino, .st_mode = mode } };

        return add(l, name, &e, next);
}

static void list_table(struct listing *l, const struct strata_info *info, off_t off)
{
        struct sfs *sfs = sfs_of(l->req);
        const struct sfs_ctl *ctl;
        enum strata_kind kind = info ? info->kind : STRATA_ACTIVE;

        if (off == 0 && !add_plain(l, ".", l->node, S_IFDIR, 1))
                return;
        if (off <= 1 && !add_plain(l, "..", info ? SFS_SLOT_FOLDER + (uint64_t)kind : l->node, S_IFDIR, 2))
                return;
        for (unsigned n = off > 2 ? (unsigned)off - 2 : 0; (ctl = sfs_ctl_nth(info, n)); n++) {
                struct fuse_entry_param e = { .generation = 1 };

                if (!l->plus || ctl->slot == SFS_SLOT_FS) {
                        /* `fs` must come to the kernel's knowledge by a lookup only: attach.h */
                        if (!add_plain(l, ctl->name, info ? sfs_node(info->id, ctl->slot) : (uint64_t)ctl->slot,
                                       ctl->mode, n + 3))
                                return;
                        continue;
                }
                sfs_attr_of_ctl(sfs, ctl, info, &e.attr);
                e.ino = e.attr.st_ino;
                e.entry_timeout = SFS_FOREVER;
                e.attr_timeout = !info && S_ISDIR(ctl->mode) ? SFS_FOREVER : 0;
                if (!add(l, ctl->name, &e, n + 3))
                        return;
        }
}

/* What is gone meanwhile, or no entry, is left out; an error ends the listing, or a name would be missing unseen. */
static bool pass_over(struct listing *l, int error)
{
        if (error != -ENOENT)
                l->error = error;
        return error == -ENOENT;
}

/* An entry of a folder. False when the reply is full. */
static bool list_entry(struct listing *l, struct dir_handle *h, enum strata_kind kind, const char *name, off_t next)
{
        struct sfs *sfs = sfs_of(l->req);
        struct fuse_entry_param e = { .generation = 1 };
        struct stat st = { 0 };
        uint64_t id;

        int r = strata_name_check(name, NULL);

        if (r < 0)
                return true;
        r = strata_entry_find(sfs->store, kind, name, &id);
        if (r == 0 && l->plus && fstatat(h->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                r = -errno;
        if (r < 0)
                return pass_over(l, r);
        sfs_attr_of_entry(sfs, id, st.st_mtim, &e.attr);
        e.ino = e.attr.st_ino;
        e.entry_timeout = SFS_FOREVER;
        if (l->plus)
                e.attr_timeout = sfs_attach_entry_timeout(sfs->attach, id);
        return add(l, name, &e, next);
}

static bool list_label(struct listing *l, const char *name, off_t next)
{
        struct sfs *sfs = sfs_of(l->req);
        uint64_t id = sfs_node_id(l->node), size, node;
        struct fuse_entry_param e = { .generation = 1 };
        struct timespec mtime;
        size_t before = l->used;

        int r = strata_label_stat(sfs->store, id, name, &size, &mtime);

        if (r == 0)
                r = sfs_labels_lookup(sfs->labels, id, name, &node);
        if (r < 0)
                return pass_over(l, r);
        sfs_attr_of_label(sfs, node, size, mtime, &e.attr);
        e.ino = node;
        e.entry_timeout = SFS_FOREVER;
        if (!add(l, name, &e, next) || !l->plus)
                sfs_labels_forget(sfs->labels, node, 1); /* the kernel did not take it */
        return l->used != before;
}

static int fill_chunk(struct dir_handle *h, off_t off)
{
        ssize_t n;

        if (off == h->next && h->pos < h->filled)
                return 1;
        if (off != h->next && lseek(h->fd, off, SEEK_SET) < 0)
                return -errno;
        if (off != h->next)
                h->next = off;
        h->pos = h->filled = 0;
        n = getdents64(h->fd, h->buf, sizeof(h->buf));
        if (n < 0)
                return -errno;
        h->filled = (size_t)n;
        return n > 0;
}

static int list_store(struct listing *l, struct dir_handle *h, off_t off)
{
        enum strata_kind kind = STRATA_ACTIVE;
        bool folder = sfs_node_is_folder(l->node, &kind);
        int r;

        while ((r = fill_chunk(h, off)) > 0) {
                struct dirent64 *de = (struct dirent64 *)(h->buf + h->pos);
                bool more;

                if (strcmp(de->d_name, ".") == 0)
                        more = add_plain(l, ".", l->node, S_IFDIR, de->d_off);
                else if (strcmp(de->d_name, "..") == 0)
                        more = add_plain(l, "..",
                                         folder ? FUSE_ROOT_ID : sfs_node(sfs_node_id(l->node), SFS_SLOT_ENTRY),
                                         S_IFDIR, de->d_off);
                else if (folder)
                        more = list_entry(l, h, kind, de->d_name, de->d_off);
                else
                        more = list_label(l, de->d_name, de->d_off);
                if (!more)
                        return l->error;
                h->pos += de->d_reclen;
                off = h->next = de->d_off;
        }
        return r;
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
        struct sfs *sfs = sfs_of(req);
        struct dir_handle *own = sfs_handle_address(sfs, fi->fh), *h = own;
        struct listing l = { .req = req, .node = ino, .size = size, .plus = plus, .reply = malloc(size) };
        struct strata_info info;
        int r = 0, error = ENOMEM;

        /* Opened by a worker that is dead: its cookies are the store's, so each part is as good from a new handle. */
        if (!h)
                h = open_handle(sfs, ino, &error);
        if (!l.reply || !h) {
                fuse_reply_err(req, error);
                if (h && !own)
                        close_handle(h);
                free(l.reply);
                return;
        }
        if (h->fd >= 0) {
                r = list_store(&l, h, off);
        } else if (sfs_node_is_labels(ino)) {
                if (off < 1)
                        add_plain(&l, ".", ino, S_IFDIR, 1);
                if (off < 2)
                        add_plain(&l, "..", sfs_node(sfs_node_id(ino), SFS_SLOT_ENTRY), S_IFDIR, 2);
        } else if (ino == FUSE_ROOT_ID) {
                list_table(&l, NULL, off);
        } else {
                r = strata_entry_info(sfs->store, sfs_node_id(ino), &info);
                if (r == 0)
                        list_table(&l, &info, off);
        }
        if (r < 0)
                sfs_op_log_error(sfs, "readdir", ino, NULL, r);
        if (r < 0 && !l.used)
                fuse_reply_err(req, -r);
        else
                fuse_reply_buf(req, l.reply, l.used);
        free(l.reply);
        if (!own)
                close_handle(h);
}

void sfs_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
        list(req, ino, size, off, fi, false);
}

void sfs_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
        list(req, ino, size, off, fi, true);
}
