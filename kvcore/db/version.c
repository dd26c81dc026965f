#include "kvcore/db/version.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/block.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

struct sort_item {
    struct kv_tree_item item;
    kv_slice cut;
};

static bool runs_by_number(uint32_t level)
{
    return level == 0 || level == KV_LEVEL_ASIDE;
}

static int order_items(const void *a, const void *b)
{
    const struct sort_item *x = a, *y = b;
    int c = kv_slice_compare(x->cut, y->cut);
    if (c)
        return c;
    if (x->item.level != y->item.level)
        return x->item.level < y->item.level ? -1 : 1;
    if (runs_by_number(x->item.level) && x->item.run != y->item.run)
        return x->item.run < y->item.run ? 1 : -1;
    return kv_slice_compare(x->item.properties->smallest, y->item.properties->smallest);
}

static int order_runs(const void *a, const void *b)
{
    const struct kv_tree_run *x = a, *y = b;
    if (x->version_max != y->version_max)
        return x->version_max < y->version_max ? 1 : -1;
    return (x->items[0].run < y->items[0].run) - (x->items[0].run > y->items[0].run);
}

static bool is_dropped(uint64_t number, const struct kv_tree_change *change)
{
    for (size_t i = 0; i < change->n_drops; i++)
        if (change->drops[i] == number)
            return true;
    return false;
}

static uint32_t level_after(const struct kv_tree_item *item, const struct kv_tree_change *change)
{
    for (size_t i = 0; i < change->n_moves; i++)
        if (change->moves[i].number == item->number)
            return change->moves[i].level;
    return item->level;
}

static void run_add(struct kv_tree_run *run, const struct kv_tree_item *item)
{
    const struct kv_table_properties *p = item->properties;
    if (run->n == 0)
        *run = (struct kv_tree_run){.items = item, .level = item->level, .unique_puts = true};
    run->n++;
    run->bytes += p->file_bytes;
    if (p->version_max > run->version_max)
        run->version_max = p->version_max;
    if (!kv_table_properties_unique_puts(p))
        run->unique_puts = false;
}

static void cut_finish(struct kv_cut *cut)
{
    qsort(cut->runs, cut->n_runs, sizeof *cut->runs, order_runs);
    for (size_t i = 0; i < cut->n_runs; i++) {
        kv_slice last = cut->runs[i].items[cut->runs[i].n - 1].properties->largest;
        if (i == 0 || kv_slice_compare(last, cut->largest) > 0)
            cut->largest = last;
        cut->bytes += cut->runs[i].bytes;
        cut->n_aside += cut->runs[i].level == KV_LEVEL_ASIDE;
    }
}

static void tree_count(struct kv_tree *tree, const struct kv_tree_item *item)
{
    const struct kv_table_properties *p = item->properties;
    tree->bytes += p->file_bytes;
    tree->entries += p->entries;
    tree->deletes += p->deletes;
    if (p->version_max > tree->version_max)
        tree->version_max = p->version_max;
    if (item->level == KV_LEVEL_ASIDE) {
        tree->aside++;
        return;
    }
    struct kv_tree_level *level = &tree->levels[item->level];
    level->tables++;
    level->bytes += p->file_bytes;
    level->entries += p->entries;
    level->deletes += p->deletes;
}

/* items: sorted; they stay the caller's. */
static kv_status tree_fill(struct kv_tree *tree, const struct sort_item *items, size_t n, struct kv_err *err)
{
    tree->items = kv_zalloc(n, sizeof *tree->items);
    tree->runs = kv_zalloc(n, sizeof *tree->runs); /* at most one each */
    tree->cuts = kv_zalloc(n, sizeof *tree->cuts);
    if (!tree->items || !tree->runs || !tree->cuts)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory describing the tree");
    for (size_t i = 0; i < n; i++) {
        const struct kv_table_properties *p = items[i].item.properties;
        bool same_cut = i > 0 && kv_slice_equal(items[i].cut, items[i - 1].cut);
        bool same_run = same_cut && items[i].item.level != KV_LEVEL_ASIDE &&
                        items[i].item.level == items[i - 1].item.level &&
                        (items[i].item.level > 0 || items[i].item.run == items[i - 1].item.run);
        tree->items[i] = items[i].item;
        kv_table_ref(items[i].item.table);
        tree->n_items++;
        if (same_run && kv_slice_compare(p->smallest, items[i - 1].item.properties->largest) <= 0)
            return kv_fail(err, KV_CORRUPT, 0,
                           "tables %06" PRIu64 " and %06" PRIu64 " of one run overlap on level %" PRIu32,
                           items[i - 1].item.number, items[i].item.number, items[i].item.level);
        if (!same_cut) {
            tree->cuts[tree->n_cuts].prefix = items[i].cut;
            tree->cuts[tree->n_cuts++].runs = &tree->runs[tree->n_runs];
        }
        if (!same_run) {
            tree->n_runs++;
            tree->cuts[tree->n_cuts - 1].n_runs++;
        }
        run_add(&tree->runs[tree->n_runs - 1], &tree->items[i]);
        tree_count(tree, &tree->items[i]);
    }
    for (size_t i = 0; i < tree->n_cuts; i++)
        cut_finish(&tree->cuts[i]);
    return KV_OK;
}

