/* SPDX-License-Identifier: Apache-2.0 */
/* A layer as an archive, parsed back with libarchive. */
#include "exportlib.h"

#include "layer_export.h"
#include "mount.h"
#include "util/buf.h"
#include "util/cleanup.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/socket.h>
#include <sys/xattr.h>
#include <unistd.h>

static void describe(struct archive_entry *e, struct strata_buf *text)
{
        static const struct {
                mode_t type;
                char letter;
        } types[] = { { S_IFREG, 'f' }, { S_IFDIR, 'd' }, { S_IFLNK, 'l' },
                      { S_IFCHR, 'c' }, { S_IFBLK, 'b' }, { S_IFIFO, 'p' } };
        char letter = '?';

        for (size_t i = 0; i < COUNT(types); i++)
                if (archive_entry_filetype(e) == types[i].type)
                        letter = types[i].letter;
        if (archive_entry_hardlink(e))
                letter = 'h';
        strata_buf_addf(text, "%c %s", letter, archive_entry_pathname(e));
        if (letter == 'h')
                strata_buf_addf(text, " = %s", archive_entry_hardlink(e));
        if (letter == 'l')
                strata_buf_addf(text, " > %s", archive_entry_symlink(e));
        if (letter == 'c' || letter == 'b')
                strata_buf_addf(text, " %d:%d", (int)archive_entry_rdevmajor(e), (int)archive_entry_rdevminor(e));
        strata_buf_addstr(text, "\n");
}

/* A line an entry. */
static void assert_listing(struct test_store *t, enum strata_kind kind, const char *name, const char *expected)
{
        cleanup_buf struct strata_buf buf = export_layer(t, kind, name, 100000), text = STRATA_BUF_INIT;
        struct archive *a = export_open(&buf);
        struct archive_entry *e;
        int r;

        while ((r = archive_read_next_header(a, &e)) == ARCHIVE_OK)
                describe(e, &text);
        assert_int_equal(r, ARCHIVE_EOF);
        archive_read_free(a);
        assert_string_equal(text.data ? text.data : "", expected);
}

static void make_dir(const char *path)
{
        assert_int_equal(mkdir(path, 0755), 0);
}

