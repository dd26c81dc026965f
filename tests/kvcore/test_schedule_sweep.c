/*
 * Scheduled compaction, checks and backups (kv_schedule), when power is lost after any change that they make, in each profile, and when
 * any operation on the disk or any allocation fails under them: the database holds what it held, every backup that is listed can be read
 * whole, and the next time all three go well.
 */
#include "tests/support/fault_arm.h"
#include "tests/support/backup_kit.h"
#include "tests/support/sweep.h"
#include "tests/support/vfs_crash.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { DAY_S = 24 * 3600, DAYS = 3, PUTS = 5, MARKS = DAYS * (PUTS + 2) + 2, TEXT = 2048 };

static const uint8_t master[KV_MASTER_KEY_LEN] = "the master key of what is timed.";
static const struct kv_repository repository = {.path = "backups"};
static bool encrypted;

static void kit_make(struct kv_kit *kit, struct kv_vfs *vfs)
{
    kv_kit_init(kit, vfs);
    kit->spaces[0].style = KV_STYLE_LEVELLED;
    kit->spaces[0].table_bytes = 1024;
    kit->spaces[0].value_separate_bytes = 64;
    kit->options.log_file_bytes = 1024;
    if (encrypted)
        kit->options.key.master_key = master;
}

static kv_status schedule(struct kv_kit *kit)
{
    const struct kv_maintenance_options daily = {.compact_every_s = DAY_S,
                                                 .check_every_s = DAY_S,
                                                 .check_bytes_per_s = UINT64_C(1) << 40,
                                                 .backup_every_s = DAY_S,
                                                 .backup_keep = 2,
                                                 .repository = &repository};
    return kv_schedule(kit->db, &daily, &kit->err);
}

/* A day goes by. What fails is in the reports. */
static void let_work(struct kv_kit *kit)
{
    clock_manual_advance_ms(&kit->clock, (int64_t)DAY_S * 1000);
    for (int i = 0; i < 100 && kv_work(kit->db, &kit->err) != KV_END; i++)
        clock_manual_advance_ms(&kit->clock, 1000);
}

static uint64_t failures(struct kv_kit *kit)
{
    struct kv_health_report report;
    uint64_t n = 0;
    kv_health_report(kit->db, &report);
    for (int job = KV_JOB_COMPACT; job <= KV_JOB_BACKUP; job++) {
        cr_assert_gt(report.jobs[job].runs + report.jobs[job].failures, 0, "%s",
                     kv_job_name((enum kv_job)job));
        n += report.jobs[job].failures;
    }
    return n;
}

static const char *content(struct kv_kit *kit, char *out)
{
    return backup_content(kit, out, TEXT);
}

/* ---- a life: some commits a day, then the night */

struct mark {
    uint64_t began, done; /* changes of the disk */
    char text[TEXT];
};
struct history {
    struct mark marks[MARKS];
    int n;
};

static void mark(struct history *history, struct vfs_crash *crash, struct kv_kit *kit, uint64_t began)
{
    if (!history)
        return;
    cr_assert_lt(history->n, MARKS);
    struct mark *at = &history->marks[history->n++];
    *at = (struct mark){.began = began, .done = vfs_crash_ops(crash)};
    content(kit, at->text);
}

static void by_day(struct kv_kit *kit, int day, struct history *history, struct vfs_crash *crash)
{
    char key[8], value[128];
    for (int i = 0; i < PUTS; i++) {
        uint64_t began = crash ? vfs_crash_ops(crash) : 0;
        snprintf(key, sizeof key, "k%d", (day + i) % 7);
        snprintf(value, sizeof value, "%d.%d%s", day, i,
                 i % 2 ? " of a value that is so long that it lies apart, in a segment of the value log"
                       : "");
        if (i == 3)
            kv_kit_delete(kit, 0, key);
        else
            kv_kit_put(kit, (uint32_t)(i == 4), key, value);
        mark(history, crash, kit, began);
        if (i == 1 || i == 3)
            cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
    }
}

/* ---- what is found afterwards */

static void count_backup(void *ctx, const struct kv_backup_info *info)
{
    (void)info;
    ++*(uint64_t *)ctx;
}

static void verify_backups(struct kv_kit *kit, bool must, const char *how)
{
    uint64_t n = 0;
    kv_status rc = kv_backup_list(kit->env, &repository, count_backup, &n, &kit->err);
    cr_assert(rc == KV_OK || (!must && rc == KV_MISSING), "%s: list: %s", how, kit->err.text);
    if (n > 0) {
        rc = backup_verify(kit, &repository);
        cr_assert_eq(rc, KV_OK, "%s: verify: %s", how, kit->err.text);
    }
    cr_assert(!must || (n > 0 && n <= 2), "%s: %d backups", how, (int)n);
}

/* Opens; answers what there is. Then the jobs are asked for again, and go well, and change nothing of it. */
static void settle(struct kv_vfs *disk, char *text, const char *how)
{
    struct kv_kit kit;
    char after[TEXT];
    kit_make(&kit, disk);
    kv_status rc = kv_kit_open(&kit);
    cr_assert_eq(rc, KV_OK, "%s: %s", how, kit.err.text);
    content(&kit, text);
    verify_backups(&kit, false, how);
    rc = schedule(&kit);
    cr_assert_eq(rc, KV_OK, "%s: %s", how, kit.err.text);
    let_work(&kit);
    let_work(&kit);
    cr_assert_eq(failures(&kit), 0, "%s: %s", how, kit.err.text);
    cr_assert_str_eq(content(&kit, after), text, "%s", how);
    verify_backups(&kit, true, how);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    backup_check(&kit, "db");
    kv_kit_release(&kit);
}

