/*
 * Restores and checkpoints cut short: by any operation of the target's disk that fails, and by power lost after any change. What is
 * found then is nothing, a directory that everybody refuses with what to do, or all of it; and the next try makes a database of it.
 */
#include "kvcore/db/keys.h"
#include "kvcore/db/salvage.h"
#include "kvcore/db/target.h"
#include "tests/support/backup_kit.h"
#include "tests/support/vfs_crash.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { TEXT = 400, HOW = 80 };
#define CONTENT "a:log=2 table=1 b:other=3"

/* A database "db" on a disk of its own, with a backup in "backups". */
struct source {
    struct kv_kit kit;
    struct kv_repository repo;
};

static void must(const struct kv_kit *kit, kv_status rc)
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

static void source_make(struct source *source)
{
    kv_kit_init(&source->kit, NULL);
    kv_kit_must_open(&source->kit);
    fill(&source->kit);
    source->repo = (struct kv_repository){.path = "backups", .vfs = source->kit.own};
    must(&source->kit, backup_to(&source->kit, &source->repo, NULL));
}

static void source_release(struct source *source)
{
    kv_kit_release(&source->kit);
}

/* ---- what is found */

enum found { NOTHING, MARKED, COMPLETE, FOUND_KINDS };

static void expect_refused(struct kv_kit *kit, kv_status rc, const char *what, const char *how)
{
    cr_assert_eq(rc, KV_INVALID, "%s: %s: %s", how, what, kv_status_name(rc));
    cr_assert(strstr(kit->err.text, "copy") && strstr(kit->err.text, KV_TARGET_MARK) &&
                  strstr(kit->err.text, "run that again, or remove the directory"),
              "%s: %s: %s", how, what, kit->err.text);
}

static void refused_by_all(struct kv_kit *kit, const char *how)
{
    struct kv_env *env = backup_env(kit);
    struct kv_repair_report repaired;
    struct kv_salvage_report salvaged;
    const uint8_t key[KV_MASTER_KEY_LEN] = {1};
    expect_refused(kit, kv_check(env, "copy", NULL, NULL, &kit->err), "check", how);
    expect_refused(kit, kv_repair(env, "copy", NULL, &repaired, &kit->err), "repair", how);
    expect_refused(kit, kv_salvage(env, "copy", NULL, &salvaged, &kit->err), "salvage", how);
    expect_refused(kit, kv_rotate_closed(env, "copy", NULL, key, &kit->err), "rotate", how);
    kv_env_close(env);
    kit->options.must_exist = false;
    expect_refused(kit, kv_kit_open(kit), "open", how);
    kit->options.read_only = true;
    expect_refused(kit, kv_kit_open(kit), "read-only", how);
    kit->options.follow = true;
    expect_refused(kit, kv_kit_open(kit), "follow", how);
    kit->options.read_only = kit->options.follow = false;
}

static enum found look(struct kv_kit *kit, const char *how)
{
    char text[TEXT];
    enum found found = COMPLETE;
    kit->path = "copy";
    kit->options.must_exist = true;
    kv_status rc = kv_kit_open(kit);
    if (rc == KV_MISSING) {
        found = NOTHING;
    } else if (rc == KV_INVALID) {
        found = MARKED;
        refused_by_all(kit, how);
    } else {
        cr_assert_eq(rc, KV_OK, "%s: %s", how, kit->err.text);
        cr_assert_str_eq(backup_content(kit, text, sizeof text), CONTENT, "%s", how);
    }
    kv_kit_close(kit);
    kit->options.must_exist = false;
    if (found == COMPLETE)
        backup_check(kit, "copy");
    return found;
}

/* A restore into what was found makes the database, unless it is there. */
static enum found look_and_restore(struct kv_kit *kit, const struct kv_repository *repo, const char *how)
{
    char text[TEXT];
    enum found found = look(kit, how);
    kv_status rc = backup_restore(kit, repo, 0, "copy");
    cr_assert_eq(rc, found == COMPLETE ? KV_EXISTS : KV_OK, "%s: %s: %s", how, kv_status_name(rc),
                 kit->err.text);
    cr_assert_str_eq(backup_content_of(kit, "copy", text, sizeof text), CONTENT, "%s", how);
    backup_check(kit, "copy");
    return found;
}

static void crashed_restore(struct kv_vfs *disk, const struct kv_repository *repo, const char *how,
                            uint64_t seen[FOUND_KINDS])
{
    struct kv_kit kit;
    kv_kit_init(&kit, disk);
    seen[look_and_restore(&kit, repo, how)]++;
    kv_kit_release(&kit);
}

/* ---- operations fail */

