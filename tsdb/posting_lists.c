#include "tsdb/posting_lists.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/hash.h"
#include "kvcore/base/mem.h"
#include "tsdb/key.h"
#include "tsdb/label.h"
#include "tsdb/postings.h"

#include <stdlib.h>

enum { SLOTS_MIN = 256 };

static uint64_t list_hash(const void *metric, kv_slice name, kv_slice value)
{
    return kv_hash64(value, kv_hash64(name, (uint64_t)(uintptr_t)metric));
}

static bool list_is(const struct ts_posting_list *list, uint64_t hash, const void *metric, kv_slice name,
                    kv_slice value)
{
    return list->hash == hash && list->metric == metric && kv_slice_equal(list->name, name) &&
           kv_slice_equal(list->value, value);
}

/* At most half of the slots are taken. */
static KV_MUST kv_status slots_grow(struct ts_posting_lists *l)
{
    if (2 * (l->n + 1) <= l->n_slots)
        return KV_OK;
    size_t n_slots = l->n_slots ? 2 * l->n_slots : SLOTS_MIN;
    uint32_t *slots = kv_zalloc(n_slots, sizeof *slots);
    if (!slots)
        return KV_NO_MEMORY;
    for (size_t i = 0; i < l->n; i++) {
        size_t at = (size_t)l->lists[i].hash & (n_slots - 1);
        while (slots[at])
            at = (at + 1) & (n_slots - 1);
        slots[at] = (uint32_t)i + 1;
    }
    kv_free(l->slots);
    l->slots = slots;
    l->n_slots = n_slots;
    return KV_OK;
}

/* The list, made if there is none. Room must be there. */
static struct ts_posting_list *list_of(struct ts_posting_lists *l, const void *metric, kv_slice name,
                                       kv_slice value)
{
    uint64_t hash = list_hash(metric, name, value);
    size_t at = (size_t)hash & (l->n_slots - 1);
    for (; l->slots[at]; at = (at + 1) & (l->n_slots - 1)) {
        struct ts_posting_list *list = &l->lists[l->slots[at] - 1];
        if (list_is(list, hash, metric, name, value))
            return list;
    }
    struct ts_posting_list *list = &l->lists[l->n++];
    l->slots[at] = (uint32_t)l->n;
    *list = (struct ts_posting_list){hash, metric, name, value, TS_POSTING_END, TS_POSTING_END};
    return list;
}

static KV_MUST kv_status list_add(struct ts_posting_lists *l, const void *metric, kv_slice name,
                                  kv_slice value, uint32_t member)
{
    struct ts_posting_list *lists = kv_grow(l->lists, &l->capacity, l->n + 1, sizeof *lists);
    if (!lists)
        return KV_NO_MEMORY;
    l->lists = lists;
    struct ts_posting_member *members =
        kv_grow(l->members, &l->members_capacity, l->n_members + 1, sizeof *members);
    if (!members)
        return KV_NO_MEMORY;
    l->members = members;
    if (l->n_members >= TS_POSTING_END - 1)
        return KV_NO_MEMORY;
    kv_status rc = slots_grow(l);
    if (rc < 0)
        return rc;
    struct ts_posting_list *list = list_of(l, metric, name, value);
    uint32_t at = (uint32_t)l->n_members++;
    l->members[at] = (struct ts_posting_member){member, TS_POSTING_END};
    if (list->first == TS_POSTING_END)
        list->first = at;
    else
        l->members[list->last].next = at;
    list->last = at;
    return KV_OK;
}

kv_status ts_posting_lists_add(struct ts_posting_lists *l, const void *metric, kv_slice canonical,
                               uint32_t member)
{
    kv_slice name, value;
    kv_status rc;
    KV_TRY(list_add(l, metric, KV_STR(""), KV_STR(""), member));
    while (canonical.len > 0) {
        KV_TRY(kv_take_lp(&canonical, &name));
        KV_TRY(kv_take_lp(&canonical, &value));
        if (kv_slice_equal(name, TS_METRIC_NAME))
            continue; /* the metric dictionary has it */
        KV_TRY(list_add(l, NULL, name, KV_STR(""), member));
        KV_TRY(list_add(l, NULL, name, value, member));
    }
out:
    return rc;
}

/* ---- into a batch ------------------------------------------------------------------------------------------------ */

/* What putting postings needs. */
struct put_postings {
    const struct ts_posting_lists *lists;
    const uint64_t *refs_of; /* members */
    struct kv_batch *batch;
    uint64_t *refs; /* of the list at hand; room for all */
    size_t n;
    uint16_t *members;
    struct kv_buf bytes;
    struct ts_mixed_writer mixed;
};

