/* SPDX-License-Identifier: Apache-2.0 */
#include "strata.h"

#include "index.h"
#include "layer_publish.h"
#include "log.h"
#include "metrics.h"
#include "mount.h"
#include "store.h"
#include "storefs.h"
#include "trash.h"
#include "util/buf.h"
#include "util/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* An ordinary user namespace maps less than all IDs: user_namespaces(7). */
static int read_user_namespace(struct strata *s)
{
        cleanup_buf struct strata_buf map = STRATA_BUF_INIT;
        unsigned long first, outside, count;
        int r = strata_io_read_at(AT_FDCWD, "/proc/self/uid_map", 4096, &map);

        if (r < 0)
                return r;
        s->in_userns = !map.data || sscanf(map.data, "%lu %lu %lu", &first, &outside, &count) != 3 || first != 0 ||
                       outside != 0 || count != 4294967295UL;
        return 0;
}

static int read_boot_id(struct strata *s)
{
        cleanup_buf struct strata_buf id = STRATA_BUF_INIT;
        int r = strata_io_read_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 4096, &id);

        if (r < 0)
                return r;
        snprintf(s->boot_id, sizeof(s->boot_id), "%.*s", id.data ? (int)strcspn(id.data, "\n") : 0,
                 id.data ? id.data : "");
        return 0;
}

/* What is true of this process. Without it a mount may come out wrong, so there is no going on. */
static int read_surroundings(struct strata *s, char **why)
{
        struct timespec now;
        int r = read_user_namespace(s);

        if (r == 0)
                r = read_boot_id(s);
        if (r < 0 && asprintf(why, "can't read about this system in /proc: %s", strerror(-r)) < 0)
                *why = NULL;
        clock_gettime(CLOCK_REALTIME, &now);
        s->run = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
        return r;
}

static void strata_free(struct strata *s)
{
        strata_index_free(s->index);
        strata_log_free(s->log);
        strata_metrics_free(s->metrics);
        strata_trash_free(s->trash);
        pthread_cond_destroy(&s->moved);
        pthread_mutex_destroy(&s->names);
        pthread_mutex_destroy(&s->place);
        pthread_mutex_destroy(&s->ids);
        free(s);
}

/* Everything but the store itself. */
static int strata_new(const struct strata_config *config, struct strata **ret, char **why)
{
        struct strata *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        s->config = *config;
        s->unsynced_below = config->unsynced_below ? config->unsynced_below : &s->unsynced_here;
        s->root_fd = s->lock_fd = s->layers_fd = s->trash_fd = -1;
        for (int kind = 0; kind < STRATA_KINDS; kind++)
                s->kind_fd[kind] = -1;
        pthread_mutex_init(&s->names, NULL);
        pthread_cond_init(&s->moved, NULL);
        pthread_mutex_init(&s->place, NULL);
        pthread_mutex_init(&s->ids, NULL);
        r = strata_index_new(&s->index);
        if (r == 0)
                r = strata_log_new(&s->log);
        if (r == 0)
                r = strata_metrics_new(&s->metrics);
        if (r == 0)
                r = strata_trash_new(&s->trash);
        if (r < 0) {
                strata_free(s);
                return r;
        }
        r = read_surroundings(s, why);
        if (r < 0) {
                strata_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

int strata_open(const char *path, const struct strata_config *config, struct strata **ret, char **why)
{
        struct strata *s;
        int r;

        *why = NULL;
        r = strata_new(config, &s, why);
        if (r < 0)
                return r;
        r = strata_store_open(s, path, why);
        if (r == 0)
                r = strata_storefs_check(s, why);
        if (r < 0) {
                strata_store_close(s, false);
                strata_free(s);
                return r;
        }
        strata_publish_recover(s);
        strata_mount_forget_marks(s);
        s->mount_api = strata_mount_choose(config->old_mount_api);
        *ret = s;
        return 0;
}

int strata_open_check(const char *path, bool repair, struct strata **ret, bool *live, char **why)
{
        const struct strata_config config = { .durable = true };
        struct strata *s;
        int r;

        *why = NULL;
        r = strata_new(&config, &s, why);
        if (r < 0)
                return r;
        r = strata_store_open_check(s, path, repair, live, why);
        if (r < 0) {
                strata_close_check(s);
                return r;
        }
        /* Nobody knows of a sweep. */
        s->unclean = true;
        s->first_id = UINT64_MAX;
        *ret = s;
        return 0;
}

void strata_close_check(struct strata *s)
{
        strata_store_close(s, false);
        strata_free(s);
}

void strata_close_store(struct strata *s)
{
        if (!s)
                return;
        strata_store_close(s, !s->unclean && !atomic_load(&s->rubbish));
        strata_free(s);
}
