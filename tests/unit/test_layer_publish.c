/* SPDX-License-Identifier: Apache-2.0 */
/* An imported layer and its labels are one step: what a start makes of one that was cut off, at each of its places. */
#include "testlib.h"

#include "check.h"
#include "label.h"
#include "layer_import.h"
#include "layer_publish.h"
#include "recover.h"
#include "strata.h"
#include "util/cleanup.h"
#include "util/sumfile.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIFFID "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define DIGEST "sha256:2222222222222222222222222222222222222222222222222222222222222222"

/* An active snapshot with an fs.new that holds a file. */
static uint64_t begin(struct test_store *t)
{
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");

        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/fs.new", id), 0755), 0);
        test_write(test_path(t, "layers/%" PRIu64 "/fs.new/file", id), "new");
        return id;
}

static void write_record(struct test_store *t, uint64_t id, const char *dir)
{
        char name[32], text[STRATA_SUMFILE_MAX];
        struct stat st;
        int n;

        assert_int_equal(stat(test_path(t, "layers/%" PRIu64 "/%s", id, dir), &st), 0);
        snprintf(name, sizeof(name), "import.%" PRIu64, id);
        n = snprintf(text, sizeof(text), "%" PRIuMAX " " DIFFID " " DIGEST "\n", (uintmax_t)st.st_ino);
        assert_int_equal(strata_sumfile_write(t->s->root_fd, name, t->s->run, text, (size_t)n, false), 0);
}

static void exchange(struct test_store *t, uint64_t id)
{
        assert_int_equal(renameat2(AT_FDCWD, test_path(t, "layers/%" PRIu64 "/fs.new", id), AT_FDCWD,
                                   test_path(t, "layers/%" PRIu64 "/fs", id), RENAME_EXCHANGE),
                         0);
}

static void assert_label(struct test_store *t, uint64_t id, const char *label, const char *value)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        int r = strata_label_get(t->s, id, label, &buf);

        assert_int_equal(r, value ? 0 : -ENOENT);
        if (value)
                assert_string_equal(buf.data, value);
}

static void assert_whole(struct test_store *t, uint64_t id)
{
        test_assert_text(test_path(t, "layers/%" PRIu64 "/fs/file", id), "new");
        assert_label(t, id, STRATA_IMPORT_LABEL_DIFFID, DIFFID "\n");
        assert_label(t, id, STRATA_IMPORT_LABEL_DIGEST, DIGEST "\n");
        assert_false(test_exists(t, "layers/%" PRIu64 "/fs.new", id));
        assert_false(test_exists(t, "import.%" PRIu64, id));
}

static void assert_untouched(struct test_store *t, uint64_t id)
{
        assert_int_equal(test_count_dir(test_path(t, "layers/%" PRIu64 "/fs", id)), 0);
        assert_label(t, id, STRATA_IMPORT_LABEL_DIFFID, NULL);
        assert_label(t, id, STRATA_IMPORT_LABEL_DIGEST, NULL);
        assert_false(test_exists(t, "layers/%" PRIu64 "/fs.new", id));
        assert_false(test_exists(t, "import.%" PRIu64, id));
}

static int publish(struct test_store *t, uint64_t id)
{
        cleanup_fd int layer_fd = -1;
        const char *why;

        assert_int_equal(strata_open_layer(t->s, id, &layer_fd), 0);
        return strata_publish_layer(t->s, id, layer_fd, DIFFID, DIGEST, &why);
}

/* The time of the link, which is the entry's. */
static time_t entry_time(struct test_store *t)
{
        struct stat st;

        assert_int_equal(lstat(test_path(t, "active/k"), &st), 0);
        return st.st_mtim.tv_sec;
}

static void set_old(struct test_store *t)
{
        const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };

        assert_int_equal(utimensat(AT_FDCWD, test_path(t, "active/k"), times, AT_SYMLINK_NOFOLLOW), 0);
}

static void is_one_step(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);

        set_old(t);
        assert_int_equal(publish(t, id), 0);
        assert_whole(t, id);
        assert_int_not_equal(entry_time(t), 1); /* its labels are others */
        assert_int_not_equal(test_info(t, STRATA_ACTIVE, "k").updated.tv_sec, 1);
}

