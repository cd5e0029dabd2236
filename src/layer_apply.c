/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each entry of a layer's archive means: OCI image-spec, layer.md. How odd ones are treated stands in
 * docs/design.md, "How a layer in is applied".
 */
#include "layer_apply.h"

#include "strata.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh." /* AUFS' own; of these only the next one means something */
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define WHITEOUT_LINKS ".wh..wh.plnk" /* in the root: what hard links lead to that AUFS keeps elsewhere */

/* The widths that Linux gives device numbers: include/linux/kdev_t.h. */
#define MAJOR_MAX 0xfff
#define MINOR_MAX 0xfffff

int strata_apply_fail(struct strata_apply *a, int error, const char *name, const char *why)
{
        if (a->why_error)
                return error;
        a->why_error = error;
        if (name && name[0]) {
                strata_buf_addstr(&a->why, name);
                strata_buf_addstr(&a->why, ": ");
        }
        strata_buf_addstr(&a->why, why ? why : strerror(-error));
        return error;
}

int strata_apply_new(struct strata *s, uint64_t id, struct strata_stream *stream, int fs_fd, int lower_fd,
                     struct strata_apply **ret)
{
        struct strata_apply *a = calloc(1, sizeof(*a));
        int r;

        if (!a) {
                strata_close(fs_fd);
                strata_close(lower_fd);
                return -ENOMEM;
        }
        a->s = s;
        a->stream = stream;
        a->id = id;
        a->euid = geteuid();
        a->egid = getegid();
        a->last_queued = &a->queued;
        pthread_mutex_init(&a->lock, NULL);
        pthread_cond_init(&a->work, NULL);
        pthread_cond_init(&a->done, NULL);
        r = strata_apply_dir_root(a, fs_fd, lower_fd);
        if (r < 0) {
                strata_apply_free(a);
                return r;
        }
        *ret = a;
        return 0;
}

void strata_apply_free(struct strata_apply *a)
{
        if (!a)
                return;
        strata_apply_dir_drop(a);
        strata_apply_batch_free(a);
        strata_buf_free(&a->last_path);
        strata_buf_free(&a->xattrs);
        strata_buf_free(&a->error_why);
        strata_buf_free(&a->why);
        pthread_cond_destroy(&a->done);
        pthread_cond_destroy(&a->work);
        pthread_mutex_destroy(&a->lock);
        free(a);
}

static bool starts_with(const char *s, const char *prefix)
{
        return strncmp(s, prefix, strlen(prefix)) == 0;
}

/*
 * RAW as components with a '/' between each, "" for the root. -EINVAL for a path that a layer must not hold. The last
 * name of an ENTRY may be a whiteout's, and so be longer than that of a file.
 */
static int clean_path(struct strata_apply *a, const char *raw, bool entry, char ret[PATH_MAX])
{
        const char *p = raw;
        char *out = ret;

        if (!raw || !raw[0])
                return strata_apply_fail(a, -EINVAL, raw, "an entry without a name");
        if (strlen(raw) >= PATH_MAX)
                return strata_apply_fail(a, -EINVAL, raw, "a path of over 4,095 bytes");
        /* "/" alone is what some call the root. */
        if (raw[0] == '/' && !(entry && !raw[strspn(raw, "/")]))
                return strata_apply_fail(a, -EINVAL, raw,
                                         "an absolute path; paths in a layer are relative to its root");
        while (*p) {
                size_t len = strcspn(p, "/");
                size_t mark = entry && starts_with(p, WHITEOUT) && !p[len] ? strlen(WHITEOUT) : 0;

                if (len > NAME_MAX + mark)
                        return strata_apply_fail(a, -EINVAL, raw, "a name of over 255 bytes");
                if (len == 2 && memcmp(p, "..", 2) == 0)
                        return strata_apply_fail(a, -EINVAL, raw, "a path with \"..\" in it");
                if (len && !(len == 1 && *p == '.')) {
                        if (out != ret)
                                *out++ = '/';
                        memcpy(out, p, len);
                        out += len;
                }
                p += len + (p[len] == '/');
        }
        *out = '\0';
        return 0;
}

/* True for a file that is there only for hard links. It lies in the layer under its own name, which no other entry can
 * have, until drop_links(). */
