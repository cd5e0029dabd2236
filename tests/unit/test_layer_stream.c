/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "layer_stream.h"
#include "layer_unpack.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#define LEN 300000

static unsigned char plain[LEN];

static int make_plain(void **state)
{
        uint32_t x = 1;

        (void)state;
        for (size_t i = 0; i < LEN; i++) {
                x = x * 1664525 + 1013904223;
                plain[i] = (unsigned char)(x >> 28); /* half of each byte is zero: it can be compressed */
        }
        return 0;
}

static void sum_of(const void *data, size_t len, char ret[STRATA_DIGEST_HEX])
{
        unsigned char md[EVP_MAX_MD_SIZE];
        unsigned n;

        assert_int_equal(EVP_Digest(data, len, md, &n, EVP_sha256(), NULL), 1);
        for (unsigned i = 0; i < n; i++)
                snprintf(ret + (size_t)i * 2, 3, "%02x", md[i]);
}

/* ---- digests ---- */

static void a_digest_is_that_of_all_pieces(void **state)
{
        static const size_t lengths[] = { 0, 1, 1023, 1024, 1025, 4096, 5119, 5120, 5121, 131072, LEN };
        char want[STRATA_DIGEST_HEX], got[STRATA_DIGEST_HEX];

        (void)state;
        for (size_t i = 0; i < COUNT(lengths); i++) {
                struct strata_digest *d;

                assert_int_equal(strata_digest_new(&d), 0);
                assert_int_equal(strata_digest_add(d, plain, lengths[i] / 3), 0);
                assert_int_equal(strata_digest_add(d, plain + lengths[i] / 3, lengths[i] - lengths[i] / 3), 0);
                assert_int_equal(strata_digest_end(d, got), 0);
                strata_digest_free(d);
                sum_of(plain, lengths[i], want);
                assert_string_equal(got, want);
        }
}

/* ---- decompression ---- */

/* Ends of which the one gives PIECE bytes at a time, and the other takes ROOM. */
struct ends {
        const unsigned char *in;
        size_t left, piece;
        unsigned char *out;
        size_t n, room;
};

static ssize_t more(void *data, const void **ret)
{
        struct ends *e = data;
        size_t n = e->left < e->piece ? e->left : e->piece;

        *ret = e->in;
        e->in += n;
        e->left -= n;
        return (ssize_t)n;
}

static int room(void *data, void **ret, size_t *len)
{
        struct ends *e = data;

        if (e->n + e->room > LEN + 1000)
                return -ENOSPC;
        *ret = e->out + e->n;
        *len = e->room;
        return 0;
}

static int put(void *data, size_t len)
{
        ((struct ends *)data)->n += len;
        return 0;
}

/* Of LEN bytes at IN, the first two of which come first. */
static int unpack(const unsigned char *in, size_t len, size_t piece, unsigned char *out, size_t *n)
{
        struct ends e = { .in = in + 2, .left = len - 2, .piece = piece, .out = out, .room = 1000 };
        const struct strata_unpack_ends ends = { &e, more, room, put };
        int r;

        assert_true(strata_unpack_is_compressed(in, 2));
        r = strata_unpack(&ends, in, 2);
        *n = e.n;
        return r;
}

/* Appends a gzip member with PLAIN from FROM to TO. */
static size_t add_member(unsigned char *to, size_t size, size_t from, size_t end)
{
        z_stream z = {
                .next_in = plain + from, .avail_in = (uInt)(end - from), .next_out = to, .avail_out = (uInt)size
        };
        size_t ret;

        assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        ret = size - z.avail_out;
        deflateEnd(&z);
        return ret;
}

static unsigned char packed[LEN + 2000], out[LEN + 1000];

static void gzip_members_are_one_stream(void **state)
{
        static const size_t pieces[] = { 1, 2, 7, 4096, LEN };
        size_t len = add_member(packed, LEN, 0, 1000), n;

        (void)state;
        len += add_member(packed + len, LEN - len, 1000, 1000); /* an empty one, as bgzip ends with */
        len += add_member(packed + len, LEN - len, 1000, LEN);
        memset(packed + len, 0, 500);
        for (size_t i = 0; i < COUNT(pieces); i++) {
                assert_int_equal(unpack(packed, len, pieces[i], out, &n), 0);
                assert_int_equal(n, LEN);
                assert_memory_equal(out, plain, LEN);
                assert_int_equal(unpack(packed, len + 500, pieces[i], out, &n), 0); /* padded */
                assert_int_equal(n, LEN);
        }
}

