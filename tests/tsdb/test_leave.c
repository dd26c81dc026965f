/* Series that nothing refers to leave the registry, and may return; whoever is about to use one keeps it. */
#include "kvcore/base/mem.h"
#include "kvcore/os/thread.h"
#include "tests/support/store_kit.h"
#include "tsdb/db.h"
#include "tsdb/series_internal.h"

#include <criterion/criterion.h>
#include <stdio.h>

static void open_kit(struct store_kit *kit)
{
    store_kit_init(kit);
    kit->options.retention_ms = 3 * KIT_DAY_MS;
    cr_assert_eq(store_kit_open(kit), KV_OK, "%s", kit->err.text);
}

static struct ts_stats stats_of(struct store_kit *kit)
{
    struct ts_stats stats;
    ts_stats(kit->db, &stats);
    return stats;
}

static void settle(struct store_kit *kit)
{
    cr_assert_eq(ts_flush(kit->db, true, &kit->err), KV_OK, "%s", kit->err.text);
}

static void maintain(struct store_kit *kit)
{
    cr_assert_eq(ts_maintain(kit->db, &kit->err), KV_OK, "%s", kit->err.text);
}

static void delete_all(struct store_kit *kit, int series)
{
    cr_assert_eq(store_kit_delete(kit, series, INT64_MIN, INT64_MAX), KV_OK, "%s", kit->err.text);
}

static void complain(void *ctx, kv_status severity, const char *line)
{
    (void)ctx;
    if (severity < 0)
        cr_log_error("%s", line);
}

/* Closes, checks the files, opens again. */
static void check(struct store_kit *kit)
{
    struct kv_env *env;
    const struct kv_env_options options = {
        .vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    cr_assert_eq(store_kit_close(kit, true), KV_OK);
    cr_assert_eq(kv_env_open(&options, &env, NULL), KV_OK);
    cr_assert_eq(ts_check(env, "db", complain, NULL, &kit->err), KV_OK, "%s", kit->err.text);
    kv_env_close(env);
    cr_assert_eq(store_kit_open(kit), KV_OK, "%s", kit->err.text);
}

/* Everything that lists say there is, those that left included as long as lists name them. */
static uint64_t listed(struct store_kit *kit)
{
    struct ts_refset set = {0}, left = {0};
    cr_assert_eq(ts_index_left(kit->db->registry, NULL, &left, NULL), KV_OK);
    struct kv_iter *it = NULL;
    struct ts_key lower, upper;
    ts_key_postings_value(&lower, KV_STR(""), KV_STR(""));
    upper = lower;
    (void)ts_key_successor(&upper);
    cr_assert_eq(
        kv_iter_open(ts_kv(kit->db), NULL, TS_SPACE_INDEX, ts_key_slice(&lower), ts_key_slice(&upper), &it),
        KV_OK);
    for (kv_status rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it)) {
        struct ts_postings_key tail = {0};
        cr_assert_eq(ts_key_postings_tail_read(it->key, &tail), KV_OK);
        cr_assert_eq(ts_refset_add_encoded(&set, tail.metric, tail.batch, it->value), KV_OK);
    }
    kv_iter_close(it);
    uint64_t n = ts_refset_count(&set);
    ts_refset_release(&set);
    ts_refset_release(&left);
    return n;
}

