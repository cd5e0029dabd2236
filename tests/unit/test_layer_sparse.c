/* SPDX-License-Identifier: Apache-2.0 */
/* Holes, zeroes and large files in a layer's archive. */
#include "exportlib.h"

#include "layer_export.h"
#include "util/buf.h"
#include "util/cleanup.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void write_at(const char *path, off_t at, const char *text)
{
        cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, text, strlen(text), at), (ssize_t)strlen(text));
}

/* Whether zeroes are a hole on the disk makes no difference, and neither do blocks beyond the end of a file. */
static void only_contents_tell_what_is_sparse(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        cleanup_buf struct strata_buf hole = STRATA_BUF_INIT, zeroes = STRATA_BUF_INIT, ahead = STRATA_BUF_INIT;
        char *file = strdup(export_own(t, id, "f"));
        const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
        cleanup_free char *zero = calloc(1, 3 << 20);
        cleanup_fd int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_int_equal(pwrite(fd, "end", 3, 3 << 20), 3);
        assert_int_equal(futimens(fd, times), 0);
        hole = export_layer(t, STRATA_ACTIVE, "k", 100000);
        assert_true(hole.len < 100000);
        assert_int_equal(pwrite(fd, zero, 3 << 20, 0), 3 << 20);
        assert_int_equal(futimens(fd, times), 0);
        zeroes = export_layer(t, STRATA_ACTIVE, "k", 100000);
        assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 3 << 20), 0);
        assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, 4 << 20, 8 << 20), 0);
        assert_int_equal(futimens(fd, times), 0);
        ahead = export_layer(t, STRATA_ACTIVE, "k", 100000);
        assert_int_equal(zeroes.len, hole.len);
        assert_memory_equal(zeroes.data, hole.data, hole.len);
        assert_int_equal(ahead.len, hole.len);
        assert_memory_equal(ahead.data, hole.data, hole.len);
        free(file);
}

/* Whatever is looked at before. */
static void a_file_without_holes_is_whole(void **state)
{
        enum { LEN = (3 << 20) + 5 };
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        cleanup_free char *data = malloc(LEN), *got = malloc(LEN);
        cleanup_fd int fd = open(export_own(t, id, "f"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        struct archive_entry *e;
        struct archive *a;

        for (size_t i = 0; i < LEN; i++)
                data[i] = (char)(i / 4096 + i % 251);
        assert_int_equal(pwrite(fd, data, LEN, 0), LEN);
        {
                cleanup_buf struct strata_buf buf = export_layer(t, STRATA_ACTIVE, "k", 100000);

                a = export_find(&buf, "f", &e);
                assert_int_equal(archive_entry_size(e), LEN);
                assert_int_equal(archive_read_data(a, got, LEN), LEN);
                assert_memory_equal(got, data, LEN);
                archive_read_free(a);
        }
}

static void holes_are_left_out(void **state)
{
        struct test_store *t = *state;
        const off_t large = (off_t)20 << 30;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct archive_entry *e;
        struct archive *a;
        const void *block;
        size_t len;
        la_int64_t at;
        unsigned seen = 0;

        write_at(export_own(t, id, "large"), 0, "begin");
        write_at(export_own(t, id, "large"), large, "end");
        write_at(export_own(t, id, "after"), 0, "x");
        write_at(export_own(t, id, "hole"), 0, "");
        assert_int_equal(truncate(export_own(t, id, "hole"), 3 << 20), 0);
        write_at(export_own(t, id, "small"), 100000, "end");
        assert_int_equal(syncfs(t->s->root_fd), 0);
        {
                cleanup_buf struct strata_buf buf = export_layer(t, STRATA_ACTIVE, "k", 100000);

                assert_true(buf.len < 200000);
                a = export_find(&buf, "large", &e);
                assert_int_equal(archive_entry_size(e), large + 3);
                while (archive_read_data_block(a, &block, &len, &at) == ARCHIVE_OK)
                        for (size_t i = 0; i < len; i++)
                                if (((const char *)block)[i]) {
                                        const char *text = at + (off_t)i < 5 ? "begin" : "end";
                                        off_t from = at + (off_t)i < 5 ? 0 : large;

                                        assert_int_equal(((const char *)block)[i], text[at + (off_t)i - from]);
                                        seen++;
                                }
                assert_int_equal(seen, 8);
                archive_read_free(a);
                a = export_find(&buf, "hole", &e);
                assert_int_equal(archive_entry_size(e), 3 << 20);
                archive_read_free(a);
        }
}

/*
 * More than a size in octal digits holds, and wherever it is looked at no zeroes to leave out: 256 blocks. Only its
 * beginning is read.
 */
static void a_file_of_more_than_8_gib(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        const off_t size = ((off_t)8 << 30) + 4096;
        struct strata_info info = test_info(t, STRATA_ACTIVE, "k");
        cleanup_free char *buf = malloc(1 << 20);
        struct strata_export *x;
        ssize_t n;
        int fd = open(export_own(t, id, "f"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        if (fallocate(fd, 0, 0, size) < 0)
                fail_msg("8 GiB of room are needed: %s", strerror(errno));
        memset(buf, 'x', 4096);
        for (off_t i = 0; i < 256; i++)
                assert_int_equal(pwrite(fd, buf, 4096, size / 256 * i / 4096 * 4096), 4096);
        close(fd);
        assert_int_equal(strata_export_new(t->s, &info, &x), 0);
        n = strata_export_read(x, buf, 1 << 20);
        assert_true(n > 4096);
        assert_non_null(memmem(buf, 4096, " size=8589938688\n", 17));
        strata_export_free(x);
}

#define ONE(f) cmocka_unit_test_setup_teardown(f, test_new_api_setup, test_mount_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                ONE(a_file_without_holes_is_whole),
                ONE(holes_are_left_out),
                ONE(only_contents_tell_what_is_sparse),
                ONE(a_file_of_more_than_8_gib),
        };

        return cmocka_run_group_tests_name("layer_sparse", tests, test_private_mounts, NULL);
}
