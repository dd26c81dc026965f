#include "tsdb/chunk/jitter.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"
#include "tsdb/chunk/kernel.h"

/* ---- writing */

void ts_jitter_late(const int64_t *times_ms, size_t n, int64_t *step_ms, int64_t *late_ms)
{
    *step_ms = (times_ms[n - 1] - times_ms[0] + (int64_t)(n - 1) / 2) / (int64_t)(n - 1);
    for (size_t i = 0; i < n; i++)
        late_ms[i] = times_ms[i] - times_ms[0] - (int64_t)i * *step_ms;
}

static kv_status jitter_put_units(const struct ts_sequence *sequence, int64_t step_ms, const int64_t *late_ms,
                                  size_t n, struct kv_buf *piece, struct kv_buf *units)
{
    kv_status rc;
    KV_TRY(kv_buf_append_varint(piece, (uint64_t)step_ms));
    for (size_t at = 0; at < n; at += TS_JITTER_UNIT) {
        size_t before = units->len, count = n - at < TS_JITTER_UNIT ? n - at : TS_JITTER_UNIT;
        KV_TRY(ts_sequence_put_block(sequence, late_ms + at, count, units));
        if (at + count == n)
            break;
        KV_TRY(kv_buf_append_varint(piece, units->len - before));
        KV_TRY(kv_buf_append_varint(piece, kv_zigzag(late_ms[at + count] - late_ms[at])));
    }
    KV_TRY(ts_sequence_put(sequence, piece));
    rc = kv_buf_append(piece, kv_buf_slice(units));
out:
    return rc;
}

kv_status ts_jitter_put(const struct ts_sequence *sequence, int64_t step_ms, const int64_t *late_ms, size_t n,
                        struct kv_buf *out)
{
    struct kv_buf piece = {0}, units = {0};
    kv_status rc;
    KV_TRY(jitter_put_units(sequence, step_ms, late_ms, n, &piece, &units));
    rc = kv_buf_append_lp(out, kv_buf_slice(&piece));
out:
    kv_buf_release(&piece);
    kv_buf_release(&units);
    return rc;
}

/* ---- reading */

kv_status ts_jitter_take(kv_slice *in, const struct ts_chunk_info *info, struct ts_jitter *jitter)
{
    uint64_t step, len, gap, span = (uint64_t)(info->last_ms - info->first_ms);
    kv_slice at;
    if (kv_take_lp(in, &jitter->bytes) < 0)
        return KV_CORRUPT;
    at = jitter->bytes;
    if (kv_take_varint(&at, &step) < 0 || step == 0 || step > span)
        return KV_CORRUPT;
    jitter->step_ms = (int64_t)step;
    jitter->n = info->count;
    jitter->n_units = (info->count + TS_JITTER_UNIT - 1) / TS_JITTER_UNIT;
    jitter->first_ms[0] = info->first_ms;
    jitter->last_ms = info->last_ms;
    size_t sum = 0;
    for (size_t u = 0; u + 1 < jitter->n_units; u++) {
        if (kv_take_varint(&at, &len) < 0 || len > at.len || kv_take_varint(&at, &gap) < 0)
            return KV_CORRUPT;
        gap = step * TS_JITTER_UNIT + (uint64_t)kv_unzigzag(gap);
        if (gap == 0 || gap > (uint64_t)(info->last_ms - jitter->first_ms[u]))
            return KV_CORRUPT;
        jitter->first_ms[u + 1] = jitter->first_ms[u] + (int64_t)gap;
        jitter->ends[u] = sum += (size_t)len;
    }
    jitter->coded = at;
    return KV_OK;
}

static size_t jitter_count(const struct ts_jitter *jitter, size_t unit)
{
    size_t at = unit * TS_JITTER_UNIT;
    return jitter->n - at < TS_JITTER_UNIT ? jitter->n - at : TS_JITTER_UNIT;
}

/* Where the step would have a unit's first sample. */
static uint64_t jitter_grid(const struct ts_jitter *jitter, size_t unit)
{
    return (uint64_t)jitter->first_ms[0] + unit * TS_JITTER_UNIT * (uint64_t)jitter->step_ms;
}

/* `lanes` units of n times each, whose bytes are in[lane]. */
static kv_status jitter_read_units(const struct ts_jitter *jitter, const struct ts_sequence_reader *reader,
                                   size_t unit, size_t lanes, kv_slice *in, int64_t *times_ms, size_t n)
{
    _Alignas(32) uint32_t numbers[TS_HUFFMAN_LANES][TS_JITTER_UNIT + TS_KERNEL_SLACK];
    uint32_t *to[TS_HUFFMAN_LANES] = {numbers[0], numbers[1], numbers[2], numbers[3]};
    kv_status rc = ts_sequence_take_near(in, lanes, reader, to, n);
    for (size_t lane = 0; lane < lanes && rc == KV_OK; lane++) {
        uint64_t start = reader->differences ? (uint64_t)jitter->first_ms[unit + lane]
                                             : jitter_grid(jitter, unit + lane) + (uint64_t)reader->base;
        ts_kernels()->late_steps((int64_t)start, jitter->step_ms, to[lane], times_ms + lane * n, n);
    }
    if (rc != KV_END)
        return rc;
    int64_t starts[TS_HUFFMAN_LANES];
    for (size_t lane = 0; lane < lanes; lane++)
        starts[lane] = (int64_t)((uint64_t)jitter->first_ms[unit + lane] - jitter_grid(jitter, unit + lane));
    if ((rc = ts_sequence_take_blocks(in, lanes, reader, starts, times_ms, n)) < 0)
        return rc;
    for (size_t i = 0; i < lanes * n; i++)
        times_ms[i] =
            (int64_t)(jitter_grid(jitter, unit) + i * (uint64_t)jitter->step_ms + (uint64_t)times_ms[i]);
    return KV_OK;
}

