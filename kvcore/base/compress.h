/*
 * compress.h - general-purpose block compression: snappy (its C interface) and zstd (level 1, frames with
 * their content size).
 *
 * The stored numbers of enum kv_codec never change. Sizes are bounded before anything is inflated: the caller
 * knows the exact inflated length and hands exactly that much room.
 * Threads    any; zstd contexts are kept in a small pool.
 * Failure    KV_CORRUPT: the bytes are not what compressed to that length; KV_NO_MEMORY; KV_TOO_NEW: an
 *            unknown codec.
 */
#ifndef KV_COMPRESS_H
#define KV_COMPRESS_H

#include "kvcore/base/buf.h"
#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

enum kv_codec { KV_CODEC_PLAIN = 0, KV_CODEC_SNAPPY = 1, KV_CODEC_ZSTD = 2 };

/* Appends the compressed form of in to *out. Not for KV_CODEC_PLAIN. */
KV_MUST kv_status kv_compress(enum kv_codec codec, kv_slice in, struct kv_buf *out);
/* Fills out[0, len); KV_CORRUPT unless in inflates to exactly len bytes. codec may come from a file. */
KV_MUST kv_status kv_inflate(uint8_t codec, kv_slice in, uint8_t *out, size_t len);

#endif
