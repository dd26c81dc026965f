/* serve.c - the server's life: settings, store, HTTP, own metrics, and an orderly end. */
#include "http/api/app.h"
#include "http/auth.h"
#include "http/server.h"
#include "kvcore/base/mem.h"
#include "tools/cli.h"
#include "tools/config.h"
#include "version.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>

enum { CREDENTIALS_BYTES_MAX = 1 << 20, DRAIN_MS = 10000, METRIC_LABELS_MAX = 8 };

/* Everything that must be taken down, in this order of building. */
struct serving {
    struct config config;
    struct kv_logger log;
    struct kv_env *env;
    struct ts_db *db;
    struct http_auth *auth;
    struct http_metrics *metrics;
    struct http_app app;
    bool app_ready;
    struct http_server *server;
    struct kv_buf flags, yaml;
};

static kv_status read_credentials(struct serving *s, struct kv_err *err)
{
    const char *path = s->config.credentials.text;
    struct stat st;
    static char text[CREDENTIALS_BYTES_MAX];
    if (!*path)
        return KV_OK;
    FILE *f = fopen(path, "rb");
    if (!f)
        return kv_fail(err, KV_MISSING, errno, "cannot read the credentials %.120s: %s", path,
                       strerror(errno));
    kv_status rc = KV_OK;
    if (fstat(fileno(f), &st) < 0 || !S_ISREG(st.st_mode))
        rc = kv_fail(err, KV_INVALID, 0, "the credentials %.120s are not a file", path);
    else if (st.st_mode & 077)
        rc = kv_fail(err, KV_INVALID, 0, "the credentials %.120s can be read by others: chmod 600 it", path);
    size_t n = rc == KV_OK ? fread(text, 1, sizeof text, f) : 0;
    fclose(f);
    if (rc == KV_OK && n == sizeof text)
        rc = kv_fail(err, KV_LIMIT, 0, "the credentials %.120s are over %d bytes", path,
                     CREDENTIALS_BYTES_MAX);
    if (rc == KV_OK)
        rc = http_auth_new(kv_slice_of(text, n), &s->auth, err);
    explicit_bzero(text, sizeof text);
    return rc;
}

/* A store on these keeps less than it promises. */
static void warn_about_filesystem(struct serving *s)
{
    enum { TMPFS = 0x01021994, NFS = 0x6969 };
    struct statfs fs;
    if (statfs(s->config.data.text, &fs) == 0 && (fs.f_type == TMPFS || fs.f_type == NFS))
        kv_logf(&s->log, KV_LOG_WARN, "data_on_weak_file_system", "data=%s type=%s",
                KV_LOGQ(s->config.data.text), fs.f_type == NFS ? "nfs" : "tmpfs");
}

static kv_status open_store(struct serving *s, struct kv_err *err)
{
    const struct config *c = &s->config;
    struct kv_env_options env = {.log = s->log, .cache_bytes = (uint64_t)c->cache_bytes.number};
    struct ts_retention_rule rules[CONFIG_RULES_MAX];
    struct ts_options options = {
        .retention_ms = c->retention_ms.number,
        .retention_rules = rules,
        .n_retention_rules = config_rules(c, rules),
        .retention_bytes = (uint64_t)c->retention_bytes.number,
        .durability = (enum kv_durability)c->durability.number,
        .sync_interval_ms = (uint32_t)c->durability.extra,
        .future_ms = c->future_ms.number,
        .series_max = (uint64_t)c->series_max.number,
        .exemplars_max = (uint32_t)c->exemplars_max.number,
        .exemplars_off = c->exemplars_max.number == 0,
        .metric_series_max = (uint64_t)c->metric_series_max.number,
        .series_per_s_max = (uint32_t)c->series_per_s_max.number,
        .request_samples_max = (uint64_t)c->request_samples_max.number,
        .labels_max = (uint32_t)c->labels_max.number,
        .label_name_len_max = (uint32_t)c->label_name_len_max.number,
        .label_value_len_max = (uint32_t)c->label_value_len_max.number,
        .head_bytes_max = (uint64_t)c->head_bytes_max.number,
        .query_memory_max = (uint64_t)c->query_memory_max.number,
        .replay_in_background = true,
    };
    kv_status rc = kv_env_open(&env, &s->env, err);
    if (rc == KV_OK)
        rc = ts_open(s->env, c->data.text, &options, &s->db, err);
    if (rc == KV_OK)
        warn_about_filesystem(s);
    return rc;
}

