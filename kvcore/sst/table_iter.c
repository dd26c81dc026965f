/*
 * A walk over a table: one place in the top index, one in the partition below it (the same block when the
 * index has one level), and one data block, whose entries the caller takes inline through kv_entry_iter.run.
 * A block's bounds are settled once, when it is entered: run.left counts only entries below the upper bound.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/list.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/table_private.h"

enum { TABLE_ITER_KEY_ROOM = 128 };

struct table_iter {
    struct kv_entry_iter it;
    struct kv_table *table;
    unsigned blocks;   /* KV_BLOCK_FILL, KV_BLOCK_COUNT */
    bool last;         /* no entry below the upper bound lies behind the current block */
    kv_status at_last; /* what next answers then: KV_END, or the failure that ended the walk */
    kv_slice lower, upper;
    struct kv_block *partition; /* NULL with one level */
    struct kv_block *data;
    uint32_t top_at, partition_at; /* of the current block; with one level partition_at is a place in top */
    uint32_t key_room; /* of it.run.key_buf: `keys`, or a piece of memory when a block has longer ones */
    uint8_t keys[TABLE_ITER_KEY_ROOM];
};

static const struct kv_block *iter_index(const struct table_iter *iter)
{
    return iter->table->levels == 2 ? iter->partition : iter->table->top;
}

/* Takes the first entry at or after `from`; KV_END when the block has none below the upper bound. */
static kv_status iter_enter(struct table_iter *iter, uint32_t from, uint32_t end)
{
    iter->it.run.left = 0;
    if (from >= end)
        return KV_END;
    kv_block_run(iter->data, from, &iter->it.run);
    if (iter->table->version)
        iter->it.run.base_version = iter->table->version;
    iter->it.run.left = end - from - 1;
    kv_run_take(&iter->it);
    return KV_OK;
}

/* For a key of a block that is about to be entered. */
static kv_status iter_make_room(struct table_iter *iter, uint32_t len)
{
    if (KV_LIKELY(len <= iter->key_room))
        return KV_OK;
    uint8_t *room = kv_alloc(len);
    if (!room)
        return kv_fail(iter->it.err, KV_NO_MEMORY, 0, "no memory to walk table %s", iter->table->name);
    if (iter->it.run.key_buf != iter->keys)
        kv_free(iter->it.run.key_buf);
    iter->it.run.key_buf = room;
    iter->key_room = len;
    return KV_OK;
}

/* Reads the data block at partition_at. *end: how many of its entries lie below the upper bound. */
static kv_status iter_load(struct table_iter *iter, uint32_t *end)
{
    uint8_t key_buf[KV_KEY_LEN_MAX];
    struct kv_entry separator;
    struct kv_block_handle handle;
    kv_slice upper = iter->upper;
    kv_block_unref(iter->data);
    iter->data = NULL;
    kv_status rc = kv_table_handle(iter->table, iter_index(iter), iter->partition_at, &separator, key_buf,
                                   &handle, iter->it.err);
    if (rc < 0)
        return rc;
    rc = kv_table_block(iter->table, handle, iter->blocks, &iter->data, iter->it.err);
    if (rc < 0)
        return rc;
    rc = iter_make_room(iter, iter->data->key_len_max);
    if (rc < 0)
        return rc;
    *end = iter->data->n;
    iter->last = false;
    /* An entry behind this block is behind the separator: if that has reached the upper bound, nothing is
     * left there. */
    if (upper.len && kv_slice_compare(separator.key, upper) >= 0) {
        *end = kv_block_seek(iter->data, upper, KV_VERSION_MAX);
        iter->last = true;
    }
    return KV_OK;
}

static kv_status iter_load_partition(struct table_iter *iter)
{
    uint8_t key_buf[KV_KEY_LEN_MAX];
    struct kv_entry separator;
    struct kv_block_handle handle;
    kv_block_unref(iter->partition);
    iter->partition = NULL;
    kv_status rc = kv_table_handle(iter->table, iter->table->top, iter->top_at, &separator, key_buf, &handle,
                                   iter->it.err);
    if (rc == KV_OK)
        rc =
            kv_table_block(iter->table, handle, iter->blocks | KV_BLOCK_FILL, &iter->partition, iter->it.err);
    if (rc == KV_OK && iter->partition->n == 0)
        rc = kv_table_damaged(iter->table, KV_CORRUPT, handle.offset, "an index partition without entries",
                              iter->it.err);
    return rc;
}

