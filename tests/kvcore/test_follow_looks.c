/*
 * What a follower looks at again: errors that pass, errors that are another one at each look, damage beside what can be read, tables that
 * come in another order than their numbers.
 */
#include "tests/support/fault_sites.h"
#include "tests/support/file_kit.h"
#include "tests/support/follow_kit.h"
#include "tests/support/hook_dir.h"
#include "tests/support/malloc_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

struct world {
    struct follow_kit kit;
    struct kv_dir *under;
    struct hook_dir hook; /* what the follower sees */
    kv_status answer;     /* of a look at the published name */
    int looks, bad;       /* made; how many of them are answered so */
    bool same;            /* in the same words */
};

static kv_status look(void *ctx, enum vfs_op op, const char *name, struct kv_err *err)
{
    struct world *w = ctx;
    (void)name;
    if (op != VFS_OP_PUBLISHED || ++w->looks > w->bad)
        return KV_OK;
    return kv_fail(err, w->answer, 0, "look %d goes wrong", w->same ? 0 : w->looks);
}

static void world_init(struct world *w)
{
    *w = (struct world){.answer = KV_OK};
    follow_kit_init(&w->kit);
    kv_kit_must_open(&w->kit.writer);
    kv_kit_put(&w->kit.writer, 0, "k", "1");
    cr_assert_eq(kv_vfs_dir_open(w->kit.writer.own, "db", false, &w->under, NULL), KV_OK);
    hook_dir_init(&w->hook, w->under);
    w->hook.ctx = w;
    w->hook.before = look;
    w->kit.follower.vfs = &w->hook.vfs;
}

static void world_release(struct world *w)
{
    kv_kit_close(&w->kit.follower);
    kv_dir_close(w->under);
    follow_kit_release(&w->kit);
}

static void look_badly(struct world *w, kv_status answer, int bad, bool same)
{
    w->answer = answer;
    w->looks = 0;
    w->bad = bad;
    w->same = same;
}

Test(follow_looks, an_error_counts_when_it_comes_twice_in_the_same_words)
{
    static const struct row {
        const char *what;
        kv_status answer;
        int bad;
        bool same;
        kv_status refresh;
        int looks; /* at the published name; 0: not the matter */
    } rows[] = {
        {"damage that passes", KV_CORRUPT, 1, true, KV_OK, 0},
        {"a file that went and came", KV_MISSING, 1, true, KV_OK, 0},
        {"another master key for a moment", KV_WRONG_KEY, 1, true, KV_OK, 0},
        {"damage that stays", KV_CORRUPT, 100, true, KV_CORRUPT,
         3}, /* the third with what is damaged aside */
        {"a file that is gone", KV_MISSING, 100, true, KV_MISSING, 2},
        {"something else at each of five looks", KV_CORRUPT, 5, false, KV_OK, 0},
        {"something else at every look", KV_CORRUPT, 100, false, KV_CORRUPT, 17},
        {"no change beside us does that", KV_IO, 1, false, KV_IO, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *row = &rows[i];
        struct world w;
        world_init(&w);
        follow_kit_open(&w.kit);
        kv_kit_put(&w.kit.writer, 0, "k", "2");
        look_badly(&w, row->answer, row->bad, row->same);
        kv_status rc = follow_kit_try_refresh(&w.kit);
        cr_expect_eq(rc, row->refresh, "%s: %s: %s", row->what, kv_status_name(rc), w.kit.follower.err.text);
        cr_expect(!row->looks || w.looks == row->looks, "%s: %d looks", row->what, w.looks);
        if (rc < 0)
            cr_expect(strstr(w.kit.follower.err.text, "goes wrong"), "%s: %s", row->what,
                      w.kit.follower.err.text);
        cr_expect(kv_kit_is(&w.kit.follower, NULL, 0, "k", rc < 0 ? "1" : "2"), "%s", row->what);
        look_badly(&w, KV_OK, 0, false);
        follow_kit_same(&w.kit);
        world_release(&w);
    }
}

Test(follow_looks, and_so_in_an_open)
{
    struct world w;
    world_init(&w);
    look_badly(&w, KV_CORRUPT, 1, true);
    cr_assert_eq(follow_kit_try_open(&w.kit), KV_OK, "%s", w.kit.follower.err.text);
    cr_assert(kv_kit_is(&w.kit.follower, NULL, 0, "k", "1"));
    kv_kit_close(&w.kit.follower);
    look_badly(&w, KV_CORRUPT, 100, true);
    cr_assert_eq(follow_kit_try_open(&w.kit), KV_CORRUPT);
    cr_assert(strstr(w.kit.follower.err.text, "look 0 goes wrong"), "%s", w.kit.follower.err.text);
    look_badly(&w, KV_OK, 0, false);
    follow_kit_open(&w.kit);
    follow_kit_same(&w.kit);
    world_release(&w);
}

/* A load that was begun before a flush has a table with a smaller number, and comes later. */
Test(follow_looks, a_table_that_comes_behind_those_with_greater_numbers)
{
    struct follow_kit kit;
    struct kv_bulk *bulk = NULL;
    uint64_t seq;
    follow_kit_init(&kit);
    follow_kit_open(&kit);
    cr_assert_eq(kv_bulk_open(kit.writer.db, 1, &bulk, NULL), KV_OK);
    cr_assert_eq(kv_bulk_add(bulk, KV_STR("loaded"), KV_STR("x"), NULL), KV_OK);
    kv_kit_put(&kit.writer, 0, "k", "flushed");
    cr_assert_eq(kv_flush(kit.writer.db, NULL), KV_OK);
    follow_kit_refresh(&kit);
    cr_assert_eq(kv_bulk_install(bulk, 0, &seq, NULL), KV_OK);
    cr_assert_eq(follow_kit_refresh(&kit), seq);
    cr_assert(kv_kit_is(&kit.follower, NULL, 1, "loaded", "x"));
    follow_kit_same(&kit);
    follow_kit_release(&kit);
}

/* Values of a segment that is damaged: they alone, and when the good file is there again an open has them. */
Test(follow_looks, a_damaged_segment_takes_its_values_alone)
{
    static const char lasting[] =
        "a value that is long enough to be written to the value log beside the others";
    struct follow_kit kit;
    struct kv_buf names = {0};
    struct kv_pinned found = {0};
    follow_kit_init(&kit);
    kit.writer.spaces[0].value_separate_bytes = 64;
    follow_kit_open(&kit);
    kv_kit_put(&kit.writer, 0, "long", lasting);
    kv_kit_put(&kit.writer, 0, "short", "1");
    follow_kit_refresh(&kit);
    cr_assert_eq(kv_flush(kit.writer.db, NULL), KV_OK);
    cr_assert_eq(file_kit_list(kit.writer.own, "db", ".vlg", &names), 1);
    file_kit_flip(kit.writer.own, "db", (char *)names.data, 10);
    cr_assert_eq(follow_kit_try_refresh(&kit), KV_OK, "%s", kit.follower.err.text);
    cr_assert_eq(kv_get(kit.follower.db, NULL, 0, KV_STR("long"), &found, &kit.follower.err), KV_CORRUPT);
    cr_assert(strstr(kit.follower.err.text, (char *)names.data), "%s", kit.follower.err.text);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "short", "1"));
    cr_assert_eq(kv_kit_metric(&kit.follower, "kv_damaged_files"), 1);
    kv_kit_put(&kit.writer, 0, "short", "2");
    follow_kit_refresh(&kit);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "short", "2"));
    file_kit_flip(kit.writer.own, "db", (char *)names.data, 10);
    kv_kit_close(&kit.follower);
    follow_kit_open(&kit);
    follow_kit_same(&kit);
    kv_buf_release(&names);
    follow_kit_release(&kit);
}

