#include "kvcore/base/compress.h"
#include "kvcore/base/assert.h"

#include <snappy-c.h>
#include <stdatomic.h>
#include <zstd.h>

enum { COMPRESS_ZSTD_LEVEL = 1, COMPRESS_POOL = 8 };

/* Idle zstd contexts: one costs 150 KiB and more to make, a block is 4 KiB. Taken and given back by exchange,
 * so no lock. */
static _Atomic(ZSTD_CCtx *) compress_idle[COMPRESS_POOL];
static _Atomic(ZSTD_DCtx *) inflate_idle[COMPRESS_POOL];

static ZSTD_CCtx *compress_context_take(void)
{
    for (int i = 0; i < COMPRESS_POOL; i++) {
        ZSTD_CCtx *context = atomic_exchange(&compress_idle[i], NULL);
        if (context)
            return context;
    }
    return ZSTD_createCCtx();
}

static void compress_context_give(ZSTD_CCtx *context)
{
    for (int i = 0; i < COMPRESS_POOL; i++) {
        ZSTD_CCtx *none = NULL;
        if (atomic_compare_exchange_strong(&compress_idle[i], &none, context))
            return;
    }
    ZSTD_freeCCtx(context);
}

static ZSTD_DCtx *inflate_context_take(void)
{
    for (int i = 0; i < COMPRESS_POOL; i++) {
        ZSTD_DCtx *context = atomic_exchange(&inflate_idle[i], NULL);
        if (context)
            return context;
    }
    return ZSTD_createDCtx();
}

static void inflate_context_give(ZSTD_DCtx *context)
{
    for (int i = 0; i < COMPRESS_POOL; i++) {
        ZSTD_DCtx *none = NULL;
        if (atomic_compare_exchange_strong(&inflate_idle[i], &none, context))
            return;
    }
    ZSTD_freeDCtx(context);
}

static kv_status compress_zstd(kv_slice in, struct kv_buf *out)
{
    size_t bound = ZSTD_compressBound(in.len);
    if (ZSTD_isError(bound))
        return KV_INVALID;
    kv_status rc = kv_buf_reserve(out, bound);
    if (rc < 0)
        return rc;
    ZSTD_CCtx *context = compress_context_take();
    if (!context)
        return KV_NO_MEMORY;
    size_t n = ZSTD_compressCCtx(context, out->data + out->len, bound, in.data, in.len, COMPRESS_ZSTD_LEVEL);
    compress_context_give(context);
    if (ZSTD_isError(n))
        return KV_NO_MEMORY; /* the bound is met, so what is left is its workspace */
    out->len += n;
    return KV_OK;
}

static kv_status compress_snappy(kv_slice in, struct kv_buf *out)
{
    size_t n = snappy_max_compressed_length(in.len);
    kv_status rc = kv_buf_reserve(out, n);
    if (rc < 0)
        return rc;
    /* It fails for want of room alone. */
    KV_ASSERT(snappy_compress((const char *)in.data, in.len, (char *)out->data + out->len, &n) == SNAPPY_OK);
    out->len += n;
    return KV_OK;
}

kv_status kv_compress(enum kv_codec codec, kv_slice in, struct kv_buf *out)
{
    if (codec == KV_CODEC_SNAPPY)
        return compress_snappy(in, out);
    return codec == KV_CODEC_ZSTD ? compress_zstd(in, out) : KV_INVALID;
}

static kv_status inflate_zstd(kv_slice in, uint8_t *out, size_t len)
{
    if (ZSTD_getFrameContentSize(in.data, in.len) != len)
        return KV_CORRUPT;
    ZSTD_DCtx *context = inflate_context_take();
    if (!context)
        return KV_NO_MEMORY;
    size_t n = ZSTD_decompressDCtx(context, out, len, in.data, in.len);
    inflate_context_give(context);
    return n == len ? KV_OK : KV_CORRUPT; /* an error is no length */
}

static kv_status inflate_snappy(kv_slice in, uint8_t *out, size_t len)
{
    size_t n = 0;
    if (snappy_uncompressed_length((const char *)in.data, in.len, &n) != SNAPPY_OK || n != len)
        return KV_CORRUPT;
    return snappy_uncompress((const char *)in.data, in.len, (char *)out, &n) == SNAPPY_OK ? KV_OK
                                                                                          : KV_CORRUPT;
}

kv_status kv_inflate(uint8_t codec, kv_slice in, uint8_t *out, size_t len)
{
    switch (codec) {
    case KV_CODEC_PLAIN:
        if (in.len != len)
            return KV_CORRUPT;
        if (len)
            memcpy(out, in.data, len);
        return KV_OK;
    case KV_CODEC_SNAPPY:
        return inflate_snappy(in, out, len);
    case KV_CODEC_ZSTD:
        return inflate_zstd(in, out, len);
    default:
        return KV_TOO_NEW;
    }
}
