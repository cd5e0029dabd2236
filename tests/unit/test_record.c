/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "record.h"
#include "util/cleanup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static struct strata_record example(void)
{
        struct strata_record rec = {
                .id = 42,
                .parent = 7,
                .depth = 3,
                .created = { 1769903999, 123456789 },
                .committed = { 1769904000, 1 },
                .now = { STRATA_COMMITTED, "base" },
                .was = { STRATA_ACTIVE, "k" },
        };

        return rec;
}

static void assert_same(const struct strata_record *a, const struct strata_record *b)
{
        assert_int_equal(a->id, b->id);
        assert_int_equal(a->parent, b->parent);
        assert_int_equal(a->depth, b->depth);
        assert_memory_equal(&a->created, &b->created, sizeof(a->created));
        assert_memory_equal(&a->committed, &b->committed, sizeof(a->committed));
        assert_string_equal(a->now.name, b->now.name);
        assert_int_equal(a->now.kind, b->now.kind);
        assert_string_equal(a->was.name, b->was.name);
        if (a->was.name[0])
                assert_int_equal(a->was.kind, b->was.kind);
}

static void parses_what_it_formats(void **state)
{
        struct strata_record recs[4];

        (void)state;
        for (size_t i = 0; i < COUNT(recs); i++)
                recs[i] = example();
        recs[1].was.name[0] = '\0';
        recs[2].committed = (struct timespec){ 0 };
        recs[2].parent = 0;
        recs[2].depth = 1;
        recs[3].id = recs[3].parent = UINT64_MAX;
        memset(recs[3].now.name, '\xff', STRATA_NAME_MAX);
        memset(recs[3].was.name, ' ', STRATA_NAME_MAX);
        recs[3].was.kind = STRATA_VIEW;
        for (size_t i = 0; i < COUNT(recs); i++) {
                cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
                struct strata_record again;

                strata_record_format(&recs[i], &buf);
                assert_int_equal(strata_record_parse(buf.data, buf.len, &again), 0);
                assert_same(&again, &recs[i]);
        }
}

static void format_appends(void **state)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        struct strata_record rec = example(), again;

        (void)state;
        strata_buf_addstr(&buf, "before");
        strata_record_format(&rec, &buf);
        assert_memory_equal(buf.data, "before", 6);
        assert_int_equal(strata_record_parse(buf.data + 6, buf.len - 6, &again), 0);
        assert_same(&again, &rec);
}

static void assert_damaged(const char *text, size_t len)
{
        char *copy = malloc(len + 1);
        struct strata_record rec = { .id = 1234 };

        assert_non_null(copy);
        memcpy(copy, text, len);
        copy[len] = '\0';
        assert_int_equal(strata_record_parse(copy, len, &rec), -EUCLEAN);
        assert_int_equal(rec.id, 1234);
        free(copy);
}

static void refuses_every_cut_and_every_addition(void **state)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        struct strata_record rec = example();

        (void)state;
        strata_record_format(&rec, &buf);
        for (size_t len = 0; len < buf.len; len++) {
                assert_damaged(buf.data, len);
                assert_damaged(buf.data + buf.len - len, len);
        }
        strata_buf_addstr(&buf, "\n");
        assert_damaged(buf.data, buf.len);
}

static void refuses_every_changed_byte(void **state)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        struct strata_record rec = example();

        (void)state;
        strata_record_format(&rec, &buf);
        for (size_t at = 0; at < buf.len; at++) {
                char good = buf.data[at];

                for (int c = 0; c < 256; c++) {
                        buf.data[at] = (char)c;
                        if (buf.data[at] != good)
                                assert_damaged(buf.data, buf.len);
                }
                buf.data[at] = good;
        }
}

/* Appends BODY and its sum: a record that is whole, whatever it says. */
static void signed_text(struct strata_buf *buf, const char *body)
{
        strata_buf_addf(buf, "%sxxh3: %016" PRIx64 "\n", body, (uint64_t)XXH3_64bits(body, strlen(body)));
}

