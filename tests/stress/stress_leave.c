/*
 * Threads that resolve and commit the same series, while one driver makes those leave that nobody has used for a while:
 * in every order that threads take. Whoever has committed a ref finds it in the registry, with its labels, and nobody
 * finds another for them. Exit 0: so it was.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/thread.h"
#include "tests/support/registry_kit.h"
#include "tsdb/index.h"

#include <stdatomic.h>
#include <stdio.h>

enum {
    WRITERS = 4,
    ROUNDS = 10000,
    ROWS = 8,
    SERIES = 64,
    LEFT_WANTED = 200,
    METRICS = 3,
    NUMBERS = 1 << 18,
    STEP = 16
};

static struct registry_kit kit;
static _Atomic uint8_t
    used[METRICS + 1][NUMBERS]; /* by ref: somebody has committed it since it was last forgotten */
static _Atomic bool done;
static _Atomic uint64_t left;

static _Atomic uint8_t *used_at(uint64_t ref)
{
    KV_ASSERT(ts_ref_metric(ref) <= METRICS && ts_ref_series(ref) < NUMBERS);
    return &used[ts_ref_metric(ref)][ts_ref_series(ref)];
}

static size_t series_labels(uint64_t i, char *text, size_t size, struct ts_label *labels)
{
    (void)snprintf(text, size, "metric_%d i=%d", (int)(i % METRICS), (int)i);
    return registry_kit_labels(text, labels);
}

/* ---- writers ----------------------------------------------------------------------------------------------------- */

static void write_round(struct ts_resolver *resolver, struct kv_prng *prng)
{
    uint64_t rows[ROWS], got[ROWS];
    struct ts_label labels[16];
    char text[64];
    for (size_t k = 0; k < ROWS; k++) {
        rows[k] = kv_prng_below(prng, SERIES);
        size_t n = series_labels(rows[k], text, sizeof text, labels);
        KV_ASSERT(registry_kit_resolve(resolver, labels, n, 'a', &got[k], NULL) == KV_OK);
    }
    registry_kit_commit(&kit, resolver, NULL);
    for (size_t k = 0; k < ROWS; k++) {
        uint64_t ref = ts_resolver_ref(resolver, got[k]), found;
        atomic_store(used_at(ref), 1);
        size_t n = series_labels(rows[k], text, sizeof text, labels);
        KV_ASSERT(ts_registry_find(kit.registry, labels, n, &found, NULL) == KV_OK && found == ref);
    }
    ts_resolver_clear(resolver);
}

static void writer(void *ctx)
{
    struct ts_resolver *resolver = NULL;
    struct kv_prng prng;
    kv_prng_init(&prng, (uint64_t)(uintptr_t)ctx);
    KV_ASSERT(ts_resolver_new(kit.registry, &resolver) == KV_OK);
    for (int i = 0; i < ROUNDS || atomic_load(&left) < LEFT_WANTED; i++)
        write_round(resolver, &prng);
    ts_resolver_free(resolver);
}

/* ---- the driver -------------------------------------------------------------------------------------------------- */

static void wait_quiet(void)
{
    while (!ts_registry_quiet(kit.registry))
        kv_clock_sleep_ns(kv_clock_system(), 10000);
}

/* Refs there are that nobody has used. forget: some of the others count as not used any more. */
static void unused(struct ts_refset *set, struct kv_prng *prng, bool forget)
{
    struct ts_label labels[16];
    char text[64];
    uint64_t ref;
    for (uint64_t i = 0; i < SERIES; i++) {
        size_t n = series_labels(i, text, sizeof text, labels);
        if (ts_registry_find(kit.registry, labels, n, &ref, NULL) != KV_OK)
            continue;
        if (forget && kv_prng_below(prng, 2))
            atomic_store(used_at(ref), 0);
        if (!atomic_load(used_at(ref)))
            KV_ASSERT(ts_refset_add(set, ref, NULL) == KV_OK);
    }
}

static void remove_unused(const struct ts_refset *doomed, struct ts_refset *gone)
{
    uint64_t *refs = NULL;
    size_t n = 0, kept = 0;
    KV_ASSERT(ts_refset_refs(doomed, &refs, &n) == KV_OK);
    for (size_t i = 0; i < n; i++)
        if (!atomic_load(used_at(refs[i])))
            refs[kept++] = refs[i];
    for (size_t at = 0; at < kept; at += STEP) {
        size_t some = kept - at < STEP ? kept - at : STEP;
        KV_ASSERT(ts_registry_remove(kit.registry, refs + at, &some, NULL) == KV_OK);
        for (size_t i = 0; i < some; i++)
            KV_ASSERT(ts_refset_add(gone, refs[at + i], NULL) == KV_OK);
        atomic_fetch_add(&left, some);
    }
    kv_free(refs);
}

static void driver(void *ctx)
{
    struct kv_prng prng;
    (void)ctx;
    kv_prng_init(&prng, 99);
    while (!atomic_load(&done)) {
        struct ts_refset set = {0}, doomed = {0}, gone = {0};
        unused(&set, &prng, true);
        KV_ASSERT(ts_refset_or(&doomed, &set) == KV_OK);
        KV_ASSERT(ts_registry_doom(kit.registry, &set) == KV_OK);
        wait_quiet();
        remove_unused(&doomed, &gone);
        ts_registry_undoom(kit.registry, &gone);
        wait_quiet();
        ts_registry_unmark(kit.registry);
        wait_quiet();
        ts_registry_rest(kit.registry);
        ts_refset_release(&doomed);
        ts_refset_release(&gone);
    }
}

int main(void)
{
    kv_thread writers[WRITERS] = {0}, leaving = {0};
    struct ts_registry_stats stats;
    registry_kit_open(&kit);
    KV_ASSERT(kv_thread_start(&leaving, "driver", 0, driver, NULL) == KV_OK);
    for (size_t i = 0; i < WRITERS; i++)
        KV_ASSERT(kv_thread_start(&writers[i], "writer", 0, writer, (void *)(i + 1)) == KV_OK);
    for (size_t i = 0; i < WRITERS; i++)
        kv_thread_join(&writers[i]);
    atomic_store(&done, true);
    kv_thread_join(&leaving);
    ts_registry_stats(kit.registry, &stats);
    printf("%llu series, %llu have left\n", (unsigned long long)stats.series,
           (unsigned long long)atomic_load(&left));
    KV_ASSERT(stats.series <= SERIES);
    registry_kit_reopen(&kit);
    registry_kit_close(&kit);
    return 0;
}