/* The labels of before come back, and what somebody wrote meanwhile stays. */
static void goes_back_as_a_whole(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);

        assert_int_equal(strata_label_set(t->s, id, STRATA_IMPORT_LABEL_DIGEST, "mine", 4), 0);
        set_old(t);
        test_write(test_path(t, "layers/%" PRIu64 "/fs/other", id), "written meanwhile");
        assert_int_equal(publish(t, id), -ENOTEMPTY);
        test_assert_text(test_path(t, "layers/%" PRIu64 "/fs/other", id), "written meanwhile");
        test_assert_text(test_path(t, "layers/%" PRIu64 "/fs.new/file", id), "new");
        assert_label(t, id, STRATA_IMPORT_LABEL_DIGEST, "mine\n");
        assert_label(t, id, STRATA_IMPORT_LABEL_DIFFID, NULL);
        assert_int_equal(entry_time(t), 1);
        assert_false(test_exists(t, "import.%" PRIu64, id));
}

static void a_kill_before_the_exchange(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);

        write_record(t, id, "fs.new");
        test_store_crash(t);
        assert_untouched(t, id);
}

/* Complete before anybody can look: no sweep is waited for. */
static void a_kill_after_the_exchange(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);

        write_record(t, id, "fs.new");
        exchange(t, id);
        set_old(t);
        test_store_crash(t);
        assert_whole(t, id);
        assert_int_not_equal(entry_time(t), 1);
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        assert_false(t->s->unclean);
}

static void a_kill_between_the_labels(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);

        write_record(t, id, "fs.new");
        exchange(t, id);
        assert_int_equal(strata_label_set(t->s, id, STRATA_IMPORT_LABEL_DIFFID, DIFFID, strlen(DIFFID)), 0);
        assert_int_equal(rmdir(test_path(t, "layers/%" PRIu64 "/fs.new", id)), 0);
        test_store_crash(t);
        assert_whole(t, id);
}

/* Damaged ones, of layers that are gone, cut off themselves: all go, and nothing else is changed. Other names stay. */
static void records_that_say_nothing(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);
        struct strata_check c = { .mode = STRATA_CHECK_LOOK };

        test_write(test_path(t, "import.%" PRIu64, id), "half of a reco");
        test_write(test_path(t, "import.%" PRIu64 ".new.7", id), "");
        test_write(test_path(t, "import.99"), "");
        test_write(test_path(t, "import.07"), "foreign");
        test_store_crash(t);
        assert_false(test_exists(t, "import.%" PRIu64, id));
        assert_false(test_exists(t, "import.%" PRIu64 ".new.7", id));
        assert_false(test_exists(t, "import.99"));
        assert_true(test_exists(t, "import.07"));
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        assert_untouched(t, id);
        assert_int_equal(strata_check_run(t->s, &c), 0);
        assert_int_equal(c.found, 1); /* the foreign one */
}

/* `--check --repair` does it as well. */
static void an_examination_completes_it(void **state)
{
        struct test_store *t = *state;
        uint64_t id = begin(t);
        struct strata_check look = { .mode = STRATA_CHECK_LOOK }, repair = { .mode = STRATA_CHECK_REPAIR };

        write_record(t, id, "fs.new");
        exchange(t, id);
        assert_int_equal(strata_check_run(t->s, &look), 0);
        assert_true(look.found > 0 && look.repaired == 0);
        assert_int_equal(strata_check_run(t->s, &repair), 0);
        assert_int_equal(repair.found, repair.repaired);
        assert_whole(t, id);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(is_one_step),
                STORE_TEST(goes_back_as_a_whole),
                STORE_TEST(a_kill_before_the_exchange),
                STORE_TEST(a_kill_after_the_exchange),
                STORE_TEST(a_kill_between_the_labels),
                STORE_TEST(records_that_say_nothing),
                STORE_TEST(an_examination_completes_it),
        };

        return cmocka_run_group_tests_name("layer_publish", tests, NULL, NULL);
}
