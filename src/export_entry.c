/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The archive has to be the same bytes at every read, and what container tools make of their layers: OCI image-spec,
 * layer.md. So: full pax, as the restricted form drops nanoseconds; no access and change times, no user names; ACLs as
 * the xattrs that the kernel keeps them in; file capabilities without the user namespace they were set in.
 */
#include "export_entry.h"

#include "export_data.h"
#include "export_pax.h"
#include "export_sparse.h"
#include "util/buf.h"
#include "util/cleanup.h"
#include "util/hash.h"
#include "xattrs.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define LARGE ((off_t)1 << 20) /* bytes from which on the kernel is told to read ahead more */
#define WHITEOUT ".wh."        /* OCI image-spec, layer.md, "Whiteouts" */
#define OPAQUE ".wh..wh..opq"

/* An inode with several links, and where it stands in the archive. */
struct first {
        struct {
                dev_t dev;
                ino_t ino;
        } key;
        UT_hash_handle hh;
        int oom;
        char path[];
};

struct strata_export_entries {
        struct strata_export_sink sink;
        const char *prefix;
        struct archive *plain;  /* writes what is ASCII, without a header for it */
        struct archive *binary; /* writes other names, byte for byte */
        struct archive_entry *entry;
        struct first *firsts;
        struct strata_export_data contents;
        bool encoded;            /* x->entry has xattrs whose names libarchive writes otherwise */
        struct strata_buf *held; /* what goes here instead of to the sink, or NULL */
        int error;               /* of the sink, as libarchive stands between it and us: nothing is written after it */
        bool freeing;
};

/*
 * Never fails for libarchive, which forgets to free a writer's buffer after that; status() tells. But at the end it
 * does free it, and there would write all that a file broken off still lacks.
 */
static la_ssize_t write_out(struct archive *a, void *data, const void *bytes, size_t len)
{
        struct strata_export_entries *x = data;

        (void)a;
        if (x->freeing)
                return -1;
        if (x->error == 0 && x->held)
                strata_buf_add(x->held, bytes, len);
        else if (x->error == 0)
                x->error = x->sink.write(x->sink.data, bytes, len);
        return (la_ssize_t)len;
}

static int status(struct strata_export_entries *x, struct archive *a, la_ssize_t result)
{
        return strata_export_data_status(&x->contents, a, result);
}

static struct archive *writer_new(struct strata_export_entries *x, const char *charset)
{
        struct archive *a = archive_write_new();

        /* No blocks of a tape drive: the bytes go on as they come, and a file's data without a copy. */
        if (a && archive_write_set_format_pax(a) == ARCHIVE_OK &&
            archive_write_set_bytes_per_block(a, 0) == ARCHIVE_OK &&
            archive_write_set_option(a, "pax", "xattrheader", "SCHILY") == ARCHIVE_OK &&
            (!charset || archive_write_set_option(a, "pax", "hdrcharset", charset) == ARCHIVE_OK) &&
            archive_write_open(a, x, NULL, write_out, NULL) == ARCHIVE_OK)
                return a;
        archive_write_free(a);
        return NULL;
}

int strata_export_entries_new(const struct strata_export_sink *sink, const char *prefix,
                              struct strata_export_entries **ret)
{
        struct strata_export_entries *x = calloc(1, sizeof(*x));

        if (!x)
                return -ENOMEM;
        x->sink = *sink;
        x->contents.sink = &x->sink;
        x->contents.error = &x->error;
        x->prefix = prefix;
        x->plain = writer_new(x, NULL);
        x->binary = writer_new(x, "BINARY");
        x->entry = archive_entry_new();
        if (!x->plain || !x->binary || !x->entry) {
                strata_export_entries_free(x);
                return -ENOMEM;
        }
        *ret = x;
        return 0;
}

void strata_export_entries_free(struct strata_export_entries *x)
{
        struct first *first, *next;

        if (!x)
                return;
        HASH_ITER(hh, x->firsts, first, next) {
                HASH_DEL(x->firsts, first);
                free(first);
        }
        x->freeing = true; /* each writer would write an end now */
        archive_write_free(x->plain);
        archive_write_free(x->binary);
        archive_entry_free(x->entry);
        strata_export_data_free(&x->contents);
        free(x);
}

int strata_export_entries_end(struct strata_export_entries *x)
{
        return status(x, x->plain, archive_write_close(x->plain));
}

static bool is_ascii(const char *s)
{
        for (; s && *s; s++)
                if ((unsigned char)*s >= 0x80)
                        return false;
        return true;
}

