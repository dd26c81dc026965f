#include "tsdb/postings.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"
#include "tsdb/key.h"

#include <stdlib.h>

/* ---- bytes --------------------------------------------------------------------------------------------- */

enum { FORM_DELTAS = 1, FORM_RUNS = 2, FORM_BITMAP = 3 };

/* Bytes that the members take as deltas and as runs. */
static void encoded_sizes(const uint16_t *members, size_t n, size_t *deltas, size_t *runs)
{
    uint32_t next = 0, run_start = 0, after_run = 0; /* next: one past the previous member */
    *deltas = *runs = 0;
    for (size_t i = 0; i < n; i++) {
        *deltas += kv_varint_len(members[i] - next);
        if (i == 0 || members[i] != next) {
            if (i > 0)
                *runs += kv_varint_len(next - run_start - 1);
            *runs += kv_varint_len(members[i] - after_run);
            run_start = members[i];
        }
        next = members[i] + 1u;
        after_run = next;
    }
    *runs += kv_varint_len(next - run_start - 1);
}

static uint8_t *put_deltas(uint8_t *p, const uint16_t *members, size_t n)
{
    uint32_t next = 0;
    for (size_t i = 0; i < n; i++) {
        p += kv_put_varint(p, members[i] - next);
        next = members[i] + 1u;
    }
    return p;
}

static uint8_t *put_runs(uint8_t *p, const uint16_t *members, size_t n)
{
    uint32_t after = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i + 1;
        while (end < n && members[end] == members[end - 1] + 1)
            end++;
        p += kv_put_varint(p, members[i] - after);
        p += kv_put_varint(p, end - i - 1);
        after = members[end - 1] + 1u;
        i = end;
    }
    return p;
}

static uint8_t *put_bitmap(uint8_t *p, const uint16_t *members, size_t n)
{
    memset(p, 0, TS_BATCH_SIZE / 8);
    for (size_t i = 0; i < n; i++)
        p[members[i] / 8] = (uint8_t)(p[members[i] / 8] | 1u << members[i] % 8);
    return p + TS_BATCH_SIZE / 8;
}

kv_status ts_postings_encode(const uint16_t *members, size_t n, struct kv_buf *out)
{
    size_t deltas, runs, bitmap = TS_BATCH_SIZE / 8;
    KV_ASSERT(n > 0);
    encoded_sizes(members, n, &deltas, &runs);
    size_t size = deltas < runs ? deltas : runs;
    size = size < bitmap ? size : bitmap;
    uint8_t *p = kv_buf_extend(out, 1 + size);
    if (!p)
        return KV_NO_MEMORY;
    uint8_t *start = p++;
    if (size == deltas) {
        *start = FORM_DELTAS;
        p = put_deltas(p, members, n);
    } else if (size == runs) {
        *start = FORM_RUNS;
        p = put_runs(p, members, n);
    } else {
        *start = FORM_BITMAP;
        p = put_bitmap(p, members, n);
    }
    KV_ASSERT((size_t)(p - start) == 1 + size);
    return KV_OK;
}

/* Walks encoded deltas or runs as runs. */
struct walk {
    kv_slice in;
    uint8_t form;
    uint32_t next; /* one past the last member */
};

static KV_MUST kv_status walk_open(struct walk *w, kv_slice bytes)
{
    *w = (struct walk){.in = bytes};
    if (kv_take_byte(&w->in, &w->form) < 0 || w->in.len == 0)
        return KV_CORRUPT;
    if (w->form == FORM_BITMAP)
        return w->in.len == TS_BATCH_SIZE / 8 ? KV_OK : KV_CORRUPT;
    return w->form == FORM_DELTAS || w->form == FORM_RUNS ? KV_OK : KV_CORRUPT;
}

static KV_MUST kv_status walk_next(struct walk *w, uint32_t *lo, uint32_t *hi)
{
    uint64_t gap, more = 0;
    if (w->in.len == 0)
        return KV_END;
    if (kv_take_varint(&w->in, &gap) < 0 || (w->form == FORM_RUNS && kv_take_varint(&w->in, &more) < 0))
        return KV_CORRUPT;
    if (gap >= TS_BATCH_SIZE - w->next || more >= TS_BATCH_SIZE - w->next - gap)
        return KV_CORRUPT;
    *lo = w->next + (uint32_t)gap;
    *hi = *lo + (uint32_t)more;
    w->next = *hi + 1;
    return w->next == TS_BATCH_SIZE && w->in.len > 0 ? KV_CORRUPT : KV_OK;
}

