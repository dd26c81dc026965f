/* What a database counts: reads by place and level, the value log, merges at work; and that threads count apart. */
#include "kvcore/base/mem.h"
#include "kvcore/os/thread.h"
#include "kvcore/sst/reads.h"
#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>

static void get_all(struct kv_kit *kit, uint32_t space, int from, int to, kv_status want)
{
    for (int i = from; i < to; i++) {
        struct kv_pinned value;
        char key[16];
        snprintf(key, sizeof key, "k%04d", i);
        cr_assert_eq(kv_get(kit->db, NULL, space, kv_slice_str(key), &value, &kit->err), want, "%s", key);
        kv_pinned_release(&value);
    }
}

static void put_all(struct kv_kit *kit, int step, const char *value)
{
    for (int i = 0; i < 1000; i += step) {
        char key[16];
        snprintf(key, sizeof key, "k%04d", i);
        kv_kit_put(kit, 0, key, value);
    }
}

Test(metrics, gets_are_counted_by_what_answered_them)
{
    struct kv_kit kit;
    struct kv_level_stats levels[KV_LEVELS_MAX];
    kv_kit_init(&kit, NULL);
    kit.spaces[0].style = KV_STYLE_LEVELLED;
    kv_kit_must_open(&kit);
    put_all(&kit, 2, "stored");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_kit_put(&kit, 0, "k0000", "in memory");
    get_all(&kit, 0, 0, 1, KV_OK);
    cr_assert_eq(kv_kit_metric(&kit, "kv_memtable_hits_total"), 1);
    cr_assert_eq(kv_kit_metric(&kit, "kv_table_gets_total"), 0); /* what is newer settles it */
    get_all(&kit, 0, 2, 3, KV_OK);
    for (int i = 3; i < 999; i += 2)
        get_all(&kit, 0, i, i + 1, KV_NOT_FOUND);
    get_all(&kit, 1, 0, 10, KV_NOT_FOUND); /* no tables there at all */
    cr_assert_eq(kv_kit_metric(&kit, "kv_gets_total"), 510);
    cr_assert_eq(kv_kit_metric(&kit, "kv_gets_found_total"), 2);
    cr_assert_eq(kv_kit_metric(&kit, "kv_memtable_gets_total"), 510);
    cr_assert_eq(kv_kit_metric(&kit, "kv_memtable_hits_total"), 1);
    cr_assert_eq(kv_kit_metric(&kit, "kv_table_gets_total"), 499);
    cr_assert_eq(kv_kit_metric(&kit, "kv_table_gets_found_total"), 1);
    uint64_t filtered = kv_kit_metric(&kit, "kv_table_gets_filtered_total");
    cr_assert(filtered > 450 && filtered <= 498, "a filter lets few absent keys pass: %d of 498",
              (int)filtered);
    cr_assert_eq(kv_levels(kit.db, 0, levels), KV_OK);
    cr_assert(levels[0].gets == 499 && levels[0].gets_filtered == filtered && levels[0].gets_found == 1);
    cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
    get_all(&kit, 0, 2, 3, KV_OK);
    cr_assert_eq(kv_levels(kit.db, 0, levels), KV_OK);
    cr_assert(levels[KV_LEVELS_MAX - 1].gets == 1 && levels[KV_LEVELS_MAX - 1].gets_found == 1);
    cr_assert_eq(kv_levels(kit.db, 1, levels), KV_OK);
    cr_assert_eq(levels[0].gets, 0);
    kv_kit_release(&kit);
}

Test(metrics, bytes_read_are_those_of_readers_and_not_of_merges)
{
    struct kv_kit kit;
    struct kv_iter *it = NULL;
    char value[256];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    kv_kit_init(&kit, NULL);
    kit.spaces[0].compression = KV_COMPRESSION_NONE;
    kv_kit_must_open(&kit);
    put_all(&kit, 1, value);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    put_all(&kit, 2, value);
    cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
    cr_assert_gt(kv_kit_metric(&kit, "kv_merge_bytes_read_total"), 255 * 1000);
    cr_assert_eq(kv_kit_metric(&kit, "kv_merges_running"), 0);
    cr_assert_eq(kv_kit_metric(&kit, "kv_blocks_read_total"), 0);
    get_all(&kit, 0, 500, 501, KV_OK);
    cr_assert_eq(kv_kit_metric(&kit, "kv_blocks_read_total"), 1);
    uint64_t block = kv_kit_metric(&kit, "kv_block_bytes_read_total");
    cr_assert(block > 2000 && block < 8000);
    get_all(&kit, 0, 500, 501, KV_OK); /* from the cache */
    cr_assert_eq(kv_kit_metric(&kit, "kv_block_bytes_read_total"), block);
    cr_assert_eq(kv_iter_open(kit.db, NULL, 0, (kv_slice){0}, (kv_slice){0}, &it), KV_OK);
    kv_status rc = kv_iter_seek(it, (kv_slice){0});
    while (rc == KV_OK)
        rc = kv_iter_next(it);
    kv_iter_close(it);
    cr_assert_gt(kv_kit_metric(&kit, "kv_block_bytes_read_total"), 255 * 1000);
    cr_assert_lt(kv_kit_metric(&kit, "kv_block_bytes_read_total"), 300 * 1000);
    kv_kit_release(&kit);
}

