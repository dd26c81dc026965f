/*
 * table_sums.h - checks a table file's bytes as they pass by, front to back: for copies, which must not carry damage on. Every byte lies
 * under a checksum that was compared: header, each block, footer. Nothing is inflated, so it costs a crc.
 *
 * Threads    one at a time.  Ownership  the table outlives it; kv_table_sums_free, NULL is fine.
 *
 * Failure    KV_CORRUPT with file and offset (and a line in the log): stop there. KV_NO_MEMORY.
 */
#ifndef KV_TABLE_SUMS_H
#define KV_TABLE_SUMS_H

#include "kvcore/sst/table.h"

struct kv_table_sums;
/* Reads the index to learn where blocks lie. */
KV_MUST kv_status kv_table_sums_new(struct kv_table *table, struct kv_table_sums **out, struct kv_err *err);
/* The next bytes of the file, in pieces of any size. */
KV_MUST kv_status kv_table_sums_add(struct kv_table_sums *sums, kv_slice bytes, struct kv_err *err);
/* After the last: was the whole file seen? */
KV_MUST kv_status kv_table_sums_end(struct kv_table_sums *sums, struct kv_err *err);
void kv_table_sums_free(struct kv_table_sums *sums);

#endif
