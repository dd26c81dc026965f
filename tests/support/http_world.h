/*
 * http_world.h - a store in memory with the API in front of it: handlers are called without a socket, or a server on loopback answers.
 */
#ifndef HTTP_WORLD_H
#define HTTP_WORLD_H

#include "http/api/app.h"
#include "http/server.h"
#include "tests/support/raw_http.h"

struct http_world {
    struct kv_vfs *vfs;
    struct kv_env *env;
    struct http_metrics metrics;
    struct http_app app;
    struct http_server *server; /* after http_world_serve */
    struct kv_buf body;         /* of the last answer, NUL behind */
    struct http_reply reply;    /* of the last answer: status, headers */
};

/* Asserts on failure. store (may be NULL): options of the store. threads: 0, or KV_THREADS_NONE. */
void http_world_open(struct http_world *world, const struct ts_options *store, int threads);
void http_world_close(struct http_world *world);
/* Starts a server on a port the system chooses; options may be NULL; app, routes, metrics and listen are filled in. */
uint16_t http_world_serve(struct http_world *world, const struct http_server_options *options);

/* Routes "METHOD /path?query" and runs its handler: status, with the answer's text in world->body. headers: NULL-terminated list of names and
 * values in turn; NULL: none. 404 when there is no route, 405 when it takes another method. */
unsigned http_world_call(struct http_world *world, const char *method_and_target, const char *const *headers,
                         kv_slice body);
static inline const char *http_world_text(const struct http_world *world)
{
    return (const char *)world->body.data;
}
/* The number an instant query of expr gives for its only series, or NaN when it gives none. */
double http_world_value(struct http_world *world, const char *expr);
/* name percent-escaped for a URL; static, good until the fourth call after. */
const char *http_world_escape(const char *text);

/* A snappy-coded remote_write body of one series per call of the adder; built with the small writer below. */
struct pb_writer {
    struct kv_buf out;
};
void pb_varint(struct pb_writer *w, uint32_t field, uint64_t v);
void pb_double(struct pb_writer *w, uint32_t field, double v);
void pb_bytes(struct pb_writer *w, uint32_t field, kv_slice bytes);
/* One TimeSeries with labels "name=value,name=value" and n samples. */
void pb_series(struct pb_writer *w, const char *labels, const int64_t *times_ms, const double *values,
               size_t n);
/* *out is replaced. */
void snappy_of(kv_slice in, struct kv_buf *out);

#endif
