/*
 * What is done to a database that has everything in it (tests/support/damage_kit.h), with each allocation failing in turn, and each
 * operation on the disk: the answer says so, the database goes on, and holds what it held.
 */
#include "kvcore/db/salvage.h"
#include "tests/support/backup_kit.h"
#include "tests/support/failing_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct damage_world world;
static bool quiet; /* nobody asks for texts */

#define ERR (quiet ? NULL : &kit->err)

/* ---- what is done. Nothing of it changes what the database holds. */

static kv_status do_get(struct kv_kit *kit)
{
    kv_status rc = KV_OK;
    for (uint32_t space = 0; space < DAMAGE_SPACES && rc >= 0; space++)
        for (int key = 0; key < DAMAGE_KEYS && rc >= 0; key++) {
            struct kv_pinned found = {0};
            char name[4] = {'k', '0', (char)('0' + key), 0};
            rc = kv_get(kit->db, NULL, space, kv_slice_str(name), &found, ERR);
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
        rc = kv_estimate(kit->db, space, KV_STR("k02"), KV_STR("k05"), &estimate, ERR);
        if (rc == KV_OK)
            rc = kv_count(kit->db, NULL, space, KV_STR("k02"), (kv_slice){0}, &n, ERR);
    }
    return rc;
}

static kv_status do_records(struct kv_kit *kit)
{
    struct kv_records *records = NULL;
    kv_slice record;
    uint64_t seq;
    kv_status rc = kv_records_open(kit->db, &records, ERR);
    while (rc == KV_OK)
        rc = kv_records_next(records, &seq, &record, ERR);
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
        rc = kv_stream(kit->db, &options, NULL, ERR);
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
    return kv_export(kit->db, &options, &sink, NULL, ERR);
}

static kv_status do_archive(struct kv_kit *kit)
{
    struct kv_sink sink = {ignore_bytes, NULL};
    struct kv_buf receipt = {0};
    struct kv_backup_options options = {.archive = &sink, .receipt = &receipt};
    struct kv_backup_info info;
    kv_status rc = kv_backup(kit->db, &options, &info, ERR);
    kv_buf_release(&receipt);
    return rc;
}

static kv_status do_checkpoint(struct kv_kit *kit)
{
    static int n;
    char path[16];
    snprintf(path, sizeof path, "copy%d", n++);
    return kv_checkpoint(kit->db, path, ERR);
}

static kv_status do_flush(struct kv_kit *kit)
{
    return kv_flush(kit->db, ERR);
}

static kv_status do_merge(struct kv_kit *kit)
{
    kv_status rc = KV_OK;
    for (uint32_t space = 0; space < DAMAGE_SPACES && rc == KV_OK; space++)
        rc = kv_merge_range(kit->db, space, (kv_slice){0}, (kv_slice){0}, ERR);
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
        rc = kv_env_open(&options, &env, ERR);
    if (rc == KV_OK)
        rc = run(kit, env);
    kv_env_close(env);
    kv_status opened = kv_kit_open(kit);
    return rc < 0 ? rc : opened;
}

static kv_status run_check(struct kv_kit *kit, struct kv_env *env)
{
    return kv_check_with_key(env, kit->path, &kit->options.key, NULL, NULL, ERR);
}

static kv_status do_check(struct kv_kit *kit)
{
    return closed_for(kit, run_check);
}

static kv_status run_salvage(struct kv_kit *kit, struct kv_env *env)
{
    struct kv_salvage_report report;
    return kv_salvage(env, kit->path, &kit->options.key, &report, ERR);
}

static kv_status do_salvage(struct kv_kit *kit)
{
    return closed_for(kit, run_salvage);
}

static const struct failing_deed deeds[] = {
    {"get", do_get, false},         {"scans", do_scans, false},           {"measure", do_measure, false},
    {"records", do_records, false}, {"stream", do_stream, false},         {"export", do_export, false},
    {"archive", do_archive, false}, {"checkpoint", do_checkpoint, false}, {"flush", do_flush, false},
    {"merge", do_merge, false},     {"reopen", do_reopen, false},         {"check", do_check, false},
    {"salvage", do_salvage, false},
};

/* ---- failing */

static void kit_of_world(struct kv_kit *kit, struct kv_vfs *vfs)
{
    damage_world_kit(&world, kit, vfs);
}

static void sweep(bool encrypted, bool memory)
{
    struct failing_world start = {.files = &world.now, .kit = kit_of_world};
    damage_world_make(&world, encrypted, true);
    failing_sweep(&start, deeds, sizeof deeds / sizeof *deeds, memory);
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

Test(failing, any_operation_fails_and_nobody_asks_why, .timeout = 1200)
{
    quiet = true;
    sweep(true, false);
}
