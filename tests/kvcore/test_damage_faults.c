/*
 * Damage, and on top of it operations and allocations that fail while it is put aside: what is not damaged is never taken for it, and once
 * the machine works again everything is as it would have been.
 */
#include "kvcore/db/db.h"
#include "tests/support/fault_sites.h"
#include "tests/support/file_kit.h"
#include "tests/support/kv_kit.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { KEYS = 60 };

struct world {
    struct kv_kit kit;
    struct vfs_fault *fault;
    char deep[32]; /* a table below level 0 */
};

static void fill(struct kv_kit *kit, const char *value)
{
    char key[16];
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "k%03d", i);
        kv_kit_put(kit, 0, key, value);
    }
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK, "%s", kit->err.text);
}

/* One table merged down with its values in one segment, another space with a table, and nothing in the log. Closed. */
static void world_init(struct world *w)
{
    struct kv_buf names = {0};
    struct kv_kit *kit = &w->kit;
    *w = (struct world){.fault = NULL};
    kv_kit_init(kit, NULL);
    w->fault = vfs_fault_new(kit->own);
    kit->vfs = vfs_fault_as_vfs(w->fault);
    kit->spaces[0].style = KV_STYLE_LEVELLED;
    kit->spaces[0].value_separate_bytes = 64;
    kit->spaces[0].compression = KV_COMPRESSION_NONE;
    kv_kit_must_open(kit);
    fill(kit, "a value that is long enough to be written to the value log beside the others");
    cr_assert_eq(kv_merge_range(kit->db, 0, (kv_slice){0}, (kv_slice){0}, &kit->err), KV_OK);
    const struct kv_tree *tree = &kit->db->view->version->trees[0];
    cr_assert_eq(tree->n_items, 1);
    cr_assert_gt(tree->items[0].level, 0);
    kv_file_name(w->deep, tree->items[0].number, KV_NAME_TABLE);
    kv_kit_put(kit, 1, "beside", "1");
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
    cr_assert_eq(kv_kit_close(kit), KV_OK);
    kv_buf_release(&names);
}

static void world_release(struct world *w)
{
    kv_kit_close(&w->kit);
    kv_kit_release(&w->kit);
    vfs_fault_free(w->fault);
}

static void damage_header(struct world *w, const char *suffix)
{
    struct kv_buf names = {0};
    cr_assert_geq(file_kit_list(w->kit.own, "db", suffix, &names), 1);
    file_kit_flip(w->kit.own, "db", (char *)names.data, KV_FILE_HEADER_AT_UID);
    kv_buf_release(&names);
}

/* ---- an open that puts aside */

static void open_once(struct world *w, kv_status failed, bool fired)
{
    struct kv_kit *kit = &w->kit;
    if (kit->db) {
        cr_assert_eq(kv_kit_close(kit), KV_OK);
    } else {
        cr_assert(fired, "%s", kit->err.text);
        /* the disk is memory, too, and says so in its own words */
        bool memory = failed == KV_NO_MEMORY && strstr(kit->err.text, "memory");
        cr_assert(memory || kit->err.code == failed, "%s: %s", kv_status_name(kit->err.code), kit->err.text);
    }
    kv_kit_must_open(kit);
    cr_assert_eq(kv_kit_metric(kit, "kv_damaged_files"), 2, "a table and a segment");
    cr_assert(kv_kit_is(kit, NULL, 1, "beside", "1"));
    cr_assert_eq(kv_kit_close(kit), KV_OK);
}

Test(damage_faults, an_open_that_puts_aside_with_each_allocation_failing, .timeout = 120)
{
    struct fault_sites *sites = fault_sites_new();
    struct world w;
    world_init(&w);
    file_kit_flip(w.kit.own, "db", w.deep, KV_FILE_HEADER_AT_UID);
    damage_header(&w, ".vlg");
    int refused = 0;
    for (bool fired = true; fired;) {
        malloc_fault_arm_sites(sites, false);
        kv_status rc = kv_kit_open(&w.kit);
        fired = malloc_fault_disarm();
        refused += rc < 0;
        open_once(&w, KV_NO_MEMORY, fired);
    }
    cr_assert_gt(refused, 10);
    world_release(&w);
    fault_sites_free(sites);
}