static uint64_t bitmap_word(const struct walk *w, size_t i)
{
    return kv_get_fixed64(w->in.data + 8 * i);
}

static bool bitmap_empty(const struct walk *w)
{
    uint64_t any = 0;
    for (size_t i = 0; i < TS_BATCH_WORDS; i++)
        any |= bitmap_word(w, i);
    return any == 0;
}

/* The bits of word `word` that lie in [lo, hi]. */
static uint64_t word_mask(uint32_t word, uint32_t lo, uint32_t hi)
{
    uint64_t mask = UINT64_MAX;
    if (word == lo / 64)
        mask &= UINT64_MAX << lo % 64;
    if (word == hi / 64)
        mask &= UINT64_MAX >> (63 - hi % 64);
    return mask;
}

static void bits_set(uint64_t *bits, uint32_t lo, uint32_t hi)
{
    for (uint32_t w = lo / 64; w <= hi / 64; w++)
        bits[w] |= word_mask(w, lo, hi);
}

static uint32_t bits_count_in(const uint64_t *bits, uint32_t lo, uint32_t hi)
{
    uint32_t n = 0;
    for (uint32_t w = lo / 64; w <= hi / 64; w++)
        n += (uint32_t)__builtin_popcountll(bits[w] & word_mask(w, lo, hi));
    return n;
}

static bool bits_has(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}

kv_status ts_postings_decode(kv_slice bytes, uint64_t bits[TS_BATCH_WORDS])
{
    struct walk w;
    uint32_t lo, hi;
    kv_status rc = walk_open(&w, bytes);
    if (rc == KV_OK && w.form == FORM_BITMAP) {
        for (size_t i = 0; i < TS_BATCH_WORDS; i++)
            bits[i] |= bitmap_word(&w, i);
        return bitmap_empty(&w) ? KV_CORRUPT : KV_OK;
    }
    while (rc == KV_OK && (rc = walk_next(&w, &lo, &hi)) == KV_OK)
        bits_set(bits, lo, hi);
    return rc == KV_END ? KV_OK : rc;
}

kv_status ts_postings_count(kv_slice bytes, uint32_t *n)
{
    struct walk w;
    uint32_t lo, hi;
    kv_status rc = walk_open(&w, bytes);
    *n = 0;
    if (rc == KV_OK && w.form == FORM_BITMAP) {
        for (size_t i = 0; i < TS_BATCH_WORDS; i++)
            *n += (uint32_t)__builtin_popcountll(bitmap_word(&w, i));
        return *n > 0 ? KV_OK : KV_CORRUPT;
    }
    while (rc == KV_OK && (rc = walk_next(&w, &lo, &hi)) == KV_OK)
        *n += hi - lo + 1;
    return rc == KV_END ? KV_OK : rc;
}

kv_status ts_postings_members(kv_slice bytes, uint16_t *out, size_t *n)
{
    struct walk w;
    uint32_t lo, hi;
    kv_status rc = walk_open(&w, bytes);
    *n = 0;
    if (rc == KV_OK && w.form == FORM_BITMAP) {
        for (size_t i = 0; i < TS_BATCH_WORDS; i++)
            for (uint64_t bits = bitmap_word(&w, i); bits; bits &= bits - 1)
                out[(*n)++] = (uint16_t)(i * 64 + (size_t)__builtin_ctzll(bits));
        return *n > 0 ? KV_OK : KV_CORRUPT;
    }
    while (rc == KV_OK && (rc = walk_next(&w, &lo, &hi)) == KV_OK)
        for (uint32_t i = lo; i <= hi; i++)
            out[(*n)++] = (uint16_t)i;
    return rc == KV_END ? KV_OK : rc;
}

static size_t bits_members(const uint64_t *bits, uint16_t *out)
{
    size_t n = 0;
    for (uint32_t w = 0; w < TS_BATCH_WORDS; w++)
        for (uint64_t left = bits[w]; left; left &= left - 1)
            out[n++] = (uint16_t)(w * 64 + (uint32_t)__builtin_ctzll(left));
    return n;
}

static uint32_t bits_count(const uint64_t *bits)
{
    uint32_t n = 0;
    for (size_t i = 0; i < TS_BATCH_WORDS; i++)
        n += (uint32_t)__builtin_popcountll(bits[i]);
    return n;
}

/* ---- sets ---------------------------------------------------------------------------------------------- */

