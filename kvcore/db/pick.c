/* Long, because every reason to work weighs itself against the others, over one picture of levels and claims. */
#include "kvcore/db/pick.h"
#include "kvcore/base/assert.h"
#include "kvcore/kv.h"

enum {
    LAST = KV_LEVELS_MAX - 1,
    DEAD_SHARE = 10,         /* a tenth of a space, or of what is written to get rid of it */
    DENSE_SHARE = 2,         /* half of a table's entries */
    LEVEL0_TABLES_SEEN = 64, /* more are not looked at one by one for moves */
};
#define RANGE_AT_ONCE ((uint64_t)512 << 20) /* bytes of a range that are merged to the bottom in one step */

/* ---- ranges */

struct range {
    kv_slice smallest, largest; /* both included */
};

static struct range range_of(const struct kv_tree_item *item)
{
    return (struct range){item->properties->smallest, item->properties->largest};
}

static bool ranges_overlap(struct range a, struct range b)
{
    return kv_slice_compare(a.smallest, b.largest) <= 0 && kv_slice_compare(b.smallest, a.largest) <= 0;
}

/* True if it grew. */
static bool range_take_in(struct range *range, struct range other)
{
    bool grew = false;
    if (kv_slice_compare(other.smallest, range->smallest) < 0) {
        range->smallest = other.smallest;
        grew = true;
    }
    if (kv_slice_compare(other.largest, range->largest) > 0) {
        range->largest = other.largest;
        grew = true;
    }
    return grew;
}

/* ---- inputs */

static bool run_takes_part(const struct kv_pick *pick, const struct kv_tree_run *run)
{
    if (run->level == KV_LEVEL_ASIDE)
        return false;
    if (pick->whole)
        return true;
    if (run->level == pick->from)
        return pick->run_bytes_max == 0 || run->bytes <= pick->run_bytes_max;
    return pick->kind == KV_PICK_MERGE && run->level == pick->to;
}

void kv_pick_inputs(const struct kv_pick *pick, const struct kv_tree_run *run, size_t *first, size_t *last)
{
    *first = *last = 0;
    if (!run_takes_part(pick, run))
        return;
    kv_tree_run_touching(run, pick->smallest, pick->largest, first, last);
    if (!pick->only)
        return;
    while (*first < *last && run->items[*first].number != pick->only)
        *first += 1;
    if (*first < *last)
        *last = *first + 1;
}

static bool levels_meet(const struct kv_pick *a, const struct kv_pick *b)
{
    return a->whole || b->whole || a->from == b->from || a->from == b->to || a->to == b->from ||
           a->to == b->to;
}

static bool is_clear(const struct kv_pick *pick, const struct kv_claim *busy)
{
    struct range mine = {pick->span_smallest, pick->span_largest};
    for (; busy; busy = busy->next) {
        const struct kv_pick *other = &busy->pick;
        struct range theirs = {other->span_smallest, other->span_largest};
        if (other->space == pick->space && levels_meet(pick, other) && ranges_overlap(mine, theirs))
            return false;
    }
    return true;
}

bool kv_pick_is_clear(const struct kv_claim *busy, uint32_t space, uint32_t level, kv_slice smallest,
                      kv_slice largest)
{
    struct kv_pick pick = {
        .space = space, .from = level, .to = level, .span_smallest = smallest, .span_largest = largest};
    return is_clear(&pick, busy);
}

static bool item_is_busy(const struct kv_tree_item *item, uint32_t space, const struct kv_claim *busy)
{
    struct range mine = range_of(item);
    for (; busy; busy = busy->next) {
        const struct kv_pick *other = &busy->pick;
        if (other->space == space &&
            (other->whole || item->level == other->from || item->level == other->to) &&
            ranges_overlap(mine, (struct range){other->span_smallest, other->span_largest}))
            return true;
    }
    return false;
}

