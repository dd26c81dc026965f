/*
 * One scripted life of a database, cut short in every way: every operation on the disk fails in turn, and power is lost after every
 * change, in every profile of tests/support/vfs_crash. What was answered is there, what was not may be there whole or not at all, nothing
 * deleted comes back, and recovering twice finds the same.
 */
#include "tests/support/life_kit.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/sweep.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

static bool encrypted;

/* ---- power is lost */

static void check_quietly(struct life *life)
{
    kv_status rc = life_check(life);
    cr_assert_eq(rc, KV_OK, "check: %s", life->kit.err.text);
}

/* Recovers from disk, again after a clean close, and once more after a crash right behind an answered commit. */
static void recover(const struct life_history *history, uint64_t ops, struct kv_vfs *disk, const char *how)
{
    struct life life;
    char first[LIFE_TEXT], second[LIFE_TEXT];
    life_init(&life, disk, encrypted);
    kv_status rc = kv_kit_open(&life.kit);
    cr_assert_eq(rc, KV_OK, "%s: open: %s", how, life.kit.err.text);
    life_found(&life.kit, first);
    cr_assert(life_may_be_found(history, ops, first), "%s", how);
    cr_assert_eq(kv_kit_close(&life.kit), KV_OK, "%s: %s", how, life.kit.err.text);
    check_quietly(&life);
    kv_kit_must_open(&life.kit);
    cr_assert_str_eq(life_found(&life.kit, second), first, "%s: the second recovery", how);
    kv_kit_put(&life.kit, 1, "k7", "later");
    struct kv_vfs *clone = kv_vfs_mem_crash_clone(disk);
    kv_kit_close(&life.kit);
    life.kit.vfs = clone;
    kv_kit_must_open(&life.kit);
    cr_assert(kv_kit_is(&life.kit, NULL, 1, "k7", "later"), "%s", how);
    kv_kit_close(&life.kit);
    kv_vfs_mem_free(clone);
    kv_kit_release(&life.kit);
}

static void sweep_profile(enum vfs_crash_profile profile, uint64_t stride)
{
    static struct life_history history;
    struct vfs_crash *crash = vfs_crash_new();
    char how[64];
    life_record(&history, crash, encrypted);
    uint64_t n = vfs_crash_ops(crash);
    for (uint64_t ops = 0; ops <= n + 1; ops += stride)
        for (uint64_t seed = 0; seed < 5; seed++) {
            uint64_t s = seed < 3 ? seed : 3 + 2 * ops + seed;
            struct kv_vfs *disk = vfs_crash_at(crash, ops, s, profile);
            snprintf(how, sizeof how, "profile %d, %d changes, seed %d", (int)profile, (int)ops, (int)s);
            recover(&history, ops, disk, how);
            kv_vfs_mem_free(disk);
        }
    vfs_crash_free(crash);
}

Test(crash_sweep, power_lost_after_any_change_posix_min, .timeout = 240)
{
    sweep_profile(VFS_CRASH_POSIX_MIN, 1);
}

Test(crash_sweep, power_lost_after_any_change_ext4_ordered, .timeout = 240)
{
    sweep_profile(VFS_CRASH_EXT4_ORDERED, 1);
}

Test(crash_sweep, power_lost_after_any_change_xfs_like, .timeout = 240)
{
    sweep_profile(VFS_CRASH_XFS_LIKE, 1);
}

Test(crash_sweep, power_lost_under_encryption_posix_min, .timeout = 1200)
{
    encrypted = true;
    sweep_profile(VFS_CRASH_POSIX_MIN, sweep_stride(7));
}

Test(crash_sweep, power_lost_under_encryption_ext4_ordered, .timeout = 1200)
{
    encrypted = true;
    sweep_profile(VFS_CRASH_EXT4_ORDERED, sweep_stride(11));
}

Test(crash_sweep, power_lost_under_encryption_xfs_like, .timeout = 1200)
{
    encrypted = true;
    sweep_profile(VFS_CRASH_XFS_LIKE, sweep_stride(11));
}

