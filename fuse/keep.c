/* SPDX-License-Identifier: Apache-2.0 */
#include "keep.h"

#include "node.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILLING UINT64_MAX /* an item that somebody is at */

static struct sfs_keep *map(int fd)
{
        void *p = mmap(NULL, sizeof(struct sfs_keep), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);

        return p == MAP_FAILED ? NULL : p;
}

struct sfs_keep *sfs_keep_new(int *ret)
{
        int fd = memfd_create("stratafs-keep", MFD_CLOEXEC);
        struct sfs_keep *k = NULL;

        if (fd < 0)
                return NULL;
        if (ftruncate(fd, sizeof(*k)) == 0)
                k = map(fd);
        if (!k) {
                int error = errno;

                close(fd);
                errno = error;
                return NULL;
        }
        k->version = SFS_KEEP_VERSION;
        k->size = sizeof(*k);
        k->keeper = getpid();
        atomic_init(&k->next_label, SFS_LABEL_BIT + 1);
        *ret = fd;
        return k;
}

struct sfs_keep *sfs_keep_map(int fd)
{
        struct sfs_keep *k;
        struct stat st;

        if (fstat(fd, &st) < 0 || st.st_size != (off_t)sizeof(*k))
                return NULL;
        k = map(fd);
        if (k && (k->version != SFS_KEEP_VERSION || k->size != sizeof(*k) || k->keeper != getpid())) {
                munmap(k, sizeof(*k));
                return NULL;
        }
        return k;
}

void sfs_keep_begin(struct sfs_keep *k)
{
        if (!k)
                return;
        atomic_fetch_add(&k->generation, 1);
        for (unsigned i = 0; i < SFS_KEEP_NOTES; i++)
                if (atomic_load(&k->notes[i].unique) == FILLING)
                        atomic_store(&k->notes[i].unique, 0);
        for (unsigned i = 0; i < SFS_KEEP_TEXTS; i++)
                if (atomic_load(&k->texts[i].fh) == FILLING)
                        atomic_store(&k->texts[i].fh, 0);
}

/* ---- walkers ---- */

/* True while thread TID of process TGID is there, be it that it only waits to be let go. */
static bool exists(pid_t tgid, pid_t tid)
{
        return tgkill(tgid, tid, 0) == 0 || errno == EPERM;
}

/* The place of what this thread is at. Per thread, as the calls that it brackets are deep below the pool. */
static _Thread_local atomic_uint_fast64_t *at;

void sfs_keep_add_walker(struct sfs_keep *k, pid_t tid)
{
        for (unsigned i = 0; k && i < SFS_KEEP_WALKERS; i++) {
                int old = atomic_load(&k->walkers[i].tid);

                if (old > 0 && exists(atomic_load(&k->walkers[i].tgid), old))
                        continue;
                if (atomic_load(&k->walkers[i].at))
                        continue;
                if (old >= 0 && atomic_compare_exchange_strong(&k->walkers[i].tid, &old, -1)) {
                        atomic_store(&k->walkers[i].tgid, getpid());
                        atomic_store(&k->walkers[i].tid, tid);
                        at = &k->walkers[i].at;
                        return;
                }
        }
}

void sfs_keep_at(uint64_t id)
{
        if (at)
                atomic_store(at, id);
}

/* A walker of a dead worker that was at entry ID; NOT_GONE: and that is still there. */
static bool is_dead_at(struct sfs_keep *k, uint64_t id, bool not_gone)
{
        for (unsigned i = 0; k && id && i < SFS_KEEP_WALKERS; i++) {
                pid_t tgid = atomic_load(&k->walkers[i].tgid);

                if (atomic_load(&k->walkers[i].at) == id && tgid != getpid() &&
                    (!not_gone || exists(tgid, atomic_load(&k->walkers[i].tid))))
                        return true;
        }
        return false;
}

bool sfs_keep_dead_was_at(struct sfs_keep *k, uint64_t id)
{
        return is_dead_at(k, id, false);
}

bool sfs_keep_dead_is_at(struct sfs_keep *k, uint64_t id)
{
        return is_dead_at(k, id, true);
}

void sfs_keep_dead_seen(struct sfs_keep *k, uint64_t id)
{
        for (unsigned i = 0; k && i < SFS_KEEP_WALKERS; i++) {
                uint_fast64_t was = atomic_load(&k->walkers[i].at);

                if (was && (was == id || !id) && atomic_load(&k->walkers[i].tgid) != getpid())
                        atomic_store(&k->walkers[i].at, 0);
        }
}

unsigned sfs_keep_dead_walkers(struct sfs_keep *k, pid_t *tids, unsigned max)
{
        unsigned n = 0;

        for (unsigned i = 0; k && i < SFS_KEEP_WALKERS && n < max; i++) {
                pid_t tid = atomic_load(&k->walkers[i].tid), tgid = atomic_load(&k->walkers[i].tgid);

                if (tid < 0)
                        atomic_store(&k->walkers[i].tid, 0); /* killed while it was added: it had not walked yet */
                if (tid > 0 && tgid != getpid() && exists(tgid, tid))
                        tids[n++] = tid;
        }
        return n;
}

/* ---- operations under way ---- */

