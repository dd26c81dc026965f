/* Lists of the index space while it is merged: several of one group become one, and series that have left go. */
#include "kvcore/base/mem.h"
#include "kvcore/os/thread.h"
#include "tsdb/key.h"
#include "tsdb/postings.h"

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

/* Scratch of one merge. */
struct merge {
    struct left_set *left; /* pinned */
    uint64_t bits[TS_BATCH_WORDS];
    uint16_t members[TS_BATCH_SIZE];
    struct kv_buf bytes;
};

static size_t hook_group_len(void *ctx, kv_slice key)
{
    (void)ctx;
    return key.len > TS_KEY_POSTINGS_TAIL_LEN && key.data[0] == 'p' ? key.len - sizeof(uint16_t) : key.len;
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

/* Members of bits that have not left. */
static size_t members_of(struct merge *m, const struct ts_postings_key *tail, bool some_left)
{
    size_t n = 0;
    for (uint32_t w = 0; w < TS_BATCH_WORDS; w++)
        for (uint64_t bits = m->bits[w]; bits; bits &= bits - 1) {
            uint32_t member = w * 64 + (uint32_t)__builtin_ctzll(bits);
            if (!some_left ||
                !ts_refset_has(&m->left->set, ts_ref_of(tail->metric, (uint32_t)tail->batch << 16 | member)))
                m->members[n++] = (uint16_t)member;
        }
    return n;
}

static kv_status hook_group(void *ctx, const struct kv_hook_entry *entries, size_t n,
                            struct kv_hook_sink *sink)
{
    struct merge *m = ctx;
    struct ts_postings_key tail = {0};
    bool some_left = false;
    kv_status rc = KV_OK;
    if (m->left && entries[0].key.data[0] == 'p') {
        KV_TRY(ts_key_postings_tail_read(entries[0].key, &tail));
        some_left = ts_refset_has_metric_batch(&m->left->set, tail.metric, tail.batch);
    }
    if (n == 1 && !some_left)
        return sink->add(sink, entries[0].key, entries[0].value);
    memset(m->bits, 0, sizeof m->bits);
    for (size_t i = 0; i < n; i++)
        KV_TRY(ts_postings_decode(entries[i].value, m->bits));
    size_t n_members = members_of(m, &tail, some_left);
    if (n_members == 0)
        return KV_OK; /* all have left */
    kv_buf_clear(&m->bytes);
    KV_TRY(ts_postings_encode(m->members, n_members, &m->bytes));
    rc = sink->add(sink, entries[0].key, kv_buf_slice(&m->bytes));
out:
    return rc;
}

static void hook_end(void *ctx, bool installed)
{
    struct merge *m = ctx;
    (void)installed;
    left_unref(m->left);
    kv_buf_release(&m->bytes);
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
