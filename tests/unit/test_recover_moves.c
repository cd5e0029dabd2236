/* SPDX-License-Identifier: Apache-2.0 */
/* The states that a crash leaves of a commit, rename or exchange, made by hand; then a new start sweeps. */
#include "testlib.h"

#include "link.h"
#include "record.h"
#include "recover.h"
#include "remove.h"
#include "rename.h"
#include "trash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A crash, a new start, the sweep. */
static void restart(struct test_store *t)
{
        test_store_crash(t);
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
}

/* The three instants of a commit or rename of active/a: staged; record in place; link moved. */
static void a_move_cut_off_at_any_step(void **state)
{
        struct test_store *t = *state;

        for (int to = STRATA_ACTIVE; to <= STRATA_COMMITTED; to += STRATA_COMMITTED) {
                for (int step = 0; step < 4; step++) {
                        const char *old = to ? "c" : "r";
                        char new[16];
                        struct strata_record rec;
                        struct strata_info info;
                        uint64_t id = test_prepare(t, STRATA_ACTIVE, old, "");

                        snprintf(new, sizeof(new), "%s%d", old, step);
                        test_write(test_path(t, "layers/%" PRIu64 "/fs/file", id), "whole");
                        info = test_info(t, STRATA_ACTIVE, old);
                        assert_int_equal(strata_link_record(t->s, &info, to, new, &rec), 0);
                        rec.committed = (struct timespec){ 5000, 1 };
                        assert_int_equal(strata_record_stage(t->s, &rec, true), 0);
                        if (step == 1 || step == 2)
                                assert_int_equal(strata_record_publish(t->s, id), 0);
                        if (step >= 2) /* 3: the link alone reached the disk, its record is still the staged one */
                                assert_int_equal(rename(test_path(t, "active/%s", old),
                                                        test_path(t, "%s/%s", strata_kind_folder(to), new)),
                                                 0);
                        for (int starts = 0; starts < 2; starts++) {
                                char *text;

                                restart(t);
                                info = test_info(t, step >= 2 ? to : STRATA_ACTIVE, step >= 2 ? new : old);
                                assert_int_equal(info.id, id);
                                assert_int_equal(info.committed.tv_sec, step >= 2 && to == STRATA_COMMITTED ? 5000 : 0);
                                assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", id));
                                text = test_read(test_path(t, "layers/%" PRIu64 "/fs/file", id));
                                assert_string_equal(text, "whole");
                                free(text);
                        }
                        if (step < 2) {
                                test_commit(t, old, new); /* and it goes on from there */
                                assert_int_equal(test_info(t, STRATA_COMMITTED, new).id, id);
                        }
                }
        }
        assert_int_equal(strata_trash_pending(t->s), 0);
}

/* A file system that keeps no order may bring the old link back beside the new one: the new one counts. */
static void a_move_whose_old_name_comes_back(void **state)
{
        struct test_store *t = *state;

        for (int published = 0; published < 2; published++) {
                char old[16], new[16], target[64];
                struct strata_record rec;
                struct strata_info info;
                uint64_t id;

                snprintf(old, sizeof(old), "k%d", published);
                snprintf(new, sizeof(new), "n%d", published);
                id = test_prepare(t, STRATA_ACTIVE, old, "");
                info = test_info(t, STRATA_ACTIVE, old);
                assert_int_equal(strata_link_record(t->s, &info, STRATA_COMMITTED, new, &rec), 0);
                rec.committed = (struct timespec){ 5000, 1 };
                assert_int_equal(strata_record_stage(t->s, &rec, true), 0);
                if (published)
                        assert_int_equal(strata_record_publish(t->s, id), 0);
                snprintf(target, sizeof(target), "../layers/%" PRIu64, id);
                assert_int_equal(symlink(target, test_path(t, "snapshots/%s", new)), 0);
                restart(t);
                info = test_info(t, STRATA_COMMITTED, new);
                assert_int_equal(info.id, id);
                assert_int_equal(info.committed.tv_sec, 5000);
                assert_false(test_exists(t, "active/%s", old));
                assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", id));
                test_prepare(t, STRATA_ACTIVE, old, new);
        }
}

/*
 * What btrfs keeps of a commit or rename when the power goes right after it: the new link, not the renaming of the
 * record, not the end of the old link. It is what it was committed as before any sweep came to it.
 */
