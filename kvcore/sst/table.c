#include "kvcore/base/assert.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/file_header.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/filter.h"
#include "kvcore/sst/table_private.h"

#include <stddef.h>

enum { TABLE_ALIGN = 64 }; /* of bytes read, so that a filter's line is one line of memory */

/* ---- blocks */

kv_status kv_table_damaged(const struct kv_table *table, kv_status rc, uint64_t offset, const char *what,
                           struct kv_err *err)
{
    if (table->reads)
        atomic_fetch_add_explicit(&table->reads->damage_seen, 1, memory_order_relaxed);
    kv_logf(table->log, KV_LOG_ERROR, "table_damaged", "file=%s offset=%llu what=%s status=%s", table->name,
            (unsigned long long)offset, KV_LOGQ(what), kv_status_name(rc));
    return kv_fail(err, rc, 0, "table %s, offset %llu: %s (%s)", table->name, (unsigned long long)offset,
                   what, kv_status_text(rc));
}

static bool table_handle_fits(const struct kv_table *table, struct kv_block_handle handle)
{
    return handle.offset >= KV_FILE_HEADER_LEN && handle.offset <= table->footer_offset &&
           handle.len >= KV_BLOCK_TRAILER_LEN && handle.len <= table->footer_offset - handle.offset &&
           handle.len <= KV_BLOCK_INFLATED_MAX + KV_BLOCK_TRAILER_SEALED_LEN;
}

kv_status kv_table_read_block(struct kv_table *table, struct kv_block_handle handle, bool entries,
                              struct kv_block **out, struct kv_err *err)
{
    uint8_t scratch[KV_BLOCK_SCRATCH], *stored = scratch;
    size_t len = (size_t)handle.len;
    if (!table_handle_fits(table, handle))
        return kv_table_damaged(table, KV_CORRUPT, handle.offset, "a block lies outside the file", err);
    if (!entries || len > sizeof scratch)
        stored = kv_alloc_aligned(TABLE_ALIGN, len);
    if (!stored)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory for a block of table %s", table->name);
    kv_status rc = kv_file_read_exact(table->file, handle.offset, len, stored, err);
    bool read = rc == KV_OK;
    if (read && entries) {
        rc = kv_block_open(stored, len, table->uid_sum, table->cipher, handle.offset, out);
    } else if (read) {
        rc = kv_block_open_bytes(stored, len, table->uid_sum, table->cipher, handle.offset, out);
        stored = scratch; /* it was taken over */
    }
    if (stored != scratch)
        kv_free(stored);
    if (rc == KV_OK)
        return rc;
    if (!read)
        return rc == KV_CORRUPT ? kv_table_damaged(table, rc, handle.offset, "the file ends early", err) : rc;
    if (rc == KV_NO_MEMORY)
        return kv_fail(err, rc, 0, "no memory for a block of table %s", table->name);
    return kv_table_damaged(table, rc, handle.offset, "a damaged block", err);
}

static kv_status table_block(struct kv_table *table, struct kv_block_handle handle, bool entries,
                             unsigned how, struct kv_block **out, struct kv_err *err)
{
    *out = kv_cache_lookup(table->cache, table->id, handle.offset);
    if (*out)
        return KV_OK;
    kv_status rc = kv_table_read_block(table, handle, entries, out, err);
    if (how & KV_BLOCK_COUNT)
        kv_reads_block(table->reads, handle.len);
    if (rc == KV_OK && (how & KV_BLOCK_FILL))
        *out = kv_cache_insert(table->cache, table->id, handle.offset, *out);
    return rc;
}

kv_status kv_table_block(struct kv_table *table, struct kv_block_handle handle, unsigned how,
                         struct kv_block **out, struct kv_err *err)
{
    return table_block(table, handle, true, how, out, err);
}

static kv_status table_take_entry_handle(const struct kv_table *table, kv_slice value,
                                         struct kv_block_handle *out, struct kv_err *err)
{
    *out = (struct kv_block_handle){0, 0};
    if (kv_take_varint(&value, &out->offset) < 0 || kv_take_varint(&value, &out->len) < 0 || value.len)
        return kv_table_damaged(table, KV_CORRUPT, table->top_handle.offset, "a bad index entry", err);
    return KV_OK;
}

