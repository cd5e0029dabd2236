/* SPDX-License-Identifier: Apache-2.0 */
/* Owner, mode, xattrs, ACLs and times of an entry. */
#include "layer_apply.h"

#include "layer_walk.h"
#include "strata.h"
#include "xattrs.h"

#include <archive.h>
#include <archive_entry.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <linux/xattr.h>
#include <unistd.h>

const char *strata_apply_opaque_name(const struct strata_apply *a)
{
        return a->s->in_userns ? "user.overlay.opaque" : "trusted.overlay.opaque";
}

/* -ERANGE if NAME is too long. */
static int add_xattr(struct strata_apply *a, const char *name, const void *value, size_t len)
{
        char escaped[XATTR_NAME_MAX + 1];
        const char *stored = strata_xattrs_stored_name(name, strata_layer_prefix(a->s->in_userns), escaped);
        struct strata_buf *buf = &a->xattrs;
        uint32_t len32 = (uint32_t)len;

        if (!stored)
                return -ERANGE;
        strata_buf_add(buf, stored, strlen(stored) + 1);
        strata_buf_add(buf, &len32, sizeof(len32));
        strata_buf_add(buf, value, len);
        return strata_buf_status(buf);
}

static int get_xattrs(struct strata_apply *a, struct archive_entry *e)
{
        const char *name;
        const void *value;
        size_t len;
        int r = 0;

        (void)archive_entry_xattr_reset(e);
        while (r == 0 && archive_entry_xattr_next(e, &name, &value, &len) == ARCHIVE_OK) {
                if (name && len > XATTR_SIZE_MAX)
                        return strata_apply_fail(a, -EINVAL, archive_entry_pathname(e), "an xattr is over 64 KiB long");
                if (!name || !name[0] || strlen(name) > XATTR_NAME_MAX)
                        r = -ERANGE;
                else if (strata_xattrs_travels(name)) /* as others unpack: what is another machine's is left out */
                        r = add_xattr(a, name, value, len);
        }
        if (r == -ERANGE)
                return strata_apply_fail(a, -EINVAL, archive_entry_pathname(e), "an xattr's name is too long");
        return r;
}

/* From libarchive's tags to the kernel's: include/uapi/linux/posix_acl.h. */
static int acl_tag(int tag)
{
        switch (tag) {
        case ARCHIVE_ENTRY_ACL_USER_OBJ:
                return ACL_USER_OBJ;
        case ARCHIVE_ENTRY_ACL_USER:
                return ACL_USER;
        case ARCHIVE_ENTRY_ACL_GROUP_OBJ:
                return ACL_GROUP_OBJ;
        case ARCHIVE_ENTRY_ACL_GROUP:
                return ACL_GROUP;
        case ARCHIVE_ENTRY_ACL_MASK:
                return ACL_MASK;
        case ARCHIVE_ENTRY_ACL_OTHER:
                return ACL_OTHER;
        default:
                return -1;
        }
}

/* The ACL of TYPE as the xattr that the kernel takes: header, then entries by tag and ID. */
static int get_acl(struct strata_apply *a, struct archive_entry *e, int want, const char *xattr)
{
        static const int order[] = { ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER };
        struct posix_acl_xattr_header head = { .a_version = htole32(POSIX_ACL_XATTR_VERSION) };
        struct strata_buf value = STRATA_BUF_INIT;
        int n = archive_entry_acl_reset(e, want), type, permset, tag, qual, r;
        const char *name;

        if (n == 0)
                return 0;
        strata_buf_add(&value, &head, sizeof(head));
        for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++) {
                (void)archive_entry_acl_reset(e, want);
                while (archive_entry_acl_next(e, want, &type, &permset, &tag, &qual, &name) == ARCHIVE_OK) {
                        bool named = tag == ARCHIVE_ENTRY_ACL_USER || tag == ARCHIVE_ENTRY_ACL_GROUP;
                        struct posix_acl_xattr_entry x = {
                                .e_tag = htole16((uint16_t)order[i]),
                                .e_perm = htole16((uint16_t)(permset & 7)),
                                .e_id = htole32(named ? (uint32_t)qual : ACL_UNDEFINED_ID),
                        };

                        if (acl_tag(tag) != order[i])
                                continue;
                        if (named && qual < 0) {
                                strata_buf_free(&value);
                                return strata_apply_fail(a, -EINVAL, archive_entry_pathname(e),
                                                         "an ACL names a user or group without its number; write it "
                                                         "with bsdtar --numeric-owner");
                        }
                        strata_buf_add(&value, &x, sizeof(x));
                }
        }
        r = strata_buf_status(&value);
        if (r == 0 && value.len > sizeof(head))
                r = add_xattr(a, xattr, value.data, value.len);
        strata_buf_free(&value);
        return r;
}

