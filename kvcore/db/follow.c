/*
 * A follower beside a writer: kvcore/docs/follower.md.
 *
 * A refresh (1) reads on in the manifest, (2) makes the version of the tree that it says, with the tables that are open already,
 * (3) reads on in the log, into memtables nobody sees the new entries of, (4) looks at the manifest again, and goes back to (2) if it has
 * changed: so what was read of the log and the manifest belong to one moment; (5) makes all of it visible in one step.
 *
 * What goes wrong in (1) to (4) may be a file that went, or grew, while it was looked at. Then a second look at the manifest shows
 * another picture. So an error counts when it comes twice in the same words.
 */
#include "kvcore/db/follow.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/log_tail.h"

#include <inttypes.h>
#include <stdlib.h>

enum { TRIES_MAX = 16 };

struct kv_follow {
    kv_mutex mutex;
    struct kv_db *db;
    struct kv_log_tail tail;
    struct kv_memtable **mem; /* what the tail has read, newest first; owned references */
    size_t n_mem, mem_capacity;
    uint64_t mem_floor,
        mem_epoch;  /* they hold puts from this sequence on, as the writer of this epoch left them */
    bool mem_stale; /* they do not hold what the tail has read */
    struct kv_version *version; /* of the manifest's state at: */
    uint64_t generation, edit;
    bool news;  /* memtables or version are not what readers see */
    bool aside; /* what is damaged gets a stand-in */
};

kv_status kv_follow_new(struct kv_db *db, struct kv_follow **out)
{
    struct kv_follow *follow = kv_zalloc(1, sizeof *follow);
    if (!follow)
        return KV_NO_MEMORY;
    follow->db = db;
    follow->mem_stale = true;
    kv_mutex_init(&follow->mutex);
    *out = follow;
    return KV_OK;
}

static void forget_memtables(struct kv_follow *follow)
{
    while (follow->n_mem > 0)
        kv_memtable_unref(follow->mem[--follow->n_mem]);
    kv_log_tail_release(&follow->tail);
}

void kv_follow_free(struct kv_follow *follow)
{
    if (!follow)
        return;
    forget_memtables(follow);
    kv_free(follow->mem);
    kv_version_unref(follow->version);
    kv_mutex_release(&follow->mutex);
    kv_free(follow);
}

/* ---- what is worth a second look */

struct tries {
    int n;
    struct kv_err last;
};

/* Only what a change beside us can cause. */
static bool try_again(struct tries *tries, kv_status rc, const struct kv_err *err)
{
    bool may_pass = rc == KV_CORRUPT || rc == KV_MISSING || rc == KV_WRONG_KEY;
    bool again = may_pass && strcmp(err->text, tries->last.text) != 0 && ++tries->n < TRIES_MAX;
    tries->last = *err;
    return again;
}

kv_status kv_follow_load(struct kv_manifest *manifest, struct kv_dir *dir, struct kv_clock *clock,
                         const struct kv_key_source *source, struct kv_err *err)
{
    struct tries tries = {0};
    struct kv_err why = {0};
    kv_status rc;
    while ((rc = kv_manifest_load(manifest, dir, clock, source, &why)) < 0 && try_again(&tries, rc, &why))
        kv_manifest_close(manifest);
    if (rc < 0)
        kv_err_copy(err, &why);
    return rc;
}

/* ---- the tree */

static int order_items(const void *a, const void *b)
{
    uint64_t x = (*(const struct kv_tree_item *const *)a)->number,
             y = (*(const struct kv_tree_item *const *)b)->number;
    return (x > y) - (x < y);
}

/* Those of the version made last, by number. */
static kv_status list_items(const struct kv_version *version, const struct kv_tree_item ***out, size_t *n)
{
    size_t all = 0;
    *n = 0;
    for (uint32_t s = 0; version && s < version->n_spaces; s++)
        all += version->trees[s].n_items;
    const struct kv_tree_item **items = kv_zalloc(all, sizeof(struct kv_tree_item *));
    if (!items)
        return KV_NO_MEMORY;
    for (uint32_t s = 0; version && s < version->n_spaces; s++)
        for (size_t i = 0; i < version->trees[s].n_items; i++)
            items[(*n)++] = &version->trees[s].items[i];
    if (*n > 1)
        qsort(items, *n, sizeof(struct kv_tree_item *), order_items);
    *out = items;
    return KV_OK;
}