/* Span and bytes of what the pick takes. */
static void pick_measure(struct kv_pick *pick, const struct kv_cut *cut)
{
    struct range span = {pick->smallest, pick->largest};
    bool any = false;
    pick->bytes = pick->version_max = 0;
    for (size_t i = 0; i < cut->n_runs; i++) {
        size_t first, last;
        kv_pick_inputs(pick, &cut->runs[i], &first, &last);
        for (; first < last; first++) {
            struct range range = range_of(&cut->runs[i].items[first]);
            const struct kv_table_properties *p = cut->runs[i].items[first].properties;
            pick->bytes += p->file_bytes;
            if (p->version_max > pick->version_max)
                pick->version_max = p->version_max;
            if (any)
                range_take_in(&span, range);
            else
                span = range;
            any = true;
        }
    }
    pick->span_smallest = span.smallest;
    pick->span_largest = span.largest;
}

static void pick_range_set(struct kv_pick *pick, struct range range)
{
    pick->smallest = range.smallest;
    pick->largest = range.largest;
}

/* ---- what levels aim at */

static const struct kv_tree_run *run_of_level(const struct kv_cut *cut, uint32_t level)
{
    for (size_t i = 0; i < cut->n_runs; i++)
        if (cut->runs[i].level == level)
            return &cut->runs[i];
    return NULL;
}

static void levels_target(const struct kv_tree *tree, const struct kv_space *how, struct kv_pick_levels *out)
{
    uint64_t size = 0;
    for (uint32_t i = 1; i <= LAST; i++)
        if (tree->levels[i].bytes > size)
            size = tree->levels[i].bytes;
    out->target[0] = how->base_bytes;
    out->target[LAST] = size > how->base_bytes ? size : how->base_bytes;
    for (out->base = LAST; size > how->base_bytes && out->base > 1;) {
        size /= how->multiplier;
        out->target[--out->base] = size;
    }
}

void kv_pick_levels(const struct kv_tree *tree, uint32_t space, const struct kv_space *how,
                    const struct kv_claim *busy, struct kv_pick_levels *out)
{
    uint64_t idle[KV_LEVELS_MAX] = {0}, idle_runs = 0;
    *out = (struct kv_pick_levels){0};
    levels_target(tree, how, out);
    for (size_t c = 0; c < tree->n_cuts; c++) {
        uint64_t runs = 0, free_runs = 0;
        for (size_t i = 0; i < tree->cuts[c].n_runs; i++) {
            const struct kv_tree_run *run = &tree->cuts[c].runs[i];
            bool any_busy = false;
            if (run->level == KV_LEVEL_ASIDE)
                continue;
            for (size_t k = 0; k < run->n; k++) {
                if (busy && item_is_busy(&run->items[k], space, busy))
                    any_busy = true;
                else
                    idle[run->level] += run->items[k].properties->file_bytes;
            }
            runs += run->level == 0;
            free_runs += run->level == 0 && !any_busy;
        }
        out->level0_runs = runs > out->level0_runs ? runs : out->level0_runs;
        idle_runs = free_runs > idle_runs ? free_runs : idle_runs;
    }
    for (uint32_t i = 0; i <= LAST; i++) {
        uint64_t bytes = tree->levels[i].bytes;
        bool emptying = i > 0 && i < out->base;
        out->score[i] = emptying && idle[i] ? 1 + (double)idle[i] / (double)how->base_bytes
                        : emptying          ? 0
                                            : (double)idle[i] / (double)(out->target[i] ? out->target[i] : 1);
        if (i < LAST && bytes > out->target[i])
            out->excess += bytes - out->target[i];
    }
    out->score[LAST] = 0; /* nothing lies below it */
    double by_runs = (double)idle_runs / how->level0_runs;
    if (by_runs > out->score[0])
        out->score[0] = by_runs;
}

/* ---- level 0 */

struct chooser {
    const struct kv_version *version;
    const struct kv_claim *busy;
    const struct kv_pick_limits *limits;
    uint32_t space; /* looked at now: */
    const struct kv_tree *tree;
    const struct kv_space *how;
    struct kv_pick_levels levels;
};

static struct kv_pick pick_new(const struct chooser *c, size_t cut, uint32_t from, uint32_t to,
                               enum kv_pick_why why)
{
    return (struct kv_pick){
        .kind = KV_PICK_MERGE, .why = why, .space = c->space, .cut = cut, .from = from, .to = to};
}

/* Measures a candidate; false: it touches what is busy. */
static bool pick_finish(const struct chooser *c, struct kv_pick *pick)
{
    pick_measure(pick, &c->tree->cuts[pick->cut]);
    return is_clear(pick, c->busy);
}

