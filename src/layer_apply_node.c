/* SPDX-License-Identifier: Apache-2.0 */
/* Large files, links, devices, whiteouts. */
#include "layer_apply.h"

#include "copy.h"
#include "util/cleanup.h"

#include <archive.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* True, with the way clear, if a call that makes NAME in D failed with EEXIST; else *R is what it returns. */
static bool cleared(struct strata_apply *a, struct strata_apply_dir *d, const char *name, int *r)
{
        if (errno != EEXIST) {
                *r = strata_apply_fail(a, -errno, name, NULL);
                return false;
        }
        *r = strata_apply_dir_remove(a, d, name);
        return *r == 0;
}

int strata_apply_symlink(struct strata_apply *a, struct strata_apply_dir *d, const char *name, const char *target,
                         const struct strata_apply_meta *meta)
{
        int r = strata_apply_settle_name(a, d, name);

        if (r == 0 && (!target || !target[0] || strlen(target) >= PATH_MAX))
                r = strata_apply_fail(a, -EINVAL, name, "a symbolic link to nothing, or to more than a path can hold");
        while (r == 0 && symlinkat(target, d->fd, name) < 0)
                if (!cleared(a, d, name, &r))
                        return r;
        return r < 0 ? r : strata_apply_meta_node(a, d, name, meta, true);
}

int strata_apply_special(struct strata_apply *a, struct strata_apply_dir *d, const char *name, mode_t type, dev_t dev,
                         const struct strata_apply_meta *meta)
{
        int r = strata_apply_settle_name(a, d, name);

        while (r == 0 && mknodat(d->fd, name, type | (meta->mode & 0777), dev) < 0) {
                if (errno == EPERM)
                        return strata_apply_fail(a, -EPERM, name,
                                                 "a device can't be made here, as in a user namespace");
                if (!cleared(a, d, name, &r))
                        return r;
        }
        return r < 0 ? r : strata_apply_meta_node(a, d, name, meta, false);
}

static int open_new(struct strata_apply *a, struct strata_apply_dir *d, const char *name, mode_t mode, int *ret)
{
        int r = strata_apply_settle_name(a, d, name);

        while (r == 0) {
                int fd = openat(d->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0777);

                if (fd >= 0) {
                        *ret = fd;
                        return 0;
                }
                if (!cleared(a, d, name, &r))
                        return r;
        }
        return r;
}

static int write_at(int fd, const char *data, size_t len, off_t offset)
{
        while (len > 0) {
                ssize_t n = pwrite(fd, data, len, offset);

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0) {
                        data += n;
                        len -= (size_t)n;
                        offset += n;
                }
        }
        return 0;
}

/* The contents at hand in AR, holes left out, to FD. */
static int copy_contents(struct strata_apply *a, int fd, const char *name, struct archive *ar, uint64_t size)
{
        uint64_t end = 0;
        const void *data;
        la_int64_t offset;
        size_t len;
        int r;

        while ((r = archive_read_data_block(ar, &data, &len, &offset)) == ARCHIVE_OK) {
                if (offset < 0 || (uint64_t)offset > size || len > size - (uint64_t)offset)
                        return strata_apply_fail(a, -EINVAL, name, "it has contents beyond its size");
                r = write_at(fd, data, len, offset);
                if (r < 0)
                        return strata_apply_fail(a, r, name, NULL);
                if (len)
                        end = (uint64_t)offset + len;
        }
        if (r != ARCHIVE_EOF)
                return strata_apply_fail(a, archive_errno(ar) == ENOMEM ? -ENOMEM : -EINVAL, name,
                                         "the archive ends in the middle of this file, or is damaged there");
        if (end < size && ftruncate(fd, (off_t)size) < 0)
                return strata_apply_fail(a, -errno, name, NULL);
        return 0;
}

int strata_apply_stream(struct strata_apply *a, struct strata_apply_dir *d, const char *name, struct archive *ar,
                        uint64_t size, const struct strata_apply_meta *meta)
{
        cleanup_fd int fd = -1;
        const char *why;
        int r = open_new(a, d, name, meta->mode, &fd);

        if (r == 0)
                r = copy_contents(a, fd, name, ar, size);
        if (r < 0)
                return r;
        r = strata_apply_meta_file(a, fd, d->plain_owner, d->default_acl, meta, &why);
        if (r < 0)
                return strata_apply_fail(a, r, name, why);
        return close(steal_fd(&fd)) < 0 ? strata_apply_fail(a, -errno, name, NULL) : 0;
}

