/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "layer_walk.h"
#include "util/cleanup.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEEP 4096

struct visit {
        struct strata_buf events;
        unsigned n;
        int (*act)(struct visit *v, enum strata_layer_event event, const struct strata_layer_entry *e);
        const char *dir;
        unsigned most_fds;
        bool silent;
};

static int visit(void *data, enum strata_layer_event event, const struct strata_layer_entry *e)
{
        struct visit *v = data;
        char letter = event == STRATA_LAYER_INSIDE ? 'I' : event == STRATA_LAYER_GONE ? 'G' : 'E';

        v->n++;
        if (event == STRATA_LAYER_ENTRY && e->type == DT_WHT)
                letter = 'W';
        if (!v->silent)
                strata_buf_addf(&v->events, "%c%s%s /%s\n", letter,
                                event == STRATA_LAYER_INSIDE && e->opaque ? "o" : "", e->hidden ? "h" : "", e->path);
        return v->act ? v->act(v, event, e) : 0;
}

static const char *in(struct test_store *t, const char *name)
{
        static char paths[4][PATH_MAX];
        static unsigned turn;
        char *path = paths[turn++ % COUNT(paths)];

        snprintf(path, PATH_MAX, "%s/%s", t->dir, name);
        return path;
}

static void make_dir(struct test_store *t, const char *name)
{
        assert_int_equal(mkdir(in(t, name), 0755), 0);
}

