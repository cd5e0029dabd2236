/* SPDX-License-Identifier: Apache-2.0 */
/* check_unlinked.c and entry.c: links that are damaged or lost, and what they led to. */
#include "checklib.h"

#include "entry.h"
#include "link.h"
#include "log.h"
#include "recover.h"
#include "remove.h"
#include "rename.h"
#include "trash.h"
#include "util/buf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void relink(struct test_store *t, const char *link, const char *target)
{
        assert_int_equal(unlink(test_path(t, "%s", link)), 0);
        assert_int_equal(symlink(target, test_path(t, "%s", link)), 0);
}

static bool log_holds(struct test_store *t, const char *word)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

        strata_log_show(t->s->log, &buf);
        return buf.data && strstr(buf.data, word);
}

/* Layers 1 and 3: 1 was called `latest` until it was renamed, 3 is now. */
static void two_that_were_called_so(struct test_store *t)
{
        const char *why;

        assert_int_equal(test_snapshot(t, "latest", ""), 1);
        assert_int_equal(test_snapshot(t, "second", ""), 2);
        assert_int_equal(strata_rename(t->s, STRATA_COMMITTED, "latest", "old", &why), 0);
        assert_int_equal(test_snapshot(t, "latest", ""), 3);
        test_write(test_path(t, "layers/3/fs/file"), "precious");
}

/* A wrong bit makes a number that of a layer which was called so once: that one has its own link now. */
static void a_former_name_is_no_claim(void **state)
{
        struct test_store *t = *state;
        static const char *const bad[] = { "../layers/1/../3", "../layers/3/../1", "../layers/1" };
        struct told told;

        two_that_were_called_so(t);
        for (size_t i = 0; i < COUNT(bad); i++) {
                uint64_t id = 0;

                relink(t, "snapshots/latest", bad[i]);
                if (i < 2) {
                        assert_int_equal(strata_entry_find(t->s, STRATA_COMMITTED, "latest", &id), 0);
                        assert_int_equal(id, 3);
                        assert_true(log_holds(t, "check snapshots/latest EUCLEAN a bit of this link is wrong"));
                }
                test_store_crash(t);
                assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
                assert_true(log_holds(t, "(mended)"));
                assert_true(log_holds(t, "snapshots/latest"));
                assert_int_equal(test_info(t, STRATA_COMMITTED, "latest").id, 3);
                assert_int_equal(test_info(t, STRATA_COMMITTED, "old").id, 1);
                test_assert_text(test_path(t, "layers/3/fs/file"), "precious");
                assert_int_equal(check_store(t, STRATA_CHECK_REPAIR, &told).found, 0);
        }
}

/* The same between a commit and the next one of that key. */
static void a_former_key_is_no_claim(void **state)
{
        struct test_store *t = *state;
        uint64_t id = 0;

        assert_int_equal(test_prepare(t, STRATA_ACTIVE, "web", ""), 1);
        test_commit(t, "web", "web1");
        test_prepare(t, STRATA_ACTIVE, "x", "");
        assert_int_equal(test_prepare(t, STRATA_ACTIVE, "web", ""), 3);
        relink(t, "active/web", "../layers/1/../3");
        assert_int_equal(strata_entry_find(t->s, STRATA_ACTIVE, "web", &id), 0);
        assert_int_equal(id, 3);
        test_store_crash(t);
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "web").id, 3);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "web1").id, 1);
}

/* Two records say that they are there: nobody knows, so nobody is shown for the other. */
static void two_claims_are_none(void **state)
{
        struct test_store *t = *state;
        uint64_t id = 7;

        test_snapshot(t, "a", "");
        test_snapshot(t, "b", "");
        assert_int_equal(unlink(test_path(t, "snapshots/b")), 0);
        test_rename_by_hand(t, STRATA_COMMITTED, 1, "a", "b");
        relink(t, "snapshots/b", "../layers/1/../2");
        assert_int_equal(strata_entry_find(t->s, STRATA_COMMITTED, "b", &id), -ENOENT);
        assert_int_equal(id, 7);
        assert_true(log_holds(t, "more than one layer"));
}

