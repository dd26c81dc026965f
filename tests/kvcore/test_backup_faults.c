/*
 * Backups on disks that fail (restores: test_target.c): every operation of source and repository in turn, power lost after every change, memory that runs out,
 * archives cut and changed, files of source and repository damaged. What must hold: older backups stay whole, what is not whole is said to
 * be so, and it works again once the disk does.
 */
#include "tests/support/backup_kit.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/sweep.h"
#include "tests/support/vfs_crash.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { TEXT = 400 };
#define FIRST  "a:log=2 table=1 b:other=3"
#define SECOND "a:log=2 more=4 b:other=3"

static void must(struct kv_kit *kit, kv_status rc)
{
    cr_assert_eq(rc, KV_OK, "%s: %s", kv_status_name(rc), kit->err.text);
}

static void fill(struct kv_kit *kit)
{
    kv_kit_put(kit, 0, "table", "1");
    must(kit, kv_flush(kit->db, &kit->err));
    kv_kit_put(kit, 0, "log", "2");
    kv_kit_put(kit, 1, "other", "3");
}

static void change(struct kv_kit *kit)
{
    kv_kit_delete(kit, 0, "table");
    kv_kit_put(kit, 0, "more", "4");
    must(kit, kv_flush(kit->db, &kit->err));
}

/* Restores backup `number` and compares. */
static void expect(struct kv_kit *kit, const struct kv_repository *repo, uint64_t number, const char *content,
                   const char *how)
{
    static int copies;
    char path[24], text[TEXT];
    struct kv_kit other;
    kv_kit_init(&other, NULL);
    snprintf(path, sizeof path, "copy%d", copies++);
    struct kv_repository there = *repo;
    if (!there.vfs)
        there.vfs = kit->vfs;
    kv_status rc = backup_restore(&other, &there, number, path);
    cr_assert_eq(rc, KV_OK, "%s: restoring %d: %s", how, (int)number, other.err.text);
    cr_assert_str_eq(backup_content_of(&other, path, text, sizeof text), content, "%s: backup %d", how,
                     (int)number);
    kv_kit_release(&other);
}

/* ---- the repository's disk fails */

/* Whether the fault fired. compression NONE and ZSTD by turns. */
static bool backup_with_fault(uint64_t nth, enum vfs_fault_kind kind, bool sticky,
                              enum kv_compression compression)
{
    struct kv_kit kit;
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    struct kv_repository repo = {.path = "backups", .vfs = vfs_fault_as_vfs(fault)};
    struct kv_backup_options options = {.repository = &repo, .keep = 2, .compression = compression};
    struct kv_backup_info info = {0};
    char how[80];
    snprintf(how, sizeof how, "operation %d, kind %d, sticky %d", (int)nth, (int)kind, sticky);
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    must(&kit, kv_backup(kit.db, &options, NULL, &kit.err));
    must(&kit, kv_backup(kit.db, &options, NULL, &kit.err));
    change(&kit);
    vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = nth, .kind = kind, .sticky = sticky});
    kit.err.text[0] = 0;
    kv_status rc = kv_backup(kit.db, &options, &info, &kit.err);
    bool fired = vfs_fault_fired(fault);
    vfs_fault_plan(fault, NULL);
    cr_assert(rc == KV_OK ? info.number == 3 : fired, "%s: %s", how, kit.err.text);
    cr_assert(rc == KV_OK || kit.err.text[0], "%s: a failure without a text", how);
    cr_assert_eq(backup_verify(&kit, &repo), KV_OK, "%s: %s", how, kit.err.text);
    expect(&kit, &repo, 2, FIRST, how);
    if (rc == KV_OK)
        expect(&kit, &repo, 3, SECOND, how);
    struct kv_vfs *crashed = kv_vfs_mem_crash_clone(disk);
    struct kv_repository after = {.path = "backups", .vfs = crashed};
    expect(&kit, &after, rc == KV_OK ? 3 : 2, rc == KV_OK ? SECOND : FIRST, how);
    must(&kit, kv_backup(kit.db, &options, &info, &kit.err)); /* the disk works again */
    expect(&kit, &repo, 0, SECOND, how);
    cr_assert_eq(backup_verify(&kit, &repo), KV_OK, "%s: %s", how, kit.err.text);
    kv_kit_release(&kit);
    kv_vfs_mem_free(crashed);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
    return fired;
}

