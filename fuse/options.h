/* SPDX-License-Identifier: Apache-2.0 */
/* The command line. */
#ifndef SFS_OPTIONS_H
#define SFS_OPTIONS_H

#include "sfs.h"

/* For what the program is called with before its own arguments: its name, `--probe LAYOUT STORE`, `--resume=…`. */
#define SFS_ARGS_ROOM 4

struct sfs_options {
        char *store;
        char *mountpoint;
        bool foreground;
        bool debug;
        bool keeper;       /* keeper.h */
        bool auto_unmount; /* which leaves no room for one */
        bool help;
        bool version;
        unsigned expire;
        unsigned long long max_layer;
        struct strata_config config;
        char **args; /* the arguments with absolute paths, ended by NULL, SFS_ARGS_ROOM places before them; or NULL */
        int resume_fuse, resume_keep,
                resume_store; /* descriptors that the program before this one left: upgrade.h; or -1 */
        bool resume_background;
        struct sfs_inherited *inherited; /* of a start on a dead mount, for the first worker */
        struct fuse_args fuse;           /* what is left for libfuse */
};

/* Reads ARGV. On a mistake one line is on stderr, and -EINVAL returned. To be freed in any case. */
int sfs_options_parse(int argc, char **argv, struct sfs_options *ret);
void sfs_options_free(struct sfs_options *o);

/* Makes O->args of the command line, once the paths in O are absolute; the strings stay the caller's. 0 or -ENOMEM. */
int sfs_options_keep_args(struct sfs_options *o, int argc, char **argv);

/* Adds what follows from STORE's absolute path: the source in /proc/mounts, and default_permissions. */
int sfs_options_complete(struct sfs_options *o, const char *store);

void sfs_options_usage(void);

#endif