static bool overlaps_run(const struct kv_tree_run *run, struct range range)
{
    size_t first, last;
    kv_tree_run_touching(run, range.smallest, range.largest, &first, &last);
    return first < last;
}

/* The deepest level at or below `top` that a table of this range may come to with nothing of it on the way; 0:
 * not even top. */
static uint32_t deepest_free(const struct kv_cut *cut, struct range range, uint32_t top)
{
    uint32_t deepest = 0;
    for (uint32_t level = top; level <= LAST; level++) {
        const struct kv_tree_run *run = run_of_level(cut, level);
        if (run && overlaps_run(run, range))
            break;
        deepest = level;
    }
    return deepest;
}

uint32_t kv_pick_deepest(const struct kv_tree *tree, const struct kv_space *how, kv_slice smallest,
                         kv_slice largest)
{
    size_t at = kv_tree_cut_at(tree, smallest);
    if (at == tree->n_cuts || !kv_slice_equal(tree->cuts[at].prefix, kv_space_cut(how, smallest)))
        return LAST;
    struct range range = {smallest, largest};
    for (size_t i = 0; i < tree->cuts[at].n_runs; i++)
        if (tree->cuts[at].runs[i].level == 0 && overlaps_run(&tree->cuts[at].runs[i], range))
            return 0;
    return deepest_free(&tree->cuts[at], range, 1);
}

static bool level0_overlaps_others(const struct kv_cut *cut, const struct kv_tree_item *item)
{
    for (size_t i = 0; i < cut->n_runs; i++) {
        const struct kv_tree_run *run = &cut->runs[i];
        size_t first, last;
        if (run->level > 0)
            continue;
        kv_tree_run_touching(run, item->properties->smallest, item->properties->largest, &first, &last);
        if (first < last && (last - first > 1 || run->items[first].number != item->number))
            return true;
    }
    return false;
}

static struct range level0_hull(const struct kv_cut *cut)
{
    struct range hull = {0};
    bool any = false;
    for (size_t i = 0; i < cut->n_runs; i++) {
        const struct kv_tree_run *run = &cut->runs[i];
        struct range range = {run->items[0].properties->smallest, run->items[run->n - 1].properties->largest};
        if (run->level > 0)
            continue;
        if (any)
            range_take_in(&hull, range);
        else
            hull = range;
        any = true;
    }
    return hull;
}

/* Data written in the order of its keys: all of level 0 may be moved, for no table overlaps any other. */
static bool level0_move(const struct chooser *c, size_t at, struct kv_pick *out)
{
    const struct kv_cut *cut = &c->tree->cuts[at];
    uint32_t to = LAST;
    size_t n = 0;
    for (size_t i = 0; i < cut->n_runs && to > 0; i++) {
        const struct kv_tree_run *run = &cut->runs[i];
        for (size_t k = 0; run->level == 0 && k < run->n && to > 0; k++) {
            uint32_t deepest = n++ < LEVEL0_TABLES_SEEN && !level0_overlaps_others(cut, &run->items[k])
                                   ? deepest_free(cut, range_of(&run->items[k]), c->levels.base)
                                   : 0;
            to = deepest < to ? deepest : to;
        }
    }
    if (n == 0 || to == 0)
        return false;
    *out = pick_new(c, at, 0, to, KV_WHY_LEVEL0);
    out->kind = KV_PICK_MOVE;
    pick_range_set(out, level0_hull(cut));
    return pick_finish(c, out);
}

/* The range of the oldest table of level 0 and all that it overlaps there, directly or not. */
static struct range level0_closure(const struct kv_cut *cut)
{
    const struct kv_tree_run *oldest = NULL;
    for (size_t i = 0; i < cut->n_runs; i++)
        if (cut->runs[i].level == 0 && (!oldest || cut->runs[i].version_max < oldest->version_max))
            oldest = &cut->runs[i];
    KV_ASSERT(oldest != NULL); /* asked only where level 0 has a table */
    struct range range = range_of(&oldest->items[0]);
    for (bool grew = true; grew;) {
        grew = false;
        for (size_t i = 0; i < cut->n_runs; i++) {
            size_t first, last;
            if (cut->runs[i].level > 0)
                continue;
            kv_tree_run_touching(&cut->runs[i], range.smallest, range.largest, &first, &last);
            for (; first < last; first++)
                grew = range_take_in(&range, range_of(&cut->runs[i].items[first])) || grew;
        }
    }
    return range;
}

