/*
 * large.h - a value in blocks: written front to back without ever being in memory whole, and read from any place of it,
 * with no more verified than the blocks that are touched. Bytes: kvcore/docs/vlog.md.
 *
 * Each block is a record of the segment, as is the index behind the last one: how long a block is, and how long each
 * is as stored. Where the blocks lie follows, so a pointer has to say only where all of it begins, how long it is, and how
 * much of that is the index.
 *
 * Threads    one at a time for a build, and for an open value.
 * Ownership  a build borrows the segment's; an open value holds its segment.
 * Failure    as segment.h. KV_LIMIT: longer than KV_LARGE_VALUE_MAX. After a failed build only kv_large_build_free.
 */
#ifndef KV_LARGE_H
#define KV_LARGE_H

#include "kvcore/base/limits.h"
#include "kvcore/vlog/segment.h"

enum { KV_LARGE_BLOCK_BYTES = 128 << 10, KV_LARGE_BLOCK_BYTES_MIN = 256 };

struct kv_large_build;
/* block_bytes: KV_LARGE_BLOCK_BYTES_MIN to KV_LARGE_BLOCK_BYTES. */
KV_MUST kv_status kv_large_build_open(struct kv_segment_build *segment, size_t block_bytes,
                                      enum kv_codec codec, struct kv_large_build **out);
KV_MUST kv_status kv_large_build_add(struct kv_large_build *build, kv_slice bytes, struct kv_err *err);
/* At least one byte was added. Says where the value lies; the segment is the caller's to finish. */
KV_MUST kv_status kv_large_build_finish(struct kv_large_build *build, struct kv_pointer *pointer,
                                        struct kv_err *err);
void kv_large_build_free(struct kv_large_build *build); /* NULL is fine */

struct kv_large;
/* Reads the index, which is checked against the pointer. */
KV_MUST kv_status kv_large_open(struct kv_segment *segment, const struct kv_pointer *pointer,
                                struct kv_large **out, struct kv_err *err);
/* The bytes from offset on, all within the value. */
KV_MUST kv_status kv_large_read(struct kv_large *large, uint64_t offset, size_t len, uint8_t *into,
                                struct kv_err *err);
/* Reads every block. */
KV_MUST kv_status kv_large_verify(struct kv_large *large, struct kv_err *err);
void kv_large_close(struct kv_large *large); /* NULL is fine */
/* All of it, as the bytes of a block. KV_LIMIT: it is longer than KV_VALUE_LEN_MAX. */
KV_MUST kv_status kv_large_read_whole(struct kv_segment *segment, const struct kv_pointer *pointer,
                                      struct kv_block **out, struct kv_err *err);

#endif
