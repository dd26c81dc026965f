/*
 * Select. The series active in the windows asked for are the candidates; each matcher keeps some
 * (postings of the values it accepts) or, when it accepts a missing label, removes some (postings of the
 * values it does not accept). Few candidates are matched by their labels instead.
 */
#include "tsdb/index_internal.h"

#include "kvcore/base/mem.h"
#include "tsdb/query/limits.h"
#include "tsdb/regex.h"

#include <stdlib.h>

struct metric {
    uint32_t number;
    uint32_t next; /* one past the highest series number that the snapshot knows */
};
struct metrics {
    bool all;          /* no matcher is about names; at is filled only when heads are asked */
    struct metric *at; /* sorted */
    size_t n, capacity;
};

struct selection {
    struct ts_index_read *read;
    const struct ts_select *select;
    struct metrics metrics;
    struct ts_refset *candidates;
    struct ts_index_scope scope; /* of candidates when it was last taken */
    bool *done;                  /* of each matcher */
    bool verify;                 /* a text was too long for keys: labels decide */
    int64_t counted;             /* bytes told to the budget */
};

static bool on_name(const struct ts_matcher *m)
{
    return kv_slice_equal(m->name, TS_METRIC_NAME);
}

/* ---- metrics ------------------------------------------------------------------------------------------- */

static bool name_accepted(const struct ts_select *select, kv_slice name)
{
    for (size_t i = 0; i < select->n_matchers; i++)
        if (on_name(&select->matchers[i]) && !ts_matcher_matches(&select->matchers[i], name))
            return false;
    return true;
}

static kv_status metrics_add(void *ctx, kv_slice name, uint32_t metric, uint32_t next)
{
    struct selection *s = ctx;
    struct metrics *m = &s->metrics;
    if (!name_accepted(s->select, name))
        return KV_OK;
    struct metric *at = kv_grow(m->at, &m->capacity, m->n + 1, sizeof *at);
    if (!at)
        return KV_NO_MEMORY;
    m->at = at;
    m->at[m->n++] = (struct metric){metric, next};
    return KV_OK;
}

static KV_MUST kv_status metrics_add_named(struct selection *s, kv_slice name)
{
    uint32_t metric, next;
    kv_status rc =
        ts_registry_metric(s->read->registry, s->read->snapshot, name, &metric, &next, s->read->err);
    return rc == KV_OK ? metrics_add(s, name, metric, next) : rc == KV_NOT_FOUND ? KV_OK : rc;
}

static int metric_order(const void *a, const void *b)
{
    uint32_t x = ((const struct metric *)a)->number, y = ((const struct metric *)b)->number;
    return (x > y) - (x < y);
}

static void metrics_sort(struct metrics *m)
{
    if (m->n > 1)
        qsort(m->at, m->n, sizeof *m->at, metric_order);
}

static const struct metric *metrics_find(const struct metrics *m, uint32_t number)
{
    struct metric key = {number, 0};
    return m->n > 0 ? bsearch(&key, m->at, m->n, sizeof *m->at, metric_order) : NULL;
}

/* The metrics whose names are accepted: looked up if a matcher lists them, else by a walk over the names. */
static KV_MUST kv_status find_metrics(struct selection *s)
{
    const struct ts_matcher *best = NULL;
    struct ts_regex_hint hint = {0};
    kv_status rc = KV_OK;
    for (size_t i = 0; i < s->select->n_matchers; i++) {
        const struct ts_matcher *m = &s->select->matchers[i];
        s->done[i] = on_name(m);
        if (s->done[i] &&
            (!best || m->op == TS_MATCH_EQ || (m->op == TS_MATCH_RE && best->op != TS_MATCH_EQ)))
            best = m;
    }
    s->metrics.all = !best;
    if (!best)
        return KV_OK;
    if (best->op == TS_MATCH_EQ)
        return metrics_add_named(s, best->value);
    if (best->op == TS_MATCH_RE)
        ts_regex_hint(best->regex, &hint);
    for (size_t i = 0; rc == KV_OK && i < hint.n_literals; i++)
        rc = metrics_add_named(s, hint.literals[i]);
    if (hint.n_literals == 0)
        rc = ts_index_walk_metrics(s->read, hint.prefix, metrics_add, s);
    metrics_sort(&s->metrics);
    return rc;
}

