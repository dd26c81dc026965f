/*
 * kv_repair when something else fails: power is lost after each of its changes, in each profile; each operation on the disk fails, and
 * each allocation. Repaired again, the database is what it would have become at once; and a repair that answers KV_OK has made it that.
 */
#include "tests/support/fault_arm.h"
#include "tests/support/file_kit.h"
#include "tests/support/kv_kit.h"
#include "tests/support/sweep.h"
#include "tests/support/vfs_crash.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { TEXT = 16384, LARGE = 700 };

static const uint8_t master[KV_MASTER_KEY_LEN] = "the master key of what is mended";
static bool encrypted;

static void kit_make(struct kv_kit *kit, struct kv_vfs *vfs)
{
    kv_kit_init(kit, vfs);
    kit->spaces[0].style = KV_STYLE_LEVELLED;
    kit->spaces[0].value_separate_bytes = 64;
    kit->spaces[0].block_bytes = 512;
    kit->spaces[1].compression = KV_COMPRESSION_NONE;
    kit->options.large_value_bytes = 256;
    if (encrypted)
        kit->options.key.master_key = master;
}

/* ---- a damaged database */

static void put_large(struct kv_kit *kit, const char *key)
{
    struct kv_value_writer *writer = NULL;
    struct kv_batch *batch = NULL;
    char value[LARGE];
    memset(value, key[1], sizeof value);
    cr_assert_eq(kv_value_writer_open(kit->db, 0, &writer, &kit->err), KV_OK);
    cr_assert_eq(kv_value_writer_append(writer, kv_slice_of(value, sizeof value), &kit->err), KV_OK);
    cr_assert_eq(kv_value_writer_finish(writer, &kit->err), KV_OK);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put_value(batch, 0, kv_slice_str(key), writer, NULL), KV_OK);
    cr_assert_eq(kv_commit(kit->db, batch, NULL, NULL, &kit->err), KV_OK);
    kv_batch_free(batch);
    kv_value_writer_free(writer);
}

static void put_round(struct kv_kit *kit, int round)
{
    char key[16], value[200];
    for (int i = round; i < 20; i += round + 1) {
        snprintf(key, sizeof key, "k%02d", i);
        snprintf(value, sizeof value, "%d.%d", round, i);
        if (i % 3 == 0)
            memset(value + strlen(value), '-', sizeof value - 1 - strlen(value));
        value[i % 3 == 0 ? 90 : strlen(value)] = 0;
        kv_kit_put(kit, 0, key, value);
        kv_kit_put(kit, 1, key, value);
    }
}

static void fill(struct kv_kit *kit)
{
    static const char *const loaded[] = {"k10", "k11", "x1"};
    kv_kit_must_open(kit);
    for (int round = 0; round < 3; round++) {
        put_round(kit, round);
        kv_kit_delete(kit, 0, "k05");
        cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
    }
    kv_kit_bulk(kit, 1, loaded, 3, "loaded", 0);
    kv_kit_put(kit, 0, "k12", "before the large one");
    put_large(kit, "l1");
    kv_kit_put(kit, 0, "l2", "of before");
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
    put_round(kit, 2);
    put_large(kit, "l2");
    put_large(kit, "l3");
    kv_kit_put(kit, 1, "k11", "after the load");
}

/* The name at `at` of those that end so; negative: from the end. */
static void name_at(struct kv_vfs *vfs, const char *suffix, int at, char out[32])
{
    struct kv_buf names = {0};
    int n = (int)file_kit_list(vfs, "db", suffix, &names);
    const char *name = (char *)names.data;
    cr_assert(at < n && -at <= n, "%d %s", n, suffix);
    for (int i = at < 0 ? n + at : at; i > 0; i--)
        name += strlen(name) + 1;
    snprintf(out, 32, "%s", name);
    kv_buf_release(&names);
}

static void flip(struct kv_vfs *vfs, const char *suffix, int at, int64_t offset)
{
    char name[32];
    name_at(vfs, suffix, at, name);
    uint64_t size = file_kit_size(vfs, "db", name);
    file_kit_flip(vfs, "db", name, offset < 0 ? size - (uint64_t)-offset : (uint64_t)offset);
}

