/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include "inherit.h"
#include "say.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

struct raw {
        struct sfs_options *o;
        char *expire;
        char *durability;
        char *fingerprint;
        char *mountapi;
        char *maxlayer;
        char *keeper;
        char *resume;
        int is_volatile;
        int foreground;
        int debug;
        int help;
        int version;
        bool allow_other;
        bool allow_root;
        bool suid;
        bool suid_dev; /* `suid`, and `dev` after it: see KEY_DEV below */
        bool restricted;
        bool read_only;
        bool auto_unmount;
        bool too_many;
        unsigned attributes;
        const char *not_kept; /* one that overlay mounts do not keep, or NULL */
};

enum {
        KEY_ALLOW_OTHER,
        KEY_ALLOW_ROOT,
        KEY_SUID,
        KEY_DEV,
        KEY_RESTRICT,
        KEY_RO,
        KEY_AUTO_UNMOUNT,
        KEY_SYNC,
        KEY_DIRSYNC,
};

#define RAW(template, field)                                                                                           \
        {                                                                                                              \
                template, offsetof(struct raw, field), 1                                                               \
        }

static const struct fuse_opt specs[] = {
        RAW("expire=%s", expire),
        RAW("durability=%s", durability),
        RAW("fingerprint=%s", fingerprint),
        RAW("mountapi=%s", mountapi),
        RAW("maxlayer=%s", maxlayer),
        RAW("keeper=%s", keeper),
        RAW("volatile", is_volatile),
        RAW("--resume=%s", resume),
        RAW("-f", foreground),
        RAW("-d", debug),
        RAW("-h", help),
        RAW("--help", help),
        RAW("-V", version),
        RAW("--version", version),
        FUSE_OPT_KEY("allow_other", KEY_ALLOW_OTHER),
        FUSE_OPT_KEY("allow_root", KEY_ALLOW_ROOT),
        FUSE_OPT_KEY("suid", KEY_SUID),
        FUSE_OPT_KEY("dev", KEY_DEV),
        FUSE_OPT_KEY("nosuid", KEY_RESTRICT),
        FUSE_OPT_KEY("nodev", KEY_RESTRICT),
        FUSE_OPT_KEY("ro", KEY_RO),
        FUSE_OPT_KEY("-r", KEY_RO),
        FUSE_OPT_KEY("auto_unmount", KEY_AUTO_UNMOUNT),
        FUSE_OPT_KEY("sync", KEY_SYNC),
        FUSE_OPT_KEY("dirsync", KEY_DIRSYNC),
        FUSE_OPT_END,
};