static bool is_link_source(const char *path, struct archive_entry *e)
{
        const size_t len = strlen(WHITEOUT_LINKS);

        return archive_entry_filetype(e) == AE_IFREG && !archive_entry_hardlink(e) &&
               starts_with(path, WHITEOUT_LINKS "/") && !strchr(path + len + 1, '/') &&
               !starts_with(path + len + 1, WHITEOUT);
}

/* Names first, so that the links' inodes have no others while the rest is on its way through the trash. */
static int drop_links(struct strata_apply *a)
{
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;
        int r = strata_io_list(a->root->fd, WHITEOUT_LINKS, &dir);

        while (r == 0 && (errno = 0, de = readdir(dir)))
                (void)unlinkat(dirfd(dir), de->d_name, 0);
        a->root->dirty = true;
        return r == 0 || r == -ENOENT ? strata_apply_dir_remove(a, a->root, WHITEOUT_LINKS) : r;
}

/* Looks at the folders of PATH: 1 if the entry is AUFS' own and is to be passed over. */
static int check_folders(struct strata_apply *a, const char *path)
{
        const char *slash;

        for (const char *p = path; (slash = strchr(p, '/')); p = slash + 1) {
                if (starts_with(p, WHITEOUT_META))
                        return 1;
                if (starts_with(p, WHITEOUT))
                        return strata_apply_fail(a, -EINVAL, path, "a folder whose name marks a whiteout");
        }
        return 0;
}

