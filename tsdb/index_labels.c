/* Label names and values, metric names, and activity written and dropped. */
#include "kvcore/base/mem.h"
#include "tsdb/index_internal.h"
#include "tsdb/query/limits.h"

#include <stdlib.h>

/* ---- texts to be sorted and made unique ---------------------------------------------------------------- */

struct texts {
    struct kv_arena arena;
    kv_slice *at;
    size_t n, capacity;
    struct ts_budget *budget; /* NULL: none */
    size_t counted;           /* bytes told to it */
    size_t refs_bytes;        /* of the series that are read for their texts */
};

/* Tells the budget how much all of it takes. */
static KV_MUST kv_status texts_count(struct texts *t)
{
    size_t bytes = t->arena.used + t->capacity * sizeof *t->at + t->refs_bytes;
    if (!t->budget || bytes == t->counted)
        return KV_OK;
    kv_status rc = ts_budget_bytes(t->budget, (int64_t)bytes - (int64_t)t->counted);
    if (rc == KV_OK)
        t->counted = bytes;
    return rc;
}

static void texts_release(struct texts *t)
{
    if (t->budget)
        (void)!ts_budget_bytes(t->budget, -(int64_t)t->counted); /* giving back cannot fail */
    kv_arena_release(&t->arena);
    kv_free(t->at);
    *t = (struct texts){0};
}

static int slice_order(const void *a, const void *b)
{
    return kv_slice_compare(*(const kv_slice *)a, *(const kv_slice *)b);
}

static void texts_unique(struct texts *t)
{
    size_t kept = 0;
    if (t->n > 1)
        qsort(t->at, t->n, sizeof *t->at, slice_order);
    for (size_t i = 0; i < t->n; i++)
        if (i == 0 || !kv_slice_equal(t->at[i], t->at[kept - 1]))
            t->at[kept++] = t->at[i];
    t->n = kept;
}

/* Drops repeats, of which labels are full, and their bytes. */
static KV_MUST kv_status texts_pack(struct texts *t)
{
    struct kv_arena packed = {0};
    size_t before = t->n;
    texts_unique(t);
    if (t->n == before)
        return KV_OK;
    for (size_t i = 0; i < t->n; i++) {
        kv_slice copy = kv_arena_copy(&packed, t->at[i]);
        if (!copy.data) {
            kv_arena_release(&packed);
            t->n = 0; /* some lie in what is gone */
            return KV_NO_MEMORY;
        }
        t->at[i] = copy;
    }
    kv_arena_release(&t->arena);
    t->arena = packed;
    return KV_OK;
}

static KV_MUST kv_status texts_add(struct texts *t, kv_slice text)
{
    kv_status rc = KV_OK;
    if (t->n == t->capacity) {
        KV_TRY(texts_pack(t)); /* makes room before growing */
        if (t->n > t->capacity / 2 || t->capacity == 0) {
            size_t capacity = t->capacity ? t->capacity * 2 : 64;
            kv_slice *at = kv_realloc(t->at, capacity * sizeof *at);
            if (!at)
                return KV_NO_MEMORY;
            t->at = at;
            t->capacity = capacity;
        }
    }
    kv_slice copy = kv_arena_copy(&t->arena, text);
    if (!copy.data)
        return KV_NO_MEMORY;
    t->at[t->n++] = copy;
    rc = texts_count(t);
out:
    return rc;
}

static KV_MUST kv_status texts_each(struct texts *t, kv_status (*each)(void *ctx, kv_slice text), void *ctx)
{
    kv_status rc = KV_OK;
    texts_unique(t);
    for (size_t i = 0; rc == KV_OK && i < t->n; i++)
        rc = each(ctx, t->at[i]);
    return rc < 0 ? rc : KV_OK;
}

/* ---- from the labels of few series --------------------------------------------------------------------- */

/* name empty: names, else the values of that label. */
static KV_MUST kv_status add_from_labels(struct ts_index_read *read, const struct ts_refset *set,
                                         kv_slice name, struct texts *texts)
{
    enum { STEP = 256 };
    struct ts_labels labels[STEP];
    struct kv_arena arena = {0};
    uint64_t *refs = NULL;
    size_t n = 0;
    kv_status rc;
    KV_TRY(ts_refset_refs(set, &refs, &n));
    texts->refs_bytes = n * sizeof *refs;
    KV_TRY(texts_count(texts));
    for (size_t at = 0; at < n; at += STEP) {
        size_t some = n - at < STEP ? n - at : STEP;
        KV_TRY(ts_registry_labels_many(read->registry, read->snapshot, refs + at, some, &arena, labels,
                                       read->err));
        for (size_t i = 0; i < some; i++) {
            kv_slice value =
                name.len > 0 ? ts_labels_get(labels[i].labels, labels[i].n, name) : (kv_slice){0};
            if (value.len > 0)
                KV_TRY(texts_add(texts, value));
            for (size_t k = 0; name.len == 0 && k < labels[i].n; k++)
                KV_TRY(texts_add(texts, labels[i].labels[k].name));
        }
        kv_arena_release(&arena);
        if (read->budget)
            KV_TRY(ts_budget_check(read->budget));
    }
out:
    texts->refs_bytes = 0;
    kv_arena_release(&arena);
    kv_free(refs);
    return rc;
}

