/*
 * Doing what a pick says (pick.h): a merge, a move, a drop; and dropping tables on demand.
 *
 * A merge: (1) The pinned view is one in which every entry of the inputs is visible. (2) Walk them as one; keep.h
 * decides which entries are written on. A deletion goes only if no table outside the inputs can hold something
 * older of its key, by versions, whatever the level; readers that could ask for something older pin an older
 * view. (3) With a hook, hand it group by group and keep what it returns: whole cuts only. (4) Write tables,
 * split between keys or groups. (5) One edit drops the inputs and adds the outputs; if an input was dropped
 * meanwhile, the result is thrown away. (6) An input that cannot be read is put aside (damage.c), and the merge is
 * as if it had not been picked.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/compact.h"
#include "kvcore/db/keep.h"
#include "kvcore/db/output.h"
#include "kvcore/db/tree_iter.h"

enum {
    MERGE_LOOK_ENTRIES = 64,
    MERGE_PAUSE_ENTRIES = 1024,
    MERGE_PACE_BYTES = 128 << 10,
    MERGE_GROUP_ENTRIES_MAX = 1 << 24,
    DROP_TRIES = 100
};

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

/* ---- inputs */

struct inputs {
    const struct kv_cut *cut; /* they are a part of */
    struct part {
        size_t first, last; /* of each run's tables */
    } * parts;
    struct kv_cut taken; /* they alone, as a cut */
    struct kv_tree_run *runs;
    uint64_t version_max;
    uint64_t deletes_since_s; /* set before */
    bool bottom;              /* no other table holds anything older of their keys */
};

static void inputs_release(struct inputs *inputs)
{
    kv_free(inputs->parts);
    kv_free(inputs->runs);
    *inputs = (struct inputs){0};
}

static bool is_input(const struct inputs *inputs, size_t run, size_t item)
{
    return item >= inputs->parts[run].first && item < inputs->parts[run].last;
}

static bool inputs_are_bottom(const struct inputs *inputs, const struct kv_pick *pick)
{
    const struct kv_cut *cut = inputs->cut;
    for (size_t i = 0; i < cut->n_runs; i++) {
        size_t first, last;
        kv_tree_run_touching(&cut->runs[i], pick->span_smallest, pick->span_largest, &first, &last);
        for (; first < last; first++)
            if (!is_input(inputs, i, first) &&
                cut->runs[i].items[first].properties->version_min < inputs->version_max)
                return false;
    }
    return true;
}

static kv_status inputs_take(struct inputs *inputs, const struct kv_view *view, const struct kv_pick *pick)
{
    const struct kv_cut *cut = &view->version->trees[pick->space].cuts[pick->cut];
    inputs->cut = cut;
    inputs->parts = kv_zalloc(cut->n_runs, sizeof *inputs->parts);
    inputs->runs = kv_zalloc(cut->n_runs, sizeof *inputs->runs);
    if (!inputs->parts || !inputs->runs)
        return KV_NO_MEMORY;
    inputs->taken = (struct kv_cut){.prefix = cut->prefix, .runs = inputs->runs};
    for (size_t i = 0; i < cut->n_runs; i++) {
        struct part *part = &inputs->parts[i];
        kv_pick_inputs(pick, &cut->runs[i], &part->first, &part->last);
        if (part->first == part->last)
            continue;
        struct kv_tree_run run = kv_tree_run_part(&cut->runs[i], part->first, part->last);
        inputs->runs[inputs->taken.n_runs++] = run;
        inputs->taken.bytes += run.bytes;
        if (run.version_max > inputs->version_max)
            inputs->version_max = run.version_max;
        for (size_t k = 0; k < run.n; k++) {
            const struct kv_table_properties *p = run.items[k].properties;
            if (p->deletes_since_s && p->deletes_since_s < inputs->deletes_since_s)
                inputs->deletes_since_s = p->deletes_since_s;
        }
    }
    inputs->bottom = inputs_are_bottom(inputs, pick);
    return KV_OK;
}

/* ---- one merge */

