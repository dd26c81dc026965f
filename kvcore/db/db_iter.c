/* Snapshots and the public iterator: one moment's memtables and tables as one ordered walk. */
#include "kvcore/base/mem.h"
#include "kvcore/db/cap_iter.h"
#include "kvcore/db/db.h"
#include "kvcore/db/merge_iter.h"
#include "kvcore/db/trace.h"
#include "kvcore/db/tree_iter.h"
#include "kvcore/db/view_iter.h"

struct kv_snapshot {
    struct kv_db *db;
    struct kv_view *view;
    uint64_t seq;
};

struct kv_view *kv_snapshot_view(struct kv_db *db, const struct kv_snapshot *snapshot, uint64_t *version)
{
    if (!snapshot)
        return kv_view_pin(db, version);
    *version = snapshot->seq;
    return kv_view_ref(snapshot->view);
}

kv_status kv_snapshot_open(struct kv_db *db, struct kv_snapshot **out)
{
    struct kv_snapshot *snapshot = kv_alloc(sizeof *snapshot);
    if (!snapshot)
        return KV_NO_MEMORY;
    snapshot->db = db;
    snapshot->view = kv_view_pin(db, &snapshot->seq);
    atomic_fetch_add_explicit(&db->pins, 1, memory_order_relaxed);
    KV_COUNT(db, snapshots);
    *out = snapshot;
    return KV_OK;
}

kv_status kv_snapshot_share(const struct kv_snapshot *snapshot, struct kv_snapshot **out)
{
    struct kv_snapshot *copy = kv_alloc(sizeof *copy);
    if (!copy)
        return KV_NO_MEMORY;
    *copy = *snapshot;
    kv_view_ref(copy->view);
    atomic_fetch_add_explicit(&copy->db->pins, 1, memory_order_relaxed);
    *out = copy;
    return KV_OK;
}

void kv_snapshot_close(struct kv_snapshot *snapshot)
{
    if (!snapshot)
        return;
    kv_view_unref(snapshot->view);
    atomic_fetch_sub_explicit(&snapshot->db->pins, 1, memory_order_relaxed);
    kv_free(snapshot);
}

uint64_t kv_snapshot_seq(const struct kv_snapshot *snapshot)
{
    return snapshot->seq;
}

/* What an open iterator holds besides its sources. */
struct iter_pin {
    struct kv_db *db;
    struct kv_view *view;
    uint32_t space;            /* its id */
    bool fill;                 /* the cache */
    uint64_t version;          /* of the snapshot */
    struct kv_overlay overlay; /* memtable NULL: none */
    struct kv_err *err;        /* says where a step failed; may be NULL */
    struct kv_trace_span span;
    uint8_t bounds[]; /* lower, then upper: the sources borrow them */
};

static void iter_closed(void *ctx)
{
    struct iter_pin *pin = ctx;
    if (kv_tracing(pin->db))
        kv_trace_end(pin->db, &pin->span, KV_OK);
    kv_view_unref(pin->view);
    kv_memtable_unref(pin->overlay.memtable);
    atomic_fetch_sub_explicit(&pin->db->pins, 1, memory_order_relaxed);
    kv_free(pin);
}

static uint64_t iter_covered(void *ctx, kv_slice key, uint64_t version)
{
    struct iter_pin *pin = ctx;
    return kv_view_range_newest(pin->view, pin->space, key, version);
}

/* With an overlay: version is above the snapshot's, and its range deletions are newer than whatever the snapshot has. */
static uint64_t iter_covered_over(void *ctx, kv_slice key, uint64_t version)
{
    struct iter_pin *pin = ctx;
    uint64_t own = kv_memtable_range_newest(pin->overlay.memtable, pin->overlay.space, key, version);
    return own ? own : kv_view_range_newest(pin->view, pin->space, key, pin->version);
}

static kv_status iter_fetch(void *ctx, kv_slice pointer, struct kv_block **out)
{
    struct iter_pin *pin = ctx;
    struct kv_reads_stripe *mine = kv_reads_mine(&pin->db->reads);
    kv_status rc = kv_values_fetch(&pin->view->version->values, pointer, pin->fill, out, pin->err);
    if (rc < 0)
        return rc;
    kv_reads_add(&mine->values, 1);
    kv_reads_add(&mine->value_bytes, (*out)->bytes.len);
    return KV_OK;
}

static int64_t iter_now_ms(void *ctx)
{
    struct iter_pin *pin = ctx;
    return kv_db_retention_now(pin->db);
}

/* Memtables that hold nothing of the space are left out: with one source left, the walk needs no merging. */
static kv_status iter_sources(const struct iter_pin *pin, const struct kv_iter_options *options,
                              struct kv_entry_iter **sources, size_t *n)
{
    struct kv_view *view = pin->view;
    uint32_t space = pin->space;
    kv_status rc = KV_OK;
    for (size_t i = 0; i < view->n_mem && rc == KV_OK; i++) {
        if (kv_memtable_entries(view->mem[i], space) == 0 ||
            !kv_memtable_touches(view->mem[i], space, options->lower, options->upper))
            continue;
        rc = kv_memtable_iter_open(view->mem[i], space, options->lower, options->upper, &sources[*n]);
        *n += rc == KV_OK;
    }
    if (rc < 0)
        return rc;
    struct kv_tree_iter_options how = {.space = space,
                                       .lower = options->lower,
                                       .upper = options->upper,
                                       .no_fill = options->no_fill,
                                       .err = pin->err};
    return kv_tree_sources(view->version, &how, sources, n);
}

