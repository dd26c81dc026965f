#include "tsdb/generation.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/series.h"

enum {
    PAGE_SERIES = 256,   /* series that share a page, and with it a stripe */
    TABLE_MIN = 1024,    /* slots of the first hash table */
    FIND_AT_ONCE = 1024, /* look-ups under one hold of the table's lock */
    LATE_MIN = 16,
    SEGMENT_MIN = 32,
    SEGMENT_LONG = 256, /* from here on with a checkpoint */
    SEGMENT_MAX = 512,  /* bytes with their header; each next one is twice as long */
    WINDOW_NONE = INT32_MIN,
};

/* Bytes of a stream. Never change once written; more are added behind them. A sample never straddles two. Long ones begin with what a
 * reader needs to start there (struct checkpoint). */
struct segment {
    struct segment *next;
    uint16_t len, capacity; /* of bytes */
    uint16_t start;         /* where samples begin: 0, or behind the checkpoint */
    uint8_t bytes[];
};
struct checkpoint {
    struct ts_sample_state before; /* the sample in front of the segment */
    uint32_t count;                /* samples in front of it */
};

/* Samples that came with a time at or before the newest: sorted and unique up to n_sorted, then as they came.
 * Behind them is room to sort what is unsorted. */
struct late {
    uint32_t n, n_sorted, capacity; /* samples; capacity >= n_sorted + 2 * (n - n_sorted) */
    struct late_sample {
        int64_t time_ms;
        uint64_t bits;
    } samples[];
};

struct ts_head_series {
    uint64_t ref;
    struct ts_sample_state state; /* the newest sample of the stream */
    struct segment *last;         /* its next is the first */
    struct late *late;
    uint32_t count; /* samples in the stream */
    uint32_t next;  /* slot that followed in the commit before: tried first */
    int32_t window; /* last one added to the activity; WINDOW_NONE */
};
_Static_assert(sizeof(struct ts_head_series) <= 64, "there may be ten million of them");

/* ---- generations ------------------------------------------------------------------------------------- */

static void generation_free(struct ts_generation *g)
{
    if (!g)
        return;
    for (int i = 0; i < TS_STRIPES; i++)
        kv_mutex_release(&g->stripes[i]);
    kv_rwlock_release(&g->table_lock);
    ts_activity_free(g->activity);
    kv_arena_release(&g->arena);
    kv_free(g->pages);
    kv_free(g->table);
    kv_free(g);
}

struct ts_generation *ts_generation_new(void)
{
    struct ts_generation *g = kv_zalloc(1, sizeof *g);
    if (!g)
        return NULL;
    atomic_init(&g->refs, 1);
    g->arena.large = true; /* millions of series are touched one after another */
    atomic_init(&g->bytes, 0);
    g->min_ms = INT64_MAX;
    g->max_ms = INT64_MIN;
    kv_rwlock_init(&g->table_lock);
    for (int i = 0; i < TS_STRIPES; i++)
        kv_mutex_init(&g->stripes[i]);
    g->table = kv_zalloc(TABLE_MIN, sizeof *g->table);
    g->table_size = TABLE_MIN;
    if (!g->table || ts_activity_new(&g->activity) < 0) {
        generation_free(g);
        return NULL;
    }
    return g;
}

void ts_generation_unpin(struct ts_generation *generation)
{
    if (generation && atomic_fetch_sub(&generation->refs, 1) == 1)
        generation_free(generation);
}

struct ts_generation *ts_generation_pin(struct ts_generation *g)
{
    atomic_fetch_add(&g->refs, 1);
    return g;
}

static struct ts_head_series *generation_series(const struct ts_generation *g, uint32_t slot)
{
    return &g->pages[slot / PAGE_SERIES][slot % PAGE_SERIES];
}

static kv_mutex *generation_stripe(struct ts_generation *g, uint32_t slot)
{
    return &g->stripes[slot / PAGE_SERIES % TS_STRIPES];
}

