/* SPDX-License-Identifier: Apache-2.0 */
/* Real overlay mounts, through both kernel interfaces, in a mount namespace of this process alone. */
#include "testlib.h"

#include "index.h"
#include "mount.h"
#include "util/cleanup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static void an_active_base_is_written_below(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "web", "");
        char line[8192];
        struct stat st;

        assert_int_equal(test_attach(t, STRATA_ACTIVE, "web"), 0);
        test_mount_line(test_mnt(t, ""), line);
        assert_non_null(strstr(line, " - overlay stratafs:web "));
        assert_int_equal(stat(test_mnt(t, ""), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0755);
        test_write(test_mnt(t, "file"), "hello");
        test_assert_text(test_path(t, "layers/%" PRIu64 "/fs/file", id), "hello");
        assert_true(test_exists(t, "layers/%" PRIu64 "/mounted", id));
        test_detach(t, id);
        assert_false(test_exists(t, "layers/%" PRIu64 "/mounted", id));
        assert_int_equal(test_count_dir(test_mnt(t, "")), 0);
}

static void layers_lie_on_each_other(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");

        assert_int_equal(test_attach(t, STRATA_ACTIVE, "a"), 0);
        test_write(test_mnt(t, "kept"), "1");
        test_write(test_mnt(t, "changed"), "1");
        test_write(test_mnt(t, "deleted"), "1");
        test_detach(t, id);
        test_commit(t, "a", "s1");
        id = test_prepare(t, STRATA_ACTIVE, "a", "s1");
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "a"), 0);
        test_write(test_mnt(t, "changed"), "2");
        assert_int_equal(unlink(test_mnt(t, "deleted")), 0);
        assert_int_equal(rename(test_mnt(t, "kept"), test_mnt(t, "moved")), 0);
        test_detach(t, id);
        test_commit(t, "a", "s2");
        test_prepare(t, STRATA_VIEW, "v", "s2");
        for (int view = 0; view < 2; view++) {
                assert_int_equal(test_attach(t, view ? STRATA_VIEW : STRATA_COMMITTED, view ? "v" : "s2"), 0);
                assert_int_equal(test_count_dir(test_mnt(t, "")), 2);
                test_assert_text(test_mnt(t, "moved"), "1");
                test_assert_text(test_mnt(t, "changed"), "2");
                test_assert_read_only(test_mnt(t, "changed"));
                test_detach(t, 0);
        }
        assert_int_equal(test_attach(t, STRATA_COMMITTED, "s1"), 0);
        assert_int_equal(test_count_dir(test_mnt(t, "")), 3);
        test_assert_text(test_mnt(t, "changed"), "1");
        test_detach(t, 0);
}

static void views_of_nothing_and_single_layers(void **state)
{
        struct test_store *t = *state;
        uint64_t view = test_prepare(t, STRATA_VIEW, "v", ""), base = test_snapshot(t, "base", "");

        assert_int_equal(test_attach(t, STRATA_VIEW, "v"), 0);
        assert_int_equal(test_count_dir(test_mnt(t, "")), 0);
        test_assert_read_only(test_mnt(t, "file"));
        test_detach(t, 0);
        assert_int_equal(test_attach(t, STRATA_COMMITTED, "base"), 0);
        test_assert_read_only(test_mnt(t, "file"));
        test_detach(t, 0);
        assert_false(test_exists(t, "layers/%" PRIu64 "/mounted", view));
        assert_false(test_exists(t, "layers/%" PRIu64 "/mounted", base));
}

/* Snapshots are not trusted: nosuid, nodev. The others only where the configuration says so. */
static void mount_flags(void **state)
{
        struct test_store *t = *state;

        test_snapshot(t, "s", "");
        test_prepare(t, STRATA_ACTIVE, "a", "s");
        test_prepare(t, STRATA_VIEW, "v", "s");
        for (int restricted = 0; restricted < 2; restricted++) {
                static const char *const names[] = { "a", "v", "s" };

                t->s->config.restrict_mounts = restricted;
                for (int kind = 0; kind < STRATA_KINDS; kind++) {
                        unsigned long expected = restricted || kind == STRATA_COMMITTED ? ST_NOSUID | ST_NODEV : 0;
                        struct statvfs st;

                        if (kind != STRATA_ACTIVE)
                                expected |= ST_RDONLY;
                        assert_int_equal(test_attach(t, kind, names[kind]), 0);
                        assert_int_equal(statvfs(test_mnt(t, ""), &st), 0);
                        assert_int_equal(st.f_flag & (ST_NOSUID | ST_NODEV | ST_RDONLY), expected);
                        test_detach(t, kind == STRATA_ACTIVE ? 2 : 0);
                }
        }
        t->s->config.read_only = true;
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "a"), 0);
        test_assert_read_only(test_mnt(t, "file"));
        test_detach(t, 2);
        t->s->config.read_only = false;
}