static void every_kind_of_object_is_carried(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        cleanup_fd int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        make_dir(export_own(t, id, "d"));
        test_write(export_own(t, id, "d/f"), "text");
        test_write(export_own(t, id, "d-e"), "");
        assert_int_equal(link(export_own(t, id, "d/f"), export_own(t, id, "a")), 0);
        assert_int_equal(symlink("../up", export_own(t, id, "l")), 0);
        assert_int_equal(link(export_own(t, id, "l"), export_own(t, id, "m")), 0);
        assert_int_equal(mkfifo(export_own(t, id, "p"), 0600), 0);
        assert_int_equal(mknod(export_own(t, id, "null"), S_IFCHR | 0666, makedev(1, 3)), 0);
        assert_int_equal(mknod(export_own(t, id, "disk"), S_IFBLK | 0660, makedev(8, 1)), 0);
        assert_int_equal(chdir(export_own(t, id, "")), 0);
        strcpy(address.sun_path, "socket");
        assert_int_equal(bind(sock, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_listing(t, STRATA_ACTIVE, "k",
                       "d ./\nf a\nd d/\nf d-e\nh d/f = a\nb disk 8:1\nl l > ../up\nh m = l\nc null 1:3\np p\n");
}

static void attributes_are_exact(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        const struct timespec times[2] = { { 5, 0 }, { 1234567890, 123456789 } };
        const struct timespec old[2] = { { 5, 0 }, { -2, 800000000 } };
        struct archive_entry *e;
        struct archive *a;
        const char *name;
        const void *value;
        size_t len;

        test_write(export_own(t, id, "f"), "text");
        test_write(export_own(t, id, "old"), "");
        assert_int_equal(chown(export_own(t, id, "f"), 3000000000U, 70000), 0);
        assert_int_equal(chmod(export_own(t, id, "f"), 04751), 0);
        assert_int_equal(setxattr(export_own(t, id, "f"), "user.bin", "a\0b\n", 4, 0), 0);
        assert_int_equal(utimensat(AT_FDCWD, export_own(t, id, "f"), times, 0), 0);
        assert_int_equal(utimensat(AT_FDCWD, export_own(t, id, "old"), old, 0), 0);
        {
                cleanup_buf struct strata_buf buf = export_layer(t, STRATA_ACTIVE, "k", 4096);

                a = export_find(&buf, "f", &e);
                assert_int_equal(archive_entry_uid(e), 3000000000U);
                assert_int_equal(archive_entry_gid(e), 70000);
                assert_int_equal(archive_entry_mode(e), S_IFREG | 04751);
                assert_int_equal(archive_entry_mtime(e), 1234567890);
                assert_int_equal(archive_entry_mtime_nsec(e), 123456789);
                assert_false(archive_entry_atime_is_set(e));
                assert_false(archive_entry_ctime_is_set(e));
                assert_true(!archive_entry_uname(e) || !archive_entry_uname(e)[0]);
                assert_int_equal(archive_entry_xattr_reset(e), 1);
                assert_int_equal(archive_entry_xattr_next(e, &name, &value, &len), ARCHIVE_OK);
                assert_string_equal(name, "user.bin");
                assert_int_equal(len, 4);
                assert_memory_equal(value, "a\0b\n", 4);
                archive_read_free(a);
                assert_non_null(memmem(buf.data, buf.len, " mtime=-1.2\n", 12));
        }
}

/* As tools write and read them that know nothing of libarchive; the archive is one all the same. */
static void names_of_xattrs_are_as_they_are(void **state)
{
        static const char *const names[] = { "user.a b", "user.p%41", "user.plain", "user.\xc3\xbc" };
        static const char *const files[] = { "f", "\xc3\xbc" };
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct archive_entry *e;
        struct archive *a;
        const char *name;
        const void *value;
        size_t len;

        for (size_t f = 0; f < COUNT(files); f++) {
                test_write(export_own(t, id, files[f]), "text");
                for (size_t i = 0; i < COUNT(names); i++)
                        assert_int_equal(setxattr(export_own(t, id, files[f]), names[i], "a=\0\n", 4, 0), 0);
                assert_int_equal(setxattr(export_own(t, id, files[f]), "security.selinux", "label", 6, 0), 0);
        }
        test_write(export_own(t, id, "last"), "last");
        {
                cleanup_buf struct strata_buf buf = export_layer(t, STRATA_ACTIVE, "k", 4096);

                for (size_t f = 0; f < COUNT(files); f++) {
                        unsigned seen = 0;

                        a = export_find(&buf, files[f], &e);
                        assert_int_equal(archive_entry_xattr_reset(e), COUNT(names));
                        while (archive_entry_xattr_next(e, &name, &value, &len) == ARCHIVE_OK) {
                                for (size_t i = 0; i < COUNT(names); i++)
                                        seen += strcmp(name, names[i]) == 0;
                                assert_int_equal(len, 4);
                                assert_memory_equal(value, "a=\0\n", 4);
                        }
                        assert_int_equal(seen, COUNT(names));
                        archive_read_free(a);
                }
                assert_non_null(memmem(buf.data, buf.len, "SCHILY.xattr.user.p%41=", 23));
                assert_null(memmem(buf.data, buf.len, "selinux", 7));
                a = export_find(&buf, "last", &e);
                assert_int_equal(archive_entry_size(e), 4);
                archive_read_free(a);
        }
}

static void overlays_own_xattrs_stay_and_capabilities_are_plain(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        /* linux/capability.h: revision 3 with the effective bit, one permitted, root ID 1000; and the same as 2 */
        const unsigned char v3[24] = { 1, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe8, 3, 0, 0 };
        const unsigned char v2[20] = { 1, 0, 0, 2, 0, 4 };
        const char *f;
        struct archive_entry *e;
        struct archive *a;
        const char *name;
        const void *value;
        size_t len;

        test_write(export_own(t, id, "f"), "text");
        f = export_own(t, id, "f");
        assert_int_equal(setxattr(f, "security.capability", v3, sizeof(v3), 0), 0);
        assert_int_equal(setxattr(f, "trusted.overlay.origin", "x", 1, 0), 0);
        assert_int_equal(setxattr(f, "trusted.overlay.overlay.opaque", "y", 1, 0), 0);
        {
                cleanup_buf struct strata_buf buf = export_layer(t, STRATA_ACTIVE, "k", 4096);

                a = export_find(&buf, "f", &e);
                assert_int_equal(archive_entry_xattr_reset(e), 2);
                for (int i = 0; i < 2; i++) {
                        assert_int_equal(archive_entry_xattr_next(e, &name, &value, &len), ARCHIVE_OK);
                        if (strcmp(name, "security.capability") == 0) {
                                assert_int_equal(len, sizeof(v2));
                                assert_memory_equal(value, v2, sizeof(v2));
                        } else {
                                assert_string_equal(name, "trusted.overlay.opaque");
                                assert_int_equal(len, 1);
                        }
                }
                archive_read_free(a);
        }
}

static void removals_are_whiteouts(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "b", "");

        make_dir(export_own(t, id, "d"));
        make_dir(export_own(t, id, "d/sub"));
        make_dir(export_own(t, id, "e"));
        test_write(export_own(t, id, "d/sub/in"), "x");
        test_write(export_own(t, id, "d/old"), "x");
        test_write(export_own(t, id, "e/z"), "x");
        test_write(export_own(t, id, "file"), "x");
        test_commit(t, "b", "base");
        id = test_prepare(t, STRATA_ACTIVE, "k", "base");
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "k"), 0);
        test_remove_tree(test_mnt(t, "d"));
        make_dir(test_mnt(t, "d"));
        make_dir(test_mnt(t, "d/sub"));
        test_write(test_mnt(t, "d/sub/fresh"), "x");
        assert_int_equal(unlink(test_mnt(t, "e/z")), 0);
        test_write(test_mnt(t, "e/a"), "x");
        assert_int_equal(unlink(test_mnt(t, "file")), 0);
        make_dir(test_mnt(t, "new"));
        test_detach(t, id);
        /* of nothing: by hand, as overlayfs would not make it */
        assert_int_equal(mknod(export_own(t, id, "none"), S_IFCHR, makedev(0, 0)), 0);
        test_commit(t, "k", "n");
        assert_listing(
                t, STRATA_COMMITTED, "n",
                "d ./\nf .wh.file\nd d/\nf d/.wh..wh..opq\nd d/sub/\nf d/sub/fresh\nd e/\nf e/.wh.z\nf e/a\nd new/\n");
}

