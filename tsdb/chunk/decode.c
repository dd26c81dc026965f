/* decode.c - reading a chunk: its header alone, or the samples of a range. */
#include "tsdb/chunk/chunk.h"

#include "kvcore/base/coding.h"
#include "tsdb/chunk/codec.h"
#include "tsdb/chunk/format.h"
#include "tsdb/chunk/jitter.h"
#include "tsdb/chunk/kernel.h"
#include "tsdb/chunk/pack.h"
#include "tsdb/chunk/sequence.h"

#include <math.h>

const char *ts_time_codec_name(enum ts_time_codec codec)
{
    static const char *const names[] = {"step", "delta", "huffman", "jitter"};
    return (size_t)codec < sizeof names / sizeof names[0] ? names[codec] : "unknown";
}

const char *ts_value_codec_name(enum ts_value_codec codec)
{
    static const char *const names[] = {"const", "int", "xor", "raw", "huffman", "bits"};
    return (unsigned)codec < sizeof names / sizeof names[0] ? names[codec] : "unknown";
}

struct chunk_reader {
    struct ts_chunk_info info;
    int64_t step_ms;
    uint64_t const_bits;
    struct ts_int_params params;
    kv_slice exceptions;                       /* as stored */
    struct ts_sequence_reader *times, *values; /* of the huffman codecs */
    struct ts_jitter jitter;                   /* of that time codec */
    bool long_read;
    size_t block, n_blocks;
    uint32_t lens[CHUNK_BLOCKS_MAX];
    int64_t first_ms[CHUNK_BLOCKS_MAX]; /* not with the time codec jitter */
    int64_t starts[CHUNK_BLOCKS_MAX];   /* first integers, of values that are a sequence of differences */
    kv_slice blocks;
};

/* What stands before the summary; *summary: whether there is one. */
static kv_status chunk_read_head(kv_slice *in, struct ts_chunk_info *info, bool *summary)
{
    uint8_t codecs, flags;
    uint64_t count, first, span;
    if (kv_take_byte(in, &codecs) < 0 || kv_take_byte(in, &flags) < 0)
        return KV_CORRUPT;
    if ((codecs & 15) > TS_TIME_JITTER || codecs >> 4 > TS_VALUE_BITS ||
        flags > (CHUNK_FLAG_SMALL | CHUNK_FLAG_SUMMARY))
        return KV_TOO_NEW;
    if (kv_take_varint(in, &count) < 0 || kv_take_varint(in, &first) < 0 || kv_take_varint(in, &span) < 0)
        return KV_CORRUPT;
    int64_t first_ms = kv_unzigzag(first);
    if (count < 1 || count > TS_CHUNK_SAMPLES_MAX || span >= (uint64_t)1 << 62 || span < count - 1 ||
        (count == 1 && span != 0) || first_ms > INT64_MAX - (int64_t)span)
        return KV_CORRUPT;
    *info = (struct ts_chunk_info){(uint32_t)count,
                                   first_ms,
                                   first_ms + (int64_t)span,
                                   (enum ts_time_codec)(codecs & 15),
                                   (enum ts_value_codec)(codecs >> 4),
                                   flags & CHUNK_FLAG_SMALL ? TS_CHUNK_SMALL : TS_CHUNK_QUICK};
    *summary = flags & CHUNK_FLAG_SUMMARY;
    return KV_OK;
}

kv_status ts_chunk_info(kv_slice chunk, struct ts_chunk_info *out)
{
    bool has_summary;
    return chunk_read_head(&chunk, out, &has_summary);
}

