/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and labels change at several places, so the step is written down first: STORE/import.ID holds the inode number
 * of the new root, and the digests. Whether the exchange has come is then told by the inode number of fs/, and the rest
 * follows from the record. It lies at the top of the store and not in the layer: there a start finds it without going
 * through all layers, so that nobody ever sees the files without their labels.
 */
#include "layer_publish.h"

#include "check_part.h"
#include "entry.h"
#include "label.h"
#include "layer_import.h"
#include "link.h"
#include "log.h"
#include "strata.h"
#include "trash.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/sumfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PREFIX "import."
#define DIGEST_MAX 80 /* "sha256:" and 64 digits, with a NUL */

struct publication {
        uint64_t id;
        uint64_t ino; /* of the new root */
        char diffid[DIGEST_MAX];
        char digest[DIGEST_MAX];
};

static void record_name(uint64_t id, char ret[STRATA_ID_PATH_MAX])
{
        snprintf(ret, STRATA_ID_PATH_MAX, PREFIX "%" PRIu64, id);
}

static int write_record(struct strata *s, const struct publication *p)
{
        char name[STRATA_ID_PATH_MAX], text[STRATA_SUMFILE_MAX];
        int n = snprintf(text, sizeof(text), "%" PRIu64 " %s %s\n", p->ino, p->diffid, p->digest);

        if (n >= (int)sizeof(text))
                return -EFBIG;
        record_name(p->id, name);
        return strata_sumfile_write(s->root_fd, name, s->run, text, (size_t)n, false);
}

static int read_record(struct strata *s, const char *name, struct publication *ret)
{
        char text[STRATA_SUMFILE_MAX];
        int r = strata_sumfile_read(s->root_fd, name, text);

        if (r < 0)
                return r;
        return sscanf(text, "%" SCNu64 " %79s %79s", &ret->ino, ret->diffid, ret->digest) == 3 ? 0 : -EUCLEAN;
}