/* ---- from postings ------------------------------------------------------------------------------------- */

struct listing {
    struct ts_index_read *read;
    struct ts_index_scope scope;
    kv_slice label;
    struct texts *texts;
    uint64_t looked, looked_max; /* values asked for; past the bound the series are asked instead */
    bool given_up;
};

/* A text too long for its key is read from the labels of the series that have it. */
static KV_MUST kv_status add_cut(struct listing *l, const struct ts_key *key, kv_slice name)
{
    struct ts_refset set = {0};
    kv_status rc = ts_index_lists_add(l->read, key, &l->scope, &set);
    if (rc == KV_OK) {
        ts_refset_and(&set, l->scope.within);
        rc = add_from_labels(l->read, &set, name, l->texts);
    }
    ts_refset_release(&set);
    return rc;
}

static kv_status list_value(void *ctx, const struct ts_index_value *value)
{
    struct listing *l = ctx;
    bool meet;
    if (++l->looked > l->looked_max) {
        l->given_up = true;
        return KV_END;
    }
    if (value->cut)
        return add_cut(l, value->key, l->label);
    kv_status rc = ts_index_lists_meet(l->read, value->key, &l->scope, &meet);
    return rc == KV_OK && meet ? texts_add(l->texts, value->text) : rc;
}

static kv_status list_name(void *ctx, const struct ts_index_value *name)
{
    struct listing *l = ctx;
    struct ts_key has = *name->key;
    bool meet;
    ts_key_add_text(&has, KV_STR(""));
    if (name->cut)
        return add_cut(l, &has, KV_STR(""));
    kv_status rc = ts_index_lists_meet(l->read, &has, &l->scope, &meet);
    return rc == KV_OK && meet ? texts_add(l->texts, name->text) : rc;
}

struct metric_listing {
    uint32_t *present; /* sorted, each once */
    size_t n;
    struct texts *texts;
};

static kv_status metric_present(void *ctx, uint32_t metric, uint16_t batch, const uint16_t *members, size_t n)
{
    struct metric_listing *l = ctx;
    (void)batch, (void)members, (void)n;
    if (l->n == 0 || l->present[l->n - 1] != metric)
        l->present[l->n++] = metric;
    return KV_OK;
}

static int u32_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static kv_status list_metric(void *ctx, kv_slice name, uint32_t metric, uint32_t next)
{
    struct metric_listing *l = ctx;
    (void)next;
    return l->n > 0 && bsearch(&metric, l->present, l->n, sizeof *l->present, u32_order)
               ? texts_add(l->texts, name)
               : KV_OK;
}

static KV_MUST kv_status add_metric_names(struct ts_index_read *read, const struct ts_refset *set,
                                          struct texts *texts)
{
    struct metric_listing l = {.texts = texts};
    l.present = kv_alloc((set->n + 1) * sizeof *l.present);
    kv_status rc = l.present ? ts_refset_each(set, metric_present, &l) : KV_NO_MEMORY;
    if (rc == KV_OK && l.n > 0)
        rc = ts_index_walk_metrics(read, KV_STR(""), list_metric, &l);
    kv_free(l.present);
    return rc;
}

/* ---- public -------------------------------------------------------------------------------------------- */

static KV_MUST kv_status add_listing(struct ts_index_read *read, const struct ts_refset *set, kv_slice label,
                                     struct texts *texts)
{
    enum { VALUE_COST = 8 }; /* of asking whether a value has one of the series, in labels of a series read */
    uint64_t n = ts_refset_count(set);
    struct listing l = {read, ts_index_scope_of(set), label, texts,
                        .looked_max = n / VALUE_COST + TS_INDEX_DIRECT_MAX};
    kv_status rc;
    if (n <= TS_INDEX_DIRECT_MAX)
        return add_from_labels(read, set, label, texts);
    if (kv_slice_equal(label, TS_METRIC_NAME))
        return add_metric_names(read, set, texts);
    if (label.len > 0) { /* under churn most of a label's values are of other days */
        rc = ts_index_walk_values(read, label, KV_STR(""), list_value, &l);
        return rc == KV_OK && l.given_up ? add_from_labels(read, set, label, texts) : rc;
    }
    rc = texts_add(texts, TS_METRIC_NAME);
    return rc < 0 ? rc : ts_index_walk_names(read, list_name, &l);
}

