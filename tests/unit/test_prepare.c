/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "chain.h"
#include "index.h"
#include "link.h"
#include "prepare.h"
#include "remove.h"
#include "trash.h"
#include "util/cleanup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* A preparation that has to fail, with a reason or without, and leave nothing. */
static void assert_refused(struct test_store *t, enum strata_kind kind, const char *key, const char *parent, int error,
                           bool has_reason)
{
        char *before = test_state(t);
        const char *why = "stale";
        uint64_t id = 77;

        assert_int_equal(strata_prepare(t->s, kind, key, parent, 0, 0, &id, &why), error);
        assert_int_equal(id, 77);
        if (has_reason)
                assert_non_null(why);
        if (why)
                assert_string_not_equal(why, "stale");
        test_assert_state(t, before);
}

static void an_active_base(void **state)
{
        struct test_store *t = *state;
        const char *why = "stale";
        struct strata_info info;
        struct stat st;
        uint64_t id;
        mode_t mask = umask(0077); /* of the program; the contract says 0755 */
        uint64_t open_id;

        assert_int_equal(strata_prepare(t->s, STRATA_ACTIVE, "k", "", 1234, 4321, &id, &why), 0);
        umask(0);
        assert_int_equal(strata_prepare(t->s, STRATA_ACTIVE, "l", "", 1, 1, &open_id, &why), 0);
        umask(mask);
        assert_null(why);
        assert_int_equal(lstat(test_path(t, "layers/%" PRIu64, open_id), &st), 0);
        assert_int_equal(st.st_mode, S_IFDIR | 0700); /* what is ours is nobody else's */
        assert_int_equal(lstat(test_path(t, "layers/%" PRIu64 "/fs", id), &st), 0);
        assert_int_equal(st.st_mode, S_IFDIR | 0755);
        assert_int_equal(st.st_uid, 1234);
        assert_int_equal(st.st_gid, 4321);
        assert_true(test_exists(t, "layers/%" PRIu64 "/work", id));
        info = test_info(t, STRATA_ACTIVE, "k");
        assert_int_equal(info.id, id);
        assert_int_equal(info.parent, 0);
        assert_int_equal(info.depth, 1);
        assert_true(test_exists(t, "active/k"));
        assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", id));
}

static void an_active_child_looks_like_its_parent(void **state)
{
        struct test_store *t = *state;
        struct timespec times[2] = { { 1000, 5 }, { 2000, 7 } };
        uint64_t base = test_prepare(t, STRATA_ACTIVE, "b", ""), id;
        const char *root = test_path(t, "layers/%" PRIu64 "/fs", base);
        static const unsigned char acl[] = { 2, 0,  0,   0,   1,   0,   7,  0, 255, 255, 255, 255, 2,   0,  5,
                                             0, 57, 48,  0,   0,   4,   0,  5, 0,   255, 255, 255, 255, 16, 0,
                                             5, 0,  255, 255, 255, 255, 32, 0, 1,   0,   255, 255, 255, 255 };
        char value[256];
        struct stat st;

        assert_int_equal(chown(root, 1000, 1001), 0);
        assert_int_equal(chmod(root, 03751), 0);
        assert_int_equal(setxattr(root, "user.colour", "blue\0green", 10, 0), 0);
        assert_int_equal(setxattr(root, "user.empty", "", 0, 0), 0);
        assert_int_equal(setxattr(root, "trusted.overlay.opaque", "y", 1, 0), 0);
        assert_int_equal(setxattr(root, "trusted.overlay.overlay.opaque", "esc", 3, 0), 0);
        assert_int_equal(setxattr(root, "user.overlay.opaque", "y", 1, 0), 0);
        assert_int_equal(setxattr(root, "system.posix_acl_access", acl, sizeof(acl), 0), 0);
        assert_int_equal(setxattr(root, "system.posix_acl_default", acl, sizeof(acl), 0), 0);
        assert_int_equal(lstat(root, &st), 0);
        mode_t mode = st.st_mode;

        assert_int_equal(utimensat(AT_FDCWD, root, times, 0), 0);
        test_commit(t, "b", "base");

        id = test_prepare(t, STRATA_ACTIVE, "k", "base");
        root = test_path(t, "layers/%" PRIu64 "/fs", id);
        assert_int_equal(lstat(root, &st), 0);
        assert_int_equal(st.st_mode, mode);
        assert_int_equal(st.st_uid, 1000);
        assert_int_equal(st.st_gid, 1001);
        assert_int_equal(st.st_mtim.tv_sec, 2000);
        assert_int_equal(st.st_mtim.tv_nsec, 7);
        assert_int_equal(getxattr(root, "user.colour", value, sizeof(value)), 10);
        assert_memory_equal(value, "blue\0green", 10);
        assert_int_equal(getxattr(root, "user.empty", value, sizeof(value)), 0);
        assert_int_equal(getxattr(root, "system.posix_acl_access", value, sizeof(value)), sizeof(acl));
        assert_memory_equal(value, acl, sizeof(acl));
        assert_int_equal(getxattr(root, "system.posix_acl_default", value, sizeof(value)), sizeof(acl));
        /* overlayfs's own state stays where it is */
        assert_int_equal(getxattr(root, "trusted.overlay.opaque", value, sizeof(value)), -1);
        /* what users call the same goes along: escaped, or under the prefix that only overlays in a user namespace have
         */
        assert_int_equal(getxattr(root, "trusted.overlay.overlay.opaque", value, sizeof(value)), 3);
        assert_memory_equal(value, "esc", 3);
        assert_int_equal(getxattr(root, "user.overlay.opaque", value, sizeof(value)), 1);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "k").parent, base);
        assert_int_equal(test_info(t, STRATA_ACTIVE, "k").depth, 2);
        assert_true(test_exists(t, "layers/%" PRIu64 "/children/%" PRIu64, base, id));
}

