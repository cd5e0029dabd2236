/* SPDX-License-Identifier: Apache-2.0 */
/* The examination as a whole, the top of the store, and lost+found/. */
#include "check_part.h"

#include "layer_publish.h"
#include "mount.h"
#include "store.h"
#include "storelock.h"
#include "strata.h"
#include "util/buf.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/timefmt.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS_MAX 100 /* of a repair: more than there can be, as each mends something for good */

bool strata_check_stopped(const struct strata_check *c)
{
        return c->stop && atomic_load(c->stop);
}

bool strata_check_wants(struct strata_check *c, enum strata_check_cause cause)
{
        if (c->silent) {
                c->suspicions++;
                return false;
        }
        return c->mode == STRATA_CHECK_REPAIR || (c->mode == STRATA_CHECK_SWEEP && cause == STRATA_CHECK_CRASH);
}

void strata_check_tell(struct strata_check *c, int result, int error, const char *path, const char *fmt, ...)
{
        char text[1024];
        va_list args;

        if (c->silent)
                return;
        if (c->postponed && result != 0) {
                c->left++;
                return;
        }
        c->found++;
        if (result == 0)
                c->repaired++;
        va_start(args, fmt);
        vsnprintf(text, sizeof(text), fmt, args);
        va_end(args);
        if (c->report)
                c->report(c->data, path, text, error, result == 0);
}

void strata_check_cannot_tell(struct strata_check *c, int error, const char *path)
{
        (void)strata_check_wants(c, STRATA_CHECK_DAMAGE);
        strata_check_tell(c, STRATA_CHECK_LEFT, error, path, "it can't be examined: %s", strerror(-error));
}

/* ---- lost+found ---- */

