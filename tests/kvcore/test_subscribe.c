#include "kvcore/os/thread.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/txn_kit.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static struct kv_kit kit;

static void setup(void)
{
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
}

static void teardown(void)
{
    kv_kit_release(&kit);
}

TestSuite(subscribe, .init = setup, .fini = teardown);
TestSuite(badger_themes_subscribe, .init = setup, .fini = teardown);

static struct kv_subscription *subscribe(uint32_t space, const char *prefix, uint64_t bytes)
{
    struct kv_subscription *s = NULL;
    struct kv_prefix one = {space, kv_slice_str(prefix)};
    cr_assert_eq(kv_subscribe(kit.db, &one, 1, bytes, &s, NULL, &kit.err), KV_OK, "%s", kit.err.text);
    return s;
}

/* "put 3 key=value" */
static const char *heard(struct kv_subscription *s)
{
    static char text[200];
    static const char *const names[] = {"", "put", "delete", "merge", "delete_range", "loaded", "lost"};
    struct kv_event e;
    kv_status rc = kv_subscription_next(s, 0, &e);
    if (rc < 0)
        return kv_status_name(rc);
    if (e.kind == KV_EVENT_LOST)
        snprintf(text, sizeof text, "lost %" PRIu64 " to %" PRIu64, e.version, e.version_last);
    else
        snprintf(text, sizeof text, "%s %" PRIu64 " %.*s=%.*s", names[e.kind], e.version, KV_ARG(e.key),
                 KV_ARG(e.value));
    return text;
}

Test(subscribe, hears_commits_of_its_prefixes_in_order_once_they_are_visible)
{
    struct kv_subscription *s = NULL;
    struct kv_prefix prefixes[] = {
        {0, KV_STR("user/")}, {0, KV_STR("b")}, {0, KV_STR("user/x/")}, {1, KV_STR("")}};
    uint64_t version;
    kv_kit_put(&kit, 0, "user/early", "1");
    cr_assert_eq(kv_subscribe(kit.db, prefixes, 4, 0, &s, &version, &kit.err), KV_OK);
    cr_assert_eq(version, 1);
    cr_assert_str_eq(heard(s), "KV_TIMEOUT");
    kv_kit_put(&kit, 0, "user/ann", "2");
    kv_kit_put(&kit, 0, "user", "not");
    kv_kit_put(&kit, 0, "a", "not");
    kv_kit_put(&kit, 1, "any", "3");
    struct kv_txn *txn = txn_kit_begin(&kit);
    txn_kit_put(txn, 0, "user/x/1", "4");
    txn_kit_put(txn, 0, "b", NULL);
    txn_kit_put(txn, 0, "c", "not");
    cr_assert_str_eq(heard(s), "put 2 user/ann=2");
    cr_assert_eq(txn_kit_commit(txn), KV_OK);
    const char *keys[] = {"user/l", "user/m", "z"};
    kv_kit_bulk(&kit, 0, keys, 3, "l", 0);
    cr_assert_str_eq(heard(s), "put 5 any=3");
    cr_assert_str_eq(heard(s), "put 6 user/x/1=4");
    cr_assert_str_eq(heard(s), "delete 6 b=");
    cr_assert_str_eq(heard(s), "loaded 7 user/l=z");
    cr_assert_str_eq(heard(s), "KV_TIMEOUT");
    kv_subscription_close(s);
    kv_kit_put(&kit, 0, "user/late", "5");
    kv_subscription_close(NULL);
}

Test(subscribe, hands_over_attributes)
{
    struct kv_subscription *s = subscribe(0, "", 0);
    struct kv_batch *batch;
    struct kv_event event;
    struct kv_put_options options = {.expires_at_s = 4000000000, .meta = 9};
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put_with(batch, 0, KV_STR("k"), KV_STR("v"), &options), KV_OK);
    if (kv_commit(kit.db, batch, NULL, NULL, &kit.err) == KV_OK) {
        cr_assert_eq(kv_subscription_next(s, 0, &event), KV_OK);
        cr_assert(event.kind == KV_EVENT_PUT && event.meta == 9 && event.expires_at_s == 4000000000);
        cr_assert(kv_slice_equal(event.value, KV_STR("v")));
    }
    kv_batch_free(batch);
    kv_subscription_close(s);
}