static void names_of_any_length_and_bytes(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        cleanup_buf struct strata_buf expected = STRATA_BUF_INIT;
        char longest[256], target[4000];

        memset(longest, 'n', 255);
        longest[255] = '\0';
        memset(target, 't', sizeof(target) - 1);
        target[sizeof(target) - 1] = '\0';
        make_dir(export_own(t, id, longest));
        test_write(test_path(t, "layers/%" PRIu64 "/fs/%s/%s", id, longest, longest), "x");
        test_write(export_own(t, id, "\xff\xfe\x01"), "x");
        test_write(export_own(t, id, "\xc3\xa4"), "x");
        assert_int_equal(symlink(target, export_own(t, id, "link")), 0);
        strata_buf_addf(&expected, "d ./\nl link > %s\nd %s/\nf %s/%s\nf \xc3\xa4\nf \xff\xfe\x01\n", target, longest,
                        longest, longest);
        assert_listing(t, STRATA_ACTIVE, "k", expected.data);
}

static void a_name_that_means_a_whiteout_is_refused(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct strata_info info = test_info(t, STRATA_ACTIVE, "k");
        struct strata_export *x;
        char buf[4096];
        ssize_t n;

        test_write(export_own(t, id, ".wh.x"), "");
        assert_int_equal(strata_export_new(t->s, &info, &x), 0);
        while ((n = strata_export_read(x, buf, sizeof(buf))) > 0)
                ;
        assert_int_equal(n, -EINVAL);
        assert_int_equal(strata_export_read(x, buf, sizeof(buf)), -EINVAL);
        strata_export_free(x);
}

