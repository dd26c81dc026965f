/* Banned prefixes, the application's version, versions given by the caller, lengths of values that are not read. */
#include "tests/support/malloc_fault.h"
#include "tests/support/txn_kit.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>

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

TestSuite(bans, .init = setup, .fini = teardown);
TestSuite(admin, .init = setup, .fini = teardown);

static char listed[200];

static void list_one(void *ctx, uint32_t space, kv_slice prefix)
{
    (void)ctx;
    size_t len = strlen(listed);
    snprintf(listed + len, sizeof listed - len, "%s%u:%.*s", len ? " " : "", space, KV_ARG(prefix));
}

static const char *banned(void)
{
    listed[0] = 0;
    cr_assert_eq(kv_banned(kit.db, list_one, NULL), KV_OK);
    return listed;
}

/* ---- banned prefixes */

Test(bans, nothing_is_put_under_a_banned_prefix_by_whatever_way_until_it_is_unbanned)
{
    kv_kit_put(&kit, 0, "tenant7/old", "1");
    struct kv_txn *txn = txn_kit_begin(&kit);
    txn_kit_put(txn, 0, "tenant7/k", "v");
    cr_assert_eq(kv_ban_prefix(kit.db, 0, KV_STR("tenant7/"), &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(kv_ban_prefix(kit.db, 0, KV_STR("tenant7/"), &kit.err), KV_OK, "twice is fine");
    cr_assert_str_eq(banned(), "0:tenant7/");
    cr_assert_eq(kv_kit_try_put(&kit, 0, "tenant7/k", "v"), KV_READ_ONLY);
    cr_assert(strstr(kit.err.text, "tenant7/") && strstr(kit.err.text, "banned"), "%s", kit.err.text);
    cr_assert_eq(kv_kit_try_put(&kit, 0, "tenant7/", "v"), KV_READ_ONLY);
    cr_assert_eq(txn_kit_commit(txn), KV_READ_ONLY, "begun before");
    struct kv_bulk *bulk = NULL;
    cr_assert_eq(kv_bulk_open(kit.db, 0, &bulk, &kit.err), KV_OK);
    cr_assert_eq(kv_bulk_add(bulk, KV_STR("tenant6/k"), KV_STR("v"), &kit.err), KV_OK);
    cr_assert_eq(kv_bulk_add(bulk, KV_STR("tenant7/k"), KV_STR("v"), &kit.err), KV_READ_ONLY);
    kv_bulk_abort(bulk);
    kv_kit_put(&kit, 0, "tenant7", "not under it");
    kv_kit_put(&kit, 1, "tenant7/k", "another space");
    cr_assert(kv_kit_is(&kit, NULL, 0, "tenant7/old", "1"), "reads go on");
    kv_kit_delete(&kit, 0, "tenant7/old");
    cr_assert_eq(kv_drop_prefix(kit.db, 0, KV_STR("tenant7/"), &kit.err), KV_OK);
    cr_assert_eq(kv_health(kit.db, NULL), KV_OK, "the database takes writes");
    cr_assert_eq(kv_unban_prefix(kit.db, 0, KV_STR("tenant"), &kit.err), KV_NOT_FOUND);
    cr_assert_eq(kv_unban_prefix(kit.db, 1, KV_STR("tenant7/"), &kit.err), KV_NOT_FOUND);
    cr_assert_eq(kv_unban_prefix(kit.db, 0, KV_STR("tenant7/"), &kit.err), KV_OK);
    kv_kit_put(&kit, 0, "tenant7/k", "v");
    cr_assert_str_eq(banned(), "");
}

static kv_status prepare_put(void *ctx, uint64_t seq, struct kv_batch *batch, kv_slice *record)
{
    (void)ctx, (void)seq, (void)record;
    return kv_batch_put(batch, 1, KV_STR("by prepare"), KV_STR("v"));
}

static int undone;
static void undo(void *ctx)
{
    (void)ctx;
    undone++;
}

Test(bans, a_whole_space_can_be_banned_and_what_prepare_adds_is_asked_about_too)
{
    struct kv_commit_options options = {.prepare = prepare_put, .undo = undo};
    struct kv_batch *batch = NULL;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_ban_prefix(kit.db, 1, (kv_slice){0}, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_try_put(&kit, 1, "any", "v"), KV_READ_ONLY);
    cr_assert_eq(kv_commit(kit.db, batch, &options, NULL, &kit.err), KV_READ_ONLY);
    cr_assert_eq(undone, 1);
    kv_kit_put(&kit, 0, "any", "v");
    cr_assert_eq(kv_seq(kit.db), 1, "a refused commit uses no version");
    kv_batch_free(batch);
}

Test(bans, they_outlive_reopens_crashes_and_new_manifest_files)
{
    cr_assert_eq(kv_ban_prefix(kit.db, 0, KV_STR("a"), &kit.err), KV_OK);
    cr_assert_eq(kv_ban_prefix(kit.db, 1, KV_STR("b"), &kit.err), KV_OK);
    kv_kit_crash(&kit);
    cr_assert_str_eq(banned(), "0:a 1:b");
    cr_assert_eq(kv_kit_try_put(&kit, 0, "ax", "v"), KV_READ_ONLY);
    cr_assert_eq(kv_unban_prefix(kit.db, 0, KV_STR("a"), &kit.err), KV_OK);
    kv_kit_reopen(&kit);
    kv_kit_reopen(&kit);
    cr_assert_str_eq(banned(), "1:b");
    struct kv_space_options first = kit.spaces[0]; /* spaces declared in another order */
    kit.spaces[0] = kit.spaces[1];
    kit.spaces[1] = first;
    kv_kit_reopen(&kit);
    cr_assert_str_eq(banned(), "0:b");
    cr_assert_eq(kv_kit_try_put(&kit, 0, "bx", "v"), KV_READ_ONLY);
    kv_kit_put(&kit, 1, "bx", "v");
}

Test(bans, there_is_a_bound_and_it_says_so)
{
    char prefix[16];
    for (int i = 0; i < KV_BANS_MAX; i++) {
        snprintf(prefix, sizeof prefix, "p%d/", i);
        cr_assert_eq(kv_ban_prefix(kit.db, 0, kv_slice_str(prefix), &kit.err), KV_OK);
    }
    cr_assert_eq(kv_ban_prefix(kit.db, 0, KV_STR("one more"), &kit.err), KV_LIMIT);
    cr_assert_eq(kv_ban_prefix(kit.db, 0, KV_STR("p7/"), &kit.err), KV_OK);
    cr_assert_eq(kv_ban_prefix(kit.db, 9, KV_STR("p"), &kit.err), KV_INVALID);
    kv_kit_reopen(&kit);
    cr_assert_eq(kv_kit_try_put(&kit, 0, "p255/x", "v"), KV_READ_ONLY);
    kv_kit_put(&kit, 0, "p256/x", "v");
}

Test(bans, any_failure_leaves_the_list_as_it_was_or_as_it_was_to_be)
{
    struct kv_kit outer = kit;
    for (uint64_t nth = 1, fired = 1; fired; nth++)
        for (int how = 0; how < 2; how++) {
            struct kv_vfs *memory = kv_vfs_mem_new();
            struct vfs_fault *fault = vfs_fault_new(memory);
            kv_kit_init(&kit, vfs_fault_as_vfs(fault));
            kv_kit_must_open(&kit);
            cr_assert_eq(kv_ban_prefix(kit.db, 0, KV_STR("a"), &kit.err), KV_OK);
            if (how)
                malloc_fault_arm(nth, false);
            else
                vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = nth, .kind = VFS_FAULT_EIO});
            kv_status rc = kv_ban_prefix(kit.db, 0, KV_STR("b"), &kit.err);
            bool now = how ? malloc_fault_disarm() : vfs_fault_fired(fault);
            fired = how ? fired || now : now;
            vfs_fault_plan(fault, NULL);
            if (rc == KV_OK)
                cr_assert_str_eq(banned(), "0:a 0:b");
            else
                cr_assert(strcmp(banned(), "0:a") == 0 || strcmp(banned(), "0:a 0:b") == 0);
            kv_kit_reopen(&kit);
            cr_assert(rc == KV_OK ? strcmp(banned(), "0:a 0:b") == 0 : strncmp(banned(), "0:a", 3) == 0);
            kv_kit_release(&kit);
            vfs_fault_free(fault);
            kv_vfs_mem_free(memory);
        }
    kit = outer;
}

