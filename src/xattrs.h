/* SPDX-License-Identifier: Apache-2.0 */
/* The xattrs of an object in a layer as its user sees them: without overlayfs' own. */
#ifndef STRATA_XATTRS_H
#define STRATA_XATTRS_H

#include <linux/capability.h>
#include <linux/limits.h>
#include <stdbool.h>
#include <stddef.h>

/* Called for each; NAME and VALUE are borrowed. 0 or a negative errno, which ends it. */
typedef int (*strata_xattr_fn)(void *data, const char *name, const void *value, size_t len);

/*
 * Calls FN for the xattrs of FD, or, if that is below 0, of the path PATH (a last link not followed), in byte order of
 * their names. Overlayfs' own, which begin with PREFIX, are left out; escaped ones ("trusted.overlay.overlay.x", an
 * overlay inside ours) are given as what they stand for. PREFIX may be NULL. What vanishes meanwhile is passed over.
 */
int strata_xattrs_each(int fd, const char *path, const char *prefix, strata_xattr_fn fn, void *data);

/*
 * What NAME of a user is called in a layer: NAME itself, or escaped in BUF if it begins with PREFIX. NULL if that is
 * longer than a name may be.
 */
const char *strata_xattrs_stored_name(const char *name, const char *prefix, char buf[XATTR_NAME_MAX + 1]);

/*
 * True for those that belong to the contents, and go along with them from machine to machine: `user.*`, `trusted.*`,
 * ACLs and capabilities. Labels of security modules and signatures over inode numbers (security.selinux, security.evm)
 * belong to the machine, the properties of a file system (btrfs.*) to that.
 */
bool strata_xattrs_travels(const char *name);

/*
 * Of a security.capability VALUE of LEN bytes that only counts in one user namespace (version 3), what an archive can
 * carry, version 2: linux/capability.h, struct vfs_ns_cap_data. The bytes of *RET, or 0 if VALUE is no such one.
 */
size_t strata_xattrs_plain_capability(const void *value, size_t len, struct vfs_cap_data *ret);

/* 1 if both have the same; 0; -errno. Either as above. */
int strata_xattrs_equal(int fd, const char *path, const char *prefix, int other_fd);

#endif
