#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/chunk/chunk.h"
#include "tsdb/db.h"
#include "tsdb/merge_set.h"
#include "tsdb/thin.h"

#include <stdio.h>
#include <stdlib.h>

enum { WINDOW_FACT_VERSION = 1, WINDOW_FACT_LEN_MAX = 8 * KV_VARINT_LEN_MAX };
#define WINDOW_FACT_PREFIX "window/"

struct ts_windows {
    struct ts_db *db;
    kv_mutex lock;
    struct ts_thin *thin;    /* of the merge that the store has asked for; a reference */
    struct ts_window *items; /* by window */
    size_t n, capacity;
};

/* ---- the list ---------------------------------------------------------------------------------------- */

static size_t windows_lower(const struct ts_windows *w, int32_t window)
{
    size_t low = 0, high = w->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (w->items[mid].window < window)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct ts_window *windows_find(struct ts_windows *w, int32_t window)
{
    size_t i = windows_lower(w, window);
    return i < w->n && w->items[i].window == window ? &w->items[i] : NULL;
}

static kv_status windows_reserve(struct ts_windows *w, size_t extra)
{
    struct ts_window *items = kv_grow(w->items, &w->capacity, w->n + extra, sizeof *items);
    if (!items)
        return KV_NO_MEMORY;
    w->items = items;
    return KV_OK;
}

static struct ts_window window_new(int32_t window)
{
    return (struct ts_window){.window = window, .first_ms = INT64_MAX, .last_ms = INT64_MIN};
}

/* Room must be there. */
static struct ts_window *windows_insert(struct ts_windows *w, int32_t window)
{
    size_t i = windows_lower(w, window);
    KV_ASSERT(w->n < w->capacity);
    memmove(w->items + i + 1, w->items + i, (w->n - i) * sizeof *w->items);
    w->n++;
    w->items[i] = window_new(window);
    return &w->items[i];
}

static struct ts_window window_plus(const struct ts_window *now, const struct ts_window_add *add)
{
    struct ts_window next = now ? *now : window_new(add->window);
    if (next.runs == 0 && add->finished)
        next.merged = true;
    else if (next.merged)
        next.side_bytes += add->bytes;
    next.runs++;
    next.bytes += add->bytes;
    next.chunks += add->chunks;
    if (add->chunks > 0) {
        next.first_ms = add->first_ms < next.first_ms ? add->first_ms : next.first_ms;
        next.last_ms = add->last_ms > next.last_ms ? add->last_ms : next.last_ms;
    }
    return next;
}

static void window_fact_key(struct ts_key *key, int32_t window)
{
    char name[32];
    snprintf(name, sizeof name, WINDOW_FACT_PREFIX "%d", (int)window);
    ts_key_fact(key, kv_slice_str(name));
}

static kv_status window_fact_put(const struct ts_window *window, struct kv_batch *batch)
{
    uint8_t value[WINDOW_FACT_LEN_MAX], *p = value;
    struct ts_key key;
    window_fact_key(&key, window->window);
    p += kv_put_varint(p, WINDOW_FACT_VERSION);
    p += kv_put_varint(p, window->runs);
    p += kv_put_varint(p, window->merged);
    p += kv_put_varint(p, window->bytes);
    p += kv_put_varint(p, window->side_bytes);
    p += kv_put_varint(p, window->chunks);
    if (window->first_ms <= window->last_ms) {
        p += kv_put_varint(p, (uint64_t)(window->first_ms - ts_window_start_ms(window->window)));
        p += kv_put_varint(p, (uint64_t)(window->last_ms - window->first_ms));
    }
    return kv_batch_put(batch, TS_SPACE_SERIES, ts_key_slice(&key), kv_slice_of(value, (size_t)(p - value)));
}

/* A hint: what cannot be read counts as a window never merged, and full. */
static void window_fact_read(kv_slice value, struct ts_window *out)
{
    uint64_t version, runs, merged, bytes, side, chunks, first, span;
    int64_t start = ts_window_start_ms(out->window);
    out->first_ms = start;
    out->last_ms = start + TS_WINDOW_MS - 1;
    if (kv_take_varint(&value, &version) < 0 || version != WINDOW_FACT_VERSION ||
        kv_take_varint(&value, &runs) < 0 || kv_take_varint(&value, &merged) < 0 ||
        kv_take_varint(&value, &bytes) < 0 || kv_take_varint(&value, &side) < 0 ||
        kv_take_varint(&value, &chunks) < 0)
        return;
    out->runs = runs < UINT32_MAX ? (uint32_t)runs : UINT32_MAX;
    out->merged = merged != 0;
    out->bytes = bytes;
    out->side_bytes = side;
    out->chunks = chunks;
    if (kv_take_varint(&value, &first) == KV_OK && kv_take_varint(&value, &span) == KV_OK &&
        first < (uint64_t)TS_WINDOW_MS && span < (uint64_t)TS_WINDOW_MS - first) {
        out->first_ms = start + (int64_t)first;
        out->last_ms = out->first_ms + (int64_t)span;
    }
}

/* The window with a chunk at or behind `from`, by its chunk. KV_END: none; KV_CORRUPT: the table that has it is damaged. */
static kv_status load_next(struct ts_windows *w, int32_t from, int32_t *window)
{
    struct kv_iter *it = NULL;
    struct ts_chunk_key chunk;
    struct ts_key key;
    ts_key_chunk_window(&key, from);
    kv_status rc = kv_iter_open(w->db->kv, NULL, TS_SPACE_CHUNKS, (kv_slice){0}, (kv_slice){0}, &it);
    if (rc == KV_OK)
        rc = kv_iter_seek(it, ts_key_slice(&key));
    if (rc == KV_OK && (rc = ts_key_chunk_read(it->key, &chunk)) == KV_OK)
        *window = chunk.window;
    kv_iter_close(it);
    return rc;
}

static bool fact_window(kv_slice key, int32_t *window)
{
    struct ts_key again;
    char text[16];
    size_t prefix = 1 + sizeof WINDOW_FACT_PREFIX - 1, n = key.len > prefix ? key.len - prefix : 0;
    snprintf(text, sizeof text, "%.*s", (int)(n < sizeof text ? n : sizeof text - 1),
             n ? (const char *)key.data + prefix : "");
    *window = (int32_t)strtol(text, NULL, 10);
    window_fact_key(&again, *window);
    return kv_slice_equal(ts_key_slice(&again), key);
}

/* The same by the facts, which do not stand in the order of windows. */
static kv_status load_next_fact(struct ts_windows *w, int32_t from, int32_t *window)
{
    struct kv_iter *it = NULL;
    struct ts_key lower, upper;
    bool found = false;
    ts_key_fact(&lower, KV_STR(WINDOW_FACT_PREFIX));
    upper = lower;
    upper.bytes[sizeof WINDOW_FACT_PREFIX - 1]++; /* the slash */
    kv_status rc =
        kv_iter_open(w->db->kv, NULL, TS_SPACE_SERIES, ts_key_slice(&lower), ts_key_slice(&upper), &it);
    if (rc == KV_OK)
        rc = kv_iter_seek(it, ts_key_slice(&lower));
    for (int32_t at; rc == KV_OK; rc = kv_iter_next(it))
        if (fact_window(it->key, &at) && at >= from && (!found || at < *window)) {
            *window = at;
            found = true;
        }
    kv_iter_close(it);
    return rc == KV_END && found ? KV_OK : rc;
}

static kv_status load_window(struct ts_windows *w, int32_t number, struct kv_err *err)
{
    struct kv_pinned fact = {0};
    struct ts_key key;
    kv_status rc;
    KV_TRY(windows_reserve(w, 1));
    struct ts_window *window = windows_insert(w, number);
    window->runs = 1;
    window_fact_key(&key, number);
    KV_TRY(kv_get(w->db->kv, NULL, TS_SPACE_SERIES, ts_key_slice(&key), &fact, err));
    window_fact_read(rc == KV_OK ? fact.value : (kv_slice){0}, window);
out:
    kv_pinned_release(&fact);
    return rc < 0 ? rc : KV_OK;
}

/* Those with a chunk. Where a damaged table is in the way, its window is taken from the facts: it is there, and whoever reads it
 * is told. */
static kv_status windows_load(struct ts_windows *w, struct kv_err *err)
{
    kv_status rc = KV_OK;
    for (int64_t from = INT32_MIN; from <= INT32_MAX && rc == KV_OK;) {
        int32_t window = INT32_MAX;
        rc = load_next(w, (int32_t)from, &window);
        if (rc == KV_CORRUPT)
            rc = load_next_fact(w, (int32_t)from, &window);
        if (rc == KV_OK)
            rc = load_window(w, window, err);
        from = (int64_t)window + 1;
    }
    return rc < 0 ? kv_fail(err, rc, 0, "cannot read the chunk space") : KV_OK;
}

kv_status ts_windows_open(struct ts_db *db, struct ts_windows **out, struct kv_err *err)
{
    struct ts_windows *w = kv_zalloc(1, sizeof *w);
    if (!w)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory for the list of windows");
    w->db = db;
    kv_mutex_init(&w->lock);
    kv_status rc = windows_load(w, err);
    if (rc < 0)
        ts_windows_close(w);
    else
        *out = w;
    return rc;
}

void ts_windows_close(struct ts_windows *windows)
{
    if (!windows)
        return;
    kv_mutex_release(&windows->lock);
    kv_free(windows->items);
    kv_free(windows);
}

kv_status ts_windows_copy(struct ts_windows *windows, int32_t from, int32_t to, struct ts_window **out,
                          size_t *n)
{
    kv_status rc = KV_OK;
    *out = NULL;
    *n = 0;
    kv_mutex_lock(&windows->lock);
    size_t first = windows_lower(windows, from), end = first;
    while (end < windows->n && windows->items[end].window <= to)
        end++;
    if (end > first) {
        *out = kv_alloc((end - first) * sizeof **out);
        if (*out) {
            memcpy(*out, windows->items + first, (end - first) * sizeof **out);
            *n = end - first;
        } else {
            rc = KV_NO_MEMORY;
        }
    }
    kv_mutex_unlock(&windows->lock);
    return rc;
}

kv_status ts_windows_stage(struct ts_windows *windows, const struct ts_window_add *adds, size_t n,
                           struct kv_batch *batch)
{
    kv_mutex_lock(&windows->lock);
    kv_status rc = windows_reserve(windows, n);
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        struct ts_window next = window_plus(windows_find(windows, adds[i].window), &adds[i]);
        rc = window_fact_put(&next, batch);
    }
    kv_mutex_unlock(&windows->lock);
    return rc;
}

