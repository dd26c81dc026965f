/* The store under lost power: over stories that append, overwrite, delete, flush, merge, expire, copy and reopen, every answered change is
 * found again, none that was deleted, and what was under way wholly or not at all. */
#include "kvcore/base/mem.h"
#include "tests/support/store_story.h"
#include "tests/support/sweep.h"
#include "tests/support/vfs_crash.h"
#include "tsdb/db.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>

/* How often each thing happened that the stories are there for. */
struct doings {
    uint64_t tier_merges, settled, expired, deleted, copies, left;
};

static void note_doings(struct store_kit *kit, enum story_kind kind, struct doings *d)
{
    struct ts_stats stats;
    ts_stats(kit->db, &stats);
    d->tier_merges += kind == STORY_WORK && stats.merges > 0;
    d->settled += kind == STORY_SETTLE && stats.merges > 0;
    d->expired += kind == STORY_MAINTAIN && stats.windows_expired > 0;
    d->deleted += kind == STORY_DELETE;
    d->left += kind == STORY_SETTLE && stats.series_left > 0;
    d->copies += kind == STORY_SNAPSHOT || kind == STORY_BACKUP;
}

/* The rule has passed times of the last series, and its window is thinned: the index does not know it there any more. */
static void expect_thinned(struct store_kit *kit)
{
    int64_t floor_ms = story_floor_ms(kit, STORY_SERIES - 1);
    const struct ts_select first = {.from_ms = floor_ms - KIT_DAY_MS, .to_ms = floor_ms - 1};
    uint64_t *refs;
    size_t n;
    cr_assert_eq(ts_index_select(kit->db->registry, &first, &refs, &n, NULL), KV_OK);
    cr_assert_eq(n, STORY_SERIES - 1);
    kv_free(refs);
}

Test(store_crash, the_stories_themselves_work)
{
    struct doings d = {0};
    for (int s = 0; s < STORIES; s++) {
        struct store_kit kit;
        struct story_state state = {0};
        struct kv_vfs *vfs = kv_vfs_mem_new();
        story_begin(&kit, &stories[s], vfs, 0);
        for (int i = 0; i < story_len(&stories[s]); i++) {
            cr_assert_eq(story_play(&kit, &stories[s], i, &state), KV_OK, "%s, operation %d: %s",
                         stories[s].name, i, kit.err.text);
            story_apply(&state, &stories[s].ops[i]);
            cr_assert_eq(story_matches(&kit, &state), KV_OK, "%s, after operation %d", stories[s].name, i);
            note_doings(&kit, stories[s].ops[i].kind, &d);
        }
        if (stories[s].rule_ms > 0)
            expect_thinned(&kit);
        story_finish(&kit);
        kv_vfs_mem_free(vfs);
    }
    cr_assert(d.tier_merges > 0 && d.settled > 0 && d.expired > 0 && d.deleted > 0 && d.copies > 0 &&
                  d.left > 0,
              "tiers %d, settled %d, expired %d, deleted %d, copies %d, left %d", (int)d.tier_merges,
              (int)d.settled, (int)d.expired, (int)d.deleted, (int)d.copies, (int)d.left);
}

struct trace {
    const struct story *story;
    int n;
    struct vfs_crash *crash;
    uint64_t acked[STORY_OPS_MAX];                /* changes asked for when the operation was answered */
    struct story_state states[STORY_OPS_MAX + 1]; /* before each operation, and at the end */
};

static struct trace *trace_new(const struct story *story)
{
    struct trace *t = calloc(1, sizeof *t);
    struct store_kit kit;
    cr_assert(t != NULL);
    t->story = story;
    t->n = story_len(story);
    t->crash = vfs_crash_new();
    story_begin(&kit, story, vfs_crash_as_vfs(t->crash), 0);
    for (int i = 0; i < t->n; i++) {
        cr_assert_eq(story_play(&kit, story, i, &t->states[i]), KV_OK, "operation %d: %s", i, kit.err.text);
        t->states[i + 1] = t->states[i];
        story_apply(&t->states[i + 1], &story->ops[i]);
        t->acked[i] = vfs_crash_ops(t->crash);
    }
    story_finish(&kit);
    return t;
}

static void trace_free(struct trace *t)
{
    vfs_crash_free(t->crash);
    free(t);
}

/* How many operations had been answered when k changes were asked for. */
static int trace_sure(const struct trace *t, uint64_t k)
{
    int sure = 0;
    while (sure < t->n && t->acked[sure] < k)
        sure++;
    return sure;
}

/* After power was lost at k changes: every answered operation, and the one under way wholly or not at all. */
static void expect_recovered(const struct trace *t, struct store_kit *kit, uint64_t k, const char *what)
{
    int sure = trace_sure(t, k);
    kv_status rc = store_kit_open(kit);
    cr_assert_eq(rc, KV_OK, "%s: %s", what, kit->err.text);
    rc = story_matches(kit, &t->states[sure]);
    for (int next = sure; rc == KV_END && next < t->n; next++) {
        rc = story_matches(kit, &t->states[next + 1]);
        if (t->acked[next] > k)
            break;
    }
    cr_assert_eq(rc, KV_OK, "%s: neither the state before operation %d nor the one after it (%s)", what, sure,
                 rc == KV_END ? "it differs" : kit->err.text);
}

