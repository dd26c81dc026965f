/*
 * app.h - what the handlers of all endpoints share: the store, limits, counters, and a stock of warm ingest sessions.
 *
 * Threads    any thread may handle a request; http_app_init and _release from one, with no request under way.
 * Ownership  db, clock, log and strings are borrowed and outlive the app.
 */
#ifndef HTTP_APP_H
#define HTTP_APP_H

#include "http/decode/decoder.h"
#include "http/inflate.h"
#include "http/metrics.h"
#include "http/rejected.h"
#include "http/router.h"
#include "kvcore/os/thread.h"

enum { HTTP_SESSIONS_KEPT = 16, HTTP_SESSION_BYTES_KEPT = 4 << 20 };

/* What one ingest request needs: taken for the time of its handler, warm again for the next. */
struct http_session {
    struct http_inflater *inflater;
    struct http_decoder *prom_write, *influx, *json_lines, *prom_text;
    struct ts_appender *appender;
    struct kv_buf inflated;
};

/* The backup under way, or the last one. Guarded by its mutex; the thread is joined by the next one, or at the end. */
enum http_backup_state { HTTP_BACKUP_IDLE, HTTP_BACKUP_RUNNING, HTTP_BACKUP_DONE, HTTP_BACKUP_FAILED };
struct http_backup_job {
    kv_mutex mutex;
    kv_thread thread;
    enum http_backup_state state;
    uint32_t keep;
    bool flush_head;
    int64_t started_ms, ended_ms;
    struct kv_progress progress;
    struct kv_backup_info info;
    struct kv_err err;
};

/* All zero but db, env, clock and metrics is the default. */
struct http_app {
    struct ts_db *db;
    struct kv_env *env; /* db's */
    struct kv_clock *clock;
    const struct kv_logger *log;
    struct http_metrics *metrics;
    const char *data_dir;   /* for snapshots, which become its siblings. NULL: none are made */
    const char *backup_dir; /* the repository of backups. NULL or "": none are made there */
    uint32_t backup_keep;   /* backups kept in it unless keep= says otherwise; 0: all */
    const char *retention;  /* as configured, for status pages */
    const char *(*option_name)(
        kv_slice field);        /* what a field of ts_options is called where it is set: "--series-max" for
                                                   series_max; NULL from it: not set anywhere. NULL: fields keep their
                                                   names */
    const char *flags_json;     /* {"name":"value",...} for status/flags. NULL: {} */
    const char *config_yaml;    /* for status/config. NULL: empty */
    size_t inflated_bytes_max;  /* 0: HTTP_INFLATED_MAX_DEFAULT */
    int64_t query_timeout_ms;   /* 0: 2 min; timeout= can only lower it */
    uint64_t query_samples_max; /* 0: ts_query's default; likewise lookback_ms */
    int64_t lookback_ms;
    uint32_t features;
    _Atomic bool stopping; /* set at shutdown: queries under way are canceled */

    /* private */
    int64_t started_ms;
    struct http_rejected *rejected;
    kv_mutex sessions_mutex;
    struct http_session *sessions[HTTP_SESSIONS_KEPT];
    size_t n_sessions;
    struct http_backup_job backup;
};
KV_MUST kv_status http_app_init(struct http_app *app);
void http_app_release(struct http_app *app);
/* A warm session, or a new one. */
KV_MUST kv_status http_app_session_take(struct http_app *app, struct http_session **out);
void http_app_session_give(struct http_app *app, struct http_session *session);
/* Every metric of the process: http, store, engine. */
void http_app_metrics(struct http_app *app, http_metric_fn each, void *ctx);

/* The routes of this version, hottest first. */
extern const struct http_route http_routes[];
extern const size_t http_n_routes;

/* ---- handlers, by file ------------------------------------------------------------------------------------------- */
typedef void http_handler(struct http_app *app, struct http_request *request, struct http_reply *reply);
http_handler http_api_prom_write, http_api_influx_write, http_api_import,
    http_api_import_prometheus;                    /* write.c */
http_handler http_api_export;                      /* export.c */
http_handler http_api_query, http_api_query_range; /* query.c */
http_handler http_api_series, http_api_labels, http_api_label_values, http_api_metadata,
    http_api_format_query; /* labels.c */
http_handler http_api_ping, http_api_influx_query, http_api_influx_health, http_api_influx_ready,
    http_api_healthy, http_api_ready; /* health.c */
http_handler http_api_buildinfo, http_api_runtimeinfo, http_api_flags, http_api_config, http_api_rules,
    http_api_alerts, http_api_targets, http_api_scrape_pools, http_api_empty_list,
    http_api_alertmanagers;            /* status.c */
http_handler http_api_rejected;        /* rejected.c */
http_handler http_api_query_exemplars; /* exemplars.c */
http_handler http_api_tsdb;            /* cardinality.c */
http_handler http_api_delete_series, http_api_clean_tombstones, http_api_snapshot, http_api_flush,
    http_api_clock, http_api_retention;                                        /* admin.c */
http_handler http_api_backup, http_api_backup_status, http_api_backup_archive; /* backup.c */
http_handler http_api_metrics;                                                 /* metrics.c */

/* backup.c. Release waits for a backup under way, which app->stopping ends. */
void http_backup_init(struct http_backup_job *job);
void http_backup_release(struct http_backup_job *job);

/* ---- shared by handlers ------------------------------------------------------------------------------------------ */

/* {"status":"success","data": ... as far as the data; the caller writes it and closes with http_api_end. */
struct http_json;
void http_api_begin(struct http_json *json, struct http_reply *reply);
/* Closes the object with the warnings (each NULL-terminated string; may be NULL) and settles the reply's status. */
void http_api_end(struct http_json *json, struct http_reply *reply, const char *warning);
/* The reply for a parameter that does not do, or for a failed query call. */
void http_api_bad_param(struct http_reply *reply, const struct kv_err *err);
void http_api_query_failed(const struct http_app *app, struct http_reply *reply, const char *param,
                           const struct ts_query_err *err);
/* A text of the store's with each ts_options.FIELD replaced by what the option is called here; NUL behind, cut to fit. */
void http_api_option_names(const struct http_app *app, const char *text, char *out, size_t size);
/* {"name":"value",...} */
void http_api_labels_json(struct http_json *json, const struct ts_label *labels, size_t n);

#endif
