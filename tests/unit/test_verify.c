/* SPDX-License-Identifier: Apache-2.0 */
/* layer_verify.c, manifest*.c and fingerprint.c: what a commit remembers, and what is said of a layer later. */
#include "testlib.h"

#include "commit.h"
#include "layer_verify.h"
#include "manifest_make.h"
#include "record.h"
#include "remove.h"
#include "rename.h"
#include "util/wanted.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <xxhash.h>

/* The path of something in the layer of snapshot 1. */
#define IN(name) test_path(t, "layers/1/fs/" name)

static int store_setup(void **state)
{
        static const struct strata_config config = { .fingerprint = true };

        *state = test_store_new(&config);
        return 0;
}

static char *verify(struct test_store *t, const char *name)
{
        struct strata_info info = test_info(t, STRATA_COMMITTED, name);
        struct strata_buf buf = STRATA_BUF_INIT;
        uint64_t n = 0;
        int r = strata_verify(t->s, &info, &buf, &n);

        assert_int_equal(r, 0);
        assert_non_null(buf.data);
        assert_int_equal(n == 0, strcmp(buf.data, "ok\n") == 0);
        return buf.data;
}

static void assert_says(struct test_store *t, const char *name, const char *text)
{
        char *got = verify(t, name);

        assert_string_equal(got, text);
        free(got);
}

/* Something of each kind, in the layer 1 of the snapshot "s". */
static void make_snapshot(struct test_store *t)
{
        const mode_t mode = 0644;

        assert_int_equal(test_prepare(t, STRATA_ACTIVE, "k", ""), 1);
        assert_int_equal(mkdir(IN("d"), 0755), 0);
        assert_int_equal(mkdir(IN("d/e"), 0700), 0);
        test_write(IN("d/e/deep"), "deep");
        test_write(IN("d-e"), "sorts before d/e");
        test_write(IN("f"), "contents");
        assert_int_equal(setxattr(IN("f"), "user.x", "1", 1, 0), 0);
        assert_int_equal(link(IN("f"), IN("hard")), 0);
        assert_int_equal(link(IN("f"), IN("d/hard")), 0);
        assert_int_equal(symlink("f", IN("link")), 0);
        assert_int_equal(lsetxattr(IN("link"), "trusted.y", "", 0, 0), 0);
        assert_int_equal(mknod(IN("null"), S_IFCHR | mode, makedev(1, 3)), 0);
        assert_int_equal(mknod(IN("loop"), S_IFBLK | mode, makedev(7, 0)), 0);
        assert_int_equal(mknod(IN("white"), S_IFCHR, makedev(0, 0)), 0);
        assert_int_equal(mkfifo(IN("pipe"), 0600), 0);
        test_write(IN("empty"), "");
        test_write(IN("odd\n\"name"), "x");
        assert_int_equal(setxattr(IN("d"), "trusted.overlay.opaque", "y", 1, 0), 0);
        test_commit(t, "k", "s");
}

