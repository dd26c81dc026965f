#include "tests/model/player.h"
#include "kvcore/base/mem.h"

#include <inttypes.h>
#include <stdlib.h>

enum { SHOWN = 60 };

void player_compare(struct player *p, const char *what, kv_status rc, const struct model_found *expected,
                    kv_slice value, uint64_t version, uint64_t expires_at_s, uint8_t meta)
{
    if (rc < 0)
        player_fail(p, "%s: %s: %s", what, kv_status_name(rc), p->err.text);
    if (rc == KV_OK && !expected)
        player_fail(p, "%s: found %.*s of version %" PRIu64 " where nothing is", what,
                    value.len > SHOWN ? SHOWN : (int)value.len, (const char *)value.data, version);
    if (rc != KV_OK && expected)
        player_fail(p, "%s: nothing where %.*s of version %" PRIu64 " is", what,
                    expected->value.len > SHOWN ? SHOWN : (int)expected->value.len,
                    (const char *)expected->value.data, expected->version);
    player_note(p, (uint64_t)rc);
    if (rc != KV_OK)
        return;
    if (!kv_slice_equal(value, expected->value) || version != expected->version ||
        expires_at_s != expected->expires_at_s || meta != expected->meta)
        player_fail(
            p,
            "%s: %.*s (%zu bytes) version %" PRIu64 " expiry %" PRIu64 " meta %d instead of %.*s (%zu "
            "bytes) version %" PRIu64 " expiry %" PRIu64 " meta %d",
            what, value.len > SHOWN ? SHOWN : (int)value.len, (const char *)value.data, value.len, version,
            expires_at_s, meta, expected->value.len > SHOWN ? SHOWN : (int)expected->value.len,
            (const char *)expected->value.data, expected->value.len, expected->version,
            expected->expires_at_s, expected->meta);
    player_note(p, version);
    player_note_slice(p, value);
}

/* The snapshot an operation reads at (NULL: now), and its stamp. */
static const struct kv_snapshot *read_at(struct player *p, const struct op *op, uint64_t *stamp)
{
    const struct player_snapshot *slot = op->snap ? &p->snapshots[(op->snap - 1) % SNAP_SLOTS] : NULL;
    *stamp = slot && slot->snapshot ? slot->stamp : p->model.stamp;
    return slot ? slot->snapshot : NULL;
}

/* The same in parts. */
static void read_parts(struct player *p, const struct kv_snapshot *snapshot, uint32_t space, uint32_t key,
                       const struct model_found *expected)
{
    struct kv_value_reader *reader = NULL;
    struct kv_value_info info = {0};
    uint8_t bytes[MODEL_VALUE_MAX];
    size_t len = 0, got = 0;
    kv_status rc = kv_value_open(p->db, snapshot, space, model_key(key), &reader, &p->err);
    if (rc == KV_OK)
        info = *kv_value_info(reader);
    for (got = 1; rc == KV_OK && got > 0; len += got)
        rc = kv_value_read_at(reader, len, len < 700 ? 99 : sizeof bytes - len, bytes + len, &got, &p->err);
    kv_value_close(reader);
    player_compare(p, "a get in parts", rc, expected, kv_slice_of(bytes, len), info.version,
                   info.expires_at_s, info.meta);
    if (rc == KV_OK && info.bytes != len)
        player_fail(p, "a value of %zu bytes is said to have %" PRIu64, len, info.bytes);
}

static void get_at(struct player *p, const struct kv_snapshot *snapshot, uint64_t stamp, uint32_t space,
                   uint32_t key)
{
    struct model_found expected;
    struct kv_pinned got;
    bool has = model_get(&p->model, stamp, player_now_s(p), space, key, &expected);
    kv_status rc = kv_get(p->db, snapshot, space, model_key(key), &got, &p->err);
    player_compare(p, "get", rc, has ? &expected : NULL, got.value, got.version, got.expires_at_s, got.meta);
    kv_pinned_release(&got);
    read_parts(p, snapshot, space, key, has ? &expected : NULL);
}

void player_get(struct player *p, const struct op *op)
{
    uint64_t stamp;
    const struct kv_snapshot *snapshot = read_at(p, op, &stamp);
    get_at(p, snapshot, stamp, op->space % MODEL_SPACES, op->key % MODEL_KEYS);
}

