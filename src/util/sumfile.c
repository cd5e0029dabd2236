/* SPDX-License-Identifier: Apache-2.0 */
#include "sumfile.h"

#include "buf.h"
#include "hash.h"
#include "io.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define SUM_FORMAT "xxh3: %016" PRIx64 "\n"
#define SUM_LEN (sizeof("xxh3: ") - 1 + 16 + 1)

int strata_sumfile_write(int dirfd, const char *path, uint64_t run, const char *text, size_t len, bool sync)
{
        static atomic_uint counter; /* two threads may write the same file at once */
        char tmp[STRATA_SUMFILE_MAX], all[STRATA_SUMFILE_MAX + SUM_LEN + 1];
        int n;

        if (len >= STRATA_SUMFILE_MAX)
                return -EFBIG;
        n = snprintf(tmp, sizeof(tmp), "%s.new.%" PRIx64 ".%u", path, run, atomic_fetch_add(&counter, 1));
        if (n >= (int)sizeof(tmp))
                return -ENAMETOOLONG;
        n = snprintf(all, sizeof(all), "%.*s" SUM_FORMAT, (int)len, text, (uint64_t)XXH3_64bits(text, len));
        return strata_io_replace_at(dirfd, tmp, path, all, (size_t)n, 0600, sync);
}

int strata_sumfile_read(int dirfd, const char *path, char ret[STRATA_SUMFILE_MAX])
{
        cleanup_buf struct strata_buf buf = STRATA_BUF_INIT;
        char sum[SUM_LEN + 1];
        size_t len;
        int r = strata_io_read_at(dirfd, path, STRATA_SUMFILE_MAX + SUM_LEN, &buf);

        if (r < 0)
                return r == -EFBIG ? -EUCLEAN : r;
        if (buf.len < SUM_LEN || buf.len - SUM_LEN >= STRATA_SUMFILE_MAX || memchr(buf.data, '\0', buf.len))
                return -EUCLEAN;
        len = buf.len - SUM_LEN;
        snprintf(sum, sizeof(sum), SUM_FORMAT, (uint64_t)XXH3_64bits(buf.data, len));
        if (memcmp(buf.data + len, sum, SUM_LEN) != 0)
                return -EUCLEAN;
        memcpy(ret, buf.data, len);
        ret[len] = '\0';
        return 0;
}