/* Writes the header of x->entry to A with the names of its xattrs as they are. */
static int begin_decoded(struct strata_export_entries *x, struct archive *a)
{
        cleanup_buf struct strata_buf header = STRATA_BUF_INIT, decoded = STRATA_BUF_INIT;
        int r;

        x->held = &header;
        r = status(x, a, archive_write_header(a, x->entry));
        x->held = NULL;
        if (r == 0)
                r = strata_buf_status(&header);
        if (r == 0)
                r = strata_export_pax_decode(&header, &decoded);
        if (r == 0)
                r = strata_buf_status(&decoded);
        if (r == 0)
                r = x->error = x->sink.write(x->sink.data, decoded.data, decoded.len);
        return r;
}

/* Writes the header of x->entry. *RET is the archive that its data go to; its end is to be written by finish(). */
static int begin(struct strata_export_entries *x, struct archive **ret)
{
        struct archive_entry *e = x->entry;
        bool ascii = is_ascii(archive_entry_pathname(e)) && is_ascii(archive_entry_symlink(e)) &&
                     is_ascii(archive_entry_hardlink(e));
        struct archive *a = ascii ? x->plain : x->binary;
        int r = x->encoded ? begin_decoded(x, a) : status(x, a, archive_write_header(a, e));

        if (r == 0)
                *ret = a;
        return r;
}

/* Two writers take turns: neither may leave the padding of its last entry for later. */
static int finish(struct strata_export_entries *x, struct archive *a)
{
        return status(x, a, archive_write_finish_entry(a));
}

static int write_entry(struct strata_export_entries *x)
{
        struct archive *a;
        int r = begin(x, &a);

        return r < 0 ? r : finish(x, a);
}

/* libarchive takes the parts of a time before 1970 as of one sign: archive_write_set_format_pax.c, add_pax_attr_time().
 */
static void set_mtime(struct archive_entry *e, struct timespec t)
{
        if (t.tv_sec == -1 && t.tv_nsec)
                t.tv_nsec = 0;
        if (t.tv_sec < 0 && t.tv_nsec) {
                t.tv_sec++;
                t.tv_nsec = 1000000000 - t.tv_nsec;
        }
        archive_entry_set_mtime(e, t.tv_sec, t.tv_nsec);
}

static void set_stat(struct strata_export_entries *x, const char *path, const struct stat *st)
{
        struct archive_entry *e = archive_entry_clear(x->entry);

        x->encoded = false;
        archive_entry_copy_pathname(e, path[0] ? path : ".");
        archive_entry_set_mode(e, st->st_mode);
        archive_entry_set_uid(e, st->st_uid);
        archive_entry_set_gid(e, st->st_gid);
        set_mtime(e, st->st_mtim);
        if (S_ISREG(st->st_mode))
                archive_entry_set_size(e, st->st_size);
        if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
                archive_entry_set_rdevmajor(e, major(st->st_rdev));
                archive_entry_set_rdevminor(e, minor(st->st_rdev));
        }
}

static int add_xattr(void *data, const char *name, const void *value, size_t len)
{
        struct strata_export_entries *x = data;
        struct vfs_cap_data cap;

        if (!strata_xattrs_travels(name))
                return 0;
        x->encoded = x->encoded || strata_export_pax_is_encoded(name);
        if (strcmp(name, "security.capability") == 0 && len >= sizeof(uint32_t) &&
            strata_xattrs_plain_capability(value, len, &cap))
                archive_entry_xattr_add_entry(x->entry, name, &cap, sizeof(cap));
        else
                archive_entry_xattr_add_entry(x->entry, name, value, len);
        return 0;
}

static int set_xattrs(struct strata_export_entries *x, int fd, const struct strata_layer_entry *e)
{
        char path[STRATA_LAYER_PROC_MAX] = "";

        if (fd < 0)
                strata_layer_proc_path(e->dirfd, e->name, path);
        return strata_xattrs_each(fd, path, x->prefix, add_xattr, x);
}

/* 1 if the inode ST is in the archive already, x->entry then being a link to it; else 0, after it was noted; -ENOMEM.
 */
static int link_to_first(struct strata_export_entries *x, const struct stat *st, const char *path)
{
        size_t len = strlen(path) + 1;
        struct first *first, *seen;

        if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
                return 0;
        first = calloc(1, sizeof(*first) + len);
        if (!first)
                return -ENOMEM;
        first->key.dev = st->st_dev;
        first->key.ino = st->st_ino;
        memcpy(first->path, path, len);
        HASH_FIND(hh, x->firsts, &first->key, sizeof(first->key), seen);
        if (seen) {
                free(first);
                archive_entry_copy_hardlink(x->entry, seen->path);
                archive_entry_unset_size(x->entry);
                return 1;
        }
        HASH_ADD(hh, x->firsts, key, sizeof(first->key), first);
        if (first->oom) {
                free(first);
                return -ENOMEM;
        }
        return 0;
}

