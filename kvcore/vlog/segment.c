#include "kvcore/vlog/segment.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/file_header.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/format.h"

enum { SEGMENT_WRITE_BYTES = 256 << 10 }; /* gathered before an append */

struct kv_segment {
    _Atomic uint32_t refs;
    struct kv_file *file;
    char *name;
    char *damage; /* NULL; else the file could not be opened, for this reason */
    struct kv_cache *cache;
    const struct kv_logger *log;
    struct kv_cipher *cipher; /* NULL: not encrypted */
    uint64_t id;              /* in the cache */
    uint64_t number, bytes;
    _Atomic uint64_t log_seq;
    uint32_t uid_sum;
    uint8_t uid[KV_FILE_UID_LEN];
    void (*gone)(void *ctx, uint64_t number);
    void *gone_ctx;
};

/* ---- reading */

kv_status kv_segment_damaged(const struct kv_segment *segment, kv_status rc, uint64_t offset,
                             const char *what, struct kv_err *err)
{
    kv_logf(segment->log, KV_LOG_ERROR, "segment_damaged", "file=%s offset=%llu what=%s status=%s",
            segment->name, (unsigned long long)offset, KV_LOGQ(what), kv_status_name(rc));
    return kv_fail(err, rc, 0, "value log %s, offset %llu: %s (%s)", segment->name,
                   (unsigned long long)offset, what, kv_status_text(rc));
}

static kv_status segment_open_header(struct kv_segment *segment,
                                     const struct kv_segment_open_options *options, struct kv_err *err)
{
    uint8_t bytes[KV_FILE_HEADER_LEN];
    size_t len = segment->bytes < sizeof bytes ? (size_t)segment->bytes : sizeof bytes;
    struct kv_file_expect expect = {.kind = KV_FILE_VLOG,
                                    .format_max = KV_SEGMENT_FORMAT,
                                    .uuid = options->db_uuid,
                                    .name = options->name,
                                    .encrypted = true};
    struct kv_file_header header = {0};
    kv_status rc = kv_file_read_exact(segment->file, 0, len, bytes, err);
    if (rc == KV_OK)
        rc = kv_file_header_check(kv_slice_of(bytes, len), &expect, &header, err);
    if (rc < 0)
        return rc;
    if (memcmp(options->uid, header.uid, sizeof header.uid) != 0)
        return kv_segment_damaged(segment, KV_CORRUPT, 0, "another file stands under this name", err);
    memcpy(segment->uid, header.uid, sizeof segment->uid);
    segment->uid_sum = kv_crc32c(0, kv_slice_of(header.uid, sizeof header.uid));
    return kv_keyring_cipher(options->keys, bytes, options->number, options->name, &segment->cipher, err);
}

kv_status kv_segment_open(const struct kv_segment_open_options *options, struct kv_segment **out,
                          struct kv_err *err)
{
    kv_status rc;
    struct kv_segment *segment = kv_zalloc(1, sizeof *segment);
    if (!segment)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory to open %s", options->name);
    atomic_init(&segment->refs, 1);
    segment->cache = options->cache;
    segment->log = options->log;
    segment->number = options->number;
    segment->id = kv_cache_new_id(options->cache);
    segment->name = kv_dup_str(options->name);
    if (!segment->name) {
        rc = kv_fail(err, KV_NO_MEMORY, 0, "no memory to open %s", options->name);
        goto out;
    }
    KV_TRY(kv_dir_open_file(options->dir, options->name, &segment->file, err));
    KV_TRY(kv_file_size(segment->file, &segment->bytes, err));
    if (segment->bytes != options->file_bytes) {
        rc = kv_segment_damaged(segment, KV_CORRUPT, segment->bytes,
                                "the file is not as long as it was written", err);
        goto out;
    }
    KV_TRY(segment_open_header(segment, options, err));
    segment->gone = options->gone; /* only an opened segment is announced as gone */
    segment->gone_ctx = options->gone_ctx;
    *out = segment;
    return KV_OK;
out:
    kv_segment_unref(segment);
    return rc;
}

