/* SPDX-License-Identifier: Apache-2.0 */
#include "failpoints.h"

#include <sys/syscall.h>

#define C(name, class, path)                                                                                           \
        {                                                                                                              \
#name, SYS_##name, class, path                                                                         \
        }

const struct call calls[] = {
#ifdef SYS_open
        C(open, CALL_PLAIN, 0),
        C(stat, CALL_PLAIN, 0),
        C(lstat, CALL_PLAIN, 0),
        C(access, CALL_PLAIN, 0),
        C(readlink, CALL_PLAIN, 0),
        C(mkdir, CALL_PLAIN, 0),
        C(rmdir, CALL_PLAIN, 0),
        C(unlink, CALL_PLAIN, 0),
        C(symlink, CALL_PLAIN, 1),
        C(rename, CALL_PLAIN, 0),
        C(link, CALL_PLAIN, 0),
        C(chmod, CALL_PLAIN, 0),
        C(chown, CALL_PLAIN, 0),
        C(lchown, CALL_PLAIN, 0),
        C(pipe, CALL_PLAIN, -1),
        C(fork, CALL_THREAD, -1),
        C(vfork, CALL_THREAD, -1),
#endif
#ifdef SYS_newfstatat
        C(newfstatat, CALL_PLAIN, 1),
#endif
#ifdef SYS_renameat
        C(renameat, CALL_PLAIN, 1),
#endif
        C(openat, CALL_PLAIN, 1),
        C(openat2, CALL_PLAIN, 1),
        C(statx, CALL_PLAIN, 1),
        C(faccessat, CALL_PLAIN, 1),
        C(faccessat2, CALL_PLAIN, 1),
        C(readlinkat, CALL_PLAIN, 1),
        C(mkdirat, CALL_PLAIN, 1),
        C(mknodat, CALL_PLAIN, 1),
        C(symlinkat, CALL_PLAIN, 2),
        C(linkat, CALL_PLAIN, 1),
        C(unlinkat, CALL_PLAIN, 1),
        C(renameat2, CALL_PLAIN, 1),
        C(utimensat, CALL_PLAIN, 1),
        C(fchmodat, CALL_PLAIN, 1),
        C(fchownat, CALL_PLAIN, 1),
        C(chdir, CALL_PLAIN, 0),
        C(truncate, CALL_PLAIN, 0),
        C(statfs, CALL_PLAIN, 0),
        C(getxattr, CALL_PLAIN, 0),
        C(lgetxattr, CALL_PLAIN, 0),
        C(setxattr, CALL_PLAIN, 0),
        C(lsetxattr, CALL_PLAIN, 0),
        C(listxattr, CALL_PLAIN, 0),
        C(llistxattr, CALL_PLAIN, 0),
        C(removexattr, CALL_PLAIN, 0),
        C(lremovexattr, CALL_PLAIN, 0),
        C(fstat, CALL_FILE, -1),
        C(fstatfs, CALL_FILE, -1),
        C(getdents64, CALL_FILE, -1),
        C(read, CALL_FILE, -1),
        C(readv, CALL_FILE, -1),
        C(pread64, CALL_FILE, -1),
        C(preadv, CALL_FILE, -1),
        C(write, CALL_FILE, -1),
        C(writev, CALL_FILE, -1),
        C(pwrite64, CALL_FILE, -1),
        C(pwritev, CALL_FILE, -1),
        C(lseek, CALL_FILE, -1),
        C(ftruncate, CALL_FILE, -1),
        C(fallocate, CALL_FILE, -1),
        C(copy_file_range, CALL_FILE, -1),
        C(sendfile, CALL_FILE, -1),
        C(fchmod, CALL_FILE, -1),
        C(fchown, CALL_FILE, -1),
        C(fgetxattr, CALL_FILE, -1),
        C(fsetxattr, CALL_FILE, -1),
        C(flistxattr, CALL_FILE, -1),
        C(fremovexattr, CALL_FILE, -1),
        C(fchdir, CALL_FILE, -1),
        C(fsync, CALL_SYNC, -1),
        C(fdatasync, CALL_SYNC, -1),
        C(syncfs, CALL_SYNC, -1),
        C(flock, CALL_FILE, -1),
        C(fadvise64, CALL_FILE, -1),
        C(dup, CALL_FILE, -1),
        C(dup2, CALL_FILE, -1),
        C(dup3, CALL_FILE, -1),
        C(mount, CALL_PLAIN, 1),
        C(umount2, CALL_PLAIN, 0),
        C(fsopen, CALL_PLAIN, -1),
        C(fspick, CALL_PLAIN, 1),
        C(fsconfig, CALL_PLAIN, -1),
        C(fsmount, CALL_PLAIN, -1),
        C(move_mount, CALL_PLAIN, 1),
        C(open_tree, CALL_PLAIN, 1),
        C(unshare, CALL_PLAIN, -1),
        C(pipe2, CALL_PLAIN, -1),
        C(memfd_create, CALL_PLAIN, -1),
        C(signalfd4, CALL_PLAIN, -1),
        C(pidfd_open, CALL_PLAIN, -1),
        C(mmap, CALL_MEMORY, -1),
        C(mprotect, CALL_MEMORY, -1),
        C(mremap, CALL_MEMORY, -1),
        C(clone, CALL_THREAD, -1),
        C(clone3, CALL_THREAD, -1),
};
const size_t n_calls = sizeof(calls) / sizeof(*calls);

const struct call *call_find(int nr)
{
        for (size_t i = 0; i < n_calls; i++)
                if (calls[i].nr == nr)
                        return &calls[i];
        return NULL;
}
