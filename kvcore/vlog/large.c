#include "kvcore/vlog/large.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"

#include <inttypes.h>

/* ---- writing */

struct kv_large_build {
    struct kv_segment_build *segment;
    enum kv_codec codec;
    size_t block_bytes;
    struct kv_buf block;       /* of the value, not yet a whole block */
    struct kv_buf index;       /* its payload so far */
    struct kv_pointer pointer; /* of what is written; len and value_len grow */
};

kv_status kv_large_build_open(struct kv_segment_build *segment, size_t block_bytes, enum kv_codec codec,
                              struct kv_large_build **out)
{
    KV_ASSERT(block_bytes >= KV_LARGE_BLOCK_BYTES_MIN && block_bytes <= KV_LARGE_BLOCK_BYTES);
    struct kv_large_build *build = kv_zalloc(1, sizeof *build);
    if (!build)
        return KV_NO_MEMORY;
    build->segment = segment;
    build->codec = codec;
    build->block_bytes = block_bytes;
    kv_status rc = kv_buf_append_varint(&build->index, block_bytes);
    if (rc < 0)
        kv_large_build_free(build);
    else
        *out = build;
    return rc;
}

static kv_status build_block(struct kv_large_build *build, kv_slice bytes, struct kv_err *err)
{
    struct kv_pointer at;
    kv_status rc = kv_segment_build_add(build->segment, bytes, build->codec, &at, err);
    if (rc < 0)
        return rc;
    if (build->pointer.len == 0)
        build->pointer = at; /* the first one: here it begins */
    else
        build->pointer.len += at.len;
    build->pointer.value_len += bytes.len;
    rc = kv_buf_append_varint(&build->index, at.len);
    return rc < 0 ? kv_fail(err, rc, 0, "out of memory writing a large value") : KV_OK;
}

kv_status kv_large_build_add(struct kv_large_build *build, kv_slice bytes, struct kv_err *err)
{
    kv_status rc = KV_OK;
    if (bytes.len > KV_LARGE_VALUE_MAX - build->pointer.value_len - build->block.len)
        return kv_fail(err, KV_LIMIT, 0, "a value of more than %d bytes", KV_LARGE_VALUE_MAX);
    while (bytes.len && rc == KV_OK) {
        size_t n = build->block_bytes - build->block.len;
        n = n < bytes.len ? n : bytes.len;
        kv_slice part = kv_slice_of(bytes.data, n);
        if (n == build->block_bytes) { /* a whole one where it lies */
            rc = build_block(build, part, err);
        } else {
            rc = kv_buf_append(&build->block, part);
            if (rc < 0)
                return kv_fail(err, rc, 0, "out of memory writing a large value");
            if (build->block.len == build->block_bytes) {
                rc = build_block(build, kv_buf_slice(&build->block), err);
                kv_buf_clear(&build->block);
            }
        }
        bytes = kv_slice_from(bytes, n);
    }
    return rc;
}

kv_status kv_large_build_finish(struct kv_large_build *build, struct kv_pointer *pointer, struct kv_err *err)
{
    struct kv_pointer index;
    kv_status rc;
    if (build->block.len)
        KV_TRY(build_block(build, kv_buf_slice(&build->block), err));
    KV_ASSERT(build->pointer.value_len > 0);
    KV_TRY(kv_segment_build_add(build->segment, kv_buf_slice(&build->index), build->codec, &index, err));
    build->pointer.index_len = index.len;
    build->pointer.len += index.len;
    *pointer = build->pointer;
out:
    return rc;
}

void kv_large_build_free(struct kv_large_build *build)
{
    if (!build)
        return;
    kv_buf_release(&build->block);
    kv_buf_release(&build->index);
    kv_free(build);
}

/* ---- reading */

struct kv_large {
    struct kv_segment *segment;
    struct kv_pointer pointer;
    uint64_t block_bytes;
    uint64_t *places; /* of the blocks in the file, and where the index begins */
    size_t n;         /* blocks */
    size_t at;        /* the block that is held */
    struct kv_block *held;
};

/* index := block_bytes:varint stored_len:varint{n} */
static kv_status large_take_index(struct kv_large *large, kv_slice index)
{
    const struct kv_pointer *pointer = &large->pointer;
    uint64_t end = pointer->offset + pointer->len - pointer->index_len, stored;
    if (kv_take_varint(&index, &large->block_bytes) < 0 || large->block_bytes < KV_LARGE_BLOCK_BYTES_MIN ||
        large->block_bytes > KV_LARGE_BLOCK_BYTES)
        return KV_CORRUPT;
    large->n = (size_t)((pointer->value_len + large->block_bytes - 1) / large->block_bytes);
    if (large->n > index.len)
        return KV_CORRUPT; /* each takes a byte at least */
    large->places = kv_alloc((large->n + 1) * sizeof *large->places);
    if (!large->places)
        return KV_NO_MEMORY;
    large->places[0] = pointer->offset;
    for (size_t i = 0; i < large->n; i++) {
        if (kv_take_varint(&index, &stored) < 0 || stored > end - large->places[i])
            return KV_CORRUPT;
        large->places[i + 1] = large->places[i] + stored;
    }
    return index.len == 0 && large->places[large->n] == end ? KV_OK : KV_CORRUPT;
}