static void refuses_fields_that_make_no_sense(void **state)
{
#define HEAD "stratafs-meta 1\n"
#define REST "created: 2026-01-31T23:59:59.123456789Z\nname: active/k\n"
        static const char *const bad[] = {
                "",
                HEAD,
                "stratafs-meta 2\nid: 1\nparent: 0\ndepth: 1\n" REST,
                HEAD "parent: 0\ndepth: 1\n" REST,
                HEAD "id: 1\nparent: 0\n" REST,
                HEAD "id: 1\nparent: 0\ndepth: 1\ncreated: 2026-01-31T23:59:59.123456789Z\n",
                HEAD "id: 0\nparent: 0\ndepth: 1\n" REST,
                HEAD "id: -1\nparent: 0\ndepth: 1\n" REST,
                HEAD "id: x\nparent: 0\ndepth: 1\n" REST,
                HEAD "id: 18446744073709551616\nparent: 0\ndepth: 1\n" REST,
                HEAD "id: 1\nparent: x\ndepth: 1\n" REST,
                HEAD "id: 1\nparent: 0\ndepth: 0\n" REST,
                HEAD "id: 1\nparent: 0\ndepth: 4294967297\n" REST,
                HEAD "id: 1\nparent: 0\ndepth: 1\ncreated: yesterday\nname: active/k\n",
                HEAD "id: 1\nparent: 0\ndepth: 1\ncommitted: x\n" REST,
                HEAD "id: 1\nparent: 0\ndepth: 1\n" REST "name: nowhere/k\n",
                HEAD "id: 1\nparent: 0\ndepth: 1\n" REST "name: active\n",
                HEAD "id: 1\nparent: 0\ndepth: 1\n" REST "name: active/\n",
                HEAD "id: 1\nparent: 0\ndepth: 1\n" REST "name: active/../x\n",
                HEAD "id: 1\nparent: 0\ndepth: 1\n" REST "was: active/.k\n",
                HEAD "id: 1\nparent: 0\ndepth: 1\n" REST "no colon\n",
                HEAD "id: 1\nparent: 0\ndepth: 1\n" REST "colon:without space\n",
                HEAD "id: 1\nparent: 0\ndepth: 1\n" REST "\n",
                HEAD "id: 1\nparent: 0\ndepth: 1\n" REST "no end: of line",
        };

        (void)state;
        for (size_t i = 0; i < COUNT(bad); i++) {
                cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;

                signed_text(&buf, bad[i]);
                assert_damaged(buf.data, buf.len);
        }
}

static void passes_over_the_fields_of_a_later_version(void **state)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        struct strata_record rec;

        (void)state;
        signed_text(&buf, HEAD "id: 1\nparent: 0\ndepth: 1\ncolour: red: and blue\n" REST);
        assert_int_equal(strata_record_parse(buf.data, buf.len, &rec), 0);
        assert_int_equal(rec.id, 1);
        assert_string_equal(rec.now.name, "k");
        assert_string_equal(rec.was.name, "");
}

/* A file of a store that has one snapshot. */
static void flip_each_byte(struct test_store *t, uint64_t id)
{
        const char *path = test_path(t, "layers/%" PRIu64 "/meta", id);
        cleanup_fd int fd = open(path, O_RDWR | O_CLOEXEC);
        struct strata_record good, rec;
        struct stat st;

        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_true(st.st_size > 100);
        assert_int_equal(strata_record_load(t->s, id, &good), 0);
        for (off_t at = 0; at < st.st_size; at++) {
                off_t twin = (at + st.st_size / 2) % st.st_size; /* of the other copy */
                unsigned char was, now;

                assert_int_equal(pread(fd, &was, 1, at), 1);
                for (int flip = 1; flip < 256; flip <<= 1) {
                        now = was ^ (unsigned char)flip;
                        assert_int_equal(pwrite(fd, &now, 1, at), 1);
                        assert_int_equal(strata_record_load(t->s, id, &rec), 0);
                        assert_same(&rec, &good);
                        assert_false(strata_record_is_whole(t->s, id));
                        assert_int_equal(pwrite(fd, &now, 1, twin), 1);
                        assert_int_equal(strata_record_load(t->s, id, &rec), -EUCLEAN);
                        assert_int_equal(pwrite(fd, &was, 1, twin), 1);
                }
                assert_int_equal(pwrite(fd, &was, 1, at), 1);
                assert_int_equal(strata_record_load(t->s, id, &rec), 0);
                assert_same(&rec, &good);
                assert_true(strata_record_is_whole(t->s, id));
        }
        for (off_t size = st.st_size - 1; size >= 0; size--) {
                assert_int_equal(ftruncate(fd, size), 0);
                /* One alone is what earlier versions wrote. */
                assert_int_equal(strata_record_load(t->s, id, &rec), size == st.st_size / 2 ? 0 : -EUCLEAN);
        }
        assert_int_equal(ftruncate(fd, 1 << 20), 0); /* and one that is far too large */
        assert_int_equal(strata_record_load(t->s, id, &rec), -EUCLEAN);
}

