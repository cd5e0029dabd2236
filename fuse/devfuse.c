/* SPDX-License-Identifier: Apache-2.0 */
#include "devfuse.h"

#include "util/buf.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* mount(8)'s names for the flags, as libfuse knows them. */
static const struct flag {
        const char *name;
        unsigned long flag;
        bool on;
} flags[] = {
        { "rw", MS_RDONLY, false },
        { "ro", MS_RDONLY, true },
        { "suid", MS_NOSUID, false },
        { "nosuid", MS_NOSUID, true },
        { "dev", MS_NODEV, false },
        { "nodev", MS_NODEV, true },
        { "exec", MS_NOEXEC, false },
        { "noexec", MS_NOEXEC, true },
        { "async", MS_SYNCHRONOUS, false },
        { "sync", MS_SYNCHRONOUS, true },
        { "atime", MS_NOATIME, false },
        { "noatime", MS_NOATIME, true },
        { "diratime", MS_NODIRATIME, false },
        { "nodiratime", MS_NODIRATIME, true },
        { "nostrictatime", MS_STRICTATIME, false },
        { "strictatime", MS_STRICTATIME, true },
        { "dirsync", MS_DIRSYNC, true },
};

/* Options that the kernel takes as text; those that end in '=' with their value. */
static const char *const passed[] = { "default_permissions", "allow_other", "max_read=",   "blksize=", "context=",
                                      "fscontext=",          "defcontext=", "rootcontext=" };

struct mount_options {
        unsigned long flags;
        struct strata_buf text;
        struct strata_buf source_buf;
};

static void take_option(struct mount_options *m, const char *option)
{
        if (strncmp(option, "fsname=", 7) == 0) {
                m->source_buf.len = 0;
                strata_buf_addstr(&m->source_buf, option + 7);
                return;
        }
        for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++)
                if (strcmp(flags[i].name, option) == 0)
                        m->flags = flags[i].on ? m->flags | flags[i].flag : m->flags & ~flags[i].flag;
        for (size_t i = 0; i < sizeof(passed) / sizeof(*passed); i++) {
                size_t len = strlen(passed[i]);

                if (passed[i][len - 1] == '=' ? strncmp(option, passed[i], len) == 0 : strcmp(option, passed[i]) == 0)
                        strata_buf_addf(&m->text, ",%s", option);
        }
}

/* The list after -o. libfuse's own parser takes "\" before a comma; none of ours may hold one. */
static int take_list(struct mount_options *m, const char *list)
{
        cleanup_free char *copy = strdup(list);
        char *save, *option;

        if (!copy)
                return -ENOMEM;
        for (option = strtok_r(copy, ",", &save); option; option = strtok_r(NULL, ",", &save))
                take_option(m, option);
        return 0;
}

static int take_args(struct mount_options *m, const struct fuse_args *args)
{
        int r = 0;

        for (int i = 1; i < args->argc && r == 0; i++) {
                const char *arg = args->argv[i];

                if (strcmp(arg, "-o") == 0 && i + 1 < args->argc)
                        r = take_list(m, args->argv[++i]);
                else if (strncmp(arg, "-o", 2) == 0)
                        r = take_list(m, arg + 2);
        }
        return r;
}

static int mount_fd(const struct sfs_options *o, struct mount_options *m, int fd)
{
        cleanup_buf struct strata_buf data = STRATA_BUF_INIT;
        const char *source = m->source_buf.len ? m->source_buf.data : o->store;
        struct stat st;
        int r;

        if (stat(o->mountpoint, &st) < 0)
                return -errno;
        strata_buf_addf(&data, "fd=%d,rootmode=%o,user_id=%u,group_id=%u%s", fd, st.st_mode & S_IFMT, getuid(),
                        getgid(), m->text.len ? m->text.data : "");
        r = strata_buf_status(&data);
        if (r < 0)
                return r;
        return mount(source, o->mountpoint, "fuse.stratafs", m->flags, data.data) < 0 ? -errno : 0;
}

int sfs_devfuse_mount(const struct sfs_options *o, int *ret, char **why)
{
        struct mount_options m = { .flags = MS_NOSUID | MS_NODEV };
        cleanup_fd int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        int r = fd < 0 ? -errno : take_args(&m, &o->fuse);

        if (fd < 0 && asprintf(why, "can't open /dev/fuse: %s", strerror(-r)) < 0)
                *why = NULL;
        if (r == 0) {
                r = mount_fd(o, &m, fd);
                if (r < 0 && asprintf(why, "can't mount on %s: %s", o->mountpoint, strerror(-r)) < 0)
                        *why = NULL;
        }
        strata_buf_free(&m.text);
        strata_buf_free(&m.source_buf);
        if (r == 0)
                *ret = steal_fd(&fd);
        return r;
}
