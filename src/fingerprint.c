/* SPDX-License-Identifier: Apache-2.0 */
#include "fingerprint.h"

#include "layer_walk.h"
#include "util/cleanup.h"
#include "util/wanted.h"
#include "xattrs.h"

#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/*
 * Bytes read at once. A block of this size, at a multiple of it, that holds zeroes alone is left out, and the place of
 * the next one hashed instead (docs/format.md): so a huge file of holes costs what it holds, and a file with holes and
 * one with zeroes have the same sum.
 */
#define BLOCK 262144

struct strata_hasher {
        XXH3_state_t *state;
        unsigned char *block; /* BLOCK bytes */
};

int strata_hasher_new(struct strata_hasher **ret)
{
        struct strata_hasher *h = calloc(1, sizeof(*h));

        if (h) {
                h->state = XXH3_createState();
                h->block = malloc(BLOCK);
        }
        if (!h || !h->state || !h->block) {
                strata_hasher_free(h);
                return -ENOMEM;
        }
        *ret = h;
        return 0;
}

void strata_hasher_free(struct strata_hasher *h)
{
        if (!h)
                return;
        XXH3_freeState(h->state);
        free(h->block);
        free(h);
}

static struct strata_sum sum_of(XXH128_hash_t hash)
{
        return (struct strata_sum){ .high = hash.high64, .low = hash.low64 };
}

/* ---- what it is ---- */

static char letter_of(mode_t mode)
{
        switch (mode & S_IFMT) {
        case S_IFDIR:
                return 'd';
        case S_IFREG:
                return 'f';
        case S_IFLNK:
                return 'l';
        case S_IFCHR:
                return 'c';
        case S_IFBLK:
                return 'b';
        case S_IFIFO:
                return 'p';
        default:
                return 's';
        }
}

/* Without an access time where that is allowed; a fifo put in the file's place must not block. */
static int open_file(int dirfd, const char *name)
{
        const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
        int fd = openat(dirfd, name, flags | O_NOATIME);

        if (fd < 0 && errno == EPERM)
                fd = openat(dirfd, name, flags);
        return fd;
}

int strata_subject_begin(int dirfd, const char *name, unsigned char type, struct strata_subject *ret)
{
        struct strata_subject o = { .dirfd = dirfd, .name = name, .fd = -1 };

        if (type == DT_REG) {
                o.fd = open_file(dirfd, name);
                if (o.fd < 0 && errno != ELOOP && errno != ENXIO)
                        return -errno;
        }
        if ((o.fd >= 0 ? fstat(o.fd, &o.st) : fstatat(dirfd, name, &o.st, AT_SYMLINK_NOFOLLOW)) < 0) {
                strata_subject_end(&o);
                return -errno;
        }
        o.type = letter_of(o.st.st_mode);
        if (type == DT_WHT)
                o.type = 'w';
        *ret = o;
        return 0;
}

void strata_subject_end(struct strata_subject *o)
{
        strata_close(steal_fd(&o->fd));
}

/* ---- xattrs ---- */

static bool begins(const char *name, const char *prefix)
{
        return strncmp(name, prefix, strlen(prefix)) == 0;
}

/*
 * Of overlayfs' own, those that say what a layer holds; `origin`, `impure`, `uuid` and the like are notes of a mount,
 * about inodes and file systems: Documentation/filesystems/overlayfs.rst. Escaped ones are those of an overlay inside.
 */
static bool is_overlay_content(const char *rest)
{
        static const char *const names[] = { "opaque", "whiteout", "whiteouts", "redirect", "metacopy", "protattr" };

        for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
                if (strcmp(rest, names[i]) == 0)
                        return true;
        return begins(rest, "overlay.");
}

static bool counts(const char *name)
{
        if (begins(name, "trusted.overlay."))
                return is_overlay_content(name + strlen("trusted.overlay."));
        if (begins(name, "user.overlay."))
                return is_overlay_content(name + strlen("user.overlay."));
        return strata_xattrs_travels(name);
}

struct xattr_sum {
        XXH3_state_t *state;
        bool any;
};

