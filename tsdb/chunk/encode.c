/* encode.c - writing a chunk: how its times and values are coded is chosen by trying, the smallest stays. */
#include "tsdb/chunk/chunk.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"
#include "tsdb/chunk/codec.h"
#include "tsdb/chunk/format.h"
#include "tsdb/chunk/jitter.h"
#include "tsdb/chunk/pack.h"
#include "tsdb/chunk/sequence.h"

enum {
    CHUNK_SUMMARY_SAMPLES = 512, /* fewer are decoded sooner than the bytes are worth */
    CHUNK_EXCEPTIONS_MAX = TS_CHUNK_SAMPLES_MAX / 16 + 1
};

struct chunk_plan {
    const int64_t *times_ms;
    const double *values;
    size_t n, block;
    enum ts_chunk_effort effort;
    enum ts_time_codec time_codec;
    enum ts_value_codec value_codec;
    int64_t step_ms;                       /* of the time codecs step and jitter */
    struct ts_sequence times_sequence;     /* of late_ms */
    int64_t late_ms[TS_CHUNK_SAMPLES_MAX]; /* how far from a fixed step since the first */
    struct ts_int_params params;
    int64_t q[TS_CHUNK_SAMPLES_MAX];
    struct ts_sequence values_sequence; /* of q */
    struct kv_buf summary;              /* empty: none */
    int64_t scratch[TS_CHUNK_SAMPLES_MAX];
    uint16_t exceptions[CHUNK_EXCEPTIONS_MAX];
};

