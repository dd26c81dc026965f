#include "kvcore/base/assert.h"
#include "tsdb/index_internal.h"
#include "tsdb/query/limits.h"

kv_status ts_index_read_open(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                             struct ts_budget *budget, struct kv_err *err, struct ts_index_read *out)
{
    *out = (struct ts_index_read){.registry = registry,
                                  .db = ts_registry_db(registry),
                                  .snapshot = snapshot,
                                  .budget = budget,
                                  .err = err};
    kv_status rc = KV_OK;
    if (!snapshot) {
        rc = kv_snapshot_open(out->db, &out->own);
        out->snapshot = out->own;
    }
    if (rc == KV_OK)
        rc = kv_iter_open(out->db, out->snapshot, TS_SPACE_INDEX, KV_STR(""), KV_STR(""), &out->index);
    if (rc < 0)
        ts_index_read_close(out);
    return rc;
}

void ts_index_read_close(struct ts_index_read *read)
{
    kv_iter_close(read->index);
    kv_snapshot_close(read->own);
    *read = (struct ts_index_read){0};
}

kv_status ts_index_corrupt(struct ts_index_read *read, const char *what)
{
    return kv_fail(read->err, KV_CORRUPT, 0, "the index has a damaged %s", what);
}

/* Now and then asks whether the query is still wanted. */
static KV_MUST kv_status read_step(struct ts_index_read *read)
{
    return read->budget && ++read->steps % 256 == 0 ? ts_budget_check(read->budget) : KV_OK;
}

/* ---- metrics ------------------------------------------------------------------------------------------- */

kv_status ts_index_walk_metrics(struct ts_index_read *read, kv_slice prefix,
                                kv_status (*each)(void *ctx, kv_slice name, uint32_t metric, uint32_t next),
                                void *ctx)
{
    struct kv_iter *it = NULL;
    struct ts_key lower, upper;
    uint8_t text[TS_KEY_TEXT_LEN_MAX];
    kv_status rc;
    ts_key_kind(&lower, 'm');
    ts_key_add_prefix(&lower, prefix);
    upper = lower;
    (void)ts_key_successor(&upper);
    KV_TRY(kv_iter_open(read->db, read->snapshot, TS_SPACE_SERIES, ts_key_slice(&lower), ts_key_slice(&upper),
                        &it));
    for (rc = kv_iter_seek(it, KV_STR("")); rc == KV_OK; rc = kv_iter_next(it)) {
        kv_slice in = kv_slice_from(it->key, 1), full;
        uint32_t metric, next;
        size_t len;
        bool cut;
        KV_TRY(read_step(read));
        if (ts_key_take_text(&in, NULL, text, &len, &cut) < 0 || in.len > 0 ||
            ts_metric_value_read(it->value, &metric, &next, &full) < 0 || cut != (full.len > 0)) {
            rc = ts_index_corrupt(read, "metric");
            goto out;
        }
        rc = each(ctx, cut ? full : kv_slice_of(text, len), metric, next);
        if (rc != KV_OK)
            break;
    }
    rc = rc == KV_END ? KV_OK : rc;
out:
    kv_iter_close(it);
    return rc;
}

/* ---- values and names ---------------------------------------------------------------------------------- */

/* Goes on behind all entries that begin with key: a few steps, if the iterator still stands there, then a
 * seek. */
static KV_MUST kv_status skip_prefix(struct ts_index_read *read, const struct ts_key *key)
{
    enum { STEPS = 4 };
    struct ts_key behind = *key;
    for (int i = 0; !read->moved && i < STEPS; i++) {
        kv_status rc = kv_iter_next(read->index);
        if (rc != KV_OK || !kv_slice_has_prefix(read->index->key, ts_key_slice(key)))
            return rc;
    }
    return ts_key_successor(&behind) ? kv_iter_seek(read->index, ts_key_slice(&behind)) : KV_END;
}

/*
 * Distinct texts that follow the bytes of `from` in the keys that begin with `within`.
 */
static KV_MUST kv_status walk_texts(struct ts_index_read *read, const struct ts_key *from,
                                    const struct ts_key *within,
                                    kv_status (*each)(void *ctx, const struct ts_index_value *value),
                                    void *ctx)
{
    uint8_t text[TS_KEY_TEXT_LEN_MAX];
    struct ts_key key;
    kv_status rc = kv_iter_seek(read->index, ts_key_slice(within));
    while (rc == KV_OK && kv_slice_has_prefix(read->index->key, ts_key_slice(within))) {
        kv_slice in = kv_slice_from(read->index->key, from->len), raw;
        struct ts_index_value value = {.key = &key};
        size_t len;
        KV_TRY(read_step(read));
        if (ts_key_take_text(&in, &raw, text, &len, &value.cut) < 0)
            return ts_index_corrupt(read, "label");
        value.text = kv_slice_of(text, len);
        key.len = from->len;
        memcpy(key.bytes, from->bytes, from->len);
        memcpy(key.bytes + key.len, raw.data, raw.len); /* fits: a key holds two texts */
        key.len = (uint16_t)(key.len + raw.len);
        read->moved = false;
        if (len > 0) { /* the empty text is not a value of its own */
            rc = each(ctx, &value);
            if (rc != KV_OK)
                break;
        }
        rc = skip_prefix(read, &key);
    }
    rc = rc == KV_END ? KV_OK : rc;
out:
    return rc;
}