/* What is damaged: a block of a table, the segment of a large value that the log alone names, a record of the log. Or its manifest is
 * lost, and with it the footer of a table. */
enum world { FILES, MANIFEST, LOGGED_VALUE, WORLDS };

static struct kv_vfs *world_make(enum world world)
{
    struct kv_kit kit;
    char name[32];
    kit_make(&kit, NULL);
    fill(&kit);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    struct kv_vfs *disk = kv_vfs_mem_crash_clone(kit.own);
    if (world == MANIFEST) {
        name_at(disk, ".man", 0, name);
        file_kit_remove(disk, "db", name);
        flip(disk, ".tbl", 0, -20);
    } else {
        flip(disk, ".vlg", -2, -10);
    }
    if (world == FILES) {
        flip(disk, ".tbl", 1, 136);
        flip(disk, ".log", 0, 600);
    }
    kv_kit_release(&kit);
    return disk;
}

/* ---- repairing */

static void keep_line(void *ctx, kv_status severity, const char *line)
{
    char *text = ctx;
    size_t n = strlen(text);
    snprintf(text + n, TEXT - n, "%s %s\n", severity < 0 ? "!" : " ", line);
}

static kv_status repair(struct kv_kit *kit, struct kv_repair_report *report, char *lines)
{
    struct kv_env_options how = {.vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    struct kv_repair_options options = {.spaces = kit->spaces,
                                        .n_spaces = kit->options.n_spaces,
                                        .key = kit->options.key,
                                        .each = keep_line,
                                        .ctx = lines};
    struct kv_env *env = NULL;
    lines[0] = 0;
    kv_status rc = kv_env_open(&how, &env, &kit->err);
    if (rc == KV_OK)
        rc = kv_repair(env, kit->path, &options, report, &kit->err);
    kv_env_close(env);
    return rc;
}

static void contents(struct kv_kit *kit, char *out)
{
    out[0] = 0;
    kv_kit_must_open(kit);
    for (uint32_t space = 0; space < 2; space++) {
        snprintf(out + strlen(out), TEXT - strlen(out), "/%u ", space);
        kv_kit_scan(kit, NULL, space, "", "", out + strlen(out), TEXT - strlen(out));
    }
    cr_assert_eq(kv_kit_metric(kit, "kv_damaged_files"), 0);
    cr_assert_eq(kv_kit_close(kit), KV_OK);
}

/* Of a healthy disk: repairs, and reads what there is then, twice. */
static void settle(struct kv_vfs *disk, struct kv_repair_report *report, char *out, const char *how)
{
    struct kv_kit kit;
    struct kv_repair_report again;
    static char lines[TEXT], second[TEXT];
    kit_make(&kit, disk);
    kv_status rc = repair(&kit, report, lines);
    cr_assert_eq(rc, KV_OK, "%s: %s\n%s", how, kit.err.text, lines);
    rc = repair(&kit, &again, second);
    cr_assert(rc == KV_OK && again.findings == 0, "%s, again: %s\n%s", how, kit.err.text, second);
    contents(&kit, out);
    contents(&kit, second);
    cr_assert_str_eq(second, out, "%s, opened again", how);
    kv_kit_release(&kit);
}

static char expect[TEXT];

static void begin(enum world world)
{
    struct kv_repair_report report;
    struct kv_vfs *disk = world_make(world);
    settle(disk, &report, expect, "nothing fails");
    cr_assert_eq(report.manifest_rebuilt, world == MANIFEST);
    kv_vfs_mem_free(disk);
}

/* What a repair that something ended, or nothing did, has left. */
static void judge(struct kv_vfs *disk, kv_status rc, const char *how)
{
    static char found[TEXT];
    struct kv_repair_report report;
    struct kv_kit kit;
    if (rc == KV_OK) {
        struct kv_vfs *copy = kv_vfs_mem_crash_clone(disk);
        kit_make(&kit, copy);
        contents(&kit, found);
        cr_assert_str_eq(found, expect, "%s", how);
        kv_kit_release(&kit);
        kv_vfs_mem_free(copy);
    }
    struct kv_vfs *power_lost = kv_vfs_mem_crash_clone(disk);
    settle(disk, &report, found, how);
    cr_assert_str_eq(found, expect, "%s", how);
    settle(power_lost, &report, found, how);
    cr_assert_str_eq(found, expect, "%s, power lost", how);
    kv_vfs_mem_free(power_lost);
}

/* ---- what it costs, without a failure */

Test(repair_sweep, a_large_value_that_the_log_names_is_lost_with_its_segment_and_nothing_else_is)
{
    for (int enc = 0; enc < 2; enc++)
        for (int way = 0; way < 3; way++) {
            struct kv_repair_report report;
            struct kv_kit kit;
            char name[32], lines[TEXT];
            encrypted = enc;
            kit_make(&kit, NULL);
            fill(&kit);
            cr_assert_eq(kv_kit_close(&kit), KV_OK);
            name_at(kit.own, ".vlg", -2, name);
            if (way == 2)
                file_kit_remove(kit.own, "db", name);
            else
                flip(kit.own, ".vlg", -2, way ? -10 : 200); /* its index; in the middle of it */
            kv_kit_must_open(&kit);
            struct kv_pinned found;
            cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("l2"), &found, &kit.err), KV_CORRUPT);
            cr_assert(strstr(kit.err.text, name), "%s", kit.err.text);
            cr_assert_eq(kv_kit_close(&kit), KV_OK);
            settle(kit.own, &report, expect, "nothing fails");
            cr_assert(report.values_lost == 1 && report.commits_lost == 0 && !report.manifest_rebuilt);
            cr_assert_eq(file_kit_has(kit.own, "db.damaged", name), way < 2);
            kv_kit_must_open(&kit);
            cr_assert(kv_kit_is(&kit, NULL, 0, "l2", NULL), "and nothing older is there");
            cr_assert(kv_kit_is(&kit, NULL, 1, "k11", "after the load"));
            cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("l3"), &found, &kit.err), KV_OK);
            cr_assert_eq(found.value.len, LARGE);
            kv_pinned_release(&found);
            cr_assert_eq(repair(&kit, &report, lines), KV_BUSY);
            kv_kit_release(&kit);
        }
}

