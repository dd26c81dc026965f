/*
 * pack.h - vectors of up to TS_CHUNK_BLOCK unsigned numbers as a patched frame of reference: the smallest is
 * subtracted, the low `width` bits of each are packed side by side, and the few that need more are patched
 * afterwards.
 *
 *     vector := min:varint width:u8 patches:u8 bits:byte[ceil(n * width / 8)] (index:u8 high:varint)[patches]
 *
 * Bits fill bytes from the low end. n is not stored: the reader knows it. Any thread.
 */
#ifndef TS_PACK_H
#define TS_PACK_H

#include "kvcore/base/buf.h"
#include "tsdb/chunk/chunk.h"

/* n: 0 to TS_CHUNK_BLOCK. */
KV_MUST kv_status ts_pack(const uint64_t *numbers, size_t n, struct kv_buf *out);
/* Takes the vector off the front of *in. KV_CORRUPT unless it is well formed. */
KV_MUST kv_status ts_unpack(kv_slice *in, uint64_t *numbers, size_t n);
/* The same for a vector of small numbers: each less *min, which the caller adds; *most is at least the largest of numbers. KV_END with *in as
 * it was for a vector that is not so (see TS_KERNEL_WIDTH_MAX) or not well formed: ts_unpack reads or refuses it. numbers has room for
 * TS_KERNEL_SLACK more. */
KV_MUST kv_status ts_unpack_small(kv_slice *in, uint32_t *numbers, size_t n, uint64_t *min, uint32_t *most);
/* The bytes ts_pack would append. */
size_t ts_pack_len(const uint64_t *numbers, size_t n);

#endif