static kv_status tree_make(struct kv_tree *tree, const struct kv_tree *base, uint32_t id,
                           const struct kv_space *space, const struct kv_tree_change *change,
                           struct kv_err *err)
{
    size_t n = 0;
    kv_status rc = KV_OK;
    struct sort_item *items = kv_zalloc((base ? base->n_items : 0) + change->n_adds, sizeof *items);
    if (!items)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory describing the tree");
    for (size_t i = 0; base && i < base->n_items; i++)
        if (!is_dropped(base->items[i].number, change)) {
            items[n].item = base->items[i];
            items[n++].item.level = level_after(&base->items[i], change);
        }
    for (size_t i = 0; i < change->n_adds; i++) {
        const struct kv_tree_add *add = &change->adds[i];
        if (add->space == id)
            items[n++].item = (struct kv_tree_item){add->table,
                                                    kv_table_properties(add->table),
                                                    kv_table_number(add->table),
                                                    add->run,
                                                    add->level,
                                                    0};
    }
    for (size_t i = 0; i < n; i++) {
        const struct kv_table_properties *p = items[i].item.properties;
        uint32_t level = items[i].item.level;
        items[i].item.reads_at =
            kv_reads_offset((size_t)id * KV_LEVELS_MAX + (level == KV_LEVEL_ASIDE ? 0 : level));
        items[i].cut = kv_space_cut(space, p->smallest);
        if (!kv_slice_equal(items[i].cut, kv_space_cut(space, p->largest))) {
            rc = kv_fail(err, KV_CORRUPT, 0,
                         "table %06" PRIu64 " straddles a cut of space %s (another cut function?)",
                         items[i].item.number, space->name);
            goto out;
        }
    }
    qsort(items, n, sizeof *items, order_items);
    rc = tree_fill(tree, items, n, err);
out:
    kv_free(items);
    return rc;
}

kv_status kv_version_make(const struct kv_version *base, uint32_t n_spaces, const struct kv_space *spaces,
                          const struct kv_tree_change *change, struct kv_version **out, struct kv_err *err)
{
    struct kv_version *version = kv_zalloc(1, sizeof *version + n_spaces * sizeof *version->trees);
    kv_status rc = KV_OK;
    if (!version)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory describing the tree");
    version->refs = 1;
    version->n_spaces = n_spaces;
    version->reads = base ? base->reads : NULL;
    for (uint32_t i = 0; i < n_spaces && rc == KV_OK; i++)
        rc = tree_make(&version->trees[i], base && i < base->n_spaces ? &base->trees[i] : NULL, i, &spaces[i],
                       change, err);
    for (uint32_t i = 0; base && i < base->n_spaces; i++)
        if (base->trees[i].ranges)
            version->trees[i].ranges = kv_ranges_ref(base->trees[i].ranges);
    if (rc == KV_OK)
        rc = kv_values_make(&version->values, base ? &base->values : NULL, change->segments,
                            change->n_segments, version, change->log_floor, err);
    if (rc < 0) {
        kv_version_unref(version);
        return rc;
    }
    *out = version;
    return KV_OK;
}

void kv_version_set_ranges(struct kv_version *version, uint32_t space, struct kv_ranges *ranges)
{
    kv_ranges_unref(version->trees[space].ranges);
    version->trees[space].ranges = ranges;
}

struct kv_version *kv_version_ref(struct kv_version *version)
{
    atomic_fetch_add_explicit(&version->refs, 1, memory_order_relaxed);
    return version;
}