Test(leave, what_expired_leaves_with_its_last_day_and_may_return)
{
    struct store_kit kit;
    open_kit(&kit);
    for (int series = 0; series < 6; series++)
        store_kit_put(&kit, series, KIT_START_MS - 2 * KIT_DAY_MS, series);
    store_kit_put(&kit, 1, KIT_START_MS, 10);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).series, 6);
    clock_manual_advance_ms(&kit.clock, 2 * KIT_DAY_MS);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).series, 1);
    cr_assert_eq(stats_of(&kit).series_left, 5);
    store_kit_put(&kit, 2, KIT_START_MS + 5, 20); /* from the cache it had */
    cr_assert_eq(kit.result.series_created, 1);
    store_kit_put(&kit, 2, KIT_START_MS + 6, 21);
    cr_assert_eq(kit.result.series_created, 0);
    cr_assert_eq(stats_of(&kit).series, 2);
    cr_assert_str_eq(store_kit_text(&kit, 2, INT64_MIN, INT64_MAX), "5=20 6=21 ");
    cr_assert_str_eq(store_kit_text(&kit, 1, INT64_MIN, INT64_MAX), "0=10 ");
    cr_assert_str_eq(store_kit_text(&kit, 3, INT64_MIN, INT64_MAX), "");
    check(&kit);
    cr_assert_eq(stats_of(&kit).series, 2);
    cr_assert_str_eq(store_kit_text(&kit, 2, INT64_MIN, INT64_MAX), "5=20 6=21 ");
    cr_assert_eq(listed(&kit), 7, "lists name those that left until they are merged");
    settle(&kit);
    cr_assert_eq(listed(&kit), 2);
    cr_assert_str_eq(store_kit_text(&kit, 2, INT64_MIN, INT64_MAX), "5=20 6=21 ");
    check(&kit);
    store_kit_put(&kit, 4, KIT_START_MS, 1);
    cr_assert_str_eq(store_kit_text(&kit, 4, INT64_MIN, INT64_MAX), "0=1 ");
    store_kit_release(&kit);
}

Test(leave, a_request_under_way_keeps_what_it_resolved)
{
    struct store_kit kit;
    open_kit(&kit);
    store_kit_put(&kit, 0, KIT_START_MS, 1);
    store_kit_put(&kit, 1, KIT_START_MS, 1);
    settle(&kit);
    delete_all(&kit, 0);
    delete_all(&kit, 1);
    cr_assert_eq(store_kit_add(&kit, 0, KIT_START_MS + 1, 2), KV_OK); /* resolved, not committed */
    settle(&kit);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).series, 2, "nothing leaves while it is under way");
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(kit.result.series_created, 0);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).series, 1);
    cr_assert_str_eq(store_kit_text(&kit, 0, INT64_MIN, INT64_MAX), "1=2 ");
    check(&kit);
    store_kit_release(&kit);
}

Test(leave, a_request_that_comes_while_one_is_waited_for_keeps_what_it_resolves)
{
    struct store_kit kit;
    struct ts_appender *slow;
    open_kit(&kit);
    for (int series = 0; series < 3; series++)
        store_kit_put(&kit, series, KIT_START_MS, 1);
    settle(&kit);
    for (int series = 0; series < 3; series++)
        delete_all(&kit, series);
    cr_assert_eq(store_kit_add(&kit, 0, KIT_START_MS + 1, 2), KV_OK);
    slow = kit.appender;
    settle(&kit); /* doomed: all three; the slow one is waited for */
    cr_assert_eq(ts_appender_new(kit.db, &kit.appender), KV_OK);
    cr_assert_eq(store_kit_add(&kit, 1, KIT_START_MS + 1, 3), KV_OK); /* comes afterwards, and stays open */
    cr_assert_eq(ts_commit(slow, &kit.result, &kit.err), KV_OK);
    ts_appender_free(slow);
    maintain(&kit); /* series 2 leaves */
    cr_assert_eq(stats_of(&kit).series, 2);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(kit.result.series_created, 0);
    cr_assert_str_eq(store_kit_text(&kit, 0, INT64_MIN, INT64_MAX), "1=2 ");
    cr_assert_str_eq(store_kit_text(&kit, 1, INT64_MIN, INT64_MAX), "1=3 ");
    maintain(&kit);
    check(&kit);
    cr_assert_eq(stats_of(&kit).series, 2);
    store_kit_release(&kit);
}

