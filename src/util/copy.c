/* SPDX-License-Identifier: Apache-2.0 */
#include "copy.h"

#include "cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define VALUE_MAX 65536 /* XATTR_SIZE_MAX */

bool strata_copy_is_overlay_xattr(const char *name)
{
        return strncmp(name, "trusted.overlay.", 16) == 0 || strncmp(name, "user.overlay.", 13) == 0;
}

int strata_copy_xattrs(int from, int to)
{
        cleanup_free char *names = NULL, *value = NULL;
        ssize_t len, n;

        len = flistxattr(from, NULL, 0);
        if (len <= 0)
                return len < 0 && errno != ENOTSUP ? -errno : 0;
        names = malloc((size_t)len + 1);
        value = malloc(VALUE_MAX);
        if (!names || !value)
                return -ENOMEM;
        len = flistxattr(from, names, (size_t)len);
        if (len < 0)
                return -errno;
        names[len] = '\0';
        for (const char *name = names; name < names + len; name += strlen(name) + 1) {
                if (strata_copy_is_overlay_xattr(name))
                        continue;
                n = fgetxattr(from, name, value, VALUE_MAX);
                if (n < 0 && errno == ENODATA)
                        continue;
                if (n < 0 || fsetxattr(to, name, value, (size_t)n, 0) < 0)
                        return -errno;
        }
        return 0;
}

int strata_copy_attributes(int from, const struct stat *st, int to, const struct stat *now)
{
        const struct timespec times[2] = { st->st_atim, st->st_mtim };
        int r;

        if ((st->st_uid != now->st_uid || st->st_gid != now->st_gid) && fchown(to, st->st_uid, st->st_gid) < 0)
                return -errno;
        if (((st->st_mode ^ now->st_mode) & 07777 || st->st_mode & 07000) && fchmod(to, st->st_mode & 07777) < 0)
                return -errno;
        r = strata_copy_xattrs(from, to);
        if (r < 0)
                return r;
        return futimens(to, times) < 0 ? -errno : 0;
}