/* Before 1970 libarchive has the sign at the seconds alone: -1.5 are -1 and 500,000,000. The kernel counts forwards. */
static struct timespec get_mtime(struct archive_entry *e)
{
        struct timespec ret = { 0 };

        if (!archive_entry_mtime_is_set(e))
                return ret;
        ret.tv_sec = archive_entry_mtime(e);
        ret.tv_nsec = archive_entry_mtime_nsec(e);
        if (ret.tv_nsec < 0 || ret.tv_nsec >= 1000000000)
                ret.tv_nsec = 0;
        if (ret.tv_sec < 0 && ret.tv_nsec) {
                ret.tv_sec--;
                ret.tv_nsec = 1000000000 - ret.tv_nsec;
        }
        return ret;
}

static int collect(void *data, const char *name, const void *value, size_t len)
{
        struct strata_apply *a = data;

        return strata_xattrs_travels(name) ? add_xattr(a, name, value, len) : 0;
}

int strata_apply_meta_below(struct strata_apply *a, struct strata_apply_dir *d, const char *name, const struct stat *st,
                            struct strata_apply_meta *ret)
{
        int r;

        a->xattrs.len = 0;
        if (fchdir(d->lower_fd) < 0)
                return -errno;
        r = strata_xattrs_each(-1, name, NULL, collect, a);
        *ret = (struct strata_apply_meta){
                .uid = st->st_uid,
                .gid = st->st_gid,
                .mode = st->st_mode & 07777,
                .mtime = st->st_mtim,
                .xattrs = a->xattrs.data ? a->xattrs.data : "",
                .xattrs_len = a->xattrs.len,
        };
        return r;
}

int strata_apply_meta_get(struct strata_apply *a, struct archive_entry *e, struct strata_apply_meta *ret)
{
        int64_t uid = archive_entry_uid(e), gid = archive_entry_gid(e);
        int acls = archive_entry_acl_types(e), r = 0;

        if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
                return strata_apply_fail(a, -EINVAL, archive_entry_pathname(e), "its owner is no number of an owner");
        a->xattrs.len = 0;
        if (archive_entry_xattr_count(e) > 0)
                r = get_xattrs(a, e);
        if (r == 0 && acls & ARCHIVE_ENTRY_ACL_TYPE_NFS4)
                r = strata_apply_fail(a, -EINVAL, archive_entry_pathname(e), "it carries an NFSv4 ACL");
        if (r == 0 && acls & ARCHIVE_ENTRY_ACL_TYPE_ACCESS)
                r = get_acl(a, e, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, XATTR_NAME_POSIX_ACL_ACCESS);
        if (r == 0 && acls & ARCHIVE_ENTRY_ACL_TYPE_DEFAULT)
                r = get_acl(a, e, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, XATTR_NAME_POSIX_ACL_DEFAULT);
        if (r < 0)
                return r;
        *ret = (struct strata_apply_meta){
                .uid = (uid_t)uid,
                .gid = (gid_t)gid,
                .mode = archive_entry_mode(e) & 07777,
                .mtime = get_mtime(e),
                .xattrs = a->xattrs.data ? a->xattrs.data : "",
                .xattrs_len = a->xattrs.len,
        };
        return 0;
}

/* Calls for each xattr of META until one fails: on FD, or if that is -1 on the file NAME in the working directory. */
static int set_xattrs(int fd, const char *name, const struct strata_apply_meta *meta)
{
        const char *p = meta->xattrs, *end = p + meta->xattrs_len;

        while (meta->xattrs_len && p < end) {
                const char *key = p;
                uint32_t len;
                int r;

                p += strlen(key) + 1;
                memcpy(&len, p, sizeof(len));
                p += sizeof(len);
                r = fd >= 0 ? fsetxattr(fd, key, p, len, 0) : lsetxattr(name, key, p, len, 0);
                if (r < 0)
                        return -errno;
                p += len;
        }
        return 0;
}

static const char owner_why[] = "its owner can't be set; in a user namespace only owners mapped there can";
static const char xattr_why[] = "an xattr or ACL of it can't be set; the store's file system or a user namespace may "
                                "not allow that one";

/* New files in a directory with a default ACL are born with one of their own. */
static int drop_acl(int fd, const char *name)
{
        if (fremovexattr(fd, name) < 0 && errno != ENODATA && errno != ENOTSUP)
                return -errno;
        return 0;
}

