/* SPDX-License-Identifier: Apache-2.0 */
#include "show.h"

#include "attach.h"
#include "changes.h"
#include "config.h"
#include "layer_export.h"
#include "log.h"
#include "metrics.h"
#include "mount.h"
#include "mount_text.h"
#include "place.h"
#include "trash.h"
#include "tree.h"
#include "usage.h"
#include "util/cleanup.h"
#include "util/timefmt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/utsname.h>

char *sfs_entry_path(const struct sfs *sfs, const struct strata_info *info)
{
        cleanup_free char *place = sfs_place_path(sfs);
        char *path;

        if (!place || asprintf(&path, "%s/%s/%s", place, strata_kind_folder(info->kind), info->name) < 0)
                return NULL;
        return path;
}

char *sfs_fs_path(const struct sfs *sfs, const struct strata_info *info)
{
        cleanup_free char *place = sfs_place_path(sfs);
        char *path;

        if (!place || asprintf(&path, "%s/%s/%s/fs", place, strata_kind_folder(info->kind), info->name) < 0)
                return NULL;
        return path;
}

int sfs_show_tree(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf)
{
        (void)info;
        return strata_tree_text(sfs->store, buf);
}

int sfs_show_graph(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf)
{
        (void)info;
        return strata_tree_graph(sfs->store, buf);
}

int sfs_show_log(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf)
{
        (void)info;
        strata_log_show(sfs->store->log, buf);
        return strata_buf_status(buf);
}

int sfs_show_metrics(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf)
{
        int r;

        (void)info;
        strata_buf_addstr(buf, "# TYPE stratafs_snapshots gauge\n"
                               "# HELP stratafs_snapshots Entries by kind.\n");
        for (int kind = 0; kind < STRATA_KINDS; kind++) {
                uint64_t n;

                r = strata_entry_count(sfs->store, kind, &n);
                if (r < 0)
                        return r;
                strata_buf_addf(buf, "stratafs_snapshots{kind=\"%s\"} %" PRIu64 "\n", strata_kind_word(kind), n);
        }
        strata_metrics_show_gauge(buf, "live_mounts", "Mounts attached to fs/ now.", sfs_attach_count(sfs->attach));
        strata_metrics_show_gauge(buf, "pending_removals", "Removed layers whose space is not free yet.",
                                  strata_trash_pending(sfs->store));
        strata_metrics_show(sfs->store->metrics, buf);
        strata_buf_addstr(buf, "# EOF\n");
        return strata_buf_status(buf);
}

int sfs_show_version(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf)
{
        const struct strata *s = sfs->store;
        struct utsname uts;

        (void)info;
        strata_buf_addf(buf, "program: stratafs %s\nstore-format: 1\n", PACKAGE_VERSION);
        strata_buf_addf(buf, "durability: %s\n",
                        s->config.durable ? "commit" : "none (a commit may be lost in a power cut)");
        strata_buf_addf(buf, "fingerprint: %s\n", s->config.fingerprint ? "on" : "off");
        strata_buf_addf(buf, "volatile: %s\n", s->config.volatile_mounts ? "yes" : "no");
        strata_buf_addf(buf, "kernel: %s\n", uname(&uts) == 0 ? uts.release : "unknown");
        strata_buf_addf(buf, "mount-api: %s\n", s->mount_api->name);
        strata_buf_addf(buf, "user-namespace: %s\n", s->in_userns ? "yes" : "no");
        strata_buf_addf(buf, "libfuse: %s\n", fuse_pkgversion());
        return strata_buf_status(buf);
}

int sfs_show_parent(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf)
{
        struct strata_info parent;
        int r = strata_entry_parent(sfs->store, info, &parent);

        if (r < 0)
                return r;
        strata_buf_addf(buf, "../../snapshots/%s", parent.name);
        return strata_buf_status(buf);
}

static void add_time(struct strata_buf *buf, const char *key, struct timespec t)
{
        char text[STRATA_TIME_MAX];

        strata_buf_addf(buf, "%s: %s\n", key, strata_time_format(t, text));
}