/* ---- the application's version */

Test(admin, an_open_for_another_application_version_is_refused_and_names_both)
{
    cr_assert_eq(kv_app_version(kit.db), 0);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.options.app_version = 4;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID, "it was made without one");
    kit.options.app_version = 0;
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_set_app_version(kit.db, 4, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.options.app_version = 4;
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.options.app_version = 3;
    cr_assert_eq(kv_kit_open(&kit), KV_TOO_NEW);
    cr_assert(strstr(kit.err.text, "version 4") && strstr(kit.err.text, "asks for 3"), "%s", kit.err.text);
    kit.options.app_version = 5;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    kit.options.app_version = 0;
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_app_version(kit.db), 4, "not asked for");
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.options.app_version = 9;
    kit.path = "made with one";
    kv_kit_must_open(&kit);
    kv_kit_crash(&kit);
    cr_assert_eq(kv_app_version(kit.db), 9);
}

/* ---- versions given by the caller */

Test(admin, a_commit_gets_the_version_it_asks_for_or_none)
{
    struct kv_batch *batch = NULL;
    struct kv_commit_options options = {.version = 1};
    uint64_t version;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("k"), KV_STR("v")), KV_OK);
    cr_assert_eq(kv_commit(kit.db, batch, &options, &version, &kit.err), KV_OK);
    cr_assert_eq(version, 1);
    cr_assert_eq(kv_commit(kit.db, batch, &options, &version, &kit.err), KV_CONFLICT, "used");
    cr_assert(strstr(kit.err.text, "next one is 2"), "%s", kit.err.text);
    options.version = 3;
    cr_assert_eq(kv_commit(kit.db, batch, &options, &version, &kit.err), KV_CONFLICT, "a gap");
    cr_assert_eq(kv_seq(kit.db), 1);
    struct kv_txn *txn = txn_kit_begin(&kit);
    struct kv_txn_commit_options how = {.version = 2};
    txn_kit_put(txn, 0, "k", "w");
    cr_assert_eq(kv_txn_commit(txn, &how, &version, &kit.err), KV_OK);
    cr_assert_eq(version, 2);
    kv_txn_abort(txn);
    kv_batch_free(batch);
}

