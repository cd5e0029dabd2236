/* SPDX-License-Identifier: Apache-2.0 */
#include "mount.h"

#include "busy.h"
#include "damage.h"
#include "label.h"
#include "log.h"
#include "store.h"
#include "strata.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/sumfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

const struct strata_mount_api *strata_mount_choose(bool force_old)
{
        cleanup_fd int fd = -1;

        if (force_old)
                return &strata_mount_old;
        fd = fsopen("overlay", FSOPEN_CLOEXEC);
        if (fd < 0 || fsconfig(fd, FSCONFIG_SET_STRING, "lowerdir+", "/", 0) < 0)
                return &strata_mount_old;
        return &strata_mount_new;
}

/*
 * The mark of an active snapshot that is mounted: layers/ID/mounted, holding the boot's ID and "volatile" or "synced".
 * While it stands after a kill, the last mount may live on in some process, and a volatile one was never synced.
 */
#define MARK_MAX 128
#define MARK_WORD 37    /* where the word begins */
#define MARK_FAR 8      /* wrong bits: the two words are twice as many apart */
#define MARK_OLD_MAX 46 /* bytes of the longest without a checksum, as earlier versions wrote it */

/* What the mark PATH says, as text; empty for one that never reached the disk. -EUCLEAN for a damaged one. */
static int load_mark(struct strata *s, const char *path, char text[STRATA_SUMFILE_MAX])
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        int r = strata_io_read_at(s->root_fd, path, MARK_MAX, &buf);

        if (r < 0)
                return r == -EFBIG ? -EUCLEAN : r;
        if (buf.len && buf.data[0] && buf.len > MARK_OLD_MAX)
                return strata_sumfile_read(s->root_fd, path, text);
        /* From before it had a checksum, or without contents. */
        snprintf(text, STRATA_SUMFILE_MAX, "%s", buf.len ? buf.data : "");
        return 0;
}

/*
 * Of a damaged mark: which of the two words it held. They differ in more bits than this allows for, so no wrong bit
 * makes one the other. What is further from both may be anything, and counts as the worse.
 */
static bool is_nearly_synced(const struct strata_buf *mark)
{
        static const char word[] = "synced\n";
        unsigned wrong = 0;

        if (mark->len < MARK_WORD + strlen(word))
                return false;
        for (size_t i = 0; i < strlen(word); i++)
                wrong += (unsigned)__builtin_popcount((unsigned char)(mark->data[MARK_WORD + i] ^ word[i]));
        return wrong < MARK_FAR;
}

/* What is right of the damaged mark PATH, as far as that can be told. */
static void guess_mark(struct strata *s, const char *path, bool *same_boot, bool *was_volatile)
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        size_t len = strlen(s->boot_id);
        int r = strata_io_read_at(s->root_fd, path, MARK_MAX, &buf);

        *same_boot = r == 0 && len && buf.len > len && memcmp(buf.data, s->boot_id, len) == 0;
        *was_volatile = r < 0 || !is_nearly_synced(&buf);
        strata_damage_note(s, path,
                           *was_volatile ? "the checksum of this mark is wrong: whether what was written last is on "
                                           "the disk is not known"
                                         : "the checksum of this mark is wrong: it is that of a mount that was not "
                                           "volatile");
}

/* -EUCLEAN for a damaged one, of which as much is told as it still says. */
static int read_mark(struct strata *s, uint64_t id, bool *same_boot, bool *was_volatile)
{
        char path[STRATA_ID_PATH_MAX + 16], text[STRATA_SUMFILE_MAX];
        int r;

        snprintf(path, sizeof(path), "layers/%" PRIu64 "/mounted", id);
        r = load_mark(s, path, text);
        if (r == -EUCLEAN)
                guess_mark(s, path, same_boot, was_volatile);
        if (r < 0)
                return r;
        *same_boot = s->boot_id[0] && strncmp(text, s->boot_id, strlen(s->boot_id)) == 0;
        *was_volatile = strstr(text, " volatile\n");
        return 0;
}

bool strata_mount_mark_is_damaged(struct strata *s, const char *path)
{
        char text[STRATA_SUMFILE_MAX];

        return load_mark(s, path, text) == -EUCLEAN;
}

