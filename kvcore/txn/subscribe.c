/*
 * Subscriptions: the leader of a group of commits copies what matches into a ring of bytes that was taken from the
 * heap when the subscription began, so it never waits for a reader and cannot fail.
 *
 * A ring holds records behind one another, 8-aligned, each contiguous: one that would cross the end begins at the start,
 * and a zero length tells the reader so. The record that was lent last stays until the next call. What does not
 * fit is remembered as a range of versions; as soon as something fits again the range goes in first, so a reader
 * sees the gap where it is. Prefixes are sorted and none begins with another, so the one that a key may match is found
 * by binary search.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"
#include "kvcore/sst/attrs.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    QUEUE_BYTES_DEFAULT = 1 << 20,
    QUEUE_BYTES_MIN = 4 << 10,
    QUEUE_BYTES_MAX = 1 << 30,
    PREFIXES_MAX = 1 << 16
};

/* In the ring, followed by key and value. */
struct record {
    uint32_t len; /* of all, rounded up; 0: the next record is at the start of the ring */
    uint32_t space;
    uint64_t version, version_last, expires_at_s, large_bytes;
    uint32_t key_len, value_len;
    uint8_t kind, meta;
};

struct kv_subscription {
    struct kv_watch watch;
    struct kv_db *db;
    struct kv_prefix *prefixes; /* sorted; their bytes in `bytes` */
    size_t n_prefixes;
    struct kv_buf bytes;
    kv_mutex mutex;
    kv_cond changed;
    /* With the mutex: */
    uint8_t *ring;
    size_t size, head, tail, used; /* records from tail to head; used counts skipped ends too */
    size_t lent;                   /* of the record at tail that the reader holds */
    uint64_t lost_from, lost_to;   /* not yet in the ring; 0: nothing */
    bool stopped;
};

/* ---- the ring */

static bool ring_push(struct kv_subscription *s, const struct record *header, kv_slice key, kv_slice value)
{
    struct record record = *header;
    size_t len = sizeof record + key.len + value.len, skip = 0;
    if (len > s->size)
        return false;
    len = (len + 7) & ~(size_t)7;
    bool wraps = s->head + len > s->size;
    if (wraps)
        skip = s->size - s->head;
    if (s->used + skip + len > s->size)
        return false;
    if (skip >= sizeof(uint32_t))
        memset(s->ring + s->head, 0, sizeof(uint32_t));
    if (wraps)
        s->head = 0;
    record.len = (uint32_t)len;
    record.key_len = (uint32_t)key.len;
    record.value_len = (uint32_t)value.len;
    uint8_t *p = s->ring + s->head;
    memcpy(p, &record, sizeof record);
    if (key.len)
        memcpy(p + sizeof record, key.data, key.len);
    if (value.len)
        memcpy(p + sizeof record + key.len, value.data, value.len);
    s->head += len;
    s->used += skip + len;
    return true;
}

static void ring_give_back(struct kv_subscription *s)
{
    s->tail += s->lent;
    s->used -= s->lent;
    s->lent = 0;
}

static bool ring_take(struct kv_subscription *s, struct kv_event *event)
{
    struct record record = {0};
    ring_give_back(s);
    if (s->used == 0) {
        s->head = s->tail = 0;
        return false;
    }
    if (s->size - s->tail >= sizeof(uint32_t))
        memcpy(&record.len, s->ring + s->tail, sizeof record.len);
    if (record.len == 0) {
        s->used -= s->size - s->tail;
        s->tail = 0;
    }
    memcpy(&record, s->ring + s->tail, sizeof record);
    const uint8_t *key = s->ring + s->tail + sizeof record;
    *event = (struct kv_event){.kind = (enum kv_event_kind)record.kind,
                               .space = record.space,
                               .version = record.version,
                               .version_last = record.version_last,
                               .expires_at_s = record.expires_at_s,
                               .large_bytes = record.large_bytes,
                               .meta = record.meta,
                               .key = {key, record.key_len},
                               .value = {key + record.key_len, record.value_len}};
    s->lent = record.len;
    return true;
}

/* ---- what matches */

static int order_prefixes(const void *a, const void *b)
{
    const struct kv_prefix *x = a, *y = b;
    if (x->space != y->space)
        return x->space < y->space ? -1 : 1;
    return kv_slice_compare(x->prefix, y->prefix);
}

static void prefixes_sort(struct kv_subscription *s)
{
    size_t kept = 0;
    qsort(s->prefixes, s->n_prefixes, sizeof *s->prefixes, order_prefixes);
    for (size_t i = 0; i < s->n_prefixes; i++) {
        const struct kv_prefix *last = kept ? &s->prefixes[kept - 1] : NULL;
        if (!last || last->space != s->prefixes[i].space ||
            !kv_slice_has_prefix(s->prefixes[i].prefix, last->prefix))
            s->prefixes[kept++] = s->prefixes[i];
    }
    s->n_prefixes = kept;
}

