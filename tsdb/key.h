/*
 * key.h - every key this layer stores, in one place. Page: tsdb/docs/keys.md.
 *
 * Integers are big-endian so that byte order is value order; signed ones have their sign bit flipped. Text
 * inside a key is escaped (00 as 00 FF) and ends 00 00, so no text is a prefix of another; text longer than
 * TS_KEY_TEXT_LEN_MAX is cut there and ends 00 01 and 16 bytes of hash instead, because a key has at most
 * KV_KEY_LEN_MAX bytes.
 *
 *   space     key                                                     value
 *   "chunks"  window:i32 metric:u32 series:u32 first_ms:i64 seq:u64   one encoded chunk
 *   "series"  'r' metric:u32 series:u32                               canonical labels (label.h)
 *             'h' hash:16                                             metric:u32 series:u32
 *             'm' name:text                                           metric:u32 next series:u32 [name, if cut]
 *             'c'                                                     next metric:u32 series:u64
 *             't' window:i32 metric:u32 series:u32 seq:u64            from_ms:i64 to_ms:i64, both inclusive
 *             'f' family:text                                         type help unit [family, if cut] (meta.h)
 *             'x' number:u64                                          an exemplar (exemplar.h)
 *             'l' metric:u32                                          how many of its series have left:u32
 *             'k' name:text                                           the store's own small facts
 *   "index"   'p' label:text value:text metric:u32 batch:u16 first:u16   postings of one metric (postings.h), or, metric's
 *                                                                          highest bit set, of several: a mixed list
 *             'a' window:i32 metric:u32 batch:u16                     activity (postings.h)
 *             'g' metric:u32 batch:u16                                series that have left and that lists may name
 *
 * batch is series >> 16; first is the lowest series & 0xffff of the list at the time it was written: several
 * lists of one (label, value, metric, batch) are united on read, and made one when the space is merged. A mixed list is
 * named by its lowest member.
 *
 * Nothing here allocates or fails, except readers of stored keys: KV_CORRUPT. Any thread.
 */
#ifndef TS_KEY_H
#define TS_KEY_H

#include "kvcore/base/coding.h"
#include "kvcore/base/hash.h"
#include "kvcore/kv.h"

/* Places in kv_options.spaces, and what every kv_* call takes as `space`. */
enum ts_space { TS_SPACE_CHUNKS = 0, TS_SPACE_SERIES, TS_SPACE_INDEX, TS_SPACES };

enum {
    TS_KEY_TEXT_LEN_MAX = 1500,                           /* longer text is cut and hashed */
    TS_KEY_TEXT_BYTES_MAX = 2 * TS_KEY_TEXT_LEN_MAX + 18, /* escaped */
    TS_KEY_CHUNK_LEN = 4 + 4 + 4 + 8 + 8,
    TS_KEY_WINDOW_LEN = 4, /* what chunk tables never straddle */
    TS_KEY_LABELS_LEN = 1 + 8,
    TS_KEY_TOMBSTONE_LEN = 1 + 4 + 8 + 8,
    TS_KEY_ACTIVITY_LEN = 1 + 4 + 4 + 2,
    TS_KEY_POSTINGS_TAIL_LEN = 4 + 2 + 2,
};
_Static_assert(TS_KEY_TEXT_LEN_MAX + 18 <= 1600 && 1 + 2 * 1600 + TS_KEY_POSTINGS_TAIL_LEN <= KV_KEY_LEN_MAX,
               "label text has no NUL, so a postings key fits even when both texts are cut");

/* A key being built; big enough for every layout, text with NULs (never stored) included. */
struct ts_key {
    uint16_t len;
    uint8_t bytes[1 + 2 * TS_KEY_TEXT_BYTES_MAX + TS_KEY_POSTINGS_TAIL_LEN];
};
static inline kv_slice ts_key_slice(const struct ts_key *key)
{
    return (kv_slice){key->bytes, key->len};
}

/* ---- refs and windows ---------------------------------------------------------------------------------- */

/* A ref is metric << 32 | series. Metric 0 is never handed out, so 0 is no ref. */
static inline uint64_t ts_ref_of(uint32_t metric, uint32_t series)
{
    return (uint64_t)metric << 32 | series;
}
static inline uint32_t ts_ref_metric(uint64_t ref)
{
    return (uint32_t)(ref >> 32);
}
static inline uint32_t ts_ref_series(uint64_t ref)
{
    return (uint32_t)ref;
}
/* All metrics have lower numbers. In the metric of a postings key: the list is mixed. */
#define TS_POSTINGS_MIXED UINT32_C(0x80000000)

