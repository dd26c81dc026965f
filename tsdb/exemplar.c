#include "tsdb/exemplar.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/series_internal.h"

/* One in the ring. number 0: none. */
struct entry {
    uint64_t number, before; /* before: number of the series' one before, which may be gone; 0: none */
    uint64_t ref;
    int64_t time_ms;
    uint64_t value;  /* bits */
    uint8_t *labels; /* canonical bytes */
    uint32_t labels_len;
    bool visible;
};

struct ts_exemplars {
    kv_mutex lock;
    uint32_t max;
    struct entry *ring;        /* place number % max; NULL until the first */
    uint64_t next;             /* number given out next, from 1 */
    uint64_t count;            /* in the ring */
    struct ts_hash_map newest; /* ref -> number of its newest */
};

static kv_hash128 ref_key(uint64_t ref)
{
    return (kv_hash128){(ref ^ ref >> 32) * UINT64_C(0x9e3779b97f4a7c15) >> 16, ref};
}

kv_status ts_exemplars_new(uint32_t max, struct ts_exemplars **out)
{
    struct ts_exemplars *ex = kv_zalloc(1, sizeof *ex);
    if (!ex)
        return KV_NO_MEMORY;
    kv_mutex_init(&ex->lock);
    ex->max = max;
    ex->next = 1;
    *out = ex;
    return KV_OK;
}

void ts_exemplars_free(struct ts_exemplars *ex)
{
    if (!ex)
        return;
    for (uint32_t i = 0; ex->ring && i < ex->max; i++)
        kv_free(ex->ring[i].labels);
    kv_free(ex->ring);
    ts_hash_map_release(&ex->newest);
    kv_mutex_release(&ex->lock);
    kv_free(ex);
}

/* ---- bytes: ref:u64 time:i64 value:u64 labels ----------------------------------------------------------- */

enum { FIXED_LEN = 24 };

static void put_fixed(uint8_t out[FIXED_LEN], uint64_t ref, int64_t time_ms, uint64_t value)
{
    kv_put_be64(out, ref);
    kv_put_fixed64(out + 8, (uint64_t)time_ms);
    kv_put_fixed64(out + 16, value);
}

static KV_MUST kv_status entry_read(kv_slice stored, struct entry *out, kv_slice *labels)
{
    if (stored.len < FIXED_LEN)
        return KV_CORRUPT;
    *out = (struct entry){.ref = kv_get_be64(stored.data),
                          .time_ms = (int64_t)kv_get_fixed64(stored.data + 8),
                          .value = kv_get_fixed64(stored.data + 16)};
    *labels = kv_slice_from(stored, FIXED_LEN);
    return KV_OK;
}

/* Of UTF-8. */
static size_t characters(kv_slice text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += (text.data[i] & 0xc0) != 0x80;
    return n;
}

/* Sorted, valid, short enough. */
static KV_MUST kv_status labels_canonical(const struct ts_exemplar *e, struct kv_buf *out)
{
    struct ts_label sorted[TS_EXEMPLAR_CHARACTERS_MAX];
    size_t n = 0, length = 0;
    for (size_t i = 0; i < e->n_labels; i++) {
        const struct ts_label *l = &e->labels[i];
        length += characters(l->name) + characters(l->value);
        if (l->name.len == 0 || length > TS_EXEMPLAR_CHARACTERS_MAX || !ts_utf8_valid(l->name) ||
            !ts_utf8_valid(l->value))
            return KV_INVALID;
        if (l->value.len > 0)
            sorted[n++] = *l; /* each has a character at least: there is room */
    }
    return ts_labels_sort(sorted, n) ? ts_labels_encode(sorted, n, out) : KV_INVALID;
}

