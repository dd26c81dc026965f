#include "tests/support/kv_kit.h"
#include "kvcore/base/assert.h"
#include "kvcore/os/vfs.h"

#include <stdio.h>

static void ignore_record(void *ctx, uint64_t seq, kv_slice record, void *commit_ctx)
{
    (void)ctx, (void)seq, (void)record, (void)commit_ctx;
}

void kv_kit_init(struct kv_kit *kit, struct kv_vfs *vfs)
{
    *kit = (struct kv_kit){.vfs = vfs, .threads = KV_THREADS_NONE, .path = "db"};
    if (!vfs)
        kit->vfs = kit->own = kv_vfs_mem_new();
    KV_ASSERT(kit->vfs != NULL);
    clock_manual_init(&kit->clock, 1700000000000, 7);
    kit->spaces[0].name = "a";
    kit->spaces[1].name = "b";
    kit->options = (struct kv_options){.n_spaces = 2, .disk_reserve_bytes = 4096, .apply = ignore_record};
}

void kv_kit_release(struct kv_kit *kit)
{
    kv_kit_close(kit);
    kv_vfs_mem_free(kit->own);
    clock_manual_release(&kit->clock);
}

kv_status kv_kit_open(struct kv_kit *kit)
{
    struct kv_env_options options = {
        .vfs = kit->vfs, .clock = &kit->clock.base, .log = kit->log, .threads = kit->threads};
    kit->options.spaces = kit->spaces;
    KV_ASSERT(kit->env == NULL);
    kv_status rc = kv_env_open(&options, &kit->env, &kit->err);
    if (rc == KV_OK)
        rc = kv_open(kit->env, kit->path, &kit->options, &kit->db, &kit->err);
    if (rc < 0) {
        kit->db = NULL;
        kv_env_close(kit->env);
        kit->env = NULL;
    }
    return rc;
}

kv_status kv_kit_close(struct kv_kit *kit)
{
    kv_status rc = kv_close(kit->db, &kit->err);
    kit->db = NULL;
    kv_env_close(kit->env);
    kit->env = NULL;
    return rc;
}

void kv_kit_must_open(struct kv_kit *kit)
{
    kv_status rc = kv_kit_open(kit);
    if (rc < 0)
        fprintf(stderr, "open: %s: %s\n", kv_status_name(rc), kit->err.text);
    KV_ASSERT(rc == KV_OK);
}

void kv_kit_reopen(struct kv_kit *kit)
{
    kv_status rc = kv_kit_close(kit);
    KV_ASSERT(rc == KV_OK);
    kv_kit_must_open(kit);
}

void kv_kit_crash(struct kv_kit *kit)
{
    KV_ASSERT(kit->own != NULL);
    struct kv_vfs *clone = kv_vfs_mem_crash_clone(kit->own);
    KV_ASSERT(clone != NULL);
    kv_kit_close(kit);
    kv_vfs_mem_free(kit->own);
    kit->own = kit->vfs = clone;
    kv_kit_must_open(kit);
}

kv_status kv_kit_try_put(struct kv_kit *kit, uint32_t space, const char *key, const char *value)
{
    struct kv_batch *batch = NULL;
    kv_status rc = kv_batch_new(&batch);
    if (rc == KV_OK)
        rc = value ? kv_batch_put(batch, space, kv_slice_str(key), kv_slice_str(value))
                   : kv_batch_delete(batch, space, kv_slice_str(key));
    if (rc == KV_OK)
        rc = kv_commit(kit->db, batch, NULL, NULL, &kit->err);
    kv_batch_free(batch);
    return rc;
}

void kv_kit_put(struct kv_kit *kit, uint32_t space, const char *key, const char *value)
{
    kv_status rc = kv_kit_try_put(kit, space, key, value);
    if (rc < 0)
        fprintf(stderr, "put: %s: %s\n", kv_status_name(rc), kit->err.text);
    KV_ASSERT(rc == KV_OK);
}

void kv_kit_delete(struct kv_kit *kit, uint32_t space, const char *key)
{
    kv_kit_put(kit, space, key, NULL);
}

kv_status kv_kit_try_record(struct kv_kit *kit, const char *record, uint64_t *seq)
{
    struct kv_commit_options options = {.record = kv_slice_str(record)};
    return kv_commit(kit->db, NULL, &options, seq, &kit->err);
}