enum { LIST_MAX = 2048, LIST_MIN = 4 };

/* A free slot has no memory. */
struct ts_batch {
    uint64_t key;      /* metric << 16 | batch */
    uint32_t n;        /* members */
    uint32_t capacity; /* of the list; 0: bits */
    union {
        uint16_t *list;
        uint64_t *bits; /* TS_BATCH_WORDS */
        void *memory;
    } u;
};

static uint64_t key_of(uint32_t metric, uint16_t batch)
{
    return (uint64_t)metric << 16 | batch;
}

static size_t slot_of(const struct ts_refset *set, uint64_t key)
{
    size_t mask = set->capacity - 1, i = (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & mask;
    while (set->slots[i].u.memory && set->slots[i].key != key)
        i = (i + 1) & mask;
    return i;
}

static struct ts_batch *batch_find(const struct ts_refset *set, uint64_t key)
{
    if (set->capacity == 0)
        return NULL;
    struct ts_batch *b = &set->slots[slot_of(set, key)];
    return b->u.memory ? b : NULL;
}

static KV_MUST kv_status set_grow(struct ts_refset *set)
{
    struct ts_refset grown = {.capacity = set->capacity ? set->capacity * 2 : 8};
    grown.slots = kv_zalloc(grown.capacity, sizeof *grown.slots);
    if (!grown.slots)
        return KV_NO_MEMORY;
    for (size_t i = 0; i < set->capacity; i++)
        if (set->slots[i].u.memory)
            grown.slots[slot_of(&grown, set->slots[i].key)] = set->slots[i];
    kv_free(set->slots);
    set->bytes += (grown.capacity - set->capacity) * sizeof *grown.slots;
    set->slots = grown.slots;
    set->capacity = grown.capacity;
    return KV_OK;
}

/* The batch, made if it is not there. */
static KV_MUST kv_status batch_make(struct ts_refset *set, uint64_t key, struct ts_batch **out)
{
    if ((*out = batch_find(set, key)))
        return KV_OK;
    if (2 * set->n >= set->capacity && set_grow(set) < 0)
        return KV_NO_MEMORY;
    uint16_t *list = kv_alloc(LIST_MIN * sizeof *list);
    if (!list)
        return KV_NO_MEMORY;
    *out = &set->slots[slot_of(set, key)];
    **out = (struct ts_batch){.key = key, .capacity = LIST_MIN, .u.list = list};
    set->bytes += LIST_MIN * sizeof *list;
    set->n++;
    if ((uint16_t)key > set->batch_max)
        set->batch_max = (uint16_t)key;
    return KV_OK;
}

static KV_MUST kv_status batch_to_bits(struct ts_refset *set, struct ts_batch *b)
{
    if (b->capacity == 0)
        return KV_OK;
    uint64_t *bits = kv_zalloc(TS_BATCH_WORDS, sizeof *bits);
    if (!bits)
        return KV_NO_MEMORY;
    for (uint32_t i = 0; i < b->n; i++)
        bits_set(bits, b->u.list[i], b->u.list[i]);
    kv_free(b->u.list);
    set->bytes += TS_BATCH_WORDS * sizeof *bits - b->capacity * sizeof(uint16_t);
    b->u.bits = bits;
    b->capacity = 0;
    return KV_OK;
}

/* Where the member is, or would be. */
static uint32_t list_place(const struct ts_batch *b, uint16_t member)
{
    uint32_t lo = 0, hi = b->n;
    if (hi > 0 && b->u.list[hi - 1] < member)
        return hi; /* new series come in order */
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (b->u.list[mid] < member)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool batch_has(const struct ts_batch *b, uint16_t member)
{
    if (b->capacity == 0)
        return bits_has(b->u.bits, member);
    uint32_t at = list_place(b, member);
    return at < b->n && b->u.list[at] == member;
}

/* Room for one more in a list; it may become bits. */
static KV_MUST kv_status batch_room(struct ts_refset *set, struct ts_batch *b)
{
    if (b->capacity == 0 || b->n < b->capacity)
        return KV_OK;
    if (b->capacity >= LIST_MAX)
        return batch_to_bits(set, b);
    uint16_t *list = kv_realloc(b->u.list, b->capacity * 2 * sizeof *list);
    if (!list)
        return KV_NO_MEMORY;
    set->bytes += b->capacity * sizeof *list;
    b->u.list = list;
    b->capacity *= 2;
    return KV_OK;
}

static KV_MUST kv_status batch_add(struct ts_refset *set, struct ts_batch *b, uint16_t member, bool *added)
{
    *added = !batch_has(b, member);
    if (!*added)
        return KV_OK;
    kv_status rc = batch_room(set, b);
    if (rc < 0)
        return rc;
    if (b->capacity == 0) {
        bits_set(b->u.bits, member, member);
    } else {
        uint32_t at = list_place(b, member);
        memmove(b->u.list + at + 1, b->u.list + at, (b->n - at) * sizeof *b->u.list);
        b->u.list[at] = member;
    }
    b->n++;
    return KV_OK;
}

void ts_refset_release(struct ts_refset *set)
{
    for (size_t i = 0; i < set->capacity; i++)
        kv_free(set->slots[i].u.memory);
    kv_free(set->slots);
    *set = (struct ts_refset){0};
}

kv_status ts_refset_add(struct ts_refset *set, uint64_t ref, bool *added)
{
    struct ts_batch *b;
    bool ignored;
    uint32_t series = ts_ref_series(ref);
    kv_status rc = batch_make(set, key_of(ts_ref_metric(ref), (uint16_t)(series >> 16)), &b);
    return rc < 0 ? rc : batch_add(set, b, (uint16_t)series, added ? added : &ignored);
}

kv_status ts_refset_add_members(struct ts_refset *set, uint32_t metric, uint16_t batch,
                                const uint16_t *members, size_t n)
{
    struct ts_batch *b;
    bool added;
    kv_status rc;
    KV_TRY(batch_make(set, key_of(metric, batch), &b));
    if (b->n + n > LIST_MAX)
        KV_TRY(batch_to_bits(set, b));
    if (b->capacity == 0) {
        for (size_t i = 0; i < n; i++)
            bits_set(b->u.bits, members[i], members[i]);
        b->n = bits_count(b->u.bits);
        return KV_OK;
    }
    for (size_t i = 0; i < n; i++)
        KV_TRY(batch_add(set, b, members[i], &added));
out:
    return rc;
}

kv_status ts_refset_add_encoded(struct ts_refset *set, uint32_t metric, uint16_t batch, kv_slice bytes)
{
    struct ts_batch *b;
    struct walk w;
    uint32_t lo, hi;
    bool added;
    kv_status rc;
    KV_TRY(walk_open(&w, bytes));
    KV_TRY(batch_make(set, key_of(metric, batch), &b));
    if (w.form == FORM_BITMAP) {
        KV_TRY(batch_to_bits(set, b));
        for (size_t i = 0; i < TS_BATCH_WORDS; i++)
            b->u.bits[i] |= bitmap_word(&w, i);
        b->n = bits_count(b->u.bits);
        return bitmap_empty(&w) ? KV_CORRUPT : KV_OK;
    }
    while ((rc = walk_next(&w, &lo, &hi)) == KV_OK) {
        if (hi - lo >= LIST_MAX)
            KV_TRY(batch_to_bits(set, b));
        if (b->capacity == 0) {
            b->n += hi - lo + 1 - bits_count_in(b->u.bits, lo, hi);
            bits_set(b->u.bits, lo, hi);
            continue;
        }
        for (uint32_t member = lo; member <= hi; member++)
            KV_TRY(batch_add(set, b, (uint16_t)member, &added));
    }
    rc = rc == KV_END ? KV_OK : rc;
out:
    return rc;
}

bool ts_refset_has(const struct ts_refset *set, uint64_t ref)
{
    uint32_t series = ts_ref_series(ref);
    const struct ts_batch *b = batch_find(set, key_of(ts_ref_metric(ref), (uint16_t)(series >> 16)));
    return b && batch_has(b, (uint16_t)series);
}

bool ts_refset_has_metric_batch(const struct ts_refset *set, uint32_t metric, uint16_t batch)
{
    const struct ts_batch *b = batch_find(set, key_of(metric, batch));
    return b && b->n > 0;
}

uint64_t ts_refset_count(const struct ts_refset *set)
{
    uint64_t n = 0;
    for (size_t i = 0; i < set->capacity; i++)
        n += set->slots[i].n;
    return n;
}

bool ts_refset_metric_range(const struct ts_refset *set, uint32_t *lowest, uint32_t *highest)
{
    *lowest = UINT32_MAX;
    *highest = 0;
    for (size_t i = 0; i < set->capacity; i++) {
        uint32_t metric = (uint32_t)(set->slots[i].key >> 16);
        if (set->slots[i].n == 0)
            continue;
        *lowest = metric < *lowest ? metric : *lowest;
        *highest = metric > *highest ? metric : *highest;
    }
    return *lowest <= *highest;
}

static KV_MUST kv_status batch_or(struct ts_refset *set, struct ts_batch *b, const struct ts_batch *src)
{
    bool added;
    kv_status rc = KV_OK;
    if (src->capacity == 0 || (b->capacity > 0 && b->n + src->n > LIST_MAX))
        KV_TRY(batch_to_bits(set, b));
    if (src->capacity == 0) {
        for (size_t i = 0; i < TS_BATCH_WORDS; i++)
            b->u.bits[i] |= src->u.bits[i];
        b->n = bits_count(b->u.bits);
        return KV_OK;
    }
    for (uint32_t i = 0; i < src->n; i++)
        KV_TRY(batch_add(set, b, src->u.list[i], &added));
out:
    return rc;
}

kv_status ts_refset_or(struct ts_refset *dst, const struct ts_refset *src)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < src->capacity; i++) {
        struct ts_batch *b;
        if (src->slots[i].n == 0)
            continue;
        KV_TRY(batch_make(dst, src->slots[i].key, &b));
        KV_TRY(batch_or(dst, b, &src->slots[i]));
    }
out:
    return rc;
}

