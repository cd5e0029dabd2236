/* SPDX-License-Identifier: Apache-2.0 */
#include "mounts.h"

#include "util/cleanup.h"
#include "util/io.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#define PLACE_MAX (4096 * 4 + 1) /* of a path, escaped */
#define TABLE_MAX ((size_t)256 << 20)

/* Undoes the octal escapes of mountinfo, in place: proc_pid_mountinfo(5). */
static void unescape(char *s)
{
        char *to = s;

        for (; *s; s++) {
                if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
                    s[3] <= '7') {
                        *to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
                        s += 3;
                } else {
                        *to++ = *s;
                }
        }
        *to = '\0';
}

/* Splits PATH, absolute, if it is MNT/FOLDER/NAME/fs. NAME is cut out of it. */
static bool split_path(const char *mnt, char *path, enum strata_kind *kind, char **name)
{
        size_t len = strlen(mnt);
        char *folder = path + len + 1, *slash, *tail;

        if (strncmp(path, mnt, len) != 0 || path[len] != '/')
                return false;
        slash = strchr(folder, '/');
        tail = slash ? strchr(slash + 1, '/') : NULL;
        if (!tail || strcmp(tail, "/fs") != 0)
                return false;
        *slash = *tail = '\0';
        *name = slash + 1;
        for (int k = 0; k < STRATA_KINDS; k++) {
                if (strcmp(strata_kind_folder(k), folder) == 0) {
                        *kind = k;
                        return true;
                }
        }
        return false;
}

/* True if LINE is a whole mount of the device DEV; its path is in PATH then, which has PLACE_MAX bytes. */
static bool is_mount_of(const char *line, dev_t dev, char *path)
{
        unsigned major, minor;

        if (sscanf(line, "%*d %*d %u:%u %16384s", &major, &minor, path) != 3 || strcmp(path, "/") != 0 ||
            makedev(major, minor) != dev || sscanf(line, "%*d %*d %*s %*s %16384s", path) != 1)
                return false;
        unescape(path);
        return true;
}

static void look_at(const char *mnt, const char *line, void (*found)(const struct sfs_mounted *m, void *data),
                    void *data)
{
        char path[PLACE_MAX], cut[sizeof(path)], type[64], *name;
        struct sfs_mounted m = { .path = path };
        const char *dash = strstr(line, " - ");
        unsigned major, minor;

        if (!dash || sscanf(dash + 3, "%63s", type) != 1 || strcmp(type, "overlay") != 0 ||
            sscanf(line, "%*d %*d %u:%u %*s %16384s", &major, &minor, path) != 3)
                return;
        unescape(path);
        memcpy(cut, path, strlen(path) + 1);
        if (!split_path(mnt, cut, &m.kind, &name))
                return;
        m.name = name;
        m.dev = makedev(major, minor);
        found(&m, data);
}

/*
 * The lines of the table, to be walked with next_line(). 0, or -errno: half a table would say that things are not
 * mounted.
 */
static int read_table(struct strata_buf *ret)
{
        return strata_io_read_at(AT_FDCWD, "/proc/self/mountinfo", TABLE_MAX, ret);
}

/* The line at *AT, as a string until the next call; *AT then is the next one. NULL at the end. */
static char *next_line(struct strata_buf *table, size_t *at)
{
        char *line = table->data + *at;
        char *end = *at < table->len ? memchr(line, '\n', table->len - *at) : NULL;

        if (*at)
                line[-1] = '\n'; /* as it was, for who walks it again */
        if (!end)
                return NULL;
        *end = '\0';
        *at = (size_t)(end + 1 - table->data);
        return line;
}

/*
 * Where in TABLE the device DEV is mounted: on MNT, if it is there, else on the first place there is: folders above may
 * have been renamed. Any device counts if DEV is 0. *RET, the caller's, is NULL if it is nowhere. 0 or -ENOMEM.
 */
