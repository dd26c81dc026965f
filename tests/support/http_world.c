#include "tests/support/http_world.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"
#include "kvcore/os/vfs.h"

#include <math.h>
#include <snappy-c.h>
#include <stdio.h>
#include <stdlib.h>

void http_world_open(struct http_world *world, const struct ts_options *store, int threads)
{
    struct kv_err err = {0};
    static const struct ts_options none;
    *world = (struct http_world){.vfs = kv_vfs_mem_new()};
    struct kv_env_options env = {.vfs = world->vfs, .threads = threads};
    KV_ASSERT(kv_env_open(&env, &world->env, &err) == KV_OK);
    kv_status rc = ts_open(world->env, "store", store ? store : &none, &world->app.db, &err);
    if (rc < 0)
        fprintf(stderr, "ts_open: %s\n", err.text);
    KV_ASSERT(rc == KV_OK);
    world->app.env = world->env;
    world->app.clock = kv_clock_system();
    world->app.metrics = &world->metrics;
    world->app.data_dir = "store";
    KV_ASSERT(http_app_init(&world->app) == KV_OK);
}

void http_world_close(struct http_world *world)
{
    world->app.stopping = true;
    if (world->server) {
        http_server_stop(world->server, 2000);
        http_server_free(world->server);
    }
    http_app_release(&world->app);
    KV_ASSERT(ts_close(world->app.db, NULL) == KV_OK);
    kv_env_close(world->env);
    kv_vfs_mem_free(world->vfs);
    kv_buf_release(&world->body);
}

uint16_t http_world_serve(struct http_world *world, const struct http_server_options *options)
{
    struct kv_err err = {0};
    struct http_server_options o = options ? *options : (struct http_server_options){0};
    o.listen = o.listen ? o.listen : "127.0.0.1:0";
    o.app = &world->app;
    o.metrics = &world->metrics;
    o.routes = http_routes;
    o.n_routes = http_n_routes;
    kv_status rc = http_server_start(&o, &world->server, &err);
    if (rc < 0)
        fprintf(stderr, "http_server_start: %s\n", err.text);
    KV_ASSERT(rc == KV_OK);
    return http_server_port(world->server);
}

static enum http_method method_named(const char *text, size_t n)
{
    static const struct {
        const char *name;
        enum http_method method;
    } methods[] = {{"GET", HTTP_GET}, {"POST", HTTP_POST}, {"PUT", HTTP_PUT}, {"DELETE", HTTP_DELETE}};
    for (size_t i = 0; i < 4; i++)
        if (strlen(methods[i].name) == n && memcmp(methods[i].name, text, n) == 0)
            return methods[i].method;
    return HTTP_OTHER;
}

unsigned http_world_call(struct http_world *world, const char *method_and_target, const char *const *headers,
                         kv_slice body)
{
    enum { HEADERS_MAX = 8 };
    struct http_pair pairs[HEADERS_MAX];
    struct http_request request;
    kv_slice arg;
    size_t n = strcspn(method_and_target, " ");
    const char *target = method_and_target + n + 1, *mark = strchr(target, '?');
    kv_slice path = kv_slice_of(target, mark ? (size_t)(mark - target) : strlen(target));
    http_request_init(&request, method_named(method_and_target, n), path, world->app.clock);
    request.query = mark ? kv_slice_str(mark + 1) : (kv_slice){0};
    request.body = body;
    request.headers = pairs;
    for (; headers && headers[2 * request.n_headers]; request.n_headers++)
        pairs[request.n_headers] = (struct http_pair){kv_slice_str(headers[2 * request.n_headers]),
                                                      kv_slice_str(headers[2 * request.n_headers + 1])};
    http_reply_init(&world->reply);
    const struct http_route *route = http_route_find(http_routes, http_n_routes, path, &arg);
    request.path_args[0] = arg;
    if (!route)
        http_reply_text(&world->reply, 404, "404 page not found\n");
    else if (!(route->methods & request.method))
        http_reply_text(&world->reply, 405, "");
    else
        route->handle(&world->app, &request, &world->reply);
    kv_buf_clear(&world->body);
    KV_ASSERT(http_reply_drain(&world->reply, &world->body) == KV_OK);
    KV_ASSERT(kv_buf_append_byte(&world->body, 0) == KV_OK);
    world->body.len--;
    http_reply_release(&world->reply);
    http_request_release(&request);
    return world->reply.status;
}

const char *http_world_escape(const char *text)
{
    static char kept[4][1 << 18];
    static int at;
    char *out = kept[at++ % 4], *p = out;
    for (; *text && p < out + sizeof kept[0] - 4; text++)
        p += snprintf(p, 4, "%%%02X", (unsigned char)*text);
    *p = 0;
    return out;
}

double http_world_value(struct http_world *world, const char *expr)
{
    char target[4096];
    snprintf(target, sizeof target, "GET /api/v1/query?query=%s", http_world_escape(expr));
    unsigned status = http_world_call(world, target, NULL, (kv_slice){0});
    KV_ASSERT(status == 200);
    const char *value = strstr(http_world_text(world), "\"value\":[");
    if (!value)
        return (double)NAN;
    return strtod(strchr(strchr(value, ','), '"') + 1, NULL);
}

void pb_varint(struct pb_writer *w, uint32_t field, uint64_t v)
{
    KV_ASSERT(kv_buf_append_varint(&w->out, (uint64_t)field << 3) == KV_OK);
    KV_ASSERT(kv_buf_append_varint(&w->out, v) == KV_OK);
}

void pb_double(struct pb_writer *w, uint32_t field, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    KV_ASSERT(kv_buf_append_varint(&w->out, (uint64_t)field << 3 | 1) == KV_OK);
    KV_ASSERT(kv_buf_append_fixed64(&w->out, bits) == KV_OK);
}

void pb_bytes(struct pb_writer *w, uint32_t field, kv_slice bytes)
{
    KV_ASSERT(kv_buf_append_varint(&w->out, (uint64_t)field << 3 | 2) == KV_OK);
    KV_ASSERT(kv_buf_append_lp(&w->out, bytes) == KV_OK);
}

void pb_series(struct pb_writer *w, const char *labels, const int64_t *times_ms, const double *values,
               size_t n)
{
    struct pb_writer series = {0}, part = {0};
    while (*labels) {
        size_t name = strcspn(labels, "="), value = strcspn(labels + name + 1, ",");
        kv_buf_clear(&part.out);
        pb_bytes(&part, 1, kv_slice_of(labels, name));
        pb_bytes(&part, 2, kv_slice_of(labels + name + 1, value));
        pb_bytes(&series, 1, kv_buf_slice(&part.out));
        labels += name + 1 + value;
        labels += *labels == ',';
    }
    for (size_t i = 0; i < n; i++) {
        kv_buf_clear(&part.out);
        pb_double(&part, 1, values[i]);
        pb_varint(&part, 2, (uint64_t)times_ms[i]);
        pb_bytes(&series, 2, kv_buf_slice(&part.out));
    }
    pb_bytes(w, 1, kv_buf_slice(&series.out));
    kv_buf_release(&series.out);
    kv_buf_release(&part.out);
}

void snappy_of(kv_slice in, struct kv_buf *out)
{
    size_t n = snappy_max_compressed_length(in.len);
    kv_buf_clear(out);
    uint8_t *to = kv_buf_extend(out, n);
    KV_ASSERT(to);
    KV_ASSERT(snappy_compress((const char *)in.data, in.len, (char *)to, &n) == SNAPPY_OK);
    out->len = n;
}
