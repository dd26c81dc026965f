/* Commits that no thread waits for: order, bounds, callbacks that do things, and a disk that fails. */
#include "kvcore/os/thread.h"
#include "kvcore/os/vfs.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/sweep.h"
#include "tests/support/txn_kit.h"
#include "tests/support/vfs_crash.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

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

TestSuite(commit_async, .init = setup, .fini = teardown);

/* What callbacks were told, in their order. */
enum { TOLD_MAX = 4096 };
static struct told {
    uint64_t id, version, visible;
    kv_status rc;
} told[TOLD_MAX];
static _Atomic size_t n_told;

static void tell(void *ctx, kv_status rc, uint64_t version)
{
    size_t i = atomic_load(&n_told);
    cr_assert_lt(i, TOLD_MAX);
    told[i] = (struct told){(uint64_t)(uintptr_t)ctx, version, kit.db ? kv_seq(kit.db) : 0, rc};
    atomic_store(&n_told, i + 1);
}

static void *id_ctx(uint64_t id)
{
    return (void *)(uintptr_t)id;
}

static const char *key_of(uint64_t id, char out[24])
{
    snprintf(out, 24, "key%06" PRIu64, id);
    return out;
}

/* One put of the id's key, by a batch that is reused. */
static kv_status start(struct kv_batch *batch, uint64_t id)
{
    char key[24];
    kv_status rc = kv_batch_put(batch, 0, kv_slice_str(key_of(id, key)), KV_STR("v"));
    return rc < 0 ? rc : kv_commit_async(kit.db, batch, NULL, tell, id_ctx(id), &kit.err);
}

static struct kv_batch *batch_new(void)
{
    struct kv_batch *batch = NULL;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    return batch;
}

static void use_threads(int threads)
{
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.threads = threads;
    kv_kit_must_open(&kit);
}

static void wait_told(size_t n)
{
    while (atomic_load(&n_told) < n)
        kv_clock_sleep_ns(kv_clock_system(), 100000);
}

/* ---- order */

Test(commit_async, without_threads_a_commit_waits_for_a_call_that_leads)
{
    struct kv_batch *batch = batch_new();
    uint64_t syncs = kv_kit_metric(&kit, "kv_log_syncs_total");
    for (uint64_t id = 1; id <= 3; id++) {
        cr_assert_eq(start(batch, id), KV_OK, "%s", kit.err.text);
        cr_assert_eq(kv_batch_count(batch), 0, "it is free for the next");
    }
    cr_assert_eq(kv_seq(kit.db), 0);
    cr_assert_eq(n_told, 0);
    cr_assert_eq(kv_work(kit.db, &kit.err), KV_OK);
    cr_assert_eq(n_told, 3);
    for (uint64_t i = 0; i < 3; i++)
        cr_assert(told[i].id == i + 1 && told[i].version == i + 1 && told[i].rc == KV_OK &&
                  told[i].visible == 3);
    cr_assert_eq(kv_kit_metric(&kit, "kv_log_syncs_total"), syncs + 1, "they shared a sync");
    cr_assert_eq(kv_work(kit.db, &kit.err), KV_END);
    cr_assert_eq(start(batch, 4), KV_OK);
    kv_kit_put(&kit, 0, "waits", "for it");
    cr_assert(n_told == 4 && told[3].version == 4);
    cr_assert_eq(start(batch, 5), KV_OK);
    cr_assert_eq(kv_sync(kit.db, &kit.err), KV_OK);
    cr_assert(n_told == 5 && told[4].version == 6);
    cr_assert_eq(start(batch, 6), KV_OK);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(n_told, 6);
    cr_assert_eq(start(batch, 7), KV_OK);
    kv_kit_reopen(&kit);
    cr_assert(n_told == 7 && told[6].rc == KV_OK, "a close makes them");
    cr_assert_eq(kv_seq(kit.db), 8);
    cr_assert(kv_kit_is(&kit, NULL, 0, "key000007", "v"));
    kv_batch_free(batch);
}

