#include "kvcore/db/db.h"
#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>

Test(watermark, is_the_oldest_live_transaction_or_now)
{
    struct kv_kit kit;
    struct kv_txn_slot a, b;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_db_oldest_txn(kit.db), 0);
    kv_kit_put(&kit, 0, "k", "1");
    cr_assert_eq(kv_db_oldest_txn(kit.db), 1);
    kv_txn_slot_begin(kit.db, &a, UINT64_MAX);
    kv_kit_put(&kit, 0, "k", "2");
    kv_txn_slot_begin(kit.db, &b, UINT64_MAX);
    kv_kit_put(&kit, 0, "k", "3");
    cr_assert(a.version == 1 && b.version == 2);
    cr_assert_eq(kv_db_oldest_txn(kit.db), 1);
    kv_txn_slot_end(kit.db, &a);
    cr_assert_eq(kv_db_oldest_txn(kit.db), 2);
    kv_txn_slot_end(kit.db, &b);
    cr_assert_eq(kv_db_oldest_txn(kit.db), 3);
    kv_kit_release(&kit);
}

Test(watermark, a_transaction_past_its_age_holds_nothing_back_and_stays_dead)
{
    struct kv_kit kit;
    struct kv_txn_slot slot;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    struct kv_clock *clock = kv_env_clock(kit.env);
    kv_txn_slot_begin(kit.db, &slot, kv_clock_mono_ns(clock) + 1000000000);
    kv_kit_put(&kit, 0, "k", "1");
    clock_manual_advance_ms(&kit.clock, 999);
    cr_assert(kv_txn_slot_alive(kit.db, &slot));
    cr_assert_eq(kv_db_oldest_txn(kit.db), 0);
    clock_manual_advance_ms(&kit.clock, 1);
    cr_assert_eq(kv_db_oldest_txn(kit.db), 1);
    cr_assert(!kv_txn_slot_alive(kit.db, &slot));
    kv_txn_slot_end(kit.db, &slot);
    kv_kit_release(&kit);
}

static uint64_t entries(struct kv_kit *kit)
{
    return kv_kit_stats(kit, 0).entries;
}

Test(watermark, a_flush_keeps_the_deletions_that_a_live_transaction_has_not_seen)
{
    struct kv_kit kit;
    struct kv_txn_slot slot;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k", "1");
    kv_kit_delete(&kit, 0, "k");
    kv_txn_slot_begin(kit.db, &slot, UINT64_MAX);
    kv_kit_delete(&kit, 0, "l");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(entries(&kit), 1, "l's, not k's");
    kv_txn_slot_end(kit.db, &slot);
    kv_kit_delete(&kit, 1, "m");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_stats(&kit, 1).entries, 0, "nobody is left who could ask");
    kv_kit_release(&kit);
}

Test(watermark, so_does_a_merge)
{
    struct kv_kit kit;
    struct kv_txn_slot slot;
    char out[64];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k", "1");
    kv_kit_put(&kit, 0, "l", "1");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_txn_slot_begin(kit.db, &slot, UINT64_MAX);
    kv_kit_delete(&kit, 0, "k");
    cr_assert_eq(kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err), KV_OK);
    cr_assert_eq(entries(&kit), 2, "l and the deletion of k");
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", out, sizeof out), "l=1");
    kv_txn_slot_end(kit.db, &slot);
    kv_kit_put(&kit, 0, "l", "2");
    cr_assert_eq(kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err), KV_OK);
    cr_assert_eq(entries(&kit), 1);
    kv_kit_release(&kit);
}
