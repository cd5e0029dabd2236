/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "../../fuse/ticket.h"

#include <errno.h>

#define WEB UINT64_C(5) /* entries */
#define API UINT64_C(6)
#define ANNA 100 /* threads */
#define BERT 200
#define UNSEEN 0 /* of another PID namespace */

static void a_ticket_is_for_one_thread_and_one_entry(void **state)
{
        struct sfs_ticket *table = NULL;
        int error = -1;

        (void)state;
        sfs_ticket_give(&table, WEB, ANNA, 10);
        assert_false(sfs_ticket_take(&table, WEB, BERT, &error));
        assert_false(sfs_ticket_take(&table, API, ANNA, &error));
        assert_true(sfs_ticket_take(&table, WEB, ANNA, &error));
        assert_int_equal(error, 0);
        assert_false(sfs_ticket_take(&table, WEB, ANNA, &error));
        assert_null(table);
}

static void the_last_one_counts(void **state)
{
        struct sfs_ticket *table = NULL;
        int error;

        (void)state;
        sfs_ticket_give(&table, WEB, ANNA, 10);
        sfs_ticket_give(&table, API, ANNA, 11);
        assert_false(sfs_ticket_take(&table, WEB, ANNA, &error));
        assert_true(sfs_ticket_take(&table, API, ANNA, &error));
        assert_null(table);
}

static void it_follows_the_name(void **state)
{
        struct sfs_ticket *table = NULL;
        uint64_t old = 0;
        int error = -1;

        (void)state;
        assert_false(sfs_ticket_follow(table, API, ANNA, 10, &old));
        sfs_ticket_give_error(&table, WEB, ANNA, ENOENT, 10);
        assert_false(sfs_ticket_follow(table, WEB, ANNA, 10, &old));
        assert_false(sfs_ticket_follow(table, API, BERT, 10, &old));
        assert_true(sfs_ticket_follow(table, API, ANNA, 10, &old));
        assert_int_equal(old, WEB);
        assert_false(sfs_ticket_take(&table, WEB, ANNA, &error));
        assert_true(sfs_ticket_take(&table, API, ANNA, &error));
        assert_int_equal(error, 0); /* what was wrong with the other entry is nothing to this one */
}

static void threads_without_a_number_have_one_for_each_entry(void **state)
{
        struct sfs_ticket *table = NULL;
        uint64_t old;
        int error;

        (void)state;
        sfs_ticket_give(&table, WEB, UNSEEN, 10);
        sfs_ticket_give(&table, API, UNSEEN, 10);
        assert_false(sfs_ticket_follow(table, 7, UNSEEN, 10, &old));
        assert_true(sfs_ticket_take(&table, WEB, UNSEEN, &error));
        assert_true(sfs_ticket_take(&table, API, UNSEEN, &error));
        /* Several may be on their way: it is used up by none of them. */
        assert_true(sfs_ticket_take(&table, WEB, UNSEEN, &error));
        assert_int_equal(error, 0);
        sfs_ticket_fail(&table, WEB, EIO, 10);
        assert_true(sfs_ticket_take(&table, WEB, UNSEEN, &error));
        assert_int_equal(error, EIO);
        assert_false(sfs_ticket_take(&table, WEB, UNSEEN, &error)); /* an error is told once */
        sfs_ticket_sweep(&table, 41, 30);
        assert_null(table);
}

static void a_failure_goes_to_all_on_the_way(void **state)
{
        struct sfs_ticket *table = NULL;
        int error = 0;

        (void)state;
        sfs_ticket_give(&table, WEB, ANNA, 10);
        sfs_ticket_give(&table, WEB, BERT, 10);
        assert_false(sfs_ticket_take_error(&table, WEB, ANNA, &error));
        sfs_ticket_fail(&table, API, EIO, 10);
        assert_false(sfs_ticket_take_error(&table, WEB, ANNA, &error));
        sfs_ticket_fail(&table, WEB, EIO, 10);
        assert_true(sfs_ticket_take_error(&table, WEB, ANNA, &error));
        assert_int_equal(error, EIO);
        assert_true(sfs_ticket_take(&table, WEB, BERT, &error));
        assert_int_equal(error, EIO);
}

static void old_ones_are_swept(void **state)
{
        struct sfs_ticket *table = NULL;
        int error;

        (void)state;
        sfs_ticket_give(&table, WEB, ANNA, 10);
        sfs_ticket_give_error(&table, WEB, BERT, EIO, 10);
        sfs_ticket_sweep(&table, 15, 30);
        assert_false(sfs_ticket_take(&table, WEB, BERT, &error)); /* an error counts for a second */
        assert_true(sfs_ticket_take(&table, WEB, ANNA, &error));
        sfs_ticket_give(&table, WEB, ANNA, 10);
        sfs_ticket_sweep(&table, 41, 30);
        assert_null(table);
        sfs_ticket_give(&table, WEB, ANNA, 10);
        sfs_ticket_sweep(&table, 0, -1);
        assert_null(table);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_ticket_is_for_one_thread_and_one_entry),
                cmocka_unit_test(the_last_one_counts),
                cmocka_unit_test(it_follows_the_name),
                cmocka_unit_test(threads_without_a_number_have_one_for_each_entry),
                cmocka_unit_test(a_failure_goes_to_all_on_the_way),
                cmocka_unit_test(old_ones_are_swept),
        };

        return cmocka_run_group_tests_name("ticket", tests, NULL, NULL);
}
