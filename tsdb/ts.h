/*
 * ts.h - tsdb: labelled samples over kvcore. This is its whole public face; libtidemark exports it beside
 * kv.h.
 *
 * Times are int64 unix milliseconds; values are doubles, kept to the bit (NaN payloads too). A series is a
 * set of labels, sorted by name, among them "__name__". The stale marker is the NaN with bits TS_STALE_NAN.
 *
 * Durability ts_commit answers KV_OK only once every sample it did not reject is covered by a later fdatasync
 *            that returned 0.
 * Threads    every function may be called by any thread unless it says otherwise; an appender or result
 *            belongs to one at a time.
 * Errors     negative statuses; err may be NULL.
 */
#ifndef TS_H
#define TS_H

#include "kvcore/kv.h"

#define TS_API       KV_API
#define TS_STALE_NAN UINT64_C(0x7ff0000000000002)

enum {
    TS_LABEL_NAME_LEN_MAX_DEFAULT = 1024,
    TS_LABEL_VALUE_LEN_MAX_DEFAULT = 4096,
    TS_LABELS_MAX_DEFAULT = 64, /* a series, __name__ included */
    TS_REJECTS_KEPT = 10,       /* details kept of one commit's rejected samples */
};
#define TS_TIME_MIN                                                                                          \
    (-((int64_t)1 << 46)) /* the oldest time accepted (about -260 BC); retention usually decides earlier */

struct ts_db;
struct ts_appender;
struct ts_result;

/* Borrowed. Names and values are UTF-8 without NUL. */
struct ts_label {
    kv_slice name, value;
};

/* ---- database */

/* How long the series that a selector matches are kept. */
struct ts_retention_rule {
    kv_slice selector; /* PromQL, e.g. "{job=\"x\"}" */
    int64_t keep_ms;   /* above 0; INT64_MAX: for ever */
};

/* All zero is the default. */
struct ts_options {
    int64_t retention_ms; /* of series that no rule matches. 0: 30 days; INT64_MAX: for ever */
    /* The first that matches a series decides; at most 63, copied by ts_open. Nothing of them is stored: other
     * rules at the next open hold for old data too, as far as it is still there. */
    const struct ts_retention_rule *retention_rules;
    size_t n_retention_rules;
    uint64_t
        retention_bytes; /* the oldest days are dropped while the files take more than this. 0: no limit */
    enum kv_durability durability;
    uint32_t sync_interval_ms;
    int64_t future_ms; /* samples newer than this past the newer of wall and retention clock are rejected. 0:
                          1 h */
    uint64_t series_max;        /* live series. 0: 20 million */
    uint64_t metric_series_max; /* series of one metric name. 0: no bound of its own */
    uint32_t series_per_s_max;  /* new series a second, by the monotonic clock; ten seconds' worth may come at
                                     once. 0: no bound */
    uint64_t request_samples_max; /* samples of one appender's commit. 0: what 64 MiB hold */
    uint32_t labels_max;          /* 0: TS_LABELS_MAX_DEFAULT; likewise the two below */
    uint32_t label_name_len_max;
    uint32_t label_value_len_max;
    uint32_t exemplars_max; /* kept of the whole store, in memory too (about 200 bytes each). 0: 100,000 */
    bool exemplars_off;     /* none are taken; those that are stored stay as they are */
    uint64_t
        head_bytes_max; /* memory of samples not yet in tables; reaching it flushes early. 0: 256 MiB, or 320 bytes
                                for each active series if that is more, so that a flush is worth its work */
    uint64_t
        head_log_bytes_max; /* a head generation is flushed past this much log. 0: 256 MiB, or 112 bytes for each
                                    of its series */
    uint64_t series_cache_bytes; /* 0: 512 MiB, which is 13 million series */
    /* Memory of one query, listing (ts_series, ts_label_names, ...), export or ts_chunks while it finds its series: past it
     * KV_LIMIT. A query's own memory_max goes before it. 0: 512 MiB */
    uint64_t query_memory_max;
    bool read_only;
    bool must_exist;
    bool
        replay_in_background; /* accept writes while older generations are read back; queries wait for them */
    uint64_t memtable_bytes;  /* as kv_options */
};
/* Opens or creates the store in the directory path (which is the kvcore database). */
TS_API KV_MUST kv_status ts_open(struct kv_env *env, const char *path, const struct ts_options *options,
                                 struct ts_db **out, struct kv_err *err);
/* Flushes the head to tables, then closes. The store is closed whatever is answered. Appenders and results
 * must be gone. */
