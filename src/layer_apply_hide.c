/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opaque directories of a layer that is being made. Overlayfs takes a device 0/0 for a whiteout in merged directories
 * alone: in one that hides what lies below it would be listed, and be neither found nor removed. So the whiteouts that
 * came before the mark go, and none is made after it, as nothing lies below then.
 */
#include "layer_apply.h"

#include "util/cleanup.h"
#include "util/io.h"
#include "util/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Removes NAME, a whiteout, from DIRFD, whose mtime is an entry's already. */
static int drop_whiteout(int dirfd, const char *name)
{
        struct timespec times[2];
        struct stat st;

        if (fstat(dirfd, &st) < 0)
                return -errno;
        times[0] = st.st_atim;
        times[1] = st.st_mtim;
        return unlinkat(dirfd, name, 0) < 0 || futimens(dirfd, times) < 0 ? -errno : 0;
}

static int look_for_whiteout(void *data, enum strata_walk_event event, int dirfd, const char *name)
{
        cleanup_fd int fd = -1;
        struct stat st;

        switch (event) {
        case STRATA_WALK_FILE:
                if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        return -errno;
                return S_ISCHR(st.st_mode) && st.st_rdev == 0 ? drop_whiteout(dirfd, name) : 0;
        case STRATA_WALK_ENTER:
                /* One that is opaque has none any more: no directory is gone through twice. */
                fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                return fd < 0 ? -errno : strata_apply_dir_is_marked(data, fd);
        default:
                return 0;
        }
}

/* Nothing shows any more of what lies below TOP. */
static void drop_lower(struct strata_apply *a, struct strata_apply_dir *top)
{
        struct strata_apply_dir *d, *tmp, *up;

        HASH_ITER(hh, a->dirs, d, tmp) {
                for (up = d; up && up != top; up = up->parent)
                        ;
                if (!up)
                        continue;
                d->has_lower = false;
                strata_close(steal_fd(&d->lower_fd));
        }
}

static int hide_dir(struct strata_apply *a, struct strata_apply_dir *d)
{
        int r = strata_apply_dir_mark(a, d->fd);

        drop_lower(a, d);
        return r < 0 ? r : strata_walk(d->fd, ".", look_for_whiteout, a);
}

/* NAME lies below the root, all of which is to be hidden. */
static int hide_in_root(struct strata_apply *a, const char *name)
{
        struct strata_apply_dir *child;
        int r = strata_apply_dir_enter(a, a->root, name, &child);

        if (r == 0)
                return strata_apply_dir_opaque(a, child);
        if (r == -ENOENT)
                r = mknodat(a->root->fd, name, S_IFCHR, 0) < 0 ? -errno : 0;
        return r == -ENOTDIR ? 0 : r;
}

/* Overlayfs always merges roots, marked or not: so each name gets a whiteout. What lies below stays in view, for what
 * is put in their place. */
static int hide_root(struct strata_apply *a)
{
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;
        int r = strata_io_list(a->root->lower_fd, ".", &dir);

        while (r == 0 && (errno = 0, de = readdir(dir)))
                if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
                        r = hide_in_root(a, de->d_name);
        return r == 0 ? -errno : r;
}

int strata_apply_dir_opaque(struct strata_apply *a, struct strata_apply_dir *d)
{
        int r;

        if (d->lower_fd < 0)
                return 0;
        r = d == a->root ? hide_root(a) : hide_dir(a, d);
        return r < 0 ? strata_apply_fail(a, r, strata_apply_dir_name(d), "what lies below it can't be hidden") : 0;
}