/* One kind of exceptions: its bits go to values[index - begin] for each index in [begin, end). values NULL: it is only checked. */
static kv_status chunk_take_exceptions(kv_slice *in, uint64_t count, size_t begin, size_t end, double *values)
{
    uint64_t bits, n, at = 0, gap;
    if (kv_take_fixed64(in, &bits) < 0 || kv_take_varint(in, &n) < 0 || n == 0 || n > count)
        return KV_CORRUPT;
    for (uint64_t i = 0; i < n; i++) {
        if (kv_take_varint(in, &gap) < 0 || (i && gap == 0) || gap >= count - at)
            return KV_CORRUPT;
        at += gap;
        if (values && at >= begin && at < end)
            memcpy(&values[at - begin], &bits, sizeof bits);
    }
    return KV_OK;
}

static kv_status chunk_read_decimals(kv_slice *in, struct chunk_reader *r)
{
    uint64_t n;
    uint8_t scale;
    if (kv_take_byte(in, &scale) < 0)
        return KV_CORRUPT;
    if (scale >> 4 > TS_INT_DIVIDED_TWICE)
        return KV_TOO_NEW;
    r->params.how = (enum ts_int_how)(scale >> 4);
    r->params.exponent = scale & 15;
    if (r->params.exponent > TS_INT_EXPONENT_MAX ||
        (r->params.how == TS_INT_DIVIDED_TWICE && r->params.exponent != 6) ||
        kv_take_varint(in, &r->params.factor) < 0 || r->params.factor == 0)
        return KV_CORRUPT;
    if (r->params.factor > 1 &&
        (kv_take_varint(in, &r->params.offset) < 0 || r->params.offset >= r->params.factor))
        return KV_CORRUPT;
    if (kv_take_varint(in, &n) < 0 || n > r->info.count)
        return KV_CORRUPT;
    const uint8_t *start = in->data;
    for (uint64_t i = 0; i < n; i++)
        if (chunk_take_exceptions(in, r->info.count, 0, 0, NULL) < 0)
            return KV_CORRUPT;
    r->exceptions = kv_slice_of(start, (size_t)(in->data - start));
    return KV_OK;
}

static kv_status chunk_read_time_params(kv_slice *in, struct chunk_reader *r)
{
    uint64_t step = 0, span = (uint64_t)(r->info.last_ms - r->info.first_ms);
    r->step_ms = 0;
    if (r->info.time_codec == TS_TIME_JITTER)
        return ts_jitter_take(in, &r->info, &r->jitter);
    if (r->info.time_codec == TS_TIME_DELTA || (r->info.time_codec == TS_TIME_STEP && r->info.count == 1))
        return KV_OK;
    if (kv_take_varint(in, &step) < 0 || step == 0 || step > span)
        return KV_CORRUPT;
    r->step_ms = (int64_t)step;
    if (r->info.time_codec == TS_TIME_STEP)
        return step * (r->info.count - 1) == span ? KV_OK : KV_CORRUPT;
    return ts_sequence_take(in, r->long_read, r->times);
}

static kv_status chunk_read_value_params(kv_slice *in, struct chunk_reader *r)
{
    uint64_t start = 0;
    kv_status rc = KV_OK;
    switch (r->info.value_codec) {
    case TS_VALUE_CONST:
        return kv_take_fixed64(in, &r->const_bits);
    case TS_VALUE_INT:
        return chunk_read_decimals(in, r);
    case TS_VALUE_HUFFMAN:
        KV_TRY(chunk_read_decimals(in, r));
        /* fallthrough */
    case TS_VALUE_BITS:
        KV_TRY(ts_sequence_take(in, r->long_read, r->values));
        if (r->values->differences)
            KV_TRY(kv_take_varint(in, &start));
        r->starts[0] = kv_unzigzag(start);
        break;
    default:
        break;
    }
out:
    return rc;
}