TS_API kv_status ts_close(struct ts_db *db, struct kv_err *err);
/* As ts_close without the flush: the next open replays the log. For tests and emergencies. */
TS_API kv_status ts_close_fast(struct ts_db *db, struct kv_err *err);
/* The kvcore database underneath, for metrics and health only. */
TS_API struct kv_db *ts_kv(struct ts_db *db);

/* ---- writing */

/* Collects labels of one series. Names need not be sorted; empty values are dropped. Returns KV_OK, or
 * KV_INVALID / KV_LIMIT with the reason kept for the row. */
struct ts_label_sink {
    kv_status (*add)(struct ts_label_sink *sink, kv_slice name, kv_slice value);
};

/* What a sample is an example of: a trace's id beside a latency, say. Names and values of its labels have at most 128
 * characters together. */
struct ts_exemplar {
    int64_t time_ms;
    double value;
    const struct ts_label *labels;
    size_t n_labels;
};

/*
 * One series with its samples, as a protocol carries it. All pointers are borrowed for the call.
 *
 * identity: the raw bytes which, under this protocol, determine the label set: two rows of one protocol with
 * equal identity bytes have equal labels. One or two pieces (line protocol: "measurement,tags" and the field
 * key); a first piece with the same data pointer and length as the row before it is hashed once. Known series
 * are found by a keyed hash of it, without parsing. labels:   called only when the series is not in the
 * cache; hands the labels to the sink.
 */
struct ts_row {
    uint32_t protocol; /* enum ts_protocol */
    uint32_t position; /* line number or series index, for messages: counted from 1 */
    kv_slice identity[2];
    kv_status (*labels)(void *ctx, const struct ts_row *row, struct ts_label_sink *sink);
    void *labels_ctx;
    const int64_t *times_ms;
    const double *values;
    size_t n;
    /* Exemplars never cost a sample: one that will not do (see ts_query_exemplars) is dropped and counted. A row of
     * exemplars alone (n 0) needs a series that is there. */
    const struct ts_exemplar *exemplars;
    size_t n_exemplars;
};
enum ts_protocol {
    TS_PROTOCOL_LABELS = 1,
    TS_PROTOCOL_PROM_WRITE = 2,
    TS_PROTOCOL_INFLUX = 3,
    TS_PROTOCOL_JSON_LINES = 4,
    TS_PROTOCOL_PROM_TEXT = 5
};

/* Why samples were refused. One list makes codes, metric label values and texts. Texts that go with them say
 * what was over which limit, and name the option that raises it as "ts_options.FIELD", so that a program can
 * put its own name for the setting there. */
#define TS_REJECT_LIST(X)                                                                                    \
    X(TS_REJECT_NONE, "none")                                                                                \
    X(TS_REJECT_LABEL_MISSING_NAME, "missing_name")                                                          \
    X(TS_REJECT_LABEL_INVALID, "invalid_label")                                                              \
    X(TS_REJECT_LABEL_DUPLICATE, "duplicate_label")                                                          \
    X(TS_REJECT_LABEL_LIMIT, "label_limit")                                                                  \
    X(TS_REJECT_SERIES_LIMIT, "series_limit")                                                                \
    X(TS_REJECT_METRIC_LIMIT, "metric_series_limit")                                                         \
    X(TS_REJECT_SERIES_RATE, "new_series_rate")                                                              \
    X(TS_REJECT_REQUEST_LIMIT, "request_limit")                                                              \
    X(TS_REJECT_TOO_OLD, "too_old")                                                                          \
    X(TS_REJECT_TOO_NEW, "too_new")                                                                          \
    X(TS_REJECT_UNSUPPORTED, "unsupported")                                                                  \
    X(TS_REJECT_MALFORMED, "malformed")
enum ts_reject_reason {
#define X(name, text) name,
    TS_REJECT_LIST(X)
#undef X
        TS_REJECT_REASONS
};
TS_API const char *ts_reject_name(enum ts_reject_reason reason);

struct ts_reject {
    uint32_t position; /* of the row */
    enum ts_reject_reason reason;
    uint64_t samples;
    char text[240]; /* what, where, which limit */
};
struct ts_append_result {
    uint64_t accepted, rejected; /* samples */
    uint64_t series_created;
    uint64_t seq; /* version of the commit; 0 if nothing was stored */
    uint32_t
        retry_in_ms;  /* above 0: nothing was stored, all of it only for TS_REJECT_SERIES_RATE, and so long
                             from now it could be tried again */
    size_t n_rejects; /* details kept, at most TS_REJECTS_KEPT, in row order */
    struct ts_reject rejects[TS_REJECTS_KEPT];
};