/* The machine comes back, and power is lost again after any change that the recovery makes. profile negative: by turns. */
static void sweep_recovery(int only)
{
    static struct life_history history;
    static const char *const paths[] = {"db", NULL};
    struct vfs_crash *crash = vfs_crash_new();
    char how[96];
    life_record(&history, crash, encrypted);
    uint64_t n = vfs_crash_ops(crash);
    for (uint64_t ops = history.done[0]; ops <= n + 1; ops += sweep_stride(encrypted ? 29 : 17)) {
        enum vfs_crash_profile profile =
            (enum vfs_crash_profile)(only < 0 ? ops % VFS_CRASH_PROFILES : (uint64_t)only);
        struct kv_vfs *disk = vfs_crash_at(crash, ops, 3 + ops, profile);
        struct vfs_crash *again = vfs_crash_new_from(disk, paths);
        struct life life;
        life_init(&life, vfs_crash_as_vfs(again), encrypted);
        kv_kit_must_open(&life.kit);
        uint64_t changes = vfs_crash_ops(again);
        kv_kit_close(&life.kit);
        kv_kit_release(&life.kit);
        for (uint64_t k = 0; k <= changes; k++)
            for (uint64_t seed = 0; seed < 4; seed++) {
                struct kv_vfs *twice = vfs_crash_at(again, k, seed < 3 ? seed : 100 + k, profile);
                snprintf(how, sizeof how, "profile %d, %d changes, then %d in recovery, seed %d",
                         (int)profile, (int)ops, (int)k, (int)seed);
                recover(&history, ops, twice, how);
                kv_vfs_mem_free(twice);
            }
        vfs_crash_free(again);
        kv_vfs_mem_free(disk);
    }
    vfs_crash_free(crash);
}

Test(crash_sweep, power_lost_again_during_recovery, .timeout = 3000)
{
    if (!sweep_all())
        sweep_recovery(-1);
    for (int profile = 0; profile < VFS_CRASH_PROFILES && sweep_all(); profile++)
        sweep_recovery(profile);
}

Test(crash_sweep, power_lost_again_during_recovery_under_encryption, .timeout = 3000)
{
    encrypted = true;
    sweep_recovery(-1);
}

/* ---- the disk fails */

/* To the end, or to damage that is told. */
static void read_damaged(struct kv_kit *kit)
{
    for (uint32_t space = 0; space < 2; space++) {
        struct kv_iter *it = NULL;
        kv_status rc = kv_iter_open(kit->db, NULL, space, (kv_slice){0}, (kv_slice){0}, &it);
        for (rc = rc < 0 ? rc : kv_iter_seek(it, (kv_slice){0}); rc == KV_OK;)
            rc = kv_iter_next(it);
        kv_iter_close(it);
        cr_assert(rc == KV_END || rc == KV_CORRUPT, "%s", kv_status_name(rc));
    }
}

static bool lying; /* the disk: what was synced may be lost with the power */

