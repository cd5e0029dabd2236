/* SPDX-License-Identifier: Apache-2.0 */
/* A short text kept in a file with its checksum: what can be computed again, and must not be believed if damaged. */
#ifndef STRATA_SUMFILE_H
#define STRATA_SUMFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STRATA_SUMFILE_MAX 256 /* bytes of the text with a NUL */

/*
 * Puts TEXT, lines with a newline each, and a last line "xxh3: " with the XXH3-64 of them in the file PATH below DIRFD,
 * in one step by way of PATH.new.RUN.N, RUN in hexadecimal digits telling what this process writes from what an earlier
 * one left, N one writer from another. With SYNC its contents are on the disk before it has its name. 0 or -errno.
 */
int strata_sumfile_write(int dirfd, const char *path, uint64_t run, const char *text, size_t len, bool sync);

/* The text, as a string. -ENOENT without a file, -EUCLEAN for a damaged one. */
int strata_sumfile_read(int dirfd, const char *path, char ret[STRATA_SUMFILE_MAX]);

#endif
