/* SPDX-License-Identifier: Apache-2.0 */
#include "checklib.h"

#include "entry.h"
#include "log.h"
#include "record.h"
#include "store.h"
#include "util/buf.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void rewrite(struct test_store *t, uint64_t id, uint64_t parent, unsigned depth)
{
        struct strata_record rec;

        assert_int_equal(strata_record_load(t->s, id, &rec), 0);
        rec.parent = parent;
        rec.depth = depth;
        assert_int_equal(strata_record_stage(t->s, &rec, false), 0);
        assert_int_equal(strata_record_publish(t->s, id), 0);
}

static void a_store_in_order_is_clean(void **state)
{
        struct test_store *t = *state;
        struct strata_check c;
        struct told told;
        char *before;

        test_snapshot(t, "base", "");
        test_snapshot(t, "top", "base");
        test_prepare(t, STRATA_ACTIVE, "work", "top");
        test_prepare(t, STRATA_VIEW, "look", "top");
        test_prepare(t, STRATA_VIEW, "nothing", "");
        before = test_state(t);
        for (int mode = 0; mode <= STRATA_CHECK_REPAIR; mode++) {
                c = check_store(t, mode, &told);
                assert_string_equal(told.text, "");
                assert_int_equal(c.found, 0);
                assert_int_equal(c.layers, 5);
        }
        test_assert_state(t, before);
}

static void cycles_and_depths(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", "");
        uint64_t top = test_snapshot(t, "top", "base");
        struct strata_check c;
        struct told told;

        rewrite(t, base, top, 1);
        c = check_store(t, STRATA_CHECK_REPAIR, &told);
        assert_non_null(strstr(told.text, "the chain is a cycle"));
        assert_true(c.repaired < c.found);
        rewrite(t, base, 0, 1);
        rewrite(t, top, base, 7);
        c = check_store(t, STRATA_CHECK_REPAIR, &told);
        assert_non_null(strstr(told.text, "its depth is not one more"));
        assert_int_equal(c.found, 1);
        assert_int_equal(c.repaired, 0);
        rewrite(t, top, base, 2);
        rewrite(t, base, 0, 2);
        check_store(t, STRATA_CHECK_REPAIR, &told);
        assert_non_null(strstr(told.text, "it has no parent, yet its depth is 2"));
}

/* A sweep keeps what it can't explain where it is; a repair moves it away with a note. */
static void what_is_nobodys_is_never_deleted(void **state)
{
        struct test_store *t = *state;
        static const char *const places[] = { "strange", "empty/strange", "layers/strange", "active/strange",
                                              "layers/1/strange" };
        struct strata_check c;
        struct told told;

        assert_int_equal(test_snapshot(t, "base", ""), 1);
        for (size_t i = 0; i < COUNT(places); i++)
                test_write(test_path(t, "%s", places[i]), places[i]);
        for (int mode = STRATA_CHECK_LOOK; mode <= STRATA_CHECK_SWEEP; mode++) {
                c = check_store(t, mode, &told);
                assert_int_equal(c.found, COUNT(places));
                assert_int_equal(c.repaired, 0);
                for (size_t i = 0; i < COUNT(places); i++)
                        assert_true(test_exists(t, "%s", places[i]));
        }
        c = check_store(t, STRATA_CHECK_REPAIR, &told);
        assert_int_equal(c.repaired, COUNT(places));
        assert_int_equal(test_count_dir(test_path(t, "lost+found")), 2 * COUNT(places));
        for (size_t i = 1; i <= COUNT(places); i++) {
                char *text = test_read(test_path(t, "lost+found/%zu", i));
                char *why = test_read(test_path(t, "lost+found/%zu.note", i));

                assert_non_null(text);
                assert_non_null(why);
                assert_int_equal(strncmp(why, "from: ", 6), 0);
                assert_int_equal(strncmp(why + 6, text, strlen(text)), 0);
                free(text);
                free(why);
        }
        assert_int_equal(check_store(t, STRATA_CHECK_LOOK, &told).found, 0);
}

