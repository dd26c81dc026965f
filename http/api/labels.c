/* labels.c - series, labels, label values, metadata, format_query. */
#include "http/api/app.h"
#include "http/json.h"
#include "http/params.h"
#include "http/text.h"

enum { ANSWER_BYTES_MAX = 256 << 20 };

/* What the three share. */
struct asked {
    kv_slice *matches;
    size_t n;
    int64_t from_ms, to_ms;
    uint64_t limit;
};

/* False: reply says what is wrong. */
static bool asked_read(struct http_request *request, struct asked *asked, struct http_reply *reply)
{
    struct kv_err err;
    kv_status rc;
    KV_TRY(http_request_param_all(request, "match[]", &asked->matches, &asked->n, &err));
    KV_TRY(http_param_time(request, "start", INT64_MIN, &asked->from_ms, &err));
    KV_TRY(http_param_time(request, "end", INT64_MAX, &asked->to_ms, &err));
    KV_TRY(http_param_limit(request, "limit", 0, &asked->limit, &err));
    if (asked->to_ms < asked->from_ms)
        rc = kv_fail(&err, KV_INVALID, 0,
                     "invalid parameter \"end\": end timestamp must not be before start time");
out:
    if (rc < 0)
        http_api_bad_param(reply, &err);
    return rc >= 0;
}

/* A list being written. */
struct list {
    const struct http_app *app;
    struct http_json json;
    struct ts_query_err err;
    bool any, truncated;
};

static void list_comma(struct list *list)
{
    if (list->any)
        HTTP_JSON_RAW(&list->json, ",");
    list->any = true;
}

static kv_status each_string(void *ctx, kv_slice text)
{
    struct list *list = ctx;
    list_comma(list);
    http_json_string(&list->json, text);
    return list->json.failed;
}

static kv_status each_series(void *ctx, const struct ts_label *labels, size_t n)
{
    struct list *list = ctx;
    list_comma(list);
    http_api_labels_json(&list->json, labels, n);
    return list->json.failed;
}

static void list_begin(struct list *list, const struct http_app *app, struct http_reply *reply)
{
    list->app = app;
    list->err = (struct ts_query_err){0};
    list->any = list->truncated = false;
    reply->body.max = ANSWER_BYTES_MAX;
    http_api_begin(&list->json, reply);
    HTTP_JSON_RAW(&list->json, "[");
}

static void list_end(struct list *list, struct http_reply *reply, kv_status rc)
{
    if (rc < 0 && list->json.failed >= 0) {
        http_api_query_failed(list->app, reply, "match[]", &list->err);
        return;
    }
    HTTP_JSON_RAW(&list->json, "]");
    http_api_end(&list->json, reply, list->truncated ? "results truncated due to limit" : NULL);
}

void http_api_series(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct asked asked;
    struct list list;
    if (!asked_read(request, &asked, reply))
        return;
    if (asked.n == 0) {
        http_reply_error(reply, 400, "bad_data", "no match[] parameter provided");
        return;
    }
    list_begin(&list, app, reply);
    kv_status rc = ts_series(app->db, asked.matches, asked.n, asked.from_ms, asked.to_ms, (size_t)asked.limit,
                             &list.truncated, each_series, &list, &list.err);
    list_end(&list, reply, rc);
}

void http_api_labels(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct asked asked;
    struct list list;
    if (!asked_read(request, &asked, reply))
        return;
    list_begin(&list, app, reply);
    kv_status rc = ts_label_names(app->db, asked.matches, asked.n, asked.from_ms, asked.to_ms,
                                  (size_t)asked.limit, &list.truncated, each_string, &list, &list.err);
    list_end(&list, reply, rc);
}