/* Those that the configuration has for all mounts. */
static void more_mount_flags(void **state)
{
        static const struct {
                unsigned attributes;
                unsigned long shown;
        } cases[] = {
                { 0, ST_RELATIME },
                { MOUNT_ATTR_NOEXEC, ST_NOEXEC | ST_RELATIME },
                { MOUNT_ATTR_NOATIME, ST_NOATIME },
                { MOUNT_ATTR_NODIRATIME, ST_NODIRATIME | ST_RELATIME },
                { MOUNT_ATTR_STRICTATIME, 0 },
                { MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOATIME | MOUNT_ATTR_NODIRATIME,
                  ST_NOEXEC | ST_NOATIME | ST_NODIRATIME },
        };
        struct test_store *t = *state;
        struct statvfs st;

        test_snapshot(t, "s", "");
        test_prepare(t, STRATA_ACTIVE, "a", "s");
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                t->s->config.attributes = cases[i].attributes;
                for (int kind = 0; kind < STRATA_KINDS; kind++) {
                        if (kind == STRATA_VIEW)
                                continue;
                        assert_int_equal(test_attach(t, kind, kind == STRATA_ACTIVE ? "a" : "s"), 0);
                        assert_int_equal(statvfs(test_mnt(t, ""), &st), 0);
                        assert_int_equal(st.f_flag & (ST_NOEXEC | ST_NOATIME | ST_NODIRATIME | ST_RELATIME),
                                         cases[i].shown);
                        test_detach(t, kind == STRATA_ACTIVE ? 2 : 0);
                }
        }
}

