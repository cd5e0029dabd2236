/* SPDX-License-Identifier: Apache-2.0 */
/* What an archive says of its entries comes out exactly, in whatever order they come; and what it does not say stays.
 */
#include "layerlib.h"

#include "util/cleanup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

/* NAME of layer ID, the last one asked for. */
static struct stat stat_of(struct test_store *t, uint64_t id, const char *name)
{
        struct stat st;

        assert_int_equal(lstat(test_path(t, "layers/%" PRIu64 "/fs/%s", id, name), &st), 0);
        return st;
}

static ssize_t xattr_of(struct test_store *t, uint64_t id, const char *name, const char *xattr)
{
        return lgetxattr(test_path(t, "layers/%" PRIu64 "/fs/%s", id, name), xattr, NULL, 0);
}

static void a_folder_may_come_after_its_files(void **state)
{
        static const char *const group[] = { "gid=50" };
        static const char *const acl[] = { "SCHILY.acl.default=user::rwx,user:u:rwx:1234,group::r-x,mask::rwx,"
                                           "other::r-x" };
        struct test_store *t = *state;
        struct layer l = { 0 };
        uint64_t id;

        layer_add(&l, '0', "g/before", 0644, NULL, "x");
        layer_add_pax(&l, group, 1);
        layer_add(&l, '5', "g", 02775, NULL, NULL);
        layer_add(&l, '0', "g/after", 0644, NULL, "x");
        layer_add(&l, '0', "a/before", 0644, NULL, "x");
        layer_add_pax(&l, acl, 1);
        layer_add(&l, '5', "a", 0755, NULL, NULL);
        layer_add(&l, '0', "a/after", 0644, NULL, "x");
        layer_add(&l, '0', "top", 0644, NULL, "x");
        layer_add_pax(&l, group, 1);
        layer_add(&l, '5', "./", 02775, NULL, NULL);
        id = layer_snapshot(t, "s", "", &l);
        assert_int_equal(stat_of(t, id, "g").st_gid, 50);
        assert_int_equal(stat_of(t, id, "g").st_mode & 07777, 02775);
        assert_int_equal(stat_of(t, id, "g/before").st_gid, 0);
        assert_int_equal(stat_of(t, id, "g/after").st_gid, 0);
        assert_int_equal(stat_of(t, id, "").st_gid, 50);
        assert_int_equal(stat_of(t, id, "top").st_gid, 0);
        assert_true(xattr_of(t, id, "a", ACL_DEFAULT) > 0);
        assert_int_equal(xattr_of(t, id, "a/before", ACL_ACCESS), -1);
        assert_int_equal(xattr_of(t, id, "a/after", ACL_ACCESS), -1);
        assert_int_equal(stat_of(t, id, "a/before").st_mode & 07777, 0644);
}

/* By each of its names. */
static void the_root_is_an_entry(void **state)
{
        static const char *const names[] = { "./", ".", "/", "///" };
        struct test_store *t = *state;

        for (unsigned i = 0; i < COUNT(names); i++) {
                struct layer l = { 0 };
                char name[16];
                uint64_t id;

                snprintf(name, sizeof(name), "s%u", i);
                layer_add(&l, '5', names[i], 0711, NULL, NULL);
                layer_add(&l, '0', "f", 0644, NULL, "x");
                id = layer_snapshot(t, name, "", &l);
                assert_int_equal(stat_of(t, id, "").st_mode & 07777, 0711);
                assert_int_equal(stat_of(t, id, "").st_mtim.tv_sec, 1000000000);
                assert_int_equal(test_count_dir(test_path(t, "layers/%" PRIu64 "/fs", id)), 1);
        }
}

