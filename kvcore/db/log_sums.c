#include "kvcore/db/log_sums.h"

#include "kvcore/base/mem.h"

#include <inttypes.h>

void kv_log_sums_init(struct kv_log_sums *sums, const char *name, const uint8_t *uuid,
                      struct kv_keyring *keys, const struct kv_log_seal *seal)
{
    *sums = (struct kv_log_sums){.name = name, .uuid = uuid, .keys = keys, .seal = *seal};
}

void kv_log_sums_release(struct kv_log_sums *sums)
{
    kv_buf_release(&sums->pending);
    kv_cipher_free(sums->cipher);
    kv_free(sums->plain);
    sums->cipher = NULL;
    sums->plain = NULL;
}

static kv_status damaged(const struct kv_log_sums *sums, uint64_t offset, const char *what,
                         struct kv_err *err)
{
    return kv_fail(err, KV_CORRUPT, 0, "%s at offset %" PRIu64 ": %s", sums->name, offset, what);
}

/* Takes a header or fragment off the front of bytes, at sums->offset. KV_NOT_FOUND: it is not whole yet. */
static kv_status sums_header(struct kv_log_sums *sums, kv_slice bytes, size_t *taken, struct kv_err *err)
{
    struct kv_file_header header;
    struct kv_file_expect expect = {.kind = KV_FILE_LOG,
                                    .format_max = KV_LOG_FORMAT,
                                    .uuid = sums->uuid,
                                    .name = sums->name,
                                    .encrypted = true};
    if (bytes.len < KV_FILE_HEADER_LEN)
        return KV_NOT_FOUND;
    kv_status rc = kv_file_header_check(kv_slice_of(bytes.data, KV_FILE_HEADER_LEN), &expect, &header, err);
    if (rc == KV_OK)
        rc = kv_keyring_cipher(sums->keys, bytes.data, sums->seal.number, sums->name, &sums->cipher, err);
    if (rc == KV_OK && sums->cipher && !(sums->plain = kv_alloc(KV_LOG_FRAGMENT_MAX)))
        rc = kv_fail(err, KV_NO_MEMORY, 0, "out of memory checking %s", sums->name);
    if (rc < 0)
        return rc;
    sums->begun = true;
    sums->uid_sum = kv_log_uid_sum(header.uid);
    sums->seq = header.first_seq;
    *taken = KV_FILE_HEADER_LEN;
    return KV_OK;
}

static kv_status sums_fragment(struct kv_log_sums *sums, kv_slice bytes, size_t *taken, struct kv_err *err)
{
    struct kv_log_fragment fragment;
    if (bytes.len < KV_LOG_FRAGMENT_HEADER_LEN)
        return KV_NOT_FOUND;
    uint32_t total = kv_get_fixed32(bytes.data + KV_LOG_AT_TOTAL),
             place = kv_get_fixed32(bytes.data + KV_LOG_AT_PLACE);
    size_t longer = sums->cipher ? KV_CIPHER_TAG_LEN : 0;
    if (place < total && bytes.len < kv_log_fragment_size(total, place) + longer)
        return KV_NOT_FOUND;
    kv_status rc = KV_OK;
    if (sums->cipher)
        rc = kv_log_fragment_open(bytes, sums->cipher, sums->offset, sums->plain, &fragment);
    else if (!kv_log_fragment_valid(bytes, sums->uid_sum, sums->offset, &fragment))
        rc = KV_CORRUPT;
    if (rc < 0)
        return rc == KV_CORRUPT ? damaged(sums, sums->offset, "a damaged record", err)
                                : kv_fail(err, rc, 0, "checking %s", sums->name);
    if (fragment.seq != sums->seq || fragment.place != sums->place ||
        (sums->place > 0 && (fragment.total != sums->total || fragment.synced != sums->synced)))
        return damaged(sums, sums->offset, "a record that does not follow the one before", err);
    sums->total = fragment.total;
    sums->synced = fragment.synced;
    sums->place += (uint32_t)fragment.payload.len;
    if (sums->place == sums->total) {
        sums->place = 0;
        sums->seq++;
    }
    *taken = fragment.size;
    return KV_OK;
}

/* Takes what is whole. */
static kv_status sums_take(struct kv_log_sums *sums, kv_slice bytes, size_t *taken, struct kv_err *err)
{
    kv_status rc = KV_OK;
    *taken = 0;
    while (rc == KV_OK) {
        size_t n = 0;
        kv_slice rest = kv_slice_from(bytes, *taken);
        rc = sums->begun ? sums_fragment(sums, rest, &n, err) : sums_header(sums, rest, &n, err);
        *taken += n;
        sums->offset += n;
    }
    return rc == KV_NOT_FOUND ? KV_OK : rc;
}

kv_status kv_log_sums_add(struct kv_log_sums *sums, kv_slice bytes, struct kv_err *err)
{
    size_t taken;
    kv_status rc = kv_buf_append(&sums->pending, bytes);
    if (rc < 0)
        return kv_fail(err, rc, 0, "out of memory checking %s", sums->name);
    rc = sums_take(sums, kv_buf_slice(&sums->pending), &taken, err);
    if (rc == KV_OK && taken > 0) {
        memmove(sums->pending.data, sums->pending.data + taken, sums->pending.len - taken);
        sums->pending.len -= taken;
    }
    return rc;
}

kv_status kv_log_sums_end(struct kv_log_sums *sums, struct kv_err *err)
{
    if (!sums->begun || sums->pending.len > 0 || sums->place > 0 || sums->offset != sums->seal.valid_len)
        return damaged(sums, sums->offset, "the file ends before its seal", err);
    if (sums->seq != sums->seal.last_seq + 1)
        return damaged(sums, sums->offset, "its last record is not the one the manifest knows", err);
    return KV_OK;
}
