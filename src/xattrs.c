/* SPDX-License-Identifier: Apache-2.0 */
#include "xattrs.h"

#include "util/buf.h"
#include "util/cleanup.h"

#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#define SMALL 4096 /* bytes; beyond, memory is taken from the heap */

/* How overlayfs itself stores what is called like its own, after its prefix: fs/overlayfs/overlayfs.h,
 * OVL_XATTR_ESCAPE_PREFIX. */
#define ESCAPE "overlay."
#define ESCAPE_LEN (sizeof(ESCAPE) - 1)

static ssize_t list_call(int fd, const char *path, char *buf, size_t size)
{
        return fd >= 0 ? flistxattr(fd, buf, size) : llistxattr(path, buf, size);
}

static ssize_t get_call(int fd, const char *path, const char *name, void *buf, size_t size)
{
        return fd >= 0 ? fgetxattr(fd, name, buf, size) : lgetxattr(path, name, buf, size);
}

/* Calls with SMALL first; what does not fit goes to *BIG, owned by the caller. Bytes or -errno; *DATA points to them.
 */
static ssize_t fetch(int fd, const char *path, const char *name, char small[SMALL], char **big, char **data)
{
        ssize_t n = name ? get_call(fd, path, name, small, SMALL) : list_call(fd, path, small, SMALL);

        *data = small;
        while (n < 0 && errno == ERANGE) {
                n = name ? get_call(fd, path, name, NULL, 0) : list_call(fd, path, NULL, 0);
                if (n < 0)
                        break;
                free(*big);
                *big = malloc((size_t)n + 1);
                if (!*big)
                        return -ENOMEM;
                n = name ? get_call(fd, path, name, *big, (size_t)n) : list_call(fd, path, *big, (size_t)n);
                *data = *big;
        }
        return n < 0 ? -errno : n;
}

/* What NAME stands for: NULL if it is overlayfs' own; itself, or unescaped in BUF. */
static const char *seen_name(const char *name, const char *prefix, char buf[XATTR_NAME_MAX + 1])
{
        size_t len = prefix ? strlen(prefix) : 0;

        if (!prefix || strncmp(name, prefix, len) != 0)
                return name;
        if (strncmp(name + len, ESCAPE, ESCAPE_LEN) != 0)
                return NULL;
        snprintf(buf, XATTR_NAME_MAX + 1, "%s%s", prefix, name + len + ESCAPE_LEN);
        return buf;
}

const char *strata_xattrs_stored_name(const char *name, const char *prefix, char buf[XATTR_NAME_MAX + 1])
{
        size_t len = strlen(prefix);

        if (strncmp(name, prefix, len) != 0)
                return strlen(name) <= XATTR_NAME_MAX ? name : NULL;
        if (snprintf(buf, XATTR_NAME_MAX + 1, "%s" ESCAPE "%s", prefix, name + len) > XATTR_NAME_MAX)
                return NULL;
        return buf;
}

static bool begins(const char *name, const char *prefix)
{
        return strncmp(name, prefix, strlen(prefix)) == 0;
}

bool strata_xattrs_travels(const char *name)
{
        return begins(name, "user.") || begins(name, "trusted.") || begins(name, "system.posix_acl_") ||
               strcmp(name, "security.capability") == 0;
}

size_t strata_xattrs_plain_capability(const void *value, size_t len, struct vfs_cap_data *ret)
{
        uint32_t magic;

        memcpy(&magic, value, sizeof(magic));
        magic = le32toh(magic);
        if (len != sizeof(struct vfs_ns_cap_data) || (magic & VFS_CAP_REVISION_MASK) != VFS_CAP_REVISION_3)
                return 0;
        memcpy(ret, value, sizeof(*ret));
        ret->magic_etc = htole32(VFS_CAP_REVISION_2 | (magic & ~(uint32_t)VFS_CAP_REVISION_MASK));
        return sizeof(*ret);
}

static int compare(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static int send_one(int fd, const char *path, const char *name, const char *seen, strata_xattr_fn fn, void *data)
{
        cleanup_free char *big = NULL;
        char small[SMALL], *value;
        ssize_t n = fetch(fd, path, name, small, &big, &value);

        if (n == -ENODATA || n == -ENOENT)
                return 0;
        return n < 0 ? (int)n : fn(data, seen, value, (size_t)n);
}

int strata_xattrs_each(int fd, const char *path, const char *prefix, strata_xattr_fn fn, void *data)
{
        cleanup_free char *big = NULL;
        cleanup_free char **names = NULL;
        char small[SMALL], buf[XATTR_NAME_MAX + 1], *list;
        ssize_t len = fetch(fd, path, NULL, small, &big, &list);
        size_t n = 0;
        int r = 0;

        if (len == 0 || len == -EOPNOTSUPP || len == -ENOENT)
                return 0;
        if (len < 0)
                return (int)len;
        names = calloc((size_t)len, sizeof(*names));
        if (!names)
                return -ENOMEM;
        for (char *p = list; p < list + len; p += strlen(p) + 1)
                if (seen_name(p, prefix, buf))
                        names[n++] = p;
        qsort(names, n, sizeof(*names), compare);
        for (size_t i = 0; i < n && r == 0; i++)
                r = send_one(fd, path, names[i], seen_name(names[i], prefix, buf), fn, data);
        return r;
}

static int collect(void *data, const char *name, const void *value, size_t len)
{
        struct strata_buf *buf = data;

        strata_buf_add(buf, name, strlen(name) + 1);
        strata_buf_add(buf, &len, sizeof(len));
        strata_buf_add(buf, value, len);
        return strata_buf_status(buf);
}

int strata_xattrs_equal(int fd, const char *path, const char *prefix, int other_fd)
{
        cleanup_buf struct strata_buf one = STRATA_BUF_INIT, other = STRATA_BUF_INIT;
        int r = strata_xattrs_each(fd, path, prefix, collect, &one);

        /* The merged view has left overlayfs' own out and unescaped the others already. */
        if (r == 0)
                r = strata_xattrs_each(other_fd, NULL, NULL, collect, &other);
        if (r < 0)
                return r;
        return one.len == other.len && (one.len == 0 || memcmp(one.data, other.data, one.len) == 0);
}