kv_status ts_exemplar_list_add(struct ts_exemplar_list *list, uint64_t ref,
                               const struct ts_exemplar *exemplar)
{
    struct kv_buf labels = {0};
    uint8_t fixed[FIXED_LEN];
    uint64_t bits;
    size_t before = list->bytes.len;
    kv_status rc;
    memcpy(&bits, &exemplar->value, sizeof bits);
    put_fixed(fixed, ref, exemplar->time_ms, bits);
    KV_TRY(labels_canonical(exemplar, &labels));
    KV_TRY(kv_buf_append_varint(&list->bytes, FIXED_LEN + labels.len));
    KV_TRY(kv_buf_append(&list->bytes, kv_slice_of(fixed, sizeof fixed)));
    KV_TRY(kv_buf_append(&list->bytes, kv_buf_slice(&labels)));
    list->n++;
out:
    if (rc < 0)
        list->bytes.len = before;
    kv_buf_release(&labels);
    return rc;
}

void ts_exemplar_list_clear(struct ts_exemplar_list *list, size_t bytes_kept)
{
    kv_buf_clear_keep(&list->bytes, bytes_kept);
    list->n = 0;
    list->first = list->taken = 0;
}

void ts_exemplar_list_release(struct ts_exemplar_list *list)
{
    kv_buf_release(&list->bytes);
}

/* ---- the ring ------------------------------------------------------------------------------------------- */

static struct entry *entry_at(struct ts_exemplars *ex, uint64_t number)
{
    struct entry *e = ex->ring && number > 0 ? &ex->ring[number % ex->max] : NULL;
    return e && e->number == number ? e : NULL;
}

static struct entry *newest_of(struct ts_exemplars *ex, uint64_t ref)
{
    return entry_at(ex, ts_hash_map_get(&ex->newest, ref_key(ref)));
}

static void entry_drop(struct ts_exemplars *ex, struct entry *e)
{
    if (e->number == 0)
        return;
    if (ts_hash_map_get(&ex->newest, ref_key(e->ref)) == e->number)
        ts_hash_map_remove(&ex->newest, ref_key(e->ref));
    kv_free(e->labels);
    *e = (struct entry){0};
    ex->count--;
}

/* In the place of the one `max` before. *e: all but number, before, labels. */
static KV_MUST kv_status ring_add(struct ts_exemplars *ex, uint64_t number, const struct entry *e,
                                  kv_slice labels)
{
    if (!ex->ring && !(ex->ring = kv_zalloc(ex->max, sizeof *ex->ring)))
        return KV_NO_MEMORY;
    uint8_t *copy = kv_alloc(labels.len + 1);
    if (!copy)
        return KV_NO_MEMORY;
    if (labels.len > 0)
        memcpy(copy, labels.data, labels.len);
    struct entry *place = &ex->ring[number % ex->max];
    entry_drop(ex, place);
    uint64_t before = ts_hash_map_get(&ex->newest, ref_key(e->ref));
    if (ts_hash_map_put(&ex->newest, ref_key(e->ref), number) < 0) {
        kv_free(copy);
        return KV_NO_MEMORY;
    }
    *place = *e;
    place->number = number;
    place->before = before;
    place->labels = copy;
    place->labels_len = (uint32_t)labels.len;
    ex->count++;
    return KV_OK;
}

/* The newest one given out, and nothing of it stays. */
static void ring_take_back(struct ts_exemplars *ex, uint64_t number)
{
    struct entry *e = entry_at(ex, number);
    if (!e)
        return;
    struct entry *before = entry_at(ex, e->before);
    if (before) /* replaces: no memory needed */
        (void)!ts_hash_map_put(&ex->newest, ref_key(e->ref), before->number);
    entry_drop(ex, e);
}

/* As Prometheus orders a series: by time, then value, then labels; what does not come after the newest is a repeat
 * or out of order. */
static bool comes_after(const struct entry *e, kv_slice labels, const struct entry *newest)
{
    if (!newest || e->time_ms != newest->time_ms)
        return !newest || e->time_ms > newest->time_ms;
    double value, newest_value;
    memcpy(&value, &e->value, sizeof value);
    memcpy(&newest_value, &newest->value, sizeof newest_value);
    if (e->value != newest->value)
        return value > newest_value;
    return kv_slice_compare(labels, kv_slice_of(newest->labels, newest->labels_len)) > 0;
}