static int find_place(struct strata_buf *table, const char *mnt, dev_t dev, char **ret)
{
        char path[PLACE_MAX], *line, *found = dev ? NULL : strdup(mnt);
        size_t at = 0;

        if (!dev && !found)
                return -ENOMEM;
        while ((line = next_line(table, &at))) { /* to its end: the table is whole again then */
                if (!dev || !is_mount_of(line, dev, path) || (found && strcmp(path, mnt) != 0))
                        continue;
                free(found);
                found = strdup(path);
                if (!found)
                        return -ENOMEM;
        }
        *ret = found;
        return 0;
}

char *sfs_mounts_place(const char *mnt, dev_t dev)
{
        cleanup_buf struct strata_buf table = STRATA_BUF_INIT;
        char *ret = NULL;

        if (read_table(&table) == 0)
                (void)find_place(&table, mnt, dev, &ret);
        return ret;
}

char *sfs_mounts_source(const char *mnt, const char *type)
{
        cleanup_buf struct strata_buf table = STRATA_BUF_INIT;
        char path[PLACE_MAX], there[64], *line, *ret = NULL;
        size_t at = 0;

        if (read_table(&table) < 0)
                return NULL;
        while ((line = next_line(&table, &at))) {
                const char *dash = strstr(line, " - ");

                if (!dash || sscanf(line, "%*d %*d %*s %*s %16384s", path) != 1)
                        continue;
                unescape(path);
                if (strcmp(path, mnt) != 0)
                        continue;
                free(ret);
                ret = NULL;
                if (sscanf(dash + 3, "%63s %16384s", there, path) == 2 && strcmp(there, type) == 0) {
                        unescape(path);
                        ret = strdup(path);
                }
        }
        return ret;
}

int sfs_mounts_each(const char *mnt, dev_t dev, void (*found)(const struct sfs_mounted *m, void *data), void *data)
{
        cleanup_buf struct strata_buf table = STRATA_BUF_INIT;
        cleanup_free char *place = NULL;
        int r = read_table(&table);
        size_t at = 0;
        char *line;

        if (r == 0)
                r = find_place(&table, mnt, dev, &place);
        while (place && (line = next_line(&table, &at)))
                look_at(place, line, found, data);
        return r;
}

struct wanted {
        enum strata_kind kind;
        const char *name;
        bool found;
        dev_t dev;
};

static void compare(const struct sfs_mounted *m, void *data)
{
        struct wanted *w = data;

        if (m->kind != w->kind || strcmp(m->name, w->name) != 0)
                return;
        w->found = true;
        w->dev = m->dev;
}

int sfs_mounts_find(const char *mnt, dev_t on, enum strata_kind kind, const char *name, dev_t *dev)
{
        struct wanted w = { .kind = kind, .name = name };
        int r = sfs_mounts_each(mnt, on, compare, &w);

        if (r < 0 || !w.found)
                return r;
        *dev = w.dev;
        return 1;
}

int sfs_mounts_below(const char *mnt, dev_t on, enum strata_kind kind, const char *name, struct strata_buf *where)
{
        cleanup_buf struct strata_buf table = STRATA_BUF_INIT;
        cleanup_free char *place = NULL, *fs = NULL;
        char path[PLACE_MAX], *line;
        int r = read_table(&table);
        size_t at = 0;

        if (r == 0)
                r = find_place(&table, mnt, on, &place);
        if (r < 0 || !place)
                return r;
        if (asprintf(&fs, "%s/%s/%s/fs/", place, strata_kind_folder(kind), name) < 0) {
                fs = NULL;
                return -ENOMEM;
        }
        while ((line = next_line(&table, &at))) {
                if (sscanf(line, "%*d %*d %*s %*s %16384s", path) != 1)
                        continue;
                unescape(path);
                if (strncmp(path, fs, strlen(fs)) != 0)
                        continue;
                strata_buf_add_path(where, path);
                return 1;
        }
        return 0;
}

static void *close_later(void *arg)
{
        close((int)(intptr_t)arg);
        return NULL;
}

void sfs_mounts_let_go(int fd)
{
        pthread_t thread;

        if (fd < 0)
                return;
        if (pthread_create(&thread, NULL, close_later, (void *)(intptr_t)fd) == 0)
                pthread_detach(thread);
        else
                close(fd);
}
