#include "kvcore/sst/table_build.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/file_header.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/attrs.h"
#include "kvcore/sst/block.h"
#include "kvcore/sst/filter.h"
#include "kvcore/sst/format.h"

enum { BUILD_WRITE_BYTES = 256 << 10 }; /* gathered before an append */

struct kv_table_build {
    struct kv_dir *dir;
    struct kv_file *file;
    char *name;
    char *space_name;
    struct kv_table_properties properties; /* its slices are made at finish */
    enum kv_codec codec;
    uint32_t block_bytes, block_bytes_most;
    uint32_t block_full; /* which of them the block that is being filled ends at */
    uint32_t uid_sum;
    struct kv_cipher *cipher; /* NULL: not encrypted */
    bool no_filter, finished;
    size_t cut_len;

    uint64_t written;  /* bytes appended to the file */
    struct kv_buf out; /* bytes behind them */
    struct kv_block_build data;
    struct kv_block_build index, top;
    struct kv_filter_build filter;
    struct kv_buf first_key, last_key;
    uint64_t last_version;

    struct kv_buf refs_encoded; /* at finish */
    struct kv_buf refs;         /* struct build_ref: segments of the value log pointed into, by number */

    /* A finished data block waits for the next key, so that its separator can be short. */
    bool pending;
    struct kv_block_handle pending_handle;
    struct kv_buf separator; /* of the newest entry of index */
    uint64_t separator_version;
};

struct build_ref {
    uint64_t segment, bytes;
};

kv_status kv_table_build_open(const struct kv_table_build_options *options, struct kv_table_build **out,
                              struct kv_err *err)
{
    kv_status rc;
    struct kv_table_build *build = NULL;
    if (options->block_bytes > KV_BLOCK_BYTES_MAX || options->block_bytes_most > KV_BLOCK_BYTES_MAX)
        return kv_fail(err, KV_INVALID, 0, "block_bytes %u or block_bytes_most %u is above %d",
                       options->block_bytes, options->block_bytes_most, KV_BLOCK_BYTES_MAX);
    build = kv_zalloc(1, sizeof *build);
    if (!build)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory to build table %s", options->name);
    build->dir = options->dir;
    build->codec = options->codec;
    build->block_bytes = options->block_bytes ? options->block_bytes : KV_BLOCK_BYTES_DEFAULT;
    build->block_bytes_most =
        options->block_bytes_most > build->block_bytes ? options->block_bytes_most : build->block_bytes;
    build->block_full = build->block_bytes;
    build->no_filter = options->no_filter;
    build->cut_len = options->cut_len;
    build->properties.space = options->space;
    build->properties.ranges_applied = options->ranges_applied;
    build->properties.deletes_since_s = options->deletes_since_s;
    build->properties.written_after = options->written_after;
    build->properties.version_min = UINT64_MAX;
    build->name = kv_dup_str(options->name);
    build->space_name = kv_dup_str(options->space_name);
    if (!build->name || !build->space_name) {
        rc = kv_fail(err, KV_NO_MEMORY, 0, "no memory to build table %s", options->name);
        goto out;
    }
    struct kv_file_header header = {
        .kind = KV_FILE_TABLE, .format = KV_TABLE_FORMAT, .owner_epoch = options->owner_epoch};
    memcpy(header.uuid, options->db_uuid, sizeof header.uuid);
    kv_clock_entropy(options->clock, header.uid, sizeof header.uid);
    kv_clock_entropy(options->clock, header.salt, sizeof header.salt);
    header.key_id = build->properties.key_id = kv_keyring_key_for(options->keys, KV_FILE_TABLE);
    memcpy(build->properties.uid, header.uid, sizeof header.uid);
    build->uid_sum = kv_crc32c(0, kv_slice_of(header.uid, sizeof header.uid));
    uint8_t *at = kv_buf_extend(&build->out, KV_FILE_HEADER_LEN);
    if (!at) {
        rc = kv_fail(err, KV_NO_MEMORY, 0, "no memory to build table %s", options->name);
        goto out;
    }
    kv_file_header_encode(&header, at);
    KV_TRY(kv_keyring_cipher(options->keys, at, 0, options->name, &build->cipher, err));
    KV_TRY(kv_dir_create(options->dir, options->name, &build->file, err));
    *out = build;
    return KV_OK;
out:
    kv_table_build_free(build);
    return rc;
}