bool kv_kit_is(struct kv_kit *kit, const struct kv_snapshot *snapshot, uint32_t space, const char *key,
               const char *value)
{
    struct kv_pinned found;
    kv_status rc = kv_get(kit->db, snapshot, space, kv_slice_str(key), &found, &kit->err);
    bool same = value ? rc == KV_OK && kv_slice_equal(found.value, kv_slice_str(value)) : rc == KV_NOT_FOUND;
    if (!same)
        fprintf(stderr, "key %s: %s \"%.*s\"\n", key, kv_status_name(rc), KV_ARG(found.value));
    kv_pinned_release(&found);
    return same;
}

const char *kv_kit_scan(struct kv_kit *kit, const struct kv_snapshot *snapshot, uint32_t space,
                        const char *lower, const char *upper, char *out, size_t size)
{
    struct kv_iter *it = NULL;
    size_t n = 0;
    out[0] = 0;
    kv_status rc = kv_iter_open(kit->db, snapshot, space, kv_slice_str(lower), kv_slice_str(upper), &it);
    KV_ASSERT(rc == KV_OK);
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it)) {
        n += (size_t)snprintf(out + n, size - n, "%s%.*s=%.*s", n ? " " : "", KV_ARG(it->key),
                              KV_ARG(it->value));
        KV_ASSERT(n < size);
    }
    kv_iter_close(it);
    KV_ASSERT(rc == KV_END);
    return out;
}

struct count {
    const char *suffix;
    size_t n;
};

static kv_status count_name(void *ctx, const char *name, uint64_t bytes)
{
    struct count *count = ctx;
    size_t len = strlen(name), suffix = strlen(count->suffix);
    (void)bytes;
    count->n += len >= suffix && strcmp(name + len - suffix, count->suffix) == 0;
    return KV_OK;
}

size_t kv_kit_files(struct kv_kit *kit, const char *suffix)
{
    struct kv_dir *dir = NULL;
    struct count count = {.suffix = suffix};
    kv_status rc = kv_vfs_dir_open(kit->vfs, kit->path, false, &dir, &kit->err);
    KV_ASSERT(rc == KV_OK);
    rc = dir->ops->list(dir, count_name, &count, &kit->err);
    KV_ASSERT(rc == KV_OK);
    kv_dir_close(dir);
    return count.n;
}

struct metric {
    const char *name;
    double value;
    bool found;
};

static void look_metric(void *ctx, const char *name, const char *help, bool counter, double value)
{
    struct metric *metric = ctx;
    (void)help, (void)counter;
    if (strcmp(name, metric->name) == 0) {
        metric->value = value;
        metric->found = true;
    }
}

uint64_t kv_kit_metric(struct kv_kit *kit, const char *name)
{
    struct metric metric = {.name = name};
    kv_metrics(kit->db, look_metric, &metric);
    KV_ASSERT(metric.found);
    return (uint64_t)metric.value;
}

void kv_kit_work_all(struct kv_kit *kit)
{
    kv_status rc;
    while ((rc = kv_work(kit->db, &kit->err)) == KV_OK)
        ;
    KV_ASSERT(rc == KV_END);
}

struct kv_space_stats kv_kit_stats(struct kv_kit *kit, uint32_t space)
{
    struct kv_space_stats stats;
    kv_status rc = kv_space_stats(kit->db, space, &stats);
    KV_ASSERT(rc == KV_OK);
    return stats;
}

uint64_t kv_kit_bulk(struct kv_kit *kit, uint32_t space, const char *const *keys, size_t n, const char *value,
                     uint64_t app_floor)
{
    struct kv_bulk *bulk = NULL;
    uint64_t seq = 0;
    kv_status rc = kv_bulk_open(kit->db, space, &bulk, &kit->err);
    KV_ASSERT(rc == KV_OK);
    for (size_t i = 0; i < n; i++) {
        rc = kv_bulk_add(bulk, kv_slice_str(keys[i]), kv_slice_str(value), &kit->err);
        KV_ASSERT(rc == KV_OK);
    }
    rc = kv_bulk_install(bulk, app_floor, &seq, &kit->err);
    KV_ASSERT(rc == KV_OK);
    return seq;
}
