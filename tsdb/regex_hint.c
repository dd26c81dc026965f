/*
 * Short cuts read off the tree: most matchers are literals, alternations of literals, or a literal between
 * ".*". Top-level items are flattened first; a leading \A and a trailing \z say nothing, because the whole
 * text must match anyway.
 */
#include "tsdb/regex_internal.h"

#include <stdlib.h>

struct items {
    const struct ts_rx_node **at;
    size_t n, max;
};

static void flatten(const struct ts_rx_node *node, struct items *items)
{
    bool group = node->op == TS_RX_CONCAT || node->op == TS_RX_CAPTURE;
    if (node->op == TS_RX_EMPTY || items->n == items->max)
        return;
    if (!group) {
        items->at[items->n++] = node;
        return;
    }
    for (const struct ts_rx_node *sub = node->sub; sub; sub = sub->next)
        flatten(sub, items);
}

/* A code point that a text has only where the same bytes stand: neither a surrogate nor what bad bytes count
 * as. */
static bool plain(uint32_t rune)
{
    return rune != TS_RUNE_BAD && (rune < 0xd800 || rune > 0xdfff);
}

/* ---- literals ------------------------------------------------------------------------------------------ */

/* A list of texts; n 0: too many, or not a finite list of literals. */
struct texts {
    kv_slice *at;
    size_t n, capacity, bytes;
};

static struct texts texts_of(struct kv_arena *arena, const uint8_t *bytes, size_t len)
{
    struct texts t = {kv_arena_alloc(arena, sizeof(kv_slice)), 1, 1, len};
    if (t.at)
        t.at[0] = kv_arena_copy(arena, kv_slice_of(bytes, len));
    return t.at && t.at[0].data ? t : (struct texts){0};
}

/* Takes a over. */
static struct texts texts_join(struct kv_arena *arena, struct texts a, struct texts b)
{
    if (a.n == 0 || b.n == 0 || a.n + b.n > TS_REGEX_LITERALS_MAX)
        return (struct texts){0};
    if (a.n + b.n > a.capacity) {
        size_t capacity = 2 * (a.n + b.n);
        kv_slice *at = kv_arena_alloc(arena, capacity * sizeof *at);
        if (!at)
            return (struct texts){0};
        memcpy(at, a.at, a.n * sizeof *at);
        a.at = at;
        a.capacity = capacity;
    }
    memcpy(a.at + a.n, b.at, b.n * sizeof *b.at);
    a.n += b.n;
    a.bytes += b.bytes;
    return a;
}

static struct texts texts_cross(struct kv_arena *arena, struct texts a, struct texts b)
{
    size_t n = a.n * b.n, bytes = a.bytes * b.n + b.bytes * a.n;
    if (n == 0 || n > TS_REGEX_LITERALS_MAX || bytes > TS_REGEX_LITERAL_BYTES_MAX)
        return (struct texts){0};
    kv_slice *at = kv_arena_alloc(arena, n * sizeof *at);
    uint8_t *to = kv_arena_alloc(arena, bytes ? bytes : 1);
    if (!at || !to)
        return (struct texts){0};
    for (size_t i = 0; i < n; i++) {
        kv_slice x = a.at[i / b.n], y = b.at[i % b.n];
        at[i] = kv_slice_of(to, x.len + y.len);
        memcpy(to, x.data, x.len);
        memcpy(to + x.len, y.data, y.len);
        to += x.len + y.len;
    }
    return (struct texts){at, n, n, bytes};
}

static struct texts expand(const struct ts_rx_tree *tree, const struct ts_rx_node *node,
                           struct kv_arena *arena);

static struct texts expand_set(const struct ts_rx_set *set, struct kv_arena *arena)
{
    struct texts all = {0};
    for (size_t i = 0; i < set->n; i++) {
        if (set->ranges[i].hi - set->ranges[i].lo > TS_REGEX_LITERALS_MAX)
            return (struct texts){0};
        for (uint32_t rune = set->ranges[i].lo; rune <= set->ranges[i].hi; rune++) {
            uint8_t bytes[4];
            struct texts one =
                plain(rune) ? texts_of(arena, bytes, ts_rx_rune_encode(rune, bytes)) : (struct texts){0};
            all = all.n ? texts_join(arena, all, one) : one;
            if (all.n == 0 || all.n > 64)
                return (struct texts){0};
        }
    }
    return all;
}

static struct texts expand_repeat(const struct ts_rx_tree *tree, const struct ts_rx_node *node,
                                  struct kv_arena *arena)
{
    struct texts all = {0}, power = texts_of(arena, (const uint8_t *)"", 0);
    if (node->max < 0 || node->max > 16)
        return all;
    struct texts sub = expand(tree, node->sub, arena);
    for (int32_t i = 0; i <= node->max && power.n > 0; i++) {
        if (i >= node->min)
            all = all.n ? texts_join(arena, all, power) : power;
        if (i >= node->min && all.n == 0)
            break;
        power = i < node->max ? texts_cross(arena, power, sub) : power;
    }
    return power.n > 0 ? all : (struct texts){0};
}

