/* SPDX-License-Identifier: Apache-2.0 */
#include "mount_text.h"

#include "chain.h"
#include "strata.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>

static const char *access_option(const struct strata_info *info)
{
        return info->kind == STRATA_ACTIVE ? "rw" : "ro";
}

void strata_mount_text_bind(const struct strata_info *info, const char *fs, struct strata_buf *buf)
{
        strata_buf_addf(buf, "-o rbind,%s ", access_option(info));
        strata_buf_add_value(buf, fs);
        strata_buf_addstr(buf, "\n");
}

/*
 * The text that json-c made, without what a terminal would take for a command, and well-formed whatever bytes a name
 * has: a byte that is no UTF-8 becomes a lone low surrogate, U+DC00 plus the byte, which Python's "surrogateescape"
 * takes back. All such bytes stand in strings, where an escape may be.
 */
static void add_plain_json(struct strata_buf *buf, const char *s)
{
        bool control;

        for (size_t len; *s; s += len) {
                unsigned char first = (unsigned char)*s;

                len = strata_buf_character(s, &control);
                if (len == 1 && first >= 0x80)
                        strata_buf_addf(buf, "\\udc%02x", first);
                else if (control)
                        strata_buf_addf(buf, "\\u%04x", len == 2 ? (unsigned char)s[1] : first);
                else
                        strata_buf_add(buf, s, len);
        }
}

int strata_mount_text_json(const struct strata_info *info, const char *fs, struct strata_buf *buf)
{
        struct json_object *array = json_object_new_array(), *mount = json_object_new_object(),
                           *options = json_object_new_array();
        const char *text;
        int r = -ENOMEM;

        if (!array || !mount || !options)
                goto out;
        if (json_object_array_add(options, json_object_new_string("rbind")) < 0 ||
            json_object_array_add(options, json_object_new_string(access_option(info))) < 0 ||
            json_object_object_add(mount, "type", json_object_new_string("bind")) < 0 ||
            json_object_object_add(mount, "source", json_object_new_string(fs)) < 0 ||
            json_object_object_add(mount, "options", json_object_get(options)) < 0 ||
            json_object_array_add(array, json_object_get(mount)) < 0)
                goto out;
        text = json_object_to_json_string_ext(array, JSON_C_TO_STRING_NOSLASHESCAPE);
        if (!text)
                goto out;
        add_plain_json(buf, text);
        strata_buf_addstr(buf, "\n");
        r = strata_buf_status(buf);
out:
        json_object_put(options);
        json_object_put(mount);
        json_object_put(array);
        return r;
}

int strata_mount_text_overlay(struct strata *s, const struct strata_info *info, struct strata_buf *buf)
{
        cleanup_chain struct strata_chain chain = { 0 };
        int r = strata_chain_get(s, info, &chain);

        if (r < 0)
                return r;
        strata_buf_addstr(buf, "lowerdir=");
        for (size_t i = 0; i < chain.n; i++)
                strata_buf_addf(buf, "%s%s/layers/%" PRIu64 "/fs", i ? ":" : "", s->path, chain.lowers[i]);
        if (chain.n == 0 || (chain.n == 1 && !chain.upper))
                strata_buf_addf(buf, "%s%s/empty", chain.n ? ":" : "", s->path);
        if (chain.upper)
                strata_buf_addf(buf, ",upperdir=%s/layers/%" PRIu64 "/fs,workdir=%s/layers/%" PRIu64 "/work", s->path,
                                chain.upper, s->path, chain.upper);
        strata_buf_addstr(buf, "\n");
        return strata_buf_status(buf);
}
