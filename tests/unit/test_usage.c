/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "usage.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the kernel says of PATH alone. */
static uint64_t blocks(const char *path)
{
        struct stat st;

        assert_int_equal(lstat(path, &st), 0);
        return (uint64_t)st.st_blocks * 512;
}

/* Delayed allocation counts no block before it is done. */
static void allocate(const char *path)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(fsync(fd), 0);
        close(fd);
}

static void write_size(const char *path, size_t size)
{
        char *text = calloc(1, size + 1);

        assert_non_null(text);
        memset(text, 'x', size);
        test_write(path, text);
        free(text);
        allocate(path);
}

static struct strata_usage usage_of(struct test_store *t, enum strata_kind kind, const char *name)
{
        struct strata_info info = test_info(t, kind, name);
        struct strata_usage usage = { 77, 77 };

        assert_int_equal(strata_usage_get(t->s, &info, &usage), 0);
        return usage;
}

static bool known(struct test_store *t, enum strata_kind kind, const char *name, struct strata_usage *usage)
{
        struct strata_info info = test_info(t, kind, name);

        return strata_usage_known(t->s, &info, usage);
}

static void counts_every_inode_and_block(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct strata_usage usage = usage_of(t, STRATA_ACTIVE, "k"), none;
        uint64_t bytes;

        assert_int_equal(usage.inodes, 1);
        assert_int_equal(usage.bytes, blocks(test_path(t, "layers/%" PRIu64 "/fs", id)));
        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/fs/d", id), 0700), 0);
        write_size(test_path(t, "layers/%" PRIu64 "/fs/d/f", id), 100000);
        write_size(test_path(t, "layers/%" PRIu64 "/fs/empty", id), 0);
        assert_int_equal(symlink("x", test_path(t, "layers/%" PRIu64 "/fs/l", id)), 0);
        bytes = blocks(test_path(t, "layers/%" PRIu64 "/fs", id)) +
                blocks(test_path(t, "layers/%" PRIu64 "/fs/d", id)) +
                blocks(test_path(t, "layers/%" PRIu64 "/fs/d/f", id)) +
                blocks(test_path(t, "layers/%" PRIu64 "/fs/empty", id)) +
                blocks(test_path(t, "layers/%" PRIu64 "/fs/l", id));
        assert_true(bytes >= 100000);
        usage = usage_of(t, STRATA_ACTIVE, "k");
        assert_int_equal(usage.inodes, 5);
        assert_int_equal(usage.bytes, bytes);
        assert_false(known(t, STRATA_ACTIVE, "k", &none)); /* an active one changes all the time */
        assert_false(test_exists(t, "layers/%" PRIu64 "/usage", id));
}

static void counts_hard_links_once(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct strata_usage one, many;
        char first[PATH_MAX];

        snprintf(first, sizeof(first), "%s", test_path(t, "layers/%" PRIu64 "/fs/f", id));
        write_size(first, 50000);
        one = usage_of(t, STRATA_ACTIVE, "k");
        for (int i = 0; i < 10; i++)
                assert_int_equal(link(first, test_path(t, "layers/%" PRIu64 "/fs/l%d", id, i)), 0);
        many = usage_of(t, STRATA_ACTIVE, "k");
        assert_int_equal(many.inodes, one.inodes);
        assert_int_equal(many.inodes, 2);
        assert_int_equal(many.bytes, one.bytes);
}

static void holes_take_nothing(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");

        test_write(test_path(t, "layers/%" PRIu64 "/fs/sparse", id), "");
        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/fs/sparse", id), 1LL << 40), 0);
        assert_true(usage_of(t, STRATA_ACTIVE, "k").bytes < 1 << 20);
}

static void a_layer_is_counted_alone(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "b", "");

        write_size(test_path(t, "layers/%" PRIu64 "/fs/f", id), 1 << 20);
        test_commit(t, "b", "base");
        test_prepare(t, STRATA_ACTIVE, "k", "base");
        assert_int_equal(usage_of(t, STRATA_ACTIVE, "k").inodes, 1);
        assert_true(usage_of(t, STRATA_ACTIVE, "k").bytes < 1 << 20);
        assert_true(usage_of(t, STRATA_COMMITTED, "base").bytes >= 1 << 20);
}

