/* query_kit.h - a store in memory to ask: samples in, answers as text. Any failure of the kit itself fails the test. */
#ifndef TESTS_QUERY_KIT_H
#define TESTS_QUERY_KIT_H

#include "kvcore/base/buf.h"
#include "kvcore/os/clock.h"
#include "tsdb/ts.h"

struct kit_clock {
    struct kv_clock base;
    uint64_t mono_ns; /* the test moves it */
};
struct query_kit {
    struct kv_vfs *vfs;
    struct kv_env *env;
    struct ts_db *db;
    struct ts_appender *appender;
    struct kit_clock clock;
    uint64_t query_memory_max; /* of the next opening */
    struct kv_buf text;
    struct ts_query_err err;
    uint64_t samples; /* that the last answer took (ts_result_stats) */
};

void kit_open(struct query_kit *kit);
void kit_close(struct query_kit *kit);
void kit_reopen(struct query_kit *kit, bool flush); /* false: the log is replayed */
/* One sample of a series written as in PromQL: m{a="1", b="2"}. kit_commit makes it visible. */
void kit_add(struct query_kit *kit, const char *series, int64_t time_ms, double value);
/* Values at 0, step, 2 * step, ...: blank-separated, "_" none, "stale" the marker. Commits. */
void kit_load(struct query_kit *kit, const char *series, int64_t step_ms, const char *values);
void kit_commit(struct query_kit *kit);

/* The answer as text, good until the next call: a line a series, {labels} then v@ms for each point; a scalar as v; failures as
 * "error TYPE: text". Warnings and infos follow, each on a line. */
const char *kit_instant(struct query_kit *kit, const char *query, int64_t at_ms);
const char *kit_range(struct query_kit *kit, const char *query, int64_t start_ms, int64_t end_ms,
                      int64_t step_ms);
const char *kit_ask(struct query_kit *kit, const char *query, const struct ts_query_options *options);

#endif
