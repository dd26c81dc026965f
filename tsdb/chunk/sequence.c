#include "tsdb/chunk/sequence.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "tsdb/chunk/chunk.h"
#include "tsdb/chunk/kernel.h"

/* So many numbers up to it, unfolded and each with a base up to it, stay within 32 bits. */
enum { NEAR_MOST = INT32_MAX / TS_HUFFMAN_NUMBERS_MAX / 2 - 1 };

/* The k-th smallest of v[n], which is reordered. (Hoare, "Algorithm 65: Find", 1961.) */
static int64_t select_kth(int64_t *v, size_t n, size_t k)
{
    ptrdiff_t low = 0, high = (ptrdiff_t)n - 1, wanted = (ptrdiff_t)k;
    while (low < high) {
        int64_t pivot = v[wanted];
        ptrdiff_t i = low, j = high;
        do {
            while (v[i] < pivot)
                i++;
            while (v[j] > pivot)
                j--;
            if (i <= j) {
                int64_t swap = v[i];
                v[i++] = v[j];
                v[j--] = swap;
            }
        } while (i <= j);
        if (j < wanted)
            low = i;
        if (wanted < i)
            high = j;
    }
    return v[k];
}

static int64_t difference(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a - (uint64_t)b);
}

static uint64_t number_of(const struct ts_sequence *s, int64_t x)
{
    int64_t distance = difference(x, s->base);
    return s->above ? (uint64_t)distance : kv_zigzag(distance);
}

static void block_numbers(const struct ts_sequence *s, const int64_t *q, size_t n, uint64_t *numbers)
{
    if (!s->differences)
        for (size_t i = 0; i < n; i++)
            numbers[i] = number_of(s, q[i]);
    else
        for (size_t i = 1; i < n; i++)
            numbers[i - 1] = number_of(s, difference(q[i], q[i - 1]));
}

static size_t block_count(bool differences, size_t n)
{
    return n - differences;
}

/* The integers or differences that a mode stores; how many. */
static size_t plan_stored(const int64_t *q, size_t n, bool differences, int64_t *all)
{
    size_t kept = block_count(differences, n);
    for (size_t i = 0; i < kept; i++)
        all[i] = differences ? difference(q[i + 1], q[i]) : q[i];
    return kept;
}

/* The code for s, whose mode and base are set; returns the bytes that it takes in all. */
static size_t plan_code(const int64_t *q, size_t n, size_t block, struct ts_sequence *s)
{
    uint64_t numbers[TS_HUFFMAN_NUMBERS_MAX];
    struct ts_huffman_counts counts = {.low_bits = 0};
    size_t starts = 0;
    for (size_t at = 0; at < n; at += block) {
        size_t count = n - at < block ? n - at : block;
        block_numbers(s, q + at, count, numbers);
        ts_huffman_count(&counts, numbers, block_count(s->differences, count));
        if (s->differences)
            starts += kv_varint_len(kv_zigzag(difference(q[at], at ? q[at - block] : 0)));
    }
    return 1 + kv_varint_len(kv_zigzag(s->base)) + starts + ts_huffman_make(&counts, &s->code);
}

size_t ts_sequence_plan(const int64_t *q, size_t n, size_t block, int64_t *scratch,
                        struct ts_sequence *sequence)
{
    size_t best = SIZE_MAX;
    for (int differences = 0; differences < 2; differences++) {
        size_t kept = plan_stored(q, n, differences, scratch);
        if (kept == 0)
            continue;
        int64_t middle = select_kth(scratch, kept, kept / 2), least = middle;
        for (size_t i = 0; i < kept / 2; i++) /* none behind the middle is below it */
            least = scratch[i] < least ? scratch[i] : least;
        for (int above = 0; above < 2; above++) {
            struct ts_sequence s = {
                .differences = differences, .above = above, .base = above ? least : middle};
            size_t bytes = plan_code(q, n, block, &s);
            if (bytes < best) {
                best = bytes;
                *sequence = s;
            }
        }
    }
    return best;
}

kv_status ts_sequence_put(const struct ts_sequence *sequence, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(kv_buf_append_byte(out, (uint8_t)(sequence->differences + 2 * sequence->above)));
    KV_TRY(kv_buf_append_varint(out, kv_zigzag(sequence->base)));
    rc = ts_huffman_put_code(&sequence->code, out);
out:
    return rc;
}

kv_status ts_sequence_put_block(const struct ts_sequence *sequence, const int64_t *q, size_t n,
                                struct kv_buf *out)
{
    uint64_t numbers[TS_HUFFMAN_NUMBERS_MAX];
    block_numbers(sequence, q, n, numbers);
    return ts_huffman_put(&sequence->code, numbers, block_count(sequence->differences, n), out);
}