/* ---- power is lost */

static struct history history;

static bool may_be_found(uint64_t ops, const char *text)
{
    int acked = 0, begun = 0;
    for (int i = 1; i < history.n; i++) {
        if (history.marks[i].done < ops)
            acked = i;
        if (history.marks[i].began <= ops)
            begun = i;
    }
    for (int i = acked; i <= begun; i++)
        if (strcmp(history.marks[i].text, text) == 0)
            return true;
    return false;
}

static void lose_power(uint64_t stride)
{
    struct kv_kit kit;
    struct vfs_crash *crash = vfs_crash_new();
    kit_make(&kit, vfs_crash_as_vfs(crash));
    kv_kit_must_open(&kit);
    history.n = 0;
    uint64_t first = vfs_crash_ops(crash);
    mark(&history, crash, &kit, 0);
    cr_assert_eq(schedule(&kit), KV_OK);
    for (int day = 0; day < DAYS; day++) {
        by_day(&kit, day, &history, crash);
        let_work(&kit);
    }
    cr_assert_eq(failures(&kit), 0);
    kv_kit_release(&kit);
    for (uint64_t ops = first + 1; ops <= vfs_crash_ops(crash) + 1; ops += stride)
        for (int profile = 0; profile < VFS_CRASH_PROFILES; profile++)
            for (uint64_t seed = 0; seed < 4; seed++) {
                char how[96], text[TEXT];
                struct kv_vfs *disk =
                    vfs_crash_at(crash, ops, seed < 3 ? seed : 3 + ops, (enum vfs_crash_profile)profile);
                snprintf(how, sizeof how, "profile %d, %d changes, seed %d", profile, (int)ops, (int)seed);
                settle(disk, text, how);
                cr_assert(may_be_found(ops, text), "%s: %s", how, text);
                kv_vfs_mem_free(disk);
            }
    vfs_crash_free(crash);
}

Test(schedule_sweep, power_lost_after_any_change, .timeout = 1200)
{
    lose_power(sweep_stride(11));
}

Test(schedule_sweep, power_lost_after_any_change_under_encryption, .timeout = 1200)
{
    encrypted = true;
    lose_power(sweep_stride(23));
}

/* ---- the disk fails, memory runs out */

enum { CHANGES = ~(VFS_OP_READ | VFS_OP_SIZE | VFS_OP_OPEN | VFS_OP_LIST | VFS_OP_PUBLISHED) & VFS_OP_ALL };
static const struct vfs_fault_plan plans[] = {
    {.kind = VFS_FAULT_EIO},
    {.kind = VFS_FAULT_EIO, .sticky = true},
    {.kind = VFS_FAULT_SHORT_EIO, .ops = VFS_OP_APPEND},
    {.kind = VFS_FAULT_SHORT_ENOSPC, .ops = CHANGES},
    {.kind = VFS_FAULT_ENOSPC, .ops = CHANGES, .sticky = true},
    {.kind = VFS_FAULT_SYNC_KEEPS},
    {.kind = VFS_FAULT_SYNC_KEEPS, .sticky = true},
    {.kind = VFS_FAULT_SYNC_REVERTS},
    {.kind = VFS_FAULT_SYNC_CLOSE},
};

/* One night, the second, in which an operation (allocation, plan NULL) fails: the next place of sites that has not failed, or the nth of
 * all. */
static bool one(struct fault_sites *sites, uint64_t nth, const struct vfs_fault_plan *plan)
{
    char how[96], expect[TEXT], found[TEXT];
    struct kv_kit kit;
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    kit_make(&kit, vfs_fault_as_vfs(fault));
    kv_kit_must_open(&kit);
    cr_assert_eq(schedule(&kit), KV_OK);
    by_day(&kit, 0, NULL, NULL);
    let_work(&kit);
    by_day(&kit, 1, NULL, NULL);
    content(&kit, expect);
    fault_text(plan, nth, how);
    fault_arm(fault, plan, sites, nth);
    let_work(&kit);
    bool fired = fault_disarm(fault, plan);
    cr_assert(fired || failures(&kit) == 0, "%s: failed by itself", how);
    cr_assert_str_eq(content(&kit, found), expect, "%s", how);
    struct kv_vfs *power_lost = kv_vfs_mem_crash_clone(disk);
    kv_kit_close(&kit);
    kv_kit_release(&kit);
    settle(disk, found, how);
    cr_assert_str_eq(found, expect, "%s, opened again", how);
    settle(power_lost, found, how);
    cr_assert_str_eq(found, expect, "%s, power lost", how);
    kv_vfs_mem_free(power_lost);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
    return fired;
}

static void fail(bool memory)
{
    for (size_t i = 0; i < (memory ? 1 : sizeof plans / sizeof *plans); i++) {
        struct fault_sites *sites = fault_sites_new();
        for (uint64_t nth = 1; one(sweep_all() ? NULL : sites, nth, memory ? NULL : &plans[i]); nth++)
            cr_assert_lt(nth, 100000);
        fault_sites_free(sites);
    }
}

Test(schedule_sweep, any_operation_fails, .timeout = 3000)
{
    fail(false);
}

Test(schedule_sweep, any_operation_fails_under_encryption, .timeout = 3000)
{
    encrypted = true;
    fail(false);
}

Test(schedule_sweep, any_allocation_fails, .timeout = 3000)
{
    fail(true);
}

Test(schedule_sweep, any_allocation_fails_under_encryption, .timeout = 3000)
{
    encrypted = true;
    fail(true);
}