/* ---- memtables that are cut, or grow, without memory for it */

/* Half of what the follower has in one memtable is in a table by now: puts and a range deletion lie above that. */
static void cut_begin(struct follow_kit *kit, bool seen)
{
    char key[16], value[1000];
    struct kv_batch *batch = NULL;
    follow_kit_init(kit);
    kit->writer.options.memtable_bytes = 64 << 10;
    follow_kit_open(kit);
    if (seen) { /* by a follower whose memtables are larger than the writer's */
        kv_kit_close(&kit->follower);
        kit->follower.options.memtable_bytes = 0;
        cr_assert_eq(kv_kit_open(&kit->follower), KV_OK);
    }
    kv_kit_put(&kit->writer, 0, "k", "1");
    follow_kit_refresh(kit);
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "k%05d", i);
        kv_kit_put(&kit->writer, (uint32_t)i % 2, key, value);
    }
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_delete_range(batch, 1, KV_STR("k00020"), KV_STR("k00099")), KV_OK);
    cr_assert_eq(kv_commit(kit->writer.db, batch, NULL, NULL, NULL), KV_OK);
    kv_batch_free(batch);
    if (seen)
        follow_kit_refresh(kit);
    kv_kit_work_all(&kit->writer);
}

static void sweep_memory(bool seen)
{
    struct fault_sites *sites = fault_sites_new();
    int refused = 0;
    for (bool fired = true; fired;) {
        struct follow_kit kit;
        cut_begin(&kit, seen);
        malloc_fault_arm_sites(sites, false);
        kv_status rc = follow_kit_try_refresh(&kit);
        fired = malloc_fault_disarm();
        cr_assert(rc == KV_OK || (fired && rc == KV_NO_MEMORY), "%s: %s", kv_status_name(rc),
                  kit.follower.err.text);
        refused += rc < 0;
        if (rc < 0)
            cr_assert(strstr(kit.follower.err.text, "memory"), "%s", kit.follower.err.text);
        cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", "1"));
        cr_assert(kv_kit_is(&kit.follower, NULL, 1, "k00021", NULL), "deleted, or not there yet");
        follow_kit_same(&kit);
        cr_assert_gt(kv_kit_metric(&kit.writer, "kv_flushes_total"), 0);
        follow_kit_release(&kit);
    }
    cr_assert_gt(refused, 5);
    fault_sites_free(sites);
}

Test(follow_looks, a_floor_in_the_middle_of_a_memtable_without_memory_for_it, .timeout = 60)
{
    sweep_memory(true);
}

Test(follow_looks, more_than_a_memtable_holds_without_memory_for_the_next, .timeout = 60)
{
    sweep_memory(false);
}