/* The new link of a commit, which a power cut kept without the rest of the step, is not called the old one. */
static void the_link_of_a_step_that_came_counts(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "old", "");
        struct strata_info info = test_info(t, STRATA_ACTIVE, "old");
        struct strata_record rec;
        struct strata_check c = { .report = check_note };
        struct strata *s;

        assert_int_equal(strata_link_record(t->s, &info, STRATA_COMMITTED, "new", &rec), 0);
        assert_int_equal(strata_record_stage(t->s, &rec, true), 0);
        assert_int_equal(link(test_path(t, "active/old"), test_path(t, "snapshots/new")), 0);
        test_store_close(t);
        for (int round = 0; round < 3; round++) {
                struct told told = { "" };
                bool live;
                char *why;

                c.mode = round == 1 ? STRATA_CHECK_REPAIR : STRATA_CHECK_LOOK;
                c.data = &told;
                c.found = 0;
                assert_int_equal(strata_open_check(t->path, round == 1, &s, &live, &why), 0);
                assert_int_equal(strata_check_run(s, &c), 0);
                strata_close_check(s);
                assert_int_equal(c.found, round < 2 ? 2 : 0);
                assert_true(round == 2 || strstr(told.text, "meta.new: the record of a step"));
                assert_true(round == 2 || strstr(told.text, "active/old: an old name of what is snapshots/new now"));
        }
        test_store_open(t);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "new").id, id);
}

/* As after a crash of the store's own file system: a repair makes the folder, and the records have all the names. */
static void a_lost_folder_is_filled_again(void **state)
{
        struct test_store *t = *state;
        struct told told;

        test_snapshot(t, "base", "");
        test_snapshot(t, "alone", "");
        test_write(test_path(t, "layers/2/fs/file"), "kept");
        test_snapshot(t, "child", "base");
        test_prepare(t, STRATA_ACTIVE, "work", "child");
        test_prepare(t, STRATA_VIEW, "look", "base");
        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                const char *folder = strata_kind_folder(kind);
                struct strata_check c = { .mode = STRATA_CHECK_REPAIR, .report = check_note, .data = &told };
                struct strata *s;
                bool live;
                char *why;

                test_store_close(t);
                test_remove_tree(test_path(t, "%s", folder));
                told.text[0] = '\0';
                assert_int_equal(strata_open_check(t->path, true, &s, &live, &why), 0);
                assert_int_equal(strata_check_run(s, &c), 0);
                assert_int_equal(strata_trash_empty(s), 0);
                strata_close_check(s);
                assert_int_equal(c.found, c.repaired);
                test_store_open(t);
                assert_int_equal(test_info(t, STRATA_COMMITTED, "base").id, 1);
                assert_int_equal(test_info(t, STRATA_COMMITTED, "alone").id, 2);
                assert_int_equal(test_info(t, STRATA_COMMITTED, "child").id, 3);
                assert_int_equal(test_info(t, STRATA_ACTIVE, "work").id, 4);
                assert_int_equal(test_info(t, STRATA_VIEW, "look").id, 5);
                test_assert_text(test_path(t, "layers/2/fs/file"), "kept");
                assert_int_equal(check_store(t, STRATA_CHECK_LOOK, &told).found, 0);
        }
}

/* Without layers/ the links are all that is left of their names: however often it is repaired, and started. */
static void links_outlive_lost_layers(void **state)
{
        struct test_store *t = *state;
        struct strata_check c;
        struct told told;
        char *why = NULL;

        test_snapshot(t, "base", "");
        test_prepare(t, STRATA_ACTIVE, "work", "base");
        test_prepare(t, STRATA_VIEW, "look", "base");
        test_store_close(t);
        assert_int_equal(rename(test_path(t, "layers"), test_path(t, "../found")), 0);
        for (int i = 0; i < 2; i++) {
                c = check_at_rest(t, STRATA_CHECK_REPAIR, &told);
                assert_non_null(strstr(told.text, "layers: this folder of the store is missing"));
                assert_true(c.found > c.repaired);
                assert_false(test_exists(t, "layers"));
                assert_int_equal(strata_open(t->path, &t->config, &t->s, &why), -EUCLEAN);
                assert_non_null(strstr(why, "has no layers/"));
                assert_non_null(strstr(why, "put it back"));
                free(why);
        }
        /* A new one, as somebody may make it, or as it is where a disk is not mounted. */
        assert_int_equal(mkdir(test_path(t, "layers"), 0700), 0);
        assert_int_equal(unlink(test_path(t, "active/work")), 0);
        assert_int_equal(symlink("../layers/2/../3", test_path(t, "active/work")), 0);
        for (int i = 0; i < 2; i++) {
                c = check_at_rest(t, STRATA_CHECK_REPAIR, &told);
                assert_non_null(strstr(told.text, "snapshots/base: layer 1 of this entry"));
                assert_int_equal(c.repaired, 0);
        }
        test_store_open(t);
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        test_store_close(t);
        assert_int_equal(rmdir(test_path(t, "layers")), 0);
        assert_int_equal(rename(test_path(t, "../found"), test_path(t, "layers")), 0);
        test_store_open(t);
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "base").id, 1);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "work").id, 2);
        assert_int_equal(test_info(t, STRATA_VIEW, "look").id, 3);
}