/* A note says where its file was, and can be shown on a terminal. */
static void a_note_is_plain_text(void **state)
{
        struct test_store *t = *state;
        struct told told;
        static const char want[] = "from: layers/a\\n\\033b\nwhy: ";
        char *why;

        test_write(test_path(t, "layers/a\n\033b"), "");
        assert_int_equal(check_store(t, STRATA_CHECK_REPAIR, &told).repaired, 1);
        why = test_read(test_path(t, "lost+found/1.note"));
        assert_non_null(why);
        assert_int_equal(strncmp(why, want, strlen(want)), 0);
        free(why);
}

/* A record that is moved away is named as everything else in the store. */
static void a_note_names_the_record(void **state)
{
        struct test_store *t = *state;
        static const char want[] = "from: layers/1/meta\n";
        struct told told;
        char *why;

        assert_int_equal(test_snapshot(t, "base", ""), 1);
        test_write(test_path(t, "layers/1/meta"), "damaged\n");
        assert_int_equal(check_store(t, STRATA_CHECK_REPAIR, &told).repaired, 1);
        why = test_read(test_path(t, "lost+found/1.note"));
        assert_non_null(why);
        assert_int_equal(strncmp(why, want, strlen(want)), 0);
        free(why);
}

/* `next` has to be above all IDs that are there. */
static void a_number_that_was_used(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_snapshot(t, "base", ""), next = 0;
        struct strata_check c;
        struct told told;

        for (uint64_t wrong = id - 1; wrong <= id; wrong++) {
                assert_int_equal(strata_store_write_next(t->s, wrong), 0);
                c = check_store(t, STRATA_CHECK_LOOK, &told);
                assert_int_equal(c.found, 1);
                assert_non_null(strstr(told.text, "next: it does not hold a number above all"));
        }
        assert_int_equal(check_store(t, STRATA_CHECK_REPAIR, &told).repaired, 1);
        assert_int_equal(strata_store_read_next(t->s, &next), 0);
        assert_true(next > id);
        assert_int_equal(check_store(t, STRATA_CHECK_LOOK, &told).found, 0);
}

/* A folder can't be read: what it may hold a link to stays, and is looked at by the next start. */
static void what_cannot_be_told_is_left(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        int views = t->s->kind_fd[STRATA_VIEW];

        assert_int_equal(unlink(test_path(t, "active/k")), 0);
        for (int damaged = 0; damaged < 2; damaged++) {
                struct told told = { .text = "" };
                struct strata_check c = { .mode = STRATA_CHECK_REPAIR, .report = check_note, .data = &told };

                if (damaged)
                        test_write(test_path(t, "layers/%" PRIu64 "/meta", id), "damaged\n");
                atomic_store(&t->s->rubbish, false);
                t->s->kind_fd[STRATA_VIEW] = open(test_path(t, "format"), O_RDONLY | O_CLOEXEC);
                assert_int_equal(strata_check_run(t->s, &c), -ENOTDIR);
                close(t->s->kind_fd[STRATA_VIEW]);
                t->s->kind_fd[STRATA_VIEW] = views;
                assert_string_equal(told.text, "layers/1: it can't be examined: Not a directory\n");
                assert_true(test_exists(t, "layers/%" PRIu64 "/fs", id));
                assert_true(t->s->rubbish);
        }
}

/*
 * Each bit of a link, one after the other: a sweep finds and mends it, and the snapshot is as before. One that holds
 * the ID twice leads to its layer before that too, unlike those of earlier versions.
 */
static void a_link_with_a_wrong_bit(void **state)
{
        struct test_store *t = *state;
        static const char *const forms[] = { "../layers/12", "../layers/12/../12" };
        struct told told;

        for (int i = 1; i < 12; i++)
                test_prepare(t, STRATA_ACTIVE, (char[]){ (char)('a' + i), 0 }, "");
        assert_int_equal(test_snapshot(t, "top", ""), 12);
        for (size_t bit = 0; bit < 8 * (strlen(forms[0]) + strlen(forms[1])); bit++) {
                bool twice = bit >= 8 * strlen(forms[0]);
                size_t at = twice ? bit - 8 * strlen(forms[0]) : bit;
                char target[64];
                uint64_t id;

                strcpy(target, forms[twice]);
                target[at / 8] = (char)(target[at / 8] ^ (1 << at % 8));
                if (!target[at / 8])
                        continue;
                assert_int_equal(unlink(test_path(t, "snapshots/top")), 0);
                assert_int_equal(symlink(target, test_path(t, "snapshots/top")), 0);
                if (twice) {
                        assert_int_equal(strata_entry_find(t->s, STRATA_COMMITTED, "top", &id), 0);
                        assert_int_equal(id, 12);
                        assert_true(t->s->rubbish);
                }
                check_store(t, STRATA_CHECK_SWEEP, &told);
                assert_non_null(strstr(told.text, "snapshots/top"));
                assert_non_null(strstr(told.text, "(mended)"));
                assert_int_equal(strata_entry_find(t->s, STRATA_COMMITTED, "top", &id), 0);
                assert_int_equal(id, 12);
                assert_int_equal(check_store(t, STRATA_CHECK_LOOK, &told).found, 0);
        }
}