static uint64_t chunk_bits(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static bool chunk_same_bits(const double *values, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (chunk_bits(values[i]) != chunk_bits(values[0]))
            return false;
    return true;
}

static bool chunk_fixed_step(const int64_t *times_ms, size_t n)
{
    for (size_t i = 2; i < n; i++)
        if (times_ms[i] - times_ms[i - 1] != times_ms[1] - times_ms[0])
            return false;
    return true;
}

static kv_status chunk_encode_times(const int64_t *times_ms, size_t n, struct kv_buf *out)
{
    uint64_t deltas[TS_CHUNK_BLOCK];
    for (size_t i = 1; i < n; i++)
        deltas[i - 1] = (uint64_t)(times_ms[i] - times_ms[i - 1]);
    return ts_pack(deltas, n - 1, out);
}

static kv_status chunk_encode_block(const struct chunk_plan *plan, size_t at, size_t n, struct kv_buf *out)
{
    kv_status rc = KV_OK;
    if (plan->time_codec == TS_TIME_DELTA)
        KV_TRY(chunk_encode_times(plan->times_ms + at, n, out));
    switch (plan->value_codec) {
    case TS_VALUE_CONST:
        break;
    case TS_VALUE_INT:
        KV_TRY(ts_int_encode_block(plan->q + at, n, out));
        break;
    case TS_VALUE_XOR:
        KV_TRY(ts_xor_encode_block(plan->values + at, n, out));
        break;
    case TS_VALUE_RAW:
        for (size_t i = at; i < at + n; i++) {
            uint64_t bits;
            memcpy(&bits, &plan->values[i], sizeof bits);
            KV_TRY(kv_buf_append_fixed64(out, bits));
        }
        break;
    case TS_VALUE_HUFFMAN:
    case TS_VALUE_BITS:
        KV_TRY(ts_sequence_put_block(&plan->values_sequence, plan->q + at, n, out));
        break;
    }
out:
    return rc;
}

/* The distinct bits among the exceptions. */
static size_t chunk_exception_kinds(const struct chunk_plan *plan, uint64_t *kinds)
{
    size_t n = 0;
    for (uint32_t i = 0; i < plan->params.n_exceptions; i++) {
        uint64_t bits = chunk_bits(plan->values[plan->exceptions[i]]);
        size_t k = 0;
        while (k < n && kinds[k] != bits)
            k++;
        if (k == n)
            kinds[n++] = bits;
    }
    return n;
}

static kv_status chunk_encode_exceptions(const struct chunk_plan *plan, uint64_t bits, struct kv_buf *out)
{
    uint32_t n = 0, before = 0;
    kv_status rc;
    for (uint32_t i = 0; i < plan->params.n_exceptions; i++)
        n += chunk_bits(plan->values[plan->exceptions[i]]) == bits;
    KV_TRY(kv_buf_append_fixed64(out, bits));
    KV_TRY(kv_buf_append_varint(out, n));
    for (uint32_t i = 0; i < plan->params.n_exceptions; i++) {
        if (chunk_bits(plan->values[plan->exceptions[i]]) != bits)
            continue;
        KV_TRY(kv_buf_append_varint(out, plan->exceptions[i] - before));
        before = plan->exceptions[i];
    }
out:
    return rc;
}

static kv_status chunk_encode_decimals(const struct chunk_plan *plan, struct kv_buf *out)
{
    uint64_t kinds[CHUNK_EXCEPTIONS_MAX];
    size_t n = chunk_exception_kinds(plan, kinds);
    kv_status rc;
    KV_TRY(kv_buf_append_byte(out, (uint8_t)(plan->params.exponent | plan->params.how << 4)));
    KV_TRY(kv_buf_append_varint(out, plan->params.factor));
    if (plan->params.factor > 1)
        KV_TRY(kv_buf_append_varint(out, plan->params.offset));
    KV_TRY(kv_buf_append_varint(out, n));
    for (size_t k = 0; k < n; k++)
        KV_TRY(chunk_encode_exceptions(plan, kinds[k], out));
out:
    return rc;
}

static kv_status chunk_encode_params(const struct chunk_plan *plan, struct kv_buf *out)
{
    kv_status rc = KV_OK;
    if (plan->time_codec == TS_TIME_STEP && plan->n > 1)
        KV_TRY(kv_buf_append_varint(out, (uint64_t)plan->step_ms));
    if (plan->time_codec == TS_TIME_JITTER)
        KV_TRY(ts_jitter_put(&plan->times_sequence, plan->step_ms, plan->late_ms, plan->n, out));
    if (plan->value_codec == TS_VALUE_CONST)
        KV_TRY(kv_buf_append_fixed64(out, chunk_bits(plan->values[0])));
    if (plan->value_codec == TS_VALUE_INT || plan->value_codec == TS_VALUE_HUFFMAN)
        KV_TRY(chunk_encode_decimals(plan, out));
    if (chunk_is_sequence(plan->value_codec)) {
        KV_TRY(ts_sequence_put(&plan->values_sequence, out));
        if (plan->values_sequence.differences)
            KV_TRY(kv_buf_append_varint(out, kv_zigzag(plan->q[0])));
    }
out:
    return rc;
}

/* What is known of the block that begins at sample `at` without reading it, from the one before. */
static kv_status chunk_encode_directory(const struct chunk_plan *plan, size_t at, size_t len,
                                        struct kv_buf *out)
{
    kv_status rc;
    int64_t gap_ms = plan->times_ms[at] - plan->times_ms[at - plan->block];
    KV_TRY(kv_buf_append_varint(out, len));
    if (plan->time_codec == TS_TIME_DELTA)
        KV_TRY(kv_buf_append_varint(out, (uint64_t)gap_ms));
    if (chunk_is_sequence(plan->value_codec) && plan->values_sequence.differences) {
        uint64_t step = (uint64_t)plan->q[at] - (uint64_t)plan->q[at - plan->block];
        KV_TRY(kv_buf_append_varint(out, kv_zigzag((int64_t)step)));
    }
out:
    return rc;
}

static kv_status chunk_encode_plan(const struct chunk_plan *plan, struct kv_buf *out, struct kv_buf *blocks)
{
    size_t n_blocks = (plan->n + plan->block - 1) / plan->block, lens[CHUNK_BLOCKS_MAX] = {0};
    bool has_blocks = chunk_has_blocks(plan->time_codec, plan->value_codec);
    kv_status rc;
    kv_buf_clear(blocks);
    for (size_t b = 0; b < n_blocks && has_blocks; b++) {
        size_t at = b * plan->block, before = blocks->len;
        KV_TRY(chunk_encode_block(plan, at, plan->n - at < plan->block ? plan->n - at : plan->block, blocks));
        lens[b] = blocks->len - before;
    }
    KV_TRY(kv_buf_append_byte(out, (uint8_t)(plan->time_codec | plan->value_codec << 4)));
    bool summary = plan->summary.len > 0;
    KV_TRY(kv_buf_append_byte(out, (uint8_t)((plan->effort == TS_CHUNK_SMALL ? CHUNK_FLAG_SMALL : 0) |
                                             (summary ? CHUNK_FLAG_SUMMARY : 0))));
    KV_TRY(kv_buf_append_varint(out, plan->n));
    KV_TRY(kv_buf_append_varint(out, kv_zigzag(plan->times_ms[0])));
    KV_TRY(kv_buf_append_varint(out, (uint64_t)(plan->times_ms[plan->n - 1] - plan->times_ms[0])));
    if (summary)
        KV_TRY(kv_buf_append(out, kv_buf_slice(&plan->summary)));
    KV_TRY(chunk_encode_params(plan, out));
    for (size_t b = 1; b < n_blocks && has_blocks; b++)
        KV_TRY(chunk_encode_directory(plan, b * plan->block, lens[b - 1], out));
    KV_TRY(kv_buf_append(out, kv_buf_slice(blocks)));
out:
    return rc;
}

/* The plan under one more value codec; *out keeps the smaller of it and what is there, if anything is. */
static kv_status chunk_try(struct chunk_plan *plan, enum ts_value_codec codec, struct kv_buf *out,
                           struct kv_buf *other, struct kv_buf *blocks)
{
    kv_status rc;
    plan->value_codec = codec;
    plan->block = chunk_block_samples(plan->time_codec, codec);
    if (codec == TS_VALUE_BITS)
        memcpy(plan->q, plan->values, plan->n * sizeof plan->q[0]);
    size_t worth = out->len, least = 0;
    if (chunk_is_sequence(codec)) {
        least = ts_sequence_plan(plan->q, plan->n, plan->block, plan->scratch, &plan->values_sequence);
        worth -= worth / 32; /* slower to read */
    }
    if (out->len > 0 && least >= worth)
        return KV_OK;
    kv_buf_clear(other);
    KV_TRY(chunk_encode_plan(plan, other, blocks));
    if (out->len == 0 || other->len < worth) {
        struct kv_buf swap = *out;
        *out = *other;
        *other = swap;
    }
out:
    return rc;
}

/* Chooses how the times are coded. */
static void chunk_plan_times(struct chunk_plan *plan)
{
    const int64_t *times_ms = plan->times_ms;
    size_t n = plan->n, packed = 0;
    plan->step_ms = n > 1 ? times_ms[1] - times_ms[0] : 0;
    plan->time_codec = chunk_fixed_step(times_ms, n) ? TS_TIME_STEP : TS_TIME_DELTA;
    if (plan->time_codec == TS_TIME_STEP || plan->effort == TS_CHUNK_QUICK)
        return;
    int64_t step_ms;
    ts_jitter_late(times_ms, n, &step_ms, plan->late_ms);
    for (size_t at = 0; at < n; at += TS_CHUNK_BLOCK) {
        uint64_t deltas[TS_CHUNK_BLOCK];
        size_t count = n - at < TS_CHUNK_BLOCK ? n - at : TS_CHUNK_BLOCK;
        for (size_t i = 1; i < count; i++)
            deltas[i - 1] = (uint64_t)(times_ms[at + i] - times_ms[at + i - 1]);
        packed += ts_pack_len(deltas, count - 1) +
                  (at ? 1 + kv_varint_len((uint64_t)(times_ms[at] - times_ms[at - TS_CHUNK_BLOCK])) : 0);
    }
    if (ts_sequence_plan(plan->late_ms, n, TS_JITTER_UNIT, plan->scratch, &plan->times_sequence) < packed) {
        plan->time_codec = TS_TIME_JITTER;
        plan->step_ms = step_ms;
    }
}

/* Tries what could be smallest and leaves the smallest in *out. A plan that already takes under two bytes a
 * sample is not tried against XOR: XOR needs more for anything that is a decimal and moves. */
static kv_status chunk_encode_best(struct chunk_plan *plan, struct kv_buf *out, struct kv_buf *other,
                                   struct kv_buf *blocks)
{
    struct ts_chunk_summary summary;
    kv_status rc;
    chunk_plan_times(plan);
    kv_buf_clear(out);
    kv_buf_clear(&plan->summary);
    if (chunk_same_bits(plan->values, plan->n))
        return chunk_try(plan, TS_VALUE_CONST, out, other, blocks);
    if (plan->effort == TS_CHUNK_SMALL && plan->n >= CHUNK_SUMMARY_SAMPLES &&
        ts_summary_make(plan->values, plan->n, &summary))
        KV_TRY(ts_summary_put(&summary, plan->n, &plan->summary));
    if (ts_int_analyse(plan->values, plan->n, plan->q, plan->exceptions, &plan->params)) {
        KV_TRY(chunk_try(plan, TS_VALUE_INT, out, other, blocks));
        if (plan->effort == TS_CHUNK_SMALL)
            KV_TRY(chunk_try(plan, TS_VALUE_HUFFMAN, out, other, blocks));
        if (out->len <= 2 * plan->n)
            return KV_OK;
    }
    KV_TRY(chunk_try(plan, TS_VALUE_XOR, out, other, blocks));
    if (plan->effort == TS_CHUNK_SMALL)
        KV_TRY(chunk_try(plan, TS_VALUE_BITS, out, other, blocks));
    if (out->len >= 7 * plan->n)
        KV_TRY(chunk_try(plan, TS_VALUE_RAW, out, other, blocks));
    rc = KV_OK;
out:
    return rc;
}

kv_status ts_chunk_encode(const int64_t *times_ms, const double *values, size_t n,
                          enum ts_chunk_effort effort, struct kv_buf *out, size_t *taken)
{
    KV_ASSERT(n >= 1);
    struct kv_buf best = {0}, other = {0}, blocks = {0};
    struct chunk_plan *plan = kv_alloc(sizeof *plan); /* too large for a worker's stack */
    if (!plan)
        return KV_NO_MEMORY;
    plan->times_ms = times_ms;
    plan->values = values;
    plan->effort = effort;
    plan->summary = (struct kv_buf){0};
    plan->n = n < TS_CHUNK_SAMPLES_MAX ? n : TS_CHUNK_SAMPLES_MAX;
    kv_status rc;
    KV_TRY(chunk_encode_best(plan, &best, &other, &blocks));
    while (best.len > TS_CHUNK_BYTES_MAX) {
        plan->n = plan->n * 3 / 4; /* ends: a single block always fits */
        KV_TRY(chunk_encode_best(plan, &best, &other, &blocks));
    }
    KV_TRY(kv_buf_append(out, kv_buf_slice(&best)));
    *taken = plan->n;
out:
    kv_buf_release(&plan->summary);
    kv_free(plan);
    kv_buf_release(&best);
    kv_buf_release(&other);
    kv_buf_release(&blocks);
    return rc;
}
