/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stratafs --upgrade MOUNTPOINT: a running mount goes on under the program that is now installed. The keeper is found
 * by the store's lock file; it ends its worker and becomes the installed program, which starts a worker of its own.
 * Before anything is stopped the installed program is asked whether it can go on with the keeper's memory, the store
 * and the arguments (--probe).
 */
#ifndef SFS_UPGRADE_H
#define SFS_UPGRADE_H

#include <stddef.h>

/* The exit status of `--upgrade MOUNTPOINT`; what is wrong is on stderr. */
int sfs_upgrade_run(const char *mountpoint);

/*
 * The exit status of `--probe LAYOUT STORE [ARGUMENT…]`: 0 if this program can go on; why not is on stderr. ARGV begins
 * with STORE; the arguments are those of the keeper, its paths may be relative.
 */
int sfs_upgrade_probe(const char *layout, int argc, char **argv);

/*
 * Asks the program at PATH the same of LAYOUT, STORE and ARGS, which have SFS_ARGS_ROOM before them (options.h). Waits
 * for it. 0, or -EPROTO if it says no or can't say. Allocates nothing.
 */
int sfs_upgrade_ask(char *path, char *layout, char *store, char **args);

/* Room for what sfs_upgrade_layout() writes. */
#define SFS_LAYOUT_MAX 64

/* The layout of the keeper's memory, as --probe takes it. Returns TEXT. */
char *sfs_upgrade_layout(char text[SFS_LAYOUT_MAX]);

/* Where this process's program lies, and its successor will: no matter if that was replaced since. 0 or -errno. */
int sfs_upgrade_program(const char *proc, char *path, size_t size);

#endif