kv_status ts_chunk_summary(kv_slice chunk, struct ts_chunk_info *info, struct ts_chunk_summary *out)
{
    struct ts_sequence_reader skipped;
    struct chunk_reader r = {.n_blocks = 0, .times = &skipped};
    bool has_summary;
    double value;
    kv_status rc;
    KV_TRY(chunk_read_head(&chunk, &r.info, &has_summary));
    *info = r.info;
    if (has_summary)
        return ts_summary_take(&chunk, r.info.count, out);
    if (r.info.value_codec != TS_VALUE_CONST)
        return KV_END;
    KV_TRY(chunk_read_time_params(&chunk, &r));
    KV_TRY(chunk_read_value_params(&chunk, &r));
    memcpy(&value, &r.const_bits, sizeof value);
    if (isnan(value))
        return KV_END;
    ts_summary_const(value, r.info.count, out);
out:
    return rc;
}

/* The gap to the next block's first time, in [1, room]. */
static kv_status chunk_read_gap(kv_slice *in, const struct chunk_reader *r, uint64_t room, uint64_t *gap)
{
    uint64_t number;
    *gap = (uint64_t)r->step_ms * r->block;
    if (r->info.time_codec == TS_TIME_STEP || r->info.time_codec == TS_TIME_JITTER)
        return KV_OK;
    if (kv_take_varint(in, &number) < 0)
        return KV_CORRUPT;
    *gap = r->info.time_codec == TS_TIME_DELTA ? number : *gap + (uint64_t)kv_unzigzag(number);
    return *gap == 0 || *gap > room ? KV_CORRUPT : KV_OK;
}

static kv_status chunk_read_directory(kv_slice *in, struct chunk_reader *r)
{
    r->block = chunk_block_samples(r->info.time_codec, r->info.value_codec);
    r->n_blocks = (r->info.count + r->block - 1) / r->block;
    r->first_ms[0] = r->info.first_ms;
    bool has_blocks = chunk_has_blocks(r->info.time_codec, r->info.value_codec);
    bool has_starts = chunk_is_sequence(r->info.value_codec) && r->values->differences;
    size_t sum = 0;
    for (size_t b = 0; b + 1 < r->n_blocks; b++) {
        uint64_t len = 0, gap, start = 0;
        if (has_blocks && (kv_take_varint(in, &len) < 0 || len > TS_CHUNK_BYTES_MAX * 2))
            return KV_CORRUPT;
        if (chunk_read_gap(in, r, (uint64_t)(r->info.last_ms - r->first_ms[b]), &gap) < 0 ||
            (has_starts && kv_take_varint(in, &start) < 0))
            return KV_CORRUPT;
        r->lens[b] = (uint32_t)len;
        sum += (size_t)len;
        r->first_ms[b + 1] = r->first_ms[b] + (int64_t)gap;
        if (has_starts)
            r->starts[b + 1] = (int64_t)((uint64_t)r->starts[b] + (uint64_t)kv_unzigzag(start));
    }
    if (sum > in->len || (!has_blocks && in->len))
        return KV_CORRUPT;
    r->lens[r->n_blocks - 1] = (uint32_t)(in->len - sum);
    r->blocks = *in;
    return KV_OK;
}

/* Room up to the next block's first time (or the chunk's last, inclusive): every time is checked against it. */
static uint64_t chunk_room(const struct chunk_reader *r, size_t block)
{
    bool last = block + 1 == r->n_blocks;
    return (uint64_t)((last ? r->info.last_ms : r->first_ms[block + 1] - 1) - r->first_ms[block]);
}

static kv_status chunk_decode_late_times(const struct chunk_reader *r, size_t block, kv_slice *in,
                                         int64_t *times_ms, size_t n)
{
    int64_t start_ms = r->first_ms[block];
    uint64_t step = (uint64_t)r->step_ms, room = chunk_room(r, block), before = 0;
    uint64_t grid = (uint64_t)r->info.first_ms + block * r->block * step;
    int64_t start = (int64_t)((uint64_t)start_ms - grid);
    kv_status rc = ts_sequence_take_blocks(in, 1, r->times, &start, times_ms, n);
    for (size_t i = 0; rc == KV_OK && i < n; i++) {
        uint64_t since = grid + i * step + (uint64_t)times_ms[i] - (uint64_t)start_ms;
        if (i ? since <= before || since > room : since != 0)
            return KV_CORRUPT;
        before = since;
        times_ms[i] = start_ms + (int64_t)since;
    }
    return rc == KV_OK && block + 1 == r->n_blocks && before != room ? KV_CORRUPT : rc;
}

