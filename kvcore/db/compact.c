/*
 * Merging the runs of a cut into one, the bottom of its part of the tree.
 *
 * (1) Pin a view in which every entry of the cut's tables is visible. (2) Walk all its runs as one; of each
 * key keep the newest entry, and that only if it is a put (or a live transaction has yet to notice it,
 * watermark.h): what is older than a table's entry lies in tables of the same cut, which are all here, so
 * nothing is left for a deletion to hide. Readers that could ask for something older pin an older view. (3) With a hook, hand it group by group and keep what it returns. (4)
 * Write tables, split between keys or groups. (5) One edit drops the inputs and adds the outputs; if an input
 * was dropped meanwhile, the result is thrown away.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/keep.h"
#include "kvcore/db/output.h"
#include "kvcore/db/pick.h"
#include "kvcore/db/tree_iter.h"

enum { MERGE_PAUSE_ENTRIES = 1024, MERGE_GROUP_ENTRIES_MAX = 1 << 24, MERGE_TRIES = 100 };

/* ---- groups for the hook */

struct group_place {
    size_t key, key_len, value, value_len;
    uint64_t version;
};

struct group {
    struct kv_buf bytes;
    struct kv_buf places;  /* struct group_place */
    struct kv_buf entries; /* struct kv_hook_entry, made when the group is complete */
    size_t n, prefix_len;  /* of the group's shared prefix: the first prefix_len bytes of its first key */
    uint64_t version_min;
};

static void group_release(struct group *group)
{
    kv_buf_release(&group->bytes);
    kv_buf_release(&group->places);
    kv_buf_release(&group->entries);
}

static kv_slice group_prefix(const struct group *group)
{
    return kv_slice_of(group->bytes.data, group->prefix_len);
}

static kv_status group_add(struct group *group, const struct kv_entry *entry)
{
    struct group_place place = {group->bytes.len, entry->key.len, group->bytes.len + entry->key.len,
                                entry->value.len, entry->version};
    if (group->n == MERGE_GROUP_ENTRIES_MAX)
        return KV_LIMIT;
    kv_status rc = kv_buf_append(&group->bytes, entry->key);
    if (rc == KV_OK)
        rc = kv_buf_append(&group->bytes, entry->value);
    if (rc == KV_OK)
        rc = kv_buf_append(&group->places, kv_slice_of(&place, sizeof place));
    if (rc < 0)
        return rc;
    if (group->n++ == 0 || entry->version < group->version_min)
        group->version_min = entry->version;
    return KV_OK;
}

static kv_status group_complete(struct group *group, const struct kv_hook_entry **entries)
{
    kv_buf_clear(&group->entries);
    for (size_t i = 0; i < group->n; i++) {
        struct group_place place;
        memcpy(&place, group->places.data + i * sizeof place, sizeof place);
        struct kv_hook_entry entry = {kv_slice_of(group->bytes.data + place.key, place.key_len),
                                      kv_slice_of(group->bytes.data + place.value, place.value_len),
                                      place.version};
        kv_status rc = kv_buf_append(&group->entries, kv_slice_of(&entry, sizeof entry));
        if (rc < 0)
            return rc;
    }
    *entries = (const struct kv_hook_entry *)(const void *)group->entries.data;
    return KV_OK;
}

/* ---- one merge */

struct merge {
    struct kv_db *db;
    uint32_t space;
    const struct kv_space *how;
    struct kv_output output;
    uint64_t oldest_txn; /* deletions above it stay: a live transaction has yet to notice them */
    struct group group;
    void *hook_state;
    /* While the hook returns a group: */
    struct kv_hook_sink sink;
    const struct kv_hook_entry *given;
    size_t given_at;
    struct kv_buf sunk_key;
    bool sunk_any;
    struct kv_err *err;
    uint64_t entries;
};

/* A key keeps its version. A new key gets the oldest of its group: a write to it that is not merged yet stays
 * the newer one. */