static void load_knows_a_damaged_file(void **state)
{
        struct test_store *t = *state;

        flip_each_byte(t, test_prepare(t, STRATA_ACTIVE, "k", ""));
        test_snapshot(t, "base", "");
        flip_each_byte(t, test_snapshot(t, "top", "base"));
}

static void load_wants_the_record_of_this_layer(void **state)
{
        struct test_store *t = *state;
        uint64_t a = test_prepare(t, STRATA_ACTIVE, "a", ""), b = test_prepare(t, STRATA_ACTIVE, "b", "");
        char *text = test_read(test_path(t, "layers/%" PRIu64 "/meta", a));
        struct strata_record rec = { .id = 99 };

        test_write(test_path(t, "layers/%" PRIu64 "/meta", b), text);
        free(text);
        assert_int_equal(strata_record_load(t->s, b, &rec), -EUCLEAN);
        assert_int_equal(rec.id, 99);
        assert_int_equal(unlink(test_path(t, "layers/%" PRIu64 "/meta", b)), 0);
        assert_int_equal(strata_record_load(t->s, b, &rec), -ENOENT);
        assert_int_equal(strata_record_load(t->s, 777, &rec), -ENOENT);
        assert_int_equal(rec.id, 99);
        assert_int_equal(symlink("../1/meta", test_path(t, "layers/%" PRIu64 "/meta", b)), 0);
        assert_true(strata_record_load(t->s, b, &rec) < 0);
}

static void stage_publish_discard(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");
        struct strata_record rec, staged;

        assert_int_equal(strata_record_load(t->s, id, &rec), 0);
        staged = rec;
        staged.was = rec.now;
        staged.now = (struct strata_place){ STRATA_COMMITTED, "n" };
        for (int sync = 0; sync < 2; sync++) {
                char *before = test_state(t);

                assert_int_equal(strata_record_stage(t->s, &staged, sync), 0);
                assert_true(test_exists(t, "layers/%" PRIu64 "/meta.new", id));
                assert_int_equal(strata_record_load(t->s, id, &rec), 0);
                assert_string_equal(rec.now.name, "a");
                strata_record_discard(t->s, id);
                test_assert_state(t, before);
        }
        strata_record_discard(t->s, id); /* of nothing */
        assert_int_equal(strata_record_publish(t->s, id), -ENOENT);
        assert_int_equal(strata_record_stage(t->s, &staged, true), 0);
        assert_int_equal(strata_record_publish(t->s, id), 0);
        assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", id));
        assert_int_equal(strata_record_load(t->s, id, &rec), 0);
        assert_same(&rec, &staged);
}

static void stage_fails_without_a_layer(void **state)
{
        struct test_store *t = *state;
        struct strata_record rec = example();

        assert_int_equal(strata_record_stage(t->s, &rec, true), -ENOENT);
        assert_int_equal(strata_record_publish(t->s, rec.id), -ENOENT);
}

/* The link of layer ID goes from one place to another by hand. */
/* One that the disk had no room for is not left half. */
static void stage_leaves_nothing_half_written(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "k", "");
        struct rlimit old, small;
        struct strata_record rec;
        int r;

        assert_int_equal(strata_record_load(t->s, id, &rec), 0);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
        small = (struct rlimit){ .rlim_cur = 16, .rlim_max = old.rlim_max };
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        r = strata_record_stage(t->s, &rec, true);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(r, -EFBIG);
        assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", id));
}

static void move_link(struct test_store *t, const char *from, const char *to)
{
        assert_int_equal(rename(test_path(t, "%s", from), test_path(t, "%s", to)), 0);
}

