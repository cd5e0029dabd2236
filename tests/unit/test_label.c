/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "label.h"
#include "log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int set(struct test_store *t, uint64_t id, const char *label, const char *value)
{
        return strata_label_set(t->s, id, label, value, strlen(value));
}

static void assert_label(struct test_store *t, uint64_t id, const char *label, const char *value)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        struct timespec mtime = { 0 };
        uint64_t size = 77;

        assert_int_equal(strata_label_get(t->s, id, label, &buf), 0);
        assert_non_null(buf.data);
        assert_string_equal(buf.data, value);
        assert_int_equal(strata_label_stat(t->s, id, label, &size, &mtime), 0);
        assert_int_equal(size, strlen(value));
        assert_true(mtime.tv_sec > 1577836800);
}

static void assert_no_label(struct test_store *t, uint64_t id, const char *label)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        struct timespec mtime = { 5, 5 };
        uint64_t size = 77;

        assert_int_equal(strata_label_get(t->s, id, label, &buf), -ENOENT);
        assert_int_equal(strata_label_stat(t->s, id, label, &size, &mtime), -ENOENT);
        assert_int_equal(buf.len, 0);
        assert_int_equal(size, 77);
        assert_int_equal(mtime.tv_sec, 5);
}

static void every_kind_takes_labels(void **state)
{
        struct test_store *t = *state;
        uint64_t ids[] = { test_snapshot(t, "s", ""), test_prepare(t, STRATA_ACTIVE, "a", "s"),
                           test_prepare(t, STRATA_VIEW, "v", "s") };

        for (size_t i = 0; i < COUNT(ids); i++) {
                t->s->config.durable = i == 1;
                assert_no_label(t, ids[i], "owner");
                assert_int_equal(set(t, ids[i], "owner", "me"), 0);
                assert_label(t, ids[i], "owner", "me\n");
                assert_int_equal(set(t, ids[i], "owner", "you"), 0);
                assert_label(t, ids[i], "owner", "you\n");
                assert_no_label(t, ids[i], "other");
                assert_int_equal(test_count_dir(test_path(t, "layers/%" PRIu64 "/labels", ids[i])), 1);
        }
        test_store_crash(t);
        for (size_t i = 0; i < COUNT(ids); i++)
                assert_label(t, ids[i], "owner", "you\n");
}

static void ends_in_one_newline(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");
        static const struct {
                const char *in, *out;
        } cases[] = {
                { "v", "v\n" }, { "v\n", "v\n" },     { "", "\n" },
                { "\n", "\n" }, { "a\nb", "a\nb\n" }, { "a\n\n", "a\n\n" },
        };

        for (size_t i = 0; i < COUNT(cases); i++) {
                assert_int_equal(set(t, id, "l", cases[i].in), 0);
                assert_label(t, id, "l", cases[i].out);
        }
}

static void values_may_hold_anything(void **state)
{
        struct test_store *t = *state;
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");
        char value[257];

        for (int i = 0; i < 256; i++)
                value[i] = (char)i;
        value[256] = '\n';
        assert_int_equal(strata_label_set(t->s, id, "l", value, 256), 0);
        assert_int_equal(strata_label_get(t->s, id, "l", &buf), 0);
        assert_int_equal(buf.len, 257);
        assert_memory_equal(buf.data, value, 257);
}

static void knows_the_longest_value(void **state)
{
        struct test_store *t = *state;
        static char value[STRATA_LABEL_MAX + 2];
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");

        memset(value, 'v', sizeof(value));
        assert_int_equal(strata_label_set(t->s, id, "l", value, STRATA_LABEL_MAX), 0);
        assert_int_equal(strata_label_get(t->s, id, "l", &buf), 0);
        assert_int_equal(buf.len, STRATA_LABEL_MAX + 1);
        assert_int_equal(strata_label_set(t->s, id, "l", "short", 5), 0);
        assert_int_equal(strata_label_set(t->s, id, "l", value, STRATA_LABEL_MAX + 1), -EFBIG);
        assert_label(t, id, "l", "short\n");
        value[STRATA_LABEL_MAX] = '\n'; /* which does not count */
        assert_int_equal(strata_label_set(t->s, id, "l", value, STRATA_LABEL_MAX + 1), 0);
        value[STRATA_LABEL_MAX + 1] = '\n';
        assert_int_equal(strata_label_set(t->s, id, "l", value, STRATA_LABEL_MAX + 2), -EFBIG);
}