static uint32_t table_place(uint64_t ref, uint32_t size)
{
    return (uint32_t)((ref * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (size - 1);
}

static uint32_t generation_lookup(const struct ts_generation *g, uint64_t ref)
{
    for (uint32_t i = table_place(ref, g->table_size); g->table[i]; i = (i + 1) & (g->table_size - 1))
        if (generation_series(g, g->table[i] - 1)->ref == ref)
            return g->table[i] - 1;
    return TS_SLOT_NONE;
}

static void table_insert(uint32_t *table, uint32_t size, uint64_t ref, uint32_t slot)
{
    uint32_t i = table_place(ref, size);
    while (table[i])
        i = (i + 1) & (size - 1);
    table[i] = slot + 1;
}

/* Table lock held for writing. */
static kv_status generation_grow(struct ts_generation *g)
{
    if (g->n_series == g->n_pages * PAGE_SERIES) {
        if (g->n_series >= UINT32_MAX / 2)
            return KV_LIMIT;
        if (g->n_pages == g->pages_capacity) {
            uint32_t capacity = g->pages_capacity ? g->pages_capacity * 2 : 64;
            struct ts_head_series **pages = kv_realloc(g->pages, capacity * sizeof(struct ts_head_series *));
            if (!pages)
                return KV_NO_MEMORY;
            g->pages = pages;
            g->pages_capacity = capacity;
        }
        struct ts_head_series *page = kv_arena_zalloc(&g->arena, PAGE_SERIES, sizeof *page);
        if (!page)
            return KV_NO_MEMORY;
        g->pages[g->n_pages++] = page;
    }
    if (g->n_series < g->table_size / 2)
        return KV_OK;
    uint32_t size = g->table_size * 2;
    uint32_t *table = kv_zalloc(size, sizeof *table);
    if (!table)
        return KV_NO_MEMORY;
    for (uint32_t slot = 0; slot < g->n_series; slot++)
        table_insert(table, size, generation_series(g, slot)->ref, slot);
    kv_free(g->table);
    g->table = table;
    g->table_size = size;
    return KV_OK;
}

static kv_status generation_add(struct ts_generation *g, uint64_t ref, uint32_t *slot)
{
    kv_rwlock_write(&g->table_lock);
    kv_status rc = generation_grow(g);
    if (rc == KV_OK) {
        *slot = g->n_series++;
        *generation_series(g, *slot) =
            (struct ts_head_series){.ref = ref, .next = *slot + 1, .window = WINDOW_NONE};
        table_insert(g->table, g->table_size, ref, *slot);
    }
    kv_rwlock_unlock(&g->table_lock);
    return rc;
}

/* ---- samples of one series: the stripe's lock is held ------------------------------------------------ */

static const struct segment *stream_first(const struct ts_head_series *s)
{
    return s->last ? s->last->next : NULL;
}

/* The segment behind `at`; NULL: that was the last. */
static const struct segment *stream_after(const struct ts_head_series *s, const struct segment *at)
{
    return at == s->last ? NULL : at->next;
}

static int64_t stream_first_ms(const struct ts_head_series *s)
{
    const struct segment *first = stream_first(s);
    struct ts_sample_state state = {0};
    const uint8_t *p = ts_sample_take(&state, first->bytes + first->start, first->bytes + first->len);
    KV_ASSERT(p);
    return state.time_ms;
}

/* A new last segment, with room for any sample. */
static kv_status stream_extend(struct ts_generation *g, struct ts_head_series *s)
{
    size_t header = offsetof(struct segment, bytes);
    size_t size = s->last ? ((size_t)s->last->capacity + header) * 2 : SEGMENT_MIN;
    if (size > SEGMENT_MAX)
        size = SEGMENT_MAX;
    struct segment *next = kv_arena_alloc(&g->arena, size);
    if (!next)
        return KV_NO_MEMORY;
    next->len = next->start = 0;
    next->capacity = (uint16_t)(size - header);
    if (size >= SEGMENT_LONG) {
        const struct checkpoint checkpoint = {s->state, s->count};
        memcpy(next->bytes, &checkpoint, sizeof checkpoint);
        next->len = next->start = sizeof checkpoint;
    }
    next->next = s->last ? s->last->next : next;
    if (s->last)
        s->last->next = next;
    s->last = next;
    return KV_OK;
}

static kv_status stream_append(struct ts_generation *g, struct ts_head_series *s, int64_t time_ms,
                               uint64_t bits)
{
    struct segment *at = s->last;
    if (KV_LIKELY(at && at->capacity - at->len >= TS_SAMPLE_LEN_MAX)) {
        at->len = (uint16_t)(at->len + ts_sample_put(&s->state, time_ms, bits, at->bytes + at->len));
    } else {
        struct ts_sample_state state = s->state;
        uint8_t bytes[TS_SAMPLE_PAD];
        size_t len = ts_sample_put(&state, time_ms, bits, bytes);
        if (!at || (size_t)(at->capacity - at->len) < len) {
            kv_status rc = stream_extend(g, s);
            if (rc < 0)
                return rc;
        }
        memcpy(s->last->bytes + s->last->len, bytes, len);
        s->last->len = (uint16_t)(s->last->len + len);
        s->state = state;
    }
    s->count++;
    return KV_OK;
}

/* Stable merge sort of n samples at a, with room for n at `room`. */
static void late_sort(struct late_sample *a, uint32_t n, struct late_sample *room)
{
    if (n < 2)
        return;
    uint32_t half = n / 2;
    late_sort(a, half, room);
    late_sort(a + half, n - half, room);
    if (a[half - 1].time_ms <= a[half].time_ms)
        return;
    memcpy(room, a, half * sizeof *a);
    uint32_t i = 0, j = half, k = 0;
    while (i < half)
        a[k++] = j < n && a[j].time_ms < room[i].time_ms ? a[j++] : room[i++];
}

/* Sorts what is unsorted into the rest; at one time the last to come stays. */
static void late_settle(struct late *late)
{
    uint32_t n_tail = late->n - late->n_sorted;
    if (n_tail == 0)
        return;
    struct late_sample *tail = late->samples + late->n, *at = late->samples;
    memcpy(tail, at + late->n_sorted, n_tail * sizeof *tail);
    late_sort(at + late->n_sorted, n_tail, tail);
    memcpy(tail, at + late->n_sorted, n_tail * sizeof *tail);
    /* Merged from the back into place, so nothing is overwritten before it is read. */
    uint32_t i = late->n_sorted, j = n_tail, k = late->n;
    while (j > 0)
        at[--k] = i > 0 && at[i - 1].time_ms > tail[j - 1].time_ms ? at[--i] : tail[--j];
    k = 0;
    for (i = 0; i < late->n; i++) {
        if (k > 0 && at[k - 1].time_ms == at[i].time_ms)
            k--;
        at[k++] = at[i];
    }
    late->n = late->n_sorted = k;
}

static kv_status late_append(struct ts_generation *g, struct ts_head_series *s, int64_t time_ms,
                             uint64_t bits)
{
    struct late *late = s->late;
    if (late && (uint64_t)late->n_sorted + 2 * (uint64_t)(late->n - late->n_sorted + 1) > late->capacity)
        late_settle(late);
    if (!late || (uint64_t)late->n_sorted + late->n_sorted / 4 + LATE_MIN > late->capacity) {
        uint64_t capacity = late ? 2 * (uint64_t)late->capacity : LATE_MIN;
        if (capacity > UINT32_MAX)
            return KV_NO_MEMORY;
        struct late *bigger =
            kv_arena_alloc(&g->arena, sizeof *bigger + capacity * sizeof(struct late_sample));
        if (!bigger)
            return KV_NO_MEMORY;
        *bigger = (struct late){.capacity = (uint32_t)capacity};
        if (late) {
            memcpy(bigger->samples, late->samples, late->n * sizeof late->samples[0]);
            bigger->n = late->n;
            bigger->n_sorted = late->n_sorted;
        }
        late = s->late = bigger;
    }
    late->samples[late->n++] = (struct late_sample){time_ms, bits};
    return KV_OK;
}

static kv_status series_append(struct ts_generation *g, struct ts_head_series *s, int64_t time_ms,
                               uint64_t bits)
{
    int64_t start = ts_window_start_ms(s->window);
    if (s->window == WINDOW_NONE || time_ms < start || time_ms >= start + TS_WINDOW_MS) {
        s->window = ts_window_of(time_ms);
        (void)ts_activity_add(g->activity, s->window,
                              s->ref); /* out of memory: it counts as every series then */
    }
    if (s->count == 0 || time_ms > s->state.time_ms)
        return stream_append(g, s, time_ms, bits);
    if (time_ms == s->state.time_ms && bits == s->state.bits && !s->late)
        return KV_OK;
    return late_append(g, s, time_ms, bits);
}

/* ---- reading ----------------------------------------------------------------------------------------- */

const struct ts_activity *ts_generation_activity(const struct ts_generation *generation)
{
    return generation->activity;
}

uint64_t ts_generation_last_seq(const struct ts_generation *generation)
{
    return generation->last_seq;
}

uint32_t ts_generation_series(struct ts_generation *generation)
{
    kv_rwlock_read(&generation->table_lock);
    uint32_t n = generation->n_series;
    kv_rwlock_unlock(&generation->table_lock);
    return n;
}

uint64_t ts_generation_ref(struct ts_generation *generation, uint32_t slot)
{
    kv_rwlock_read(&generation->table_lock);
    uint64_t ref = generation_series(generation, slot)->ref;
    kv_rwlock_unlock(&generation->table_lock);
    return ref;
}

void ts_generation_find(struct ts_generation *generation, const uint64_t *refs, size_t n, uint32_t *slots)
{
    for (size_t at = 0; at < n;) {
        size_t end = n - at < FIND_AT_ONCE ? n : at + FIND_AT_ONCE;
        kv_rwlock_read(&generation->table_lock);
        for (; at < end; at++)
            slots[at] = generation_lookup(generation, refs[at]);
        kv_rwlock_unlock(&generation->table_lock);
    }
}

void ts_head_scratch_release(struct ts_head_scratch *scratch)
{
    kv_free(scratch->bytes);
    ts_columns_release(&scratch->late);
    ts_columns_release(&scratch->merged);
    *scratch = (struct ts_head_scratch){0};
}

/* Late samples in [from, to] into *out, emptied first. Stripe lock held. */
static kv_status late_collect(struct late *late, int64_t from_ms, int64_t to_ms, struct ts_columns *out)
{
    out->n = 0;
    if (!late)
        return KV_OK;
    late_settle(late);
    kv_status rc = ts_columns_reserve(out, late->n);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < late->n; i++) {
        if (late->samples[i].time_ms < from_ms || late->samples[i].time_ms > to_ms)
            continue;
        out->times_ms[out->n] = late->samples[i].time_ms;
        out->values[out->n++] = ts_double_of(late->samples[i].bits);
    }
    return KV_OK;
}

/* Merges scratch->late over what *out holds from index `start` on. */
static kv_status late_over(struct ts_head_scratch *scratch, struct ts_columns *out, size_t start)
{
    if (scratch->late.n == 0)
        return KV_OK;
    struct ts_columns stream = {out->times_ms ? out->times_ms + start : NULL,
                                out->values ? out->values + start : NULL, out->n - start, out->n - start};
    kv_status rc = ts_columns_merge(&stream, &scratch->late, &scratch->merged);
    out->n = start;
    if (rc < 0 || (rc = ts_columns_reserve(out, scratch->merged.n)) < 0)
        return rc;
    KV_ASSERT(out->times_ms && out->values); /* there are late ones */
    memcpy(out->times_ms + start, scratch->merged.times_ms, scratch->merged.n * sizeof *out->times_ms);
    memcpy(out->values + start, scratch->merged.values, scratch->merged.n * sizeof *out->values);
    out->n += scratch->merged.n;
    return KV_OK;
}

/* A stream's bytes, copied out from the last checkpoint before from_ms. */
struct copied {
    struct ts_sample_state before;
    uint32_t count;
};

/* Decodes scratch->bytes, which have TS_SAMPLE_PAD bytes behind them, keeping what is in [from, to]. Room is there. */
static void stream_decode(const struct ts_head_scratch *scratch, const struct copied *copied, int64_t from_ms,
                          int64_t to_ms, struct ts_columns *out)
{
    struct ts_sample_state state = copied->before;
    const uint8_t *p = scratch->bytes;
    int64_t *times = out->times_ms + out->n;
    double *values = out->values + out->n;
    size_t n = 0;
    for (uint32_t i = 0; i < copied->count; i++) {
        p = ts_sample_take_padded(&state, p);
        KV_ASSERT(p);
        if (state.time_ms < from_ms)
            continue;
        if (state.time_ms > to_ms)
            break;
        times[n] = state.time_ms;
        values[n++] = ts_double_of(state.bits);
    }
    out->n += n;
}

/* Stripe lock held. *need: how many bytes there are, when they do not fit. */
static bool stream_copy(const struct ts_head_series *s, int64_t from_ms, struct ts_head_scratch *scratch,
                        struct copied *copied, size_t *need)
{
    const struct segment *first = stream_first(s);
    struct checkpoint checkpoint;
    size_t len = 0;
    *copied = (struct copied){.count = s->count};
    for (const struct segment *at = first; at; at = stream_after(s, at)) {
        if (at->start > 0) {
            memcpy(&checkpoint, at->bytes, sizeof checkpoint);
            if (checkpoint.before.time_ms < from_ms) { /* nothing in front of it is wanted */
                *copied = (struct copied){checkpoint.before, s->count - checkpoint.count};
                first = at;
                len = 0;
            }
        }
        len += at->len - at->start;
    }
    *need = len + TS_SAMPLE_PAD;
    if (*need > scratch->capacity)
        return false;
    uint8_t *p = scratch->bytes;
    KV_ASSERT(p); /* the capacity is not 0 */
    for (const struct segment *at = first; at; at = stream_after(s, at)) {
        size_t n = (size_t)(at->len - at->start);
        memcpy(p, at->bytes + at->start, n);
        p += n;
    }
    return true;
}

static kv_status scratch_grow(struct ts_head_scratch *scratch, size_t need)
{
    size_t capacity = need + need / 2 + 4096;
    uint8_t *bytes = kv_realloc(scratch->bytes, capacity);
    if (!bytes)
        return KV_NO_MEMORY;
    memset(bytes, 0, capacity); /* the pad behind a stream is read, its value does not matter */
    scratch->bytes = bytes;
    scratch->capacity = capacity;
    return KV_OK;
}

static kv_status series_collect(struct ts_head_series *s, int64_t from_ms, int64_t to_ms,
                                struct ts_head_scratch *scratch, struct ts_columns *out)
{
    size_t need, start = out->n;
    struct copied copied;
    kv_status rc = KV_OK;
    if (!stream_copy(s, from_ms, scratch, &copied, &need)) {
        if ((rc = scratch_grow(scratch, need)) < 0)
            return rc;
        (void)stream_copy(s, from_ms, scratch, &copied, &need);
    }
    if ((rc = late_collect(s->late, from_ms, to_ms, &scratch->late)) < 0 ||
        (rc = ts_columns_reserve(out, copied.count)) < 0)
        return rc;
    stream_decode(scratch, &copied, from_ms, to_ms, out);
    return late_over(scratch, out, start);
}

kv_status ts_generation_read(struct ts_generation *generation, uint32_t slot, int64_t from_ms, int64_t to_ms,
                             struct ts_head_scratch *scratch, struct ts_columns *out)
{
    kv_rwlock_read(&generation->table_lock);
    struct ts_head_series *s = generation_series(generation, slot);
    kv_rwlock_unlock(&generation->table_lock);
    kv_mutex *stripe = generation_stripe(generation, slot);
    size_t start = out->n, need;
    struct copied copied = {0};
    kv_mutex_lock(stripe);
    kv_status rc = late_collect(s->late, from_ms, to_ms, &scratch->late);
    if (rc == KV_OK && s->count > 0 && s->state.time_ms >= from_ms && stream_first_ms(s) <= to_ms) {
        while (rc == KV_OK && !stream_copy(s, from_ms, scratch, &copied, &need)) {
            kv_mutex_unlock(stripe); /* memory is found without it; the stream may have grown meanwhile */
            rc = scratch_grow(scratch, need);
            kv_mutex_lock(stripe);
            if (rc == KV_OK)
                rc = late_collect(s->late, from_ms, to_ms, &scratch->late);
        }
    }
    kv_mutex_unlock(stripe);
    if (rc == KV_OK && copied.count > 0 && (rc = ts_columns_reserve(out, copied.count)) == KV_OK)
        stream_decode(scratch, &copied, from_ms, to_ms, out);
    return rc < 0 ? rc : late_over(scratch, out, start);
}

kv_status ts_generation_walk(struct ts_generation *generation, uint32_t slot, int64_t from_ms, int64_t to_ms,
                             struct ts_head_cursor *cursor, struct ts_head_scratch *scratch,
                             struct ts_columns *out)
{
    struct ts_head_series *s = generation_series(generation, slot); /* frozen: nothing moves any more */
    kv_mutex *stripe = generation_stripe(generation, slot);
    size_t start = out->n;
    kv_mutex_lock(stripe); /* readers may be settling late samples */
    kv_status rc = late_collect(s->late, from_ms, to_ms, &scratch->late);
    kv_mutex_unlock(stripe);
    if (rc == KV_OK)
        rc = ts_columns_reserve(out, s->count - cursor->done + cursor->held);
    if (rc < 0)
        return rc;
    const struct segment *at = cursor->done || cursor->held ? cursor->segment : stream_first(s);
    while (cursor->held || cursor->done < s->count) {
        if (!cursor->held) {
            while (cursor->at == at->len) {
                at = at->next;
                cursor->at = at->start;
            }
            const uint8_t *p = ts_sample_take(&cursor->state, at->bytes + cursor->at, at->bytes + at->len);
            KV_ASSERT(p);
            cursor->at = (uint32_t)(p - at->bytes);
            cursor->done++;
        }
        cursor->held = cursor->state.time_ms > to_ms;
        if (cursor->held)
            break;
        if (cursor->state.time_ms >= from_ms) {
            out->times_ms[out->n] = cursor->state.time_ms;
            out->values[out->n++] = ts_double_of(cursor->state.bits);
        }
    }
    cursor->segment = at;
    return late_over(scratch, out, start);
}

/* ---- applying ---------------------------------------------------------------------------------------- */

static kv_status apply_series(struct ts_generation *g, struct ts_head_series *s,
                              struct ts_record_reader *reader, uint32_t n, struct ts_applied *applied)
{
    for (uint32_t i = 0; i < n; i++) {
        kv_status rc = ts_record_sample(reader);
        if (rc == KV_OK)
            rc = series_append(g, s, reader->state.time_ms, reader->state.bits);
        if (rc < 0)
            return rc;
        if (reader->state.time_ms < applied->min_ms)
            applied->min_ms = reader->state.time_ms;
        if (reader->state.time_ms > applied->max_ms)
            applied->max_ms = reader->state.time_ms;
    }
    applied->samples += n;
    return KV_OK;
}

/* Series come in the order in which they came first, nearly always, so what the next ones will touch is fetched ahead: the series, its last
 * segment's header, then the place its sample goes. What is read here only apply changes. Inlined by force: to
 * the compiler it has no effect, so it leaves out calls of it. */
static inline __attribute__((always_inline)) void apply_prefetch(const struct ts_generation *g, uint32_t slot)
{
    enum { SERIES_AHEAD = 12, HEADER_AHEAD = 8, PLACE_AHEAD = 4 };
    if (slot + SERIES_AHEAD >= g->n_series)
        return;
    __builtin_prefetch(generation_series(g, slot + SERIES_AHEAD), 1);
    const struct segment *header = generation_series(g, slot + HEADER_AHEAD)->last;
    const struct segment *place = generation_series(g, slot + PLACE_AHEAD)->last;
    if (header)
        __builtin_prefetch(header, 1);
    if (place)
        __builtin_prefetch(place->bytes + place->len, 1);
}

kv_status ts_generation_apply(struct ts_generation *g, kv_slice body, struct ts_applied *applied)
{
    struct ts_record_reader reader;
    kv_status rc = ts_record_open(body, &reader);
    if (rc < 0)
        return rc;
    kv_mutex *held = NULL;
    uint32_t before = TS_SLOT_NONE, n;
    uint64_t ref;
    while ((rc = ts_record_series(&reader, &ref, &n)) == KV_OK) {
        if (ref >> 32 == 0 || ts_ref_is_new(ref)) {
            rc = KV_CORRUPT; /* no such ref is handed out */
            break;
        }
        uint32_t slot = before == TS_SLOT_NONE ? 0 : generation_series(g, before)->next;
        if (slot >= g->n_series || generation_series(g, slot)->ref != ref) {
            slot = generation_lookup(g, ref);
            if (slot == TS_SLOT_NONE) {
                if (held)
                    kv_mutex_unlock(held);
                held = NULL;
                if ((rc = generation_add(g, ref, &slot)) < 0)
                    break;
            }
            if (before != TS_SLOT_NONE)
                generation_series(g, before)->next = slot;
        }
        apply_prefetch(g, slot);
        kv_mutex *stripe = generation_stripe(g, slot);
        if (stripe != held) {
            if (held)
                kv_mutex_unlock(held);
            kv_mutex_lock(held = stripe);
        }
        if ((rc = apply_series(g, generation_series(g, slot), &reader, n, applied)) < 0)
            break;
        before = slot;
    }
    if (held)
        kv_mutex_unlock(held);
    return rc == KV_END ? KV_OK : rc;
}

/* Stripe lock held: writes the series anew without [from, to]. */
static kv_status series_erase(struct ts_generation *g, struct ts_head_series *s, int64_t from_ms,
                              int64_t to_ms, struct ts_head_scratch *scratch, struct ts_columns *all)
{
    all->n = 0;
    kv_status rc = series_collect(s, INT64_MIN, INT64_MAX, scratch, all);
    if (rc < 0)
        return rc;
    size_t before = all->n;
    ts_columns_drop(all, 0, from_ms, to_ms == INT64_MAX ? INT64_MAX : to_ms + 1);
    if (all->n == before)
        return KV_OK;
    s->last = NULL; /* field by field: look-ups read ref beside us */
    s->late = NULL;
    s->count = 0;
    s->state = (struct ts_sample_state){0};
    for (size_t i = 0; i < all->n && rc == KV_OK; i++)
        rc = stream_append(g, s, all->times_ms[i], ts_double_bits(all->values[i]));
    return rc;
}

kv_status ts_generation_erase(struct ts_generation *g, kv_slice record)
{
    struct ts_record_delete reader;
    struct ts_head_scratch scratch = {0};
    struct ts_columns all = {0};
    uint64_t ref;
    kv_status rc = ts_record_open_delete(record, &reader);
    if (rc == KV_OK) {
        while ((rc = ts_record_deleted(&reader, &ref)) == KV_OK) {
            uint32_t slot = generation_lookup(g, ref);
            if (slot == TS_SLOT_NONE)
                continue;
            kv_mutex_lock(generation_stripe(g, slot));
            rc = series_erase(g, generation_series(g, slot), reader.from_ms, reader.to_ms, &scratch, &all);
            kv_mutex_unlock(generation_stripe(g, slot));
            if (rc < 0)
                break;
        }
    }
    ts_columns_release(&all);
    ts_head_scratch_release(&scratch);
    return rc == KV_END ? KV_OK : rc;
}

uint64_t ts_generation_bytes(const struct ts_generation *g)
{
    return g->arena.used + (uint64_t)g->table_size * sizeof *g->table + g->pages_capacity * sizeof(void *) +
           ts_activity_bytes(g->activity);
}