kv_status ts_refset_or_metric(struct ts_refset *dst, const struct ts_refset *src, uint32_t metric)
{
    kv_status rc = KV_OK;
    for (uint32_t batch = 0; batch <= src->batch_max; batch++) {
        const struct ts_batch *from = batch_find(src, key_of(metric, (uint16_t)batch));
        struct ts_batch *b;
        if (!from || from->n == 0)
            continue;
        KV_TRY(batch_make(dst, from->key, &b));
        KV_TRY(batch_or(dst, b, from));
    }
out:
    return rc;
}

/* Keeps the members that src has (keep true) or has not. src NULL: has none. */
static void batch_filter(struct ts_batch *b, const struct ts_batch *src, bool keep)
{
    uint32_t kept = 0;
    if (b->capacity > 0) {
        for (uint32_t i = 0; i < b->n; i++)
            if ((src && batch_has(src, b->u.list[i])) == keep)
                b->u.list[kept++] = b->u.list[i];
        b->n = kept;
        return;
    }
    uint64_t other[TS_BATCH_WORDS] = {0};
    if (src && src->capacity == 0)
        memcpy(other, src->u.bits, sizeof other);
    for (uint32_t i = 0; src && src->capacity > 0 && i < src->n; i++)
        bits_set(other, src->u.list[i], src->u.list[i]);
    for (size_t i = 0; i < TS_BATCH_WORDS; i++)
        b->u.bits[i] &= keep ? other[i] : ~other[i];
    b->n = bits_count(b->u.bits);
}

