/*
 * buf.h - owned, growing bytes with a maximum set at birth, so no input can grow one without end.
 *
 * {0} is a valid empty buffer with the default maximum (KV_BUF_MAX_DEFAULT).
 * Threads    one at a time.
 * Failure    KV_NO_MEMORY, or KV_LIMIT past the maximum; the buffer is unchanged then.
 */
#ifndef KV_BUF_H
#define KV_BUF_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

#include <stdarg.h>

#define KV_BUF_MAX_DEFAULT ((size_t)1 << 30)

struct kv_buf {
    uint8_t *data;
    size_t len;
    size_t capacity;
    size_t max; /* 0: KV_BUF_MAX_DEFAULT */
};

static inline void kv_buf_init(struct kv_buf *buf, size_t max)
{
    *buf = (struct kv_buf){.max = max};
}
KV_API void
kv_buf_release(struct kv_buf *buf); /* frees; leaves an empty buffer with the same maximum; twice is fine */
static inline void kv_buf_clear(struct kv_buf *buf)
{
    buf->len = 0; /* keeps the memory */
}
/* Clears, and gives the memory back when it is more than `keep` bytes: one large use does not stay for ever. */
static inline void kv_buf_clear_keep(struct kv_buf *buf, size_t keep)
{
    if (buf->capacity > keep)
        kv_buf_release(buf);
    buf->len = 0;
}
static inline kv_slice kv_buf_slice(const struct kv_buf *buf)
{
    return (kv_slice){buf->data, buf->len};
}

/* Room for `extra` more bytes behind len. */
KV_API KV_MUST kv_status kv_buf_reserve(struct kv_buf *buf, size_t extra);
/* Makes room for n bytes, counts them in len and returns where they begin (uninitialised); NULL on failure.
 */
KV_API KV_MUST uint8_t *kv_buf_extend(struct kv_buf *buf, size_t n);
KV_API KV_MUST kv_status kv_buf_append_growing(struct kv_buf *buf, kv_slice bytes); /* private */
static inline KV_MUST kv_status kv_buf_append(struct kv_buf *buf, kv_slice bytes)
{
    if (bytes.len == 0)
        return KV_OK;
    if (!buf->data || bytes.len > buf->capacity - buf->len)
        return kv_buf_append_growing(buf, bytes);
    memcpy(buf->data + buf->len, bytes.data, bytes.len);
    buf->len += bytes.len;
    return KV_OK;
}
KV_API KV_MUST kv_status kv_buf_append_byte(struct kv_buf *buf, uint8_t byte);
KV_API KV_MUST kv_status kv_buf_append_fixed32(struct kv_buf *buf, uint32_t v); /* little-endian */
KV_API KV_MUST kv_status kv_buf_append_fixed64(struct kv_buf *buf, uint64_t v); /* little-endian */
KV_API KV_MUST kv_status kv_buf_append_varint(struct kv_buf *buf, uint64_t v);
/* A varint length, then the bytes. */
KV_API KV_MUST kv_status kv_buf_append_lp(struct kv_buf *buf, kv_slice bytes);
KV_API KV_MUST kv_status kv_buf_printf(struct kv_buf *buf, const char *format, ...) KV_PRINTF(2, 3);
KV_API KV_MUST kv_status kv_buf_vprintf(struct kv_buf *buf, const char *format, va_list args);

#endif
