/* Series that nothing refers to, and those that have left while lists may still name them. */
#include "tsdb/index_internal.h"

static kv_status left_add(struct ts_index_read *read, struct ts_refset *set)
{
    struct kv_iter *it = read->index;
    struct ts_key kind;
    uint32_t metric;
    uint16_t batch;
    ts_key_kind(&kind, 'g');
    read->moved = true;
    kv_status rc = kv_iter_seek(it, ts_key_slice(&kind));
    while (rc == KV_OK && kv_slice_has_prefix(it->key, ts_key_slice(&kind))) {
        rc = ts_key_left_read(it->key, &metric, &batch);
        if (rc == KV_OK)
            rc = ts_refset_add_encoded(set, metric, batch, it->value);
        if (rc == KV_CORRUPT)
            return ts_index_corrupt(read, "list of series that have left");
        if (rc == KV_OK)
            rc = kv_iter_next(it);
    }
    return rc == KV_END ? KV_OK : rc;
}

kv_status ts_index_without_left(struct ts_index_read *read, struct ts_refset *set)
{
    struct ts_refset left = {0};
    kv_status rc = left_add(read, &left);
    if (rc == KV_OK)
        ts_refset_andnot(set, &left);
    ts_refset_release(&left);
    return rc;
}

kv_status ts_index_left(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                        struct ts_refset *set, struct kv_err *err)
{
    struct ts_index_read read = {0};
    kv_status rc = ts_index_read_open(registry, snapshot, NULL, err, &read);
    if (rc == KV_OK)
        rc = left_add(&read, set);
    ts_index_read_close(&read);
    return rc;
}

static kv_status activity_add(struct ts_index_read *read, struct ts_refset *set)
{
    struct kv_iter *it = read->index;
    struct ts_activity_key at;
    struct ts_key kind;
    ts_key_kind(&kind, 'a');
    read->moved = true;
    kv_status rc = kv_iter_seek(it, ts_key_slice(&kind));
    while (rc == KV_OK && kv_slice_has_prefix(it->key, ts_key_slice(&kind))) {
        rc = ts_key_activity_read(it->key, &at);
        if (rc == KV_OK)
            rc = ts_refset_add_encoded(set, at.metric, at.batch, it->value);
        if (rc == KV_CORRUPT)
            return ts_index_corrupt(read, "activity list");
        if (rc == KV_OK)
            rc = kv_iter_next(it);
    }
    return rc == KV_END ? KV_OK : rc;
}

kv_status ts_index_unused(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                          const struct ts_activity *const *heads, size_t n_heads, struct ts_refset *set,
                          struct kv_err *err)
{
    const struct ts_index_scope every = {0, UINT32_MAX, NULL};
    struct ts_index_read read = {0};
    struct ts_refset used = {0};
    struct ts_key key;
    bool unknown = false;
    kv_status rc;
    ts_key_postings_value(&key, KV_STR(""), KV_STR(""));
    KV_TRY(ts_index_read_open(registry, snapshot, NULL, err, &read));
    for (size_t h = 0; h < n_heads; h++)
        KV_TRY(ts_activity_collect(heads[h], INT32_MIN, INT32_MAX, 0, &used, &unknown));
    if (unknown)
        goto out; /* memory ran out while it was written down: any may be in use */
    KV_TRY(activity_add(&read, &used));
    KV_TRY(left_add(&read, &used));
    KV_TRY(ts_index_lists_add(&read, &key, &every, set));
    ts_refset_andnot(set, &used);
out:
    ts_refset_release(&used);
    ts_index_read_close(&read);
    return rc;
}

struct put_left {
    struct ts_index_read *read;
    struct kv_batch *batch;
    struct ts_refset all;
    struct kv_buf bytes;
};

static kv_status encode_one(void *ctx, uint32_t metric, uint16_t batch, const uint16_t *members, size_t n)
{
    struct put_left *p = ctx;
    (void)metric, (void)batch;
    kv_buf_clear(&p->bytes);
    return ts_postings_encode(members, n, &p->bytes);
}

static kv_status put_one(void *ctx, uint32_t metric, uint16_t batch, const uint16_t *members, size_t n)
{
    struct put_left *p = ctx;
    struct kv_pinned stored = {0};
    struct ts_key key;
    kv_status rc;
    ts_key_left(&key, metric, batch);
    ts_refset_release(&p->all);
    KV_TRY(kv_get(p->read->db, NULL, TS_SPACE_INDEX, ts_key_slice(&key), &stored, p->read->err));
    if (rc == KV_OK)
        KV_TRY(ts_refset_add_encoded(&p->all, metric, batch, stored.value));
    KV_TRY(ts_refset_add_members(&p->all, metric, batch, members, n));
    KV_TRY(ts_refset_each(&p->all, encode_one, p));
    rc = kv_batch_put(p->batch, TS_SPACE_INDEX, ts_key_slice(&key), kv_buf_slice(&p->bytes));
out:
    kv_pinned_release(&stored);
    return rc == KV_CORRUPT ? ts_index_corrupt(p->read, "list of series that have left") : rc;
}

kv_status ts_index_put_left(struct ts_registry *registry, const struct ts_refset *gone,
                            struct kv_batch *batch, struct kv_err *err)
{
    struct ts_index_read read = {.registry = registry, .db = ts_registry_db(registry), .err = err};
    struct put_left p = {.read = &read, .batch = batch};
    kv_status rc = ts_refset_each(gone, put_one, &p);
    ts_refset_release(&p.all);
    kv_buf_release(&p.bytes);
    return rc;
}
