/*
 * store_kit.h - what tests of the store share: a store over a vfs and a manual clock, and numbered series. What fails in the kit itself
 * asserts.
 *
 * Series n is {__name__="m<n % 3>", i="<n>", parity="even"|"odd"}.
 */
#ifndef STORE_KIT_H
#define STORE_KIT_H

#include "kvcore/os/vfs.h"
#include "tests/support/clock_manual.h"
#include "tsdb/columns.h"
#include "tsdb/ts.h"

#define KIT_START_MS INT64_C(1700049600000) /* noon, 2023-11-15 UTC */
#define KIT_DAY_MS   INT64_C(86400000)

struct store_kit {
    struct kv_vfs *vfs; /* swapped by whoever simulates crashes */
    struct clock_manual clock;
    struct kv_env *env;
    struct ts_options options;
    struct ts_retention_rule rule; /* for options to point at */
    struct ts_db *db;              /* NULL: closed */
    struct ts_appender *appender;
    struct ts_append_result result; /* of the last commit */
    struct kv_err err;
};

/* Memory files, no threads, the clock at KIT_START_MS. Nothing is open yet. */
void store_kit_init(struct store_kit *kit);
void store_kit_release(struct store_kit *kit); /* closes too */
kv_status store_kit_open(struct store_kit *kit);
kv_status store_kit_close(struct store_kit *kit, bool fast);
/* Power is lost: the store is abandoned (closed on its old files), and what a machine would find is what the next open sees. */
void store_kit_crash(struct store_kit *kit);

kv_status store_kit_add(struct store_kit *kit, int series, int64_t time_ms, double value);
kv_status store_kit_add_many(struct store_kit *kit, int series, const int64_t *times_ms, const double *values,
                             size_t n);
kv_status store_kit_commit(struct store_kit *kit);
/* One sample in a commit of its own; asserts that it was stored. */
void store_kit_put(struct store_kit *kit, int series, int64_t time_ms, double value);
kv_status store_kit_delete(struct store_kit *kit, int series, int64_t from_ms, int64_t to_ms);
/* The samples of a series in [from, to], into *out (emptied first). */
kv_status store_kit_read(struct store_kit *kit, int series, int64_t from_ms, int64_t to_ms,
                         struct ts_columns *out);
/* Like read, as text: "1000=1 2000=2.5 ", times relative to KIT_START_MS. Static buffer; asserts that reading works. */
const char *store_kit_text(struct store_kit *kit, int series, int64_t from_ms, int64_t to_ms);

#endif