static void set_mtime(const char *path, time_t sec, long nsec)
{
        const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = sec, .tv_nsec = nsec } };

        assert_int_equal(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

static struct timespec mtime_of(const char *path)
{
        struct stat st;

        assert_int_equal(lstat(path, &st), 0);
        return st.st_mtim;
}

/* Changes made by hand leave the times of directories as they were: those are tested by themselves. */
static void keep_time(const char *path, struct timespec t)
{
        set_mtime(path, t.tv_sec, t.tv_nsec);
}

static void all_kinds_are_ok(void **state)
{
        struct test_store *t = *state;
        const char *why;

        make_snapshot(t);
        assert_says(t, "s", "ok\n");
        assert_int_equal(strata_rename(t->s, STRATA_COMMITTED, "s", "other", &why), 0);
        assert_says(t, "other", "ok\n");
        test_snapshot(t, "two", "other");
        assert_says(t, "two", "ok\n");
        assert_int_equal(strata_exchange(t->s, STRATA_COMMITTED, "two", "other", &why), 0);
        assert_says(t, "two", "ok\n");
        assert_says(t, "other", "ok\n");
        test_store_crash(t);
        assert_says(t, "two", "ok\n");
        assert_says(t, "other", "ok\n");
}

/* What changes without anybody's doing, or when a store is copied. */
static void no_false_alarms(void **state)
{
        static const char *const own[] = { "trusted.overlay.origin", "trusted.overlay.impure", "trusted.overlay.uuid",
                                           "user.overlay.origin",    "trusted.overlay.nlink",  "security.selinux" };
        const struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } };
        struct test_store *t = *state;
        struct timespec before;
        struct stat st;

        make_snapshot(t);
        for (size_t i = 0; i < COUNT(own); i++)
                assert_int_equal(setxattr(IN("f"), own[i], "z", 1, 0), 0);
        assert_int_equal(utimensat(AT_FDCWD, IN("f"), now, 0), 0);
        assert_int_equal(stat(IN("f"), &st), 0);
        assert_int_equal(chmod(IN("f"), 0700), 0);
        assert_int_equal(chmod(IN("f"), st.st_mode & 07777), 0); /* the time of change */
        before = mtime_of(IN("d"));
        assert_int_equal(link(IN("d-e"), IN("d/more")), 0); /* a directory's size, a file's count of links */
        assert_int_equal(unlink(IN("d/more")), 0);
        set_mtime(IN("d"), before.tv_sec, 0); /* a copy that keeps seconds only */
        /* whiteouts: which inode they are, and whose */
        before = mtime_of(IN(""));
        assert_int_equal(unlink(IN("white")), 0);
        assert_int_equal(mknod(IN("white"), S_IFCHR | 0600, makedev(0, 0)), 0);
        assert_int_equal(chown(IN("white"), 5, 6), 0);
        keep_time(IN(""), before);
        assert_says(t, "s", "ok\n");
}

static void rewrite(const char *path)
{
        test_write(path, "derp");
}

static void retarget(const char *path)
{
        assert_int_equal(unlink(path), 0);
        assert_int_equal(symlink("g", path), 0);
        assert_int_equal(lsetxattr(path, "trusted.y", "", 0, 0), 0);
}

static void renumber(const char *path)
{
        struct stat st;

        assert_int_equal(lstat(path, &st), 0);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mknod(path, st.st_mode, makedev(1, 5)), 0);
}

static void make_sticky(const char *path)
{
        assert_int_equal(chmod(path, 01755), 0);
}

static void give_away(const char *path)
{
        assert_int_equal(lchown(path, 0, 1), 0);
}

static void make_younger(const char *path)
{
        set_mtime(path, 1000000000, 1);
}

static void change_xattr(const char *path)
{
        assert_int_equal(lsetxattr(path, "trusted.y", "1", 1, 0), 0);
}

static void unmark(const char *path)
{
        assert_int_equal(removexattr(path, "trusted.overlay.opaque"), 0);
}

static void drop(const char *path)
{
        assert_int_equal(unlink(path), 0);
}

static void make(const char *path)
{
        test_write(path, "");
}

static void replace(const char *path)
{
        drop(path);
        make(path);
}

/* The same in all but that it is another file. */
static void unlink_from_others(const char *path)
{
        drop(path);
        test_write(path, "contents");
        assert_int_equal(setxattr(path, "user.x", "1", 1, 0), 0);
}

static void assert_difference(const char *name, void (*change)(const char *path), const char *says)
{
        struct timespec root, dir, own = { 0 };
        struct test_store *t;
        const char *path;
        struct stat st;

        store_setup((void **)&t);
        make_snapshot(t);
        path = test_path(t, "layers/1/fs/%s", name);
        root = mtime_of(IN(""));
        dir = mtime_of(IN("d"));
        if (lstat(path, &st) == 0)
                own = st.st_mtim;
        change(path);
        if (own.tv_sec && change != make_younger && lstat(path, &st) == 0)
                keep_time(path, own);
        keep_time(IN("d"), dir);
        keep_time(IN(""), root);
        assert_says(t, "s", says);
        test_store_free(t);
}

