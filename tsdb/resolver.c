/* One request's rows to refs, and its new series through the commit (series.h has the order of calls). */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/posting_lists.h"
#include "tsdb/postings.h"
#include "tsdb/series_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { RESOLVER_BYTES_KEPT = 1 << 20 }; /* of each array, from one request to the next */

/* A series that the registry did not have when its row was looked at. */
struct fresh {
    kv_hash128 hash;
    struct ts_metric *metric;
    size_t at, len;      /* canonical bytes, in resolver.canonical */
    uint64_t looked_seq; /* everything up to this version was looked at */
    uint64_t ref;        /* once prepared */
    bool reserved;       /* counted in registry.reserved */
    bool created;        /* by prepare; else somebody else was first */
    bool new_metric;     /* prepare gave its metric a number */
};

/* An identity and what it resolved to. */
struct identity {
    kv_hash128 id;
    uint32_t fresh;
};

struct label_at {
    size_t name, name_len, value, value_len; /* in resolver.text */
};

struct ts_resolver {
    struct ts_label_sink sink; /* first */
    struct ts_registry *registry;
    int entered;       /* ts_registry_enter, from the first row to clear */
    uint32_t previous; /* cache entry of the row before */
    uint64_t predicted, found, missed;

    kv_slice piece; /* the row before's first piece, and its hash */
    kv_hash128 piece_hash;

    struct kv_buf text; /* the labels being collected */
    struct label_at *labels;
    size_t n_labels, labels_capacity;
    struct ts_label *sorted; /* room for as many */
    size_t sorted_capacity;
    struct ts_refusal *why; /* during one ts_resolve */
    bool existing_only;     /* likewise: nothing is to be created */

    struct kv_buf canonical;
    struct fresh *fresh;
    size_t n_fresh, fresh_capacity;
    struct ts_hash_map by_hash;     /* to fresh + 1 */
    struct ts_hash_map by_identity; /* to identities + 1 */
    struct identity *identities;
    size_t n_identities, identities_capacity;
    size_t identity_next; /* the one that followed the previous row's that was new, last time */

    struct ts_posting_lists lists; /* of fresh */
    uint64_t *order;               /* of fresh, for staging: the lower half of each is a place in it */
    size_t order_capacity;
    size_t created;
    bool prepared;
};

/* Room for one more in a growing array. */
static KV_MUST kv_status grow(void **array, size_t n, size_t *capacity, size_t size)
{
    void *grown = kv_grow(*array, capacity, n + 1, size);
    if (!grown)
        return KV_NO_MEMORY;
    *array = grown;
    return KV_OK;
}

/* Gives a large array's memory back. */
static void shrink(void **array, size_t *capacity, size_t size)
{
    if (*capacity <= RESOLVER_BYTES_KEPT / size)
        return;
    kv_free(*array);
    *array = NULL;
    *capacity = 0;
}

/* ---- collecting labels --------------------------------------------------------------------------------- */

static KV_PRINTF(4, 5) kv_status
    refuse(struct ts_resolver *r, kv_status rc, enum ts_reject_reason reason, const char *format, ...)
{
    struct kv_err err; /* its text is kept printable */
    char text[sizeof err.text];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)kv_fail(&err, rc, 0, "%s", text);
    r->why->reason = reason;
    (void)snprintf(r->why->text, sizeof r->why->text, "%s", err.text);
    return rc;
}

/* For "%.*s" in a message. */
#define SHORT(s) (int)((s).len > 64 ? 64 : (s).len), (const char *)(s).data

/* " of metric \"x\"" once the name is there, else "". */
static const char *of_metric(const struct ts_resolver *r, char text[96])
{
    text[0] = 0;
    for (size_t i = 0; i < r->n_labels; i++) {
        const struct label_at *at = &r->labels[i];
        if (!kv_slice_equal(kv_slice_of(r->text.data + at->name, at->name_len), TS_METRIC_NAME))
            continue;
        kv_slice name = kv_slice_of(r->text.data + at->value, at->value_len);
        (void)snprintf(text, 96, " of metric \"%.*s\"", SHORT(name));
    }
    return text;
}