/* The marks of overlayfs' predecessors: what is to be hidden. NAME is the last component of PATH. */
static int apply_mark(struct strata_apply *a, char *path, const char *mark)
{
        struct strata_apply_dir *d;
        const char *name;
        int r;

        if (strcmp(mark, WHITEOUT_OPAQUE) != 0 && starts_with(mark, WHITEOUT_META))
                return 0;
        r = strata_apply_dir_resolve(a, path, &d, &name);
        if (r < 0)
                return r;
        if (strcmp(name, WHITEOUT_OPAQUE) == 0) {
                r = strata_apply_settle(a);
                return r < 0 ? r : strata_apply_dir_opaque(a, d);
        }
        name += strlen(WHITEOUT);
        if (!name[0] || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                return strata_apply_fail(a, -EINVAL, path, "a whiteout of nothing that has a name");
        return strata_apply_whiteout(a, d, name);
}

static int apply_device(struct strata_apply *a, struct strata_apply_dir *d, const char *name, struct archive_entry *e,
                        const struct strata_apply_meta *meta)
{
        uint64_t major = (uint64_t)archive_entry_rdevmajor(e), minor = (uint64_t)archive_entry_rdevminor(e);

        if (major > MAJOR_MAX || minor > MINOR_MAX)
                return strata_apply_fail(a, -EINVAL, name, "a device with numbers that Linux does not have");
        if (archive_entry_filetype(e) == AE_IFCHR && major == 0 && minor == 0)
                return strata_apply_fail(a, -EINVAL, name,
                                         "a character device 0/0 is overlayfs' own whiteout; layers have .wh.NAME");
        return strata_apply_special(a, d, name, archive_entry_filetype(e) == AE_IFCHR ? S_IFCHR : S_IFBLK,
                                    makedev((unsigned)major, (unsigned)minor), meta);
}

static int apply_directory(struct strata_apply *a, struct strata_apply_dir *d, const char *name,
                           const struct strata_apply_meta *meta)
{
        struct strata_apply_dir *child;
        bool made;
        int r = strata_apply_dir_make(a, d, name, meta->mode, &child, &made);

        return r < 0 ? r : strata_apply_meta_dir(a, child, made, meta);
}

static int apply_file(struct strata_apply *a, struct strata_apply_dir *d, const char *name, struct archive *ar,
                      struct archive_entry *e, const struct strata_apply_meta *meta)
{
        int64_t size = archive_entry_size(e);

        if (size < 0)
                return strata_apply_fail(a, -EINVAL, name, "a size below zero");
        if ((uint64_t)size > APPLY_SMALL || archive_entry_sparse_count(e) > 0)
                return strata_apply_stream(a, d, name, ar, (uint64_t)size, meta);
        return strata_apply_small(a, d, name, ar, (size_t)size, meta);
}

static int apply_at(struct strata_apply *a, char *path, struct archive *ar, struct archive_entry *e)
{
        struct strata_apply_meta meta;
        struct strata_apply_dir *d;
        const char *name;
        int r = strata_apply_meta_get(a, e, &meta);

        if (r == 0)
                r = strata_apply_dir_resolve(a, path, &d, &name);
        if (r < 0)
                return r;
        switch (archive_entry_filetype(e)) {
        case AE_IFREG:
                return apply_file(a, d, name, ar, e, &meta);
        case AE_IFDIR:
                return apply_directory(a, d, name, &meta);
        case AE_IFLNK:
                return strata_apply_symlink(a, d, name, archive_entry_symlink(e), &meta);
        case AE_IFCHR:
        case AE_IFBLK:
                return apply_device(a, d, name, e, &meta);
        case AE_IFIFO:
                return strata_apply_special(a, d, name, S_IFIFO, 0, &meta);
        default:
                return strata_apply_fail(a, -EINVAL, path, "an entry of a kind that layers do not have");
        }
}

static int apply_root(struct strata_apply *a, struct archive_entry *e)
{
        struct strata_apply_meta meta;
        int r;

        if (archive_entry_filetype(e) != AE_IFDIR || archive_entry_hardlink(e))
                return strata_apply_fail(a, -EINVAL, archive_entry_pathname(e), "the root is no folder in this layer");
        r = strata_apply_meta_get(a, e, &meta);
        return r < 0 ? r : strata_apply_meta_dir(a, a->root, false, &meta);
}

static int apply_entry(struct strata_apply *a, struct archive *ar, struct archive_entry *e)
{
        const char *link = archive_entry_hardlink(e);
        char path[PATH_MAX], target[PATH_MAX], *last;
        int r = clean_path(a, archive_entry_pathname(e), true, path);

        if (r == 0 && is_link_source(path, e)) {
                a->has_links = true;
                return apply_at(a, path, ar, e);
        }
        if (r == 0)
                r = check_folders(a, path);
        if (r != 0)
                return r < 0 ? r : 0;
        if (!path[0])
                return apply_root(a, e);
        last = strrchr(path, '/');
        last = last ? last + 1 : path;
        if (starts_with(last, WHITEOUT))
                return apply_mark(a, path, last);
        if (!link)
                return apply_at(a, path, ar, e);
        r = clean_path(a, link, false, target);
        if (r == 0 && starts_with(target, path) && target[strlen(path)] == '/')
                r = strata_apply_fail(a, -EINVAL, path, "a hard link to something that it would replace");
        if (r == 0 && !target[0])
                r = strata_apply_fail(a, -EINVAL, path, "a hard link to the root");
        return r < 0 ? r : strata_apply_hardlink(a, path, target);
}

/* True for the warning that a name is no ASCII: it then is given as it stands in the archive, as it should be. */
static bool is_about_charset(struct archive *ar)
{
        const char *text = archive_error_string(ar);

        return text && strstr(text, "can't be converted from UTF-8 to current locale");
}

int strata_apply_archive(struct strata_apply *a, struct archive *ar)
{
        struct archive_entry *e = archive_entry_new2(ar);
        int r = e ? 0 : -ENOMEM, n = ARCHIVE_EOF;

        while (r == 0) {
                n = archive_read_next_header2(ar, e);
                if (n != ARCHIVE_OK && !(n == ARCHIVE_WARN && is_about_charset(ar)))
                        break;
                r = apply_entry(a, ar, e);
        }
        if (r == 0 && n != ARCHIVE_EOF) {
                const char *text = archive_error_string(ar);

                r = archive_errno(ar) == ENOMEM ? -ENOMEM : -EINVAL;
                strata_apply_fail(a, r, n == ARCHIVE_WARN ? archive_entry_pathname(e) : NULL,
                                  text ? text : "the archive is damaged");
        }
        /* An archive that stops between two entries is cut off all the same: the blocks of zeros at its end are
         * missing. */
        if (r == 0 && archive_filter_bytes(ar, 0) <= archive_read_header_position(ar))
                r = strata_apply_fail(a, -EINVAL, NULL, "the archive is cut off: its end is missing");
        archive_entry_free(e);
        if (r == 0)
                r = strata_apply_settle(a);
        if (r == 0 && a->has_links)
                r = drop_links(a);
        return r < 0 ? strata_apply_fail(a, r, NULL, NULL) : strata_apply_dir_finish(a);
}