/* ---- iterators: a step of one, on the model and the database */

static void iter_open(struct player *p, struct player_iter *iter, const struct kv_snapshot *snapshot,
                      uint64_t stamp, const struct op *op)
{
    uint64_t back = op->since ? op->since - 1 : UINT64_MAX;
    *iter = (struct player_iter){.space = op->space % MODEL_SPACES, .stamp = stamp, .at = -1};
    iter->since = p->model.version > back ? p->model.version - back : 0;
    iter->first = (int)model_bound_first(op->lower);
    iter->end = (int)model_bound_end(op->upper);
    iter->keys_only = op->how & 2;
    struct kv_iter_options options = {.snapshot = snapshot,
                                      .lower = model_bound(op->lower),
                                      .upper = model_bound(op->upper),
                                      .since = iter->since,
                                      .keys_only = iter->keys_only,
                                      .no_fill = op->how & 4};
    player_must(p, "kv_iter_open_with", kv_iter_open_with(p->db, iter->space, &options, &iter->it), KV_OK);
}

/* It answered rc to a call that looks from key `from` on. */
static kv_status iter_arrived(struct player *p, struct player_iter *iter, kv_status rc, int from)
{
    struct model_found expected;
    iter->at = model_next(&p->model, iter->stamp, iter->now_s, iter->space, from, iter->first, iter->end,
                          iter->since, iter->backward);
    if (rc != KV_OK && rc != KV_END)
        player_must(p, "an iterator", rc, KV_OK);
    if (rc == KV_OK && iter->at < 0)
        player_fail(p, "an iterator shows key %d where none is", model_find_key(iter->it->key));
    if (rc == KV_END && iter->at >= 0)
        player_fail(p, "an iterator ends in front of key %d", iter->at);
    player_note(p, (uint64_t)rc);
    if (rc == KV_END)
        return rc;
    if (!kv_slice_equal(iter->it->key, model_key((uint32_t)iter->at)))
        player_fail(p, "an iterator shows key %d instead of %d", model_find_key(iter->it->key), iter->at);
    bool has = model_get(&p->model, iter->stamp, iter->now_s, iter->space, (uint32_t)iter->at, &expected);
    if (iter->keys_only)
        expected.value.len = 0;
    player_compare(p, "an iterator", rc, has ? &expected : NULL, iter->it->value, iter->it->version,
                   iter->it->expires_at_s, iter->it->meta);
    if (iter->it->deleted)
        player_fail(p, "an iterator shows a deletion");
    return rc;
}

static kv_status iter_seek(struct player *p, struct player_iter *iter, uint32_t bound, bool before)
{
    int from = before ? (int)model_bound_end(bound) - 1 : (int)model_bound_first(bound);
    if (before && from >= iter->end)
        from = iter->end - 1;
    if (!before && from < iter->first)
        from = iter->first;
    iter->backward = before;
    iter->now_s = player_now_s(p);
    return iter_arrived(p, iter,
                        before ? kv_iter_seek_before(iter->it, model_bound(bound))
                               : kv_iter_seek(iter->it, model_bound(bound)),
                        from);
}

static kv_status iter_step(struct player *p, struct player_iter *iter, bool backward)
{
    int from = iter->at + (backward ? -1 : 1);
    if (iter->backward != backward)
        iter->now_s = player_now_s(p);
    iter->backward = backward;
    return iter_arrived(p, iter, backward ? kv_iter_prev(iter->it) : kv_iter_next(iter->it), from);
}

void player_iter(struct player *p, const struct op *op)
{
    struct player_iter *iter = &p->iters[op->slot % ITER_SLOTS];
    uint64_t stamp;
    if (op->kind == OP_iter) {
        const struct kv_snapshot *snapshot = read_at(p, op, &stamp);
        kv_iter_close(iter->it);
        iter_open(p, iter, snapshot, stamp, op);
    } else if (op->kind == OP_iter_close) {
        kv_iter_close(iter->it);
        iter->it = NULL;
    } else if (iter->it && (op->kind == OP_seek || op->kind == OP_seek_before)) {
        (void)iter_seek(p, iter, op->lower, op->kind == OP_seek_before);
    } else if (iter->it && iter->at >= 0) {
        (void)iter_step(p, iter, op->kind == OP_prev);
    }
}