/* The same file under the same number. What was put aside stays so, as in any open database. */
static struct kv_table *table_open_already(const struct kv_tree_item **items, size_t n,
                                           const struct kv_table_meta *meta)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (items[middle]->number < meta->number)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == n || items[low]->number != meta->number ||
        memcmp(items[low]->properties->uid, meta->uid, KV_FILE_UID_LEN) != 0)
        return NULL;
    return kv_table_ref(items[low]->table);
}

static kv_status take_table(struct kv_follow *follow, const struct kv_tree_item **items, size_t n,
                            const struct kv_table_meta *meta, struct kv_tree_add *add, struct kv_err *err)
{
    kv_status rc = KV_OK;
    *add = (struct kv_tree_add){.space = meta->space, .level = meta->level, .run = meta->run};
    add->table = table_open_already(items, n, meta);
    if (!add->table)
        rc = follow->aside ? kv_db_open_table_or_aside(follow->db, meta, &add->table, err)
                           : kv_db_open_table(follow->db, meta, &add->table, err);
    if (rc == KV_OK && kv_table_damage(add->table))
        add->level = KV_LEVEL_ASIDE;
    return rc;
}

static kv_status take_segment(struct kv_follow *follow, const struct kv_segment_meta *meta,
                              struct kv_segment **out, struct kv_err *err)
{
    const struct kv_value_segment *at =
        follow->version ? kv_values_find(&follow->version->values, meta->number) : NULL;
    kv_status rc = KV_OK;
    if (at && memcmp(kv_segment_uid(at->segment), meta->uid, KV_FILE_UID_LEN) == 0)
        *out = kv_segment_ref(at->segment);
    else if (follow->aside)
        rc = kv_db_open_segment_or_damaged(follow->db, meta, out, err);
    else
        rc = kv_db_open_segment(follow->db, meta, out, err);
    if (rc == KV_OK) /* the writer says when it goes */
        kv_segment_set_log_seq(*out, KV_SEGMENT_HELD);
    return rc;
}

static kv_status version_of(struct kv_follow *follow, const struct kv_tree_add *adds,
                            struct kv_segment *const *segments, struct kv_version **out, struct kv_err *err)
{
    struct kv_db *db = follow->db;
    const struct kv_manifest_state *state = &db->manifest.state;
    struct kv_tree_change change = {.adds = adds,
                                    .n_adds = state->n_tables,
                                    .segments = segments,
                                    .n_segments = state->n_segments,
                                    .log_floor = state->log_floor};
    kv_status rc = kv_version_make(NULL, db->n_spaces, db->spaces, &change, out, err);
    if (rc < 0)
        return rc;
    (*out)->reads = &db->reads;
    return kv_open_ranges(state, *out);
}

static kv_status make_version(struct kv_follow *follow, struct kv_err *err)
{
    const struct kv_manifest_state *state = &follow->db->manifest.state;
    const struct kv_tree_item **items = NULL;
    struct kv_version *version = NULL;
    size_t n_items = 0, n = 0, n_segments = 0;
    struct kv_tree_add *adds = kv_zalloc(state->n_tables, sizeof *adds);
    struct kv_segment **segments = kv_zalloc(state->n_segments, sizeof(struct kv_segment *));
    kv_status rc = adds && segments ? KV_OK : KV_NO_MEMORY;
    KV_TRY(rc);
    KV_TRY(list_items(follow->version, &items, &n_items));
    for (; n_segments < state->n_segments; n_segments++)
        KV_TRY(take_segment(follow, &state->segments[n_segments], &segments[n_segments], err));
    for (; n < state->n_tables; n++)
        KV_TRY(take_table(follow, items, n_items, state->tables[n], &adds[n], err));
    KV_TRY(version_of(follow, adds, segments, &version, err));
    kv_version_unref(follow->version);
    follow->version = version;
    version = NULL;
    follow->generation = follow->db->manifest.generation;
    follow->edit = state->edit;
    follow->news = true;
out:
    kv_version_unref(version);
    for (size_t i = 0; i < n; i++)
        kv_table_unref(adds[i].table);
    for (size_t i = 0; i < n_segments; i++)
        kv_segment_unref(segments[i]);
    kv_free(items);
    kv_free(segments);
    kv_free(adds);
    return rc;
}

/* ---- the log */

