#include "kvcore/base/coding.h"
#include "kvcore/os/thread.h"
#include "kvcore/os/vfs.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/txn_kit.h"
#include "tests/support/vfs_crash.h"

#include <criterion/criterion.h>

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

TestSuite(sequence, .init = setup, .fini = teardown);

static struct kv_sequence *open_one(uint64_t lease)
{
    struct kv_sequence *sequence = NULL;
    cr_assert_eq(kv_sequence_open(kit.db, 0, KV_STR("seq"), lease, &sequence, &kit.err), KV_OK);
    return sequence;
}

static uint64_t next(struct kv_sequence *sequence)
{
    uint64_t number = UINT64_MAX;
    cr_assert_eq(kv_sequence_next(sequence, &number, &kit.err), KV_OK, "%s", kit.err.text);
    return number;
}

Test(sequence, counts_from_zero_and_gives_back_what_it_did_not_use)
{
    struct kv_sequence *sequence = open_one(10);
    for (uint64_t i = 0; i < 25; i++)
        cr_assert_eq(next(sequence), i);
    cr_assert_eq(kv_seq(kit.db), 3, "a commit for each ten");
    cr_assert_eq(kv_sequence_close(sequence, &kit.err), KV_OK);
    sequence = open_one(10);
    cr_assert_eq(next(sequence), 25);
    cr_assert_eq(kv_sequence_close(sequence, &kit.err), KV_OK);
    cr_assert_eq(kv_sequence_close(NULL, NULL), KV_OK);
}

Test(sequence, handles_lease_blocks_of_their_own)
{
    struct kv_sequence *a = open_one(3), *b = open_one(3);
    uint64_t from_a[] = {next(a), next(a)}, from_b[] = {next(b), next(b)};
    cr_assert(from_a[0] == 0 && from_a[1] == 1 && from_b[0] == 3 && from_b[1] == 4);
    cr_assert_eq(kv_sequence_close(a, &kit.err), KV_OK);
    cr_assert_eq(next(b), 5);
    cr_assert_eq(next(b), 6, "2 is lost: b leased behind it");
    cr_assert_eq(kv_sequence_close(b, &kit.err), KV_OK);
}

Test(sequence, never_repeats_after_a_crash_whatever_the_durability)
{
    for (int durability = KV_DURABILITY_GROUP; durability <= KV_DURABILITY_OS; durability++) {
        struct vfs_crash *crash = vfs_crash_new();
        struct kv_kit before;
        struct kv_sequence *sequence;
        uint64_t handed[13], when[13];
        kv_kit_init(&before, vfs_crash_as_vfs(crash));
        before.options.durability = (enum kv_durability)durability;
        before.options.sync_interval_ms = durability == KV_DURABILITY_INTERVAL ? 60000 : 0;
        kv_kit_must_open(&before);
        uint64_t begin = vfs_crash_ops(crash);
        cr_assert_eq(kv_sequence_open(before.db, 0, KV_STR("s"), 4, &sequence, NULL), KV_OK);
        for (int i = 0; i < 13; i++) {
            cr_assert_eq(kv_sequence_next(sequence, &handed[i], NULL), KV_OK);
            when[i] = vfs_crash_ops(crash);
        }
        for (uint64_t ops = begin; ops <= when[12] + 1; ops++)
            for (uint64_t seed = 0; seed < 3; seed++) {
                struct kv_vfs *disk = vfs_crash_at(crash, ops, seed, VFS_CRASH_POSIX_MIN);
                struct kv_kit after;
                struct kv_sequence *again;
                uint64_t number;
                kv_kit_init(&after, disk);
                kv_kit_must_open(&after);
                cr_assert_eq(kv_sequence_open(after.db, 0, KV_STR("s"), 4, &again, NULL), KV_OK);
                cr_assert_eq(kv_sequence_next(again, &number, NULL), KV_OK);
                for (int i = 0; i < 13; i++)
                    cr_assert(when[i] >= ops || handed[i] < number, "durability %d: %d twice", durability,
                              (int)handed[i]);
                cr_assert_eq(kv_sequence_close(again, NULL), KV_OK);
                kv_kit_release(&after);
                kv_vfs_mem_free(disk);
            }
        cr_assert_eq(kv_sequence_close(sequence, NULL), KV_OK);
        kv_kit_release(&before);
        vfs_crash_free(crash);
    }
}