static void sweep_faults(enum vfs_fault_kind kind, bool sticky)
{
    for (int compression = KV_COMPRESSION_ZSTD; compression <= KV_COMPRESSION_NONE; compression++)
        for (uint64_t nth = 1; backup_with_fault(nth, kind, sticky, (enum kv_compression)compression); nth++)
            ;
}

Test(backup_faults, any_operation_of_the_repository_fails_once, .timeout = 240)
{
    sweep_faults(VFS_FAULT_EIO, false);
    sweep_faults(VFS_FAULT_SHORT_EIO, false);
}

Test(backup_faults, any_operation_of_the_repository_and_all_after_it_fail, .timeout = 240)
{
    sweep_faults(VFS_FAULT_EIO, true);
}

Test(backup_faults, any_operation_of_the_repository_finds_the_disk_full, .timeout = 240)
{
    sweep_faults(VFS_FAULT_ENOSPC, true);
    sweep_faults(VFS_FAULT_SHORT_ENOSPC, false);
}

Test(backup_faults, any_sync_of_the_repository_fails, .timeout = 240)
{
    sweep_faults(VFS_FAULT_SYNC_KEEPS, false);
    sweep_faults(VFS_FAULT_SYNC_REVERTS, false);
}

Test(backup_faults, a_repository_without_room_says_so_before_it_begins)
{
    struct kv_kit kit;
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    struct kv_repository repo = {.path = "backups", .vfs = vfs_fault_as_vfs(fault)};
    struct kv_backup_options options = {.repository = &repo, .compression = KV_COMPRESSION_NONE};
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    vfs_fault_set_free_bytes(fault, 100);
    cr_assert_eq(kv_backup(kit.db, &options, NULL, &kit.err), KV_NO_SPACE);
    cr_assert(strstr(kit.err.text, "100 bytes free") != NULL, "%s", kit.err.text);
    vfs_fault_set_free_bytes(fault, UINT64_MAX);
    must(&kit, kv_backup(kit.db, &options, NULL, &kit.err));
    kv_kit_release(&kit);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
}

/* ---- the database's disk fails */

Test(backup_faults, any_operation_of_the_source_fails_and_the_database_goes_on, .timeout = 120)
{
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        struct kv_kit kit;
        struct kv_vfs *disk = kv_vfs_mem_new();
        struct kv_repository repo = {.path = "backups", .vfs = disk};
        char how[40];
        snprintf(how, sizeof how, "operation %d", (int)nth);
        kv_kit_init(&kit, NULL);
        struct vfs_fault *fault = vfs_fault_new(kit.own);
        kit.vfs = vfs_fault_as_vfs(fault);
        kv_kit_must_open(&kit);
        fill(&kit);
        must(&kit, backup_to(&kit, &repo, NULL));
        change(&kit);
        vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = nth});
        kv_status rc = backup_to(&kit, &repo, NULL);
        fired = vfs_fault_fired(fault);
        vfs_fault_plan(fault, NULL);
        cr_assert(fired || rc == KV_OK);
        expect(&kit, &repo, 1, FIRST, how);
        if (rc == KV_OK || kv_health(kit.db, NULL) == KV_OK) {
            must(&kit, backup_to(&kit, &repo, NULL));
            expect(&kit, &repo, 0, SECOND, how);
        }
        kv_kit_close(&kit);
        vfs_fault_free(fault);
        kv_kit_release(&kit);
        kv_vfs_mem_free(disk);
    }
}

/* ---- power is lost */

/* Three backups with keep 2 and a removal; which are there after so many changes? */
struct step {
    uint64_t done;
    uint64_t last; /* the newest backup that is there then */
};

static void check_crashed(struct kv_kit *kit, struct kv_vfs *disk, const struct step *steps, size_t n,
                          uint64_t ops, const char *how)
{
    static const char *const content[] = {"", FIRST, SECOND, SECOND};
    struct kv_repository repo = {.path = "backups", .vfs = disk};
    uint64_t last_min = 0;
    for (size_t i = 0; i < n; i++)
        if (steps[i].done < ops)
            last_min = steps[i].last;
    struct kv_restore_options what = {.repository = &repo};
    kv_status rc = kv_backup_verify(kit->env, &what, NULL, NULL, &kit->err);
    cr_assert(rc == KV_OK || (rc == KV_MISSING && last_min == 0), "%s: %s", how, kit->err.text);
    if (last_min)
        expect(kit, &repo, last_min, content[last_min], how);
    must(kit, backup_to(kit, &repo, NULL)); /* the next one clears what is left over */
    expect(kit, &repo, 0, SECOND, how);
}