kv_status kv_segment_open_damaged(const struct kv_segment_open_options *options, const char *why,
                                  struct kv_segment **out, struct kv_err *err)
{
    struct kv_segment *segment = kv_zalloc(1, sizeof *segment);
    if (!segment)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory to stand in for %s", options->name);
    atomic_init(&segment->refs, 1);
    segment->cache = options->cache;
    segment->log = options->log;
    segment->number = options->number;
    segment->bytes = options->file_bytes;
    segment->id = kv_cache_new_id(options->cache);
    memcpy(segment->uid, options->uid, sizeof segment->uid);
    segment->name = kv_dup_str(options->name);
    segment->damage = kv_dup_str(why);
    if (!segment->name || !segment->damage) {
        kv_segment_unref(segment);
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory to stand in for %s", options->name);
    }
    segment->gone = options->gone;
    segment->gone_ctx = options->gone_ctx;
    *out = segment;
    return KV_OK;
}

const char *kv_segment_damage(const struct kv_segment *segment)
{
    return segment->damage;
}

struct kv_segment *kv_segment_ref(struct kv_segment *segment)
{
    atomic_fetch_add_explicit(&segment->refs, 1, memory_order_relaxed);
    return segment;
}

void kv_segment_unref(struct kv_segment *segment)
{
    if (!segment || atomic_fetch_sub_explicit(&segment->refs, 1, memory_order_acq_rel) != 1)
        return;
    kv_file_close(segment->file);
    kv_cache_drop(segment->cache, segment->id);
    kv_cipher_free(segment->cipher);
    if (segment->gone)
        segment->gone(segment->gone_ctx, segment->number);
    kv_free(segment->name);
    kv_free(segment->damage);
    kv_free(segment);
}

uint64_t kv_segment_number(const struct kv_segment *segment)
{
    return segment->number;
}

uint64_t kv_segment_bytes(const struct kv_segment *segment)
{
    return segment->bytes;
}

const uint8_t *kv_segment_uid(const struct kv_segment *segment)
{
    return segment->uid;
}

uint64_t kv_segment_log_seq(const struct kv_segment *segment)
{
    return atomic_load_explicit(&segment->log_seq, memory_order_acquire);
}

void kv_segment_set_log_seq(struct kv_segment *segment, uint64_t seq)
{
    atomic_store_explicit(&segment->log_seq, seq, memory_order_release);
}

static kv_status segment_read_file(struct kv_segment *segment, const struct kv_pointer *pointer,
                                   struct kv_block **out, struct kv_err *err)
{
    if (segment->damage) {
        kv_logf(segment->log, KV_LOG_ERROR, "segment_refused", "file=%s what=%s", segment->name,
                KV_LOGQ(segment->damage));
        return kv_fail(err, KV_CORRUPT, 0, "%s", segment->damage);
    }
    if (pointer->offset < KV_FILE_HEADER_LEN || pointer->offset > segment->bytes ||
        pointer->len > segment->bytes - pointer->offset ||
        pointer->len > KV_BLOCK_INFLATED_MAX + KV_BLOCK_TRAILER_SEALED_LEN)
        return kv_segment_damaged(segment, KV_CORRUPT, pointer->offset, "a value outside the file", err);
    uint8_t *stored = kv_alloc((size_t)pointer->len);
    if (!stored)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory for a value of %s", segment->name);
    kv_status rc = kv_file_read_exact(segment->file, pointer->offset, (size_t)pointer->len, stored, err);
    if (rc != KV_OK) {
        kv_free(stored);
        return rc == KV_CORRUPT ? kv_segment_damaged(segment, rc, pointer->offset, "the file ends early", err)
                                : rc;
    }
    rc = kv_block_open_bytes(stored, (size_t)pointer->len, segment->uid_sum, segment->cipher, pointer->offset,
                             out);
    if (rc == KV_NO_MEMORY)
        return kv_fail(err, rc, 0, "no memory for a value of %s", segment->name);
    return rc == KV_OK ? rc : kv_segment_damaged(segment, rc, pointer->offset, "a damaged value", err);
}

kv_status kv_segment_read(struct kv_segment *segment, const struct kv_pointer *pointer, bool fill,
                          struct kv_block **out, struct kv_err *err)
{
    *out = kv_cache_lookup(segment->cache, segment->id, pointer->offset);
    if (*out)
        return KV_OK;
    kv_status rc = segment_read_file(segment, pointer, out, err);
    if (rc == KV_OK && fill)
        *out = kv_cache_insert(segment->cache, segment->id, pointer->offset, *out);
    return rc;
}

kv_status kv_segment_verify(struct kv_segment *segment, const struct kv_pointer *pointer, struct kv_err *err)
{
    struct kv_block *block = NULL;
    kv_status rc = segment_read_file(segment, pointer, &block, err);
    if (rc == KV_OK)
        kv_block_unref(block);
    return rc;
}