#define TS_WINDOW_MS INT64_C(86400000) /* one UTC day */
/* The window that holds time_ms (floored); times beyond what 32 bits can say are in the first or last window.
 */
static inline int32_t ts_window_of(int64_t time_ms)
{
    int64_t w = time_ms / TS_WINDOW_MS - (time_ms % TS_WINDOW_MS < 0);
    return w < INT32_MIN ? INT32_MIN : w > INT32_MAX ? INT32_MAX : (int32_t)w;
}
static inline int64_t ts_window_start_ms(int32_t window)
{
    return window * TS_WINDOW_MS;
}

/* ---- pieces -------------------------------------------------------------------------------------------- */

static inline void ts_key_add_u8(struct ts_key *key, uint8_t v)
{
    key->bytes[key->len++] = v;
}
static inline void ts_key_add_u16(struct ts_key *key, uint16_t v)
{
    ts_key_add_u8(key, (uint8_t)(v >> 8));
    ts_key_add_u8(key, (uint8_t)v);
}
static inline void ts_key_add_u32(struct ts_key *key, uint32_t v)
{
    kv_put_be32(key->bytes + key->len, v);
    key->len = (uint16_t)(key->len + 4);
}
static inline void ts_key_add_u64(struct ts_key *key, uint64_t v)
{
    kv_put_be64(key->bytes + key->len, v);
    key->len = (uint16_t)(key->len + 8);
}
static inline void ts_key_add_i32(struct ts_key *key, int32_t v)
{
    ts_key_add_u32(key, (uint32_t)v ^ UINT32_C(0x80000000));
}
static inline void ts_key_add_i64(struct ts_key *key, int64_t v)
{
    ts_key_add_u64(key, (uint64_t)v ^ UINT64_C(0x8000000000000000));
}
static inline uint16_t ts_key_get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline int32_t ts_key_get_i32(const uint8_t *p)
{
    return (int32_t)(kv_get_be32(p) ^ UINT32_C(0x80000000));
}
static inline int64_t ts_key_get_i64(const uint8_t *p)
{
    return (int64_t)(kv_get_be64(p) ^ UINT64_C(0x8000000000000000));
}

/* The escaped bytes of text without an end: the bound of a walk over all texts that begin so. text is cut to
 * TS_KEY_TEXT_LEN_MAX. */
static inline void ts_key_add_prefix(struct ts_key *key, kv_slice text)
{
    size_t n = text.len < TS_KEY_TEXT_LEN_MAX ? text.len : TS_KEY_TEXT_LEN_MAX;
    for (size_t i = 0; i < n; i++) {
        ts_key_add_u8(key, text.data[i]);
        if (text.data[i] == 0)
            ts_key_add_u8(key, 0xff);
    }
}
static inline void ts_key_add_text(struct ts_key *key, kv_slice text)
{
    ts_key_add_prefix(key, text);
    ts_key_add_u8(key, 0);
    ts_key_add_u8(key, text.len > TS_KEY_TEXT_LEN_MAX);
    if (text.len <= TS_KEY_TEXT_LEN_MAX)
        return;
    kv_hash128 h = kv_hash128_of(text, 0);
    ts_key_add_u64(key, h.high);
    ts_key_add_u64(key, h.low);
}
/*
 * Takes one escaped text off the front of *in: *raw (may be NULL) are its bytes as they stand in the key, end
 * included; *cut says that only its first TS_KEY_TEXT_LEN_MAX bytes are known. text (room for
 * TS_KEY_TEXT_LEN_MAX, may be NULL) gets *len bytes.
 */
static inline KV_MUST kv_status ts_key_take_text(kv_slice *in, kv_slice *raw, uint8_t *text, size_t *len,
                                                 bool *cut)
{
    size_t n = 0;
    for (size_t i = 0; i < in->len; i++, n++) {
        uint8_t byte = in->data[i];
        if (byte == 0) {
            if (++i == in->len)
                return KV_CORRUPT;
            uint8_t end = in->data[i];
            size_t used = i + 1 + (end == 1 ? 16 : 0);
            if (end <= 1) {
                if (used > in->len || (end == 1 && n != TS_KEY_TEXT_LEN_MAX))
                    return KV_CORRUPT;
                if (raw)
                    *raw = (kv_slice){in->data, used};
                *len = n;
                *cut = end == 1;
                *in = kv_slice_from(*in, used);
                return KV_OK;
            }
            if (end != 0xff)
                return KV_CORRUPT;
        }
        if (n == TS_KEY_TEXT_LEN_MAX)
            return KV_CORRUPT;
        if (text)
            text[n] = byte;
    }
    return KV_CORRUPT;
}