/* An appender collects one request and commits it atomically; reuse it, its buffers stay warm. */
TS_API KV_MUST kv_status ts_appender_new(struct ts_db *db, struct ts_appender **out);
TS_API void ts_appender_free(struct ts_appender *appender); /* NULL is fine */
/* Adds a row. Per-row faults are counted in the result, not returned; negative means the whole request cannot
 * go on (KV_NO_MEMORY, KV_LIMIT: it grew past request_samples_max or 64 MiB, KV_READ_ONLY, KV_IO,
 * KV_CORRUPT). */
TS_API KV_MUST kv_status ts_append_row(struct ts_appender *appender, const struct ts_row *row,
                                       struct kv_err *err);
/* For what a decoder refused by itself before a row existed, so that one result holds all. */
TS_API void ts_append_reject(struct ts_appender *appender, uint32_t position, enum ts_reject_reason reason,
                             uint64_t samples, const char *text);
/* Convenience for programs: one sample of one labelled series. */
TS_API KV_MUST kv_status ts_append(struct ts_appender *appender, const struct ts_label *labels,
                                   size_t n_labels, int64_t time_ms, double value, struct kv_err *err);
/* Commits everything added and empties the appender; *result is filled on KV_OK. An appender without accepted
 * samples commits nothing. On failure nothing was stored, except KV_UNKNOWN_OUTCOME. */
TS_API KV_MUST kv_status ts_commit(struct ts_appender *appender, struct ts_append_result *result,
                                   struct kv_err *err);
TS_API void ts_append_abort(struct ts_appender *appender); /* empties the appender */

/* Deletes the samples of every series that a selector matches with from_ms <= t <= to_ms: what was written
 * before this call, nothing after. selectors: PromQL, e.g. "up{job=\"x\"}". Durable on KV_OK. KV_INVALID: a
 * selector does not parse (err), or matches a series without labels, as {} does: {__name__=~".+"} is everything. */
TS_API KV_MUST kv_status ts_delete(struct ts_db *db, const kv_slice *selectors, size_t n, int64_t from_ms,
                                   int64_t to_ms, struct kv_err *err);

/* Type, help and unit of a metric family as senders report them; bounded, last one wins. type: "counter", "gauge", ... What
 * changed is stored by the next round of care (a second; see ts_maintain), flush or close: not an answered write. */
TS_API KV_MUST kv_status ts_metadata_set(struct ts_db *db, kv_slice family, kv_slice type, kv_slice help,
                                         kv_slice unit);
/* each returning negative stops. family empty: all, by name. */
TS_API KV_MUST kv_status ts_metadata_each(struct ts_db *db, kv_slice family,
                                          kv_status (*each)(void *ctx, kv_slice family, kv_slice type,
                                                            kv_slice help, kv_slice unit),
                                          void *ctx);

/* ---- asking */

enum ts_query_errtype {
    TS_QUERY_BAD_DATA = 1,
    TS_QUERY_EXECUTION,
    TS_QUERY_TIMEOUT,
    TS_QUERY_CANCELED,
    TS_QUERY_INTERNAL
};
struct ts_query_err {
    enum ts_query_errtype type;
    kv_status code;
    char text[4096]; /* as Prometheus words it, e.g. "1:5: parse error: unexpected end of input" */
};
/* PromQL features off by default (they change answers of plain queries); bits. */
enum { TS_PROMQL_DELAYED_NAME_REMOVAL = 1, TS_PROMQL_EXPERIMENTAL_FUNCTIONS = 2, TS_PROMQL_ALL = ~0 };

/* All zero but times is the default. */
struct ts_query_options {
    bool range; /* false: instant, at end_ms */
    int64_t start_ms, end_ms, step_ms;
    int64_t lookback_ms;       /* 0: 5 min */
    int64_t timeout_ms;        /* 0: 2 min */
    uint64_t samples_max;      /* 0: 50 million */
    uint64_t memory_max;       /* bytes. 0: ts_options.query_memory_max */
    uint32_t points_max;       /* steps of a range query. 0: 11000 */
    uint32_t subquery_step_ms; /* default step of [range:]. 0: 60000 */
    uint32_t features;
    bool (*canceled)(void *ctx); /* asked now and then; true stops the query. NULL: never */
    void *canceled_ctx;
};
enum ts_result_type { TS_RESULT_SCALAR = 1, TS_RESULT_STRING, TS_RESULT_VECTOR, TS_RESULT_MATRIX };
struct ts_series_points {
    const struct ts_label *labels; /* sorted by name */
    size_t n_labels;
    const int64_t *times_ms;
    const double *values;
    size_t n; /* vector, scalar: 1 */
};
/* Evaluates expr. KV_OK: *out is the caller's, freed by ts_result_free; it borrows nothing from the database.
 */
