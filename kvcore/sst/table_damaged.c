/*
 * A handle in the place of a table that could not be opened, and the walk over it: it shows nothing, and fails where a
 * key of the table would come. So a scan is answered in front of the damage and behind it, and never across it.
 */
#include "kvcore/base/list.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/table_private.h"

static kv_status damaged_fill(struct kv_table *table, const struct kv_table_open_options *options,
                              const struct kv_table_properties *known, const char *why)
{
    struct kv_table_properties *p = &table->properties;
    size_t small = known->smallest.len, large = known->largest.len;
    table->name = kv_dup_str(options->name);
    table->damage = kv_dup_str(why);
    table->known_keys = kv_alloc(small + large);
    if (!table->name || !table->damage || !table->known_keys)
        return KV_NO_MEMORY;
    *p = *known;
    memcpy(table->known_keys, known->smallest.data, small);
    memcpy(table->known_keys + small, known->largest.data, large);
    p->smallest = kv_slice_of(table->known_keys, small);
    p->largest = kv_slice_of(table->known_keys + small, large);
    p->cut = p->space_name = p->value_refs = (kv_slice){0};
    p->rich = p->entries - p->deletes; /* what is not known to be a plain put is none */
    p->ranges_applied = 0;
    return KV_OK;
}

kv_status kv_table_open_damaged(const struct kv_table_open_options *options,
                                const struct kv_table_properties *known, const char *why,
                                struct kv_table **out, struct kv_err *err)
{
    struct kv_table *table = kv_zalloc(1, sizeof *table);
    if (!table)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory to stand in for table %s", options->name);
    atomic_init(&table->refs, 1);
    table->cache = options->cache;
    table->log = options->log;
    table->id = kv_cache_new_id(options->cache);
    kv_status rc = damaged_fill(table, options, known, why);
    if (rc < 0) {
        kv_table_unref(table);
        return kv_fail(err, rc, 0, "no memory to stand in for table %s", options->name);
    }
    table->gone = options->gone;
    table->gone_ctx = options->gone_ctx;
    table->number = options->number;
    *out = table;
    return KV_OK;
}

const char *kv_table_damage(const struct kv_table *table)
{
    return table->damage;
}

kv_status kv_table_refuse(const struct kv_table *table, struct kv_err *err)
{
    kv_logf(table->log, KV_LOG_ERROR, "table_refused", "file=%s what=%s", table->name,
            KV_LOGQ(table->damage));
    return kv_fail(err, KV_CORRUPT, 0, "%s", table->damage);
}

/* ---- the walk */

struct damaged_iter {
    struct kv_entry_iter it;
    struct kv_table *table;
    struct kv_buf lower, upper;
};

/* Stands in front of the table's first key, or behind its last: an entry that nobody can see (too new forward, of
 * version 0 backward, where the newest of a key is looked for first), and every step from it fails. */
static kv_status damaged_stand(struct damaged_iter *iter, kv_slice key, uint64_t version)
{
    iter->it.key = key;
    iter->it.value = (kv_slice){0};
    iter->it.version = version;
    iter->it.kind = KV_KIND_DELETE;
    return KV_OK;
}

static kv_status damaged_seek(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    struct damaged_iter *iter = KV_CONTAINER(it, struct damaged_iter, it);
    const struct kv_table_properties *p = &iter->table->properties;
    kv_slice lower = kv_buf_slice(&iter->lower), upper = kv_buf_slice(&iter->upper);
    if (kv_slice_compare(key, lower) < 0) {
        key = lower;
        version = KV_VERSION_MAX;
    }
    if (kv_entry_compare(key, version, p->largest, p->version_min) > 0 ||
        (upper.len && kv_slice_compare(p->smallest, upper) >= 0))
        return KV_END;
    if (kv_entry_compare(key, version, p->smallest, p->version_max) <= 0)
        return damaged_stand(iter, p->smallest, KV_VERSION_MAX);
    return kv_table_refuse(iter->table, it->err);
}

static kv_status damaged_seek_before(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    struct damaged_iter *iter = KV_CONTAINER(it, struct damaged_iter, it);
    const struct kv_table_properties *p = &iter->table->properties;
    kv_slice lower = kv_buf_slice(&iter->lower), upper = kv_buf_slice(&iter->upper);
    if (upper.len && (key.len == 0 || kv_slice_compare(key, upper) > 0)) {
        key = upper;
        version = KV_VERSION_MAX;
    }
    if ((key.len && kv_entry_compare(key, version, p->smallest, p->version_max) <= 0) ||
        kv_slice_compare(p->largest, lower) < 0)
        return KV_END;
    if (key.len == 0 || kv_entry_compare(key, version, p->largest, p->version_min) > 0)
        return damaged_stand(iter, p->largest, 0);
    return kv_table_refuse(iter->table, it->err);
}

static kv_status damaged_step(struct kv_entry_iter *it)
{
    return kv_table_refuse(KV_CONTAINER(it, struct damaged_iter, it)->table, it->err);
}

static void damaged_close(struct kv_entry_iter *it)
{
    struct damaged_iter *iter = KV_CONTAINER(it, struct damaged_iter, it);
    kv_table_unref(iter->table);
    kv_buf_release(&iter->lower);
    kv_buf_release(&iter->upper);
    kv_free(iter);
}

kv_status kv_table_damaged_iter_open(struct kv_table *table, const struct kv_table_iter_options *options,
                                     struct kv_entry_iter **out)
{
    static const struct kv_entry_iter_ops ops = {damaged_seek, damaged_step, damaged_seek_before,
                                                 damaged_step, damaged_close};
    struct damaged_iter *iter = kv_zalloc(1, sizeof *iter);
    if (!iter)
        return kv_fail(options->err, KV_NO_MEMORY, 0, "no memory to walk table %s", table->name);
    iter->it.ops = &ops;
    iter->it.version_max = KV_VERSION_MAX;
    iter->it.err = options->err;
    iter->table = kv_table_ref(table);
    kv_status rc = kv_buf_append(&iter->lower, options->lower);
    if (rc == KV_OK)
        rc = kv_buf_append(&iter->upper, options->upper);
    if (rc < 0) {
        damaged_close(&iter->it);
        return kv_fail(options->err, rc, 0, "no memory to walk table %s", table->name);
    }
    *out = &iter->it;
    return KV_OK;
}