static kv_status sink_add(struct ts_label_sink *sink, kv_slice name, kv_slice value)
{
    struct ts_resolver *r = (struct ts_resolver *)sink;
    const struct ts_registry_options *o = &r->registry->options;
    char metric[96];
    kv_status rc;
    if (name.len == 0)
        return refuse(r, KV_INVALID, TS_REJECT_LABEL_INVALID, "a label has an empty name");
    if (name.len > o->label_name_len_max)
        return refuse(r, KV_LIMIT, TS_REJECT_LABEL_LIMIT,
                      "label name \"%.*s...\" has %zu bytes, at most %u are accepted; raise "
                      "ts_options.label_name_len_max",
                      SHORT(name), name.len, o->label_name_len_max);
    if (!ts_utf8_valid(name))
        return refuse(r, KV_INVALID, TS_REJECT_LABEL_INVALID, "label name \"%.*s\" is not UTF-8 without NUL",
                      SHORT(name));
    if (value.len > o->label_value_len_max)
        return refuse(r, KV_LIMIT, TS_REJECT_LABEL_LIMIT,
                      "the value of label \"%.*s\" has %zu bytes, at most %u are accepted; raise "
                      "ts_options.label_value_len_max",
                      SHORT(name), value.len, o->label_value_len_max);
    if (!ts_utf8_valid(value))
        return refuse(r, KV_INVALID, TS_REJECT_LABEL_INVALID,
                      "the value of label \"%.*s\" is not UTF-8 without NUL", SHORT(name));
    if (value.len == 0)
        return KV_OK;
    if (r->n_labels == o->labels_max)
        return refuse(
            r, KV_LIMIT, TS_REJECT_LABEL_LIMIT,
            "a series%s has more than %u labels (\"%.*s\" is one too many); raise ts_options.labels_max",
            of_metric(r, metric), o->labels_max, SHORT(name));
    KV_TRY(grow((void **)&r->labels, r->n_labels, &r->labels_capacity, sizeof *r->labels));
    KV_TRY(grow((void **)&r->sorted, r->n_labels, &r->sorted_capacity, sizeof *r->sorted));
    struct label_at at = {r->text.len, name.len, r->text.len + name.len, value.len};
    KV_TRY(kv_buf_append(&r->text, name));
    KV_TRY(kv_buf_append(&r->text, value));
    r->labels[r->n_labels++] = at;
out:
    return rc;
}

/* The row's labels, validated and sorted, in r->sorted. */
static KV_MUST kv_status collect(struct ts_resolver *r, const struct ts_row *row)
{
    kv_buf_clear(&r->text);
    r->n_labels = 0;
    kv_status rc = row->labels(row->labels_ctx, row, &r->sink);
    if (r->why->reason != TS_REJECT_NONE)
        return KV_INVALID; /* what the sink refused */
    if (rc < 0)
        return rc == KV_INVALID ? refuse(r, rc, TS_REJECT_MALFORMED, "the labels cannot be read") : rc;
    for (size_t i = 0; i < r->n_labels; i++) {
        const struct label_at *at = &r->labels[i];
        r->sorted[i] = (struct ts_label){{r->text.data + at->name, at->name_len},
                                         {r->text.data + at->value, at->value_len}};
    }
    if (!ts_labels_sort(r->sorted, r->n_labels)) {
        size_t i = 1;
        while (!kv_slice_equal(r->sorted[i - 1].name, r->sorted[i].name))
            i++;
        return refuse(r, KV_INVALID, TS_REJECT_LABEL_DUPLICATE, "label \"%.*s\" is given twice",
                      SHORT(r->sorted[i].name));
    }
    if (ts_labels_get(r->sorted, r->n_labels, TS_METRIC_NAME).len == 0)
        return refuse(r, KV_INVALID, TS_REJECT_LABEL_MISSING_NAME,
                      "there is no metric name (label __name__)");
    return KV_OK;
}

/* ---- resolving ----------------------------------------------------------------------------------------- */

kv_status ts_resolver_new(struct ts_registry *registry, struct ts_resolver **out)
{
    struct ts_resolver *r = kv_zalloc(1, sizeof *r);
    if (!r)
        return KV_NO_MEMORY;
    r->sink.add = sink_add;
    r->registry = registry;
    r->previous = TS_CACHE_NONE;
    *out = r;
    return KV_OK;
}

