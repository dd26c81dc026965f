/*
 * config.h - the settings of `tidemark serve`. One table makes the flags (--retention 30d), the environment (TIDEMARK_RETENTION), the keys of the
 * YAML file (retention: 30d) and the help. A flag wins over the environment, that over the file, that over the default.
 *
 * Threads    one, before the server starts. Ownership  strings belong to the config. Failure  KV_INVALID with a line that names the
 *            setting, where it came from and what it takes; an unknown name gets the nearest known one.
 */
#ifndef TOOLS_CONFIG_H
#define TOOLS_CONFIG_H

#include "kvcore/base/buf.h"
#include "kvcore/base/status.h"
#include "tsdb/ts.h"

#include <stdbool.h>
#include <stdint.h>

/* field, kind, flag, default, what it takes, help. Kinds: TEXT, BOOL, COUNT (plain number; "off" where it says so is 0), BYTES (512, 64KiB, 1GiB; "off" and "auto" where it says so are 0), TIME (15s, 30d; "inf"
 * or "off" where it says so), DURABILITY, LEVEL, RULES (lines of
 * SELECTOR=TIME: the flag may be repeated, the file takes a list), FEATURES. */
#define CONFIG_LIST(X)                                                                                       \
    X(data, TEXT, "data", "./data", "DIR", "directory of the store; created when missing")                   \
    X(listen, TEXT, "listen", "127.0.0.1:9430", "ADDR",                                                      \
      "address and port; beyond loopback it takes credentials")                                              \
    X(retention_ms, TIME, "retention", "30d", "TIME|inf", "samples older than this are dropped")             \
    X(retention_rules, RULES, "retention-rule", "", "SELECTOR=TIME|inf",                                     \
      "series that it matches are kept so long; repeated, the first that matches decides")                   \
    X(retention_bytes, BYTES, "retention-size", "off", "BYTES|off",                                          \
      "past this many bytes on disk the oldest days are dropped")                                            \
    X(backup_dir, TEXT, "backup-dir", "", "DIR",                                                             \
      "repository for POST /api/v1/admin/backup; created when missing")                                      \
    X(backup_keep, COUNT, "backup-keep", "off", "N|off",                                                     \
      "how many backups stay in it, the newest; off: all")                                                   \
    X(durability, DURABILITY, "durability", "group", "group|always|interval=TIME|os",                        \
      "when an answered write is on disk")                                                                   \
    X(credentials, TEXT, "credentials", "", "FILE",                                                          \
      "lines \"basic NAME:PASSWORD\" or \"bearer TOKEN\"; mode 0600")                                        \
    X(insecure_listen, BOOL, "insecure-listen", "false", "", "serve beyond loopback without credentials")    \
    X(promql_features, FEATURES, "promql-features", "", "LIST|all",                                          \
      "delayed-name-removal, experimental-functions")                                                        \
    X(self_metrics_ms, TIME, "self-metrics", "15s", "TIME|off",                                              \
      "how often the server stores its own metrics (job=\"tidemark\")")                                      \
    X(config, TEXT, "config", "", "FILE", "YAML file with these settings, keys with _ for -")                \
    X(connections_max, COUNT, "connections-max", "2000", "N",                                                \
      "open connections (at most a third of the descriptor limit)")                                          \
    X(body_budget_bytes, BYTES, "body-budget", "256MiB", "BYTES",                                            \
      "memory of all request bodies together, raw and inflated")                                             \
    X(queries_max, COUNT, "queries-max", "20", "N", "queries at once; others wait up to 10 s")               \
    X(query_timeout_ms, TIME, "query-timeout", "2m", "TIME", "longest query; timeout= can only lower it")    \
    X(query_samples_max, COUNT, "query-samples-max", "50000000", "N", "samples one query may read")          \
    X(query_memory_max, BYTES, "query-memory-max", "512MiB", "BYTES",                                        \
      "memory one query, listing or export may use")                                                         \
    X(lookback_ms, TIME, "lookback", "5m", "TIME", "how far back an instant selector looks")                 \
    X(series_max, COUNT, "series-max", "20000000", "N", "live series; further ones are rejected")            \
    X(metric_series_max, COUNT, "metric-series-max", "off", "N|off", "series of one metric name")            \
    X(series_per_s_max, COUNT, "new-series-rate", "off", "N|off",                                            \
      "new series a second; ten seconds' worth may come at once")                                            \
    X(request_samples_max, COUNT, "request-samples-max", "off", "N|off", "samples of one write request")     \
    X(labels_max, COUNT, "labels-max", "64", "N", "labels of a series, its name included")                   \
    X(label_name_len_max, COUNT, "label-name-max", "1024", "N", "bytes of a label's name")                   \
    X(label_value_len_max, COUNT, "label-value-max", "4096", "N", "bytes of a label's value")                \
    X(future_ms, TIME, "future-max", "1h", "TIME", "samples further ahead of the clock are rejected")        \
    X(exemplars_max, COUNT, "exemplars-max", "100000", "N|off", "exemplars kept, the newest of the store")   \
    X(cache_bytes, BYTES, "cache", "64MiB", "BYTES", "block cache")                                          \
    X(head_bytes_max, BYTES, "head-max", "auto", "BYTES|auto",                                               \
      "memory of samples not yet in tables; auto: 256 MiB, or 320 bytes for each active series")             \
    X(cors_origin, TEXT, "cors-origin", "*", "ORIGIN", "Access-Control-Allow-Origin of every reply")         \
    X(log_level, LEVEL, "log-level", "info", "debug|info|warn|error", "least level of lines on stderr")