/* Turns a bit of the record of layer ID, in its first copy, or in both. */
static void flip_record(struct test_store *t, uint64_t id, const char *good, size_t bit, bool both)
{
        int fd = open(test_path(t, "layers/%" PRIu64 "/meta", id), O_WRONLY | O_CLOEXEC);
        char bad = (char)(good[bit / 8] ^ (1 << bit % 8));

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, &bad, 1, (off_t)(bit / 8)), 1);
        if (both)
                assert_int_equal(pwrite(fd, &bad, 1, (off_t)(bit / 8 + strlen(good) / 2)), 1);
        close(fd);
}

/*
 * Each bit of a record. In one copy: found, and mended by a sweep. In both: told of by its layer, mended by a repair,
 * and no other entry suffers.
 */
static void a_record_with_a_wrong_bit(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", "");
        uint64_t top = test_snapshot(t, "top", "base");
        char *good = test_read(test_path(t, "layers/%" PRIu64 "/meta", top));
        struct told told;

        for (size_t bit = 0; bit < 4 * strlen(good); bit += 3) {
                struct strata_info info;
                char *text;

                flip_record(t, top, good, bit, false);
                check_store(t, STRATA_CHECK_SWEEP, &told);
                assert_string_equal(told.text,
                                    "layers/2/meta: one of the two copies in this record is damaged (mended)\n");
                text = test_read(test_path(t, "layers/%" PRIu64 "/meta", top));
                assert_string_equal(text, good);
                free(text);
                flip_record(t, top, good, bit, true);
                check_store(t, STRATA_CHECK_SWEEP, &told);
                assert_non_null(strstr(told.text, "the record of layer 2 is damaged"));
                assert_int_equal(strata_entry_get(t->s, STRATA_COMMITTED, "base", &info), 0);
                check_store(t, STRATA_CHECK_REPAIR, &told);
                assert_int_equal(strata_entry_get(t->s, STRATA_COMMITTED, "top", &info), 0);
                assert_int_equal(info.parent, base);
                assert_int_equal(info.depth, 2);
                assert_int_equal(check_store(t, STRATA_CHECK_LOOK, &told).found, 0);
                test_write(test_path(t, "layers/%" PRIu64 "/meta", top), good);
        }
        free(good);
}

/* Who uses it is told by the log what is damaged, and what can be done. */
static void a_damaged_record_in_use(void **state)
{
        struct test_store *t = *state;
        cleanup_buf struct strata_buf log = STRATA_BUF_INIT;
        uint64_t id = test_snapshot(t, "base", "");
        struct strata_info info;

        test_store_reopen(t);
        test_write(test_path(t, "layers/%" PRIu64 "/meta", id), "damaged\n");
        assert_int_equal(strata_entry_get(t->s, STRATA_COMMITTED, "base", &info), -EUCLEAN);
        strata_log_show(t->s->log, &log);
        assert_non_null(strstr(log.data, "layers/1/meta EUCLEAN this record is damaged; its entry can be removed"));
}