void ts_resolver_free(struct ts_resolver *r)
{
    if (!r)
        return;
    ts_resolver_clear(r);
    kv_buf_release(&r->text);
    kv_buf_release(&r->canonical);
    kv_free(r->labels);
    kv_free(r->sorted);
    kv_free(r->fresh);
    kv_free(r->identities);
    ts_posting_lists_release(&r->lists);
    kv_free(r->order);
    ts_hash_map_release(&r->by_hash);
    ts_hash_map_release(&r->by_identity);
    kv_free(r);
}

static void hash_put(uint8_t *p, kv_hash128 h)
{
    kv_put_fixed64(p, h.low);
    kv_put_fixed64(p + 8, h.high);
}

/* Of protocol and identity bytes. A first piece that the row before had too is not hashed again. */
static kv_hash128 identity_hash(struct ts_resolver *r, const struct ts_row *row)
{
    const uint8_t *secret = r->registry->secret;
    kv_slice first = row->identity[0], second = row->identity[1];
    if (first.data != r->piece.data || first.len != r->piece.len) {
        r->piece = first;
        r->piece_hash = kv_hash128_keyed(first, secret);
    }
    kv_hash128 h = r->piece_hash;
    h.low ^= row->protocol * UINT64_C(0x9e3779b97f4a7c15);
    if (second.len == 0)
        return h;
    uint8_t joined[16 + 240];
    hash_put(joined, h);
    if (second.len > sizeof joined - 16) {
        hash_put(joined + 16, kv_hash128_keyed(second, secret));
        return kv_hash128_keyed(kv_slice_of(joined, 32), secret);
    }
    memcpy(joined + 16, second.data, second.len);
    return kv_hash128_keyed(kv_slice_of(joined, 16 + second.len), secret);
}

/* The cache: the entry that followed the previous row's last time, else the table. */
static bool resolve_known(struct ts_resolver *r, kv_hash128 id, uint64_t *ref)
{
    struct ts_series_cache *cache = r->registry->cache;
    uint32_t entry = ts_series_cache_next(cache, r->previous);
    if (ts_series_cache_at(cache, entry, id, ref) && ts_registry_use(r->registry, *ref)) {
        r->previous = entry;
        r->predicted++;
        return true;
    }
    if (!ts_series_cache_find(cache, id, &entry, ref) || !ts_registry_use(r->registry, *ref))
        return false;
    ts_series_cache_set_next(cache, r->previous, entry);
    r->previous = entry;
    r->found++;
    return true;
}

/* A series that is new with this request is in no cache yet, so rows that repeat it are foretold here. */
static bool resolve_repeated(struct ts_resolver *r, kv_hash128 id, uint64_t *ref)
{
    size_t next = r->identity_next < r->n_identities ? r->identity_next : 0;
    if (next >= r->n_identities || !kv_hash128_equal(r->identities[next].id, id))
        return false;
    r->identity_next = next + 1;
    *ref = ts_ref_of(TS_METRIC_NEW, r->identities[next].fresh);
    return true;
}

static KV_MUST kv_status fresh_add(struct ts_resolver *r, kv_hash128 hash, uint64_t looked_seq, size_t at,
                                   struct kv_err *err)
{
    struct ts_registry *registry = r->registry;
    struct ts_metric *metric;
    kv_status rc;
    if (r->n_fresh >= UINT32_MAX - 1)
        return kv_fail(err, KV_LIMIT, 0, "too many new series in one request");
    KV_TRY(ts_registry_metric_entry(registry, ts_labels_get(r->sorted, r->n_labels, TS_METRIC_NAME), &metric,
                                    err));
    KV_TRY(grow((void **)&r->fresh, r->n_fresh, &r->fresh_capacity, sizeof *r->fresh));
    KV_TRY(ts_registry_reserve(registry, metric, r->why));
    r->fresh[r->n_fresh] = (struct fresh){.hash = hash,
                                          .metric = metric,
                                          .at = at,
                                          .len = r->canonical.len - at,
                                          .looked_seq = looked_seq,
                                          .reserved = true};
    rc = ts_hash_map_put(&r->by_hash, hash, r->n_fresh + 1);
    if (rc < 0) {
        ts_registry_unreserve(registry, metric, true);
    } else {
        r->n_fresh++;
    }
out:
    return rc;
}