/* The root's, and that of a folder which has been closed meanwhile. */
static void a_folder_made_on_the_way_changes_no_time(void **state)
{
        struct test_store *t = *state;
        struct layer l = { 0 };
        struct stat before, after;
        char name[32];
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");

        before = stat_of(t, id, "");
        layer_add(&l, '5', "a", 0755, NULL, NULL);
        for (unsigned i = 0; i < 300; i++) {
                snprintf(name, sizeof(name), "many/%u", i);
                layer_add(&l, '5', name, 0755, NULL, NULL);
        }
        layer_add(&l, '0', "a/b/c/file", 0644, NULL, "x");
        layer_end(&l);
        assert_int_equal(layer_import(t, "k", l.tar.data, l.tar.len, 512, NULL), 0);
        assert_int_equal(stat_of(t, id, "a").st_mtim.tv_sec, 1000000000);
        assert_int_equal(stat_of(t, id, "a/b").st_mtim.tv_sec, 0);
        after = stat_of(t, id, "");
        assert_memory_equal(&after.st_mtim, &before.st_mtim, sizeof(before.st_mtim));
        strata_buf_free(&l.tar);
}

static void times_before_1970(void **state)
{
        static const struct {
                const char *record;
                time_t sec;
                long nsec;
        } cases[] = {
                { "mtime=-1.5", -2, 500000000 },
                { "mtime=-2.25", -3, 750000000 },
                { "mtime=-3", -3, 0 },
        };
        struct test_store *t = *state;
        struct layer l = { 0 };
        char name[] = "0";
        uint64_t id;

        for (size_t i = 0; i < COUNT(cases); i++) {
                name[0] = (char)('0' + i);
                layer_add_pax(&l, &cases[i].record, 1);
                layer_add(&l, '0', name, 0644, NULL, "x");
        }
        id = layer_snapshot(t, "s", "", &l);
        for (size_t i = 0; i < COUNT(cases); i++) {
                name[0] = (char)('0' + i);
                assert_int_equal(stat_of(t, id, name).st_mtim.tv_sec, cases[i].sec);
                assert_int_equal(stat_of(t, id, name).st_mtim.tv_nsec, cases[i].nsec);
        }
}

static void what_is_another_machines_stays_out(void **state)
{
        static const char *const records[] = { "SCHILY.xattr.security.selinux=label",
                                               "SCHILY.xattr.btrfs.compression=zstd", "SCHILY.xattr.user.mine=1" };
        struct test_store *t = *state;
        struct layer l = { 0 };
        uint64_t id;

        layer_add_pax(&l, records, COUNT(records));
        layer_add(&l, '0', "x", 0644, NULL, "x");
        id = layer_snapshot(t, "s", "", &l);
        assert_int_equal(xattr_of(t, id, "x", "user.mine"), 1);
        assert_int_equal(xattr_of(t, id, "x", "security.selinux"), -1);
        assert_int_equal(xattr_of(t, id, "x", "btrfs.compression"), -1);
}

static void a_whiteout_of_the_longest_name(void **state)
{
        char file[300] = "path=", mark[300] = "path=.wh.", *name = file + strlen(file);
        const char *records[] = { file };
        struct test_store *t = *state;
        struct layer below = { 0 }, l = { 0 };
        struct stat st;
        uint64_t id;

        memset(name, 'n', 255);
        strcat(mark, name);
        layer_add_pax(&below, records, 1);
        layer_add(&below, '0', "short", 0644, NULL, "x");
        layer_snapshot(t, "base", "", &below);
        records[0] = mark;
        layer_add_pax(&l, records, 1);
        layer_add(&l, '0', "short", 0644, NULL, NULL);
        id = layer_snapshot(t, "s", "base", &l);
        st = stat_of(t, id, name);
        assert_true(S_ISCHR(st.st_mode) && st.st_rdev == 0);
}