static bool metrics_have(const struct metrics *m, uint32_t number)
{
    return m->all || metrics_find(m, number);
}

/* ---- candidates ---------------------------------------------------------------------------------------- */

/* Tells the budget how much the candidates take. */
static KV_MUST kv_status count_bytes(struct selection *s)
{
    int64_t bytes = (int64_t)s->candidates->bytes;
    kv_status rc = s->read->budget ? ts_budget_bytes(s->read->budget, bytes - s->counted) : KV_OK;
    s->counted = bytes;
    return rc;
}

/* Adds the activity entries under prefix, from the iterator's place on. */
static KV_MUST kv_status add_activity(struct selection *s, const struct ts_key *prefix)
{
    struct kv_iter *it = s->read->index;
    struct ts_activity_key at;
    kv_status rc = kv_iter_seek(it, ts_key_slice(prefix));
    while (rc == KV_OK && kv_slice_has_prefix(it->key, ts_key_slice(prefix))) {
        if (ts_key_activity_read(it->key, &at) < 0)
            return ts_index_corrupt(s->read, "activity key");
        if (metrics_have(&s->metrics, at.metric)) {
            rc = ts_refset_add_encoded(s->candidates, at.metric, at.batch, it->value);
            if (rc == KV_CORRUPT)
                return ts_index_corrupt(s->read, "activity list");
            if (rc == KV_OK)
                rc = count_bytes(s);
        }
        if (rc == KV_OK)
            rc = kv_iter_next(it);
    }
    return rc == KV_END ? KV_OK : rc;
}

static KV_MUST kv_status add_window(struct selection *s, int32_t window)
{
    struct ts_key prefix;
    kv_status rc = KV_OK;
    if (s->metrics.all || s->metrics.n > TS_INDEX_METRIC_SEEKS_MAX) {
        ts_key_activity_window(&prefix, window);
        return add_activity(s, &prefix);
    }
    for (size_t i = 0; rc == KV_OK && i < s->metrics.n; i++) {
        ts_key_activity_metric(&prefix, window, s->metrics.at[i].number);
        rc = add_activity(s, &prefix);
    }
    return rc;
}

/* Windows there are, one after the other: the range may span more days than anything was ever stored in. */
static KV_MUST kv_status add_stored(struct selection *s, int32_t from, int32_t to)
{
    struct kv_iter *it = s->read->index;
    struct ts_activity_key at;
    struct ts_key kind, key;
    ts_key_kind(&kind, 'a');
    ts_key_activity_window(&key, from);
    kv_status rc = kv_iter_seek(it, ts_key_slice(&key));
    while (rc == KV_OK && kv_slice_has_prefix(it->key, ts_key_slice(&kind))) {
        if (ts_key_activity_read(it->key, &at) < 0)
            return ts_index_corrupt(s->read, "activity key");
        if (at.window > to)
            break;
        KV_TRY(add_window(s, at.window));
        ts_key_activity_window(&key, at.window);
        if (!ts_key_successor(&key))
            break;
        rc = kv_iter_seek(it, ts_key_slice(&key));
    }
    rc = rc == KV_END ? KV_OK : rc;
out:
    return rc;
}

/* All series of the metrics asked for: what postings say under the empty label. */
static KV_MUST kv_status all_series(struct selection *s, struct ts_refset *set)
{
    const struct metrics *m = &s->metrics;
    struct ts_index_scope scope = {0, UINT32_MAX, NULL};
    struct ts_key key;
    kv_status rc = KV_OK;
    ts_key_postings_value(&key, KV_STR(""), KV_STR(""));
    if (m->all)
        rc = ts_index_lists_add(s->read, &key, &scope, set);
    for (size_t i = 0; rc == KV_OK && !m->all && i < m->n; i++) {
        scope.metric_min = scope.metric_max = m->at[i].number;
        rc = ts_index_lists_add(s->read, &key, &scope, set);
    }
    return rc == KV_OK ? ts_index_without_left(s->read, set) : rc;
}