/* One that can't be removed is emptied: an empty one counts as none. */
static int drop_record(struct strata *s, uint64_t id)
{
        char name[STRATA_ID_PATH_MAX];
        int fd, r;

        record_name(id, name);
        if (unlinkat(s->root_fd, name, 0) == 0 || errno == ENOENT)
                return 0;
        r = -errno;
        atomic_store(&s->rubbish, true);
        fd = openat(s->root_fd, name, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return r;
        strata_close(fd);
        return 0;
}

/* 1 if the root of fs/ is the one that P speaks of. */
static int is_in_place(int layer_fd, const struct publication *p)
{
        struct stat st;

        if (fstatat(layer_fd, "fs", &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        return st.st_ino == p->ino;
}

static int set_labels(struct strata *s, const struct publication *p)
{
        int r = strata_label_set_later(s, p->id, STRATA_IMPORT_LABEL_DIFFID, p->diffid, strlen(p->diffid));

        if (r == 0)
                r = strata_label_set_later(s, p->id, STRATA_IMPORT_LABEL_DIGEST, p->digest, strlen(p->digest));
        return r;
}

/* ---- publishing ---- */

/* Labels of these names that somebody had set before. */
struct former {
        struct strata_buf diffid, digest;
};

static int read_former(struct strata *s, uint64_t id, const char *label, struct strata_buf *ret)
{
        int r = strata_label_get(s, id, label, ret);

        return r == -ENOENT ? 0 : r;
}

static void restore(struct strata *s, uint64_t id, const char *label, const struct strata_buf *former)
{
        if (former->len)
                (void)strata_label_set_later(s, id, label, former->data, former->len);
        else
                (void)strata_label_remove(s, id, label);
}

static int exchange(int layer_fd)
{
        return renameat2(layer_fd, STRATA_PUBLISH_FS_NEW, layer_fd, "fs", RENAME_EXCHANGE) < 0 ? -errno : 0;
}

/* From the exchange on. What fails is undone in the other order, the record last. */
static int put_in_place(struct strata *s, int layer_fd, const struct publication *p, const struct former *former,
                        const char **why)
{
        int r = exchange(layer_fd);

        if (r < 0) {
                *why = "the finished layer can't be put in place";
                (void)drop_record(s, p->id);
                return r;
        }
        r = set_labels(s, p);
        if (r < 0) {
                *why = "the labels with the digests can't be set";
        } else if (unlinkat(layer_fd, STRATA_PUBLISH_FS_NEW, AT_REMOVEDIR) < 0) {
                r = -errno;
                *why = r == -ENOTEMPTY ? "something was written to the snapshot during the import"
                                       : "the empty directory that the layer replaces can't be removed";
        }
        if (r < 0) {
                restore(s, p->id, STRATA_IMPORT_LABEL_DIFFID, &former->diffid);
                restore(s, p->id, STRATA_IMPORT_LABEL_DIGEST, &former->digest);
                (void)exchange(layer_fd);
        } else {
                strata_entry_touch_id(s, p->id);
        }
        (void)drop_record(s, p->id);
        return r;
}

int strata_publish_layer(struct strata *s, uint64_t id, int layer_fd, const char *diffid, const char *digest,
                         const char **why)
{
        struct former former = { STRATA_BUF_INIT, STRATA_BUF_INIT };
        struct publication p = { .id = id };
        struct stat st;
        int r = 0;

        *why = NULL;
        snprintf(p.diffid, sizeof(p.diffid), "%s", diffid);
        snprintf(p.digest, sizeof(p.digest), "%s", digest);
        if (fstatat(layer_fd, STRATA_PUBLISH_FS_NEW, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        p.ino = st.st_ino;
        r = read_former(s, id, STRATA_IMPORT_LABEL_DIFFID, &former.diffid);
        if (r == 0)
                r = read_former(s, id, STRATA_IMPORT_LABEL_DIGEST, &former.digest);
        if (r == 0)
                r = write_record(s, &p);
        if (r == 0)
                r = put_in_place(s, layer_fd, &p, &former, why);
        strata_buf_free(&former.diffid);
        strata_buf_free(&former.digest);
        return r;
}

/* ---- after a kill ---- */

/*
 * Brings the publication of the record NAME to its end: forward if the exchange has come, else back. A thread of a
 * worker that was killed may be in its last system call still, and that be the exchange: so fs.new goes away first, and
 * then fs/ is looked at again.
 */
static int complete(struct strata *s, uint64_t id, const char *name)
{
        struct publication p = { .id = id };
        cleanup_fd int layer_fd = -1;
        int r = read_record(s, name, &p);

        if (r == 0)
                r = strata_open_layer(s, id, &layer_fd);
        if (r == 0)
                r = strata_trash_part(s, layer_fd, STRATA_PUBLISH_FS_NEW, id);
        if (r == 0)
                r = is_in_place(layer_fd, &p);
        if (r > 0) {
                r = set_labels(s, &p);
                strata_entry_touch_id(s, id);
        }
        /* Damaged: a power cut came with it, and left nothing to go by. Without a layer there is nothing to do. */
        if (r < 0 && r != -EUCLEAN && r != -ENOENT)
                return r;
        return drop_record(s, id);
}

/* True for "import.ID" and, with *CUT, for "import.ID.new.RUN", the record being written. */
static bool parse_name(const char *name, uint64_t *id, bool *cut)
{
        char digits[32], again[STRATA_ID_PATH_MAX];
        unsigned long long n;
        size_t len;

        if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
                return false;
        len = strspn(name + strlen(PREFIX), "0123456789");
        if (len >= sizeof(digits))
                return false;
        snprintf(digits, sizeof(digits), "%.*s", (int)len, name + strlen(PREFIX));
        if (!strata_io_parse_u64(digits, &n) || !n)
                return false;
        *id = n;
        *cut = strncmp(name + strlen(PREFIX) + len, ".new.", 5) == 0;
        record_name(n, again);
        return strncmp(again, name, strlen(again)) == 0 && (*cut || strcmp(again, name) == 0);
}

/* The entry is claimed by an import that is under way: -EBUSY. */
static int settle(struct strata *s, const char *name, uint64_t id, bool cut)
{
        struct strata_op op;
        int r = strata_op_begin(s, &op, id);

        if (r < 0)
                return r;
        if (cut)
                r = unlinkat(s->root_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
        else
                r = complete(s, id, name);
        strata_op_end(s, &op);
        return r;
}

void strata_publish_recover(struct strata *s)
{
        cleanup_dir DIR *dir = NULL;
        struct dirent *de;
        uint64_t id;
        bool cut;
        int r = strata_io_list(s->root_fd, ".", &dir);

        if (r < 0) {
                strata_log_add(s->log, "recover", ".", NULL, r, "can't look for imports that were cut off");
                return;
        }
        while ((errno = 0, de = readdir(dir))) {
                if (!parse_name(de->d_name, &id, &cut))
                        continue;
                r = settle(s, de->d_name, id, cut);
                if (r < 0)
                        strata_log_add(s->log, "recover", de->d_name, NULL, r,
                                       "an import that was cut off in its last step can't be completed: labels of "
                                       "layer %" PRIu64 " may be missing; it is tried again at the next start",
                                       id);
        }
        if (errno)
                strata_log_add(s->log, "recover", ".", NULL, errno, "can't look for imports that were cut off");
}

bool strata_publish_check(struct strata *s, struct strata_check *c, const char *name)
{
        int r = STRATA_CHECK_LEFT;
        struct stat st;
        uint64_t id;
        bool cut;

        if (!parse_name(name, &id, &cut))
                return false;
        if (fstatat(s->root_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return true; /* an import came to its end meanwhile */
        if (strata_check_wants(c, STRATA_CHECK_CRASH))
                r = settle(s, name, id, cut);
        if (r != -EBUSY)
                strata_check_tell(c, r, 0, name, "a crash cut an import off in its last step");
        return true;
}