enum config_kind {
    CONFIG_TEXT,
    CONFIG_BOOL,
    CONFIG_COUNT,
    CONFIG_BYTES,
    CONFIG_TIME,
    CONFIG_DURABILITY,
    CONFIG_LEVEL,
    CONFIG_RULES,
    CONFIG_FEATURES
};

/* A value as it was given and as it was understood. */
struct config_value {
    char *text; /* owned */
    int64_t
        number; /* COUNT, BYTES; TIME in ms: INT64_MAX for inf, 0 for off; BOOL; DURABILITY: enum kv_durability; LEVEL: enum kv_log_level; FEATURES: TS_PROMQL_... */
    int64_t extra; /* DURABILITY: the interval in ms */
};
struct config {
#define X(field, kind, flag, otherwise, takes, help) struct config_value field;
    CONFIG_LIST(X)
#undef X
};

/* argv: what stands behind `serve`. getenv_fn: getenv, or a test's. *help is set when --help was asked for. */
KV_MUST kv_status config_load(int argc, char **argv, char *(*getenv_fn)(const char *name), struct config *out,
                              bool *help, struct kv_err *err);
void config_release(struct config *config);
/* The settings from a YAML text, as a file would give them; path is for messages. Values already set are kept. */
KV_MUST kv_status config_read_yaml(struct config *config, const char *path, kv_slice text,
                                   struct kv_err *err);
/* The rules, in order, borrowing from the config; out has room for CONFIG_RULES_MAX. Answers how many. */
enum { CONFIG_RULES_MAX = 63 };
size_t config_rules(const struct config *config, struct ts_retention_rule *out);
/* The table of settings for --help. */
KV_MUST kv_status config_help(struct kv_buf *out);
/* "--series-max" for series_max, the name of a field above (and, where it is one, of ts_options); NULL: there is none. */
const char *config_flag_of(kv_slice field);
/* All of them as such a file, which says the same again: for status/config. */
KV_MUST kv_status config_yaml(const struct config *config, struct kv_buf *out);
/* {"listen":"127.0.0.1:9430",...} for status/flags. */
KV_MUST kv_status config_json(const struct config *config, struct kv_buf *out);

#endif