static size_t level0_count(const struct kv_cut *cut)
{
    size_t n = 0;
    for (size_t i = 0; i < cut->n_runs; i++)
        n += cut->runs[i].level == 0;
    return n;
}

/* Of level 0 the small runs that are worth merging among themselves: taken from the smallest on as long as the
 * next one is at most twice all before it. Answers the bytes of the largest taken; 0: fewer than two. */
static uint64_t level0_small(const struct kv_cut *cut)
{
    uint64_t sum = 0, taken = 0;
    size_t n = 0;
    for (;;) {
        uint64_t next = UINT64_MAX;
        size_t same = 0;
        for (size_t i = 0; i < cut->n_runs; i++) {
            uint64_t bytes = cut->runs[i].bytes;
            if (cut->runs[i].level > 0 || bytes <= taken || bytes > next)
                continue;
            same = bytes == next ? same + 1 : 1;
            next = bytes;
        }
        if (next == UINT64_MAX || (n > 0 && next > 2 * sum))
            break;
        taken = next;
        sum += next * same;
        n += same;
    }
    return n > 1 ? taken : 0;
}

static uint64_t bytes_of_level(const struct kv_pick *pick, const struct kv_cut *cut, uint32_t level)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < cut->n_runs; i++) {
        size_t first, last;
        if (cut->runs[i].level != level)
            continue;
        kv_pick_inputs(pick, &cut->runs[i], &first, &last);
        for (; first < last; first++)
            bytes += cut->runs[i].items[first].properties->file_bytes;
    }
    return bytes;
}

static bool level0_pick(const struct chooser *c, size_t at, enum kv_pick_why why, struct kv_pick *out)
{
    const struct kv_cut *cut = &c->tree->cuts[at];
    if (level0_move(c, at, out))
        return true;
    struct kv_pick pick = pick_new(c, at, 0, c->levels.base, why);
    pick_range_set(&pick, level0_closure(cut));
    bool clear = pick_finish(c, &pick);
    uint64_t above = bytes_of_level(&pick, cut, 0), below = bytes_of_level(&pick, cut, pick.to);
    size_t runs = level0_count(cut);
    bool tiny = why == KV_WHY_LEVEL0 && above * c->how->multiplier < below;
    if (tiny && runs < (size_t)2 * c->how->level0_runs) {
        uint64_t run_bytes_max = level0_small(cut);
        if (run_bytes_max) {
            pick.to = 0;
            pick.run_bytes_max = run_bytes_max;
            pick_range_set(&pick, level0_hull(cut));
            clear = pick_finish(c, &pick);
        }
    }
    if (clear)
        *out = pick;
    return clear;
}

static bool level0_best(const struct chooser *c, struct kv_pick *out)
{
    size_t best = 0;
    for (size_t i = 0; i < c->tree->n_cuts; i++) {
        size_t n = level0_count(&c->tree->cuts[i]);
        struct kv_pick pick;
        bool due = n >= c->how->level0_runs || (n > 0 && c->tree->levels[0].bytes >= c->how->base_bytes);
        if (due && n > best && level0_pick(c, i, KV_WHY_LEVEL0, &pick)) {
            best = n;
            *out = pick;
        }
    }
    return best > 0;
}

/* ---- the other levels */

/* One table of a level from 1 on, down by one: a move if nothing is in the way. */
static bool table_pick(const struct chooser *c, size_t cut, const struct kv_tree_item *item,
                       enum kv_pick_why why, struct kv_pick *out)
{
    *out = pick_new(c, cut, item->level, item->level + 1, why);
    pick_range_set(out, range_of(item));
    const struct kv_tree_run *below = run_of_level(&c->tree->cuts[cut], out->to);
    if (!below || !overlaps_run(below, range_of(item)))
        out->kind = KV_PICK_MOVE;
    return pick_finish(c, out);
}

/* A table's bytes, deletions counted as what they may hide. */
static double table_weight(const struct chooser *c, const struct kv_tree_item *item)
{
    const struct kv_table_properties *p = item->properties;
    double mean = (double)c->tree->bytes / (double)(c->tree->entries ? c->tree->entries : 1);
    return (double)p->file_bytes + 2 * mean * (double)p->deletes;
}

