#include "tests/support/sst_forge.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/file_header.h"
#include "kvcore/sst/block.h"
#include "kvcore/sst/filter.h"

struct file {
    struct kv_buf bytes;
    uint32_t uid_sum;
};

void forge_init(struct forge *forge)
{
    static const char *const keys[] = {"a", "b", "c", "d"};
    *forge = (struct forge){.levels = 1, .levels_said = 1, .n = {2, 2}};
    for (int i = 0; i < 4; i++)
        forge->entries[i / 2][i % 2] = (struct kv_entry){
            .key = kv_slice_str(keys[i]), .version = 5, .kind = KV_KIND_PUT, .value = kv_slice_str(keys[i])};
    for (int i = 0; i < FORGE_BLOCKS; i++) {
        forge->separators[i] = (struct kv_entry){.key = kv_slice_str(keys[2 * i + 1]), .kind = KV_KIND_PUT};
        forge->top[i] = forge->separators[i];
    }
}

void forge_number(struct forge *forge, enum kv_table_tag tag, uint64_t v)
{
    struct forge_field *field = &forge->fields[tag];
    field->set = true;
    field->bytes = kv_slice_of(field->number, kv_put_varint(field->number, v));
}

void forge_bytes(struct forge *forge, enum kv_table_tag tag, kv_slice bytes)
{
    forge->fields[tag].set = true;
    forge->fields[tag].bytes = bytes;
}

void forge_absent(struct forge *forge, enum kv_table_tag tag)
{
    forge->fields[tag].set = forge->fields[tag].absent = true;
}

static struct kv_block_handle put_block(struct file *file, kv_slice payload)
{
    struct kv_block_handle handle = {file->bytes.len, 0};
    KV_ASSERT(kv_block_store(payload, KV_CODEC_PLAIN, file->uid_sum, NULL, handle.offset, &file->bytes) ==
              KV_OK);
    handle.len = file->bytes.len - handle.offset;
    return handle;
}

static struct kv_block_handle put_entries(struct file *file, const struct kv_entry *entries, size_t n)
{
    struct kv_block_build build = {0};
    kv_slice payload = KV_STR("\0\0\0\0\0\0\0\0\0\0\0\0");
    for (size_t i = 0; i < n; i++)
        KV_ASSERT(kv_block_build_add(&build, &entries[i]) == KV_OK);
    if (n)
        KV_ASSERT(kv_block_build_finish(&build, &payload) == KV_OK);
    struct kv_block_handle handle = put_block(file, payload);
    kv_block_build_release(&build);
    return handle;
}

static kv_slice handle_bytes(uint8_t room[2 * KV_VARINT_LEN_MAX], struct kv_block_handle handle, kv_slice raw)
{
    size_t n = kv_put_varint(room, handle.offset);
    n += kv_put_varint(room + n, handle.len);
    return raw.data ? raw : kv_slice_of(room, n);
}

static struct kv_block_handle put_index(const struct forge *forge, struct file *file,
                                        const struct kv_block_handle blocks[FORGE_BLOCKS])
{
    uint8_t room[FORGE_BLOCKS][2 * KV_VARINT_LEN_MAX];
    struct kv_entry top[FORGE_BLOCKS];
    for (int i = 0; i < FORGE_BLOCKS; i++) {
        struct kv_block_handle below = blocks[forge->same_block ? 0 : i];
        if (forge->levels == 2) {
            struct kv_entry separator = forge->separators[i];
            separator.value = handle_bytes(room[i], below, (kv_slice){0});
            below = put_entries(file, &separator, forge->partition_empty[i] ? 0 : 1);
        }
        top[i] = forge->levels == 2 ? forge->top[i] : forge->separators[i];
        top[i].value = handle_bytes(room[i], below, forge->handle_raw[i]);
    }
    return put_entries(file, top, forge->top_empty ? 0 : FORGE_BLOCKS);
}

static struct kv_block_handle put_filter(const struct forge *forge, struct file *file)
{
    struct kv_filter_build build = {0};
    struct kv_buf bytes = {0};
    for (int i = 0; i < FORGE_BLOCKS; i++)
        for (size_t j = 0; j < forge->n[i]; j++)
            KV_ASSERT(kv_filter_build_add(&build, forge->entries[i][j].key) == KV_OK);
    KV_ASSERT(kv_filter_build_finish(&build, &bytes) == KV_OK);
    struct kv_block_handle handle =
        put_block(file, forge->filter.data ? forge->filter : kv_buf_slice(&bytes));
    kv_filter_build_release(&build);
    kv_buf_release(&bytes);
    return handle;
}