/* Only what the snapshot knows: heads go on while it stands still. Refs are given out in order, so next
 * tells. */
static kv_status add_known(void *ctx, uint32_t metric, uint16_t batch, const uint16_t *members, size_t n)
{
    struct selection *s = ctx;
    const struct metric *m = metrics_find(&s->metrics, metric);
    uint32_t first = (uint32_t)batch << 16;
    while (n > 0 && (!m || (first | members[n - 1]) >= m->next))
        n--;
    return n > 0 ? ts_refset_add_members(s->candidates, metric, batch, members, n) : KV_OK;
}

static KV_MUST kv_status add_heads(struct selection *s, int32_t from, int32_t to)
{
    struct ts_refset active = {0};
    bool unknown = false, few = !s->metrics.all && s->metrics.n <= TS_INDEX_METRIC_SEEKS_MAX;
    kv_status rc = KV_OK;
    for (size_t h = 0; h < s->select->n_heads; h++) {
        const struct ts_activity *head = s->select->heads[h];
        if (!few)
            KV_TRY(ts_activity_collect(head, from, to, 0, &active, &unknown));
        for (size_t i = 0; few && i < s->metrics.n; i++)
            KV_TRY(ts_activity_collect(head, from, to, s->metrics.at[i].number, &active, &unknown));
    }
    if (unknown) { /* memory ran out while one was written down */
        rc = all_series(s, s->candidates);
    } else if (active.n > 0) {
        if (s->metrics.all)
            KV_TRY(ts_index_walk_metrics(s->read, KV_STR(""), metrics_add, s));
        metrics_sort(&s->metrics);
        rc = ts_refset_each(&active, add_known, s);
    }
    if (rc == KV_OK)
        rc = count_bytes(s);
out:
    ts_refset_release(&active);
    return rc;
}

/* ---- matchers ------------------------------------------------------------------------------------------ */

/* What one matcher looks for among a label's values. */
struct collect {
    struct selection *s;
    const struct ts_matcher *matcher;
    bool when; /* values for which matching answers this */
    bool keep; /* their series are kept, else removed */
    struct ts_refset set;
};

static KV_MUST kv_status collect_lists(struct collect *c, const struct ts_key *key)
{
    return ts_index_lists_add(c->s->read, key, &c->s->scope, &c->set);
}

static KV_MUST kv_status collect_value(struct collect *c, kv_slice value)
{
    struct ts_key key;
    if (value.len > TS_KEY_TEXT_LEN_MAX) {
        c->s->verify = true;
        if (!c->keep)
            return KV_OK;
    }
    ts_key_postings_value(&key, c->matcher->name, value);
    return collect_lists(c, &key);
}

/* A cut text may be several values: they are kept, or not removed, and their labels decide later. */
static kv_status collect_walked(void *ctx, const struct ts_index_value *value)
{
    struct collect *c = ctx;
    if (value->cut) {
        c->s->verify = true;
        return c->keep ? collect_lists(c, value->key) : KV_OK;
    }
    return ts_matcher_matches(c->matcher, value->text) == c->when ? collect_lists(c, value->key) : KV_OK;
}

/* Values of a regular expression: those it lists, or those with its prefix that it matches, or, if it
 * matches the empty text too, those it does not match. */