void ts_windows_added(struct ts_windows *windows, const struct ts_window_add *adds, size_t n)
{
    kv_mutex_lock(&windows->lock);
    for (size_t i = 0; i < n; i++) {
        struct ts_window *window = windows_find(windows, adds[i].window);
        struct ts_window next = window_plus(window, &adds[i]);
        if (!window)
            window = windows_insert(windows, adds[i].window);
        *window = next;
    }
    kv_mutex_unlock(&windows->lock);
}

void ts_windows_dropped(struct ts_windows *windows, int32_t window)
{
    kv_mutex_lock(&windows->lock);
    size_t i = windows_lower(windows, window);
    if (i < windows->n && windows->items[i].window == window)
        memmove(windows->items + i, windows->items + i + 1, (--windows->n - i) * sizeof *windows->items);
    kv_mutex_unlock(&windows->lock);
}

kv_status ts_windows_forget(int32_t window, struct kv_batch *batch)
{
    struct ts_key key;
    window_fact_key(&key, window);
    return kv_batch_delete(batch, TS_SPACE_SERIES, ts_key_slice(&key));
}

kv_status ts_windows_keep(struct ts_windows *windows, int32_t window, struct kv_batch *batch)
{
    kv_mutex_lock(&windows->lock);
    const struct ts_window *found = windows_find(windows, window);
    kv_status rc = found ? window_fact_put(found, batch) : KV_OK;
    kv_mutex_unlock(&windows->lock);
    return rc;
}

