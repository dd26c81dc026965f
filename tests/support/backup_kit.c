#include "tests/support/backup_kit.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"

#include <stdio.h>

static kv_status bytes_write(void *ctx, kv_slice bytes, struct kv_err *err)
{
    struct backup_bytes *archive = ctx;
    if (archive->fail_at && archive->bytes.len + bytes.len > archive->fail_at)
        return kv_fail(err, KV_NO_SPACE, 0, "the archive is full");
    kv_status rc = kv_buf_append(&archive->bytes, bytes);
    return rc < 0 ? kv_fail(err, rc, 0, "no memory for the archive") : KV_OK;
}

static kv_status bytes_read(void *ctx, uint8_t *into, size_t len, size_t *got, struct kv_err *err)
{
    struct backup_bytes *archive = ctx;
    size_t left = archive->bytes.len - archive->at;
    (void)err;
    *got = len < left ? len : left;
    if (archive->read_max && *got > archive->read_max)
        *got = archive->read_max;
    if (*got)
        memcpy(into, archive->bytes.data + archive->at, *got);
    archive->at += *got;
    return KV_OK;
}

struct kv_sink backup_bytes_sink(struct backup_bytes *archive)
{
    return (struct kv_sink){bytes_write, archive};
}

struct kv_source backup_bytes_source(struct backup_bytes *archive)
{
    archive->at = 0;
    return (struct kv_source){bytes_read, archive};
}

void backup_bytes_release(struct backup_bytes *archive)
{
    kv_buf_release(&archive->bytes);
}

/* ---- cipher */

static uint32_t cipher_sum(const uint8_t *key, kv_slice place, kv_slice plain)
{
    return kv_crc32c(kv_crc32c(kv_crc32c(0, kv_slice_of(key, 16)), place), plain);
}

static kv_status cipher_xor(const uint8_t *key, kv_slice in, struct kv_buf *out)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < in.len && rc == KV_OK; i++)
        rc = kv_buf_append_byte(out, in.data[i] ^ key[i % 16]);
    return rc;
}

static kv_status cipher_seal(void *ctx, kv_slice place, kv_slice plain, struct kv_buf *out)
{
    kv_status rc = kv_buf_append_fixed32(out, cipher_sum(ctx, place, plain));
    return rc < 0 ? rc : cipher_xor(ctx, plain, out);
}

static kv_status cipher_open(void *ctx, kv_slice place, kv_slice sealed, struct kv_buf *out)
{
    uint32_t sum;
    if (kv_take_fixed32(&sealed, &sum) < 0)
        return KV_CORRUPT;
    kv_status rc = cipher_xor(ctx, sealed, out);
    if (rc < 0)
        return rc;
    return cipher_sum(ctx, place, kv_buf_slice(out)) == sum ? KV_OK : KV_CORRUPT;
}

struct kv_archive_cipher backup_cipher(const uint8_t *key)
{
    return (struct kv_archive_cipher){(void *)(uintptr_t)key, cipher_seal, cipher_open};
}

/* ---- databases */

const char *backup_content(struct kv_kit *kit, char *out, size_t size)
{
    static const char *const prefix[] = {"a:", " b:"};
    size_t n = 0;
    for (uint32_t space = 0; space < 2; space++) {
        n += (size_t)snprintf(out + n, size - n, "%s", prefix[space]);
        kv_kit_scan(kit, NULL, space, "", "", out + n, size - n);
        n += strlen(out + n);
    }
    return out;
}

const char *backup_content_of(struct kv_kit *kit, const char *path, char *out, size_t size)
{
    const char *own = kit->path;
    kit->path = path;
    kv_kit_must_open(kit);
    backup_content(kit, out, size);
    kv_status rc = kv_kit_close(kit);
    KV_ASSERT(rc == KV_OK);
    kit->path = own;
    return out;
}

struct kv_env *backup_env(struct kv_kit *kit)
{
    struct kv_env_options options = {.vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    struct kv_env *env = kit->env;
    if (!env) {
        kv_status rc = kv_env_open(&options, &env, &kit->err);
        KV_ASSERT(rc == KV_OK);
    }
    return env;
}

static void env_done(struct kv_kit *kit, struct kv_env *env)
{
    if (env != kit->env)
        kv_env_close(env);
}

void backup_check(struct kv_kit *kit, const char *path)
{
    struct kv_env *env = backup_env(kit);
    kv_status rc = kv_check_with_key(env, path, &kit->options.key, NULL, NULL, &kit->err);
    if (rc < 0)
        fprintf(stderr, "check %s: %s\n", path, kit->err.text);
    KV_ASSERT(rc == KV_OK);
    env_done(kit, env);
}

kv_status backup_to(struct kv_kit *kit, const struct kv_repository *repository, struct kv_backup_info *info)
{
    struct kv_backup_options options = {.repository = repository};
    return kv_backup(kit->db, &options, info, &kit->err);
}

kv_status backup_restore(struct kv_kit *kit, const struct kv_repository *repository, uint64_t number,
                         const char *path)
{
    struct kv_restore_options options = {.repository = repository, .number = number};
    struct kv_env *env = backup_env(kit);
    kv_status rc = kv_restore(env, path, &options, NULL, &kit->err);
    env_done(kit, env);
    return rc;
}

kv_status backup_verify(struct kv_kit *kit, const struct kv_repository *repository)
{
    struct kv_restore_options options = {.repository = repository};
    struct kv_env *env = backup_env(kit);
    kv_status rc = kv_backup_verify(env, &options, NULL, NULL, &kit->err);
    env_done(kit, env);
    return rc;
}
