/*
 * stream.c - the head's open chunks: Gorilla's delta of delta for times, XOR for values, appended sample by sample.
 *
 *     time := 0 | 10 dod:7 | 110 dod:9 | 1110 dod:12 | 11110 dod:32 | 11111 time:64      (two's complement, of milliseconds)
 */
#include "tsdb/chunk/chunk.h"

#include "kvcore/base/mem.h"
#include "tsdb/chunk/xor.h"

enum { STREAM_TIME_BITS_MAX = 5 + 64, STREAM_BITS_MAX = 1 << 28, STREAM_BYTES_MIN = 32 };

static bool stream_fits(int64_t v, unsigned bits)
{
    return v >= -((int64_t)1 << (bits - 1)) && v < (int64_t)1 << (bits - 1);
}

static const struct {
    uint8_t prefix, prefix_bits, bits;
} stream_classes[] = {{2, 2, 7}, {6, 3, 9}, {14, 4, 12}, {30, 5, 32}};

static void stream_put_time(struct ts_stream *s, int64_t time_ms)
{
    /* Unsigned: a far jump may overflow the difference, and then the whole time is written. */
    int64_t delta = (int64_t)((uint64_t)time_ms - (uint64_t)s->last_ms);
    int64_t dod = (int64_t)((uint64_t)delta - (uint64_t)s->last_delta_ms);
    s->last_delta_ms = delta;
    if (dod == 0) {
        ts_bits_put(s->data, &s->bits, 0, 1);
        return;
    }
    for (size_t i = 0; i < sizeof stream_classes / sizeof stream_classes[0]; i++) {
        if (!stream_fits(dod, stream_classes[i].bits))
            continue;
        ts_bits_put(s->data, &s->bits, stream_classes[i].prefix, stream_classes[i].prefix_bits);
        ts_bits_put(s->data, &s->bits, (uint64_t)dod, stream_classes[i].bits);
        return;
    }
    ts_bits_put(s->data, &s->bits, 31, 5);
    ts_bits_put(s->data, &s->bits, (uint64_t)time_ms, 64);
}

static kv_status stream_reserve(struct ts_stream *s)
{
    uint32_t need = (s->bits + STREAM_TIME_BITS_MAX + TS_XOR_BITS_MAX + 7) / 8;
    if (need <= s->capacity)
        return KV_OK;
    if (s->bits > STREAM_BITS_MAX)
        return KV_LIMIT;
    uint32_t capacity = s->capacity + s->capacity / 2;
    capacity = capacity < need ? need : capacity;
    capacity = capacity < STREAM_BYTES_MIN ? STREAM_BYTES_MIN : capacity;
    uint8_t *data = kv_realloc(s->data, capacity);
    if (!data)
        return KV_NO_MEMORY;
    memset(data + s->capacity, 0, capacity - s->capacity);
    s->data = data;
    s->capacity = capacity;
    return KV_OK;
}

kv_status ts_stream_append(struct ts_stream *s, int64_t time_ms, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (s->count == 0) { /* the first sample lives in the struct alone */
        s->first_ms = s->last_ms = time_ms;
        s->first_bits = s->last_bits = bits;
        s->leading = TS_XOR_NO_WINDOW;
        s->count = 1;
        return KV_OK;
    }
    kv_status rc = stream_reserve(s);
    if (rc < 0)
        return rc;
    stream_put_time(s, time_ms);
    struct ts_xor_window window = {s->leading, s->trailing};
    ts_xor_put(s->data, &s->bits, bits ^ s->last_bits, &window);
    s->leading = window.leading;
    s->trailing = window.trailing;
    s->last_ms = time_ms;
    s->last_bits = bits;
    s->count++;
    return KV_OK;
}

static int64_t stream_get_time(struct ts_bits_in *in, int64_t last, int64_t *delta)
{
    if (!ts_bits_get(in, 1))
        return (int64_t)((uint64_t)last + (uint64_t)*delta);
    for (size_t i = 0; i < sizeof stream_classes / sizeof stream_classes[0]; i++) {
        if (ts_bits_get(in, 1))
            continue;
        unsigned bits = stream_classes[i].bits;
        int64_t dod = (int64_t)(ts_bits_get(in, bits) << (64 - bits)) >> (64 - bits);
        *delta = (int64_t)((uint64_t)*delta + (uint64_t)dod);
        return (int64_t)((uint64_t)last + (uint64_t)*delta);
    }
    int64_t time_ms = (int64_t)ts_bits_get(in, 64);
    *delta = (int64_t)((uint64_t)time_ms - (uint64_t)last);
    return time_ms;
}

void ts_stream_decode(const struct ts_stream *s, int64_t *times_ms, double *values)
{
    if (s->count == 0)
        return;
    struct ts_bits_in in = {s->data, (size_t)s->capacity * 8, 0};
    struct ts_xor_window window = {TS_XOR_NO_WINDOW, 0};
    int64_t delta = 0;
    uint64_t bits = s->first_bits, x;
    times_ms[0] = s->first_ms;
    memcpy(&values[0], &bits, sizeof bits);
    for (uint32_t i = 1; i < s->count; i++) {
        times_ms[i] = stream_get_time(&in, times_ms[i - 1], &delta);
        (void)ts_xor_get(&in, &x, &window); /* our own bits: a window always exists */
        bits ^= x;
        memcpy(&values[i], &bits, sizeof bits);
    }
}

void ts_stream_release(struct ts_stream *s)
{
    kv_free(s->data);
    *s = (struct ts_stream){0};
}
