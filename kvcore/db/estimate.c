/* What a range holds: about, without reading it, and exactly, by reading its keys. */
#include "kvcore/db/db.h"

static kv_status estimate_tables(struct kv_view *view, uint32_t space, kv_slice lower, kv_slice upper,
                                 struct kv_range_estimate *out, struct kv_err *err)
{
    const struct kv_tree *tree = &view->version->trees[space];
    kv_status rc = KV_OK;
    for (size_t i = 0; rc == KV_OK && i < tree->n_items; i++) {
        const struct kv_table_properties *p = tree->items[i].properties;
        uint64_t entries, bytes;
        if (kv_ranges_newest_over(tree->ranges, p->smallest, p->largest, KV_VERSION_MAX) > p->version_max)
            continue; /* deleted as a whole */
        rc = kv_table_estimate(tree->items[i].table, lower, upper, &entries, &bytes, err);
        if (rc == KV_OK && entries > 0) {
            out->tables++;
            out->entries += entries;
            out->bytes += bytes;
        }
    }
    return rc;
}

static void estimate_memtable(struct kv_memtable *memtable, uint32_t space, kv_slice lower, kv_slice upper,
                              struct kv_range_estimate *out)
{
    uint64_t all = kv_memtable_entries_all(memtable);
    uint64_t here = kv_memtable_estimate(memtable, space, lower, upper);
    if (here == 0)
        return;
    double share = all > here ? (double)here / (double)all : 1;
    out->entries += here;
    out->bytes += (uint64_t)(share * (double)kv_memtable_bytes(memtable));
}

kv_status kv_estimate(struct kv_db *db, uint32_t space, kv_slice lower, kv_slice upper,
                      struct kv_range_estimate *out, struct kv_err *err)
{
    uint64_t visible;
    *out = (struct kv_range_estimate){0};
    if (!kv_space_known(db, space))
        return kv_fail(err, KV_INVALID, 0, "space %u does not exist", space);
    struct kv_view *view = kv_view_pin(db, &visible);
    kv_status rc = estimate_tables(view, db->ids[space], lower, upper, out, err);
    for (size_t i = 0; i < view->n_mem; i++)
        estimate_memtable(view->mem[i], db->ids[space], lower, upper, out);
    kv_view_unref(view);
    return rc;
}

kv_status kv_count(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space, kv_slice lower,
                   kv_slice upper, uint64_t *count, struct kv_err *err)
{
    struct kv_iter *it = NULL;
    struct kv_iter_options options = {
        .snapshot = snapshot, .lower = lower, .upper = upper, .keys_only = true, .no_fill = true};
    *count = 0;
    kv_status rc = kv_iter_open_with(db, space, &options, &it);
    if (rc == KV_OK)
        rc = kv_iter_seek(it, (kv_slice){0});
    for (; rc == KV_OK; rc = kv_iter_next(it))
        *count += 1;
    kv_iter_close(it);
    if (rc == KV_CORRUPT && kv_db_aside_in(db, db->ids[space], lower, upper, err) < 0)
        return rc;
    return rc == KV_END ? KV_OK
                        : kv_fail(err, rc, 0, "counting keys of space %u: %s", space, kv_status_text(rc));
}
