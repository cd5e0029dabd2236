/* SPDX-License-Identifier: Apache-2.0 */
/* The merged view of what lies below a layer, through both kernel interfaces. */
#include "testlib.h"

#include "mount.h"
#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(what_is_below_is_seen_without_the_layer_itself, test_new_api_setup,
                                                test_mount_teardown),
                cmocka_unit_test_setup_teardown(what_is_below_is_seen_without_the_layer_itself, test_old_api_setup,
                                                test_mount_teardown),
        };

        return cmocka_run_group_tests_name("mount_lower", tests, test_private_mounts, NULL);
}
