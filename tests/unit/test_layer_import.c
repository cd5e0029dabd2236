/* SPDX-License-Identifier: Apache-2.0 */
/* The pipeline of an import: sizes, compressions, digests, ends before time, and exactness of what is made. */
#include "layerlib.h"

#include "label.h"
#include "layer_import.h"
#include "link.h"
#include "recover.h"
#include "trash.h"
#include "util/cleanup.h"

#include <archive.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static void sha256(const void *data, size_t len, char ret[80])
{
        unsigned char md[EVP_MAX_MD_SIZE];
        unsigned n;
        char *p = ret + sprintf(ret, "sha256:");

        assert_int_equal(EVP_Digest(data, len, md, &n, EVP_sha256(), NULL), 1);
        for (unsigned i = 0; i < n; i++)
                p += sprintf(p, "%02x", md[i]);
        strcpy(p, "\n");
}

static void assert_label(struct test_store *t, uint64_t id, const char *label, const char *expected)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

        assert_int_equal(strata_label_get(t->s, id, label, &buf), 0);
        assert_string_equal(buf.data, expected);
}

/* Small and large files, so that both ways of making them are gone; with bytes behind the archive. */
static void make_layer(struct layer *l)
{
        char *big = malloc(400001), name[64];

        assert_non_null(big);
        for (size_t i = 0; i < 400000; i++)
                big[i] = (char)('a' + i * 7919 % 26);
        big[400000] = '\0';
        layer_add(l, '5', "./", 0750, NULL, NULL);
        layer_add(l, '5', "d/", 0711, NULL, NULL);
        layer_add(l, '0', "d/big", 04755, NULL, big);
        for (unsigned i = 0; i < 300; i++) {
                snprintf(name, sizeof(name), "d/small%u", i);
                layer_add(l, '0', name, 0640, NULL, name);
        }
        layer_add(l, '0', "d/empty", 0600, NULL, NULL);
        layer_add(l, '2', "d/link", 0777, "small0", NULL);
        layer_add(l, '1', "hard", 0640, "d/small1", NULL);
        layer_add(l, '6', "fifo", 0622, NULL, NULL);
        layer_add_device(l, '3', "null", "0000001", "0000003");
        layer_end(l);
        strata_buf_addstr(&l->tar, "trailing");
        free(big);
}

