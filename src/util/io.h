/* SPDX-License-Identifier: Apache-2.0 */
/* Small whole files below a directory fd: read, write, replace atomically. */
#ifndef STRATA_IO_H
#define STRATA_IO_H

#include "buf.h"

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>

/* Writes all LEN bytes to FD, whatever write(2) makes of it. 0 or -errno. */
int strata_io_write(int fd, const void *data, size_t len);

/*
 * Appends the file NAME below DIRFD to *RET. Symbolic links are not followed.
 * -EFBIG when it holds more than MAX bytes, else 0 or what open(2) and read(2) said.
 */
int strata_io_read_at(int dirfd, const char *name, size_t max, struct strata_buf *ret);

/* Makes or overwrites the file NAME (mode 0600 less nothing: MODE as given); fsyncs it when SYNC. 0 or -errno. */
int strata_io_create_at(int dirfd, const char *name, const void *data, size_t len, unsigned mode, bool sync);

/*
 * Puts a file in place in one step: writes TMP, fsyncs it when SYNC, renames it to NAME.
 * On failure TMP is gone and NAME as before. Fsyncing DIRFD is the caller's.
 */
int strata_io_replace_at(int dirfd, const char *tmp, const char *name, const void *data, size_t len, unsigned mode,
                         bool sync);

/* Opens the directory NAME below DIRFD, "." for that itself, to read its names; links are not followed. 0 or -errno. */
int strata_io_list(int dirfd, const char *name, DIR **ret);

/* The decimal number of S, digits only, in *RET. False if S is anything else or does not fit. */
bool strata_io_parse_u64(const char *s, unsigned long long *ret);

#endif