/* Another row of this request with these labels, the registry, or a new series. */
static KV_MUST kv_status resolve_labels(struct ts_resolver *r, uint64_t *ref, struct kv_err *err)
{
    struct ts_registry *registry = r->registry;
    size_t at = r->canonical.len;
    kv_status rc;
    KV_TRY(ts_labels_encode(r->sorted, r->n_labels, &r->canonical));
    kv_slice bytes = {r->canonical.data + at, r->canonical.len - at};
    kv_hash128 hash = ts_registry_hash(registry, bytes);
    uint64_t known = ts_hash_map_get(&r->by_hash, hash);
    if (!known) {
        uint64_t seq = kv_seq(registry->db);
        rc = ts_registry_find_hash(registry, hash, bytes, ref, err);
        if (rc == KV_CONFLICT)
            rc = refuse(r, KV_INVALID, TS_REJECT_UNSUPPORTED,
                        "its labels and those of another series have the same hash");
        if (rc != KV_NOT_FOUND || r->existing_only)
            goto out;
        KV_TRY(fresh_add(r, hash, seq, at, err));
        *ref = ts_ref_of(TS_METRIC_NEW, (uint32_t)(r->n_fresh - 1));
        return KV_OK;
    }
    *ref = ts_ref_of(TS_METRIC_NEW, (uint32_t)(known - 1));
    rc = KV_OK;
out:
    r->canonical.len = at; /* only a new series keeps its bytes */
    return rc;
}

static KV_MUST kv_status identity_add(struct ts_resolver *r, kv_hash128 id, uint64_t ref)
{
    uint32_t fresh = ts_ref_series(ref);
    kv_status rc;
    KV_TRY(grow((void **)&r->identities, r->n_identities, &r->identities_capacity, sizeof *r->identities));
    KV_TRY(ts_hash_map_put(&r->by_identity, id, r->n_identities + 1));
    r->identities[r->n_identities++] = (struct identity){id, fresh};
    r->identity_next = 0; /* until more come: the body's next round */
out:
    return rc;
}

static KV_MUST kv_status resolve_unknown(struct ts_resolver *r, const struct ts_row *row, kv_hash128 id,
                                         uint64_t *ref, struct kv_err *err)
{
    uint64_t known = r->by_identity.n ? ts_hash_map_get(&r->by_identity, id) : 0;
    kv_status rc;
    if (known) {
        *ref = ts_ref_of(TS_METRIC_NEW, r->identities[known - 1].fresh);
        r->identity_next = known;
        return KV_OK;
    }
    r->missed++;
    KV_TRY(collect(r, row));
    KV_TRY(resolve_labels(r, ref, err));
    if (rc == KV_NOT_FOUND)
        return rc;
    if (ts_ref_is_new(*ref))
        return identity_add(r, id, *ref);
    ts_series_cache_put(r->registry->cache, id, *ref); /* it is visible, so it is stored */
out:
    return rc;
}

kv_status ts_resolve_existing(struct ts_resolver *r, const struct ts_row *row, uint64_t *ref,
                              struct kv_err *err)
{
    struct ts_refusal why;
    r->existing_only = true;
    kv_status rc = ts_resolve(r, row, ref, &why, err);
    r->existing_only = false;
    return rc == KV_INVALID ? KV_NOT_FOUND : rc;
}

kv_status ts_resolve(struct ts_resolver *r, const struct ts_row *row, uint64_t *ref, struct ts_refusal *why,
                     struct kv_err *err)
{
    KV_ASSERT(!r->prepared);
    kv_hash128 id = identity_hash(r, row);
    if (!r->entered)
        ts_registry_enter(r->registry, &r->entered);
    if (r->n_identities > 0 && resolve_repeated(r, id, ref))
        return KV_OK;
    if (KV_LIKELY(resolve_known(r, id, ref)))
        return KV_OK;
    why->reason = TS_REJECT_NONE;
    why->text[0] = 0;
    why->retry_in_ms = 0;
    r->why = why;
    kv_status rc = resolve_unknown(r, row, id, ref, err);
    r->why = NULL;
    if (rc == KV_NO_MEMORY)
        rc = kv_fail(err, rc, 0, "out of memory resolving a series");
    return rc;
}

size_t ts_resolver_new_count(const struct ts_resolver *r)
{
    return r->n_fresh;
}

/* ---- staging ------------------------------------------------------------------------------------------- */

static kv_slice fresh_bytes(const struct ts_resolver *r, const struct fresh *f)
{
    return (kv_slice){r->canonical.data + f->at, f->len};
}

