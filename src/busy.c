/* SPDX-License-Identifier: Apache-2.0 */
#include "busy.h"

#include "util/cleanup.h"
#include "util/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define NAMED_MAX 8 /* users named in a reason */

/* True if the file behind PATH below DIRFD is on DEV. Asks only what the kernel knows without asking the file system.
 */
static bool is_on(int dirfd, const char *path, dev_t dev)
{
        struct statx stx;

        return statx(dirfd, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &stx) == 0 &&
               makedev(stx.stx_dev_major, stx.stx_dev_minor) == dev;
}

static bool fds_use(int proc, dev_t dev, bool writers)
{
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;
        int fd = openat(proc, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return false;
        dir = fdopendir(fd);
        if (!dir) {
                strata_close(fd);
                return false;
        }
        while ((de = readdir(dir))) {
                struct stat st;

                if (de->d_name[0] == '.' || !is_on(fd, de->d_name, dev))
                        continue;
                /* The mode of the link in fd/ tells how the file was opened: proc(5). */
                if (!writers || (fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & 0200)))
                        return true;
        }
        return false;
}

/* True if a file on DEV is mapped; with WRITERS only shared and writable. Such a use outlives the file's descriptor:
 * proc_pid_maps(5). */
static bool maps_use(int proc, dev_t dev, bool writers)
{
        cleanup_buf struct strata_buf text = STRATA_BUF_INIT;

        if (strata_io_read_at(proc, "maps", 64 << 20, &text) < 0)
                return false;
        for (const char *line = text.data; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
                unsigned major, minor;
                char mode[5];

                if (sscanf(line, "%*s %4s %*s %x:%x", mode, &major, &minor) == 3 && makedev(major, minor) == dev &&
                    (!writers || (mode[1] == 'w' && mode[3] == 's')))
                        return true;
        }
        return false;
}

static bool process_uses(int proc, dev_t dev, bool writers)
{
        if (!writers && (is_on(proc, "cwd", dev) || is_on(proc, "root", dev) || is_on(proc, "exe", dev)))
                return true;
        return fds_use(proc, dev, writers) || maps_use(proc, dev, writers);
}

static void add_process(const char *pid, int proc, struct strata_buf *buf)
{
        cleanup_buf struct strata_buf name = STRATA_BUF_INIT;

        if (strata_io_read_at(proc, "comm", 256, &name) == 0 && name.data)
                name.data[strcspn(name.data, "\n")] = '\0';
        strata_buf_addf(buf, "process %s (%s)", pid, name.data ? name.data : "?");
}

static void add_separator(unsigned found, struct strata_buf *buf)
{
        if (found)
                strata_buf_addstr(buf, ", ");
}

/* Opens the next process of PROC, or returns NULL at the end. */
static const char *next_process(DIR *proc, int *ret)
{
        struct dirent *de;

        while ((de = readdir(proc))) {
                if (de->d_name[0] < '1' || de->d_name[0] > '9')
                        continue;
                *ret = openat(dirfd(proc), de->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (*ret >= 0)
                        return de->d_name;
        }
        return NULL;
}

unsigned strata_busy_processes(dev_t dev, bool writers, struct strata_buf *buf)
{
        cleanup_dir DIR *dir = opendir("/proc");
        unsigned found = 0;
        const char *pid;
        int proc;

        while (dir && (pid = next_process(dir, &proc))) {
                if (process_uses(proc, dev, writers)) {
                        if (found < NAMED_MAX) {
                                add_separator(found, buf);
                                add_process(pid, proc, buf);
                        }
                        found++;
                }
                strata_close(proc);
        }
        if (found > NAMED_MAX)
                strata_buf_addf(buf, " and %u more", found - NAMED_MAX);
        return found;
}

/* The fields of a line of mountinfo that matter here: proc_pid_mountinfo(5). */
struct mount_line {
        int id;
        int parent;
        unsigned major, minor;
        char point[4096];
        char type[64];
};

static bool parse_mount_line(const char *line, struct mount_line *ret)
{
        const char *dash;

        if (sscanf(line, "%d %d %u:%u %*s %4095s", &ret->id, &ret->parent, &ret->major, &ret->minor, ret->point) != 5)
                return false;
        dash = strstr(line, " - ");
        return dash && sscanf(dash + 3, "%63s", ret->type) == 1;
}

/* True if mount ID in the table TEXT is a stratafs. */
static bool is_stratafs(const char *text, int id)
{
        struct mount_line m;

        for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
                if (parse_mount_line(line, &m) && m.id == id)
                        return strcmp(m.type, "fuse.stratafs") == 0;
        return false;
}

static bool has_device(const char *text, dev_t dev)
{
        struct mount_line m;

        for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
                if (parse_mount_line(line, &m) && makedev(m.major, m.minor) == dev)
                        return true;
        return false;
}

static unsigned mounts_elsewhere(const char *pid, const char *text, dev_t dev, unsigned found, struct strata_buf *buf)
{
        struct mount_line m;
        unsigned n = 0;

        for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
                if (!parse_mount_line(line, &m) || makedev(m.major, m.minor) != dev || is_stratafs(text, m.parent))
                        continue;
                if (found + n < NAMED_MAX) {
                        add_separator(found + n, buf);
                        strata_buf_addf(buf, "mounted on %s (mount namespace of process %s)", m.point, pid);
                }
                n++;
        }
        return n;
}

