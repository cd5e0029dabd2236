/* SPDX-License-Identifier: Apache-2.0 */
/* A repair of more than one thing: what it says is mended is in order, at once. */
#include "checklib.h"

#include "label.h"
#include "usage.h"

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEEDS 20 /* or CHECK_SEEDS of them */
#define PATHS_MAX 256

static void flip_at(const char *path, off_t at, unsigned bit)
{
        int fd = open(path, O_RDWR | O_CLOEXEC);
        char byte;

        assert_true(fd >= 0);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte = (char)(byte ^ (1 << bit));
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
}

static void flip_both(const char *path, off_t at, unsigned bit)
{
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        flip_at(path, at % (st.st_size / 2), bit);
        flip_at(path, at % (st.st_size / 2) + st.st_size / 2, bit);
}

/* Snapshots base, mid on it, top on that; active work on mid, a view; labels, counts. Closed. */
static void make(struct test_store *t)
{
        struct strata_info info;
        struct strata_usage usage;
        static const char *const names[] = { "base", "mid", "top" };

        t->s->config.fingerprint = true;
        for (size_t i = 0; i < COUNT(names); i++) {
                uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", i ? names[i - 1] : "");

                test_write(test_path(t, "layers/%" PRIu64 "/fs/file", id), names[i]);
                test_commit(t, "k", names[i]);
                assert_int_equal(strata_label_set(t->s, id, "key", names[i], strlen(names[i])), 0);
                info = test_info(t, STRATA_COMMITTED, names[i]);
                assert_int_equal(strata_usage_get(t->s, &info, &usage), 0);
        }
        test_prepare(t, STRATA_ACTIVE, "work", "mid");
        test_prepare(t, STRATA_VIEW, "look", "base");
        test_store_close(t);
}

/* What is in a layer whose record or link was mended is looked at as well. */
static void a_mended_layer_is_looked_at_whole(void **state)
{
        struct test_store *t = *state;
        struct strata_check c;
        struct told told;

        make(t);
        for (int lost_link = 0; lost_link < 2; lost_link++) {
                if (lost_link) {
                        assert_int_equal(unlink(test_path(t, "snapshots/top")), 0);
                        flip_at(test_path(t, "layers/3/meta"), 40, 3);
                } else {
                        flip_both(test_path(t, "layers/3/meta"), 40, 3);
                }
                test_write(test_path(t, "layers/3/usage"), "damaged");
                test_write(test_path(t, "layers/3/labels/odd"), "v\nxxh3: 0123456789abcdef\n");
                c = check_at_rest(t, STRATA_CHECK_REPAIR, &told);
                assert_int_equal(c.found, 4 - !lost_link);
                assert_int_equal(c.repaired, c.found);
                assert_int_equal(check_at_rest(t, STRATA_CHECK_LOOK, &told).found, 0);
        }
        test_store_open(t);
}

/* What lies in the way of a link is moved by the same repair; a parent's record is made before it is asked for. */
static void one_repair_does(void **state)
{
        struct test_store *t = *state;
        struct strata_check c;
        struct told told;

        make(t);
        assert_int_equal(unlink(test_path(t, "snapshots/mid")), 0);
        test_write(test_path(t, "snapshots/mid"), "in the way");
        c = check_at_rest(t, STRATA_CHECK_REPAIR, &told);
        assert_null(strstr(told.text, "rename that"));
        assert_int_equal(c.found, 2);
        assert_int_equal(c.repaired, 2);
        for (int id = 1; id <= 3; id++)
                flip_both(test_path(t, "layers/%d/meta", id), 40, 3);
        c = check_at_rest(t, STRATA_CHECK_REPAIR, &told);
        assert_int_equal(c.found, 3);
        assert_int_equal(c.repaired, 3);
        test_store_open(t);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "mid").parent, 1);
        assert_int_equal(test_info(t, STRATA_COMMITTED, "top").parent, 2);
}

/* What is left is told of once, however often it was looked at. */
static void what_is_left_is_told_of_once(void **state)
{
        struct test_store *t = *state;
        struct strata_check c;
        struct told told;

        make(t);
        test_remove_tree(test_path(t, "layers/3/fs"));
        test_write(test_path(t, "strange"), "");
        c = check_at_rest(t, STRATA_CHECK_REPAIR, &told);
        assert_int_equal(c.found, 2);
        assert_int_equal(c.repaired, 1);
        assert_int_equal(c.layers, 5);
        test_store_open(t);
}

