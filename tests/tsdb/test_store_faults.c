/* The store under failing files and failing memory, over the stories of store_story.h: every answered change is found again, and none
 * that was refused. In make test each place of the disk
 * fails once; with SWEEP_ALL=1 each operation and each allocation. */
#include "tests/support/fault_arm.h"
#include "tests/support/store_story.h"
#include "tests/support/sweep.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>

/* What the store must hold: `sure`, or with an outcome unknown also `other`. */
struct outcome {
    const struct story *story;
    const char *what;
    struct story_state sure, other;
    bool unknown;
};

static kv_status matches(struct store_kit *kit, const struct outcome *o)
{
    kv_status rc = story_matches(kit, &o->sure);
    return rc == KV_END && o->unknown ? story_matches(kit, &o->other) : rc;
}

static void run_failing(struct store_kit *kit, struct outcome *o)
{
    for (int i = 0; i < story_len(o->story); i++) {
        const struct story_op *op = &o->story->ops[i];
        bool other = o->unknown && kit->db && story_matches(kit, &o->other) == KV_OK;
        kv_status rc = story_play(kit, o->story, i, other ? &o->other : &o->sure);
        if (rc >= 0) {
            story_apply(&o->sure, op);
            story_apply(&o->other, op);
        } else if (rc == KV_UNKNOWN_OUTCOME && !o->unknown) {
            o->unknown = true;
            o->other = o->sure;
            story_apply(&o->other, op);
        }
        if (kit->db)
            cr_assert_neq(matches(kit, o), KV_END, "%s: operation %d left something wrong to read", o->what,
                          i);
    }
}

/* One run with one failure; false: nothing failed any more. */
static bool run(const struct story *story, const struct vfs_fault_plan *plan, struct fault_sites *sites,
                uint64_t nth)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    struct outcome *o = calloc(1, sizeof *o);
    struct store_kit kit;
    char what[160], how[96];
    cr_assert(o != NULL);
    snprintf(what, sizeof what, "%s, %s", story->name, fault_text(plan, nth, how));
    *o = (struct outcome){.story = story, .what = what};
    story_begin(&kit, story, vfs_fault_as_vfs(fault), 0);
    fault_arm(fault, plan, sites, nth);
    run_failing(&kit, o);
    bool fired = fault_disarm(fault, plan);
    story_finish(&kit);
    story_begin(&kit, story, disk, story_hours(story, story_len(story))); /* the disk works again */
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s: %s", what, kit.err.text);
    kv_status rc = matches(&kit, o);
    cr_assert_eq(rc, KV_OK, "%s: %s", what, rc == KV_END ? "found something else" : kit.err.text);
    story_finish(&kit);
    free(o);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
    return fired;
}

/* Places met in an earlier story are not failed again in a later one; with SWEEP_ALL=1 everything is, in all of them. */
static void sweep(const struct vfs_fault_plan *plan, int n_stories)
{
    struct fault_sites *sites = fault_sites_new();
    uint64_t cases = 0;
    for (int s = 0; s < (sweep_all() ? STORIES : n_stories); s++)
        for (uint64_t nth = 1; run(&stories[s], plan, sweep_all() ? NULL : sites, nth); nth++)
            cases++;
    cr_assert_gt(cases, 20, "hardly anything can fail: %" PRIu64, cases);
    cr_log_info("%" PRIu64 " cases", cases);
    fault_sites_free(sites);
}

/* Allocations are too many for each place, so make test takes ever longer strides. */
static void sweep_memory(void)
{
    uint64_t cases = 0;
    for (int s = 0; s < STORIES; s++)
        for (uint64_t nth = 1; run(&stories[s], NULL, NULL, nth); nth += 1 + (sweep_all() ? 0 : nth / 20))
            cases++;
    cr_assert_gt(cases, 100, "hardly anything can fail: %" PRIu64, cases);
    cr_log_info("%" PRIu64 " cases", cases);
}

static void sweep_files(enum vfs_fault_kind kind, bool sticky, int n_stories)
{
    const struct vfs_fault_plan plan = {.kind = kind, .sticky = sticky};
    sweep(&plan, n_stories);
}

Test(store_faults, any_single_failing_operation_loses_nothing_answered, .timeout = 30000)
{
    sweep_files(VFS_FAULT_EIO, false, STORIES);
}

Test(store_faults, a_disk_that_fails_for_good_loses_nothing_answered, .timeout = 30000)
{
    sweep_files(VFS_FAULT_EIO, true, STORIES);
}

Test(store_faults, a_torn_append_loses_nothing_answered, .timeout = 30000)
{
    sweep_files(VFS_FAULT_SHORT_EIO, false, 1);
}

Test(store_faults, a_full_disk_loses_nothing_answered, .timeout = 30000)
{
    sweep_files(VFS_FAULT_ENOSPC, false, 1);
    sweep_files(VFS_FAULT_SHORT_ENOSPC, true, STORIES);
}

Test(store_faults, a_failed_sync_loses_nothing_answered, .timeout = 30000)
{
    sweep_files(VFS_FAULT_SYNC_KEEPS, false, STORIES);
    sweep_files(VFS_FAULT_SYNC_REVERTS, false, STORIES);
}

Test(store_faults, any_single_failing_allocation_loses_nothing_answered, .timeout = 30000)
{
    sweep_memory();
}

Test(store_faults, a_store_whose_log_died_refuses_copies_and_goes_on_answering)
{
    static const struct kv_repository repository = {.path = "backups"};
    const struct kv_backup_options options = {.repository = &repository};
    const struct vfs_fault_plan plan = {.nth = 1, .kind = VFS_FAULT_EIO, .sticky = true};
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    struct kv_backup_info info;
    struct store_kit kit;
    story_begin(&kit, &stories[0], vfs_fault_as_vfs(fault), 0);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    store_kit_put(&kit, 0, KIT_START_MS, 1);
    vfs_fault_plan(fault, &plan);
    cr_assert_eq(store_kit_add(&kit, 0, KIT_START_MS + 1, 2), KV_OK);
    cr_assert_lt(store_kit_commit(&kit), 0);
    vfs_fault_plan(fault, NULL);
    cr_assert_lt(ts_backup(kit.db, &options, false, &info, &kit.err), 0);
    cr_assert_lt(ts_snapshot(kit.db, "copy", true, &kit.err), 0);
    cr_assert_lt(store_kit_delete(&kit, 3, INT64_MIN, INT64_MAX), 0, "a delete of nothing is answered, too");
    cr_assert_str_eq(store_kit_text(&kit, 0, INT64_MIN, INT64_MAX), "0=1 ");
    story_finish(&kit);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
}