bool ts_windows_find(struct ts_windows *windows, int32_t window, struct ts_window *out)
{
    kv_mutex_lock(&windows->lock);
    const struct ts_window *found = windows_find(windows, window);
    if (found)
        *out = *found;
    kv_mutex_unlock(&windows->lock);
    return found != NULL;
}

void ts_windows_passed(struct ts_windows *windows, int32_t window, uint64_t passed)
{
    kv_mutex_lock(&windows->lock);
    struct ts_window *found = windows_find(windows, window);
    if (found)
        found->passed = passed;
    kv_mutex_unlock(&windows->lock);
}

void ts_windows_thin(struct ts_windows *windows, struct ts_thin *thin)
{
    kv_mutex_lock(&windows->lock);
    struct ts_thin *before = windows->thin;
    windows->thin = ts_thin_ref(thin);
    kv_mutex_unlock(&windows->lock);
    ts_thin_unref(before);
}

bool ts_window_finished(int32_t window, int64_t retention_clock_ms)
{
    return retention_clock_ms - TS_WINDOW_MS - TS_FINISHED_MS >= ts_window_start_ms(window);
}

/* ---- chunks of a series in a window ------------------------------------------------------------------ */

kv_status ts_window_encode(const struct ts_columns *samples, int32_t window, uint64_t ref, uint64_t seq,
                           bool joined, struct kv_buf *scratch,
                           kv_status (*add)(void *ctx, kv_slice key, kv_slice value), void *ctx)
{
    struct ts_columns rest = *samples;
    for (size_t at = 0; at < samples->n;) {
        size_t n = samples->n - at, taken;
        rest = (struct ts_columns){samples->times_ms + at, samples->values + at, n, n};
        if (!joined) {
            int64_t start = ts_window_start_ms(window);
            n = ts_columns_lower(&rest, start + ((rest.times_ms[0] - start) / TS_SLOT_MS + 1) * TS_SLOT_MS);
        }
        kv_buf_clear(scratch);
        kv_status rc = ts_chunk_encode(rest.times_ms, rest.values, n,
                                       joined ? TS_CHUNK_SMALL : TS_CHUNK_QUICK, scratch, &taken);
        if (rc < 0)
            return rc;
        struct ts_chunk_key chunk = {window, ref, rest.times_ms[0], seq};
        struct ts_key key;
        ts_key_chunk(&key, &chunk);
        if ((rc = add(ctx, ts_key_slice(&key), kv_buf_slice(scratch))) < 0)
            return rc;
        at += taken;
    }
    return KV_OK;
}

