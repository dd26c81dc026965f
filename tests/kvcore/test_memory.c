/* One budget over the memory of several databases, and a cache whose size changes. */
#include "kvcore/db/db.h"
#include "tests/support/kv_kit.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { MIB = 1 << 20, DATABASES = 3 };

struct world {
    struct kv_env *env;
    struct kv_db *db[DATABASES];
    struct clock_manual clock;
    struct kv_err err;
};

static void world_open(struct world *w, uint64_t memory_bytes, int threads)
{
    *w = (struct world){0};
    clock_manual_init(&w->clock, 1700000000000, 7);
    struct kv_env_options options = {.in_memory = true, .memory_bytes = memory_bytes, .threads = threads};
    if (threads == KV_THREADS_NONE)
        options.clock = &w->clock.base;
    cr_assert_eq(kv_env_open(&options, &w->env, &w->err), KV_OK, "%s", w->err.text);
    for (int i = 0; i < DATABASES; i++) {
        char path[16];
        struct kv_space_options space = {
            .name = "a", .style = KV_STYLE_LEVELLED, .compression = KV_COMPRESSION_NONE};
        struct kv_options how = {
            .spaces = &space, .n_spaces = 1, .durability = KV_DURABILITY_OS, .disk_reserve_bytes = 1};
        snprintf(path, sizeof path, "db%d", i);
        cr_assert_eq(kv_open(w->env, path, &how, &w->db[i], &w->err), KV_OK, "%s", w->err.text);
    }
}

static void world_close(struct world *w)
{
    for (int i = 0; i < DATABASES; i++)
        cr_assert_eq(kv_close(w->db[i], &w->err), KV_OK);
    kv_env_close(w->env);
    clock_manual_release(&w->clock);
}

struct looked_up {
    const char *name;
    double value;
};
static void look_up(void *ctx, const char *name, const char *help, bool counter, double value)
{
    struct looked_up *l = ctx;
    (void)help, (void)counter;
    if (strcmp(name, l->name) == 0)
        l->value = value;
}
static uint64_t metric(struct kv_db *db, const char *name)
{
    struct looked_up l = {name, -1};
    kv_metrics(db, look_up, &l);
    cr_assert(l.value >= 0, "%s", name);
    return (uint64_t)l.value;
}

/* n values of 1 KiB from key number `from` on, 16 a commit. */
static void fill(struct world *w, int which, int from, int n)
{
    struct kv_batch *batch = NULL;
    char key[16], value[1024];
    memset(value, 'v', sizeof value);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%08d", from + i);
        memcpy(value, key, 8);
        cr_assert_eq(kv_batch_put(batch, 0, kv_slice_str(key), kv_slice_of((uint8_t *)value, sizeof value)),
                     KV_OK);
        if (i % 16 != 15)
            continue;
        cr_assert_eq(kv_commit(w->db[which], batch, NULL, NULL, &w->err), KV_OK, "%s", w->err.text);
        kv_batch_clear(batch);
    }
    kv_batch_free(batch);
}

static void expect(struct world *w, int which, int n)
{
    for (int i = 0; i < n; i++) {
        struct kv_pinned got;
        char key[16];
        snprintf(key, sizeof key, "%08d", i);
        cr_assert_eq(kv_get(w->db[which], NULL, 0, kv_slice_str(key), &got, &w->err), KV_OK, "%s", key);
        cr_assert(got.value.len == 1024 && memcmp(got.value.data, key, 8) == 0);
        kv_pinned_release(&got);
    }
}

Test(memory, several_databases_stay_within_one_budget)
{
    enum { BUDGET = 24 * MIB, ROUNDS = 40, EACH = 512 };
    struct world w;
    world_open(&w, BUDGET, 2); /* memtables of 32 MiB each would be four times that */
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < DATABASES; i++) {
            fill(&w, i, round * EACH, EACH);
            cr_assert_leq(metric(w.db[0], "kv_memory_bytes"), BUDGET);
        }
    for (int i = 0; i < DATABASES; i++)
        expect(&w, i, ROUNDS * EACH);
    uint64_t peak = metric(w.db[0], "kv_memory_peak_bytes"), early = 0;
    for (int i = 0; i < DATABASES; i++)
        early += metric(w.db[i], "kv_early_flushes_total");
    cr_assert(peak > BUDGET / 2 && peak <= BUDGET, "%lu", (unsigned long)peak);
    cr_assert_gt(early, 3);
    world_close(&w);
}

Test(memory, the_cache_gives_way_first_and_has_it_back_after_the_flush)
{
    enum { BUDGET = 32 * MIB };
    struct world w;
    world_open(&w, BUDGET, KV_THREADS_NONE);
    uint64_t before = metric(w.db[0], "kv_cache_bytes_max");
    cr_assert_gt(before, 28 * MIB);
    fill(&w, 0, 0, 8 * 1024);
    uint64_t with = metric(w.db[0], "kv_cache_bytes_max"),
             memtables = metric(w.db[0], "kv_memory_memtable_bytes");
    cr_assert_gt(memtables, 8 * MIB);
    cr_assert(with <= before - 7 * MIB && with + memtables <= BUDGET + BUDGET / 32);
    cr_assert_eq(metric(w.db[0], "kv_early_flushes_total"), 0, "nothing is flushed for it");
    cr_assert_eq(kv_flush(w.db[0], &w.err), KV_OK);
    cr_assert_gt(metric(w.db[0], "kv_cache_bytes_max"), before - 2 * MIB);
    world_close(&w);
}