struct sender {
    kv_thread thread;
    uint64_t first, n;
    bool waits; /* commits the usual way */
};

static void send_main(void *ctx)
{
    const struct sender *sender = ctx;
    struct kv_batch *batch = batch_new();
    char key[24];
    for (uint64_t id = sender->first; id < sender->first + sender->n; id++) {
        cr_assert_eq(kv_batch_put(batch, 0, kv_slice_str(key_of(id, key)), KV_STR("v")), KV_OK);
        struct kv_err err;
        kv_status rc = sender->waits ? kv_commit(kit.db, batch, NULL, NULL, &err)
                                     : kv_commit_async(kit.db, batch, NULL, tell, id_ctx(id), &err);
        cr_assert_eq(rc, KV_OK, "%s", err.text);
        kv_batch_clear(batch);
    }
    kv_batch_free(batch);
}

Test(commit_async, callbacks_come_in_the_order_of_versions_whoever_leads)
{
    enum { SENDERS = 4, EACH = 300 };
    struct sender senders[SENDERS] = {0};
    use_threads(2);
    for (uint64_t i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.first = 1 + i * EACH, .n = EACH, .waits = i == 3};
        cr_assert_eq(kv_thread_start(&senders[i].thread, "sender", 0, send_main, &senders[i]), KV_OK);
    }
    for (int i = 0; i < SENDERS; i++)
        kv_thread_join(&senders[i].thread);
    wait_told((SENDERS - 1) * EACH);
    cr_assert_eq(kv_seq(kit.db), SENDERS * EACH);
    for (size_t i = 0; i < n_told; i++) {
        cr_assert(told[i].rc == KV_OK && told[i].visible >= told[i].version);
        cr_assert(i == 0 || told[i].version > told[i - 1].version);
    }
    struct kv_batch *batch = batch_new();
    cr_assert_eq(start(batch, 5000), KV_OK);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    cr_assert_eq(n_told, (SENDERS - 1) * EACH + 1, "a close waits for callbacks");
    kv_batch_free(batch);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_seq(kit.db), SENDERS * EACH + 1);
}

/* ---- callbacks that do things */

static _Atomic int chained;

static void chain(void *ctx, kv_status rc, uint64_t version)
{
    uint64_t left = (uint64_t)(uintptr_t)ctx;
    struct kv_batch *batch = batch_new();
    struct kv_pinned got;
    cr_assert_eq(rc, KV_OK);
    cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("chain"), &got, NULL), KV_OK);
    cr_assert_geq(got.version, version);
    kv_pinned_release(&got);
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("chain"), KV_STR("waited for")), KV_OK);
    cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, NULL), KV_OK);
    kv_batch_clear(batch);
    struct kv_txn *txn = txn_kit_begin(&kit);
    cr_assert(txn_kit_is(txn, 0, "chain", "waited for"));
    txn_kit_put(txn, 0, "chain", "by a transaction");
    kv_status committed = txn_kit_commit(txn);
    cr_assert(committed == KV_OK || committed == KV_CONFLICT);
    if (left > 0) {
        cr_assert_eq(kv_batch_put(batch, 0, KV_STR("chain"), KV_STR("not waited for")), KV_OK);
        cr_assert_eq(kv_commit_async(kit.db, batch, NULL, chain, id_ctx(left - 1), NULL), KV_OK);
    }
    kv_batch_free(batch);
    atomic_fetch_add(&chained, 1);
}

Test(commit_async, a_callback_may_commit_itself_in_every_way)
{
    for (int threads = KV_THREADS_NONE; threads <= 1; threads += 2) {
        use_threads(threads);
        atomic_store(&chained, 0);
        struct kv_batch *batch = batch_new();
        cr_assert_eq(kv_batch_put(batch, 0, KV_STR("chain"), KV_STR("first")), KV_OK);
        cr_assert_eq(kv_commit_async(kit.db, batch, NULL, chain, id_ctx(20), NULL), KV_OK);
        while (atomic_load(&chained) < 21)
            if (threads < 0)
                cr_assert_eq(kv_work(kit.db, &kit.err), KV_OK);
            else
                kv_clock_sleep_ns(kv_clock_system(), 100000);
        kv_batch_free(batch);
    }
}