kv_status kv_large_open(struct kv_segment *segment, const struct kv_pointer *pointer, struct kv_large **out,
                        struct kv_err *err)
{
    struct kv_block *index = NULL;
    uint64_t end = kv_segment_bytes(segment);
    if (pointer->value_len == 0 || pointer->value_len > KV_LARGE_VALUE_MAX || pointer->offset > end ||
        pointer->len > end - pointer->offset || pointer->index_len > pointer->len)
        return kv_segment_damaged(segment, KV_CORRUPT, pointer->offset, "a large value outside the file",
                                  err);
    struct kv_large *large = kv_zalloc(1, sizeof *large);
    if (!large)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory to read a large value");
    large->segment = kv_segment_ref(segment);
    large->pointer = *pointer;
    struct kv_pointer at = {.segment = pointer->segment,
                            .offset = pointer->offset + pointer->len - pointer->index_len,
                            .len = pointer->index_len};
    kv_status rc = kv_segment_read(segment, &at, true, &index, err);
    if (rc == KV_OK) {
        rc = large_take_index(large, index->bytes);
        if (rc == KV_NO_MEMORY)
            kv_fail(err, rc, 0, "no memory to read a large value");
        else if (rc < 0)
            rc = kv_segment_damaged(segment, rc, at.offset, "not the index of this value", err);
    }
    kv_block_unref(index);
    if (rc < 0)
        kv_large_close(large);
    else
        *out = large;
    return rc;
}

void kv_large_close(struct kv_large *large)
{
    if (!large)
        return;
    kv_block_unref(large->held);
    kv_segment_unref(large->segment);
    kv_free(large->places);
    kv_free(large);
}

/* The block becomes the one that is held. */
static kv_status large_hold(struct kv_large *large, size_t i, struct kv_err *err)
{
    if (large->held && large->at == i)
        return KV_OK;
    kv_block_unref(large->held);
    large->held = NULL;
    struct kv_pointer at = {.segment = large->pointer.segment,
                            .offset = large->places[i],
                            .len = large->places[i + 1] - large->places[i]};
    uint64_t left = large->pointer.value_len - i * large->block_bytes;
    kv_status rc = kv_segment_read(large->segment, &at, false, &large->held, err);
    if (rc < 0)
        return rc;
    KV_ASSERT(large->held != NULL);
    large->at = i;
    if (large->held->bytes.len == (left < large->block_bytes ? left : large->block_bytes))
        return KV_OK;
    kv_block_unref(large->held);
    large->held = NULL;
    return kv_segment_damaged(large->segment, KV_CORRUPT, at.offset, "a block of another length", err);
}

kv_status kv_large_read(struct kv_large *large, uint64_t offset, size_t len, uint8_t *into,
                        struct kv_err *err)
{
    KV_ASSERT(offset <= large->pointer.value_len && len <= large->pointer.value_len - offset);
    while (len > 0) {
        size_t from = (size_t)(offset % large->block_bytes);
        kv_status rc = large_hold(large, (size_t)(offset / large->block_bytes), err);
        if (rc < 0)
            return rc;
        KV_ASSERT(large->held != NULL);
        size_t n = large->held->bytes.len - from;
        n = n < len ? n : len;
        memcpy(into, large->held->bytes.data + from, n);
        into += n;
        offset += n;
        len -= n;
    }
    return KV_OK;
}

kv_status kv_large_verify(struct kv_large *large, struct kv_err *err)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < large->n && rc == KV_OK; i++)
        rc = large_hold(large, i, err);
    return rc;
}

kv_status kv_large_read_whole(struct kv_segment *segment, const struct kv_pointer *pointer,
                              struct kv_block **out, struct kv_err *err)
{
    struct kv_large *large = NULL;
    if (pointer->value_len > KV_VALUE_LEN_MAX)
        return kv_fail(err, KV_LIMIT, 0,
                       "a value of %" PRIu64 " bytes; whole at most %d: read it in parts, with kv_value_open",
                       pointer->value_len, KV_VALUE_LEN_MAX);
    kv_status rc = kv_large_open(segment, pointer, &large, err);
    if (rc < 0)
        return rc;
    KV_ASSERT(large != NULL);
    size_t len = (size_t)pointer->value_len;
    uint8_t *bytes = kv_alloc(len);
    if (!bytes)
        rc = KV_NO_MEMORY;
    if (rc == KV_OK)
        rc = kv_large_read(large, 0, len, bytes, err);
    if (rc < 0)
        kv_free(bytes);
    else
        rc = kv_block_of_bytes(bytes, len, out);
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "no memory for a value of %zu bytes", len);
    kv_large_close(large);
    return rc;
}