/* ---- the hook ---------------------------------------------------------------------------------------- */

struct merge {
    struct ts_db *db;
    struct ts_head_pin pin;  /* its tombstones; taken at the first group, when the merge's inputs are settled:
                               see window.md */
    uint64_t tombstones_end; /* those from this version on may not be on disk yet */
    struct ts_tombstone *tombstones; /* scratch */
    size_t tombstones_capacity;
    bool started;
    int64_t floor_ms;      /* of every rule, when it started */
    struct ts_thin *thin;  /* what single rules have passed; NULL: not asked for by the store. A reference */
    struct ts_refset kept; /* with thin: series of which something is left */
    int64_t clock_ms;
    bool settling;
    struct ts_merge_set set;
    struct kv_buf encoded;
    struct kv_hook_sink *sink;
    bool any;
    int32_t window;
    uint32_t runs; /* these two: of the window when it started */
    uint64_t side_bytes;
    uint64_t bytes_in, bytes_out, chunks_in, chunks_out;
};

static size_t merge_group_len(void *ctx, kv_slice key)
{
    (void)ctx;
    return key.len < 12 ? key.len : 12; /* window, metric, series */
}

static kv_status merge_begin(void *ctx, kv_slice lower, kv_slice upper, void **merge)
{
    (void)lower;
    (void)upper;
    struct merge *m = kv_zalloc(1, sizeof *m);
    if (!m)
        return KV_NO_MEMORY;
    m->db = ctx;
    kv_buf_init(&m->encoded, TS_CHUNK_BYTES_MAX + 4096);
    *merge = m;
    return KV_OK;
}