static bool level_best(const struct chooser *c, uint32_t level, struct kv_pick *out)
{
    double best = -1;
    for (size_t i = 0; i < c->tree->n_cuts; i++) {
        const struct kv_tree_run *run = run_of_level(&c->tree->cuts[i], level);
        for (size_t k = 0; run && k < run->n; k++) {
            struct kv_pick pick;
            if (!table_pick(c, i, &run->items[k], KV_WHY_SIZE, &pick))
                continue;
            double cost = (double)(pick.bytes - run->items[k].properties->file_bytes) /
                          (table_weight(c, &run->items[k]) + 1);
            if (best < 0 || cost < best) {
                best = cost;
                *out = pick;
            }
        }
    }
    return best >= 0;
}

/* ---- what is dead: deletions, entries that have expired, entries under range deletions */

/* Of the entries that expire a part is taken to have, by time. */
static uint64_t expired_entries(const struct chooser *c, const struct kv_table_properties *p)
{
    uint64_t now = c->limits->now_s;
    if (p->expiring == 0 || now < p->expiry_min_s)
        return 0;
    if (now >= p->expiry_max_s)
        return p->expiring;
    double share = (double)(now - p->expiry_min_s) / (double)(p->expiry_max_s - p->expiry_min_s);
    return (uint64_t)(share * (double)p->expiring);
}

/* Does a range deletion reach into the table that was not applied when it was written? (What one covers whole is
 * dropped when it comes: range_plan.h.) */
static bool is_covered(const struct chooser *c, const struct kv_table_properties *p)
{
    const struct kv_ranges *ranges = c->tree->ranges;
    uint64_t known = p->ranges_applied > p->version_min ? p->ranges_applied : p->version_min;
    return ranges && (kv_ranges_touch(ranges, p->smallest, p->largest, known) ||
                      kv_ranges_newest(ranges, p->largest, UINT64_MAX) > known);
}

/* Of a table that is covered in part half is taken to be, but never all. */
static uint64_t dead_entries(const struct chooser *c, const struct kv_tree_item *item)
{
    const struct kv_table_properties *p = item->properties;
    if (item->level == KV_LEVEL_ASIDE)
        return 0;
    uint64_t dead = p->deletes + expired_entries(c, p);
    if (dead < p->entries && is_covered(c, p))
        dead += (p->entries - dead) / 2;
    return dead;
}

/* Could an entry of another table be older than one of item's, in its range? */
static bool hides_something(const struct kv_cut *cut, const struct kv_tree_item *item)
{
    const struct kv_table_properties *p = item->properties;
    for (size_t i = 0; i < cut->n_runs; i++) {
        size_t first, last;
        kv_tree_run_touching(&cut->runs[i], p->smallest, p->largest, &first, &last);
        for (; first < last; first++)
            if (cut->runs[i].items[first].number != item->number &&
                cut->runs[i].items[first].properties->version_min < p->version_max)
                return true;
    }
    return false;
}

/* A merge of the table alone, or a drop, would get rid of all that is dead in it. */
static bool table_can_shed(const struct chooser *c, size_t cut, const struct kv_tree_item *item)
{
    return item->properties->version_max <= c->limits->oldest_txn &&
           !hides_something(&c->tree->cuts[cut], item);
}

static bool shed_pick(const struct chooser *c, size_t at, const struct kv_tree_item *item, uint64_t dead,
                      struct kv_pick *out)
{
    *out = pick_new(c, at, item->level, item->level, KV_WHY_DEAD);
    bool nothing_left = dead == item->properties->entries && table_can_shed(c, at, item);
    out->kind = nothing_left ? KV_PICK_DROP : KV_PICK_MERGE; /* deletions that hide something stay */
    out->only = item->number;
    pick_range_set(out, range_of(item));
    return pick_finish(c, out);
}

static bool dead_pick(const struct chooser *c, size_t at, const struct kv_tree_item *item, uint64_t dead,
                      struct kv_pick *out)
{
    if (table_can_shed(c, at, item) || (item->level > 0 && is_covered(c, item->properties)))
        return shed_pick(c, at, item, dead, out);
    if (item->level == 0)
        return level0_pick(c, at, KV_WHY_DEAD, out);
    return item->level < LAST && table_pick(c, at, item, KV_WHY_DEAD, out);
}

