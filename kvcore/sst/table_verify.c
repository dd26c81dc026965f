#include "kvcore/base/file_header.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/filter.h"
#include "kvcore/sst/table_private.h"

/* What the walk has seen so far, to be compared with what the table says about itself. */
struct verify {
    struct kv_table *table;
    struct kv_err *err;
    struct kv_block *filter_held;
    kv_slice filter;
    struct kv_table_properties seen;
    uint64_t bytes; /* of all parts of the file met */
    /* The newest entry and the newest separator met. */
    uint8_t key[KV_KEY_LEN_MAX], separator[KV_KEY_LEN_MAX];
    size_t key_len, separator_len;
    uint64_t separator_version;
};

static kv_status verify_fail(struct verify *verify, uint64_t offset, const char *what)
{
    return kv_table_damaged(verify->table, KV_CORRUPT, offset, what, verify->err);
}

/* In order it is: within its block (that is part of a block's being one), and across blocks by their separators. */
static kv_status verify_entry(struct verify *verify, const struct kv_entry *entry, uint64_t offset)
{
    struct kv_table_properties *seen = &verify->seen;
    kv_slice before = kv_slice_of(verify->key, verify->key_len);
    bool new_key = !seen->entries || !kv_slice_equal(before, entry->key);
    if (new_key) {
        if (verify->filter.len && !kv_filter_may_hold(verify->filter, entry->key))
            return verify_fail(verify, offset, "a key that the filter does not know");
        if (!seen->entries && !kv_slice_equal(entry->key, verify->table->properties.smallest))
            return verify_fail(verify, offset, "the first key is not the smallest of the properties");
        if (!kv_slice_has_prefix(entry->key, verify->table->properties.cut))
            return verify_fail(verify, offset, "a key outside the table's cut");
        memcpy(verify->key, entry->key.data, entry->key.len);
        verify->key_len = entry->key.len;
        seen->keys++;
    }
    if (kv_table_properties_count(seen, entry) < 0)
        return verify_fail(verify, offset, "an entry with bad attributes");
    return KV_OK;
}

/* The data block between the separator met before and this one. */
static kv_status verify_data(struct verify *verify, struct kv_block_handle handle,
                             const struct kv_entry *separator)
{
    struct kv_block *block = NULL;
    uint8_t key_buf[KV_KEY_LEN_MAX];
    kv_slice floor = kv_slice_of(verify->separator, verify->separator_len);
    kv_status rc = kv_table_read_block(verify->table, handle, true, &block, verify->err);
    if (rc == KV_OK && block->n == 0)
        rc = verify_fail(verify, handle.offset, "an empty block");
    for (uint32_t i = 0; rc == KV_OK && i < block->n; i++) {
        struct kv_entry entry;
        kv_block_entry(block, i, key_buf, &entry);
        if (kv_entry_compare(entry.key, entry.version, separator->key, separator->version) > 0 ||
            (floor.len && kv_entry_compare(entry.key, entry.version, floor, verify->separator_version) <= 0))
            rc = verify_fail(verify, handle.offset, "an entry outside its block's separators");
        else
            rc = verify_entry(verify, &entry, handle.offset);
    }
    kv_block_unref(block);
    memcpy(verify->separator, separator->key.data, separator->key.len);
    verify->separator_len = separator->key.len;
    verify->separator_version = separator->version;
    verify->seen.data_blocks++;
    verify->seen.data_bytes += handle.len;
    verify->bytes += handle.len;
    return rc;
}

static kv_status verify_index(struct verify *verify, const struct kv_block *index)
{
    uint8_t key_buf[KV_KEY_LEN_MAX];
    kv_status rc = KV_OK;
    for (uint32_t i = 0; rc == KV_OK && i < index->n; i++) {
        struct kv_entry separator;
        struct kv_block_handle handle;
        rc = kv_table_handle(verify->table, index, i, &separator, key_buf, &handle, verify->err);
        if (rc == KV_OK)
            rc = verify_data(verify, handle, &separator);
    }
    return rc;
}

