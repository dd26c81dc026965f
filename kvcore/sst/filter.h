/*
 * filter.h - a bloom filter over the user keys of a table, in 64-byte lines: one line of memory a question.
 *
 * Algorithm: blocked Bloom filter (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters,
 * 2007), 10 bits a key, 6 probes: about 1.2 % of absent keys pass. Bytes: kvcore/docs/table.md. The checksum
 * is that of the block it is stored in.
 * Threads    a builder: one; asking: any.
 */
#ifndef KV_FILTER_H
#define KV_FILTER_H

#include "kvcore/base/buf.h"
#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

enum { KV_FILTER_BITS_PER_KEY = 10, KV_FILTER_BYTES_MAX = 64 << 20 };

struct kv_filter_build {
    struct kv_buf hashes; /* 8 bytes a key, in host order */
};
void kv_filter_build_release(struct kv_filter_build *build);
/* The same key twice in a row counts once. KV_LIMIT never: past KV_FILTER_BYTES_MAX the filter just gets
 * denser. */
KV_MUST kv_status kv_filter_build_add(struct kv_filter_build *build, kv_slice key);
/* Appends the filter's bytes to *out. */
KV_MUST kv_status kv_filter_build_finish(struct kv_filter_build *build, struct kv_buf *out);

/* KV_CORRUPT unless bytes have the shape of a filter. */
KV_MUST kv_status kv_filter_check(kv_slice filter);
/* False: key was never added. filter passed kv_filter_check. */
bool kv_filter_may_hold(kv_slice filter, kv_slice key);

#endif
