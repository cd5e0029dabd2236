/* SPDX-License-Identifier: Apache-2.0 */
#include "exportlib.h"

#include "layer_export.h"
#include "util/cleanup.h"

#include <archive.h>
#include <archive_entry.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct strata_buf export_layer(struct test_store *t, enum strata_kind kind, const char *name, size_t len)
{
        struct strata_info info = test_info(t, kind, name);
        struct strata_buf buf = STRATA_BUF_INIT;
        cleanup_free char *piece = malloc(len);
        struct strata_export *x;
        ssize_t n;

        assert_non_null(piece);
        assert_int_equal(strata_export_new(t->s, &info, &x), 0);
        while ((n = strata_export_read(x, piece, len)) > 0)
                strata_buf_add(&buf, piece, (size_t)n);
        assert_int_equal(n, 0);
        assert_int_equal(strata_export_read(x, piece, len), 0);
        strata_export_free(x);
        assert_int_equal(strata_buf_status(&buf), 0);
        assert_int_equal(buf.len % 512, 0);
        return buf;
}

struct archive *export_open(const struct strata_buf *buf)
{
        struct archive *a = archive_read_new();

        assert_int_equal(archive_read_support_format_tar(a), ARCHIVE_OK);
        assert_int_equal(archive_read_open_memory(a, buf->data, buf->len), ARCHIVE_OK);
        return a;
}

struct archive *export_find(const struct strata_buf *buf, const char *path, struct archive_entry **ret)
{
        struct archive *a = export_open(buf);

        while (archive_read_next_header(a, ret) == ARCHIVE_OK)
                if (strcmp(archive_entry_pathname(*ret), path) == 0)
                        return a;
        fail_msg("no %s in the archive", path);
        return NULL;
}

const char *export_own(struct test_store *t, uint64_t id, const char *name)
{
        return test_path(t, "layers/%" PRIu64 "/fs/%s", id, name);
}
