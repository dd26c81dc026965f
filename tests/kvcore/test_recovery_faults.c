/*
 * The machine comes back after power was lost, and then the disk, or memory, fails while the database recovers: each operation in turn,
 * once and for ever, in every way of tests/support/vfs_fault.h, and each allocation. Whatever the open answered, the next healthy one finds
 * exactly what it would have found without the failure, whether power is lost again in between or not.
 */
#include "tests/support/life_kit.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/sweep.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum {
    CHANGES = VFS_OP_CREATE | VFS_OP_APPEND | VFS_OP_RESERVE | VFS_OP_SYNC | VFS_OP_SYNC_NAMES | VFS_OP_LINK |
              VFS_OP_PUBLISH
};

static bool encrypted;
static struct life_history history;
static uint64_t n_cases;

static const struct vfs_fault_plan plans[] = {
    {.kind = VFS_FAULT_EIO},
    {.kind = VFS_FAULT_EIO, .sticky = true},
    {.kind = VFS_FAULT_ENOSPC, .ops = CHANGES, .sticky = true},
    {.kind = VFS_FAULT_SHORT_ENOSPC, .ops = CHANGES},
    {.kind = VFS_FAULT_SHORT_EIO, .ops = VFS_OP_APPEND},
    {.kind = VFS_FAULT_SYNC_KEEPS},
    {.kind = VFS_FAULT_SYNC_KEEPS, .sticky = true},
    {.kind = VFS_FAULT_SYNC_REVERTS},
    {.kind = VFS_FAULT_SYNC_REVERTS, .sticky = true},
    {.kind = VFS_FAULT_SYNC_CLOSE},
    {.kind = VFS_FAULT_SYNC_LATE},
};

/* What a healthy open of disk finds. may_refuse: a sync has lied, so damage may be told; NULL then. */
static const char *healthy(struct kv_vfs *disk, bool may_refuse, char *text, const char *how)
{
    struct life life;
    life_init(&life, disk, encrypted);
    kv_status rc = kv_kit_open(&life.kit);
    if (rc == KV_CORRUPT && may_refuse) {
        kv_kit_release(&life.kit);
        return NULL;
    }
    cr_assert_eq(rc, KV_OK, "%s: %s", how, life.kit.err.text);
    life_found(&life.kit, text);
    cr_assert_eq(kv_kit_close(&life.kit), KV_OK, "%s: %s", how, life.kit.err.text);
    rc = life_check(&life);
    cr_assert_eq(rc, KV_OK, "%s: check: %s", how, life.kit.err.text);
    kv_kit_release(&life.kit);
    return text;
}

/* What an open that failed, or did not, has left: as the disk is, and as it is when power is lost now. */
static void judge(struct kv_vfs *disk, const char *expect, bool lying, const char *how)
{
    char text[LIFE_TEXT];
    struct kv_vfs *power_lost = kv_vfs_mem_crash_clone(disk);
    cr_assert_str_eq(healthy(disk, false, text, how), expect, "%s", how);
    const char *found = healthy(power_lost, lying, text, how);
    if (found && !lying)
        cr_assert_str_eq(found, expect, "%s, power lost", how);
    kv_vfs_mem_free(power_lost);
}

/* One recovery of a copy of disk in which the nth operation (allocation, plan NULL) fails. */
static bool one(struct kv_vfs *disk, uint64_t nth, const struct vfs_fault_plan *plan, const char *expect,
                const char *where)
{
    struct life life;
    char how[160];
    struct kv_vfs *copy = kv_vfs_mem_crash_clone(disk);
    struct vfs_fault *fault = vfs_fault_new(copy);
    life_init(&life, vfs_fault_as_vfs(fault), encrypted);
    if (plan) {
        struct vfs_fault_plan armed = *plan;
        armed.nth = nth;
        vfs_fault_plan(fault, &armed);
        snprintf(how, sizeof how, "%s, kind %d%s, operation %d in recovery", where, (int)plan->kind,
                 plan->sticky ? " from then on" : "", (int)nth);
    } else {
        malloc_fault_arm(nth, false);
        snprintf(how, sizeof how, "%s, allocation %d in recovery", where, (int)nth);
    }
    kv_status rc = kv_kit_open(&life.kit);
    bool fired = plan ? vfs_fault_fired(fault) : malloc_fault_disarm();
    vfs_fault_plan(fault, NULL);
    cr_assert(rc == KV_OK || (fired && (rc == KV_IO || rc == KV_NO_SPACE || rc == KV_UNKNOWN_OUTCOME ||
                                        (!plan && rc == KV_NO_MEMORY))),
              "%s: %s: %s", how, kv_status_name(rc), life.kit.err.text);
    if (rc == KV_OK && kv_health(life.kit.db, NULL) == KV_OK) {
        char text[LIFE_TEXT];
        cr_assert_str_eq(life_found(&life.kit, text), expect, "%s", how);
    }
    kv_kit_close(&life.kit);
    kv_kit_release(&life.kit);
    if (vfs_fault_count(fault, CHANGES | VFS_OP_REMOVE) > 0) /* else the disk is what it was */
        judge(copy, expect, plan && plan->kind == VFS_FAULT_SYNC_LATE, how);
    vfs_fault_free(fault);
    kv_vfs_mem_free(copy);
    n_cases++;
    return fired;
}

static void sweep_plans(struct kv_vfs *disk, const char *expect, const char *where)
{
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++)
        for (uint64_t nth = 1; one(disk, nth, &plans[i], expect, where); nth++)
            cr_assert_lt(nth, 10000);
}

static void sweep_allocations(struct kv_vfs *disk, const char *expect, const char *where)
{
    for (uint64_t nth = 1; one(disk, nth, NULL, expect, where); nth += sweep_stride(5))
        cr_assert_lt(nth, 100000);
}

/* Power lost after every stride-th change. */
static void sweep(uint64_t stride,
                  void (*failing)(struct kv_vfs *disk, const char *expect, const char *where))
{
    struct vfs_crash *crash = vfs_crash_new();
    life_record(&history, crash, encrypted);
    uint64_t n = vfs_crash_ops(crash);
    for (uint64_t ops = history.done[0]; ops <= n + 1; ops += stride) {
        char expect[LIFE_TEXT], where[64];
        enum vfs_crash_profile profile = (enum vfs_crash_profile)(ops / stride % VFS_CRASH_PROFILES);
        struct kv_vfs *disk = vfs_crash_at(crash, ops, 3 + ops, profile),
                      *copy = kv_vfs_mem_crash_clone(disk);
        snprintf(where, sizeof where, "profile %d, %d changes", (int)profile, (int)ops);
        healthy(copy, false, expect, where);
        cr_assert(life_may_be_found(&history, ops, expect), "%s", where);
        failing(disk, expect, where);
        kv_vfs_mem_free(copy);
        kv_vfs_mem_free(disk);
    }
    vfs_crash_free(crash);
    fprintf(stderr, "%d cases\n", (int)n_cases);
}

Test(recovery_faults, the_disk_fails, .timeout = 7200)
{
    sweep(sweep_stride(151), sweep_plans);
}

Test(recovery_faults, the_disk_fails_under_encryption, .timeout = 7200)
{
    encrypted = true;
    sweep(sweep_stride(307), sweep_plans);
}

Test(recovery_faults, memory_runs_out, .timeout = 7200)
{
    sweep(sweep_stride(31), sweep_allocations);
}

Test(recovery_faults, memory_runs_out_under_encryption, .timeout = 7200)
{
    encrypted = true;
    sweep(sweep_stride(53), sweep_allocations);
}
