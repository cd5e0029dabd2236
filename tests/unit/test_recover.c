/* SPDX-License-Identifier: Apache-2.0 */
/* Each state that a crash can leave is made by hand; then a new start sweeps. */
#include "testlib.h"

#include "link.h"
#include "log.h"
#include "record.h"
#include "recover.h"
#include "trash.h"
#include "util/buf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void sweep(struct test_store *t)
{
        atomic_bool stop = false;

        assert_int_equal(strata_recover_sweep(t->s, &stop), 0);
}

/* A crash, a new start, the sweep. */
static void restart(struct test_store *t)
{
        test_store_crash(t);
        sweep(t);
}

static bool log_holds(struct test_store *t, const char *word)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

        strata_log_show(t->s->log, &buf);
        return buf.data && strstr(buf.data, word);
}

static void fill(struct test_store *t)
{
        test_snapshot(t, "base", "");
        test_snapshot(t, "top", "base");
        test_prepare(t, STRATA_ACTIVE, "a", "top");
        test_prepare(t, STRATA_ACTIVE, "b", "");
        test_prepare(t, STRATA_VIEW, "v", "base");
        test_prepare(t, STRATA_VIEW, "w", "");
}

static void what_is_in_order_stays(void **state)
{
        struct test_store *t = *state;
        char *before;

        fill(t);
        before = test_state(t);
        restart(t);
        restart(t);
        test_assert_state(t, before);
        assert_int_equal(test_count_dir(test_path(t, "trash")), 0);
        assert_false(log_holds(t, "recover"));
}

/* prepare, cut off before the link. */
static void a_layer_without_a_link(void **state)
{
        struct test_store *t = *state;
        char *before;
        uint64_t id;

        fill(t);
        before = test_state(t);
        id = test_prepare(t, STRATA_ACTIVE, "k", "base");
        assert_int_equal(unlink(test_path(t, "active/k")), 0);
        restart(t);
        test_assert_state(t, before); /* the mark at the parent is gone as well */
        assert_int_equal(strata_trash_pending(t->s), 1);
        assert_true(test_exists(t, "trash/%" PRIu64, id));
}

/* The same with parents made before and after their children, for whatever order the sweep takes. */
static void many_layers_without_links(void **state)
{
        struct test_store *t = *state;
        char *before;
        char name[16];

        for (int i = 0; i < 20; i++) {
                snprintf(name, sizeof(name), "s%d", i);
                test_snapshot(t, name, "");
                test_prepare(t, STRATA_VIEW, name, name); /* so that children/ is there */
        }
        before = test_state(t);
        for (int i = 0; i < 60; i++) {
                char key[16];

                snprintf(key, sizeof(key), "k%d", i);
                snprintf(name, sizeof(name), "s%d", i % 20);
                test_prepare(t, i % 2 ? STRATA_ACTIVE : STRATA_VIEW, key, name);
                assert_int_equal(unlink(test_path(t, "%s/%s", i % 2 ? "active" : "views", key)), 0);
        }
        restart(t);
        test_assert_state(t, before);
        assert_int_equal(strata_trash_pending(t->s), 60);
}

/* prepare, cut off in the middle of the layer. */
static void a_layer_without_a_record(void **state)
{
        struct test_store *t = *state;
        char *before;
        uint64_t id;

        fill(t);
        before = test_state(t);
        id = test_prepare(t, STRATA_ACTIVE, "k", "");
        assert_int_equal(unlink(test_path(t, "active/k")), 0);
        assert_int_equal(unlink(test_path(t, "layers/%" PRIu64 "/meta", id)), 0);
        id = test_prepare(t, STRATA_ACTIVE, "k", "");
        assert_int_equal(unlink(test_path(t, "active/k")), 0);
        test_write(test_path(t, "layers/%" PRIu64 "/meta", id), "strat");
        restart(t);
        test_assert_state(t, before);
        assert_int_equal(strata_trash_pending(t->s), 2);
}

/* A power cut with durability=none: the link reached the disk, its layer did not. */
static void a_link_without_a_layer(void **state)
{
        struct test_store *t = *state;
        char *before;

        fill(t);
        before = test_state(t);
        for (int kind = 0; kind < STRATA_KINDS; kind++)
                assert_int_equal(symlink("../layers/4000", test_path(t, "%s/lost", strata_kind_folder(kind))), 0);
        restart(t);
        test_assert_state(t, before);
        assert_true(log_holds(t, "recover snapshots/lost ENOENT"));
        test_prepare(t, STRATA_ACTIVE, "lost", ""); /* the name can be used again */
}

