/*
 * meta.h - type, help and unit of metric families, as senders report them: bounded, the last report wins. All of it
 * is in memory; what changed is stored by ts_meta_save, which the caretaker calls (a commit for each of the hundreds
 * of families of a new sender would cost a sync each, and senders repeat what a crash may take back).
 *
 * Stored as 'f' family -> type help unit (docs/keys.md).
 *
 * Threads    any; one lock, not held over I/O. One load or save at a time.
 */
#ifndef TS_META_H
#define TS_META_H

#include "kvcore/kv.h"

enum { TS_META_FAMILIES_MAX = 65536, TS_META_TEXT_MAX = 4096, TS_META_BYTES_MAX = 32 << 20 };

struct ts_meta;
KV_MUST kv_status ts_meta_new(struct ts_meta **out);
void ts_meta_free(struct ts_meta *meta); /* NULL is fine */
/* Text longer than TS_META_TEXT_MAX is cut. KV_LIMIT: too many families or bytes; nothing changed. */
KV_MUST kv_status ts_meta_set(struct ts_meta *meta, kv_slice family, kv_slice type, kv_slice help,
                              kv_slice unit);
/* Reads what is stored, into an empty one. */
KV_MUST kv_status ts_meta_load(struct ts_meta *meta, struct kv_db *kv, struct kv_err *err);
/* Commits what has changed since the last save, if anything has. After a failure it is tried again by the next. */
KV_MUST kv_status ts_meta_save(struct ts_meta *meta, struct kv_db *kv, struct kv_err *err);
/* As ts_metadata_each. */
KV_MUST kv_status ts_meta_each(struct ts_meta *meta, kv_slice family,
                               kv_status (*each)(void *ctx, kv_slice family, kv_slice type, kv_slice help,
                                                 kv_slice unit),
                               void *ctx);

#endif