struct merge {
    struct kv_db *db;
    uint32_t space;
    const struct kv_space *how;
    const struct kv_hook *hook; /* NULL: none, or not asked */
    struct inputs inputs;
    struct kv_output output;
    uint64_t oldest_txn;            /* deletions above it stay: a live transaction has yet to notice them */
    const struct kv_ranges *ranges; /* range deletions of the view's tree */
    struct group group;
    void *hook_state;
    /* While the hook returns a group: */
    struct kv_hook_sink sink;
    const struct kv_hook_entry *given;
    size_t given_at;
    struct kv_buf sunk_key;
    bool sunk_any;
    struct kv_err *err;
    uint64_t entries, paced; /* walked; bytes written for which the pace was kept */
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
            rc = merge->hook->group(merge->hook_state, merge->given, merge->group.n, &merge->sink);
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
    if (!merge->hook)
        return kv_output_add(&merge->output, merge->space, entry, first, merge->err);
    kv_status rc = KV_OK;
    if (merge->group.n == 0 || !kv_slice_has_prefix(entry->key, group_prefix(&merge->group))) {
        rc = merge_group_end(merge);
        size_t len = merge->hook->group_len(merge->hook->ctx, entry->key);
        merge->group.prefix_len = len < 1 ? 1 : len > entry->key.len ? entry->key.len : len;
    }
    return rc < 0 ? rc : group_add(&merge->group, entry);
}

/* kv_keep.between */
static bool merge_between(void *ctx, kv_slice key, uint64_t newer, uint64_t older)
{
    const struct merge *merge = ctx;
    const struct kv_cut *cut = merge->inputs.cut;
    for (size_t i = 0; i < cut->n_runs; i++) {
        size_t k = kv_tree_run_at(&cut->runs[i], key);
        if (k < cut->runs[i].n && !is_input(&merge->inputs, i, k) &&
            cut->runs[i].items[k].properties->version_min < newer &&
            cut->runs[i].items[k].properties->version_max > older &&
            kv_slice_compare(cut->runs[i].items[k].properties->smallest, key) <= 0)
            return true;
    }
    return false;
}

/* kv_keep.older */
static bool merge_older(void *ctx, kv_slice key, uint64_t version)
{
    return merge_between(ctx, key, version, 0);
}

/* Between entries: stops when the database closes, keeps the pace, and with one worker lets a flush pass that
 * commits may be waiting for. */
static kv_status merge_pause(void *ctx)
{
    struct merge *merge = ctx;
    struct kv_db *db = merge->db;
    if (++merge->entries % MERGE_LOOK_ENTRIES != 0)
        return KV_OK;
    if (db->closing)
        return kv_fail(merge->err, KV_CANCELED, 0, "the database is being closed");
    uint64_t written = kv_output_bytes(&merge->output);
    if (written - merge->paced >= MERGE_PACE_BYTES) {
        kv_env_pace_wait(db->env, written - merge->paced, &db->closing);
        merge->paced = written;
    }
    if (merge->entries % MERGE_PAUSE_ENTRIES == 0 && db->env->n_threads == 1 &&
        kv_flush_pending(db)) {                /* with more one is kept for flushes */
        kv_status rc = kv_flush_one(db, NULL); /* a failure is reported there and stops commits, not merges */
        (void)rc;
    }
    return KV_OK;
}

static kv_status merge_fetch(void *ctx, kv_slice pointer, struct kv_block **out)
{
    struct merge *merge = ctx;
    return kv_values_fetch(merge->output.source, pointer, false, out, merge->err);
}

static kv_status merge_walk(struct merge *merge, struct kv_entry_iter *it)
{
    struct kv_keep keep = {.how = merge->how,
                           .now_s = (uint64_t)kv_db_retention_now(merge->db) / 1000,
                           .oldest_txn = merge->oldest_txn,
                           .ranges = merge->ranges,
                           .older = merge->inputs.bottom ? NULL : merge_older,
                           .between = merge->inputs.bottom ? NULL : merge_between,
                           .fetch = merge_fetch,
                           .emit = merge_put,
                           .pause = merge_pause,
                           .ctx = merge};
    kv_status rc = kv_keep_run(&keep, it);
    if (rc == KV_OK && merge->hook)
        rc = merge_group_end(merge);
    kv_keep_release(&keep);
    return rc;
}