static kv_status merge_start(struct merge *m, int32_t window)
{
    struct ts_db *db = m->db;
    if (!atomic_load(&db->hook_ready))
        return KV_BUSY; /* the store is still being opened: the engine tries again later */
    kv_status rc = ts_head_pin(db->head, &m->pin);
    if (rc < 0)
        return rc;
    m->tombstones_end = atomic_load(&db->erase_unsynced); /* after the pin */
    m->clock_ms = atomic_load(&db->clock_ms);
    m->floor_ms = ts_rules_lowest_ms(db->rules, m->clock_ms);
    m->settling = atomic_load(&db->settling);
    m->window = window;
    m->started = true;
    kv_mutex_lock(&db->windows->lock);
    const struct ts_window *found = windows_find(db->windows, window);
    if (db->windows->thin && db->windows->thin->window == window)
        m->thin = ts_thin_ref(db->windows->thin);
    m->runs = found ? found->runs : 0;
    m->side_bytes = found ? found->side_bytes : 0;
    kv_mutex_unlock(&db->windows->lock);
    return KV_OK;
}

static kv_status merge_add(void *ctx, kv_slice key, kv_slice value)
{
    struct merge *m = ctx;
    if (m->thin) /* without memory for it the series is looked at later */
        (void)!ts_refset_add(&m->kept, kv_get_be64(key.data + TS_KEY_WINDOW_LEN), NULL);
    m->chunks_out++;
    m->bytes_out += value.len;
    return m->sink->add(m->sink, key, value);
}

/* Whether the chunks can stay as they are: in order, apart, not worth joining, and in a finished window as small as can be. */
static kv_status merge_tidy(const struct kv_hook_entry *entries, size_t n, bool joined, bool *tidy)
{
    struct ts_chunk_info info, before = {0};
    *tidy = true;
    for (size_t i = 0; i < n; i++) {
        kv_status rc = ts_chunk_info(entries[i].value, &info);
        if (rc < 0)
            return rc;
        if (joined && info.effort != TS_CHUNK_SMALL)
            *tidy = false;
        if (i > 0) {
            bool full =
                before.count == TS_CHUNK_SAMPLES_MAX || entries[i - 1].value.len > TS_CHUNK_BYTES_MAX / 2;
            bool slots = before.last_ms / TS_SLOT_MS != info.first_ms / TS_SLOT_MS;
            if (info.first_ms <= before.last_ms || (joined ? !full : !full && !slots))
                *tidy = false;
        }
        before = info;
    }
    return KV_OK;
}

/* The tombstones of a series that the merge may act on: what power can still undo is not among them. */
static kv_status merge_tombstones(struct merge *m, uint64_t ref, const struct ts_tombstone **out, size_t *n)
{
    size_t hint = 0, first, count = ts_tombstones_find(m->pin.tombstones, ref, &hint, &first);
    *n = count;
    *out = count ? m->pin.tombstones->items + first : NULL;
    if (count == 0 || m->tombstones_end == UINT64_MAX)
        return KV_OK;
    struct ts_tombstone *kept = kv_grow(m->tombstones, &m->tombstones_capacity, count, sizeof *kept);
    if (!kept)
        return KV_NO_MEMORY;
    m->tombstones = kept;
    *n = 0;
    for (size_t i = 0; i < count; i++)
        if ((*out)[i].seq < m->tombstones_end)
            kept[(*n)++] = (*out)[i];
    *out = kept;
    return KV_OK;
}

