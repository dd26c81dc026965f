/* Bulk load: a sorted run that becomes tables without passing the log. */
#include "kvcore/db/bulk.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/compact.h"
#include "kvcore/db/output.h"
#include "kvcore/sst/attrs.h"

#include <inttypes.h>
#include <stdlib.h>

struct kv_bulk {
    struct kv_db *db;
    uint32_t declared, space;
    struct kv_output output;
    struct kv_buf last_key, rich; /* rich: attributes and value of an entry that has some */
    bool any;
    kv_status failed; /* the first failure of an add; install repeats it */
};

kv_status kv_bulk_open(struct kv_db *db, uint32_t space, struct kv_bulk **out, struct kv_err *err)
{
    if (!kv_space_known(db, space))
        return kv_fail(err, KV_INVALID, 0, "space %" PRIu32 " does not exist", space);
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    struct kv_bulk *bulk = kv_zalloc(1, sizeof *bulk);
    if (!bulk)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory opening a bulk load");
    bulk->db = db;
    bulk->declared = space;
    bulk->space = db->ids[space];
    kv_output_init(&bulk->output, db);
    bulk->output.loads = true;
    atomic_fetch_add_explicit(&db->pins, 1, memory_order_relaxed);
    *out = bulk;
    return KV_OK;
}

/* A value with its attributes in front. */
static kv_status bulk_rich(struct kv_bulk *bulk, const struct kv_attrs *attrs, struct kv_entry *entry)
{
    uint8_t head[KV_ATTRS_LEN_MAX];
    kv_buf_clear(&bulk->rich);
    kv_status rc = kv_buf_append(&bulk->rich, kv_slice_of(head, kv_attrs_put(head, attrs)));
    if (rc == KV_OK)
        rc = kv_buf_append(&bulk->rich, entry->value);
    entry->kind = KV_KIND_RICH;
    entry->value = kv_buf_slice(&bulk->rich);
    return rc;
}

static kv_status bulk_add(struct kv_bulk *bulk, kv_slice key, kv_slice value,
                          const struct kv_put_options *options, struct kv_err *err)
{
    if (key.len < 1 || key.len > KV_KEY_LEN_MAX || value.len > KV_VALUE_LEN_MAX)
        return kv_fail(err, KV_INVALID, 0, "a key of %zu or a value of %zu bytes is out of range", key.len,
                       value.len);
    if (bulk->any && kv_slice_compare(key, kv_buf_slice(&bulk->last_key)) <= 0)
        return kv_fail(err, KV_INVALID, 0, "the keys of a bulk load must increase");
    bulk->any = true;
    kv_buf_clear(&bulk->last_key);
    if (kv_buf_append(&bulk->last_key, key) < 0)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory in a bulk load");
    kv_status allowed = kv_bans_check_key(bulk->db, bulk->space, key, err);
    if (allowed < 0)
        return allowed;
    struct kv_entry entry = {key, 0, KV_KIND_PUT, value};
    struct kv_attrs attrs = {0};
    if (options)
        attrs = (struct kv_attrs){.expires_at_s = options->expires_at_s, .meta = options->meta};
    if (!kv_attrs_plain(&attrs) && bulk_rich(bulk, &attrs, &entry) < 0)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory in a bulk load");
    return kv_output_add(&bulk->output, bulk->space, &entry, true, err);
}

kv_status kv_bulk_add_with(struct kv_bulk *bulk, kv_slice key, kv_slice value,
                           const struct kv_put_options *options, struct kv_err *err)
{
    if (bulk->failed < 0)
        return kv_fail(err, bulk->failed, 0, "the bulk load failed before");
    kv_status rc = bulk_add(bulk, key, value, options, err);
    bulk->failed = rc;
    return rc;
}

kv_status kv_bulk_add(struct kv_bulk *bulk, kv_slice key, kv_slice value, struct kv_err *err)
{
    return kv_bulk_add_with(bulk, key, value, NULL, err);
}

void kv_bulk_abort(struct kv_bulk *bulk)
{
    if (!bulk)
        return;
    kv_output_release(&bulk->output);
    kv_buf_release(&bulk->last_key);
    kv_buf_release(&bulk->rich);
    atomic_fetch_sub_explicit(&bulk->db->pins, 1, memory_order_relaxed);
    kv_free(bulk);
}

/* The log can be cut at the new floor only if no memtable is older than it. */
static kv_status flush_below(struct kv_db *db, uint64_t floor, struct kv_err *err)
{
    uint64_t visible;
    bool older = false;
    struct kv_view *view = kv_view_pin(db, &visible);
    for (size_t i = 0; i < view->n_mem; i++) {
        uint64_t oldest = kv_memtable_version_oldest(view->mem[i]);
        older = older || (oldest && oldest < floor);
    }
    kv_view_unref(view);
    return older ? kv_flush(db, err) : KV_OK;
}