kv_status ts_sequence_take(kv_slice *in, bool long_read, struct ts_sequence_reader *reader)
{
    uint8_t mode;
    uint64_t base;
    if (kv_take_byte(in, &mode) < 0 || mode > 3 || kv_take_varint(in, &base) < 0)
        return KV_CORRUPT;
    reader->differences = mode & 1;
    reader->above = mode & 2;
    reader->base = kv_unzigzag(base);
    return ts_huffman_take_code(in, long_read, &reader->table);
}

/* Whether all sums of a block's numbers surely fit 32 bits. */
static bool sums_are_near(const struct ts_sequence_reader *reader)
{
    uint64_t most = reader->table.most, base = (uint64_t)reader->base;
    if (!reader->differences)
        return most <= (reader->above ? INT32_MAX : UINT32_MAX);
    base = reader->base < 0 ? 0 - base : base;
    return most <= NEAR_MOST && base <= NEAR_MOST;
}

kv_status ts_sequence_take_values(kv_slice *in, size_t lanes, const struct ts_sequence_reader *reader,
                                  const struct ts_scale *scales, double *values, size_t n)
{
    _Alignas(32) uint32_t numbers[TS_HUFFMAN_LANES][TS_HUFFMAN_NUMBERS_MAX + TS_KERNEL_SLACK];
    uint32_t *to[TS_HUFFMAN_LANES] = {numbers[0], numbers[1], numbers[2], numbers[3]};
    const struct ts_kernels *kernels = ts_kernels();
    if (!sums_are_near(reader))
        return KV_END;
    size_t count = block_count(reader->differences, n);
    kv_status rc = ts_huffman_take_small(in, lanes, &reader->table, to, count);
    for (size_t lane = 0; lane < lanes && rc == KV_OK; lane++, values += n) {
        const struct ts_scale *scale = &scales[lane];
        if (reader->differences) {
            const struct ts_step_of of = {.zigzag = !reader->above, .base = (int32_t)reader->base};
            kernels->sum_values(to[lane], n, &of, scale, values);
        } else {
            if (!reader->above)
                kernels->unfold(to[lane], count);
            kernels->values(to[lane], count, scale, values);
        }
    }
    return rc;
}

kv_status ts_sequence_take_near(kv_slice *in, size_t lanes, const struct ts_sequence_reader *reader,
                                uint32_t *const *numbers, size_t n)
{
    const struct ts_step_of of = {.zigzag = !reader->above, .base = (int32_t)reader->base};
    if (!sums_are_near(reader))
        return KV_END;
    kv_status rc =
        ts_huffman_take_small(in, lanes, &reader->table, numbers, block_count(reader->differences, n));
    for (size_t lane = 0; lane < lanes && rc == KV_OK; lane++) {
        if (reader->differences)
            ts_kernels()->sum(numbers[lane], n, &of);
        else if (!reader->above)
            ts_kernels()->unfold(numbers[lane], n);
    }
    return rc;
}

/* A block's integers from its numbers, which are where they go to. */
static void sum_block(const struct ts_sequence_reader *reader, int64_t start, int64_t *q, size_t n)
{
    uint64_t base = (uint64_t)reader->base, at = (uint64_t)start;
    if (!reader->differences && reader->above) {
        for (size_t i = 0; i < n; i++)
            q[i] = (int64_t)((uint64_t)q[i] + base);
        return;
    }
    if (!reader->differences) {
        for (size_t i = 0; i < n; i++)
            q[i] = (int64_t)((uint64_t)kv_unzigzag((uint64_t)q[i]) + base);
        return;
    }
    for (size_t i = 0; i < n; i++) { /* the last number is none and counts for nothing */
        uint64_t number = (uint64_t)q[i];
        q[i] = (int64_t)at;
        at += (reader->above ? number : (uint64_t)kv_unzigzag(number)) + base;
    }
}

kv_status ts_sequence_take_blocks(kv_slice *in, size_t lanes, const struct ts_sequence_reader *reader,
                                  const int64_t *starts, int64_t *q, size_t n)
{
    uint64_t *to[TS_HUFFMAN_LANES] = {0};
    for (size_t lane = 0; lane < lanes; lane++) {
        to[lane] = (uint64_t *)q + lane * n;
        to[lane][n - 1] = 0;
    }
    kv_status rc = ts_huffman_take(in, lanes, &reader->table, to, block_count(reader->differences, n));
    for (size_t lane = 0; lane < lanes && rc == KV_OK; lane++)
        sum_block(reader, starts[lane], q + lane * n, n);
    return rc;
}
