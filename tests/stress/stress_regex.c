/*
 * Threads that match with one compiled expression at once, while its states are being made and after
 * there is no room for more. Exit 0: every answer was right.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/prng.h"
#include "kvcore/os/thread.h"
#include "tsdb/regex.h"

enum { THREADS = 4, ROUNDS = 4000 };

static struct ts_regex *regex;

/* [ab]*a[ab]{13}(c)?: the 14th letter before the end, or before a final c, is an a. */
static void matching(void *ctx)
{
    struct kv_prng prng;
    kv_prng_init(&prng, (uint64_t)(uintptr_t)ctx);
    for (int i = 0; i < ROUNDS; i++) {
        char text[64];
        kv_slice groups[2];
        size_t n = 14 + kv_prng_below(&prng, 40);
        for (size_t k = 0; k < n; k++)
            text[k] = kv_prng_below(&prng, 2) ? 'a' : 'b';
        bool matches = text[n - 14] == 'a', c = kv_prng_below(&prng, 2);
        text[n] = 'c';
        KV_ASSERT(ts_regex_matches(regex, kv_slice_of(text, n + c)) == matches);
        if (i % 16 == 0) {
            KV_ASSERT(ts_regex_groups(regex, kv_slice_of(text, n + c), groups, 2) == matches);
            KV_ASSERT(!matches || groups[1].len == (c ? 1 : 0));
        }
    }
}

int main(void)
{
    kv_thread threads[THREADS] = {0};
    KV_ASSERT(ts_regex_compile(KV_STR("[ab]*a[ab]{13}(c)?"), &regex, NULL) == KV_OK);
    for (size_t i = 0; i < THREADS; i++)
        KV_ASSERT(kv_thread_start(&threads[i], "matching", 0, matching, (void *)(i + 1)) == KV_OK);
    for (size_t i = 0; i < THREADS; i++)
        kv_thread_join(&threads[i]);
    ts_regex_free(regex);
    return 0;
}