struct sfs_note *sfs_keep_note(struct sfs_keep *k, enum sfs_note_op op)
{
        for (unsigned i = op == SFS_NOTE_LOOKUP ? SFS_KEEP_NOTES_VERBS : 0; k && i < SFS_KEEP_NOTES; i++) {
                uint_fast64_t free = 0;

                if (!atomic_compare_exchange_strong(&k->notes[i].unique, &free, FILLING))
                        continue;
                k->notes[i].op = op;
                k->notes[i].generation = atomic_load(&k->generation);
                k->notes[i].id = k->notes[i].other = 0;
                k->notes[i].name[0] = k->notes[i].newname[0] = '\0';
                return &k->notes[i];
        }
        return NULL;
}

void sfs_keep_publish(struct sfs_note *n, uint64_t unique)
{
        if (n)
                atomic_store(&n->unique, unique);
}

struct sfs_note *sfs_keep_resumed(struct sfs_keep *k, uint64_t unique)
{
        for (unsigned i = 0; k && i < SFS_KEEP_NOTES; i++) {
                if (atomic_load(&k->notes[i].unique) == unique) {
                        k->notes[i].generation = atomic_load(&k->generation);
                        return &k->notes[i];
                }
        }
        return NULL;
}

void sfs_keep_end(struct sfs_note *n)
{
        if (n)
                atomic_store(&n->unique, 0);
}

/* ---- tickets ---- */

/* One place a pair; of two that share it the later stays. */
static unsigned ticket_place(uint64_t id, pid_t tid)
{
        return (unsigned)((id * 31 + (uint64_t)tid) % SFS_KEEP_TICKETS);
}

void sfs_keep_ticket(struct sfs_keep *k, uint64_t id, pid_t tid)
{
        unsigned i = ticket_place(id, tid);

        if (!k)
                return;
        atomic_store(&k->tickets[i].tid, 0);
        atomic_store(&k->tickets[i].id, id);
        atomic_store(&k->tickets[i].tid, tid);
}

void sfs_keep_ticket_taken(struct sfs_keep *k, uint64_t id, pid_t tid)
{
        unsigned i = ticket_place(id, tid);

        if (k && atomic_load(&k->tickets[i].tid) == tid && atomic_load(&k->tickets[i].id) == id)
                atomic_store(&k->tickets[i].tid, 0);
}

/* ---- known names ---- */

void sfs_keep_known(struct sfs_keep *k, uint64_t id)
{
        if (k)
                atomic_store(&k->known[id % SFS_KEEP_KNOWN], id);
}

void sfs_keep_unknown(struct sfs_keep *k, uint64_t id)
{
        uint_fast64_t it = id;

        if (k)
                (void)atomic_compare_exchange_strong(&k->known[id % SFS_KEEP_KNOWN], &it, 0);
}

bool sfs_keep_is_known(struct sfs_keep *k, uint64_t id)
{
        return k && atomic_load(&k->known[id % SFS_KEEP_KNOWN]) == id;
}

/* ---- labels ---- */

struct sfs_kept_label *sfs_keep_label(struct sfs_keep *k, uint64_t node, uint64_t id, const char *name)
{
        struct sfs_kept_label *l;

        if (!k)
                return NULL;
        l = &k->labels[node % SFS_KEEP_LABELS];
        if (atomic_load(&l->node))
                return NULL;
        l->id = id;
        l->set_at = 0;
        l->removed = false;
        snprintf(l->name, sizeof(l->name), "%s", name);
        atomic_store(&l->node, node);
        return l;
}

void sfs_keep_label_rename(struct sfs_kept_label *l, const char *name)
{
        uint64_t node;

        if (!l)
                return;
        node = atomic_exchange(&l->node, 0);
        snprintf(l->name, sizeof(l->name), "%s", name);
        l->removed = false;
        atomic_store(&l->node, node);
}

struct sfs_kept_text *sfs_keep_text(struct sfs_keep *k, uint64_t node, uint64_t opened_by)
{
        for (unsigned i = 0; k && i < SFS_KEEP_TEXTS; i++) {
                struct sfs_kept_text *t = &k->texts[i];
                uint_fast64_t free = 0;

                if (!atomic_compare_exchange_strong(&t->fh, &free, FILLING))
                        continue;
                t->node = node;
                t->opened_by = opened_by;
                t->created = t->dirty = t->written = false;
                t->flushes = 0;
                t->flushed_by = t->appended_by = t->closed_at = 0;
                t->len = 0;
                return t;
        }
        return NULL;
}

struct sfs_kept_text *sfs_keep_find_text(struct sfs_keep *k, uint64_t fh)
{
        for (unsigned i = 0; k && i < SFS_KEEP_TEXTS; i++)
                if (atomic_load(&k->texts[i].fh) == fh)
                        return &k->texts[i];
        return NULL;
}

void sfs_keep_drop_text(struct sfs_kept_text *t)
{
        if (!t)
                return;
        t->opened_by = 0;
        atomic_store(&t->fh, 0);
}

void sfs_keep_drop_text_of(struct sfs_keep *k, uint64_t unique)
{
        for (unsigned i = 0; k && i < SFS_KEEP_TEXTS; i++)
                if (atomic_load(&k->texts[i].fh) && k->texts[i].opened_by == unique)
                        sfs_keep_drop_text(&k->texts[i]);
}
