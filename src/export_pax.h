/* SPDX-License-Identifier: Apache-2.0 */
/* Names of xattrs in pax headers as they are, where libarchive would have them encoded. Used by export_entry.c. */
#ifndef STRATA_EXPORT_PAX_H
#define STRATA_EXPORT_PAX_H

#include "util/buf.h"

#include <stdbool.h>

/* True for the name of an xattr that libarchive writes otherwise: with a byte that is not printable ASCII, '%' or '='.
 */
bool strata_export_pax_is_encoded(const char *xattr);

/*
 * What libarchive has written for the header of an entry, HEADER, to RET with the names of xattrs as other programs
 * write and read them. A '=' stays "%3D", as a key of pax ends with the first one. 0, or -EIO for what is no such
 * header; RET's own status is the caller's to look at.
 */
int strata_export_pax_decode(const struct strata_buf *header, struct strata_buf *ret);

#endif