/* Drops every input by the change; numbers (to release) holds them. */
static kv_status drop_inputs(const struct kv_cut *taken, struct kv_change *change, struct kv_buf *numbers)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < taken->n_runs; i++)
        for (size_t k = 0; k < taken->runs[i].n && rc == KV_OK; k++) {
            uint64_t number = taken->runs[i].items[k].number;
            kv_edit_drop_table(change->edit, number);
            rc = kv_buf_append(numbers, kv_slice_of(&number, sizeof number));
        }
    change->drops = (const uint64_t *)(const void *)numbers->data;
    change->n_drops = numbers->len / sizeof(uint64_t);
    return rc;
}

static void count_merge(struct merge *merge)
{
    struct kv_level_counters *level = &merge->db->level_counters[merge->space][merge->output.level];
    KV_COUNT(merge->db, merges);
    kv_job_ended(merge->db, KV_JOB_MERGE, KV_OK, NULL);
    KV_COUNT_BY(merge->db, merge_bytes_in, merge->inputs.taken.bytes);
    KV_COUNT_BY(merge->db, merge_bytes_out, merge->output.bytes);
    atomic_fetch_add_explicit(&level->merges, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&level->bytes_read, merge->inputs.taken.bytes, memory_order_relaxed);
}

static kv_status merge_install(struct merge *merge)
{
    struct kv_edit edit = {0};
    struct kv_change change = {.edit = &edit};
    struct kv_buf drops = {0};
    kv_status rc;
    KV_TRY(drop_inputs(&merge->inputs.taken, &change, &drops));
    kv_output_install(&merge->output, &change, 0);
    rc = kv_db_change(merge->db, &change, merge->err);
    merge->output.keep = rc != KV_CONFLICT;
    if (rc == KV_OK)
        count_merge(merge);
out:
    kv_buf_release(&drops);
    kv_edit_release(&edit);
    return rc;
}

/* The level that the outputs will be merged into one day. NULL: none, or nothing is there. */
static const struct kv_tree_run *run_below(const struct kv_cut *cut, uint32_t level)
{
    for (size_t i = 0; level > 0 && i < cut->n_runs; i++)
        if (cut->runs[i].level == level + 1)
            return &cut->runs[i];
    return NULL;
}

/* The tables it lies in are put aside, and whoever picks, picks again. */
static kv_status merge_met_damage(struct merge *merge, struct kv_view *view)
{
    kv_status rc = kv_db_put_aside(merge->db, view, &merge->inputs.taken);
    return rc == KV_OK || rc == KV_CONFLICT ? KV_CONFLICT : KV_CORRUPT;
}

