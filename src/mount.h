/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers to a mount: attach, freeze, thaw, detach. Two kernel interfaces stand behind one table: the new mount API with
 * "lowerdir+" (Linux 6.8 and later, mount_new.c) and mount(2) (before, mount_old.c).
 *
 * strata_mount_attach() moves the calling thread's working directory to the store's layers/: the thread must have one
 * of its own (unshare(CLONE_FS)) or not mind. All paths given are walked by the caller's thread, so a FUSE worker must
 * not call these.
 */
#ifndef STRATA_MOUNT_H
#define STRATA_MOUNT_H

#include "chain.h"
#include "entry.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct strata_mount_spec {
        const char *source; /* "stratafs:NAME", for /proc/mounts */
        const struct strata_chain *chain;
        bool read_only;
        bool restricted; /* nosuid, nodev */
        bool is_volatile;
        unsigned attributes; /* more MOUNT_ATTR_*: of noexec, noatime, nodiratime, strictatime */
};

struct strata_mount_api {
        const char *name;
        size_t max_options; /* bytes of an option string; 0: no limit but STRATA_CHAIN_MAX */

        /* Mounts SPEC on the directory TARGET_FD (O_PATH); *DEV then is its device, or 0 if it is not known. */
        int (*attach)(struct strata *s, const struct strata_mount_spec *spec, int target_fd, dev_t *dev);

        /* Mounts SPEC where nobody sees it; *RET is its root, open for reading. */
        int (*open)(struct strata *s, const struct strata_mount_spec *spec, int *ret);

        /* Makes the superblock mounted at PATH read-only (-EBUSY: a file is open for writing) or writable again. */
        int (*set_read_only)(struct strata *s, const char *path, bool read_only);
};

extern const struct strata_mount_api strata_mount_new;
extern const struct strata_mount_api strata_mount_old;

/*
 * The places lower.TID in layers/ID, a mount on each for an instant, which mount_old.c needs; a kill may come just
 * then. drop_left_place() takes away what a program before left of one, mount and directory, drop_left_places() of all
 * in the directory LAYER_FD. Only for the program that has the store; one that it is at itself stays, with -EBUSY.
 */
bool strata_mount_is_left_place(const char *name);
int strata_mount_drop_left_place(int layer_fd, const char *name);
void strata_mount_drop_left_places(int layer_fd);

/* On a disk that is full or read-only that place is trash/: takes a mount off that a program before left there. */
void strata_mount_drop_spare_place(int root_fd);

/* The table for this kernel, or the old one if FORCE_OLD. */
const struct strata_mount_api *strata_mount_choose(bool force_old);

/* Why a snapshot is not committed that was mounted volatile when the machine went down. */
#define STRATA_MOUNT_CUT_OFF                                                                                           \
        "it was mounted volatile when the machine went down: files in it may be old, cut off or empty; look at them "  \
        "(fs/ is read-only), then remove it, or `echo yes > labels/" STRATA_MOUNT_TRUST "` in it and commit"

/* The label whose value `yes` says that such a snapshot is to be used all the same. */
#define STRATA_MOUNT_TRUST "stratafs.trust"

/*
 * Mounts the entry INFO on the directory TARGET_FD (O_PATH). -EUCLEAN if its chain is broken; else what the kernel
 * said. One that is suspect is mounted read-only, with a line in the log. An active snapshot left mounted by a program
 * that was killed may still be in use by processes: -EBUSY then, as a second mount would break both. *DEV then is the
 * device of what is mounted, or 0 if it is not known.
 */
int strata_mount_attach(struct strata *s, const struct strata_info *info, int target_fd, dev_t *dev);

/*
 * The merged view of all layers below the one that INFO's entry has of its own, read-only and mounted where nobody sees
 * it, as a directory open for reading; without any, the store's empty directory. It is gone with the last descriptor of
 * it. Moves the working directory as strata_mount_attach() does. Errors as there.
 */
int strata_mount_open_lower(struct strata *s, const struct strata_info *info, int *ret);