static void assert_layer(struct test_store *t, uint64_t id)
{
        char name[64];
        struct stat st, other;

        for (unsigned i = 0; i < 300; i++) {
                snprintf(name, sizeof(name), "d/small%u", i);
                test_assert_text(test_path(t, "layers/%" PRIu64 "/fs/%s", id, name), name);
        }
        assert_int_equal(lstat(test_path(t, "layers/%" PRIu64 "/fs", id), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0750);
        assert_int_equal(st.st_mtim.tv_sec, 1000000000);
        assert_int_equal(lstat(test_path(t, "layers/%" PRIu64 "/fs/d", id), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0711);
        assert_int_equal(st.st_mtim.tv_sec, 1000000000);
        assert_int_equal(lstat(test_path(t, "layers/%" PRIu64 "/fs/d/big", id), &st), 0);
        assert_int_equal(st.st_size, 400000);
        assert_int_equal(st.st_mode & 07777, 04755);
        assert_int_equal(lstat(test_path(t, "layers/%" PRIu64 "/fs/d/empty", id), &st), 0);
        assert_int_equal(st.st_size, 0);
        assert_int_equal(lstat(test_path(t, "layers/%" PRIu64 "/fs/d/small1", id), &st), 0);
        assert_int_equal(lstat(test_path(t, "layers/%" PRIu64 "/fs/hard", id), &other), 0);
        assert_int_equal(st.st_ino, other.st_ino);
        assert_int_equal(st.st_mtim.tv_sec, 1000000000);
        assert_int_equal(lstat(test_path(t, "layers/%" PRIu64 "/fs/null", id), &st), 0);
        assert_true(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
        assert_int_equal(lstat(test_path(t, "layers/%" PRIu64 "/fs/fifo", id), &st), 0);
        assert_true(S_ISFIFO(st.st_mode) && (st.st_mode & 07777) == 0622);
        assert_int_equal(lstat(test_path(t, "layers/%" PRIu64 "/fs/d/link", id), &st), 0);
        assert_true(S_ISLNK(st.st_mode) && st.st_mtim.tv_sec == 1000000000);
        assert_false(test_exists(t, "layers/%" PRIu64 "/fs.new", id));
}

static void any_size_of_write_gives_the_same(void **state)
{
        static const size_t chunks[] = { 1, 511, 65536, 1 << 24 };
        struct test_store *t = *state;
        struct layer l = { 0 };
        char key[16], digest[80];

        make_layer(&l);
        sha256(l.tar.data, l.tar.len, digest);
        for (size_t i = 0; i < COUNT(chunks); i++) {
                uint64_t id;

                snprintf(key, sizeof(key), "k%zu", i);
                id = test_prepare(t, STRATA_ACTIVE, key, "");
                assert_int_equal(layer_import(t, key, l.tar.data, l.tar.len, chunks[i], NULL), 0);
                assert_layer(t, id);
                assert_label(t, id, STRATA_IMPORT_LABEL_DIFFID, digest);
                assert_label(t, id, STRATA_IMPORT_LABEL_DIGEST, digest);
        }
        strata_buf_free(&l.tar);
}

static void each_compression_is_read(void **state)
{
        static const int filters[] = { ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD, ARCHIVE_FILTER_XZ,
                                       ARCHIVE_FILTER_BZIP2 };
        struct test_store *t = *state;
        struct layer l = { 0 };
        char key[16], plain[80], given[80];

        make_layer(&l);
        sha256(l.tar.data, l.tar.len, plain);
        for (size_t i = 0; i < COUNT(filters); i++) {
                cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
                uint64_t id;

                layer_compress(l.tar.data, l.tar.len, filters[i], &buf);
                sha256(buf.data, buf.len, given);
                snprintf(key, sizeof(key), "k%zu", i);
                id = test_prepare(t, STRATA_ACTIVE, key, "");
                assert_int_equal(layer_import(t, key, buf.data, buf.len, 1000, NULL), 0);
                assert_layer(t, id);
                assert_label(t, id, STRATA_IMPORT_LABEL_DIFFID, plain);
                assert_label(t, id, STRATA_IMPORT_LABEL_DIGEST, given);
                /* the last bytes missing: refused, and the layer as it was */
                snprintf(key, sizeof(key), "cut%zu", i);
                id = test_prepare(t, STRATA_ACTIVE, key, "");
                assert_int_equal(layer_import(t, key, buf.data, buf.len / 2, 1000, NULL), -EINVAL);
                assert_int_equal(test_count_dir(test_path(t, "layers/%" PRIu64 "/fs", id)), 0);
                assert_false(test_exists(t, "layers/%" PRIu64 "/fs.new", id));
        }
        strata_buf_free(&l.tar);
}

static void the_limit_is_on_the_uncompressed_stream(void **state)
{
        struct test_store *t = *state;
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        struct layer l = { 0 };
        struct strata_info info;
        struct strata_import *m;
        const char *why;
        int r;

        make_layer(&l);
        layer_compress(l.tar.data, l.tar.len, ARCHIVE_FILTER_GZIP, &buf);
        for (int over = 0; over < 2; over++) {
                char *before;

                test_prepare(t, STRATA_ACTIVE, over ? "over" : "under", "");
                info = test_info(t, STRATA_ACTIVE, over ? "over" : "under");
                before = test_state(t);
                assert_int_equal(strata_import_new(t->s, &info, l.tar.len - (size_t)over, &m, &why), 0);
                r = strata_import_write(m, buf.data, buf.len);
                if (r == 0)
                        r = strata_import_finish(m);
                assert_int_equal(r, over ? -EFBIG : 0);
                if (over)
                        assert_non_null(strstr(strata_import_why(m), "larger"));
                else
                        assert_int_equal(strata_import_bytes(m), buf.len);
                strata_import_free(m);
                if (over)
                        test_assert_state(t, before);
                else
                        free(before);
        }
        strata_buf_free(&l.tar);
}

static void freed_in_the_middle_nothing_is_left(void **state)
{
        struct test_store *t = *state;
        struct layer l = { 0 };
        struct strata_info info;
        struct strata_import *m, *second;
        const char *why;
        char *before;

        make_layer(&l);
        test_prepare(t, STRATA_ACTIVE, "k", "");
        info = test_info(t, STRATA_ACTIVE, "k");
        before = test_state(t);
        for (size_t part = 0; part <= l.tar.len; part += l.tar.len / 5) {
                assert_int_equal(strata_import_new(t->s, &info, 0, &m, &why), 0);
                assert_int_equal(strata_import_write(m, l.tar.data, part), 0);
                assert_int_equal(strata_import_new(t->s, &info, 0, &second, &why), -EBUSY);
                strata_import_free(m);
        }
        test_assert_state(t, before);
        strata_buf_free(&l.tar);
}

static void a_layer_that_holds_something_is_refused(void **state)
{
        struct test_store *t = *state;
        struct layer l = { 0 };
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        const char *why;

        make_layer(&l);
        test_write(test_path(t, "layers/%" PRIu64 "/fs/x", id), "x");
        assert_int_equal(layer_import(t, "k", l.tar.data, l.tar.len, 512, &why), -ENOTEMPTY);
        assert_non_null(strstr(why, "child"));
        test_assert_text(test_path(t, "layers/%" PRIu64 "/fs/x", id), "x");
        strata_buf_free(&l.tar);
}

static void what_a_kill_leaves_is_swept(void **state)
{
        struct test_store *t = *state;
        struct layer l = { 0 };
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", ""), other = test_prepare(t, STRATA_ACTIVE, "l", "");
        atomic_bool stop = false;

        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/fs.new", id), 0700), 0);
        assert_int_equal(mkdir(test_path(t, "layers/%" PRIu64 "/fs.new", other), 0700), 0);
        test_write(test_path(t, "layers/%" PRIu64 "/fs.new/x", other), "x");
        make_layer(&l);
        assert_int_equal(layer_import(t, "k", l.tar.data, l.tar.len, 512, NULL), 0);
        assert_layer(t, id);
        test_store_crash(t);
        assert_int_equal(strata_recover_sweep(t->s, &stop), 0);
        assert_false(test_exists(t, "layers/%" PRIu64 "/fs.new", other));
        assert_true(test_exists(t, "layers/%" PRIu64 "/fs", other));
        assert_int_equal(strata_trash_empty(t->s), 0);
        assert_int_equal(strata_trash_pending(t->s), 0);
        strata_buf_free(&l.tar);
}

static void times_xattrs_and_names_are_exact(void **state)
{
        static const char *const dir[] = { "mtime=981173106.123456789", "SCHILY.xattr.user.a=1",
                                           "SCHILY.xattr.trusted.overlay.opaque=y",
                                           "SCHILY.xattr.user.overlay.opaque=y" };
        static const char *const file[] = {
                "path=nfd_e\xcc\x81_\xc3\xa9", "mtime=5.25",
                "SCHILY.acl.access=user::rw-,user:u:r--:7,group::r--,mask::r--,other::---"
        };
        struct test_store *t = *state;
        struct layer l = { 0 };
        struct stat st;
        char value[64];
        uint64_t id;

        layer_add_pax(&l, dir, 4);
        layer_add(&l, '5', "d", 02775, NULL, NULL);
        layer_add(&l, '0', "d/later", 0644, NULL, "x");
        layer_add_pax(&l, file, 3);
        layer_add(&l, '0', "short", 0640, NULL, "x");
        id = layer_snapshot(t, "s", "", &l);
        assert_int_equal(stat(test_path(t, "layers/%" PRIu64 "/fs/d", id), &st), 0);
        assert_int_equal(st.st_mtim.tv_sec, 981173106);
        assert_int_equal(st.st_mtim.tv_nsec, 123456789);
        assert_int_equal(st.st_mode & 07777, 02775);
        assert_int_equal(getxattr(test_path(t, "layers/%" PRIu64 "/fs/d", id), "user.a", value, sizeof(value)), 1);
        /* never overlayfs' own mark, but what overlayfs shows as it */
        assert_int_equal(getxattr(test_path(t, "layers/%" PRIu64 "/fs/d", id), "trusted.overlay.opaque", value, 9), -1);
        assert_int_equal(
                getxattr(test_path(t, "layers/%" PRIu64 "/fs/d", id), "trusted.overlay.overlay.opaque", value, 9), 1);
        /* of overlays mounted with userxattr, which ours is not */
        assert_int_equal(getxattr(test_path(t, "layers/%" PRIu64 "/fs/d", id), "user.overlay.opaque", value, 9), 1);
        assert_int_equal(stat(test_path(t, "layers/%" PRIu64 "/fs/nfd_e\xcc\x81_\xc3\xa9", id), &st), 0);
        assert_int_equal(st.st_mtim.tv_sec, 5);
        assert_int_equal(st.st_mtim.tv_nsec, 250000000);
        assert_int_equal(getxattr(test_path(t, "layers/%" PRIu64 "/fs/nfd_e\xcc\x81_\xc3\xa9", id),
                                  "system.posix_acl_access", value, sizeof(value)),
                         4 + 5 * 8);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(any_size_of_write_gives_the_same),        TEST(each_compression_is_read),
                TEST(the_limit_is_on_the_uncompressed_stream), TEST(freed_in_the_middle_nothing_is_left),
                TEST(a_layer_that_holds_something_is_refused), TEST(what_a_kill_leaves_is_swept),
                TEST(times_xattrs_and_names_are_exact),
        };

        return cmocka_run_group_tests_name("layer_import", tests, NULL, NULL);
}