/* Options of mount(8) that are for the mounts at fs/ as well. */
static const struct flag {
        const char *name;
        unsigned set;   /* MOUNT_ATTR_* */
        unsigned clear; /* the same, before */
        bool is_ours;   /* not all versions of libfuse know it, and there are no access times but at fs/ */
} flags[] = {
        { "noexec", MOUNT_ATTR_NOEXEC, 0, false },
        { "exec", 0, MOUNT_ATTR_NOEXEC, false },
        { "noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME, false },
        { "atime", 0, MOUNT_ATTR_NOATIME, false },
        { "strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME, true },
        { "nostrictatime", 0, MOUNT_ATTR_STRICTATIME, true },
        { "relatime", 0, MOUNT_ATTR__ATIME, true },
        { "nodiratime", MOUNT_ATTR_NODIRATIME, 0, true },
        { "diratime", 0, MOUNT_ATTR_NODIRATIME, true },
};

/* As take_argument() returns. */
static int take_flag(struct raw *raw, const char *name)
{
        for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++)
                if (strcmp(flags[i].name, name) == 0) {
                        raw->attributes = (raw->attributes & ~flags[i].clear) | flags[i].set;
                        return !flags[i].is_ours;
                }
        return 1;
}

/* Called for what SPECS don't store: 1 keeps it for libfuse, 0 drops it. */
static int take_argument(void *data, const char *arg, int key, struct fuse_args *outargs)
{
        struct raw *raw = data;
        char **place;

        switch (key) {
        case FUSE_OPT_KEY_NONOPT:
                place = raw->o->store ? &raw->o->mountpoint : &raw->o->store;
                if (*place) {
                        raw->too_many = true;
                        return 0;
                }
                *place = strdup(arg);
                return *place ? 0 : -1;
        case KEY_ALLOW_OTHER:
                raw->allow_other = true;
                return 1;
        case KEY_ALLOW_ROOT:
                raw->allow_root = true;
                return 1;
        case KEY_SUID:
                raw->suid = true;
                return 1;
        case KEY_DEV:
                /* mount.fuse3 adds "dev,suid" to each mount that root makes: in that order it is nobody's wish. */
                raw->suid_dev = raw->suid_dev || raw->suid;
                return 1;
        case KEY_RESTRICT:
                raw->restricted = true;
                return 1;
        case KEY_AUTO_UNMOUNT:
                raw->auto_unmount = true;
                return 1;
        case KEY_RO:
                raw->read_only = true;
                return arg[0] == '-' ? fuse_opt_add_arg(outargs, "-oro") : 1;
        case KEY_SYNC:
        case KEY_DIRSYNC:
                raw->not_kept = key == KEY_SYNC ? "sync" : "dirsync";
                return 1;
        case FUSE_OPT_KEY_OPT:
                return take_flag(raw, arg);
        default:
                return 1;
        }
}

static int mistake(const char *fmt, const char *value)
{
        cleanup_free char *text = NULL;

        if (asprintf(&text, fmt, value) < 0)
                text = NULL;
        sfs_say(stderr, "%s", text ? text : "out of memory");
        return -EINVAL;
}

/* What keeper.c, become_installed() wrote. */
static bool take_resume(struct sfs_options *o, const char *text)
{
        int background;

        if (sscanf(text, "%d:%d:%d:%d", &o->resume_fuse, &o->resume_keep, &o->resume_store, &background) != 4 ||
            o->resume_fuse < 0 || o->resume_keep < 0)
                return false;
        o->resume_background = background;
        return true;
}

static int check(struct raw *raw)
{
        struct sfs_options *o = raw->o;
        unsigned long long n = 60;

        if (o->help || o->version)
                return 0;
        if (raw->too_many)
                return mistake("takes one STORE and one MOUNTPOINT, but there are more arguments; see `stratafs -h`%s",
                               "");
        if (!o->store || !o->mountpoint)
                return mistake("needs a STORE and a MOUNTPOINT as arguments; see `stratafs -h`%s", "");
        if (!o->store[0] || !o->mountpoint[0])
                return mistake("an empty argument is no %s", o->store[0] ? "MOUNTPOINT" : "STORE");
        if (raw->expire && (!strata_io_parse_u64(raw->expire, &n) || n > INT_MAX))
                return mistake("expire=%s is not a number of seconds", raw->expire);
        o->expire = (unsigned)n;
        o->config.durable = !raw->durability || strcmp(raw->durability, "commit") == 0;
        if (!o->config.durable && strcmp(raw->durability, "none") != 0)
                return mistake("durability=%s is neither commit nor none", raw->durability);
        o->config.fingerprint = raw->fingerprint && strcmp(raw->fingerprint, "on") == 0;
        if (raw->fingerprint && !o->config.fingerprint && strcmp(raw->fingerprint, "off") != 0)
                return mistake("fingerprint=%s is neither on nor off", raw->fingerprint);
        o->config.old_mount_api = raw->mountapi && strcmp(raw->mountapi, "old") == 0;
        if (raw->mountapi && !o->config.old_mount_api && strcmp(raw->mountapi, "auto") != 0)
                return mistake("mountapi=%s is neither auto nor old", raw->mountapi);
        if (raw->maxlayer && !strata_io_parse_u64(raw->maxlayer, &o->max_layer))
                return mistake("maxlayer=%s is not a number of bytes", raw->maxlayer);
        if (raw->resume && !take_resume(o, raw->resume))
                return mistake("--resume=%s is for the program itself only", raw->resume);
        o->keeper = !raw->keeper || strcmp(raw->keeper, "on") == 0;
        if (!o->keeper && strcmp(raw->keeper, "off") != 0)
                return mistake("keeper=%s is neither on nor off", raw->keeper);
        if (raw->allow_root)
                return mistake("allow_root would let everybody in: the kernel answers for what it knows without asking "
                               "who may; take allow_other, or leave it out%s",
                               "");
        if (raw->not_kept)
                return mistake("%s can't be had: the overlay mounts at fs/ do not keep to it; leave it out",
                               raw->not_kept);
        o->auto_unmount = raw->auto_unmount;
        if (raw->auto_unmount)
                o->keeper = false; /* fusermount3 then mounts, and is the one that stays */
        /* Without durability nothing is gained by syncing inside, and freezing would sync all. */
        o->config.volatile_mounts = raw->is_volatile || !o->config.durable;
        o->config.restrict_mounts = raw->restricted || (raw->allow_other && !raw->suid_dev);
        o->config.read_only = raw->read_only;
        o->config.attributes = raw->attributes;
        return 0;
}

/* libfuse keeps the "--" if there are options for it, and would take those that are added later for places. */
static void drop_end_of_options(struct fuse_args *args)
{
        char **last = args->argv + args->argc - 1;

        if (args->argc < 2 || strcmp(*last, "--") != 0 || strcmp(last[-1], "-o") == 0)
                return;
        free(*last);
        *last = NULL;
        args->argc--;
}

int sfs_options_parse(int argc, char **argv, struct sfs_options *ret)
{
        struct raw raw = { .o = ret };
        int r;

        *ret = (struct sfs_options){
                .fuse = FUSE_ARGS_INIT(argc, argv), .resume_fuse = -1, .resume_keep = -1, .resume_store = -1
        };
        if (fuse_opt_parse(&ret->fuse, &raw, specs, take_argument) < 0)
                return -EINVAL;
        drop_end_of_options(&ret->fuse);
        ret->foreground = raw.foreground || raw.debug;
        ret->debug = raw.debug;
        ret->help = raw.help;
        ret->version = raw.version;
        r = check(&raw);
        free(raw.expire);
        free(raw.durability);
        free(raw.fingerprint);
        free(raw.mountapi);
        free(raw.maxlayer);
        free(raw.keeper);
        free(raw.resume);
        return r;
}

int sfs_options_keep_args(struct sfs_options *o, int argc, char **argv)
{
        char *places[] = { o->store, o->mountpoint }, **all = calloc((size_t)argc + SFS_ARGS_ROOM, sizeof(*all));
        bool is_value = false, only_places = false;
        int n = 0, place = 0;

        if (!all)
                return -ENOMEM;
        o->args = all + SFS_ARGS_ROOM;
        for (int i = 1; i < argc; i++) {
                bool is_option = !is_value && !only_places && argv[i][0] == '-';

                if (!is_value && !is_option && place < 2)
                        o->args[n++] = places[place++];
                else if (!is_option || strncmp(argv[i], "--resume=", 9) != 0)
                        o->args[n++] = argv[i];
                is_value = is_option && strcmp(argv[i], "-o") == 0;
                only_places = only_places || (is_option && strcmp(argv[i], "--") == 0);
        }
        return 0;
}

int sfs_options_complete(struct sfs_options *o, const char *store)
{
        char *text;
        int r;

        if (asprintf(&text, "-osubtype=stratafs,default_permissions,fsname=%s", store) < 0)
                return -ENOMEM;
        r = fuse_opt_add_arg(&o->fuse, text);
        free(text);
        if (r == 0 && o->debug)
                r = fuse_opt_add_arg(&o->fuse, "-d");
        return r < 0 ? -ENOMEM : 0;
}

void sfs_options_free(struct sfs_options *o)
{
        fuse_opt_free_args(&o->fuse);
        free(o->store);
        free(o->mountpoint);
        if (o->args)
                free(o->args - SFS_ARGS_ROOM);
        sfs_inherit_free(o->inherited);
}

void sfs_options_usage(void)
{
        printf("usage: stratafs STORE MOUNTPOINT [-f] [-d] [-h] [-V] [-o OPTIONS]\n"
               "       stratafs --check STORE [--repair]\n"
               "       stratafs --upgrade MOUNTPOINT\n"
               "\n"
               "    -f                      stay in the foreground\n"
               "    -d                      the same, and print every request\n"
               "    -h, -V                  this text; the version\n"
               "    --check STORE           look through a whole store for damage and leftovers, in use or not\n"
               "    --check STORE --repair  mend what was found, in a store at rest\n"
               "    --upgrade MOUNTPOINT    have a running mount served by the program that is installed now\n"
               "    -o expire=SECONDS       release idle mounts of views and snapshots after this (60; 0: never)\n"
               "    -o durability=WHEN      commit: `mv` to snapshots/ returns when all is on the disk (default);\n"
               "                            none: it does not wait, and a power cut may lose commits\n"
               "    -o fingerprint=on|off   on: a commit keeps fingerprints of its files, for `verify` (off)\n"
               "    -o mountapi=WHICH       auto (default), or old: mount(2) as before Linux 6.8\n"
               "    -o maxlayer=BYTES       refuse imported layers that are larger, unpacked (0: no limit)\n"
               "    -o keeper=on|off        on (default): the mount goes on if the program dies\n"
               "    -o volatile             no fsync inside active snapshots; a commit still makes all durable\n"
               "    -o allow_other          let other users in\n"
               "    -o nosuid, -o nodev     for all mounts at fs/, not only those of committed snapshots\n"
               "    -o noexec               no programs are started from the mounts at fs/\n"
               "    -o noatime, nodiratime, strictatime\n"
               "                            access times at fs/, as mount(8) has them\n"
               "    -o ro                   nothing can be changed\n"
               "    -o auto_unmount         fusermount3(1) unmounts if the program dies; implies keeper=off\n"
               "\n"
               "See stratafs(8) for all of it, and stratafs(5) for what is in the mount.\n");
}
