/* SPDX-License-Identifier: Apache-2.0 */
/* The new mount API: one fsconfig() a layer, so up to STRATA_CHAIN_MAX of them whatever their paths. */
#include "mount.h"

#include "strata.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#define VALUE_MAX 256 /* bytes of a string that fsconfig() takes, with its NUL */

/* A path in the store, of which the first part stays as it is from one layer to the next. */
struct layer_path {
        char text[VALUE_MAX];
        size_t len; /* of that part */
};

/*
 * Absolute, as is best to read in /proc/mounts, or from the working directory layers/ where the store's path is too
 * long for that.
 */
static void path_init(struct strata *s, struct layer_path *p)
{
        int n = snprintf(p->text, sizeof(p->text), "%s/", s->path);

        if (n + STRATA_ID_PATH_MAX > VALUE_MAX)
                n = snprintf(p->text, sizeof(p->text), "../");
        p->len = (size_t)n;
}

/* The path of DIR in layer ID; valid until the next is asked for. */
static const char *path_of(struct layer_path *p, uint64_t id, const char *dir)
{
        snprintf(p->text + p->len, sizeof(p->text) - p->len, "layers/%" PRIu64 "/%s", id, dir);
        return p->text;
}

/* The path of the store's empty directory, as path_of(). */
static const char *path_of_empty(struct layer_path *p)
{
        strcpy(p->text + p->len, "empty");
        return p->text;
}

static int set_string(int fd, const char *key, const char *value)
{
        return fsconfig(fd, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

static int set_layers(struct strata *s, int fd, const struct strata_chain *chain)
{
        struct layer_path path;
        int r = 0;

        path_init(s, &path);
        for (size_t i = 0; i < chain->n && r == 0; i++)
                r = set_string(fd, "lowerdir+", path_of(&path, chain->lowers[i], "fs"));
        /* overlayfs wants one lower, or two where there is no upper */
        if (r == 0 && (chain->n == 0 || (chain->n == 1 && !chain->upper)))
                r = set_string(fd, "lowerdir+", path_of_empty(&path));
        if (r == 0 && chain->upper)
                r = set_string(fd, "upperdir", path_of(&path, chain->upper, "fs"));
        if (r == 0 && chain->upper)
                r = set_string(fd, "workdir", path_of(&path, chain->upper, "work"));
        return r;
}

static int set_options(struct strata *s, int fd, const struct strata_mount_spec *spec)
{
        /* An upper is a self-contained layer only with all of these off; redirect_dir=off may still follow redirects.
         */
        static const char *const off[][2] = { { "index", "off" },
                                              { "metacopy", "off" },
                                              { "redirect_dir", "nofollow" } };
        int r = set_string(fd, "source", spec->source);

        if (r == -EINVAL)
                r = 0; /* a name that the kernel won't take is no reason not to mount */
        for (size_t i = 0; i < sizeof(off) / sizeof(*off) && r == 0; i++)
                r = set_string(fd, off[i][0], off[i][1]);
        if (r == 0 && s->in_userns && fsconfig(fd, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0)
                r = -errno;
        if (r == 0 && spec->is_volatile && fsconfig(fd, FSCONFIG_SET_FLAG, "volatile", NULL, 0) < 0)
                r = -errno;
        if (r == 0 && spec->read_only && fsconfig(fd, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0)
                r = -errno;
        return r;
}

/* Makes SPEC's mount, attached nowhere. A descriptor of it (O_PATH), or -errno. */
static int make_mount(struct strata *s, const struct strata_mount_spec *spec)
{
        cleanup_fd int fs = fsopen("overlay", FSOPEN_CLOEXEC);
        unsigned attributes = spec->attributes;
        int r, mnt;

        if (fs < 0)
                return -errno;
        r = set_options(s, fs, spec);
        if (r == 0)
                r = set_layers(s, fs, spec->chain);
        if (r < 0)
                return r;
        if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        if (spec->read_only)
                attributes |= MOUNT_ATTR_RDONLY;
        if (spec->restricted)
                attributes |= MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
        mnt = fsmount(fs, FSMOUNT_CLOEXEC, attributes);
        return mnt < 0 ? -errno : mnt;
}

static int new_attach(struct strata *s, const struct strata_mount_spec *spec, int target_fd, dev_t *dev)
{
        cleanup_fd int mnt = make_mount(s, spec);

        if (mnt < 0)
                return mnt;
        if (move_mount(mnt, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
                return -errno;
        return strata_mount_device(mnt, dev);
}

static int new_open(struct strata *s, const struct strata_mount_spec *spec, int *ret)
{
        cleanup_fd int mnt = make_mount(s, spec);
        int fd;

        if (mnt < 0)
                return mnt;
        fd = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        *ret = fd;
        return 0;
}

static int new_set_read_only(struct strata *s, const char *path, bool read_only)
{
        cleanup_fd int fd = fspick(AT_FDCWD, path, FSPICK_CLOEXEC | FSPICK_SYMLINK_NOFOLLOW);

        (void)s;
        if (fd < 0)
                return -errno;
        if (fsconfig(fd, FSCONFIG_SET_FLAG, read_only ? "ro" : "rw", NULL, 0) < 0 ||
            fsconfig(fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
                return -errno;
        return 0;
}

const struct strata_mount_api strata_mount_new = {
        .name = "new",
        .max_options = 0,
        .attach = new_attach,
        .open = new_open,
        .set_read_only = new_set_read_only,
};
