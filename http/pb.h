/*
 * pb.h - a protobuf pull parser: walks the fields of one message, copies nothing, allocates nothing. Nested
 * messages are slices to walk in turn, so depth costs the caller's own frames, never the input's. (Wire
 * format: protobuf.dev, "Encoding".)
 *
 * Field numbers 1 to 2^29-1; groups (wire types 3 and 4) and types 6 and 7 are refused; varints are at most
 * 10 bytes.
 * Threads    any.
 * Failure    KV_INVALID with `why` set, at offset `at` of the bytes given to http_pb_init.
 */
#ifndef HTTP_PB_H
#define HTTP_PB_H

#include "kvcore/base/coding.h"
#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

enum { HTTP_PB_VARINT = 0, HTTP_PB_FIXED64 = 1, HTTP_PB_BYTES = 2, HTTP_PB_FIXED32 = 5 };

struct http_pb {
    const uint8_t *start, *at, *end;
    const char *why; /* of the failure; static */
};
struct http_pb_field {
    uint32_t number;
    uint32_t type;  /* HTTP_PB_* */
    uint64_t value; /* varint, fixed64 or fixed32 bits */
    kv_slice bytes; /* HTTP_PB_BYTES */
};

static inline void http_pb_init(struct http_pb *pb, kv_slice message)
{
    *pb = (struct http_pb){.start = message.data, .at = message.data, .end = message.data + message.len};
}
/* KV_OK with *field set, KV_END after the last, KV_INVALID. */
KV_MUST kv_status http_pb_next(struct http_pb *pb, struct http_pb_field *field);
static inline size_t http_pb_offset(const struct http_pb *pb)
{
    return (size_t)(pb->at - pb->start);
}

#endif