/* The smallest key greater than every key that begins with *key, in place. False: there is none (all FF);
 * *key is then empty, which kv_iter_open takes as unbounded. */
static inline bool ts_key_successor(struct ts_key *key)
{
    while (key->len > 0) {
        if (++key->bytes[key->len - 1] != 0)
            return true;
        key->len--;
    }
    return false;
}

/* ---- chunks -------------------------------------------------------------------------------------------- */

struct ts_chunk_key {
    int32_t window;
    uint64_t ref;
    int64_t first_ms;
    uint64_t seq; /* last log sequence the chunk holds */
};
static inline void ts_key_chunk(struct ts_key *key, const struct ts_chunk_key *chunk)
{
    key->len = 0;
    ts_key_add_i32(key, chunk->window);
    ts_key_add_u64(key, chunk->ref);
    ts_key_add_i64(key, chunk->first_ms);
    ts_key_add_u64(key, chunk->seq);
}
static inline KV_MUST kv_status ts_key_chunk_read(kv_slice key, struct ts_chunk_key *chunk)
{
    if (key.len != TS_KEY_CHUNK_LEN)
        return KV_CORRUPT;
    chunk->window = ts_key_get_i32(key.data);
    chunk->ref = kv_get_be64(key.data + 4);
    chunk->first_ms = ts_key_get_i64(key.data + 12);
    chunk->seq = kv_get_be64(key.data + 20);
    return KV_OK;
}
/* Bounds: all chunks of a window; of a series in a window. Each is the lower bound; ts_key_successor of it
 * the upper. */
static inline void ts_key_chunk_window(struct ts_key *key, int32_t window)
{
    key->len = 0;
    ts_key_add_i32(key, window);
}
static inline void ts_key_chunk_series(struct ts_key *key, int32_t window, uint64_t ref)
{
    ts_key_chunk_window(key, window);
    ts_key_add_u64(key, ref);
}
/* kv_space_options.cut_len of the chunk space. */
static inline size_t ts_key_chunk_cut_len(kv_slice key)
{
    return key.len < TS_KEY_WINDOW_LEN ? key.len : TS_KEY_WINDOW_LEN;
}

/* ---- registry ------------------------------------------------------------------------------------------ */

static inline void ts_key_kind(struct ts_key *key, char kind) /* bound of everything of a kind */
{
    key->len = 0;
    ts_key_add_u8(key, (uint8_t)kind);
}
static inline void ts_key_labels(struct ts_key *key, uint64_t ref)
{
    ts_key_kind(key, 'r');
    ts_key_add_u64(key, ref);
}
static inline KV_MUST kv_status ts_key_labels_read(kv_slice key, uint64_t *ref)
{
    if (key.len != TS_KEY_LABELS_LEN || key.data[0] != 'r')
        return KV_CORRUPT;
    *ref = kv_get_be64(key.data + 1);
    return KV_OK;
}
/* hash: of the canonical labels, keyed by the database's secret. */
static inline void ts_key_hash(struct ts_key *key, kv_hash128 hash)
{
    ts_key_kind(key, 'h');
    ts_key_add_u64(key, hash.high);
    ts_key_add_u64(key, hash.low);
}
/* The value of a hash: a ref. */
enum { TS_REF_VALUE_LEN = 8 };
static inline KV_MUST kv_status ts_ref_value_read(kv_slice value, uint64_t *ref)
{
    if (value.len != TS_REF_VALUE_LEN)
        return KV_CORRUPT;
    *ref = kv_get_be64(value.data);
    return KV_OK;
}
static inline void ts_key_metric(struct ts_key *key, kv_slice name)
{
    ts_key_kind(key, 'm');
    ts_key_add_text(key, name);
}
static inline void ts_key_counters(struct ts_key *key)
{
    ts_key_kind(key, 'c');
}
static inline void ts_key_family(struct ts_key *key, kv_slice family)
{
    ts_key_kind(key, 'f');
    ts_key_add_text(key, family);
}
/* By number, so that the oldest come first. */
static inline void ts_key_exemplar(struct ts_key *key, uint64_t number)
{
    ts_key_kind(key, 'x');
    ts_key_add_u64(key, number);
}
static inline KV_MUST kv_status ts_key_exemplar_read(kv_slice key, uint64_t *number)
{
    if (key.len != 9 || key.data[0] != 'x')
        return KV_CORRUPT;
    *number = kv_get_be64(key.data + 1);
    return *number > 0 && *number < UINT64_MAX ? KV_OK : KV_CORRUPT;
}
static inline void ts_key_fact(struct ts_key *key, kv_slice name)
{
    ts_key_kind(key, 'k');
    ts_key_add_text(key, name);
}