static const char *const mark_names[] = { "mark.synced", "mark.volatile" };

void strata_mount_forget_marks(struct strata *s)
{
        for (size_t i = 0; i < sizeof(mark_names) / sizeof(*mark_names); i++)
                (void)unlinkat(s->root_fd, mark_names[i], 0);
}

/*
 * Writes a mark as a file of its own, which then serves as the one that others are links to. A volatile one is synced,
 * once in a program's life: a power cut that left it empty would leave a layer that nobody suspects.
 */
static int create_mark(struct strata *s, const char *path, bool is_volatile)
{
        char text[MARK_MAX];
        int n = snprintf(text, sizeof(text), "%s %s\n", s->boot_id, is_volatile ? "volatile" : "synced");
        int r = strata_sumfile_write(s->layers_fd, path, s->run, text, (size_t)n, is_volatile);

        if (r == 0) {
                (void)unlinkat(s->root_fd, mark_names[is_volatile], 0);
                (void)linkat(s->layers_fd, path, s->root_fd, mark_names[is_volatile], 0);
        }
        return r;
}

/* A hard link where one can be had, as that is made faster than a file. */
static int write_mark(struct strata *s, uint64_t id)
{
        bool is_volatile = s->config.volatile_mounts;
        char path[STRATA_ID_PATH_MAX];

        snprintf(path, sizeof(path), "%" PRIu64 "/mounted", id);
        if (linkat(s->root_fd, mark_names[is_volatile], s->layers_fd, path, 0) == 0)
                return 0;
        /* The first, as many links as a file can have, or in place of an old one: which must not be missed meanwhile.
         */
        return create_mark(s, path, is_volatile);
}

static void drop_volatile_mark(struct strata *s, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX + 16];

        /* Overlayfs refuses the next mount while this directory stands: Documentation/filesystems/overlayfs.rst,
         * "Volatile mount". */
        snprintf(path, sizeof(path), "%" PRIu64 "/work/work/incompat/volatile/dirty", id);
        if (unlinkat(s->layers_fd, path, 0) < 0)
                return;
        for (int level = 0; level < 2; level++) {
                *strrchr(path, '/') = '\0';
                (void)unlinkat(s->layers_fd, path, AT_REMOVEDIR);
        }
}

int strata_mount_was_cut_off(struct strata *s, uint64_t id)
{
        bool same_boot, was_volatile;
        int r = read_mark(s, id, &same_boot, &was_volatile);

        return r == -ENOENT ? 0 : r < 0 && r != -EUCLEAN ? r : !same_boot && was_volatile;
}

int strata_mount_is_trusted(struct strata *s, uint64_t id)
{
        cleanup_buf struct strata_buf value = STRATA_BUF_INIT;
        int r = strata_label_get(s, id, STRATA_MOUNT_TRUST, &value);

        return r == -ENOENT ? 0 : r < 0 ? r : value.data && strcmp(value.data, "yes\n") == 0;
}

int strata_mount_is_suspect(struct strata *s, uint64_t id)
{
        int r = strata_mount_was_cut_off(s, id);

        if (r <= 0)
                return r;
        r = strata_mount_is_trusted(s, id);
        return r < 0 ? r : !r;
}

void strata_mount_forget_cut(struct strata *s, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];

        drop_volatile_mark(s, id);
        snprintf(path, sizeof(path), "%" PRIu64 "/mounted", id);
        if (unlinkat(s->layers_fd, path, 0) < 0 && errno != ENOENT)
                atomic_store(&s->rubbish, true);
}

void strata_mount_left(struct strata *s, uint64_t id)
{
        int r = strata_mount_was_cut_off(s, id);

        if (r == 0)
                strata_mount_forget_cut(s, id);
        else if (r < 0)
                atomic_store(&s->rubbish, true); /* the mark stays, where a sweep may have to look at it */
}

void strata_mount_committed(struct strata *s, uint64_t id, bool ended)
{
        if (ended || strata_mount_lives_on(s, id) == 0)
                strata_mount_left(s, id);
        else
                atomic_store(&s->rubbish, true); /* the mark stays, and is to be taken away once that has ended */
}