static void sweep_power(enum vfs_crash_profile profile)
{
    struct kv_kit kit;
    struct vfs_crash *crash = vfs_crash_new();
    struct kv_repository repo = {.path = "backups", .vfs = vfs_crash_as_vfs(crash)};
    struct kv_backup_options options = {.repository = &repo, .keep = 2};
    struct step steps[4];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    must(&kit, kv_backup(kit.db, &options, NULL, &kit.err));
    steps[0] = (struct step){vfs_crash_ops(crash), 1};
    change(&kit);
    must(&kit, kv_backup(kit.db, &options, NULL, &kit.err));
    steps[1] = (struct step){vfs_crash_ops(crash), 2};
    must(&kit, kv_backup(kit.db, &options, NULL, &kit.err));
    steps[2] = (struct step){vfs_crash_ops(crash), 3};
    must(&kit, kv_backup_remove(kit.env, &repo, 2, &kit.err));
    steps[3] = (struct step){vfs_crash_ops(crash), 3};
    uint64_t n = vfs_crash_ops(crash);
    for (uint64_t ops = 0; ops <= n + 1; ops++)
        for (uint64_t seed = 0; seed < 4; seed++) {
            char how[64];
            uint64_t s = seed < 3 ? seed : 3 + ops;
            struct kv_vfs *disk = vfs_crash_at(crash, ops, s, profile);
            snprintf(how, sizeof how, "profile %d, %d changes, seed %d", (int)profile, (int)ops, (int)s);
            check_crashed(&kit, disk, steps, 4, ops, how);
            kv_vfs_mem_free(disk);
        }
    kv_kit_release(&kit);
    vfs_crash_free(crash);
}

Test(backup_faults, power_lost_after_any_change_of_the_repository, .timeout = 240)
{
    for (int profile = 0; profile < VFS_CRASH_PROFILES; profile++)
        sweep_power((enum vfs_crash_profile)profile);
}

/* Power is lost at the source while a backup is made: it recovers as ever, and what the backup got by then was durable. */
Test(backup_faults, power_lost_at_the_source_during_a_backup, .timeout = 240)
{
    struct vfs_crash *crash = vfs_crash_new();
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct kv_repository repo = {.path = "backups", .vfs = disk};
    struct kv_kit kit;
    kv_kit_init(&kit, vfs_crash_as_vfs(crash));
    kv_kit_must_open(&kit);
    fill(&kit);
    uint64_t before = vfs_crash_ops(crash);
    must(&kit, backup_to(&kit, &repo, NULL));
    uint64_t n = vfs_crash_ops(crash);
    for (uint64_t ops = before + 1; ops <= n + 1; ops++)
        for (uint64_t seed = 0; seed < 4; seed++) {
            struct kv_kit again;
            char text[TEXT];
            struct kv_vfs *found = vfs_crash_at(crash, ops, seed, VFS_CRASH_POSIX_MIN);
            kv_kit_init(&again, found);
            backup_content_of(&again, "db", text, sizeof text);
            cr_assert_str_eq(text, FIRST, "%d changes, seed %d", (int)ops, (int)seed);
            kv_kit_release(&again);
            kv_vfs_mem_free(found);
        }
    kv_kit_close(&kit);
    expect(&kit, &repo, 0, FIRST, "at the end");
    kv_kit_release(&kit);
    vfs_crash_free(crash);
    kv_vfs_mem_free(disk);
}

/* ---- memory runs out */

