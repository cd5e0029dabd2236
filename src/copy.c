/* SPDX-License-Identifier: Apache-2.0 */
#include "copy.h"

#include "layer_walk.h"
#include "strata.h"
#include "xattrs.h"

#include <errno.h>
#include <linux/limits.h>
#include <linux/xattr.h>
#include <sys/xattr.h>
#include <unistd.h>

struct target {
        int fd;
        const char *prefix; /* of overlayfs' own xattrs */
};

static int set(void *data, const char *name, const void *value, size_t len)
{
        const struct target *to = data;
        char buf[XATTR_NAME_MAX + 1];

        name = strata_xattrs_stored_name(name, to->prefix, buf);
        if (!name)
                return -ERANGE;
        return fsetxattr(to->fd, name, value, len, 0) < 0 ? -errno : 0;
}

static int copy_xattrs(const struct strata *s, enum strata_copy_source source, int from, int to)
{
        struct target target = { to, strata_layer_prefix(s->in_userns) };

        return strata_xattrs_each(from, NULL, source == STRATA_COPY_LAYER ? target.prefix : NULL, set, &target);
}

int strata_copy_attributes(const struct strata *s, enum strata_copy_source source, int from, const struct stat *st,
                           int to, const struct stat *now)
{
        const struct timespec times[2] = { st->st_atim, st->st_mtim };
        int r;

        if ((st->st_uid != now->st_uid || st->st_gid != now->st_gid) && fchown(to, st->st_uid, st->st_gid) < 0)
                return -errno;
        if (((st->st_mode ^ now->st_mode) & 07777 || st->st_mode & 07000) && fchmod(to, st->st_mode & 07777) < 0)
                return -errno;
        r = copy_xattrs(s, source, from, to);
        if (r < 0)
                return r;
        return futimens(to, times) < 0 ? -errno : 0;
}

int strata_copy_drop_inherited(int fd)
{
        static const char *const acls[] = { XATTR_NAME_POSIX_ACL_ACCESS, XATTR_NAME_POSIX_ACL_DEFAULT };

        if (flistxattr(fd, NULL, 0) == 0)
                return 0; /* mostly: to remove what is not there costs a transaction each */
        for (size_t i = 0; i < sizeof(acls) / sizeof(*acls); i++)
                if (fremovexattr(fd, acls[i]) < 0 && errno != ENODATA && errno != ENOTSUP)
                        return -errno;
        return 0;
}