void player_scan(struct player *p, const struct op *op)
{
    struct player_iter iter;
    uint64_t stamp;
    const struct kv_snapshot *snapshot = read_at(p, op, &stamp);
    bool backward = op->how & 1;
    iter_open(p, &iter, snapshot, stamp, op);
    for (kv_status rc = iter_seek(p, &iter, 0, backward); rc == KV_OK;)
        rc = iter_step(p, &iter, backward);
    kv_iter_close(iter.it);
}

static void verify_at(struct player *p, const struct kv_snapshot *snapshot, uint64_t stamp)
{
    for (uint32_t space = 0; space < MODEL_SPACES; space++) {
        struct player_iter iter;
        for (uint32_t k = 0; k < MODEL_KEYS; k++)
            get_at(p, snapshot, stamp, space, k);
        iter_open(p, &iter, snapshot, stamp, &(struct op){.space = space});
        for (kv_status rc = iter_seek(p, &iter, 0, false); rc == KV_OK;)
            rc = iter_step(p, &iter, false);
        for (kv_status rc = iter_seek(p, &iter, 0, true); rc == KV_OK;)
            rc = iter_step(p, &iter, true);
        kv_iter_close(iter.it);
    }
}

void player_verify(struct player *p)
{
    if (kv_seq(p->db) != p->model.version)
        player_fail(p, "%" PRIu64 " is visible", kv_seq(p->db));
    if (kv_retention_clock_ms(p->db) != kv_clock_wall_ms(&p->clock.base))
        player_fail(p, "the retention clock is %" PRId64 " ms ahead of the wall clock",
                    kv_retention_clock_ms(p->db) - kv_clock_wall_ms(&p->clock.base));
    verify_at(p, NULL, p->model.stamp);
    struct kv_db *db = p->db;
    uint64_t hash = p->hash;
    p->db = player_follow(p);
    if (kv_seq(p->db) != p->model.version)
        player_fail(p, "%" PRIu64 " is visible to a follower", kv_seq(p->db));
    verify_at(p, NULL, p->model.stamp);
    p->db = db;
    p->hash = hash;
    for (size_t i = 0; i < SNAP_SLOTS; i++)
        if (p->snapshots[i].snapshot)
            verify_at(p, p->snapshots[i].snapshot, p->snapshots[i].stamp);
}

/* ---- all versions */

struct shown {
    int key;
    uint64_t version, expires_at_s, value; /* value: a hash */
    uint8_t meta;
    bool deleted;
};
struct list {
    struct shown *at;
    size_t n, capacity;
};

static struct shown shown_by(const struct kv_iter *it)
{
    struct shown shown = {model_find_key(it->key), it->version, it->expires_at_s, 0, it->meta, it->deleted};
    for (size_t i = 0; i < it->value.len; i++)
        shown.value = shown.value * 31 + it->value.data[i];
    return shown;
}

static bool shown_equal(const struct shown *a, const struct shown *b)
{
    return a->key == b->key && a->version == b->version && a->expires_at_s == b->expires_at_s &&
           a->value == b->value && a->meta == b->meta && a->deleted == b->deleted;
}