void kv_table_build_free(struct kv_table_build *build)
{
    if (!build)
        return;
    bool unfinished = build->file && !build->finished;
    kv_file_close(build->file);
    if (unfinished && kv_dir_remove(build->dir, build->name, NULL) < 0) {
        /* The file stays behind, named by no manifest: the next open removes it. */
    }
    kv_block_build_release(&build->data);
    kv_block_build_release(&build->index);
    kv_block_build_release(&build->top);
    kv_filter_build_release(&build->filter);
    kv_buf_release(&build->out);
    kv_buf_release(&build->first_key);
    kv_buf_release(&build->last_key);
    kv_buf_release(&build->separator);
    kv_buf_release(&build->refs);
    kv_buf_release(&build->refs_encoded);
    kv_cipher_free(build->cipher);
    kv_free(build->name);
    kv_free(build->space_name);
    kv_free(build);
}

uint64_t kv_table_build_bytes(const struct kv_table_build *build)
{
    return build->written + build->out.len + kv_block_build_bytes(&build->data) +
           kv_block_build_bytes(&build->index) + kv_block_build_bytes(&build->top) +
           build->filter.hashes.len / 8 * KV_FILTER_BITS_PER_KEY / 8 + KV_TABLE_FOOTER_LEN;
}

/* Adds a text to failures that have none: those of memory. */
static kv_status build_check(const struct kv_table_build *build, kv_status rc, struct kv_err *err)
{
    return rc < 0 ? kv_fail(err, rc, 0, "building table %s: %s", build->name, kv_status_text(rc)) : rc;
}

/* ---- blocks to the file */

static kv_status build_write(struct kv_table_build *build, size_t at_least, struct kv_err *err)
{
    if (build->out.len < at_least || build->out.len == 0)
        return KV_OK;
    kv_status rc = kv_file_append(build->file, build->written, kv_buf_slice(&build->out), err);
    if (rc < 0)
        return rc;
    build->written += build->out.len;
    kv_buf_clear(&build->out);
    return KV_OK;
}

static kv_status build_store(struct kv_table_build *build, kv_slice payload, enum kv_codec codec,
                             struct kv_block_handle *handle, struct kv_err *err)
{
    uint64_t offset = build->written + build->out.len;
    kv_status rc = kv_block_store(payload, codec, build->uid_sum, build->cipher, offset, &build->out);
    if (rc < 0)
        return build_check(build, rc, err);
    *handle = (struct kv_block_handle){offset, build->written + build->out.len - offset};
    return build_write(build, BUILD_WRITE_BYTES, err);
}

static kv_status build_store_entries(struct kv_table_build *build, struct kv_block_build *block,
                                     struct kv_block_handle *handle, struct kv_err *err)
{
    kv_slice payload = {NULL, 0};
    kv_status rc = kv_block_build_finish(block, &payload);
    if (rc != KV_OK)
        return build_check(build, rc, err);
    rc = build_store(build, payload, build->codec, handle, err);
    kv_block_build_reset(block);
    return rc;
}

/* ---- the index: separator -> handle, in partitions of its own once it is large */

static kv_status index_add(struct kv_block_build *index, kv_slice key, uint64_t version,
                           struct kv_block_handle handle)
{
    uint8_t value[2 * KV_VARINT_LEN_MAX];
    size_t n = kv_put_varint(value, handle.offset);
    n += kv_put_varint(value + n, handle.len);
    struct kv_entry entry = {
        .key = key, .version = version, .kind = KV_KIND_PUT, .value = kv_slice_of(value, n)};
    return kv_block_build_add(index, &entry);
}