/* One life in which operation nth fails so. After a failure the step is done again if the disk works again and writing goes on. */
static bool live_with_fault(uint64_t nth, enum vfs_fault_kind kind, bool sticky)
{
    struct life life;
    struct kv_vfs *memory = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(memory);
    char text[LIFE_TEXT], before[LIFE_TEXT], after[LIFE_TEXT];
    life_init(&life, vfs_fault_as_vfs(fault), encrypted);
    kv_kit_must_open(&life.kit);
    vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = nth, .kind = kind, .sticky = sticky});
    bool failed = false, exact = true, fired = false;
    int failed_at = -1;
    for (int i = 0; i < LIFE_STEPS && !failed; i++) {
        kv_status rc = life_step(&life, i);
        if (rc == KV_OK)
            continue;
        cr_assert(vfs_fault_fired(fault), "step %d (%s) failed by itself: %s", i, life_step_name(i),
                  life.kit.err.text);
        failed_at = i;
        exact = life_step_exact(i) && rc != KV_UNKNOWN_OUTCOME && rc != KV_READ_ONLY;
        if (life.kit.db) { /* reads are served whatever happened */
            fired = true;
            if (sticky)
                vfs_fault_plan(fault, NULL);
            life_text(&life.next, after);
            life_values(&life.kit, text);
        }
        failed = true;
        if (exact && !sticky) { /* nothing was stored, so it can be done again */
            rc = life_step(&life, i);
            cr_assert(rc == KV_OK || rc == KV_READ_ONLY, "step %d (%s), operation %d, kind %d: %s", i,
                      life_step_name(i), (int)nth, (int)kind, life.kit.err.text);
            failed = rc != KV_OK;
        }
    }
    fired = fired || vfs_fault_fired(fault);
    vfs_fault_plan(fault, NULL);
    life_text(&life.now, before);
    life_text(failed ? &life.next : &life.now, after);
    struct kv_vfs *power_lost = kv_vfs_mem_crash_clone(memory);
    kv_kit_close(&life.kit);
    struct kv_vfs *disks[] = {memory, power_lost};
    for (int d = 0; d < 2; d++) {
        life.kit.vfs = disks[d];
        kv_status rc = kv_kit_open(&life.kit);
        if (lying && d == 1) {
            cr_assert(rc == KV_OK || rc == KV_CORRUPT, "operation %d: %s", (int)nth, life.kit.err.text);
            if (rc == KV_OK)
                read_damaged(&life.kit);
            kv_kit_close(&life.kit);
            continue;
        }
        cr_assert_eq(rc, KV_OK, "operation %d, kind %d, disk %d: %s", (int)nth, (int)kind, d,
                     life.kit.err.text);
        life_found(&life.kit, text);
        bool is_before = strcmp(text, before) == 0, is_after = strcmp(text, after) == 0;
        cr_assert(is_before || (is_after && !(failed && exact)),
                  "operation %d, kind %d, sticky %d, disk %d, step %d (%s)\nfound  %s\nbefore %s\nafter  %s",
                  (int)nth, (int)kind, (int)sticky, d, failed_at,
                  failed_at >= 0 ? life_step_name(failed_at) : "", text, before, after);
        kv_kit_close(&life.kit);
        check_quietly(&life);
    }
    kv_vfs_mem_free(power_lost);
    vfs_fault_free(fault);
    kv_kit_release(&life.kit);
    kv_vfs_mem_free(memory);
    return fired;
}

static void sweep_faults(enum vfs_fault_kind kind, bool sticky)
{
    for (uint64_t nth = 1; live_with_fault(nth, kind, sticky); nth += sweep_stride(encrypted ? 17 : 11))
        ;
}

Test(crash_sweep, any_operation_fails_once, .timeout = 240)
{
    sweep_faults(VFS_FAULT_EIO, false);
}

Test(crash_sweep, any_operation_and_all_after_it_fail, .timeout = 240)
{
    sweep_faults(VFS_FAULT_EIO, true);
}

Test(crash_sweep, any_operation_finds_the_disk_full, .timeout = 240)
{
    sweep_faults(VFS_FAULT_SHORT_ENOSPC, false);
    sweep_faults(VFS_FAULT_ENOSPC, true);
}

Test(crash_sweep, any_append_is_cut_short, .timeout = 240)
{
    sweep_faults(VFS_FAULT_SHORT_EIO, false);
}

Test(crash_sweep, any_sync_fails_and_the_page_cache_keeps_the_bytes, .timeout = 240)
{
    sweep_faults(VFS_FAULT_SYNC_KEEPS, false);
    sweep_faults(VFS_FAULT_SYNC_KEEPS, true);
}

Test(crash_sweep, any_sync_fails_and_the_page_cache_forgets_them, .timeout = 240)
{
    sweep_faults(VFS_FAULT_SYNC_REVERTS, false);
}

Test(crash_sweep, any_sync_fails_at_close_only, .timeout = 240)
{
    sweep_faults(VFS_FAULT_SYNC_CLOSE, false);
}

/* One sync answers 0 and does nothing, the next one of the file fails: what the first one was for is lost with the power, and no
 * store can help that. Until then everything is there, and afterwards damage is told or what is found was stored once. */
Test(crash_sweep, any_sync_lies_and_the_next_fails, .timeout = 240)
{
    lying = true;
    sweep_faults(VFS_FAULT_SYNC_LATE, false);
}

