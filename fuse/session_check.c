/* SPDX-License-Identifier: Apache-2.0 */
/* What is looked at before anything is made or mounted. */
#include "session.h"

#include "inherit.h"
#include "mountpoint.h"
#include "ops.h"
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fuse_session *sfs_session_new(const struct fuse_args *from, struct sfs *sfs)
{
        struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
        struct fuse_session *ret = NULL;
        int r = 0;

        for (int i = 0; i < from->argc && r == 0; i++)
                r = fuse_opt_add_arg(&args, from->argv[i]);
        if (r == 0)
                ret = fuse_session_new(&args, &sfs_ops, sizeof(sfs_ops), sfs);
        fuse_opt_free_args(&args);
        return ret;
}

static int check_store(struct sfs_options *o, char **why)
{
        char *store = NULL;
        int r = strata_store_check_path(o->store, why);

        if (r == 0) {
                store = sfs_mountpoint_real_place(o->store);
                if (!store)
                        r = asprintf(why, "can't make the store %s: %s", o->store, strerror(errno)) < 0 ? -ENOMEM
                                                                                                        : -ENOENT;
        }
        if (r == 0)
                r = strata_store_check_path(store, why);
        if (r == 0)
                r = sfs_mountpoint_check_store(o->mountpoint, store, why);
        if (r == 0)
                r = sfs_options_complete(o, store);
        if (r < 0) {
                free(store);
                return r;
        }
        free(o->store);
        o->store = store;
        return 0;
}

/* libfuse looks at the options before anything is made, so that a mistake there leaves no new store behind. */
int sfs_session_check(struct sfs_options *o, char **why)
{
        char *mnt;
        int r;

        *why = NULL;
        r = sfs_mountpoint_prepare(o->mountpoint, &o->inherited, &mnt, why);
        if (r < 0)
                return r;
        free(o->mountpoint);
        o->mountpoint = mnt;
        return sfs_session_check_resumed(o, why);
}

int sfs_session_check_resumed(struct sfs_options *o, char **why)
{
        struct fuse_session *trial;
        int r;

        *why = NULL;
        r = check_store(o, why);
        if (r < 0)
                return r;
        trial = sfs_session_new(&o->fuse, NULL);
        if (!trial)
                return -EINVAL; /* libfuse has said why */
        fuse_session_destroy(trial);
        return 0;
}