/* A key s, as short as it goes, with last <= s < next. */
static kv_status index_separator(kv_slice last, kv_slice next, struct kv_buf *out)
{
    kv_buf_clear(out);
    size_t same = 0;
    while (same < last.len && same < next.len && last.data[same] == next.data[same])
        same++;
    /* The first differing byte of last, raised by one, cuts it short; if that would reach next, last itself
     * it is. */
    if (same < last.len && same < next.len && last.data[same] + 1 < next.data[same]) {
        kv_status rc = kv_buf_append(out, kv_slice_of(last.data, same + 1));
        if (rc == KV_OK)
            out->data[same]++;
        return rc;
    }
    return kv_buf_append(out, last);
}

static kv_status index_add_pending(struct kv_table_build *build, kv_slice next)
{
    kv_slice last = kv_buf_slice(&build->last_key);
    bool ends_key = next.len > 0 && kv_slice_compare(last, next) < 0;
    build->separator_version =
        ends_key ? 0 : build->last_version; /* 0: behind every version of the separator */
    kv_status rc = index_separator(last, ends_key ? next : last, &build->separator);
    if (rc < 0)
        return rc;
    build->pending = false;
    return index_add(&build->index, kv_buf_slice(&build->separator), build->separator_version,
                     build->pending_handle);
}

static kv_status index_end_partition(struct kv_table_build *build, struct kv_err *err)
{
    struct kv_block_handle handle = {0, 0};
    kv_status rc = build_store_entries(build, &build->index, &handle, err);
    if (rc < 0)
        return rc;
    return build_check(
        build, index_add(&build->top, kv_buf_slice(&build->separator), build->separator_version, handle),
        err);
}

/* Adds the block that waits to the index. next: the first key behind it; empty: none. */
static kv_status index_flush_pending(struct kv_table_build *build, kv_slice next, struct kv_err *err)
{
    if (!build->pending)
        return KV_OK;
    if (kv_block_build_bytes(&build->index) >= KV_INDEX_PARTITION_BYTES) {
        kv_status rc = index_end_partition(build, err);
        if (rc < 0)
            return rc;
    }
    return build_check(build, index_add_pending(build, next), err);
}

static kv_status build_end_block(struct kv_table_build *build, struct kv_err *err)
{
    if (build->data.n == 0)
        return KV_OK;
    KV_ASSERT(!build->pending);
    size_t plain = kv_block_build_bytes(&build->data);
    kv_status rc = build_store_entries(build, &build->data, &build->pending_handle, err);
    if (rc < 0)
        return rc;
    build->pending = true;
    build->block_full =
        build->pending_handle.len <= plain - plain / 8 ? build->block_bytes_most : build->block_bytes;
    build->properties.data_blocks++;
    build->properties.data_bytes += build->pending_handle.len;
    return KV_OK;
}

/* ---- adding */

static kv_status build_admit(const struct kv_table_build *build, const struct kv_entry *entry,
                             struct kv_err *err)
{
    if (entry->key.len == 0 || entry->key.len > KV_KEY_LEN_MAX || entry->value.len > KV_VALUE_LEN_MAX)
        return kv_fail(err, KV_INVALID, 0, "table %s: a key of %zu bytes, a value of %zu", build->name,
                       entry->key.len, entry->value.len);
    if (entry->version > KV_VERSION_STORED_MAX || !kv_kind_in_tables((unsigned)entry->kind))
        return kv_fail(err, KV_INVALID, 0, "table %s: version or kind out of range", build->name);
    if (build->properties.entries && kv_entry_compare(kv_buf_slice(&build->last_key), build->last_version,
                                                      entry->key, entry->version) >= 0)
        return kv_fail(err, KV_INVALID, 0, "table %s: entry %llu is not behind the one before it",
                       build->name, (unsigned long long)build->properties.entries);
    return KV_OK;
}