/* Is what is shown of the key one of the events, and is everything there that has to be? Takes the key's from *next on. */
static void versions_of_key(struct player *p, const struct player_iter *iter, const struct list *list,
                            size_t *next, int key)
{
    const struct events *events = &p->model.keys[iter->space][key];
    bool covered = false, ended = false;
    uint32_t kept = 0, must = iter->space == SPACE_VERSIONS ? MODEL_VERSIONS_KEPT : 1;
    uint64_t version = UINT64_MAX;
    uint8_t bytes[MODEL_VALUE_MAX];
    for (size_t i = events->n; i-- > 0 && !covered;) {
        const struct event *event = &events->at[i];
        if (event->stamp > iter->stamp)
            continue;
        if (event->kind == EVENT_RANGE || event->kind == EVENT_DROPPED)
            covered = true;
        if (covered || event->version == version)
            continue; /* overwritten in the same commit */
        version = event->version;
        bool put = event->kind != EVENT_DELETE,
             dead = event->expires_at_s && event->expires_at_s <= iter->now_s;
        const struct shown *shown = *next < list->n ? &list->at[*next] : NULL;
        bool there = shown && shown->key == key && shown->version == version;
        if (!there && put && !dead && !ended && kept < must && version > iter->since)
            player_fail(p, "all versions: key %d lacks version %" PRIu64, key, version);
        if (there) {
            struct kv_iter as = {.key = model_key((uint32_t)key), .version = version, .meta = event->meta};
            as.expires_at_s = event->expires_at_s;
            as.value = put ? model_value(event->n, event->len, bytes) : (kv_slice){0};
            as.deleted = !put || dead;
            struct shown expected = shown_by(&as);
            if (version <= iter->since || shown->deleted != as.deleted ||
                (!as.deleted && !shown_equal(shown, &expected)))
                player_fail(p, "all versions: key %d version %" PRIu64 " deleted %d is not what was written",
                            key, version, shown->deleted);
            *next += 1;
        }
        kept++;
        ended = ended || !put || dead || event->ends;
    }
}

static void versions_to_and_fro(struct player *p, struct kv_iter *it, const struct list *list, uint64_t seed)
{
    struct kv_prng prng;
    kv_prng_init(&prng, seed);
    size_t at = 0;
    kv_status rc = list->n ? kv_iter_seek(it, (kv_slice){0}) : KV_END;
    for (int steps = 0; rc == KV_OK && steps < 40; steps++) {
        struct shown shown = shown_by(it);
        if (!shown_equal(&shown, &list->at[at]))
            player_fail(p,
                        "all versions, to and fro: key %d version %" PRIu64 " instead of %d version %" PRIu64,
                        shown.key, shown.version, list->at[at].key, list->at[at].version);
        bool back = at + 1 == list->n || (at > 0 && kv_prng_below(&prng, 2));
        if (list->n == 1)
            return;
        rc = back ? kv_iter_prev(it) : kv_iter_next(it);
        at += back ? (size_t)-1 : 1;
    }
    if (list->n)
        player_must(p, "a step among all versions", rc, KV_OK);
}

void player_versions(struct player *p, const struct op *op)
{
    struct player_iter iter;
    struct list list = {0};
    uint64_t stamp;
    kv_status rc;
    const struct kv_snapshot *snapshot = read_at(p, op, &stamp);
    if (space_merges(op->space % MODEL_SPACES))
        return;
    iter_open(p, &iter, snapshot, stamp, op);
    kv_iter_close(iter.it);
    iter.now_s = player_now_s(p);
    struct kv_iter_options options = {.snapshot = snapshot,
                                      .lower = model_bound(op->lower),
                                      .upper = model_bound(op->upper),
                                      .since = iter.since,
                                      .all_versions = true};
    player_must(p, "kv_iter_open_with", kv_iter_open_with(p->db, iter.space, &options, &iter.it), KV_OK);
    for (rc = kv_iter_seek(iter.it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(iter.it)) {
        list.at = player_grown(list.at, &list.capacity, list.n, sizeof *list.at);
        list.at[list.n++] = shown_by(iter.it);
    }
    player_must(p, "all versions", rc, KV_END);
    size_t next = 0;
    for (int k = iter.first; k < iter.end; k++)
        versions_of_key(p, &iter, &list, &next, k);
    if (next != list.n)
        player_fail(p, "all versions: key %d version %" PRIu64 " deleted %d should not be there",
                    list.at[next].key, list.at[next].version, list.at[next].deleted);
    for (rc = kv_iter_seek_before(iter.it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_prev(iter.it)) {
        struct shown shown = shown_by(iter.it);
        if (next == 0 || !shown_equal(&shown, &list.at[next - 1]))
            player_fail(p, "all versions, backward: key %d version %" PRIu64 " out of place", shown.key,
                        shown.version);
        next--;
    }
    if (rc != KV_END || next != 0)
        player_fail(p, "all versions, backward: %s, %zu are missing", kv_status_name(rc), next);
    versions_to_and_fro(p, iter.it, &list, op->n);
    kv_iter_close(iter.it);
    kv_free(list.at);
}