/* Freezes or thaws the superblock mounted at PATH, all its bind mounts and namespaces included. */
int strata_mount_freeze(struct strata *s, const char *path);
int strata_mount_thaw(struct strata *s, const char *path);

/*
 * A copy of the mount whose root is FD, attached nowhere, of the same superblock: a descriptor, or -errno. -EINVAL if
 * the mount is attached nowhere any more.
 */
int strata_mount_copy(int fd);

/* Attaches such a copy to the directory TARGET_FD (O_PATH). -ENOENT if that has lost its name. */
int strata_mount_move(int copy, int target_fd);

/* umount2(PATH, FLAGS), never following a link. */
int strata_mount_detach(const char *path, int flags);

/* 1 if active snapshot ID was mounted volatile in an earlier boot, and not taken down since; 0; -errno. */
int strata_mount_was_cut_off(struct strata *s, uint64_t id);

/* True if the mark PATH, in the store, is damaged. What is left of it tells whether its entry counts as cut off. */
bool strata_mount_mark_is_damaged(struct strata *s, const char *path);

/*
 * Takes the damaged mark of snapshot ID away if nothing is lost with it: the mount was not volatile, and has ended. 1
 * if it stays, -errno if that can't be told. Moves the working directory as strata_mount_attach() does.
 */
int strata_mount_drop_damaged_mark(struct strata *s, uint64_t id);

/* 1 if it was, and its user has not said by the label that it is to be used all the same; 0; -errno. */
int strata_mount_is_suspect(struct strata *s, uint64_t id);

/* 1 if the label says so, 0, -errno. */
int strata_mount_is_trusted(struct strata *s, uint64_t id);

/* Drops the mark of what was cut off and is trusted, now that it is committed. */
void strata_mount_forget_cut(struct strata *s, uint64_t id);

/* Drops what an earlier run made its marks from; once, before any mount. */
void strata_mount_forget_marks(struct strata *s);

/*
 * True if snapshot ID is marked as mounted, or that can't be told: now, by a program that was killed, or before its
 * commit and processes were in it. Any thread may ask.
 */
bool strata_mount_was_left(struct strata *s, uint64_t id);

/*
 * 1 if a mount that snapshot ID had while it was active lives on in some process, off the tree: its program was
 * killed, somebody unmounted it lazily, or it was committed meanwhile; 0; -errno if that can't be told. Not to be asked
 * while it is mounted. Moves the working directory as strata_mount_attach() does.
 */
int strata_mount_lives_on(struct strata *s, uint64_t id);

/* Why an entry is busy of which strata_mount_lives_on() tells, with who it is as far as that can be found; to be freed.
 */
char *strata_mount_explain_life(struct strata *s, const struct strata_info *info);

/* To be called once an active snapshot's mount is gone: it was left in order. One that was cut off stays marked. */
void strata_mount_left(struct strata *s, uint64_t id);

/*
 * To be called once an active snapshot was committed and its mount taken off: the same, but where processes are still
 * in it, it stays marked, so that strata_mount_lives_on() tells of them, and the next start sweeps. With ENDED the
 * mount is known to be gone (mount_watch.h), without it the working directory moves as there.
 */
void strata_mount_committed(struct strata *s, uint64_t id, bool ended);

/*
 * As strata_mount_left() for N of them, whose files are to be trusted after a power cut too: volatile ones are synced
 * first. Those that a process still uses elsewhere, by a bind mount or in another mount namespace, stay marked. Moves
 * the working directory.
 */
void strata_mount_left_all(struct strata *s, const uint64_t *ids, size_t n);

/* The device of the file system that FD (O_PATH is enough) lies in. Asks no file system. 0 or -errno. */
int strata_mount_device(int fd, dev_t *dev);

/* 1 if PATH is a mount point with something mounted, *DEV then its device; 0 if not; -errno. Asks no file system. */
int strata_mount_is_attached(const char *path, dev_t *dev);

/* Bytes of the option string of CHAIN for mount(2), with its NUL. */
size_t strata_mount_options_length(const struct strata_chain *chain);

#endif