static kv_status merge_sink_add(struct kv_hook_sink *sink, kv_slice key, kv_slice value)
{
    struct merge *merge = KV_CONTAINER(sink, struct merge, sink);
    if (!kv_slice_has_prefix(key, group_prefix(&merge->group)) || key.len < 1 || key.len > KV_KEY_LEN_MAX ||
        value.len > KV_VALUE_LEN_MAX)
        return kv_fail(merge->err, KV_INVALID, 0, "the hook of space %s returned a key outside its group",
                       merge->how->name);
    if (merge->sunk_any && kv_slice_compare(key, kv_buf_slice(&merge->sunk_key)) <= 0)
        return kv_fail(merge->err, KV_INVALID, 0, "the hook of space %s returned keys out of order",
                       merge->how->name);
    uint64_t version = merge->group.version_min;
    int c = -1;
    while (merge->given_at < merge->group.n &&
           (c = kv_slice_compare(merge->given[merge->given_at].key, key)) < 0)
        merge->given_at++;
    if (merge->given_at < merge->group.n && c == 0)
        version = merge->given[merge->given_at].version;
    struct kv_entry entry = {key, version, KV_KIND_PUT, value};
    kv_status rc = kv_output_add(&merge->output, merge->space, &entry, !merge->sunk_any, merge->err);
    if (rc < 0)
        return rc;
    merge->sunk_any = true;
    kv_buf_clear(&merge->sunk_key);
    return kv_buf_append(&merge->sunk_key, key);
}

static kv_status merge_group_end(struct merge *merge)
{
    kv_status rc = KV_OK;
    if (merge->group.n > 0) {
        merge->given_at = 0;
        merge->sunk_any = false;
        rc = group_complete(&merge->group, &merge->given);
        if (rc == KV_OK)
            rc = merge->how->hook->group(merge->hook_state, merge->given, merge->group.n, &merge->sink);
    }
    kv_buf_clear(&merge->group.bytes);
    kv_buf_clear(&merge->group.places);
    merge->group.n = 0;
    return rc < 0 ? rc : KV_OK;
}

/* kv_keep.emit */
static kv_status merge_put(void *ctx, const struct kv_entry *entry, bool first)
{
    struct merge *merge = ctx;
    if (!merge->how->hook)
        return kv_output_add(&merge->output, merge->space, entry, first, merge->err);
    kv_status rc = KV_OK;
    if (merge->group.n == 0 || !kv_slice_has_prefix(entry->key, group_prefix(&merge->group))) {
        rc = merge_group_end(merge);
        size_t len = merge->how->hook->group_len(merge->how->hook->ctx, entry->key);
        merge->group.prefix_len = len < 1 ? 1 : len > entry->key.len ? entry->key.len : len;
    }
    return rc < 0 ? rc : group_add(&merge->group, entry);
}

/* Between entries: stops when the database closes, and lets a flush pass that commits may be waiting for. */
static kv_status merge_pause(void *ctx)
{
    struct merge *merge = ctx;
    struct kv_db *db = merge->db;
    if (++merge->entries % MERGE_PAUSE_ENTRIES != 0)
        return KV_OK;
    if (db->closing)
        return kv_fail(merge->err, KV_CANCELED, 0, "the database is being closed");
    if (db->env->n_threads > 0 && kv_flush_pending(db)) {
        kv_status rc = kv_flush_one(db, NULL); /* a failure is reported there and stops commits, not merges */
        (void)rc;
    }
    return KV_OK;
}

static kv_status merge_walk(struct merge *merge, struct kv_entry_iter *it)
{
    struct kv_keep keep = {.how = merge->how,
                           .now_s = (uint64_t)kv_db_retention_now(merge->db) / 1000,
                           .oldest_txn = merge->oldest_txn,
                           .emit = merge_put,
                           .pause = merge_pause,
                           .ctx = merge};
    kv_status rc = kv_keep_run(&keep, it);
    if (rc == KV_OK && merge->how->hook)
        rc = merge_group_end(merge);
    kv_keep_release(&keep);
    return rc;
}