static int u64_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The new series in the order that their refs will have, nearly always: by metric, those that have no number yet last. */
static KV_MUST kv_status order_fresh(struct ts_resolver *r)
{
    uint64_t *order = kv_grow(r->order, &r->order_capacity, r->n_fresh, sizeof *order);
    if (!order)
        return KV_NO_MEMORY;
    r->order = order;
    for (uint32_t i = 0; i < r->n_fresh; i++)
        order[i] = (uint64_t)(r->fresh[i].metric->number - 1) << 32 | i;
    qsort(order, r->n_fresh, sizeof *order, u64_order);
    return KV_OK;
}

/* Which lists each new series goes into. */
kv_status ts_resolver_stage(struct ts_resolver *r)
{
    kv_status rc;
    ts_posting_lists_clear(&r->lists, RESOLVER_BYTES_KEPT);
    KV_TRY(order_fresh(r));
    for (size_t at = 0; at < r->n_fresh; at++) {
        uint32_t i = (uint32_t)r->order[at];
        KV_TRY(ts_posting_lists_add(&r->lists, r->fresh[i].metric, fresh_bytes(r, &r->fresh[i]), i));
    }
out:
    return rc;
}

/* ---- prepare and undo, under the commit lock ----------------------------------------------------------- */

/* Forgets creations that everybody can see. */
static void recents_trim(struct ts_registry *registry)
{
    if (registry->n_recents < TS_RECENT_MAX)
        return;
    uint64_t visible = kv_seq(registry->db);
    size_t gone = 0; /* in sequence order */
    while (gone < registry->n_recents && registry->recents[gone].seq <= visible)
        ts_hash_map_remove(&registry->recent, registry->recents[gone++].hash);
    registry->n_recents -= gone;
    memmove(registry->recents, registry->recents + gone, registry->n_recents * sizeof *registry->recents);
    for (size_t i = 0; i < registry->n_recents; i++) /* replaces: no memory needed */
        (void)!ts_hash_map_put(&registry->recent, registry->recents[i].hash, i + 1);
    if (visible > registry->recent_floor)
        registry->recent_floor = visible;
}

static KV_MUST kv_status recents_add(struct ts_registry *registry, kv_hash128 hash, uint64_t ref,
                                     uint64_t seq)
{
    kv_status rc;
    KV_TRY(grow((void **)&registry->recents, registry->n_recents, &registry->recents_capacity,
                sizeof *registry->recents));
    KV_TRY(ts_hash_map_put(&registry->recent, hash, registry->n_recents + 1));
    registry->recents[registry->n_recents++] = (struct ts_recent){hash, ref, seq};
out:
    return rc;
}

/* Whether somebody created it since it was looked up. */
static KV_MUST kv_status look_again(struct ts_resolver *r, const struct fresh *f, uint64_t *ref)
{
    struct ts_registry *registry = r->registry;
    uint64_t index = ts_hash_map_get(&registry->recent, f->hash);
    if (index) {
        *ref = registry->recents[index - 1].ref;
        return ts_registry_use(registry, *ref) ? KV_OK : KV_NOT_FOUND;
    }
    if (f->looked_seq >= registry->recent_floor)
        return KV_NOT_FOUND;
    return ts_registry_find_hash(registry, f->hash, fresh_bytes(r, f), ref, NULL);
}

static KV_MUST kv_status create(struct ts_resolver *r, struct fresh *f, uint64_t seq)
{
    struct ts_registry *registry = r->registry;
    struct ts_metric *m = f->metric;
    bool new_metric = m->number == 0;
    if ((new_metric && registry->next_metric == TS_POSTINGS_MIXED) || m->next == UINT32_MAX)
        return KV_LIMIT;
    uint64_t ref = ts_ref_of(new_metric ? registry->next_metric : m->number, m->next);
    kv_status rc = recents_add(registry, f->hash, ref, seq);
    if (rc < 0)
        return rc;
    if (new_metric)
        m->number = registry->next_metric++;
    m->next++;
    f->ref = ref;
    f->created = true;
    f->new_metric = new_metric;
    f->reserved = false;
    r->created++;
    atomic_fetch_add(&registry->series, 1);
    ts_registry_unreserve(registry, m, false);
    return KV_OK;
}

static int hash_order(const void *a, const void *b)
{
    const struct fresh *x = *(const struct fresh *const *)a, *y = *(const struct fresh *const *)b;
    return (x->hash.high > y->hash.high) - (x->hash.high < y->hash.high);
}