kv_status kv_table_handle(const struct kv_table *table, const struct kv_block *index, uint32_t i,
                          struct kv_entry *separator, uint8_t key_buf[KV_KEY_LEN_MAX],
                          struct kv_block_handle *out, struct kv_err *err)
{
    kv_block_entry(index, i, key_buf, separator);
    return table_take_entry_handle(table, separator->value, out, err);
}

/* The filter's bytes; *held (may come back NULL) is unreferenced by the caller. */
static kv_status table_filter(struct kv_table *table, kv_slice *filter, struct kv_block **held,
                              struct kv_err *err)
{
    *held = NULL;
    if (table->filter) {
        *filter = table->filter->bytes;
        return KV_OK;
    }
    kv_status rc = table_block(table, table->filter_handle, false, KV_BLOCK_LOOKUP, held, err);
    if (rc != KV_OK)
        return rc;
    *filter = (*held)->bytes;
    rc = kv_filter_check(*filter);
    if (rc < 0) {
        kv_block_unref(*held);
        *held = NULL;
        return kv_table_damaged(table, rc, table->filter_handle.offset, "a bad filter", err);
    }
    return KV_OK;
}

/* ---- opening */

struct table_field {
    kv_slice bytes;
    bool present;
};

#define TAG_BIT(tag) (UINT64_C(1) << (tag))
_Static_assert(KV_TAG_MAX < 64, "a set of tags is a number");

/* The numbers, each a varint; the others are bytes. */
static const struct table_number {
    enum kv_table_tag tag;
    bool required;
    size_t at; /* in kv_table_properties */
} table_numbers[] = {
    {KV_TAG_VERSION_MIN, true, offsetof(struct kv_table_properties, version_min)},
    {KV_TAG_VERSION_MAX, true, offsetof(struct kv_table_properties, version_max)},
    {KV_TAG_ENTRIES, true, offsetof(struct kv_table_properties, entries)},
    {KV_TAG_DELETES, true, offsetof(struct kv_table_properties, deletes)},
    {KV_TAG_KEYS, true, offsetof(struct kv_table_properties, keys)},
    {KV_TAG_RAW_KEY_BYTES, true, offsetof(struct kv_table_properties, raw_key_bytes)},
    {KV_TAG_RAW_VALUE_BYTES, true, offsetof(struct kv_table_properties, raw_value_bytes)},
    {KV_TAG_DATA_BLOCKS, true, offsetof(struct kv_table_properties, data_blocks)},
    {KV_TAG_DATA_BYTES, true, offsetof(struct kv_table_properties, data_bytes)},
    {KV_TAG_RICH, false, offsetof(struct kv_table_properties, rich)},
    {KV_TAG_RANGES_APPLIED, false, offsetof(struct kv_table_properties, ranges_applied)},
    {KV_TAG_DELETES_SINCE, false, offsetof(struct kv_table_properties, deletes_since_s)},
    {KV_TAG_WRITTEN_AFTER, false, offsetof(struct kv_table_properties, written_after)},
};

static bool table_tag_known(uint64_t tag)
{
    uint64_t known = TAG_BIT(KV_TAG_SPACE) | TAG_BIT(KV_TAG_SPACE_NAME) | TAG_BIT(KV_TAG_SMALLEST) |
                     TAG_BIT(KV_TAG_LARGEST) | TAG_BIT(KV_TAG_CUT_LEN) | TAG_BIT(KV_TAG_VALUE_REFS) |
                     TAG_BIT(KV_TAG_EXPIRY);
    for (size_t i = 0; i < sizeof table_numbers / sizeof *table_numbers; i++)
        known |= TAG_BIT(table_numbers[i].tag);
    return tag <= KV_TAG_MAX && (known & TAG_BIT(tag));
}

static kv_status table_take_fields(kv_slice in, struct table_field fields[KV_TAG_MAX + 1])
{
    uint64_t last = 0;
    while (in.len) {
        uint64_t tag;
        kv_slice bytes;
        if (kv_take_varint(&in, &tag) < 0 || kv_take_lp(&in, &bytes) < 0 || tag <= last)
            return KV_CORRUPT;
        last = tag;
        bool known = table_tag_known(tag);
        if (!known && tag % 2 == 0)
            return KV_TOO_NEW;
        if (known)
            fields[tag] = (struct table_field){bytes, true};
    }
    return KV_OK;
}

static bool table_number(const struct table_field *field, uint64_t *v)
{
    kv_slice bytes = field->bytes;
    return field->present && kv_take_varint(&bytes, v) == KV_OK && bytes.len == 0;
}