/* To the block behind the current one: KV_END when there is none. */
static kv_status iter_step_block(struct table_iter *iter)
{
    if (++iter->partition_at < iter_index(iter)->n)
        return KV_OK;
    if (iter->table->levels == 1 || ++iter->top_at >= iter->table->top->n)
        return KV_END;
    iter->partition_at = 0;
    return iter_load_partition(iter);
}

static kv_status iter_next(struct kv_entry_iter *it)
{
    struct table_iter *iter = KV_CONTAINER(it, struct table_iter, it);
    kv_status rc;
    uint32_t end;
    do {
        if (iter->last)
            return iter->at_last;
        rc = iter_step_block(iter);
        if (rc == KV_OK)
            rc = iter_load(iter, &end);
        if (rc != KV_OK) {
            iter->last = true;
            iter->at_last = rc;
            return rc;
        }
        rc = iter_enter(iter, 0, end);
    } while (rc == KV_END);
    return rc;
}

static kv_status iter_seek_index(struct table_iter *iter, kv_slice key, uint64_t version)
{
    if (iter->table->levels == 2) {
        iter->top_at = kv_block_seek(iter->table->top, key, version);
        if (iter->top_at == iter->table->top->n)
            return KV_END;
        kv_status rc = iter_load_partition(iter);
        if (rc < 0)
            return rc;
    }
    iter->partition_at = kv_block_seek(iter_index(iter), key, version);
    return iter->partition_at == iter_index(iter)->n ? KV_END : KV_OK;
}

static kv_status iter_seek_stored(struct table_iter *iter, kv_slice key, uint64_t version)
{
    uint32_t end;
    iter->it.run.left = 0;
    iter->at_last = KV_END;
    kv_status rc = iter_seek_index(iter, key, version);
    if (rc == KV_OK)
        rc = iter_load(iter, &end);
    if (rc != KV_OK) {
        iter->last = true;
        iter->at_last = rc;
        return rc;
    }
    rc = iter_enter(iter, kv_block_seek(iter->data, key, version), end);
    return rc == KV_END ? iter_next(&iter->it) : rc;
}

static kv_status iter_seek(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    struct table_iter *iter = KV_CONTAINER(it, struct table_iter, it);
    kv_slice lower = iter->lower;
    if (kv_slice_compare(key, lower) < 0) {
        key = lower;
        version = KV_VERSION_MAX;
    }
    if (!iter->table->version)
        return iter_seek_stored(iter, key, version);
    /* Every entry is stored with version 0 and counts as the table's: the key is either old enough or passed
     * over whole. */
    bool passed = version < iter->table->version;
    kv_status rc = iter_seek_stored(iter, key, KV_VERSION_MAX);
    if (rc == KV_OK && passed && kv_slice_equal(it->key, key))
        rc = kv_entry_iter_next(it);
    return rc;
}

/* ---- backward */

/* To the block in front of the current one: KV_END when there is none. */
static kv_status iter_step_block_back(struct table_iter *iter)
{
    if (iter->partition_at > 0) {
        iter->partition_at--;
        return KV_OK;
    }
    if (iter->table->levels == 1 || iter->top_at == 0)
        return KV_END;
    iter->top_at--;
    kv_status rc = iter_load_partition(iter);
    if (rc == KV_OK)
        iter->partition_at = iter->partition->n - 1;
    return rc;
}

/* Takes the entry in front of number `at` of the current block, or the last one of the blocks before it. end:
 * how many entries of the block lie below the upper bound. */
static kv_status iter_take_before(struct table_iter *iter, uint32_t at, uint32_t end)
{
    kv_slice lower = iter->lower;
    kv_status rc = KV_OK;
    while (at == 0 && rc == KV_OK) {
        rc = iter_step_block_back(iter);
        if (rc == KV_OK)
            rc = iter_load(iter, &end);
        at = end;
    }
    if (rc == KV_OK)
        rc = iter_enter(iter, at - 1, end);
    if (rc == KV_OK && lower.len && kv_slice_compare(iter->it.key, lower) < 0)
        rc = KV_END;
    if (rc != KV_OK) {
        iter->it.run.left = 0;
        iter->last = true;
        iter->at_last = rc;
    }
    return rc;
}

