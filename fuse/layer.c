/* SPDX-License-Identifier: Apache-2.0 */
#include "layer.h"

#include "handle.h"
#include "log.h"
#include "metrics.h"
#include "node.h"
#include "ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

static struct sfs_layer *layer_new(const struct strata_info *info, bool writing)
{
        struct sfs_layer *l = calloc(1, sizeof(*l));

        if (!l)
                return NULL;
        l->info = *info;
        l->writing = writing;
        l->start = strata_metrics_start();
        atomic_init(&l->refs, 1);
        pthread_mutex_init(&l->order, NULL);
        return l;
}

struct sfs_layer *sfs_layer_ref(struct sfs_layer *l)
{
        atomic_fetch_add(&l->refs, 1);
        return l;
}

void sfs_layer_unref(struct sfs_layer *l)
{
        if (atomic_fetch_sub(&l->refs, 1) > 1)
                return;
        if (l->sfs) {
                pthread_mutex_lock(&l->sfs->layers_lock);
                DL_DELETE(l->sfs->layers, l);
                pthread_mutex_unlock(&l->sfs->layers_lock);
        }
        pthread_mutex_destroy(&l->order);
        free(l);
}

struct sfs_layer_job *sfs_layer_job(fuse_req_t req, struct sfs_layer *l, void (*run)(struct sfs_job *),
                                    void (*done)(struct sfs_job *))
{
        struct sfs_layer_job *j = calloc(1, sizeof(*j));

        if (!j) {
                fuse_reply_err(req, ENOMEM);
                return NULL;
        }
        j->job.run = run;
        j->job.done = done;
        j->sfs = sfs_of(req);
        j->req = req;
        j->l = l;
        return j;
}

struct sfs_layer_job *sfs_layer_data_job(fuse_req_t req, struct sfs_layer *l, size_t size, off_t off,
                                         void (*run)(struct sfs_job *), void (*done)(struct sfs_job *))
{
        struct sfs_layer_job *j = sfs_layer_job(req, l, run, done);

        if (!j)
                return NULL;
        j->size = size;
        j->off = (uint64_t)off;
        j->data = malloc(size ? size : 1);
        if (j->data)
                return j;
        fuse_reply_err(req, ENOMEM);
        sfs_layer_job_free(j);
        return NULL;
}

void sfs_layer_job_free(struct sfs_layer_job *j)
{
        free(j->data);
        free(j);
}

struct sfs_layer_job *sfs_layer_open_job(fuse_req_t req, const struct strata_info *info, struct fuse_file_info *fi,
                                         bool writing, void (*run)(struct sfs_job *), void (*done)(struct sfs_job *))
{
        struct sfs_layer *l = layer_new(info, writing);
        struct sfs_layer_job *j;

        if (!l) {
                fuse_reply_err(req, ENOMEM);
                return NULL;
        }
        j = sfs_layer_job(req, l, run, done);
        if (j)
                j->fi = *fi;
        else
                sfs_layer_unref(l);
        return j;
}

bool sfs_layer_reply_open(struct sfs_layer_job *j)
{
        if (j->result < 0) {
                fuse_reply_err(j->req, -j->result);
                return false;
        }
        j->fi.fh = sfs_handle_number(j->sfs, j->l, j->l->writing);
        j->fi.direct_io = 1; /* the size that stat shows is no limit */
        return fuse_reply_open(j->req, &j->fi) == 0;
}

void sfs_layer_log(struct sfs_layer_job *j, const char *operation)
{
        char path[SFS_PATH_MAX];

        sfs_op_path(j->sfs, sfs_node(j->l->info.id, SFS_SLOT_LAYER), NULL, path, sizeof(path));
        strata_log_add(j->sfs->store->log, operation, path, NULL, j->result, "%s",
                       j->why[0] ? j->why : strerror(abs(j->result)));
}

int sfs_layer_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct sfs *sfs = sfs_of(req);
        struct strata_info info;
        int r = strata_entry_info(sfs->store, sfs_node_id(ino), &info);

        if (r < 0)
                return r;
        if ((fi->flags & O_ACCMODE) == O_RDONLY && !(fi->flags & O_TRUNC)) {
                sfs_layer_open_read(req, &info, fi);
                return 0;
        }
        if (info.kind != STRATA_ACTIVE)
                return sfs_op_refuse(sfs, "open", ino, NULL);
        if ((fi->flags & O_ACCMODE) != O_WRONLY) {
                char path[SFS_PATH_MAX];

                strata_log_add(sfs->store->log, "open", sfs_op_path(sfs, ino, NULL, path, sizeof(path)), NULL, EINVAL,
                               "a layer is either read or written; open the file for one of the two");
                return -EINVAL;
        }
        sfs_layer_open_write(req, &info, fi);
        return 0;
}

static void drop_layer(void *object)
{
        sfs_layer_unref(object);
}

struct sfs_layer *sfs_layer_get(struct sfs *sfs, fuse_ino_t ino, uint64_t fh)
{
        struct sfs_layer *l = sfs_handle_address(sfs, fh);
        struct strata_info info;
        int r;

        if (!l)
                l = sfs_adopted_find(sfs, fh);
        if (l)
                return l;
        r = strata_entry_info(sfs->store, sfs_node_id(ino), &info);
        if (r < 0)
                info = (struct strata_info){ .id = sfs_node_id(ino) };
        l = layer_new(&info, sfs_handle_is_marked(fh));
        if (!l)
                return NULL;
        l->finished = l->writing;
        l->result = l->writing ? -EIO : r;
        return sfs_adopted_add(sfs, fh, l, drop_layer);
}

static struct sfs_layer *layer(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct sfs_layer *l = sfs_layer_get(sfs_of(req), ino, fi->fh);

        if (!l)
                fuse_reply_err(req, ENOMEM);
        return l;
}

void sfs_layer_read(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, size_t size, off_t off)
{
        struct sfs_layer *l = layer(req, ino, fi);

        if (l)
                sfs_layer_do_read(req, l, size, off);
}

void sfs_layer_write(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, const char *data, size_t size,
                     off_t off)
{
        struct sfs_layer *l = layer(req, ino, fi);

        if (l)
                sfs_layer_do_write(req, l, data, size, off);
}

void sfs_layer_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct sfs_layer *l = layer(req, ino, fi);

        if (l)
                sfs_layer_do_flush(req, l);
}

void sfs_layer_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
        struct sfs_layer *l = layer(req, ino, fi);

        if (!l)
                return;
        sfs_handle_drop(sfs_of(req), fi->fh);
        if (l->writing)
                sfs_layer_release_write(req, l);
        else
                sfs_layer_release_read(req, l);
}