/* Labels and hashes of the series that this commit creates, in the order of their keys: what is sorted costs a memtable less. */
static KV_MUST kv_status put_series(struct ts_resolver *r, struct kv_batch *batch)
{
    const struct fresh **by_hash = kv_alloc(r->n_fresh * sizeof(const struct fresh *));
    struct ts_key key;
    size_t n = 0;
    kv_status rc = by_hash ? KV_OK : KV_NO_MEMORY;
    for (size_t at = 0; rc == KV_OK && at < r->n_fresh; at++) {
        const struct fresh *f = &r->fresh[(uint32_t)r->order[at]];
        if (!f->created)
            continue;
        by_hash[n++] = f;
        ts_key_labels(&key, f->ref);
        rc = kv_batch_put(batch, TS_SPACE_SERIES, ts_key_slice(&key), fresh_bytes(r, f));
    }
    if (rc == KV_OK && n > 1)
        qsort(by_hash, n, sizeof(const struct fresh *), hash_order);
    for (size_t i = 0; rc == KV_OK && i < n; i++) {
        uint8_t ref[TS_REF_VALUE_LEN];
        ts_key_hash(&key, by_hash[i]->hash);
        kv_put_be64(ref, by_hash[i]->ref);
        rc = kv_batch_put(batch, TS_SPACE_SERIES, ts_key_slice(&key), kv_slice_of(ref, sizeof ref));
    }
    kv_free(by_hash);
    return rc;
}

static KV_MUST kv_status put_metric(const struct ts_metric *m, struct kv_batch *batch)
{
    struct kv_buf value = {0};
    kv_slice name = kv_slice_of(m->name, m->name_len);
    uint8_t fixed[8];
    struct ts_key key;
    kv_status rc;
    ts_key_metric(&key, name);
    kv_put_be32(fixed, m->number);
    kv_put_be32(fixed + 4, m->next);
    KV_TRY(kv_buf_append(&value, kv_slice_of(fixed, sizeof fixed)));
    if (name.len > TS_KEY_TEXT_LEN_MAX)
        KV_TRY(kv_buf_append(&value, name));
    rc = kv_batch_put(batch, TS_SPACE_SERIES, ts_key_slice(&key), kv_buf_slice(&value));
out:
    kv_buf_release(&value);
    return rc;
}

kv_status ts_registry_put_counters(const struct ts_registry *registry, struct kv_batch *batch)
{
    struct ts_key key;
    uint8_t value[12];
    ts_key_counters(&key);
    kv_put_be32(value, registry->next_metric);
    kv_put_be64(value + 4, atomic_load(&registry->series));
    return kv_batch_put(batch, TS_SPACE_SERIES, ts_key_slice(&key), kv_slice_of(value, sizeof value));
}

static KV_MUST kv_status put_postings(const struct ts_resolver *r, struct kv_batch *batch)
{
    if (r->created == 0)
        return KV_OK;
    uint64_t *refs = kv_alloc(r->n_fresh * sizeof *refs);
    if (!refs)
        return KV_NO_MEMORY;
    for (size_t i = 0; i < r->n_fresh; i++)
        refs[i] = r->fresh[i].created ? r->fresh[i].ref : 0;
    kv_status rc = ts_posting_lists_put(&r->lists, refs, r->n_fresh, batch);
    kv_free(refs);
    return rc;
}

static KV_MUST kv_status put_section(const struct ts_resolver *r, struct kv_buf *section)
{
    kv_status rc;
    KV_TRY(kv_buf_append_varint(section, r->n_identities));
    for (size_t i = 0; i < r->n_identities; i++) {
        uint8_t *p = kv_buf_extend(section, 24);
        if (!p)
            return KV_NO_MEMORY;
        hash_put(p, r->identities[i].id);
        kv_put_fixed64(p + 16, r->fresh[r->identities[i].fresh].ref);
    }
out:
    return rc;
}