int strata_apply_meta_file(const struct strata_apply *a, int fd, bool plain_owner, bool default_acl,
                           const struct strata_apply_meta *meta, const char **why)
{
        const struct timespec times[2] = { meta->mtime, meta->mtime };
        int r = 0;

        *why = owner_why;
        if ((!plain_owner || meta->uid != a->euid || meta->gid != a->egid) && fchown(fd, meta->uid, meta->gid) < 0)
                return -errno;
        *why = NULL;
        if (default_acl)
                r = drop_acl(fd, XATTR_NAME_POSIX_ACL_ACCESS);
        if (r < 0)
                return r;
        /* After the owner: chown takes setuid and setgid away. */
        if ((default_acl || meta->mode & 07000) && fchmod(fd, meta->mode) < 0)
                return -errno;
        if (meta->xattrs_len) {
                r = set_xattrs(fd, NULL, meta);
                *why = xattr_why;
        }
        if (r < 0)
                return r;
        *why = NULL;
        return futimens(fd, times) < 0 ? -errno : 0;
}

int strata_apply_meta_clear(struct strata_apply *a, int fd)
{
        ssize_t len = flistxattr(fd, a->scratch, sizeof(a->scratch) - 1);

        if (len < 0)
                return errno == ENOTSUP ? 0 : -errno;
        a->scratch[len] = '\0';
        for (const char *name = a->scratch; name < a->scratch + len; name += strlen(name) + 1)
                if (strata_xattrs_travels(name) && strcmp(name, strata_apply_opaque_name(a)) != 0 &&
                    fremovexattr(fd, name) < 0 && errno != ENODATA)
                        return -errno;
        return 0;
}

static bool has_xattr(const struct strata_apply_meta *meta, const char *name)
{
        const char *p = meta->xattrs, *end = p + meta->xattrs_len;

        while (meta->xattrs_len && p < end) {
                uint32_t len;

                if (strcmp(p, name) == 0)
                        return true;
                p += strlen(p) + 1;
                memcpy(&len, p, sizeof(len));
                p += sizeof(len) + len;
        }
        return false;
}

/* Files on their way to D are made as it was when they came. */
static int settle_into(struct strata_apply *a, struct strata_apply_dir *d)
{
        return atomic_load(&d->pending) ? strata_apply_settle(a) : 0;
}

int strata_apply_meta_dir(struct strata_apply *a, struct strata_apply_dir *d, bool made,
                          const struct strata_apply_meta *meta)
{
        const char *name = strata_apply_dir_name(d);
        bool inherits = !d->parent || d->parent->default_acl;
        bool plain = made && d->parent && d->parent->plain_owner && meta->uid == a->euid && meta->gid == a->egid;
        int r = made ? 0 : settle_into(a, d);

        if (r < 0)
                return r;
        if (!plain && fchown(d->fd, meta->uid, meta->gid) < 0)
                return strata_apply_fail(a, -errno, name, owner_why);
        if (!made || inherits)
                r = strata_apply_meta_clear(a, d->fd);
        /* mkdir gave it the mode, but for what chown took, and what a setgid directory or a default ACL gave. */
        if (r == 0 && (!plain || inherits || d->parent->setgid || meta->mode & 07000) && fchmod(d->fd, meta->mode) < 0)
                r = -errno;
        if (r == 0) {
                r = set_xattrs(d->fd, NULL, meta);
                if (r < 0)
                        return strata_apply_fail(a, r, name, xattr_why);
        }
        d->plain_owner = meta->gid == a->egid;
        d->setgid = meta->mode & S_ISGID;
        d->default_acl = has_xattr(meta, XATTR_NAME_POSIX_ACL_DEFAULT);
        d->mtime = meta->mtime;
        d->dirty = true;
        return r < 0 ? strata_apply_fail(a, r, name, NULL) : 0;
}

int strata_apply_meta_node(struct strata_apply *a, struct strata_apply_dir *d, const char *name,
                           const struct strata_apply_meta *meta, bool is_link)
{
        const struct timespec times[2] = { meta->mtime, meta->mtime };
        int r = 0;

        if (fchownat(d->fd, name, meta->uid, meta->gid, AT_SYMLINK_NOFOLLOW) < 0)
                return strata_apply_fail(a, -errno, name, owner_why);
        /* There is no call that sets xattrs relative to a directory (before Linux 6.13): so from inside. */
        if ((meta->xattrs_len || d->default_acl) && fchdir(d->fd) < 0)
                return strata_apply_fail(a, -errno, name, NULL);
        if (!is_link && d->default_acl && lremovexattr(name, XATTR_NAME_POSIX_ACL_ACCESS) < 0 && errno != ENODATA &&
            errno != ENOTSUP)
                r = -errno;
        /* It is no symbolic link, and nobody else can put one there: the layer is not published. */
        if (r == 0 && !is_link && (d->default_acl || meta->mode & 07000) && fchmodat(d->fd, name, meta->mode, 0) < 0)
                r = -errno;
        if (r < 0)
                return strata_apply_fail(a, r, name, NULL);
        if (meta->xattrs_len)
                r = set_xattrs(-1, name, meta);
        if (r < 0)
                return strata_apply_fail(a, r, name, xattr_why);
        return utimensat(d->fd, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? strata_apply_fail(a, -errno, name, NULL) : 0;
}