#define NAMESPACES_MAX 256

struct namespaces {
        ino_t seen[NAMESPACES_MAX];
        unsigned n;
        ino_t own;
};

/* The mount namespace of PROC; *FRESH if it was not met yet. */
static ino_t look_at_namespace(struct namespaces *all, int proc, bool *fresh)
{
        struct stat st;

        *fresh = false;
        if (fstatat(proc, "ns/mnt", &st, 0) < 0)
                return 0;
        for (unsigned i = 0; i < all->n; i++)
                if (all->seen[i] == st.st_ino)
                        return st.st_ino;
        *fresh = true;
        if (all->n < NAMESPACES_MAX)
                all->seen[all->n++] = st.st_ino;
        return st.st_ino;
}

unsigned strata_busy_elsewhere(dev_t dev, struct strata_buf *buf)
{
        cleanup_dir DIR *dir = opendir("/proc");
        struct namespaces all = { 0 };
        unsigned found = 0;
        struct stat own;
        const char *pid;
        int proc;

        if (stat("/proc/self/ns/mnt", &own) == 0)
                all.own = own.st_ino;
        while (dir && (pid = next_process(dir, &proc))) {
                cleanup_buf struct strata_buf text = STRATA_BUF_INIT;
                bool fresh;
                ino_t ns = look_at_namespace(&all, proc, &fresh);

                if (fresh && strata_io_read_at(proc, "mountinfo", 64 << 20, &text) == 0 && text.data)
                        found += mounts_elsewhere(pid, text.data, dev, found, buf);
                if (ns != all.own && process_uses(proc, dev, false)) {
                        if (found < NAMED_MAX) {
                                add_separator(found, buf);
                                add_process(pid, proc, buf);
                        }
                        found++;
                }
                strata_close(proc);
        }
        return found;
}

bool strata_busy_is_mounted(dev_t dev)
{
        cleanup_dir DIR *dir = opendir("/proc");
        struct namespaces all = { 0 };
        bool ret = false;
        int proc;

        while (dir && !ret && next_process(dir, &proc)) {
                cleanup_buf struct strata_buf text = STRATA_BUF_INIT;
                bool fresh;

                look_at_namespace(&all, proc, &fresh);
                ret = fresh && strata_io_read_at(proc, "mountinfo", 64 << 20, &text) == 0 && has_device(text.data, dev);
                strata_close(proc);
        }
        return ret;
}

#define UPPERS_MAX 16 /* overlays with one upper directory; the kernel warns of more than one */

/* Collects in DEVS the devices of overlays of ours in the table TEXT with one of the options WANTED. True if there is
 * one. */
static bool find_uppers(const char *text, char *const wanted[2], dev_t devs[UPPERS_MAX], unsigned *n)
{
        struct mount_line m;
        bool ret = false;

        for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
                size_t len = strcspn(line, "\n");
                bool known = false;

                if (!memmem(line, len, " - overlay stratafs:", 20) ||
                    (!memmem(line, len, wanted[0], strlen(wanted[0])) &&
                     !memmem(line, len, wanted[1], strlen(wanted[1]))) ||
                    !parse_mount_line(line, &m))
                        continue;
                for (unsigned i = 0; i < *n; i++)
                        known = known || devs[i] == makedev(m.major, m.minor);
                if (!known && *n < UPPERS_MAX)
                        devs[(*n)++] = makedev(m.major, m.minor);
                ret = true;
        }
        return ret;
}

unsigned strata_busy_upper(const char *upper, const char *relative, struct strata_buf *buf)
{
        cleanup_dir DIR *dir = opendir("/proc");
        cleanup_free char *absolute_option = NULL, *relative_option = NULL;
        struct namespaces all = { 0 };
        char other[32] = ""; /* a process in another mount namespace that has one */
        dev_t devs[UPPERS_MAX];
        unsigned n = 0, found = 0;
        struct stat own;
        const char *pid;
        int proc;

        if (stat("/proc/self/ns/mnt", &own) == 0)
                all.own = own.st_ino;
        if (asprintf(&absolute_option, ",upperdir=%s,", upper) < 0 ||
            asprintf(&relative_option, ",upperdir=%s,", relative) < 0)
                return 0;
        while (dir && (pid = next_process(dir, &proc))) {
                cleanup_buf struct strata_buf text = STRATA_BUF_INIT;
                bool fresh;
                ino_t ns = look_at_namespace(&all, proc, &fresh);

                if (fresh && strata_io_read_at(proc, "mountinfo", 64 << 20, &text) == 0 && text.data &&
                    find_uppers(text.data, (char *[]){ absolute_option, relative_option }, devs, &n) && ns != all.own)
                        snprintf(other, sizeof(other), "%s", pid);
                strata_close(proc);
        }
        for (unsigned i = 0; i < n && !found; i++) {
                found = strata_busy_elsewhere(devs[i], buf);
                if (!found)
                        found = strata_busy_processes(devs[i], false, buf);
        }
        if (!found && other[0]) {
                strata_buf_addf(buf, "the mount namespace of process %s", other);
                found = 1;
        }
        return found;
}
