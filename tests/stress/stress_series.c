/*
 * Threads that resolve the same and new series at once, through a cache that is too small, and commit
 * them; others select meanwhile. One label set has one ref, whoever asks, and every ref has its labels.
 * Exit 0: so it was.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "kvcore/os/thread.h"
#include "tests/support/registry_kit.h"
#include "tsdb/index.h"

#include <stdatomic.h>
#include <stdio.h>

enum { WRITERS = 4, READERS = 2, ROUNDS = 80, ROWS = 60, SERIES = 6000 };

static struct registry_kit kit = {.options = {.cache_bytes = 1}};
static _Atomic uint64_t refs[SERIES];
static _Atomic bool done;
static struct ts_activity *head;

static size_t series_labels(uint64_t i, char *text, size_t size, struct ts_label *labels)
{
    (void)snprintf(text, size, "metric_%d i=%d job=j%d", (int)(i % 5), (int)i, (int)(i % 7));
    return registry_kit_labels(text, labels);
}

/* The ref that everybody has agreed on, or agrees on now. */
static void agree(uint64_t i, uint64_t ref)
{
    uint64_t before = 0;
    if (!atomic_compare_exchange_strong(&refs[i], &before, ref))
        KV_ASSERT(before == ref);
}

static void write_round(struct ts_resolver *resolver, struct kv_prng *prng)
{
    uint64_t rows[ROWS], got[ROWS], first = kv_prng_below(prng, SERIES);
    struct ts_label labels[16];
    char text[64];
    bool in_order = kv_prng_below(prng, 2);
    for (size_t k = 0; k < ROWS; k++) {
        rows[k] = in_order ? (first + k) % SERIES : kv_prng_below(prng, SERIES);
        size_t n = series_labels(rows[k], text, sizeof text, labels);
        KV_ASSERT(registry_kit_resolve(resolver, labels, n, (char)('a' + k % 2), &got[k], NULL) == KV_OK);
    }
    registry_kit_commit(&kit, resolver, NULL);
    for (size_t k = 0; k < ROWS; k++) {
        uint64_t ref = ts_resolver_ref(resolver, got[k]);
        agree(rows[k], ref);
        KV_ASSERT(ts_activity_add(head, (int32_t)(rows[k] % 3), ref) == KV_OK);
    }
    ts_resolver_clear(resolver);
}

static void writer(void *ctx)
{
    struct ts_resolver *resolver = NULL;
    struct kv_prng prng;
    kv_prng_init(&prng, (uint64_t)(uintptr_t)ctx);
    KV_ASSERT(ts_resolver_new(kit.registry, &resolver) == KV_OK);
    for (int i = 0; i < ROUNDS; i++)
        write_round(resolver, &prng);
    ts_resolver_free(resolver);
}

/* What is selected has the labels it was selected by. */
static void reader(void *ctx)
{
    struct ts_matcher m;
    const struct ts_activity *heads[] = {head};
    (void)ctx;
    KV_ASSERT(ts_matcher_init(&m, TS_MATCH_RE, KV_STR("job"), KV_STR("j[13]|x.*"), NULL) == KV_OK);
    struct ts_select select = {
        .matchers = &m, .n_matchers = 1, .to_ms = 2 * TS_WINDOW_MS, .heads = heads, .n_heads = 1};
    while (!atomic_load(&done)) {
        struct kv_arena arena = {0};
        uint64_t *found;
        size_t n;
        KV_ASSERT(ts_index_select(kit.registry, &select, &found, &n, NULL) == KV_OK);
        struct ts_labels *labels = kv_zalloc(n + 1, sizeof *labels);
        KV_ASSERT(labels &&
                  ts_registry_labels_many(kit.registry, NULL, found, n, &arena, labels, NULL) == KV_OK);
        for (size_t i = 0; i < n; i++)
            KV_ASSERT(labels[i].labels &&
                      ts_matcher_matches(&m, ts_labels_get(labels[i].labels, labels[i].n, KV_STR("job"))));
        kv_free(labels);
        kv_free(found);
        kv_arena_release(&arena);
    }
    ts_matcher_release(&m);
}

static void check_all(void)
{
    struct ts_registry_stats stats;
    struct ts_label labels[16];
    char text[64];
    uint64_t created = 0;
    for (uint64_t i = 0; i < SERIES; i++) {
        uint64_t agreed = atomic_load(&refs[i]), ref;
        size_t n = series_labels(i, text, sizeof text, labels);
        kv_status rc = ts_registry_find(kit.registry, labels, n, &ref, NULL);
        KV_ASSERT(agreed ? rc == KV_OK && ref == agreed : rc == KV_NOT_FOUND);
        created += agreed != 0;
    }
    ts_registry_stats(kit.registry, &stats);
    KV_ASSERT(stats.series == created && stats.cache_evicted > 0);
    printf("%llu series, %llu predicted, %llu found, %llu missed\n", (unsigned long long)created,
           (unsigned long long)stats.predicted, (unsigned long long)stats.found,
           (unsigned long long)stats.missed);
}

int main(void)
{
    kv_thread writers[WRITERS] = {0}, readers[READERS] = {0};
    registry_kit_open(&kit);
    KV_ASSERT(ts_activity_new(&head) == KV_OK);
    for (size_t i = 0; i < READERS; i++)
        KV_ASSERT(kv_thread_start(&readers[i], "reader", 0, reader, NULL) == KV_OK);
    for (size_t i = 0; i < WRITERS; i++)
        KV_ASSERT(kv_thread_start(&writers[i], "writer", 0, writer, (void *)(i + 1)) == KV_OK);
    for (size_t i = 0; i < WRITERS; i++)
        kv_thread_join(&writers[i]);
    atomic_store(&done, true);
    for (size_t i = 0; i < READERS; i++)
        kv_thread_join(&readers[i]);
    check_all();
    ts_activity_free(head);
    registry_kit_reopen(&kit);
    registry_kit_close(&kit);
    return 0;
}