static bool table_take_numbers(const struct table_field fields[KV_TAG_MAX + 1], struct kv_table_properties *p)
{
    for (size_t i = 0; i < sizeof table_numbers / sizeof *table_numbers; i++) {
        const struct table_number *number = &table_numbers[i];
        const struct table_field *field = &fields[number->tag];
        uint64_t v = 0;
        if ((number->required || field->present) && !table_number(field, &v))
            return false;
        memcpy((uint8_t *)p + number->at, &v, sizeof v);
    }
    return true;
}

/* Entries that expire, if there are any. */
static bool table_take_expiry(const struct table_field *field, struct kv_table_properties *p)
{
    kv_slice bytes = field->bytes;
    p->expiring = p->expiry_min_s = p->expiry_max_s = 0;
    if (!field->present)
        return true;
    return kv_take_varint(&bytes, &p->expiring) == KV_OK &&
           kv_take_varint(&bytes, &p->expiry_min_s) == KV_OK &&
           kv_take_varint(&bytes, &p->expiry_max_s) == KV_OK && bytes.len == 0 && p->expiring > 0 &&
           p->expiring <= p->rich && p->expiry_min_s > 0 && p->expiry_min_s <= p->expiry_max_s;
}

kv_status kv_table_decode_properties(kv_slice in, struct kv_table_properties *p)
{
    struct table_field f[KV_TAG_MAX + 1] = {{{NULL, 0}, false}};
    uint64_t space, cut_len;
    kv_status rc = table_take_fields(in, f);
    if (rc < 0)
        return rc;
    if (!table_number(&f[KV_TAG_SPACE], &space) || !table_number(&f[KV_TAG_CUT_LEN], &cut_len) ||
        !table_take_numbers(f, p) || !table_take_expiry(&f[KV_TAG_EXPIRY], p) ||
        (f[KV_TAG_RICH].present && !p->rich))
        return KV_CORRUPT;
    p->value_refs = f[KV_TAG_VALUE_REFS].bytes;
    p->space = (uint32_t)space;
    p->space_name = f[KV_TAG_SPACE_NAME].bytes;
    p->smallest = f[KV_TAG_SMALLEST].bytes;
    p->largest = f[KV_TAG_LARGEST].bytes;
    p->cut = kv_slice_of(p->smallest.data, (size_t)cut_len);
    bool sound = space <= UINT32_MAX && cut_len <= p->smallest.len && p->version_min <= p->version_max &&
                 p->version_max <= KV_VERSION_STORED_MAX && p->deletes <= p->entries &&
                 p->rich <= p->entries - p->deletes && p->keys <= p->entries &&
                 (p->entries == 0) == (p->smallest.len == 0) && (p->entries == 0) == (p->largest.len == 0) &&
                 kv_slice_compare(p->smallest, p->largest) <= 0 && kv_slice_has_prefix(p->largest, p->cut);
    return sound ? KV_OK : KV_CORRUPT;
}

static kv_status table_open_header(struct kv_table *table, const struct kv_table_open_options *options,
                                   uint64_t file_bytes, struct kv_err *err)
{
    uint8_t bytes[KV_FILE_HEADER_LEN];
    size_t len = file_bytes < sizeof bytes ? (size_t)file_bytes : sizeof bytes;
    kv_status rc = kv_file_read_exact(table->file, 0, len, bytes, err);
    if (rc < 0)
        return rc;
    struct kv_file_expect expect = {.kind = KV_FILE_TABLE,
                                    .format_max = KV_TABLE_FORMAT,
                                    .uuid = options->db_uuid,
                                    .name = options->name,
                                    .encrypted = true};
    struct kv_file_header header = {0};
    rc = kv_file_header_check(kv_slice_of(bytes, len), &expect, &header, err);
    if (rc < 0)
        return rc;
    if (options->uid && memcmp(options->uid, header.uid, sizeof header.uid) != 0)
        return kv_table_damaged(table, KV_CORRUPT, 0, "another file stands under this name", err);
    memcpy(table->properties.uid, header.uid, sizeof header.uid);
    table->uid_sum = kv_crc32c(0, kv_slice_of(header.uid, sizeof header.uid));
    table->properties.key_id = header.key_id;
    return kv_keyring_cipher(options->keys, bytes, options->number, options->name, &table->cipher, err);
}

