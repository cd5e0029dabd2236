/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "util/sumfile.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define THREADS 6
#define ROUNDS 300

static void keeps_a_text(void **state)
{
        struct test_store *t = *state;
        char text[STRATA_SUMFILE_MAX] = "as it was";
        int dir = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        assert_int_equal(strata_sumfile_read(dir, "file", text), -ENOENT);
        assert_string_equal(text, "as it was");
        assert_int_equal(strata_sumfile_write(dir, "file", 1, "one\n", 4, true), 0);
        assert_int_equal(strata_sumfile_write(dir, "file", 1, "two\nlines\n", 10, false), 0);
        assert_int_equal(strata_sumfile_read(dir, "file", text), 0);
        assert_string_equal(text, "two\nlines\n");
        assert_int_equal(test_count_dir(t->dir), 1);
        close(dir);
}

struct writer {
        pthread_t thread;
        int dir;
        int unexpected; /* the first errno of a write or read */
};

static void *write_and_read(void *data)
{
        struct writer *w = data;
        char text[STRATA_SUMFILE_MAX];

        for (int i = 0; i < ROUNDS && !w->unexpected; i++) {
                w->unexpected = strata_sumfile_write(w->dir, "file", 1, "text\n", 5, false);
                if (!w->unexpected)
                        w->unexpected = strata_sumfile_read(w->dir, "file", text);
        }
        return NULL;
}

/* Whoever computes the same thing at once writes it at once: nobody ever sees it half written. */
static void many_writers_of_one_file(void **state)
{
        struct test_store *t = *state;
        struct writer writers[THREADS] = { 0 };
        int dir = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        for (int i = 0; i < THREADS; i++) {
                writers[i].dir = dir;
                assert_int_equal(pthread_create(&writers[i].thread, NULL, write_and_read, &writers[i]), 0);
        }
        for (int i = 0; i < THREADS; i++)
                pthread_join(writers[i].thread, NULL);
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(writers[i].unexpected, 0);
        assert_int_equal(test_count_dir(t->dir), 1);
        close(dir);
}

#define DIR_TEST(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                DIR_TEST(keeps_a_text),
                DIR_TEST(many_writers_of_one_file),
        };

        return cmocka_run_group_tests_name("sumfile", tests, NULL, NULL);
}