/* ---- what is refused */

Test(commit_async, past_its_bounds_it_is_busy_and_nothing_has_happened)
{
    struct kv_batch *batch = batch_new();
    static char value[1 << 20];
    uint64_t n = 0;
    kv_status rc = KV_OK;
    for (; rc == KV_OK; n++) {
        cr_assert_eq(kv_batch_put(batch, 0, KV_STR("k"), kv_slice_of(value, sizeof value)), KV_OK);
        rc = kv_commit_async(kit.db, batch, NULL, tell, id_ctx(n), &kit.err);
    }
    cr_assert_eq(rc, KV_BUSY, "%s", kit.err.text);
    cr_assert(n > 16 && n <= KV_ASYNC_BYTES_MAX / sizeof value + 1, "%" PRIu64, n);
    cr_assert_eq(kv_batch_count(batch), 1, "the batch is as it was");
    struct kv_txn *txn = txn_kit_begin(&kit);
    txn_kit_put(txn, 1, "a", "1");
    struct kv_txn_commit_options options = {.done = tell};
    cr_assert_eq(kv_txn_put(txn, 1, KV_STR("b"), kv_slice_of(value, sizeof value), NULL), KV_OK);
    cr_assert_eq(kv_txn_commit_async(txn, &options, &kit.err), KV_BUSY);
    txn_kit_put(txn, 1, "a", "goes on");
    cr_assert_eq(kv_sync(kit.db, &kit.err), KV_OK);
    cr_assert_eq(n_told, n - 1);
    cr_assert_eq(kv_commit_async(kit.db, batch, NULL, tell, id_ctx(n), &kit.err), KV_OK);
    cr_assert_eq(kv_txn_commit_async(txn, &options, &kit.err), KV_OK);
    kv_txn_abort(txn);
    cr_assert_eq(kv_sync(kit.db, &kit.err), KV_OK);
    cr_assert_eq(n_told, n + 1);
    cr_assert(kv_kit_is(&kit, NULL, 1, "a", "goes on"));
    kv_batch_free(batch);
}

Test(commit_async, what_can_be_known_now_is_answered_now)
{
    struct kv_batch *batch = batch_new();
    struct kv_txn_commit_options silent = {0}, options = {.done = tell};
    cr_assert_eq(kv_commit_async(kit.db, batch, NULL, tell, NULL, &kit.err), KV_INVALID, "of nothing");
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("k"), KV_STR("v")), KV_OK);
    cr_assert_eq(kv_commit_async(kit.db, batch, NULL, NULL, NULL, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "callback"), "%s", kit.err.text);
    cr_assert_eq(kv_batch_merge(batch, 0, KV_STR("m"), KV_STR("v")), KV_OK);
    cr_assert_eq(kv_commit_async(kit.db, batch, NULL, tell, NULL, &kit.err), KV_INVALID);
    cr_assert_eq(kv_batch_count(batch), 2);
    struct kv_txn *txn = txn_kit_begin(&kit);
    cr_assert_eq(kv_txn_commit_async(txn, &silent, &kit.err), KV_INVALID);
    cr_assert_eq(kv_txn_commit_async(txn, NULL, &kit.err), KV_INVALID);
    cr_assert_eq(kv_txn_commit_async(txn, &options, &kit.err), KV_OK, "of nothing");
    cr_assert(n_told == 1 && told[0].rc == KV_OK && told[0].version == 0);
    cr_assert_eq(kv_txn_commit_async(txn, &options, &kit.err), KV_CLOSED);
    kv_txn_abort(txn);
    kv_batch_free(batch);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.options.read_only = true;
    kv_kit_must_open(&kit);
    txn = txn_kit_begin_with(&kit, &(struct kv_txn_options){.read_only = true});
    cr_assert_eq(kv_txn_commit_async(txn, &options, &kit.err), KV_READ_ONLY);
    kv_txn_abort(txn);
    cr_assert_eq(n_told, 1);
}