Test(metrics, the_value_log_is_counted)
{
    struct kv_kit kit;
    char value[2000];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    kv_kit_init(&kit, NULL);
    kit.spaces[0].compression = KV_COMPRESSION_NONE;
    kit.spaces[0].value_separate_bytes = 1000;
    kv_kit_must_open(&kit);
    put_all(&kit, 10, value);
    kv_kit_put(&kit, 0, "k0005", "short");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_metric(&kit, "kv_value_log_writes_total"), 100);
    cr_assert_eq(kv_kit_metric(&kit, "kv_value_log_segments"), 1);
    uint64_t bytes = kv_kit_metric(&kit, "kv_value_log_bytes");
    uint64_t live = kv_kit_metric(&kit, "kv_value_log_live_bytes");
    cr_assert(bytes >= 1999 * 100 && live >= 1999 * 100 && live < bytes);
    get_all(&kit, 0, 20, 21, KV_OK);
    get_all(&kit, 0, 5, 6, KV_OK);
    cr_assert_eq(kv_kit_metric(&kit, "kv_value_log_reads_total"), 1);
    cr_assert_eq(kv_kit_metric(&kit, "kv_value_log_bytes_read_total"), 1999);
    kv_kit_release(&kit);
}

struct counting {
    struct kv_kit *kit;
    kv_thread thread;
};

static void count_gets(void *ctx)
{
    struct counting *c = ctx;
    for (int i = 0; i < 20; i++)
        get_all(c->kit, 0, 0, 1000, KV_OK);
}

Test(metrics, threads_count_apart_and_nothing_is_lost)
{
    enum { THREADS = 8 };
    struct kv_kit kit;
    struct counting threads[THREADS] = {{0}};
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    put_all(&kit, 1, "value");
    for (int i = 0; i < THREADS; i++) {
        threads[i].kit = &kit;
        cr_assert_eq(kv_thread_start(&threads[i].thread, "gets", 0, count_gets, &threads[i]), KV_OK);
    }
    for (int i = 0; i < THREADS; i++)
        kv_thread_join(&threads[i].thread);
    cr_assert_eq(kv_kit_metric(&kit, "kv_gets_total"), THREADS * 20 * 1000);
    cr_assert_eq(kv_kit_metric(&kit, "kv_gets_found_total"), THREADS * 20 * 1000);
    kv_kit_release(&kit);
}

Test(metrics, stripes_share_no_line_of_memory)
{
    struct kv_reads reads = {0};
    struct kv_reads_level_sum sum;
    cr_assert_eq(kv_reads_init(&reads, 15), KV_OK);
    cr_assert_eq(reads.stride % 64, 0);
    for (size_t i = 1; i <= KV_THREAD_PLACES; i++) {
        struct kv_reads_stripe *stripe = kv_reads_stripe_at(&reads, i);
        cr_assert_eq((uintptr_t)stripe % 64, 0);
        for (size_t k = 0; k < 15; k++)
            kv_reads_add(&kv_reads_level_at(stripe, kv_reads_offset(k))->missed, k + 1);
    }
    kv_reads_level_total(&reads, 7, 7, &sum);
    cr_assert_eq(sum.asked, (uint64_t)KV_THREAD_PLACES * (8 + 9 + 10 + 11 + 12 + 13 + 14));
    kv_reads_level_total(&reads, 14, 7, &sum); /* there is but one more */
    cr_assert_eq(sum.asked, (uint64_t)KV_THREAD_PLACES * 15);
    kv_reads_release(&reads);
}
