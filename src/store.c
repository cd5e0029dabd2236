/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

#include "log.h"
#include "mount.h"
#include "storelock.h"
#include "util/cleanup.h"
#include "util/hash.h"
#include "util/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FORMAT "stratafs-store 1\n"
#define FORMAT_SUM "xxh3: %016" PRIx64 "\n"
#define FORMAT_MAX 64

static const char *const skeleton[] = { "empty", "trash", "layers", "active", "views", "snapshots" };

static int fail(int error, char **why, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int fail(int error, char **why, const char *fmt, ...)
{
        va_list args;

        va_start(args, fmt);
        if (vasprintf(why, fmt, args) < 0)
                *why = NULL;
        va_end(args);
        return error;
}

static int open_dir(int dirfd, const char *name)
{
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

/* The characters that overlayfs and /proc/mounts give a meaning to. */
int strata_store_check_path(const char *path, char **why)
{
        if (strpbrk(path, " \t\n\v\f\r,:\\"))
                return fail(-EINVAL, why,
                            "the store's path '%s' holds white space, ',', ':' or '\\', which overlayfs can't carry; "
                            "choose another place",
                            path);
        if (strata_buf_has_control(path))
                return fail(-EINVAL, why,
                            "the store's path '%s' holds a control character, which would reach terminals by way of "
                            "`overlay` and /proc/mounts; choose another place",
                            path);
        return 0;
}

/* True if DIRFD holds nothing but what strata_store_open() makes before the format file, as a cut-off start leaves it.
 */
static int is_unfinished(int dirfd)
{
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;
        int r = strata_io_list(dirfd, ".", &dir);

        if (r < 0)
                return r;
        while ((errno = 0, de = readdir(dir))) {
                bool known = de->d_name[0] == '.' || strcmp(de->d_name, "lock") == 0 ||
                             strcmp(de->d_name, "format.new") == 0 || strcmp(de->d_name, "lost+found") == 0;

                if (de->d_name[0] == '.' && strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
                        known = false;
                for (size_t i = 0; i < sizeof(skeleton) / sizeof(*skeleton); i++)
                        known = known || strcmp(de->d_name, skeleton[i]) == 0;
                if (!known)
                        return 0;
        }
        return errno ? -errno : 1;
}

static int make_skeleton(struct strata *s, char **why)
{
        int r;

        for (size_t i = 0; i < sizeof(skeleton) / sizeof(*skeleton); i++)
                if (mkdirat(s->root_fd, skeleton[i], i == 0 ? 0755 : 0700) < 0 && errno != EEXIST)
                        return fail(-errno, why, "can't make %s/%s: %s", s->path, skeleton[i], strerror(errno));
        r = strata_store_write_format(s);
        if (r < 0)
                return fail(r, why, "can't write %s/format: %s", s->path, strerror(-r));
        return 0;
}

/* Bits in which two strings of LEN bytes differ. */
static unsigned count_wrong_bits(const char *a, const char *b, size_t len)
{
        unsigned n = 0;

        for (size_t i = 0; i < len; i++)
                n += (unsigned)__builtin_popcount((unsigned char)(a[i] ^ b[i]));
        return n;
}

static void format_text(char text[FORMAT_MAX])
{
        snprintf(text, FORMAT_MAX, FORMAT FORMAT_SUM, (uint64_t)XXH3_64bits(FORMAT, strlen(FORMAT)));
}

/* Another format has another checksum, which is far more than two bits from ours. */
int strata_store_format_of(const char *text, size_t len)
{
        char own[FORMAT_MAX];

        format_text(own);
        if (len == strlen(FORMAT) && memcmp(text, FORMAT, len) == 0)
                return 1;
        if (len != strlen(own))
                return -EINVAL;
        if (memcmp(text, own, len) == 0)
                return 0;
        return count_wrong_bits(text, own, len) > 2 ? -EINVAL : -EUCLEAN;
}

int strata_store_check_format(struct strata *s)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        int r = strata_io_read_at(s->root_fd, "format", 256, &buf);

        if (r < 0)
                return r == -EFBIG ? -EINVAL : r;
        return buf.len ? strata_store_format_of(buf.data, buf.len) : -EINVAL;
}

int strata_store_write_format(struct strata *s)
{
        char text[FORMAT_MAX];
        int r;

        format_text(text);
        r = strata_io_replace_at(s->root_fd, "format.new", "format", text, strlen(text), 0600, true);
        return r == 0 && fsync(s->root_fd) < 0 ? -errno : r;
}

/* *MADE: there was no store, and now there is an empty one. */
static int check_format(struct strata *s, bool *made, char **why)
{
        int r = strata_store_check_format(s);

        if (r == -ENOENT) {
                r = is_unfinished(s->root_fd);
                if (r < 0)
                        return fail(r, why, "can't read %s: %s", s->path, strerror(-r));
                if (r == 0)
                        return fail(-EINVAL, why,
                                    "%s is neither a store nor empty; give a store, or a new or empty directory",
                                    s->path);
                r = make_skeleton(s, why);
                *made = r == 0;
                return r;
        }
        if (r == 1) {
                (void)strata_store_write_format(s); /* a full disk is no reason not to start */
                return 0;
        }
        if (r == -EUCLEAN) {
                r = strata_store_write_format(s);
                strata_log_add(s->log, "recover", "format", NULL, EUCLEAN, "a bit of it was wrong%s",
                               r == 0 ? " (mended)" : "");
        }
        if (r == -EINVAL)
                return fail(-EINVAL, why, "%s/format names a store format that this program does not know", s->path);
        return r < 0 ? fail(r, why, "can't read %s/format: %s", s->path, strerror(-r)) : 0;
}

/*
 * True where ERROR only means that the disk was made read-only while the store was served, by an administrator or by
 * the file system itself after a fault: its readers are to go on.
 */
static bool is_served_still(const struct strata *s, int error)
{
        return s->config.reserved && error == EROFS;
}

/* Removes the mark of a clean end, so that a crash from here on is seen at the next start. */
static int take_clean_mark(struct strata *s, bool made)
{
        if (unlinkat(s->root_fd, "clean", 0) == 0)
                return fsync(s->root_fd) < 0 ? -errno : 0;
        if (errno != ENOENT && !is_served_still(s, errno)) /* said before anybody looks for it */
                return -errno;
        s->unclean = s->unclean || !made;
        /* What a crash cut off; here nobody writes these two yet. */
        (void)unlinkat(s->root_fd, "next.new", 0);
        (void)unlinkat(s->root_fd, "format.new", 0);
        return 0;
}

static int open_folders(struct strata *s, char **why)
{
        strata_mount_drop_spare_place(s->root_fd);
        s->layers_fd = open_dir(s->root_fd, "layers");
        s->trash_fd = open_dir(s->root_fd, "trash");
        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                s->kind_fd[kind] = open_dir(s->root_fd, strata_kind_folder(kind));
                if (s->kind_fd[kind] < 0)
                        return fail(s->kind_fd[kind], why, "can't open %s/%s: %s", s->path, strata_kind_folder(kind),
                                    strerror(-s->kind_fd[kind]));
        }
        if (s->layers_fd == -ENOENT)
                return fail(-EUCLEAN, why,
                            "the store %s has no layers/, which holds the files of all entries: put it back", s->path);
        if (s->layers_fd < 0)
                return fail(s->layers_fd, why, "can't open %s/layers: %s", s->path, strerror(-s->layers_fd));
        if (s->trash_fd == -ENOENT)
                return fail(-EUCLEAN, why, "the store %s has no trash/: `stratafs --check %s --repair` makes it",
                            s->path, s->path);
        if (s->trash_fd < 0)
                return fail(s->trash_fd, why, "can't open %s/trash: %s", s->path, strerror(-s->trash_fd));
        return 0;
}

int strata_store_open(struct strata *s, const char *path, char **why)
{
        int r = strata_store_check_path(path, why);
        bool made = false;

        if (r < 0)
                return r;
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                return fail(-errno, why, "can't make the store %s: %s", path, strerror(errno));
        s->path = realpath(path, NULL);
        if (!s->path)
                return fail(-errno, why, "can't find the store %s: %s", path, strerror(errno));
        r = strata_store_check_path(s->path, why);
        if (r < 0)
                return r;
        s->root_fd = open_dir(AT_FDCWD, s->path);
        if (s->root_fd < 0)
                return fail(s->root_fd, why, "can't open the store %s: %s", s->path, strerror(-s->root_fd));
        if (faccessat(s->root_fd, "format", F_OK, 0) < 0) {
                r = is_unfinished(s->root_fd);
                if (r == 0)
                        return fail(-EINVAL, why,
                                    "%s is neither a store nor empty; give a store, or a new or empty directory",
                                    s->path);
        }
        r = strata_storelock_open(s, why);
        if (r < 0)
                return r;
        r = check_format(s, &made, why);
        if (r < 0)
                return r;
        r = open_folders(s, why);
        if (r < 0)
                return r;
        r = strata_store_begin_ids(s);
        if (r < 0)
                return fail(r, why, "can't read %s/next: %s", s->path, strerror(-r));
        if (fchmod(s->root_fd, 0700) < 0 && !is_served_still(s, errno))
                return fail(-errno, why, "can't set the mode of %s: %s", s->path, strerror(errno));
        r = take_clean_mark(s, made);
        if (r < 0)
                return fail(r, why, "can't write to the store %s: %s", s->path, strerror(-r));
        atomic_store(&s->unsynced, s->unclean); /* nor is it known what the last user left in memory */
        strata_storelock_note(s);
        return 0;
}

/* Only of a whole store that nobody makes; what is missing of its folders stays -1. */
int strata_store_open_check(struct strata *s, const char *path, bool repair, bool *live, char **why)
{
        int r;

        s->path = realpath(path, NULL);
        if (!s->path)
                return fail(-errno, why, "can't find the store %s: %s", path, strerror(errno));
        s->root_fd = open_dir(AT_FDCWD, s->path);
        if (s->root_fd < 0)
                return fail(s->root_fd, why, "can't open the store %s: %s", s->path, strerror(-s->root_fd));
        r = strata_store_check_format(s);
        if (r == -ENOENT || r == -EINVAL)
                return fail(-EINVAL, why, "%s is no store, or one of a format that this program does not know",
                            s->path);
        if (r < 0 && r != -EUCLEAN)
                return fail(r, why, "can't read %s/format: %s", s->path, strerror(-r));
        s->lock_fd = openat(s->root_fd, "lock", (repair ? O_RDWR | O_CREAT : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (s->lock_fd < 0 && errno != ENOENT)
                return fail(-errno, why, "can't open %s/lock: %s", s->path, strerror(errno));
        if (repair) {
                if (strata_storelock_take(s->lock_fd, false, STRATA_STORELOCK_WAIT_MSEC) < 0)
                        return fail(-EBUSY, why,
                                    "the store %s is in use; it can be repaired once that program has ended", s->path);
                s->config.lock_note = STRATA_STORELOCK_REPAIR;
                strata_storelock_note(s);
                strata_mount_drop_spare_place(s->root_fd);
                *live = false;
        } else {
                *live = strata_storelock_hold(s) < 0;
                if (!*live)
                        strata_storelock_let_go(s); /* nobody is to wait with a start until all is looked at */
        }
        s->layers_fd = open_dir(s->root_fd, "layers");
        s->trash_fd = open_dir(s->root_fd, "trash");
        for (int kind = 0; kind < STRATA_KINDS; kind++)
                s->kind_fd[kind] = open_dir(s->root_fd, strata_kind_folder(kind));
        return 0;
}

static void close_fd(int *fd)
{
        strata_close(*fd);
        *fd = -1;
}

/* A start that finds the mark looks at nothing, so there must be nothing that a power cut from now on could cost. */
static bool is_settled(struct strata *s)
{
        return !atomic_load(&s->unsynced) || (s->config.durable && strata_store_sync(s) == 0);
}

void strata_store_close(struct strata *s, bool clean)
{
        if (clean && s->layers_fd >= 0) {
                /* Without the exact number the next start only skips some IDs; without the mark it only sweeps. */
                if (strata_store_write_next(s, s->next_id) == 0 && is_settled(s))
                        (void)strata_io_create_at(s->root_fd, "clean", "", 0, 0600, false);
        }
        for (int kind = 0; kind < STRATA_KINDS; kind++)
                close_fd(&s->kind_fd[kind]);
        close_fd(&s->trash_fd);
        close_fd(&s->layers_fd);
        strata_storelock_clear(s);
        close_fd(&s->lock_fd);
        close_fd(&s->root_fd);
        free(s->path);
        s->path = NULL;
}

void strata_store_note_unsynced(struct strata *s)
{
        atomic_store(&s->unsynced, true);
}

int strata_store_sync(struct strata *s)
{
        bool unsynced = atomic_exchange(&s->unsynced, false); /* before: what is done meanwhile counts */
        int r = syncfs(s->root_fd) < 0 ? -errno : 0;

        if (r < 0 && unsynced)
                strata_store_note_unsynced(s);
        if (r == -EIO || r == -ENOSPC || r == -EDQUOT) /* what a write had: syncfs(2) */
                atomic_store(s->unsynced_below, strata_least_id(s));
        return r;
}

int strata_store_sync_dir(struct strata *s, int fd)
{
        if (!s->config.durable) {
                strata_store_note_unsynced(s);
                return 0;
        }
        return fsync(fd) < 0 ? -errno : 0;
}

int strata_layer_stays(struct strata *s, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];

        snprintf(path, sizeof(path), "%" PRIu64, id);
        return faccessat(s->layers_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int strata_open_layer(struct strata *s, uint64_t id, int *ret)
{
        char path[STRATA_ID_PATH_MAX];
        int fd;

        snprintf(path, sizeof(path), "%" PRIu64, id);
        fd = openat(s->layers_fd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        *ret = fd;
        return 0;
}