static void a_move_of_which_the_link_alone_was_kept(void **state)
{
        struct test_store *t = *state;
        const char *why;

        for (int from = STRATA_ACTIVE; from < STRATA_KINDS; from++) {
                enum strata_kind to = from == STRATA_VIEW ? STRATA_VIEW : STRATA_COMMITTED;
                struct strata_record rec;
                struct strata_info info;
                char *before, *text;
                uint64_t id;

                if (from == STRATA_COMMITTED)
                        id = test_snapshot(t, "old", "");
                else
                        id = test_prepare(t, from, "old", "");
                test_write(test_path(t, "layers/%" PRIu64 "/fs/file", id), "whole");
                info = test_info(t, from, "old");
                assert_int_equal(strata_link_record(t->s, &info, to, "new", &rec), 0);
                rec.committed = (struct timespec){ to == STRATA_COMMITTED ? 5000 : 0, 1 };
                assert_int_equal(strata_record_stage(t->s, &rec, true), 0);
                assert_int_equal(link(test_path(t, "%s/old", strata_kind_folder(from)),
                                      test_path(t, "%s/new", strata_kind_folder(to))),
                                 0);
                test_store_crash(t);
                before = test_state(t);
                assert_int_equal(strata_entry_get(t->s, from, "old", &info), -ENOENT);
                info = test_info(t, to, "new");
                assert_int_equal(info.id, id);
                assert_int_equal(info.committed.tv_sec, rec.committed.tv_sec);
                assert_int_equal(strata_remove(t->s, from, "old", &why), -ENOENT);
                test_assert_state(t, before);

                /* Whoever moves it on does not write over what alone tells of the commit. */
                assert_int_equal(strata_rename(t->s, to, "new", "newer", &why), 0);
                test_store_crash(t);
                info = test_info(t, to, "newer");
                assert_int_equal(info.id, id);
                assert_int_equal(info.committed.tv_sec, rec.committed.tv_sec);
                assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
                assert_false(test_exists(t, "%s/old", strata_kind_folder(from)));
                assert_int_equal(test_info(t, to, "newer").id, id);
                text = test_read(test_path(t, "layers/%" PRIu64 "/fs/file", id));
                assert_string_equal(text, "whole");
                free(text);
                assert_int_equal(strata_remove(t->s, to, "newer", &why), 0);
        }
}

/* Of an exchange it keeps both links, swapped, as they are in one folder. */
static void an_exchange_of_which_the_links_alone_were_kept(void **state)
{
        struct test_store *t = *state;
        uint64_t a = test_snapshot(t, "a", ""), b = test_snapshot(t, "b", "");
        struct strata_info info_a = test_info(t, STRATA_COMMITTED, "a"), info_b = test_info(t, STRATA_COMMITTED, "b");
        struct strata_record rec;
        const char *why;

        assert_int_equal(strata_link_record(t->s, &info_a, STRATA_COMMITTED, "b", &rec), 0);
        assert_int_equal(strata_record_stage(t->s, &rec, true), 0);
        assert_int_equal(strata_link_record(t->s, &info_b, STRATA_COMMITTED, "a", &rec), 0);
        assert_int_equal(strata_record_stage(t->s, &rec, true), 0);
        assert_int_equal(
                renameat2(t->s->kind_fd[STRATA_COMMITTED], "a", t->s->kind_fd[STRATA_COMMITTED], "b", RENAME_EXCHANGE),
                0);
        test_store_crash(t);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "b").id, a);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "a").id, b);
        assert_int_equal(strata_exchange(t->s, STRATA_COMMITTED, "a", "b", &why), 0);
        test_store_crash(t);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "a").id, a);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "b").id, b);
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "a").id, a);
}

/* An exchange, likewise: both staged; one record in place; both; links swapped. */
static void an_exchange_cut_off_at_any_step(void **state)
{
        struct test_store *t = *state;

        for (int step = 0; step < 4; step++) {
                char a[16], b[16];
                struct strata_record rec;
                struct strata_info info_a, info_b;

                snprintf(a, sizeof(a), "a%d", step);
                snprintf(b, sizeof(b), "b%d", step);
                test_prepare(t, STRATA_ACTIVE, a, "");
                test_prepare(t, STRATA_ACTIVE, b, "");
                info_a = test_info(t, STRATA_ACTIVE, a);
                info_b = test_info(t, STRATA_ACTIVE, b);
                assert_int_equal(strata_link_record(t->s, &info_a, STRATA_ACTIVE, b, &rec), 0);
                assert_int_equal(strata_record_stage(t->s, &rec, true), 0);
                assert_int_equal(strata_link_record(t->s, &info_b, STRATA_ACTIVE, a, &rec), 0);
                assert_int_equal(strata_record_stage(t->s, &rec, true), 0);
                if (step >= 1)
                        assert_int_equal(strata_record_publish(t->s, info_a.id), 0);
                if (step >= 2)
                        assert_int_equal(strata_record_publish(t->s, info_b.id), 0);
                if (step >= 3) {
                        assert_int_equal(rename(test_path(t, "active/%s", a), test_path(t, "link")), 0);
                        assert_int_equal(rename(test_path(t, "active/%s", b), test_path(t, "active/%s", a)), 0);
                        assert_int_equal(rename(test_path(t, "link"), test_path(t, "active/%s", b)), 0);
                }
                restart(t);
                assert_int_equal(test_info(t, STRATA_ACTIVE, step >= 3 ? b : a).id, info_a.id);
                assert_int_equal(test_info(t, STRATA_ACTIVE, step >= 3 ? a : b).id, info_b.id);
                assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", info_a.id));
                assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", info_b.id));
        }
        assert_int_equal(strata_trash_pending(t->s), 0);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(a_move_cut_off_at_any_step),
                STORE_TEST(a_move_whose_old_name_comes_back),
                STORE_TEST(a_move_of_which_the_link_alone_was_kept),
                STORE_TEST(an_exchange_of_which_the_links_alone_were_kept),
                STORE_TEST(an_exchange_cut_off_at_any_step),
        };

        return cmocka_run_group_tests_name("recover_moves", tests, NULL, NULL);
}