/* ---- power is lost */

static void lose_power(enum world world, enum vfs_crash_profile profile, uint64_t stride)
{
    static const char *const paths[] = {"db", NULL};
    static char lines[TEXT];
    struct kv_repair_report report;
    struct kv_kit kit;
    struct kv_vfs *disk = world_make(world);
    struct vfs_crash *crash = vfs_crash_new_from(disk, paths);
    kit_make(&kit, vfs_crash_as_vfs(crash));
    cr_assert_eq(repair(&kit, &report, lines), KV_OK, "%s", kit.err.text);
    kv_kit_release(&kit);
    for (uint64_t k = 0; k <= vfs_crash_ops(crash) + 1; k += stride)
        for (uint64_t seed = 0; seed < 5; seed++) {
            char how[96], found[TEXT];
            struct kv_vfs *left = vfs_crash_at(crash, k, seed < 3 ? seed : 3 + 2 * k + seed, profile);
            snprintf(how, sizeof how, "world %d, profile %d, %d changes, seed %d", (int)world, (int)profile,
                     (int)k, (int)seed);
            settle(left, &report, found, how);
            cr_assert_str_eq(found, expect, "%s", how);
            kv_vfs_mem_free(left);
        }
    vfs_crash_free(crash);
    kv_vfs_mem_free(disk);
}

static void lose_power_everywhere(void)
{
    for (int world = 0; world < WORLDS; world++) {
        if (encrypted && world == MANIFEST)
            continue; /* its keys are lost with it */
        begin((enum world)world);
        for (int profile = 0; profile < VFS_CRASH_PROFILES; profile++)
            lose_power((enum world)world, (enum vfs_crash_profile)profile, sweep_stride(7));
    }
}