/* What the pick frees for each byte it writes, about; mean: bytes of an entry that is not a deletion. */
static double dead_gain(const struct kv_pick *pick, uint64_t dead, double mean)
{
    return pick->kind == KV_PICK_MERGE ? mean * (double)dead / (double)(pick->bytes + 1) : 1e18;
}

static bool deletes_are_old(const struct chooser *c, const struct kv_table_properties *p)
{
    return p->deletes && p->deletes_since_s &&
           p->deletes_since_s + c->how->deletions_age_s <= c->limits->now_s;
}

static bool dead_is_due(const struct chooser *c, const struct kv_tree_item *item, const struct kv_pick *pick,
                        uint64_t dead, bool much, double gain)
{
    if (much || pick->kind == KV_PICK_DROP || deletes_are_old(c, item->properties))
        return true;
    return item->level > 0 && dead * DENSE_SHARE >= item->properties->entries && gain * DEAD_SHARE >= 1;
}

/* drops_only: for spaces of style runs. */
static bool dead_best(const struct chooser *c, bool drops_only, struct kv_pick *out)
{
    const struct kv_tree *tree = c->tree;
    uint64_t puts = tree->entries - tree->deletes, all = 0;
    double mean = puts ? (double)tree->bytes / (double)puts : 0, best = -1;
    for (size_t i = 0; i < tree->n_items; i++)
        all += dead_entries(c, &tree->items[i]);
    if (all == 0)
        return false;
    bool much = mean * (double)all * DEAD_SHARE > (double)tree->bytes;
    for (size_t i = 0; i < tree->n_cuts; i++)
        for (size_t r = 0; r < tree->cuts[i].n_runs; r++)
            for (size_t k = 0; k < tree->cuts[i].runs[r].n; k++) {
                const struct kv_tree_item *item = &tree->cuts[i].runs[r].items[k];
                uint64_t dead = dead_entries(c, item);
                struct kv_pick pick;
                if (dead == 0 || (drops_only && dead < item->properties->entries) ||
                    !dead_pick(c, i, item, dead, &pick) || (drops_only && pick.kind != KV_PICK_DROP))
                    continue;
                double gain = dead_gain(&pick, dead, mean);
                if (gain > best && dead_is_due(c, item, &pick, dead, much, gain)) {
                    best = gain;
                    *out = pick;
                }
            }
    return best >= 0;
}

/* ---- sparse segments of the value log */

static bool values_best(const struct chooser *c, struct kv_pick *out)
{
    const struct kv_tree *tree = c->tree;
    double best = 0;
    for (size_t i = 0; i < tree->n_cuts && c->version->values.n > 0; i++)
        for (size_t r = 0; r < tree->cuts[i].n_runs; r++)
            for (size_t k = 0; k < tree->cuts[i].runs[r].n; k++) {
                const struct kv_tree_item *item = &tree->cuts[i].runs[r].items[k];
                uint64_t bytes = kv_values_sparse(&c->version->values, item->properties->value_refs);
                double share = (double)bytes / (double)(item->properties->file_bytes + bytes);
                if (share <= best)
                    continue;
                struct kv_pick pick = pick_new(c, i, item->level, item->level, KV_WHY_VALUES);
                pick.only = item->number;
                pick_range_set(&pick, range_of(item));
                if (pick_finish(c, &pick)) {
                    best = share;
                    *out = pick;
                }
            }
    return best > 0;
}

/* ---- runs */

kv_status kv_pick_whole(const struct kv_version *tree, uint32_t space, size_t cut, uint32_t to,
                        const struct kv_claim *busy, struct kv_pick *out)
{
    const struct kv_cut *in = &tree->trees[space].cuts[cut];
    *out = (struct kv_pick){
        .kind = KV_PICK_MERGE, .why = KV_WHY_RANGE, .space = space, .cut = cut, .to = to, .whole = true};
    out->smallest = in->runs[0].items[0].properties->smallest;
    out->largest = in->largest;
    for (size_t i = 1; i < in->n_runs; i++)
        if (kv_slice_compare(in->runs[i].items[0].properties->smallest, out->smallest) < 0)
            out->smallest = in->runs[i].items[0].properties->smallest;
    pick_measure(out, in);
    return is_clear(out, busy) ? KV_OK : KV_BUSY;
}