Test(commit_async, transactions_are_validated_when_they_are_queued)
{
    struct kv_txn_commit_options options = {.done = tell};
    struct kv_txn *first = txn_kit_begin(&kit), *second = txn_kit_begin(&kit), *blind = txn_kit_begin(&kit);
    cr_assert(txn_kit_is(second, 0, "k", NULL));
    txn_kit_put(first, 0, "k", "1");
    txn_kit_put(second, 0, "l", "1");
    txn_kit_put(blind, 0, "k", "2");
    cr_assert_eq(kv_txn_commit_async(first, &options, &kit.err), KV_OK);
    cr_assert_eq(kv_txn_commit_async(second, &options, &kit.err), KV_CONFLICT, "with what is queued");
    cr_assert_eq(kv_txn_commit_async(blind, &options, &kit.err), KV_OK);
    struct kv_txn *later = txn_kit_begin(&kit);
    cr_assert(txn_kit_is(later, 0, "k", NULL), "not visible yet");
    kv_txn_abort(later);
    kv_txn_abort(first);
    kv_txn_abort(second);
    kv_txn_abort(blind);
    cr_assert_eq(kv_work(kit.db, &kit.err), KV_OK);
    cr_assert(n_told == 2 && told[0].version == 1 && told[1].version == 2);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", "2") && kv_kit_is(&kit, NULL, 0, "l", NULL));
}

/* ---- records, prepare, undo */

static uint64_t prepared_seq;
static int undone;

static kv_status prepare_put(void *ctx, uint64_t seq, struct kv_batch *batch, kv_slice *record)
{
    (void)ctx;
    static char text[16];
    prepared_seq = seq;
    *record = kv_slice_of(text, (size_t)snprintf(text, sizeof text, "r%" PRIu64, seq));
    return kv_batch_put(batch, 0, KV_STR("prepared"), *record);
}

static void prepare_undo(void *ctx)
{
    (void)ctx;
    undone++;
}

static char applied[64];

static void apply(void *ctx, uint64_t seq, kv_slice record, void *commit_ctx)
{
    (void)ctx, (void)seq, (void)commit_ctx;
    size_t len = strlen(applied);
    snprintf(applied + len, sizeof applied - len, "%.*s;", KV_ARG(record));
}

Test(commit_async, options_and_records_are_copied_and_prepare_is_called_at_once)
{
    struct kv_batch *batch = batch_new();
    char record[] = "first";
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.options.apply = apply;
    kv_kit_must_open(&kit);
    struct kv_commit_options options = {.record = kv_slice_str(record)};
    cr_assert_eq(kv_commit_async(kit.db, NULL, &options, tell, NULL, &kit.err), KV_OK);
    memset(record, 'x', sizeof record - 1);
    options = (struct kv_commit_options){.prepare = prepare_put, .undo = prepare_undo};
    cr_assert_eq(kv_commit_async(kit.db, batch, &options, tell, NULL, &kit.err), KV_OK);
    cr_assert_eq(prepared_seq, 2);
    memset(&options, 0xff, sizeof options);
    cr_assert_eq(kv_work(kit.db, &kit.err), KV_OK);
    cr_assert_str_eq(applied, "first;r2;");
    cr_assert(kv_kit_is(&kit, NULL, 0, "prepared", "r2"));
    cr_assert(n_told == 2 && undone == 0);
    kv_batch_free(batch);
}

/* ---- a disk that fails */