static struct kv_block_handle table_take_handle(const uint8_t *p)
{
    return (struct kv_block_handle){kv_get_fixed64(p), kv_get_fixed64(p + 8)};
}

/* Crc or seal of the footer, which is undone in place. */
static kv_status footer_check(const struct kv_table *table, uint8_t *footer, size_t len)
{
    size_t body = KV_TABLE_FOOTER_BODY_LEN;
    if (kv_get_fixed64(footer + len - 8) != KV_TABLE_FOOTER_MAGIC)
        return KV_CORRUPT;
    if (table->cipher)
        return kv_cipher_open(table->cipher, table->footer_offset, KV_STR(""),
                              kv_slice_of(footer, body + KV_CIPHER_TAG_LEN), footer);
    uint32_t sum = kv_block_sum(table->uid_sum, table->footer_offset, kv_slice_of(footer, body));
    return kv_get_fixed32(footer + body) == sum ? KV_OK : KV_CORRUPT;
}

kv_status kv_table_open_footer(struct kv_table *table, uint64_t file_bytes, struct kv_err *err)
{
    uint8_t footer[KV_TABLE_FOOTER_SEALED_LEN];
    size_t len = kv_table_footer_len(table->cipher);
    if (file_bytes < KV_FILE_HEADER_LEN + len)
        return kv_table_damaged(table, KV_CORRUPT, file_bytes, "the file is too short to be a table", err);
    table->footer_offset = file_bytes - len;
    kv_status rc = kv_file_read_exact(table->file, table->footer_offset, len, footer, err);
    if (rc < 0)
        return rc;
    rc = footer_check(table, footer, len);
    if (rc == KV_NO_MEMORY)
        return kv_fail(err, rc, 0, "no memory to open table %s", table->name);
    if (rc < 0)
        return kv_table_damaged(table, KV_CORRUPT, table->footer_offset, "a damaged footer", err);
    table->top_handle = table_take_handle(footer);
    table->filter_handle = table_take_handle(footer + 16);
    table->properties_handle = table_take_handle(footer + 32);
    uint32_t levels = kv_get_fixed32(footer + 56);
    table->levels = (uint8_t)levels;
    if (kv_get_fixed64(footer + 48) != file_bytes || levels < 1 || levels > 2)
        return kv_table_damaged(table, KV_CORRUPT, table->footer_offset, "a footer that contradicts itself",
                                err);
    return KV_OK;
}

static kv_status table_open_properties(struct kv_table *table, const struct kv_table_open_options *options,
                                       struct kv_err *err)
{
    uint64_t offset = table->properties_handle.offset;
    kv_status rc = kv_table_read_block(table, table->properties_handle, false, &table->properties_block, err);
    if (rc < 0)
        return rc;
    rc = kv_table_decode_properties(table->properties_block->bytes, &table->properties);
    if (rc < 0)
        return kv_table_damaged(table, rc, offset, "bad properties", err);
    if (options->version) {
        if (table->properties.version_max != 0)
            return kv_table_damaged(table, KV_CORRUPT, offset, "a bulk-loaded table with versions of its own",
                                    err);
        kv_table_set_version(table, options->version);
    }
    return KV_OK;
}

/* The top index stays in memory; the filter too, unless too much is pinned already. */
static kv_status table_open_index(struct kv_table *table, struct kv_err *err)
{
    kv_status rc = kv_table_read_block(table, table->top_handle, true, &table->top, err);
    if (rc < 0)
        return rc;
    if ((table->top->n == 0) != (table->properties.entries == 0))
        return kv_table_damaged(table, KV_CORRUPT, table->top_handle.offset, "an index that misses entries",
                                err);
    table->pinned_bytes = table->top->charge + table->properties_block->charge;
    (void)kv_cache_pin(table->cache, table->pinned_bytes, true);
    uint64_t filter_bytes = table->filter_handle.len;
    if (!filter_bytes || !kv_cache_pin(table->cache, filter_bytes, false))
        return KV_OK;
    table->pinned_bytes += filter_bytes;
    rc = kv_table_read_block(table, table->filter_handle, false, &table->filter, err);
    if (rc < 0)
        return rc;
    rc = kv_filter_check(table->filter->bytes);
    return rc < 0 ? kv_table_damaged(table, rc, table->filter_handle.offset, "a bad filter", err) : KV_OK;
}