/* A hook sees whole groups, so it sees nothing of a cut of which a table lies aside. */
static bool cut_is_whole(const struct kv_space *how, const struct kv_cut *cut)
{
    return !how->hook || cut->n_aside == 0;
}

size_t kv_pick_runs(const struct kv_space *how, const struct kv_cut *cut)
{
    return cut_is_whole(how, cut) ? cut->n_runs - cut->n_aside : 0;
}

/* Of equals the one with the fewest bytes, for it is done soonest. */
static bool runs_best(const struct chooser *c, struct kv_pick *out)
{
    const struct kv_cut *best = NULL;
    size_t most = 0;
    for (size_t i = 0; i < c->tree->n_cuts; i++) {
        const struct kv_cut *cut = &c->tree->cuts[i];
        struct kv_pick pick;
        size_t n = kv_pick_runs(c->how, cut);
        if (n <= KV_RUNS_MAX || (best && n < most) || (best && n == most && cut->bytes >= best->bytes) ||
            kv_pick_whole(c->version, c->space, i, 0, c->busy, &pick) != KV_OK)
            continue;
        best = cut;
        most = n;
        pick.why = KV_WHY_RUNS;
        pick.score = (double)n / KV_RUNS_MAX;
        *out = pick;
    }
    return best != NULL;
}

/* ---- all of it */

/* The best of one space, levels over their target first; score below 1: only deletions ask for it. */
static bool levels_best(struct chooser *c, struct kv_pick *out)
{
    bool tried[KV_LEVELS_MAX] = {false};
    kv_pick_levels(c->tree, c->space, c->how, c->busy, &c->levels);
    for (;;) {
        uint32_t best = KV_LEVELS_MAX;
        for (uint32_t i = 0; i < LAST; i++)
            if (!tried[i] && c->levels.score[i] >= 1 &&
                (best == KV_LEVELS_MAX || c->levels.score[i] > c->levels.score[best]))
                best = i;
        if (best == KV_LEVELS_MAX)
            break;
        tried[best] = true;
        if (best == 0 ? level0_best(c, out) : level_best(c, best, out)) {
            out->score = c->levels.score[best];
            return true;
        }
    }
    return dead_best(c, false, out) || values_best(c, out);
}

bool kv_pick_work(const struct kv_version *version, const struct kv_space *spaces,
                  const struct kv_pick_limits *limits, const struct kv_claim *busy, struct kv_pick *out)
{
    struct chooser c = {.version = version, .busy = busy, .limits = limits};
    bool found = false;
    for (c.space = 0; c.space < version->n_spaces; c.space++) {
        struct kv_pick pick = {0};
        if (limits->blocked >> c.space & 1)
            continue;
        c.tree = &version->trees[c.space];
        c.how = &spaces[c.space];
        bool here = c.how->style == KV_STYLE_LEVELLED
                        ? levels_best(&c, &pick)
                        : runs_best(&c, &pick) || dead_best(&c, true, &pick) || values_best(&c, &pick);
        if (here && (!found || pick.score > out->score)) {
            *out = pick;
            found = true;
        }
    }
    return found;
}

/* ---- time */

/* A table is looked at again when half of what expires in it has, and when all has, */
static uint64_t expiry_next_s(const struct kv_table_properties *p, uint64_t now_s)
{
    uint64_t half = p->expiry_min_s + (p->expiry_max_s - p->expiry_min_s) / 2 + 1;
    if (p->expiring == 0 || now_s >= p->expiry_max_s)
        return UINT64_MAX;
    return now_s < half && half < p->expiry_max_s ? half : p->expiry_max_s;
}

/* and when its deletions have become old. */
static uint64_t table_next_s(const struct kv_space *how, const struct kv_table_properties *p, uint64_t now_s)
{
    uint64_t next = expiry_next_s(p, now_s);
    uint64_t old = p->deletes && p->deletes_since_s ? p->deletes_since_s + how->deletions_age_s : 0;
    return how->style == KV_STYLE_LEVELLED && old > now_s && old < next ? old : next;
}

uint64_t kv_pick_next_s(const struct kv_version *version, const struct kv_space *spaces, uint64_t now_s)
{
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < version->n_spaces; i++)
        for (size_t k = 0; k < version->trees[i].n_items; k++) {
            uint64_t at = table_next_s(&spaces[i], version->trees[i].items[k].properties, now_s);
            next = at < next ? at : next;
        }
    return next;
}