kv_status kv_table_properties_count(struct kv_table_properties *properties, const struct kv_entry *entry)
{
    if (entry->kind > KV_KIND_PUT) {
        struct kv_attrs attrs;
        kv_slice value = entry->value;
        kv_status rc = kv_attrs_take(&value, &attrs);
        if (rc < 0)
            return rc;
        properties->rich++;
        if (attrs.expires_at_s && entry->kind != KV_KIND_MERGE) { /* operands outlive what they apply to */
            if (!properties->expiring++ || attrs.expires_at_s < properties->expiry_min_s)
                properties->expiry_min_s = attrs.expires_at_s;
            if (attrs.expires_at_s > properties->expiry_max_s)
                properties->expiry_max_s = attrs.expires_at_s;
        }
    }
    properties->entries++;
    properties->deletes += entry->kind == KV_KIND_DELETE;
    properties->raw_key_bytes += entry->key.len;
    properties->raw_value_bytes += entry->value.len;
    if (entry->version < properties->version_min)
        properties->version_min = entry->version;
    if (entry->version > properties->version_max)
        properties->version_max = entry->version;
    return KV_OK;
}

/* Counts the bytes a pointer points at. */
static kv_status build_refer(struct kv_table_build *build, kv_slice value)
{
    struct kv_attrs attrs;
    struct kv_pointer pointer;
    kv_status rc = kv_attrs_take(&value, &attrs);
    if (rc == KV_OK)
        rc = kv_pointer_take(&value, &pointer);
    if (rc < 0)
        return rc;
    struct build_ref *refs = (struct build_ref *)(void *)build->refs.data;
    size_t n = build->refs.len / sizeof *refs, at = n;
    while (at > 0 && refs[at - 1].segment > pointer.segment) /* few, and mostly the newest */
        at--;
    if (at > 0 && refs[at - 1].segment == pointer.segment) {
        refs[at - 1].bytes += pointer.len;
        return KV_OK;
    }
    if (!kv_buf_extend(&build->refs, sizeof *refs))
        return KV_NO_MEMORY;
    refs = (struct build_ref *)(void *)build->refs.data;
    memmove(&refs[at + 1], &refs[at], (n - at) * sizeof *refs);
    refs[at] = (struct build_ref){pointer.segment, pointer.len};
    return KV_OK;
}

static kv_status build_remember(struct kv_table_build *build, const struct kv_entry *entry)
{
    struct kv_table_properties *properties = &build->properties;
    bool new_key = !properties->entries || !kv_slice_equal(kv_buf_slice(&build->last_key), entry->key);
    kv_status rc = KV_OK;
    if (new_key) {
        if (!build->no_filter)
            KV_TRY(kv_filter_build_add(&build->filter, entry->key));
        if (!properties->entries)
            KV_TRY(kv_buf_append(&build->first_key, entry->key));
        kv_buf_clear(&build->last_key);
        KV_TRY(kv_buf_append(&build->last_key, entry->key));
        properties->keys++;
    }
    build->last_version = entry->version;
    KV_TRY(kv_table_properties_count(properties, entry));
    if (entry->kind == KV_KIND_POINTER)
        KV_TRY(build_refer(build, entry->value));
out:
    return rc;
}

kv_status kv_table_build_add(struct kv_table_build *build, const struct kv_entry *entry, struct kv_err *err)
{
    KV_ASSERT(!build->finished);
    kv_status rc = build_admit(build, entry, err);
    if (rc < 0)
        return rc;
    /* A block ends once it is full, and before a value that fills one alone. */
    if (kv_block_build_bytes(&build->data) >= build->block_full || entry->value.len >= build->block_bytes) {
        KV_TRY(build_end_block(build, err));
        KV_TRY(index_flush_pending(build, entry->key, err));
    }
    KV_TRY(build_check(build, kv_block_build_add(&build->data, entry), err));
    KV_TRY(build_check(build, build_remember(build, entry), err));
out:
    return rc;
}

/* ---- finishing */