/* ---- lengths */

Test(admin, what_a_value_takes_is_known_without_reading_it)
{
    static char text[5001];
    uint64_t bytes;
    struct kv_iter *it = NULL;
    memset(text, 'v', sizeof text - 1);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.spaces[0].value_separate_bytes = 1000;
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "long", text);
    kv_kit_put(&kit, 0, "short", "12345");
    for (int where = 0; where < 2; where++) {
        uint64_t read = kv_kit_metric(&kit, "kv_value_log_reads_total");
        cr_assert_eq(kv_stored_bytes(kit.db, NULL, 0, KV_STR("long"), &bytes, &kit.err), KV_OK);
        uint64_t stored = bytes; /* in the value log: compressed */
        cr_assert(where ? bytes > 9 && bytes < 1000 : bytes == 5000, "%" PRIu64, bytes);
        cr_assert_eq(kv_stored_bytes(kit.db, NULL, 0, KV_STR("short"), &bytes, &kit.err), KV_OK);
        cr_assert_eq(bytes, 5);
        cr_assert_eq(kv_stored_bytes(kit.db, NULL, 0, KV_STR("lon"), &bytes, &kit.err), KV_NOT_FOUND);
        cr_assert_eq(kv_stored_bytes(kit.db, NULL, 7, KV_STR("lon"), &bytes, &kit.err), KV_INVALID);
        struct kv_iter_options options = {.keys_only = true};
        cr_assert_eq(kv_iter_open_with(kit.db, 0, &options, &it), KV_OK);
        cr_assert_eq(kv_iter_seek(it, (kv_slice){0}), KV_OK);
        cr_assert(it->value.len == 0 && it->stored_bytes == stored);
        cr_assert_eq(kv_iter_seek_before(it, (kv_slice){0}), KV_OK);
        cr_assert(it->stored_bytes == 5);
        cr_assert_eq(kv_iter_prev(it), KV_OK);
        cr_assert(it->stored_bytes == stored);
        kv_iter_close(it);
        cr_assert_eq(kv_kit_metric(&kit, "kv_value_log_reads_total"), read, "nothing was read for it");
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    }
    cr_assert_eq(kv_kit_files(&kit, ".vlg"), 1);
    kv_kit_delete(&kit, 0, "long");
    cr_assert_eq(kv_stored_bytes(kit.db, NULL, 0, KV_STR("long"), &bytes, &kit.err), KV_NOT_FOUND);
}
