/* SPDX-License-Identifier: Apache-2.0 */
#include "name.h"

#include <errno.h>
#include <string.h>

static int name_fail(int error, const char *text, const char **why)
{
        if (why)
                *why = text;
        return error;
}

int strata_name_check(const char *name, const char **why)
{
        size_t len = strlen(name);

        if (len == 0)
                return name_fail(-EINVAL, "a name needs at least one byte", why);
        if (len > STRATA_NAME_MAX)
                return name_fail(-ENAMETOOLONG, "a name has at most 255 bytes; choose a shorter one", why);
        if (name[0] == '.')
                return name_fail(-EINVAL, "a name must not start with '.'; choose another first character", why);
        for (; *name; name++) {
                unsigned char c = (unsigned char)*name;

                if (c == '/' || c == '@')
                        return name_fail(-EINVAL,
                                         "a name must not hold '/' or '@'; only `mkdir KEY@PARENT` has one '@'", why);
                if (c < 0x20 || c == 0x7f)
                        return name_fail(-EINVAL, "a name must not hold control characters; leave them out", why);
        }
        return 0;
}

int strata_name_split(const char *text, struct strata_name_pair *ret, const char **why)
{
        const char *at = strchr(text, '@');
        size_t key_len = at ? (size_t)(at - text) : strlen(text);
        struct strata_name_pair pair;
        int r;

        if (strlen(text) > STRATA_NAME_MAX)
                return name_fail(-ENAMETOOLONG, "KEY, '@' and PARENT together have at most 255 bytes", why);
        memcpy(pair.key, text, key_len);
        pair.key[key_len] = '\0';
        pair.parent[0] = '\0';
        r = strata_name_check(pair.key, why);
        if (r < 0)
                return r;
        if (at) {
                if (at[1] == '\0')
                        return name_fail(-EINVAL, "'@' needs the name of a snapshot behind it", why);
                strcpy(pair.parent, at + 1);
                r = strata_name_check(pair.parent, why);
                if (r < 0)
                        return r;
        }
        *ret = pair;
        return 0;
}