/* Where nothing is named, nothing is lost with layers/. */
static void layers_of_an_empty_store_are_made(void **state)
{
        struct test_store *t = *state;
        struct strata_check c;
        struct told told;

        test_store_close(t);
        assert_int_equal(rmdir(test_path(t, "layers")), 0);
        c = check_at_rest(t, STRATA_CHECK_REPAIR, &told);
        assert_int_equal(c.found, 1);
        assert_int_equal(c.repaired, 1);
        test_store_open(t);
}

/* What a repair did is not known to be on the disk, so the next start makes sure. */
static void a_repair_is_no_clean_end(void **state)
{
        struct test_store *t = *state;
        struct strata_check c;
        struct told told;

        t->config.durable = true;
        test_store_reopen(t);
        test_store_close(t);
        assert_true(test_exists(t, "clean"));
        c = check_at_rest(t, STRATA_CHECK_REPAIR, &told);
        assert_int_equal(c.found, 0);
        assert_true(test_exists(t, "clean"));
        test_write(test_path(t, "strange"), "");
        c = check_at_rest(t, STRATA_CHECK_REPAIR, &told);
        assert_int_equal(c.found, 1);
        assert_false(test_exists(t, "clean"));
        test_store_open(t);
}

/* No crash explains a committed layer without a link: a removal leaves that in the layer. */
static void what_was_committed_is_not_deleted_for_its_link(void **state)
{
        struct test_store *t = *state;
        char link[PATH_MAX];
        struct told told;

        test_snapshot(t, "kept", "");
        test_write(test_path(t, "layers/1/fs/file"), "kept");
        strcpy(link, test_path(t, "snapshots/kept"));
        for (int mode = STRATA_CHECK_SWEEP; mode <= STRATA_CHECK_REPAIR; mode++) {
                assert_int_equal(unlink(link), 0);
                check_store(t, mode, &told);
                assert_string_equal(told.text, "layers/1: it was committed, and not removed, and its link "
                                               "snapshots/kept is lost (mended)\n");
                assert_int_equal(test_info(t, STRATA_COMMITTED, "kept").id, 1);
        }
        /* Its name is another's by now. */
        assert_int_equal(unlink(link), 0);
        test_snapshot(t, "kept", "");
        for (int mode = STRATA_CHECK_SWEEP; mode <= STRATA_CHECK_REPAIR; mode++) {
                check_store(t, mode, &told);
                assert_non_null(strstr(told.text, "something else is called snapshots/kept"));
                test_assert_text(test_path(t, "layers/1/fs/file"), "kept");
        }
}

/* Its steps: the link goes into the layer, and that to the trash. */
static void a_removal_explains_itself(void **state)
{
        struct test_store *t = *state;
        const char *why;
        struct told told;

        test_snapshot(t, "base", "");
        assert_int_equal(strata_remove(t->s, STRATA_COMMITTED, "base", &why), 0);
        assert_true(test_exists(t, "trash/1/removed"));
        /* A power cut that brings the link back as well. */
        test_snapshot(t, "again", "");
        assert_int_equal(symlink("../layers/2/../2", test_path(t, "layers/2/removed")), 0);
        assert_int_equal(check_store(t, STRATA_CHECK_SWEEP, &told).repaired, 1);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "again").id, 2);
        assert_false(test_exists(t, "layers/2/removed"));
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(a_former_name_is_no_claim), STORE_TEST(a_former_key_is_no_claim),
                STORE_TEST(two_claims_are_none),       STORE_TEST(a_lost_folder_is_filled_again),
                STORE_TEST(links_outlive_lost_layers), STORE_TEST(layers_of_an_empty_store_are_made),
                STORE_TEST(a_repair_is_no_clean_end),  STORE_TEST(what_was_committed_is_not_deleted_for_its_link),
                STORE_TEST(a_removal_explains_itself), STORE_TEST(the_link_of_a_step_that_came_counts),
        };

        return cmocka_run_group_tests_name("check_links", tests, NULL, NULL);
}