static int u64_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The refs of a list's members, rising. */
static void list_refs(struct put_postings *p, const struct ts_posting_list *list)
{
    const struct ts_posting_member *members = p->lists->members;
    bool rising = true;
    p->n = 0;
    for (uint32_t i = list->first; i != TS_POSTING_END; i = members[i].next) {
        uint64_t ref = p->refs_of[members[i].member];
        if (ref == 0)
            continue;
        rising = rising && (p->n == 0 || ref > p->refs[p->n - 1]);
        p->refs[p->n++] = ref;
    }
    if (!rising) /* a metric was given its number only now */
        qsort(p->refs, p->n, sizeof *p->refs, u64_order);
}

/* How many refs from `from` on are of its batch; their members into p->members. */
static size_t list_batch(struct put_postings *p, size_t from)
{
    size_t n = 0;
    for (; from + n < p->n && p->refs[from + n] >> 16 == p->refs[from] >> 16; n++)
        p->members[n] = (uint16_t)p->refs[from + n];
    return n;
}

/* All series of a metric: one entry for every 65536. */
static KV_MUST kv_status put_all_series(struct put_postings *p, const struct ts_posting_list *list)
{
    struct ts_key key;
    kv_status rc = KV_OK;
    for (size_t from = 0, n; from < p->n; from += n) {
        uint64_t ref = p->refs[from];
        n = list_batch(p, from);
        struct ts_postings_key tail = {ts_ref_metric(ref), (uint16_t)(ts_ref_series(ref) >> 16),
                                       p->members[0]};
        kv_buf_clear(&p->bytes);
        KV_TRY(ts_postings_encode(p->members, n, &p->bytes));
        ts_key_postings_value(&key, list->name, list->value);
        ts_key_postings_tail(&key, &tail);
        KV_TRY(kv_batch_put(p->batch, TS_SPACE_INDEX, ts_key_slice(&key), kv_buf_slice(&p->bytes)));
    }
out:
    return rc;
}

static KV_MUST kv_status put_mixed(struct put_postings *p, const struct ts_posting_list *list)
{
    struct ts_key key;
    kv_status rc = KV_OK;
    ts_mixed_begin(&p->mixed);
    for (size_t from = 0, n; from < p->n; from += n) {
        uint64_t ref = p->refs[from];
        n = list_batch(p, from);
        KV_TRY(
            ts_mixed_add(&p->mixed, ts_ref_metric(ref), (uint16_t)(ts_ref_series(ref) >> 16), p->members, n));
        if (p->mixed.bytes.len < TS_MIXED_BYTES && from + n < p->n)
            continue;
        ts_key_postings_value(&key, list->name, list->value);
        ts_key_postings_mixed(&key, p->mixed.first);
        KV_TRY(kv_batch_put(p->batch, TS_SPACE_INDEX, ts_key_slice(&key), kv_buf_slice(&p->mixed.bytes)));
        ts_mixed_begin(&p->mixed);
    }
out:
    return rc;
}

kv_status ts_posting_lists_put(const struct ts_posting_lists *lists, const uint64_t *refs, size_t n,
                               struct kv_batch *batch)
{
    struct put_postings p = {.lists = lists,
                             .refs_of = refs,
                             .batch = batch,
                             .refs = kv_alloc(n * sizeof *p.refs),
                             .members = kv_alloc(n * sizeof *p.members)};
    kv_status rc = p.refs && p.members ? KV_OK : KV_NO_MEMORY;
    for (size_t i = 0; rc == KV_OK && i < lists->n; i++) {
        const struct ts_posting_list *list = &lists->lists[i];
        list_refs(&p, list);
        rc = list->name.len == 0 ? put_all_series(&p, list) : put_mixed(&p, list);
    }
    ts_mixed_release(&p.mixed);
    kv_buf_release(&p.bytes);
    kv_free(p.members);
    kv_free(p.refs);
    return rc;
}

void ts_posting_lists_clear(struct ts_posting_lists *l, size_t bytes_kept)
{
    if (l->capacity * sizeof *l->lists > bytes_kept ||
        l->members_capacity * sizeof *l->members > bytes_kept || l->n_slots * sizeof *l->slots > bytes_kept) {
        ts_posting_lists_release(l);
        return;
    }
    if (l->n > 0)
        memset(l->slots, 0, l->n_slots * sizeof *l->slots);
    l->n = l->n_members = 0;
}

void ts_posting_lists_release(struct ts_posting_lists *l)
{
    kv_free(l->lists);
    kv_free(l->members);
    kv_free(l->slots);
    *l = (struct ts_posting_lists){0};
}