void ts_refset_and(struct ts_refset *dst, const struct ts_refset *src)
{
    for (size_t i = 0; i < dst->capacity; i++)
        if (dst->slots[i].n > 0)
            batch_filter(&dst->slots[i], batch_find(src, dst->slots[i].key), true);
}

void ts_refset_andnot(struct ts_refset *dst, const struct ts_refset *src)
{
    for (size_t i = 0; i < dst->capacity; i++) {
        const struct ts_batch *b = dst->slots[i].n > 0 ? batch_find(src, dst->slots[i].key) : NULL;
        if (b)
            batch_filter(&dst->slots[i], b, false);
    }
}

kv_status ts_refset_meets_encoded(const struct ts_refset *set, uint32_t metric, uint16_t batch,
                                  kv_slice bytes, bool *meets)
{
    const struct ts_batch *b = batch_find(set, key_of(metric, batch));
    struct walk w;
    uint32_t lo, hi;
    kv_status rc = walk_open(&w, bytes);
    *meets = false;
    if (rc < 0 || !b || b->n == 0)
        return rc;
    if (w.form == FORM_BITMAP) {
        for (uint32_t i = 0; i < TS_BATCH_SIZE && !*meets; i++)
            *meets = (bitmap_word(&w, i / 64) >> (i % 64) & 1) && batch_has(b, (uint16_t)i);
        return KV_OK;
    }
    while (!*meets && (rc = walk_next(&w, &lo, &hi)) == KV_OK) {
        if (b->capacity > 0) {
            uint32_t at = list_place(b, (uint16_t)lo);
            *meets = at < b->n && b->u.list[at] <= hi;
        } else {
            for (uint32_t i = lo; i <= hi && !*meets; i++)
                *meets = bits_has(b->u.bits, i);
        }
    }
    return rc == KV_END ? KV_OK : rc;
}