static int open_lost(struct strata *s)
{
        int fd;

        if (mkdirat(s->root_fd, "lost+found", 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = openat(s->root_fd, "lost+found", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int strata_check_lose(struct strata *s, int dirfd, const char *name, const char *from, const char *why)
{
        cleanup_buf struct strata_buf note = STRATA_BUF_INIT;
        char as[32], note_name[48], now[STRATA_TIME_MAX];
        cleanup_fd int lost = open_lost(s);
        int r;

        if (lost < 0)
                return lost;
        strata_buf_addstr(&note, "from: ");
        strata_buf_add_escaped(&note, from);
        strata_buf_addf(&note, "\nwhy: %s\ntime: %s\n", why, strata_time_format(strata_time_now(), now));
        r = strata_buf_status(&note);
        if (r < 0)
                return r;
        /* The note first: what lies here without one would be a riddle. */
        for (unsigned n = 1;; n++) {
                int fd;

                snprintf(as, sizeof(as), "%u", n);
                snprintf(note_name, sizeof(note_name), "%u.note", n);
                if (faccessat(lost, as, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                        continue;
                fd = openat(lost, note_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
                if (fd < 0 && errno == EEXIST)
                        continue;
                if (fd < 0)
                        return -errno;
                r = strata_io_write(fd, note.data, note.len);
                if (r == 0 && fsync(fd) < 0)
                        r = -errno;
                strata_close(fd);
                break;
        }
        if (r == 0 && renameat2(dirfd, name, lost, as, RENAME_NOREPLACE) < 0)
                r = -errno;
        if (r < 0)
                (void)unlinkat(lost, note_name, 0);
        return r;
}

void strata_check_foreign(struct strata *s, struct strata_check *c, int dirfd, const char *name, const char *from,
                          const char *why)
{
        int r = STRATA_CHECK_LEFT;

        if (strata_check_wants(c, STRATA_CHECK_DAMAGE))
                r = strata_check_lose(s, dirfd, name, from, why);
        strata_check_tell(c, r, EUCLEAN, from, "%s%s", why, r == 0 ? "; it is in lost+found/ now" : "");
}

/* ---- walking ---- */

void strata_check_steady(struct strata *s, struct strata_check *c,
                         void (*fn)(struct strata *s, struct strata_check *c, const void *what), const void *what)
{
        const struct timespec pause = { .tv_nsec = 100000000 };

        for (int tries = 0; (c->live || c->unlocked) && tries < 8; tries++) {
                c->silent = true;
                c->suspicions = 0;
                fn(s, c, what);
                c->silent = false;
                if (!c->suspicions)
                        return;
                if (!c->live && strata_storelock_hold(s) == 0) {
                        fn(s, c, what);
                        strata_storelock_let_go(s);
                        return;
                }
                c->live = true;
                nanosleep(&pause, NULL);
        }
        fn(s, c, what);
}

int strata_check_each(int at, const char *path, struct strata *s, struct strata_check *c,
                      void (*fn)(struct strata *s, struct strata_check *c, int dirfd, const char *name, void *data),
                      void *data)
{
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;
        int r = strata_io_list(at, path, &dir);

        if (r < 0)
                return r == -ENOENT ? 0 : strata_check_missed(s, r);
        while (!strata_check_stopped(c) && (errno = 0, de = readdir(dir)))
                if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
                        fn(s, c, dirfd(dir), de->d_name, data);
        return strata_check_stopped(c) ? 0 : strata_check_missed(s, -errno);
}

int strata_check_missed(struct strata *s, int error)
{
        if (error < 0 && error != -ENOENT)
                atomic_store(&s->rubbish, true);
        return error;
}

bool strata_check_is_there(struct strata *s, int dirfd, const char *path)
{
        return strata_check_missed(s, faccessat(dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0) == 0;
}

int strata_check_find(struct strata *s, enum strata_kind kind, const char *name, uint64_t *id)
{
        return strata_check_missed(s, strata_entry_find(s, kind, name, id));
}

/* ---- the top ---- */

static void check_top_name(struct strata *s, struct strata_check *c, int dirfd, const char *name, void *data)
{
        static const char *const known[] = { "format", "lock",      "next",       "mark.synced", "mark.volatile",
                                             "clean",  "empty",     "trash",      "layers",      "active",
                                             "views",  "snapshots", "lost+found", "probe.new",   "gave-up" };

        (void)data;
        if (strncmp(name, "mark.", 5) == 0 && c->mode != STRATA_CHECK_SWEEP && strata_mount_mark_is_damaged(s, name)) {
                int r = STRATA_CHECK_LEFT;

                if (strata_check_wants(c, STRATA_CHECK_CRASH))
                        r = unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
                strata_check_tell(c, r, EUCLEAN, name, "its checksum is wrong; each start makes it anew");
                return;
        }
        for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
                if (strcmp(name, known[i]) == 0)
                        return;
        if (strcmp(name, "format.new") == 0 || strcmp(name, "next.new") == 0) {
                int r = STRATA_CHECK_LEFT;

                /* A sweep runs beside the writing of `next`; what was left is replaced by that. */
                if (c->mode == STRATA_CHECK_SWEEP)
                        return;
                if (strata_check_wants(c, STRATA_CHECK_CRASH))
                        r = unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
                strata_check_tell(c, r, 0, name, "a crash cut the writing of it off");
                return;
        }
        if (!strata_publish_check(s, c, name))
                strata_check_foreign(s, c, dirfd, name, name, "it is no part of a store");
}

static void check_top(struct strata *s, struct strata_check *c, const void *what)
{
        (void)what;
        (void)strata_check_each(s->root_fd, ".", s, c, check_top_name, NULL);
}

static void check_empty_name(struct strata *s, struct strata_check *c, int dirfd, const char *name, void *data)
{
        char from[STRATA_NAME_MAX + 16];

        (void)data;
        snprintf(from, sizeof(from), "empty/%s", name);
        strata_check_foreign(s, c, dirfd, name, from,
                             "empty/ has to be empty: what is in it shows below every base snapshot");
}

static void check_empty(struct strata *s, struct strata_check *c, const void *what)
{
        (void)what;
        (void)strata_check_each(s->root_fd, "empty", s, c, check_empty_name, NULL);
}

/* `next` has to be above all IDs that were ever used, or a node would be used twice. */
static void check_next(struct strata *s, struct strata_check *c, const void *what)
{
        uint64_t highest = 0, next = 0;
        int r;

        (void)what;
        (void)strata_store_highest_id(s->layers_fd, &highest);
        (void)strata_store_highest_id(s->trash_fd, &highest);
        r = strata_store_read_next(s, &next);
        if ((r == -ENOENT && !highest) || (r == 0 && next > highest))
                return;
        r = STRATA_CHECK_LEFT;
        if (strata_check_wants(c, STRATA_CHECK_DAMAGE))
                r = strata_store_write_next(s, highest + STRATA_STORE_ID_BLOCK);
        strata_check_tell(c, r, EUCLEAN, "next", "it does not hold a number above all in layers/ (%" PRIu64 ")",
                          highest);
}

static void check_layer_name(struct strata *s, struct strata_check *c, int dirfd, const char *name, void *data)
{
        char from[STRATA_NAME_MAX + 16], canonical[24];
        unsigned long long number;
        struct stat st;
        uint64_t id;

        (void)data;
        snprintf(from, sizeof(from), "layers/%s", name);
        if (!strata_io_parse_u64(name, &number) || number == 0 ||
            (snprintf(canonical, sizeof(canonical), "%llu", number), strcmp(canonical, name) != 0)) {
                strata_check_foreign(s, c, dirfd, name, from, "its name is not that of a layer");
                return;
        }
        if (c->below && number >= c->below)
                return;
        if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode)) {
                strata_check_foreign(s, c, dirfd, name, from, "a layer is a directory, and this is not");
                return;
        }
        id = number;
        c->layers++;
        strata_check_steady(s, c, strata_check_layer, &id);
}

static void check_marks_name(struct strata *s, struct strata_check *c, int dirfd, const char *name, void *data)
{
        unsigned long long number;
        uint64_t id;

        (void)dirfd;
        (void)data;
        if (!strata_io_parse_u64(name, &number) || (c->below && number >= c->below))
                return;
        id = number;
        strata_check_steady(s, c, strata_check_marks, &id);
}

static void check_link_name(struct strata *s, struct strata_check *c, int dirfd, const char *name, void *data)
{
        struct strata_place place = { .kind = *(enum strata_kind *)data };

        (void)dirfd;
        if (strlen(name) > STRATA_NAME_MAX)
                return; /* no file system has such */
        strcpy(place.name, name);
        strata_check_steady(s, c, strata_check_link, &place);
}

static void check_format(struct strata *s, struct strata_check *c, const void *what)
{
        int r = strata_store_check_format(s);

        (void)what;
        if (r >= 0)
                return;
        r = STRATA_CHECK_LEFT;
        if (strata_check_wants(c, STRATA_CHECK_DAMAGE))
                r = strata_store_write_format(s);
        strata_check_tell(c, r, EUCLEAN, "format", "a bit of it is wrong");
}

/*
 * Without its folders there is nothing to look at: -EUCLEAN then, or why one that is there can't be opened. 1: made,
 * which is done only where MORE, the rest of what is told, is "".
 */
static int check_folder(struct strata *s, struct strata_check *c, const char *name, int *fd, const char *more)
{
        int r = STRATA_CHECK_LEFT;

        if (*fd < 0)
                *fd = openat(s->root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (*fd >= 0)
                return 0;
        if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
                return -errno;
        if (strata_check_wants(c, STRATA_CHECK_DAMAGE) && !more[0]) {
                r = mkdirat(s->root_fd, name, 0700) < 0 ? -errno : 0;
                if (r == 0)
                        *fd = openat(s->root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        }
        strata_check_tell(c, r, EUCLEAN, name, "this folder of the store is missing%s", more);
        return *fd < 0 ? -EUCLEAN : 1;
}

static void count_link(struct strata *s, struct strata_check *c, int dirfd, const char *name, void *data)
{
        uint64_t *n = data;
        char first;

        (void)s;
        (void)c;
        if (readlinkat(dirfd, name, &first, 1) > 0 && strcmp(name, ".relink") != 0)
                ++*n;
}

/*
 * Links without any layer: somebody took layers/ away, or a disk is not mounted there, and they are all that is left of
 * the names. A crash leaves no link to a snapshot, but to what was never committed. So an empty layers/ is a lost one
 * if there are snapshots, a missing one if there is any link; and that is not made, as the next one to look would find
 * it empty.
 */
static int check_layers(struct strata *s, struct strata_check *c)
{
        struct strata_check quiet = { .mode = STRATA_CHECK_LOOK };
        uint64_t links = 0, highest = 0;
        int r = 0;

        for (int kind = 0; kind < STRATA_KINDS && r == 0; kind++)
                if (s->kind_fd[kind] >= 0 && (kind == STRATA_COMMITTED || s->layers_fd < 0))
                        r = strata_check_each(s->kind_fd[kind], ".", s, &quiet, count_link, &links);
        if (r == 0)
                r = check_folder(s, c, "layers", &s->layers_fd,
                                 links ? ", and with it the files of all that has a name: put it back" : "");
        if (r == 0)
                r = strata_store_highest_id(s->layers_fd, &highest);
        if (r == 0)
                c->lost_layers = links && !highest;
        return r < 0 ? r : 0;
}

static int check_folders(struct strata *s, struct strata_check *c)
{
        cleanup_fd int empty = -1;
        const struct {
                const char *name;
                int *fd;
        } folders[] = {
                { "active", &s->kind_fd[STRATA_ACTIVE] },
                { "views", &s->kind_fd[STRATA_VIEW] },
                { "snapshots", &s->kind_fd[STRATA_COMMITTED] },
                { "trash", &s->trash_fd },
        };
        int ret = check_folder(s, c, "empty", &empty, "");

        if (ret == -EUCLEAN || ret > 0)
                ret = 0; /* the others can be looked at all the same */
        for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
                int r = check_folder(s, c, folders[i].name, folders[i].fd, "");

                if (r > 0 && folders[i].fd != &s->trash_fd)
                        c->made_links = true;
                if (r < 0 && (ret == 0 || r != -EUCLEAN))
                        ret = r;
        }
        if (ret == 0 || ret == -EUCLEAN) {
                int r = check_layers(s, c);

                ret = r < 0 ? r : ret;
        }
        return ret;
}

/* Layers first: a damaged link is known by the layer that misses it. */
static int check_all(struct strata *s, struct strata_check *c)
{
        uint64_t before;
        int r = check_folders(s, c);

        if (r < 0)
                return r == -EUCLEAN ? 0 : r; /* that was told of */
        strata_check_steady(s, c, check_top, NULL);
        if (c->mode != STRATA_CHECK_SWEEP)
                strata_check_steady(s, c, check_format, NULL);
        strata_check_steady(s, c, check_empty, NULL);
        if (c->mode != STRATA_CHECK_SWEEP)
                strata_check_steady(s, c, check_next, NULL);
        before = c->repaired;
        r = strata_check_each(s->layers_fd, ".", s, c, check_layer_name, NULL);
        if (r == 0 && c->repaired != before) /* of a layer that is gone now, another may hold the mark */
                r = strata_check_each(s->layers_fd, ".", s, c, check_marks_name, NULL);
        for (int kind = 0; kind < STRATA_KINDS && r == 0; kind++) {
                enum strata_kind k = kind;

                r = strata_check_each(s->kind_fd[kind], ".", s, c, check_link_name, &k);
        }
        return r;
}

/*
 * Goes on until there is nothing to mend: a layer whose record or link is back can be looked at whole, and what lay in
 * the way is gone. So what is left is known only at the end, and told of then.
 */
static int repair_all(struct strata *s, struct strata_check *c)
{
        uint64_t before;
        int r, rounds = 0;

        c->postponed = true;
        do {
                before = c->repaired;
                c->left = c->layers = 0;
                r = check_all(s, c);
        } while (r == 0 && c->repaired != before && ++rounds < ROUNDS_MAX);
        c->postponed = false;
        if (r == 0 && c->repaired == before && !c->left)
                return 0;
        c->layers = 0;
        return check_all(s, c);
}

int strata_check_run(struct strata *s, struct strata_check *c)
{
        int r = c->mode == STRATA_CHECK_REPAIR ? repair_all(s, c) : check_all(s, c);

        /* What was mended is not known to be on the disk, and what was left is for a sweep to look at. */
        if (c->mode == STRATA_CHECK_REPAIR && c->found)
                (void)unlinkat(s->root_fd, "clean", 0);
        return r;
}
