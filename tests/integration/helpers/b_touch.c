/* SPDX-License-Identifier: Apache-2.0 */
/*
 * b_touch WAY ENTRY [NAME]
 *
 * Reaches ENTRY/fs (or ENTRY/fs/NAME) by one raw system call, without any retry, and prints the device number
 * `MAJOR:MINOR` of what that call landed on. Nothing is looked at before that call: it is the first touch. Which
 * device it should be is for the caller to compare with /proc/self/mountinfo. Exits 1 with the failed call and the
 * errno's name on stderr; 2 when used wrongly.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif

static void fail(const char *what)
{
        fprintf(stderr, "b_touch: %s: %s\n", what, strerrorname_np(errno));
        exit(1);
}

/* A and B as one string, for as long as the process lives */
static char *join(const char *a, const char *b)
{
        static char *kept[16];
        static unsigned n;

        if (n == sizeof(kept) / sizeof(*kept) || asprintf(&kept[n], "%s%s", a, b) < 0)
                fail("asprintf");
        return kept[n++];
}

static void print_dev(unsigned major_nr, unsigned minor_nr)
{
        printf("%u:%u\n", major_nr, minor_nr);
}

static void print_fd(int fd)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                fail("fstat");
        print_dev(major(st.st_dev), minor(st.st_dev));
}

static void print_path(const char *path)
{
        struct stat st;

        if (lstat(path, &st) < 0)
                fail("lstat");
        print_dev(major(st.st_dev), minor(st.st_dev));
}

/* The calls below take the full path and print what they landed on. */

static void by_open(const char *path, int flags)
{
        int fd = open(path, flags | O_CLOEXEC, 0644);

        if (fd < 0)
                fail("open");
        print_fd(fd);
        close(fd);
}

static void by_statx(int dirfd, const char *path, int flags)
{
        struct statx stx;

        if (statx(dirfd, path, flags, STATX_BASIC_STATS, &stx) < 0)
                fail("statx");
        print_dev(stx.stx_dev_major, stx.stx_dev_minor);
}

static void by_stat(const char *path)
{
        struct stat st;

        if (stat(path, &st) < 0)
                fail("stat");
        print_dev(major(st.st_dev), minor(st.st_dev));
}

/* statfs tells no st_dev: the type must be overlay's, the device number is asked afterwards. */
static void by_statfs(const char *path)
{
        struct statfs sfs;

        if (statfs(path, &sfs) < 0)
                fail("statfs");
        if (sfs.f_type != 0x794c7630) {
                fprintf(stderr, "b_touch: statfs: type %lx is not overlay\n", (unsigned long)sfs.f_type);
                exit(1);
        }
        print_path(path);
}

/* mount(2) as a system call: mount(8) would look at the source itself first. */
static void by_bind(const char *path, const char *target)
{
        if (mount(path, target, NULL, MS_BIND, NULL) < 0)
                fail("mount");
        print_path(target);
        if (umount2(target, MNT_DETACH) < 0)
                fail("umount2");
}

static void by_open_tree(const char *path)
{
        int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | O_CLOEXEC);

        if (fd < 0)
                fail("open_tree");
        print_fd(fd);
        close(fd);
}

static void by_handle(const char *path)
{
        struct file_handle *handle = calloc(1, sizeof(*handle) + MAX_HANDLE_SZ);
        int mount_id = -1;

        handle->handle_bytes = MAX_HANDLE_SZ;
        /* overlayfs without nfs_export has no handles; what counts is that the walk went there */
        if (name_to_handle_at(AT_FDCWD, path, handle, &mount_id, 0) < 0 && errno != EOPNOTSUPP)
                fail("name_to_handle_at");
        free(handle);
        print_path(path);
}

static void by_exec(const char *path)
{
        pid_t pid = fork();
        int status = 0;

        if (pid == 0) {
                execl(path, path, (char *)NULL);
                _exit(127);
        }
        if (pid < 0 || waitpid(pid, &status, 0) < 0)
                fail("waitpid");
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                fprintf(stderr, "b_touch: exec: status %x\n", (unsigned)status);
                exit(1);
        }
        print_path(path);
}

static void by_socket(const char *path)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (strlen(path) >= sizeof(addr.sun_path)) {
                errno = ENAMETOOLONG;
                fail("sockaddr_un");
        }
        strcpy(addr.sun_path, path);
        if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
                fail("bind");
        print_path(path);
        close(fd);
}

/* Calls with nothing to show for themselves: done, then looked at. */
static void done(const char *what, long ret, const char *path)
{
        if (ret < 0)
                fail(what);
        print_path(path);
}

