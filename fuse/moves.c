/* SPDX-License-Identifier: Apache-2.0 */
#include "moves.h"

#include "metrics.h"
#include "node.h"
#include "place.h"
#include "util/cleanup.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STAY_MS 100 /* the kernel needs microseconds from our answer to its new name, if nothing else runs */

struct sfs_move {
        enum strata_kind kind;
        char name[STRATA_NAME_MAX + 1];
        uint64_t id;
        bool ended;
        int64_t since; /* of the end, in ms */
        struct sfs_move *next;
};

static void drop(struct sfs *sfs, struct sfs_move *m)
{
        struct sfs_move **p = &sfs->moves;

        while (*p != m)
                p = &(*p)->next;
        *p = m->next;
        free(m);
}

static int64_t now_ms(void)
{
        struct timespec t = strata_metrics_start();

        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void drop_old(struct sfs *sfs)
{
        int64_t now = now_ms();

        for (struct sfs_move *m = sfs->moves, *next; m; m = next) {
                next = m->next;
                if (m->ended && now - m->since > STAY_MS)
                        drop(sfs, m);
        }
}

struct sfs_move *sfs_moves_begin(struct sfs *sfs, enum strata_kind kind, const char *name, uint64_t id)
{
        struct sfs_move *m = calloc(1, sizeof(*m));

        if (!m)
                return NULL;
        m->kind = kind;
        m->id = id;
        snprintf(m->name, sizeof(m->name), "%s", name);
        pthread_mutex_lock(&sfs->moves_lock);
        drop_old(sfs);
        m->next = sfs->moves;
        sfs->moves = m;
        pthread_mutex_unlock(&sfs->moves_lock);
        return m;
}

void sfs_moves_end(struct sfs *sfs, struct sfs_move *m, bool stays)
{
        if (!m)
                return;
        pthread_mutex_lock(&sfs->moves_lock);
        if (stays) {
                m->ended = true;
                m->since = now_ms();
        } else {
                drop(sfs, m);
        }
        pthread_mutex_unlock(&sfs->moves_lock);
}

/*
 * True if the kernel still has entry ID as NAME. RESOLVE_CACHED never waits for a request, so this is the one walk into
 * our own mount that the outer side may do; without it (before Linux 5.12), or where something has to be asked anew,
 * the answer is no.
 */
static bool kernel_has(struct sfs *sfs, enum strata_kind kind, const char *name, uint64_t id)
{
        const struct open_how how = { .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_CACHED };
        cleanup_free char *path = NULL;
        cleanup_fd int fd = -1;

        if (asprintf(&path, "%s/%s/%s", sfs->mnt, strata_kind_folder(kind), name) < 0) {
                path = NULL;
                return false;
        }
        fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
        return fd >= 0 && sfs_place_is(fd, sfs->dev, sfs_node(id, SFS_SLOT_ENTRY));
}

bool sfs_moves_find(struct sfs *sfs, enum strata_kind kind, const char *name, uint64_t *id)
{
        bool ended = false;
        uint64_t found = 0;

        pthread_mutex_lock(&sfs->moves_lock);
        drop_old(sfs);
        for (struct sfs_move *m = sfs->moves; m && (!found || ended); m = m->next) {
                if (m->kind == kind && strcmp(m->name, name) == 0 && (!found || !m->ended)) {
                        found = m->id;
                        ended = m->ended;
                }
        }
        pthread_mutex_unlock(&sfs->moves_lock);
        if (!found || (ended && !kernel_has(sfs, kind, name, found)))
                return false;
        *id = found;
        return true;
}

void sfs_moves_free(struct sfs *sfs)
{
        while (sfs->moves)
                drop(sfs, sfs->moves);
        pthread_mutex_destroy(&sfs->moves_lock);
}
