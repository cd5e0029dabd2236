/* SPDX-License-Identifier: Apache-2.0 */
/* stratafs --check STORE [--repair]: examines a store without mounting it. */
#ifndef SFS_CHECKCMD_H
#define SFS_CHECKCMD_H

#include <stdbool.h>

/* True if the command line asks for it. */
bool sfs_check_asked(int argc, char **argv);

/* Does it, and tells on stdout; returns the exit status: see stratafs(8). */
int sfs_check_main(int argc, char **argv);

#endif