/* A subscriber that does not read: writers go on, and it hears of the gap where it is. */
Test(badger_themes_subscribe, a_slow_subscriber_never_blocks_writers)
{
    struct kv_subscription *s = subscribe(0, "", 4096);
    char value[100], text[220];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    for (int i = 1; i <= 1000; i++)
        kv_kit_put(&kit, 0, "k", value);
    snprintf(text, sizeof text, "put 1 k=%s", value);
    cr_assert_str_eq(heard(s), text);
    cr_assert_str_eq(heard(s) + 5, text + 5, "the second, and the first's room is free again");
    kv_kit_put(&kit, 0, "k", value);
    uint64_t version = 2;
    const char *at;
    while (strncmp(at = heard(s), "put", 3) == 0)
        cr_assert_eq(strtoull(at + 4, NULL, 10), ++version);
    snprintf(text, sizeof text, "lost %" PRIu64 " to 1000", version + 1);
    cr_assert_str_eq(at, text, "%s, not %s", at, text);
    cr_assert_eq(strncmp(heard(s), "put 1001 k=", 11), 0, "behind the gap");
    cr_assert_str_eq(heard(s), "KV_TIMEOUT");
    for (int i = 0; i < 100; i++) {
        char small[8];
        snprintf(small, sizeof small, "%d", i);
        kv_kit_put(&kit, 0, "small", small);
        snprintf(text, sizeof text, "put %d small=%d", 1002 + i, i);
        cr_assert_str_eq(heard(s), text, "round the ring and round");
    }
    kv_subscription_close(s);
}

Test(subscribe, a_value_larger_than_the_queue_is_lost_and_says_so)
{
    struct kv_subscription *s = subscribe(0, "", 4096);
    char *value = calloc(1, 8193);
    memset(value, 'v', 8192);
    kv_kit_put(&kit, 0, "a", "1");
    kv_kit_put(&kit, 0, "b", value);
    kv_kit_put(&kit, 0, "c", "3");
    cr_assert_str_eq(heard(s), "put 1 a=1");
    cr_assert_str_eq(heard(s), "lost 2 to 2");
    cr_assert_str_eq(heard(s), "put 3 c=3");
    free(value);
    kv_subscription_close(s);
}

Test(subscribe, refuses_what_makes_no_sense)
{
    struct kv_subscription *s = NULL;
    struct kv_prefix good = {0, KV_STR("")}, bad = {7, KV_STR("")};
    cr_assert_eq(kv_subscribe(kit.db, &good, 0, 0, &s, NULL, &kit.err), KV_INVALID);
    cr_assert_eq(kv_subscribe(kit.db, &bad, 1, 0, &s, NULL, &kit.err), KV_INVALID);
    cr_assert_eq(kv_subscribe(kit.db, &good, 1, 1, &s, NULL, &kit.err), KV_INVALID);
    for (uint64_t nth = 1;; nth++) {
        malloc_fault_arm(nth, false);
        kv_status rc = kv_subscribe(kit.db, &good, 1, 0, &s, NULL, NULL);
        if (!malloc_fault_disarm())
            break;
        cr_assert_eq(rc, KV_NO_MEMORY);
    }
    kv_subscription_stop(s);
    cr_assert_str_eq(heard(s), "KV_CLOSED");
    kv_subscription_close(s);
}

static void read_all(void *ctx)
{
    struct kv_subscription *s = ctx;
    struct kv_event event;
    uint64_t last = 0;
    while (kv_subscription_next(s, UINT32_MAX, &event) == KV_OK) {
        uint64_t version = event.kind == KV_EVENT_LOST ? event.version_last : event.version;
        if (version <= last || (event.version != last + 1) || kv_seq(kit.db) < event.version)
            abort(); /* every version once, none missing, none before it is visible */
        last = version;
    }
    if (last < 2000)
        abort();
}

