/* SPDX-License-Identifier: Apache-2.0 */
#include "stress.h"

#include "util/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const kind_folder[KINDS] = { "active", "views", "snapshots" };

/* One with a space, one with what has to be escaped, one with a letter beyond ASCII; in byte order, as `tree` has them.
 */
static const char *const names[NAMES] = { "a", "b", "c", "d e", "f\"\\", "\xc3\xa9" };

static const char *const files[FILES] = { "a", "b", "d/a", "d/b", "c0", "c1", "c2", "c3", "c4", "c5" };
static const char *const labels[LABELS] = { "k", "l", "m", "c0", "c1", "c2", "c3", "c4", "c5" };

static const char *const odd[ODD] = {
        ".dot",
        "at@",
        "x@y@z",
        "ctl\001",
        "long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-"
        "long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-"
        "long-long-long-long-long-long-long-long-long-long-long-long",
};

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
uint32_t rng_next(struct rng *r)
{
        uint64_t z = (r->state += 0x9e3779b97f4a7c15);

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return (uint32_t)((z ^ (z >> 31)) >> 32);
}

int rng_below(struct rng *r, int n)
{
        return (int)(rng_next(r) % (uint32_t)n);
}

const char *name_of(int name)
{
        return name < NAMES ? names[name] : odd[name - NAMES];
}

int name_find(const char *text)
{
        for (int i = 0; i < NAMES; i++)
                if (strcmp(names[i], text) == 0)
                        return i;
        return -1;
}

const char *file_of(int file)
{
        return files[file];
}

const char *label_of(int label)
{
        return labels[label];
}

static const char *const type_names[OP_TYPES] = {
        "prepare", "rename", "rmdir",   "label-set",   "label-make",  "label-remove", "label-rename",
        "write",   "append", "unlink",  "mkdir-below", "rmdir-below", "move",         "read",
        "touch",   "hold",   "release", "texts",       "list",
};

void op_describe(const struct op *op, char *buf, size_t size)
{
        snprintf(buf, size, "%s %s/%.20s -> %s/%.20s flags %u x %d y %d stamp %u", type_names[op->type],
                 kind_folder[op->kind], name_of(op->a), kind_folder[op->kind2], op->b < 0 ? "(none)" : name_of(op->b),
                 op->flags, op->x, op->y, op->stamp);
}

const char *errno_name(int error)
{
        return error ? strerrorname_np(error) : "ok";
}

void complain(struct stress *x, const char *fmt, ...)
{
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* one line at a time, and FAILED */
        va_list args;

        pthread_mutex_lock(&lock);
        if (x->failed++ < 50) {
                fprintf(stderr, "# ");
                va_start(args, fmt);
                vfprintf(stderr, fmt, args);
                va_end(args);
                fprintf(stderr, "\n");
        }
        pthread_mutex_unlock(&lock);
}

/* Its own number, over and over: mostly short, one in eight up to the size of a large label. */
size_t stamp_text(uint32_t stamp, bool label, char *buf)
{
        size_t want = stamp % 8 == 0 ? (stamp * 2654435761u) % 65000 : stamp % 50, n = 0;

        do
                n += (size_t)sprintf(buf + n, "%u,", stamp);
        while (n < want);
        buf[n++] = label ? '.' : '\n';
        return n;
}

ssize_t read_all_at(int dirfd, const char *path, char **ret)
{
        cleanup_fd int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
        cleanup_free char *text = NULL;
        size_t len = 0, size = 0;

        if (fd < 0)
                return -errno;
        for (;;) {
                ssize_t n;

                if (size - len < 2) {
                        char *more = realloc(text, size = size ? size * 4 : 4096);

                        if (!more)
                                return -ENOMEM;
                        text = more;
                }
                n = read(fd, text + len, size - len - 1);
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                len += (size_t)n;
        }
        text[len] = '\0';
        *ret = steal_ptr(&text);
        return (ssize_t)len;
}

void tell_log(struct stress *x)
{
        cleanup_free char *text = NULL;
        char path[PATH_MAX];
        ssize_t len;

        snprintf(path, sizeof(path), "%s/log", x->mnt);
        len = read_all_at(AT_FDCWD, path, &text);
        if (len < 0)
                return;
        fprintf(stderr, "# the end of the program's log:\n");
        for (const char *line = text + (len > 4000 ? len - 4000 : 0); *line; line += strcspn(line, "\n") + 1)
                fprintf(stderr, "#   %.*s\n", (int)strcspn(line, "\n"), line);
}

int read_contents(int dirfd, const char *path, struct contents *ret)
{
        cleanup_free char *text = NULL, *part = malloc(CONTENTS_MAX);
        struct contents c = { 0 };
        ssize_t len = part ? read_all_at(dirfd, path, &text) : -ENOMEM;

        if (len < 0)
                return (int)len;
        for (ssize_t at = 0; at < len; c.n++) {
                uint32_t stamp = (uint32_t)strtoul(text + at, NULL, 10);
                ssize_t n = (ssize_t)stamp_text(stamp, false, part);

                if (c.n == STAMPS || n > len - at || memcmp(text + at, part, (size_t)n) != 0)
                        return -EBADMSG;
                c.stamp[c.n] = stamp;
                at += n;
        }
        if (c.n == 0)
                return -EBADMSG;
        *ret = c;
        return 0;
}

int read_label(int dirfd, const char *path, uint32_t *ret)
{
        cleanup_free char *text = NULL, *want = malloc(CONTENTS_MAX);
        ssize_t len = want ? read_all_at(dirfd, path, &text) : -ENOMEM;
        uint32_t stamp;
        size_t n;

        if (len < 0)
                return (int)len;
        stamp = (uint32_t)strtoul(text, NULL, 10);
        n = stamp_text(stamp, true, want);
        want[n++] = '\n'; /* added by the program */
        if ((size_t)len != n || memcmp(text, want, n) != 0)
                return -EBADMSG;
        *ret = stamp;
        return 0;
}

int write_text(int dirfd, const char *path, int flags, uint32_t stamp, bool label)
{
        cleanup_free char *text = malloc(CONTENTS_MAX);
        size_t len, done = 0;
        int fd, r = 0;

        if (!text)
                return -ENOMEM;
        fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | flags, 0644);
        if (fd < 0)
                return -errno;
        len = stamp_text(stamp, label, text);
        while (done < len && r == 0) {
                ssize_t n = write(fd, text + done, len - done > 30000 ? 30000 : len - done);

                if (n < 0)
                        r = -errno;
                else
                        done += (size_t)n;
        }
        if (close(fd) < 0 && r == 0)
                r = -errno;
        return r;
}