static bool is_zero(const char *p, size_t len)
{
        return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* All SIZE bytes of FROM to TO; what is zero becomes a hole. */
static int copy_file(struct strata_apply *a, int from, int to, off_t size)
{
        off_t done = 0;

        while (done < size) {
                off_t data = lseek(from, done, SEEK_DATA);
                ssize_t n;
                int r = 0;

                if (data < 0 && errno == ENXIO)
                        break; /* but a hole to the end */
                if (data > done)
                        done = data;
                n = pread(from, a->scratch, sizeof(a->scratch) - 1, done);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO; /* it is committed: nobody makes it shorter */
                if (!is_zero(a->scratch, (size_t)n))
                        r = write_at(to, a->scratch, (size_t)n, done);
                if (r < 0)
                        return r;
                done += n;
        }
        return ftruncate(to, size) < 0 ? -errno : 0;
}

static int copy_up_file(struct strata_apply *a, struct strata_apply_dir *d, const char *name)
{
        cleanup_fd int from = openat(d->lower_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), to = -1;
        struct stat st, now;
        int r = from < 0 || fstat(from, &st) < 0 ? strata_apply_fail(a, -errno, name, NULL) : 0;

        if (r == 0)
                r = open_new(a, d, name, st.st_mode, &to);
        if (r < 0)
                return r;
        r = copy_file(a, from, to, st.st_size);
        if (r == 0 && d->default_acl)
                r = strata_apply_meta_clear(a, to);
        if (r == 0 && fstat(to, &now) < 0)
                r = -errno;
        if (r == 0)
                r = strata_copy_attributes(a->s, STRATA_COPY_MERGED, from, &st, to, &now);
        return r < 0 ? strata_apply_fail(a, r, name, "what a hard link leads to can't be copied from below") : 0;
}

/* Brings NAME in D, which only lies below, into the layer: a hard link leads there. */
static int copy_up(struct strata_apply *a, struct strata_apply_dir *d, const char *name)
{
        struct strata_apply_meta meta;
        char target[PATH_MAX];
        struct stat st;
        ssize_t n;
        int r;

        if (d->lower_fd < 0 || fstatat(d->lower_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return strata_apply_fail(a, -EINVAL, name, "a hard link leads there, and nothing is there");
        if (S_ISDIR(st.st_mode))
                return strata_apply_fail(a, -EINVAL, name, "a hard link leads to this folder");
        if (S_ISREG(st.st_mode))
                return copy_up_file(a, d, name);
        r = strata_apply_meta_below(a, d, name, &st, &meta);
        if (r < 0)
                return strata_apply_fail(a, r, name, "what a hard link leads to can't be copied from below");
        if (!S_ISLNK(st.st_mode))
                return strata_apply_special(a, d, name, st.st_mode & S_IFMT, st.st_rdev, &meta);
        n = readlinkat(d->lower_fd, name, target, sizeof(target) - 1);
        if (n < 0)
                return strata_apply_fail(a, -errno, name, NULL);
        target[n] = '\0';
        return strata_apply_symlink(a, d, name, target, &meta);
}

/* Finds what a hard link leads to: its directory in *RET_FD, its name within TARGET, its inode. */
static int find_target(struct strata_apply *a, char *target, int *ret_fd, const char **ret_name, struct stat *st)
{
        struct strata_apply_dir *d;
        int r = strata_apply_dir_resolve(a, target, &d, ret_name);

        if (r == 0)
                r = strata_apply_settle_name(a, d, *ret_name);
        if (r == 0 && fstatat(d->fd, *ret_name, st, AT_SYMLINK_NOFOLLOW) < 0) {
                r = errno == ENOENT ? copy_up(a, d, *ret_name) : strata_apply_fail(a, -errno, *ret_name, NULL);
                if (r == 0 && fstatat(d->fd, *ret_name, st, AT_SYMLINK_NOFOLLOW) < 0)
                        r = strata_apply_fail(a, -errno, *ret_name, NULL);
        }
        if (r < 0)
                return r;
        if (S_ISDIR(st->st_mode))
                return strata_apply_fail(a, -EINVAL, *ret_name, "a hard link leads to this folder");
        if (S_ISCHR(st->st_mode) && st->st_rdev == 0)
                return strata_apply_fail(a, -EINVAL, *ret_name, "a hard link leads there, and nothing is there");
        /* Looking for the link's own place may close the directory. */
        *ret_fd = fcntl(d->fd, F_DUPFD_CLOEXEC, 0);
        return *ret_fd < 0 ? strata_apply_fail(a, -errno, *ret_name, NULL) : 0;
}

int strata_apply_hardlink(struct strata_apply *a, char *path, char *target)
{
        const char *name, *target_name;
        struct strata_apply_dir *d;
        cleanup_fd int fd = -1;
        struct stat st, there;
        int r = find_target(a, target, &fd, &target_name, &st);

        if (r == 0)
                r = strata_apply_dir_resolve(a, path, &d, &name);
        if (r == 0)
                r = strata_apply_settle_name(a, d, name);
        while (r == 0 && linkat(fd, target_name, d->fd, name, 0) < 0) {
                /* A link to itself is there already. */
                if (errno == EEXIST && fstatat(d->fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
                    there.st_ino == st.st_ino)
                        return 0;
                errno = errno == ENOENT ? EINVAL : errno;
                if (!cleared(a, d, name, &r))
                        return r;
        }
        return r;
}

int strata_apply_whiteout(struct strata_apply *a, struct strata_apply_dir *d, const char *name)
{
        int r = strata_apply_dir_remove(a, d, name);

        /* Where nothing lies below there is nothing to hide. */
        if (r == 0)
                r = strata_apply_dir_lower_has(d, name);
        if (r > 0)
                r = mknodat(d->fd, name, S_IFCHR, 0) < 0 ? -errno : 0;
        return r < 0 ? strata_apply_fail(a, r, name, "it can't be hidden by a whiteout") : 0;
}