static int hex(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static size_t put_utf8(uint8_t *p, uint32_t c)
{
    if (c < 0x80) {
        p[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        p[0] = (uint8_t)(0xc0 | c >> 6);
        p[1] = (uint8_t)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        p[0] = (uint8_t)(0xe0 | c >> 12);
        p[1] = (uint8_t)(0x80 | (c >> 6 & 63));
        p[2] = (uint8_t)(0x80 | (c & 63));
        return 3;
    }
    p[0] = (uint8_t)(0xf0 | c >> 18);
    p[1] = (uint8_t)(0x80 | (c >> 12 & 63));
    p[2] = (uint8_t)(0x80 | (c >> 6 & 63));
    p[3] = (uint8_t)(0x80 | (c & 63));
    return 4;
}

/* One escape behind its first '_': "_" is '_', HEX "_" a code point. Bytes read, 0 if it is none. */
static size_t take_escape(kv_slice s, uint32_t *c)
{
    enum { DIGITS_MAX = 6 };
    *c = '_';
    if (s.len && s.data[0] == '_')
        return 1;
    *c = 0;
    for (size_t i = 0; i < s.len && i <= DIGITS_MAX; i++) {
        if (s.data[i] == '_')
            return i && *c <= 0x10ffff && (*c < 0xd800 || *c > 0xdfff) ? i + 1 : 0;
        int digit = hex(s.data[i]);
        if (digit < 0)
            return 0;
        *c = *c * 16 + (uint32_t)digit;
    }
    return 0;
}

/* Undoes Prometheus's U__ escaping of names; what is not well escaped stays as it is. */
static kv_slice unescape_name(struct kv_arena *arena, kv_slice name)
{
    if (!kv_slice_has_prefix(name, KV_STR("U__")))
        return name;
    uint8_t *to = kv_arena_alloc(arena, name.len + 4);
    size_t n = 0;
    if (!to)
        return name;
    for (size_t i = 3; i < name.len; i++) {
        if (name.data[i] != '_') {
            to[n++] = name.data[i];
            continue;
        }
        uint32_t c;
        size_t used = take_escape(kv_slice_from(name, i + 1), &c);
        if (!used)
            return name;
        n += put_utf8(to + n, c);
        i += used;
    }
    return kv_slice_of(to, n);
}

void http_api_label_values(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct asked asked;
    struct list list;
    kv_slice name = unescape_name(&request->arena, request->path_args[0]);
    if (!http_utf8_valid(name) || memchr(name.data, 0, name.len)) {
        http_reply_error(reply, 400, "bad_data", "invalid label name: \"%.*s\"",
                         KV_ARG(request->path_args[0]));
        return;
    }
    if (!asked_read(request, &asked, reply))
        return;
    list_begin(&list, app, reply);
    kv_status rc = ts_label_values(app->db, name, asked.matches, asked.n, asked.from_ms, asked.to_ms,
                                   (size_t)asked.limit, &list.truncated, each_string, &list, &list.err);
    list_end(&list, reply, rc);
}

/* ---- metadata ---------------------------------------------------------------------------------------------------- */

struct families {
    struct list list;
    uint64_t left; /* families that may still be written */
};

static kv_status each_family(void *ctx, kv_slice family, kv_slice type, kv_slice help, kv_slice unit)
{
    struct families *f = ctx;
    struct http_json *json = &f->list.json;
    if (f->left == 0)
        return KV_CANCELED;
    f->left--;
    list_comma(&f->list);
    http_json_string(json, family);
    HTTP_JSON_RAW(json, ":[{\"type\":");
    http_json_string(json, type);
    HTTP_JSON_RAW(json, ",\"help\":");
    http_json_string(json, help);
    HTTP_JSON_RAW(json, ",\"unit\":");
    http_json_string(json, unit);
    HTTP_JSON_RAW(json, "}]");
    return json->failed;
}

void http_api_metadata(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct families f = {.left = UINT64_MAX};
    struct kv_err err;
    kv_slice metric;
    uint64_t limit, per_metric;
    kv_status rc = http_request_param(request, "metric", &metric, &err);
    if (rc >= 0)
        rc = http_param_limit(request, "limit", 0, &limit, &err);
    if (rc >= 0) /* there is one entry a metric here */
        rc = http_param_limit(request, "limit_per_metric", 0, &per_metric, &err);
    if (rc < 0) {
        http_api_bad_param(reply, &err);
        return;
    }
    f.left = limit ? limit : UINT64_MAX;
    http_api_begin(&f.list.json, reply);
    HTTP_JSON_RAW(&f.list.json, "{");
    rc = ts_metadata_each(app->db, metric, each_family, &f);
    if (rc < 0 && rc != KV_CANCELED && f.list.json.failed >= 0) {
        http_reply_failed(reply, rc, "metadata could not be read");
        return;
    }
    HTTP_JSON_RAW(&f.list.json, "}");
    http_api_end(&f.list.json, reply, NULL);
}

void http_api_format_query(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct kv_err err;
    struct ts_query_err query_err = {0};
    struct kv_buf text = {0};
    struct http_json json;
    kv_slice expr;
    if (http_request_param(request, "query", &expr, &err) < 0) {
        http_api_bad_param(reply, &err);
        return;
    }
    if (ts_format(expr, &text, &query_err) < 0) {
        http_api_query_failed(app, reply, "query", &query_err);
    } else {
        http_api_begin(&json, reply);
        http_json_string(&json, kv_buf_slice(&text));
        http_api_end(&json, reply, NULL);
    }
    kv_buf_release(&text);
}