static bool restore_with_fault(const struct kv_repository *repo, uint64_t nth, enum vfs_fault_kind kind,
                               bool sticky, uint64_t seen[FOUND_KINDS])
{
    struct kv_kit kit;
    char how[HOW];
    snprintf(how, sizeof how, "operation %d, kind %d, sticky %d", (int)nth, (int)kind, sticky);
    kv_kit_init(&kit, NULL);
    struct vfs_fault *fault = vfs_fault_new(kit.own);
    kit.vfs = vfs_fault_as_vfs(fault);
    vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = nth, .kind = kind, .sticky = sticky});
    kit.err.text[0] = 0;
    kv_status rc = backup_restore(&kit, repo, 0, "copy");
    bool fired = vfs_fault_fired(fault);
    vfs_fault_plan(fault, NULL);
    cr_assert(rc == KV_OK || (fired && kit.err.text[0]), "%s: %s", how, kit.err.text);
    struct kv_vfs *crashed = kv_vfs_mem_crash_clone(kit.own);
    crashed_restore(crashed, repo, how, seen);
    enum found found = look_and_restore(&kit, repo, how);
    cr_assert(rc < 0 || found == COMPLETE, "%s", how);
    seen[found]++;
    kv_vfs_mem_free(crashed);
    kv_kit_close(&kit);
    vfs_fault_free(fault);
    kv_kit_release(&kit);
    return fired;
}

Test(target, any_operation_of_a_restore_fails_and_the_next_one_succeeds, .timeout = 240)
{
    static const struct {
        enum vfs_fault_kind kind;
        bool sticky;
    } cases[] = {{VFS_FAULT_EIO, false},        {VFS_FAULT_EIO, true},
                 {VFS_FAULT_ENOSPC, true},      {VFS_FAULT_SHORT_EIO, false},
                 {VFS_FAULT_SYNC_KEEPS, false}, {VFS_FAULT_SYNC_REVERTS, false}};
    struct source source;
    uint64_t seen[FOUND_KINDS] = {0};
    source_make(&source);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint64_t nth = 1; restore_with_fault(&source.repo, nth, cases[i].kind, cases[i].sticky, seen);
             nth++)
            ;
    cr_assert(seen[NOTHING] && seen[MARKED] && seen[COMPLETE]);
    source_release(&source);
}

Test(target, any_operation_of_a_checkpoint_fails_and_the_next_one_succeeds, .timeout = 240)
{
    bool fired = true;
    uint64_t seen[FOUND_KINDS] = {0};
    for (uint64_t nth = 1; fired; nth++) {
        struct kv_kit kit, other;
        char how[HOW];
        snprintf(how, sizeof how, "operation %d", (int)nth);
        kv_kit_init(&kit, NULL);
        struct vfs_fault *fault = vfs_fault_new(kit.own);
        kit.vfs = vfs_fault_as_vfs(fault);
        kv_kit_must_open(&kit);
        fill(&kit);
        vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = nth});
        kv_status rc = kv_checkpoint(kit.db, "copy", &kit.err);
        fired = vfs_fault_fired(fault);
        vfs_fault_plan(fault, NULL);
        cr_assert(fired || rc == KV_OK);
        cr_assert(kv_kit_is(&kit, NULL, 0, "log", "2"));
        kv_kit_init(&other, kit.own);
        enum found found = look(&other, how);
        seen[found]++;
        cr_assert(rc < 0 || found == COMPLETE, "%s", how);
        if (rc < 0 && kv_health(kit.db, NULL) == KV_OK) {
            rc = kv_checkpoint(kit.db, "copy", &kit.err);
            cr_assert_eq(rc, found == COMPLETE ? KV_EXISTS : KV_OK, "%s: %s", how, kit.err.text);
            cr_assert_eq(look(&other, how), COMPLETE, "%s", how);
        }
        kv_kit_release(&other);
        kv_kit_close(&kit);
        vfs_fault_free(fault);
        kv_kit_release(&kit);
    }
    cr_assert(seen[NOTHING] && seen[MARKED] && seen[COMPLETE]);
}

/* ---- power is lost */

/* Cancels once the second file has begun. */
static kv_status cancel(void *ctx, const struct kv_progress *progress)
{
    (void)ctx;
    return progress->files_done > 0 ? KV_CANCELED : KV_OK;
}

static void restore_canceled(struct kv_kit *kit, const struct kv_repository *repo)
{
    struct kv_restore_options options = {.repository = repo, .progress = cancel};
    struct kv_env *env = backup_env(kit);
    cr_assert_eq(kv_restore(env, "copy", &options, NULL, &kit->err), KV_CANCELED);
    kv_env_close(env);
}

/* Every moment of a canceled restore and another one into what `begin` holds (NULL: nothing). The first marked moment is kept in
 * *marked, when wanted. */
