#include "kvcore/os/thread.h"
#include "kvcore/os/vfs.h"
#include "tests/support/sweep.h"
#include "tests/support/txn_history.h"
#include "tests/support/txn_kit.h"
#include "tests/support/vfs_crash.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- any history is serial */

static void history(uint64_t seed, int workers, bool levelled, bool merges)
{
    struct kv_kit kit;
    struct txn_history_stats stats;
    kv_kit_init(&kit, NULL);
    kit.threads = workers;
    kit.options.memtable_bytes = 8 << 10;
    if (levelled)
        kit.spaces[0].style = kit.spaces[1].style = KV_STYLE_LEVELLED;
    if (merges)
        kit.spaces[0].merge = kit.spaces[1].merge = &txn_history_operator;
    kv_kit_must_open(&kit);
    struct txn_history_options options = {.db = kit.db,
                                          .seed = seed,
                                          .threads = 4,
                                          .per_thread = sweep_all() ? 10000 : 600,
                                          .loads = true,
                                          .ranges = true,
                                          .async = seed % 2,
                                          .merges = merges};
    const char *wrong = txn_history_run(&options, &stats);
    cr_assert_null(wrong, "seed %" PRIu64 ": %s", seed, wrong);
    cr_assert(stats.committed > 100 && stats.conflicts > 10 && stats.read_only > 10 && stats.blind > 10,
              "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, stats.committed, stats.conflicts,
              stats.read_only, stats.blind);
    kv_kit_release(&kit);
}

Test(txn_history, equals_executing_in_the_order_of_versions)
{
    for (uint64_t seed = 1; seed <= (sweep_all() ? 40 : 3); seed++) {
        history(seed, KV_THREADS_NONE, false, false);
        history(100 + seed, 2, false, true);
        history(200 + seed, 2, true, false);
        history(300 + seed, 2, true, true);
    }
}

/* ---- money is neither made nor lost */

enum { ACCOUNTS = 6, BALANCE = 100 };

static kv_slice account_key(uint64_t i, char out[16])
{
    return kv_slice_of(out, (size_t)snprintf(out, 16, "account%" PRIu64, i));
}

struct transfer {
    uint64_t from, to;
    int amount;
};

static kv_status balance_of(struct kv_txn *txn, uint64_t account, int *balance, struct kv_err *err)
{
    char key[16], text[16];
    struct kv_pinned pinned;
    kv_status rc = kv_txn_get(txn, 0, account_key(account, key), &pinned, err);
    if (rc == KV_OK)
        snprintf(text, sizeof text, "%.*s", KV_ARG(pinned.value));
    *balance = rc == KV_OK ? atoi(text) : 0; /* an account of nothing is deleted */
    kv_pinned_release(&pinned);
    return rc;
}

static kv_status balance_set(struct kv_txn *txn, uint64_t account, int balance, struct kv_err *err)
{
    char key[16], text[16];
    if (balance == 0)
        return kv_txn_delete(txn, 0, account_key(account, key), err);
    return kv_txn_put(txn, 0, account_key(account, key),
                      kv_slice_of(text, (size_t)snprintf(text, sizeof text, "%d", balance)), err);
}

static kv_status transfer_run(void *ctx, struct kv_txn *txn, struct kv_err *err)
{
    const struct transfer *t = ctx;
    int from, to;
    kv_status rc;
    KV_TRY(balance_of(txn, t->from, &from, err));
    KV_TRY(balance_of(txn, t->to, &to, err));
    int amount = t->amount < from ? t->amount : from;
    KV_TRY(balance_set(txn, t->from, from - amount, err));
    KV_TRY(balance_set(txn, t->to, to + amount, err));
out:
    return rc;
}

static kv_status deposit_run(void *ctx, struct kv_txn *txn, struct kv_err *err)
{
    kv_status rc = KV_OK;
    (void)ctx;
    for (uint64_t i = 0; i < ACCOUNTS && rc >= 0; i++)
        rc = balance_set(txn, i, BALANCE, err);
    return rc;
}

/* All there is, by one scan; -1: not even deposited. */
static int total(struct kv_db *db)
{
    struct kv_iter *it = NULL;
    int sum = -1;
    cr_assert_eq(kv_iter_open(db, NULL, 0, KV_STR("account"), KV_STR("b"), &it), KV_OK);
    kv_status rc;
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it)) {
        char text[16];
        snprintf(text, sizeof text, "%.*s", KV_ARG(it->value));
        sum = (sum < 0 ? 0 : sum) + atoi(text);
    }
    cr_assert_eq(rc, KV_END);
    kv_iter_close(it);
    return sum;
}

