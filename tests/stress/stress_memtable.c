/*
 * One writer, several readers of one memtable, without locks: each reader sees every entry up to the version that was published when it
 * began, in order, whole. Exit 0: so it was.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "kvcore/db/memtable.h"
#include "kvcore/os/thread.h"

#include <stdatomic.h>
#include <stdio.h>

enum { READERS = 3, VERSIONS = 40000, KEYS = 5000 };

static struct kv_memtable *memtable;
static _Atomic uint64_t published;
static _Atomic uint64_t walked;

static kv_slice key_of(uint8_t out[12], uint64_t version)
{
    kv_put_be64(out, version * UINT64_C(0x9e3779b97f4a7c15) % KEYS);
    return kv_slice_of(out, 8);
}

static void write_all(void *ctx)
{
    (void)ctx;
    for (uint64_t version = 1; version <= VERSIONS; version++) {
        uint8_t key[12], value[8];
        kv_put_fixed64(value, version);
        struct kv_entry e = {key_of(key, version), version, KV_KIND_PUT, kv_slice_of(value, 8)};
        KV_ASSERT(kv_memtable_add(memtable, 0, &e) == KV_OK);
        atomic_store_explicit(&published, version, memory_order_release);
    }
}

static void get_some(struct kv_prng *prng, uint64_t visible)
{
    for (int i = 0; i < 20 && visible; i++) {
        uint8_t key[12];
        struct kv_found found;
        uint64_t version = 1 + kv_prng_below(prng, visible);
        KV_ASSERT(kv_memtable_get(memtable, 0, key_of(key, version), version, &found) == KV_OK);
        KV_ASSERT(found.version == version && kv_get_fixed64(found.value.data) == version);
    }
}

static void walk_all(uint64_t visible)
{
    struct kv_entry_iter *it = NULL;
    uint8_t last[8] = {0};
    uint64_t last_version = UINT64_MAX, seen = 0;
    KV_ASSERT(kv_memtable_iter_open(memtable, 0, KV_STR(""), KV_STR(""), &it) == KV_OK);
    kv_status rc = kv_entry_iter_seek(it, KV_STR(""), KV_VERSION_MAX);
    for (; rc == KV_OK; rc = kv_entry_iter_next(it)) {
        KV_ASSERT(kv_entry_compare(kv_slice_of(last, 8), last_version, it->key, it->version) < 0);
        KV_ASSERT(kv_get_fixed64(it->value.data) == it->version);
        memcpy(last, it->key.data, 8);
        last_version = it->version;
        seen += it->version <= visible;
    }
    KV_ASSERT(rc == KV_END);
    KV_ASSERT(seen == visible);
    kv_entry_iter_close(it);
    atomic_fetch_add(&walked, 1);
}

static void read_all(void *ctx)
{
    struct kv_prng prng;
    uint64_t visible;
    kv_prng_init(&prng, (uint64_t)(uintptr_t)ctx);
    do {
        visible = atomic_load_explicit(&published, memory_order_acquire);
        get_some(&prng, visible);
        walk_all(visible);
        KV_ASSERT(kv_memtable_entries(memtable, 0) >= visible);
        KV_ASSERT(kv_memtable_touches(memtable, 0, KV_STR(""), KV_STR("")) || visible == 0);
    } while (visible < VERSIONS);
}

int main(void)
{
    kv_thread writer = {0}, readers[READERS] = {{0}};
    KV_ASSERT(kv_memtable_new(1, &memtable) == KV_OK);
    for (uintptr_t i = 0; i < READERS; i++)
        KV_ASSERT(kv_thread_start(&readers[i], "reader", 0, read_all, (void *)(i + 1)) == KV_OK);
    KV_ASSERT(kv_thread_start(&writer, "writer", 0, write_all, NULL) == KV_OK);
    kv_thread_join(&writer);
    for (int i = 0; i < READERS; i++)
        kv_thread_join(&readers[i]);
    KV_ASSERT(kv_memtable_version_oldest(memtable) == 1);
    KV_ASSERT(kv_memtable_version_newest(memtable) == VERSIONS);
    kv_memtable_unref(memtable);
    printf("%llu walks beside %d writes\n", (unsigned long long)atomic_load(&walked), VERSIONS);
    return 0;
}