static kv_status merge_install(struct merge *merge, const struct kv_cut *cut)
{
    struct kv_edit edit = {0};
    struct kv_change change = {.edit = &edit};
    struct kv_buf drops = {0};
    kv_status rc = KV_OK;
    for (size_t i = 0; i < cut->n_runs; i++)
        for (size_t k = 0; k < cut->runs[i].n; k++) {
            uint64_t number = kv_table_number(cut->runs[i].items[k].table);
            kv_edit_drop_table(&edit, number);
            KV_TRY(kv_buf_append(&drops, kv_slice_of(&number, sizeof number)));
        }
    change.drops = (const uint64_t *)(const void *)drops.data;
    change.n_drops = drops.len / sizeof(uint64_t);
    kv_output_install(&merge->output, &change, 0);
    rc = kv_db_change(merge->db, &change, merge->err);
    merge->output.keep = rc != KV_CONFLICT;
    if (rc == KV_OK) {
        KV_COUNT(merge->db, merges);
        KV_COUNT_BY(merge->db, merge_bytes_in, cut->bytes);
        KV_COUNT_BY(merge->db, merge_bytes_out, merge->output.bytes);
    }
out:
    kv_buf_release(&drops);
    kv_edit_release(&edit);
    return rc;
}

/* The first key behind every key that begins with prefix; empty: there is none. */
static kv_status prefix_end(kv_slice prefix, struct kv_buf *out)
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

static kv_status merge_cut(struct kv_db *db, struct kv_view *view, uint32_t space, const struct kv_cut *cut,
                           struct kv_err *err)
{
    struct merge merge = {
        .db = db, .space = space, .how = &db->spaces[space], .sink = {merge_sink_add}, .err = err};
    const struct kv_hook *hook = merge.how->hook;
    merge.oldest_txn = hook ? UINT64_MAX : kv_db_oldest_txn(db); /* with a hook: see cut_is_visible */
    struct kv_tree_iter_options how = {.space = space, .no_fill = true, .err = err};
    struct kv_entry_iter *it = NULL;
    struct kv_buf upper = {0};
    bool began = false, installed = false;
    kv_status rc;
    kv_output_init(&merge.output, db);
    KV_TRY(prefix_end(cut->prefix, &upper));
    KV_TRY(kv_cut_iter_open(view->version, cut, &how, &it));
    if (hook) {
        KV_TRY(hook->begin(hook->ctx, cut->prefix, kv_buf_slice(&upper), &merge.hook_state));
        began = true;
    }
    KV_TRY(merge_walk(&merge, it));
    KV_TRY(kv_output_finish(&merge.output, err));
    KV_TRY(merge_install(&merge, cut));
    installed = true;
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory merging space %s", merge.how->name);
    kv_entry_iter_close(it);
    if (began)
        hook->end(merge.hook_state, installed);
    kv_output_release(&merge.output);
    kv_buf_release(&merge.sunk_key);
    kv_buf_release(&upper);
    group_release(&merge.group);
    return rc < 0 ? rc : KV_OK;
}

/* A hook may drop or change what it sees, so it sees nothing that a live transaction has yet to notice. */
static bool cut_is_visible(struct kv_db *db, uint32_t space, const struct kv_cut *cut, uint64_t visible)
{
    if (db->spaces[space].hook) {
        uint64_t oldest_txn = kv_db_oldest_txn(db);
        visible = oldest_txn < visible ? oldest_txn : visible;
    }
    return cut->runs[0].version_max <= visible; /* the first run is the newest */
}

/* ---- by itself */