static kv_status merge_tables(struct kv_db *db, struct kv_view *view, const struct kv_pick *pick,
                              struct kv_err *err)
{
    struct merge merge = {.db = db,
                          .space = pick->space,
                          .how = &db->spaces[pick->space],
                          .sink = {merge_sink_add},
                          .err = err};
    const struct kv_hook *hook = pick->whole ? merge.how->hook : NULL;
    struct kv_tree_iter_options how = {.space = pick->space, .no_fill = true, .uncounted = true, .err = err};
    struct kv_entry_iter *it = NULL;
    struct kv_buf upper = {0};
    bool began = false, installed = false;
    kv_status rc;
    merge.hook = hook;
    merge.oldest_txn = hook ? UINT64_MAX : kv_db_oldest_txn(db); /* with a hook: see kv_merge_sees */
    kv_output_init(&merge.output, db);
    merge.output.level = pick->to;
    merge.output.source = &view->version->values;
    merge.ranges = view->version->trees[pick->space].ranges;
    /* They enter the tree in the order of their versions: none at or below the newest is still to come. */
    merge.output.ranges_applied = kv_ranges_version_max(merge.ranges);
    merge.inputs.deletes_since_s = (uint64_t)kv_db_retention_now(db) / 1000;
    KV_TRY(inputs_take(&merge.inputs, view, pick));
    merge.output.deletes_since_s = merge.inputs.deletes_since_s;
    merge.output.below = run_below(merge.inputs.cut, pick->to);
    KV_TRY(kv_prefix_end(merge.inputs.cut->prefix, &upper));
    KV_TRY(kv_cut_iter_open(view->version, &merge.inputs.taken, &how, &it));
    if (hook) {
        KV_TRY(hook->begin(hook->ctx, merge.inputs.cut->prefix, kv_buf_slice(&upper), &merge.hook_state));
        began = true;
    }
    KV_TRY(merge_walk(&merge, it));
    KV_TRY(kv_output_finish(&merge.output, err));
    kv_env_pace_wait(
        db->env, merge.output.bytes - (merge.paced < merge.output.bytes ? merge.paced : merge.output.bytes),
        &db->closing);
    KV_TRY(merge_install(&merge));
    installed = true;
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory merging space %s", merge.how->name);
    kv_entry_iter_close(it);
    if (began)
        hook->end(merge.hook_state, installed);
    if (rc == KV_CORRUPT)
        rc = merge_met_damage(&merge, view);
    kv_output_release(&merge.output);
    kv_buf_release(&merge.sunk_key);
    kv_buf_release(&upper);
    group_release(&merge.group);
    inputs_release(&merge.inputs);
    return rc < 0 ? rc : KV_OK;
}

/* ---- moves and drops: an edit and nothing else */

static kv_status move_inputs(const struct kv_cut *taken, uint32_t level, struct kv_change *change,
                             struct kv_buf *moves)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < taken->n_runs; i++)
        for (size_t k = 0; k < taken->runs[i].n && rc == KV_OK; k++) {
            struct kv_tree_move move = {taken->runs[i].items[k].number, level};
            kv_edit_move_table(change->edit, move.number, level);
            rc = kv_buf_append(moves, kv_slice_of(&move, sizeof move));
        }
    change->moves = (const struct kv_tree_move *)(const void *)moves->data;
    change->n_moves = moves->len / sizeof(struct kv_tree_move);
    return rc;
}

static kv_status edit_tables(struct kv_db *db, struct kv_view *view, const struct kv_pick *pick,
                             struct kv_err *err)
{
    struct inputs inputs = {0};
    struct kv_edit edit = {0};
    struct kv_change change = {.edit = &edit};
    struct kv_buf numbers = {0};
    kv_status rc;
    KV_TRY(inputs_take(&inputs, view, pick));
    KV_TRY(pick->kind == KV_PICK_MOVE ? move_inputs(&inputs.taken, pick->to, &change, &numbers)
                                      : drop_inputs(&inputs.taken, &change, &numbers));
    KV_TRY(kv_db_change(db, &change, err));
    KV_COUNT_BY(db, drops, change.n_drops);
    KV_COUNT_BY(db, moves, change.n_moves);
    atomic_fetch_add_explicit(&db->level_counters[pick->space][pick->to].moves, change.n_moves,
                              memory_order_relaxed);
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory moving tables of space %s", db->spaces[pick->space].name);
    kv_buf_release(&numbers);
    kv_edit_release(&edit);
    inputs_release(&inputs);
    return rc;
}

kv_status kv_pick_do(struct kv_db *db, struct kv_view *view, const struct kv_pick *pick, struct kv_err *err)
{
    atomic_fetch_add_explicit(&db->merges_running, 1, memory_order_relaxed);
    kv_status rc =
        pick->kind == KV_PICK_MERGE ? merge_tables(db, view, pick, err) : edit_tables(db, view, pick, err);
    atomic_fetch_sub_explicit(&db->merges_running, 1, memory_order_relaxed);
    return rc;
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
    for (int tries = 0; rc == KV_CONFLICT && tries < DROP_TRIES;
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
