/* SPDX-License-Identifier: Apache-2.0 */
#include "testlib.h"

#include "commit.h"
#include "entry.h"
#include "index.h"
#include "mount.h"
#include "prepare.h"
#include "record.h"
#include "util/buf.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

pid_t test_fork(void)
{
        pid_t parent = getpid(), pid = fork();

        assert_true(pid >= 0);
        if (pid == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent))
                _exit(125);
        return pid;
}

void test_remove_tree(const char *path)
{
        char *argv[] = { "rm", "-rf", "--one-file-system", "--", (char *)path, NULL };
        int status = -1;
        pid_t pid;

        if (posix_spawnp(&pid, "rm", NULL, NULL, argv, environ) != 0 || waitpid(pid, &status, 0) != pid || status != 0)
                print_error("can't remove %s\n", path);
}

static struct test_store *dir_new(void)
{
        struct test_store *t = calloc(1, sizeof(*t));
        const char *tmp = getenv("TMPDIR");

        assert_non_null(t);
        snprintf(t->dir, sizeof(t->dir), "%s/stratafs-unit.XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
        assert_non_null(mkdtemp(t->dir));
        snprintf(t->path, sizeof(t->path), "%s/store", t->dir);
        return t;
}

void test_store_open(struct test_store *t)
{
        char *why = NULL;
        int r = strata_open(t->path, &t->config, &t->s, &why);

        if (r < 0)
                print_error("strata_open(%s): %s\n", t->path, why ? why : "no reason given");
        free(why);
        assert_int_equal(r, 0);
}

void test_store_close(struct test_store *t)
{
        strata_close_store(t->s);
        t->s = NULL;
}

struct test_store *test_store_new(const struct strata_config *config)
{
        struct test_store *t = dir_new();

        t->config = *config;
        test_store_open(t);
        return t;
}

void test_store_free(struct test_store *t)
{
        if (!t)
                return;
        strata_close_store(t->s);
        test_remove_tree(t->dir);
        free(t);
}

int test_dir_setup(void **state)
{
        *state = dir_new();
        return 0;
}

int test_store_setup(void **state)
{
        const struct strata_config config = { 0 };

        *state = test_store_new(&config);
        return 0;
}

int test_store_teardown(void **state)
{
        test_store_free(*state);
        return 0;
}

int test_private_mounts(void **state)
{
        (void)state;
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
                print_error("a mount namespace of our own: %s\n", strerror(errno));
                return -1;
        }
        return 0;
}

void test_store_reopen(struct test_store *t)
{
        test_store_close(t);
        test_store_open(t);
}

void test_store_crash(struct test_store *t)
{
        char *next = test_read(test_path(t, "next"));

        test_store_close(t);
        /* A kill writes no mark of a clean end and leaves the reserved IDs as they were. */
        if (unlink(test_path(t, "clean")) < 0)
                assert_int_equal(errno, ENOENT); /* as after a crash that no sweep has followed yet */
        if (next)
                test_write(test_path(t, "next"), next);
        else
                assert_int_equal(unlink(test_path(t, "next")), 0);
        free(next);
        test_store_open(t);
}

const char *test_path(struct test_store *t, const char *fmt, ...)
{
        static char paths[9][PATH_MAX];
        static unsigned turn;
        char *path = paths[turn++ % COUNT(paths)];
        va_list args;
        int n = snprintf(path, PATH_MAX, "%s/", t->path);

        va_start(args, fmt);
        vsnprintf(path + n, PATH_MAX - (size_t)n, fmt, args);
        va_end(args);
        return path;
}

bool test_exists(struct test_store *t, const char *fmt, ...)
{
        char path[PATH_MAX];
        struct stat st;
        va_list args;
        int n = snprintf(path, sizeof(path), "%s/", t->path);

        va_start(args, fmt);
        vsnprintf(path + n, sizeof(path) - (size_t)n, fmt, args);
        va_end(args);
        if (lstat(path, &st) == 0)
                return true;
        assert_int_equal(errno, ENOENT);
        return false;
}

void test_write(const char *path, const char *text)
{
        assert_int_equal(strata_io_create_at(AT_FDCWD, path, text, strlen(text), 0600, false), 0);
}

char *test_read(const char *path)
{
        struct strata_buf buf = STRATA_BUF_INIT;
        int r = strata_io_read_at(AT_FDCWD, path, 16 << 20, &buf);

        if (r == -ENOENT)
                return NULL;
        assert_int_equal(r, 0);
        return buf.data ? buf.data : strdup("");
}