/* Whether the times of the units [begin, end) rise, begin each unit where the directory says, and end before the next one, or with the chunk. */
static bool jitter_is_sound(const struct ts_jitter *jitter, size_t begin, size_t end, const int64_t *times_ms,
                            size_t n)
{
    for (size_t u = begin; u < end; u++)
        if (times_ms[(u - begin) * TS_JITTER_UNIT] != jitter->first_ms[u])
            return false;
    if (end == jitter->n_units ? times_ms[n - 1] != jitter->last_ms
                               : times_ms[n - 1] >= jitter->first_ms[end])
        return false;
    return ts_kernels()->rising(times_ms, n);
}

static kv_status jitter_decode(const struct ts_jitter *jitter, size_t begin, size_t end, int64_t *times_ms)
{
    struct ts_sequence_reader reader;
    kv_slice at = jitter->coded;
    size_t done = 0;
    kv_status rc = ts_sequence_take(&at, end - begin > 1, &reader);
    for (size_t u = begin, lanes; u < end && rc == KV_OK; u += lanes) {
        size_t n = jitter_count(jitter, u);
        kv_slice in[TS_HUFFMAN_LANES];
        lanes = ts_huffman_lanes(end - u - (jitter_count(jitter, end - 1) != n));
        for (size_t lane = 0; lane < lanes; lane++) {
            size_t from = u + lane ? jitter->ends[u + lane - 1] : 0,
                   to = u + lane + 1 < jitter->n_units ? jitter->ends[u + lane] : at.len;
            if (from > to || to > at.len)
                return KV_CORRUPT;
            in[lane] = kv_slice_of(at.data + from, to - from);
        }
        rc = jitter_read_units(jitter, &reader, u, lanes, in, times_ms + done, n);
        for (size_t lane = 0; lane < lanes && rc == KV_OK; lane++)
            rc = in[lane].len ? KV_CORRUPT : KV_OK;
        done += lanes * n;
    }
    return rc < 0 || jitter_is_sound(jitter, begin, end, times_ms, done) ? rc : KV_CORRUPT;
}

/* ---- the memo */

/* Times that were decoded: of the units [begin, end), by the bytes they came from. */
struct ts_memo_times {
    int64_t first_ms, last_ms;
    size_t n, begin, end, len;
    int64_t times_ms[]; /* then the len bytes */
};

void ts_chunk_memo_release(struct ts_chunk_memo *memo)
{
    for (size_t i = 0; i < TS_CHUNK_MEMO; i++)
        kv_free(memo->times[i]);
    *memo = (struct ts_chunk_memo){0};
}

/* Times in the units [begin, end) of n. */
static size_t memo_count(size_t n, size_t begin, size_t end)
{
    size_t behind = end * TS_JITTER_UNIT < n ? end * TS_JITTER_UNIT : n;
    return behind - begin * TS_JITTER_UNIT;
}

static bool memo_has(const struct ts_memo_times *kept, const struct ts_jitter *jitter, size_t begin,
                     size_t end)
{
    return kept && kept->first_ms == jitter->first_ms[0] && kept->last_ms == jitter->last_ms &&
           kept->n == jitter->n && kept->begin <= begin && kept->end >= end &&
           kept->len == jitter->bytes.len &&
           memcmp(kept->times_ms + memo_count(kept->n, kept->begin, kept->end), jitter->bytes.data,
                  kept->len) == 0;
}

static size_t memo_bytes(const struct ts_memo_times *kept)
{
    return sizeof *kept + memo_count(kept->n, kept->begin, kept->end) * sizeof kept->times_ms[0] + kept->len;
}

/* Remembers what was decoded, if there is memory. */
static void memo_keep(struct ts_chunk_memo *memo, struct ts_memo_times **slot, const struct ts_jitter *jitter,
                      size_t begin, size_t end, const int64_t *times_ms)
{
    const struct ts_memo_times head = {jitter->first_ms[0], jitter->last_ms, jitter->n, begin, end,
                                       jitter->bytes.len};
    size_t n = memo_count(jitter->n, begin, end), bytes = memo_bytes(&head);
    memo->bytes -= *slot ? memo_bytes(*slot) : 0;
    kv_free(*slot);
    struct ts_memo_times *kept = *slot = kv_alloc(bytes);
    if (!kept)
        return;
    memo->bytes += bytes;
    *kept = head;
    memcpy(kept->times_ms, times_ms, n * sizeof times_ms[0]);
    memcpy(kept->times_ms + n, jitter->bytes.data, kept->len);
}

kv_status ts_jitter_read(const struct ts_jitter *jitter, size_t begin, size_t end, struct ts_chunk_memo *memo,
                         int64_t *times_ms)
{
    KV_ASSERT(begin < end && end <= jitter->n_units);
    if (!memo)
        return jitter_decode(jitter, begin, end, times_ms);
    /* Chunks of one series begin at different times: they get different places, mostly. */
    uint64_t mixed = (uint64_t)jitter->first_ms[0] * 0x9E3779B97F4A7C15u;
    struct ts_memo_times **slot = &memo->times[mixed >> 60 & (TS_CHUNK_MEMO - 1)];
    if (memo_has(*slot, jitter, begin, end)) {
        memcpy(times_ms, (*slot)->times_ms + (begin - (*slot)->begin) * TS_JITTER_UNIT,
               memo_count(jitter->n, begin, end) * sizeof times_ms[0]);
        return KV_OK;
    }
    kv_status rc = jitter_decode(jitter, begin, end, times_ms);
    if (rc == KV_OK)
        memo_keep(memo, slot, jitter, begin, end, times_ms);
    return rc;
}