static kv_status verify_partitions(struct verify *verify)
{
    uint8_t key_buf[KV_KEY_LEN_MAX];
    const struct kv_block *top = verify->table->top;
    kv_status rc = KV_OK;
    for (uint32_t i = 0; rc == KV_OK && i < top->n; i++) {
        struct kv_entry separator;
        struct kv_block_handle handle = {0, 0};
        struct kv_block *partition = NULL;
        rc = kv_table_handle(verify->table, top, i, &separator, key_buf, &handle, verify->err);
        if (rc == KV_OK)
            rc = kv_table_read_block(verify->table, handle, true, &partition, verify->err);
        if (rc == KV_OK && partition->n == 0)
            rc = verify_fail(verify, handle.offset, "an index partition without entries");
        if (rc == KV_OK)
            rc = verify_index(verify, partition);
        kv_block_unref(partition);
        verify->bytes += handle.len;
        if (rc == KV_OK &&
            (separator.version != verify->separator_version ||
             !kv_slice_equal(separator.key, kv_slice_of(verify->separator, verify->separator_len))))
            rc = verify_fail(verify, handle.offset, "a partition that ends elsewhere than the index says");
    }
    return rc;
}

static bool counts_agree(const struct kv_table_properties *said, const struct kv_table_properties *seen)
{
    const uint64_t a[] = {said->entries,         said->deletes,      said->keys,        said->raw_key_bytes,
                          said->raw_value_bytes, said->data_blocks,  said->data_bytes,  said->rich,
                          said->expiring,        said->expiry_min_s, said->expiry_max_s};
    const uint64_t b[] = {seen->entries,         seen->deletes,      seen->keys,        seen->raw_key_bytes,
                          seen->raw_value_bytes, seen->data_blocks,  seen->data_bytes,  seen->rich,
                          seen->expiring,        seen->expiry_min_s, seen->expiry_max_s};
    return memcmp(a, b, sizeof a) == 0;
}

/* Of a bulk-loaded table the manifest says the version, of an empty one nobody. */
static bool versions_agree(const struct kv_table *table, const struct kv_table_properties *seen)
{
    const struct kv_table_properties *said = &table->properties;
    return table->version || !seen->entries ||
           (said->version_min == seen->version_min && said->version_max == seen->version_max);
}

static kv_status verify_totals(struct verify *verify)
{
    const struct kv_table *table = verify->table;
    const struct kv_table_properties *said = &table->properties, *seen = &verify->seen;
    uint64_t offset = table->properties_handle.offset;
    if (table->version && seen->version_max != 0)
        return verify_fail(verify, offset, "a bulk-loaded table with versions of its own");
    if (!counts_agree(said, seen) || !versions_agree(table, seen))
        return verify_fail(verify, offset, "properties that do not match the entries");
    if (!kv_slice_equal(said->largest, kv_slice_of(verify->key, verify->key_len)))
        return verify_fail(verify, offset, "the last key is not the largest of the properties");
    uint64_t bytes = verify->bytes + KV_FILE_HEADER_LEN + kv_table_footer_len(table->cipher) +
                     table->top_handle.len + table->filter_handle.len + table->properties_handle.len;
    return bytes == said->file_bytes ? KV_OK : verify_fail(verify, offset, "bytes that belong to nothing");
}

kv_status kv_table_verify(struct kv_table *table, struct kv_err *err)
{
    struct kv_block *block = NULL;
    if (table->damage)
        return kv_table_refuse(table, err);
    struct verify *verify = kv_zalloc(1, sizeof *verify);
    if (!verify)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory to verify table %s", table->name);
    verify->table = table;
    verify->err = err;
    verify->seen.version_min = UINT64_MAX;
    kv_status rc = KV_OK;
    /* Top index and properties were verified when the table was opened, long ago perhaps: read them again
     * too. */
    KV_TRY(kv_table_read_block(table, table->top_handle, true, &block, err));
    kv_block_unref(block);
    block = NULL;
    KV_TRY(kv_table_read_block(table, table->properties_handle, false, &block, err));
    kv_block_unref(block);
    block = NULL;
    if (table->filter_handle.len) {
        KV_TRY(kv_table_read_block(table, table->filter_handle, false, &verify->filter_held, err));
        verify->filter = verify->filter_held->bytes;
        rc = kv_filter_check(verify->filter);
        if (rc < 0) {
            rc = kv_table_damaged(table, rc, table->filter_handle.offset, "a bad filter", err);
            goto out;
        }
    }
    KV_TRY(table->levels == 2 ? verify_partitions(verify) : verify_index(verify, table->top));
    KV_TRY(verify_totals(verify));
out:
    kv_block_unref(verify->filter_held);
    kv_free(verify);
    return rc;
}