/* The newest copy that had been answered is there, or one that was under way. */
static void expect_copy(const struct trace *t, struct store_kit *kit, uint64_t k, const char *what)
{
    int sure = trace_sure(t, k), last = sure - 1;
    while (last >= 0 && t->story->ops[last].kind != STORY_SNAPSHOT &&
           t->story->ops[last].kind != STORY_BACKUP)
        last--;
    if (last < 0)
        return;
    kv_status rc = story_copy_matches(kit, t->story, last, "judged", &t->states[last]);
    if (rc == KV_END && sure < t->n && t->story->ops[sure].kind == t->story->ops[last].kind)
        rc = story_copy_matches(kit, t->story, sure, "judged too", &t->states[sure]);
    cr_assert_eq(rc, KV_OK, "%s: the copy of operation %d %s", what, last,
                 rc == KV_END ? "holds something else" : kit->err.text);
}

/* It is a whole store: it takes a write, a delete and a merge, and keeps them. */
static void expect_whole(struct store_kit *kit, const char *what)
{
    struct ts_columns columns = {0};
    int64_t now = kit->clock.wall_ms;
    store_kit_put(kit, 0, now, 77);
    cr_assert_eq(store_kit_delete(kit, 0, KIT_START_MS - KIT_DAY_MS, now - 1), KV_OK, "%s: %s", what,
                 kit->err.text);
    cr_assert_eq(ts_flush(kit->db, true, &kit->err), KV_OK, "%s: %s", what, kit->err.text);
    cr_assert_eq(store_kit_read(kit, 0, INT64_MIN, INT64_MAX, &columns), KV_OK);
    cr_assert_eq(columns.n, 1, "%s", what);
    ts_columns_release(&columns);
}

static void cut(const struct trace *t, uint64_t k, enum vfs_crash_profile profile)
{
    struct store_kit kit;
    char what[128];
    uint64_t seed = k % 4 == 3 ? k : k % 4;
    struct kv_vfs *disk = vfs_crash_at(t->crash, k, seed, profile);
    snprintf(what, sizeof what, "%s, power lost at change %" PRIu64 " of %" PRIu64 ", profile %d",
             t->story->name, k, vfs_crash_ops(t->crash), (int)profile);
    story_begin(&kit, t->story, disk, story_hours(t->story, trace_sure(t, k)));
    expect_recovered(t, &kit, k, what);
    expect_copy(t, &kit, k, what);
    if (k % 16 == 0)
        expect_whole(&kit, what);
    story_finish(&kit);
    kv_vfs_mem_free(disk);
}

/* In make test every cut of the first story, one of three of the others, each under one profile more than the last. */
Test(store_crash, power_lost_at_any_change_loses_nothing_answered, .timeout = 3000)
{
    for (int s = 0; s < STORIES; s++) {
        struct trace *t = trace_new(&stories[s]);
        uint64_t n = vfs_crash_ops(t->crash), stride = sweep_stride(s == 0 ? 1 : 3);
        for (uint64_t k = 0; k <= n + 1; k += stride)
            for (int profile = 0; profile < VFS_CRASH_PROFILES; profile++)
                if (s == 0 || sweep_all() || (int)(k / stride) % VFS_CRASH_PROFILES == profile)
                    cut(t, k, (enum vfs_crash_profile)profile);
        trace_free(t);
    }
}

static void cut_again(const struct trace *t, uint64_t k, uint64_t stride)
{
    static const char *const paths[] = {"db", "backups", NULL};
    double hours = story_hours(t->story, trace_sure(t, k));
    struct kv_vfs *first = vfs_crash_at(t->crash, k, k, VFS_CRASH_POSIX_MIN);
    struct vfs_crash *again = vfs_crash_new_from(first, paths);
    struct store_kit kit;
    story_begin(&kit, t->story, vfs_crash_as_vfs(again), hours);
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    story_finish(&kit);
    for (uint64_t j = 0; j <= vfs_crash_ops(again) + 1; j += stride) {
        char what[128];
        struct kv_vfs *disk = vfs_crash_at(again, j, j, (enum vfs_crash_profile)(j % VFS_CRASH_PROFILES));
        snprintf(what, sizeof what,
                 "%s, power lost at change %" PRIu64 ", then at change %" PRIu64 " of recovery",
                 t->story->name, k, j);
        story_begin(&kit, t->story, disk, hours);
        expect_recovered(t, &kit, k, what);
        story_finish(&kit);
        kv_vfs_mem_free(disk);
    }
    vfs_crash_free(again);
    kv_vfs_mem_free(first);
}

Test(store_crash, power_lost_again_during_recovery_loses_nothing_answered, .timeout = 3000)
{
    for (int s = 0; s < STORIES; s++) {
        struct trace *t = trace_new(&stories[s]);
        uint64_t n = vfs_crash_ops(t->crash);
        for (uint64_t k = 5; k <= n + 1; k += sweep_stride(n / 12))
            cut_again(t, k, s == 0 ? 1 : sweep_stride(2));
        trace_free(t);
    }
}
