/* SPDX-License-Identifier: Apache-2.0 */
#include "recover.h"

#include "index.h"
#include "link.h"
#include "log.h"
#include "record.h"
#include "strata.h"
#include "trash.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_listing(int dirfd, const char *path, DIR **ret)
{
        int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *dir;

        if (fd < 0)
                return -errno;
        dir = fdopendir(fd);
        if (!dir) {
                int r = -errno;

                strata_close(fd);
                return r;
        }
        *ret = dir;
        return 0;
}

static bool layer_exists(struct strata *s, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];

        snprintf(path, sizeof(path), "%" PRIu64, id);
        return faccessat(s->layers_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

/* True if layer ID is an entry of another name: a power cut kept the old link beside the new one. */
static bool is_old_name(struct strata *s, enum strata_kind kind, const char *name, uint64_t id)
{
        struct strata_place place;
        struct strata_record rec;
        struct timespec mtime;

        if (strata_record_settle(s, id))
                strata_index_drop(s->index, id);
        return strata_record_load(s, id, &rec) == 0 && strata_record_resolve(s, &rec, &place, &mtime) == 0 &&
               (place.kind != kind || strcmp(place.name, name) != 0);
}

static void sweep_link(struct strata *s, enum strata_kind kind, const char *name)
{
        uint64_t id;
        bool lost;

        if (strata_entry_find(s, kind, name, &id) < 0 || id >= s->first_id)
                return;
        lost = !layer_exists(s, id);
        if (!lost && !is_old_name(s, kind, name, id))
                return;
        if (unlinkat(s->kind_fd[kind], name, 0) < 0 || !lost)
                return;
        strata_log_add(s->log, "recover", name, NULL, ENOENT,
                       "layer %" PRIu64 " of this entry in %s/ is not in the store: the entry is removed", id,
                       strata_kind_folder(kind));
}

/* Links whose layer never reached the disk, and names that an entry no longer has. */
static int sweep_links(struct strata *s, enum strata_kind kind, atomic_bool *stop)
{
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;
        int r = open_listing(s->kind_fd[kind], ".", &dir);

        if (r < 0)
                return r;
        while (!atomic_load(stop) && (errno = 0, de = readdir(dir))) {
                if (de->d_name[0] == '.')
                        continue;
                pthread_mutex_lock(&s->names);
                sweep_link(s, kind, de->d_name);
                pthread_mutex_unlock(&s->names);
        }
        return 0;
}

/* True if some link leads to layer ID: the long way, for records that can't tell. */
static bool find_link(struct strata *s, uint64_t id)
{
        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                cleanup_dir DIR *dir = NULL;
                struct dirent *de;

                if (open_listing(s->kind_fd[kind], ".", &dir) < 0)
                        return true; /* not known: better keep it */
                while ((de = readdir(dir))) {
                        uint64_t found;

                        if (strata_entry_find(s, kind, de->d_name, &found) == 0 && found == id)
                                return true;
                }
        }
        return false;
}

static void sweep_marks(struct strata *s, uint64_t id)
{
        cleanup_dir DIR *dir = NULL;
        char path[STRATA_ID_PATH_MAX];
        unsigned long long child;
        struct dirent *de;

        snprintf(path, sizeof(path), "%" PRIu64 "/children", id);
        if (open_listing(s->layers_fd, path, &dir) < 0)
                return;
        while ((de = readdir(dir)))
                if (strata_io_parse_u64(de->d_name, &child) && child < s->first_id && !layer_exists(s, child))
                        (void)unlinkat(dirfd(dir), de->d_name, 0);
}

static void sweep_label_files(struct strata *s, uint64_t id)
{
        cleanup_dir DIR *dir = NULL;
        char path[STRATA_ID_PATH_MAX];
        struct dirent *de;

        snprintf(path, sizeof(path), "%" PRIu64 "/labels", id);
        if (open_listing(s->layers_fd, path, &dir) < 0)
                return;
        while ((de = readdir(dir))) {
                struct stat st;

                /* Only of an earlier run: a label being written now has its own, moments old. */
                if (strncmp(de->d_name, ".new.", 5) == 0 &&
                    fstatat(dirfd(dir), de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && time(NULL) - st.st_mtime > 60)
                        (void)unlinkat(dirfd(dir), de->d_name, 0);
        }
}

/* Where mount_old.c mounts for an instant: a kill may have come just then. */
static void sweep_lower(struct strata *s, uint64_t id)
{
        cleanup_dir DIR *dir = NULL;
        char path[STRATA_ID_PATH_MAX];
        struct dirent *de;

        snprintf(path, sizeof(path), "%" PRIu64, id);
        if (open_listing(s->layers_fd, path, &dir) < 0)
                return;
        while ((de = readdir(dir)))
                if (strncmp(de->d_name, "lower.", 6) == 0)
                        (void)unlinkat(dirfd(dir), de->d_name, AT_REMOVEDIR);
}

/* What an import that was cut off had made of a layer. */
static void sweep_import(struct strata *s, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];

        snprintf(path, sizeof(path), "%" PRIu64 "/fs.new", id);
        (void)strata_trash_part(s, s->layers_fd, path, id);
}

static void drop_mark(struct strata *s, uint64_t parent, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];

        snprintf(path, sizeof(path), "%" PRIu64 "/children/%" PRIu64, parent, id);
        (void)unlinkat(s->layers_fd, path, 0);
}

static void sweep_layer(struct strata *s, uint64_t id)
{
        struct strata_place place;
        struct strata_record rec;
        struct timespec mtime;
        struct strata_op op;
        bool orphan;
        int r;

        pthread_mutex_lock(&s->names);
        r = strata_record_load(s, id, &rec);
        if (r == 0)
                orphan = strata_record_resolve(s, &rec, &place, &mtime) == -ENOENT;
        else
                orphan = (r == -ENOENT || r == -EUCLEAN) && !find_link(s, id);
        if (orphan) {
                if (r == 0 && rec.parent)
                        drop_mark(s, rec.parent, id);
                (void)strata_trash_layer(s, id);
        }
        pthread_mutex_unlock(&s->names);
        if (orphan)
                return;
        if (r < 0)
                strata_log_add(s->log, "recover", "layers", NULL, r,
                               "the record of layer %" PRIu64 " is %s; its entry can be removed, its files lie in the "
                               "store's layers/%" PRIu64 "/fs",
                               id, r == -ENOENT ? "missing" : "damaged", id);
        if (strata_op_begin(s, &op, id) == 0) {
                strata_record_discard(s, id); /* of a step that did not come; nobody is at one now */
                sweep_import(s, id);
                strata_op_end(s, &op);
        }
        sweep_lower(s, id);
        sweep_marks(s, id);
        sweep_label_files(s, id);
}

int strata_recover_sweep(struct strata *s, atomic_bool *stop)
{
        cleanup_dir DIR *dir = NULL;
        unsigned long long id;
        struct dirent *de;
        int r = 0;

        for (int kind = 0; kind < STRATA_KINDS && r == 0; kind++)
                r = sweep_links(s, kind, stop);
        if (r == 0)
                r = open_listing(s->layers_fd, ".", &dir);
        if (r < 0)
                return r;
        while (!atomic_load(stop) && (errno = 0, de = readdir(dir)))
                if (strata_io_parse_u64(de->d_name, &id) && id > 0 && id < s->first_id)
                        sweep_layer(s, id);
        return 0;
}
