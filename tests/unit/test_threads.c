/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All verbs at once from many threads, on so few names that they meet all the time. Whatever came first, in the end
 * each entry that was made is there once or was removed, and the store is in order.
 */
#include "testlib.h"

#include "chain.h"
#include "commit.h"
#include "label.h"
#include "prepare.h"
#include "recover.h"
#include "remove.h"
#include "rename.h"
#include "trash.h"
#include "tree.h"
#include "util/buf.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREADS 16
#define ROUNDS 600
#define NAMES 5

struct worker {
        struct test_store *t;
        unsigned seed;
        unsigned made, removed, committed, renamed, exchanged; /* successes */
        int unexpected;                                        /* the first errno that no verb may give here */
};

static const char *const names[NAMES] = { "a", "b", "c", "d", "e" };

static bool is_expected(int r)
{
        return r == 0 || r == -ENOENT || r == -EEXIST || r == -EBUSY || r == -ENOTEMPTY;
}

static void note(struct worker *w, int r, unsigned *counter)
{
        if (r == 0 && counter)
                ++*counter;
        if (!is_expected(r) && !w->unexpected)
                w->unexpected = r;
}

/* The file that tells an entry's layer from all others, made by hand as nothing is mounted here. */
static int sign(struct test_store *t, uint64_t id)
{
        char path[PATH_MAX];
        FILE *f;

        snprintf(path, sizeof(path), "%s/layers/%" PRIu64 "/fs/id", t->path, id);
        f = fopen(path, "we");
        if (!f)
                return errno == ENOENT ? 0 : -errno; /* removed by another thread meanwhile */
        fprintf(f, "%" PRIu64, id);
        fclose(f);
        return 0;
}

static void *work(void *data)
{
        struct worker *w = data;
        struct strata *s = w->t->s;

        for (int i = 0; i < ROUNDS; i++) {
                const char *a = names[rand_r(&w->seed) % NAMES], *b = names[rand_r(&w->seed) % NAMES], *why;
                enum strata_kind kind = rand_r(&w->seed) % STRATA_KINDS;
                struct strata_buf buf = STRATA_BUF_INIT;
                struct strata_info info;
                uint64_t id;
                int r;

                switch (rand_r(&w->seed) % 10) {
                case 0:
                case 1:
                        r = strata_prepare(s, STRATA_ACTIVE, a, rand_r(&w->seed) % 3 ? b : "", 0, 0, &id, &why);
                        note(w, r, &w->made);
                        if (r == 0)
                                note(w, sign(w->t, id), NULL);
                        break;
                case 2:
                        note(w, strata_prepare(s, STRATA_VIEW, a, b, 0, 0, &id, &why), &w->made);
                        break;
                case 3:
                case 4:
                        note(w, strata_commit(s, a, b, &why), &w->committed);
                        break;
                case 5:
                        if (strcmp(a, b) != 0)
                                note(w, strata_rename(s, kind, a, b, &why), &w->renamed);
                        break;
                case 6:
                        if (strcmp(a, b) != 0)
                                note(w, strata_exchange(s, kind, a, b, &why), &w->exchanged);
                        break;
                case 7:
                        note(w, strata_remove(s, kind, a, &why), &w->removed);
                        break;
                case 8:
                        note(w, strata_tree_text(s, &buf), NULL);
                        break;
                default:
                        if (strata_entry_get(s, kind, a, &info) == 0)
                                note(w, strata_label_set(s, info.id, "l", a, 1), NULL);
                }
                strata_buf_free(&buf);
        }
        return NULL;
}

