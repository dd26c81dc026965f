#include "kvcore/txn/validate.h"
#include "kvcore/sst/block.h"

#include <inttypes.h>

enum { WALK_MIN = 64 }; /* newer entries of a memtable looked at before each key is asked for instead */

struct check {
    struct kv_db *db;
    const struct kv_read_set *reads;
    uint64_t since;
    uint32_t space, id; /* as declared; as stored */
    struct kv_err *err;
};

static kv_status conflict(struct kv_err *err, uint32_t space, kv_slice key, uint64_t version)
{
    int shown = key.len > 100 ? 100 : (int)key.len;
    return kv_fail(err, KV_CONFLICT, 0,
                   "commit %" PRIu64 " changed what this transaction read in space %" PRIu32 ": key %.*s",
                   version, space, shown, (const char *)key.data);
}

static kv_status conflict_range(const struct check *check)
{
    return kv_fail(check->err, KV_CONFLICT, 0,
                   "a range deletion covers what this transaction read in space %" PRIu32, check->space);
}

/* ---- memtables */

static kv_status memtable_ranges(const struct check *check, struct kv_memtable *memtable)
{
    const struct kv_read_set *reads = check->reads;
    if (kv_memtable_range_count(memtable, check->id) == 0)
        return KV_OK;
    for (size_t i = 0; i < reads->n_slots; i++)
        if (reads->slots[i].key.data && reads->slots[i].space == check->space &&
            kv_memtable_range_newest(memtable, check->id, reads->slots[i].key, KV_VERSION_MAX) > check->since)
            return conflict_range(check);
    for (size_t i = 0; i < reads->n_ranges; i++)
        if (reads->ranges[i].space == check->space &&
            kv_memtable_ranges_touch(memtable, check->id, reads->ranges[i].lower, reads->ranges[i].upper,
                                     check->since))
            return conflict_range(check);
    return KV_OK;
}

static kv_status memtable_keys(const struct check *check, struct kv_memtable *memtable)
{
    for (size_t i = 0; i < check->reads->n_slots; i++) {
        const struct kv_read_key *read = &check->reads->slots[i];
        struct kv_found found;
        if (read->key.data && read->space == check->space &&
            kv_memtable_get(memtable, check->id, read->key, KV_VERSION_MAX, &found) == KV_OK &&
            found.version > check->since)
            return conflict(check->err, check->space, read->key, found.version);
    }
    return KV_OK;
}

/* What is newer is looked at one by one, newest first; with keys alone to look for, only while that is less work
 * than to ask for each of them. */
static kv_status memtable_check(const struct check *check, struct kv_memtable *memtable)
{
    const struct kv_read_set *reads = check->reads;
    const struct kv_skipnode *at = NULL;
    struct kv_entry entry;
    size_t budget = reads->n_ranges ? SIZE_MAX : WALK_MIN + 2 * reads->n_keys;
    if (kv_memtable_version_newest(memtable) <= check->since)
        return KV_OK;
    kv_status rc = memtable_ranges(check, memtable);
    if (rc < 0)
        return rc;
    while (kv_memtable_newer(memtable, check->id, check->since, &at, &entry) == KV_OK) {
        if (kv_read_set_has_key(reads, check->space, entry.key))
            return conflict(check->err, check->space, entry.key, entry.version);
        if (--budget == 0)
            return memtable_keys(check, memtable);
    }
    return KV_OK;
}

/* ---- tables */

static kv_status table_key(const struct check *check, const struct kv_tree_item *item, kv_slice key)
{
    struct kv_found found;
    if (kv_slice_compare(key, item->properties->smallest) < 0 ||
        kv_slice_compare(key, item->properties->largest) > 0)
        return KV_OK;
    kv_status rc = kv_table_get(item->table, key, KV_VERSION_MAX, &found, check->err);
    if (rc != KV_OK)
        return rc < 0 ? rc : KV_OK;
    kv_block_unref(found.block);
    return found.version > check->since ? conflict(check->err, check->space, key, found.version) : KV_OK;
}

static kv_status table_range(const struct check *check, const struct kv_tree_item *item,
                             const struct kv_read_range *range)
{
    struct kv_table_iter_options how = {.lower = range->lower, .upper = range->upper, .err = check->err};
    struct kv_entry_iter *it = NULL;
    if (kv_slice_compare(range->lower, item->properties->largest) > 0 ||
        (range->upper.len && kv_slice_compare(range->upper, item->properties->smallest) <= 0))
        return KV_OK;
    kv_status rc = kv_table_iter_open(item->table, &how, &it);
    if (rc < 0)
        return rc;
    for (rc = kv_entry_iter_seek(it, range->lower, KV_VERSION_MAX); rc == KV_OK; rc = kv_entry_iter_next(it))
        if (it->version > check->since) {
            rc = conflict(check->err, check->space, it->key, it->version);
            break;
        }
    kv_entry_iter_close(it);
    return rc == KV_END ? KV_OK : rc;
}