/* The value of a metric: its number, the series number given out next, its name if the key could not hold it.
 */
static inline KV_MUST kv_status ts_metric_value_read(kv_slice value, uint32_t *metric, uint32_t *next,
                                                     kv_slice *name)
{
    if (value.len < 8)
        return KV_CORRUPT;
    *metric = kv_get_be32(value.data);
    *next = kv_get_be32(value.data + 4);
    *name = kv_slice_from(value, 8);
    return *metric > 0 && *metric < TS_POSTINGS_MIXED ? KV_OK : KV_CORRUPT;
}

/* ---- tombstones ---------------------------------------------------------------------------------------- */

struct ts_tombstone {
    int32_t window;
    uint64_t ref;
    uint64_t seq;           /* covers only what came before it */
    int64_t from_ms, to_ms; /* both inclusive */
};
enum { TS_TOMBSTONE_VALUE_LEN = 16 };
/* Bound of a window's tombstones. */
static inline void ts_key_tombstone_window(struct ts_key *key, int32_t window)
{
    ts_key_kind(key, 't');
    ts_key_add_i32(key, window);
}
static inline void ts_key_tombstone(struct ts_key *key, const struct ts_tombstone *t)
{
    ts_key_tombstone_window(key, t->window);
    ts_key_add_u64(key, t->ref);
    ts_key_add_u64(key, t->seq);
}
static inline void ts_tombstone_value(uint8_t out[TS_TOMBSTONE_VALUE_LEN], const struct ts_tombstone *t)
{
    kv_put_fixed64(out, (uint64_t)t->from_ms);
    kv_put_fixed64(out + 8, (uint64_t)t->to_ms);
}
static inline KV_MUST kv_status ts_tombstone_read(kv_slice key, kv_slice value, struct ts_tombstone *t)
{
    if (key.len != TS_KEY_TOMBSTONE_LEN || key.data[0] != 't' || value.len != TS_TOMBSTONE_VALUE_LEN)
        return KV_CORRUPT;
    t->window = ts_key_get_i32(key.data + 1);
    t->ref = kv_get_be64(key.data + 5);
    t->seq = kv_get_be64(key.data + 13);
    t->from_ms = (int64_t)kv_get_fixed64(value.data);
    t->to_ms = (int64_t)kv_get_fixed64(value.data + 8);
    return t->from_ms <= t->to_ms ? KV_OK : KV_CORRUPT;
}

/* ---- index --------------------------------------------------------------------------------------------- */

/* Bound of everything of a label; the empty label's empty value is "all series". */
static inline void ts_key_postings_label(struct ts_key *key, kv_slice label)
{
    ts_key_kind(key, 'p');
    ts_key_add_text(key, label);
}
/* Bound of a label's value; the empty value is "has the label". */
static inline void ts_key_postings_value(struct ts_key *key, kv_slice label, kv_slice value)
{
    ts_key_postings_label(key, label);
    ts_key_add_text(key, value);
}
struct ts_postings_key {
    uint32_t metric;
    uint16_t batch, first;
};
/* Whether the label pair of a postings key is "all series", whose lists are never mixed. */
static inline bool ts_key_postings_all(kv_slice key)
{
    return key.len > 2 && key.data[1] == 0 && key.data[2] == 0;
}
/* key: made by ts_key_postings_value. */
static inline void ts_key_postings_tail(struct ts_key *key, const struct ts_postings_key *tail)
{
    ts_key_add_u32(key, tail->metric);
    ts_key_add_u16(key, tail->batch);
    ts_key_add_u16(key, tail->first);
}
/* As ts_key_postings_tail, of a mixed list with this lowest member. */
static inline void ts_key_postings_mixed(struct ts_key *key, uint64_t first)
{
    struct ts_postings_key tail = {ts_ref_metric(first) | TS_POSTINGS_MIXED,
                                   (uint16_t)(ts_ref_series(first) >> 16), (uint16_t)first};
    ts_key_postings_tail(key, &tail);
}
/* The last TS_KEY_POSTINGS_TAIL_LEN bytes of a postings key. */
static inline KV_MUST kv_status ts_key_postings_tail_read(kv_slice key, struct ts_postings_key *tail)
{
    if (key.len < TS_KEY_POSTINGS_TAIL_LEN)
        return KV_CORRUPT;
    const uint8_t *p = key.data + key.len - TS_KEY_POSTINGS_TAIL_LEN;
    *tail = (struct ts_postings_key){kv_get_be32(p), ts_key_get_u16(p + 4), ts_key_get_u16(p + 6)};
    return KV_OK;
}