/* Whose child it is can't be told where two say that it is theirs. */
static void a_record_that_two_parents_claim(void **state)
{
        struct test_store *t = *state;
        uint64_t one = test_snapshot(t, "one", ""), two = test_snapshot(t, "two", "");
        uint64_t top = test_snapshot(t, "top", "one");
        struct strata_info info;
        struct told told;

        test_write(test_path(t, "layers/%" PRIu64 "/meta", top), "damaged\n");
        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/children", two), 0700), 0);
        test_write(test_path(t, "layers/%" PRIu64 "/children/%" PRIu64, two, top), "");
        check_store(t, STRATA_CHECK_REPAIR, &told);
        assert_non_null(strstr(told.text, "the record of layer 3 is damaged"));
        assert_null(strstr(told.text, "(mended)"));
        assert_int_equal(unlink(test_path(t, "layers/%" PRIu64 "/children/%" PRIu64, two, top)), 0);
        check_store(t, STRATA_CHECK_REPAIR, &told);
        assert_int_equal(strata_entry_get(t->s, STRATA_COMMITTED, "top", &info), 0);
        assert_int_equal(info.parent, one);
}

/* Each bit of `format`: the store opens all the same, and the file is written anew. */
static void a_format_with_a_wrong_bit(void **state)
{
        struct test_store *t = *state;
        char *good = test_read(test_path(t, "format"));

        for (size_t bit = 0; bit < 8 * strlen(good); bit++) {
                char *bad = strdup(good), *text, *why = NULL;

                bad[bit / 8] = (char)(bad[bit / 8] ^ (1 << bit % 8));
                if (bad[bit / 8]) {
                        strata_close_store(t->s);
                        t->s = NULL;
                        test_write(test_path(t, "format"), bad);
                        assert_int_equal(strata_open(t->path, &t->config, &t->s, &why), 0);
                        text = test_read(test_path(t, "format"));
                        assert_string_equal(text, good);
                        free(text);
                }
                free(bad);
        }
        free(good);
}

/* Processes were still in the mount at the end, as an ordinary one is; or a kill came before the end of a commit. */
static void the_mark_of_a_mount_on_a_snapshot(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", ""), work = test_prepare(t, STRATA_ACTIVE, "work", "");
        struct told told;

        test_write(test_path(t, "layers/%" PRIu64 "/mounted", work), "x synced\n");
        for (int mode = STRATA_CHECK_SWEEP; mode <= STRATA_CHECK_REPAIR; mode++) {
                test_write(test_path(t, "layers/%" PRIu64 "/mounted", base), "x synced\n");
                assert_int_equal(check_store(t, STRATA_CHECK_LOOK, &told).found, 0);
                assert_int_equal(check_store(t, mode, &told).found, 0);
                assert_false(test_exists(t, "layers/%" PRIu64 "/mounted", base));
                assert_true(test_exists(t, "layers/%" PRIu64 "/mounted", work));
        }
}

/* A power cut kept both links of a commit and lost the rename of the record: one sweep puts all of it in order. */
static void both_links_of_a_commit(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "work", "");
        struct strata_record rec;
        struct told told;
        char target[64];

        assert_int_equal(strata_record_load(t->s, id, &rec), 0);
        rec.was = rec.now;
        rec.now = (struct strata_place){ .kind = STRATA_COMMITTED, .name = "done" };
        assert_int_equal(strata_record_stage(t->s, &rec, false), 0);
        snprintf(target, sizeof(target), "../layers/%" PRIu64, id);
        assert_int_equal(symlink(target, test_path(t, "snapshots/done")), 0);
        test_write(test_path(t, "layers/%" PRIu64 "/mounted", id), "x synced\n");
        check_store(t, STRATA_CHECK_SWEEP, &told);
        assert_false(test_exists(t, "active/work"));
        assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", id));
        assert_false(test_exists(t, "layers/%" PRIu64 "/mounted", id));
        assert_int_equal(test_info(t, STRATA_COMMITTED, "done").id, id);
        assert_int_equal(check_store(t, STRATA_CHECK_LOOK, &told).found, 0);
}