static kv_status start_http(struct serving *s, struct kv_err *err)
{
    const struct config *c = &s->config;
    kv_status rc;
    if (!(s->metrics = kv_zalloc(1, sizeof *s->metrics)))
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory starting the server");
    s->app = (struct http_app){
        .db = s->db,
        .env = s->env,
        .clock = kv_env_clock(s->env),
        .log = &s->log,
        .metrics = s->metrics,
        .data_dir = c->data.text,
        .backup_dir = c->backup_dir.text,
        .backup_keep = (uint32_t)c->backup_keep.number,
        .retention = c->retention_ms.text,
        .option_name = config_flag_of,
        .query_timeout_ms = c->query_timeout_ms.number,
        .query_samples_max = (uint64_t)c->query_samples_max.number,
        .lookback_ms = c->lookback_ms.number,
        .features = (uint32_t)c->promql_features.number,
    };
    KV_TRY(config_json(c, &s->flags));
    KV_TRY(kv_buf_append_byte(&s->flags, 0));
    s->app.flags_json = (const char *)s->flags.data;
    KV_TRY(config_yaml(c, &s->yaml));
    KV_TRY(kv_buf_append_byte(&s->yaml, 0));
    s->app.config_yaml = (const char *)s->yaml.data;
    if (http_app_init(&s->app) < 0)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory starting the server");
    s->app_ready = true;
    struct http_server_options options = {
        .listen = c->listen.text,
        .insecure_listen = c->insecure_listen.number,
        .connections_max = (uint32_t)c->connections_max.number,
        .body_budget_bytes = (uint64_t)c->body_budget_bytes.number,
        .queries_max = (uint32_t)c->queries_max.number,
        .cors_origin = c->cors_origin.text,
        .auth = s->auth,
        .app = &s->app,
        .routes = http_routes,
        .n_routes = http_n_routes,
        .metrics = s->metrics,
        .log = &s->log,
    };
    KV_TRY(http_server_start(&options, &s->server, err));
out:
    return rc;
}

/* ---- own metrics ------------------------------------------------------------------------------------------------- */

struct self {
    struct serving *serving;
    struct ts_appender *appender;
    int64_t now_ms;
    kv_status failed;
};

/* `a="b",c="d"` without escapes, as http_app_metrics hands it. */
static size_t split_labels(const char *text, struct ts_label *labels, size_t max)
{
    size_t n = 0;
    while (*text && n < max) {
        const char *equals = strchr(text, '='), *end = equals ? strchr(equals + 2, '"') : NULL;
        if (!end)
            break;
        labels[n++] = (struct ts_label){kv_slice_of(text, (size_t)(equals - text)),
                                        kv_slice_of(equals + 2, (size_t)(end - equals - 2))};
        text = end + 1 + (end[1] == ',');
    }
    return n;
}

static void self_metric(void *ctx, const char *name, const char *help, bool counter, const char *text,
                        double value)
{
    struct self *self = ctx;
    struct ts_label labels[METRIC_LABELS_MAX + 3] = {
        {KV_STR("__name__"), kv_slice_str(name)},
        {KV_STR("job"), KV_STR("tidemark")},
        {KV_STR("instance"), kv_slice_str(http_server_address(self->serving->server))}};
    size_t n = 3 + split_labels(text, labels + 3, METRIC_LABELS_MAX);
    if (self->failed < 0)
        return;
    self->failed = ts_append(self->appender, labels, n, self->now_ms, value, NULL);
    if (self->failed >= 0) /* bounded and best effort: metadata never costs a sample */
        (void)!ts_metadata_set(self->serving->db, kv_slice_str(name),
                               kv_slice_str(counter ? "counter" : "gauge"), kv_slice_str(help),
                               (kv_slice){0});
}

static void store_own_metrics(struct serving *s)
{
    struct self self = {.serving = s, .now_ms = kv_clock_wall_ms(s->app.clock)};
    struct ts_append_result result;
    struct kv_err err = {0};
    kv_status rc = ts_appender_new(s->db, &self.appender);
    if (rc == KV_OK) {
        self_metric(&self, "up", "1 while the server runs", false, "", 1);
        http_app_metrics(&s->app, self_metric, &self);
        rc = self.failed < 0 ? self.failed : ts_commit(self.appender, &result, &err);
    }
    if (rc < 0)
        kv_logf(&s->log, KV_LOG_WARN, "own_metrics_not_stored", "error=%s",
                KV_LOGQ(err.text[0] ? err.text : kv_status_text(rc)));
    ts_appender_free(self.appender);
}

