/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "util/ring.h"

#include <stdio.h>
#include <string.h>

#define TOTAL 1000000

struct side {
        struct strata_ring *ring;
        unsigned reader;
};

static unsigned char byte_at(size_t at)
{
        return (unsigned char)(at * 7 + (at >> 8));
}

static void fill(unsigned char *buf, size_t at, size_t len)
{
        for (size_t i = 0; i < len; i++)
                buf[i] = byte_at(at + i);
}

/* Half by copying, half in place. */
static int write_all(void *data)
{
        struct side *s = data;
        size_t at = 0, len;
        unsigned char piece[1500];
        void *to = piece;
        int r = 0;

        for (unsigned turn = 0; at < TOTAL && r == 0; turn++, at += len) {
                len = 1 + turn * 37 % sizeof(piece);
                to = piece;
                if (turn % 2)
                        r = strata_ring_reserve(s->ring, len, &to, &len);
                if (len > TOTAL - at)
                        len = TOTAL - at;
                fill(to, at, len);
                if (r == 0)
                        r = strata_ring_write(s->ring, to, len);
        }
        strata_ring_end(s->ring, r);
        return r;
}

static int read_all(void *data)
{
        struct side *s = data;
        size_t total = 0;
        const void *bytes;
        ssize_t n;

        for (unsigned turn = 0; (n = strata_ring_peek(s->ring, s->reader, 1 + turn * 91 % 3000, &bytes)) > 0; turn++) {
                for (ssize_t i = 0; i < n; i++)
                        if (((const unsigned char *)bytes)[i] != byte_at(total + (size_t)i))
                                return -1;
                total += (size_t)n;
                strata_ring_skip(s->ring, s->reader, (size_t)n);
        }
        return n == 0 && total == TOTAL ? 0 : -1;
}

static void each_reader_gets_all_of_it(void **state)
{
        (void)state;
        for (unsigned readers = 1; readers <= STRATA_RING_READERS; readers++) {
                struct test_thread *threads[STRATA_RING_READERS];
                struct side sides[STRATA_RING_READERS], writer;
                struct strata_ring *ring;

                assert_int_equal(strata_ring_new(4096, readers, &ring), 0);
                writer = (struct side){ .ring = ring };
                for (unsigned i = 0; i < readers; i++) {
                        sides[i] = (struct side){ ring, i };
                        threads[i] = test_thread_start(read_all, &sides[i]);
                }
                assert_int_equal(write_all(&writer), 0);
                for (unsigned i = 0; i < readers; i++)
                        assert_int_equal(test_thread_end(threads[i]), 0);
                strata_ring_free(ring);
        }
}

static void a_reader_that_goes_ends_the_writer(void **state)
{
        struct strata_ring *ring;
        struct side writer;
        struct test_thread *thread;

        (void)state;
        assert_int_equal(strata_ring_new(4096, 1, &ring), 0);
        writer = (struct side){ .ring = ring };
        thread = test_thread_start(write_all, &writer);
        strata_ring_cancel(ring);
        assert_int_equal(test_thread_end(thread), -ECANCELED);
        strata_ring_free(ring);
}

static void an_error_comes_after_what_is_there(void **state)
{
        struct strata_ring *ring;
        const void *bytes;

        (void)state;
        assert_int_equal(strata_ring_new(4096, 1, &ring), 0);
        assert_int_equal(strata_ring_write(ring, "abc", 3), 0);
        strata_ring_end(ring, -EIO);
        assert_int_equal(strata_ring_peek(ring, 0, 100, &bytes), 3);
        assert_memory_equal(bytes, "abc", 3);
        strata_ring_skip(ring, 0, 3);
        assert_int_equal(strata_ring_peek(ring, 0, 100, &bytes), -EIO);
        strata_ring_free(ring);
}

static void a_wait_has_an_end(void **state)
{
        struct strata_ring *ring;

        (void)state;
        assert_int_equal(strata_ring_new(4096, 1, &ring), 0);
        assert_false(strata_ring_wait(ring, 0, 100, 1));
        assert_int_equal(strata_ring_write(ring, "abc", 3), 0);
        assert_true(strata_ring_wait(ring, 0, 3, 1));
        assert_false(strata_ring_wait(ring, 0, 100, 1));
        strata_ring_end(ring, 0);
        assert_true(strata_ring_wait(ring, 0, 100, 60000));
        assert_false(strata_ring_is_cancelled(ring));
        strata_ring_cancel(ring);
        assert_true(strata_ring_is_cancelled(ring));
        strata_ring_free(ring);
}

static void what_is_there_is_told_without_waiting(void **state)
{
        struct strata_ring *ring;
        const void *bytes = NULL;
        char data[3000];

        (void)state;
        memset(data, 'x', sizeof(data));
        assert_int_equal(strata_ring_new(4096, 1, &ring), 0);
        assert_false(strata_ring_has(ring, 0, 1, &bytes));
        assert_int_equal(strata_ring_write(ring, data, sizeof(data)), 0);
        assert_false(strata_ring_has(ring, 0, sizeof(data), &bytes)); /* they may be the last */
        assert_true(strata_ring_has(ring, 0, sizeof(data) - 1, &bytes));
        assert_memory_equal(bytes, data, sizeof(data) - 1);
        strata_ring_skip(ring, 0, sizeof(data) - 1);
        assert_int_equal(strata_ring_write(ring, data, 2000), 0);
        assert_true(strata_ring_has(ring, 0, 1000, &bytes));
        assert_false(strata_ring_has(ring, 0, 1500, &bytes)); /* in two pieces */
        strata_ring_free(ring);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_reader_gets_all_of_it),
                cmocka_unit_test(a_reader_that_goes_ends_the_writer),
                cmocka_unit_test(an_error_comes_after_what_is_there),
                cmocka_unit_test(a_wait_has_an_end),
                cmocka_unit_test(what_is_there_is_told_without_waiting),
        };

        return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
