#include "kvcore/db/tree_iter.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/merge_iter.h"

#include <stdatomic.h>

/* A walk over parts that lie one behind another: the tables of a run, or the cuts of a tree. One part is open
 * at a time. */
struct concat {
    struct kv_entry_iter it;
    struct kv_version *version;
    struct kv_tree_iter_options options;
    const struct kv_tree_run *run; /* parts are its items; NULL: */
    const struct kv_cut *cuts;     /* parts are these */
    size_t first, last, at;        /* of the parts; at: the open one */
    struct kv_entry_iter *part;
};

static kv_slice concat_largest(const struct concat *c, size_t i)
{
    return c->run ? c->run->items[i].properties->largest : c->cuts[i].largest;
}

static kv_status open_table(const struct kv_tree_item *item, const struct kv_tree_iter_options *options,
                            struct kv_entry_iter **out)
{
    struct kv_table_iter_options how = {.lower = options->lower,
                                        .upper = options->upper,
                                        .no_fill = options->no_fill,
                                        .uncounted = options->uncounted,
                                        .err = options->err};
    return kv_table_iter_open(item->table, &how, out);
}

static void concat_close_part(struct concat *c)
{
    kv_entry_iter_close(c->part);
    c->part = NULL;
}

static kv_status concat_open_part(struct concat *c, size_t i)
{
    if (c->part && c->at == i)
        return KV_OK;
    concat_close_part(c);
    c->at = i;
    return c->run ? open_table(&c->run->items[i], &c->options, &c->part)
                  : kv_cut_iter_open(c->version, &c->cuts[i], &c->options, &c->part);
}

/* The part's place becomes ours, its inline run included; it gets that back before it is asked again. */
static kv_status concat_take(struct concat *c, kv_status rc)
{
    if (rc != KV_OK) {
        c->it.run.left = 0;
        return rc;
    }
    c->it.key = c->part->key;
    c->it.value = c->part->value;
    c->it.version = c->part->version;
    c->it.kind = c->part->kind;
    c->it.run = c->part->run;
    return KV_OK;
}

static kv_status concat_from(struct concat *c, size_t i, kv_slice key, uint64_t version)
{
    kv_status rc = KV_END;
    for (; i < c->last && rc == KV_END; i++) {
        rc = concat_open_part(c, i);
        if (rc < 0)
            break;
        KV_ASSERT(c->part != NULL);
        rc = kv_entry_iter_seek(c->part, key, version);
    }
    return concat_take(c, rc);
}