static kv_status table_check(const struct check *check, const struct kv_tree_item *item)
{
    const struct kv_read_set *reads = check->reads;
    kv_status rc = KV_OK;
    for (size_t i = 0; i < reads->n_slots && rc == KV_OK; i++)
        if (reads->slots[i].key.data && reads->slots[i].space == check->space)
            rc = table_key(check, item, reads->slots[i].key);
    for (size_t i = 0; i < reads->n_ranges && rc == KV_OK; i++)
        if (reads->ranges[i].space == check->space)
            rc = table_range(check, item, &reads->ranges[i]);
    return rc;
}

static kv_status tree_ranges(const struct check *check, const struct kv_ranges *ranges)
{
    const struct kv_read_set *reads = check->reads;
    if (kv_ranges_version_max(ranges) <= check->since)
        return KV_OK;
    for (size_t i = 0; i < reads->n_slots; i++)
        if (reads->slots[i].key.data && reads->slots[i].space == check->space &&
            kv_ranges_newest(ranges, reads->slots[i].key, KV_VERSION_MAX) > check->since)
            return conflict_range(check);
    for (size_t i = 0; i < reads->n_ranges; i++)
        if (reads->ranges[i].space == check->space &&
            kv_ranges_touch(ranges, reads->ranges[i].lower, reads->ranges[i].upper, check->since))
            return conflict_range(check);
    return KV_OK;
}

static kv_status tree_check(const struct check *check, const struct kv_tree *tree)
{
    kv_status rc = tree_ranges(check, tree->ranges);
    if (rc < 0)
        return rc;
    if (tree->version_max <= check->since)
        return KV_OK;
    for (size_t i = 0; i < tree->n_items && rc == KV_OK; i++)
        if (tree->items[i].properties->version_max > check->since)
            rc = table_check(check, &tree->items[i]);
    return rc;
}

/* ---- range deletions */

static kv_status ranges_check(const struct check *check, const struct kv_view *view)
{
    const struct kv_read_set *reads = check->reads;
    const struct kv_ranges *tree = view->version->trees[check->id].ranges;
    for (size_t i = 0; i < reads->n_ranges; i++) {
        const struct kv_read_range *range = &reads->ranges[i];
        bool touched =
            range->space == check->space && kv_ranges_touch(tree, range->lower, range->upper, check->since);
        for (size_t m = 0; m < view->n_mem && range->space == check->space && !touched; m++)
            touched =
                kv_memtable_ranges_touch(view->mem[m], check->id, range->lower, range->upper, check->since);
        if (touched)
            return conflict(check->err, check->space, range->lower, kv_db_visible(check->db));
    }
    for (size_t i = 0; i < reads->n_slots; i++) {
        const struct kv_read_key *read = &reads->slots[i];
        uint64_t version = read->key.data && read->space == check->space
                               ? kv_view_range_newest(view, check->id, read->key, UINT64_MAX)
                               : 0;
        if (version > check->since)
            return conflict(check->err, check->space, read->key, version);
    }
    return KV_OK;
}

kv_status kv_validate_view(struct kv_db *db, struct kv_view *view, const struct kv_read_set *reads,
                           uint64_t since, struct kv_err *err)
{
    kv_status rc = KV_OK;
    for (uint32_t space = 0; space < db->n_declared && rc == KV_OK; space++) {
        struct check check = {db, reads, since, space, db->ids[space], err};
        if (!(reads->spaces & (1u << space)))
            continue;
        for (size_t i = 0; i < view->n_mem && rc == KV_OK; i++)
            rc = memtable_check(&check, view->mem[i]);
        if (rc == KV_OK)
            rc = tree_check(&check, &view->version->trees[check.id]);
        if (rc == KV_OK && kv_view_has_ranges(view, check.id))
            rc = ranges_check(&check, view);
    }
    return rc;
}

/* ---- what has a version and is not published */

static bool entry_touches(const struct kv_read_set *reads, const struct kv_batch_entry *entry)
{
    if (!(reads->spaces & (1u << entry->space)))
        return false;
    return entry->kind == KV_KIND_RANGE ? kv_read_set_touches(reads, entry->space, entry->key, entry->value)
                                        : kv_read_set_has_key(reads, entry->space, entry->key);
}

kv_status kv_validate_pending(const struct kv_read_set *reads, const struct kv_pending *pending,
                              struct kv_err *err)
{
    struct kv_batch_entry entry;
    kv_slice rest = pending->batch;
    if (pending->installs && !pending->span)
        return kv_fail(err, KV_CONFLICT, 0,
                       "a change of unknown extent is being installed as commit %" PRIu64, pending->seq);
    if (pending->installs &&
        (kv_read_set_has_key(reads, pending->span->space, pending->span->last) ||
         kv_read_set_touches(reads, pending->span->space, pending->span->first, pending->span->last)))
        return conflict(err, pending->span->space, pending->span->first, pending->seq);
    kv_status rc;
    while ((rc = kv_batch_next(&rest, &entry)) == KV_OK)
        if (entry_touches(reads, &entry))
            return conflict(err, entry.space, entry.key, pending->seq);
    return rc == KV_END ? KV_OK : rc;
}
