/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Depth-first walk of one layer in the byte order of whole paths ("a", "a-b", "a/x"), beside what lies below it. Knows
 * overlayfs' own marks (Documentation/filesystems/overlayfs.rst, "Whiteouts and opaque directories") and never leaves
 * the layer: each step is one openat() with O_NOFOLLOW. Depth is limited by memory only, as in util/walk.h.
 */
#ifndef STRATA_LAYER_WALK_H
#define STRATA_LAYER_WALK_H

#include "util/buf.h"

#include <dirent.h>
#include <stdbool.h>

#define STRATA_LAYER_WALK_FDS 32 /* directories kept open in each of the two trees */

enum strata_layer_event {
        STRATA_LAYER_ENTRY,  /* an object of the layer; a directory comes before what it holds */
        STRATA_LAYER_INSIDE, /* a directory (NAME in DIRFD) was opened as FD and what it holds comes next */
        STRATA_LAYER_GONE,   /* an object that is only below, hidden by an opaque directory above it */
};

/* All of it is borrowed for the call. */
struct strata_layer_entry {
        const char *path;   /* from the layer's root, without a leading slash; "" is the root itself */
        const char *name;   /* "." for the root */
        int dirfd;          /* the directory in the layer that holds NAME; the root itself for the root */
        int below;          /* the same directory below the layer, or -1 if there is none */
        int fd;             /* of INSIDE */
        int fd_below;       /* of INSIDE, what FD stands over: -1 if that is no directory */
        bool opaque;        /* of INSIDE: marked as opaque. The root never is, as overlayfs takes no notice there */
        bool hidden;        /* a directory above is opaque, over one below: nothing below is to be seen here */
        unsigned char type; /* DT_REG and the like, never DT_UNKNOWN; DT_WHT is a whiteout */
};

/* Returns 0 to go on, a negative errno to end the walk with it. */
typedef int (*strata_layer_fn)(void *data, enum strata_layer_event event, const struct strata_layer_entry *e);

struct strata_layer_walk {
        int top;              /* the layer's fs/ */
        int below;            /* the merged view of what is below */
        const char *prefix;   /* of overlayfs' own xattrs: strata_layer_prefix() */
        bool whiteouts_first; /* within a directory, before all else; in byte order otherwise */
        bool want_gone;       /* send GONE */
};

/*
 * Walks it, the root first. What vanishes meanwhile is passed over. 0 or -errno: of FN, of opening the top, or -ENOMEM,
 * -EIO and the like.
 */
int strata_layer_walk(const struct strata_layer_walk *w, strata_layer_fn fn, void *data);

/* The prefix of overlayfs' own xattrs, inside a user namespace and outside, with its last dot. */
const char *strata_layer_prefix(bool in_userns);

/* "/proc/thread-self/fd/DIRFD/NAME": for the calls on xattrs, which have no *at() form. */
#define STRATA_LAYER_PROC_MAX 300
void strata_layer_proc_path(int dirfd, const char *name, char ret[STRATA_LAYER_PROC_MAX]);

#endif
