/*
 * Lists of the index space while it is merged: several become one, and series that have left go. All lists of a label
 * pair are one group: what is much of one metric and batch gets a list of its own there, the rest is mixed. Those of
 * "all series" are never mixed, and a group is one metric and batch of them.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/os/thread.h"
#include "tsdb/key.h"
#include "tsdb/postings.h"

#include <stdlib.h>

/* ---- series that have left --------------------------------------------------------------------------------------- */

struct left_set {
    uint32_t refs; /* atomic; the set does not change once it is shared */
    struct ts_refset set;
};
struct ts_left {
    kv_mutex lock;
    struct left_set *now; /* NULL: none */
};

static void left_unref(struct left_set *set)
{
    if (!set || __atomic_fetch_sub(&set->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    ts_refset_release(&set->set);
    kv_free(set);
}

kv_status ts_left_new(struct ts_left **out)
{
    struct ts_left *left = kv_zalloc(1, sizeof *left);
    if (!left)
        return KV_NO_MEMORY;
    kv_mutex_init(&left->lock);
    *out = left;
    return KV_OK;
}

void ts_left_free(struct ts_left *left)
{
    if (!left)
        return;
    left_unref(left->now);
    kv_mutex_release(&left->lock);
    kv_free(left);
}

static struct left_set *left_pin(struct ts_left *left)
{
    kv_mutex_lock(&left->lock);
    struct left_set *set = left->now;
    if (set)
        __atomic_fetch_add(&set->refs, 1, __ATOMIC_RELAXED);
    kv_mutex_unlock(&left->lock);
    return set;
}

static void left_replace(struct ts_left *left, struct left_set *next)
{
    kv_mutex_lock(&left->lock);
    struct left_set *before = left->now;
    left->now = next;
    kv_mutex_unlock(&left->lock);
    left_unref(before);
}

kv_status ts_left_add(struct ts_left *left, const struct ts_refset *more)
{
    struct left_set *now = left_pin(left), *next = kv_zalloc(1, sizeof *next);
    kv_status rc = next ? KV_OK : KV_NO_MEMORY;
    if (next)
        next->refs = 1;
    if (rc == KV_OK && now)
        rc = ts_refset_or(&next->set, &now->set);
    if (rc == KV_OK)
        rc = ts_refset_or(&next->set, more);
    if (rc == KV_OK)
        left_replace(left, next);
    else
        left_unref(next);
    left_unref(now);
    return rc;
}

void ts_left_clear(struct ts_left *left)
{
    left_replace(left, NULL);
}

uint64_t ts_left_count(struct ts_left *left)
{
    struct left_set *set = left_pin(left);
    uint64_t n = set ? ts_refset_count(&set->set) : 0;
    left_unref(set);
    return n;
}

/* ---- the hook ---------------------------------------------------------------------------------------------------- */

enum {
    MIXED_MEMBERS_MAX = 64,    /* so many of one metric and batch have a list of their own */
    SORTED_MEMBERS_MAX = 4096, /* more are united as bits */
};

/* Of one metric and batch, from one entry. */
struct list_part {
    uint64_t batch; /* metric << 16 | batch */
    struct ts_mixed_part part;
};
/* A mixed list that is complete. */
struct piece {
    uint64_t first;
    size_t at, len; /* in merge.pieces_bytes */
};

/* Scratch of one merge. */
struct merge {
    struct left_set *left; /* pinned */
    uint64_t bits[TS_BATCH_WORDS];
    uint16_t members[TS_BATCH_SIZE];
    size_t n_members;
    struct kv_buf bytes, pieces_bytes;
    struct ts_mixed_writer mixed;
    struct list_part *parts;
    size_t n_parts, parts_capacity;
    struct piece *pieces;
    size_t n_pieces, pieces_capacity;
};

static size_t hook_group_len(void *ctx, kv_slice key)
{
    (void)ctx;
    if (key.len <= TS_KEY_POSTINGS_TAIL_LEN || key.data[0] != 'p')
        return key.len;
    return key.len - (ts_key_postings_all(key) ? sizeof(uint16_t) : TS_KEY_POSTINGS_TAIL_LEN);
}

static kv_status hook_begin(void *ctx, kv_slice lower, kv_slice upper, void **out)
{
    (void)lower, (void)upper;
    struct merge *m = kv_zalloc(1, sizeof *m);
    *out = m;
    if (m && ctx)
        m->left = left_pin(ctx);
    return m ? KV_OK : KV_NO_MEMORY;
}

/* ---- one metric and batch */

static int u16_order(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

/* The members of parts[from, to) into m->members, as bits. */
static KV_MUST kv_status members_by_bits(struct merge *m, size_t from, size_t to)
{
    kv_status rc = KV_OK;
    memset(m->bits, 0, sizeof m->bits);
    for (size_t i = from; i < to; i++)
        KV_TRY(ts_postings_decode(ts_mixed_list(&m->parts[i].part), m->bits));
    m->n_members = 0;
    for (uint32_t w = 0; w < TS_BATCH_WORDS; w++)
        for (uint64_t bits = m->bits[w]; bits; bits &= bits - 1)
            m->members[m->n_members++] = (uint16_t)(w * 64 + (uint32_t)__builtin_ctzll(bits));
out:
    return rc;
}

/* The same, put behind each other and sorted. */
static KV_MUST kv_status members_by_sorting(struct merge *m, size_t from, size_t to)
{
    bool rising = true;
    kv_status rc = KV_OK;
    m->n_members = 0;
    for (size_t i = from; i < to; i++) {
        size_t n, at = m->n_members;
        KV_TRY(ts_postings_members(ts_mixed_list(&m->parts[i].part), m->members + at, &n));
        rising = rising && (at == 0 || m->members[at] > m->members[at - 1]);
        m->n_members += n;
    }
    if (rising)
        return KV_OK;
    qsort(m->members, m->n_members, sizeof *m->members, u16_order);
    size_t kept = 1;
    for (size_t i = 1; i < m->n_members; i++)
        if (m->members[i] != m->members[kept - 1])
            m->members[kept++] = m->members[i];
    m->n_members = kept;
out:
    return rc;
}

static void members_drop_left(struct merge *m, uint64_t batch)
{
    uint32_t metric = (uint32_t)(batch >> 16), first = (uint32_t)(batch & 0xffff) << 16;
    size_t kept = 0;
    if (!m->left || !ts_refset_has_metric_batch(&m->left->set, metric, (uint16_t)batch))
        return;
    for (size_t i = 0; i < m->n_members; i++)
        if (!ts_refset_has(&m->left->set, ts_ref_of(metric, first | m->members[i])))
            m->members[kept++] = m->members[i];
    m->n_members = kept;
}

/* parts[from, to) are of one metric and batch: their members that have not left, into m->members. */
static KV_MUST kv_status members_unite(struct merge *m, size_t from, size_t to)
{
    uint64_t sum = 0;
    kv_status rc = KV_OK;
    for (size_t i = from; i < to; i++) {
        uint32_t n;
        KV_TRY(ts_postings_count(ts_mixed_list(&m->parts[i].part), &n));
        sum += n;
    }
    KV_TRY(sum <= SORTED_MEMBERS_MAX ? members_by_sorting(m, from, to) : members_by_bits(m, from, to));
    members_drop_left(m, m->parts[from].batch);
out:
    return rc;
}

/* ---- groups */

static KV_MUST kv_status parts_add(struct merge *m, const struct ts_mixed_part *part)
{
    struct list_part *parts = kv_grow(m->parts, &m->parts_capacity, m->n_parts + 1, sizeof *parts);
    if (!parts)
        return KV_NO_MEMORY;
    m->parts = parts;
    m->parts[m->n_parts++] = (struct list_part){(uint64_t)part->metric << 16 | part->batch, *part};
    return KV_OK;
}

static KV_MUST kv_status parts_of(struct merge *m, const struct kv_hook_entry *entry)
{
    struct ts_postings_key tail;
    struct ts_mixed_reader reader;
    struct ts_mixed_part part = {0};
    kv_status rc;
    KV_TRY(ts_key_postings_tail_read(entry->key, &tail));
    if (!(tail.metric & TS_POSTINGS_MIXED)) {
        part = (struct ts_mixed_part){.metric = tail.metric, .batch = tail.batch, .list = entry->value};
        return entry->value.len > 0 && tail.metric > 0 ? parts_add(m, &part) : KV_CORRUPT;
    }
    if (ts_key_postings_all(entry->key))
        return KV_CORRUPT;
    KV_TRY(ts_mixed_open(&reader, entry->value));
    while ((rc = ts_mixed_next(&reader, &part)) == KV_OK)
        KV_TRY(parts_add(m, &part));
    rc = rc == KV_END ? KV_OK : rc;
out:
    return rc;
}

static int part_order(const void *a, const void *b)
{
    uint64_t x = ((const struct list_part *)a)->batch, y = ((const struct list_part *)b)->batch;
    return (x > y) - (x < y);
}

static bool parts_sorted(const struct merge *m)
{
    for (size_t i = 1; i < m->n_parts; i++)
        if (m->parts[i].batch < m->parts[i - 1].batch)
            return false;
    return true;
}

/* The key of a list: the pair's, from any key of it, and a tail. */
static void list_key(struct ts_key *key, kv_slice of)
{
    key->len = (uint16_t)(of.len - TS_KEY_POSTINGS_TAIL_LEN);
    memcpy(key->bytes, of.data, key->len);
}

static KV_MUST kv_status put_own(struct merge *m, kv_slice of, uint64_t batch, struct kv_hook_sink *sink)
{
    struct ts_postings_key tail = {(uint32_t)(batch >> 16), (uint16_t)batch, m->members[0]};
    struct ts_key key;
    kv_status rc;
    list_key(&key, of);
    ts_key_postings_tail(&key, &tail);
    kv_buf_clear(&m->bytes);
    KV_TRY(ts_postings_encode(m->members, m->n_members, &m->bytes));
    rc = sink->add(sink, ts_key_slice(&key), kv_buf_slice(&m->bytes));
out:
    return rc;
}

/* The mixed list at hand is complete. */
static KV_MUST kv_status close_piece(struct merge *m)
{
    kv_slice bytes = kv_buf_slice(&m->mixed.bytes);
    if (bytes.len == 0)
        return KV_OK;
    struct piece *pieces = kv_grow(m->pieces, &m->pieces_capacity, m->n_pieces + 1, sizeof *pieces);
    if (!pieces)
        return KV_NO_MEMORY;
    m->pieces = pieces;
    m->pieces[m->n_pieces++] = (struct piece){m->mixed.first, m->pieces_bytes.len, bytes.len};
    kv_status rc = kv_buf_append(&m->pieces_bytes, bytes);
    ts_mixed_begin(&m->mixed);
    return rc;
}

static KV_MUST kv_status put_parts(struct merge *m, kv_slice of, struct kv_hook_sink *sink)
{
    kv_status rc = KV_OK;
    for (size_t from = 0, to; from < m->n_parts; from = to) {
        uint64_t batch = m->parts[from].batch;
        for (to = from + 1; to < m->n_parts && m->parts[to].batch == batch;)
            to++;
        KV_TRY(members_unite(m, from, to));
        if (m->n_members >= MIXED_MEMBERS_MAX || (m->n_members > 0 && ts_key_postings_all(of))) {
            KV_TRY(put_own(m, of, batch, sink));
        } else if (m->n_members > 0) {
            KV_TRY(
                ts_mixed_add(&m->mixed, (uint32_t)(batch >> 16), (uint16_t)batch, m->members, m->n_members));
            if (m->mixed.bytes.len >= TS_MIXED_BYTES)
                KV_TRY(close_piece(m));
        }
    }
    KV_TRY(close_piece(m));
    for (size_t i = 0; i < m->n_pieces; i++) {
        struct ts_key key;
        list_key(&key, of);
        ts_key_postings_mixed(&key, m->pieces[i].first);
        KV_TRY(sink->add(sink, ts_key_slice(&key),
                         kv_slice_of(m->pieces_bytes.data + m->pieces[i].at, m->pieces[i].len)));
    }
out:
    return rc;
}

static kv_status hook_group(void *ctx, const struct kv_hook_entry *entries, size_t n,
                            struct kv_hook_sink *sink)
{
    struct merge *m = ctx;
    kv_slice key = entries[0].key;
    kv_status rc = KV_OK;
    if (key.data[0] != 'p') { /* activity and what has left: each is alone */
        KV_ASSERT(n == 1);
        return sink->add(sink, key, entries[0].value);
    }
    if (n == 1 && !m->left)
        return sink->add(sink, key, entries[0].value);
    m->n_parts = m->n_pieces = 0;
    kv_buf_clear(&m->pieces_bytes);
    ts_mixed_begin(&m->mixed);
    for (size_t i = 0; i < n; i++)
        KV_TRY(parts_of(m, &entries[i]));
    if (!parts_sorted(m))
        qsort(m->parts, m->n_parts, sizeof *m->parts, part_order);
    rc = put_parts(m, key, sink);
out:
    return rc;
}

static void hook_end(void *ctx, bool installed)
{
    struct merge *m = ctx;
    (void)installed;
    left_unref(m->left);
    kv_buf_release(&m->bytes);
    kv_buf_release(&m->pieces_bytes);
    ts_mixed_release(&m->mixed);
    kv_free(m->parts);
    kv_free(m->pieces);
    kv_free(m);
}

void ts_postings_hook_of(struct ts_left *left, struct kv_hook *out)
{
    *out = (struct kv_hook){
        .ctx = left, .group_len = hook_group_len, .begin = hook_begin, .group = hook_group, .end = hook_end};
}

const struct kv_hook *ts_postings_hook(void)
{
    static const struct kv_hook hook = {
        .group_len = hook_group_len, .begin = hook_begin, .group = hook_group, .end = hook_end};
    return &hook;
}