/* Whether times are no part of blocks: chunk_decode_times_apart reads them. */
static bool chunk_times_apart(const struct chunk_reader *r)
{
    return r->info.time_codec == TS_TIME_STEP || r->info.time_codec == TS_TIME_JITTER;
}

static kv_status chunk_decode_times(const struct chunk_reader *r, size_t block, kv_slice *in,
                                    int64_t *times_ms, size_t n)
{
    int64_t at = r->first_ms[block];
    if (chunk_times_apart(r))
        return KV_OK;
    if (r->info.time_codec == TS_TIME_HUFFMAN)
        return chunk_decode_late_times(r, block, in, times_ms, n);
    uint64_t deltas[TS_CHUNK_BLOCK], room = chunk_room(r, block), sum = 0;
    kv_status rc = ts_unpack(in, deltas, n - 1);
    if (rc < 0)
        return rc;
    times_ms[0] = at;
    for (size_t i = 1; i < n; i++) {
        if (deltas[i - 1] == 0 || deltas[i - 1] > room - sum)
            return KV_CORRUPT;
        sum += deltas[i - 1];
        times_ms[i] = at + (int64_t)sum;
    }
    return block + 1 == r->n_blocks && sum != room ? KV_CORRUPT : KV_OK;
}

/* Blocks of scaled integers or of bits: their integers are where their values go to. */
static kv_status chunk_decode_sequence(const struct chunk_reader *r, size_t block, size_t lanes, kv_slice *in,
                                       double *values, size_t n)
{
    int64_t *q = (int64_t *)(void *)values; /* as wide, and the project is compiled without strict aliasing */
    kv_status rc = ts_sequence_take_blocks(in, lanes, r->values, r->starts + block, q, n);
    if (rc == KV_OK && r->info.value_codec == TS_VALUE_HUFFMAN)
        ts_int_values(&r->params, q, values, lanes * n);
    return rc;
}

/* Values of `lanes` blocks at once, from `block` on, n of each, where their codec can. KV_END and nothing taken: it cannot. */
static kv_status chunk_decode_near(const struct chunk_reader *r, size_t block, size_t lanes, kv_slice *in,
                                   double *values, size_t n)
{
    struct ts_scale scales[TS_HUFFMAN_LANES];
    if (r->info.value_codec != TS_VALUE_HUFFMAN)
        return KV_END;
    for (size_t lane = 0; lane < lanes; lane++)
        if (!ts_int_scale(&r->params, r->values->differences ? r->starts[block + lane] : r->values->base,
                          &scales[lane]))
            return KV_END;
    return ts_sequence_take_values(in, lanes, r->values, scales, values, n);
}

static kv_status chunk_decode_values(const struct chunk_reader *r, size_t block, kv_slice *in, double *values,
                                     size_t n)
{
    switch (r->info.value_codec) {
    case TS_VALUE_CONST:
        for (size_t i = 0; i < n; i++)
            memcpy(&values[i], &r->const_bits, sizeof values[i]);
        return KV_OK;
    case TS_VALUE_INT:
        return ts_int_decode_block(in, &r->params, values, n);
    case TS_VALUE_XOR:
        return ts_xor_decode_block(in, values, n);
    case TS_VALUE_RAW: {
        kv_slice bytes;
        if (kv_take_bytes(in, n * 8, &bytes) < 0)
            return KV_CORRUPT;
        for (size_t i = 0; i < n; i++) {
            uint64_t bits = kv_get_fixed64(bytes.data + i * 8);
            memcpy(&values[i], &bits, sizeof bits);
        }
        return KV_OK;
    }
    case TS_VALUE_BITS:
    case TS_VALUE_HUFFMAN:
        return chunk_decode_sequence(r, block, 1, in, values, n);
    }
    return KV_TOO_NEW;
}

