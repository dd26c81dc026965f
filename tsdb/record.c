#include "tsdb/record.h"

static kv_status record_take_step(const uint8_t **at, const uint8_t *end, uint32_t *value)
{
    kv_slice in = {*at, (size_t)(end - *at)};
    uint64_t z;
    if (kv_take_varint(&in, &z) < 0 || z > UINT32_MAX)
        return KV_CORRUPT;
    *at = in.data;
    *value += (uint32_t)(z >> 1) ^ (0 - (uint32_t)(z & 1));
    return KV_OK;
}

kv_status ts_record_put(struct ts_record_writer *writer, struct kv_buf *out, uint64_t ref, bool is_new,
                        const int64_t *times_ms, const double *values, size_t n, const bool *take,
                        size_t n_taken)
{
    if (n_taken > UINT32_MAX - writer->samples || writer->series == UINT32_MAX)
        return KV_LIMIT;
    kv_status rc = kv_buf_reserve(out, 3 * KV_VARINT_LEN_MAX + n_taken * TS_SAMPLE_LEN_MAX);
    if (rc < 0)
        return rc;
    uint8_t *p = out->data + out->len;
    p += kv_put_varint(p, (uint64_t)n_taken << 1 | is_new);
    if (is_new) {
        p += kv_put_varint(p, ref);
    } else {
        p += kv_put_varint(p, kv_zigzag((int32_t)((uint32_t)(ref >> 32) - (uint32_t)(writer->ref >> 32))));
        p += kv_put_varint(p, kv_zigzag((int32_t)((uint32_t)ref - (uint32_t)writer->ref)));
        writer->ref = ref;
    }
    struct ts_sample_state state = {.time_ms = writer->first_ms};
    bool first = true;
    for (size_t i = 0; i < n; i++) {
        if (take && !take[i])
            continue;
        p += ts_sample_put(&state, times_ms[i], ts_double_bits(values[i]), p);
        if (first)
            writer->first_ms = times_ms[i];
        first = false;
    }
    out->len = (size_t)(p - out->data);
    writer->series++;
    writer->samples += (uint32_t)n_taken;
    return KV_OK;
}

void ts_record_finish(const struct ts_record_writer *writer, uint8_t header[TS_RECORD_BODY_HEADER_LEN],
                      uint32_t n_new)
{
    kv_put_fixed32(header, writer->series);
    kv_put_fixed32(header + 4, writer->samples);
    kv_put_fixed32(header + 8, n_new);
}

kv_status ts_record_open(kv_slice body, struct ts_record_reader *out)
{
    if (body.len < TS_RECORD_BODY_HEADER_LEN)
        return KV_CORRUPT;
    *out = (struct ts_record_reader){.series = kv_get_fixed32(body.data),
                                     .samples = kv_get_fixed32(body.data + 4),
                                     .n_new = kv_get_fixed32(body.data + 8)};
    size_t table = (size_t)out->n_new * 8;
    if (body.len - TS_RECORD_BODY_HEADER_LEN < table)
        return KV_CORRUPT;
    out->at = body.data + TS_RECORD_BODY_HEADER_LEN;
    out->end = out->refs = body.data + body.len - table;
    return KV_OK;
}

kv_status ts_record_series(struct ts_record_reader *reader, uint64_t *ref, uint32_t *n)
{
    if (reader->left != 0)
        return KV_CORRUPT;
    if (reader->series == 0)
        return reader->at == reader->end && reader->samples == 0 ? KV_END : KV_CORRUPT;
    kv_slice in = {reader->at, (size_t)(reader->end - reader->at)};
    uint64_t head, place;
    if (kv_take_varint(&in, &head) < 0 || head >> 1 == 0 || head >> 1 > reader->samples)
        return KV_CORRUPT;
    reader->left = (uint32_t)(head >> 1);
    reader->samples -= reader->left;
    reader->series--;
    if (head & 1) {
        if (kv_take_varint(&in, &place) < 0 || place >= reader->n_new)
            return KV_CORRUPT;
        reader->at = in.data;
        *ref = kv_get_fixed64(reader->refs + 8 * place);
    } else {
        uint32_t metric = (uint32_t)(reader->ref >> 32), series = (uint32_t)reader->ref;
        reader->at = in.data;
        if (record_take_step(&reader->at, reader->end, &metric) < 0 ||
            record_take_step(&reader->at, reader->end, &series) < 0)
            return KV_CORRUPT;
        *ref = reader->ref = (uint64_t)metric << 32 | series;
    }
    reader->state = (struct ts_sample_state){.time_ms = reader->first_ms};
    reader->first = true;
    *n = reader->left;
    return KV_OK;
}

kv_status ts_record_put_delete(struct kv_buf *out, const uint64_t *refs, size_t n, int64_t from_ms,
                               int64_t to_ms)
{
    kv_status rc;
    KV_TRY(kv_buf_append_byte(out, TS_RECORD_DELETE));
    KV_TRY(kv_buf_append_fixed64(out, (uint64_t)from_ms));
    KV_TRY(kv_buf_append_fixed64(out, (uint64_t)to_ms));
    KV_TRY(kv_buf_append_varint(out, n));
    for (size_t i = 0; i < n; i++)
        KV_TRY(kv_buf_append_varint(out, i ? refs[i] - refs[i - 1] : refs[0]));
out:
    return rc;
}

kv_status ts_record_open_delete(kv_slice record, struct ts_record_delete *out)
{
    uint64_t from, to;
    *out = (struct ts_record_delete){.in = record};
    if (kv_take_fixed64(&out->in, &from) < 0 || kv_take_fixed64(&out->in, &to) < 0 ||
        kv_take_varint(&out->in, &out->left) < 0 || out->left > out->in.len)
        return KV_CORRUPT;
    out->from_ms = (int64_t)from;
    out->to_ms = (int64_t)to;
    return out->from_ms <= out->to_ms ? KV_OK : KV_CORRUPT;
}

kv_status ts_record_deleted(struct ts_record_delete *reader, uint64_t *ref)
{
    if (reader->left == 0)
        return reader->in.len == 0 ? KV_END : KV_CORRUPT;
    uint64_t step;
    if (kv_take_varint(&reader->in, &step) < 0 || step == 0 || step > UINT64_MAX - reader->ref)
        return KV_CORRUPT;
    reader->left--;
    *ref = reader->ref += step;
    return KV_OK;
}