Test(sequence, refuses_what_is_none)
{
    struct kv_sequence *sequence = NULL;
    uint8_t last[8];
    uint64_t number;
    cr_assert_eq(kv_sequence_open(kit.db, 0, KV_STR("s"), 0, &sequence, &kit.err), KV_INVALID);
    cr_assert_eq(kv_sequence_open(kit.db, 9, KV_STR("s"), 1, &sequence, &kit.err), KV_INVALID);
    cr_assert_eq(kv_sequence_open(kit.db, 0, KV_STR(""), 1, &sequence, &kit.err), KV_INVALID);
    kv_kit_put(&kit, 0, "seq", "text");
    sequence = open_one(1);
    cr_assert_eq(kv_sequence_next(sequence, &number, &kit.err), KV_INVALID);
    struct kv_txn *txn = txn_kit_begin(&kit);
    kv_put_fixed64(last, UINT64_MAX - 1);
    cr_assert_eq(kv_txn_put(txn, 0, KV_STR("seq"), kv_slice_of(last, 8), NULL), KV_OK);
    cr_assert_eq(txn_kit_commit(txn), KV_OK);
    cr_assert_eq(next(sequence), UINT64_MAX - 1);
    cr_assert_eq(kv_sequence_next(sequence, &number, &kit.err), KV_LIMIT, "never round the corner");
    cr_assert_eq(kv_sequence_close(sequence, NULL), KV_OK);
}

enum { THREADS = 4, EACH = 300 };
static uint64_t got[THREADS][EACH];
static struct kv_sequence *shared;

static void take_numbers(void *ctx)
{
    size_t me = (size_t)(uintptr_t)ctx;
    struct kv_sequence *own = me % 2 ? open_one(7) : shared;
    for (size_t i = 0; i < EACH; i++)
        got[me][i] = next(own);
    if (own != shared && kv_sequence_close(own, NULL) < 0)
        abort();
}

Test(sequence, threads_and_handles_never_get_the_same_number)
{
    static bool seen[100 * THREADS * EACH];
    kv_thread threads[THREADS] = {0};
    shared = open_one(5);
    for (size_t i = 0; i < THREADS; i++)
        cr_assert_eq(kv_thread_start(&threads[i], "taker", 0, take_numbers, (void *)(uintptr_t)i), KV_OK);
    for (size_t i = 0; i < THREADS; i++)
        kv_thread_join(&threads[i]);
    for (size_t i = 0; i < THREADS * EACH; i++) {
        uint64_t number = got[i / EACH][i % EACH];
        cr_assert_lt(number, sizeof seen);
        cr_assert(!seen[number], "%d twice", (int)number);
        seen[number] = true;
    }
    cr_assert_eq(kv_sequence_close(shared, NULL), KV_OK);
}

Test(sequence, any_allocation_may_fail)
{
    uint64_t number, after = 0;
    struct kv_sequence *sequence = open_one(1);
    for (uint64_t nth = 1;; nth++) {
        malloc_fault_arm(nth, false);
        kv_status rc = kv_sequence_next(sequence, &number, NULL);
        bool fired = malloc_fault_disarm();
        cr_assert(rc == KV_OK || (fired && rc == KV_NO_MEMORY), "%s", kv_status_name(rc));
        cr_assert(rc < 0 || number >= after);
        after = rc < 0 ? after : number + 1;
        if (!fired)
            break;
    }
    cr_assert_eq(kv_sequence_close(sequence, NULL), KV_OK);
}