static void detaches(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        char link[PATH_MAX];
        dev_t dev = 77;
        int fd;

        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        fd = open(test_mnt(t, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(strata_mount_detach(test_mnt(t, ""), 0), -EBUSY);
        close(fd);
        snprintf(link, sizeof(link), "%s/link", t->dir);
        assert_int_equal(symlink(test_mnt(t, ""), link), 0);
        assert_true(strata_mount_detach(link, 0) < 0); /* links are not followed */
        assert_int_equal(strata_mount_is_attached(test_mnt(t, ""), &dev), 1);
        test_detach(t, id);
        assert_int_equal(strata_mount_detach(test_mnt(t, ""), 0), -EINVAL);
        assert_int_equal(strata_mount_detach(test_mnt(t, "none"), 0), -ENOENT);
}

static void a_lazy_detach_hides_a_mount_in_use(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        dev_t dev;
        int fd;

        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        fd = open(test_mnt(t, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(strata_mount_detach(test_mnt(t, ""), MNT_DETACH), 0);
        assert_int_equal(strata_mount_is_attached(test_mnt(t, ""), &dev), 0);
        close(fd);
        strata_mount_left(t->s, id);
}

static void knows_what_is_attached(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct stat st;
        dev_t dev = 77;

        assert_int_equal(mkdir(test_mnt(t, ""), 0700), 0);
        assert_int_equal(strata_mount_is_attached(test_mnt(t, ""), &dev), 0);
        assert_int_equal(dev, 77);
        assert_int_equal(strata_mount_is_attached(test_mnt(t, "none"), &dev), -ENOENT);
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        assert_int_equal(stat(test_mnt(t, ""), &st), 0);
        assert_int_equal(strata_mount_is_attached(test_mnt(t, ""), &dev), 1);
        assert_int_equal(dev, st.st_dev);
        test_write(test_mnt(t, "file"), "");
        assert_int_equal(strata_mount_is_attached(test_mnt(t, "file"), &dev), 0);
        test_detach(t, id);
        assert_int_equal(strata_mount_is_attached(test_mnt(t, ""), &dev), 0);
}

static void a_chain_as_long_as_allowed(void **state)
{
        struct test_store *t = *state;
        bool old_api = t->s->mount_api == &strata_mount_old;
        int max = old_api ? 300 : STRATA_CHAIN_MAX;
        char name[16], parent[16] = "";
        uint64_t id = 0;

        for (int i = 1; i < max; i++) {
                snprintf(name, sizeof(name), "s%d", i);
                id = test_snapshot(t, name, parent);
                snprintf(parent, sizeof(parent), "%s", name);
                snprintf(name, sizeof(name), "f%d", i);
                test_write(test_path(t, "layers/%" PRIu64 "/fs/%s", id, name), name);
        }
        id = test_prepare(t, STRATA_ACTIVE, "top", parent);
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "top"), 0);
        assert_int_equal(test_count_dir(test_mnt(t, "")), max - 1);
        test_assert_text(test_mnt(t, "f1"), "f1");
        test_write(test_mnt(t, "f1"), "top"); /* copied up from the lowest */
        test_detach(t, id);
        test_commit(t, "top", "top");
        assert_int_equal(test_attach(t, STRATA_COMMITTED, "top"), 0);
        assert_int_equal(test_count_dir(test_mnt(t, "")), max - 1);
        test_assert_text(test_mnt(t, "f1"), "top");
        test_assert_text(test_mnt(t, "f2"), "f2");
        test_detach(t, 0);
        test_prepare(t, STRATA_VIEW, "v", "top");
        assert_int_equal(test_attach(t, STRATA_VIEW, "v"), 0);
        test_assert_text(test_mnt(t, "f2"), "f2");
        test_detach(t, 0);
}

/* mount(2) would cut the options, and lose layers without a word. */
static void options_past_the_limit_are_refused(void **state)
{
        struct test_store *t = *state;
        uint64_t lowers[STRATA_CHAIN_MAX];
        struct strata_chain chain = { .lowers = lowers, .n = STRATA_CHAIN_MAX };
        struct strata_mount_spec spec = { .source = "stratafs:x", .chain = &chain, .read_only = true };
        cleanup_fd int fd = -1;
        dev_t dev;

        assert_int_equal(mkdir(test_mnt(t, ""), 0700), 0);
        fd = open(test_mnt(t, ""), O_PATH | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        for (size_t i = 0; i < COUNT(lowers); i++)
                lowers[i] = 1000000 + i;
        assert_true(strata_mount_options_length(&chain) > 4095);
        assert_int_equal(strata_mount_old.attach(t->s, &spec, fd, &dev), -EMLINK);
}

/* The length is that of the longest string that is ever given, so a page holds it if this says so. */
static void options_length_is_right(void **state)
{
        uint64_t lowers[] = { 12, 345 };
        struct strata_chain chain = { .upper = 6789, .lowers = lowers, .n = 2 };

        (void)state;
        assert_int_equal(strata_mount_options_length(&chain),
                         strlen("index=off,metacopy=off,redirect_dir=nofollow,lowerdir=12/fs:345/fs,upperdir=6789/fs,"
                                "workdir=6789/work,userxattr,volatile") +
                                 1);
        chain.upper = 0;
        chain.n = 1;
        assert_int_equal(
                strata_mount_options_length(&chain),
                strlen("index=off,metacopy=off,redirect_dir=nofollow,lowerdir=12/fs:../empty,userxattr,volatile") + 1);
}

/* An upper directory is a layer of its own only without these; what the kernel or the distribution prefers must not
 * matter. */
static void uppers_are_self_contained(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_prepare(t, STRATA_ACTIVE, "b", ""), id;
        char *text;

        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/fs/dir", base), 0755), 0);
        test_write(test_path(t, "layers/%" PRIu64 "/fs/dir/file", base), "below");
        test_commit(t, "b", "base");
        id = test_prepare(t, STRATA_ACTIVE, "k", "base");
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        /* redirect_dir=on would do it, and leave a pointer into the layer below. */
        assert_int_equal(rename(test_mnt(t, "dir"), test_mnt(t, "renamed")), -1);
        assert_int_equal(errno, EXDEV);
        /* metacopy=on would copy no data up for this. */
        assert_int_equal(chmod(test_mnt(t, "dir/file"), 0640), 0);
        test_detach(t, id);
        text = test_read(test_path(t, "layers/%" PRIu64 "/fs/dir/file", id));
        assert_non_null(text);
        assert_string_equal(text, "below");
        free(text);
}

static void a_broken_chain_is_told(void **state)
{
        struct test_store *t = *state;
        uint64_t base = test_snapshot(t, "base", ""), id = test_prepare(t, STRATA_ACTIVE, "k", "base");

        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/meta", base), 40), 0);
        strata_index_drop(t->s->index, base);
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), -EUCLEAN);
        assert_false(test_exists(t, "layers/%" PRIu64 "/mounted", id));
}

static void a_failed_attach_leaves_no_mark(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        dev_t dev;

        assert_int_equal(rename(test_path(t, "layers/%" PRIu64 "/work", id), test_path(t, "work")), 0);
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), -ENOENT);
        assert_false(test_exists(t, "layers/%" PRIu64 "/mounted", id));
        assert_int_equal(strata_mount_is_attached(test_mnt(t, ""), &dev), 0);
        assert_int_equal(rename(test_path(t, "work"), test_path(t, "layers/%" PRIu64 "/work", id)), 0);
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        test_detach(t, id);
}