/* One change after the other; each is named, and what else there is stays ok. */
static void each_difference_is_named(void **state)
{
        (void)state;
        assert_difference("d/e/deep", rewrite, "content /d/e/deep\n");
        assert_difference("link", retarget, "content /link\n");
        assert_difference("null", renumber, "content /null\n");
        assert_difference("d", make_sticky, "mode /d\n");
        assert_difference("pipe", give_away, "owner /pipe\n");
        assert_difference("d-e", make_younger, "time /d-e\n");
        assert_difference("link", change_xattr, "xattr /link\n");
        assert_difference("empty", change_xattr, "xattr /empty\n");
        assert_difference("d", unmark, "xattr /d\n");
        assert_difference("empty", drop, "missing /empty\n");
        assert_difference("odd\n\"name", drop, "missing \"/odd\\n\\\"name\"\n");
        assert_difference("d/added", make, "added /d/added\n");
        assert_difference("white", replace, "type /white\n");
        assert_difference("hard", unlink_from_others, "links /hard\n");
}

/* Each bit of a file and of its manifest. */
static void flip(const char *path, size_t bit)
{
        struct timespec time = mtime_of(path);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        unsigned char byte;

        assert_true(fd >= 0);
        assert_int_equal(pread(fd, &byte, 1, (off_t)(bit / 8)), 1);
        byte ^= (unsigned char)(1 << bit % 8);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
        close(fd);
        keep_time(path, time);
}

static void each_bit_of_a_file_counts(void **state)
{
        struct test_store *t = *state;

        make_snapshot(t);
        for (size_t bit = 0; bit < 8 * strlen("contents"); bit++) {
                flip(IN("f"), bit);
                assert_says(t, "s", "content /d/hard\n"); /* its first name */
                flip(IN("f"), bit);
        }
        assert_says(t, "s", "ok\n");
}

static void each_bit_of_a_manifest_counts(void **state)
{
        struct test_store *t = *state;
        struct stat st;

        make_snapshot(t);
        assert_int_equal(stat(test_path(t, "layers/1/manifest"), &st), 0);
        for (size_t bit = 0; bit < 8 * (size_t)st.st_size; bit += 5) {
                flip(test_path(t, "layers/1/manifest"), bit);
                assert_says(t, "s", "no fingerprints: the manifest of this snapshot is damaged\n");
                flip(test_path(t, "layers/1/manifest"), bit);
        }
        assert_says(t, "s", "ok\n");
        /* Another's, whole by itself; cut off; gone. */
        assert_int_equal(truncate(test_path(t, "layers/1/manifest"), st.st_size - 1), 0);
        assert_says(t, "s", "no fingerprints: the manifest of this snapshot is damaged\n");
        assert_int_equal(truncate(test_path(t, "layers/1/manifest"), 0), 0);
        assert_says(t, "s", "no fingerprints: the manifest of this snapshot is damaged\n");
        assert_int_equal(unlink(test_path(t, "layers/1/manifest")), 0);
        assert_says(t, "s", "no fingerprints: the manifest of this snapshot is missing\n");
}

/* An empty layer's manifest is in its record: no file, but its root is compared. */
static void an_empty_layer_needs_no_file(void **state)
{
        struct test_store *t = *state;

        assert_int_equal(test_snapshot(t, "s", ""), 1);
        assert_false(test_exists(t, "layers/1/manifest"));
        assert_says(t, "s", "ok\n");
        assert_int_equal(chmod(IN(""), 0700), 0);
        assert_says(t, "s", "mode /\n");
        assert_int_equal(chmod(IN(""), 0755), 0);
        assert_int_equal(setxattr(IN(""), "user.x", "", 0, 0), 0);
        assert_says(t, "s", "xattr /\n");
}

static void without_fingerprints(void **state)
{
        struct test_store *t = *state;

        t->s->config.fingerprint = false;
        make_snapshot(t);
        assert_false(test_exists(t, "layers/1/manifest"));
        assert_says(t, "s", "no fingerprints: none were kept of this snapshot (-o fingerprint=on keeps them)\n");
}

