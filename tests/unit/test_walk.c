/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "util/buf.h"
#include "util/cleanup.h"
#include "util/walk.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define DEEP 3000

/* What a walk saw, and what it is to do on the way. */
struct visit {
        struct strata_buf events; /* "E name\n", "F name\n", "L name\n" */
        unsigned files, enters, leaves;
        int (*act)(struct visit *v, enum strata_walk_event event, int dirfd, const char *name);
        const char *dir;
        int max_fds;
};

static int count_fds(void)
{
        return (int)test_count_dir("/proc/self/fd");
}

static int visit(void *data, enum strata_walk_event event, int dirfd, const char *name)
{
        struct visit *v = data;

        strata_buf_addf(&v->events, "%c %s\n",
                        event == STRATA_WALK_FILE    ? 'F'
                        : event == STRATA_WALK_ENTER ? 'E'
                                                     : 'L',
                        name);
        *(event == STRATA_WALK_FILE ? &v->files : event == STRATA_WALK_ENTER ? &v->enters : &v->leaves) += 1;
        return v->act ? v->act(v, event, dirfd, name) : 0;
}

static void visit_free(struct visit *v)
{
        strata_buf_free(&v->events);
}

#define cleanup_visit __attribute__((cleanup(visit_free)))

static int open_dir(const char *path)
{
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

static const char *below(struct test_store *t, const char *name)
{
        static char paths[4][PATH_MAX];
        static unsigned turn;
        char *path = paths[turn++ % COUNT(paths)];

        snprintf(path, PATH_MAX, "%s/%s", t->dir, name);
        return path;
}

static void make_dir(struct test_store *t, const char *name)
{
        assert_int_equal(mkdir(below(t, name), 0700), 0);
}

static void visits_everything_in_order(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { 0 };

        make_dir(t, "top");
        make_dir(t, "top/d");
        make_dir(t, "top/d/e");
        test_write(below(t, "top/d/e/f"), "");
        assert_int_equal(strata_walk(dir, "top", visit, &v), 0);
        assert_string_equal(v.events.data, "E d\nE e\nF f\nL e\nL d\n");
}

static int pass_over_d(struct visit *v, enum strata_walk_event event, int dirfd, const char *name)
{
        (void)v;
        (void)dirfd;
        return event == STRATA_WALK_ENTER && strcmp(name, "d") == 0;
}

static void passes_over_what_the_function_does_not_want(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { .act = pass_over_d };

        make_dir(t, "top");
        make_dir(t, "top/e");
        make_dir(t, "top/e/d");
        make_dir(t, "top/e/d/f");
        assert_int_equal(strata_walk(dir, "top", visit, &v), 0);
        assert_string_equal(v.events.data, "E e\nE d\nL e\n");
}

static void an_empty_top_has_no_events(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { 0 };

        make_dir(t, "top");
        assert_int_equal(strata_walk(dir, "top", visit, &v), 0);
        assert_int_equal(v.events.len, 0);
}

static void sends_all_kinds_of_files(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { 0 };

        make_dir(t, "top");
        test_write(below(t, "top/plain"), "x");
        test_write(below(t, "top/.hidden"), "x");
        assert_int_equal(symlink("..", below(t, "top/link")), 0);
        assert_int_equal(mkfifo(below(t, "top/fifo"), 0600), 0);
        assert_int_equal(strata_walk(dir, "top", visit, &v), 0);
        assert_int_equal(v.files, 4);
        assert_int_equal(v.enters, 0);
}

static void the_top_has_to_be_a_directory(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { 0 };

        test_write(below(t, "file"), "");
        assert_int_equal(symlink("/", below(t, "link")), 0);
        assert_int_equal(strata_walk(dir, "none", visit, &v), -ENOENT);
        assert_true(strata_walk(dir, "file", visit, &v) < 0);
        assert_true(strata_walk(dir, "link", visit, &v) < 0);
        assert_int_equal(v.events.len, 0);
}

static int stop_at_f(struct visit *v, enum strata_walk_event event, int dirfd, const char *name)
{
        (void)v, (void)event, (void)dirfd;
        return strcmp(name, "f") == 0 ? -EDOM : 0;
}

static void ends_with_what_the_function_says(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { .act = stop_at_f };
        int fds = count_fds();

        make_dir(t, "top");
        make_dir(t, "top/d");
        test_write(below(t, "top/d/f"), "");
        assert_int_equal(strata_walk(dir, "top", visit, &v), -EDOM);
        assert_string_equal(v.events.data, "E d\nF f\n");
        assert_int_equal(count_fds(), fds);
}

/* A chain of DEEP directories called "d", a file "f" in the last. */
static void make_deep(const char *path)
{
        int fd = open_dir(path);

        for (int i = 0; i < DEEP; i++) {
                int next;

                assert_int_equal(mkdirat(fd, "d", 0700), 0);
                next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert_true(next >= 0);
                close(fd);
                fd = next;
        }
        assert_int_equal(symlinkat("x", fd, "f"), 0);
        close(fd);
}

static int watch_fds(struct visit *v, enum strata_walk_event event, int dirfd, const char *name)
{
        int n = count_fds();

        (void)event, (void)dirfd, (void)name;
        v->max_fds = n > v->max_fds ? n : v->max_fds;
        return 0;
}

static void goes_down_any_depth_with_few_descriptors(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { .act = watch_fds };
        int before = count_fds();

        make_dir(t, "top");
        make_deep(below(t, "top"));
        assert_int_equal(strata_walk(dir, "top", visit, &v), 0);
        assert_int_equal(v.enters, DEEP);
        assert_int_equal(v.leaves, DEEP);
        assert_int_equal(v.files, 1);
        assert_true(v.max_fds - before <= STRATA_WALK_FDS + 2);
        assert_true(v.max_fds - before >= 2);
        assert_int_equal(count_fds(), before);
}

static int delete_one(struct visit *v, enum strata_walk_event event, int dirfd, const char *name)
{
        (void)v;
        if (event == STRATA_WALK_ENTER)
                return 0;
        return unlinkat(dirfd, name, event == STRATA_WALK_LEAVE ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
}

static void deletes_any_depth_on_the_way(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { .act = delete_one };

        make_dir(t, "top");
        make_deep(below(t, "top"));
        assert_int_equal(strata_walk(dir, "top", visit, &v), 0);
        assert_int_equal(test_count_dir(below(t, "top")), 0);
}

static void deletes_a_wide_directory_on_the_way(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { .act = delete_one };

        make_dir(t, "top");
        for (int i = 0; i < 5000; i++) {
                char name[32];

                snprintf(name, sizeof(name), "top/%d", i);
                if (i % 10)
                        assert_int_equal(symlink("x", below(t, name)), 0);
                else
                        make_dir(t, name);
        }
        assert_int_equal(strata_walk(dir, "top", visit, &v), 0);
        assert_int_equal(v.files, 4500);
        assert_int_equal(v.leaves, 500);
        assert_int_equal(test_count_dir(below(t, "top")), 0);
}

/* At the first object, all others go. */
static int remove_the_others(struct visit *v, enum strata_walk_event event, int dirfd, const char *name)
{
        static const char *const names[] = { "a", "b", "c" };

        if (event == STRATA_WALK_LEAVE || v->enters > 1)
                return 0;
        for (size_t i = 0; i < COUNT(names); i++)
                if (strcmp(names[i], name) != 0)
                        (void)unlinkat(dirfd, names[i], AT_REMOVEDIR);
        return 0;
}

static void passes_over_directories_that_vanished(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { .act = remove_the_others };

        make_dir(t, "top");
        make_dir(t, "top/a");
        make_dir(t, "top/b");
        make_dir(t, "top/c");
        assert_int_equal(strata_walk(dir, "top", visit, &v), 0);
        assert_int_equal(v.leaves, 1);
        assert_int_equal(test_count_dir(below(t, "top")), 1);
}

/* Between its listing and its opening, the directory "d" becomes a link to a place that must not be seen. */
static int swap_for_link(struct visit *v, enum strata_walk_event event, int dirfd, const char *name)
{
        if (event == STRATA_WALK_ENTER && strcmp(name, "d") == 0) {
                if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 || symlinkat(v->dir, dirfd, name) < 0)
                        return -errno;
        }
        return 0;
}

static void never_follows_a_link_put_in_the_way(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { .act = swap_for_link, .dir = below(t, "outside") };

        make_dir(t, "outside");
        test_write(below(t, "outside/secret"), "");
        make_dir(t, "top");
        make_dir(t, "top/d");
        assert_int_equal(strata_walk(dir, "top", visit, &v), 0);
        assert_string_equal(v.events.data, "E d\n");
}

static int swap_for_file(struct visit *v, enum strata_walk_event event, int dirfd, const char *name)
{
        (void)v;
        if (event == STRATA_WALK_ENTER) {
                if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 || mknodat(dirfd, name, S_IFIFO | 0600, 0) < 0)
                        return -errno;
        }
        return 0;
}