/* A device with an ACL, and a file of 1 GiB that is a hole but for its last byte. */
static void what_a_hard_link_brings_up_is_whole(void **state)
{
        static const char *const acl[] = {
                "SCHILY.acl.access=user::rw-,user:u:rw-:1234,group::---,mask::rw-,other::---"
        };
        struct test_store *t = *state;
        struct layer below = { 0 }, l = { 0 };
        struct stat st;
        uint64_t id;
        char c;
        int fd;

        layer_add_pax(&below, acl, 1);
        layer_add_device(&below, '3', "device", "0000001", "0000003");
        layer_add(&below, '0', "sparse", 0644, NULL, "x");
        layer_end(&below);
        id = test_prepare(t, STRATA_ACTIVE, "k", "");
        assert_int_equal(layer_import(t, "k", below.tar.data, below.tar.len, 512, NULL), 0);
        fd = open(test_path(t, "layers/%" PRIu64 "/fs/sparse", id), O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, "y", 1, (1 << 30) - 1), 1);
        close(fd);
        test_commit(t, "k", "base");
        layer_add(&l, '1', "device2", 0644, "device", NULL);
        layer_add(&l, '1', "sparse2", 0644, "sparse", NULL);
        id = layer_snapshot(t, "s", "base", &l);

        st = stat_of(t, id, "device2");
        assert_int_equal(st.st_rdev, makedev(1, 3));
        assert_int_equal(st.st_nlink, 2);
        assert_int_equal(xattr_of(t, id, "device2", ACL_ACCESS), 4 + 5 * 8);
        st = stat_of(t, id, "sparse2");
        assert_int_equal(st.st_size, 1 << 30);
        assert_true(st.st_blocks < 1000);
        fd = open(test_path(t, "layers/%" PRIu64 "/fs/sparse2", id), O_RDONLY | O_CLOEXEC);
        assert_int_equal(pread(fd, &c, 1, 0), 1);
        assert_int_equal(c, 'x');
        assert_int_equal(pread(fd, &c, 1, (1 << 30) - 1), 1);
        assert_int_equal(c, 'y');
        close(fd);
        strata_buf_free(&below.tar);
}

/* Of two entries of one folder the second says all there is to say. */
static void a_folders_second_entry_takes_the_first_ones_attributes_away(void **state)
{
        static const char *const first[] = { "SCHILY.xattr.user.a=1", "SCHILY.xattr.user.both=1",
                                             "SCHILY.acl.default=user::rwx,group::r-x,other::r-x" };
        static const char *const second[] = { "SCHILY.xattr.user.both=22" };
        struct test_store *t = *state;
        struct layer l = { 0 };
        uint64_t id;

        layer_add_pax(&l, first, COUNT(first));
        layer_add(&l, '5', "d", 0755, NULL, NULL);
        layer_add_pax(&l, second, COUNT(second));
        layer_add(&l, '5', "d", 0700, NULL, NULL);
        layer_add_pax(&l, first, COUNT(first));
        layer_add(&l, '5', "once", 0755, NULL, NULL);
        id = layer_snapshot(t, "s", "", &l);
        assert_int_equal(xattr_of(t, id, "d", "user.a"), -1);
        assert_int_equal(xattr_of(t, id, "d", "user.both"), 2);
        assert_int_equal(xattr_of(t, id, "d", ACL_DEFAULT), -1);
        assert_int_equal(stat_of(t, id, "d").st_mode & 07777, 0700);
        assert_int_equal(xattr_of(t, id, "once", "user.a"), 1);
        assert_true(xattr_of(t, id, "once", ACL_DEFAULT) > 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_folder_may_come_after_its_files),
                TEST(the_root_is_an_entry),
                TEST(a_folder_made_on_the_way_changes_no_time),
                TEST(times_before_1970),
                TEST(what_is_another_machines_stays_out),
                TEST(a_whiteout_of_the_longest_name),
                TEST(what_a_hard_link_brings_up_is_whole),
                TEST(a_folders_second_entry_takes_the_first_ones_attributes_away),
        };

        return cmocka_run_group_tests_name("layer_exact", tests, NULL, NULL);
}