void strata_mount_left_all(struct strata *s, const uint64_t *ids, size_t n)
{
        bool sync = n && s->config.volatile_mounts && s->config.durable;
        int r = sync ? strata_store_sync(s) : 0;

        if (r < 0) {
                strata_log_add(s->log, "mount", "active", NULL, r,
                               "what was written to volatile mounts may not have reached the disk");
                return;
        }
        for (size_t i = 0; i < n; i++)
                if (strata_mount_lives_on(s, ids[i]) == 0)
                        strata_mount_left(s, ids[i]);
}

/*
 * 1 if some superblock still uses the upper directory of layer ID, 0 if none, -errno if that can't be told. The kernel
 * tells with index=on, which makes that an EBUSY; with a work directory that can't serve (EINVAL), nothing is ever
 * mounted or written here.
 */
static int upper_in_use(struct strata *s, uint64_t id)
{
        char options[256];

        if (fchdir(s->layers_fd) < 0)
                return -errno;
        snprintf(options, sizeof(options),
                 "lowerdir=../empty,upperdir=%" PRIu64 "/fs,workdir=%" PRIu64 "/fs,index=on%s", id, id,
                 s->in_userns ? ",userxattr" : "");
        if (mount("stratafs:probe", ".", "overlay", MS_RDONLY, options) == 0 || errno == EINVAL)
                return 0;
        return errno == EBUSY ? 1 : -errno;
}