static void views_have_no_files_of_their_own(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", ""), id = test_prepare(t, STRATA_VIEW, "v", "base");

        assert_false(test_exists(t, "layers/%" PRIu64 "/fs", id));
        assert_false(test_exists(t, "layers/%" PRIu64 "/work", id));
        assert_true(test_exists(t, "layers/%" PRIu64 "/children/%" PRIu64, base, id));
        assert_int_equal(test_info(t, STRATA_VIEW, "v").parent, base);
        assert_int_equal(test_info(t, STRATA_VIEW, "v").depth, 2);

        id = test_prepare(t, STRATA_VIEW, "nothing", "");
        assert_true(test_exists(t, "layers/%" PRIu64 "/fs", id));
        assert_false(test_exists(t, "layers/%" PRIu64 "/work", id));
        assert_int_equal(test_info(t, STRATA_VIEW, "nothing").depth, 1);
}

static void bad_names(void **state)
{
        struct test_store *t = *state;
        static const char *const bad[] = { "", ".", "..", ".x", "a/b", "a@b", "a\n" };
        char longest[STRATA_NAME_MAX + 2];

        test_snapshot(t, "base", "");
        for (size_t i = 0; i < COUNT(bad); i++) {
                assert_refused(t, STRATA_ACTIVE, bad[i], "", -EINVAL, true);
                assert_refused(t, STRATA_VIEW, bad[i], "base", -EINVAL, true);
                if (bad[i][0])
                        assert_refused(t, STRATA_ACTIVE, "k", bad[i], -EINVAL, true);
        }
        memset(longest, 'x', sizeof(longest));
        longest[STRATA_NAME_MAX + 1] = '\0';
        assert_refused(t, STRATA_ACTIVE, longest, "", -ENAMETOOLONG, true);
        assert_refused(t, STRATA_ACTIVE, "k", longest, -ENAMETOOLONG, true);
        longest[STRATA_NAME_MAX] = '\0';
        assert_refused(t, STRATA_ACTIVE, "k", longest, -ENOENT, true);
        test_prepare(t, STRATA_ACTIVE, longest, "base");
        assert_string_equal(test_info(t, STRATA_ACTIVE, longest).name, longest);
}

static void keys_are_unique_over_active_and_views(void **state)
{
        struct test_store *t = *state;

        test_snapshot(t, "base", "");
        test_prepare(t, STRATA_ACTIVE, "a", "base");
        test_prepare(t, STRATA_VIEW, "v", "base");
        for (int kind = STRATA_ACTIVE; kind <= STRATA_VIEW; kind++) {
                assert_refused(t, kind, "a", "", -EEXIST, true);
                assert_refused(t, kind, "v", "base", -EEXIST, true);
        }
        test_prepare(t, STRATA_ACTIVE, "base", ""); /* NAMEs are another matter */
        /* EEXIST comes before a missing parent, as mkdir(2) says what is in the way first. */
        assert_refused(t, STRATA_ACTIVE, "a", "none", -EEXIST, true);
}

static void the_parent_has_to_be_a_snapshot(void **state)
{
        struct test_store *t = *state;

        test_prepare(t, STRATA_ACTIVE, "a", "");
        test_prepare(t, STRATA_VIEW, "v", "");
        assert_refused(t, STRATA_ACTIVE, "k", "none", -ENOENT, true);
        assert_refused(t, STRATA_ACTIVE, "k", "a", -ENOENT, true);
        assert_refused(t, STRATA_VIEW, "k", "v", -ENOENT, true);
}