/* A wrong bit is found, and what is damaged can be set anew; one from before there were checksums is read. */
static void has_a_checksum(void **state)
{
        struct test_store *t = *state;
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT, log = STRATA_BUF_INIT;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");
        const char *path = test_path(t, "layers/%" PRIu64 "/labels/l", id);
        char *good, *bad;

        assert_int_equal(set(t, id, "l", "value"), 0);
        good = test_read(path);
        for (size_t bit = 0; bit < 8 * strlen(good); bit++) {
                bad = strdup(good);
                bad[bit / 8] = (char)(bad[bit / 8] ^ (1 << bit % 8));
                test_write(path, bad);
                if (bad[bit / 8])
                        assert_int_equal(strata_label_get(t->s, id, "l", &buf), -EUCLEAN);
                free(bad);
        }
        assert_int_equal(buf.len, 0);
        strata_log_show(t->s->log, &log);
        assert_non_null(strstr(log.data, "labels/l EUCLEAN"));
        free(good);
        test_write(path, "");
        assert_int_equal(strata_label_get(t->s, id, "l", &buf), -EUCLEAN);
        assert_int_equal(set(t, id, "l", "new"), 0);
        assert_label(t, id, "l", "new\n");
        test_write(path, "old\n");
        assert_label(t, id, "l", "old\n");
}

static void names_are_checked(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");
        static const char *const bad[] = { "", ".", "..", ".new.1", "a/b", "../meta", "a@b", "a\n" };
        char longest[STRATA_NAME_MAX + 2];
        char *before;

        assert_int_equal(set(t, id, "l", "v"), 0);
        before = test_state(t);
        for (size_t i = 0; i < COUNT(bad); i++) {
                assert_int_equal(set(t, id, bad[i], "v"), -EINVAL);
                assert_int_equal(strata_label_rename(t->s, id, "l", bad[i]), -EINVAL);
                assert_int_equal(strata_label_rename(t->s, id, bad[i], "m"), -ENOENT);
                assert_int_equal(strata_label_remove(t->s, id, bad[i]), -ENOENT);
                assert_no_label(t, id, bad[i]);
        }
        memset(longest, 'l', sizeof(longest));
        longest[STRATA_NAME_MAX + 1] = '\0';
        assert_int_equal(set(t, id, longest, "v"), -ENAMETOOLONG);
        assert_int_equal(strata_label_rename(t->s, id, "l", longest), -ENAMETOOLONG);
        test_assert_state(t, before);
        longest[STRATA_NAME_MAX] = '\0';
        assert_int_equal(set(t, id, longest, "v"), 0);
        assert_label(t, id, longest, "v\n");
}

static void removes(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");

        assert_int_equal(strata_label_remove(t->s, id, "l"), -ENOENT); /* no labels/ at all yet */
        assert_int_equal(set(t, id, "l", "v"), 0);
        assert_int_equal(set(t, id, "m", "w"), 0);
        assert_int_equal(strata_label_remove(t->s, id, "l"), 0);
        assert_no_label(t, id, "l");
        assert_label(t, id, "m", "w\n");
        assert_int_equal(strata_label_remove(t->s, id, "l"), -ENOENT);
}

static void renames_and_replaces(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");

        assert_int_equal(strata_label_rename(t->s, id, "l", "m"), -ENOENT);
        assert_int_equal(set(t, id, "l", "one"), 0);
        assert_int_equal(set(t, id, "m", "two"), 0);
        assert_int_equal(strata_label_rename(t->s, id, "none", "m"), -ENOENT);
        assert_label(t, id, "m", "two\n");
        assert_int_equal(strata_label_rename(t->s, id, "l", "m"), 0);
        assert_label(t, id, "m", "one\n");
        assert_no_label(t, id, "l");
        assert_int_equal(strata_label_rename(t->s, id, "m", "m"), 0);
        assert_label(t, id, "m", "one\n");
}

