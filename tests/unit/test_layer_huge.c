/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of more bytes than anybody can count, as a file system in memory has them: their layer.tar is made at once or
 * refused, and who breaks it off need not wait. One alarm is against hanging, as some would go on for years.
 */
#include "exportlib.h"

#include "layer_export.h"
#include "log.h"
#include "util/buf.h"
#include "util/cleanup.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#define EIB ((off_t)1 << 60)
#define PIB ((off_t)1 << 50)
#define HANGS 120

static char place[] = "/tmp/stratafs-huge.XXXXXX";

static int group_setup(void **state)
{
        if (test_private_mounts(state) < 0 || !mkdtemp(place) || mount("tmpfs", place, "tmpfs", 0, NULL) < 0)
                return -1;
        return setenv("TMPDIR", place, 1);
}

static int group_teardown(void **state)
{
        (void)state;
        return umount2(place, MNT_DETACH) < 0 || rmdir(place) < 0 ? -1 : 0;
}

static int setup(void **state)
{
        alarm(HANGS);
        return test_store_setup(state);
}

static int teardown(void **state)
{
        alarm(0);
        return test_store_teardown(state);
}

static void make_file(struct test_store *t, uint64_t id, const char *name, off_t size, const char *end)
{
        cleanup_fd int fd = open(export_own(t, id, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, size), 0);
        if (end)
                assert_int_equal(pwrite(fd, end, strlen(end), size), (ssize_t)strlen(end));
}

/* Wherever it is looked at there are no zeroes: all of it goes into the archive. */
static void make_dense(struct test_store *t, uint64_t id, const char *name, off_t size)
{
        cleanup_fd int fd = open(export_own(t, id, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        char block[4096];

        memset(block, 'x', sizeof(block));
        assert_int_equal(ftruncate(fd, size), 0);
        for (off_t i = 0; i < 256; i++)
                assert_int_equal(pwrite(fd, block, sizeof(block), size / 256 * i / 4096 * 4096), sizeof(block));
}

static struct strata_export *begin(struct test_store *t)
{
        struct strata_info info = test_info(t, STRATA_ACTIVE, "k");
        struct strata_export *x;

        assert_int_equal(strata_export_new(t->s, &info, &x), 0);
        return x;
}

static double now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Reads to the end; 0 or -errno. */
static int read_all(struct strata_export *x)
{
        char buf[65536];
        ssize_t n;

        while ((n = strata_export_read(x, buf, sizeof(buf))) > 0)
                ;
        return (int)n;
}

static void a_hole_alone_takes_no_time(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct archive_entry *e;
        struct archive *a;
        char text[8];

        make_file(t, id, "hole", 7 * EIB, NULL);
        make_file(t, id, "other", 0, NULL);
        make_file(t, id, "tail", 0, "begin");
        assert_int_equal(truncate(export_own(t, id, "tail"), 7 * EIB), 0);
        {
                cleanup_buf struct strata_buf buf = export_layer(t, STRATA_ACTIVE, "k", 100000);

                assert_true(buf.len < 20000);
                a = export_find(&buf, "hole", &e);
                assert_int_equal(archive_entry_size(e), 7 * EIB);
                archive_read_free(a);
                a = export_find(&buf, "tail", &e);
                assert_int_equal(archive_entry_size(e), 7 * EIB);
                assert_int_equal(archive_read_data(a, text, 5), 5);
                assert_memory_equal(text, "begin", 5);
                archive_read_free(a);
        }
}

/* One file, and many that are as much together. */
static void holes_that_take_long_to_count_are_refused(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct strata_export *x;
        char name[16];

        make_file(t, id, "f", 7 * EIB, "end");
        x = begin(t);
        assert_int_equal(read_all(x), -EFBIG);
        assert_non_null(strstr(strata_export_why(x), "128 PiB"));
        strata_export_free(x);
        assert_int_equal(unlink(export_own(t, id, "f")), 0);
        for (unsigned i = 0; i < 65; i++) {
                snprintf(name, sizeof(name), "f%u", i);
                make_file(t, id, name, 2 * PIB, "end");
        }
        x = begin(t);
        assert_int_equal(read_all(x), -EFBIG);
        strata_export_free(x);
}

/* How long the whole takes depends on the machine; the end of it does not wait for that. */
static void broken_off_in_a_hole(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        const struct timespec moment = { .tv_nsec = 20000000 };
        double start = now(), whole;
        struct strata_export *x;

        make_file(t, id, "f", 127 * PIB, "end");
        x = begin(t);
        assert_int_equal(read_all(x), 0);
        strata_export_free(x);
        whole = now() - start;
        x = begin(t);
        nanosleep(&moment, NULL);
        start = now();
        strata_export_free(x);
        assert_true(now() - start < whole / 3);
}

/* What is missing of a file that was broken off is not made up for. */
static void broken_off_in_a_file(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct strata_export *x;
        char buf[65536];

        make_dense(t, id, "f", 7 * EIB);
        x = begin(t);
        assert_true(strata_export_read(x, buf, sizeof(buf)) > 0);
        strata_export_free(x);
}

static void broken_off_in_a_file_that_was_cut_off(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct strata_export *x;
        char buf[65536];

        make_dense(t, id, "f", 7 * EIB);
        x = begin(t);
        assert_true(strata_export_read(x, buf, sizeof(buf)) > 0);
        assert_int_equal(truncate(export_own(t, id, "f"), 4096), 0);
        for (unsigned i = 0; i < 200; i++)
                assert_true(strata_export_read(x, buf, sizeof(buf)) > 0);
        strata_export_free(x);
}

#define ONE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                ONE(a_hole_alone_takes_no_time),
                ONE(holes_that_take_long_to_count_are_refused),
                ONE(broken_off_in_a_hole),
                ONE(broken_off_in_a_file),
                ONE(broken_off_in_a_file_that_was_cut_off),
        };

        return cmocka_run_group_tests_name("layer_huge", tests, group_setup, group_teardown);
}