unsigned test_count_dir(const char *path)
{
        cleanup_dir DIR *dir = opendir(path);
        unsigned n = 0;

        assert_non_null(dir);
        while (readdir(dir))
                n++;
        return n - 2;
}

uint64_t test_prepare(struct test_store *t, enum strata_kind kind, const char *key, const char *parent)
{
        const char *why = NULL;
        uint64_t id = 0;
        int r = strata_prepare(t->s, kind, key, parent, getuid(), getgid(), &id, &why);

        if (r < 0)
                print_error("prepare %s@%s: %s: %s\n", key, parent, strerror(-r), why ? why : "");
        assert_int_equal(r, 0);
        return id;
}

void test_commit(struct test_store *t, const char *key, const char *name)
{
        const char *why = NULL;
        int r = strata_commit(t->s, key, name, &why);

        if (r < 0)
                print_error("commit %s as %s: %s: %s\n", key, name, strerror(-r), why ? why : "");
        assert_int_equal(r, 0);
}

uint64_t test_snapshot(struct test_store *t, const char *name, const char *parent)
{
        uint64_t id = test_prepare(t, STRATA_ACTIVE, name, parent);

        test_commit(t, name, name);
        return id;
}

struct strata_info test_info(struct test_store *t, enum strata_kind kind, const char *name)
{
        struct strata_info info;
        int r = strata_entry_get(t->s, kind, name, &info);

        if (r < 0)
                print_error("%s/%s: %s\n", strata_kind_folder(kind), name, strerror(-r));
        assert_int_equal(r, 0);
        return info;
}

void test_rename_by_hand(struct test_store *t, enum strata_kind kind, uint64_t id, const char *from, const char *to)
{
        struct strata_record rec;

        assert_int_equal(strata_record_load(t->s, id, &rec), 0);
        rec.was = rec.now;
        strcpy(rec.now.name, to);
        assert_int_equal(strata_record_stage(t->s, &rec, false), 0);
        assert_int_equal(strata_record_publish(t->s, id), 0);
        assert_int_equal(renameat(t->s->kind_fd[kind], from, t->s->kind_fd[kind], to), 0);
        strata_index_drop(t->s->index, id);
}

static void state_walk(int dirfd, const char *path, struct strata_buf *buf);