/* The first part that may hold a key >= key. */
static size_t concat_at(const struct concat *c, kv_slice key)
{
    size_t low = c->first, high = c->last;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (kv_slice_compare(concat_largest(c, middle), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static kv_status concat_seek(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    struct concat *c = (struct concat *)it;
    return concat_from(c, concat_at(c, key), key, version);
}

/* Part i backward from (key, version), then the ends of those in front of it. */
static kv_status concat_from_back(struct concat *c, size_t i, kv_slice key, uint64_t version)
{
    kv_status rc = KV_END;
    for (;; i--, key = (kv_slice){0}) {
        rc = concat_open_part(c, i);
        if (rc < 0)
            break;
        KV_ASSERT(c->part != NULL);
        rc = kv_entry_iter_seek_before(c->part, key, version);
        if (rc != KV_END || i == c->first)
            break;
    }
    return concat_take(c, rc);
}

static kv_status concat_seek_before(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    struct concat *c = (struct concat *)it;
    if (c->first == c->last)
        return KV_END;
    size_t i = key.len ? concat_at(c, key) : c->last;
    if (i == c->last)
        return concat_from_back(c, i - 1, (kv_slice){0}, KV_VERSION_MAX);
    return concat_from_back(c, i, key, version);
}

static kv_status concat_prev(struct kv_entry_iter *it)
{
    struct concat *c = (struct concat *)it;
    c->part->run = c->it.run;
    kv_status rc = kv_entry_iter_prev(c->part);
    if (rc == KV_END && c->at > c->first)
        return concat_from_back(c, c->at - 1, (kv_slice){0}, KV_VERSION_MAX);
    return concat_take(c, rc);
}

static kv_status concat_next(struct kv_entry_iter *it)
{
    struct concat *c = (struct concat *)it;
    c->part->run = c->it.run;
    kv_status rc = kv_entry_iter_next(c->part);
    if (rc != KV_END)
        return concat_take(c, rc);
    return concat_from(c, c->at + 1, (kv_slice){0}, KV_VERSION_MAX);
}

static void concat_close(struct kv_entry_iter *it)
{
    struct concat *c = (struct concat *)it;
    concat_close_part(c);
    kv_version_unref(c->version);
    kv_free(c);
}

static const struct kv_entry_iter_ops concat_ops = {concat_seek, concat_next, concat_seek_before, concat_prev,
                                                    concat_close};

static kv_status concat_open(struct kv_version *version, const struct kv_tree_iter_options *options,
                             struct concat **out)
{
    struct concat *c = kv_zalloc(1, sizeof *c);
    if (!c)
        return KV_NO_MEMORY;
    c->it.ops = &concat_ops;
    c->it.err = options->err;
    c->options = *options;
    c->version = kv_version_ref(version);
    *out = c;
    return KV_OK;
}

static void run_range(const struct kv_tree_run *run, kv_slice lower, kv_slice upper, size_t *first,
                      size_t *last)
{
    *first = kv_tree_run_at(run, lower);
    *last = run->n;
    if (upper.len > 0) {
        *last = kv_tree_run_at(run, upper);
        if (*last < run->n && kv_slice_compare(run->items[*last].properties->smallest, upper) < 0)
            *last += 1;
    }
    if (*last < *first)
        *last = *first;
}

static bool cut_begins_below(const struct kv_cut *cut, kv_slice upper)
{
    for (size_t i = 0; i < cut->n_runs; i++)
        if (kv_slice_compare(cut->runs[i].items[0].properties->smallest, upper) < 0)
            return true;
    return false;
}

void kv_tree_cut_range(const struct kv_tree *tree, kv_slice lower, kv_slice upper, size_t *first,
                       size_t *last)
{
    *first = kv_tree_cut_at(tree, lower);
    *last = tree->n_cuts;
    if (upper.len > 0) {
        *last = kv_tree_cut_at(tree, upper);
        if (*last < tree->n_cuts && cut_begins_below(&tree->cuts[*last], upper))
            *last += 1;
    }
    if (*last < *first)
        *last = *first;
}

static kv_status run_iter_open(struct kv_version *version, const struct kv_tree_run *run, size_t first,
                               size_t last, const struct kv_tree_iter_options *options,
                               struct kv_entry_iter **out)
{
    if (last - first == 1)
        return open_table(&run->items[first], options, out);
    struct concat *c = NULL;
    kv_status rc = concat_open(version, options, &c);
    if (rc < 0)
        return rc;
    c->run = run;
    c->first = first;
    c->last = last;
    c->it.unique_puts = run->unique_puts;
    c->it.version_max = run->version_max;
    *out = &c->it;
    return KV_OK;
}

/* Appends an iterator for each run that has something in the bounds. What stands in *sources, *n of them, is the caller's
 * to close on failure too. */
static kv_status cut_sources(struct kv_version *version, const struct kv_cut *cut,
                             const struct kv_tree_iter_options *options, struct kv_entry_iter **sources,
                             size_t *n)
{
    for (size_t i = 0; i < cut->n_runs; i++) {
        size_t first, last;
        run_range(&cut->runs[i], options->lower, options->upper, &first, &last);
        if (first == last)
            continue;
        kv_status rc = run_iter_open(version, &cut->runs[i], first, last, options, &sources[*n]);
        if (rc < 0)
            return rc;
        *n += 1;
    }
    return KV_OK;
}

kv_status kv_cut_iter_open(struct kv_version *version, const struct kv_cut *cut,
                           const struct kv_tree_iter_options *options, struct kv_entry_iter **out)
{
    struct kv_entry_iter **sources = kv_alloc(cut->n_runs * sizeof(struct kv_entry_iter *));
    size_t n = 0;
    kv_status rc = sources ? cut_sources(version, cut, options, sources, &n) : KV_NO_MEMORY;
    if (rc == KV_OK)
        rc = kv_merge_iter_open(sources, n, out);
    for (size_t i = 0; i < n && rc < 0; i++)
        kv_entry_iter_close(sources[i]);
    kv_free(sources);
    return rc;
}

size_t kv_tree_sources_max(const struct kv_version *version, uint32_t space)
{
    const struct kv_tree *tree = &version->trees[space];
    return tree->n_cuts == 1 && tree->cuts[0].n_runs > 1 ? tree->cuts[0].n_runs : 1;
}

kv_status kv_tree_sources(struct kv_version *version, const struct kv_tree_iter_options *options,
                          struct kv_entry_iter **sources, size_t *n)
{
    const struct kv_tree *tree = &version->trees[options->space];
    size_t first, last;
    kv_tree_cut_range(tree, options->lower, options->upper, &first, &last);
    if (first == last)
        return KV_OK;
    if (tree->n_cuts == 1)
        return cut_sources(version, &tree->cuts[0], options, sources, n);
    if (last - first == 1) {
        kv_status rc = kv_cut_iter_open(version, &tree->cuts[first], options, &sources[*n]);
        *n += rc == KV_OK;
        return rc;
    }
    struct concat *c = NULL;
    kv_status rc = concat_open(version, options, &c);
    if (rc < 0)
        return rc;
    c->cuts = tree->cuts;
    c->first = first;
    c->last = last;
    c->it.unique_puts = true;
    for (size_t i = first; i < last; i++)
        for (size_t k = 0; k < tree->cuts[i].n_runs; k++) {
            const struct kv_tree_run *run = &tree->cuts[i].runs[k];
            c->it.unique_puts = c->it.unique_puts && run->unique_puts && tree->cuts[i].n_runs == 1;
            if (run->version_max > c->it.version_max)
                c->it.version_max = run->version_max;
        }
    sources[(*n)++] = &c->it;
    return KV_OK;
}
