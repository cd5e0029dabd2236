/* SPDX-License-Identifier: Apache-2.0 */
#include "layerlib.h"

#include "layer_import.h"
#include "util/cleanup.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <string.h>

/* POSIX.1-1988, ustar interchange format. */
struct header {
        char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], chksum[8], typeflag, linkname[100], magic[8];
        char uname[32], gname[32], devmajor[8], devminor[8], prefix[155], pad[12];
};

static void add_header(struct layer *l, struct header *h)
{
        unsigned sum = 0;

        memcpy(h->magic, "ustar\00000", 8);
        memset(h->chksum, ' ', sizeof(h->chksum));
        for (size_t i = 0; i < sizeof(*h); i++)
                sum += ((unsigned char *)h)[i];
        snprintf(h->chksum, sizeof(h->chksum), "%06o", sum);
        strata_buf_add(&l->tar, h, sizeof(*h));
}

static void add_data(struct layer *l, const char *data, size_t len)
{
        static const char zero[512];

        strata_buf_add(&l->tar, data, len);
        strata_buf_add(&l->tar, zero, (512 - len % 512) % 512);
}

static struct header make_header(char flag, const char *name, unsigned mode, const char *link, size_t size)
{
        struct header h = { .typeflag = flag };

        memcpy(h.name, name, strnlen(name, sizeof(h.name)));
        if (link)
                memcpy(h.linkname, link, strnlen(link, sizeof(h.linkname)));
        snprintf(h.mode, sizeof(h.mode), "%07o", mode);
        strcpy(h.uid, "0000000");
        strcpy(h.gid, "0000000");
        snprintf(h.size, sizeof(h.size), "%011zo", size);
        strcpy(h.mtime, "07346545000"); /* 1000000000 */
        return h;
}

void layer_add(struct layer *l, char flag, const char *name, unsigned mode, const char *link, const char *data)
{
        size_t len = data ? strlen(data) : 0;
        struct header h = make_header(flag, name, mode, link, len);

        add_header(l, &h);
        add_data(l, data, len);
}

void layer_add_device(struct layer *l, char flag, const char *name, const char *major, const char *minor)
{
        struct header h = make_header(flag, name, 0600, NULL, 0);

        memcpy(h.devmajor, major, strlen(major));
        memcpy(h.devminor, minor, strlen(minor));
        add_header(l, &h);
}

void layer_add_pax(struct layer *l, const char *const *records, unsigned n)
{
        cleanup_buf struct strata_buf body = STRATA_BUF_INIT;
        struct header h;

        for (unsigned i = 0; i < n; i++) {
                size_t rest = strlen(records[i]) + 2, total = rest + 1; /* a space and a newline; the number itself */

                while (total != rest + (size_t)snprintf(NULL, 0, "%zu", total))
                        total = rest + (size_t)snprintf(NULL, 0, "%zu", total);
                strata_buf_addf(&body, "%zu %s\n", total, records[i]);
        }
        h = make_header('x', "pax", 0644, NULL, body.len);
        add_header(l, &h);
        add_data(l, body.data, body.len);
}

void layer_end(struct layer *l)
{
        static const char zero[1024];

        strata_buf_add(&l->tar, zero, sizeof(zero));
        assert_int_equal(strata_buf_status(&l->tar), 0);
}

static la_ssize_t append(struct archive *a, void *data, const void *buf, size_t len)
{
        (void)a;
        strata_buf_add(data, buf, len);
        return (la_ssize_t)len;
}

void layer_compress(const void *data, size_t len, int filter, struct strata_buf *ret)
{
        struct archive *a = archive_write_new();
        struct archive_entry *e = archive_entry_new();

        assert_int_equal(archive_write_add_filter(a, filter), ARCHIVE_OK);
        assert_int_equal(archive_write_set_format_raw(a), ARCHIVE_OK);
        archive_write_set_bytes_in_last_block(a, 1);
        assert_int_equal(archive_write_open(a, ret, NULL, append, NULL), ARCHIVE_OK);
        archive_entry_set_filetype(e, AE_IFREG);
        archive_entry_set_pathname(e, "data");
        assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
        assert_int_equal(archive_write_data(a, data, len), len);
        archive_entry_free(e);
        assert_int_equal(archive_write_close(a), ARCHIVE_OK);
        archive_write_free(a);
}

int layer_import(struct test_store *t, const char *key, const void *data, size_t len, size_t chunk, const char **why)
{
        static char text[8192];
        struct strata_info info = test_info(t, STRATA_ACTIVE, key);
        struct strata_import *m;
        const char *reason;
        int r = strata_import_new(t->s, &info, 0, &m, &reason);

        text[0] = '\0';
        if (r == 0) {
                for (size_t done = 0; r == 0 && done < len; done += chunk)
                        r = strata_import_write(m, (const char *)data + done, len - done < chunk ? len - done : chunk);
                if (r == 0)
                        r = strata_import_finish(m);
                snprintf(text, sizeof(text), "%s", strata_import_why(m));
                strata_import_free(m);
        } else if (reason) {
                snprintf(text, sizeof(text), "%s", reason);
        }
        if (why)
                *why = text;
        return r;
}

uint64_t layer_snapshot(struct test_store *t, const char *name, const char *parent, struct layer *l)
{
        uint64_t id = test_prepare(t, STRATA_ACTIVE, "making", parent);
        const char *why;
        int r;

        layer_end(l);
        r = layer_import(t, "making", l->tar.data, l->tar.len, 100000, &why);
        if (r < 0)
                print_error("import of %s: %s\n", name, why);
        assert_int_equal(r, 0);
        strata_buf_free(&l->tar);
        test_commit(t, "making", name);
        return id;
}
