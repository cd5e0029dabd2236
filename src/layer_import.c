/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pipeline: the caller fills blocks; one thread decompresses and hashes (layer_stream); the planner reads the
 * archive and makes all but small files, which it shares with a maker (layer_apply). docs/design.md, "One layer in".
 */
#include "layer_import.h"

#include "copy.h"
#include "layer_apply.h"
#include "layer_publish.h"
#include "layer_stream.h"
#include "link.h"
#include "metrics.h"
#include "mount.h"
#include "strata.h"
#include "trash.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <archive.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct strata_import {
        struct strata *s; /* constant, the two */
        struct strata_info info;
        struct strata_stream *stream;
        struct strata_op op;
        bool claimed;

        /* Of the caller's side. */
        pthread_t planner;
        bool planner_runs; /* and is not waited for yet */
        uint64_t bytes;
        int result;

        pthread_mutex_t lock; /* protects READY; a leaf lock */
        pthread_cond_t changed;
        bool ready; /* the planner is prepared, or has failed */

        /* The planner's; the caller's once READY, or the planner has ended. */
        int error;
        const char *new_why; /* constant text: why it could not begin */
        struct strata_buf why;

        /* The planner's own. */
        struct strata_apply *apply;
        int layer_fd;
        bool made; /* there is an fs.new of ours */
        pthread_t helpers[1 + APPLY_MAKERS];
        unsigned n_helpers;
};

/* A thread's first words: umask and working directory become its own. */
static int own_fs(void)
{
        if (unshare(CLONE_FS) < 0)
                return -errno;
        umask(0);
        return 0;
}

static void *run_stream(void *data)
{
        struct strata_import *m = data;

        strata_stream_run(m->stream);
        return NULL;
}

static void *run_maker(void *data)
{
        struct strata_import *m = data;

        /* Without an umask of its own it makes nothing; the planner then does it all. */
        if (own_fs() == 0)
                strata_apply_batch_run(m->apply, 0);
        return NULL;
}

/* Starts a thread that no signal is sent to. */
static int start(pthread_t *thread, void *(*run)(void *), struct strata_import *m)
{
        sigset_t all, old;
        int r;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(thread, NULL, run, m);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        return -r;
}

static int check_empty(struct strata_import *m, int fs_fd)
{
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;
        int r = strata_io_list(fs_fd, ".", &dir);

        if (r < 0)
                return r;
        while ((errno = 0, de = readdir(dir))) {
                if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
                        continue;
                m->new_why = "its own layer holds files already; prepare a child for another layer";
                return -ENOTEMPTY;
        }
        return -errno;
}