static int write_file(struct strata_export_entries *x, int fd, const struct stat *st)
{
        cleanup_free struct strata_extent *list = NULL;
        struct archive *a;
        size_t n = 0;
        int sparse = strata_export_sparse(fd, st, &x->sink, &list, &n), r;

        if (sparse < 0)
                return sparse;
        for (size_t i = 0; i < n; i++)
                archive_entry_sparse_add_entry(x->entry, (la_int64_t)list[i].at, (la_int64_t)list[i].len);
        if (sparse && n == 0)
                archive_entry_sparse_add_entry(x->entry, 0, 0);
        r = begin(x, &a);
        if (r < 0)
                return r;
        if (st->st_size >= LARGE)
                (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        r = sparse ? strata_export_data_sparse(&x->contents, a, fd, list, n)
                   : strata_export_data_plain(&x->contents, a, fd, (uint64_t)st->st_size);
        return r < 0 ? r : finish(x, a);
}

/* What is gone, or something else by now: nothing to report, in a layer that is being written. */
static bool has_changed(int error)
{
        return error == ENOENT || error == ELOOP || error == ENXIO || error == ENOTDIR || error == ESTALE;
}

static int add_regular(struct strata_export_entries *x, const struct strata_layer_entry *e)
{
        const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
        cleanup_fd int fd = openat(e->dirfd, e->name, flags | O_NOATIME);
        struct stat st;
        int r;

        if (fd < 0 && errno == EPERM)
                fd = openat(e->dirfd, e->name, flags);
        if (fd < 0)
                return has_changed(errno) ? 0 : -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return 0;
        set_stat(x, e->path, &st);
        r = link_to_first(x, &st, e->path);
        if (r)
                return r < 0 ? r : write_entry(x);
        r = set_xattrs(x, fd, e);
        return r < 0 ? r : write_file(x, fd, &st);
}

/* Directories, symbolic links, devices, FIFOs: all in the header. Sockets are passed over, as tar has none. */
static int add_other(struct strata_export_entries *x, const struct strata_layer_entry *e)
{
        char target[4097];
        struct stat st;
        int r;

        if (fstatat(e->dirfd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return has_changed(errno) ? 0 : -errno;
        if (S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode))
                return 0;
        set_stat(x, e->path, &st);
        if (S_ISLNK(st.st_mode)) {
                ssize_t n = readlinkat(e->dirfd, e->name, target, sizeof(target) - 1);

                if (n < 0)
                        return has_changed(errno) || errno == EINVAL ? 0 : -errno;
                target[n] = '\0';
                archive_entry_copy_symlink(x->entry, target);
        }
        r = link_to_first(x, &st, e->path);
        if (r == 0)
                r = set_xattrs(x, -1, e);
        return r < 0 ? r : write_entry(x);
}

/* An empty file NAME in the directory DIR, of nobody and of no time, as it is a sign and no file. */
static int add_sign(struct strata_export_entries *x, const char *dir, size_t dir_len, const char *sign,
                    const char *name)
{
        const struct stat st = { .st_mode = S_IFREG };
        cleanup_buf struct strata_buf path = STRATA_BUF_INIT;

        strata_buf_add(&path, dir, dir_len);
        strata_buf_addstr(&path, sign);
        strata_buf_addstr(&path, name);
        if (strata_buf_status(&path) < 0)
                return -ENOMEM;
        set_stat(x, path.data, &st);
        return write_entry(x);
}

static int add_whiteout(struct strata_export_entries *x, const struct strata_layer_entry *e)
{
        struct stat st;

        /* One that hides nothing is left out: what stands there depends on how the layer was made. */
        if (e->hidden || e->below < 0)
                return 0;
        if (fstatat(e->below, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        return add_sign(x, e->path, strlen(e->path) - strlen(e->name), WHITEOUT, e->name);
}

static int add_opaque(struct strata_export_entries *x, const struct strata_layer_entry *e)
{
        cleanup_buf struct strata_buf dir = STRATA_BUF_INIT;

        if (!e->opaque || e->hidden || e->fd_below < 0)
                return 0;
        strata_buf_addf(&dir, "%s/", e->path);
        return strata_buf_status(&dir) < 0 ? -ENOMEM : add_sign(x, dir.data, dir.len, OPAQUE, "");
}

int strata_export_entries_add(void *data, enum strata_layer_event event, const struct strata_layer_entry *e)
{
        struct strata_export_entries *x = data;

        int r = x->sink.check(x->sink.data); /* not all of them write something */

        if (r < 0)
                return r;
        if (event == STRATA_LAYER_INSIDE)
                return add_opaque(x, e);
        if (event != STRATA_LAYER_ENTRY)
                return 0;
        if (e->type == DT_WHT)
                return add_whiteout(x, e);
        if (strncmp(e->name, WHITEOUT, strlen(WHITEOUT)) == 0)
                return -EINVAL; /* every reader would take it for a whiteout */
        return e->type == DT_REG ? add_regular(x, e) : add_other(x, e);
}
