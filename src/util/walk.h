/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Depth-first walk of a directory tree that never leaves it: every step is one openat() with O_NOFOLLOW from the
 * directory above, so a directory swapped for a symbolic link meanwhile is passed over, not followed. Depth is
 * limited by memory only: at most STRATA_WALK_FDS directories and the top are open at once, those further up are found
 * again through "..", or by their names from the top, and must be the same inode. What is mounted in it is no part of
 * it: ENTER and LEAVE of the place, and nothing between them.
 */
#ifndef STRATA_WALK_H
#define STRATA_WALK_H

#define STRATA_WALK_FDS 64

enum strata_walk_event {
        STRATA_WALK_FILE,  /* anything but a directory */
        STRATA_WALK_ENTER, /* a directory, before what it holds; not sent for the top */
        STRATA_WALK_LEAVE, /* a directory, after what it holds; not sent for the top */
};

/*
 * Called for each object as NAME below DIRFD (both borrowed for the call). Returns 0 to go on, a negative errno to
 * end the walk with it; of ENTER 1 not to go into that directory, which then has no LEAVE either.
 */
typedef int (*strata_walk_fn)(void *data, enum strata_walk_event event, int dirfd, const char *name);

/*
 * Walks what the directory NAME below DIRFD holds. Objects that vanish meanwhile are passed over; a directory that was
 * moved may have no LEAVE. 0 or -errno:
 * of FN, of opening the top, or -ENOMEM, -EIO and the like of reading a directory.
 */
int strata_walk(int dirfd, const char *name, strata_walk_fn fn, void *data);

#endif
