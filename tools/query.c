/* query.c - `tidemark query`: asks a server over HTTP, or a directory read-only, and prints what a person can read. */
#include "http/params.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/mem.h"
#include "kvcore/base/number.h"
#include "tools/cli.h"
#include "tools/remote.h"
#include "tsdb/ts.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

enum { COLUMNS_MAX = 6, ANSWER_BYTES_MAX = 256 << 20 };

struct asked {
    const char *expr, *at, *from, *to, *step, *url, *data;
    int64_t at_ms, from_ms, to_ms, step_ms;
    bool range;
};

/* One series of an answer, from either source; owned by the answer's arena. */
struct series {
    const char *name; /* up{job="x"} */
    int64_t *times_ms;
    const char **values;
    size_t n;
};
struct answer {
    struct kv_arena arena;
    struct series *series;
    size_t n;
    bool range;
    char error[4600];
};

/* ---- printing ---------------------------------------------------------------------------------------------------- */

static void print_instant(const struct answer *a)
{
    char text[40];
    int width = 0;
    for (size_t i = 0; i < a->n; i++)
        width = (int)strlen(a->series[i].name) > width ? (int)strlen(a->series[i].name) : width;
    for (size_t i = 0; i < a->n; i++)
        for (size_t j = 0; j < a->series[i].n; j++)
            printf("%-*s  %s  %s\n", width < 100 ? width : 100, a->series[i].name, a->series[i].values[j],
                   cli_time_text(a->series[i].times_ms[j], text));
}

/* A table of some series: one row a time any of them has. */
static void print_columns(const struct series *series, size_t n, size_t first)
{
    size_t at[COLUMNS_MAX] = {0};
    char text[40];
    for (size_t i = 0; i < n; i++)
        printf("[%zu] %s\n", first + i, series[i].name);
    printf("%-24s", "time");
    for (size_t i = 0; i < n; i++)
        printf(" %18s%zu]", "[", first + i);
    printf("\n");
    for (;;) {
        int64_t time_ms = INT64_MAX;
        for (size_t i = 0; i < n; i++)
            if (at[i] < series[i].n && series[i].times_ms[at[i]] < time_ms)
                time_ms = series[i].times_ms[at[i]];
        if (time_ms == INT64_MAX)
            return;
        printf("%-24s", cli_time_text(time_ms, text));
        for (size_t i = 0; i < n; i++) {
            bool has = at[i] < series[i].n && series[i].times_ms[at[i]] == time_ms;
            printf(" %20s", has ? series[i].values[at[i]++] : "");
        }
        printf("\n");
    }
}

static void print_answer(const struct answer *a)
{
    if (!a->range) {
        print_instant(a);
        return;
    }
    for (size_t i = 0; i < a->n; i += COLUMNS_MAX) {
        print_columns(a->series + i, a->n - i < COLUMNS_MAX ? a->n - i : COLUMNS_MAX, i + 1);
        if (i + COLUMNS_MAX < a->n)
            printf("\n");
    }
}

/* ---- from a directory -------------------------------------------------------------------------------------------- */

static const char *labels_text(struct kv_arena *arena, const struct ts_label *labels, size_t n)
{
    struct kv_buf text = {0};
    kv_slice copy = {0};
    if (cli_series_text(labels, n, &text) == KV_OK)
        copy = kv_arena_copy(arena, kv_buf_slice(&text));
    kv_buf_release(&text);
    return copy.data ? (const char *)copy.data : "?";
}

static bool series_reserve(struct answer *a, struct series *s, size_t n)
{
    s->n = n;
    s->times_ms = kv_arena_alloc(&a->arena, (n + 1) * sizeof *s->times_ms);
    s->values = kv_arena_alloc(&a->arena, (n + 1) * sizeof *s->values);
    return s->times_ms && s->values;
}

static bool take_points(struct answer *a, const struct ts_series_points *p, struct series *out)
{
    out->name = labels_text(&a->arena, p->labels, p->n_labels);
    if (!series_reserve(a, out, p->n))
        return false;
    for (size_t i = 0; i < p->n; i++) {
        char text[KV_DOUBLE_LEN_MAX];
        size_t n = kv_double_format(p->values[i], text);
        out->times_ms[i] = p->times_ms[i];
        out->values[i] = (const char *)kv_arena_copy(&a->arena, kv_slice_of(text, n)).data;
        if (!out->values[i])
            return false;
    }
    return true;
}

static bool take_result(struct answer *a, const struct ts_result *result)
{
    a->range = ts_result_type(result) == TS_RESULT_MATRIX;
    a->n = ts_result_type(result) == TS_RESULT_STRING ? 1 : ts_result_count(result);
    a->series = kv_arena_zalloc(&a->arena, a->n + 1, sizeof *a->series);
    if (!a->series)
        return false;
    if (ts_result_type(result) == TS_RESULT_STRING) {
        struct series *s = &a->series[0];
        s->name = "string";
        if (!series_reserve(a, s, 1))
            return false;
        s->values[0] = (const char *)kv_arena_copy(&a->arena, ts_result_string(result, &s->times_ms[0])).data;
        return s->values[0] != NULL;
    }
    for (size_t i = 0; i < a->n; i++) {
        struct ts_series_points points;
        ts_result_series(result, i, &points);
        if (!take_points(a, &points, &a->series[i]))
            return false;
    }
    return true;
}