/* ---- the life of the server -------------------------------------------------------------------------------------- */

static void wait_for_the_end(struct serving *s, const sigset_t *signals)
{
    int64_t interval = s->config.self_metrics_ms.number;
    struct kv_clock *clock = s->app.clock;
    uint64_t next = kv_clock_mono_ns(clock);
    for (;;) {
        uint64_t now = kv_clock_mono_ns(clock);
        if (interval && now >= next) {
            store_own_metrics(s);
            next = now + (uint64_t)interval * 1000000;
        }
        uint64_t left = interval ? next - now : UINT64_C(3600000000000);
        struct timespec timeout = {.tv_sec = (time_t)(left / 1000000000),
                                   .tv_nsec = (long)(left % 1000000000)};
        int signal_number = sigtimedwait(signals, NULL, &timeout);
        if (signal_number == SIGTERM || signal_number == SIGINT) {
            kv_logf(&s->log, KV_LOG_INFO, "stopping", "signal=%d", signal_number);
            return;
        }
    }
}

/* Takes down whatever stands. */
static kv_status tear_down(struct serving *s, struct kv_err *err)
{
    kv_status rc = KV_OK;
    if (s->server) {
        s->app.stopping = true;
        http_server_stop(s->server, DRAIN_MS);
        http_server_free(s->server);
    }
    if (s->app_ready)
        http_app_release(&s->app);
    if (s->db)
        rc = ts_close(s->db, err);
    kv_env_close(s->env);
    http_auth_free(s->auth);
    kv_free(s->metrics);
    kv_buf_release(&s->flags);
    kv_buf_release(&s->yaml);
    config_release(&s->config);
    return rc;
}

static void print_help(void)
{
    struct kv_buf text = {0};
    if (config_help(&text) == KV_OK)
        printf("usage: tidemark serve [--NAME VALUE]...\n\n%.*s\nEach setting is also read from the "
               "environment (--self-metrics is "
               "TIDEMARK_SELF_METRICS)\nand from the YAML file of --config (self_metrics: 15s). Flags win "
               "over the environment, that over "
               "the file.\n",
               (int)text.len, (const char *)text.data);
    kv_buf_release(&text);
}

static int refuse(struct serving *s, const char *text)
{
    struct kv_err ignored;
    char copy[sizeof ignored.text];
    snprintf(copy, sizeof copy, "%s", text);
    (void)tear_down(s, &ignored);
    fprintf(stderr, "tidemark: %s\n", copy);
    return 1;
}

int cli_serve(int argc, char **argv)
{
    struct serving s = {0};
    struct kv_err err = {0};
    bool help;
    sigset_t signals;
    uint64_t started = kv_clock_mono_ns(kv_clock_system());
    if (config_load(argc, argv, getenv, &s.config, &help, &err) < 0) {
        fprintf(stderr, "tidemark: %s\n", err.text);
        return 2;
    }
    if (help) {
        print_help();
        return 0;
    }
    /* Every thread inherits the mask: signals come to this one alone, when it asks. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    cli_logger(&s.log, (enum kv_log_level)s.config.log_level.number);
    kv_status rc = read_credentials(&s, &err);
    if (rc == KV_OK)
        rc = open_store(&s, &err);
    if (rc == KV_OK)
        rc = start_http(&s, &err);
    if (rc < 0)
        return refuse(&s, err.text[0] ? err.text : kv_status_text(rc));
    printf("ready listen=%s data=%s took=%.3fs\n", http_server_address(s.server), KV_LOGQ(s.config.data.text),
           (double)(kv_clock_mono_ns(kv_clock_system()) - started) / 1e9);
    fflush(stdout);
    wait_for_the_end(&s, &signals);
    rc = tear_down(&s, &err);
    if (rc < 0)
        fprintf(stderr, "tidemark: closing: %s (nothing answered is lost; the next start recovers)\n",
                err.text[0] ? err.text : kv_status_text(rc));
    return rc < 0;
}