Test(memory, the_largest_memtable_is_flushed_though_its_database_is_idle)
{
    struct world w;
    world_open(&w, 32 * MIB, KV_THREADS_NONE);
    fill(&w, 0, 0, 8 * 1024);
    cr_assert_eq(metric(w.db[0], "kv_flushes_total"), 0);
    fill(&w, 1, 0, 6 * 1024); /* together past three eighths of the budget */
    cr_assert_eq(kv_work(w.db[0], &w.err), KV_OK, "its own work now: %s", w.err.text);
    cr_assert_eq(metric(w.db[0], "kv_flushes_total"), 1);
    cr_assert_eq(metric(w.db[0], "kv_early_flushes_total"), 1);
    cr_assert_eq(metric(w.db[1], "kv_flushes_total"), 0);
    expect(&w, 0, 8 * 1024);
    world_close(&w);
}

Test(memory, without_threads_a_commit_makes_the_room_it_needs)
{
    enum { BUDGET = 16 * MIB };
    struct world w;
    world_open(&w, BUDGET, KV_THREADS_NONE);
    for (int i = 0; i < 64; i++) {
        fill(&w, 0, i * 1024, 1024);
        cr_assert_leq(metric(w.db[0], "kv_memory_bytes"), BUDGET);
    }
    cr_assert_gt(metric(w.db[0], "kv_early_flushes_total"), 4);
    expect(&w, 0, 64 * 1024);
    world_close(&w);
}

/* Tables cannot be made: the budget is passed rather than commits refused, and kept again when they can. */
Test(memory, a_disk_that_refuses_tables_does_not_refuse_commits)
{
    enum { BUDGET = 16 * MIB };
    for (int threads = KV_THREADS_NONE; threads <= 1; threads += 1 - KV_THREADS_NONE) {
        struct world w = {0};
        struct kv_vfs *disk = kv_vfs_mem_new();
        struct vfs_fault *fault = vfs_fault_new(disk);
        struct kv_env_options options = {
            .vfs = vfs_fault_as_vfs(fault), .memory_bytes = BUDGET, .threads = threads};
        struct kv_space_options space = {.name = "a", .style = KV_STYLE_LEVELLED};
        struct kv_options how = {.spaces = &space,
                                 .n_spaces = 1,
                                 .durability = KV_DURABILITY_OS,
                                 .log_file_bytes = 64 * MIB,
                                 .disk_reserve_bytes = 1};
        cr_assert_eq(kv_env_open(&options, &w.env, &w.err), KV_OK, "%s", w.err.text);
        cr_assert_eq(kv_open(w.env, "db", &how, &w.db[0], &w.err), KV_OK, "%s", w.err.text);
        vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = 1, .sticky = true, .glob = "*.tbl"});
        int n = 0;
        for (; metric(w.db[0], "kv_memory_stalls_total") == 0; n += 16) {
            cr_assert_lt(n, 64 * 1024);
            fill(&w, 0, n, 16);
        }
        cr_assert_eq(metric(w.db[0], "kv_flushes_total"), 0);
        expect(&w, 0, n);
        vfs_fault_plan(fault, NULL);
        cr_assert_eq(kv_flush(w.db[0], &w.err), KV_OK, "%s", w.err.text);
        cr_assert_leq(metric(w.db[0], "kv_memory_bytes"), BUDGET);
        expect(&w, 0, n);
        cr_assert_eq(kv_close(w.db[0], &w.err), KV_OK);
        kv_env_close(w.env);
        vfs_fault_free(fault);
        kv_vfs_mem_free(disk);
    }
}

Test(memory, the_cache_may_be_made_smaller_and_larger)
{
    struct kv_env_options options = {
        .in_memory = true, .threads = KV_THREADS_NONE, .cache_bytes = 4 * MIB, .cache_bytes_most = 8 * MIB};
    struct kv_space_options space = {.name = "a", .compression = KV_COMPRESSION_NONE};
    struct kv_options how = {.spaces = &space, .n_spaces = 1, .disk_reserve_bytes = 1};
    struct world w = {0};
    cr_assert_eq(kv_env_open(&options, &w.env, &w.err), KV_OK);
    cr_assert_eq(kv_open(w.env, "db", &how, &w.db[0], &w.err), KV_OK);
    fill(&w, 0, 0, 16 * 1024);
    cr_assert_eq(kv_flush(w.db[0], &w.err), KV_OK);
    expect(&w, 0, 16 * 1024);
    uint64_t used = metric(w.db[0], "kv_cache_bytes");
    cr_assert(used > 3 * MIB && used <= 4 * MIB);
    kv_env_set_cache_bytes(w.env, MIB);
    cr_assert_eq(metric(w.db[0], "kv_cache_bytes_max"), MIB);
    cr_assert_leq(metric(w.db[0], "kv_cache_bytes"), MIB);
    expect(&w, 0, 16 * 1024);
    cr_assert_leq(metric(w.db[0], "kv_cache_bytes"), MIB);
    kv_env_set_cache_bytes(w.env, 64 * (uint64_t)MIB);
    cr_assert_eq(metric(w.db[0], "kv_cache_bytes_max"), 8 * MIB, "at most what was said at open");
    expect(&w, 0, 16 * 1024);
    used = metric(w.db[0], "kv_cache_bytes");
    cr_assert(used > 7 * MIB && used <= 8 * MIB);
    cr_assert_eq(kv_close(w.db[0], &w.err), KV_OK);
    kv_env_close(w.env);
}

Test(memory, a_budget_too_small_is_refused_with_its_bound)
{
    struct kv_env *env = NULL;
    struct kv_err err;
    cr_assert_eq(kv_env_open(&(struct kv_env_options){.memory_bytes = MIB}, &env, &err), KV_INVALID);
    cr_assert(strstr(err.text, "memory_bytes: 1048576") && strstr(err.text, "8388608"), "%s", err.text);
}