static kv_status iter_prev(struct kv_entry_iter *it)
{
    struct table_iter *iter = KV_CONTAINER(it, struct table_iter, it);
    return iter_take_before(iter, it->run.index - 1, it->run.index + it->run.left);
}

/* Stands on the last block's end. */
static kv_status iter_seek_end(struct table_iter *iter)
{
    if (iter->table->top->n == 0)
        return KV_END;
    if (iter->table->levels == 2) {
        iter->top_at = iter->table->top->n - 1;
        kv_status rc = iter_load_partition(iter);
        if (rc < 0)
            return rc;
    }
    iter->partition_at = iter_index(iter)->n - 1;
    return KV_OK;
}

static kv_status iter_seek_before_stored(struct table_iter *iter, kv_slice key, uint64_t version)
{
    uint32_t end = 0;
    bool at_end = key.len == 0;
    iter->it.run.left = 0;
    iter->at_last = KV_END;
    kv_status rc = at_end ? KV_END : iter_seek_index(iter, key, version);
    if (rc == KV_END) {
        at_end = true;
        rc = iter_seek_end(iter);
    }
    if (rc == KV_OK)
        rc = iter_load(iter, &end);
    if (rc != KV_OK) {
        iter->last = true;
        iter->at_last = rc;
        return rc;
    }
    uint32_t at = at_end ? end : kv_block_seek(iter->data, key, version);
    return iter_take_before(iter, at < end ? at : end, end);
}

static kv_status iter_seek_before(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    struct table_iter *iter = KV_CONTAINER(it, struct table_iter, it);
    kv_slice upper = iter->upper;
    if (upper.len && (key.len == 0 || kv_slice_compare(key, upper) > 0)) {
        key = upper;
        version = KV_VERSION_MAX;
    }
    /* Stored with version 0, every entry counts as the table's: one of the very key lies before the target if
     * it is newer. */
    if (iter->table->version && key.len && version < iter->table->version) {
        kv_status rc = iter_seek(it, key, KV_VERSION_MAX);
        if (rc < 0 || (rc == KV_OK && kv_slice_equal(it->key, key)))
            return rc;
    }
    return iter_seek_before_stored(iter, key, iter->table->version ? KV_VERSION_MAX : version);
}

static void iter_close(struct kv_entry_iter *it)
{
    struct table_iter *iter = KV_CONTAINER(it, struct table_iter, it);
    kv_block_unref(iter->partition);
    kv_block_unref(iter->data);
    kv_table_unref(iter->table);
    if (iter->it.run.key_buf != iter->keys)
        kv_free(iter->it.run.key_buf);
    kv_free(iter);
}

kv_status kv_table_iter_open(struct kv_table *table, const struct kv_table_iter_options *options,
                             struct kv_entry_iter **out)
{
    static const struct kv_entry_iter_ops ops = {iter_seek, iter_next, iter_seek_before, iter_prev,
                                                 iter_close};
    if (table->damage)
        return kv_table_damaged_iter_open(table, options, out);
    struct table_iter *iter = kv_alloc(sizeof *iter);
    if (!iter)
        return kv_fail(options->err, KV_NO_MEMORY, 0, "no memory to walk table %s", table->name);
    memset(iter, 0, offsetof(struct table_iter, keys));
    const struct kv_table_properties *properties = &table->properties;
    iter->it.ops = &ops;
    iter->it.unique_puts = kv_table_properties_unique_puts(properties);
    iter->it.version_max = properties->version_max;
    iter->it.run.key_buf = iter->keys;
    iter->key_room = TABLE_ITER_KEY_ROOM;
    iter->it.err = options->err;
    iter->table = kv_table_ref(table);
    iter->blocks = (options->no_fill ? 0 : KV_BLOCK_FILL) | (options->uncounted ? 0 : KV_BLOCK_COUNT);
    iter->last = true;
    iter->at_last = KV_END;
    iter->lower = options->lower;
    iter->upper = options->upper;
    *out = &iter->it;
    return KV_OK;
}
