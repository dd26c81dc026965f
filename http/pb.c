#include "http/pb.h"

static kv_status fail(struct http_pb *pb, const char *why)
{
    pb->why = why;
    return KV_INVALID;
}

static kv_status take_varint(struct http_pb *pb, uint64_t *v)
{
    const uint8_t *p = pb->at;
    if (p < pb->end && *p < 0x80) {
        *v = *p;
        pb->at = p + 1;
        return KV_OK;
    }
    kv_slice in = {p, (size_t)(pb->end - p)};
    if (kv_take_varint(&in, v) < 0)
        return fail(pb, in.len < KV_VARINT_LEN_MAX ? "truncated varint" : "varint longer than 10 bytes");
    pb->at = in.data;
    return KV_OK;
}

static kv_status take_fixed(struct http_pb *pb, size_t n, uint64_t *v)
{
    if ((size_t)(pb->end - pb->at) < n)
        return fail(pb, "truncated number");
    *v = n == 8 ? kv_get_fixed64(pb->at) : kv_get_fixed32(pb->at);
    pb->at += n;
    return KV_OK;
}

static kv_status take_bytes(struct http_pb *pb, kv_slice *bytes)
{
    uint64_t n;
    if (take_varint(pb, &n) < 0)
        return KV_INVALID;
    if (n > (size_t)(pb->end - pb->at))
        return fail(pb, "length beyond the end of the message");
    *bytes = (kv_slice){pb->at, (size_t)n};
    pb->at += n;
    return KV_OK;
}

kv_status http_pb_next(struct http_pb *pb, struct http_pb_field *field)
{
    uint64_t tag;
    if (pb->at >= pb->end)
        return KV_END;
    if (take_varint(pb, &tag) < 0)
        return KV_INVALID;
    if (tag >> 3 == 0 || tag >> 3 > (1u << 29) - 1)
        return fail(pb, "field number out of range");
    field->number = (uint32_t)(tag >> 3);
    field->type = tag & 7;
    field->value = 0;
    field->bytes = (kv_slice){0};
    switch (field->type) {
    case HTTP_PB_VARINT:
        return take_varint(pb, &field->value);
    case HTTP_PB_FIXED64:
        return take_fixed(pb, 8, &field->value);
    case HTTP_PB_BYTES:
        return take_bytes(pb, &field->bytes);
    case HTTP_PB_FIXED32:
        return take_fixed(pb, 4, &field->value);
    case 3:
    case 4:
        return fail(pb, "group (wire type 3 or 4)");
    default:
        return fail(pb, "unknown wire type");
    }
}