static kv_status add_memtable(struct kv_follow *follow)
{
    struct kv_memtable *fresh = NULL;
    struct kv_memtable **grown =
        kv_grow(follow->mem, &follow->mem_capacity, follow->n_mem + 1, sizeof(struct kv_memtable *));
    if (!grown)
        return KV_NO_MEMORY;
    follow->mem = grown;
    kv_status rc = kv_db_memtable_new(follow->db, &fresh);
    if (rc < 0)
        return rc;
    memmove(follow->mem + 1, follow->mem, follow->n_mem * sizeof(struct kv_memtable *));
    follow->mem[0] = fresh;
    follow->n_mem++;
    follow->news = true;
    return KV_OK;
}

static kv_status read_commit(void *ctx, uint64_t seq, kv_slice batch, kv_slice record, struct kv_err *err)
{
    struct kv_follow *follow = ctx;
    kv_status rc = KV_OK;
    (void)record;
    if (batch.len == 0)
        return KV_OK;
    if (kv_memtable_entries_all(follow->mem[0]) > 0 &&
        kv_memtable_bytes(follow->mem[0]) + batch.len > follow->db->options.memtable_bytes)
        rc = add_memtable(follow);
    return rc < 0 ? kv_fail(err, rc, 0, "out of memory following commit %" PRIu64, seq)
                  : kv_open_enter(follow->db, follow->mem[0], follow->version, seq, batch, err);
}

/* Is all that the memtables hold from the floor on what a recovery would now find in the log? A failed sync or a crash of the
 * writer may have taken something back. */
static bool memtables_fit(const struct kv_follow *follow, const struct kv_log_known *known)
{
    const struct kv_manifest_state *state = &follow->db->manifest.state;
    return !follow->mem_stale && state->owner_epoch == follow->mem_epoch &&
           state->log_floor >= follow->mem_floor && kv_log_tail_fits(&follow->tail, known);
}

static kv_status copy_space(struct kv_memtable *from, uint32_t space, uint64_t floor,
                            struct kv_memtable *into)
{
    struct kv_buf ranges = {0};
    const struct kv_skipnode *at = NULL;
    struct kv_entry entry;
    kv_status rc;
    while (kv_memtable_newer(from, space, floor - 1, &at, &entry) == KV_OK)
        KV_TRY(kv_memtable_add(into, space, &entry));
    KV_TRY(kv_memtable_ranges(from, space, &ranges));
    const struct kv_range *list = (const struct kv_range *)(const void *)ranges.data;
    for (size_t i = 0; i < ranges.len / sizeof *list; i++) {
        entry = (struct kv_entry){list[i].lower, list[i].version, KV_KIND_RANGE, list[i].upper};
        if (list[i].version >= floor)
            KV_TRY(kv_memtable_add(into, space, &entry));
    }
out:
    kv_buf_release(&ranges);
    return rc;
}

/* What the memtable has from the floor on takes its place. */
static kv_status copy_from(struct kv_follow *follow, struct kv_memtable **at, uint64_t floor)
{
    struct kv_memtable *into = NULL;
    kv_status rc;
    KV_TRY(kv_db_memtable_new(follow->db, &into));
    for (uint32_t space = 0; space < follow->db->n_spaces; space++)
        KV_TRY(copy_space(*at, space, floor, into));
    kv_memtable_unref(*at);
    *at = into;
    return rc;
out:
    kv_memtable_unref(into);
    return rc;
}

/* What lies below the floor is in tables, merged with others by now: it must not be met any more. */
static kv_status shed(struct kv_follow *follow)
{
    uint64_t floor = follow->db->manifest.state.log_floor;
    kv_status rc = KV_OK;
    follow->mem_floor = floor;
    while (rc == KV_OK && follow->n_mem > 0) {
        struct kv_memtable **last = &follow->mem[follow->n_mem - 1];
        uint64_t oldest = kv_memtable_version_oldest(*last);
        if (oldest == 0 || oldest >= floor)
            break;
        follow->news = true;
        if (kv_memtable_version_newest(*last) >= floor)
            rc = copy_from(follow, last, floor);
        else
            kv_memtable_unref(follow->mem[--follow->n_mem]);
    }
    return rc == KV_OK && follow->n_mem == 0 ? add_memtable(follow) : rc;
}

static kv_status begin_memtables(struct kv_follow *follow)
{
    const struct kv_manifest_state *state = &follow->db->manifest.state;
    forget_memtables(follow);
    follow->mem_floor = state->log_floor;
    follow->mem_epoch = state->owner_epoch;
    return add_memtable(follow);
}