kv_status kv_merge_one(struct kv_db *db, struct kv_err *err)
{
    struct kv_pick pick;
    struct kv_err local = {0};
    uint64_t visible;
    kv_status rc = KV_END;
    if (db->merging_stopped || db->closing)
        return KV_END;
    if (!kv_mutex_try_lock(&db->merge_mutex))
        return KV_END; /* kv_merge_range is at it and kicks us when done: a worker must stay free for flushes */
    struct kv_view *view = kv_view_pin(db, &visible);
    if (kv_pick_cut(view->version, KV_RUNS_MAX, &pick)) {
        const struct kv_cut *cut = &view->version->trees[pick.space].cuts[pick.cut];
        if (cut_is_visible(db, pick.space, cut,
                           visible)) /* else a bulk load is about to be; it kicks us again */
            rc = merge_cut(db, view, pick.space, cut, &local);
    }
    kv_view_unref(view);
    kv_mutex_unlock(&db->merge_mutex);
    if (rc == KV_CONFLICT)
        return KV_OK;
    if (rc < 0 && rc != KV_CANCELED) {
        KV_COUNT(db, merge_failures);
        kv_db_work_failed(db, "merge", &local);
        if (rc == KV_CORRUPT || rc == KV_INVALID || rc == KV_TOO_NEW)
            db->merging_stopped =
                true; /* trying again would fail again; reads go on, damage stays where it is */
    }
    if (rc < 0 && err)
        *err = local;
    return rc;
}

/* ---- on demand */

static kv_status nothing(void *ctx, uint64_t seq, struct kv_err *err)
{
    (void)ctx, (void)seq, (void)err;
    return KV_OK;
}

/* Merges the first cut at or behind `from` that begins below upper. KV_END: there is none; KV_BUSY: not
 * visible yet. *next: the key behind the cut, empty: none. */
static kv_status merge_next_cut(struct kv_db *db, uint32_t space, kv_slice from, kv_slice upper,
                                struct kv_buf *next, struct kv_err *err)
{
    uint64_t visible;
    kv_status rc = KV_END;
    kv_mutex_lock(&db->merge_mutex);
    struct kv_view *view = kv_view_pin(db, &visible);
    const struct kv_tree *tree = &view->version->trees[space];
    size_t first, last;
    kv_tree_cut_range(tree, from, upper, &first, &last);
    if (first < last) {
        const struct kv_cut *cut = &tree->cuts[first];
        bool worth = cut->n_runs > 1 || db->spaces[space].hook;
        kv_buf_clear(next);
        rc = cut->prefix.len ? prefix_end(cut->prefix, next) : KV_OK;
        if (rc == KV_OK && worth)
            rc = cut_is_visible(db, space, cut, visible) ? merge_cut(db, view, space, cut, err) : KV_BUSY;
    }
    kv_view_unref(view);
    kv_mutex_unlock(&db->merge_mutex);
    return rc;
}

static bool memtables_touch(struct kv_db *db, uint32_t space, kv_slice lower, kv_slice upper)
{
    uint64_t visible;
    struct kv_view *view = kv_view_pin(db, &visible);
    bool touches = false;
    for (size_t i = 0; i < view->n_mem && !touches; i++)
        touches = kv_memtable_touches(view->mem[i], space, lower, upper);
    kv_view_unref(view);
    return touches;
}

kv_status kv_merge_range(struct kv_db *db, uint32_t declared, kv_slice lower, kv_slice upper,
                         struct kv_err *err)
{
    struct kv_buf from = {0}, next = {0};
    kv_status rc = KV_OK;
    if (!kv_space_known(db, declared))
        return kv_fail(err, KV_INVALID, 0, "space %u does not exist", declared);
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    uint32_t space = db->ids[declared];
    if (memtables_touch(db, space, lower, upper))
        KV_TRY(kv_flush(db, err));
    KV_TRY(kv_buf_append(&from, lower));
    for (int tries = 0; rc == KV_OK;) {
        rc = merge_next_cut(db, space, kv_buf_slice(&from), upper, &next, err);
        if ((rc == KV_BUSY || rc == KV_CONFLICT) && ++tries < MERGE_TRIES) {
            rc = kv_committer_exclusive(db->committer, false, nothing, NULL,
                                        err); /* whatever was on its way is visible now */
            continue;
        }
        if (rc != KV_OK || next.len == 0)
            break;
        tries = 0;
        kv_buf_clear(&from);
        KV_TRY(kv_buf_append(&from, kv_buf_slice(&next)));
    }
out:
    kv_buf_release(&from);
    kv_buf_release(&next);
    kv_db_kick(db);
    return rc < 0 ? rc : KV_OK;
}