/* `lanes` blocks of n samples, the first one's bytes at offset. */
static kv_status chunk_decode_blocks(const struct chunk_reader *r, size_t block, size_t lanes, size_t offset,
                                     int64_t *times_ms, double *values, size_t n)
{
    kv_slice in[TS_HUFFMAN_LANES];
    kv_status rc;
    for (size_t lane = 0; lane < lanes; lane++) {
        in[lane] = kv_slice_of(r->blocks.data + offset, r->lens[block + lane]);
        offset += r->lens[block + lane];
        KV_TRY(chunk_decode_times(r, block + lane, &in[lane], times_ms + lane * n, n));
    }
    rc = chunk_decode_near(r, block, lanes, in, values, n);
    if (rc == KV_END && chunk_is_sequence(r->info.value_codec))
        rc = chunk_decode_sequence(r, block, lanes, in, values, n);
    else if (rc == KV_END)
        for (size_t lane = 0; lane < lanes; lane++)
            KV_TRY(chunk_decode_values(r, block + lane, &in[lane], values + lane * n, n));
    KV_TRY(rc);
    for (size_t lane = 0; lane < lanes; lane++)
        if (in[lane].len)
            rc = KV_CORRUPT;
out:
    return rc;
}

/* Puts back the values that are no decimals, for the samples [begin, end) which stand at values[0]. Validated
 * when read. */
static void chunk_patch_exceptions(const struct chunk_reader *r, size_t begin, size_t end, double *values)
{
    kv_slice in = r->exceptions;
    while (in.len && chunk_take_exceptions(&in, r->info.count, begin, end, values) == KV_OK)
        ;
}