static kv_status properties_put(struct kv_buf *out, enum kv_table_tag tag, kv_slice bytes)
{
    kv_status rc = kv_buf_append_varint(out, (uint64_t)tag);
    return rc < 0 ? rc : kv_buf_append_lp(out, bytes);
}

static kv_status properties_put_number(struct kv_buf *out, enum kv_table_tag tag, uint64_t v)
{
    uint8_t bytes[KV_VARINT_LEN_MAX];
    return properties_put(out, tag, kv_slice_of(bytes, kv_put_varint(bytes, v)));
}

static kv_status properties_put_expiry(struct kv_buf *out, const struct kv_table_properties *properties)
{
    uint8_t bytes[3 * KV_VARINT_LEN_MAX];
    size_t n = kv_put_varint(bytes, properties->expiring);
    n += kv_put_varint(bytes + n, properties->expiry_min_s);
    n += kv_put_varint(bytes + n, properties->expiry_max_s);
    return properties_put(out, KV_TAG_EXPIRY, kv_slice_of(bytes, n));
}

static kv_status properties_encode(const struct kv_table_properties *properties, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(properties_put_number(out, KV_TAG_SPACE, properties->space));
    KV_TRY(properties_put(out, KV_TAG_SPACE_NAME, properties->space_name));
    KV_TRY(properties_put(out, KV_TAG_SMALLEST, properties->smallest));
    KV_TRY(properties_put(out, KV_TAG_LARGEST, properties->largest));
    KV_TRY(properties_put_number(out, KV_TAG_CUT_LEN, properties->cut.len));
    KV_TRY(properties_put_number(out, KV_TAG_VERSION_MIN, properties->version_min));
    KV_TRY(properties_put_number(out, KV_TAG_VERSION_MAX, properties->version_max));
    KV_TRY(properties_put_number(out, KV_TAG_ENTRIES, properties->entries));
    KV_TRY(properties_put_number(out, KV_TAG_DELETES, properties->deletes));
    KV_TRY(properties_put_number(out, KV_TAG_KEYS, properties->keys));
    KV_TRY(properties_put_number(out, KV_TAG_RAW_KEY_BYTES, properties->raw_key_bytes));
    KV_TRY(properties_put_number(out, KV_TAG_RAW_VALUE_BYTES, properties->raw_value_bytes));
    KV_TRY(properties_put_number(out, KV_TAG_DATA_BLOCKS, properties->data_blocks));
    KV_TRY(properties_put_number(out, KV_TAG_DATA_BYTES, properties->data_bytes));
    if (properties->rich)
        KV_TRY(properties_put_number(out, KV_TAG_RICH, properties->rich));
    if (properties->ranges_applied)
        KV_TRY(properties_put_number(out, KV_TAG_RANGES_APPLIED, properties->ranges_applied));
    if (properties->deletes && properties->deletes_since_s)
        KV_TRY(properties_put_number(out, KV_TAG_DELETES_SINCE, properties->deletes_since_s));
    if (properties->written_after)
        KV_TRY(properties_put_number(out, KV_TAG_WRITTEN_AFTER, properties->written_after));
    if (properties->value_refs.len)
        KV_TRY(properties_put(out, KV_TAG_VALUE_REFS, properties->value_refs));
    if (properties->expiring)
        KV_TRY(properties_put_expiry(out, properties));
out:
    return rc;
}

static kv_status properties_settle(struct kv_table_build *build)
{
    struct kv_table_properties *properties = &build->properties;
    kv_status rc = KV_OK;
    for (size_t at = 0; at < build->refs.len && rc == KV_OK; at += sizeof(struct build_ref)) {
        struct build_ref ref;
        memcpy(&ref, build->refs.data + at, sizeof ref);
        rc = kv_buf_append_varint(&build->refs_encoded, ref.segment);
        if (rc == KV_OK)
            rc = kv_buf_append_varint(&build->refs_encoded, ref.bytes);
    }
    properties->value_refs = kv_buf_slice(&build->refs_encoded);
    if (!properties->entries)
        properties->version_min = 0;
    properties->smallest = kv_buf_slice(&build->first_key);
    properties->largest = kv_buf_slice(&build->last_key);
    properties->space_name = kv_slice_str(build->space_name);
    properties->cut = properties->smallest;
    if (build->cut_len < properties->cut.len)
        properties->cut.len = build->cut_len;
    return rc;
}