Test(leave, under_churn_the_registry_stays_as_small_as_what_is_kept)
{
    enum { DAYS = 12, A_DAY = 1500 };
    struct store_kit kit;
    open_kit(&kit);
    uint64_t most = 0, disk = 0;
    for (int day = 0; day < DAYS; day++) {
        int64_t now = KIT_START_MS + day * KIT_DAY_MS;
        clock_manual_set_wall_ms(&kit.clock, now);
        cr_assert_eq(kv_retention_clock_accept(ts_kv(kit.db), &kit.err), KV_OK);
        for (int i = 0; i < A_DAY; i++)
            cr_assert_eq(store_kit_add(&kit, day * A_DAY + i, now, i), KV_OK);
        cr_assert_eq(store_kit_add(&kit, 1000000, now, day), KV_OK);
        cr_assert_eq(store_kit_commit(&kit), KV_OK, "%s", kit.err.text);
        cr_assert_eq(ts_flush(kit.db, day % 4 == 3, &kit.err), KV_OK);
        maintain(&kit);
        if (stats_of(&kit).series > most)
            most = stats_of(&kit).series;
        if (day == 5)
            disk = listed(&kit);
    }
    cr_assert_leq(most, 5 * A_DAY + 1);
    cr_assert_geq(stats_of(&kit).series_left, (DAYS - 5) * A_DAY);
    settle(&kit);
    cr_assert_leq(listed(&kit), 5 * A_DAY + 1);
    cr_assert_leq(listed(&kit), disk + A_DAY);
    check(&kit);
    cr_assert_leq(stats_of(&kit).series, 5 * A_DAY + 1);
    struct ts_columns columns = {0};
    cr_assert_eq(store_kit_read(&kit, 1000000, INT64_MIN, INT64_MAX, &columns), KV_OK);
    cr_assert_eq(columns.n, 4);
    ts_columns_release(&columns);
    store_kit_release(&kit);
}

