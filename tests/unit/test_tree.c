/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "index.h"
#include "rename.h"
#include "tree.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void assert_tree(struct test_store *t, const char *expected)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

        assert_int_equal(strata_tree_text(t->s, &buf), 0);
        assert_string_equal(buf.data ? buf.data : "", expected);
}

static void an_empty_store(void **state)
{
        struct test_store *t = *state;
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

        assert_tree(t, "");
        assert_int_equal(strata_tree_graph(t->s, &buf), 0);
        assert_string_equal(buf.data, "digraph stratafs {\n  rankdir=BT;\n}\n");
}

static void levels_and_order(void **state)
{
        struct test_store *t = *state;

        test_snapshot(t, "zeta", "");
        test_snapshot(t, "alpha", "");
        test_snapshot(t, "beta", "zeta");
        test_snapshot(t, "gamma", "beta");
        test_snapshot(t, "Beta", "zeta"); /* byte order: capitals first */
        test_snapshot(t, "bet", "zeta");
        assert_tree(t, "alpha\n"
                       "zeta\n"
                       "  Beta\n"
                       "  bet\n"
                       "  beta\n"
                       "    gamma\n");
}

static void active_ones_and_views_have_their_folder(void **state)
{
        struct test_store *t = *state;

        test_snapshot(t, "base", "");
        test_prepare(t, STRATA_ACTIVE, "web", "base");
        test_prepare(t, STRATA_ACTIVE, "db", "base");
        assert_tree(t, "base\n"
                       "  active/db\n"
                       "  active/web\n");
        test_commit(t, "db", "done");
        test_commit(t, "web", "web");
        test_prepare(t, STRATA_VIEW, "w", "web");
        test_prepare(t, STRATA_VIEW, "v", "web");
        assert_tree(t, "base\n"
                       "  done\n"
                       "  web\n"
                       "    views/v\n"
                       "    views/w\n");
}

/* The folders of a level are in byte order as well. */
static void one_order_for_all_kinds(void **state)
{
        struct test_store *t = *state;

        test_snapshot(t, "aaa", "");
        test_prepare(t, STRATA_VIEW, "v", "");
        test_prepare(t, STRATA_ACTIVE, "z", "");
        assert_tree(t, "aaa\n"
                       "active/z\n"
                       "views/v\n");
}

static void a_rename_moves_the_subtree(void **state)
{
        struct test_store *t = *state;
        const char *why;

        test_snapshot(t, "a", "");
        test_snapshot(t, "b", "");
        test_snapshot(t, "a1", "a");
        assert_int_equal(strata_rename(t->s, STRATA_COMMITTED, "a", "c", &why), 0);
        assert_tree(t, "b\nc\n  a1\n");
        assert_int_equal(strata_exchange(t->s, STRATA_COMMITTED, "b", "c", &why), 0);
        assert_tree(t, "b\n  a1\nc\n");
}

static void strange_names_break_no_line(void **state)
{
        struct test_store *t = *state;
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        uint64_t id = test_snapshot(t, "say \"hi\" \\ \xff", "");
        char expected[256];

        assert_tree(t, "say \\\"hi\\\" \\\\ \xff\n");
        assert_int_equal(strata_tree_graph(t->s, &buf), 0);
        snprintf(expected, sizeof(expected), "  %" PRIu64 " [label=\"snapshots/say \\\"hi\\\" \\\\ \xff\",", id);
        assert_non_null(strstr(buf.data, expected));
}

static void a_long_chain(void **state)
{
        struct test_store *t = *state;
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        char name[16], parent[16] = "";
        const char *line;

        for (int i = 0; i < 400; i++) {
                snprintf(name, sizeof(name), "s%d", i);
                test_snapshot(t, name, parent);
                strcpy(parent, name);
        }
        assert_int_equal(strata_tree_text(t->s, &buf), 0);
        line = buf.data;
        for (int i = 0; i < 400; i++) {
                snprintf(name, sizeof(name), "s%d\n", i);
                assert_int_equal(strspn(line, " "), 2 * i);
                line += 2 * i;
                assert_int_equal(strncmp(line, name, strlen(name)), 0);
                line += strlen(name);
        }
        assert_string_equal(line, "");
}

static void the_graph_has_a_node_and_an_edge_each(void **state)
{
        struct test_store *t = *state;
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        uint64_t base = test_snapshot(t, "base", ""), a = test_prepare(t, STRATA_ACTIVE, "a", "base"),
                 v = test_prepare(t, STRATA_VIEW, "v", "base"), w = test_prepare(t, STRATA_VIEW, "w", "");
        const char *folders[] = { "snapshots/base", "active/a", "views/v", "views/w" };
        const uint64_t ids[] = { base, a, v, w };
        int edges = 0, lines = 0;

        assert_int_equal(strata_tree_graph(t->s, &buf), 0);
        assert_int_equal(strncmp(buf.data, "digraph stratafs {\n", 19), 0);
        assert_string_equal(buf.data + buf.len - 2, "}\n");
        for (size_t i = 0; i < COUNT(ids); i++) {
                char text[64];

                snprintf(text, sizeof(text), "  %" PRIu64 " [label=\"%s\",", ids[i], folders[i]);
                assert_non_null(strstr(buf.data, text));
                snprintf(text, sizeof(text), "  %" PRIu64 " -> %" PRIu64 ";\n", ids[i], base);
                assert_int_equal(strstr(buf.data, text) != NULL, ids[i] == a || ids[i] == v);
        }
        for (const char *at = buf.data; (at = strstr(at, " -> ")); at++)
                edges++;
        for (const char *at = buf.data; (at = strchr(at, '\n')); at++)
                lines++;
        assert_int_equal(edges, 2);
        assert_int_equal(lines, 3 + 4 + 2);
}

/* What stands on a snapshot that can't be read is still there, and has to be seen. */
static void children_of_a_damaged_snapshot_are_shown(void **state)
{
        struct test_store *t = *state;
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        uint64_t bad = test_snapshot(t, "bad", "");

        test_snapshot(t, "child", "bad");
        test_snapshot(t, "other", "");
        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/meta", bad), 40), 0);
        strata_index_drop(t->s->index, bad);
        assert_int_equal(strata_tree_text(t->s, &buf), 0);
        assert_non_null(strstr(buf.data, "other\n"));
        assert_non_null(strstr(buf.data, "child\n"));
}

static void strange_files_are_no_entries(void **state)
{
        struct test_store *t = *state;

        test_snapshot(t, "base", "");
        test_write(test_path(t, "snapshots/file"), "");
        test_write(test_path(t, "active/.file"), "");
        assert_int_equal(symlink("../layers/4000", test_path(t, "views/lost")), 0);
        assert_tree(t, "base\n");
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(an_empty_store),
                STORE_TEST(levels_and_order),
                STORE_TEST(active_ones_and_views_have_their_folder),
                STORE_TEST(one_order_for_all_kinds),
                STORE_TEST(a_rename_moves_the_subtree),
                STORE_TEST(strange_names_break_no_line),
                STORE_TEST(a_long_chain),
                STORE_TEST(the_graph_has_a_node_and_an_edge_each),
                STORE_TEST(children_of_a_damaged_snapshot_are_shown),
                STORE_TEST(strange_files_are_no_entries),
        };

        return cmocka_run_group_tests_name("tree", tests, NULL, NULL);
}