Test(commit_async, a_full_disk_is_told_to_all_that_were_queued_and_they_use_no_version)
{
    struct kv_kit outer = kit;
    struct kv_vfs *memory = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(memory);
    struct kv_commit_options options = {.prepare = prepare_put, .undo = prepare_undo};
    struct kv_batch *batch = batch_new();
    kv_kit_init(&kit, vfs_fault_as_vfs(fault));
    kit.options.apply = apply;
    kv_kit_must_open(&kit);
    cr_assert_eq(start(batch, 1), KV_OK);
    cr_assert_eq(kv_commit_async(kit.db, batch, &options, tell, id_ctx(2), &kit.err), KV_OK);
    cr_assert_eq(start(batch, 3), KV_OK);
    vfs_fault_set_free_bytes(fault, 0);
    cr_assert_eq(kv_work(kit.db, &kit.err), KV_OK);
    cr_assert_eq(n_told, 3);
    for (uint64_t i = 0; i < 3; i++)
        cr_assert(told[i].rc == KV_NO_SPACE && told[i].id == i + 1 && told[i].version == 0);
    cr_assert_eq(undone, 1);
    cr_assert_eq(start(batch, 4), KV_NO_SPACE, "known now");
    vfs_fault_set_free_bytes(fault, UINT64_MAX);
    cr_assert_eq(start(batch, 5), KV_OK);
    cr_assert_eq(kv_work(kit.db, &kit.err), KV_OK);
    cr_assert(n_told == 4 && told[3].rc == KV_OK && told[3].version == 1);
    cr_assert(kv_kit_is(&kit, NULL, 0, "key000004", "v"), "the batch had kept it");
    cr_assert(kv_kit_is(&kit, NULL, 0, "key000003", NULL));
    kv_batch_free(batch);
    kv_kit_release(&kit);
    vfs_fault_free(fault);
    kv_vfs_mem_free(memory);
    kit = outer;
}

enum { QUEUED = 12 };

/* Queues commits and makes them, in groups; callbacks tell. Answers how many were queued. */
static uint64_t run_queued(void)
{
    struct kv_batch *batch = batch_new();
    uint64_t n = 0;
    for (uint64_t id = 1; id <= QUEUED; id++) {
        if (start(batch, id) == KV_OK)
            n++;
        kv_batch_clear(batch);
        if (id % 3 == 0) {
            kv_status rc = kv_work(kit.db, &kit.err);
            (void)rc;
        }
    }
    kv_batch_free(batch);
    return n;
}

/* Everything that was told so is there, everything that was told otherwise is not, unless nobody can know. */
static void judge_told(struct kv_kit *after)
{
    char key[24];
    for (size_t i = 0; i < n_told; i++) {
        key_of(told[i].id, key);
        if (told[i].rc == KV_OK)
            cr_assert(kv_kit_is(after, NULL, 0, key, "v"), "%s was answered", key);
        else if (told[i].rc != KV_UNKNOWN_OUTCOME)
            cr_assert(kv_kit_is(after, NULL, 0, key, NULL), "%s was refused: %s", key,
                      kv_status_name(told[i].rc));
    }
}

static bool fail_once(const struct vfs_fault_plan *plan)
{
    struct kv_vfs *memory = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(memory);
    kv_kit_init(&kit, vfs_fault_as_vfs(fault));
    kit.options.log_file_bytes = 4096;
    kv_kit_must_open(&kit);
    atomic_store(&n_told, 0);
    vfs_fault_plan(fault, plan);
    uint64_t queued = run_queued();
    kv_status closed = kv_kit_close(&kit);
    (void)closed; /* may fail as well */
    bool fired = vfs_fault_fired(fault);
    vfs_fault_plan(fault, NULL);
    cr_assert_eq(n_told, queued, "each once");
    kv_kit_must_open(&kit);
    judge_told(&kit);
    kv_kit_release(&kit);
    vfs_fault_free(fault);
    kv_vfs_mem_free(memory);
    return fired;
}