static void sweep_restore(const struct source *source, struct kv_vfs *begin, enum vfs_crash_profile profile,
                          struct kv_vfs **marked, uint64_t seen[FOUND_KINDS])
{
    static const char *const paths[] = {"copy", NULL};
    struct vfs_crash *crash = begin ? vfs_crash_new_from(begin, paths) : vfs_crash_new();
    struct kv_kit kit;
    kv_kit_init(&kit, vfs_crash_as_vfs(crash));
    restore_canceled(&kit, &source->repo);
    must(&kit, backup_restore(&kit, &source->repo, 0, "copy"));
    kv_kit_release(&kit);
    uint64_t n = vfs_crash_ops(crash);
    for (uint64_t ops = 0; ops <= n + 1; ops++)
        for (uint64_t seed = 0; seed < 4; seed++) {
            char how[HOW];
            uint64_t s = seed < 3 ? seed : 3 + ops, before = seen[MARKED];
            snprintf(how, sizeof how, "profile %d, %d of %d changes, seed %d", (int)profile, (int)ops, (int)n,
                     (int)s);
            struct kv_vfs *disk = vfs_crash_at(crash, ops, s, profile);
            crashed_restore(disk, &source->repo, how, seen);
            kv_vfs_mem_free(disk);
            if (marked && ops > n / 2 && seen[MARKED] > before && !*marked)
                *marked = vfs_crash_at(crash, ops, s, profile);
        }
    vfs_crash_free(crash);
}

Test(target, power_lost_after_any_change_of_a_restore, .timeout = 240)
{
    struct source source;
    source_make(&source);
    for (int profile = 0; profile < VFS_CRASH_PROFILES; profile++) {
        uint64_t seen[FOUND_KINDS] = {0};
        struct kv_vfs *marked = NULL;
        sweep_restore(&source, NULL, (enum vfs_crash_profile)profile, &marked, seen);
        cr_assert(seen[NOTHING] && seen[MARKED] && seen[COMPLETE]);
        sweep_restore(&source, marked, (enum vfs_crash_profile)profile, NULL, seen);
        kv_vfs_mem_free(marked);
    }
    source_release(&source);
}

static void crashed_checkpoint(struct kv_vfs *disk, const char *how, uint64_t seen[FOUND_KINDS])
{
    struct kv_kit kit, other;
    kv_kit_init(&other, disk);
    enum found found = look(&other, how);
    seen[found]++;
    kv_kit_init(&kit, disk);
    kv_kit_must_open(&kit);
    kv_status rc = kv_checkpoint(kit.db, "copy", &kit.err);
    cr_assert_eq(rc, found == COMPLETE ? KV_EXISTS : KV_OK, "%s: %s", how, kit.err.text);
    cr_assert_eq(look(&other, how), COMPLETE, "%s", how);
    kv_kit_release(&kit);
    kv_kit_release(&other);
}

Test(target, power_lost_after_any_change_of_a_checkpoint, .timeout = 240)
{
    for (int profile = 0; profile < VFS_CRASH_PROFILES; profile++) {
        struct vfs_crash *crash = vfs_crash_new();
        struct kv_kit kit;
        uint64_t seen[FOUND_KINDS] = {0};
        kv_kit_init(&kit, vfs_crash_as_vfs(crash));
        kv_kit_must_open(&kit);
        fill(&kit);
        uint64_t before = vfs_crash_ops(crash);
        must(&kit, kv_checkpoint(kit.db, "copy", &kit.err));
        uint64_t n = vfs_crash_ops(crash);
        for (uint64_t ops = before + 1; ops <= n + 1; ops++)
            for (uint64_t seed = 0; seed < 4; seed++) {
                char how[HOW];
                uint64_t s = seed < 3 ? seed : 3 + ops;
                snprintf(how, sizeof how, "profile %d, %d of %d changes, seed %d", profile, (int)ops, (int)n,
                         (int)s);
                struct kv_vfs *disk = vfs_crash_at(crash, ops, s, (enum vfs_crash_profile)profile);
                crashed_checkpoint(disk, how, seen);
                kv_vfs_mem_free(disk);
            }
        cr_assert(seen[NOTHING] && seen[MARKED] && seen[COMPLETE]);
        kv_kit_release(&kit);
        vfs_crash_free(crash);
    }
}

/* ---- what is not a copy's is left alone */

Test(target, a_file_of_somebody_else_in_a_marked_directory_is_not_removed)
{
    static const char *const names[] = {KV_TARGET_MARK, "000001.tbl", "notes.txt"};
    struct source source;
    struct kv_kit kit;
    struct kv_dir *dir = NULL;
    source_make(&source);
    kv_kit_init(&kit, NULL);
    must(&kit, kv_vfs_dir_open(kit.own, "copy", true, &dir, &kit.err));
    for (size_t i = 0; i < 3; i++) {
        struct kv_file *file = NULL;
        must(&kit, kv_dir_create(dir, names[i], &file, &kit.err));
        kv_file_close(file);
    }
    cr_assert_eq(backup_restore(&kit, &source.repo, 0, "copy"), KV_EXISTS);
    cr_assert(strstr(kit.err.text, "notes.txt"), "%s", kit.err.text);
    for (size_t i = 0; i < 3; i++)
        must(&kit, kv_dir_remove(dir, names[i], &kit.err)); /* they are all there */
    kv_dir_close(dir);
    must(&kit, backup_restore(&kit, &source.repo, 0, "copy"));
    kv_kit_release(&kit);
    source_release(&source);
}