static void views_take_nothing(void **state)
{
        struct test_store *t = *state;
        struct strata_usage usage = { 77, 77 };

        test_snapshot(t, "base", "");
        test_prepare(t, STRATA_VIEW, "v", "base");
        assert_true(known(t, STRATA_VIEW, "v", &usage));
        assert_int_equal(usage.bytes, 0);
        assert_int_equal(usage.inodes, 0);
        usage = usage_of(t, STRATA_VIEW, "v");
        assert_int_equal(usage.inodes, 0);
        assert_int_equal(usage.bytes, 0);
}

static void a_snapshot_is_counted_once(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct strata_usage first, again = { 77, 77 };
        unsigned files;

        write_size(test_path(t, "layers/%" PRIu64 "/fs/f", id), 10000);
        test_commit(t, "k", "n");
        assert_false(known(t, STRATA_COMMITTED, "n", &again));
        assert_int_equal(again.bytes, 77);
        first = usage_of(t, STRATA_COMMITTED, "n");
        assert_int_equal(first.inodes, 2);
        files = test_count_dir(test_path(t, "layers/%" PRIu64, id));
        /* A file more below, which never happens, shows that nothing is walked. */
        test_write(test_path(t, "layers/%" PRIu64 "/fs/more", id), "");
        assert_true(known(t, STRATA_COMMITTED, "n", &again));
        assert_memory_equal(&again, &first, sizeof(first));
        test_store_reopen(t);
        again = usage_of(t, STRATA_COMMITTED, "n");
        assert_memory_equal(&again, &first, sizeof(first));
        assert_int_equal(test_count_dir(test_path(t, "layers/%" PRIu64, id)), files);
}

/* Every flipped bit, every cut: counted anew, never believed. */
static void a_damaged_count_is_not_believed(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_snapshot(t, "n", "");
        struct strata_usage first = usage_of(t, STRATA_COMMITTED, "n"), again;
        const char *path = test_path(t, "layers/%" PRIu64 "/usage", id);
        char file[PATH_MAX];
        char *good;

        snprintf(file, sizeof(file), "%s", path);
        good = test_read(file);
        assert_non_null(good);
        for (size_t at = 0; good[at]; at++) {
                for (int bit = 0; bit < 8; bit++) {
                        char was = good[at];
                        bool is_known;

                        again = first;
                        good[at] = (char)(was ^ (1 << bit));
                        assert_int_equal(unlink(file), 0);
                        test_write(file, good);
                        good[at] = was;
                        is_known = known(t, STRATA_COMMITTED, "n", &again);
                        assert_memory_equal(&again, &first, sizeof(first));
                        assert_false(is_known);
                }
        }
        for (size_t len = strlen(good); len-- > 0;) {
                assert_int_equal(truncate(file, (off_t)len), 0);
                assert_false(known(t, STRATA_COMMITTED, "n", &again));
        }
        again = usage_of(t, STRATA_COMMITTED, "n");
        assert_memory_equal(&again, &first, sizeof(first));
        assert_true(known(t, STRATA_COMMITTED, "n", &again));
        free(good);
}

static void what_cannot_be_kept_is_told_all_the_same(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_snapshot(t, "n", "");
        struct strata_usage usage;

        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/usage", id), 0700), 0);
        usage = usage_of(t, STRATA_COMMITTED, "n");
        assert_int_equal(usage.inodes, 1);
        assert_false(known(t, STRATA_COMMITTED, "n", &usage));
}

static void without_files(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct strata_info info = test_info(t, STRATA_ACTIVE, "k");
        struct strata_usage usage = { 77, 77 };

        assert_int_equal(rmdir(test_path(t, "layers/%" PRIu64 "/fs", id)), 0);
        assert_int_equal(strata_usage_get(t->s, &info, &usage), -ENOENT);
        assert_int_equal(usage.inodes, 77);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(counts_every_inode_and_block),
                STORE_TEST(counts_hard_links_once),
                STORE_TEST(holes_take_nothing),
                STORE_TEST(a_layer_is_counted_alone),
                STORE_TEST(views_take_nothing),
                STORE_TEST(a_snapshot_is_counted_once),
                STORE_TEST(a_damaged_count_is_not_believed),
                STORE_TEST(what_cannot_be_kept_is_told_all_the_same),
                STORE_TEST(without_files),
        };

        return cmocka_run_group_tests_name("usage", tests, NULL, NULL);
}
