/* SPDX-License-Identifier: Apache-2.0 */
/* The merged view of what lies below a layer, through both kernel interfaces. */
#include "testlib.h"

#include "mount.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static void what_is_below_is_seen_without_the_layer_itself(void **state)
{
        struct test_store *t = *state;
        cleanup_fd int base = -1, lower = -1;
        struct strata_info info;
        struct statvfs vfs;
        struct stat st;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");

        assert_int_equal(strata_entry_info(t->s, id, &info), 0);
        assert_int_equal(strata_mount_open_lower(t->s, &info, &base), 0);
        test_write(test_path(t, "layers/%" PRIu64 "/fs/below", id), "1");
        test_commit(t, "a", "s1");
        id = test_prepare(t, STRATA_ACTIVE, "b", "s1");
        test_write(test_path(t, "layers/%" PRIu64 "/fs/own", id), "1");
        assert_int_equal(strata_entry_info(t->s, id, &info), 0);
        assert_int_equal(strata_mount_open_lower(t->s, &info, &lower), 0);
        assert_int_equal(fstatat(base, "below", &st, 0), -1);
        assert_int_equal(fstatat(lower, "below", &st, 0), 0);
        assert_int_equal(fstatat(lower, "own", &st, 0), -1);
        assert_int_equal(openat(lower, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600), -1);
        assert_int_equal(errno, EROFS);
        assert_int_equal(fstatvfs(lower, &vfs), 0);
        assert_int_equal(vfs.f_flag & (ST_NOSUID | ST_NODEV), ST_NOSUID | ST_NODEV);
        /* nothing is left in the parent but fs, work, meta and children */
        assert_int_equal(test_count_dir(test_path(t, "layers/%" PRIu64, info.parent)), 4);
}

static int lower_of(struct test_store *t, const char *name)
{
        struct strata_info info = test_info(t, STRATA_COMMITTED, name);
        int fd = -1;

        assert_int_equal(strata_mount_open_lower(t->s, &info, &fd), 0);
        return fd;
}

static void *look_often(void *data)
{
        struct test_store *t = data;

        assert_int_equal(unshare(CLONE_FS), 0);
        for (int i = 0; i < 50; i++) {
                struct stat st;
                int mid = lower_of(t, "mid"), top = lower_of(t, "top");

                assert_int_equal(fstatat(mid, "of-mid", &st, 0), -1);
                assert_int_equal(fstatat(top, "of-mid", &st, 0), 0);
                close(mid);
                close(top);
        }
        return NULL;
}

/* A disk that is read-only, with the old API: all threads at once, and what a kill leaves. */
static void what_is_below_is_seen_on_a_read_only_disk(void **state)
{
        struct test_store *t = *state;
        char options[3 * PATH_MAX];
        pthread_t threads[4];
        struct stat st;
        uint64_t id;

        test_snapshot(t, "base", "");
        id = test_snapshot(t, "mid", "base");
        test_write(test_path(t, "layers/%" PRIu64 "/fs/of-mid", id), "1");
        test_snapshot(t, "top", "mid");
        test_store_close(t);
        assert_int_equal(mount(t->path, t->path, NULL, MS_BIND, NULL), 0);
        t->config.reserved = true;
        test_store_open(t);
        assert_int_equal(mount(NULL, t->path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), 0);
        for (size_t i = 0; i < COUNT(threads); i++)
                assert_int_equal(pthread_create(&threads[i], NULL, look_often, t), 0);
        for (size_t i = 0; i < COUNT(threads); i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(test_count_dir(test_path(t, "trash")), 0);

        snprintf(options, sizeof(options), "lowerdir=%s:%s", test_path(t, "layers/1/fs"), test_path(t, "layers/2/fs"));
        assert_int_equal(mount("left", test_path(t, "trash"), "overlay", MS_RDONLY, options), 0);
        assert_int_equal(stat(test_path(t, "trash/of-mid"), &st), 0);
        test_store_close(t);
        test_store_open(t);
        assert_int_equal(stat(test_path(t, "trash/of-mid"), &st), -1);
        assert_int_equal(mount(NULL, t->path, NULL, MS_REMOUNT | MS_BIND, NULL), 0);
        t->config.reserved = false;
        test_store_close(t);
        assert_int_equal(umount2(t->path, MNT_DETACH), 0);
        test_store_open(t);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(what_is_below_is_seen_without_the_layer_itself, test_new_api_setup,
                                                test_mount_teardown),
                cmocka_unit_test_setup_teardown(what_is_below_is_seen_without_the_layer_itself, test_old_api_setup,
                                                test_mount_teardown),
                cmocka_unit_test_setup_teardown(what_is_below_is_seen_on_a_read_only_disk, test_new_api_setup,
                                                test_mount_teardown),
                cmocka_unit_test_setup_teardown(what_is_below_is_seen_on_a_read_only_disk, test_old_api_setup,
                                                test_mount_teardown),
        };

        return cmocka_run_group_tests_name("mount_lower", tests, test_private_mounts, NULL);
}