Test(repair_sweep, power_lost_after_any_change, .timeout = 1200)
{
    lose_power_everywhere();
}

Test(repair_sweep, power_lost_after_any_change_under_encryption, .timeout = 1200)
{
    encrypted = true;
    lose_power_everywhere();
}

/* ---- the disk fails, memory runs out */

static const struct vfs_fault_plan plans[] = {
    {.kind = VFS_FAULT_EIO},
    {.kind = VFS_FAULT_EIO, .sticky = true},
    {.kind = VFS_FAULT_SHORT_EIO, .ops = VFS_OP_APPEND},
    {.kind = VFS_FAULT_SHORT_ENOSPC, .ops = ~(uint32_t)(VFS_OP_READ | VFS_OP_SIZE | VFS_OP_OPEN)},
    {.kind = VFS_FAULT_ENOSPC, .ops = ~(uint32_t)(VFS_OP_READ | VFS_OP_SIZE | VFS_OP_OPEN), .sticky = true},
    {.kind = VFS_FAULT_SYNC_KEEPS},
    {.kind = VFS_FAULT_SYNC_KEEPS, .sticky = true},
    {.kind = VFS_FAULT_SYNC_REVERTS},
    {.kind = VFS_FAULT_SYNC_CLOSE},
};

/* One repair in which an operation (allocation, plan NULL) fails: the next place of sites that has not failed, or the nth of all. */
static bool one(struct kv_vfs *world, struct fault_sites *sites, uint64_t nth,
                const struct vfs_fault_plan *plan)
{
    static char lines[TEXT];
    char how[96];
    struct kv_kit kit;
    struct kv_repair_report report;
    struct kv_vfs *disk = kv_vfs_mem_crash_clone(world);
    struct vfs_fault *fault = vfs_fault_new(disk);
    kit_make(&kit, vfs_fault_as_vfs(fault));
    fault_arm(fault, plan, sites, nth);
    kv_status rc = repair(&kit, &report, lines);
    bool fired = fault_disarm(fault, plan);
    fault_text(plan, nth, how);
    cr_assert(rc == KV_OK || fired, "%s: %s", how, kit.err.text);
    cr_assert(rc == KV_OK || rc == KV_IO || rc == KV_NO_SPACE || rc == KV_UNKNOWN_OUTCOME ||
                  (!plan && rc == KV_NO_MEMORY),
              "%s: %s: %s", how, kv_status_name(rc), kit.err.text);
    kv_kit_release(&kit);
    judge(disk, rc, how);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
    return fired;
}

/* stride 0: place by place; else every few by number, for each is judged by several repairs. */
static void fail(bool memory, uint64_t stride)
{
    for (int world = 0; world < WORLDS; world++) {
        if (encrypted && world == MANIFEST)
            continue;
        begin((enum world)world);
        struct kv_vfs *disk = world_make((enum world)world);
        for (size_t i = 0; i < (memory ? 1 : sizeof plans / sizeof *plans); i++) {
            struct fault_sites *sites = stride || sweep_all() ? NULL : fault_sites_new();
            for (uint64_t nth = 1; one(disk, sites, nth, memory ? NULL : &plans[i]);
                 nth += sites ? 1 : sweep_stride(stride))
                cr_assert_lt(nth, 100000);
            fault_sites_free(sites);
        }
        kv_vfs_mem_free(disk);
    }
}

Test(repair_sweep, any_operation_fails, .timeout = 3000)
{
    fail(false, 17);
}

Test(repair_sweep, any_operation_fails_under_encryption, .timeout = 3000)
{
    encrypted = true;
    fail(false, 29);
}

Test(repair_sweep, any_allocation_fails, .timeout = 3000)
{
    fail(true, 0);
}

Test(repair_sweep, any_allocation_fails_under_encryption, .timeout = 3000)
{
    encrypted = true;
    fail(true, 53);
}