static void a_mark_without_a_child(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", ""), child = test_prepare(t, STRATA_ACTIVE, "k", "base");

        test_write(test_path(t, "layers/%" PRIu64 "/children/4000", base), "");
        restart(t);
        assert_int_equal(test_count_dir(test_path(t, "layers/%" PRIu64 "/children", base)), 1);
        assert_true(test_exists(t, "layers/%" PRIu64 "/children/%" PRIu64, base, child));
}

/* remove, cut off after the link has gone into the layer, or after the mark as well. */
static void a_removal_cut_off_is_finished(void **state)
{
        struct test_store *t = *state;

        for (int step = 0; step < 2; step++) {
                char *before;
                uint64_t base, id;

                base = test_snapshot(t, step ? "base2" : "base1", "");
                test_prepare(t, STRATA_VIEW, step ? "v2" : "v1", step ? "base2" : "base1");
                before = test_state(t);
                id = test_snapshot(t, "n", step ? "base2" : "base1");
                assert_int_equal(rename(test_path(t, "snapshots/n"), test_path(t, "layers/%" PRIu64 "/removed", id)),
                                 0);
                if (step)
                        assert_int_equal(unlink(test_path(t, "layers/%" PRIu64 "/children/%" PRIu64, base, id)), 0);
                restart(t);
                test_assert_state(t, before);
        }
        assert_int_equal(strata_trash_pending(t->s), 2);
        assert_int_equal(strata_trash_empty(t->s), 0);
        assert_int_equal(strata_trash_pending(t->s), 0);
}

/* A record that bit rot took: named in the log, its files kept, as its entry is still there. */
static void a_damaged_record_is_named_and_kept(void **state)
{
        struct test_store *t = *state;
        uint64_t bad = test_prepare(t, STRATA_ACTIVE, "bad", ""), none = test_prepare(t, STRATA_ACTIVE, "none", "");
        char word[64];

        test_write(test_path(t, "layers/%" PRIu64 "/fs/file", bad), "precious");
        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/meta", bad), 40), 0);
        assert_int_equal(unlink(test_path(t, "layers/%" PRIu64 "/meta", none)), 0);
        restart(t);
        assert_true(test_exists(t, "layers/%" PRIu64 "/fs/file", bad));
        assert_true(test_exists(t, "layers/%" PRIu64 "/fs", none));
        assert_true(test_exists(t, "active/bad"));
        assert_true(test_exists(t, "active/none"));
        assert_int_equal(strata_trash_pending(t->s), 0);
        snprintf(word, sizeof(word), "layer %" PRIu64 " is damaged", bad);
        assert_true(log_holds(t, word));
        snprintf(word, sizeof(word), "layer %" PRIu64 " is missing", none);
        assert_true(log_holds(t, word));
}

/* What this run makes is none of the sweep's business: it may be half made just now. */
static void what_is_new_is_left_alone(void **state)
{
        struct test_store *t = *state;
        uint64_t id, base = test_snapshot(t, "base", "");
        char target[64];

        test_prepare(t, STRATA_VIEW, "v", "base");
        test_store_crash(t);
        id = test_prepare(t, STRATA_ACTIVE, "k", "");
        assert_true(id >= t->s->first_id);
        assert_int_equal(unlink(test_path(t, "active/k")), 0); /* as between make_layer() and the link */
        test_write(test_path(t, "layers/%" PRIu64 "/children/%" PRIu64, base, id + 1), "");
        snprintf(target, sizeof(target), "../layers/%" PRIu64,
                 id + 1); /* as between the link and a look at its layer */
        assert_int_equal(symlink(target, test_path(t, "active/new")), 0);
        sweep(t);
        assert_true(test_exists(t, "active/new"));
        assert_true(test_exists(t, "layers/%" PRIu64 "/meta", id));
        assert_true(test_exists(t, "layers/%" PRIu64 "/children/%" PRIu64, base, id + 1));
        assert_int_equal(strata_trash_pending(t->s), 0);
}

/* A record staged by an operation that is under way now is not rubbish, though its entry is old. */
static void an_operation_under_way_is_left_alone(void **state)
{
        struct test_store *t = *state;
        const char *why = NULL;
        struct strata_record rec;
        struct strata_info info;
        struct strata_op op;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");

        test_store_crash(t);
        info = test_info(t, STRATA_ACTIVE, "k");
        assert_int_equal(strata_op_begin(t->s, &op, id), 0);
        assert_int_equal(strata_link_record(t->s, &info, STRATA_COMMITTED, "n", &rec), 0);
        assert_int_equal(strata_record_stage(t->s, &rec, false), 0);
        sweep(t);
        assert_int_equal(strata_link_move(t->s, &rec, &why), 0);
        strata_op_end(t->s, &op);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "n").id, id);
}