kv_status kv_table_open(const struct kv_table_open_options *options, struct kv_table **out,
                        struct kv_err *err)
{
    kv_status rc;
    uint64_t file_bytes = 0;
    struct kv_table *table = kv_zalloc(1, sizeof *table);
    if (!table)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory to open table %s", options->name);
    atomic_init(&table->refs, 1);
    table->cache = options->cache;
    table->log = options->log;
    table->reads = options->reads;
    table->id = kv_cache_new_id(options->cache);
    table->name = kv_dup_str(options->name);
    if (!table->name) {
        rc = kv_fail(err, KV_NO_MEMORY, 0, "no memory to open table %s", options->name);
        goto out;
    }
    KV_TRY(kv_dir_open_file(options->dir, options->name, &table->file, err));
    KV_TRY(kv_file_size(table->file, &file_bytes, err));
    KV_TRY(table_open_header(table, options, file_bytes, err));
    if (options->file_bytes && options->file_bytes != file_bytes) {
        rc =
            kv_table_damaged(table, KV_CORRUPT, file_bytes, "the file is not as long as it was written", err);
        goto out;
    }
    KV_TRY(kv_table_open_footer(table, file_bytes, err));
    KV_TRY(table_open_properties(table, options, err));
    KV_TRY(table_open_index(table, err));
    table->properties.file_bytes = file_bytes;
    table->gone = options->gone; /* only an opened table is announced as gone */
    table->gone_ctx = options->gone_ctx;
    table->number = options->number;
    *out = table;
    return KV_OK;
out:
    kv_table_unref(table);
    return rc;
}

struct kv_table *kv_table_ref(struct kv_table *table)
{
    atomic_fetch_add_explicit(&table->refs, 1, memory_order_relaxed);
    return table;
}

void kv_table_unref(struct kv_table *table)
{
    if (!table || atomic_fetch_sub_explicit(&table->refs, 1, memory_order_acq_rel) != 1)
        return;
    kv_file_close(table->file);
    kv_cache_unpin(table->cache, table->pinned_bytes);
    kv_cache_drop(table->cache, table->id);
    kv_block_unref(table->top);
    kv_block_unref(table->filter);
    kv_block_unref(table->properties_block);
    kv_cipher_free(table->cipher);
    kv_free(table->damage);
    kv_free(table->known_keys);
    if (table->gone)
        table->gone(table->gone_ctx, table->number);
    kv_free(table->name);
    kv_free(table);
}

void kv_table_set_version(struct kv_table *table, uint64_t version)
{
    KV_ASSERT(version <= KV_VERSION_STORED_MAX);
    table->version = version;
    table->properties.version_min = table->properties.version_max = version;
}

const struct kv_table_properties *kv_table_properties(const struct kv_table *table)
{
    return &table->properties;
}

uint64_t kv_table_number(const struct kv_table *table)
{
    return table->number;
}

/* ---- point lookups */

static kv_status get_passes_filter(struct kv_table *table, kv_slice key, struct kv_err *err)
{
    kv_slice filter = {NULL, 0};
    struct kv_block *held;
    if (!table->filter_handle.len)
        return KV_OK;
    kv_status rc = table_filter(table, &filter, &held, err);
    if (rc != KV_OK)
        return rc;
    rc = kv_filter_may_hold(filter, key) ? KV_OK : KV_NOT_FOUND;
    kv_block_unref(held);
    return rc;
}

/* The block below entry (key, version) of an index block. */
static kv_status get_descend(struct kv_table *table, const struct kv_block *index, kv_slice key,
                             uint64_t version, struct kv_block **out, struct kv_err *err)
{
    struct kv_block_handle handle;
    uint32_t i = kv_block_seek(index, key, version);
    if (i == index->n)
        return KV_NOT_FOUND;
    kv_status rc = table_take_entry_handle(table, kv_block_value(index, i), &handle, err);
    return rc < 0 ? rc : kv_table_block(table, handle, KV_BLOCK_LOOKUP, out, err);
}

static kv_status get_from_block(struct kv_table *table, struct kv_block *block, kv_slice key,
                                uint64_t version, struct kv_found *out)
{
    struct kv_entry entry;
    if (!kv_block_get(block, key, version, &entry))
        return KV_NOT_FOUND;
    *out = (struct kv_found){.version = table->version ? table->version : entry.version,
                             .kind = entry.kind,
                             .value = entry.value,
                             .block = block};
    return KV_OK;
}