TS_API KV_MUST kv_status ts_query(struct ts_db *db, kv_slice expr, const struct ts_query_options *options,
                                  struct ts_result **out, struct ts_query_err *err);
TS_API void ts_result_free(struct ts_result *result); /* NULL is fine */
TS_API enum ts_result_type ts_result_type(const struct ts_result *result);
/* Series, in the order in which Prometheus answers them. A scalar is one series without labels. */
TS_API size_t ts_result_count(const struct ts_result *result);
TS_API void ts_result_series(const struct ts_result *result, size_t i, struct ts_series_points *out);
TS_API kv_slice ts_result_string(const struct ts_result *result, int64_t *time_ms);
TS_API size_t ts_result_warnings(const struct ts_result *result);
TS_API kv_slice ts_result_warning(const struct ts_result *result, size_t i);
TS_API size_t ts_result_infos(const struct ts_result *result);
TS_API kv_slice ts_result_info(const struct ts_result *result, size_t i);
struct ts_result_stats {
    uint64_t samples, peak_bytes, series;
    double seconds;
};
TS_API void ts_result_stats(const struct ts_result *result, struct ts_result_stats *out);
/* Parses and prints expr in Prometheus's canonical form into *out (appended). */
TS_API KV_MUST kv_status ts_format(kv_slice expr, struct kv_buf *out, struct ts_query_err *err);

/* Series with data in [from_ms, to_ms] that any of the selectors matches (n 0: all), each once, sorted by
 * labels; at most limit (0: all). *truncated (may be NULL). labels are borrowed for the call; a negative
 * answer of each stops. */
TS_API KV_MUST kv_status ts_series(struct ts_db *db, const kv_slice *selectors, size_t n, int64_t from_ms,
                                   int64_t to_ms, size_t limit, bool *truncated,
                                   kv_status (*each)(void *ctx, const struct ts_label *labels,
                                                     size_t n_labels),
                                   void *ctx, struct ts_query_err *err);
/* Label names; sorted. */
TS_API KV_MUST kv_status ts_label_names(struct ts_db *db, const kv_slice *selectors, size_t n,
                                        int64_t from_ms, int64_t to_ms, size_t limit, bool *truncated,
                                        kv_status (*each)(void *ctx, kv_slice name), void *ctx,
                                        struct ts_query_err *err);
/* Values of one label; sorted. */
TS_API KV_MUST kv_status ts_label_values(struct ts_db *db, kv_slice name, const kv_slice *selectors, size_t n,
                                         int64_t from_ms, int64_t to_ms, size_t limit, bool *truncated,
                                         kv_status (*each)(void *ctx, kv_slice value), void *ctx,
                                         struct ts_query_err *err);

/* ---- exemplars */

/* The exemplars in [from_ms, to_ms] of every series that a selector anywhere in expr matches, series by series, sorted by
 * labels, each series' oldest first. Kept are the newest of the store (exemplars_max). One that is not newer than
 * its series' newest (by time, then value, then labels) is dropped when it is appended. All is borrowed for the call; a
 * negative answer of each stops. */
TS_API KV_MUST kv_status ts_query_exemplars(struct ts_db *db, kv_slice expr, int64_t from_ms, int64_t to_ms,
                                            kv_status (*each)(void *ctx, const struct ts_label *labels,
                                                              size_t n_labels,
                                                              const struct ts_exemplar *exemplars, size_t n),
                                            void *ctx, struct ts_query_err *err);

/* ---- cardinality: how many series there are, of what, and which are new */

enum { TS_CARDINALITY_TOP_MAX = 10000, TS_GROWTH_DAYS_MAX = 92 };

