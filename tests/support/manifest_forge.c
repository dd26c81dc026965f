#include "tests/support/manifest_forge.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"
#include "tests/support/file_kit.h"

static const uint8_t uuid[KV_UUID_LEN] = {'f', 'o', 'r', 'g', 'e', 'd'}, seed[KV_UUID_LEN] = {2};

static void append(struct kv_buf *buf, kv_slice bytes)
{
    kv_status rc = kv_buf_append(buf, bytes);
    KV_ASSERT(rc == KV_OK);
}

void manifest_forge_begin(struct manifest_forge *forge, uint8_t id)
{
    static const uint8_t room[KV_FILE_HEADER_LEN];
    kv_buf_clear(&forge->bytes);
    forge->header = (struct kv_file_header){.kind = KV_FILE_MANIFEST, .format = KV_MANIFEST_FORMAT};
    memcpy(forge->header.uuid, uuid, sizeof uuid);
    memset(forge->header.uid, id, sizeof forge->header.uid);
    append(&forge->bytes, kv_slice_of(room, sizeof room));
}

void manifest_forge_release(struct manifest_forge *forge)
{
    kv_buf_release(&forge->bytes);
}

void manifest_forge_frame(struct manifest_forge *forge, uint64_t number, kv_slice fields)
{
    uint8_t place[KV_FILE_UID_LEN + 8 + 8 + 4], head[20] = {'K', 'v', 'E', 'd'};
    memcpy(place, forge->header.uid, KV_FILE_UID_LEN);
    kv_put_fixed64(place + KV_FILE_UID_LEN, forge->bytes.len);
    kv_put_fixed64(place + KV_FILE_UID_LEN + 8, number);
    kv_put_fixed32(place + KV_FILE_UID_LEN + 16, (uint32_t)fields.len);
    kv_put_fixed32(head + 4, kv_crc32c(kv_crc32c(0, kv_slice_of(place, sizeof place)), fields));
    kv_put_fixed32(head + 8, (uint32_t)fields.len);
    kv_put_fixed64(head + 12, number);
    append(&forge->bytes, kv_slice_of(head, sizeof head));
    append(&forge->bytes, fields);
}

void manifest_forge_edit(struct manifest_forge *forge, uint64_t number, struct kv_edit *edit)
{
    KV_ASSERT(edit->rc == KV_OK);
    manifest_forge_frame(forge, number, kv_buf_slice(&edit->fields));
    kv_edit_release(edit);
}

void manifest_forge_snapshot(struct manifest_forge *forge, uint64_t number, uint64_t next_file)
{
    struct kv_edit edit = {0};
    kv_edit_identity(&edit, forge->header.uuid, seed);
    kv_edit_space(&edit, 0, "a", KV_STYLE_RUNS);
    kv_edit_space_order(&edit, (const uint8_t[]){0}, 1);
    kv_edit_next_file(&edit, next_file);
    manifest_forge_edit(forge, number, &edit);
}

void manifest_forge_seq(struct manifest_forge *forge, uint64_t number, uint64_t seq)
{
    struct kv_edit edit = {0};
    kv_edit_last_seq(&edit, seq);
    manifest_forge_edit(forge, number, &edit);
}

void manifest_forge_store(struct manifest_forge *forge, struct kv_vfs *vfs, const char *path,
                          const char *name)
{
    kv_file_header_encode(&forge->header, forge->bytes.data);
    file_kit_write(vfs, path, name, kv_buf_slice(&forge->bytes));
}

void manifest_forge_publish(struct kv_dir *dir, const char *name)
{
    struct kv_buf before = {0};
    uint64_t generation = 0;
    kv_status rc = dir->ops->published(dir, &before, &generation, NULL);
    KV_ASSERT(rc >= 0);
    rc = dir->ops->publish(dir, kv_slice_of(name, strlen(name)), generation, NULL);
    KV_ASSERT(rc == KV_OK);
    kv_buf_release(&before);
}