static void passes_over_a_directory_that_became_a_fifo(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { .act = swap_for_file };

        make_dir(t, "top");
        make_dir(t, "top/d");
        assert_int_equal(strata_walk(dir, "top", visit, &v), 0);
        assert_string_equal(v.events.data, "E d\n");
}

/* From far below, the directory of depth two is moved away: ".." leads somewhere else then. */
static int move_away(struct visit *v, enum strata_walk_event event, int dirfd, const char *name)
{
        (void)dirfd, (void)name;
        if (event == STRATA_WALK_FILE && v->enters == DEEP) {
                char from[PATH_MAX], to[PATH_MAX];

                snprintf(from, sizeof(from), "%s/top/d/d", v->dir);
                snprintf(to, sizeof(to), "%s/outside/d", v->dir);
                if (rename(from, to) < 0)
                        return -errno;
        }
        return 0;
}

static void never_comes_up_in_another_directory(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { .act = move_away, .dir = t->dir };
        int fds = count_fds();

        make_dir(t, "outside");
        make_dir(t, "top");
        make_deep(below(t, "top"));
        test_write(below(t, "outside/secret"), "");
        assert_int_equal(strata_walk(dir, "top", visit, &v), 0);
        assert_int_equal(v.leaves, DEEP); /* those above the place that moved are found by their names */
        assert_null(strstr(v.events.data, "secret"));
        assert_int_equal(count_fds(), fds);
}

