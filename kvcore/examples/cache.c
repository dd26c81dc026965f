/*
 * cache DIR - an embedded cache: each entry lives for a time, and one that is not there is loaded.
 *
 * A cache may lose its last seconds in a power cut, so nothing waits for the disk (KV_DURABILITY_OS). What has expired is never
 * returned, and its space comes back by itself.
 */
#include <kvcore/kv.h>
#include <stdio.h>
#include <unistd.h>

struct cache {
    struct kv_env *env;
    struct kv_db *db;
};
/* Where a value comes from when the cache has none: appends it to *out. */
typedef kv_status (*load_fn)(void *ctx, kv_slice key, struct kv_buf *out);

static kv_status cache_open(struct cache *cache, const char *path, struct kv_err *err)
{
    static const struct kv_space_options space = {.name = "cache", .style = KV_STYLE_LEVELLED};
    const struct kv_options options = {.spaces = &space, .n_spaces = 1, .durability = KV_DURABILITY_OS};
    kv_status rc = kv_env_open(NULL, &cache->env, err);
    return rc < 0 ? rc : kv_open(cache->env, path, &options, &cache->db, err);
}

static void cache_close(struct cache *cache)
{
    struct kv_err err = {0};
    if (kv_close(cache->db, &err) < 0)
        fprintf(stderr, "cache: close: %s\n", err.text);
    kv_env_close(cache->env);
}

static kv_status cache_put(struct cache *cache, kv_slice key, kv_slice value, uint32_t ttl_s,
                           struct kv_err *err)
{
    const struct kv_put_options options = {.expires_at_s = (uint64_t)kv_retention_clock_ms(cache->db) / 1000 +
                                                           ttl_s}; /* the clock it is judged by */
    struct kv_batch *batch = NULL;
    kv_status rc;
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(kv_batch_put_with(batch, 0, key, value, &options));
    KV_TRY(kv_commit(cache->db, batch, NULL, NULL, err));
out:
    kv_batch_free(batch);
    return rc;
}

/* Appends the value to *out, from the cache or else from load, whose answer is kept for ttl_s seconds. */
static kv_status cache_get_or_load(struct cache *cache, kv_slice key, uint32_t ttl_s, load_fn load, void *ctx,
                                   struct kv_buf *out, struct kv_err *err)
{
    struct kv_pinned got = {0};
    kv_status rc = kv_get(cache->db, NULL, 0, key, &got, err);
    if (rc == KV_OK)
        rc = kv_buf_append(out, got.value);
    else if (rc == KV_NOT_FOUND && (rc = load(ctx, key, out)) == KV_OK)
        rc = cache_put(cache, key, kv_buf_slice(out), ttl_s, err);
    kv_pinned_release(&got);
    return rc;
}

static kv_status load_slowly(void *ctx, kv_slice key, struct kv_buf *out)
{
    int *loads = ctx;
    ++*loads;
    return kv_buf_printf(out, "page of %.*s, made %d times", KV_ARG(key), *loads);
}

int main(int argc, char **argv)
{
    struct cache cache = {0};
    struct kv_buf page = {0};
    struct kv_err err = {0};
    int loads = 0;
    if (argc != 2)
        return fprintf(stderr, "usage: cache DIR\n"), 2;
    kv_status rc = cache_open(&cache, argv[1], &err);
    for (int i = 0; i < 4 && rc == KV_OK; i++) {
        kv_buf_clear(&page);
        rc = cache_get_or_load(&cache, KV_STR("alice"), 1, load_slowly, &loads, &page, &err);
        if (rc == KV_OK)
            printf("%.*s\n", KV_ARG(kv_buf_slice(&page)));
        if (i == 1)
            sleep(2); /* now it has expired */
    }
    if (rc < 0)
        fprintf(stderr, "cache: %s: %s\n", kv_status_text(rc), err.text);
    kv_buf_release(&page);
    cache_close(&cache);
    return rc < 0;
}