kv_status ts_index_walk_values(struct ts_index_read *read, kv_slice label, kv_slice prefix,
                               kv_status (*each)(void *ctx, const struct ts_index_value *value), void *ctx)
{
    struct ts_key from, within;
    ts_key_postings_label(&from, label);
    within = from;
    ts_key_add_prefix(&within, prefix);
    return walk_texts(read, &from, &within, each, ctx);
}

kv_status ts_index_walk_names(struct ts_index_read *read,
                              kv_status (*each)(void *ctx, const struct ts_index_value *name), void *ctx)
{
    struct ts_key from;
    ts_key_kind(&from, 'p');
    return walk_texts(read, &from, &from, each, ctx);
}

/* ---- lists --------------------------------------------------------------------------------------------- */

struct ts_index_scope ts_index_scope_of(const struct ts_refset *within)
{
    struct ts_index_scope scope = {.within = within};
    (void)ts_refset_metric_range(within, &scope.metric_min, &scope.metric_max);
    return scope;
}

typedef kv_status (*list_fn)(void *ctx, const struct ts_postings_key *tail, kv_slice bytes);

static bool scope_has(const struct ts_index_scope *scope, uint32_t metric, uint16_t batch)
{
    return metric >= scope->metric_min && metric <= scope->metric_max &&
           (!scope->within || ts_refset_has_metric_batch(scope->within, metric, batch));
}

/* The parts of a mixed list that scope asks for. */
static KV_MUST kv_status walk_mixed(kv_slice bytes, const struct ts_index_scope *scope, list_fn each,
                                    void *ctx)
{
    struct ts_mixed_reader reader;
    struct ts_mixed_part part = {0};
    kv_status rc = ts_mixed_open(&reader, bytes);
    while (rc == KV_OK && (rc = ts_mixed_next(&reader, &part)) == KV_OK) {
        if (part.metric > scope->metric_max)
            return KV_OK;
        struct ts_postings_key tail = {part.metric, part.batch, 0};
        if (scope_has(scope, part.metric, part.batch) &&
            (rc = each(ctx, &tail, ts_mixed_list(&part))) != KV_OK)
            return rc;
    }
    return rc == KV_END ? KV_OK : rc;
}

/* Calls each for the lists under key that scope asks for; KV_END from it ends the walk. Those of one metric come first,
 * by metric, then mixed ones, by their lowest. */
static KV_MUST kv_status walk_lists(struct ts_index_read *read, const struct ts_key *key,
                                    const struct ts_index_scope *scope, list_fn each, void *ctx)
{
    struct ts_key at = *key;
    struct ts_postings_key tail;
    ts_key_postings_tail(&at, &(struct ts_postings_key){.metric = scope->metric_min});
    read->moved = true;
    kv_status rc = kv_iter_seek(read->index, ts_key_slice(&at));
    while (rc == KV_OK && kv_slice_has_prefix(read->index->key, ts_key_slice(key))) {
        KV_TRY(read_step(read));
        if (read->index->key.len != (size_t)key->len + TS_KEY_POSTINGS_TAIL_LEN ||
            ts_key_postings_tail_read(read->index->key, &tail) < 0)
            return ts_index_corrupt(read, "postings key");
        bool mixed = tail.metric & TS_POSTINGS_MIXED;
        if ((tail.metric & ~TS_POSTINGS_MIXED) > scope->metric_max) {
            if (mixed)
                return KV_OK;
            at.len = key->len;
            ts_key_postings_tail(&at, &(struct ts_postings_key){.metric = TS_POSTINGS_MIXED});
            rc = kv_iter_seek(read->index, ts_key_slice(&at));
            continue;
        }
        if (mixed)
            rc = walk_mixed(read->index->value, scope, each, ctx);
        else if (scope_has(scope, tail.metric, tail.batch))
            rc = each(ctx, &tail, read->index->value);
        if (rc == KV_CORRUPT)
            return ts_index_corrupt(read, "postings list");
        if (rc != KV_OK)
            break;
        rc = kv_iter_next(read->index);
    }
    rc = rc == KV_END ? KV_OK : rc;
out:
    return rc;
}

static kv_status list_add(void *ctx, const struct ts_postings_key *tail, kv_slice bytes)
{
    return ts_refset_add_encoded(ctx, tail->metric, tail->batch, bytes);
}

kv_status ts_index_lists_add(struct ts_index_read *read, const struct ts_key *key,
                             const struct ts_index_scope *scope, struct ts_refset *set)
{
    return walk_lists(read, key, scope, list_add, set);
}

struct meet {
    const struct ts_refset *with;
    bool *meet;
};

static kv_status list_meet(void *ctx, const struct ts_postings_key *tail, kv_slice bytes)
{
    struct meet *m = ctx;
    kv_status rc = ts_refset_meets_encoded(m->with, tail->metric, tail->batch, bytes, m->meet);
    return rc == KV_OK && *m->meet ? KV_END : rc;
}

kv_status ts_index_lists_meet(struct ts_index_read *read, const struct ts_key *key,
                              const struct ts_index_scope *scope, bool *meet)
{
    struct meet m = {scope->within, meet};
    *meet = false;
    return walk_lists(read, key, scope, list_meet, &m);
}
