/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One bit is wrong in one of the store's own files: in every byte of every file and of every link's target, one after
 * the other. An examination finds it; whoever opens the store and uses all of it finds a line about it in the log; and
 * what is wrong then is at most one entry.
 */
#include "testlib.h"

#include "changes.h"
#include "check.h"
#include "label.h"
#include "layer_export.h"
#include "layer_verify.h"
#include "log.h"
#include "mount.h"
#include "record.h"
#include "usage.h"

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define USE_EACH 4 /* the store is examined for every byte, and used for each of so many: that waits for the disk */

static const struct strata_config config = { .fingerprint = true };

static const char *const names[] = { "one", "two" };

/* Two snapshots and an active entry, with all the files that a store can have. */
static void fill(struct test_store *t)
{
        for (size_t i = 0; i < COUNT(names); i++) {
                uint64_t id = test_prepare(t, STRATA_ACTIVE, names[i], "");

                test_write(test_path(t, "layers/%" PRIu64 "/fs/file", id), "contents");
                assert_int_equal(strata_label_set(t->s, id, "label", names[i], 3), 0);
                test_commit(t, names[i], names[i]);
        }
        test_prepare(t, STRATA_ACTIVE, "work", "");
        assert_int_equal(test_attach(t, STRATA_ACTIVE, "work"), 0);
        test_detach(t, 0); /* as a kill leaves it: marked */
}

static void read_archive(struct test_store *t, const struct strata_info *info)
{
        struct strata_export *x;
        char buf[4096];
        ssize_t n;

        assert_int_equal(strata_export_new(t->s, info, &x), 0);
        while ((n = strata_export_read(x, buf, sizeof(buf))) > 0)
                ;
        assert_int_equal(n, 0);
        strata_export_free(x);
}

/* Appends all that an entry shows to BUF; a failure as its number. Views and ages aside, each file is read. */
static void use(struct test_store *t, enum strata_kind kind, const char *name, struct strata_buf *buf)
{
        struct strata_usage usage;
        struct strata_info info;
        uint64_t n;
        int r = strata_entry_get(t->s, kind, name, &info);

        strata_buf_addf(buf, "%s: %d", name, r);
        if (r == 0) {
                strata_buf_addf(buf, " id %" PRIu64 " parent %" PRIu64 " label ", info.id, info.parent);
                r = strata_label_get(t->s, info.id, "label", buf);
                strata_buf_addf(buf, "(%d) suspect %d ", r, strata_mount_is_suspect(t->s, info.id));
        }
        if (r == 0 && kind == STRATA_COMMITTED) {
                assert_int_equal(strata_usage_get(t->s, &info, &usage), 0);
                strata_buf_addf(buf, "usage %" PRIu64 " verify ", usage.inodes);
                assert_int_equal(strata_verify(t->s, &info, buf, &n), 0);
                assert_int_equal(strata_changes_get(t->s, &info, buf), 0);
                read_archive(t, &info);
        }
        strata_buf_addstr(buf, "\n");
}

struct shown {
        struct strata_buf one, two, work, log;
};

static void shown_free(struct shown *a)
{
        strata_buf_free(&a->one);
        strata_buf_free(&a->two);
        strata_buf_free(&a->work);
        strata_buf_free(&a->log);
}

static void use_all(struct test_store *t, struct shown *ret)
{
        *ret = (struct shown){ 0 };
        use(t, STRATA_COMMITTED, "one", &ret->one);
        use(t, STRATA_COMMITTED, "two", &ret->two);
        use(t, STRATA_ACTIVE, "work", &ret->work);
        strata_log_show(t->s->log, &ret->log);
}

/* ---- the files ---- */

struct list {
        char path[64][128]; /* below the store */
        unsigned n;
};

static struct list found;
static size_t prefix;

static int add_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        /* Not the store's own; not kept over a start; without contents. */
        static const char *const others[] = { "lock", "mark.synced", "mark.volatile" };
        const char *name = path + prefix;

        (void)ftw;
        if ((type != FTW_F && type != FTW_SL) || st->st_size == 0 || strstr(name, "/fs/") || strstr(name, "/work/"))
                return 0;
        for (size_t i = 0; i < COUNT(others); i++)
                if (strcmp(name, others[i]) == 0)
                        return 0;
        assert_true(found.n < COUNT(found.path));
        snprintf(found.path[found.n++], sizeof(found.path[0]), "%s", name);
        return 0;
}

static void find_files(struct test_store *t)
{
        found.n = 0;
        prefix = strlen(t->path) + 1;
        assert_int_equal(nftw(t->path, add_file, 16, FTW_PHYS), 0);
}

/* The bit that is turned of byte AT: another one each time. */
static char turned(char byte, size_t at)
{
        return (char)(byte ^ (1 << at * 3 % 8));
}