static void without_an_entry(void **state)
{
        struct test_store *t = *state;
        char *before = test_state(t);
        int fd = -7;

        assert_int_equal(set(t, 4000, "l", "v"), -ENOENT);
        assert_int_equal(strata_label_remove(t->s, 4000, "l"), -ENOENT);
        assert_int_equal(strata_label_rename(t->s, 4000, "l", "m"), -ENOENT);
        assert_int_equal(strata_label_open_dir(t->s, 4000, &fd), -ENOENT);
        assert_int_equal(fd, -7);
        assert_no_label(t, 4000, "l");
        test_assert_state(t, before);
}

static void the_directory_comes_with_the_first_label(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");
        int fd = -7;

        assert_int_equal(strata_label_open_dir(t->s, id, &fd), -ENOENT);
        assert_int_equal(fd, -7);
        assert_int_equal(set(t, id, "l", "v"), 0);
        assert_int_equal(strata_label_open_dir(t->s, id, &fd), 0);
        assert_int_equal(faccessat(fd, "l", F_OK, 0), 0);
        close(fd);
}

static void a_failed_change_leaves_the_old_value(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");

        assert_int_equal(set(t, id, "l", "old"), 0);
        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/labels/dir", id), 0700), 0);
        assert_int_equal(set(t, id, "dir", "v"), -EISDIR);
        assert_label(t, id, "l", "old\n");
        assert_int_equal(test_count_dir(test_path(t, "layers/%" PRIu64 "/labels", id)), 2); /* no temporary file */
}

/* Readers see one value or another whole, however many write. */
struct writer {
        struct strata *s;
        uint64_t id;
        char letter;
        atomic_bool *stop;
        atomic_uint *bad, *reads;
};

static void *write_labels(void *data)
{
        struct writer *w = data;
        static __thread char value[20000];

        memset(value, w->letter, sizeof(value));
        for (int i = 0; i < 100; i++)
                if (strata_label_set(w->s, w->id, "l", value, (size_t)(5000 + i * 100)) < 0)
                        atomic_fetch_add(w->bad, 1);
        return NULL;
}

static void *read_labels(void *data)
{
        struct writer *w = data;

        while (!atomic_load(w->stop)) {
                cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
                int r = strata_label_get(w->s, w->id, "l", &buf);

                if (r < 0 || buf.len < 5001 || buf.data[buf.len - 1] != '\n' ||
                    strspn(buf.data, (char[]){ buf.data[0], '\0' }) != buf.len - 1)
                        atomic_fetch_add(w->bad, 1);
                atomic_fetch_add(w->reads, 1);
        }
        return NULL;
}

static void changes_are_atomic(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");
        atomic_bool stop = false;
        atomic_uint bad = 0, reads = 0;
        struct writer w[6];
        pthread_t threads[COUNT(w)];
        char *first = malloc(5001);

        assert_non_null(first);
        memset(first, 'z', 5001);
        assert_int_equal(strata_label_set(t->s, id, "l", first, 5001), 0);
        free(first);
        for (size_t i = 0; i < COUNT(w); i++) {
                w[i] = (struct writer){ t->s, id, (char)('a' + i), &stop, &bad, &reads };
                assert_int_equal(pthread_create(&threads[i], NULL, i < 4 ? write_labels : read_labels, &w[i]), 0);
        }
        for (size_t i = 0; i < COUNT(w); i++) {
                if (i == 4)
                        atomic_store(&stop, true);
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        }
        assert_int_equal(bad, 0);
        assert_true(reads > 0);
        assert_int_equal(test_count_dir(test_path(t, "layers/%" PRIu64 "/labels", id)), 1);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(every_kind_takes_labels),
                STORE_TEST(ends_in_one_newline),
                STORE_TEST(values_may_hold_anything),
                STORE_TEST(knows_the_longest_value),
                STORE_TEST(has_a_checksum),
                STORE_TEST(names_are_checked),
                STORE_TEST(removes),
                STORE_TEST(renames_and_replaces),
                STORE_TEST(without_an_entry),
                STORE_TEST(the_directory_comes_with_the_first_label),
                STORE_TEST(a_failed_change_leaves_the_old_value),
                STORE_TEST(changes_are_atomic),
        };

        return cmocka_run_group_tests_name("label", tests, NULL, NULL);
}
