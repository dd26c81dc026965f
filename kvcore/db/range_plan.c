#include "kvcore/db/range_plan.h"
#include "kvcore/db/manifest.h"
#include "kvcore/db/tree_iter.h"

static bool plan_drops(const struct kv_range_plan *plan, size_t n_drops, uint64_t number)
{
    for (size_t i = 0; i < n_drops; i++) {
        uint64_t drop;
        memcpy(&drop, plan->drops.data + i * sizeof drop, sizeof drop);
        if (drop == number)
            return true;
    }
    return false;
}

static kv_status list_add(struct kv_buf *list, const struct kv_range *range)
{
    return kv_buf_append(list, kv_slice_of(range, sizeof *range));
}

static kv_status list_set(struct kv_buf *list, struct kv_ranges **out)
{
    size_t n = list->len / sizeof(struct kv_range);
    *out = NULL;
    return n ? kv_ranges_new((const struct kv_range *)(const void *)list->data, n, out) : KV_OK;
}

/* The space's ranges, new ones included; NULL when it gets none. */
static kv_status plan_union(struct kv_range_plan *plan, const struct kv_tree *tree, uint32_t space)
{
    struct kv_buf list = {0};
    bool any = false;
    kv_status rc = KV_OK;
    for (size_t i = 0; i < plan->n_adds && rc == KV_OK; i++)
        if (plan->adds[i].space == space) {
            any = true;
            rc = list_add(&list, &plan->adds[i].range);
        }
    for (size_t i = 0; any && rc == KV_OK && i < kv_ranges_count(tree->ranges); i++)
        rc = list_add(&list, kv_ranges_at(tree->ranges, i));
    if (rc == KV_OK && any)
        rc = list_set(&list, &plan->sets[space]);
    kv_buf_release(&list);
    return rc;
}

static kv_status plan_drop_covered(struct kv_range_plan *plan, const struct kv_tree *tree, uint32_t space,
                                   size_t n_drops, struct kv_edit *edit)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; rc == KV_OK && i < tree->n_items; i++) {
        const struct kv_table_properties *p = tree->items[i].properties;
        uint64_t number = kv_table_number(tree->items[i].table);
        if (kv_ranges_newest_over(plan->sets[space], p->smallest, p->largest, UINT64_MAX) <= p->version_max ||
            plan_drops(plan, n_drops, number))
            continue;
        kv_edit_drop_table(edit, number);
        plan->n_covered++;
        rc = kv_buf_append(&plan->drops, kv_slice_of(&number, sizeof number));
    }
    return rc;
}

kv_status kv_range_plan_begin(struct kv_range_plan *plan, const struct kv_version *base,
                              const struct kv_range_add *adds, size_t n_adds, const uint64_t *drops,
                              size_t n_drops, struct kv_edit *edit)
{
    plan->adds = adds;
    plan->n_adds = n_adds;
    kv_status rc = kv_buf_append(&plan->drops, kv_slice_of(drops, n_drops * sizeof *drops));
    for (uint32_t space = 0; rc == KV_OK && n_adds > 0 && space < base->n_spaces; space++) {
        rc = plan_union(plan, &base->trees[space], space);
        if (rc == KV_OK && plan->sets[space])
            rc = plan_drop_covered(plan, &base->trees[space], space, n_drops, edit);
    }
    return rc;
}

/* Does a table of the space have to be read through this range? */
static bool plan_needs(const struct kv_tree *tree, const struct kv_range *range)
{
    size_t first, last;
    kv_tree_cut_range(tree, range->lower, range->upper, &first, &last);
    for (size_t c = first; c < last; c++)
        for (size_t r = 0; r < tree->cuts[c].n_runs; r++) {
            const struct kv_tree_run *run = &tree->cuts[c].runs[r];
            for (size_t i = kv_tree_run_at(run, range->lower); i < run->n; i++) {
                const struct kv_table_properties *p = run->items[i].properties;
                if (kv_slice_compare(p->smallest, range->upper) >= 0)
                    break;
                if (p->version_min < range->version && p->ranges_applied < range->version)
                    return true;
            }
        }
    return false;
}

static bool plan_is_new(const struct kv_range_plan *plan, uint32_t space, const struct kv_range *range)
{
    for (size_t i = 0; i < plan->n_adds; i++) {
        const struct kv_range *add = &plan->adds[i].range;
        if (plan->adds[i].space == space && add->version == range->version &&
            kv_slice_equal(add->lower, range->lower) && kv_slice_equal(add->upper, range->upper))
            return true;
    }
    return false;
}

static kv_status plan_prune(struct kv_range_plan *plan, struct kv_version *version, uint32_t space,
                            uint64_t oldest_txn, struct kv_edit *edit)
{
    const struct kv_tree *tree = &version->trees[space];
    struct kv_ranges *all = plan->sets[space] ? plan->sets[space] : tree->ranges, *kept = NULL;
    struct kv_buf list = {0};
    kv_status rc = KV_OK;
    for (size_t i = 0; rc == KV_OK && i < kv_ranges_count(all); i++) {
        const struct kv_range *range = kv_ranges_at(all, i);
        struct kv_range_meta meta = {space, range->version, range->lower, range->upper};
        bool is_new = plan->sets[space] && plan_is_new(plan, space, range);
        bool hidden = kv_ranges_newest_covering(all, range->lower, range->upper, UINT64_MAX) > range->version;
        if (!hidden && (range->version > oldest_txn || plan_needs(tree, range))) {
            rc = list_add(&list, range);
            if (is_new)
                kv_edit_add_range(edit, &meta);
        } else if (!is_new) {
            kv_edit_drop_range(edit, &meta);
        }
    }
    if (rc == KV_OK && (plan->sets[space] || list.len / sizeof(struct kv_range) != kv_ranges_count(all))) {
        rc = list_set(&list, &kept);
        if (rc == KV_OK)
            kv_version_set_ranges(version, space, kept);
    }
    kv_buf_release(&list);
    return rc;
}

kv_status kv_range_plan_finish(struct kv_range_plan *plan, struct kv_version *version, uint64_t oldest_txn,
                               struct kv_edit *edit)
{
    kv_status rc = KV_OK;
    for (uint32_t space = 0; rc == KV_OK && space < version->n_spaces; space++)
        if (plan->sets[space] || version->trees[space].ranges)
            rc = plan_prune(plan, version, space, oldest_txn, edit);
    return rc;
}

void kv_range_plan_release(struct kv_range_plan *plan)
{
    kv_buf_release(&plan->drops);
    for (uint32_t space = 0; space < KV_SPACES_MAX; space++)
        kv_ranges_unref(plan->sets[space]);
}
