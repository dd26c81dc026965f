/* Counting: every posting in the order of its key, so that the lists of one label pair come together. */
#include "kvcore/base/mem.h"
#include "tsdb/index_internal.h"
#include "tsdb/query/limits.h"

struct counting {
    const struct ts_index_count *asked;
    struct ts_index_read read;
    struct ts_refset left; /* series that lists may name still */
    uint64_t *sums;        /* of the pair or metric that is open, one for each set */
    struct ts_key pair;    /* its key up to the tail; len 0: none is open */
    uint32_t metric;       /* while the pair is "all series of a metric": that metric */
    uint8_t label[TS_KEY_TEXT_LEN_MAX], value[TS_KEY_TEXT_LEN_MAX];
    size_t label_len, value_len;
};

/* Hands out what is open. */
static KV_MUST kv_status give(struct counting *c)
{
    const struct ts_index_count *asked = c->asked;
    bool any = false;
    for (size_t i = 0; i < asked->n_sets; i++)
        any = any || c->sums[i] > 0;
    kv_status rc = KV_OK;
    if (any && c->label_len == 0)
        rc = asked->metric(asked->ctx, c->metric, c->sums);
    else if (any)
        rc = asked->pair(asked->ctx, kv_slice_of(c->label, c->label_len), kv_slice_of(c->value, c->value_len),
                         c->sums);
    memset(c->sums, 0, asked->n_sets * sizeof *c->sums);
    return rc;
}

/* The iterator stands at the first list of another pair. */
static KV_MUST kv_status open_pair(struct counting *c, kv_slice key)
{
    kv_slice in = kv_slice_from(key, 1);
    bool cut;
    if (ts_key_take_text(&in, NULL, c->label, &c->label_len, &cut) < 0 ||
        ts_key_take_text(&in, NULL, c->value, &c->value_len, &cut) < 0 || in.len != TS_KEY_POSTINGS_TAIL_LEN)
        return ts_index_corrupt(&c->read, "postings key");
    c->pair.len = (uint16_t)(key.len - TS_KEY_POSTINGS_TAIL_LEN);
    memcpy(c->pair.bytes, key.data, c->pair.len); /* fits: a key holds two texts */
    return KV_OK;
}

/* Of a list: members that have not left. */
static KV_MUST kv_status count_present(struct counting *c, const struct ts_postings_key *tail, kv_slice bytes,
                                       uint32_t *n)
{
    uint32_t left = 0;
    kv_status rc = ts_postings_count(bytes, n);
    if (rc == KV_OK && ts_refset_has_metric_batch(&c->left, tail->metric, tail->batch))
        rc = ts_refset_common_encoded(&c->left, tail->metric, tail->batch, bytes, &left);
    *n -= left;
    return rc;
}

static KV_MUST kv_status add_list(struct counting *c, const struct ts_postings_key *tail, kv_slice bytes)
{
    const struct ts_index_count *asked = c->asked;
    uint32_t all = 0, n;
    for (size_t i = 0; i < asked->n_sets; i++) {
        kv_status rc = KV_OK;
        n = all;
        if (asked->sets[i])
            rc = ts_refset_common_encoded(asked->sets[i], tail->metric, tail->batch, bytes, &n);
        else if (all == 0)
            rc = count_present(c, tail, bytes, &n);
        if (rc < 0)
            return ts_index_corrupt(&c->read, "postings list");
        if (!asked->sets[i])
            all = n;
        c->sums[i] += n;
    }
    return KV_OK;
}

static KV_MUST kv_status add_mixed(struct counting *c, kv_slice bytes)
{
    struct ts_mixed_reader reader;
    struct ts_mixed_part part = {0};
    kv_status rc = ts_mixed_open(&reader, bytes);
    while (rc == KV_OK && (rc = ts_mixed_next(&reader, &part)) == KV_OK) {
        struct ts_postings_key tail = {part.metric, part.batch, 0};
        rc = add_list(c, &tail, ts_mixed_list(&part));
    }
    return rc == KV_CORRUPT ? ts_index_corrupt(&c->read, "postings list") : rc == KV_END ? KV_OK : rc;
}