static kv_status build_store_index(struct kv_table_build *build, uint8_t *levels,
                                   struct kv_block_handle *handle, struct kv_err *err)
{
    if (build->top.n == 0) {
        *levels = 1;
        return build_store_entries(build, &build->index, handle, err);
    }
    *levels = 2;
    kv_status rc = index_end_partition(build, err);
    return rc < 0 ? rc : build_store_entries(build, &build->top, handle, err);
}

static kv_status build_store_filter(struct kv_table_build *build, struct kv_block_handle *handle,
                                    struct kv_err *err)
{
    struct kv_buf bytes = {0};
    kv_status rc = KV_OK;
    if (build->no_filter || !build->properties.entries)
        return KV_OK;
    KV_TRY(build_check(build, kv_filter_build_finish(&build->filter, &bytes), err));
    KV_TRY(build_store(build, kv_buf_slice(&bytes), KV_CODEC_PLAIN, handle, err));
out:
    kv_buf_release(&bytes);
    return rc;
}

static kv_status build_store_properties(struct kv_table_build *build, struct kv_block_handle *handle,
                                        struct kv_err *err)
{
    struct kv_buf bytes = {0};
    kv_status rc;
    KV_TRY(build_check(build, properties_settle(build), err));
    KV_TRY(build_check(build, properties_encode(&build->properties, &bytes), err));
    KV_TRY(build_store(build, kv_buf_slice(&bytes), KV_CODEC_PLAIN, handle, err));
out:
    kv_buf_release(&bytes);
    return rc;
}

static kv_status build_footer(struct kv_table_build *build, const struct kv_block_handle handles[3],
                              uint8_t levels, struct kv_err *err)
{
    uint64_t offset = build->written + build->out.len;
    size_t len = build->cipher ? KV_TABLE_FOOTER_SEALED_LEN : KV_TABLE_FOOTER_LEN;
    uint8_t *footer = kv_buf_extend(&build->out, len), *p = footer;
    if (!footer)
        return build_check(build, KV_NO_MEMORY, err);
    for (int i = 0; i < 3; i++, p += 16) {
        kv_put_fixed64(p, handles[i].offset);
        kv_put_fixed64(p + 8, handles[i].len);
    }
    build->properties.file_bytes = offset + len;
    kv_put_fixed64(p, build->properties.file_bytes);
    kv_put_fixed32(p + 8, levels);
    kv_slice body = kv_slice_of(footer, KV_TABLE_FOOTER_BODY_LEN);
    kv_put_fixed64(footer + len - 8, KV_TABLE_FOOTER_MAGIC);
    if (build->cipher)
        return build_check(build, kv_cipher_seal(build->cipher, offset, KV_STR(""), body, footer), err);
    kv_put_fixed32(p + 12, kv_block_sum(build->uid_sum, offset, body));
    return KV_OK;
}

kv_status kv_table_build_finish(struct kv_table_build *build, struct kv_table_properties *properties,
                                struct kv_err *err)
{
    struct kv_block_handle handles[3] = {{0, 0}}; /* top index, filter, properties */
    uint8_t levels = 1;
    kv_status rc;
    KV_TRY(build_end_block(build, err));
    KV_TRY(index_flush_pending(build, KV_STR(""), err));
    KV_TRY(build_store_index(build, &levels, &handles[0], err));
    KV_TRY(build_store_filter(build, &handles[1], err));
    KV_TRY(build_store_properties(build, &handles[2], err));
    KV_TRY(build_footer(build, handles, levels, err));
    KV_TRY(build_write(build, 0, err));
    KV_TRY(kv_file_sync(build->file, err));
    build->finished = true;
    if (properties)
        *properties = build->properties;
out:
    return rc;
}