static KV_MUST kv_status put(struct ts_exemplars *ex, const struct entry *e, kv_slice labels,
                             struct kv_buf *value, struct kv_batch *batch)
{
    uint8_t fixed[FIXED_LEN];
    struct ts_key key;
    kv_status rc;
    put_fixed(fixed, e->ref, e->time_ms, e->value);
    kv_buf_clear(value);
    KV_TRY(kv_buf_append(value, kv_slice_of(fixed, sizeof fixed)));
    KV_TRY(kv_buf_append(value, labels));
    ts_key_exemplar(&key, ex->next);
    KV_TRY(kv_batch_put(batch, TS_SPACE_SERIES, ts_key_slice(&key), kv_buf_slice(value)));
    if (ex->next > ex->max) {
        ts_key_exemplar(&key, ex->next - ex->max);
        KV_TRY(kv_batch_delete(batch, TS_SPACE_SERIES, ts_key_slice(&key)));
    }
    rc = ring_add(ex, ex->next, e, labels);
    if (rc == KV_OK)
        ex->next++;
out:
    return rc;
}

kv_status ts_exemplars_prepare(struct ts_exemplars *ex, struct ts_exemplar_list *list,
                               const struct ts_resolver *resolver, struct kv_batch *batch)
{
    kv_slice in = kv_buf_slice(&list->bytes), stored, labels;
    struct kv_buf value = {0};
    struct entry e;
    kv_status rc = KV_OK;
    kv_mutex_lock(&ex->lock);
    list->first = ex->next;
    while (in.len > 0 && ex->max > 0) {
        KV_TRY(kv_take_lp(&in, &stored));
        KV_TRY(entry_read(stored, &e, &labels));
        e.ref = ts_resolver_ref(resolver, e.ref);
        if (comes_after(&e, labels, newest_of(ex, e.ref)))
            KV_TRY(put(ex, &e, labels, &value, batch));
    }
out:
    list->taken = ex->next - list->first;
    kv_mutex_unlock(&ex->lock);
    kv_buf_release(&value);
    if (rc < 0)
        ts_exemplars_undo(ex, list);
    return rc < 0 ? rc : KV_OK;
}

void ts_exemplars_undo(struct ts_exemplars *ex, struct ts_exemplar_list *list)
{
    kv_mutex_lock(&ex->lock);
    for (; list->taken > 0; list->taken--)
        ring_take_back(ex, --ex->next);
    kv_mutex_unlock(&ex->lock);
}

void ts_exemplars_publish(struct ts_exemplars *ex, const struct ts_exemplar_list *list)
{
    if (list->taken == 0)
        return;
    kv_mutex_lock(&ex->lock);
    for (uint64_t i = 0; i < list->taken; i++) {
        struct entry *e = entry_at(ex, list->first + i);
        if (e)
            e->visible = true;
    }
    kv_mutex_unlock(&ex->lock);
}

/* ---- loading -------------------------------------------------------------------------------------------- */

/* Removes the entries below number `keep`. */
static KV_MUST kv_status remove_below(struct kv_db *kv, uint64_t keep, struct kv_err *err)
{
    struct kv_batch *batch = NULL;
    struct kv_iter *it = NULL;
    struct ts_key lower, upper;
    kv_status rc;
    ts_key_kind(&lower, 'x');
    ts_key_exemplar(&upper, keep);
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(kv_iter_open(kv, NULL, TS_SPACE_SERIES, ts_key_slice(&lower), ts_key_slice(&upper), &it));
    for (rc = kv_iter_seek(it, KV_STR("")); rc == KV_OK; rc = kv_iter_next(it))
        KV_TRY(kv_batch_delete(batch, TS_SPACE_SERIES, it->key));
    rc = rc == KV_END ? KV_OK : rc;
    if (rc == KV_OK && kv_batch_count(batch) > 0)
        rc = kv_commit(kv, batch, NULL, NULL, err);
out:
    kv_iter_close(it);
    kv_batch_free(batch);
    return rc;
}

static KV_MUST kv_status load_one(struct ts_exemplars *ex, kv_slice key, kv_slice value)
{
    struct entry e;
    kv_slice labels;
    uint64_t number;
    if (ts_key_exemplar_read(key, &number) < 0 || entry_read(value, &e, &labels) < 0)
        return KV_CORRUPT;
    ex->next = number + 1;
    e.visible = true;
    return ex->max > 0 ? ring_add(ex, number, &e, labels) : KV_OK;
}

