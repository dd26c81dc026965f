/*
 * inflate.h - content codings of request bodies: gzip (also several members), deflate (zlib or raw), snappy
 * (block format), zstd.
 *
 * Output is bounded before it is made: by the caller's maximum, and by what the coding can reach from so few
 * bytes.
 * Threads    an inflater belongs to one at a time; it keeps the codecs' state warm.
 * Failure    KV_INVALID: truncated, damaged, or followed by other bytes (400). KV_LIMIT: more than max (413).
 *            KV_NO_MEMORY. *out is then undefined but still the caller's.
 */
#ifndef HTTP_INFLATE_H
#define HTTP_INFLATE_H

#include "kvcore/base/buf.h"
#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

enum http_coding { HTTP_IDENTITY, HTTP_GZIP, HTTP_DEFLATE, HTTP_SNAPPY, HTTP_ZSTD };
enum { HTTP_INFLATED_MAX_DEFAULT = 64 << 20, HTTP_ZSTD_WINDOW_LOG_MAX = 23 };

struct http_inflater;
KV_MUST kv_status http_inflater_new(struct http_inflater **out);
void http_inflater_free(struct http_inflater *inflater); /* NULL is fine */

/* Who pays for the output: asked before it grows to `bytes` in all; a negative answer stops the inflating and
 * is returned. NULL: nobody. */
struct http_inflate_account {
    kv_status (*grow)(void *ctx, size_t bytes);
    void *ctx;
};

/* Reads a Content-Encoding header: empty or "identity", "gzip" ("x-gzip"), "deflate", "snappy", "zstd".
 * KV_UNSUPPORTED for any other and for lists. */
KV_MUST kv_status http_coding_parse(kv_slice header, enum http_coding *out);
/* Replaces the content of *out by the decoded bytes. coding is not HTTP_IDENTITY. */
KV_MUST kv_status http_inflate(struct http_inflater *inflater, enum http_coding coding, kv_slice in,
                               size_t max, const struct http_inflate_account *account, struct kv_buf *out,
                               struct kv_err *err);

#endif