bool strata_mount_was_left(struct strata *s, uint64_t id)
{
        char path[STRATA_ID_PATH_MAX];

        snprintf(path, sizeof(path), "%" PRIu64 "/mounted", id);
        return faccessat(s->layers_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

int strata_mount_lives_on(struct strata *s, uint64_t id)
{
        bool same_boot, was_volatile;
        int r = read_mark(s, id, &same_boot, &was_volatile);

        if (r < 0 && r != -EUCLEAN)
                return r == -ENOENT ? 0 : r;
        return same_boot || r < 0 ? upper_in_use(s, id) : 0;
}

int strata_mount_drop_damaged_mark(struct strata *s, uint64_t id)
{
        bool same_boot, was_volatile;
        int r = read_mark(s, id, &same_boot, &was_volatile);

        if (r != -EUCLEAN)
                return r < 0 ? r : 1;
        r = was_volatile ? 1 : upper_in_use(s, id);
        if (r == 0)
                strata_mount_forget_cut(s, id);
        return r;
}

char *strata_mount_explain_life(struct strata *s, const struct strata_info *info)
{
        cleanup_buf struct strata_buf who = STRATA_BUF_INIT;
        cleanup_free char *upper = NULL;
        char relative[STRATA_ID_PATH_MAX];
        char *ret;

        snprintf(relative, sizeof(relative), "%" PRIu64 "/fs", info->id);
        if (asprintf(&upper, "%s/layers/%s", s->path, relative) < 0)
                return NULL;
        (void)strata_busy_upper(upper, relative, &who);
        if (asprintf(&ret, "a mount of it %s is still used by %s; end that first",
                     info->kind == STRATA_COMMITTED
                             ? "from before its commit"
                             : "from an earlier run of this program, or one that was unmounted lazily,",
                     who.len ? who.data : "some process, or is bound somewhere") < 0)
                return NULL;
        return ret;
}

/* Looks at what the last mount of an active snapshot left, and notes the coming one. */
static int begin_active(struct strata *s, const struct strata_info *info)
{
        bool same_boot, was_volatile;
        int r = read_mark(s, info->id, &same_boot, &was_volatile);

        if (r < 0 && r != -ENOENT && r != -EUCLEAN)
                return r;
        if (r != -ENOENT) {
                r = same_boot || r < 0 ? upper_in_use(s, info->id) : 0;
                if (r)
                        return r < 0 ? r : -EBUSY;
                /* Trusted, or it were not mounted so: but only this time. */
                if (!same_boot && was_volatile)
                        (void)strata_label_remove(s, info->id, STRATA_MOUNT_TRUST);
        }
        drop_volatile_mark(s, info->id);
        return write_mark(s, info->id);
}

int strata_mount_attach(struct strata *s, const struct strata_info *info, int target_fd, dev_t *dev)
{
        char source[sizeof("stratafs:") + STRATA_NAME_MAX];
        cleanup_chain struct strata_chain chain = { 0 };
        int suspect = info->kind == STRATA_ACTIVE ? strata_mount_is_suspect(s, info->id) : 0;
        struct strata_mount_spec spec = {
                .source = source,
                .chain = &chain,
                .read_only = info->kind != STRATA_ACTIVE || s->config.read_only || suspect,
                .restricted = info->kind == STRATA_COMMITTED || s->config.restrict_mounts,
                .is_volatile = info->kind == STRATA_ACTIVE && s->config.volatile_mounts && !suspect,
                .attributes = s->config.attributes,
        };
        struct strata_info shown = *info;
        int r;

        if (suspect < 0)
                return suspect;
        snprintf(source, sizeof(source), "stratafs:%s", info->name);
        if (suspect) {
                shown.kind = STRATA_COMMITTED; /* all layers are lower ones: nothing can write */
                strata_log_add(s->log, "mount", info->name, NULL, EUCLEAN,
                               STRATA_MOUNT_CUT_OFF " (layers/%" PRIu64 " in the store)", info->id);
        }
        r = strata_chain_get(s, &shown, &chain);
        if (r < 0)
                return r;
        if (fchdir(s->layers_fd) < 0)
                return -errno;
        if (chain.upper) {
                r = begin_active(s, info);
                if (r < 0)
                        return r;
        }
        r = s->mount_api->attach(s, &spec, target_fd, dev);
        if (r < 0 && chain.upper)
                strata_mount_left(s, info->id);
        return r;
}

int strata_mount_open_lower(struct strata *s, const struct strata_info *info, int *ret)
{
        cleanup_chain struct strata_chain chain = { 0 };
        struct strata_mount_spec spec = {
                .source = "stratafs:lower",
                .chain = &chain,
                .read_only = true,
                .restricted = true,
        };
        struct strata_info parent;
        int r;

        if (fchdir(s->layers_fd) < 0)
                return -errno;
        if (!info->parent) {
                int fd = openat(s->root_fd, "empty", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

                if (fd < 0)
                        return -errno;
                *ret = fd;
                return 0;
        }
        r = strata_entry_parent(s, info, &parent);
        if (r == 0)
                r = strata_chain_get(s, &parent, &chain);
        return r < 0 ? r : s->mount_api->open(s, &spec, ret);
}

int strata_mount_freeze(struct strata *s, const char *path)
{
        struct timespec pause = { .tv_nsec = 2000000 };
        int r = s->mount_api->set_read_only(s, path, true);

        /*
         * A reader that sets an access time counts as a writer for an instant, and a process that was just killed until
         * it is gone: only what stays busy is.
         */
        for (int tries = 0; tries < 5 && r == -EBUSY; tries++) {
                nanosleep(&pause, NULL);
                pause.tv_nsec *= 2;
                r = s->mount_api->set_read_only(s, path, true);
        }
        return r;
}

int strata_mount_thaw(struct strata *s, const char *path)
{
        return s->mount_api->set_read_only(s, path, false);
}

int strata_mount_copy(int fd)
{
        int copy = open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

        return copy < 0 ? -errno : copy;
}

int strata_mount_move(int copy, int target_fd)
{
        return move_mount(copy, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0 ? -errno : 0;
}

int strata_mount_detach(const char *path, int flags)
{
        return umount2(path, flags | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}

int strata_mount_device(int fd, dev_t *dev)
{
        struct statx stx;

        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &stx) < 0)
                return -errno;
        *dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
        return 0;
}

int strata_mount_is_attached(const char *path, dev_t *dev)
{
        struct statx stx;

        if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &stx) < 0)
                return -errno;
        if (!(stx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) || !(stx.stx_attributes & STATX_ATTR_MOUNT_ROOT))
                return 0;
        *dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
        return 1;
}