Test(damage_faults, an_open_that_puts_aside_with_each_operation_failing, .timeout = 120)
{
    struct world w;
    world_init(&w);
    file_kit_flip(w.kit.own, "db", w.deep, KV_FILE_HEADER_AT_UID);
    damage_header(&w, ".vlg");
    int refused = 0;
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        vfs_fault_plan(w.fault,
                       &(struct vfs_fault_plan){.nth = nth, .ops = VFS_OP_OPEN | VFS_OP_READ | VFS_OP_SIZE});
        kv_status rc = kv_kit_open(&w.kit);
        fired = vfs_fault_fired(w.fault);
        vfs_fault_plan(w.fault, NULL);
        refused += rc < 0;
        open_once(&w, KV_IO, fired);
    }
    cr_assert_gt(refused, 10);
    world_release(&w);
}

/* ---- a merge that puts aside */

static kv_status merge_all(struct kv_kit *kit)
{
    return kv_merge_range(kit->db, 0, (kv_slice){0}, (kv_slice){0}, &kit->err);
}

/* Open, with a bad data block in the table below, and one above it that is to be merged with it. */
static void merge_begin(struct world *w)
{
    world_init(w);
    file_kit_flip(w->kit.own, "db", w->deep, KV_FILE_HEADER_LEN + 20);
    kv_kit_must_open(&w->kit);
    fill(&w->kit, "short");
    cr_assert_eq(kv_kit_metric(&w->kit, "kv_damaged_files"), 0, "nobody has looked at it yet");
}

/* Whatever failed: now it is put aside, named, and what was written over it is there. */
static void merge_end(struct world *w)
{
    struct kv_kit *kit = &w->kit;
    kv_kit_reopen(kit);
    kv_status rc = merge_all(kit);
    cr_assert_eq(rc, KV_CORRUPT, "%s: %s", kv_status_name(rc), kit->err.text);
    cr_assert(strstr(kit->err.text, w->deep), "%s", kit->err.text);
    cr_assert_eq(kv_kit_metric(kit, "kv_damaged_files"), 1);
    cr_assert(kv_kit_is(kit, NULL, 0, "k007", "short"));
    cr_assert(kv_kit_is(kit, NULL, 1, "beside", "1"));
    world_release(w);
}

Test(damage_faults, a_merge_that_puts_aside_with_each_read_failing_from_then_on, .timeout = 120)
{
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        struct world w;
        merge_begin(&w);
        vfs_fault_plan(w.fault, &(struct vfs_fault_plan){.nth = nth, .ops = VFS_OP_READ, .sticky = true});
        kv_status rc = merge_all(&w.kit);
        fired = vfs_fault_fired(w.fault);
        vfs_fault_plan(w.fault, NULL);
        cr_assert(rc == KV_IO || rc == KV_CORRUPT, "%s: %s", kv_status_name(rc), w.kit.err.text);
        cr_assert_gt(strlen(w.kit.err.text), 0);
        merge_end(&w);
    }
}

Test(damage_faults, a_merge_that_puts_aside_with_each_allocation_failing, .timeout = 120)
{
    struct fault_sites *sites = fault_sites_new();
    for (bool fired = true; fired;) {
        struct world w;
        merge_begin(&w);
        malloc_fault_arm_sites(sites, false);
        kv_status rc = merge_all(&w.kit);
        fired = malloc_fault_disarm();
        cr_assert(rc == KV_NO_MEMORY || rc == KV_CORRUPT, "%s: %s", kv_status_name(rc), w.kit.err.text);
        merge_end(&w);
    }
    fault_sites_free(sites);
}

/* ---- a merge that says damage where there is none */

static size_t group_all(void *ctx, kv_slice key)
{
    (void)ctx;
    return key.len;
}

static kv_status hook_begin(void *ctx, kv_slice lower, kv_slice upper, void **merge)
{
    (void)lower, (void)upper;
    *merge = ctx;
    return KV_OK;
}

static kv_status hook_refuses(void *merge, const struct kv_hook_entry *entries, size_t n,
                              struct kv_hook_sink *sink)
{
    (void)entries, (void)n, (void)sink;
    return *(kv_status *)merge;
}

static void hook_end(void *merge, bool installed)
{
    (void)merge;
    cr_assert_not(installed);
}

Test(damage_faults, a_hook_that_says_damage_takes_no_table_away)
{
    kv_status answer = KV_CORRUPT;
    struct kv_hook hook = {&answer, group_all, hook_begin, hook_refuses, hook_end};
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kit.spaces[0].hook = &hook;
    kv_kit_must_open(&kit);
    fill(&kit, "first");
    fill(&kit, "second");
    cr_assert_eq(merge_all(&kit), KV_CORRUPT);
    cr_assert_eq(kv_kit_metric(&kit, "kv_damaged_files"), 0);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k007", "second"));
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kv_kit_release(&kit);
}