static kv_status read_log(struct kv_follow *follow, bool *any, struct kv_err *err)
{
    struct kv_db *db = follow->db;
    struct kv_log_known known = kv_manifest_log_known(&db->manifest.state);
    struct kv_log_replay replay = {.ctx = follow, .commit = read_commit};
    bool fits = memtables_fit(follow, &known);
    follow->tail.dir = db->dir;
    follow->tail.path = db->path;
    follow->tail.uuid = db->uuid;
    follow->tail.keys = db->manifest.keys;
    follow->mem_stale = true;
    kv_status rc = fits ? shed(follow) : begin_memtables(follow);
    if (rc < 0)
        return kv_fail(err, rc, 0, "%s: out of memory following", db->path);
    rc = kv_log_tail_read(&follow->tail, &known, &replay, any, err);
    if (rc < 0)
        return rc;
    follow->mem_stale = false;
    follow->news = follow->news || *any;
    return KV_OK;
}

/* ---- a refresh */

/* The writer may have made spaces since. */
static kv_status check_spaces(const struct kv_db *db, struct kv_err *err)
{
    const struct kv_manifest_state *state = &db->manifest.state;
    for (uint32_t id = 0; id < state->n_spaces; id++)
        if (id >= db->n_spaces || strcmp(state->spaces[id].name, db->spaces[id].name) != 0)
            return kv_fail(err, KV_INVALID, 0,
                           "%s: the writer has made a space %s, which is not declared here (or in another "
                           "place): open it anew",
                           db->path, state->spaces[id].name);
    return KV_OK;
}

static kv_status read_manifest(struct kv_follow *follow, struct kv_err *err)
{
    struct kv_db *db = follow->db;
    kv_mutex_lock(&db->manifest_mutex);
    kv_status rc = kv_manifest_follow(&db->manifest, err);
    kv_mutex_unlock(&db->manifest_mutex);
    return rc < 0 ? rc : check_spaces(db, err);
}

static bool version_fits(const struct kv_follow *follow)
{
    const struct kv_manifest *manifest = &follow->db->manifest;
    return follow->version && follow->generation == manifest->generation &&
           follow->edit == manifest->state.edit;
}

/* Steps (1) to (4). After the last round the manifest is as it was before it. */
static kv_status catch_up(struct kv_follow *follow, struct kv_err *err)
{
    kv_status rc;
    KV_TRY(read_manifest(follow, err));
    for (bool settled = false; !settled;) {
        bool any = false;
        if (!version_fits(follow))
            KV_TRY(make_version(follow, err));
        KV_TRY(read_log(follow, &any, err));
        if (any || follow->aside)
            KV_TRY(read_manifest(follow, err));
        settled = version_fits(follow);
    }
out:
    if (rc == KV_NO_MEMORY && err->code != KV_NO_MEMORY)
        kv_fail(err, rc, 0, "%s: out of memory following", follow->db->path);
    return rc;
}

static kv_status show(struct kv_follow *follow, struct kv_err *err)
{
    struct kv_db *db = follow->db;
    const struct kv_manifest_state *state = &db->manifest.state;
    uint64_t last = follow->tail.last_seq > state->last_seq ? follow->tail.last_seq : state->last_seq;
    kv_retention_clock_follow(&db->retention, state->retention_ms);
    if (!follow->news)
        return KV_OK;
    kv_status rc = kv_view_follow(db, follow->version, follow->mem, follow->n_mem, last);
    if (rc < 0)
        return kv_fail(err, rc, 0, "%s: out of memory following", db->path);
    follow->news = false;
    return KV_OK;
}

static kv_status refresh(struct kv_follow *follow, struct kv_err *err)
{
    struct tries tries = {0};
    kv_status rc;
    follow->aside = false;
    while ((rc = catch_up(follow, err)) < 0 && !follow->aside) {
        if (try_again(&tries, rc, err))
            continue;
        if (rc != KV_CORRUPT)
            break;
        follow->aside = true; /* what is damaged for good refuses no open, and no refresh */
    }
    return rc < 0 ? rc : show(follow, err);
}

kv_status kv_follow_refresh(struct kv_db *db, uint64_t *seq, struct kv_err *err)
{
    struct kv_err why = {0};
    if (!db->follow)
        return kv_fail(err, KV_INVALID, 0, "%s: it was not opened with follow", db->path);
    kv_mutex_lock(&db->follow->mutex);
    kv_status rc = refresh(db->follow, &why);
    if (seq)
        *seq = kv_db_visible(db);
    kv_mutex_unlock(&db->follow->mutex);
    if (rc < 0)
        kv_err_copy(err, &why);
    return rc;
}
