#include "tsdb/rules.h"
#include "kvcore/base/mem.h"
#include "tsdb/matcher.h"
#include "tsdb/promql/parse.h"

enum { RULE_ARENA_MAX = 16 << 20 };

struct rule {
    struct kv_arena arena;
    struct ts_tree tree;
    const struct ts_matcher *matchers;
    size_t n_matchers;
    int64_t keep_ms;
    const char *name; /* in the arena */
};

struct ts_rules {
    size_t n; /* without the default */
    int64_t keep_ms, longest_ms, shortest_ms;
    struct rule items[];
};

static kv_status rule_init(struct rule *rule, const struct ts_retention_rule *asked, size_t position,
                           struct kv_err *err)
{
    struct ts_query_err why = {0};
    if (asked->keep_ms <= 0)
        return kv_fail(err, KV_INVALID, 0, "retention rule %zu keeps %lld ms: it takes a time above 0",
                       position, (long long)asked->keep_ms);
    kv_arena_init(&rule->arena, RULE_ARENA_MAX);
    kv_status rc = ts_parse_selector(asked->selector, &rule->arena, &rule->tree, &why);
    if (rc < 0)
        return kv_fail(err, rc, 0, "retention rule %zu, %.*s: %.200s", position,
                       (int)(asked->selector.len > 100 ? 100 : asked->selector.len),
                       (const char *)asked->selector.data, why.text);
    rule->matchers = rule->tree.root->vector.matchers;
    rule->n_matchers = rule->tree.root->vector.n_matchers;
    rule->keep_ms = asked->keep_ms;
    rule->name = kv_arena_printf(&rule->arena, "rule %.*s", (int)asked->selector.len,
                                 (const char *)asked->selector.data);
    return rule->name ? KV_OK : kv_fail(err, KV_NO_MEMORY, 0, "no memory for a retention rule");
}

kv_status ts_rules_new(int64_t keep_ms, const struct ts_retention_rule *rules, size_t n,
                       struct ts_rules **out, struct kv_err *err)
{
    if (n > TS_RULES_MAX)
        return kv_fail(err, KV_LIMIT, 0, "%zu retention rules, at most %d are taken", n, TS_RULES_MAX);
    struct ts_rules *r = kv_zalloc(1, sizeof *r + n * sizeof r->items[0]);
    if (!r)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory for retention rules");
    r->keep_ms = r->longest_ms = r->shortest_ms = keep_ms;
    for (size_t i = 0; i < n; i++) {
        r->n = i + 1; /* what rule_init leaves of one that will not do is released too */
        kv_status rc = rule_init(&r->items[i], &rules[i], i + 1, err);
        if (rc < 0) {
            ts_rules_free(r);
            return rc;
        }
        if (rules[i].keep_ms > r->longest_ms)
            r->longest_ms = rules[i].keep_ms;
        if (rules[i].keep_ms < r->shortest_ms)
            r->shortest_ms = rules[i].keep_ms;
    }
    *out = r;
    return KV_OK;
}

kv_status ts_retention_check(const struct ts_retention_rule *rules, size_t n, struct kv_err *err)
{
    struct ts_rules *compiled = NULL;
    kv_status rc = ts_rules_new(INT64_MAX, rules, n, &compiled, err);
    ts_rules_free(compiled);
    return rc;
}

void ts_rules_free(struct ts_rules *rules)
{
    if (!rules)
        return;
    for (size_t i = 0; i < rules->n; i++) {
        ts_tree_release(&rules->items[i].tree);
        kv_arena_release(&rules->items[i].arena);
    }
    kv_free(rules);
}

size_t ts_rules_classes(const struct ts_rules *rules)
{
    return rules->n + 1;
}

static int64_t floor_ms(int64_t clock_ms, int64_t keep_ms)
{
    int64_t floor;
    if (keep_ms == INT64_MAX || __builtin_sub_overflow(clock_ms, keep_ms, &floor))
        return INT64_MIN;
    return floor;
}

int64_t ts_rules_floor_ms(const struct ts_rules *rules, size_t class, int64_t clock_ms)
{
    return floor_ms(clock_ms, class < rules->n ? rules->items[class].keep_ms : rules->keep_ms);
}

int64_t ts_rules_lowest_ms(const struct ts_rules *rules, int64_t clock_ms)
{
    return floor_ms(clock_ms, rules->longest_ms);
}

int64_t ts_rules_highest_ms(const struct ts_rules *rules, int64_t clock_ms)
{
    return floor_ms(clock_ms, rules->shortest_ms);
}

size_t ts_rules_class_of(const struct ts_rules *rules, const struct ts_label *labels, size_t n)
{
    for (size_t c = 0; c < rules->n; c++) {
        const struct rule *rule = &rules->items[c];
        size_t i = 0;
        while (i < rule->n_matchers &&
               ts_matcher_matches(&rule->matchers[i], ts_labels_get(labels, n, rule->matchers[i].name)))
            i++;
        if (i == rule->n_matchers)
            return c;
    }
    return rules->n;
}

const struct ts_matcher *ts_rules_matchers(const struct ts_rules *rules, size_t class, size_t *n)
{
    *n = rules->items[class].n_matchers;
    return rules->items[class].matchers;
}

const char *ts_rules_name(const struct ts_rules *rules, size_t class)
{
    return class < rules->n ? rules->items[class].name : "retention";
}