static void state_one(int dirfd, const char *path, const char *name, struct strata_buf *buf)
{
        char below[PATH_MAX], target[PATH_MAX];
        struct stat st;
        ssize_t n;

        snprintf(below, sizeof(below), "%s%s%s", path, path[0] ? "/" : "", name);
        if (strcmp(below, "trash") == 0 || strcmp(below, "lock") == 0 || strcmp(below, "next") == 0)
                return;
        assert_int_equal(fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
        strata_buf_addf(buf, "%s %o %u:%u", below, st.st_mode, st.st_uid, st.st_gid);
        if (S_ISLNK(st.st_mode)) {
                n = readlinkat(dirfd, name, target, sizeof(target) - 1);
                assert_true(n >= 0);
                target[n] = '\0';
                strata_buf_addf(buf, " -> %s %ld.%09ld", target, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
        }
        if (S_ISREG(st.st_mode)) {
                strata_buf_addstr(buf, " ");
                assert_int_equal(strata_io_read_at(dirfd, name, 16 << 20, buf), 0);
        }
        strata_buf_addstr(buf, "\n");
        if (S_ISDIR(st.st_mode)) {
                cleanup_fd int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

                assert_true(fd >= 0);
                state_walk(fd, below, buf);
        }
}

static void state_walk(int dirfd, const char *path, struct strata_buf *buf)
{
        struct dirent **list;
        int n = scandirat(dirfd, ".", &list, NULL, alphasort);

        assert_true(n >= 0);
        for (int i = 0; i < n; i++) {
                if (strcmp(list[i]->d_name, ".") != 0 && strcmp(list[i]->d_name, "..") != 0)
                        state_one(dirfd, path, list[i]->d_name, buf);
                free(list[i]);
        }
        free(list);
}

char *test_state(struct test_store *t)
{
        struct strata_buf buf = STRATA_BUF_INIT;

        state_walk(t->s->root_fd, "", &buf);
        assert_int_equal(strata_buf_status(&buf), 0);
        return buf.data;
}

void test_assert_state(struct test_store *t, char *before)
{
        char *after = test_state(t);
        size_t at = 0, line = 0;

        if (strcmp(before, after) != 0) {
                for (; before[at] && before[at] == after[at]; at++)
                        line = before[at] == '\n' ? at + 1 : line;
                fail_msg("the store was:    %.*s\nand is different: %.*s", (int)strcspn(before + line, "\n"),
                         before + line, (int)strcspn(after + line, "\n"), after + line);
        }
        free(before);
        free(after);
}

struct test_thread {
        pthread_t thread;
        int (*fn)(void *);
        void *data;
        int result;
        atomic_int tid;
        atomic_bool ended;
};

static void *thread_main(void *data)
{
        struct test_thread *thread = data;

        atomic_store(&thread->tid, (int)syscall(SYS_gettid));
        thread->result = thread->fn(thread->data);
        atomic_store(&thread->ended, true);
        return NULL;
}

/* True if the thread waits in futex(2): proc(5), /proc/PID/syscall. */
static bool waits_for_lock(int tid)
{
        char path[64];
        char *text;
        bool waits;

        snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
        text = test_read(path);
        waits = text && strtol(text, NULL, 10) == SYS_futex && text[0] != 'r';
        free(text);
        return waits;
}

struct test_thread *test_thread_start(int (*fn)(void *), void *data)
{
        struct test_thread *thread = calloc(1, sizeof(*thread));
        int seen = 0;

        assert_non_null(thread);
        thread->fn = fn;
        thread->data = data;
        assert_int_equal(pthread_create(&thread->thread, NULL, thread_main, thread), 0);
        while (seen < 3 && !atomic_load(&thread->ended)) {
                int tid = atomic_load(&thread->tid);

                seen = tid && waits_for_lock(tid) ? seen + 1 : 0;
                usleep(1000);
        }
        return thread;
}

int test_thread_end(struct test_thread *thread)
{
        int result;

        assert_int_equal(pthread_join(thread->thread, NULL), 0);
        result = thread->result;
        free(thread);
        return result;
}

/* Each test runs once with either interface; those that are not in the kernel would fail, and are meant to. */
static int mount_setup(void **state, bool old_api)
{
        const struct strata_config config = { .old_mount_api = old_api };
        struct test_store *t = test_store_new(&config);

        assert_string_equal(t->s->mount_api->name, old_api ? "old" : "new");
        *state = t;
        return 0;
}

int test_new_api_setup(void **state)
{
        return mount_setup(state, false);
}

int test_old_api_setup(void **state)
{
        return mount_setup(state, true);
}

int test_mount_teardown(void **state)
{
        struct test_store *t = *state;
        char mnt[PATH_MAX];

        if (chdir("/") < 0)
                return -1;
        snprintf(mnt, sizeof(mnt), "%s/mnt", t->dir);
        while (umount2(mnt, MNT_DETACH) == 0)
                ;
        snprintf(mnt, sizeof(mnt), "%s/bind", t->dir);
        while (umount2(mnt, MNT_DETACH) == 0)
                ;
        return test_store_teardown(state);
}

const char *test_mnt(struct test_store *t, const char *below)
{
        static char paths[9][PATH_MAX];
        static unsigned turn;
        char *path = paths[turn++ % COUNT(paths)];

        snprintf(path, PATH_MAX, "%s/mnt%s%s", t->dir, below[0] ? "/" : "", below);
        return path;
}

int test_attach(struct test_store *t, enum strata_kind kind, const char *name)
{
        struct strata_info info = test_info(t, kind, name);
        cleanup_fd int fd = -1;
        dev_t dev;

        assert_true(mkdir(test_mnt(t, ""), 0700) == 0 || errno == EEXIST);
        fd = open(test_mnt(t, ""), O_PATH | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        return strata_mount_attach(t->s, &info, fd, &dev);
}

void test_detach(struct test_store *t, uint64_t id)
{
        assert_int_equal(strata_mount_detach(test_mnt(t, ""), 0), 0);
        if (id)
                strata_mount_left(t->s, id);
}

void test_assert_text(const char *path, const char *expected)
{
        char *text = test_read(path);

        assert_non_null(text);
        assert_string_equal(text, expected);
        free(text);
}

void test_assert_read_only(const char *path)
{
        assert_int_equal(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), -1);
        assert_int_equal(errno, EROFS);
}

void test_mount_line(const char *path, char line[8192])
{
        FILE *f = fopen("/proc/self/mountinfo", "re");
        char text[8192], point[4096];

        assert_non_null(f);
        line[0] = '\0';
        while (fgets(text, sizeof(text), f))
                if (sscanf(text, "%*s %*s %*s %*s %4095s", point) == 1 && strcmp(point, path) == 0)
                        strcpy(line, text);
        fclose(f);
}
