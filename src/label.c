/* SPDX-License-Identifier: Apache-2.0 */
#include "label.h"

#include "damage.h"
#include "store.h"
#include "strata.h"
#include "util/cleanup.h"
#include "util/hash.h"
#include "util/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LABEL_TMP_MAX 48

int strata_label_open_dir(struct strata *s, uint64_t id, int *ret)
{
        char path[STRATA_ID_PATH_MAX];
        int fd;

        snprintf(path, sizeof(path), "%" PRIu64 "/labels", id);
        fd = openat(s->layers_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        *ret = fd;
        return 0;
}

/* Opens the directory, making it if needed. */
static int make_dir(struct strata *s, uint64_t id, int *ret)
{
        char path[STRATA_ID_PATH_MAX];
        int r = strata_label_open_dir(s, id, ret);

        if (r != -ENOENT)
                return r;
        snprintf(path, sizeof(path), "%" PRIu64 "/labels", id);
        if (mkdirat(s->layers_fd, path, 0700) < 0 && errno != EEXIST)
                return -errno;
        return strata_label_open_dir(s, id, ret);
}

/* ---- the checksum behind the value ---- */

#define SUM_FORMAT "xxh3: %016" PRIx64 "\n"
#define SUM_LEN (sizeof("xxh3: ") - 1 + 16 + 1)

/*
 * True if the LEN bytes end in a checksum, or in one of which a byte is wrong: then the value is damaged, and not one
 * without a checksum, as earlier versions wrote it.
 */
static bool ends_in_sum(const char *text, size_t len)
{
        static const char form[] = "\nxxh3: ................\n"; /* the newline before is the value's last byte */
        unsigned wrong = 0;

        if (len < sizeof(form) - 1)
                return false;
        text += len - (sizeof(form) - 1);
        for (size_t i = 0; i < sizeof(form) - 1; i++) {
                bool digit = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');

                wrong += form[i] == '.' ? !digit : text[i] != form[i];
        }
        return wrong <= 1;
}

/* The bytes of the value in what a label's file holds. -EUCLEAN if it is damaged. */
static int check_text(const char *text, size_t len, size_t *ret)
{
        char sum[SUM_LEN + 1];

        if (ends_in_sum(text, len)) {
                len -= SUM_LEN;
                snprintf(sum, sizeof(sum), SUM_FORMAT, (uint64_t)XXH3_64bits(text, len));
                if (memcmp(text + len, sum, SUM_LEN) != 0)
                        return -EUCLEAN;
        }
        if (len == 0 || len > STRATA_LABEL_MAX + 1 || text[len - 1] != '\n')
                return -EUCLEAN; /* never written so */
        *ret = len;
        return 0;
}

static void add_sum(struct strata_buf *text)
{
        uint64_t sum = text->len ? (uint64_t)XXH3_64bits(text->data, text->len) : 0;

        strata_buf_addf(text, SUM_FORMAT, sum);
}

int strata_label_get(struct strata *s, uint64_t id, const char *label, struct strata_buf *ret)
{
        cleanup_buf struct strata_buf text = STRATA_BUF_INIT;
        char path[STRATA_NAME_MAX + STRATA_ID_PATH_MAX + 16];
        cleanup_fd int dir = -1;
        size_t len;
        int r;

        if (strata_name_check(label, NULL) < 0)
                return -ENOENT;
        r = strata_label_open_dir(s, id, &dir);
        if (r == 0)
                r = strata_io_read_at(dir, label, STRATA_LABEL_MAX + 1 + SUM_LEN, &text);
        if (r < 0)
                return r;
        r = check_text(text.len ? text.data : "", text.len, &len);
        if (r < 0) {
                snprintf(path, sizeof(path), "layers/%" PRIu64 "/labels/%s", id, label);
                strata_damage_note(s, path, "the checksum of this label is wrong; set it anew, or remove it");
                return r;
        }
        strata_buf_add(ret, text.data, len);
        return strata_buf_status(ret);
}

/* Bytes of the value of what DIR has as LABEL, whose state is ST. */
static int value_size(int dir, const char *label, const struct stat *st, uint64_t *ret)
{
        cleanup_fd int fd = -1;
        char end[SUM_LEN + 1];
        ssize_t n;

        *ret = (uint64_t)st->st_size;
        if (!S_ISREG(st->st_mode) || st->st_size < (off_t)sizeof(end))
                return 0;
        fd = openat(dir, label, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        n = pread(fd, end, sizeof(end), st->st_size - (off_t)sizeof(end));
        if (n < 0)
                return -errno;
        if (n == (ssize_t)sizeof(end) && ends_in_sum(end, sizeof(end)))
                *ret -= SUM_LEN;
        return 0;
}

int strata_label_stat(struct strata *s, uint64_t id, const char *label, uint64_t *size, struct timespec *mtime)
{
        cleanup_fd int dir = -1;
        struct stat st;
        uint64_t bytes;
        int r;

        if (strata_name_check(label, NULL) < 0)
                return -ENOENT;
        r = strata_label_open_dir(s, id, &dir);
        if (r < 0)
                return r;
        if (fstatat(dir, label, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        r = value_size(dir, label, &st, &bytes);
        if (r < 0)
                return r;
        *size = bytes;
        *mtime = st.st_mtim;
        return 0;
}

/* ---- setting ---- */

/*
 * Puts the file TMP in the place of LABEL and makes that durable; if that fails the label is as it was, or absent as it
 * was. TMP is gone afterwards, or holds the former value.
 */
static int put_in_place(struct strata *s, int dir, const char *tmp, const char *label, bool sync)
{
        bool replaced = true;
        struct stat st;
        int r;

        if (fstatat(dir, label, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
                return -EISDIR; /* nothing of ours: it stays */
        if (renameat2(dir, tmp, dir, label, RENAME_EXCHANGE) < 0) {
                if (errno != ENOENT)
                        return -errno;
                replaced = false;
                if (renameat(dir, tmp, dir, label) < 0)
                        return -errno;
        }
        if (!sync)
                strata_store_note_unsynced(s);
        r = sync ? strata_store_sync_dir(s, dir) : 0;
        if (r < 0 && replaced)
                (void)renameat2(dir, tmp, dir, label, RENAME_EXCHANGE);
        else if (r < 0)
                (void)unlinkat(dir, label, 0);
        return r;
}

/* A name that no other writer has, in *RET. */
static void temporary(struct strata *s, char ret[LABEL_TMP_MAX])
{
        static atomic_uint counter;

        snprintf(ret, LABEL_TMP_MAX, ".new.%" PRIx64 ".%u", s->run, atomic_fetch_add(&counter, 1));
}

/* What stays is nobody's, and cleared by the next start. */
static void drop_temporary(struct strata *s, int dir, const char *tmp)
{
        if (unlinkat(dir, tmp, 0) < 0 && errno != ENOENT)
                atomic_store(&s->rubbish, true);
}

static int set(struct strata *s, uint64_t id, const char *label, const char *value, size_t len, bool sync)
{
        cleanup_buf struct strata_buf text = STRATA_BUF_INIT;
        bool sync_file = sync && s->config.durable;
        cleanup_fd int dir = -1;
        char tmp[LABEL_TMP_MAX];
        struct stat st;
        int r;

        r = strata_name_check(label, NULL);
        if (r == 0 && len > STRATA_LABEL_MAX + (size_t)(len && value[len - 1] == '\n'))
                r = -EFBIG;
        if (r < 0)
                return r;
        strata_buf_add(&text, value, len);
        if (!len || value[len - 1] != '\n')
                strata_buf_addstr(&text, "\n");
        add_sum(&text);
        r = strata_buf_status(&text);
        if (r == 0)
                r = make_dir(s, id, &dir);
        if (r < 0)
                return r;
        temporary(s, tmp);
        /* A power cut that kept the new name and not what it holds would leave neither value. */
        if (fstatat(dir, label, &st, AT_SYMLINK_NOFOLLOW) == 0)
                sync_file = true;
        r = strata_io_create_at(dir, tmp, text.data, text.len, 0600, sync_file);
        if (r == 0)
                r = put_in_place(s, dir, tmp, label, sync);
        drop_temporary(s, dir, tmp);
        return r;
}

int strata_label_set(struct strata *s, uint64_t id, const char *label, const char *value, size_t len)
{
        return set(s, id, label, value, len, true);
}

int strata_label_set_later(struct strata *s, uint64_t id, const char *label, const char *value, size_t len)
{
        return set(s, id, label, value, len, false);
}

int strata_label_remove(struct strata *s, uint64_t id, const char *label)
{
        cleanup_fd int dir = -1;
        char tmp[LABEL_TMP_MAX];
        int r;

        if (strata_name_check(label, NULL) < 0)
                return -ENOENT;
        r = strata_label_open_dir(s, id, &dir);
        if (r < 0)
                return r;
        /* Moved away first: it can come back if it is not known to be gone on the disk. */
        temporary(s, tmp);
        if (renameat(dir, label, dir, tmp) < 0)
                return -errno;
        r = strata_store_sync_dir(s, dir);
        if (r < 0)
                (void)renameat(dir, tmp, dir, label);
        else
                drop_temporary(s, dir, tmp);
        return r;
}

/* What replaces another label is on the disk before, as in set(). */
static int sync_value(int dir, const char *label)
{
        cleanup_fd int fd = openat(dir, label, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int strata_label_rename(struct strata *s, uint64_t id, const char *old, const char *new)
{
        cleanup_fd int dir = -1;
        char tmp[LABEL_TMP_MAX];
        bool replaces;
        int r;

        if (strata_name_check(old, NULL) < 0)
                return -ENOENT;
        r = strata_name_check(new, NULL);
        if (r == 0)
                r = strata_label_open_dir(s, id, &dir);
        if (r < 0)
                return r;
        /* What is replaced keeps a name until that is on the disk, so that it can come back. */
        temporary(s, tmp);
        replaces = linkat(dir, new, dir, tmp, 0) == 0;
        if (!replaces && errno != ENOENT)
                return -errno;
        r = replaces ? sync_value(dir, old) : 0;
        if (r == 0)
                r = renameat(dir, old, dir, new) < 0 ? -errno : 0;
        if (r == 0) {
                r = strata_store_sync_dir(s, dir);
                if (r < 0)
                        (void)renameat(dir, new, dir, old);
                if (r < 0 && replaces)
                        (void)renameat(dir, tmp, dir, new);
        }
        if (replaces)
                drop_temporary(s, dir, tmp);
        return r;
}