static void strange_files_are_left_alone(void **state)
{
        struct test_store *t = *state;
        char *before;

        test_prepare(t, STRATA_ACTIVE, "k", "");
        test_write(test_path(t, "layers/README"), "x");
        assert_int_equal(mkdir(test_path(t, "layers/0"), 0700), 0);
        assert_int_equal(mkdir(test_path(t, "layers/1x"), 0700), 0);
        test_write(test_path(t, "active/.file"), "x");
        test_write(test_path(t, "active/file"), "x");
        assert_int_equal(symlink("/etc/passwd", test_path(t, "snapshots/link")), 0);
        before = test_state(t);
        restart(t);
        test_assert_state(t, before);
        assert_int_equal(strata_trash_pending(t->s), 0);
}

static void left_over_label_files_go(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");

        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/labels", id), 0700), 0);
        test_write(test_path(t, "layers/%" PRIu64 "/labels/.new.7", id), "half");
        test_write(test_path(t, "layers/%" PRIu64 "/labels/kept", id), "x\n");
        test_store_crash(t);
        test_write(test_path(t, "layers/%" PRIu64 "/labels/.new.%" PRIx64 ".8", id, t->s->run), "being written");
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        assert_false(test_exists(t, "layers/%" PRIu64 "/labels/.new.7", id));
        assert_true(test_exists(t, "layers/%" PRIu64 "/labels/.new.%" PRIx64 ".8", id, t->s->run));
        assert_true(test_exists(t, "layers/%" PRIu64 "/labels/kept", id));
}

/* The mark is looked at before the layer is, and goes with it all the same. */
static void a_layer_without_a_record_takes_its_mark_along(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", ""), id = test_prepare(t, STRATA_ACTIVE, "k", "base");

        test_store_crash(t);
        assert_int_equal(unlink(test_path(t, "active/k")), 0);
        assert_int_equal(unlink(test_path(t, "layers/%" PRIu64 "/meta", id)), 0);
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        assert_false(test_exists(t, "layers/%" PRIu64, id));
        assert_false(test_exists(t, "layers/%" PRIu64 "/children/%" PRIu64, base, id));
}

/* Those of another run go, whatever their times say; those of this one may be being written. */
static void half_written_texts_go(void **state)
{
        static const char *const names[] = { "usage.new", "changes.new", "export.new", "mounted.new" };
        struct test_store *t = *state;
        uint64_t id = test_snapshot(t, "base", ""), run = t->s->run;

        test_write(test_path(t, "next.new"), "half");
        test_store_crash(t);
        assert_false(test_exists(t, "next.new"));
        assert_true(run != t->s->run);
        for (size_t i = 0; i < COUNT(names); i++) {
                test_write(test_path(t, "layers/%" PRIu64 "/%s.%" PRIx64, id, names[i], run), "half, of an older one");
                test_write(test_path(t, "layers/%" PRIu64 "/%s.%" PRIx64 ".7", id, names[i], run), "half");
                test_write(test_path(t, "layers/%" PRIu64 "/%s.%" PRIx64 ".7", id, names[i], t->s->run), "of this run");
        }
        assert_int_equal(strata_recover_sweep(t->s, NULL), 0);
        for (size_t i = 0; i < COUNT(names); i++) {
                assert_false(test_exists(t, "layers/%" PRIu64 "/%s.%" PRIx64, id, names[i], run));
                assert_false(test_exists(t, "layers/%" PRIu64 "/%s.%" PRIx64 ".7", id, names[i], run));
                assert_true(test_exists(t, "layers/%" PRIu64 "/%s.%" PRIx64 ".7", id, names[i], t->s->run));
        }
}

static void stops_when_told(void **state)
{
        struct test_store *t = *state;
        atomic_bool stop = true;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");

        assert_int_equal(unlink(test_path(t, "active/k")), 0);
        test_store_crash(t);
        assert_int_equal(strata_recover_sweep(t->s, &stop), 0);
        assert_true(test_exists(t, "layers/%" PRIu64, id));
        sweep(t);
        assert_false(test_exists(t, "layers/%" PRIu64, id));
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(what_is_in_order_stays),
                STORE_TEST(a_layer_without_a_link),
                STORE_TEST(many_layers_without_links),
                STORE_TEST(a_layer_without_a_record),
                STORE_TEST(a_link_without_a_layer),
                STORE_TEST(a_mark_without_a_child),
                STORE_TEST(a_removal_cut_off_is_finished),
                STORE_TEST(a_damaged_record_is_named_and_kept),
                STORE_TEST(what_is_new_is_left_alone),
                STORE_TEST(an_operation_under_way_is_left_alone),
                STORE_TEST(strange_files_are_left_alone),
                STORE_TEST(left_over_label_files_go),
                STORE_TEST(a_layer_without_a_record_takes_its_mark_along),
                STORE_TEST(half_written_texts_go),
                STORE_TEST(stops_when_told),
        };

        return cmocka_run_group_tests_name("recover", tests, NULL, NULL);
}