/* All zero: every series in the index. Days are UTC. */
struct ts_cardinality_options {
    const kv_slice *selectors; /* only series that any of them matches; n_selectors 0: all */
    size_t n_selectors;
    bool ranged; /* only series with samples on the days that [from_ms, to_ms] touches */
    int64_t from_ms, to_ms;
    bool growth;  /* also the new series of each of those days (at most TS_GROWTH_DAYS_MAX); needs ranged */
    uint32_t top; /* entries of each list, at most TS_CARDINALITY_TOP_MAX. 0: 10 */
    int64_t timeout_ms;          /* 0: 2 min */
    uint64_t memory_max;         /* bytes. 0: ts_options.query_memory_max */
    bool (*canceled)(void *ctx); /* asked now and then; true stops. NULL: never */
    void *canceled_ctx;
};
struct ts_count {
    kv_slice name, value; /* a metric or label; value: where pairs are counted. Cut at 1500 bytes */
    uint64_t count;
    const uint64_t *by_day; /* of n_days days, in lists of new series; else NULL */
};
/* The largest, largest first; equal ones by name and value. */
struct ts_count_list {
    struct ts_count *at;
    size_t n;
};
struct ts_cardinality {
    uint64_t series, label_pairs; /* pairs: distinct (name, value), __name__ included */
    struct ts_count_list series_by_metric;
    struct ts_count_list values_by_label; /* distinct values */
    struct ts_count_list bytes_by_label;  /* of values, each counted once a series */
    struct ts_count_list series_by_pair;
    /* Growth. A series is new on the first day, of all that are stored, on which it has samples. */
    int64_t first_day_ms;
    size_t n_days;
    uint64_t *new_by_day;
    struct ts_count_list new_by_metric, new_by_pair;
};
/*
 * Counted from the index when asked, never while samples are written. All series: one walk over every posting (about a
 * second a million series, bounded memory); few selected ones: their labels alone are read. KV_OK: *out is the
 * caller's, freed by ts_cardinality_free; it borrows nothing.
 */
TS_API KV_MUST kv_status ts_cardinality(struct ts_db *db, const struct ts_cardinality_options *options,
                                        struct ts_cardinality **out, struct ts_query_err *err);
TS_API void ts_cardinality_free(struct ts_cardinality *cardinality); /* NULL is fine */

/* ---- care */

/* Head to tables; answers when durable. settle: also merges every window as if it were finished. */
TS_API KV_MUST kv_status ts_flush(struct ts_db *db, bool settle, struct kv_err *err);
/* One round of what the maintenance thread does: flush what is due, merge finished windows, drop expired
 * ones. With KV_THREADS_NONE the caller calls it. */
TS_API KV_MUST kv_status ts_maintain(struct ts_db *db, struct kv_err *err);
/* Hard-linked copy in the new sibling directory path; the head is flushed first unless skip_head. */
TS_API KV_MUST kv_status ts_snapshot(struct ts_db *db, const char *path, bool skip_head, struct kv_err *err);
/* KV_OK once old log generations are read back; KV_BUSY with progress (0 to 1) before. */
TS_API kv_status ts_ready(struct ts_db *db, double *progress);
struct ts_stats {
    uint64_t series, series_created, head_samples, head_bytes, head_series, samples_appended,
        samples_rejected[TS_REJECT_REASONS];
    uint64_t chunks, disk_bytes, flushes, merges, queries, cache_bytes, cache_series;
    /* Of the samples in the head and in the days stored, deleted ones included; min > max when there are none */
    int64_t time_min_ms, time_max_ms;
    uint64_t windows_expired, windows_cut, bytes_dropped; /* days dropped whole: by age, by size; of both */
    uint64_t exemplars, exemplars_appended, exemplars_dropped; /* kept now; by this process */
    uint64_t series_left; /* the registry, since nothing refers to them */
};
TS_API void ts_stats(struct ts_db *db, struct ts_stats *out);
/* ---- what retention would remove */

struct ts_retention_preview {
    int64_t start_ms, end_ms; /* a UTC day, end not included */
    const char *rule;         /* "rule {job=\"x\"}", "retention" for the default; borrowed for the call */
    int64_t floor_ms;         /* the oldest time it keeps */
    uint64_t series;          /* that would lose samples of this day */
    uint64_t samples, bytes; /* how many, and of chunks; where a chunk would go in part, its bytes by share */
};
/* Calls each, day by day, for every rule that would take something of the day now. rules NULL: the store's own, of
 * which hidden samples may still be in tables; else these, and keep_ms (0: the store's) for all others. Counted is
 * what is in tables (not in the head), deleted samples included until their merge. Reads the chunks of the days
 * concerned; a negative answer of each stops. */
TS_API KV_MUST kv_status ts_retention_dry_run(
    struct ts_db *db, int64_t keep_ms, const struct ts_retention_rule *rules, size_t n,
    kv_status (*each)(void *ctx, const struct ts_retention_preview *row), void *ctx, struct kv_err *err);