static bool ask_directory(const struct asked *asked, struct answer *a)
{
    struct kv_env *env = NULL;
    struct ts_db *db = NULL;
    struct ts_result *result = NULL;
    struct kv_err err = {0};
    struct ts_query_err query_err = {0};
    struct kv_env_options env_options = {.threads = KV_THREADS_NONE};
    struct ts_options options = {.read_only = true, .must_exist = true, .retention_ms = INT64_MAX};
    struct ts_query_options query = {.range = asked->range,
                                     .start_ms = asked->range ? asked->from_ms : asked->at_ms,
                                     .end_ms = asked->range ? asked->to_ms : asked->at_ms,
                                     .step_ms = asked->step_ms};
    bool done = false;
    if (kv_env_open(&env_options, &env, &err) < 0 || ts_open(env, asked->data, &options, &db, &err) < 0)
        snprintf(a->error, sizeof a->error, "%s", err.text);
    else if (ts_query(db, kv_slice_str(asked->expr), &query, &result, &query_err) < 0)
        snprintf(a->error, sizeof a->error, "%s", query_err.text), cli_cut_advice(a->error);
    else if (!(done = take_result(a, result)))
        snprintf(a->error, sizeof a->error, "out of memory");
    ts_result_free(result);
    if (db)
        (void)ts_close(db, NULL);
    kv_env_close(env);
    return done;
}

/* ---- from a server ----------------------------------------------------------------------------------------------- */

static kv_status add_time(struct remote *remote, struct kv_buf *form, const char *name, int64_t ms)
{
    char text[40];
    snprintf(text, sizeof text, "%s%lld.%03lld", ms < 0 ? "-" : "", (long long)(ms < 0 ? -ms : ms) / 1000,
             (long long)(ms < 0 ? -ms : ms) % 1000);
    return remote_param(remote, form, name, text);
}

static kv_status make_form(struct remote *remote, const struct asked *asked, struct kv_buf *form)
{
    kv_status rc;
    KV_TRY(remote_param(remote, form, "query", asked->expr));
    if (!asked->range)
        return add_time(remote, form, "time", asked->at_ms);
    KV_TRY(add_time(remote, form, "start", asked->from_ms));
    KV_TRY(add_time(remote, form, "end", asked->to_ms));
    KV_TRY(add_time(remote, form, "step", asked->step_ms));
out:
    return rc;
}

static bool take_json_point(struct answer *a, const cJSON *point, struct series *s, size_t i)
{
    const cJSON *time = cJSON_GetArrayItem(point, 0), *value = cJSON_GetArrayItem(point, 1);
    if (!cJSON_IsNumber(time) || !cJSON_IsString(value))
        return false;
    s->times_ms[i] = (int64_t)(time->valuedouble * 1000 + (time->valuedouble < 0 ? -0.5 : 0.5));
    s->values[i] = (const char *)kv_arena_copy(&a->arena, kv_slice_str(value->valuestring)).data;
    return s->values[i] != NULL;
}

static bool take_json_series(struct answer *a, const cJSON *item, struct series *s)
{
    enum { LABELS_MAX = 1000 };
    struct ts_label labels[LABELS_MAX];
    size_t n = 0, i = 0;
    const cJSON *label, *value = cJSON_GetObjectItem(item, "value"),
                        *values = cJSON_GetObjectItem(item, "values"), *point;
    cJSON_ArrayForEach(label, cJSON_GetObjectItem(item, "metric"))
    {
        if (n < LABELS_MAX && cJSON_IsString(label))
            labels[n++] = (struct ts_label){kv_slice_str(label->string), kv_slice_str(label->valuestring)};
    }
    s->name = labels_text(&a->arena, labels, n);
    if (!series_reserve(a, s, value ? 1 : (size_t)cJSON_GetArraySize(values)))
        return false;
    if (value)
        return take_json_point(a, value, s, 0);
    cJSON_ArrayForEach(point, values)
    {
        if (!take_json_point(a, point, s, i++))
            return false;
    }
    return true;
}

static bool take_json(struct answer *a, const cJSON *reply)
{
    const cJSON *data = cJSON_GetObjectItem(reply, "data"), *result = cJSON_GetObjectItem(data, "result"),
                *item;
    const cJSON *type = cJSON_GetObjectItem(data, "resultType"), *error = cJSON_GetObjectItem(reply, "error");
    size_t i = 0;
    snprintf(a->error, sizeof a->error, "%s",
             cJSON_IsString(error) ? error->valuestring : "the answer is not Prometheus's JSON");
    if (!cJSON_IsString(type) || !cJSON_IsArray(result))
        return false;
    bool single = strcmp(type->valuestring, "scalar") == 0 || strcmp(type->valuestring, "string") == 0;
    a->range = strcmp(type->valuestring, "matrix") == 0;
    a->n = single ? 1 : (size_t)cJSON_GetArraySize(result);
    a->series = kv_arena_zalloc(&a->arena, a->n + 1, sizeof *a->series);
    if (!a->series)
        return false;
    if (single) {
        a->series[0].name = type->valuestring[1] == 'c' ? "scalar" : "string";
        return series_reserve(a, &a->series[0], 1) && take_json_point(a, result, &a->series[0], 0);
    }
    cJSON_ArrayForEach(item, result)
    {
        if (!take_json_series(a, item, &a->series[i++]))
            return false;
    }
    return true;
}