static KV_MUST kv_status list(struct ts_registry *registry, const struct ts_select *select, kv_slice label,
                              kv_status (*each)(void *ctx, kv_slice text), void *ctx, struct kv_err *err)
{
    struct ts_index_read read = {0};
    struct ts_refset set = {0};
    struct texts texts = {0};
    kv_status rc;
    KV_TRY(ts_index_read_open(registry, select->snapshot, select->budget, err, &read));
    KV_TRY(ts_index_select_set(&read, select, &set));
    texts.budget = select->budget;
    if (ts_refset_count(&set) > 0)
        KV_TRY(add_listing(&read, &set, label, &texts));
    rc = texts_each(&texts, each, ctx);
out:
    texts_release(&texts);
    ts_refset_release(&set);
    ts_index_read_close(&read);
    return rc;
}

kv_status ts_index_label_names(struct ts_registry *registry, const struct ts_select *select,
                               kv_status (*each)(void *ctx, kv_slice name), void *ctx, struct kv_err *err)
{
    return list(registry, select, KV_STR(""), each, ctx, err);
}

kv_status ts_index_label_values(struct ts_registry *registry, const struct ts_select *select, kv_slice name,
                                kv_status (*each)(void *ctx, kv_slice value), void *ctx, struct kv_err *err)
{
    return name.len > 0 ? list(registry, select, name, each, ctx, err) : KV_OK;
}

kv_status ts_index_metrics(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                           kv_status (*each)(void *ctx, kv_slice name, uint32_t metric, uint32_t n_series),
                           void *ctx, struct kv_err *err)
{
    struct ts_index_read read = {0};
    kv_status rc = ts_index_read_open(registry, snapshot, NULL, err, &read);
    if (rc == KV_OK)
        rc = ts_index_walk_metrics(&read, KV_STR(""), each, ctx);
    ts_index_read_close(&read);
    return rc;
}

/* ---- activity ------------------------------------------------------------------------------------------ */

struct put {
    struct kv_db *db;
    struct kv_batch *batch;
    struct kv_buf bytes;
    struct ts_refset merged;
    struct kv_err *err;
};

static kv_status put_encoded(void *ctx, uint32_t metric, uint16_t batch, const uint16_t *members, size_t n)
{
    struct put *p = ctx;
    (void)metric, (void)batch;
    kv_buf_clear(&p->bytes);
    return ts_postings_encode(members, n, &p->bytes);
}

/* What is stored, if anything, and the members: only when that is more than is stored already. */
static kv_status put_one(void *ctx, int32_t window, uint32_t metric, uint16_t batch, const uint16_t *members,
                         size_t n)
{
    struct put *p = ctx;
    struct kv_pinned stored = {0};
    struct ts_activity_key at = {window, metric, batch};
    struct ts_key key;
    bool added, any = false;
    kv_status rc;
    ts_key_activity(&key, &at);
    ts_refset_release(&p->merged);
    KV_TRY(kv_get(p->db, NULL, TS_SPACE_INDEX, ts_key_slice(&key), &stored, p->err));
    if (rc == KV_OK)
        rc = ts_refset_add_encoded(&p->merged, metric, batch, stored.value);
    if (rc == KV_CORRUPT)
        rc = kv_fail(p->err, rc, 0, "the index has a damaged activity list");
    if (rc < 0)
        goto out;
    for (size_t i = 0; i < n; i++) {
        KV_TRY(ts_refset_add(&p->merged, ts_ref_of(metric, (uint32_t)batch << 16 | members[i]), &added));
        any = any || added;
    }
    rc = KV_OK;
    if (any)
        KV_TRY(ts_refset_each(&p->merged, put_encoded, p));
    if (any)
        rc = kv_batch_put(p->batch, TS_SPACE_INDEX, ts_key_slice(&key), kv_buf_slice(&p->bytes));
out:
    kv_pinned_release(&stored);
    return rc;
}