struct install {
    struct kv_bulk *bulk;
    uint64_t app_floor, seq;
};

/* As the leader, with the version the load gets: tables and floor become part of the database in one edit. */
static kv_status install_run(void *ctx, uint64_t seq, struct kv_err *err)
{
    struct install *install = ctx;
    struct kv_bulk *bulk = install->bulk;
    struct kv_edit edit = {0};
    struct kv_change change = {.edit = &edit, .app_floor = install->app_floor};
    struct kv_claim place;
    bool any = bulk->output.n_adds > 0;
    if (any)
        kv_place_begin(bulk->db, bulk->space, bulk->output.adds, bulk->output.n_adds, &place);
    kv_output_install(&bulk->output, &change, seq);
    if (seq)
        kv_edit_last_seq(&edit, seq);
    bulk->output.keep = true;
    kv_status rc = kv_db_change(bulk->db, &change, err);
    if (any)
        kv_place_end(bulk->db, &place);
    kv_edit_release(&edit);
    install->seq = seq;
    return rc;
}

static kv_status install_tables(struct install *install, struct kv_err *err)
{
    struct kv_bulk *bulk = install->bulk;
    const struct kv_tree_add *adds = bulk->output.adds;
    struct kv_key_span span = {bulk->declared, kv_table_properties(adds[0].table)->smallest,
                               kv_table_properties(adds[bulk->output.n_adds - 1].table)->largest};
    return kv_committer_install(bulk->db->committer, &span, install_run, install, err);
}

kv_status kv_bulk_install(struct kv_bulk *bulk, uint64_t app_floor, uint64_t *seq, struct kv_err *err)
{
    struct kv_db *db = bulk->db;
    struct install install = {.bulk = bulk, .app_floor = app_floor, .seq = kv_db_visible(db)};
    kv_status rc;
    if (bulk->failed < 0) {
        rc = kv_fail(err, bulk->failed, 0, "the bulk load failed before");
        goto out;
    }
    if (app_floor > kv_db_visible(db) + 1) {
        rc = kv_fail(err, KV_INVALID, 0,
                     "an application floor of %" PRIu64 " lies behind the newest commit %" PRIu64, app_floor,
                     kv_db_visible(db));
        goto out;
    }
    KV_TRY(kv_output_finish(&bulk->output, err));
    if (app_floor)
        KV_TRY(flush_below(db, app_floor, err));
    if (bulk->output.n_adds > 0) {
        KV_TRY(install_tables(&install, err));
        KV_COUNT(db, bulk_loads);
        KV_COUNT_BY(db, bulk_bytes, bulk->output.bytes);
        kv_db_kick(db);
    } else if (app_floor) {
        KV_TRY(kv_committer_sync(db->committer, err)); /* the floor may not pass what is not durable */
        KV_TRY(install_run(&install, 0, err));
        install.seq = kv_db_visible(db);
    }
    if (seq)
        *seq = install.seq;
    if (app_floor)
        kv_obsolete_log(db);
out:
    kv_bulk_abort(bulk);
    return rc < 0 ? rc : KV_OK;
}

/* ---- several streams as one load */

kv_status kv_bulk_join(struct kv_bulk *into, struct kv_bulk *from, struct kv_err *err)
{
    kv_status rc = KV_OK;
    if (from->failed < 0 || into->failed < 0)
        rc = kv_fail(err, from->failed < 0 ? from->failed : into->failed, 0, "the bulk load failed before");
    if (rc == KV_OK)
        rc = kv_output_join(&into->output, &from->output, err);
    into->failed = rc;
    kv_bulk_abort(from);
    return rc;
}

static int compare_adds(const void *a, const void *b)
{
    const struct kv_tree_add *x = a, *y = b;
    return kv_slice_compare(kv_table_properties(x->table)->smallest, kv_table_properties(y->table)->smallest);
}

kv_status kv_bulk_settle(struct kv_bulk *bulk, struct kv_err *err)
{
    struct kv_tree_add *adds = bulk->output.adds;
    size_t n = bulk->output.n_adds;
    if (bulk->failed < 0)
        return kv_fail(err, bulk->failed, 0, "the bulk load failed before");
    if (n > 1)
        qsort(adds, n, sizeof *adds, compare_adds);
    for (size_t i = 1; i < n; i++) {
        kv_slice before = kv_table_properties(adds[i - 1].table)->largest;
        kv_slice key = kv_table_properties(adds[i].table)->smallest;
        char last[64], first[64];
        if (kv_slice_compare(before, key) >= 0)
            return bulk->failed = kv_fail(err, KV_INVALID, 0,
                                          "streams of one load overlap: one goes on to %s past %s of another",
                                          kv_log_quote(before, last, sizeof last),
                                          kv_log_quote(key, first, sizeof first));
    }
    return KV_OK;
}
