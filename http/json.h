/*
 * json.h - a streaming JSON writer: appends to a buffer, knows nothing of documents. Numbers of results are
 * strings in the shortest form that reads back to the same double, as Prometheus prints them.
 *
 * Threads    one at a time.
 * Ownership  the buffer is the caller's.
 * Failure    sticky in `failed`: write on, ask once at the end.
 */
#ifndef HTTP_JSON_H
#define HTTP_JSON_H

#include "kvcore/base/buf.h"
#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

struct http_json {
    struct kv_buf *out;
    kv_status failed; /* the first failure */
};

static inline void http_json_init(struct http_json *json, struct kv_buf *out)
{
    *json = (struct http_json){.out = out};
}
/* Bytes as they are: punctuation, keys. */
void http_json_raw(struct http_json *json, kv_slice bytes);
#define HTTP_JSON_RAW(json, literal) http_json_raw((json), KV_STR(literal))
/* A quoted string; control bytes, quotes, backslashes and < > & escaped, invalid UTF-8 replaced by U+FFFD. */
void http_json_string(struct http_json *json, kv_slice text);
void http_json_str(struct http_json *json, const char *text);
void http_json_int(struct http_json *json, int64_t v);
void http_json_uint(struct http_json *json, uint64_t v);
/* A number that is not a sample's (timings): unquoted, NaN and infinities as 0. */
void http_json_number(struct http_json *json, double v);
/* Milliseconds as seconds: 1767275000, 1767275000.500, -0.001. */
void http_json_time(struct http_json *json, int64_t ms);
/* [time,"value"] */
void http_json_point(struct http_json *json, int64_t ms, double v);

#endif