static kv_status merge_group(void *merge, const struct kv_hook_entry *entries, size_t n,
                             struct kv_hook_sink *sink)
{
    struct merge *m = merge;
    struct ts_chunk_key key;
    kv_status rc = ts_key_chunk_read(entries[0].key, &key);
    if (rc < 0 || (!m->started && (rc = merge_start(m, key.window)) < 0))
        return rc;
    if (atomic_load(&m->db->closing))
        return KV_CANCELED; /* nothing is lost: the runs stay as they are */
    m->sink = sink;
    for (size_t i = 0; i < n; i++)
        m->bytes_in += entries[i].value.len;
    m->chunks_in += n;
    size_t n_tombs;
    const struct ts_tombstone *tombs;
    if ((rc = merge_tombstones(m, key.ref, &tombs, &n_tombs)) < 0)
        return rc;
    bool joined = m->settling || ts_window_finished(key.window, m->clock_ms), tidy = false;
    int64_t floor_ms = ts_thin_floor_ms(m->thin, key.ref, m->floor_ms);
    if (n_tombs == 0 && ts_window_start_ms(key.window) >= floor_ms &&
        (rc = merge_tidy(entries, n, joined, &tidy)) < 0)
        return rc;
    if (tidy) {
        for (size_t i = 0; i < n && rc == KV_OK; i++)
            rc = merge_add(m, entries[i].key, entries[i].value);
        return rc;
    }
    uint64_t seq = 0;
    ts_merge_set_clear(&m->set);
    for (size_t i = 0; i < n; i++) {
        if ((rc = ts_key_chunk_read(entries[i].key, &key)) < 0 ||
            (rc = ts_merge_set_chunk(&m->set, entries[i].value, key.seq, floor_ms, INT64_MAX, tombs, n_tombs,
                                     NULL)) < 0)
            return rc;
        if (key.seq > seq)
            seq = key.seq;
    }
    if ((rc = ts_merge_set_resolve(&m->set)) < 0)
        return rc;
    return ts_window_encode(&m->set.samples, key.window, key.ref, seq, joined, &m->encoded, merge_add, m);
}

static void merge_end(void *merge, bool installed)
{
    struct merge *m = merge;
    if (installed && m->started) {
        struct ts_windows *w = m->db->windows;
        kv_mutex_lock(&w->lock);
        struct ts_window *window = windows_find(w, m->window);
        if (window) {
            window->runs = window->runs >= m->runs && m->runs > 0 ? window->runs - m->runs + 1 : 1;
            window->bytes =
                window->bytes >= m->bytes_in ? window->bytes - m->bytes_in + m->bytes_out : m->bytes_out;
            window->chunks = window->chunks >= m->chunks_in ? window->chunks - m->chunks_in + m->chunks_out
                                                            : m->chunks_out;
            window->merged = m->settling || ts_window_finished(m->window, m->clock_ms);
            window->side_bytes -= m->side_bytes < window->side_bytes ? m->side_bytes : window->side_bytes;
        }
        if (m->thin && m->thin == w->thin)
            (void)!ts_refset_or(&w->thin->kept, &m->kept);
        kv_mutex_unlock(&w->lock);
        atomic_fetch_add(&m->db->counters.merges, 1);
    }
    ts_head_unpin(&m->pin);
    ts_thin_unref(m->thin);
    ts_refset_release(&m->kept);
    ts_merge_set_release(&m->set);
    kv_buf_release(&m->encoded);
    kv_free(m->tombstones);
    kv_free(m);
}

void ts_window_hook(struct ts_db *db, struct kv_hook *out)
{
    *out = (struct kv_hook){.ctx = db,
                            .group_len = merge_group_len,
                            .begin = merge_begin,
                            .group = merge_group,
                            .end = merge_end};
}
