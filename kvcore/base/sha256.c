#include "kvcore/base/sha256.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"

#include <openssl/evp.h>

struct kv_sha256 {
    EVP_MD_CTX *ctx;
};

kv_status kv_sha256_new(struct kv_sha256 **out)
{
    struct kv_sha256 *sum = kv_alloc(sizeof *sum);
    if (!sum)
        return KV_NO_MEMORY;
    sum->ctx = EVP_MD_CTX_new();
    if (!sum->ctx || EVP_DigestInit_ex(sum->ctx, EVP_sha256(), NULL) != 1) {
        kv_sha256_free(sum);
        return KV_NO_MEMORY;
    }
    *out = sum;
    return KV_OK;
}

/* Once a context is set up, OpenSSL's digest of memory has no way to fail. */
void kv_sha256_add(struct kv_sha256 *sum, kv_slice bytes)
{
    int ok = bytes.len ? EVP_DigestUpdate(sum->ctx, bytes.data, bytes.len) : 1;
    KV_ASSERT(ok == 1);
}

void kv_sha256_take(struct kv_sha256 *sum, uint8_t out[KV_SHA256_LEN])
{
    unsigned len = 0;
    int ok = EVP_DigestFinal_ex(sum->ctx, out, &len);
    KV_ASSERT(ok == 1);
    KV_ASSERT(len == KV_SHA256_LEN);
    ok = EVP_DigestInit_ex(sum->ctx, NULL, NULL); /* the same digest again: nothing is allocated */
    KV_ASSERT(ok == 1);
}

void kv_sha256_free(struct kv_sha256 *sum)
{
    if (!sum)
        return;
    EVP_MD_CTX_free(sum->ctx);
    kv_free(sum);
}