/* Each entry of KIND: readable, with all its parents, its own files and its mark. Returns how many. */
static unsigned check_folder(struct test_store *t, enum strata_kind kind)
{
        unsigned found = 0;

        for (int i = 0; i < NAMES; i++) {
                cleanup_chain struct strata_chain chain = { 0 };
                struct strata_info info;
                char expected[32];
                char *text;
                int r = strata_entry_get(t->s, kind, names[i], &info);

                if (r == -ENOENT) {
                        assert_false(test_exists(t, "%s/%s", strata_kind_folder(kind), names[i]));
                        continue;
                }
                assert_int_equal(r, 0);
                found++;
                assert_int_equal(strata_chain_get(t->s, &info, &chain), 0);
                assert_int_equal(chain.n, info.depth - (kind == STRATA_ACTIVE || (kind == STRATA_VIEW && info.parent)));
                if (info.parent)
                        assert_true(test_exists(t, "layers/%" PRIu64 "/children/%" PRIu64, info.parent, info.id));
                assert_false(test_exists(t, "layers/%" PRIu64 "/meta.new", info.id));
                if (kind == STRATA_VIEW)
                        continue;
                snprintf(expected, sizeof(expected), "%" PRIu64, info.id);
                text = test_read(test_path(t, "layers/%" PRIu64 "/fs/id", info.id));
                assert_non_null(text);
                assert_string_equal(text, expected);
                free(text);
        }
        assert_int_equal(test_count_dir(test_path(t, "%s", strata_kind_folder(kind))), found);
        return found;
}

static int run_trash(void *data)
{
        strata_trash_run(data);
        return 0;
}

static void all_verbs_at_once(void **state)
{
        struct test_store *t = *state;
        struct worker workers[THREADS];
        pthread_t threads[THREADS];
        struct test_thread *trash = test_thread_start(run_trash, t->s);
        unsigned made = 0, removed = 0, committed = 0, renamed = 0, exchanged = 0, found = 0;
        atomic_bool stop = false;

        for (int i = 0; i < THREADS; i++) {
                workers[i] = (struct worker){ .t = t, .seed = (unsigned)i + 1 };
                assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
        }
        for (int i = 0; i < THREADS; i++) {
                assert_int_equal(pthread_join(threads[i], NULL), 0);
                assert_int_equal(workers[i].unexpected, 0);
                made += workers[i].made;
                removed += workers[i].removed;
                committed += workers[i].committed;
                renamed += workers[i].renamed;
                exchanged += workers[i].exchanged;
        }
        strata_trash_stop(t->s);
        assert_int_equal(test_thread_end(trash), 0);
        assert_null(t->s->ops);

        /* The test would be none if the threads had only got in each other's way. */
        assert_true(made > 50 && removed > 50 && committed > 10 && renamed > 10 && exchanged > 1);
        for (int starts = 0; starts < 2; starts++) {
                found = 0;
                for (int kind = 0; kind < STRATA_KINDS; kind++)
                        found += check_folder(t, kind);
                assert_int_equal(found, made - removed);
                assert_int_equal(test_count_dir(test_path(t, "layers")), found);
                test_store_crash(t);
                assert_int_equal(strata_recover_sweep(t->s, &stop), 0);
        }
        /* All of it can be taken down again, from the top. */
        while (found > 0) {
                unsigned before = found;

                for (int kind = 0; kind < STRATA_KINDS; kind++) {
                        for (int i = 0; i < NAMES; i++) {
                                const char *why;

                                found -= strata_remove(t->s, kind, names[i], &why) == 0;
                        }
                }
                assert_true(found < before);
        }
        assert_int_equal(strata_trash_empty(t->s), 0);
        assert_int_equal(test_count_dir(test_path(t, "layers")), 0);
}

/* The same key, all at once: exactly one of them gets it. */
struct runner {
        struct strata *s;
        pthread_barrier_t *barrier;
        int number;
        int wins[3];
        int unexpected;
};

static void *run_for_it(void *data)
{
        struct runner *r = data;

        for (int i = 0; i < 50; i++) {
                char key[16], name[16];
                const char *why;
                uint64_t id;
                int error[3];

                snprintf(key, sizeof(key), "k%d", i);
                snprintf(name, sizeof(name), "n%d-%d", i, r->number % 4);
                pthread_barrier_wait(r->barrier);
                error[0] = strata_prepare(r->s, r->number % 2 ? STRATA_ACTIVE : STRATA_VIEW, key, "", 0, 0, &id, &why);
                pthread_barrier_wait(r->barrier);
                error[1] = strata_commit(r->s, key, name, &why);
                pthread_barrier_wait(r->barrier);
                error[2] = strata_remove(r->s, STRATA_COMMITTED, name, &why);
                for (int e = 0; e < 3; e++) {
                        r->wins[e] += error[e] == 0;
                        if (!is_expected(error[e]))
                                r->unexpected = error[e];
                }
        }
        return NULL;
}