/* Byte by byte the same in pieces of any size, and its digest. */
static void the_same_bytes_each_time(void **state)
{
        static const size_t pieces[] = { 1, 511, 4097, 1 << 20 };
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", ""), size = 77;
        cleanup_buf struct strata_buf first = STRATA_BUF_INIT;
        unsigned char sum[SHA256_DIGEST_LENGTH];
        char diffid[STRATA_DIFFID_MAX] = "", hex[STRATA_DIFFID_MAX];
        struct strata_info info;

        for (int i = 0; i < 300; i++)
                test_write(test_path(t, "layers/%" PRIu64 "/fs/f%d", id, i), "some text");
        test_commit(t, "k", "n");
        info = test_info(t, STRATA_COMMITTED, "n");
        assert_false(strata_export_known(t->s, &info, &size, diffid));
        assert_int_equal(size, 77);
        first = export_layer(t, STRATA_COMMITTED, "n", 65536);
        for (size_t i = 0; i < COUNT(pieces); i++) {
                cleanup_buf struct strata_buf again = export_layer(t, STRATA_COMMITTED, "n", pieces[i]);

                assert_int_equal(again.len, first.len);
                assert_memory_equal(again.data, first.data, first.len);
        }
        assert_true(strata_export_known(t->s, &info, &size, diffid));
        assert_int_equal(size, first.len);
        SHA256((unsigned char *)first.data, first.len, sum);
        for (size_t i = 0; i < sizeof(sum); i++)
                snprintf(hex + i * 2, 3, "%02x", sum[i]);
        assert_string_equal(diffid, hex);
        /* What is damaged is not believed. */
        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/export", id), 70), 0);
        assert_false(strata_export_known(t->s, &info, &size, diffid));
}

static void deep_folders(void **state)
{
        struct test_store *t = *state;
        enum { DEEP = 1500 };
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct archive_entry *e;
        struct archive *a;
        unsigned n = 0;
        int fd = open(export_own(t, id, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        for (int i = 0; i < DEEP; i++) {
                int next;

                assert_int_equal(mkdirat(fd, "deep", 0755), 0);
                next = openat(fd, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert_true(next >= 0);
                close(fd);
                fd = next;
        }
        assert_int_equal(mkdirat(fd, "last", 0755), 0);
        close(fd);
        {
                cleanup_buf struct strata_buf buf = export_layer(t, STRATA_ACTIVE, "k", 100000);

                a = export_open(&buf);
                while (archive_read_next_header(a, &e) == ARCHIVE_OK)
                        n++;
                archive_read_free(a);
        }
        assert_int_equal(n, DEEP + 2);
}

static void a_view_is_empty(void **state)
{
        struct test_store *t = *state;

        test_snapshot(t, "base", "");
        test_prepare(t, STRATA_VIEW, "v", "base");
        assert_listing(t, STRATA_VIEW, "v", "");
}

#define ONE(f) cmocka_unit_test_setup_teardown(f, test_new_api_setup, test_mount_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                ONE(every_kind_of_object_is_carried),
                ONE(attributes_are_exact),
                ONE(overlays_own_xattrs_stay_and_capabilities_are_plain),
                ONE(names_of_xattrs_are_as_they_are),
                TEST_BOTH_APIS(removals_are_whiteouts),
                ONE(names_of_any_length_and_bytes),
                ONE(a_name_that_means_a_whiteout_is_refused),
                TEST_BOTH_APIS(the_same_bytes_each_time),
                ONE(deep_folders),
                TEST_BOTH_APIS(a_view_is_empty),
        };

        return cmocka_run_group_tests_name("layer_export", tests, test_private_mounts, NULL);
}