static void damaged_gzip_is_refused(void **state)
{
        size_t len = add_member(packed, LEN, 0, 5000), n;

        (void)state;
        for (size_t cut = 3; cut < len; cut++)
                assert_int_equal(unpack(packed, cut, 4096, out, &n), -EINVAL);
        for (size_t at = len - 8; at < len; at++) { /* its CRC and its length */
                packed[at] ^= 1;
                assert_int_equal(unpack(packed, len, 4096, out, &n), -EINVAL);
                packed[at] ^= 1;
        }
        assert_int_equal(unpack(packed, len, 4096, out, &n), 0);
        packed[len] = 0x1f; /* as if another member began */
        packed[len + 1] = 0;
        assert_int_equal(unpack(packed, len + 1, 4096, out, &n), -EINVAL);
        assert_int_equal(unpack(packed, len + 2, 4096, out, &n), -EINVAL);
}

/* ---- the stream ---- */

static int run(void *data)
{
        strata_stream_run(data);
        return 0;
}

static void a_kept_block_stays(void **state)
{
        char want[STRATA_DIGEST_HEX], given[STRATA_DIGEST_MAX], same[STRATA_DIGEST_MAX];
        struct strata_block *block;
        struct test_thread *thread;
        struct strata_stream *st;
        const void *data, *first;
        ssize_t n, n_first;
        size_t done;

        (void)state;
        assert_int_equal(strata_stream_new(0, &st), 0);
        assert_int_equal(strata_stream_write(st, plain, LEN), 0);
        assert_int_equal(strata_stream_end(st), 0);
        thread = test_thread_start(run, st);
        n_first = strata_stream_read(st, &first);
        assert_true(n_first > 1);
        block = strata_stream_block(st, (const char *)first + 1, (size_t)n_first - 1);
        assert_non_null(block);
        assert_null(strata_stream_block(st, (const char *)first + 1, (size_t)n_first));
        assert_null(strata_stream_block(st, plain, 1));
        strata_stream_keep(st, block);
        for (done = (size_t)n_first; (n = strata_stream_read(st, &data)) > 0; done += (size_t)n) {
                assert_ptr_not_equal(data, first);
                assert_memory_equal(data, plain + done, (size_t)n);
        }
        assert_int_equal(n, 0);
        assert_int_equal(done, LEN);
        assert_memory_equal(first, plain, (size_t)n_first);
        strata_stream_drop(st, block);
        assert_int_equal(test_thread_end(thread), 0);
        assert_int_equal(strata_stream_digests(st, given, same), 0);
        sum_of(plain, LEN, want);
        assert_string_equal(same + strlen("sha256:"), want);
        assert_string_equal(given, same);
        strata_stream_free(st);
}

/* Nobody reads: what there is room for is taken without waiting, and then there is none. */
static void room_is_told_before(void **state)
{
        struct strata_stream *st;
        size_t taken = 0;
        const char *why;

        (void)state;
        assert_int_equal(strata_stream_new(0, &st), 0);
        while (strata_stream_has_room(st, LEN)) {
                assert_int_equal(strata_stream_write(st, plain, LEN), 0);
                taken += LEN;
                assert_true(taken < (size_t)64 << 20);
        }
        assert_true(taken > LEN);
        assert_true(strata_stream_has_room(st, 1));
        strata_stream_stop(st, -EIO, "for a test");
        assert_false(strata_stream_has_room(st, 1));
        assert_int_equal(strata_stream_error(st, &why), -EIO);
        assert_string_equal(why, "for a test");
        strata_stream_free(st);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_digest_is_that_of_all_pieces),
                cmocka_unit_test(gzip_members_are_one_stream),
                cmocka_unit_test(damaged_gzip_is_refused),
                cmocka_unit_test(a_kept_block_stays),
                cmocka_unit_test(room_is_told_before),
        };

        return cmocka_run_group_tests_name("layer_stream", tests, make_plain, NULL);
}