static bool ask_server(const struct asked *asked, struct answer *a)
{
    struct kv_buf form = {0}, body = {.max = ANSWER_BYTES_MAX};
    struct remote *remote = NULL;
    struct kv_err err = {0};
    bool done = false;
    kv_status rc;
    KV_TRY(remote_open(asked->url, &remote, &err));
    KV_TRY(make_form(remote, asked, &form));
    KV_TRY(
        remote_call(remote,
                    &(struct remote_request){.method = "POST",
                                             .path = asked->range ? "/api/v1/query_range" : "/api/v1/query",
                                             .body = kv_buf_slice(&form),
                                             .out = &body},
                    &err));
    cJSON *reply = cJSON_ParseWithLength((const char *)body.data, body.len);
    done = take_json(a, reply);
    cJSON_Delete(reply);
out:
    if (rc < 0)
        snprintf(a->error, sizeof a->error, "%s", err.text[0] ? err.text : kv_status_text(rc));
    remote_close(remote);
    kv_buf_release(&form);
    kv_buf_release(&body);
    return done;
}

/* ---- arguments --------------------------------------------------------------------------------------------------- */

static bool read_arguments(int argc, char **argv, struct asked *out)
{
    const struct {
        const char *flag;
        const char **to;
    } flags[] = {{"--at", &out->at},     {"--from", &out->from}, {"--to", &out->to},
                 {"--step", &out->step}, {"--url", &out->url},   {"--data", &out->data}};
    for (int i = 0; i < argc; i++) {
        size_t f = 0;
        while (f < 6 && strcmp(argv[i], flags[f].flag) != 0)
            f++;
        if (f < 6 && i + 1 < argc && !*flags[f].to)
            *flags[f].to = argv[++i];
        else if (f == 6 && argv[i][0] != '-' && !out->expr)
            out->expr = argv[i];
        else if (f == 6 && !out->expr && argv[i][0] == '-' && argv[i][1] != '-' && argv[i][1])
            out->expr = argv[i]; /* -foo is PromQL */
        else
            return false;
    }
    out->range = out->from || out->to || out->step;
    return out->expr && !(out->range && out->at) && !(out->url && out->data) && (!out->range || out->from);
}

static bool read_times(struct asked *asked, const char **bad)
{
    int64_t now = kv_clock_wall_ms(kv_clock_system());
    asked->at_ms = asked->to_ms = now;
    *bad = asked->at;
    if (asked->at && !cli_time(asked->at, now, &asked->at_ms))
        return false;
    *bad = asked->from;
    if (asked->from && !cli_time(asked->from, now, &asked->from_ms))
        return false;
    *bad = asked->to;
    if (asked->to && !cli_time(asked->to, now, &asked->to_ms))
        return false;
    asked->step_ms = asked->range ? (asked->to_ms - asked->from_ms) / 50 : 0;
    asked->step_ms = asked->range && asked->step_ms < 1000 ? 1000 : asked->step_ms;
    *bad = asked->step;
    return !asked->step ||
           (http_parse_duration(kv_slice_str(asked->step), &asked->step_ms) == KV_OK && asked->step_ms > 0);
}

int cli_query(int argc, char **argv)
{
    struct asked asked = {0};
    struct answer *answer = kv_zalloc(1, sizeof *answer);
    const char *bad = NULL;
    if (!read_arguments(argc, argv, &asked)) {
        fprintf(stderr, "usage: tidemark query 'PROMQL' [--at T | --from T [--to T] [--step D]] [--url URL | "
                        "--data DIR]\n"
                        "T: unix seconds, 2026-11-21T03:08:03Z, now, now-1h. D: 15s, 1h30m. URL: "
                        "http://127.0.0.1:9430\n");
        kv_free(answer);
        return 2;
    }
    if (!answer || !read_times(&asked, &bad)) {
        fprintf(stderr, "tidemark: \"%.60s\" is not a time\n", bad ? bad : "");
        kv_free(answer);
        return 2;
    }
    asked.url = asked.url ? asked.url : REMOTE_URL_DEFAULT;
    bool done = asked.data ? ask_directory(&asked, answer) : ask_server(&asked, answer);
    if (done)
        print_answer(answer);
    else
        fprintf(stderr, "tidemark: %s\n", answer->error);
    kv_arena_release(&answer->arena);
    kv_free(answer);
    return done ? 0 : 1;
}