static void any_name_can_be_mounted(void **state)
{
        struct test_store *t = *state;
        char longest[STRATA_NAME_MAX + 1];
        const char *names[] = { "a b", "a,b", "a:b\\c", "\xff\xfe", longest };

        memset(longest, 'n', sizeof(longest) - 1);
        longest[STRATA_NAME_MAX] = '\0';
        for (size_t i = 0; i < COUNT(names); i++) {
                uint64_t id = test_prepare(t, STRATA_ACTIVE, names[i], "");

                assert_int_equal(test_attach(t, STRATA_ACTIVE, names[i]), 0);
                test_write(test_mnt(t, "file"), "x");
                assert_true(test_exists(t, "layers/%" PRIu64 "/fs/file", id));
                test_detach(t, id);
        }
}

/* Paths that fsconfig(2) doesn't take as they are: the kernel's limit is 255 bytes. */
static void a_store_far_down_can_be_mounted(void **state)
{
        struct test_store *t = *state, deep = *t;
        char path[PATH_MAX / 4];
        uint64_t id;

        snprintf(path, sizeof(path), "%s", t->dir);
        for (int i = 0; i < 3; i++) {
                size_t len = strlen(path);

                assert_true((size_t)snprintf(path + len, sizeof(path) - len, "/%0*d", i == 2 ? 30 : 120, 0) <
                            sizeof(path) - len);
                assert_int_equal(mkdir(path, 0700), 0);
        }
        snprintf(deep.path, sizeof(deep.path), "%s/store", path);
        assert_int_equal(strata_open(deep.path, &deep.config, &deep.s, &(char *){ NULL }), 0);
        test_snapshot(&deep, "base", "");
        test_snapshot(&deep, "top", "base");
        id = test_prepare(&deep, STRATA_ACTIVE, "k", "top");
        assert_int_equal(test_attach(&deep, STRATA_ACTIVE, "k"), 0);
        test_write(test_mnt(&deep, "file"), "x");
        assert_true(test_exists(&deep, "layers/%" PRIu64 "/fs/file", id));
        test_detach(&deep, id);
        assert_int_equal(test_attach(&deep, STRATA_COMMITTED, "base"), 0);
        test_detach(&deep, 0);
        assert_int_equal(chdir("/"), 0);
        strata_close_store(deep.s);
}

static void the_interface_is_chosen(void **state)
{
        (void)state;
        assert_ptr_equal(strata_mount_choose(true), &strata_mount_old);
        assert_non_null(strata_mount_choose(false));
        assert_int_equal(strata_mount_new.max_options, 0);
        assert_int_equal(strata_mount_old.max_options, 4095);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_BOTH_APIS(an_active_base_is_written_below),
                TEST_BOTH_APIS(layers_lie_on_each_other),
                TEST_BOTH_APIS(views_of_nothing_and_single_layers),
                TEST_BOTH_APIS(mount_flags),
                TEST_BOTH_APIS(more_mount_flags),
                TEST_BOTH_APIS(detaches),
                TEST_BOTH_APIS(a_lazy_detach_hides_a_mount_in_use),
                TEST_BOTH_APIS(knows_what_is_attached),
                TEST_BOTH_APIS(a_chain_as_long_as_allowed),
                { "options_past_the_limit_are_refused", options_past_the_limit_are_refused, test_old_api_setup,
                  test_mount_teardown, NULL },
                cmocka_unit_test(options_length_is_right),
                TEST_BOTH_APIS(uppers_are_self_contained),
                TEST_BOTH_APIS(a_broken_chain_is_told),
                TEST_BOTH_APIS(a_failed_attach_leaves_no_mark),
                TEST_BOTH_APIS(any_name_can_be_mounted),
                TEST_BOTH_APIS(a_store_far_down_can_be_mounted),
                cmocka_unit_test(the_interface_is_chosen),
        };

        return cmocka_run_group_tests_name("mount", tests, test_private_mounts, NULL);
}