kv_status kv_table_get(struct kv_table *table, kv_slice key, uint64_t version, struct kv_found *out,
                       struct kv_err *err)
{
    struct kv_block *data = NULL, *partition = NULL;
    *out = (struct kv_found){0};
    if (version < table->properties.version_min || kv_slice_compare(key, table->properties.smallest) < 0 ||
        kv_slice_compare(key, table->properties.largest) > 0)
        return KV_NOT_FOUND;
    if (table->damage)
        return kv_table_refuse(table, err);
    if (table->version)
        version = KV_VERSION_MAX; /* stored as 0, and it is old enough: that was just asked */
    kv_status rc = get_passes_filter(table, key, err);
    out->filtered = rc == KV_NOT_FOUND;
    if (rc != KV_OK)
        return rc;
    if (table->levels == 2) {
        rc = get_descend(table, table->top, key, version, &partition, err);
        if (rc == KV_OK && partition->n == 0)
            rc = kv_table_damaged(table, KV_CORRUPT, table->top_handle.offset,
                                  "an index partition without entries", err);
        if (rc == KV_OK)
            rc = get_descend(table, partition, key, version, &data, err);
    } else {
        rc = get_descend(table, table->top, key, version, &data, err);
    }
    if (rc == KV_OK)
        rc = get_from_block(table, data, key, version, out);
    if (rc != KV_OK)
        kv_block_unref(data);
    kv_block_unref(partition);
    return rc;
}

/* ---- estimates */

/* Where the data block lies that would hold key. */
static kv_status estimate_place(struct kv_table *table, kv_slice key, struct kv_block_handle *out,
                                struct kv_err *err)
{
    struct kv_block *partition = NULL;
    const struct kv_block *index = table->top;
    uint32_t i = kv_block_seek(index, key, KV_VERSION_MAX);
    if (i == index->n) { /* not for a key that is at most the largest */
        *out = (struct kv_block_handle){table->footer_offset, 0};
        return KV_OK;
    }
    kv_status rc = table_take_entry_handle(table, kv_block_value(index, i), out, err);
    if (rc < 0 || table->levels == 1)
        return rc;
    rc = kv_table_block(table, *out, KV_BLOCK_LOOKUP, &partition, err);
    if (rc < 0)
        return rc;
    i = kv_block_seek(partition, key, KV_VERSION_MAX);
    rc = i == partition->n ? KV_OK : table_take_entry_handle(table, kv_block_value(partition, i), out, err);
    kv_block_unref(partition);
    return rc;
}

kv_status kv_table_estimate(struct kv_table *table, kv_slice lower, kv_slice upper, uint64_t *entries,
                            uint64_t *bytes, struct kv_err *err)
{
    const struct kv_table_properties *p = &table->properties;
    struct kv_block_handle from = {KV_FILE_HEADER_LEN, 0}, to = {KV_FILE_HEADER_LEN + p->data_bytes, 0};
    *entries = *bytes = 0;
    if (p->entries == 0 || (lower.len && kv_slice_compare(p->largest, lower) < 0) ||
        (upper.len && kv_slice_compare(p->smallest, upper) >= 0))
        return KV_OK;
    if (table->damage)
        return kv_table_refuse(table, err);
    bool cut_below = lower.len && kv_slice_compare(p->smallest, lower) < 0;
    bool cut_above = upper.len && kv_slice_compare(p->largest, upper) >= 0;
    *entries = p->entries;
    *bytes = p->file_bytes;
    kv_status rc = cut_below ? estimate_place(table, lower, &from, err) : KV_OK;
    if (rc == KV_OK && cut_above)
        rc = estimate_place(table, upper, &to, err);
    if (rc < 0 || !(cut_below || cut_above))
        return rc;
    /* A block that a bound lies in counts half; one that both lie in, a quarter. */
    uint64_t begin = from.offset + from.len / 2, end = to.offset + to.len / 2;
    uint64_t part = end > begin ? end - begin : from.len / 4;
    double share = p->data_bytes ? (double)part / (double)p->data_bytes : 1;
    share = share > 1 ? 1 : share;
    *entries = (uint64_t)(share * (double)p->entries + 0.5);
    *bytes = (uint64_t)(share * (double)p->file_bytes + 0.5);
    *entries = *entries ? *entries : 1;
    return KV_OK;
}