/* What the properties of these entries would be. */
static void fill_fields(const struct forge *forge, const struct kv_block_handle blocks[FORGE_BLOCKS],
                        struct forge *full)
{
    uint64_t entries = 0, key_bytes = 0, value_bytes = 0, data_bytes = 0;
    for (int i = 0; i < FORGE_BLOCKS; i++) {
        data_bytes += blocks[i].len;
        for (size_t j = 0; j < forge->n[i]; j++, entries++) {
            key_bytes += forge->entries[i][j].key.len;
            value_bytes += forge->entries[i][j].value.len;
        }
    }
    const struct {
        enum kv_table_tag tag;
        uint64_t v;
    } numbers[] = {{KV_TAG_SPACE, 3},
                   {KV_TAG_CUT_LEN, 0},
                   {KV_TAG_VERSION_MIN, 5},
                   {KV_TAG_VERSION_MAX, 5},
                   {KV_TAG_ENTRIES, entries},
                   {KV_TAG_DELETES, 0},
                   {KV_TAG_KEYS, entries},
                   {KV_TAG_RAW_KEY_BYTES, key_bytes},
                   {KV_TAG_RAW_VALUE_BYTES, value_bytes},
                   {KV_TAG_DATA_BLOCKS, FORGE_BLOCKS},
                   {KV_TAG_DATA_BYTES, data_bytes}};
    *full = *forge;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!full->fields[numbers[i].tag].set)
            forge_number(full, numbers[i].tag, numbers[i].v);
    if (!full->fields[KV_TAG_SMALLEST].set)
        forge_bytes(full, KV_TAG_SMALLEST, KV_STR("a"));
    if (!full->fields[KV_TAG_LARGEST].set)
        forge_bytes(full, KV_TAG_LARGEST, KV_STR("d"));
}

static struct kv_block_handle put_properties(const struct forge *forge, struct file *file,
                                             const struct kv_block_handle blocks[FORGE_BLOCKS])
{
    struct forge full;
    struct kv_buf bytes = {0};
    fill_fields(forge, blocks, &full);
    for (uint64_t tag = 0; tag <= KV_TAG_MAX; tag++)
        if (full.fields[tag].set && !full.fields[tag].absent) {
            KV_ASSERT(kv_buf_append_varint(&bytes, tag) == KV_OK);
            KV_ASSERT(kv_buf_append_lp(&bytes, full.fields[tag].bytes) == KV_OK);
        }
    KV_ASSERT(kv_buf_append(&bytes, forge->properties_tail) == KV_OK);
    struct kv_block_handle handle =
        put_block(file, forge->properties.data ? forge->properties : kv_buf_slice(&bytes));
    kv_buf_release(&bytes);
    return handle;
}

static void put_footer(const struct forge *forge, struct file *file, const struct kv_block_handle handles[3])
{
    uint64_t offset = file->bytes.len;
    uint8_t *at = kv_buf_extend(&file->bytes, KV_TABLE_FOOTER_LEN), *footer = at;
    KV_ASSERT(footer);
    for (int i = 0; i < 3; i++, at += 16) {
        kv_put_fixed64(at, handles[i].offset);
        kv_put_fixed64(at + 8, handles[i].len);
    }
    kv_put_fixed64(at, file->bytes.len + (uint64_t)forge->file_bytes_off);
    kv_put_fixed32(at + 8, forge->levels_said);
    kv_put_fixed32(at + 12,
                   kv_block_sum(file->uid_sum, offset, kv_slice_of(footer, KV_TABLE_FOOTER_BODY_LEN)));
    kv_put_fixed64(at + 16, KV_TABLE_FOOTER_MAGIC);
}

void forge_write(const struct forge *forge, struct sst_kit *kit, const char *name)
{
    struct file file = {.uid_sum = 0};
    struct kv_file_header header = {.kind = KV_FILE_TABLE, .format = KV_TABLE_FORMAT, .owner_epoch = 1};
    struct kv_block_handle blocks[FORGE_BLOCKS], handles[3] = {{0, 0}};
    memcpy(header.uuid, sst_uuid, sizeof header.uuid);
    memcpy(header.uid, "a forged table..", sizeof header.uid);
    file.uid_sum = kv_crc32c(0, kv_slice_of(header.uid, sizeof header.uid));
    uint8_t *raw = kv_buf_extend(&file.bytes, KV_FILE_HEADER_LEN);
    KV_ASSERT(raw);
    kv_file_header_encode(&header, raw);
    for (int i = 0; i < FORGE_BLOCKS; i++) {
        blocks[i] = put_entries(&file, forge->entries[i], forge->n[i]);
        for (size_t gap = 0; i == 0 && gap < forge->gap; gap++)
            KV_ASSERT(kv_buf_append_byte(&file.bytes, 0) == KV_OK);
    }
    handles[0] = put_index(forge, &file, blocks);
    if (!forge->no_filter)
        handles[1] = put_filter(forge, &file);
    handles[2] = put_properties(forge, &file, blocks);
    put_footer(forge, &file, handles);
    sst_file_write(kit, name, kv_buf_slice(&file.bytes));
    kv_buf_release(&file.bytes);
}