static KV_MUST kv_status collect_regex(struct collect *c)
{
    struct ts_regex_hint hint;
    kv_status rc = KV_OK;
    ts_regex_hint(c->matcher->regex, &hint);
    if (hint.any) /* .* refuses no value, .+ accepts each */
        return hint.nullable ? KV_OK : collect_value(c, KV_STR(""));
    if (hint.nullable)
        return ts_index_walk_values(c->s->read, c->matcher->name, KV_STR(""), collect_walked, c);
    if (hint.n_literals == 0)
        return ts_index_walk_values(c->s->read, c->matcher->name, hint.prefix, collect_walked, c);
    for (size_t i = 0; rc == KV_OK && i < hint.n_literals; i++)
        rc = collect_value(c, hint.literals[i]);
    return rc;
}

static KV_MUST kv_status apply_matcher(struct selection *s, const struct ts_matcher *m)
{
    bool absent_fits = ts_matcher_matches(m, KV_STR(""));
    if (m->name.len == 0) { /* no series has such a label; the index uses the name for itself */
        if (!absent_fits)
            ts_refset_release(s->candidates);
        return KV_OK;
    }
    struct collect c = {.s = s, .matcher = m, .when = !absent_fits, .keep = !absent_fits};
    bool equality = m->op == TS_MATCH_EQ || m->op == TS_MATCH_NE;
    s->scope = ts_index_scope_of(s->candidates);
    /* For = and != the empty value stands for "has the label", which is what is to be kept or removed
     * then. */
    kv_status rc = equality ? collect_value(&c, m->value) : collect_regex(&c);
    if (rc == KV_OK && c.keep)
        ts_refset_and(s->candidates, &c.set);
    else if (rc == KV_OK)
        ts_refset_andnot(s->candidates, &c.set);
    ts_refset_release(&c.set);
    return rc;
}

static bool labels_accepted(const struct ts_select *select, const struct ts_labels *labels)
{
    for (size_t i = 0; i < select->n_matchers; i++) {
        const struct ts_matcher *m = &select->matchers[i];
        if (!ts_matcher_matches(m, ts_labels_get(labels->labels, labels->n, m->name)))
            return false;
    }
    return true;
}

/* Every candidate's labels against every matcher. */
static KV_MUST kv_status match_labels(struct selection *s)
{
    enum { STEP = 256 };
    struct ts_refset kept = {0};
    struct ts_labels labels[STEP];
    uint64_t *refs = NULL;
    size_t n = 0;
    kv_status rc;
    KV_TRY(ts_refset_refs(s->candidates, &refs, &n));
    for (size_t at = 0; at < n; at += STEP) {
        struct kv_arena arena = {0};
        size_t some = n - at < STEP ? n - at : STEP;
        rc = ts_registry_labels_many(s->read->registry, s->read->snapshot, refs + at, some, &arena, labels,
                                     s->read->err);
        for (size_t i = 0; rc == KV_OK && i < some; i++)
            if (labels[i].labels && labels_accepted(s->select, &labels[i]))
                rc = ts_refset_add(&kept, refs[at + i], NULL);
        kv_arena_release(&arena);
        if (rc < 0)
            goto out;
        if (s->read->budget)
            KV_TRY(ts_budget_check(s->read->budget));
    }
    ts_refset_and(s->candidates, &kept);
out:
    ts_refset_release(&kept);
    kv_free(refs);
    return rc;
}

static bool left_to_do(const struct selection *s)
{
    for (size_t i = 0; i < s->select->n_matchers; i++)
        if (!s->done[i])
            return true;
    return false;
}

/* Cheap matchers first: equality, then listed literals, then whatever walks a label's values. */
static int matcher_cost(const struct ts_matcher *m)
{
    struct ts_regex_hint hint;
    if (m->op == TS_MATCH_EQ || m->op == TS_MATCH_NE)
        return m->value.len == 0;
    ts_regex_hint(m->regex, &hint);
    return !hint.nullable && hint.n_literals > 0 ? 2 : hint.prefix.len > 0 ? 3 : 4;
}

