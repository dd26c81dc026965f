/*
 * What is done to a database that has everything in it (tests/support/damage_kit.h), with each allocation failing in turn, and each
 * operation on the disk: the answer says so, the database goes on, and holds what it held.
 */
#include "kvcore/db/salvage.h"
#include "tests/support/backup_kit.h"
#include "tests/support/damage_kit.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/sweep.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { TEXT = 8192 };

static struct damage_world world;

/* ---- what is done. Nothing of it changes what the database holds. */

static kv_status do_get(struct kv_kit *kit)
{
    kv_status rc = KV_OK;
    for (uint32_t space = 0; space < DAMAGE_SPACES && rc >= 0; space++)
        for (int key = 0; key < DAMAGE_KEYS && rc >= 0; key++) {
            struct kv_pinned found = {0};
            char name[4] = {'k', '0', (char)('0' + key), 0};
            rc = kv_get(kit->db, NULL, space, kv_slice_str(name), &found, &kit->err);
            kv_pinned_release(&found);
        }
    return rc < 0 ? rc : KV_OK;
}

static kv_status walk(struct kv_kit *kit, const struct kv_iter_options *options, uint32_t space, bool back)
{
    struct kv_iter *it = NULL;
    kv_status rc = kv_iter_open_with(kit->db, space, options, &it);
    if (rc == KV_OK)
        rc = back ? kv_iter_seek_before(it, (kv_slice){0}) : kv_iter_seek(it, (kv_slice){0});
    while (rc == KV_OK)
        rc = back ? kv_iter_prev(it) : kv_iter_next(it);
    kv_iter_close(it);
    return rc == KV_END ? KV_OK : rc;
}

static kv_status do_scans(struct kv_kit *kit)
{
    kv_status rc = KV_OK;
    for (uint32_t space = 0; space < DAMAGE_SPACES && rc == KV_OK; space++)
        for (int way = 0; way < 8 && rc == KV_OK; way++) {
            struct kv_iter_options options = {.all_versions = way & 1 && space < 2,
                                              .keys_only = way & 2,
                                              .no_fill = way & 4,
                                              .lower = KV_STR("k01")};
            rc = walk(kit, &options, space, way & 4);
        }
    return rc;
}

static kv_status do_measure(struct kv_kit *kit)
{
    struct kv_range_estimate estimate;
    uint64_t n;
    kv_status rc = KV_OK;
    for (uint32_t space = 0; space < DAMAGE_SPACES && rc == KV_OK; space++) {
        rc = kv_estimate(kit->db, space, KV_STR("k02"), KV_STR("k05"), &estimate, &kit->err);
        if (rc == KV_OK)
            rc = kv_count(kit->db, NULL, space, KV_STR("k02"), (kv_slice){0}, &n, &kit->err);
    }
    return rc;
}

static kv_status do_records(struct kv_kit *kit)
{
    struct kv_records *records = NULL;
    kv_slice record;
    uint64_t seq;
    kv_status rc = kv_records_open(kit->db, &records, &kit->err);
    while (rc == KV_OK)
        rc = kv_records_next(records, &seq, &record, &kit->err);
    kv_records_close(records);
    return rc == KV_END ? KV_OK : rc;
}

static kv_status ignore_batch(void *ctx, const struct kv_stream_batch *batch, struct kv_err *err)
{
    (void)ctx, (void)batch, (void)err;
    return KV_OK;
}

static kv_status do_stream(struct kv_kit *kit)
{
    kv_status rc = KV_OK;
    for (uint32_t space = 0; space < DAMAGE_SPACES && rc == KV_OK; space++) {
        struct kv_stream_options options = {.space = space,
                                            .threads = 1,
                                            .all_versions = space == 0,
                                            .batch_bytes = 100,
                                            .send = ignore_batch};
        rc = kv_stream(kit->db, &options, NULL, &kit->err);
    }
    return rc;
}

static kv_status ignore_bytes(void *ctx, kv_slice bytes, struct kv_err *err)
{
    (void)ctx, (void)bytes, (void)err;
    return KV_OK;
}

static kv_status do_export(struct kv_kit *kit)
{
    struct kv_sink sink = {ignore_bytes, NULL};
    struct kv_export_options options = {.threads = 1};
    return kv_export(kit->db, &options, &sink, NULL, &kit->err);
}

static kv_status do_archive(struct kv_kit *kit)
{
    struct kv_sink sink = {ignore_bytes, NULL};
    struct kv_buf receipt = {0};
    struct kv_backup_options options = {.archive = &sink, .receipt = &receipt};
    struct kv_backup_info info;
    kv_status rc = kv_backup(kit->db, &options, &info, &kit->err);
    kv_buf_release(&receipt);
    return rc;
}

static kv_status do_checkpoint(struct kv_kit *kit)
{
    static int n;
    char path[16];
    snprintf(path, sizeof path, "copy%d", n++);
    return kv_checkpoint(kit->db, path, &kit->err);
}

static kv_status do_flush(struct kv_kit *kit)
{
    return kv_flush(kit->db, &kit->err);
}

static kv_status do_merge(struct kv_kit *kit)
{
    kv_status rc = KV_OK;
    for (uint32_t space = 0; space < DAMAGE_SPACES && rc == KV_OK; space++)
        rc = kv_merge_range(kit->db, space, (kv_slice){0}, (kv_slice){0}, &kit->err);
    return rc;
}