kv_status ts_exemplars_load(struct ts_exemplars *ex, struct kv_db *kv, bool may_write, struct kv_err *err)
{
    struct kv_iter *it = NULL;
    struct ts_key lower, upper;
    uint64_t first = 0;
    kv_status rc;
    ts_key_kind(&lower, 'x');
    upper = lower;
    (void)ts_key_successor(&upper);
    KV_TRY(kv_iter_open(kv, NULL, TS_SPACE_SERIES, ts_key_slice(&lower), ts_key_slice(&upper), &it));
    for (rc = kv_iter_seek(it, KV_STR("")); rc == KV_OK; rc = kv_iter_next(it)) {
        KV_TRY(load_one(ex, it->key, it->value));
        first = first ? first : ex->next - 1;
    }
    rc = rc == KV_END ? KV_OK : rc;
    if (rc == KV_OK && may_write && ex->max > 0 && first > 0 && ex->next - first > ex->max)
        rc = remove_below(kv, ex->next - ex->max, err);
out:
    if (rc == KV_CORRUPT)
        rc = kv_fail(err, rc, 0, "an exemplar is damaged");
    kv_iter_close(it);
    return rc;
}

/* ---- reading -------------------------------------------------------------------------------------------- */

static bool shown(const struct entry *e, int64_t from_ms, int64_t to_ms)
{
    return e->visible && e->time_ms >= from_ms && e->time_ms <= to_ms;
}

kv_status ts_exemplars_series(struct ts_exemplars *ex, int64_t from_ms, int64_t to_ms, struct ts_refset *set)
{
    kv_status rc = KV_OK;
    kv_mutex_lock(&ex->lock);
    for (uint32_t i = 0; ex->ring && i < ex->max && rc == KV_OK; i++)
        if (ex->ring[i].number > 0 && shown(&ex->ring[i], from_ms, to_ms))
            rc = ts_refset_add(set, ex->ring[i].ref, NULL);
    kv_mutex_unlock(&ex->lock);
    return rc;
}

static KV_MUST kv_status entry_copy(const struct entry *e, struct kv_arena *arena, struct ts_exemplar *out)
{
    struct ts_label *labels = NULL;
    size_t n = 0;
    kv_status rc = KV_OK;
    if (e->labels_len > 0) {
        kv_slice copy = kv_arena_copy(arena, kv_slice_of(e->labels, e->labels_len));
        rc = copy.data ? ts_labels_decode(copy, arena, &labels, &n) : KV_NO_MEMORY;
    }
    *out = (struct ts_exemplar){.time_ms = e->time_ms, .labels = labels, .n_labels = n};
    memcpy(&out->value, &e->value, sizeof out->value);
    return rc;
}

kv_status ts_exemplars_of(struct ts_exemplars *ex, uint64_t ref, int64_t from_ms, int64_t to_ms,
                          struct kv_arena *arena, struct ts_exemplar **out, size_t *n)
{
    size_t count = 0;
    kv_status rc = KV_OK;
    *out = NULL;
    *n = 0;
    kv_mutex_lock(&ex->lock);
    for (struct entry *e = newest_of(ex, ref); e && e->ref == ref; e = entry_at(ex, e->before))
        count += shown(e, from_ms, to_ms);
    struct ts_exemplar *list = count > 0 ? kv_arena_alloc(arena, count * sizeof *list) : NULL;
    if (count > 0 && !list)
        rc = KV_NO_MEMORY;
    size_t left = count;
    for (struct entry *e = newest_of(ex, ref); rc == KV_OK && left > 0 && e; e = entry_at(ex, e->before))
        if (shown(e, from_ms, to_ms))
            rc = entry_copy(e, arena, &list[--left]);
    kv_mutex_unlock(&ex->lock);
    if (rc == KV_OK) {
        *out = list;
        *n = count;
    }
    return rc;
}

uint64_t ts_exemplars_count(struct ts_exemplars *ex)
{
    kv_mutex_lock(&ex->lock);
    uint64_t count = ex->count;
    kv_mutex_unlock(&ex->lock);
    return count;
}