int sfs_show_info(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf)
{
        struct strata_info parent = { 0 };
        struct strata_usage usage;
        char diffid[65];
        uint64_t size;
        int r;

        if (info->parent) {
                r = strata_entry_parent(sfs->store, info, &parent);
                if (r < 0)
                        return r;
        }
        strata_buf_addf(buf, "kind: %s\nname: ", strata_kind_word(info->kind));
        strata_buf_add_value(buf, info->name);
        strata_buf_addstr(buf, "\nparent: ");
        strata_buf_add_value(buf, parent.name);
        strata_buf_addf(buf, "\nid: %" PRIu64 "\ndepth: %u\n", info->id, info->depth);
        add_time(buf, "created", info->created);
        add_time(buf, "updated", info->updated);
        if (info->kind == STRATA_COMMITTED) {
                r = strata_usage_get(sfs->store, info, &usage);
                if (r < 0)
                        return r;
                add_time(buf, "committed", info->committed);
                strata_buf_addf(buf, "size: %" PRIu64 "\ninodes: %" PRIu64 "\n", usage.bytes, usage.inodes);
                if (strata_export_known(sfs->store, info, &size, diffid))
                        strata_buf_addf(buf, "diffid: sha256:%s\n", diffid);
        }
        if (info->kind == STRATA_ACTIVE) {
                r = strata_mount_is_suspect(sfs->store, info->id);
                if (r < 0)
                        return r;
                if (r)
                        strata_buf_addstr(buf, "state: suspect\n");
        }
        return strata_buf_status(buf);
}

int sfs_show_mount(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf)
{
        cleanup_free char *fs = sfs_fs_path(sfs, info);

        if (!fs)
                return -ENOMEM;
        strata_mount_text_bind(info, fs, buf);
        return strata_buf_status(buf);
}

int sfs_show_mount_json(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf)
{
        cleanup_free char *fs = sfs_fs_path(sfs, info);

        return fs ? strata_mount_text_json(info, fs, buf) : -ENOMEM;
}

int sfs_show_overlay(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf)
{
        return strata_mount_text_overlay(sfs->store, info, buf);
}

int sfs_show_usage(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf)
{
        struct strata_usage usage;
        int r = strata_usage_get(sfs->store, info, &usage);

        if (r < 0)
                return r;
        strata_buf_addf(buf, "%" PRIu64 " %" PRIu64 "\n", usage.bytes, usage.inodes);
        return strata_buf_status(buf);
}

static void add_child(struct strata_buf *buf, const struct strata_info *child)
{
        char path[STRATA_NAME_MAX + 16];

        snprintf(path, sizeof(path), "%s/%s", strata_kind_folder(child->kind), child->name);
        strata_buf_add_value(buf, path);
        strata_buf_addstr(buf, "\n");
}

int sfs_show_children(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf)
{
        cleanup_free uint64_t *ids = NULL;
        size_t n;
        int r = strata_entry_children(sfs->store, info->id, &ids, &n);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n && r == 0; i++) {
                struct strata_info child;

                r = strata_entry_info(sfs->store, ids[i], &child);
                if (r == 0)
                        add_child(buf, &child);
                else if (r == -ENOENT)
                        r = 0; /* removed meanwhile */
        }
        return r < 0 ? r : strata_buf_status(buf);
}

int sfs_show_changes(struct sfs *sfs, const struct strata_info *info, struct strata_buf *buf)
{
        return strata_changes_get(sfs->store, info, buf);
}

bool sfs_usage_known(struct sfs *sfs, const struct strata_info *info, uint64_t *size)
{
        struct strata_usage usage;

        (void)size;
        return strata_usage_known(sfs->store, info, &usage);
}

bool sfs_info_known(struct sfs *sfs, const struct strata_info *info, uint64_t *size)
{
        return info->kind != STRATA_COMMITTED || sfs_usage_known(sfs, info, size);
}

bool sfs_changes_known(struct sfs *sfs, const struct strata_info *info, uint64_t *size)
{
        return strata_changes_size(sfs->store, info, size);
}

bool sfs_layer_known(struct sfs *sfs, const struct strata_info *info, uint64_t *size)
{
        char diffid[65];

        return strata_export_known(sfs->store, info, size, diffid);
}