void kv_version_unref(struct kv_version *version)
{
    if (!version || atomic_fetch_sub_explicit(&version->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < version->n_spaces; i++) {
        struct kv_tree *tree = &version->trees[i];
        for (size_t k = 0; k < tree->n_items; k++)
            kv_table_unref(tree->items[k].table);
        kv_free(tree->items);
        kv_free(tree->runs);
        kv_free(tree->cuts);
        kv_ranges_unref(tree->ranges);
    }
    kv_values_release(&version->values);
    kv_free(version);
}

size_t kv_tree_cut_at(const struct kv_tree *tree, kv_slice key)
{
    size_t low = 0, high = tree->n_cuts;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (kv_slice_compare(tree->cuts[middle].largest, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t kv_tree_run_at(const struct kv_tree_run *run, kv_slice key)
{
    size_t low = 0, high = run->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (kv_slice_compare(run->items[middle].properties->largest, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void kv_tree_run_touching(const struct kv_tree_run *run, kv_slice smallest, kv_slice largest, size_t *first,
                          size_t *last)
{
    *first = kv_tree_run_at(run, smallest);
    *last = kv_tree_run_at(run, largest);
    if (*last < run->n && kv_slice_compare(run->items[*last].properties->smallest, largest) <= 0)
        *last += 1;
    if (*last < *first)
        *last = *first;
}

struct kv_tree_run kv_tree_run_part(const struct kv_tree_run *run, size_t first, size_t last)
{
    struct kv_tree_run part = {0};
    KV_ASSERT(first < last && last <= run->n);
    for (size_t i = first; i < last; i++)
        run_add(&part, &run->items[i]);
    return part;
}

static kv_status get_from(const struct kv_tree_item *item, kv_slice key, uint64_t version,
                          const struct kv_reads *reads, struct kv_found *found, bool *have,
                          struct kv_err *err)
{
    struct kv_found here = {0}, *into = *have ? &here : found;
    kv_status rc = kv_table_get(item->table, key, version, into, err);
    struct kv_reads_stripe *mine = kv_reads_mine(reads);
    struct kv_reads_level *counts = kv_reads_level_at(mine, item->reads_at);
    if (rc != KV_OK) {
        kv_reads_add(into->filtered ? &counts->filtered : &counts->missed, 1);
        return rc < 0 ? rc : KV_OK;
    }
    kv_reads_add(&counts->found, 1);
    if (into == &here) {
        bool older = found->version >= here.version;
        kv_reads_add(&mine->twice, 1);
        kv_block_unref(older ? here.block : found->block);
        if (!older)
            *found = here;
    }
    *have = true;
    return KV_OK;
}

kv_status kv_version_get(const struct kv_version *tree, uint32_t space, const struct kv_space *how,
                         kv_slice key, uint64_t version, struct kv_found *found, bool *have,
                         struct kv_err *err)
{
    const struct kv_tree *in = &tree->trees[space];
    size_t at = kv_tree_cut_at(in, key);
    if (at == in->n_cuts || !kv_slice_equal(in->cuts[at].prefix, kv_space_cut(how, key)))
        return KV_OK;
    const struct kv_cut *cut = &in->cuts[at];
    for (size_t i = 0; i < cut->n_runs; i++) {
        const struct kv_tree_run *run = &cut->runs[i];
        if (*have && found->version >= run->version_max)
            break; /* runs come newest first: nothing newer follows */
        size_t k = kv_tree_run_at(run, key);
        if (k == run->n || kv_slice_compare(run->items[k].properties->smallest, key) > 0)
            continue;
        if (*have && found->version >= run->items[k].properties->version_max)
            continue;
        kv_status rc = get_from(&run->items[k], key, version, tree->reads, found, have, err);
        if (rc < 0)
            return rc;
    }
    return KV_OK;
}

bool kv_version_may_hold_between(const struct kv_version *tree, uint32_t space, const struct kv_space *how,
                                 kv_slice key, uint64_t newer, uint64_t older)
{
    const struct kv_tree *in = &tree->trees[space];
    size_t at = kv_tree_cut_at(in, key);
    if (at == in->n_cuts || !kv_slice_equal(in->cuts[at].prefix, kv_space_cut(how, key)))
        return false;
    for (size_t i = 0; i < in->cuts[at].n_runs; i++) {
        const struct kv_tree_run *run = &in->cuts[at].runs[i];
        size_t k = kv_tree_run_at(run, key);
        if (k < run->n && run->items[k].properties->version_min < newer &&
            run->items[k].properties->version_max > older &&
            kv_slice_compare(run->items[k].properties->smallest, key) <= 0)
            return true;
    }
    return false;
}

bool kv_version_damaged(const struct kv_version *version, uint64_t *files)
{
    bool unopened = false;
    uint64_t n = 0;
    for (uint32_t s = 0; s < version->n_spaces; s++) {
        const struct kv_tree *tree = &version->trees[s];
        n += tree->aside;
        for (size_t i = 0; tree->aside && i < tree->n_items && !unopened; i++)
            unopened = kv_table_damage(tree->items[i].table) != NULL;
    }
    for (size_t i = 0; i < version->values.n; i++)
        n += kv_segment_damage(version->values.list[i].segment) != NULL;
    if (files)
        *files = n;
    return unopened;
}

const struct kv_tree_item *kv_tree_aside(const struct kv_tree *tree, kv_slice lower, kv_slice upper)
{
    for (size_t i = 0; tree->aside && i < tree->n_items; i++) {
        const struct kv_table_properties *p = tree->items[i].properties;
        if (tree->items[i].level == KV_LEVEL_ASIDE && kv_slice_compare(p->largest, lower) >= 0 &&
            (upper.len == 0 || kv_slice_compare(p->smallest, upper) < 0))
            return &tree->items[i];
    }
    return NULL;
}

bool kv_version_may_hold_older(const struct kv_version *tree, uint32_t space, const struct kv_space *how,
                               kv_slice key, uint64_t version)
{
    return kv_version_may_hold_between(tree, space, how, key, version, 0);
}