struct ts_activity_key {
    int32_t window;
    uint32_t metric;
    uint16_t batch;
};
static inline void ts_key_activity_window(struct ts_key *key, int32_t window)
{
    ts_key_kind(key, 'a');
    ts_key_add_i32(key, window);
}
static inline void ts_key_activity_metric(struct ts_key *key, int32_t window, uint32_t metric)
{
    ts_key_activity_window(key, window);
    ts_key_add_u32(key, metric);
}
static inline void ts_key_activity(struct ts_key *key, const struct ts_activity_key *activity)
{
    ts_key_activity_metric(key, activity->window, activity->metric);
    ts_key_add_u16(key, activity->batch);
}
static inline KV_MUST kv_status ts_key_activity_read(kv_slice key, struct ts_activity_key *activity)
{
    if (key.len != TS_KEY_ACTIVITY_LEN || key.data[0] != 'a')
        return KV_CORRUPT;
    activity->window = ts_key_get_i32(key.data + 1);
    activity->metric = kv_get_be32(key.data + 5);
    activity->batch = ts_key_get_u16(key.data + 9);
    return KV_OK;
}

/* Series of a batch that have left. */
enum { TS_KEY_LEFT_LEN = 1 + 4 + 2 };
static inline void ts_key_left(struct ts_key *key, uint32_t metric, uint16_t batch)
{
    ts_key_kind(key, 'g');
    ts_key_add_u32(key, metric);
    ts_key_add_u16(key, batch);
}
static inline KV_MUST kv_status ts_key_left_read(kv_slice key, uint32_t *metric, uint16_t *batch)
{
    if (key.len != TS_KEY_LEFT_LEN || key.data[0] != 'g')
        return KV_CORRUPT;
    *metric = kv_get_be32(key.data + 1);
    *batch = ts_key_get_u16(key.data + 5);
    return KV_OK;
}
/* How many series of a metric have left, in space "series". */
enum { TS_KEY_LEFT_COUNT_LEN = 1 + 4, TS_LEFT_COUNT_VALUE_LEN = 4 };
static inline void ts_key_left_count(struct ts_key *key, uint32_t metric)
{
    ts_key_kind(key, 'l');
    ts_key_add_u32(key, metric);
}

/* ---- spaces -------------------------------------------------------------------------------------------- */

/* Unites postings lists while the index space is merged. Static, any number of databases. In tsdb/postings.c.
 */
const struct kv_hook *ts_postings_hook(void);

/* What every open of a store passes to kv_open. chunk_hook: may be NULL. */
static inline void ts_spaces_fill(struct kv_space_options spaces[TS_SPACES], const struct kv_hook *chunk_hook)
{
    /* Compressed for what chunks of neighbours share, above all the times of one scrape: a block that saves less than an eighth stays plain, and
     * behind one that saves more a larger one shares more. */
    spaces[TS_SPACE_CHUNKS] = (struct kv_space_options){.name = "chunks",
                                                        .compression = KV_COMPRESSION_ZSTD,
                                                        .block_bytes = 32 << 10,
                                                        .block_bytes_most = 128 << 10,
                                                        .no_filter = true,
                                                        .hook = chunk_hook,
                                                        .cut_len = ts_key_chunk_cut_len};
    spaces[TS_SPACE_SERIES] = (struct kv_space_options){.name = "series"};
    spaces[TS_SPACE_INDEX] =
        (struct kv_space_options){.name = "index", .no_filter = true, .hook = ts_postings_hook()};
}

#endif