static void one_of_many_wins(void **state)
{
        struct test_store *t = *state;
        struct runner runners[THREADS];
        pthread_t threads[THREADS];
        pthread_barrier_t barrier;
        int wins[3] = { 0 };
        uint64_t views;

        assert_int_equal(pthread_barrier_init(&barrier, NULL, THREADS), 0);
        for (int i = 0; i < THREADS; i++) {
                runners[i] = (struct runner){ .s = t->s, .barrier = &barrier, .number = i };
                assert_int_equal(pthread_create(&threads[i], NULL, run_for_it, &runners[i]), 0);
        }
        for (int i = 0; i < THREADS; i++) {
                assert_int_equal(pthread_join(threads[i], NULL), 0);
                assert_int_equal(runners[i].unexpected, 0);
                for (int e = 0; e < 3; e++)
                        wins[e] += runners[i].wins[e];
        }
        pthread_barrier_destroy(&barrier);
        assert_int_equal(wins[0], 50); /* one prepare a key */
        assert_int_equal(strata_entry_count(t->s, STRATA_VIEW, &views), 0);
        assert_int_equal(wins[1], 50 - (int)views); /* one commit of each that was active */
        assert_int_equal(wins[2], wins[1]);         /* and one removal of that */
        assert_int_equal(test_count_dir(test_path(t, "active")), 0);
        assert_int_equal(test_count_dir(test_path(t, "snapshots")), 0);
        assert_int_equal(test_count_dir(test_path(t, "layers")), (int)views);
}

/* Renames never make an entry vanish for those who look by ID, nor a name show another entry's data. */
struct looker {
        struct strata *s;
        uint64_t a, b;
        atomic_bool *stop;
        unsigned looks;
        int bad;
};

static void *look(void *data)
{
        struct looker *l = data;

        while (!atomic_load(l->stop)) {
                struct strata_info info;
                int r = strata_entry_info(l->s, l->a, &info);

                if (r < 0 || info.id != l->a)
                        l->bad = r ? r : 1;
                r = strata_entry_get(l->s, STRATA_COMMITTED, "a", &info);
                if (r == 0 && (info.id != l->a && info.id != l->b))
                        l->bad = 2;
                if (r == 0 && strcmp(info.name, "a") != 0)
                        l->bad = 3;
                l->looks++;
        }
        return NULL;
}

static void lookers_see_whole_states(void **state)
{
        struct test_store *t = *state;
        atomic_bool stop = false;
        struct looker lookers[4];
        pthread_t threads[COUNT(lookers)];
        const char *why;
        uint64_t a = test_snapshot(t, "a", ""), b = test_snapshot(t, "b", "");

        for (size_t i = 0; i < COUNT(lookers); i++) {
                lookers[i] = (struct looker){ t->s, a, b, &stop, 0, 0 };
                assert_int_equal(pthread_create(&threads[i], NULL, look, &lookers[i]), 0);
        }
        for (int i = 0; i < 1000; i++) {
                assert_int_equal(strata_exchange(t->s, STRATA_COMMITTED, "a", "b", &why), 0);
                if (i % 10 == 0)
                        usleep(500);
        }
        atomic_store(&stop, true);
        for (size_t i = 0; i < COUNT(lookers); i++) {
                assert_int_equal(pthread_join(threads[i], NULL), 0);
                assert_int_equal(lookers[i].bad, 0);
                assert_true(lookers[i].looks > 0);
        }
        assert_int_equal(test_info(t, STRATA_COMMITTED, "a").id, a);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, test_store_setup, test_store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                STORE_TEST(all_verbs_at_once),
                STORE_TEST(one_of_many_wins),
                STORE_TEST(lookers_see_whole_states),
        };

        return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
