/* SPDX-License-Identifier: Apache-2.0 */
#include "digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * Data that another processor has written come from far away, and libcrypto asks for them only when it needs them: that
 * takes up to half as long again. So it gets little pieces, and before each what lies AHEAD is asked for.
 */
#define PIECE 1024
#define AHEAD 4096
#define CACHE_LINE 64

struct strata_digest {
        EVP_MD_CTX *ctx;
};

int strata_digest_new(struct strata_digest **ret)
{
        struct strata_digest *d = calloc(1, sizeof(*d));

        if (d)
                d->ctx = EVP_MD_CTX_new();
        if (!d || !d->ctx || EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) != 1) {
                strata_digest_free(d);
                return -ENOMEM;
        }
        *ret = d;
        return 0;
}

void strata_digest_free(struct strata_digest *d)
{
        if (!d)
                return;
        EVP_MD_CTX_free(d->ctx);
        free(d);
}

static void ask_for(const char *p, size_t len)
{
        for (size_t i = 0; i < len; i += CACHE_LINE)
                __builtin_prefetch(p + i);
}

int strata_digest_add(struct strata_digest *d, const void *data, size_t len)
{
        const char *p = data, *end = p + len;

        ask_for(p, len < AHEAD ? len : AHEAD);
        while (p < end) {
                size_t n = (size_t)(end - p) < PIECE ? (size_t)(end - p) : PIECE;

                if ((size_t)(end - p) >= AHEAD + PIECE)
                        ask_for(p + AHEAD, PIECE);
                if (EVP_DigestUpdate(d->ctx, p, n) != 1)
                        return -EIO;
                p += n;
        }
        return 0;
}

int strata_digest_end(struct strata_digest *d, char ret[STRATA_DIGEST_HEX])
{
        unsigned char md[EVP_MAX_MD_SIZE];
        unsigned n = 0;

        if (EVP_DigestFinal_ex(d->ctx, md, &n) != 1 || n != (STRATA_DIGEST_HEX - 1) / 2)
                return -EIO;
        for (unsigned i = 0; i < n; i++)
                snprintf(ret + (size_t)i * 2, 3, "%02x", md[i]);
        return 0;
}