/* Whether ts_open would take these rules: KV_INVALID or KV_LIMIT with the text it would fail with. */
TS_API KV_MUST kv_status ts_retention_check(const struct ts_retention_rule *rules, size_t n,
                                            struct kv_err *err);

/* Structural check of a closed store: kv_check, then every chunk, key and reference. */
TS_API KV_MUST kv_status ts_check(struct kv_env *env, const char *path,
                                  void (*each)(void *ctx, kv_status severity, const char *line), void *ctx,
                                  struct kv_err *err);

/* ---- everything, as it is stored: tsdb/docs/export.md */

struct ts_walk_options {
    const kv_slice
        *selectors; /* PromQL, e.g. up{job="x"}; a series that several match comes once. n 0: every series */
    size_t n_selectors;
    int64_t from_ms, to_ms;      /* both inclusive; what retention hides does not come */
    bool (*canceled)(void *ctx); /* asked now and then; true ends it with KV_CANCELED. NULL: never */
    void *canceled_ctx;
};
/*
 * The samples of series: late ones in their place, overwritten and deleted ones gone, stale markers like any other. Everything answered before
 * the open is there; what is committed or deleted meanwhile may be seen or not. They come series by series in the order of their refs (a metric's lie together), each in pieces, a UTC day at most, oldest first: so
 * memory is bounded by a day of one series, whatever there is. The moment's files and head stay pinned until it is closed.
 * Threads    one at a time. It goes before the store is closed.
 */
struct ts_export;
TS_API KV_MUST kv_status ts_export_open(struct ts_db *db, const struct ts_walk_options *options,
                                        struct ts_export **out, struct ts_query_err *err);
/* The next piece, with at least one sample, good until the next call. KV_END: that was all. */
TS_API KV_MUST kv_status ts_export_next(struct ts_export *exp, struct ts_series_points *out,
                                        struct kv_err *err);
/* Series begun and to come, of the selector at hand. */
TS_API void ts_export_progress(const struct ts_export *exp, uint64_t *done, uint64_t *series);
TS_API void ts_export_close(struct ts_export *exp); /* NULL is fine */

/* What can be said of a chunk without decoding it (tsdb/docs/chunk.md). */
struct ts_chunk_facts {
    const struct ts_label *labels; /* of its series; borrowed for the call */
    size_t n_labels;
    uint32_t metric, series;   /* its ref */
    int64_t window_ms;         /* where its UTC day begins */
    int64_t first_ms, last_ms; /* of its samples */
    uint64_t seq;              /* the newest commit it holds: wins where chunks overlap */
    uint32_t samples;
    uint64_t bytes;
    const char *time_codec, *value_codec; /* static */
    bool small;                           /* written for good, with everything tried */
};
/* Every chunk in tables that may hold a sample of the range, series by series and day by day; samples in the head are in none. A negative
 * answer of each stops. */
TS_API KV_MUST kv_status ts_chunks(struct ts_db *db, const struct ts_walk_options *options,
                                   kv_status (*each)(void *ctx, const struct ts_chunk_facts *facts),
                                   void *ctx, struct ts_query_err *err);

/* ---- backup, restore: tsdb/docs/backup.md */

/*
 * A backup of the store as it is now, while it goes on writing: everything answered before the call, the samples of the head too, since the
 * log they lie in travels along. Its files are kvcore's, and so are the options, the repository and all else that can be done with one:
 * kv_backup_list, kv_backup_verify, kv_backup_remove, kv_backup_keep. flush_head: the head goes to tables first, so that whoever opens what
 * was restored has nothing to read back; refused by a store that is open read-only. Answers as kv_backup.
 */
TS_API KV_MUST kv_status ts_backup(struct ts_db *db, const struct kv_backup_options *options, bool flush_head,
                                   struct kv_backup_info *info, struct kv_err *err);
/* The same of the store in the directory path, which nobody has open for writing (KV_BUSY). Nothing of it is changed. */
TS_API KV_MUST kv_status ts_backup_closed(struct kv_env *env, const char *path,
                                          const struct kv_backup_options *options,
                                          struct kv_backup_info *info, struct kv_err *err);
/* As kv_restore, into a directory that is missing or empty (KV_EXISTS); then looks whether it is a store (KV_INVALID: a database of something
 * else; it stays where it was restored). */
TS_API KV_MUST kv_status ts_restore(struct kv_env *env, const char *path,
                                    const struct kv_restore_options *options, struct kv_backup_info *info,
                                    struct kv_err *err);

#endif