kv_status ts_resolver_prepare(struct ts_resolver *r, uint64_t seq, struct kv_batch *batch,
                              struct kv_buf *section)
{
    kv_status rc = KV_OK;
    KV_ASSERT(!r->prepared && (r->n_fresh == 0 || r->lists.n > 0));
    r->prepared = true;
    if (r->n_fresh > 0)
        recents_trim(r->registry);
    for (size_t i = 0; i < r->n_fresh; i++) {
        struct fresh *f = &r->fresh[i];
        KV_TRY(look_again(r, f, &f->ref));
        if (rc != KV_NOT_FOUND)
            continue;
        KV_TRY(create(r, f, seq));
    }
    if (r->created > 0)
        KV_TRY(put_series(r, batch));
    for (size_t i = 0; i < r->n_fresh; i++) /* the batch folds repeats, but building them costs */
        if (r->fresh[i].created &&
            (i == 0 || r->fresh[i - 1].metric != r->fresh[i].metric || !r->fresh[i - 1].created))
            KV_TRY(put_metric(r->fresh[i].metric, batch));
    if (r->created > 0)
        KV_TRY(ts_registry_put_counters(r->registry, batch));
    KV_TRY(put_postings(r, batch));
    rc = put_section(r, section);
out:
    if (rc < 0)
        ts_resolver_undo(r);
    return rc < 0 ? rc : KV_OK;
}

/* Later commits have been undone before, so what was given out last is taken back first. */
void ts_resolver_undo(struct ts_resolver *r)
{
    struct ts_registry *registry = r->registry;
    for (size_t i = r->n_fresh; i-- > 0;) {
        struct fresh *f = &r->fresh[i];
        if (!f->created)
            continue;
        f->metric->next--;
        if (f->new_metric) {
            f->metric->number = 0;
            registry->next_metric--;
        }
        registry->n_recents--;
        ts_hash_map_remove(&registry->recent, f->hash);
        atomic_fetch_add(&registry->reserved, 1);
        atomic_fetch_add(&f->metric->reserved, 1);
        atomic_fetch_sub(&registry->series, 1);
        f->reserved = true;
        f->created = f->new_metric = false;
    }
    r->created = 0;
    r->prepared = false;
}

uint64_t ts_resolver_ref(const struct ts_resolver *r, uint64_t ref)
{
    return ts_ref_is_new(ref) ? r->fresh[ts_ref_series(ref)].ref : ref;
}

size_t ts_resolver_created(const struct ts_resolver *r)
{
    return r->created;
}

void ts_resolver_clear(struct ts_resolver *r)
{
    struct ts_registry *registry = r->registry;
    ts_registry_exit(registry, &r->entered);
    for (size_t i = 0; i < r->n_fresh; i++)
        if (r->fresh[i].reserved)
            ts_registry_unreserve(registry, r->fresh[i].metric, true);
    atomic_fetch_add_explicit(&registry->created, r->created, memory_order_relaxed);
    atomic_fetch_add_explicit(&registry->predicted, r->predicted, memory_order_relaxed);
    atomic_fetch_add_explicit(&registry->found, r->found, memory_order_relaxed);
    atomic_fetch_add_explicit(&registry->missed, r->missed, memory_order_relaxed);
    r->predicted = r->found = r->missed = 0;
    r->n_fresh = r->n_identities = r->created = 0;
    r->prepared = false;
    r->piece = (kv_slice){0}; /* the next request's bytes may lie at the same address */
    kv_buf_clear_keep(&r->canonical, RESOLVER_BYTES_KEPT);
    shrink((void **)&r->fresh, &r->fresh_capacity, sizeof *r->fresh);
    shrink((void **)&r->identities, &r->identities_capacity, sizeof *r->identities);
    shrink((void **)&r->order, &r->order_capacity, sizeof *r->order);
    ts_posting_lists_clear(&r->lists, RESOLVER_BYTES_KEPT);
    ts_hash_map_clear(&r->by_hash);
    ts_hash_map_clear(&r->by_identity);
}

/* ---- apply --------------------------------------------------------------------------------------------- */

kv_status ts_registry_apply(struct ts_registry *registry, uint64_t seq, kv_slice *record)
{
    kv_slice in = *record;
    uint64_t n;
    (void)seq;
    if (kv_take_varint(&in, &n) < 0 || n > in.len / 24)
        return KV_CORRUPT;
    for (; n > 0; n--, in = kv_slice_from(in, 24)) {
        kv_hash128 id = {kv_get_fixed64(in.data), kv_get_fixed64(in.data + 8)};
        ts_series_cache_put(registry->cache, id, kv_get_fixed64(in.data + 16));
    }
    *record = in;
    return KV_OK;
}