Test(backup_faults, any_allocation_fails, .timeout = 240)
{
    for (uint64_t nth = 1;; nth += nth < 400 ? 1 : sweep_stride(7)) {
        struct kv_kit kit;
        struct kv_repository repo = {.path = "backups"};
        struct backup_bytes archive = {0};
        struct kv_sink sink = backup_bytes_sink(&archive);
        struct kv_buf receipt = {0};
        struct kv_backup_options stream = {.archive = &sink, .receipt = &receipt};
        kv_kit_init(&kit, NULL);
        kv_kit_must_open(&kit);
        fill(&kit);
        must(&kit, backup_to(&kit, &repo, NULL));
        change(&kit);
        malloc_fault_arm(nth, false);
        kv_status rc[5];
        rc[0] = backup_to(&kit, &repo, NULL);
        rc[1] = kv_backup(kit.db, &stream, NULL, &kit.err);
        rc[2] = backup_restore(&kit, &repo, 1, "one");
        struct kv_source source = backup_bytes_source(&archive);
        struct kv_restore_options from = {.archives = &source, .n_archives = 1};
        rc[3] = rc[1] == KV_OK ? kv_restore(kit.env, "two", &from, NULL, &kit.err) : KV_OK;
        rc[4] = kv_backup_remove(kit.env, &repo, 1, &kit.err);
        bool fired = malloc_fault_disarm();
        for (int i = 0; i < 5; i++) /* the memory file system calls it a full or failing disk */
            cr_assert(rc[i] == KV_OK ||
                          (fired && (rc[i] == KV_NO_MEMORY || rc[i] == KV_NO_SPACE || rc[i] == KV_IO)),
                      "allocation %d: step %d: %s: %s", (int)nth, i, kv_status_name(rc[i]), kit.err.text);
        cr_assert(kv_kit_is(&kit, NULL, 0, "more", "4"));
        cr_assert_eq(backup_verify(&kit, &repo), KV_OK, "allocation %d: %s", (int)nth, kit.err.text);
        if (rc[4] < 0)
            expect(&kit, &repo, 1, FIRST, "after out of memory");
        must(&kit, backup_to(&kit, &repo, NULL));
        expect(&kit, &repo, 0, SECOND, "after out of memory");
        kv_buf_release(&receipt);
        backup_bytes_release(&archive);
        kv_kit_release(&kit);
        if (!fired)
            break;
    }
}

/* ---- archives cut and changed */

static void make_archive(struct kv_kit *kit, struct backup_bytes *archive)
{
    struct kv_sink sink = backup_bytes_sink(archive);
    kv_kit_init(kit, NULL);
    kv_kit_must_open(kit);
    fill(kit);
    must(kit, kv_backup(kit->db, &(struct kv_backup_options){.archive = &sink}, NULL, &kit->err));
    kv_kit_close(kit);
}

static kv_status verify_archive(struct kv_env *env, struct backup_bytes *archive, struct kv_err *err)
{
    struct kv_source source = backup_bytes_source(archive);
    struct kv_restore_options from = {.archives = &source, .n_archives = 1};
    return kv_backup_verify(env, &from, NULL, NULL, err);
}

Test(backup_faults, an_archive_cut_at_any_byte_is_none, .timeout = 120)
{
    struct kv_kit kit;
    struct backup_bytes archive = {0};
    make_archive(&kit, &archive);
    struct kv_env *env = backup_env(&kit);
    size_t len = archive.bytes.len;
    for (archive.bytes.len = 0; archive.bytes.len < len; archive.bytes.len++) {
        kv_status rc = verify_archive(env, &archive, &kit.err);
        cr_assert_eq(rc, KV_CORRUPT, "cut to %d of %d: %s", (int)archive.bytes.len, (int)len,
                     kv_status_name(rc));
        cr_assert(archive.bytes.len < 128 || strstr(kit.err.text, "offset") != NULL, "%s", kit.err.text);
    }
    must(&kit, verify_archive(env, &archive, &kit.err));
    must(&kit, kv_buf_append_byte(&archive.bytes, 0));
    cr_assert_eq(verify_archive(env, &archive, &kit.err), KV_CORRUPT);
    kv_env_close(env);
    backup_bytes_release(&archive);
    kv_kit_release(&kit);
}