static int add_xattr(void *data, const char *name, const void *value, size_t len)
{
        struct xattr_sum *x = data;
        char size[24];
        int n;

        if (!counts(name))
                return 0;
        if (!x->any)
                XXH3_128bits_reset(x->state);
        x->any = true;
        /* Lengths keep one from looking like two. */
        n = snprintf(size, sizeof(size), "%zu", len);
        XXH3_128bits_update(x->state, name, strlen(name) + 1);
        XXH3_128bits_update(x->state, size, (size_t)n + 1);
        if (len)
                XXH3_128bits_update(x->state, value, len);
        return 0;
}

static int take_xattrs(struct strata_hasher *h, const struct strata_subject *o, struct strata_sum *ret)
{
        struct xattr_sum x = { .state = h->state };
        char path[STRATA_LAYER_PROC_MAX];
        int r;

        if (o->fd < 0)
                strata_layer_proc_path(o->dirfd, o->name, path);
        r = strata_xattrs_each(o->fd, path, NULL, add_xattr, &x);
        if (r == 0 && x.any)
                *ret = sum_of(XXH3_128bits_digest(h->state));
        return r;
}

int strata_fingerprint_take(struct strata_hasher *h, const struct strata_subject *o, struct strata_fingerprint *ret)
{
        struct strata_fingerprint fp = { .type = o->type };
        int r = 0;

        if (fp.type != 'w') {
                fp.mode = fp.type == 'l' ? 0 : o->st.st_mode & 07777;
                fp.uid = o->st.st_uid;
                fp.gid = o->st.st_gid;
                fp.mtime = o->st.st_mtim;
                if (fp.type == 'f' || fp.type == 'l')
                        fp.size = (uint64_t)o->st.st_size;
                else if (fp.type == 'c' || fp.type == 'b')
                        fp.size = (uint64_t)o->st.st_rdev;
                r = take_xattrs(h, o, &fp.xattrs);
        }
        if (r == 0)
                *ret = fp;
        return r;
}

/* ---- content ---- */

static bool is_zero(const unsigned char *p, size_t len)
{
        return !p[0] && memcmp(p, p + 1, len - 1) == 0;
}

/* Where the next block with data is, from AT on; the end if there is none. */
static off_t skip_hole(int fd, off_t at, off_t end)
{
        off_t data = lseek(fd, at, SEEK_DATA);

        if (data < 0)
                return errno == ENXIO ? end : at; /* a file system that can't tell */
        return data <= at ? at : data / BLOCK * BLOCK;
}

/* Fills the block from AT: bytes, less than a block only at END, that of the file. */
static ssize_t read_block(struct strata_hasher *h, int fd, off_t at, off_t end)
{
        size_t done = 0;

        while (done < BLOCK && at + (off_t)done < end) {
                ssize_t n = pread(fd, h->block + done, BLOCK - done, at + (off_t)done);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                done += (size_t)n;
        }
        return (ssize_t)done;
}

static int hash_file(struct strata_hasher *h, const struct strata_subject *o, struct strata_sum *ret)
{
        bool has_holes = o->st.st_blocks * 512 < o->st.st_size;
        off_t hashed = 0; /* up to here all is hashed */

        XXH3_128bits_reset(h->state);
        for (off_t at = 0;;) {
                ssize_t n;

                if (!strata_wanted())
                        return -EINTR;
                if (has_holes)
                        at = skip_hole(o->fd, at, o->st.st_size);
                n = read_block(h, o->fd, at, o->st.st_size);
                if (n < 0)
                        return (int)n;
                if (n > 0 && !is_zero(h->block, (size_t)n)) {
                        uint64_t place = htole64((uint64_t)at);

                        if (at != hashed)
                                XXH3_128bits_update(h->state, &place, sizeof(place));
                        XXH3_128bits_update(h->state, h->block, (size_t)n);
                        hashed = at + n;
                }
                if (n < BLOCK)
                        break;
                at += n;
        }
        *ret = sum_of(XXH3_128bits_digest(h->state));
        return 0;
}

static int hash_target(const struct strata_subject *o, struct strata_sum *ret)
{
        char target[PATH_MAX];
        ssize_t n = readlinkat(o->dirfd, o->name, target, sizeof(target));

        if (n < 0)
                return -errno;
        *ret = sum_of(XXH3_128bits(target, (size_t)n));
        return 0;
}

int strata_fingerprint_content(struct strata_hasher *h, const struct strata_subject *o, struct strata_fingerprint *fp)
{
        if (o->type == 'f')
                return hash_file(h, o, &fp->content);
        return o->type == 'l' ? hash_target(o, &fp->content) : 0;
}
