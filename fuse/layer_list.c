/* SPDX-License-Identifier: Apache-2.0 */
/* All layer.tar that are open: what becomes of them when the program ends first. */
#include "attach.h"
#include "layer.h"
#include "layer_export.h"
#include "layer_import.h"
#include "log.h"
#include "strata.h"

#include <errno.h>
#include <stdlib.h>
#include <utlist.h>

bool sfs_layers_add(struct sfs *sfs, struct sfs_layer *l)
{
        bool ret;

        pthread_mutex_lock(&sfs->layers_lock);
        ret = !l->writing || !atomic_load(&sfs->layers_stopped);
        if (ret) {
                l->sfs = sfs;
                DL_APPEND(sfs->layers, l);
        }
        pthread_mutex_unlock(&sfs->layers_lock);
        return ret;
}

/* The imports that were stopped, whose claims are given back on the outer side. */
struct stop_job {
        struct sfs_job job; /* first */
        struct sfs *sfs;
        uint64_t *ids;
        size_t n;
};

/* L's import ends here. True if there was one. */
static bool stop_import(struct sfs_layer *l)
{
        bool ret;

        pthread_mutex_lock(&l->order);
        ret = l->in && !l->finished;
        if (ret) {
                strata_import_free(l->in);
                l->in = NULL;
                l->finished = true;
                l->result = -EIO;
        }
        pthread_mutex_unlock(&l->order);
        return ret;
}

static void run_stop(struct sfs_job *job)
{
        struct stop_job *j = (struct stop_job *)job;
        struct sfs_layer *l;
        size_t n = 0;

        pthread_mutex_lock(&j->sfs->layers_lock);
        DL_FOREACH(j->sfs->layers, l)
                n++;
        j->ids = calloc(n + 1, sizeof(*j->ids));
        DL_FOREACH(j->sfs->layers, l) {
                if (!j->ids || !stop_import(l))
                        continue;
                j->ids[j->n++] = l->info.id;
                strata_log_add(j->sfs->store->log, "import", l->info.name, NULL, EIO,
                               "the program ends in the midst of it; the snapshot is as before, write the layer again");
        }
        pthread_mutex_unlock(&j->sfs->layers_lock);
}

static void done_stop(struct sfs_job *job)
{
        struct stop_job *j = (struct stop_job *)job;

        for (size_t i = 0; i < j->n; i++)
                sfs_attach_release(j->sfs->attach, j->ids[i], false);
        free(j->ids);
        free(j);
}

void sfs_layers_stop(struct sfs *sfs)
{
        struct stop_job *j = calloc(1, sizeof(*j));

        pthread_mutex_lock(&sfs->layers_lock);
        atomic_store(&sfs->layers_stopped, true);
        pthread_mutex_unlock(&sfs->layers_lock);
        if (!j)
                return; /* the end waits for their writers, for a while */
        *j = (struct stop_job){ .job = { run_stop, done_stop, NULL }, .sfs = sfs };
        sfs_pool_submit(sfs->pool, SFS_LANE_LAYER, &j->job);
}

void sfs_layers_free(struct sfs *sfs)
{
        while (sfs->layers) {
                struct sfs_layer *l = sfs->layers;

                strata_import_free(l->in);
                strata_export_free(l->out);
                sfs_layer_unref(l);
        }
}