/* ---- a range, to the bottom */

static bool item_in_range(const struct kv_tree_item *item, kv_slice lower, kv_slice upper, uint64_t version)
{
    const struct kv_table_properties *p = item->properties;
    return p->version_min <= version && kv_slice_compare(p->largest, lower) >= 0 &&
           (upper.len == 0 || kv_slice_compare(p->smallest, upper) < 0);
}

/* All levels of what the range touches in the cut, and what that touches, and so on: in one merge, if it is not
 * too much. */
static bool range_at_once(const struct chooser *c, size_t at, struct range range, struct kv_pick *out)
{
    const struct kv_cut *cut = &c->tree->cuts[at];
    *out = pick_new(c, at, 0, LAST, KV_WHY_RANGE);
    out->whole = true;
    for (bool grew = true; grew;) {
        pick_range_set(out, range);
        pick_measure(out, cut);
        grew = range_take_in(&range, (struct range){out->span_smallest, out->span_largest});
        if (out->bytes > RANGE_AT_ONCE)
            return false;
    }
    return true;
}

static bool is_settled(const struct chooser *c, size_t cut, const struct kv_tree_item *item)
{
    return item->level == KV_LEVEL_ASIDE ||
           (item->level == LAST && (dead_entries(c, item) == 0 || !table_can_shed(c, cut, item)));
}

/* The first table of the range that is not at the bottom, or whose dead entries may go: topmost level first. */
static const struct kv_tree_item *range_first(const struct chooser *c, size_t at, kv_slice lower,
                                              kv_slice upper, uint64_t version)
{
    const struct kv_cut *cut = &c->tree->cuts[at];
    const struct kv_tree_item *first = NULL;
    for (size_t i = 0; i < cut->n_runs; i++)
        for (size_t k = 0; k < cut->runs[i].n; k++) {
            const struct kv_tree_item *item = &cut->runs[i].items[k];
            if (item_in_range(item, lower, upper, version) && (!first || item->level < first->level) &&
                !is_settled(c, at, item))
                first = item;
        }
    return first;
}

/* Nothing in the way down and nothing to get rid of: straight to the bottom. */
static bool range_move(const struct chooser *c, size_t at, const struct kv_tree_item *item,
                       struct kv_pick *out)
{
    const struct kv_cut *cut = &c->tree->cuts[at];
    if (item->level == LAST || dead_entries(c, item) > 0 || level0_overlaps_others(cut, item) ||
        deepest_free(cut, range_of(item), item->level + 1) != LAST)
        return false;
    *out = pick_new(c, at, item->level, LAST, KV_WHY_RANGE);
    out->kind = KV_PICK_MOVE;
    out->only = item->number;
    pick_range_set(out, range_of(item));
    pick_measure(out, cut);
    return true;
}

static bool range_step(const struct chooser *c, size_t at, const struct kv_tree_item *item,
                       struct kv_pick *out)
{
    if (range_move(c, at, item, out) || range_at_once(c, at, range_of(item), out))
        return is_clear(out, c->busy);
    if (item->level == 0)
        return level0_pick(c, at, KV_WHY_RANGE, out);
    if (item->level < LAST)
        return table_pick(c, at, item, KV_WHY_RANGE, out);
    return shed_pick(c, at, item, dead_entries(c, item), out);
}

kv_status kv_pick_range(const struct kv_version *tree, uint32_t space, const struct kv_space *how,
                        kv_slice lower, kv_slice upper, uint64_t version, const struct kv_pick_limits *limits,
                        const struct kv_claim *busy, struct kv_pick *out)
{
    struct chooser c = {.version = tree,
                        .busy = busy,
                        .limits = limits,
                        .space = space,
                        .tree = &tree->trees[space],
                        .how = how};
    kv_pick_levels(c.tree, space, how, busy, &c.levels);
    for (size_t i = 0; i < c.tree->n_cuts; i++) {
        const struct kv_tree_item *item = range_first(&c, i, lower, upper, version);
        if (item)
            return range_step(&c, i, item, out) ? KV_OK : KV_BUSY;
    }
    return KV_END;
}