/* ---- writing */

struct kv_segment_build {
    struct kv_dir *dir;
    struct kv_file *file;
    char *name;
    struct kv_cipher *cipher;
    uint64_t number, written; /* bytes appended to the file */
    struct kv_buf out;        /* bytes behind them */
    uint32_t uid_sum;
    uint8_t uid[KV_FILE_UID_LEN];
    bool finished;
};

kv_status kv_segment_build_open(const struct kv_segment_build_options *options, struct kv_segment_build **out,
                                struct kv_err *err)
{
    kv_status rc;
    struct kv_file_header header = {
        .kind = KV_FILE_VLOG, .format = KV_SEGMENT_FORMAT, .owner_epoch = options->owner_epoch};
    struct kv_segment_build *build = kv_zalloc(1, sizeof *build);
    if (!build)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory to write %s", options->name);
    build->dir = options->dir;
    build->number = options->number;
    build->name = kv_dup_str(options->name);
    uint8_t *at = build->name ? kv_buf_extend(&build->out, KV_FILE_HEADER_LEN) : NULL;
    if (!at) {
        rc = kv_fail(err, KV_NO_MEMORY, 0, "no memory to write %s", options->name);
        goto out;
    }
    memcpy(header.uuid, options->db_uuid, sizeof header.uuid);
    kv_clock_entropy(options->clock, header.uid, sizeof header.uid);
    kv_clock_entropy(options->clock, header.salt, sizeof header.salt);
    header.key_id = kv_keyring_key_for(options->keys, KV_FILE_VLOG);
    memcpy(build->uid, header.uid, sizeof build->uid);
    build->uid_sum = kv_crc32c(0, kv_slice_of(header.uid, sizeof header.uid));
    kv_file_header_encode(&header, at);
    KV_TRY(kv_keyring_cipher(options->keys, at, 0, options->name, &build->cipher, err));
    KV_TRY(kv_dir_create(options->dir, options->name, &build->file, err));
    *out = build;
    return KV_OK;
out:
    kv_segment_build_free(build);
    return rc;
}

static kv_status build_write(struct kv_segment_build *build, struct kv_err *err)
{
    kv_status rc = kv_file_append(build->file, build->written, kv_buf_slice(&build->out), err);
    if (rc < 0)
        return rc;
    build->written += build->out.len;
    kv_buf_clear_keep(&build->out, (size_t)4 * SEGMENT_WRITE_BYTES);
    return KV_OK;
}

kv_status kv_segment_build_add(struct kv_segment_build *build, kv_slice value, enum kv_codec codec,
                               struct kv_pointer *pointer, struct kv_err *err)
{
    uint64_t offset = kv_segment_build_bytes(build);
    size_t before = build->out.len;
    kv_status rc = kv_block_store(value, codec, build->uid_sum, build->cipher, offset, &build->out);
    if (rc < 0)
        return kv_fail(err, rc, 0, "writing %s: %s", build->name, kv_status_text(rc));
    *pointer =
        (struct kv_pointer){.segment = build->number, .offset = offset, .len = build->out.len - before};
    return build->out.len >= SEGMENT_WRITE_BYTES ? build_write(build, err) : KV_OK;
}

uint64_t kv_segment_build_bytes(const struct kv_segment_build *build)
{
    return build->written + build->out.len;
}

kv_status kv_segment_build_finish(struct kv_segment_build *build, uint8_t uid[KV_FILE_UID_LEN],
                                  struct kv_err *err)
{
    kv_status rc;
    KV_ASSERT(!build->finished);
    if (build->out.len)
        KV_TRY(build_write(build, err));
    KV_TRY(kv_file_sync(build->file, err));
    memcpy(uid, build->uid, sizeof build->uid);
    build->finished = true;
out:
    return rc;
}

void kv_segment_build_free(struct kv_segment_build *build)
{
    if (!build)
        return;
    bool unfinished = build->file && !build->finished;
    kv_file_close(build->file);
    if (unfinished && kv_dir_remove(build->dir, build->name, NULL) < 0) {
        /* The file stays behind, named by no manifest: the next open removes it. */
    }
    kv_buf_release(&build->out);
    kv_cipher_free(build->cipher);
    kv_free(build->name);
    kv_free(build);
}
