/* SPDX-License-Identifier: Apache-2.0 */
/* An archive of a layer that is being written, and one that nobody reads to its end. */
#include "testlib.h"

#include "changes.h"
#include "layer_export.h"
#include "remove.h"
#include "usage.h"
#include "util/buf.h"
#include "util/cleanup.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void write_at(const char *path, off_t at, const char *text)
{
        cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, text, strlen(text), at), (ssize_t)strlen(text));
}

struct mess {
        char dir[PATH_MAX / 2];
        atomic_bool stop;
        atomic_uint rounds;
};

/* Files that grow, shrink, vanish, and turn into links out of the layer and into FIFOs. */
static void *make_mess(void *data)
{
        struct mess *m = data;
        char a[PATH_MAX], b[PATH_MAX];

        for (unsigned i = 0; !atomic_load(&m->stop); i++) {
                snprintf(a, sizeof(a), "%s/f%u", m->dir, i % 50);
                snprintf(b, sizeof(b), "%s/d%u", m->dir, i % 7);
                (void)unlink(a);
                if (i % 5 == 0)
                        (void)symlink("/etc/passwd", a);
                else if (i % 5 == 1)
                        (void)mkfifo(a, 0600);
                else
                        write_at(a, i % 300000, "secret");
                if (i % 5 == 3)
                        (void)truncate(a, i % 7);
                if (rmdir(b) < 0 && unlink(b) < 0)
                        (void)mkdir(b, 0755);
                else
                        (void)symlink("/etc", b);
                atomic_fetch_add(&m->rounds, 1);
        }
        return NULL;
}

/* The archive is whole whatever happens meanwhile, and holds nothing from outside the layer. */
static void export_and_check(struct test_store *t)
{
        struct strata_info info = test_info(t, STRATA_ACTIVE, "k");
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        struct archive *a = archive_read_new();
        struct archive_entry *e;
        struct strata_export *x;
        char piece[100000];
        ssize_t n;
        int r;

        assert_int_equal(strata_export_new(t->s, &info, &x), 0);
        while ((n = strata_export_read(x, piece, sizeof(piece))) > 0)
                strata_buf_add(&buf, piece, (size_t)n);
        assert_int_equal(n, 0);
        strata_export_free(x);
        assert_int_equal(archive_read_support_format_tar(a), ARCHIVE_OK);
        assert_int_equal(archive_read_open_memory(a, buf.data, buf.len), ARCHIVE_OK);
        while ((r = archive_read_next_header(a, &e)) == ARCHIVE_OK) {
                const char *slash = strchr(archive_entry_pathname(e), '/');

                assert_true(!slash || !slash[1]);
        }
        assert_int_equal(r, ARCHIVE_EOF);
        archive_read_free(a);
        assert_null(memmem(buf.data, buf.len, "root:x:0:0:", 11));
}

static void a_layer_that_is_being_written(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct mess m = { .dir = "" };
        pthread_t thread;

        for (int i = 0; i < 50; i++)
                write_at(test_path(t, "layers/%" PRIu64 "/fs/f%d", id, i), 300000, "x");
        snprintf(m.dir, sizeof(m.dir), "%s", test_path(t, "layers/%" PRIu64 "/fs", id));
        assert_int_equal(pthread_create(&thread, NULL, make_mess, &m), 0);
        for (int i = 0; i < 30 || atomic_load(&m.rounds) < 1000; i++) {
                export_and_check(t);
        }
        atomic_store(&m.stop, true);
        assert_int_equal(pthread_join(thread, NULL), 0);
}

static void ended_in_the_middle(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", ""), size;
        unsigned threads = test_count_dir("/proc/self/task"), fds = test_count_dir("/proc/self/fd");
        char buf[1000], diffid[STRATA_DIFFID_MAX];
        struct strata_info info;
        struct strata_export *x;

        write_at(test_path(t, "layers/%" PRIu64 "/fs/f", id), 0, "x");
        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/fs/f", id), 900000), 0);
        for (int i = 0; i < 20; i++)
                assert_int_equal(link(test_path(t, "layers/%" PRIu64 "/fs/f", id),
                                      test_path(t, "layers/%" PRIu64 "/fs/l%d", id, i)),
                                 0);
        write_at(test_path(t, "layers/%" PRIu64 "/fs/z", id), 20 << 20, "x");
        test_commit(t, "k", "n");
        info = test_info(t, STRATA_COMMITTED, "n");
        for (int reads = 0; reads < 3; reads++) {
                assert_int_equal(strata_export_new(t->s, &info, &x), 0);
                for (int i = 0; i < reads; i++)
                        assert_int_equal(strata_export_read(x, buf, sizeof(buf)), sizeof(buf));
                strata_export_free(x);
        }
        assert_false(strata_export_known(t->s, &info, &size, diffid));
        assert_int_equal(test_count_dir("/proc/self/task"), threads);
        assert_int_equal(test_count_dir("/proc/self/fd"), fds);
}

/* Half of a layer is no layer: who reads it while it is removed is told so, and nothing is remembered. */
static void removed_while_it_is_read(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", ""), size;
        char buf[100000], diffid[STRATA_DIFFID_MAX];
        cleanup_buf struct strata_buf text = STRATA_BUF_INIT;
        struct strata_info info;
        struct strata_usage usage;
        struct strata_export *x;
        const char *why;
        ssize_t n;

        memset(buf, 'x', sizeof(buf) - 1);
        buf[sizeof(buf) - 1] = '\0';
        for (off_t i = 0; i < 200; i++) /* more than is read ahead */
                write_at(test_path(t, "layers/%" PRIu64 "/fs/a", id), i * 100000, buf);
        write_at(test_path(t, "layers/%" PRIu64 "/fs/b", id), 0, "x");
        test_commit(t, "k", "n");
        info = test_info(t, STRATA_COMMITTED, "n");
        assert_int_equal(strata_export_new(t->s, &info, &x), 0);
        assert_true(strata_export_read(x, buf, sizeof(buf)) > 0);
        assert_int_equal(strata_remove(t->s, STRATA_COMMITTED, "n", &why), 0);
        while ((n = strata_export_read(x, buf, sizeof(buf))) > 0)
                continue;
        assert_int_equal(n, -ENOENT);
        assert_int_equal(strata_export_read(x, buf, sizeof(buf)), -ENOENT);
        assert_false(strata_export_known(t->s, &info, &size, diffid));
        strata_export_free(x);
        assert_int_equal(strata_export_new(t->s, &info, &x), -ENOENT);
        assert_int_equal(strata_changes_get(t->s, &info, &text), -ENOENT);
        assert_int_equal(strata_usage_get(t->s, &info, &usage), -ENOENT);
        assert_int_equal(text.len, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_layer_that_is_being_written, test_new_api_setup, test_mount_teardown),
                cmocka_unit_test_setup_teardown(removed_while_it_is_read, test_new_api_setup, test_mount_teardown),
                cmocka_unit_test_setup_teardown(ended_in_the_middle, test_new_api_setup, test_mount_teardown),
        };

        return cmocka_run_group_tests_name("layer_export_live", tests, test_private_mounts, NULL);
}
