/*
 * attrs.h - what stands in front of the user's bytes in the value of a rich entry: expiry, user meta, the mark
 * that ends a key's history; and the operands of a merge entry. Bytes: kvcore/docs/table.md.
 *
 *   attrs   := flags:u8  [expiry:varint]  [meta:u8]
 *   rich    := attrs value
 *   pointer := attrs segment:varint offset:varint len:varint [value_len:varint index_len:varint]
 *                                   the last two with KV_ATTR_LARGE: the value lies there in blocks (kvcore/vlog/large.h)
 *   merge   := attrs operand{}      operand := len:varint bytes; with KV_ATTR_BASE the first is the value they
 *                                   apply to, and the attributes are that value's
 *
 * Threads any.  Ownership slices point into what was given.  Failure KV_CORRUPT, KV_TOO_NEW: an unknown flag.
 */
#ifndef KV_ATTRS_H
#define KV_ATTRS_H

#include "kvcore/base/buf.h"
#include "kvcore/sst/entry.h"

enum kv_attr_flag {
    KV_ATTR_EXPIRY = 1,
    KV_ATTR_META = 2,
    KV_ATTR_ENDS_HISTORY = 4, /* older versions of the key are not kept */
    KV_ATTR_BASE = 8,         /* merge: the first operand is a whole value */
    KV_ATTR_NO_BASE = 16,     /* merge: nothing older counts; the key was deleted before */
    KV_ATTR_LARGE = 32,       /* pointer: to a value in blocks */
    KV_ATTR_KNOWN = 63,
};
enum { KV_ATTRS_LEN_MAX = 1 + KV_VARINT_LEN_MAX + 1 };

struct kv_attrs {
    uint64_t expires_at_s; /* unix seconds; 0: never */
    uint8_t meta;
    uint8_t flags; /* of enum kv_attr_flag */
};

static inline bool kv_attrs_plain(const struct kv_attrs *attrs)
{
    return !attrs->expires_at_s && !attrs->meta && !attrs->flags;
}

/* Writes them at p (room for KV_ATTRS_LEN_MAX), with the flags that say what is there. */
static inline size_t kv_attrs_put(uint8_t *p, const struct kv_attrs *attrs)
{
    size_t n = 1;
    unsigned flags = attrs->flags & ~(unsigned)(KV_ATTR_EXPIRY | KV_ATTR_META);
    if (attrs->expires_at_s) {
        flags |= KV_ATTR_EXPIRY;
        n += kv_put_varint(p + n, attrs->expires_at_s);
    }
    if (attrs->meta) {
        flags |= KV_ATTR_META;
        p[n++] = attrs->meta;
    }
    p[0] = (uint8_t)flags;
    return n;
}

/* Takes them off the front of *value. */
static inline KV_MUST kv_status kv_attrs_take(kv_slice *value, struct kv_attrs *attrs)
{
    *attrs = (struct kv_attrs){0};
    if (kv_take_byte(value, &attrs->flags) < 0)
        return KV_CORRUPT;
    if (attrs->flags & ~(unsigned)KV_ATTR_KNOWN)
        return KV_TOO_NEW;
    if ((attrs->flags & KV_ATTR_EXPIRY) && kv_take_varint(value, &attrs->expires_at_s) < 0)
        return KV_CORRUPT;
    if ((attrs->flags & KV_ATTR_META) && kv_take_byte(value, &attrs->meta) < 0)
        return KV_CORRUPT;
    return KV_OK;
}

static inline bool kv_attrs_expired(const struct kv_attrs *attrs, uint64_t now_s)
{
    return attrs->expires_at_s && attrs->expires_at_s <= now_s;
}

/* Makes *entry a put of value with these attributes: plain if there are none, else rich, its bytes in *buf. */
static inline KV_MUST kv_status kv_attrs_entry(const struct kv_attrs *attrs, kv_slice value,
                                               struct kv_buf *buf, struct kv_entry *entry)
{
    uint8_t head[KV_ATTRS_LEN_MAX];
    entry->kind = KV_KIND_PUT;
    entry->value = value;
    if (kv_attrs_plain(attrs))
        return KV_OK;
    kv_buf_clear(buf);
    kv_status rc = kv_buf_append(buf, kv_slice_of(head, kv_attrs_put(head, attrs)));
    if (rc == KV_OK)
        rc = kv_buf_append(buf, value);
    entry->kind = KV_KIND_RICH;
    entry->value = kv_buf_slice(buf);
    return rc;
}

/* Where a separated value lies. kv_pointer_take: all of *value. */
struct kv_pointer {
    uint64_t segment, offset, len; /* len: of what is stored there */
    uint64_t value_len,
        index_len; /* of a value in blocks, and of the index at its end as stored; 0: one record */
};
enum { KV_POINTER_LEN_MAX = 5 * KV_VARINT_LEN_MAX };
static inline size_t kv_pointer_put(uint8_t *p, const struct kv_pointer *pointer)
{
    size_t n = kv_put_varint(p, pointer->segment);
    n += kv_put_varint(p + n, pointer->offset);
    n += kv_put_varint(p + n, pointer->len);
    if (!pointer->value_len)
        return n;
    n += kv_put_varint(p + n, pointer->value_len);
    return n + kv_put_varint(p + n, pointer->index_len);
}
static inline KV_MUST kv_status kv_pointer_take(kv_slice *value, struct kv_pointer *pointer)
{
    if (kv_take_varint(value, &pointer->segment) < 0 || kv_take_varint(value, &pointer->offset) < 0 ||
        kv_take_varint(value, &pointer->len) < 0)
        return KV_CORRUPT;
    pointer->value_len = pointer->index_len = 0;
    if (value->len == 0)
        return KV_OK;
    if (kv_take_varint(value, &pointer->value_len) < 0 || kv_take_varint(value, &pointer->index_len) < 0 ||
        value->len > 0 || pointer->value_len == 0 || pointer->index_len == 0 ||
        pointer->index_len > pointer->len)
        return KV_CORRUPT;
    return KV_OK;
}

#endif