kv_status ts_index_put_activity(struct ts_registry *registry, const struct ts_activity *activity,
                                struct kv_batch *batch, struct kv_err *err)
{
    struct put p = {.db = ts_registry_db(registry), .batch = batch, .err = err};
    kv_status rc = ts_activity_each(activity, put_one, &p);
    if (rc == KV_NO_MEMORY)
        rc = kv_fail(err, rc, 0, "out of memory writing which series are active");
    ts_refset_release(&p.merged);
    kv_buf_release(&p.bytes);
    return rc;
}

struct cut {
    struct put put;
    int32_t window;
    const struct ts_refset *gone;
};

/* One stored list without what is gone from it. */
static kv_status cut_one(void *ctx, uint32_t metric, uint16_t batch, const uint16_t *members, size_t n)
{
    struct cut *c = ctx;
    struct kv_pinned stored = {0};
    struct ts_activity_key at = {c->window, metric, batch};
    struct ts_key key;
    kv_status rc;
    (void)members, (void)n;
    ts_key_activity(&key, &at);
    ts_refset_release(&c->put.merged);
    KV_TRY(kv_get(c->put.db, NULL, TS_SPACE_INDEX, ts_key_slice(&key), &stored, c->put.err));
    if (rc == KV_NOT_FOUND)
        return KV_OK;
    rc = ts_refset_add_encoded(&c->put.merged, metric, batch, stored.value);
    if (rc == KV_CORRUPT)
        rc = kv_fail(c->put.err, rc, 0, "the index has a damaged activity list");
    if (rc < 0)
        goto out;
    ts_refset_andnot(&c->put.merged, c->gone);
    if (ts_refset_count(&c->put.merged) == 0) {
        rc = kv_batch_delete(c->put.batch, TS_SPACE_INDEX, ts_key_slice(&key));
        goto out;
    }
    KV_TRY(ts_refset_each(&c->put.merged, put_encoded, &c->put));
    rc = kv_batch_put(c->put.batch, TS_SPACE_INDEX, ts_key_slice(&key), kv_buf_slice(&c->put.bytes));
out:
    kv_pinned_release(&stored);
    return rc;
}

kv_status ts_index_cut_activity(struct ts_registry *registry, int32_t window, const struct ts_refset *gone,
                                struct kv_batch *batch, struct kv_err *err)
{
    struct cut c = {
        .put = {.db = ts_registry_db(registry), .batch = batch, .err = err}, .window = window, .gone = gone};
    kv_status rc = ts_refset_each(gone, cut_one, &c);
    ts_refset_release(&c.put.merged);
    kv_buf_release(&c.put.bytes);
    return rc;
}

kv_status ts_index_active_window(struct ts_registry *registry, int32_t from, int32_t *window,
                                 struct kv_err *err)
{
    struct ts_index_read read = {0};
    struct ts_activity_key at;
    struct ts_key kind, key;
    kv_status rc;
    KV_TRY(ts_index_read_open(registry, NULL, NULL, err, &read));
    ts_key_kind(&kind, 'a');
    ts_key_activity_window(&key, from);
    rc = kv_iter_seek(read.index, ts_key_slice(&key));
    if (rc == KV_OK && !kv_slice_has_prefix(read.index->key, ts_key_slice(&kind)))
        rc = KV_END;
    else if (rc == KV_OK && ts_key_activity_read(read.index->key, &at) < 0)
        rc = ts_index_corrupt(&read, "activity key");
    else if (rc == KV_OK)
        *window = at.window;
out:
    ts_index_read_close(&read);
    return rc;
}

kv_status ts_index_drop_activity(struct ts_registry *registry, int32_t from, int32_t to,
                                 struct kv_batch *batch, size_t *n, struct kv_err *err)
{
    struct ts_index_read read = {0};
    struct ts_activity_key at;
    struct ts_key kind, key;
    size_t dropped = 0;
    kv_status rc;
    KV_TRY(ts_index_read_open(registry, NULL, NULL, err, &read));
    ts_key_kind(&kind, 'a');
    ts_key_activity_window(&key, from);
    rc = kv_iter_seek(read.index, ts_key_slice(&key));
    while (rc == KV_OK && kv_slice_has_prefix(read.index->key, ts_key_slice(&kind))) {
        if (ts_key_activity_read(read.index->key, &at) < 0) {
            rc = ts_index_corrupt(&read, "activity key");
            goto out;
        }
        if (at.window > to)
            break;
        KV_TRY(kv_batch_delete(batch, TS_SPACE_INDEX, read.index->key));
        dropped++;
        rc = kv_iter_next(read.index);
    }
    rc = rc == KV_END ? KV_OK : rc;
    if (n)
        *n = dropped;
out:
    ts_index_read_close(&read);
    return rc;
}