static kv_status do_reopen(struct kv_kit *kit)
{
    kv_status closed = kv_kit_close(kit), opened = kv_kit_open(kit);
    return closed < 0 ? closed : opened;
}

/* Closed for it, and opened again whatever it answered. */
static kv_status closed_for(struct kv_kit *kit, kv_status (*run)(struct kv_kit *kit, struct kv_env *env))
{
    struct kv_env_options options = {.vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    struct kv_env *env = NULL;
    kv_status rc = kv_kit_close(kit);
    if (rc == KV_OK)
        rc = kv_env_open(&options, &env, &kit->err);
    if (rc == KV_OK)
        rc = run(kit, env);
    kv_env_close(env);
    kv_status opened = kv_kit_open(kit);
    return rc < 0 ? rc : opened;
}

static kv_status run_check(struct kv_kit *kit, struct kv_env *env)
{
    return kv_check_with_key(env, kit->path, &kit->options.key, NULL, NULL, &kit->err);
}

static kv_status do_check(struct kv_kit *kit)
{
    return closed_for(kit, run_check);
}

static kv_status run_salvage(struct kv_kit *kit, struct kv_env *env)
{
    struct kv_salvage_report report;
    return kv_salvage(env, kit->path, &kit->options.key, &report, &kit->err);
}

static kv_status do_salvage(struct kv_kit *kit)
{
    return closed_for(kit, run_salvage);
}

static const struct deed {
    const char *name;
    kv_status (*run)(struct kv_kit *kit);
} deeds[] = {
    {"get", do_get},         {"scans", do_scans},   {"measure", do_measure}, {"records", do_records},
    {"stream", do_stream},   {"export", do_export}, {"archive", do_archive}, {"checkpoint", do_checkpoint},
    {"flush", do_flush},     {"merge", do_merge},   {"reopen", do_reopen},   {"check", do_check},
    {"salvage", do_salvage},
};

/* ---- failing */

static void content(struct kv_kit *kit, char *out)
{
    for (uint32_t space = 0; space < DAMAGE_SPACES; space++)
        kv_kit_scan(kit, NULL, space, "", "", out + strlen(out), TEXT - strlen(out));
}

/* One deed with its nth allocation (operation of the disk) failing. */
static bool one(const struct deed *deed, uint64_t nth, bool memory, const char *expect)
{
    struct kv_kit kit;
    char found[TEXT] = "";
    struct kv_vfs *vfs = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(vfs);
    damage_dir_store(&world.now, vfs, "db");
    damage_world_kit(&world, &kit, vfs_fault_as_vfs(fault));
    kv_kit_must_open(&kit);
    if (memory)
        malloc_fault_arm(nth, false);
    else
        vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = nth, .kind = VFS_FAULT_SHORT_EIO});
    kv_status rc = deed->run(&kit);
    bool fired = memory ? malloc_fault_disarm() : vfs_fault_fired(fault);
    vfs_fault_plan(fault, NULL);
    cr_assert(rc == KV_OK || fired, "%s failed by itself: %s", deed->name, kit.err.text);
    cr_assert(rc == KV_OK || rc == KV_IO || rc == KV_UNKNOWN_OUTCOME ||
                  (memory && (rc == KV_NO_MEMORY || rc == KV_NO_SPACE)),
              "%s, %s %d: %s: %s", deed->name, memory ? "allocation" : "operation", (int)nth,
              kv_status_name(rc), kit.err.text);
    if (!kit.db)
        kv_kit_must_open(&kit);
    content(&kit, found);
    cr_assert_str_eq(found, expect, "%s, %s %d", deed->name, memory ? "allocation" : "operation", (int)nth);
    kv_kit_reopen(&kit);
    found[0] = 0;
    content(&kit, found);
    cr_assert_str_eq(found, expect, "%s, %s %d, opened again", deed->name,
                     memory ? "allocation" : "operation", (int)nth);
    kv_kit_close(&kit);
    vfs_fault_free(fault);
    kv_kit_release(&kit);
    kv_vfs_mem_free(vfs);
    return fired;
}

static void sweep(bool encrypted, bool memory)
{
    struct kv_kit kit;
    char expect[TEXT] = "";
    damage_world_make(&world, encrypted, true);
    damage_world_kit(&world, &kit, NULL);
    damage_dir_store(&world.now, kit.vfs, "db");
    kv_kit_must_open(&kit);
    content(&kit, expect);
    kv_kit_release(&kit);
    for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++) {
        uint64_t nth = 1;
        for (; one(&deeds[i], nth, memory, expect); nth += sweep_stride(nth < 30 ? 1 : nth < 200 ? 7 : 37))
            cr_assert_lt(nth, 100000);
    }
    damage_world_release(&world);
}

Test(failing, any_allocation_fails_and_the_database_goes_on, .timeout = 1200)
{
    sweep(false, true);
}

Test(failing, any_allocation_fails_under_encryption, .timeout = 1200)
{
    sweep(true, true);
}

Test(failing, any_operation_fails_and_the_database_goes_on, .timeout = 1200)
{
    sweep(false, false);
}

Test(failing, any_operation_fails_under_encryption, .timeout = 1200)
{
    sweep(true, false);
}
