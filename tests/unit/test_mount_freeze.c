/* SPDX-License-Identifier: Apache-2.0 */
/* Freezing and thawing real overlay mounts, attached through both kernel interfaces. */
#include "testlib.h"

#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

static void freezes_and_thaws(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        int writer, reader;

        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        writer = open(test_mnt(t, "file"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        reader = open(test_mnt(t, "file"), O_RDONLY | O_CLOEXEC);
        assert_true(writer >= 0 && reader >= 0);
        for (int tries = 0; tries < 2; tries++) {
                assert_int_equal(strata_mount_freeze(t->s, test_mnt(t, "")), -EBUSY);
                assert_int_equal(write(writer, "x", 1), 1); /* nothing changed for the writer */
        }
        close(writer);
        assert_int_equal(strata_mount_freeze(t->s, test_mnt(t, "")), 0);
        test_assert_read_only(test_mnt(t, "other"));
        test_assert_read_only(test_mnt(t, "file"));
        assert_int_equal(strata_mount_freeze(t->s, test_mnt(t, "")), 0); /* twice is fine */
        assert_int_equal(strata_mount_thaw(t->s, test_mnt(t, "")), 0);
        test_write(test_mnt(t, "other"), "x");
        test_assert_text(test_mnt(t, "other"), "x");
        close(reader);
        test_detach(t, id);
}

/* What an administrator set by a remount stays, whatever the configuration says. */
static void freezing_keeps_the_flags_of_the_mount(void **state)
{
        const unsigned long set = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME;
        const unsigned long shown = ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_NOATIME;
        struct test_store *t = *state;
        struct statvfs st;

        test_prepare(t, STRATA_ACTIVE, "k", "");
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        assert_int_equal(statvfs(test_mnt(t, ""), &st), 0);
        assert_int_equal(st.f_flag & shown, 0);
        assert_int_equal(mount(NULL, test_mnt(t, ""), NULL, MS_REMOUNT | MS_BIND | set, NULL), 0);
        assert_int_equal(strata_mount_freeze(t->s, test_mnt(t, "")), 0);
        assert_int_equal(statvfs(test_mnt(t, ""), &st), 0);
        assert_int_equal(st.f_flag & (shown | ST_RDONLY), shown | ST_RDONLY);
        assert_int_equal(strata_mount_thaw(t->s, test_mnt(t, "")), 0);
        assert_int_equal(statvfs(test_mnt(t, ""), &st), 0);
        assert_int_equal(st.f_flag & (shown | ST_RDONLY), shown);
        test_detach(t, 1);
}

/* Through whatever bind mount: it is one superblock. */
static void freezes_all_bind_mounts(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        char bind[PATH_MAX], file[PATH_MAX + 8];
        int writer;

        snprintf(bind, sizeof(bind), "%s/bind", t->dir);
        snprintf(file, sizeof(file), "%s/file", bind);
        assert_int_equal(mkdir(bind, 0700), 0);
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        assert_int_equal(mount(test_mnt(t, ""), bind, NULL, MS_BIND, NULL), 0);
        writer = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(writer >= 0);
        assert_int_equal(strata_mount_freeze(t->s, test_mnt(t, "")), -EBUSY);
        close(writer);
        assert_int_equal(strata_mount_freeze(t->s, test_mnt(t, "")), 0);
        test_assert_read_only(file);
        assert_int_equal(strata_mount_thaw(t->s, test_mnt(t, "")), 0);
        writer = open(file, O_WRONLY | O_CLOEXEC);
        assert_true(writer >= 0);
        close(writer);
        assert_int_equal(umount(bind), 0);
        test_detach(t, id);
}

/* And through another mount namespace. */
static void freezes_other_namespaces(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        int to[2], from[2], status;
        char byte;
        pid_t pid;

        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        assert_int_equal(pipe2(to, O_CLOEXEC), 0);
        assert_int_equal(pipe2(from, O_CLOEXEC), 0);
        pid = test_fork();
        if (pid == 0) {
                int fd =
                        unshare(CLONE_NEWNS) < 0 ? -1 : open(test_mnt(t, "file"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

                if (fd < 0 || write(from[1], "w", 1) != 1 || read(to[0], &byte, 1) != 1)
                        _exit(1);
                close(fd);
                if (write(from[1], "c", 1) != 1 || read(to[0], &byte, 1) != 1)
                        _exit(1);
                fd = open(test_mnt(t, "file"), O_WRONLY | O_CLOEXEC);
                _exit(fd < 0 && errno == EROFS ? 0 : 2);
        }
        assert_int_equal(read(from[0], &byte, 1), 1);
        assert_int_equal(strata_mount_freeze(t->s, test_mnt(t, "")), -EBUSY);
        assert_int_equal(write(to[1], "x", 1), 1);
        assert_int_equal(read(from[0], &byte, 1), 1);
        assert_int_equal(strata_mount_freeze(t->s, test_mnt(t, "")), 0);
        assert_int_equal(write(to[1], "x", 1), 1);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        for (int i = 0; i < 2; i++) {
                close(to[i]);
                close(from[i]);
        }
        test_detach(t, id);
}

static void what_is_not_mounted_cannot_be_frozen(void **state)
{
        struct test_store *t = *state;
        char plain[PATH_MAX];

        snprintf(plain, sizeof(plain), "%s/plain", t->dir);
        assert_int_equal(mkdir(plain, 0700), 0);
        assert_true(strata_mount_freeze(t->s, plain) < 0);
        assert_true(strata_mount_thaw(t->s, plain) < 0);
        strcat(plain, "/none");
        assert_int_equal(strata_mount_freeze(t->s, plain), -ENOENT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST_BOTH_APIS(freezes_and_thaws),
                TEST_BOTH_APIS(freezing_keeps_the_flags_of_the_mount),
                TEST_BOTH_APIS(freezes_all_bind_mounts),
                TEST_BOTH_APIS(freezes_other_namespaces),
                TEST_BOTH_APIS(what_is_not_mounted_cannot_be_frozen),
        };

        return cmocka_run_group_tests_name("mount_freeze", tests, test_private_mounts, NULL);
}