struct clerk {
    struct kv_db *db;
    uint64_t seed;
    kv_thread thread;
    uint64_t done, gave_up;
};

static void clerk_main(void *ctx)
{
    struct clerk *clerk = ctx;
    struct kv_prng prng;
    kv_prng_init(&prng, clerk->seed);
    for (int i = 0; i < 300; i++) {
        struct transfer t = {kv_prng_below(&prng, ACCOUNTS), kv_prng_below(&prng, ACCOUNTS),
                             (int)kv_prng_below(&prng, 2 * BALANCE)};
        if (t.from == t.to)
            continue;
        kv_status rc = kv_txn_run(clerk->db, NULL, 100, transfer_run, &t, NULL, NULL);
        clerk->done += rc == KV_OK;
        clerk->gave_up += rc == KV_CONFLICT;
        if (rc < 0 && rc != KV_CONFLICT)
            abort();
        if (i % 16 == 0 && total(clerk->db) != ACCOUNTS * BALANCE)
            abort();
    }
}

Test(txn_history, a_bank_keeps_its_money_under_threads_and_reopens)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kit.threads = 2;
    kit.options.memtable_bytes = 8 << 10;
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_txn_run(kit.db, NULL, 0, deposit_run, NULL, NULL, &kit.err), KV_OK);
    for (uint64_t round = 0; round < 3; round++) {
        struct clerk clerks[4] = {0};
        for (uint64_t i = 0; i < 4; i++) {
            clerks[i] = (struct clerk){.db = kit.db, .seed = round * 10 + i};
            cr_assert_eq(kv_thread_start(&clerks[i].thread, "clerk", 0, clerk_main, &clerks[i]), KV_OK);
        }
        for (int i = 0; i < 4; i++)
            kv_thread_join(&clerks[i].thread);
        cr_assert_gt(clerks[0].done + clerks[1].done + clerks[2].done + clerks[3].done, 500);
        cr_assert_eq(total(kit.db), ACCOUNTS * BALANCE);
        if (round == 1)
            kv_kit_crash(&kit);
        else
            kv_kit_reopen(&kit);
        cr_assert_eq(total(kit.db), ACCOUNTS * BALANCE);
    }
    kv_kit_release(&kit);
}

/* What was answered before `ops` changes of the disk. */
struct answered {
    uint64_t ops, version;
};

Test(txn_history, a_bank_keeps_its_money_over_power_cuts)
{
    enum { TRANSFERS = 24 };
    struct vfs_crash *crash = vfs_crash_new();
    struct kv_kit kit;
    struct answered answered[TRANSFERS + 1] = {0};
    struct kv_prng prng;
    kv_prng_init(&prng, 11);
    kv_kit_init(&kit, vfs_crash_as_vfs(crash));
    kit.options.log_file_bytes = 1024;
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_txn_run(kit.db, NULL, 0, deposit_run, NULL, &answered[0].version, &kit.err), KV_OK);
    answered[0].ops = vfs_crash_ops(crash);
    for (int i = 1; i <= TRANSFERS; i++) {
        struct transfer t = {kv_prng_below(&prng, ACCOUNTS / 2), ACCOUNTS / 2 + kv_prng_below(&prng, 3), 40};
        cr_assert_eq(kv_txn_run(kit.db, NULL, 0, transfer_run, &t, &answered[i].version, &kit.err), KV_OK);
        answered[i].ops = vfs_crash_ops(crash);
        if (i % 7 == 0)
            cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        if (i == 20)
            cr_assert_eq(kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err), KV_OK);
    }
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    uint64_t end = vfs_crash_ops(crash), stride = sweep_stride(3);
    for (uint64_t ops = answered[0].ops + 1; ops <= end + 1; ops += stride)
        for (uint64_t seed = 0; seed < 4; seed++) {
            struct kv_vfs *disk =
                vfs_crash_at(crash, ops, seed, (enum vfs_crash_profile)(ops % VFS_CRASH_PROFILES));
            struct kv_kit after;
            uint64_t sure = 0;
            for (int i = 0; i <= TRANSFERS; i++)
                if (answered[i].ops < ops)
                    sure = answered[i].version;
            kv_kit_init(&after, disk);
            kv_kit_must_open(&after);
            cr_assert_geq(kv_seq(after.db), sure, "answered and gone, ops %" PRIu64 " seed %" PRIu64, ops,
                          seed);
            cr_assert_eq(total(after.db), ACCOUNTS * BALANCE, "ops %" PRIu64 " seed %" PRIu64, ops, seed);
            kv_kit_release(&after);
            kv_vfs_mem_free(disk);
        }
    kv_kit_release(&kit);
    vfs_crash_free(crash);
}