static KV_MUST kv_status count_entry(struct counting *c)
{
    struct kv_iter *it = c->read.index;
    struct ts_postings_key tail;
    kv_status rc = KV_OK;
    bool same = c->pair.len > 0 && it->key.len == (size_t)c->pair.len + TS_KEY_POSTINGS_TAIL_LEN &&
                memcmp(it->key.data, c->pair.bytes, c->pair.len) == 0;
    if (ts_key_postings_tail_read(it->key, &tail) < 0)
        return ts_index_corrupt(&c->read, "postings key");
    if (c->pair.len > 0 && (!same || (c->label_len == 0 && tail.metric != c->metric)))
        KV_TRY(give(c));
    if (!same)
        KV_TRY(open_pair(c, it->key));
    c->metric = tail.metric;
    if (tail.metric & TS_POSTINGS_MIXED)
        rc = c->label_len > 0 ? add_mixed(c, it->value) : ts_index_corrupt(&c->read, "postings key");
    else
        rc = add_list(c, &tail, it->value);
out:
    return rc;
}

static KV_MUST kv_status count_all(struct counting *c)
{
    struct kv_iter *it = c->read.index;
    struct ts_budget *budget = c->read.budget;
    struct ts_key kind;
    ts_key_kind(&kind, 'p');
    kv_status rc = kv_iter_seek(it, ts_key_slice(&kind));
    while (rc == KV_OK && it->key.len > 0 && it->key.data[0] == 'p') {
        if (budget && ++c->read.steps % 1024 == 0)
            KV_TRY(ts_budget_check(budget));
        KV_TRY(count_entry(c));
        rc = kv_iter_next(it);
    }
    rc = rc == KV_END ? KV_OK : rc;
    if (rc == KV_OK && c->pair.len > 0)
        rc = give(c);
out:
    return rc;
}

kv_status ts_index_count(struct ts_registry *registry, const struct ts_index_count *count, struct kv_err *err)
{
    struct counting *c = kv_zalloc(1, sizeof *c);
    kv_status rc = c ? KV_OK : KV_NO_MEMORY;
    if (rc < 0)
        return rc;
    c->asked = count;
    if (!(c->sums = kv_zalloc(count->n_sets, sizeof *c->sums)))
        rc = KV_NO_MEMORY;
    if (rc == KV_OK)
        rc = ts_index_read_open(registry, count->snapshot, count->budget, err, &c->read);
    if (rc == KV_OK) {
        rc = ts_index_left(registry, c->read.snapshot, &c->left, err);
        if (rc == KV_OK)
            rc = count_all(c);
        ts_index_read_close(&c->read);
    }
    ts_refset_release(&c->left);
    kv_free(c->sums);
    kv_free(c);
    return rc;
}

/* ---- activity ------------------------------------------------------------------------------------------ */

static KV_MUST kv_status active_stored(struct ts_index_read *read, int32_t from, int32_t to,
                                       struct ts_refset *set)
{
    struct kv_iter *it = read->index;
    struct ts_activity_key at;
    struct ts_key key;
    uint64_t counted = set->bytes;
    ts_key_activity_window(&key, from);
    kv_status rc = kv_iter_seek(it, ts_key_slice(&key));
    while (rc == KV_OK && it->key.len > 0 && it->key.data[0] == 'a') {
        if (ts_key_activity_read(it->key, &at) < 0)
            return ts_index_corrupt(read, "activity key");
        if (at.window > to)
            return KV_OK;
        rc = ts_refset_add_encoded(set, at.metric, at.batch, it->value);
        if (rc == KV_CORRUPT)
            return ts_index_corrupt(read, "activity list");
        if (rc == KV_OK && read->budget && ++read->steps % 256 == 0) {
            rc = ts_budget_check(read->budget);
            if (rc == KV_OK)
                rc = ts_budget_bytes(read->budget, (int64_t)(set->bytes - counted));
            counted = set->bytes;
        }
        if (rc == KV_OK)
            rc = kv_iter_next(it);
    }
    return rc == KV_END ? KV_OK : rc;
}

kv_status ts_index_active(struct ts_registry *registry, const struct ts_select *where, int32_t from,
                          int32_t to, struct ts_refset *set, struct kv_err *err)
{
    struct ts_index_read read = {0};
    bool unknown = false;
    kv_status rc;
    KV_TRY(ts_index_read_open(registry, where->snapshot, where->budget, err, &read));
    KV_TRY(active_stored(&read, from, to, set));
    for (size_t i = 0; i < where->n_heads; i++)
        KV_TRY(ts_activity_collect(where->heads[i], from, to, 0, set, &unknown));
    if (unknown)
        rc =
            kv_fail(err, KV_NO_MEMORY, 0, "memory ran out while it was written down which series are active");
out:
    ts_index_read_close(&read);
    return rc;
}