Test(leave, room_under_the_limits_comes_back)
{
    struct store_kit kit;
    store_kit_init(&kit);
    kit.options.series_max = 4;
    kit.options.metric_series_max = 2; /* series n is of metric n % 3 */
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    store_kit_put(&kit, 0, KIT_START_MS, 1);
    store_kit_put(&kit, 3, KIT_START_MS, 1);
    cr_assert_eq(store_kit_add(&kit, 6, KIT_START_MS, 1), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(kit.result.rejected, 1);
    delete_all(&kit, 0);
    settle(&kit);
    store_kit_put(&kit, 6, KIT_START_MS, 1);
    check(&kit);
    cr_assert_eq(store_kit_add(&kit, 9, KIT_START_MS, 1), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(kit.result.rejected, 1, "two of one metric again, after a restart too");
    store_kit_release(&kit);
}

/* ---- steps of the registry, where threads would meet ------------------------------------------------------------- */

/* The three series of m0 there are then: refs 1:0, 1:1, 1:2 of series 0, 3, 6. All of them are doomed. */
static struct ts_registry *doom_three(struct store_kit *kit)
{
    struct ts_refset set = {0};
    open_kit(kit);
    for (int i = 0; i < 3; i++) {
        store_kit_put(kit, 3 * i, KIT_START_MS, 1);
        cr_assert_eq(ts_refset_add(&set, ts_ref_of(1, (uint32_t)i), NULL), KV_OK);
    }
    cr_assert_eq(ts_registry_doom(kit->db->registry, &set), KV_OK);
    return kit->db->registry;
}

Test(leave, what_was_doomed_and_turned_out_to_be_in_use_does_not_count_as_gone)
{
    struct store_kit kit;
    struct ts_registry *registry = doom_three(&kit);
    uint64_t refs[] = {ts_ref_of(1, 0), ts_ref_of(1, 2)};
    size_t n = 2;
    cr_assert_eq(ts_registry_remove(registry, refs, &n, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(n, 2);
    store_kit_put(&kit, 3, KIT_START_MS + 1, 2); /* between the two that have just left */
    cr_assert_eq(kit.result.series_created, 0, "it was there all the time");
    store_kit_put(&kit, 6, KIT_START_MS + 1, 2);
    cr_assert_eq(kit.result.series_created, 1);
    cr_assert_str_eq(store_kit_text(&kit, 3, INT64_MIN, INT64_MAX), "0=1 1=2 ");
    store_kit_release(&kit);
}

Test(leave, a_request_slow_to_ask_about_a_ref_it_has_read_is_told_that_it_left)
{
    struct store_kit kit;
    struct ts_registry *registry = doom_three(&kit);
    struct ts_refset gone = {0};
    uint64_t ref = ts_ref_of(1, 0), refs[] = {ref};
    size_t n = 1;
    int slow = 0, later = 0;
    ts_registry_enter(registry, &slow); /* and finds ref in the cache, or in an 'h' */
    cr_assert_eq(ts_registry_remove(registry, refs, &n, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(ts_refset_add(&gone, ref, NULL), KV_OK);
    ts_registry_undoom(registry, &gone);
    ts_registry_enter(registry, &later);
    cr_assert_not(ts_registry_use(registry, ref), "its samples would be lost");
    cr_assert_not(ts_registry_quiet(registry));
    ts_registry_exit(registry, &slow);
    cr_assert(ts_registry_quiet(registry), "whoever came later cannot have found it");
    ts_registry_exit(registry, &later);
    ts_refset_release(&gone);
    store_kit_release(&kit);
}

Test(leave, lists_lose_what_left_while_memory_was_short_too)
{
    struct store_kit kit;
    open_kit(&kit);
    for (int series = 0; series < 3; series++)
        store_kit_put(&kit, series, KIT_START_MS, 1);
    settle(&kit);
    delete_all(&kit, 0);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    clock_manual_advance_ms(&kit.clock, KIT_DAY_MS);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).series, 2);
    ts_left_clear(kit.db->left); /* as if it had not been written down in memory */
    delete_all(&kit, 1);
    settle(&kit);
    cr_assert_eq(stats_of(&kit).series, 1);
    cr_assert_eq(listed(&kit), 1);
    check(&kit);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).series, 1);
    store_kit_release(&kit);
}

/* ---- crashes ----------------------------------------------------------------------------------------------------- */

Test(leave, activity_of_a_day_that_a_crash_left_without_chunks_goes_after_the_next_open)
{
    struct store_kit kit;
    struct ts_key lower, upper;
    open_kit(&kit);
    store_kit_put(&kit, 0, KIT_START_MS - KIT_DAY_MS, 1);
    store_kit_put(&kit, 1, KIT_START_MS, 1);
    settle(&kit);
    store_kit_put(&kit, 2, KIT_START_MS - 2 * KIT_DAY_MS, 1); /* these two only in the head, about that day */
    store_kit_put(&kit, 2, KIT_START_MS + 1, 1);
    int32_t window = ts_window_of(KIT_START_MS - KIT_DAY_MS);
    ts_key_chunk_window(&lower, window);
    ts_key_chunk_window(&upper, window + 1);
    cr_assert_eq(kv_drop_tables(ts_kv(kit.db), TS_SPACE_CHUNKS, ts_key_slice(&lower), ts_key_slice(&upper),
                                NULL, &kit.err),
                 KV_OK); /* and the power goes before what belongs to it goes */
    cr_assert_eq(store_kit_close(&kit, true), KV_OK);
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).series, 3, "the head may have samples of that day");
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).series, 2);
    cr_assert_str_eq(store_kit_text(&kit, 1, INT64_MIN, INT64_MAX), "0=1 ");
    store_kit_put(&kit, 0, KIT_START_MS, 5);
    cr_assert_eq(kit.result.series_created, 1);
    check(&kit);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).series, 3);
    store_kit_release(&kit);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

enum { WRITERS = 3, SERIES = 9, LEFT_WANTED = 100 };
enum { PHASE_DELETES = 0, PHASE_KEEPS, PHASE_STOP };