static int open_dir(struct test_store *t, const char *name)
{
        int fd = open(in(t, name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

static int walk(struct test_store *t, bool whiteouts_first, bool want_gone, struct visit *v)
{
        cleanup_fd int top = open_dir(t, "top"), below = open_dir(t, "below");
        const struct strata_layer_walk w = { .top = top,
                                             .below = below,
                                             .prefix = strata_layer_prefix(false),
                                             .whiteouts_first = whiteouts_first,
                                             .want_gone = want_gone };

        v->dir = t->dir;
        return strata_layer_walk(&w, visit, v);
}

static int setup(void **state)
{
        test_dir_setup(state);
        make_dir(*state, "top");
        make_dir(*state, "below");
        return 0;
}

static void assert_walk(struct test_store *t, bool whiteouts_first, bool want_gone, const char *expected)
{
        struct visit v = { 0 };

        assert_int_equal(walk(t, whiteouts_first, want_gone, &v), 0);
        assert_string_equal(v.events.data, expected);
        strata_buf_free(&v.events);
}

static void goes_in_byte_order_of_whole_paths(void **state)
{
        struct test_store *t = *state;

        make_dir(t, "top/a");
        test_write(in(t, "top/a/x"), "");
        test_write(in(t, "top/a-b"), "");
        test_write(in(t, "top/a0"), "");
        test_write(in(t, "top/\xff"), "");
        test_write(in(t, "top/B"), "");
        assert_walk(t, false, false, "E /\nI /\nE /B\nE /a\nE /a-b\nI /a\nE /a/x\nE /a0\nE /\xff\n");
}

static void whiteouts_come_first_if_asked_for(void **state)
{
        struct test_store *t = *state;

        test_write(in(t, "top/a"), "");
        assert_int_equal(mknod(in(t, "top/w"), S_IFCHR, makedev(0, 0)), 0);
        assert_int_equal(mknod(in(t, "top/b"), S_IFCHR, makedev(0, 1)), 0);
        assert_walk(t, false, false, "E /\nI /\nE /a\nE /b\nW /w\n");
        assert_walk(t, true, false, "E /\nI /\nW /w\nE /a\nE /b\n");
}

static void what_an_opaque_directory_hides_is_gone(void **state)
{
        struct test_store *t = *state;

        make_dir(t, "top/d");
        make_dir(t, "top/d/s");
        test_write(in(t, "top/d/both"), "");
        make_dir(t, "below/d");
        make_dir(t, "below/d/s");
        make_dir(t, "below/d/tree");
        test_write(in(t, "below/d/tree/in"), "");
        test_write(in(t, "below/d/both"), "");
        test_write(in(t, "below/d/s/old"), "");
        assert_int_equal(setxattr(in(t, "top/d"), "trusted.overlay.opaque", "y", 1, 0), 0);
        assert_walk(t, false, true, "E /\nI /\nE /d\nIo /d\nEh /d/both\nEh /d/s\nIh /d/s\nGh /d/s/old\nGh /d/tree\n");
        assert_walk(t, false, false, "E /\nI /\nE /d\nIo /d\nEh /d/both\nEh /d/s\nIh /d/s\n");
}

static int swap_for_link(struct visit *v, enum strata_layer_event event, const struct strata_layer_entry *e)
{
        if (event == STRATA_LAYER_ENTRY && strcmp(e->path, "d") == 0) {
                assert_int_equal(renameat(e->dirfd, "d", e->dirfd, "moved"), 0);
                assert_int_equal(symlinkat(v->dir, e->dirfd, "d"), 0);
        }
        return 0;
}

static void a_link_put_in_place_is_not_followed(void **state)
{
        struct test_store *t = *state;
        struct visit v = { .act = swap_for_link };

        make_dir(t, "top/d");
        test_write(in(t, "top/d/x"), "");
        assert_int_equal(walk(t, false, false, &v), 0);
        assert_string_equal(v.events.data, "E /\nI /\nE /d\n");
        strata_buf_free(&v.events);
}

static int count_fds(struct visit *v, enum strata_layer_event event, const struct strata_layer_entry *e)
{
        struct stat st;
        unsigned n;

        if (event == STRATA_LAYER_INSIDE && v->n % 64 == 0) {
                n = test_count_dir("/proc/self/fd");
                v->most_fds = n > v->most_fds ? n : v->most_fds;
        }
        /* The directory below is the one that lies below, at whatever depth. */
        if (event == STRATA_LAYER_ENTRY && strcmp(e->name, "z") == 0)
                assert_int_equal(fstatat(e->below, "z", &st, AT_SYMLINK_NOFOLLOW), 0);
        return 0;
}

static void make_deep(struct test_store *t, const char *name)
{
        int fd = open_dir(t, name);

        for (int i = 0; i < DEEP; i++) {
                int next, file;

                assert_int_equal(mkdirat(fd, "d", 0755), 0);
                file = openat(fd, "z", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
                assert_true(file >= 0);
                close(file);
                next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert_true(next >= 0);
                close(fd);
                fd = next;
        }
        close(fd);
}

/* Nothing keeps a descriptor per level, and the way back up is found in both trees. */
static void deep_folders_take_few_descriptors(void **state)
{
        struct test_store *t = *state;
        struct visit v = { .act = count_fds, .silent = true };
        unsigned before = test_count_dir("/proc/self/fd");

        make_deep(t, "top");
        make_deep(t, "below");
        assert_int_equal(walk(t, false, false, &v), 0);
        assert_int_equal(v.n, 2 + 3 * DEEP);
        assert_true(v.most_fds > before && v.most_fds < before + 2 * STRATA_LAYER_WALK_FDS + 16);
        assert_int_equal(test_count_dir("/proc/self/fd"), before);
}

/* From the last directory, one in the middle is put elsewhere, and its child elsewhere again. */
static int move_middle(struct visit *v, enum strata_layer_event event, const struct strata_layer_entry *e)
{
        char from[PATH_MAX], to[PATH_MAX];
        int n;

        if (event != STRATA_LAYER_INSIDE || strlen(e->path) != 2 * (size_t)DEEP - 1)
                return 0;
        n = snprintf(from, sizeof(from), "%s/top", v->dir);
        for (int i = 0; i < 100; i++)
                n += snprintf(from + n, sizeof(from) - (size_t)n, "/d");
        snprintf(to, sizeof(to), "%s/outside/moved", v->dir);
        assert_int_equal(rename(from, to), 0);
        snprintf(from, sizeof(from), "%s/outside/moved/d", v->dir);
        snprintf(to, sizeof(to), "%s/outside/again", v->dir);
        assert_int_equal(rename(from, to), 0);
        return 0;
}

static void what_moves_away_is_passed_over(void **state)
{
        struct test_store *t = *state;
        struct visit v = { .act = move_middle };
        unsigned before = test_count_dir("/proc/self/fd");

        make_dir(t, "outside");
        test_write(in(t, "outside/zz-secret"), "");
        make_deep(t, "top");
        make_deep(t, "below");
        assert_int_equal(walk(t, false, false, &v), 0);
        assert_null(strstr(v.events.data, "secret"));
        assert_int_equal(v.n, 2 + 3 * DEEP - 1); /* all but "z" in the directory that was left through another's ".." */
        assert_non_null(strstr(v.events.data, "E /d/z\nE /z\n"));
        assert_int_equal(test_count_dir("/proc/self/fd"), before);
        strata_buf_free(&v.events);
}

static int refuse(struct visit *v, enum strata_layer_event event, const struct strata_layer_entry *e)
{
        (void)v;
        (void)event;
        return strcmp(e->path, "d/x") == 0 ? -ENOSPC : 0;
}

static void an_error_ends_it(void **state)
{
        struct test_store *t = *state;
        struct visit v = { .act = refuse };

        make_dir(t, "top/d");
        test_write(in(t, "top/d/x"), "");
        test_write(in(t, "top/e"), "");
        assert_int_equal(walk(t, false, false, &v), -ENOSPC);
        assert_string_equal(v.events.data, "E /\nI /\nE /d\nI /d\nE /d/x\n");
        strata_buf_free(&v.events);
}

static void many_names_in_one_directory(void **state)
{
        struct test_store *t = *state;
        struct visit v = { .silent = true };
        char name[32];

        test_write(in(t, "top/first"), "");
        for (int i = 0; i < 50000; i++) {
                snprintf(name, sizeof(name), "top/l%d", i);
                assert_int_equal(link(in(t, "top/first"), in(t, name)), 0);
        }
        assert_int_equal(walk(t, false, false, &v), 0);
        assert_int_equal(v.n, 50003);
}

#define WALK_TEST(f) cmocka_unit_test_setup_teardown(f, setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                WALK_TEST(goes_in_byte_order_of_whole_paths),
                WALK_TEST(whiteouts_come_first_if_asked_for),
                WALK_TEST(what_an_opaque_directory_hides_is_gone),
                WALK_TEST(a_link_put_in_place_is_not_followed),
                WALK_TEST(deep_folders_take_few_descriptors),
                WALK_TEST(what_moves_away_is_passed_over),
                WALK_TEST(an_error_ends_it),
                WALK_TEST(many_names_in_one_directory),
        };

        return cmocka_run_group_tests_name("layer_walk", tests, NULL, NULL);
}
