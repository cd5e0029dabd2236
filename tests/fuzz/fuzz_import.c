/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An archive into a layer of a scratch store, over a parent with a few files. Aborts if anything appears outside the
 * layer, or if a refused import leaves something.
 */
#include "commit.h"
#include "layer_import.h"
#include "prepare.h"
#include "remove.h"
#include "strata.h"
#include "trash.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_BYTES (8 << 20) /* of an uncompressed archive */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct strata *store;
static char dir[] = "/tmp/stratafs-fuzz.XXXXXX";

#define CHECK(x)                                                                                                       \
        do {                                                                                                           \
                if (!(x)) {                                                                                            \
                        fprintf(stderr, "failed: %s\n", #x);                                                           \
                        abort();                                                                                       \
                }                                                                                                      \
        } while (0)

static uint64_t prepare(const char *key, const char *parent)
{
        const char *why;
        uint64_t id;

        CHECK(strata_prepare(store, STRATA_ACTIVE, key, parent, 0, 0, &id, &why) == 0);
        return id;
}

static void make_base(void)
{
        uint64_t id = prepare("base", "");
        const char *why;
        char path[64];
        int fd;

        snprintf(path, sizeof(path), "%" PRIu64 "/fs/d", id);
        CHECK(mkdirat(store->layers_fd, path, 0755) == 0);
        snprintf(path, sizeof(path), "%" PRIu64 "/fs/d/f", id);
        fd = openat(store->layers_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        CHECK(fd >= 0 && close(fd) == 0);
        snprintf(path, sizeof(path), "%" PRIu64 "/fs/l", id);
        CHECK(symlinkat("d", store->layers_fd, path) == 0);
        CHECK(strata_commit(store, "base", "base", &why) == 0);
}

static void remove_all(void)
{
        char command[128];

        strata_close_store(store);
        snprintf(command, sizeof(command), "rm -rf --one-file-system -- %s", dir);
        if (system(command) != 0)
                fprintf(stderr, "can't remove %s\n", dir);
}

static void begin(void)
{
        const struct strata_config config = { 0 };
        char path[128], *why;

        /* Mounts of our own, gone with us. */
        CHECK(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
        CHECK(mkdtemp(dir));
        snprintf(path, sizeof(path), "%s/store", dir);
        CHECK(strata_open(path, &config, &store, &why) == 0);
        atexit(remove_all);
        make_base();
}

/* What an archive could reach that went out: nothing may be there but the store. */
static void check_outside(void)
{
        struct stat st;

        CHECK(stat(dir, &st) == 0 && st.st_nlink == 3);
        CHECK(fstatat(store->root_fd, "layers", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_nlink == 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
        struct strata_import *m;
        struct strata_info info;
        char path[64];
        const char *why;
        struct stat st;
        int r;

        if (!store)
                begin();
        CHECK(strata_entry_info(store, prepare("k", "base"), &info) == 0);
        CHECK(strata_import_new(store, &info, MAX_BYTES, &m, &why) == 0);
        r = strata_import_write(m, data, len);
        if (r == 0)
                r = strata_import_finish(m);
        CHECK(strata_import_why(m));
        strata_import_free(m);
        check_outside();
        snprintf(path, sizeof(path), "%" PRIu64 "/fs.new", info.id);
        CHECK(fstatat(store->layers_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0);
        snprintf(path, sizeof(path), "%" PRIu64 "/fs", info.id);
        CHECK(fstatat(store->layers_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0);
        CHECK(r == 0 || unlinkat(store->layers_fd, path, AT_REMOVEDIR) == 0); /* refused: as empty as before */
        CHECK(strata_remove(store, STRATA_ACTIVE, "k", &why) == 0);
        CHECK(strata_trash_empty(store) == 0);
        return 0;
}