/* *merged, capped at the snapshot, becomes the two as one. It is closed on failure. */
static kv_status iter_lay_over(const struct iter_pin *pin, const struct kv_iter_options *options,
                               struct kv_entry_iter **merged)
{
    struct kv_entry_iter *two[2] = {NULL, *merged};
    kv_status rc;
    KV_TRY(kv_cap_iter_open(*merged, pin->version, &two[1]));
    KV_TRY(kv_memtable_iter_open(pin->overlay.memtable, pin->overlay.space, options->lower, options->upper,
                                 &two[0]));
    KV_TRY(kv_merge_iter_open(two, 2, merged));
out:
    for (int i = 0; i < 2 && rc < 0; i++)
        kv_entry_iter_close(two[i]);
    return rc;
}

static kv_status iter_open(struct iter_pin *pin, const struct kv_iter_options *options, struct kv_iter **out)
{
    size_t n = 0;
    bool over = pin->overlay.memtable != NULL;
    struct kv_view *view = pin->view;
    struct kv_entry_iter *merged = NULL;
    size_t sources_max = view->n_mem + kv_tree_sources_max(view->version, pin->space);
    struct kv_entry_iter **sources = kv_alloc(sources_max * sizeof(struct kv_entry_iter *));
    if (!sources)
        return KV_NO_MEMORY;
    kv_status rc = iter_sources(pin, options, sources, &n);
    if (rc == KV_OK)
        rc = kv_merge_iter_open(sources, n, &merged);
    if (rc == KV_OK && over) {
        rc = iter_lay_over(pin, options, &merged);
        n = rc < 0 ? 0 : n;
    }
    if (rc == KV_OK) {
        bool ranges = kv_view_has_ranges(view, pin->space);
        struct kv_view_options how = {.version = over ? pin->overlay.version : pin->version,
                                      .since = options->since,
                                      .all_versions = options->all_versions,
                                      .keys_only = options->keys_only,
                                      .large_values = options->large_values,
                                      .merge = pin->db->spaces[pin->space].merge,
                                      .covered = over     ? iter_covered_over
                                                 : ranges ? iter_covered
                                                          : NULL,
                                      .fetch = iter_fetch,
                                      .now_ms = iter_now_ms,
                                      .ctx = pin,
                                      .closed = iter_closed};
        rc = kv_view_iter_open(merged, &how, out);
        if (rc < 0) {
            kv_entry_iter_close(merged); /* and with it what it took over */
            n = 0;
        }
    }
    for (size_t i = 0; i < n && rc < 0; i++)
        kv_entry_iter_close(sources[i]);
    kv_free(sources);
    return rc;
}

kv_status kv_iter_open_over(struct kv_db *db, uint32_t space, const struct kv_iter_options *options,
                            const struct kv_overlay *overlay, struct kv_iter **out, struct kv_err *err)
{
    if (!kv_space_known(db, space) || options->lower.len > KV_KEY_LEN_MAX ||
        options->upper.len > KV_KEY_LEN_MAX || (options->all_versions && db->spaces[db->ids[space]].merge))
        return KV_INVALID;
    struct iter_pin *pin = kv_alloc(sizeof *pin + options->lower.len + options->upper.len);
    if (!pin)
        return KV_NO_MEMORY;
    *pin = (struct iter_pin){.db = db};
    struct kv_iter_options own = *options; /* with bounds that stay */
    own.lower = kv_slice_of(pin->bounds, options->lower.len);
    own.upper = kv_slice_of(pin->bounds + options->lower.len, options->upper.len);
    if (options->lower.len)
        memcpy(pin->bounds, options->lower.data, options->lower.len);
    if (options->upper.len)
        memcpy(pin->bounds + options->lower.len, options->upper.data, options->upper.len);
    struct kv_view *view = kv_snapshot_view(db, options->snapshot, &pin->version);
    pin->view = view;
    if (overlay) {
        pin->overlay = *overlay;
        kv_memtable_ref(overlay->memtable);
    }
    pin->space = db->ids[space];
    pin->fill = !options->no_fill;
    pin->err = err;
    if (kv_tracing(db))
        kv_trace_begin(db, &pin->span, "scan", pin->space, options->lower, 0);
    kv_status rc = iter_open(pin, &own, out);
    pin->span.op.key = (kv_slice){0}; /* the caller's, for this call only */
    if (rc < 0) {
        if (kv_tracing(db))
            kv_trace_end(db, &pin->span, rc);
        kv_view_unref(view);
        kv_memtable_unref(pin->overlay.memtable);
        kv_free(pin);
        return rc;
    }
    atomic_fetch_add_explicit(&db->pins, 1, memory_order_relaxed);
    KV_COUNT(db, iterators);
    return KV_OK;
}

kv_status kv_iter_open_with(struct kv_db *db, uint32_t space, const struct kv_iter_options *options,
                            struct kv_iter **out)
{
    return kv_iter_open_over(db, space, options, NULL, out, NULL);
}

kv_status kv_iter_open(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space, kv_slice lower,
                       kv_slice upper, struct kv_iter **out)
{
    struct kv_iter_options options = {.snapshot = snapshot, .lower = lower, .upper = upper};
    return kv_iter_open_with(db, space, &options, out);
}

kv_status kv_prefix_end(kv_slice prefix, struct kv_buf *out)
{
    kv_buf_clear(out);
    kv_status rc = kv_buf_append(out, prefix);
    if (rc < 0)
        return rc;
    while (out->len > 0 && out->data[out->len - 1] == 0xff)
        out->len--;
    if (out->len > 0)
        out->data[out->len - 1]++;
    return KV_OK;
}