/* ---- memory runs out */

/* One life in which one allocation fails: its step answers KV_NO_MEMORY or does without; done again, it works. */
static bool live_without_memory(uint64_t nth)
{
    struct life life;
    char text[LIFE_TEXT], expect[LIFE_TEXT];
    bool fired = false;
    life_init(&life, NULL, encrypted);
    kv_kit_must_open(&life.kit);
    uint64_t left = nth;
    malloc_fault_arm(left, false);
    for (int i = 0; i < LIFE_STEPS; i++) {
        kv_status rc = life_step(&life, i);
        if (rc == KV_OK)
            continue;
        fired = malloc_fault_disarm();
        cr_assert(fired && (rc == KV_NO_MEMORY || rc == KV_NO_SPACE || rc == KV_IO ||
                            rc == KV_UNKNOWN_OUTCOME || rc == KV_READ_ONLY),
                  "allocation %d, step %d (%s): %s: %s", (int)nth, i, life_step_name(i), kv_status_name(rc),
                  life.kit.err.text);
        if (!life.kit.db)
            kv_kit_must_open(&life.kit);
        else if (rc == KV_UNKNOWN_OUTCOME || kv_health(life.kit.db, NULL) != KV_OK)
            break; /* read-only from here on: judged below */
        if (life_step_reopens(i))
            continue;
        rc = life_step(&life, i);
        cr_assert_eq(rc, KV_OK, "allocation %d, step %d (%s) again: %s", (int)nth, i, life_step_name(i),
                     life.kit.err.text);
    }
    bool ended = malloc_fault_disarm();
    fired = fired || ended;
    life_text(&life.now, expect);
    kv_kit_close(&life.kit);
    kv_kit_must_open(&life.kit);
    life_found(&life.kit, text);
    if (strcmp(text, expect) != 0)
        life_text(&life.next, expect);
    cr_assert_str_eq(text, expect, "allocation %d", (int)nth);
    kv_kit_close(&life.kit);
    check_quietly(&life);
    kv_kit_release(&life.kit);
    return fired;
}

static void sweep_allocations(void)
{
    uint64_t nth = 1;
    for (; live_without_memory(nth); nth += sweep_stride(nth % 7 + 23))
        ;
    cr_assert_gt(nth, 1000);
}

Test(crash_sweep, any_allocation_fails_once, .timeout = 3000)
{
    sweep_allocations();
}

Test(crash_sweep, any_operation_fails_once_under_encryption, .timeout = 240)
{
    encrypted = true;
    sweep_faults(VFS_FAULT_EIO, false);
}

Test(crash_sweep, any_append_is_cut_short_under_encryption, .timeout = 240)
{
    encrypted = true;
    sweep_faults(VFS_FAULT_SHORT_EIO, false);
}

Test(crash_sweep, any_sync_fails_under_encryption, .timeout = 240)
{
    encrypted = true;
    sweep_faults(VFS_FAULT_SYNC_KEEPS, false);
    sweep_faults(VFS_FAULT_SYNC_KEEPS, true);
    sweep_faults(VFS_FAULT_SYNC_REVERTS, false);
    sweep_faults(VFS_FAULT_SYNC_CLOSE, false);
}

Test(crash_sweep, any_operation_and_all_after_it_fail_under_encryption, .timeout = 600)
{
    encrypted = true;
    sweep_faults(VFS_FAULT_EIO, true);
}

Test(crash_sweep, any_operation_finds_the_disk_full_under_encryption, .timeout = 600)
{
    encrypted = true;
    sweep_faults(VFS_FAULT_SHORT_ENOSPC, false);
    sweep_faults(VFS_FAULT_ENOSPC, true);
}

Test(crash_sweep, any_sync_lies_and_the_next_fails_under_encryption, .timeout = 600)
{
    encrypted = lying = true;
    sweep_faults(VFS_FAULT_SYNC_LATE, false);
}

Test(crash_sweep, any_allocation_fails_once_under_encryption, .timeout = 3000)
{
    encrypted = true;
    sweep_allocations();
}