/* Makes PATH hold LEN bytes of TEXT, in its place, and with its time. A link is made anew. */
static void put(const char *path, const char *text, size_t len)
{
        struct timespec times[2];
        struct stat st;

        assert_int_equal(lstat(path, &st), 0);
        if (S_ISLNK(st.st_mode)) {
                assert_int_equal(unlink(path), 0);
                assert_int_equal(symlink(text, path), 0);
        } else {
                int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

                assert_int_equal(write(fd, text, len), len);
                close(fd);
        }
        times[0] = st.st_atim;
        times[1] = st.st_mtim;
        assert_int_equal(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

static size_t get(const char *path, char *text, size_t size)
{
        struct stat st;
        ssize_t n;

        assert_int_equal(lstat(path, &st), 0);
        if (S_ISLNK(st.st_mode)) {
                n = readlink(path, text, size - 1);
        } else {
                int fd = open(path, O_RDONLY | O_CLOEXEC);

                n = read(fd, text, size - 1);
                close(fd);
        }
        assert_true(n > 0 && (size_t)n < size - 1);
        text[n] = '\0';
        return (size_t)n;
}

/* ---- one bit ---- */

struct told {
        const char *path;
        bool named;
};

static void note(void *data, const char *path, const char *text, int error, bool repaired)
{
        struct told *told = data;

        (void)error;
        (void)repaired;
        if (strstr(told->path, path) || strstr(path, told->path) || strstr(text, told->path))
                told->named = true;
}

static void assert_examined(struct test_store *t, const char *path)
{
        struct told told = { .path = path };
        struct strata_check c = { .mode = STRATA_CHECK_LOOK, .report = note, .data = &told };
        struct strata *s;
        char *why = NULL;

        assert_int_equal(strata_open_check(t->path, false, &s, &c.live, &why), 0);
        assert_int_equal(strata_check_run(s, &c), 0);
        strata_close_check(s);
        assert_true(c.found > 0);
        assert_true(told.named);
}

static bool same(const struct strata_buf *a, const struct strata_buf *b)
{
        return strcmp(a->data, b->data) == 0;
}

/* The store is closed, and is again afterwards. */
static void assert_harmless(struct test_store *t, const char *path, const struct shown *good)
{
        struct shown bad;
        unsigned wrong;
        char *why = NULL;

        assert_int_equal(strata_open(t->path, &config, &t->s, &why), 0);
        use_all(t, &bad);
        wrong = !same(&bad.one, &good->one) + !same(&bad.two, &good->two) + !same(&bad.work, &good->work);
        assert_true(wrong <= 1);
        if (!bad.log.data || !strstr(bad.log.data, path))
                fail_msg("%s: the log says: %s", path, bad.log.data ? bad.log.data : "nothing");
        strata_close_store(t->s);
        t->s = NULL;
        shown_free(&bad);
}

/* A copy has no mount, and no marks of one but in the layer. */
static void copy(const char *from, const char *to)
{
        char command[2 * PATH_MAX];

        snprintf(command, sizeof(command), "cp -a %s %s", from, to);
        assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): cp is the one that keeps all attributes */
}

static void close_store(struct test_store *t)
{
        strata_close_store(t->s);
        t->s = NULL;
}

static void every_bit_is_found(void **state)
{
        struct test_store *t = *state;
        char kept[PATH_MAX], text[1024], bad[1024];
        struct shown good;
        unsigned flips = 0;

        fill(t);
        use_all(t, &good);
        shown_free(&good);
        close_store(t);
        find_files(t);
        /* A copy of it, so that the mount's superblock does not matter; and it says the same. */
        snprintf(kept, sizeof(kept), "%s/kept", t->dir);
        copy(t->path, kept);
        test_remove_tree(t->path);
        copy(kept, t->path);
        assert_int_equal(strata_open(t->path, &config, &t->s, &(char *){ NULL }), 0);
        use_all(t, &good);
        assert_null(good.log.data);
        close_store(t);
        for (unsigned i = 0; i < found.n; i++) {
                size_t len = get(test_path(t, "%s", found.path[i]), text, sizeof(text));

                for (size_t at = 0; at < len; at++) {
                        memcpy(bad, text, len + 1);
                        bad[at] = turned(text[at], at);
                        if (!bad[at])
                                continue;
                        put(test_path(t, "%s", found.path[i]), bad, len);
                        assert_examined(t, found.path[i]);
                        if (at % USE_EACH == i % USE_EACH)
                                assert_harmless(t, found.path[i], &good);
                        put(test_path(t, "%s", found.path[i]), text, len);
                        flips++;
                }
        }
        assert_true(found.n >= 15 && flips > 1000);
        assert_int_equal(strata_open(t->path, &config, &t->s, &(char *){ NULL }), 0);
        shown_free(&good);
}

static int setup(void **state)
{
        *state = test_store_new(&config);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(every_bit_is_found, setup, test_mount_teardown),
        };

        return cmocka_run_group_tests_name("rot", tests, test_private_mounts, NULL);
}