static struct texts expand(const struct ts_rx_tree *tree, const struct ts_rx_node *node,
                           struct kv_arena *arena)
{
    struct texts all = {0};
    uint8_t bytes[4] = {0};
    switch (node->op) {
    case TS_RX_EMPTY:
        return texts_of(arena, bytes, 0);
    case TS_RX_RUNE:
        return plain(node->arg) ? texts_of(arena, bytes, ts_rx_rune_encode(node->arg, bytes)) : all;
    case TS_RX_SET:
        return expand_set(&tree->sets[node->arg], arena);
    case TS_RX_ASSERT:
        return all;
    case TS_RX_REPEAT:
        return expand_repeat(tree, node, arena);
    case TS_RX_CAPTURE:
    case TS_RX_CONCAT:
    case TS_RX_ALTERNATE:
        break;
    }
    all = expand(tree, node->sub, arena);
    for (const struct ts_rx_node *sub = node->sub->next; sub && all.n > 0; sub = sub->next) {
        struct texts one = expand(tree, sub, arena);
        all = node->op == TS_RX_ALTERNATE ? texts_join(arena, all, one) : texts_cross(arena, all, one);
    }
    return all;
}

static int slice_order(const void *a, const void *b)
{
    return kv_slice_compare(*(const kv_slice *)a, *(const kv_slice *)b);
}

/* KV_NOT_FOUND: the pattern is not a finite list of literals. */
static KV_MUST kv_status hint_literals(const struct ts_rx_tree *tree, const struct items *items,
                                       struct kv_arena *arena, struct ts_rx_hint *hint)
{
    struct texts all = texts_of(tree->arena, (const uint8_t *)"", 0);
    size_t kept = 0;
    for (size_t i = 0; i < items->n && all.n > 0; i++)
        all = texts_cross(tree->arena, all, expand(tree, items->at[i], tree->arena));
    if (all.n == 0)
        return KV_NOT_FOUND;
    qsort(all.at, all.n, sizeof *all.at, slice_order);
    hint->literals = kv_arena_alloc(arena, all.n * sizeof *hint->literals);
    if (!hint->literals)
        return KV_NO_MEMORY;
    for (size_t i = 0; i < all.n; i++) {
        if (i > 0 && kv_slice_equal(all.at[i], all.at[i - 1]))
            continue;
        hint->literals[kept] = kv_arena_copy(arena, all.at[i]);
        if (!hint->literals[kept++].data)
            return KV_NO_MEMORY;
    }
    hint->n_literals = kept;
    hint->shape = TS_RX_LITERALS;
    return KV_OK;
}

/* ---- affixes ------------------------------------------------------------------------------------------- */

/* The bytes of the code points items[from] on, up to the first item that is none; *end is that item. */
static KV_MUST kv_status literal_run(const struct items *items, size_t from, struct kv_arena *arena,
                                     kv_slice *out, size_t *end)
{
    size_t len = 0, i = from;
    uint8_t *bytes = kv_arena_alloc(arena, (items->n - from) * 4 + 1);
    if (!bytes)
        return KV_NO_MEMORY;
    for (; i < items->n && items->at[i]->op == TS_RX_RUNE && plain(items->at[i]->arg); i++)
        len += ts_rx_rune_encode(items->at[i]->arg, bytes + len);
    *out = kv_slice_of(bytes, len);
    *end = i;
    return KV_OK;
}

static enum ts_rx_gap gap_of(const struct ts_rx_tree *tree, const struct ts_rx_node *node)
{
    if (node->op != TS_RX_REPEAT || node->max != -1 || node->min > 1 || node->sub->op != TS_RX_SET)
        return TS_RX_GAP_NONE;
    const struct ts_rx_set *set = &tree->sets[node->sub->arg];
    bool any = set->n == 1 && set->ranges[0].lo == 0 && set->ranges[0].hi == TS_RUNE_MAX;
    return !any ? TS_RX_GAP_NONE : node->min == 0 ? TS_RX_GAP_ANY : TS_RX_GAP_SOME;
}

static KV_MUST kv_status hint_affixes(const struct ts_rx_tree *tree, const struct items *items,
                                      struct kv_arena *arena, struct ts_rx_hint *hint)
{
    size_t end = 0, tail = items->n;
    kv_status rc;
    KV_TRY(literal_run(items, 0, arena, &hint->prefix, &end));
    while (tail > end && items->at[tail - 1]->op == TS_RX_RUNE && plain(items->at[tail - 1]->arg))
        tail--;
    KV_TRY(literal_run(items, tail, arena, &hint->suffix, &end));

    size_t from = items->n > 0 && (hint->before = gap_of(tree, items->at[0])) != TS_RX_GAP_NONE;
    KV_TRY(literal_run(items, from, arena, &hint->literal, &end));
    if (end < items->n && (hint->after = gap_of(tree, items->at[end])) != TS_RX_GAP_NONE)
        end++;
    bool counts = hint->literal.len == 0 && hint->before == TS_RX_GAP_SOME && hint->after == TS_RX_GAP_SOME;
    if (end == items->n && !counts) /* ".+.+" counts code points */
        hint->shape = TS_RX_AFFIX;
out:
    return rc;
}

kv_status ts_rx_hint_make(const struct ts_rx_tree *tree, struct kv_arena *arena, struct ts_rx_hint *hint)
{
    struct items items = {.max = TS_REGEX_PATTERN_LEN_MAX + 1};
    *hint = (struct ts_rx_hint){0};
    items.at = kv_arena_alloc(tree->arena, items.max * sizeof(const struct ts_rx_node *));
    if (!items.at)
        return KV_NO_MEMORY;
    flatten(tree->root, &items);
    while (items.n > 0 && items.at[0]->op == TS_RX_ASSERT && items.at[0]->arg == TS_RX_BEGIN_TEXT) {
        items.at++;
        items.n--;
    }
    while (items.n > 0 && items.at[items.n - 1]->op == TS_RX_ASSERT &&
           items.at[items.n - 1]->arg == TS_RX_END_TEXT)
        items.n--;
    kv_status rc = hint_literals(tree, &items, arena, hint);
    return rc == KV_NOT_FOUND ? hint_affixes(tree, &items, arena, hint) : rc;
}