struct writer {
    struct store_kit kit; /* shares db; its own appender */
    int number;
    uint64_t kept[SERIES]; /* samples it wrote since nothing is deleted any more */
    atomic_int *phase;
    atomic_int *seen; /* writers that know of PHASE_KEEPS */
};

/* Bursts on one series after the other, so that each is unused for a while; no two writers share one. */
static void write_away(void *ctx)
{
    struct writer *w = ctx;
    bool told = false;
    for (int64_t n = 1;; n++) {
        int phase = atomic_load(w->phase);
        int series = w->number + WRITERS * (int)(n / 20 % (SERIES / WRITERS));
        if (phase == PHASE_STOP)
            return;
        cr_assert_eq(store_kit_add(&w->kit, series, KIT_START_MS + n, (double)n), KV_OK);
        cr_assert_eq(store_kit_commit(&w->kit), KV_OK, "%s", w->kit.err.text);
        cr_assert_eq(w->kit.result.accepted, 1);
        if (phase == PHASE_KEEPS)
            w->kept[series]++;
        if (phase == PHASE_KEEPS && !told)
            atomic_fetch_add(w->seen, 1);
        told = phase == PHASE_KEEPS;
        if (n % 20 == 19)
            kv_clock_sleep_ns(kv_clock_system(), 10000000);
    }
}

static int64_t count(struct store_kit *kit, int series)
{
    struct ts_columns columns = {0};
    cr_assert_eq(store_kit_read(kit, series, INT64_MIN, INT64_MAX, &columns), KV_OK, "%s", kit->err.text);
    int64_t n = (int64_t)columns.n;
    ts_columns_release(&columns);
    return n;
}

Test(leave, beside_writers_no_sample_is_lost_and_no_series_is_there_twice, .timeout = 300)
{
    struct store_kit kit;
    struct writer *writers = calloc(WRITERS, sizeof *writers);
    kv_thread threads[WRITERS];
    atomic_int phase = PHASE_DELETES, seen = 0;
    store_kit_init(&kit);
    kit.options.retention_ms = INT64_MAX;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.kit = kit, .number = i, .phase = &phase, .seen = &seen};
        cr_assert_eq(ts_appender_new(kit.db, &writers[i].kit.appender), KV_OK);
        cr_assert_eq(kv_thread_start(&threads[i], "writer", 0, write_away, &writers[i]), KV_OK);
    }
    while (stats_of(&kit).series_left < LEFT_WANTED) {
        for (int series = 0; series < SERIES; series++)
            delete_all(&kit, series);
        settle(&kit);
        maintain(&kit);
    }
    atomic_store(&phase, PHASE_KEEPS);
    while (atomic_load(&seen) < WRITERS)
        maintain(&kit);
    for (int round = 0; round < 20; round++)
        settle(&kit);
    atomic_store(&phase, PHASE_STOP);
    for (int i = 0; i < WRITERS; i++) {
        kv_thread_join(&threads[i]);
        ts_appender_free(writers[i].kit.appender);
    }
    for (int reopened = 0; reopened < 2; reopened++) {
        for (int series = 0; series < SERIES;
             series++) /* some may have been written between the last delete and the phase */
            cr_assert_geq(count(&kit, series), (int64_t)writers[series % WRITERS].kept[series], "series %d",
                          series);
        settle(&kit);
        maintain(&kit);
        check(&kit);
        cr_assert_leq(stats_of(&kit).series, SERIES);
    }
    for (int series = 0; series < SERIES; series++) {
        delete_all(&kit, series);
        store_kit_put(&kit, series, KIT_START_MS, 5);
        cr_assert_eq(count(&kit, series), 1);
    }
    settle(&kit);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).series, SERIES);
    cr_assert_eq(listed(&kit), SERIES);
    check(&kit);
    free(writers);
    store_kit_release(&kit);
}