Test(commit_async, any_operation_fails_and_every_callback_tells_the_truth)
{
    static const enum vfs_fault_kind kinds[] = {VFS_FAULT_EIO, VFS_FAULT_SHORT_EIO, VFS_FAULT_SHORT_ENOSPC,
                                                VFS_FAULT_SYNC_KEEPS, VFS_FAULT_SYNC_REVERTS};
    struct kv_kit outer = kit;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int sticky = 0; sticky < 2; sticky++) {
            struct vfs_fault_plan plan = {.nth = 1, .kind = kinds[k], .sticky = sticky};
            while (fail_once(&plan))
                plan.nth++;
            cr_assert_gt(plan.nth, 4, "kind %zu", k);
        }
    kit = outer;
}

Test(commit_async, power_lost_anywhere_loses_nothing_that_was_called_back)
{
    struct kv_kit outer = kit;
    struct vfs_crash *crash = vfs_crash_new();
    uint64_t at[QUEUED + 1] = {0};
    kv_kit_init(&kit, vfs_crash_as_vfs(crash));
    kv_kit_must_open(&kit);
    struct kv_batch *batch = batch_new();
    for (uint64_t id = 1; id <= QUEUED; id++) {
        cr_assert_eq(start(batch, id), KV_OK);
        if (id % 3 == 0)
            cr_assert_eq(kv_work(kit.db, &kit.err), KV_OK);
        at[id] = vfs_crash_ops(crash); /* of every third: what was called back by then */
    }
    kv_batch_free(batch);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    for (uint64_t ops = at[1]; ops <= vfs_crash_ops(crash) + 1; ops += sweep_stride(2))
        for (uint64_t seed = 0; seed < 4; seed++) {
            struct kv_kit after;
            char key[24];
            struct kv_vfs *disk =
                vfs_crash_at(crash, ops, seed, (enum vfs_crash_profile)(ops % VFS_CRASH_PROFILES));
            kv_kit_init(&after, disk);
            kv_kit_must_open(&after);
            for (uint64_t id = 1; id <= QUEUED; id++)
                if (at[(id + 2) / 3 * 3] < ops)
                    cr_assert(kv_kit_is(&after, NULL, 0, key_of(id, key), "v"), "%s, ops %" PRIu64, key, ops);
            kv_kit_release(&after);
            kv_vfs_mem_free(disk);
        }
    vfs_crash_free(crash);
    kit = outer;
}

Test(commit_async, any_allocation_may_fail)
{
    struct kv_batch *batch = batch_new();
    struct kv_txn_commit_options options = {.done = tell};
    char key[24];
    uint64_t id = 0;
    for (bool fired = true; fired;) {
        size_t before = n_told;
        struct kv_txn *txn = txn_kit_begin(&kit);
        txn_kit_put(txn, 1, "t", key_of(++id, key));
        cr_assert_eq(kv_batch_put(batch, 0, kv_slice_str(key), KV_STR("v")), KV_OK);
        malloc_fault_arm(id, false);
        kv_status rc = kv_commit_async(kit.db, batch, NULL, tell, id_ctx(id), &kit.err);
        kv_status by_txn = kv_txn_commit_async(txn, &options, NULL);
        kv_status worked = kv_work(kit.db, &kit.err);
        fired = malloc_fault_disarm();
        cr_assert(worked == KV_OK || worked == KV_END || worked == KV_NO_MEMORY);
        cr_assert_eq(n_told - before, (size_t)(rc == KV_OK) + (by_txn == KV_OK), "%" PRIu64, id);
        for (size_t i = before; i < n_told; i++) {
            bool there = told[i].rc == KV_OK;
            cr_assert(there || told[i].rc == KV_NO_MEMORY, "%s", kv_status_name(told[i].rc));
            cr_assert(told[i].id == 0 ? kv_kit_is(&kit, NULL, 1, "t", key) == there
                                      : kv_kit_is(&kit, NULL, 0, key, there ? "v" : NULL));
        }
        kv_txn_abort(txn);
        kv_batch_clear(batch);
    }
    cr_assert_gt(id, 4);
    kv_batch_free(batch);
}
