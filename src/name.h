/* SPDX-License-Identifier: Apache-2.0 */
/* What may be a KEY, a NAME, a label; and how KEY@PARENT comes apart. */
#ifndef STRATA_NAME_H
#define STRATA_NAME_H

#define STRATA_NAME_MAX 255 /* bytes, without the NUL */

/*
 * 0 for 1 to 255 bytes that do not start with '.', and hold no '/', no '@', no byte below 0x20 and no 0x7f. Other
 * bytes are free, UTF-8 or not. Else -EINVAL, or -ENAMETOOLONG past 255 bytes; *WHY (if WHY) says which rule.
 */
int strata_name_check(const char *name, const char **why);

struct strata_name_pair {
        char key[STRATA_NAME_MAX + 1];
        char parent[STRATA_NAME_MAX + 1]; /* empty when there is no '@' */
};

/* Splits and checks KEY or KEY@PARENT. Same errors; "KEY@" is -EINVAL. */
int strata_name_split(const char *text, struct strata_name_pair *ret, const char **why);

#endif
