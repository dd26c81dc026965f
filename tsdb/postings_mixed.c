/* Lists of one label pair that span metrics, as one value (tsdb/docs/index.md). */
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "tsdb/key.h"
#include "tsdb/postings.h"

enum { FORM_MIXED = 4, FORM_DELTAS = 1 };

/* ---- writing ----------------------------------------------------------------------------------------------------- */

void ts_mixed_begin(struct ts_mixed_writer *w)
{
    kv_buf_clear(&w->bytes);
    w->metric = w->series = 0;
    w->first = 0;
}

void ts_mixed_release(struct ts_mixed_writer *w)
{
    kv_buf_release(&w->bytes);
}

kv_status ts_mixed_add(struct ts_mixed_writer *w, uint32_t metric, uint16_t batch, const uint16_t *members,
                       size_t n)
{
    struct kv_buf *out = &w->bytes;
    uint32_t series = (uint32_t)batch << 16 | members[0];
    kv_status rc;
    KV_ASSERT(n > 0 && metric > 0 && metric < TS_POSTINGS_MIXED && metric >= w->metric);
    if (out->len == 0) {
        KV_TRY(kv_buf_append_byte(out, FORM_MIXED));
        w->first = ts_ref_of(metric, series);
    }
    KV_TRY(kv_buf_append_varint(out, (uint64_t)(metric - w->metric) << 1 | (n == 1)));
    if (n == 1) {
        KV_TRY(kv_buf_append_varint(out, kv_zigzag((int64_t)series - (int64_t)w->series)));
        w->series = series;
    } else {
        size_t at =
            out->len; /* the length goes in front of the list, once it is known: nearly always one byte */
        KV_TRY(kv_buf_append_varint(out, batch));
        size_t length_at = out->len;
        KV_TRY(kv_buf_append_byte(out, 0));
        KV_TRY(ts_postings_encode(members, n, out));
        size_t len = out->len - length_at - 1;
        if (len < 0x80) {
            out->data[length_at] = (uint8_t)len;
        } else {
            size_t more = kv_varint_len(len) - 1;
            uint8_t *room = kv_buf_extend(out, more);
            if (!room) {
                out->len = at;
                return KV_NO_MEMORY;
            }
            memmove(out->data + length_at + 1 + more, out->data + length_at + 1, len);
            (void)kv_put_varint(out->data + length_at, len);
        }
        w->series = (uint32_t)batch << 16;
    }
    w->metric = metric;
    rc = KV_OK;
out:
    return rc;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

kv_status ts_mixed_open(struct ts_mixed_reader *r, kv_slice bytes)
{
    uint8_t form;
    *r = (struct ts_mixed_reader){.rest = bytes};
    return kv_take_byte(&r->rest, &form) < 0 || form != FORM_MIXED || r->rest.len == 0 ? KV_CORRUPT : KV_OK;
}

static KV_MUST kv_status mixed_one(struct ts_mixed_reader *r, struct ts_mixed_part *part)
{
    uint64_t step;
    if (kv_take_varint(&r->rest, &step) < 0)
        return KV_CORRUPT;
    int64_t series;
    if (__builtin_add_overflow((int64_t)r->series, kv_unzigzag(step), &series) || series < 0 ||
        series > UINT32_MAX)
        return KV_CORRUPT;
    r->series = (uint32_t)series;
    part->batch = (uint16_t)(r->series >> 16);
    part->one[0] = FORM_DELTAS;
    part->one_len = (uint8_t)(1 + kv_put_varint(part->one + 1, r->series & 0xffff));
    return KV_OK;
}

kv_status ts_mixed_next(struct ts_mixed_reader *r, struct ts_mixed_part *part)
{
    uint64_t head, batch;
    uint32_t metric_before = r->metric;
    uint16_t batch_before = part->batch;
    if (r->rest.len == 0)
        return KV_END;
    if (kv_take_varint(&r->rest, &head) < 0 || head >> 1 >= TS_POSTINGS_MIXED - r->metric)
        return KV_CORRUPT;
    r->metric += (uint32_t)(head >> 1);
    *part = (struct ts_mixed_part){.metric = r->metric};
    if (head & 1) {
        if (mixed_one(r, part) < 0)
            return KV_CORRUPT;
    } else {
        if (kv_take_varint(&r->rest, &batch) < 0 || batch > UINT16_MAX ||
            kv_take_lp(&r->rest, &part->list) < 0 || part->list.len == 0)
            return KV_CORRUPT;
        part->batch = (uint16_t)batch;
        r->series = (uint32_t)batch << 16;
    }
    bool behind = r->metric > metric_before || part->batch > batch_before;
    return r->metric > 0 && behind ? KV_OK : KV_CORRUPT;
}