/* Zeroes and holes are the same, wherever they are; a whole block of them counts all the same. */
static void holes_are_zeroes(void **state)
{
        static const char *const lines[] = { "ok\n", "content /f\n" };
        struct test_store *t = *state;
        struct timespec time;
        char *zeroes = calloc(1, 1 << 20);
        int fd;

        test_prepare(t, STRATA_ACTIVE, "k", "");
        fd = open(IN("f"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        assert_int_equal(pwrite(fd, "a", 1, 0), 1);
        assert_int_equal(pwrite(fd, "b", 1, 600000), 1);
        assert_int_equal(ftruncate(fd, (off_t)1 << 40), 0); /* would take long if it were read */
        assert_int_equal(pwrite(fd, "c", 1, ((off_t)1 << 40) - 100), 1);
        test_commit(t, "k", "s");
        assert_says(t, "s", "ok\n");
        time = mtime_of(IN("f"));
        for (int i = 0; i < 2; i++) {
                /* the second time a byte stands in what was a hole */
                zeroes[1000] = (char)i;
                assert_int_equal(pwrite(fd, zeroes, 1 << 20, 700000), 1 << 20);
                keep_time(IN("f"), time);
                assert_says(t, "s", lines[i]);
        }
        close(fd);
        free(zeroes);
}

/* A small file's fingerprint is that of any other program. */
static void content_is_plain_xxh3(void **state)
{
        struct test_store *t = *state;
        XXH128_hash_t hash = XXH3_128bits("contents", 8);
        char want[64], *text;
        size_t len = 0;
        FILE *file;

        make_snapshot(t);
        file = fopen(test_path(t, "layers/1/manifest"), "re");
        text = NULL;
        snprintf(want, sizeof(want), " 8 %016" PRIx64 "%016" PRIx64 " ", hash.high64, hash.low64);
        assert_true(getdelim(&text, &len, EOF, file) > 0);
        assert_non_null(memmem(text, len, want, strlen(want)));
        fclose(file);
        free(text);
}

/* What a commit leaves that fails, or never comes to its end. */
static void a_commit_that_fails_leaves_no_manifest(void **state)
{
        struct test_store *t = *state;
        int real = t->s->root_fd;
        const char *why = NULL;
        char *before;

        t->s->config.durable = true;
        test_prepare(t, STRATA_ACTIVE, "k", "");
        test_write(IN("f"), "x");
        before = test_state(t);
        t->s->root_fd = open(t->path, O_PATH | O_CLOEXEC);
        assert_int_equal(strata_commit(t->s, "k", "n", &why), -EBADF);
        close(t->s->root_fd);
        t->s->root_fd = real;
        test_assert_state(t, before);
        test_write(test_path(t, "layers/1/manifest"), "of one that a kill cut off");
        test_commit(t, "k", "n");
        assert_says(t, "n", "ok\n");
}

static bool is_wanted(void *data)
{
        return (*(int *)data)--;
}

static void ends_when_told_to(void **state)
{
        struct test_store *t = *state;
        struct strata_buf buf = STRATA_BUF_INIT;
        int looks;
        struct strata_info info;
        uint64_t n = 7;

        make_snapshot(t);
        info = test_info(t, STRATA_COMMITTED, "s");
        for (int i = 0; i < 10; i++) {
                looks = i;
                strata_wanted_ask(is_wanted, &looks);
                assert_int_equal(strata_verify(t->s, &info, &buf, &n), -EINTR);
                strata_wanted_ask(NULL, NULL);
                assert_int_equal(looks, -1);
                assert_int_equal(n, 7);
                assert_int_equal(buf.len, 0);
        }
}

/* Files that vanish with their snapshot are not missing. */
static void a_removed_snapshot_has_no_differences(void **state)
{
        struct test_store *t = *state;
        struct strata_buf buf = STRATA_BUF_INIT;
        struct strata_info info;
        const char *why;
        uint64_t n;

        make_snapshot(t);
        info = test_info(t, STRATA_COMMITTED, "s");
        assert_int_equal(unlink(IN("f")), 0);
        assert_int_equal(strata_remove(t->s, STRATA_COMMITTED, "s", &why), 0);
        assert_int_equal(strata_verify(t->s, &info, &buf, &n), -ENOENT);
        assert_int_equal(buf.len, 0);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(all_kinds_are_ok),
                STORE_TEST(no_false_alarms),
                cmocka_unit_test(each_difference_is_named),
                STORE_TEST(each_bit_of_a_file_counts),
                STORE_TEST(each_bit_of_a_manifest_counts),
                STORE_TEST(an_empty_layer_needs_no_file),
                STORE_TEST(without_fingerprints),
                STORE_TEST(holes_are_zeroes),
                STORE_TEST(content_is_plain_xxh3),
                STORE_TEST(a_commit_that_fails_leaves_no_manifest),
                STORE_TEST(ends_when_told_to),
                STORE_TEST(a_removed_snapshot_has_no_differences),
        };

        return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