static KV_MUST kv_status apply_matchers(struct selection *s)
{
    kv_status rc = KV_OK;
    for (int cost = 0; cost <= 4; cost++) {
        for (size_t i = 0; i < s->select->n_matchers; i++) {
            uint64_t n = ts_refset_count(s->candidates);
            if (n == 0)
                return KV_OK;
            if (n <= TS_INDEX_DIRECT_MAX && left_to_do(s))
                return match_labels(s);
            if (s->done[i] || matcher_cost(&s->select->matchers[i]) != cost)
                continue;
            KV_TRY(apply_matcher(s, &s->select->matchers[i]));
            s->done[i] = true;
        }
    }
    if (s->verify)
        rc = match_labels(s);
out:
    return rc;
}

/* ---- select -------------------------------------------------------------------------------------------- */

kv_status ts_index_select_set(struct ts_index_read *read, const struct ts_select *select,
                              struct ts_refset *set)
{
    struct selection s = {.read = read, .select = select, .candidates = set};
    int32_t from = ts_window_of(select->from_ms), to = ts_window_of(select->to_ms);
    kv_status rc = KV_OK;
    if (select->from_ms > select->to_ms)
        return KV_OK;
    s.done = kv_zalloc(select->n_matchers + 1, sizeof *s.done);
    if (!s.done)
        return KV_NO_MEMORY;
    KV_TRY(find_metrics(&s));
    if (!s.metrics.all && s.metrics.n == 0)
        goto out;
    KV_TRY(add_stored(&s, from, to));
    KV_TRY(add_heads(&s, from, to));
    KV_TRY(apply_matchers(&s));
    if (select->refine)
        rc = select->refine(select->refine_ctx, select, set);
out:
    if (s.counted && read->budget)
        (void)!ts_budget_bytes(read->budget, -s.counted); /* giving back cannot fail */
    kv_free(s.metrics.at);
    kv_free(s.done);
    return rc;
}

kv_status ts_index_select_refs(struct ts_registry *registry, const struct ts_select *select,
                               struct ts_refset *set, struct kv_err *err)
{
    struct ts_index_read read = {0};
    kv_status rc = ts_index_read_open(registry, select->snapshot, select->budget, err, &read);
    if (rc == KV_OK)
        rc = ts_index_select_set(&read, select, set);
    ts_index_read_close(&read);
    return rc;
}

static kv_status keep_metric(void *ctx, uint32_t metric, uint16_t batch, const uint16_t *members, size_t n)
{
    struct collect *c = ctx;
    return metrics_have(&c->s->metrics, metric) ? ts_refset_add_members(&c->set, metric, batch, members, n)
                                                : KV_OK;
}

kv_status ts_index_filter(struct ts_registry *registry, const struct ts_select *select, struct ts_refset *set,
                          struct kv_err *err)
{
    struct ts_index_read read = {0};
    struct selection s = {.read = &read, .select = select, .candidates = set};
    struct collect c = {.s = &s};
    kv_status rc;
    if (ts_refset_count(set) == 0)
        return KV_OK;
    s.done = kv_zalloc(select->n_matchers + 1, sizeof *s.done);
    if (!s.done)
        return KV_NO_MEMORY;
    KV_TRY(ts_index_read_open(registry, select->snapshot, select->budget, err, &read));
    KV_TRY(find_metrics(&s));
    if (!s.metrics.all) {
        KV_TRY(ts_refset_each(set, keep_metric, &c));
        ts_refset_and(set, &c.set);
    }
    rc = apply_matchers(&s);
out:
    ts_refset_release(&c.set);
    kv_free(s.metrics.at);
    kv_free(s.done);
    ts_index_read_close(&read);
    return rc;
}

kv_status ts_index_select(struct ts_registry *registry, const struct ts_select *select, uint64_t **refs,
                          size_t *n, struct kv_err *err)
{
    struct ts_refset set = {0};
    *refs = NULL;
    *n = 0;
    kv_status rc = ts_index_select_refs(registry, select, &set, err);
    if (rc == KV_OK)
        rc = ts_refset_refs(&set, refs, n);
    ts_refset_release(&set);
    if (rc == KV_NO_MEMORY)
        rc = kv_fail(err, rc, 0, "out of memory selecting series");
    return rc;
}