/* Makes fs.new with what the root of fs/ is like, and opens it. */
static int make_root(struct strata_import *m, int *ret)
{
        cleanup_fd int old = openat(m->layer_fd, "fs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), new = -1;
        struct stat st, now;
        int r;

        if (old < 0 || fstat(old, &st) < 0)
                return -errno;
        r = check_empty(m, old);
        if (r == 0)
                r = strata_trash_part(m->s, m->layer_fd, STRATA_PUBLISH_FS_NEW,
                                      m->info.id); /* of an import that was cut off */
        if (r < 0)
                return r;
        if (mkdirat(m->layer_fd, STRATA_PUBLISH_FS_NEW, 0700) < 0)
                return -errno;
        m->made = true;
        new = openat(m->layer_fd, STRATA_PUBLISH_FS_NEW, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (new < 0)
                return -errno;
        r = strata_copy_drop_inherited(new);
        if (r == 0 && fstat(new, &now) < 0)
                r = -errno;
        if (r == 0)
                r = strata_copy_attributes(m->s, STRATA_COPY_LAYER, old, &st, new, &now);
        if (r == 0)
                *ret = steal_fd(&new);
        return r;
}

/* All that can fail before the first byte. */
static int prepare(struct strata_import *m)
{
        cleanup_fd int fs_fd = -1, lower_fd = -1;
        int r = own_fs();

        if (r == 0)
                r = strata_open_layer(m->s, m->info.id, &m->layer_fd);
        if (r == 0)
                r = make_root(m, &fs_fd);
        if (r == 0 && m->info.parent)
                r = strata_mount_open_lower(m->s, &m->info, &lower_fd);
        if (r == 0)
                r = strata_apply_new(m->s, m->info.id, m->stream, steal_fd(&fs_fd), steal_fd(&lower_fd), &m->apply);
        if (r == 0)
                r = start(&m->helpers[m->n_helpers], run_stream, m);
        if (r < 0)
                return r;
        m->n_helpers++;
        /* Makers are help, not need. */
        for (unsigned i = 0; i < APPLY_MAKERS; i++)
                if (start(&m->helpers[m->n_helpers], run_maker, m) == 0)
                        m->n_helpers++;
        return 0;
}

static la_ssize_t read_plain(struct archive *ar, void *data, const void **ret)
{
        struct strata_import *m = data;
        ssize_t n = strata_stream_read(m->stream, ret);

        if (n < 0)
                archive_set_error(ar, (int)-n, "the stream was stopped");
        return n < 0 ? -1 : n;
}

/* Reads the archive AR, not opened yet, and then all that follows it: that belongs to the digest. */
static int read_all(struct strata_import *m, struct archive *ar)
{
        const void *data;
        ssize_t n = 0;
        int r = 0;

        if (archive_read_support_format_tar(ar) != ARCHIVE_OK)
                return -ENOMEM;
        if (archive_read_open(ar, m, NULL, read_plain, NULL) != ARCHIVE_OK)
                return strata_apply_fail(m->apply, -EINVAL, NULL, "this is no tar archive");
        r = strata_apply_archive(m->apply, ar);
        while (r == 0 && (n = strata_stream_read(m->stream, &data)) > 0)
                ;
        return r < 0 ? r : (int)n;
}

/*
 * In the locale "C" libarchive gives names as the bytes that stand in the archive. In one with UTF-8 it would compose
 * characters (NFC), and so change names.
 */
static int apply(struct strata_import *m)
{
        locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), old;
        struct archive *ar = archive_read_new();
        int r = c && ar ? 0 : -ENOMEM;

        if (r == 0) {
                old = uselocale(c);
                r = read_all(m, ar);
                archive_read_free(steal_ptr(&ar));
                uselocale(old);
        }
        archive_read_free(ar);
        if (c)
                freelocale(c);
        return r;
}

/* fs.new takes the place of fs/, and the labels are set. */
static int publish(struct strata_import *m)
{
        char given[STRATA_DIGEST_MAX], plain[STRATA_DIGEST_MAX];
        const char *why;
        int r;

        r = strata_stream_digests(m->stream, given, plain);
        if (r < 0)
                return strata_apply_fail(m->apply, r, NULL, "the digests can't be computed");
        r = strata_publish_layer(m->s, m->info.id, m->layer_fd, plain, given, &why);
        if (r < 0)
                return strata_apply_fail(m->apply, r, NULL, why);
        m->made = false;
        return 0;
}

/* Ends the other threads. The stream has ended or is stopped. */
static void end_helpers(struct strata_import *m)
{
        if (m->apply)
                strata_apply_batch_end(m->apply);
        while (m->n_helpers)
                pthread_join(m->helpers[--m->n_helpers], NULL);
}

static void note_ready(struct strata_import *m)
{
        pthread_mutex_lock(&m->lock);
        m->ready = true;
        pthread_cond_broadcast(&m->changed);
        pthread_mutex_unlock(&m->lock);
}

/* Notes why the import failed; the errno. What the stream was stopped for comes first: it makes the archive look cut.
 */
static int reason(struct strata_import *m, int r)
{
        const char *stream_why;
        int stream_error = strata_stream_error(m->stream, &stream_why);

        if (stream_error)
                strata_buf_addstr(&m->why, stream_why ? stream_why : strerror(-stream_error));
        else
                strata_buf_addstr(&m->why, m->apply && m->apply->why.data ? m->apply->why.data : strerror(-r));
        return stream_error ? stream_error : r;
}

/* From the first byte to the published layer. */
static int import(struct strata_import *m)
{
        int r = apply(m);

        if (r == 0)
                r = publish(m);
        return r < 0 ? reason(m, r) : 0;
}

static void *run_planner(void *data)
{
        struct strata_import *m = data;
        int r = prepare(m);
        bool began = r == 0;

        if (began) {
                note_ready(m);
                r = import(m);
        }
        m->error = r;
        strata_stream_stop(m->stream, r < 0 ? r : -EPIPE, NULL);
        end_helpers(m);
        strata_apply_free(steal_ptr(&m->apply));
        if (m->made)
                (void)strata_trash_part(m->s, m->layer_fd, STRATA_PUBLISH_FS_NEW, m->info.id);
        strata_close(steal_fd(&m->layer_fd));
        if (!began)
                note_ready(m);
        return NULL;
}

/* Waits for the planner's end; its result. */
static int wait_for_planner(struct strata_import *m)
{
        if (m->planner_runs) {
                pthread_join(m->planner, NULL);
                m->planner_runs = false;
                m->result = m->error;
        }
        return m->result;
}

static int begin(struct strata_import *m)
{
        int r = start(&m->planner, run_planner, m);

        if (r < 0)
                return r;
        m->planner_runs = true;
        pthread_mutex_lock(&m->lock);
        while (!m->ready)
                pthread_cond_wait(&m->changed, &m->lock);
        r = m->error;
        pthread_mutex_unlock(&m->lock);
        return r;
}

int strata_import_new(struct strata *s, const struct strata_info *info, uint64_t max_bytes, struct strata_import **ret,
                      const char **why)
{
        struct strata_import *m;
        int r;

        *why = NULL;
        if (info->kind != STRATA_ACTIVE) {
                *why = "only active snapshots take a layer";
                return -EROFS;
        }
        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        m->s = s;
        m->info = *info;
        m->layer_fd = -1;
        pthread_mutex_init(&m->lock, NULL);
        pthread_cond_init(&m->changed, NULL);
        r = strata_stream_new(max_bytes, &m->stream);
        if (r == 0) {
                r = strata_op_begin(s, &m->op, info->id);
                m->claimed = r == 0;
                if (r == -EBUSY)
                        *why = "another operation on it is under way";
        }
        if (r == 0) {
                r = begin(m);
                *why = r < 0 ? m->new_why : NULL;
        }
        if (r < 0) {
                strata_import_free(m);
                return r;
        }
        *ret = m;
        return 0;
}

int strata_import_write(struct strata_import *m, const void *data, size_t len)
{
        int r;

        if (!m->planner_runs)
                return m->result < 0 ? m->result : -EPIPE;
        r = strata_stream_write(m->stream, data, len);
        if (r == 0) {
                m->bytes += len;
                return 0;
        }
        strata_stream_stop(m->stream, r, NULL);
        return wait_for_planner(m); /* so that the reason is there, and the snapshot as before */
}

int strata_import_offer(struct strata_import *m, const void *data, size_t len)
{
        int r;

        if (!m->planner_runs || !strata_stream_has_room(m->stream, len))
                return -EAGAIN;
        r = strata_stream_write(m->stream, data, len);
        if (r < 0)
                strata_stream_stop(m->stream, r, NULL); /* part of it may be taken: the next call tells */
        m->bytes += len;
        return 0;
}

int strata_import_finish(struct strata_import *m)
{
        int r;

        if (!m->planner_runs)
                return m->result;
        r = strata_stream_end(m->stream);
        if (r < 0)
                strata_stream_stop(m->stream, r, NULL);
        r = wait_for_planner(m);
        if (r == 0)
                strata_metrics_bytes(m->s->metrics, m->bytes, 0);
        return r;
}

const char *strata_import_why(const struct strata_import *m)
{
        return m->why.data ? m->why.data : strerror(-m->result);
}

uint64_t strata_import_bytes(const struct strata_import *m)
{
        return m->bytes;
}

void strata_import_free(struct strata_import *m)
{
        if (!m)
                return;
        if (m->planner_runs) {
                strata_stream_stop(m->stream, -ECANCELED, "the import was broken off");
                (void)wait_for_planner(m);
        }
        if (m->claimed)
                strata_op_end(m->s, &m->op);
        strata_stream_free(m->stream);
        strata_buf_free(&m->why);
        pthread_cond_destroy(&m->changed);
        pthread_mutex_destroy(&m->lock);
        free(m);
}
