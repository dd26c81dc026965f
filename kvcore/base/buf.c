#include "kvcore/base/buf.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"

#include <stdio.h>

void kv_buf_release(struct kv_buf *buf)
{
    kv_free(buf->data);
    *buf = (struct kv_buf){.max = buf->max};
}

kv_status kv_buf_reserve(struct kv_buf *buf, size_t extra)
{
    size_t max = buf->max ? buf->max : KV_BUF_MAX_DEFAULT;
    if (extra > max || buf->len > max - extra)
        return KV_LIMIT;
    size_t need = buf->len + extra;
    if (need <= buf->capacity)
        return KV_OK;
    size_t capacity = buf->capacity ? buf->capacity : 64;
    while (capacity < need)
        capacity *= 2;
    if (capacity > max)
        capacity = max;
    if (kv_mem_exact)
        capacity = need;
    uint8_t *data = kv_realloc(buf->data, capacity);
    if (!data)
        return KV_NO_MEMORY;
    buf->data = data;
    buf->capacity = capacity;
    return KV_OK;
}

uint8_t *kv_buf_extend(struct kv_buf *buf, size_t n)
{
    if (kv_buf_reserve(buf, n) < 0)
        return NULL;
    uint8_t *at = buf->data ? buf->data + buf->len : NULL; /* NULL: nothing of nothing */
    buf->len += n;
    return at;
}

kv_status kv_buf_append_growing(struct kv_buf *buf, kv_slice bytes)
{
    kv_status rc = kv_buf_reserve(buf, bytes.len);
    if (rc == KV_OK) {
        memcpy(buf->data + buf->len, bytes.data, bytes.len);
        buf->len += bytes.len;
    }
    return rc;
}

kv_status kv_buf_append_byte(struct kv_buf *buf, uint8_t byte)
{
    return kv_buf_append(buf, kv_slice_of(&byte, 1));
}

kv_status kv_buf_append_fixed32(struct kv_buf *buf, uint32_t v)
{
    uint8_t bytes[4];
    kv_put_fixed32(bytes, v);
    return kv_buf_append(buf, kv_slice_of(bytes, sizeof bytes));
}

kv_status kv_buf_append_fixed64(struct kv_buf *buf, uint64_t v)
{
    uint8_t bytes[8];
    kv_put_fixed64(bytes, v);
    return kv_buf_append(buf, kv_slice_of(bytes, sizeof bytes));
}

kv_status kv_buf_append_varint(struct kv_buf *buf, uint64_t v)
{
    uint8_t bytes[KV_VARINT_LEN_MAX];
    return kv_buf_append(buf, kv_slice_of(bytes, kv_put_varint(bytes, v)));
}

kv_status kv_buf_append_lp(struct kv_buf *buf, kv_slice bytes)
{
    if (bytes.len > SIZE_MAX - KV_VARINT_LEN_MAX)
        return KV_LIMIT;
    kv_status rc = kv_buf_reserve(buf, bytes.len + KV_VARINT_LEN_MAX);
    if (rc == KV_OK)
        rc = kv_buf_append_varint(buf, bytes.len);
    return rc == KV_OK ? kv_buf_append(buf, bytes) : rc;
}

kv_status kv_buf_vprintf(struct kv_buf *buf, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    kv_status rc = n < 0 ? KV_INVALID : kv_buf_reserve(buf, (size_t)n + 1);
    if (rc == KV_OK) {
        vsnprintf((char *)buf->data + buf->len, (size_t)n + 1, format, again);
        buf->len += (size_t)n;
    }
    va_end(again);
    return rc;
}

kv_status kv_buf_printf(struct kv_buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    kv_status rc = kv_buf_vprintf(buf, format, args);
    va_end(args);
    return rc;
}
