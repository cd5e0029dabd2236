/* SPDX-License-Identifier: Apache-2.0 */
/* What the program says on a terminal: whatever names are in it, the terminal gets no commands. */
#ifndef SFS_SAY_H
#define SFS_SAY_H

#include <stdarg.h>
#include <stdio.h>

/* One line to TO, with "stratafs: " in front where that is stderr. The line's end is added. */
void sfs_say(FILE *to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Has libfuse say what it says in the same way. */
void sfs_say_for_libfuse(void);

#endif
