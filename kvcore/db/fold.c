#include "kvcore/db/fold.h"
#include "kvcore/base/assert.h"

struct kv_fold_place {
    size_t offset, len;
    uint64_t version;
    enum kv_kind kind;
};

void kv_fold_release(struct kv_fold *fold)
{
    kv_buf_release(&fold->bytes);
    kv_buf_release(&fold->places);
    kv_buf_release(&fold->slices);
    kv_buf_release(&fold->result);
    fold->n = 0;
}

void kv_fold_clear(struct kv_fold *fold)
{
    enum { KEEP = 64 << 10 };
    kv_buf_clear_keep(&fold->bytes, KEEP);
    kv_buf_clear(&fold->places);
    kv_buf_clear(&fold->slices);
    fold->n = 0;
}

kv_status kv_fold_add(struct kv_fold *fold, uint64_t version, enum kv_kind kind, kv_slice value)
{
    struct kv_fold_place place = {fold->bytes.len, value.len, version, kind};
    struct kv_attrs attrs = {0};
    kv_slice rest = value;
    kv_status rc = kind == KV_KIND_MERGE ? kv_attrs_take(&rest, &attrs) : KV_OK;
    if (rc == KV_OK)
        rc = kv_buf_append(&fold->bytes, value);
    if (rc == KV_OK)
        rc = kv_buf_append(&fold->places, kv_slice_of(&place, sizeof place));
    if (rc < 0)
        return rc;
    fold->n++;
    return kind != KV_KIND_MERGE || (attrs.flags & (KV_ATTR_BASE | KV_ATTR_NO_BASE)) ? KV_END : KV_OK;
}

kv_status kv_fold_add_base(struct kv_fold *fold, uint64_t version, const struct kv_attrs *attrs,
                           kv_slice value)
{
    uint8_t head[KV_ATTRS_LEN_MAX];
    size_t head_len = kv_attrs_put(head, attrs);
    struct kv_fold_place place = {fold->bytes.len, head_len + value.len, version, KV_KIND_RICH};
    kv_status rc = kv_buf_append(&fold->bytes, kv_slice_of(head, head_len));
    if (rc == KV_OK)
        rc = kv_buf_append(&fold->bytes, value);
    if (rc == KV_OK)
        rc = kv_buf_append(&fold->places, kv_slice_of(&place, sizeof place));
    if (rc < 0)
        return rc;
    fold->n++;
    return KV_END;
}

static struct kv_fold_place fold_place(const struct kv_fold *fold, size_t i)
{
    struct kv_fold_place place;
    KV_ASSERT(i < fold->n);
    memcpy(&place, fold->places.data + i * sizeof place, sizeof place);
    return place;
}

void kv_fold_entry(const struct kv_fold *fold, size_t i, struct kv_entry *out)
{
    struct kv_fold_place place = fold_place(fold, i);
    out->version = place.version;
    out->kind = place.kind;
    out->value = kv_slice_of(fold->bytes.data + place.offset, place.len);
}

/* Appends the operands of a merge entry to slices; its base, if it has one, to *base. */
static kv_status fold_operands(struct kv_fold *fold, kv_slice value, struct kv_attrs *attrs, kv_slice *base)
{
    kv_status rc = kv_attrs_take(&value, attrs);
    if (rc == KV_OK && (attrs->flags & KV_ATTR_BASE))
        rc = kv_take_lp(&value, base);
    while (rc == KV_OK && value.len) {
        kv_slice operand;
        rc = kv_take_lp(&value, &operand);
        if (rc == KV_OK)
            rc = kv_buf_append(&fold->slices, kv_slice_of(&operand, sizeof operand));
    }
    return rc;
}

/* Oldest first: what they apply to, with its attributes, and the operands into slices. */
static kv_status fold_gather(struct kv_fold *fold, struct kv_attrs *attrs, kv_slice *base, bool *has_base)
{
    kv_status rc = KV_OK;
    *base = (kv_slice){0};
    *has_base = false;
    *attrs = (struct kv_attrs){0};
    kv_buf_clear(&fold->slices);
    for (size_t i = fold->n; i-- > 0 && rc == KV_OK;) {
        struct kv_entry entry;
        struct kv_attrs here = {0};
        kv_fold_entry(fold, i, &entry);
        if (entry.kind == KV_KIND_MERGE) {
            rc = fold_operands(fold, entry.value, &here, base);
            if (here.flags & KV_ATTR_BASE)
                *has_base = true;
        } else {
            KV_ASSERT(i + 1 == fold->n && (entry.kind == KV_KIND_PUT || entry.kind == KV_KIND_RICH));
            *base = entry.value;
            *has_base = true;
            if (entry.kind == KV_KIND_RICH)
                rc = kv_attrs_take(base, &here);
        }
        if (i + 1 == fold->n)
            *attrs = here;
    }
    attrs->flags &= KV_ATTR_ENDS_HISTORY;
    return rc;
}

kv_status kv_fold_run(struct kv_fold *fold, const struct kv_merge_operator *how, kv_slice key, uint64_t now_s,
                      struct kv_attrs *attrs, kv_slice *value)
{
    kv_slice base;
    bool has_base;
    kv_status rc = fold_gather(fold, attrs, &base, &has_base);
    if (rc < 0)
        return rc;
    if (kv_attrs_expired(attrs, now_s)) {
        has_base = false;
        *attrs = (struct kv_attrs){0};
    }
    kv_buf_clear(&fold->result);
    rc = how->fold(how->ctx, key, has_base ? &base : NULL, (const kv_slice *)(const void *)fold->slices.data,
                   fold->slices.len / sizeof(kv_slice), &fold->result);
    *value = kv_buf_slice(&fold->result);
    return rc < 0 ? rc : KV_OK;
}

kv_status kv_fold_combine(struct kv_fold *fold, kv_slice *value)
{
    kv_slice base;
    bool has_base;
    struct kv_attrs attrs;
    uint8_t head[KV_ATTRS_LEN_MAX];
    kv_status rc = fold_gather(fold, &attrs, &base, &has_base);
    if (has_base)
        attrs.flags |= KV_ATTR_BASE;
    kv_buf_clear(&fold->result);
    if (rc == KV_OK)
        rc = kv_buf_append(&fold->result, kv_slice_of(head, kv_attrs_put(head, &attrs)));
    if (rc == KV_OK && has_base)
        rc = kv_buf_append_lp(&fold->result, base);
    for (size_t i = 0; i < fold->slices.len && rc == KV_OK; i += sizeof(kv_slice)) {
        kv_slice operand;
        memcpy(&operand, fold->slices.data + i, sizeof operand);
        rc = kv_buf_append_lp(&fold->result, operand);
    }
    *value = kv_buf_slice(&fold->result);
    return rc;
}