/* ---- dropping whole tables */

static bool lies_within(const struct kv_table_properties *p, kv_slice lower, kv_slice upper)
{
    return kv_slice_compare(p->smallest, lower) >= 0 &&
           (upper.len == 0 || kv_slice_compare(p->largest, upper) < 0);
}

/* Would something older of a key of `item` come to light again in a table that stays? */
static bool hides_what_stays(const struct kv_tree *tree, const bool *drop, size_t at)
{
    const struct kv_table_properties *p = tree->items[at].properties;
    for (size_t i = 0; i < tree->n_items; i++) {
        const struct kv_table_properties *q = tree->items[i].properties;
        if (!drop[i] && q->version_min < p->version_max && kv_slice_compare(q->smallest, p->largest) <= 0 &&
            kv_slice_compare(q->largest, p->smallest) >= 0)
            return true;
    }
    return false;
}

static kv_status drop_choose(const struct kv_tree *tree, kv_slice lower, kv_slice upper, struct kv_edit *edit,
                             struct kv_buf *numbers, uint64_t *bytes)
{
    bool *drop = kv_zalloc(tree->n_items, sizeof *drop);
    kv_status rc = drop ? KV_OK : KV_NO_MEMORY;
    for (size_t i = 0; rc == KV_OK && i < tree->n_items; i++)
        drop[i] = lies_within(tree->items[i].properties, lower, upper);
    for (bool changed = rc == KV_OK; changed;) {
        changed = false;
        for (size_t i = 0; i < tree->n_items; i++)
            if (drop[i] && hides_what_stays(tree, drop, i)) {
                drop[i] = false;
                changed = true;
            }
    }
    for (size_t i = 0; rc == KV_OK && i < tree->n_items; i++) {
        if (!drop[i])
            continue;
        uint64_t number = kv_table_number(tree->items[i].table);
        kv_edit_drop_table(edit, number);
        *bytes += tree->items[i].properties->file_bytes;
        rc = kv_buf_append(numbers, kv_slice_of(&number, sizeof number));
    }
    kv_free(drop);
    return rc;
}

kv_status kv_drop_tables(struct kv_db *db, uint32_t declared, kv_slice lower, kv_slice upper, uint64_t *bytes,
                         struct kv_err *err)
{
    if (!kv_space_known(db, declared))
        return kv_fail(err, KV_INVALID, 0, "space %u does not exist", declared);
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    kv_status rc = KV_CONFLICT;
    uint64_t dropped = 0;
    for (int tries = 0; rc == KV_CONFLICT && tries < MERGE_TRIES;
         tries++) { /* a merge may replace them meanwhile */
        struct kv_edit edit = {0};
        struct kv_change change = {.edit = &edit};
        struct kv_buf numbers = {0};
        uint64_t visible;
        struct kv_view *view = kv_view_pin(db, &visible);
        dropped = 0;
        rc = drop_choose(&view->version->trees[db->ids[declared]], lower, upper, &edit, &numbers, &dropped);
        kv_view_unref(view);
        change.drops = (const uint64_t *)(const void *)numbers.data;
        change.n_drops = numbers.len / sizeof(uint64_t);
        if (rc == KV_OK && change.n_drops > 0)
            rc = kv_db_change(db, &change, err);
        if (rc == KV_OK)
            KV_COUNT_BY(db, drops, change.n_drops);
        kv_buf_release(&numbers);
        kv_edit_release(&edit);
    }
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory choosing tables to drop");
    if (bytes)
        *bytes = rc == KV_OK ? dropped : 0;
    return rc;
}