static size_t chunk_lower_bound(const int64_t *times_ms, size_t n, int64_t target)
{
    size_t low = 0;
    while (n > 0) {
        size_t half = n / 2;
        if (times_ms[low + half] < target) {
            low += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    return low;
}

/* Keeps the samples inside [from_ms, to_ms] of the n decoded, moved to the front; returns how many. */
static size_t chunk_trim(int64_t from_ms, int64_t to_ms, int64_t *times_ms, double *values, size_t n)
{
    size_t begin = n && times_ms[0] < from_ms ? chunk_lower_bound(times_ms, n, from_ms) : 0;
    size_t end = n;
    if (n && times_ms[n - 1] > to_ms)
        end = to_ms == INT64_MAX ? n : chunk_lower_bound(times_ms, n, to_ms + 1);
    size_t kept = end > begin ? end - begin : 0;
    if (begin && kept) {
        memmove(times_ms, times_ms + begin, kept * sizeof times_ms[0]);
        memmove(values, values + begin, kept * sizeof values[0]);
    }
    return kept;
}

/* About how many of its samples lie in a range that it overlaps. */
static uint64_t chunk_wanted(const struct ts_chunk_info *info, int64_t from_ms, int64_t to_ms)
{
    int64_t first_ms = info->first_ms > from_ms ? info->first_ms : from_ms;
    int64_t last_ms = info->last_ms < to_ms ? info->last_ms : to_ms;
    return (uint64_t)(last_ms - first_ms) / ((uint64_t)(info->last_ms - info->first_ms) / info->count + 1);
}

/* The blocks [*begin, *end) that may hold samples of a range which overlaps the chunk; with the time codec jitter, all those of its units. */
static void chunk_blocks_of(const struct chunk_reader *r, int64_t from_ms, int64_t to_ms, size_t *begin,
                            size_t *end)
{
    bool jitter = r->info.time_codec == TS_TIME_JITTER;
    const int64_t *first_ms = jitter ? r->jitter.first_ms : r->first_ms;
    size_t n = jitter ? r->jitter.n_units : r->n_blocks, each = jitter ? TS_JITTER_UNIT / r->block : 1;
    size_t b = 0, e = n;
    while (b + 1 < n && first_ms[b + 1] <= from_ms)
        b++;
    while (e > b + 1 && first_ms[e - 1] > to_ms)
        e--;
    *begin = b * each;
    *end = e * each < r->n_blocks ? e * each : r->n_blocks;
}

/* The times of the blocks [begin, end), which hold n samples, where they are no part of them. */
static kv_status chunk_decode_times_apart(const struct chunk_reader *r, size_t begin, size_t end,
                                          struct ts_chunk_memo *memo, int64_t *times_ms, size_t n)
{
    if (r->info.time_codec == TS_TIME_STEP)
        ts_kernels()->steps(r->first_ms[begin], r->step_ms, times_ms, n);
    if (r->info.time_codec != TS_TIME_JITTER)
        return KV_OK;
    size_t each = TS_JITTER_UNIT / r->block;
    return ts_jitter_read(&r->jitter, begin / each, (end + each - 1) / each, memo, times_ms);
}

kv_status ts_chunk_decode_next(kv_slice chunk, int64_t from_ms, int64_t to_ms, struct ts_chunk_memo *memo,
                               int64_t *times_ms, double *values, size_t *n)
{
    struct chunk_reader r = {.n_blocks = 0};
    struct ts_sequence_reader times_sequence, values_sequence; /* large, so set only where they are read */
    r.times = &times_sequence;
    r.values = &values_sequence;
    struct ts_chunk_summary summary;
    bool has_summary;
    kv_status rc;
    *n = 0;
    KV_TRY(chunk_read_head(&chunk, &r.info, &has_summary));
    if (r.info.first_ms > to_ms || r.info.last_ms < from_ms || from_ms > to_ms)
        return KV_OK;
    if (has_summary)
        KV_TRY(ts_summary_take(&chunk, r.info.count, &summary));
    r.long_read = chunk_wanted(&r.info, from_ms, to_ms) > CHUNK_BLOCK_LONG;
    KV_TRY(chunk_read_time_params(&chunk, &r));
    KV_TRY(chunk_read_value_params(&chunk, &r));
    KV_TRY(chunk_read_directory(&chunk, &r));
    size_t begin, end, done = 0, offset = 0;
    chunk_blocks_of(&r, from_ms, to_ms, &begin, &end);
    size_t at = begin * r.block, behind = end * r.block < r.info.count ? end * r.block : r.info.count;
    for (size_t b = 0; b < begin; b++)
        offset += r.lens[b];
    KV_TRY(chunk_decode_times_apart(&r, begin, end, memo, times_ms, behind - at));
    for (size_t b = begin, lanes; b < end; b += lanes) {
        size_t left = behind - at - done, count = left < r.block ? left : r.block;
        lanes = ts_huffman_lanes(left / r.block);
        KV_TRY(chunk_decode_blocks(&r, b, lanes, offset, times_ms + done, values + done, count));
        for (size_t lane = 0; lane < lanes; lane++)
            offset += r.lens[b + lane];
        done += lanes * count;
    }
    if (r.info.value_codec == TS_VALUE_INT || r.info.value_codec == TS_VALUE_HUFFMAN)
        ts_int_finish(&r.params, values, done);
    chunk_patch_exceptions(&r, at, behind, values);
    *n = chunk_trim(from_ms, to_ms, times_ms, values, done);
    rc = KV_OK;
out:
    return rc;
}

kv_status ts_chunk_decode(kv_slice chunk, int64_t from_ms, int64_t to_ms, int64_t *times_ms, double *values,
                          size_t *n)
{
    return ts_chunk_decode_next(chunk, from_ms, to_ms, NULL, times_ms, values, n);
}