static void a_damaged_parent_is_refused(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_snapshot(t, "base", "");

        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/meta", id), 50), 0);
        strata_index_drop(t->s->index, id);
        assert_refused(t, STRATA_ACTIVE, "k", "base", -EUCLEAN, false);
}

static void a_parent_without_files_fails_and_leaves_nothing(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_snapshot(t, "base", "");

        assert_int_equal(rmdir(test_path(t, "layers/%" PRIu64 "/fs", id)), 0);
        assert_refused(t, STRATA_ACTIVE, "k", "base", -ENOENT, false);
}

static void a_chain_ends_where_the_kernel_ends(void **state)
{
        struct test_store *t = *state;
        struct strata_info info;
        char name[16] = "", parent[16];

        for (int i = 1; i <= STRATA_CHAIN_MAX; i++) {
                strcpy(parent, name);
                snprintf(name, sizeof(name), "s%d", i);
                test_snapshot(t, name, parent);
        }
        info = test_info(t, STRATA_COMMITTED, name);
        assert_int_equal(info.depth, STRATA_CHAIN_MAX);
        assert_refused(t, STRATA_ACTIVE, "k", name, -EMLINK, true);
        test_prepare(t, STRATA_VIEW, "v", name);
        test_prepare(t, STRATA_ACTIVE, "k", parent);
}

