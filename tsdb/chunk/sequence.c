#include "tsdb/chunk/sequence.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "tsdb/chunk/chunk.h"
#include "tsdb/chunk/kernel.h"

/* Of differences: so many of them, each also up to 8 from it, stay within 32 bits. */
enum { NEAR_BASE_MAX = INT32_MAX / TS_HUFFMAN_NUMBERS_MAX - 16 };

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

static void block_numbers(const struct ts_sequence *s, const int64_t *q, size_t n, uint64_t *numbers)
{
    if (!s->differences)
        for (size_t i = 0; i < n; i++)
            numbers[i] = kv_zigzag(difference(q[i], s->base));
    else
        for (size_t i = 1; i < n; i++)
            numbers[i - 1] = kv_zigzag(difference(difference(q[i], q[i - 1]), s->base));
}

static size_t block_count(bool differences, size_t n)
{
    return n - differences;
}

static size_t plan_mode(const int64_t *q, size_t n, size_t block, bool differences, int64_t *all,
                        struct ts_sequence *s)
{
    uint64_t numbers[TS_HUFFMAN_NUMBERS_MAX];
    struct ts_huffman_counts counts = {.low_bits = 0};
    size_t kept = block_count(differences, n), starts = 0;
    for (size_t i = 0; i < kept; i++)
        all[i] = differences ? difference(q[i + 1], q[i]) : q[i];
    s->differences = differences;
    KV_ASSERT(kept > 0);
    s->base = select_kth(all, kept, kept / 2);
    for (size_t at = 0; at < n; at += block) {
        size_t count = n - at < block ? n - at : block;
        block_numbers(s, q + at, count, numbers);
        ts_huffman_count(&counts, numbers, block_count(differences, count));
        if (differences)
            starts += kv_varint_len(kv_zigzag(difference(q[at], at ? q[at - block] : 0)));
    }
    return 1 + kv_varint_len(kv_zigzag(s->base)) + starts + ts_huffman_make(&counts, &s->code);
}

size_t ts_sequence_plan(const int64_t *q, size_t n, size_t block, int64_t *scratch,
                        struct ts_sequence *sequence)
{
    struct ts_sequence other;
    size_t bytes = plan_mode(q, n, block, false, scratch, sequence);
    if (n < 2)
        return bytes;
    size_t bytes_of_other = plan_mode(q, n, block, true, scratch, &other);
    if (bytes_of_other < bytes)
        *sequence = other;
    return bytes_of_other < bytes ? bytes_of_other : bytes;
}

kv_status ts_sequence_put(const struct ts_sequence *sequence, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(kv_buf_append_byte(out, sequence->differences));
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
    if (kv_take_byte(in, &mode) < 0 || mode > 1 || kv_take_varint(in, &base) < 0)
        return KV_CORRUPT;
    reader->differences = mode;
    reader->base = kv_unzigzag(base);
    return ts_huffman_take_code(in, long_read, &reader->table);
}

kv_status ts_sequence_take_near(kv_slice *in, const struct ts_sequence_reader *reader, int64_t start,
                                int64_t *from, uint32_t *near, size_t n)
{
    uint8_t bytes[TS_HUFFMAN_NUMBERS_MAX + TS_KERNEL_SLACK];
    const struct ts_kernels *kernels = ts_kernels();
    if (reader->table.ranges ||
        (reader->differences && (reader->base > NEAR_BASE_MAX || reader->base < -NEAR_BASE_MAX)))
        return KV_END;
    size_t skip = reader->differences;
    kv_status rc = ts_huffman_take_bytes(in, &reader->table, bytes, n - skip);
    if (rc < 0)
        return rc;
    kernels->widen(bytes, near + skip, n - skip);
    if (reader->differences) {
        near[0] = 0;
        kernels->sum(near + 1, n - 1, true, (int32_t)reader->base);
    } else {
        for (size_t i = 0; i < n; i++)
            near[i] = ts_unfolded(near[i]);
    }
    *from = reader->differences ? start : reader->base;
    return KV_OK;
}

kv_status ts_sequence_take_block(kv_slice *in, const struct ts_sequence_reader *reader, int64_t start,
                                 int64_t *q, size_t n)
{
    uint64_t numbers[TS_HUFFMAN_NUMBERS_MAX], base = (uint64_t)reader->base, at = (uint64_t)start;
    kv_status rc = ts_huffman_take(in, &reader->table, numbers, block_count(reader->differences, n));
    if (rc < 0)
        return rc;
    if (!reader->differences) {
        for (size_t i = 0; i < n; i++)
            q[i] = (int64_t)((uint64_t)kv_unzigzag(numbers[i]) + base);
        return KV_OK;
    }
    q[0] = start;
    for (size_t i = 1; i < n; i++) {
        at += (uint64_t)kv_unzigzag(numbers[i - 1]) + base;
        q[i] = (int64_t)at;
    }
    return KV_OK;
}
