#include "tests/support/box_kit.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"

#include <stdio.h>

void box_open(struct box *box)
{
    *box = (struct box){.err = {0}};
    box->sink = backup_bytes_sink(&box->out);
    sst_clock_init(&box->clock, 5);
    KV_ASSERT(kv_frame_writer_open(&box->frames, &box->sink, &box->clock.clock, sst_uuid, 1, NULL) == KV_OK);
}

void box_put(struct box *box, int kind, kv_slice payload)
{
    KV_ASSERT(kv_frame_put(&box->frames, (enum kv_frame_kind)kind, payload, NULL) == KV_OK);
}

void box_put_raw(struct box *box, uint8_t kind, uint8_t flags, uint8_t zero_1, uint8_t zero_2,
                 kv_slice payload)
{
    uint8_t head[KV_FRAME_HEADER_LEN] = {'K', 'v', 'F', 'r'}, bound[KV_FILE_UID_LEN + 8 + 8];
    kv_put_fixed32(head + 8, (uint32_t)payload.len);
    head[12] = kind;
    head[13] = flags;
    head[14] = zero_1;
    head[15] = zero_2;
    memcpy(bound, box->frames.uid, KV_FILE_UID_LEN);
    kv_put_fixed64(bound + KV_FILE_UID_LEN, box->frames.offset);
    memcpy(bound + KV_FILE_UID_LEN + 8, head + 8, 8);
    kv_put_fixed32(head + 4, kv_crc32c(kv_crc32c(0, kv_slice_of(bound, sizeof bound)), payload));
    KV_ASSERT(kv_buf_append(&box->out.bytes, kv_slice_of(head, sizeof head)) == KV_OK);
    KV_ASSERT(kv_buf_append(&box->out.bytes, payload) == KV_OK);
    box->frames.offset += sizeof head + payload.len;
    box->frames.frames++;
}

void box_finish(struct box *box)
{
    KV_ASSERT(kv_frame_finish(&box->frames, NULL) == KV_OK);
}

void box_release(struct box *box)
{
    kv_frame_writer_release(&box->frames);
    backup_bytes_release(&box->out);
}

struct kv_backup_file box_file(const char *name, const char *content, enum kv_backup_form form)
{
    struct kv_backup_file file = {
        .bytes = strlen(content), .stored_bytes = strlen(content), .form = (uint8_t)form};
    struct kv_sha256 *sum = NULL;
    snprintf(file.name, sizeof file.name, "%s", name);
    memset(file.uid, name[5], sizeof file.uid);
    KV_ASSERT(kv_sha256_new(&sum) == KV_OK);
    kv_sha256_add(sum, kv_slice_str(content));
    kv_sha256_take(sum, file.sha256);
    kv_sha256_free(sum);
    return file;
}

void box_set(struct kv_backup_set *set, enum kv_backup_form form)
{
    *set = (struct kv_backup_set){.number = 3, .time_ms = -7, .version = 900};
    memcpy(set->uuid, sst_uuid, sizeof set->uuid);
    struct kv_backup_file log = box_file("000001.log", "log bytes", form),
                          man = box_file("000002.man", "manifest", form);
    KV_ASSERT(kv_set_add(set, &log) == KV_OK);
    KV_ASSERT(kv_set_add(set, &man) == KV_OK);
}

void box_put_field(struct kv_buf *out, uint64_t tag, kv_slice body)
{
    KV_ASSERT(kv_buf_append_varint(out, tag) == KV_OK);
    KV_ASSERT(kv_buf_append_lp(out, body) == KV_OK);
}