/* Makes files until the file system has no inode left, then removes SPARE of them. */
static void fill_up(struct test_store *t, int spare)
{
        for (int i = 0;; i++) {
                int fd = open(test_path(t, "empty/f%d", i), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

                if (fd < 0)
                        break;
                close(fd);
        }
        assert_int_equal(errno, ENOSPC);
        for (int i = 0; i < spare; i++)
                assert_int_equal(unlink(test_path(t, "empty/f%d", i)), 0);
}

/* Each thing that is made on the way may be the one that fails: one inode more is free each time. */
static void a_full_disk_leaves_nothing_half_made(void **state)
{
        const struct strata_config config = { 0 };
        struct test_store *t = test_store_new(&config);
        const char *base[] = { "", "base", "" };
        int fails[COUNT(base)] = { 0 };
        char dir[PATH_MAX / 2];

        (void)state;
        strata_close_store(t->s);
        t->s = NULL;
        test_remove_tree(t->path);
        assert_int_equal(mkdir(t->path, 0700), 0);
        strcpy(dir, t->path);
        assert_int_equal(mount("tmpfs", dir, "tmpfs", 0, "nr_inodes=60,size=4m"), 0);
        assert_int_equal(strata_open(t->path, &config, &t->s, &(char *){ NULL }), 0);
        test_snapshot(t, "base", "");
        test_prepare(t, STRATA_VIEW, "first", "base");
        for (size_t i = 0; i < COUNT(base); i++) {
                for (int spare = 0;; spare++) {
                        enum strata_kind kind = i == 2 ? STRATA_VIEW : STRATA_ACTIVE;
                        const char *why;
                        uint64_t id;
                        int r;

                        fill_up(t, spare);
                        char *before = test_state(t);

                        r = strata_prepare(t->s, kind, "k", base[i], 0, 0, &id, &why);
                        if (r < 0) {
                                assert_int_equal(r, -ENOSPC);
                                test_assert_state(t, before);
                                fails[i]++;
                        } else {
                                free(before);
                        }
                        for (int f = 0; f < 60; f++)
                                (void)unlink(test_path(t, "empty/f%d", f));
                        if (r == 0)
                                assert_int_equal(strata_remove(t->s, kind, "k", &why), 0);
                        assert_int_equal(strata_trash_empty(t->s), 0);
                        if (r == 0)
                                break;
                }
        }
        /* layer, fs, work, meta, link; a mark more with a parent; no work for a view */
        assert_true(fails[0] >= 5);
        assert_true(fails[1] >= 6);
        assert_true(fails[2] >= 4);
        strata_close_store(t->s);
        t->s = NULL;
        assert_int_equal(umount(dir), 0);
        test_store_free(t);
}

/* The parent goes while the child is being made: the child must not be left without it. */
struct race {
        struct strata *s;
        const char *why;
};

static int prepare_on_base(void *data)
{
        struct race *race = data;
        uint64_t id;

        return strata_prepare(race->s, STRATA_ACTIVE, "k", "base", 0, 0, &id, &race->why);
}

static void a_parent_removed_meanwhile_is_missed(void **state)
{
        struct test_store *t = *state;
        struct race race = { t->s, NULL };
        struct test_thread *thread;
        uint64_t base = test_snapshot(t, "base", "");

        pthread_mutex_lock(&t->s->names);
        thread = test_thread_start(prepare_on_base, &race); /* has found the parent, and waits to publish */
        assert_int_equal(unlink(test_path(t, "snapshots/base")), 0);
        strata_index_drop(t->s->index, base);
        assert_int_equal(strata_trash_layer(t->s, base), 0);
        pthread_mutex_unlock(&t->s->names);
        assert_int_equal(test_thread_end(thread), -ENOENT);
        assert_non_null(race.why);
        assert_int_equal(test_count_dir(test_path(t, "active")), 0);
        assert_int_equal(test_count_dir(test_path(t, "layers")), 0);
}

static void a_key_taken_meanwhile_is_seen(void **state)
{
        struct test_store *t = *state;
        struct race race = { t->s, NULL };
        struct test_thread *thread;
        uint64_t base = test_snapshot(t, "base", "");

        pthread_mutex_lock(&t->s->names);
        thread = test_thread_start(prepare_on_base, &race);
        assert_int_equal(symlink("../layers/4000", test_path(t, "views/k")), 0);
        pthread_mutex_unlock(&t->s->names);
        assert_int_equal(test_thread_end(thread), -EEXIST);
        assert_non_null(race.why);
        assert_int_equal(test_count_dir(test_path(t, "active")), 0);
        assert_int_equal(test_count_dir(test_path(t, "layers")), 1);
        assert_int_equal(strata_entry_has_children(t->s, base), 0);
}

/* The last sync of the parent's commit is under way: it waits, and then it has a parent or not. */
static int view_on_last(void *data)
{
        struct race *race = data;
        uint64_t id;

        return strata_prepare(race->s, STRATA_VIEW, "v", "last", 0, 0, &id, &race->why);
}

static void a_parent_that_may_go_back_is_waited_for(void **state)
{
        struct test_store *t = *state;

        for (int fails = 1; fails >= 0; fails--) {
                uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", ""), view;
                struct race race = { t->s, NULL };
                struct test_thread *thread;
                struct strata_record rec;
                struct strata_info info;
                struct strata_op op;
                const char *why;

                /* What strata_link_move() does around its sync. */
                assert_int_equal(strata_op_begin_entry(t->s, &op, STRATA_ACTIVE, "k", &info), 0);
                assert_int_equal(strata_link_record(t->s, &info, STRATA_COMMITTED, "last", &rec), 0);
                assert_int_equal(strata_record_stage(t->s, &rec, true), 0);
                pthread_mutex_lock(&t->s->names);
                assert_int_equal(strata_record_publish(t->s, id), 0);
                assert_int_equal(rename(test_path(t, "active/k"), test_path(t, "snapshots/last")), 0);
                strata_index_drop(t->s->index, id);
                op.moving = &rec;
                pthread_mutex_unlock(&t->s->names);

                thread = test_thread_start(view_on_last, &race);
                assert_int_equal(strata_prepare(t->s, STRATA_VIEW, "k", "", 0, 0, &view, &why), -EEXIST);
                assert_non_null(why);
                assert_int_equal(test_count_dir(test_path(t, "views")), 0);

                pthread_mutex_lock(&t->s->names);
                if (fails)
                        assert_int_equal(rename(test_path(t, "snapshots/last"), test_path(t, "active/k")), 0);
                strata_index_drop(t->s->index, id);
                op.moving = NULL;
                pthread_cond_broadcast(&t->s->moved);
                pthread_mutex_unlock(&t->s->names);
                strata_op_end(t->s, &op);
                assert_int_equal(test_thread_end(thread), fails ? -ENOENT : 0);
                if (fails) {
                        assert_non_null(race.why);
                        assert_int_equal(strata_remove(t->s, STRATA_ACTIVE, "k", &why), 0);
                        assert_int_equal(test_count_dir(test_path(t, "layers")), 0);
                } else {
                        test_prepare(t, STRATA_VIEW, "k", "");
                }
        }
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(an_active_base),
                STORE_TEST(an_active_child_looks_like_its_parent),
                STORE_TEST(views_have_no_files_of_their_own),
                STORE_TEST(bad_names),
                STORE_TEST(keys_are_unique_over_active_and_views),
                STORE_TEST(the_parent_has_to_be_a_snapshot),
                STORE_TEST(a_damaged_parent_is_refused),
                STORE_TEST(a_parent_without_files_fails_and_leaves_nothing),
                STORE_TEST(a_chain_ends_where_the_kernel_ends),
                cmocka_unit_test(a_full_disk_leaves_nothing_half_made),
                STORE_TEST(a_parent_removed_meanwhile_is_missed),
                STORE_TEST(a_key_taken_meanwhile_is_seen),
                STORE_TEST(a_parent_that_may_go_back_is_waited_for),
        };

        return cmocka_run_group_tests_name("prepare", tests, test_private_mounts, NULL);
}