Test(backup_faults, any_flipped_bit_of_an_archive_is_found, .timeout = 240)
{
    struct kv_kit kit;
    struct backup_bytes archive = {0};
    make_archive(&kit, &archive);
    struct kv_env *env = backup_env(&kit);
    uint64_t stride = sweep_stride(3);
    for (size_t bit = 0; bit < archive.bytes.len * 8; bit += stride) {
        archive.bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        kv_status rc = verify_archive(env, &archive, &kit.err);
        cr_assert(rc == KV_CORRUPT || rc == KV_TOO_NEW, "bit %d: %s", (int)bit, kv_status_name(rc));
        archive.bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    must(&kit, verify_archive(env, &archive, &kit.err));
    kv_env_close(env);
    backup_bytes_release(&archive);
    kv_kit_release(&kit);
}

Test(backup_faults, a_sink_that_fails_ends_the_backup_and_is_told)
{
    struct kv_kit kit;
    struct backup_bytes archive = {0};
    make_archive(&kit, &archive);
    size_t len = archive.bytes.len;
    kv_kit_must_open(&kit);
    for (size_t at = 1; at < len; at += 97) {
        struct kv_sink sink = backup_bytes_sink(&archive);
        archive.bytes.len = 0;
        archive.fail_at = at;
        cr_assert_eq(kv_backup(kit.db, &(struct kv_backup_options){.archive = &sink}, NULL, &kit.err),
                     KV_NO_SPACE);
        cr_assert_str_eq(kit.err.text, "the archive is full");
    }
    backup_bytes_release(&archive);
    kv_kit_release(&kit);
}

/* ---- files are damaged */

/* A copy of a directory with one file's byte changed (at SIZE_MAX: cut by one). */
struct damage {
    struct kv_vfs *vfs;
    const char *path;
    const char *suffix; /* the first file that ends so */
    char name[65];
};

static kv_status find_file(void *ctx, const char *name, uint64_t bytes)
{
    struct damage *d = ctx;
    size_t len = strlen(name), suffix = strlen(d->suffix);
    (void)bytes;
    if (!d->name[0] && len >= suffix && strcmp(name + len - suffix, d->suffix) == 0)
        snprintf(d->name, sizeof d->name, "%s", name);
    return KV_OK;
}

/* Writes the file anew with the byte at `at` changed. Answers whether there was one. */
static bool damage_file(struct damage *d, size_t at, bool cut)
{
    struct kv_dir *dir = NULL;
    struct kv_file *file = NULL;
    struct kv_buf bytes = {0};
    uint64_t size = 0;
    cr_assert_eq(kv_vfs_dir_open(d->vfs, d->path, false, &dir, NULL), KV_OK);
    cr_assert_eq(dir->ops->list(dir, find_file, d, NULL), KV_OK);
    cr_assert(d->name[0], "no file %s", d->suffix);
    cr_assert_eq(kv_dir_open_file(dir, d->name, &file, NULL), KV_OK);
    cr_assert_eq(kv_file_size(file, &size, NULL), KV_OK);
    cr_assert_eq(kv_file_read_exact(file, 0, (size_t)size, kv_buf_extend(&bytes, (size_t)size), NULL), KV_OK);
    kv_file_close(file);
    bool there = at < size;
    if (there) {
        if (cut)
            bytes.len = at;
        else
            bytes.data[at] ^= 0x40;
        cr_assert_eq(kv_dir_remove(dir, d->name, NULL), KV_OK);
        cr_assert_eq(kv_dir_create(dir, d->name, &file, NULL), KV_OK);
        cr_assert_eq(kv_file_append(file, 0, kv_buf_slice(&bytes), NULL), KV_OK);
        cr_assert_eq(kv_file_sync(file, NULL), KV_OK);
        kv_file_close(file);
        cr_assert_eq(kv_dir_sync_names(dir, NULL), KV_OK);
    }
    kv_buf_release(&bytes);
    kv_dir_close(dir);
    return there;
}

/* The database is open while its file rots: a backup must not carry that on. */
static void source_damage(const char *suffix)
{
    bool there = true;
    for (size_t at = 0; there; at += sweep_stride(3)) {
        struct kv_kit kit;
        struct kv_repository repo = {.path = "backups"};
        kv_kit_init(&kit, NULL);
        struct damage d = {kit.own, "db", suffix, ""};
        kv_kit_must_open(&kit);
        fill(&kit);
        must(&kit, kv_flush(kit.db, &kit.err));
        kv_kit_put(&kit, 0, "sealed", "5");
        must(&kit, kv_checkpoint(kit.db, "roll", &kit.err)); /* seals the log file */
        kv_kit_put(&kit, 0, "later", "6");
        must(&kit, kv_checkpoint(kit.db, "roll2", &kit.err));
        there = damage_file(&d, at, false);
        if (there) {
            cr_assert_eq(backup_to(&kit, &repo, NULL), KV_CORRUPT, "%s, byte %d", d.name, (int)at);
            cr_assert(strstr(kit.err.text, d.name) != NULL, "%s", kit.err.text);
            damage_file(&d, at, false); /* it is as it was */
        }
        must(&kit, backup_to(&kit, &repo, NULL));
        kv_kit_release(&kit);
    }
}

Test(backup_faults, a_damaged_table_is_not_backed_up, .timeout = 240)
{
    source_damage(".tbl");
}

Test(backup_faults, a_damaged_log_file_is_not_backed_up, .timeout = 240)
{
    source_damage(".log");
}

/* Any damage to a file of a repository is found by verify and restore, and named. */
static void repository_damage(const char *suffix, enum kv_compression compression, bool cut)
{
    bool there = true;
    for (size_t at = 0; there; at += sweep_stride(5)) {
        struct kv_kit kit;
        struct kv_repository repo = {.path = "backups"};
        struct kv_backup_options options = {.repository = &repo, .compression = compression};
        kv_kit_init(&kit, NULL);
        struct damage d = {kit.own, "backups", suffix, ""};
        kv_kit_must_open(&kit);
        fill(&kit);
        must(&kit, kv_backup(kit.db, &options, NULL, &kit.err));
        there = damage_file(&d, at, cut);
        if (there) {
            kv_status rc = backup_verify(&kit, &repo);
            cr_assert(rc == KV_CORRUPT || rc == KV_TOO_NEW, "%s, byte %d: %s", d.name, (int)at,
                      kv_status_name(rc));
            cr_assert(strstr(kit.err.text, d.name) != NULL, "%s: %s", d.name, kit.err.text);
            rc = backup_restore(&kit, &repo, 1, "copy");
            cr_assert(rc == KV_CORRUPT || rc == KV_TOO_NEW, "%s, byte %d: %s", d.name, (int)at,
                      kv_status_name(rc));
            kit.path = "copy";
        }
        kv_kit_release(&kit);
    }
}

Test(backup_faults, damage_to_any_file_of_a_repository_is_found, .timeout = 240)
{
    repository_damage(".bak", KV_COMPRESSION_ZSTD, false);
    repository_damage(".cat", KV_COMPRESSION_ZSTD, false);
    repository_damage(".pack", KV_COMPRESSION_ZSTD, false);
    repository_damage(".copy", KV_COMPRESSION_NONE, false);
}

Test(backup_faults, a_file_of_a_repository_cut_short_is_found, .timeout = 240)
{
    repository_damage(".bak", KV_COMPRESSION_ZSTD, true);
    repository_damage(".cat", KV_COMPRESSION_ZSTD, true);
    repository_damage(".pack", KV_COMPRESSION_ZSTD, true);
    repository_damage(".copy", KV_COMPRESSION_NONE, true);
}

Test(backup_faults, a_backup_with_a_damaged_manifest_stops_the_next_until_it_is_removed)
{
    struct kv_kit kit;
    struct kv_repository repo = {.path = "backups"};
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    must(&kit, backup_to(&kit, &repo, NULL));
    change(&kit);
    must(&kit, backup_to(&kit, &repo, NULL));
    struct damage d = {kit.own, "backups", "000001.bak", ""};
    damage_file(&d, 200, false);
    cr_assert_eq(backup_to(&kit, &repo, NULL), KV_CORRUPT);
    cr_assert(strstr(kit.err.text, "000001.bak") != NULL, "%s", kit.err.text);
    expect(&kit, &repo, 2, SECOND, "the other one");
    must(&kit, kv_backup_remove(kit.env, &repo, 1, &kit.err));
    must(&kit, backup_to(&kit, &repo, NULL));
    expect(&kit, &repo, 3, SECOND, "the next one");
    kv_kit_release(&kit);
}

Test(backup_faults, a_copy_that_was_lost_or_cut_is_made_again)
{
    struct kv_kit kit;
    struct kv_repository repo = {.path = "backups"};
    struct kv_backup_info info;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    must(&kit, backup_to(&kit, &repo, NULL));
    struct damage d = {kit.own, "backups", ".pack", ""};
    damage_file(&d, 150, true);
    cr_assert_eq(backup_verify(&kit, &repo), KV_CORRUPT);
    must(&kit, backup_to(&kit, &repo, &info));
    cr_assert_eq(info.added_files, 2); /* and its manifest */
    must(&kit, backup_verify(&kit, &repo));
    expect(&kit, &repo, 1, FIRST, "healed");
    kv_kit_release(&kit);
}