/* Members of a list in [lo, hi]. */
static uint32_t list_count_in(const struct ts_batch *b, uint32_t lo, uint32_t hi)
{
    uint32_t from = list_place(b, (uint16_t)lo), to = list_place(b, (uint16_t)hi);
    return to + (to < b->n && b->u.list[to] == hi) - from;
}

kv_status ts_refset_common_encoded(const struct ts_refset *set, uint32_t metric, uint16_t batch,
                                   kv_slice bytes, uint32_t *n)
{
    const struct ts_batch *b = batch_find(set, key_of(metric, batch));
    struct walk w;
    uint32_t lo, hi;
    kv_status rc = walk_open(&w, bytes);
    *n = 0;
    if (rc < 0 || !b || b->n == 0)
        return rc;
    if (w.form == FORM_BITMAP) {
        for (uint32_t i = 0; b->capacity > 0 && i < b->n; i++)
            *n += (uint32_t)(bitmap_word(&w, b->u.list[i] / 64) >> (b->u.list[i] % 64) & 1);
        for (size_t i = 0; b->capacity == 0 && i < TS_BATCH_WORDS; i++)
            *n += (uint32_t)__builtin_popcountll(bitmap_word(&w, i) & b->u.bits[i]);
        return KV_OK;
    }
    while ((rc = walk_next(&w, &lo, &hi)) == KV_OK)
        *n += b->capacity > 0 ? list_count_in(b, lo, hi) : bits_count_in(b->u.bits, lo, hi);
    return rc == KV_END ? KV_OK : rc;
}

static int batch_order(const void *a, const void *b)
{
    uint64_t x = (*(const struct ts_batch *const *)a)->key, y = (*(const struct ts_batch *const *)b)->key;
    return (x > y) - (x < y);
}

kv_status ts_refset_each(const struct ts_refset *set,
                         kv_status (*each)(void *ctx, uint32_t metric, uint16_t batch,
                                           const uint16_t *members, size_t n),
                         void *ctx)
{
    const struct ts_batch **sorted = kv_alloc((set->n + 1) * sizeof(const struct ts_batch *));
    uint16_t *members = NULL; /* of one that is bits */
    size_t n = 0;
    kv_status rc = sorted ? KV_OK : KV_NO_MEMORY;
    for (size_t i = 0; rc == KV_OK && i < set->capacity; i++)
        if (set->slots[i].n > 0)
            sorted[n++] = &set->slots[i];
    if (n > 1)
        qsort(sorted, n, sizeof(const struct ts_batch *), batch_order);
    for (size_t i = 0; rc == KV_OK && i < n; i++) {
        const struct ts_batch *b = sorted[i];
        if (b->capacity == 0) {
            if (!members && !(members = kv_alloc(TS_BATCH_SIZE * sizeof *members))) {
                rc = KV_NO_MEMORY;
                break;
            }
            (void)bits_members(b->u.bits, members);
        }
        rc = each(ctx, (uint32_t)(b->key >> 16), (uint16_t)b->key, b->capacity ? b->u.list : members, b->n);
    }
    kv_free(members);
    kv_free(sorted);
    return rc;
}

struct refs_out {
    uint64_t *refs;
    size_t n;
};

static kv_status refs_append(void *ctx, uint32_t metric, uint16_t batch, const uint16_t *members, size_t n)
{
    struct refs_out *out = ctx;
    for (size_t i = 0; i < n; i++)
        out->refs[out->n++] = ts_ref_of(metric, (uint32_t)batch << 16 | members[i]);
    return KV_OK;
}

kv_status ts_refset_refs(const struct ts_refset *set, uint64_t **refs, size_t *n)
{
    uint64_t count = ts_refset_count(set);
    struct refs_out out = {0};
    *refs = NULL;
    *n = 0;
    if (count == 0)
        return KV_OK;
    out.refs = kv_alloc(count * sizeof *out.refs);
    kv_status rc = out.refs ? ts_refset_each(set, refs_append, &out) : KV_NO_MEMORY;
    if (rc < 0) {
        kv_free(out.refs);
        return rc;
    }
    *refs = out.refs;
    *n = out.n;
    return KV_OK;
}