/* From far below, a directory in the middle is moved away, and another one stands in its place. */
static int exchange_middle(struct visit *v, enum strata_walk_event event, int dirfd, const char *name)
{
        (void)dirfd, (void)name;
        if (event == STRATA_WALK_FILE && v->enters == DEEP) {
                char from[PATH_MAX], to[PATH_MAX];
                int n = snprintf(from, sizeof(from), "%s/top", v->dir);

                for (int i = 0; i < 100; i++)
                        n += snprintf(from + n, sizeof(from) - (size_t)n, "/d");
                snprintf(to, sizeof(to), "%s/outside", v->dir);
                if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE) < 0)
                        return -errno;
        }
        return 0;
}

static void passes_over_what_was_moved_from_below(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { .act = exchange_middle, .dir = t->dir };
        int fds = count_fds();

        make_dir(t, "outside");
        make_dir(t, "outside/d");
        test_write(below(t, "outside/secret"), "");
        make_dir(t, "top");
        test_write(below(t, "top/a"), "");
        make_deep(below(t, "top"));
        assert_int_equal(strata_walk(dir, "top", visit, &v), 0);
        assert_int_equal(v.leaves,
                         DEEP); /* the moved one's parent is found again, and all others are where they were */
        assert_null(strstr(v.events.data, "secret"));
        assert_int_equal(count_fds(), fds);
}

/* Two levels in the middle are exchanged at once: the parent of the lower one can't be found then. */
static int exchange_two(struct visit *v, enum strata_walk_event event, int dirfd, const char *name)
{
        int r = exchange_middle(v, event, dirfd, name);

        if (r == 0 && event == STRATA_WALK_FILE && v->enters == DEEP) {
                char from[PATH_MAX], to[PATH_MAX];

                snprintf(from, sizeof(from), "%s/outside/d", v->dir); /* which moved along */
                snprintf(to, sizeof(to), "%s/elsewhere", v->dir);
                if (rename(from, to) < 0)
                        return -errno;
        }
        return r;
}

static void drops_what_can_not_be_found_again(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { .act = exchange_two, .dir = t->dir };
        int fds = count_fds();

        make_dir(t, "outside");
        make_dir(t, "outside/d");
        make_dir(t, "top");
        make_deep(below(t, "top"));
        assert_int_equal(strata_walk(dir, "top", visit, &v), 0);
        assert_int_equal(v.leaves, DEEP - 2); /* not the two that moved: 100 and 101 deep */
        assert_int_equal(count_fds(), fds);
}

static void leaves_out_what_is_mounted_inside(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int dir = open_dir(t->dir);
        cleanup_visit struct visit v = { 0 };

        make_dir(t, "outside");
        test_write(below(t, "outside/secret"), "");
        make_dir(t, "top");
        make_dir(t, "top/d");
        assert_int_equal(mount("none", below(t, "top/d"), "tmpfs", 0, NULL), 0);
        test_write(below(t, "top/d/secret"), "");
        assert_int_equal(strata_walk(dir, "top", visit, &v), 0);
        assert_string_equal(v.events.data, "E d\nL d\n");
        assert_int_equal(umount(below(t, "top/d")), 0);
}

#define DIR_TEST(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                DIR_TEST(visits_everything_in_order),
                DIR_TEST(passes_over_what_the_function_does_not_want),
                DIR_TEST(an_empty_top_has_no_events),
                DIR_TEST(sends_all_kinds_of_files),
                DIR_TEST(the_top_has_to_be_a_directory),
                DIR_TEST(ends_with_what_the_function_says),
                DIR_TEST(goes_down_any_depth_with_few_descriptors),
                DIR_TEST(deletes_any_depth_on_the_way),
                DIR_TEST(deletes_a_wide_directory_on_the_way),
                DIR_TEST(passes_over_directories_that_vanished),
                DIR_TEST(never_follows_a_link_put_in_the_way),
                DIR_TEST(passes_over_a_directory_that_became_a_fifo),
                DIR_TEST(never_comes_up_in_another_directory),
                DIR_TEST(passes_over_what_was_moved_from_below),
                DIR_TEST(drops_what_can_not_be_found_again),
                DIR_TEST(leaves_out_what_is_mounted_inside),
        };

        return cmocka_run_group_tests_name("walk", tests, test_private_mounts, NULL);
}
