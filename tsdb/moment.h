/*
 * moment.h - what a reader reads: the head pinned, then a snapshot of the files. What is flushed in between is in both; what is
 * written or deleted, in either or both.
 *
 * A series may leave the registry in between (leave.h), when its samples were flushed and dropped while the reader's thread stood
 * still: the head would name it, and the snapshot have no labels for it. Then both are taken again.
 */
#ifndef TS_MOMENT_H
#define TS_MOMENT_H

#include "tsdb/head.h"

struct ts_db;

/* The caller gives both back, the snapshot first, also after a failure. KV_BUSY: series left each time it was tried. */
KV_MUST kv_status ts_moment_open(struct ts_db *db, struct ts_head_pin *pin, struct kv_snapshot **snapshot,
                                 struct kv_err *err);
void ts_moment_close(struct ts_head_pin *pin, struct kv_snapshot **snapshot);

#endif