static bool matches(const struct kv_subscription *s, uint32_t space, kv_slice key)
{
    struct kv_prefix at = {space, key};
    size_t low = 0, high = s->n_prefixes; /* the first one behind the key */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (order_prefixes(&s->prefixes[middle], &at) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && s->prefixes[low - 1].space == space &&
           kv_slice_has_prefix(key, s->prefixes[low - 1].prefix);
}

/* Does any key from first to last match? upper_out: last itself is not in it. */
static bool matches_range(const struct kv_subscription *s, uint32_t space, kv_slice first, kv_slice last,
                          bool last_out)
{
    if (matches(s, space, first))
        return true;
    for (size_t i = 0; i < s->n_prefixes; i++) {
        if (s->prefixes[i].space != space || kv_slice_compare(s->prefixes[i].prefix, first) < 0)
            continue;
        int order = kv_slice_compare(s->prefixes[i].prefix, last);
        return last_out ? order < 0 : order <= 0; /* the first one behind `first` decides */
    }
    return false;
}

/* ---- hearing of commits: on the leader's thread */

static void lose(struct kv_subscription *s, uint64_t version)
{
    if (!s->lost_from)
        s->lost_from = version;
    s->lost_to = version;
}

/* With the mutex. */
static void put_event(struct kv_subscription *s, const struct record *record, kv_slice key, kv_slice value)
{
    struct record gap = {.kind = KV_EVENT_LOST, .version = s->lost_from, .version_last = s->lost_to};
    size_t head = s->head, used = s->used;
    bool fits = (!s->lost_from || ring_push(s, &gap, (kv_slice){0}, (kv_slice){0})) &&
                ring_push(s, record, key, value);
    if (fits) {
        s->lost_from = 0;
        return;
    }
    s->head = head; /* the gap grows instead, so that it stays one */
    s->used = used;
    lose(s, record->version);
}

static void hear_entry(struct kv_subscription *s, uint64_t version, const struct kv_batch_entry *entry)
{
    struct record record = {
        .kind = KV_EVENT_PUT, .space = entry->space, .version = version, .version_last = version};
    struct kv_attrs attrs = {0};
    struct kv_pointer pointer = {0};
    kv_slice value = entry->value;
    switch ((enum kv_kind)entry->kind) {
    case KV_KIND_DELETE:
        record.kind = KV_EVENT_DELETE;
        break;
    case KV_KIND_RANGE:
        record.kind = KV_EVENT_DELETE_RANGE;
        break;
    case KV_KIND_MERGE:
        record.kind = KV_EVENT_MERGE;
        value = (kv_slice){0};
        break;
    case KV_KIND_RICH:
    case KV_KIND_POINTER:
        if (kv_attrs_take(&value, &attrs) < 0 ||
            (entry->kind == KV_KIND_POINTER && kv_pointer_take(&value, &pointer) < 0)) {
            lose(s, version); /* our own bytes: it cannot be */
            return;
        }
        break;
    case KV_KIND_PUT:
        break;
    }
    record.meta = attrs.meta;
    record.expires_at_s = attrs.expires_at_s;
    record.large_bytes = pointer.value_len;
    put_event(s, &record, entry->key, value);
}

static void heard(struct kv_watch *watch, const struct kv_pending *pending)
{
    struct kv_subscription *s = KV_CONTAINER(watch, struct kv_subscription, watch);
    struct kv_batch_entry entry;
    kv_slice rest = pending->batch;
    kv_status rc = KV_END;
    kv_mutex_lock(&s->mutex);
    const struct kv_key_span *span = pending->span;
    if (span && matches_range(s, span->space, span->first, span->last, false)) {
        struct record record = {.kind = KV_EVENT_LOADED,
                                .space = span->space,
                                .version = pending->seq,
                                .version_last = pending->seq};
        put_event(s, &record, span->first, span->last);
    }
    while (rest.len && (rc = kv_batch_next(&rest, &entry)) == KV_OK)
        if (entry.kind == KV_KIND_RANGE ? matches_range(s, entry.space, entry.key, entry.value, true)
                                        : matches(s, entry.space, entry.key))
            hear_entry(s, pending->seq, &entry);
    if (rc < 0 || (pending->installs && !span))
        lose(s, pending->seq); /* of unknown extent */
    if (s->used > s->lent || s->lost_from)
        kv_cond_signal(&s->changed);
    kv_mutex_unlock(&s->mutex);
}

/* ---- calls */

static kv_status watch_add(void *ctx, uint64_t seq, struct kv_err *err)
{
    struct kv_subscription *s = ctx;
    (void)seq, (void)err;
    kv_list_push_back(&s->db->watches, &s->watch.link);
    return KV_OK;
}

static kv_status watch_remove(void *ctx, uint64_t seq, struct kv_err *err)
{
    struct kv_subscription *s = ctx;
    (void)seq, (void)err;
    kv_list_remove(&s->watch.link);
    return KV_OK;
}

static void subscription_free(struct kv_subscription *s)
{
    kv_cond_release(&s->changed);
    kv_mutex_release(&s->mutex);
    kv_buf_release(&s->bytes);
    kv_free(s->prefixes);
    kv_free(s->ring);
    kv_free(s);
}

static kv_status prefixes_copy(struct kv_subscription *s, const struct kv_prefix *prefixes, size_t n)
{
    s->prefixes = kv_zalloc(n, sizeof *s->prefixes);
    if (!s->prefixes)
        return KV_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        if (kv_buf_append(&s->bytes, prefixes[i].prefix) < 0)
            return KV_NO_MEMORY;
    for (size_t i = 0, at = 0; i < n; at += prefixes[i++].prefix.len)
        s->prefixes[i] = (struct kv_prefix){
            prefixes[i].space, {prefixes[i].prefix.len ? s->bytes.data + at : NULL, prefixes[i].prefix.len}};
    s->n_prefixes = n;
    prefixes_sort(s);
    return KV_OK;
}

static kv_status subscribe_check(struct kv_db *db, const struct kv_prefix *prefixes, size_t n,
                                 uint64_t queue_bytes, struct kv_err *err)
{
    if (n < 1 || n > PREFIXES_MAX)
        return kv_fail(err, KV_INVALID, 0, "%zu prefixes are not 1 to %d", n, PREFIXES_MAX);
    for (size_t i = 0; i < n; i++)
        if (!kv_space_known(db, prefixes[i].space) || prefixes[i].prefix.len > KV_KEY_LEN_MAX)
            return kv_fail(err, KV_INVALID, 0, "space %" PRIu32 " or a prefix of %zu bytes does not exist",
                           prefixes[i].space, prefixes[i].prefix.len);
    if (queue_bytes && (queue_bytes < QUEUE_BYTES_MIN || queue_bytes > QUEUE_BYTES_MAX))
        return kv_fail(err, KV_INVALID, 0, "queue_bytes: %" PRIu64 " is not %d to %d", queue_bytes,
                       QUEUE_BYTES_MIN, QUEUE_BYTES_MAX);
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only: nothing will be committed");
    return KV_OK;
}

kv_status kv_subscribe(struct kv_db *db, const struct kv_prefix *prefixes, size_t n, uint64_t queue_bytes,
                       struct kv_subscription **out, uint64_t *version, struct kv_err *err)
{
    kv_status rc = subscribe_check(db, prefixes, n, queue_bytes, err);
    if (rc < 0)
        return rc;
    struct kv_subscription *s = kv_zalloc(1, sizeof *s);
    if (!s)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory subscribing");
    kv_mutex_init(&s->mutex);
    kv_cond_init(&s->changed);
    s->db = db;
    s->watch.committed = heard;
    s->size = (queue_bytes ? (size_t)queue_bytes : QUEUE_BYTES_DEFAULT) & ~(size_t)7;
    s->ring = kv_alloc(s->size);
    rc = s->ring ? prefixes_copy(s, prefixes, n) : KV_NO_MEMORY;
    if (rc < 0)
        kv_fail(err, rc, 0, "out of memory subscribing");
    else
        rc = kv_committer_exclusive(db->committer, false, watch_add, s, err);
    if (rc < 0) {
        subscription_free(s);
        return rc;
    }
    atomic_fetch_add_explicit(&db->pins, 1, memory_order_relaxed);
    if (version)
        *version = kv_db_visible(db); /* what came since it was added is heard of, too */
    *out = s;
    return KV_OK;
}

kv_status kv_subscription_next(struct kv_subscription *s, uint32_t timeout_ms, struct kv_event *event)
{
    kv_status rc = KV_OK;
    kv_mutex_lock(&s->mutex);
    while (!ring_take(s, event)) {
        if (s->lost_from) {
            *event =
                (struct kv_event){.kind = KV_EVENT_LOST, .version = s->lost_from, .version_last = s->lost_to};
            s->lost_from = 0;
            break;
        }
        if (s->stopped)
            rc = KV_CLOSED;
        else if (timeout_ms == 0)
            rc = KV_TIMEOUT;
        else if (timeout_ms == UINT32_MAX)
            kv_cond_wait(&s->changed, &s->mutex);
        else if (!kv_cond_wait_for(&s->changed, &s->mutex, (uint64_t)timeout_ms * 1000000))
            timeout_ms = 0; /* one more look */
        if (rc < 0)
            break;
    }
    kv_mutex_unlock(&s->mutex);
    return rc;
}

void kv_subscription_stop(struct kv_subscription *s)
{
    kv_mutex_lock(&s->mutex);
    s->stopped = true;
    kv_cond_broadcast(&s->changed);
    kv_mutex_unlock(&s->mutex);
}

void kv_subscription_close(struct kv_subscription *s)
{
    if (!s)
        return;
    struct kv_db *db = s->db;
    kv_status rc = kv_committer_exclusive(db->committer, false, watch_remove, s, NULL);
    KV_ASSERT(rc == KV_OK); /* the database is open, for this is one of its pins */
    atomic_fetch_sub_explicit(&db->pins, 1, memory_order_relaxed);
    subscription_free(s);
}
