/* SPDX-License-Identifier: Apache-2.0 */
/* The record of a layer: what is read of one, written again and read again, is the same. */
#include "record.h"

#include "util/hash.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void try(const struct strata_buf *text)
{
        struct strata_record rec, again;
        struct strata_buf copy = STRATA_BUF_INIT, out = STRATA_BUF_INIT;

        strata_buf_add(&copy, text->data, text->len);
        if (copy.data && strata_record_parse(copy.data, copy.len, &rec) == 0) {
                strata_record_format(&rec, &out);
                if (!out.data || strata_record_parse(out.data, out.len, &again) < 0 || again.id != rec.id ||
                    again.parent != rec.parent || strcmp(again.now.name, rec.now.name) != 0)
                        abort();
        }
        strata_buf_free(&copy);
        strata_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
        struct strata_buf text = STRATA_BUF_INIT;

        strata_buf_add(&text, data, len);
        try(&text);
        /* No fuzzer finds the sum by chance. */
        strata_buf_addf(&text, "xxh3: %016" PRIx64 "\n", (uint64_t)XXH3_64bits(data, len));
        try(&text);
        strata_buf_free(&text);
        return 0;
}
