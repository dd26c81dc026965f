/*
 * Any bytes as a container of backups. The first byte chooses: an archive, verified; a receipt; or, without a
 * container around them (a fuzzer does not guess checksums), the fields of a list of files or of a catalog, which come back the same when
 * they are written again. Bit 3: sums are made right first.
 */
#include "kvcore/backup/archive.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static kv_status read_slice(void *ctx, uint8_t *into, size_t len, size_t *got, struct kv_err *err)
{
    kv_slice *left = ctx;
    (void)err;
    *got = len < left->len ? len : left->len;
    if (*got)
        memcpy(into, left->data, *got);
    *left = kv_slice_from(*left, *got);
    return KV_OK;
}

static void archive(kv_slice bytes)
{
    struct kv_source source = {read_slice, &bytes};
    struct kv_restore_options options = {.archives = &source, .n_archives = 1};
    struct kv_err err;
    kv_status rc = kv_backup_verify(NULL, &options, NULL, NULL, &err); /* an archive needs no environment */
    (void)rc;
}

static void receipt(kv_slice bytes)
{
    struct kv_backup_set set;
    struct kv_err err;
    kv_status rc = kv_receipt_decode(bytes, NULL, &set, &err);
    (void)rc;
    kv_set_release(&set);
}

static void list(kv_slice bytes)
{
    struct kv_backup_set set, again;
    struct kv_buf first = {0}, second = {0};
    struct kv_err err;
    if (kv_set_decode(bytes, true, &set, &err) == KV_OK) {
        if (kv_set_encode(&set, true, &first) < 0 ||
            kv_set_decode(kv_buf_slice(&first), true, &again, &err) < 0 ||
            kv_set_encode(&again, true, &second) < 0 ||
            !kv_slice_equal(kv_buf_slice(&first), kv_buf_slice(&second)))
            abort();
        kv_set_release(&again);
    }
    kv_set_release(&set);
    kv_buf_release(&first);
    kv_buf_release(&second);
}

static void catalog(kv_slice bytes)
{
    struct kv_catalog found, again;
    struct kv_buf first = {0}, second = {0};
    struct kv_err err;
    if (kv_catalog_decode(bytes, &found, &err) == KV_OK) {
        if (kv_catalog_encode(&found, &first) < 0 ||
            kv_catalog_decode(kv_buf_slice(&first), &again, &err) < 0 ||
            kv_catalog_encode(&again, &second) < 0 ||
            !kv_slice_equal(kv_buf_slice(&first), kv_buf_slice(&second)))
            abort();
        kv_catalog_release(&again);
    }
    kv_catalog_release(&found);
    kv_buf_release(&first);
    kv_buf_release(&second);
}

/* Every crc made right, so that what lies behind it is reached. */
static void mend(uint8_t *bytes, size_t len)
{
    uint8_t bound[KV_FILE_UID_LEN + 8 + 8];
    if (len < KV_FILE_HEADER_LEN)
        return;
    kv_put_fixed32(bytes + KV_FILE_HEADER_LEN - 4, kv_crc32c(0, kv_slice_of(bytes, KV_FILE_HEADER_LEN - 4)));
    memcpy(bound, bytes + KV_FILE_HEADER_AT_UID, KV_FILE_UID_LEN);
    for (size_t at = KV_FILE_HEADER_LEN; len - at >= KV_FRAME_HEADER_LEN;) {
        size_t payload = kv_get_fixed32(bytes + at + 8);
        if (payload > len - at - KV_FRAME_HEADER_LEN)
            return;
        kv_put_fixed64(bound + KV_FILE_UID_LEN, at);
        memcpy(bound + KV_FILE_UID_LEN + 8, bytes + at + 8, 8);
        uint32_t sum = kv_crc32c(kv_crc32c(0, kv_slice_of(bound, sizeof bound)),
                                 kv_slice_of(bytes + at + KV_FRAME_HEADER_LEN, payload));
        kv_put_fixed32(bytes + at + 4, sum);
        at += KV_FRAME_HEADER_LEN + payload;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint8_t *copy = malloc(size);
    if (!copy)
        return 0;
    memcpy(copy, data + 1, size - 1);
    if (data[0] & 8)
        mend(copy, size - 1);
    kv_slice rest = kv_slice_of(copy, size - 1);
    switch (data[0] & 7) {
    case 0:
    case 1:
        archive(rest);
        break;
    case 2:
        receipt(rest);
        break;
    case 3:
        list(rest);
        break;
    default:
        catalog(rest);
        break;
    }
    free(copy);
    return 0;
}