static void write_some(void *ctx)
{
    char key[16];
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "%p %d", ctx, i % 50);
        if (kv_kit_try_put(&(struct kv_kit){.db = kit.db}, 0, key, "value") < 0)
            abort();
    }
}

Test(subscribe, threads_miss_nothing_unsaid)
{
    struct kv_subscription *s[2] = {subscribe(0, "", 4096), subscribe(0, "", 1 << 20)};
    kv_thread readers[2] = {0}, writers[2] = {0};
    for (size_t i = 0; i < 2; i++) {
        cr_assert_eq(kv_thread_start(&readers[i], "reader", 0, read_all, s[i]), KV_OK);
        cr_assert_eq(kv_thread_start(&writers[i], "writer", 0, write_some, (void *)i), KV_OK);
    }
    for (size_t i = 0; i < 2; i++)
        kv_thread_join(&writers[i]);
    for (size_t i = 0; i < 2; i++) {
        kv_subscription_stop(s[i]);
        kv_thread_join(&readers[i]);
        kv_subscription_close(s[i]);
    }
}

static void delete_range(uint32_t space, const char *lower, const char *upper)
{
    struct kv_batch *batch = NULL;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_delete_range(batch, space, kv_slice_str(lower), kv_slice_str(upper)), KV_OK);
    cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, &kit.err), KV_OK);
    kv_batch_free(batch);
}

Test(subscribe, hears_of_ranges_and_loads_that_reach_into_its_prefixes)
{
    struct kv_subscription *s = NULL;
    struct kv_prefix prefixes[] = {{0, KV_STR("m")}, {0, KV_STR("t")}, {1, KV_STR("x")}};
    cr_assert_eq(kv_subscribe(kit.db, prefixes, 3, 0, &s, NULL, &kit.err), KV_OK);
    delete_range(0, "a", "m"); /* ends before it */
    delete_range(0, "n", "t");
    delete_range(0, "u", "z");
    delete_range(1, "a", "b");
    cr_assert_str_eq(heard(s), "KV_TIMEOUT");
    delete_range(0, "a", "mm");
    cr_assert_str_eq(heard(s), "delete_range 5 a=mm");
    delete_range(0, "m5", "m6"); /* within it */
    cr_assert_str_eq(heard(s), "delete_range 6 m5=m6");
    delete_range(1, "a", "z");
    cr_assert_str_eq(heard(s), "delete_range 7 a=z");
    kv_kit_bulk(&kit, 0, (const char *const[]){"a", "b"}, 2, "loaded", 0);
    kv_kit_bulk(&kit, 0, (const char *const[]){"n", "s"}, 2, "loaded", 0);
    cr_assert_str_eq(heard(s), "KV_TIMEOUT");
    kv_kit_bulk(&kit, 0, (const char *const[]){"a", "m"}, 2, "loaded", 0); /* both ends are in it */
    cr_assert_str_eq(heard(s), "loaded 10 a=m");
    kv_kit_bulk(&kit, 1, (const char *const[]){"x1", "y"}, 2, "loaded", 0);
    cr_assert_str_eq(heard(s), "loaded 11 x1=y");
    kv_subscription_close(s);
}

struct stopper {
    struct kv_subscription *s;
    kv_status rc;
};

static void wait_for_ever(void *ctx)
{
    struct stopper *stopper = ctx;
    struct kv_event event;
    stopper->rc = kv_subscription_next(stopper->s, UINT32_MAX, &event);
}

Test(subscribe, who_waits_for_ever_is_woken_by_a_stop_and_who_waits_a_while_by_time)
{
    struct stopper stopper = {.s = subscribe(0, "k", 0)};
    struct kv_event event;
    kv_thread thread;
    cr_assert_eq(kv_subscription_next(stopper.s, 5, &event), KV_TIMEOUT);
    cr_assert_eq(kv_thread_start(&thread, "waiter", 0, wait_for_ever, &stopper), KV_OK);
    kv_subscription_stop(stopper.s);
    kv_thread_join(&thread);
    cr_assert_eq(stopper.rc, KV_CLOSED);
    kv_subscription_close(stopper.s);
}