static void resolve_tells_which_place_is_true(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");
        struct strata_record rec;
        struct strata_place place;
        struct timespec mtime;
        struct stat st;

        assert_int_equal(strata_record_load(t->s, id, &rec), 0);
        rec.was = rec.now;
        rec.now = (struct strata_place){ STRATA_COMMITTED, "n" };

        assert_int_equal(strata_record_resolve(t->s, &rec, &place, &mtime), 0);
        assert_string_equal(place.name, "a");
        assert_int_equal(place.kind, STRATA_ACTIVE);
        assert_int_equal(lstat(test_path(t, "active/a"), &st), 0);
        assert_memory_equal(&mtime, &st.st_mtim, sizeof(mtime));

        move_link(t, "active/a", "snapshots/n");
        assert_int_equal(strata_record_resolve(t->s, &rec, &place, &mtime), 0);
        assert_string_equal(place.name, "n");
        assert_int_equal(place.kind, STRATA_COMMITTED);

        /* A third place is none of its own; the names of the two may be others' by now. */
        move_link(t, "snapshots/n", "snapshots/other");
        test_prepare(t, STRATA_ACTIVE, "a", "");
        test_snapshot(t, "n", "");
        assert_int_equal(strata_record_resolve(t->s, &rec, &place, &mtime), -ENOENT);
}

/* The link's move reached the disk, and the renaming of the record did not; then the end of the former link neither. */
static void a_staged_record_that_came_true_is_the_record(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");
        struct strata_record rec, staged, found;
        struct strata_place place;
        struct timespec mtime;

        assert_int_equal(strata_record_load(t->s, id, &rec), 0);
        staged = rec;
        staged.was = rec.now;
        staged.now = (struct strata_place){ STRATA_COMMITTED, "n" };
        staged.committed = (struct timespec){ 1000, 5 };
        assert_int_equal(strata_record_stage(t->s, &staged, true), 0);
        test_store_crash(t);

        /* Not moved yet: the staged one is not true. */
        assert_int_equal(strata_record_load(t->s, id, &found), 0);
        assert_same(&found, &rec);

        for (int both = 0; both < 2; both++) {
                if (both)
                        assert_int_equal(symlink("../layers/1/../1", test_path(t, "active/a")), 0);
                else
                        move_link(t, "active/a", "snapshots/n");
                assert_int_equal(strata_record_load(t->s, id, &found), 0);
                assert_same(&found, &staged);
                assert_int_equal(strata_record_resolve(t->s, &found, &place, &mtime), 0);
                assert_string_equal(place.name, "n");
                assert_int_equal(place.kind, STRATA_COMMITTED);
                assert_true(test_exists(t, "layers/%" PRIu64 "/meta.new", id)); /* it may be a mover's */
        }
        pthread_mutex_lock(&t->s->names);
        assert_int_equal(strata_record_settle(t->s, id), 1);
        assert_int_equal(strata_record_settle(t->s, id), 0);
        pthread_mutex_unlock(&t->s->names);
        assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", id));
        assert_int_equal(strata_record_load(t->s, id, &found), 0);
        assert_same(&found, &staged);
}

static void no_damaged_staged_record_is_trusted(void **state)
{
        struct test_store *t = *state;
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "a", "");
        struct strata_record rec, staged;
        struct strata_place place;
        struct timespec mtime;

        assert_int_equal(strata_record_load(t->s, id, &rec), 0);
        staged = rec;
        staged.now = (struct strata_place){ STRATA_COMMITTED, "n" };
        assert_int_equal(strata_record_stage(t->s, &staged, true), 0);
        test_store_crash(t);
        assert_int_equal(truncate(test_path(t, "layers/%" PRIu64 "/meta.new", id), 60), 0);
        move_link(t, "active/a", "snapshots/n");
        assert_int_equal(strata_record_load(t->s, id, &rec), 0);
        assert_string_equal(rec.now.name, "a");
        assert_int_equal(strata_record_resolve(t->s, &rec, &place, &mtime), -ENOENT);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(parses_what_it_formats),
                cmocka_unit_test(format_appends),
                cmocka_unit_test(refuses_every_cut_and_every_addition),
                cmocka_unit_test(refuses_every_changed_byte),
                cmocka_unit_test(refuses_fields_that_make_no_sense),
                cmocka_unit_test(passes_over_the_fields_of_a_later_version),
                STORE_TEST(load_knows_a_damaged_file),
                STORE_TEST(load_wants_the_record_of_this_layer),
                STORE_TEST(stage_publish_discard),
                STORE_TEST(stage_fails_without_a_layer),
                STORE_TEST(stage_leaves_nothing_half_written),
                STORE_TEST(resolve_tells_which_place_is_true),
                STORE_TEST(a_staged_record_that_came_true_is_the_record),
                STORE_TEST(no_damaged_staged_record_is_trusted),
        };

        return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