/* A power cut kept the links of active snapshots and lost their records, which nobody had synced. */
static void records_that_never_reached_the_disk(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", ""), work, look;
        struct told told;

        work = test_prepare(t, STRATA_ACTIVE, "work", "base");
        look = test_prepare(t, STRATA_VIEW, "look", "base");
        test_store_crash(t);
        test_write(test_path(t, "layers/%" PRIu64 "/meta", work), "");
        assert_int_equal(unlink(test_path(t, "layers/%" PRIu64 "/meta", look)), 0);
        check_store(t, STRATA_CHECK_SWEEP, &told);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "work").parent, base);
        assert_int_equal(test_info(t, STRATA_VIEW, "look").parent, base);
        assert_int_equal(check_store(t, STRATA_CHECK_LOOK, &told).found, 0);
        /* A snapshot was synced whole: there it is damage. */
        test_write(test_path(t, "layers/%" PRIu64 "/meta", base), "");
        check_store(t, STRATA_CHECK_SWEEP, &told);
        assert_non_null(strstr(told.text, "the record of layer 1 is damaged"));
        assert_null(strstr(told.text, "(mended)"));
}

/* No crash loses the link of a layer that others stand on: it is no rubbish. */
static void what_others_stand_on_is_never_deleted(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", "");
        char link[PATH_MAX];
        struct strata_check c;
        struct told told;
        char *before;

        test_snapshot(t, "top", "base");
        test_write(test_path(t, "layers/%" PRIu64 "/fs/file", base), "kept");
        strcpy(link, test_path(t, "snapshots/base"));
        assert_int_equal(unlink(link), 0);
        c = check_store(t, STRATA_CHECK_SWEEP, &told);
        assert_non_null(strstr(told.text, "its link snapshots/base is lost (mended)"));
        assert_int_equal(c.found, c.repaired);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "base").id, base);
        assert_int_equal(check_store(t, STRATA_CHECK_LOOK, &told).found, 0);

        /* its place is taken */
        test_snapshot(t, "other", "");
        assert_int_equal(unlink(link), 0);
        test_rename_by_hand(t, STRATA_COMMITTED, test_info(t, STRATA_COMMITTED, "other").id, "other", "base");
        before = test_state(t);
        c = check_store(t, STRATA_CHECK_REPAIR, &told);
        assert_non_null(strstr(told.text, "something else is called snapshots/base"));
        assert_int_equal(c.repaired, 0);
        test_assert_state(t, before);

        /* its record is lost as well */
        assert_int_equal(unlink(test_path(t, "layers/%" PRIu64 "/meta", base)), 0);
        for (int mode = STRATA_CHECK_LOOK; mode <= STRATA_CHECK_REPAIR; mode++) {
                check_store(t, mode, &told);
                assert_non_null(strstr(told.text, "its record and its link are lost, but other layers stand on it"));
                test_assert_text(test_path(t, "layers/%" PRIu64 "/fs/file", base), "kept");
        }
}

static void files_without_a_record_are_kept(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_snapshot(t, "lost", "");
        struct told told;

        test_write(test_path(t, "layers/%" PRIu64 "/fs/file", id), "kept");
        assert_int_equal(unlink(test_path(t, "layers/%" PRIu64 "/meta", id)), 0);
        assert_int_equal(unlink(test_path(t, "snapshots/lost")), 0);
        check_store(t, STRATA_CHECK_SWEEP, &told);
        test_assert_text(test_path(t, "layers/%" PRIu64 "/fs/file", id), "kept");
        check_store(t, STRATA_CHECK_REPAIR, &told);
        assert_non_null(strstr(told.text, "but it holds files"));
        test_assert_text(test_path(t, "lost+found/1/fs/file"), "kept");
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(a_store_in_order_is_clean),
                STORE_TEST(cycles_and_depths),
                STORE_TEST(what_is_nobodys_is_never_deleted),
                STORE_TEST(a_note_is_plain_text),
                STORE_TEST(a_note_names_the_record),
                STORE_TEST(a_number_that_was_used),
                STORE_TEST(what_cannot_be_told_is_left),
                STORE_TEST(a_link_with_a_wrong_bit),
                STORE_TEST(a_record_with_a_wrong_bit),
                STORE_TEST(a_damaged_record_in_use),
                STORE_TEST(a_record_that_two_parents_claim),
                STORE_TEST(a_format_with_a_wrong_bit),
                STORE_TEST(both_links_of_a_commit),
                STORE_TEST(records_that_never_reached_the_disk),
                STORE_TEST(what_others_stand_on_is_never_deleted),
                STORE_TEST(files_without_a_record_are_kept),
                STORE_TEST(the_mark_of_a_mount_on_a_snapshot),
        };

        return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