/* The ways that go from a descriptor of the entry, or from a working directory in it. */
static int relative_way(const char *way, const char *entry, const char *rel)
{
        int dirfd = open(entry, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int fd;

        if (dirfd < 0)
                fail("open entry");
        if (!strcmp(way, "openat")) {
                fd = openat(dirfd, rel, O_RDONLY | O_CLOEXEC);
                if (fd < 0)
                        fail("openat");
                print_fd(fd);
        } else if (!strcmp(way, "openat-path")) {
                fd = openat(dirfd, rel, O_PATH | O_CLOEXEC);
                if (fd < 0)
                        fail("openat");
                print_fd(fd);
        } else if (!strcmp(way, "statx-at")) {
                by_statx(dirfd, rel, AT_SYMLINK_NOFOLLOW);
        } else if (!strcmp(way, "mkdirat")) {
                if (mkdirat(dirfd, rel, 0755) < 0)
                        fail("mkdirat");
                by_statx(dirfd, rel, 0);
        } else if (!strcmp(way, "fchdir")) {
                if (fchdir(dirfd) < 0)
                        fail("fchdir");
                by_open(rel, O_RDONLY);
        } else if (!strcmp(way, "cwd-open")) {
                if (chdir(entry) < 0)
                        fail("chdir");
                by_open(rel, O_RDONLY);
        } else if (!strcmp(way, "cwd-opath")) {
                if (chdir(entry) < 0)
                        fail("chdir");
                by_open(rel, O_PATH);
        } else if (!strcmp(way, "cwd-dotdot")) {
                /* out of a control folder of the entry and back in again */
                if (chdir(entry) < 0 || chdir("labels") < 0)
                        fail("chdir");
                by_open(join("../", rel), O_RDONLY);
        } else {
                return 0;
        }
        return 1;
}

static int path_way(const char *way, const char *path, const char *target)
{
        struct stat st;

        if (!strcmp(way, "open"))
                by_open(path, O_RDONLY);
        else if (!strcmp(way, "opendir"))
                by_open(path, O_RDONLY | O_DIRECTORY);
        else if (!strcmp(way, "opath"))
                by_open(path, O_PATH);
        else if (!strcmp(way, "opath-nofollow"))
                by_open(path, O_PATH | O_NOFOLLOW | O_DIRECTORY);
        else if (!strcmp(way, "creat"))
                by_open(path, O_WRONLY | O_CREAT | O_EXCL);
        else if (!strcmp(way, "append"))
                by_open(path, O_WRONLY | O_APPEND);
        else if (!strcmp(way, "tmpfile"))
                by_open(path, O_RDWR | O_TMPFILE);
        else if (!strcmp(way, "stat"))
                by_stat(path);
        else if (!strcmp(way, "lstat"))
                print_path(path);
        else if (!strcmp(way, "statx"))
                by_statx(AT_FDCWD, path, 0);
        else if (!strcmp(way, "statx-nosync"))
                by_statx(AT_FDCWD, path, AT_STATX_DONT_SYNC);
        else if (!strcmp(way, "statfs"))
                by_statfs(path);
        else if (!strcmp(way, "access"))
                done("access", access(path, R_OK), path);
        else if (!strcmp(way, "listxattr"))
                done("listxattr", listxattr(path, NULL, 0), path);
        else if (!strcmp(way, "inotify"))
                done("inotify", inotify_add_watch(inotify_init1(IN_CLOEXEC), path, IN_ALL_EVENTS), path);
        else if (!strcmp(way, "chdir"))
                done("chdir", chdir(path), ".");
        else if (!strcmp(way, "chroot"))
                done("chroot", chroot(path) < 0 ? -1 : chdir("/"), "/");
        else if (!strcmp(way, "bind"))
                by_bind(path, target);
        else if (!strcmp(way, "open-tree"))
                by_open_tree(path);
        else if (!strcmp(way, "handle"))
                by_handle(path);
        else if (!strcmp(way, "exec"))
                by_exec(path);
        else if (!strcmp(way, "mkdir"))
                done("mkdir", mkdir(path, 0755), path);
        else if (!strcmp(way, "mknod"))
                done("mknod", mknod(path, S_IFIFO | 0644, 0), path);
        else if (!strcmp(way, "symlink"))
                done("symlink", symlink("x", path), path);
        else if (!strcmp(way, "socket"))
                by_socket(path);
        else if (!strcmp(way, "chmod"))
                done("chmod", chmod(path, 0700), path);
        else if (!strcmp(way, "truncate"))
                done("truncate", truncate(path, 1), path);
        else if (!strcmp(way, "setxattr"))
                done("setxattr", setxattr(path, "user.b", "1", 1, 0), path);
        else if (!strcmp(way, "rename"))
                done("rename", rename(path, join(path, ".renamed")), join(path, ".renamed"));
        else if (!strcmp(way, "unlink")) {
                char *above = join(path, "");

                if (unlink(path) < 0)
                        fail("unlink");
                if (lstat(path, &st) == 0)
                        fail("still there after unlink");
                *strrchr(above, '/') = '\0';
                print_path(above);
        } else {
                return 0;
        }
        return 1;
}

int main(int argc, char **argv)
{
        const char *rel = "fs", *path;

        if (argc < 3) {
                fprintf(stderr, "usage: b_touch WAY ENTRY [NAME [BIND-TARGET]]\n");
                return 2;
        }
        if (argc > 3 && *argv[3])
                rel = join("fs/", argv[3]);
        path = join(join(argv[2], "/"), rel);
        if (!path_way(argv[1], path, argc > 4 ? argv[4] : "") && !relative_way(argv[1], argv[2], rel)) {
                fprintf(stderr, "b_touch: unknown way %s\n", argv[1]);
                return 2;
        }
        fflush(stdout);
        _exit(0); /* what a sanitizer does at the end needs /proc, which is not there below a chroot() */
}
