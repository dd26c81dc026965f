/*
 * meta.h - type, help and unit of metric families, as senders report them. In memory, bounded, the last
 * report wins.
 *
 * Threads    any; one lock. Lost on restart, because senders repeat it.
 */
#ifndef TS_META_H
#define TS_META_H

#include "tsdb/ts.h"

enum { TS_META_FAMILIES_MAX = 65536, TS_META_TEXT_MAX = 4096, TS_META_BYTES_MAX = 32 << 20 };

struct ts_meta;
KV_MUST kv_status ts_meta_new(struct ts_meta **out);
void ts_meta_free(struct ts_meta *meta); /* NULL is fine */
/* Text longer than TS_META_TEXT_MAX is cut. KV_LIMIT: too many families or bytes; nothing changed. */
KV_MUST kv_status ts_meta_set(struct ts_meta *meta, kv_slice family, kv_slice type, kv_slice help,
                              kv_slice unit);
/* As ts_metadata_each. */
KV_MUST kv_status ts_meta_each(struct ts_meta *meta, kv_slice family,
                               kv_status (*each)(void *ctx, kv_slice family, kv_slice type, kv_slice help,
                                                 kv_slice unit),
                               void *ctx);

#endif