/* ---- at random ---- */

static char *paths[PATHS_MAX];
static size_t n_paths;

/* All but the files of entries, which nobody examines. */
static int add_path(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st;
        (void)type;
        if (ftw->level > 0 && !strstr(path, "/fs") && !strstr(path, "/lock") && n_paths < PATHS_MAX)
                paths[n_paths++] = strdup(path);
        return 0;
}

static int compare(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *root)
{
        while (n_paths)
                free(paths[--n_paths]);
        assert_int_equal(nftw(root, add_path, 16, FTW_PHYS), 0);
        qsort(paths, n_paths, sizeof(*paths), compare);
}

static void damage_file(const char *path, const struct stat *st)
{
        switch (rand() % 4) {
        case 0:
                assert_int_equal(unlink(path), 0);
                break;
        case 1:
                if (strstr(path, "/meta")) {
                        flip_both(path, rand(), (unsigned)rand() % 8);
                        break;
                }
                /* fall through */
        default:
                if (st->st_size)
                        flip_at(path, rand() % st->st_size, (unsigned)rand() % 8);
        }
}

static void damage_link(const char *path)
{
        char target[64], other[PATH_MAX];

        snprintf(target, sizeof(target), "../layers/%d/../%d", rand() % 6, rand() % 6);
        snprintf(other, sizeof(other), "%s2", path);
        if (rand() % 4 == 0) {
                assert_int_equal(rename(path, other), 0);
                return;
        }
        assert_int_equal(unlink(path), 0);
        switch (rand() % 4) {
        case 0:
                test_write(path, "in the way");
                break;
        case 1:
                assert_int_equal(symlink(target, path), 0);
                break;
        case 2:
                assert_int_equal(symlink("/etc/passwd", path), 0);
                break;
        default:
                break;
        }
}

static void damage_dir(const char *path)
{
        char strange[PATH_MAX];

        if (rand() % 3 == 0 && rmdir(path) == 0)
                return;
        snprintf(strange, sizeof(strange), "%s/%d", path, rand() % 10);
        if (access(strange, F_OK) < 0)
                test_write(strange, "strange");
}

static void damage(struct test_store *t)
{
        struct stat st;
        const char *path;

        list(t->path);
        path = paths[(size_t)rand() % n_paths];
        assert_int_equal(lstat(path, &st), 0);
        if (strcmp(path, test_path(t, "format")) == 0)
                return; /* without it there is no store */
        if (S_ISREG(st.st_mode))
                damage_file(path, &st);
        else if (S_ISLNK(st.st_mode))
                damage_link(path);
        else
                damage_dir(path);
}

/* Where a repair says that all is mended, the next look finds nothing, and the store starts. */
static void what_is_mended_is_in_order(void **state)
{
        const char *seeds = getenv("CHECK_SEEDS");

        (void)state;
        for (unsigned seed = 1; seed <= (seeds ? (unsigned)atoi(seeds) : SEEDS); seed++) {
                const struct strata_config config = { 0 };
                struct test_store *t = test_store_new(&config);
                struct strata_check c, after;
                struct told told, then;

                srand(seed);
                make(t);
                for (int n = rand() % 6; n >= 0; n--)
                        damage(t);
                c = check_at_rest(t, STRATA_CHECK_REPAIR, &told);
                after = check_at_rest(t, STRATA_CHECK_LOOK, &then);
                if (c.found == c.repaired && after.found)
                        fail_msg("seed %u: after\n%sthere is\n%s", seed, told.text, then.text);
                if (c.found - c.repaired != after.found)
                        fail_msg("seed %u: %s\n%sand then\n%s", seed, "another number is left", told.text, then.text);
                test_store_free(t);
        }
        while (n_paths)
                free(paths[--n_paths]);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(a_mended_layer_is_looked_at_whole),
                STORE_TEST(one_repair_does),
                STORE_TEST(what_is_left_is_told_of_once),
                cmocka_unit_test(what_is_mended_is_in_order),
        };

        return cmocka_run_group_tests_name("check_repair", tests, NULL, NULL);
}
