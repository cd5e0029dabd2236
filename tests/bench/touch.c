/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First touch: a stat of fs/ of an active entry nobody looked at yet, against nothing but the system calls that mount
 * the same layers. Every repetition takes a fresh entry, and fresh upper and work directories on the other side.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* The lowerdir=… of an "overlay" file, cut in place; *n of them. */
struct lowers {
        char text[1 << 17];
        const char *dir[512];
        unsigned n;
};

static void make_dir(const char *path)
{
        if (mkdir(path, 0755) < 0)
                bench_die("mkdir %s: %s", path, strerror(errno));
}

static void read_lowers(struct lowers *l, const char *overlay)
{
        int fd = open(overlay, O_RDONLY | O_CLOEXEC);
        size_t len = 0;
        ssize_t n;
        char *start;

        if (fd < 0)
                bench_die("open %s: %s", overlay, strerror(errno));
        while ((n = read(fd, l->text + len, sizeof(l->text) - 1 - len)) > 0)
                len += n;
        close(fd);
        l->text[len] = '\0';
        start = strstr(l->text, "lowerdir=");
        if (!start)
                bench_die("%s names no lowerdir: %s", overlay, l->text);
        start += strlen("lowerdir=");
        start[strcspn(start, ",\n")] = '\0';
        l->n = 0;
        for (char *dir = strtok(start, ":"); dir && l->n < sizeof(l->dir) / sizeof(*l->dir); dir = strtok(NULL, ":"))
                l->dir[l->n++] = dir;
}

static void set(int fs, const char *key, const char *value)
{
        if (fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) < 0)
                bench_die("fsconfig %s=%s: %s", key, value, strerror(errno));
}

/* Mounts on DIR/fs with DIR/upper and DIR/work; see forget_bare(). */
static double mount_bare(const struct lowers *l, const char *dir)
{
        char path[BENCH_PATH];
        double start;
        int fs, mnt;

        start = bench_now();
        fs = fsopen("overlay", FSOPEN_CLOEXEC);
        if (fs < 0)
                bench_die("fsopen: %s", strerror(errno));
        set(fs, "source", "bench");
        for (unsigned i = 0; i < l->n; i++)
                set(fs, "lowerdir+", l->dir[i]);
        bench_path(path, "%s/upper", dir);
        set(fs, "upperdir", path);
        bench_path(path, "%s/work", dir);
        set(fs, "workdir", path);
        set(fs, "index", "off");
        set(fs, "metacopy", "off");
        set(fs, "redirect_dir", "off");
        if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                bench_die("create an overlay of %u layers: %s", l->n, strerror(errno));
        mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0);
        bench_path(path, "%s/fs", dir);
        if (mnt < 0 || move_mount(mnt, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
                bench_die("mount on %s: %s", path, strerror(errno));
        close(mnt);
        close(fs);
        return bench_now() - start;
}

static double touch_bare(const struct lowers *l, const char *dir, unsigned depth, unsigned rep)
{
        char path[BENCH_PATH], sub[BENCH_PATH];
        static const char *const folders[] = { "fs", "upper", "work" };

        bench_path(path, "%s/t%u-%u", dir, depth, rep);
        make_dir(path);
        for (unsigned i = 0; i < 3; i++) {
                bench_path(sub, "%s/t%u-%u/%s", dir, depth, rep, folders[i]);
                make_dir(sub);
        }
        return mount_bare(l, path);
}

static void forget_bare(const char *dir, unsigned depth, unsigned rep)
{
        char path[BENCH_PATH];

        bench_path(path, "%s/t%u-%u/fs", dir, depth, rep);
        if (umount2(path, 0) < 0)
                bench_die("umount %s: %s", path, strerror(errno));
}

/* Leaves the entry to look at its overlay file; see forget(). */
static double touch_entry(const char *mnt, unsigned depth, unsigned rep)
{
        char path[BENCH_PATH];
        struct stat st, above;
        double start, took;

        if (depth == 1)
                bench_path(path, "%s/active/t1-%u", mnt, rep);
        else
                bench_path(path, "%s/active/t%u-%u@c%u", mnt, depth, rep, depth - 1);
        make_dir(path);
        bench_path(path, "%s/active/t%u-%u/fs", mnt, depth, rep);
        start = bench_now();
        if (stat(path, &st) < 0)
                bench_die("stat %s: %s", path, strerror(errno));
        took = bench_now() - start;
        bench_path(path, "%s/active", mnt);
        if (stat(path, &above) < 0 || above.st_dev == st.st_dev)
                bench_die("fs/ of t%u-%u is no mount", depth, rep);
        return took;
}

static void forget(const char *mnt, unsigned depth, unsigned rep)
{
        char path[BENCH_PATH];

        bench_path(path, "%s/active/t%u-%u", mnt, depth, rep);
        if (rmdir(path) < 0)
                bench_die("rmdir %s: %s", path, strerror(errno));
}

void bench_touch(int argc, char **argv)
{
        unsigned depth = bench_number(argv[3], 500), reps = bench_number(argv[4], BENCH_MAX_REPS);
        struct target t = { .high = depth < 100 ? 2 : depth < 500 ? 1.2 : 1.1 };
        struct series series = { .n = 0 };
        static struct lowers lowers;
        char path[BENCH_PATH], label[64];

        (void)argc;
        /* An entry of its own to learn the layers from, warm by its own touch. */
        touch_entry(argv[1], depth, 0);
        bench_path(path, "%s/active/t%u-0/overlay", argv[1], depth);
        read_lowers(&lowers, path);
        if (lowers.n != (depth == 1 ? 1 : depth - 1))
                bench_die("%s: %u layers at depth %u", path, lowers.n, depth);
        forget(argv[1], depth, 0);
        touch_bare(&lowers, argv[2], depth, 0);

        for (unsigned rep = 1; rep <= reps; rep++) {
                double took[2] = { 0 };

                for (unsigned turn = 0; turn < 2; turn++)
                        if ((rep + turn) % 2) {
                                took[1] = touch_bare(&lowers, argv[2], depth, rep);
                        } else {
                                took[0] = touch_entry(argv[1], depth, rep);
                        }
                series_add(&series, took[0], took[1]);
        }
        /*
         * Only now, and on both sides: a mount is taken apart in the background, and nothing is to be timed beside
         * that; nor is one side to find what it had freed a moment ago, and the other not.
         */
        for (unsigned rep = 0; rep <= reps; rep++)
                forget_bare(argv[2], depth, rep);
        for (unsigned rep = 1; rep <= reps; rep++)
                forget(argv[1], depth, rep);
        snprintf(label, sizeof(label), "first touch, depth %u", depth);
        row_times(label, &series, 1, t);
}
