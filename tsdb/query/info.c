/*
 * info.c - info(v, {selector}): adds to each series of v the labels of the info series (target_info, or what the
 * selector names) that share its job and instance, as those are at each step.
 *
 * The input is taken whole, then the info series are selected by the job and instance values it has. At each step
 * the newest sample of a signature (info metric, instance, job) counts.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/query/labelset.h"
#include "tsdb/query/operators.h"

#include <inttypes.h>

enum { IDENTIFYING = 2, MATCHERS_MAX = 1 + IDENTIFYING };
#define NONE UINT32_MAX

struct info_op {
    struct ts_operator op;
    struct ts_operator *input, *select;
    struct ts_select_at at;
    struct ts_expr selector; /* made here: what the info series must match */
    struct ts_matcher matchers[MATCHERS_MAX];
    size_t n_matchers;
    struct ts_matcher
        names[1]; /* the default on __name__, when the selector gives none; shares its compiled form */
    size_t n_names;
    struct ts_name_list identifying;
    struct ts_pool pool;
    struct ts_rows base, info, result;
    struct ts_keys metrics;    /* names of info metrics */
    struct ts_keys signatures; /* of info series */
    uint32_t **newest;         /* of each signature, the info row of each step */
    size_t newest_room;
    struct ts_keys result_keys;
    struct ts_label *scratch;
    size_t scratch_room;
    double *column;
    size_t at_row;
    bool started;
};

static const struct ts_vector_selector *info_asked(const struct info_op *self)
{
    const struct ts_call *call = &self->op.expr->call;
    return call->n_args > 1 ? &ts_expr_unparen(call->args[1])->vector : NULL;
}
static bool on_name(const struct ts_matcher *matcher)
{
    return kv_slice_equal(matcher->name, TS_METRIC_NAME);
}

/* ---- which info series */

static kv_status add_matcher(struct info_op *self, enum ts_match_op op, kv_slice name, kv_slice value)
{
    struct kv_err err = {0};
    KV_ASSERT(self->n_matchers < MATCHERS_MAX);
    kv_status rc = ts_matcher_init(&self->matchers[self->n_matchers], op, name, value, &err);
    if (rc == KV_OK)
        self->n_matchers++;
    return ts_run_status(self->op.run, rc, &err);
}

/* Only negative matchers on the name: any metric called ..._info; none: target_info. */
static kv_status name_matchers(struct info_op *self)
{
    const struct ts_vector_selector *asked = info_asked(self);
    bool positive = false, any = false;
    for (size_t i = 0; asked && i < asked->n_matchers; i++) {
        if (!on_name(&asked->matchers[i]))
            continue;
        any = true;
        positive |= asked->matchers[i].op == TS_MATCH_EQ || asked->matchers[i].op == TS_MATCH_RE;
    }
    if (positive)
        return KV_OK;
    return add_matcher(self, any ? TS_MATCH_RE : TS_MATCH_EQ, TS_METRIC_NAME,
                       any ? KV_STR(".+_info") : KV_STR("target_info"));
}

/* Info series are not given info themselves. */
static bool is_info_series(const struct info_op *self, const struct ts_column *row)
{
    kv_slice name = ts_labels_get(row->labels, row->n_labels, TS_METRIC_NAME);
    const struct ts_vector_selector *asked = info_asked(self);
    for (size_t i = 0; asked && i < asked->n_matchers; i++)
        if (on_name(&asked->matchers[i]) && !ts_matcher_matches(&asked->matchers[i], name))
            return false;
    for (size_t i = 0; i < self->n_names; i++)
        if (!ts_matcher_matches(&self->names[i], name))
            return false;
    return true;
}

static kv_status quote_regex(kv_slice text, struct kv_buf *out)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < text.len && rc == KV_OK; i++) {
        if (strchr("\\.+*?()|[]{}^$", text.data[i]) && text.data[i])
            rc = kv_buf_append_byte(out, '\\');
        if (rc == KV_OK)
            rc = kv_buf_append_byte(out, text.data[i]);
    }
    return rc;
}

/* label =~ "one|another" over the values the input has; *any when there is one. */
static kv_status match_values(struct info_op *self, kv_slice label, bool *any)
{
    struct ts_keys values;
    struct kv_buf pattern = {0};
    kv_status rc = KV_OK;
    ts_keys_init(&values, self->op.run);
    for (size_t i = 0; i < self->base.n; i++) {
        const struct ts_column *row = &self->base.items[i];
        kv_slice value = ts_labels_get(row->labels, row->n_labels, label);
        size_t index;
        bool is_new;
        if (value.len == 0 || is_info_series(self, row))
            continue;
        KV_TRY(ts_keys_put(&values, value, &index, &is_new));
        if (!is_new)
            continue;
        if (pattern.len)
            KV_TRY(kv_buf_append_byte(&pattern, '|'));
        KV_TRY(quote_regex(value, &pattern));
    }
    if (pattern.len) {
        kv_slice kept = ts_pool_copy(&self->pool, kv_buf_slice(&pattern));
        *any = true;
        rc = kept.data ? add_matcher(self, TS_MATCH_RE, label, kept) : ts_pool_status(&self->pool);
    }
out:
    ts_keys_release(&values);
    kv_buf_release(&pattern);
    return ts_run_status(self->op.run, rc, NULL);
}

static kv_status select_info(struct info_op *self)
{
    const struct ts_vector_selector *asked = info_asked(self);
    bool any = false;
    kv_status rc;
    KV_TRY(name_matchers(self));
    self->n_names = self->n_matchers;
    memcpy(self->names, self->matchers, self->n_names * sizeof(*self->names));
    KV_TRY(match_values(self, KV_STR("instance"), &any));
    KV_TRY(match_values(self, KV_STR("job"), &any));
    if (!any)
        return KV_OK;
    struct ts_matcher *all =
        ts_pool_alloc(&self->pool, (self->n_matchers + (asked ? asked->n_matchers : 0)) * sizeof(*all));
    if (!all)
        return ts_pool_status(&self->pool);
    memcpy(all, self->matchers,
           self->n_matchers * sizeof(*all)); /* borrowed copies: released once, from matchers */
    if (asked && asked->n_matchers)
        memcpy(all + self->n_matchers, asked->matchers, asked->n_matchers * sizeof(*all));
    self->selector = (struct ts_expr){.kind = TS_EXPR_VECTOR, .type = TS_TYPE_VECTOR};
    self->selector.vector.matchers = all;
    self->selector.vector.n_matchers = self->n_matchers + (asked ? asked->n_matchers : 0);
    KV_TRY(ts_op_select(self->op.run, self->op.grid, &self->selector, &self->at, true, NULL, &self->select));
    rc = ts_rows_collect(&self->info, self->select);
out:
    return rc;
}

/* ---- the newest info series of each signature and step */

static kv_status signature_key(struct info_op *self, kv_slice metric, const struct ts_column *row)
{
    kv_status rc;
    KV_TRY(ts_labels_key(row->labels, row->n_labels, &self->identifying, true, &self->signatures.scratch));
    KV_TRY(kv_buf_append_lp(&self->signatures.scratch, metric));
out:
    return ts_run_status(self->op.run, rc, NULL);
}

static kv_status fail_same_time(struct info_op *self, const struct ts_column *a, const struct ts_column *b,
                                double seconds)
{
    struct kv_buf first = {.max = 4096}, second = {.max = 4096};
    int64_t time_ms = (int64_t)(seconds * 1000 + (seconds < 0 ? -0.5 : 0.5));
    kv_status rc;
    KV_TRY(ts_labels_print(a->labels, a->n_labels, &first));
    KV_TRY(ts_labels_print(b->labels, b->n_labels, &second));
    rc = ts_run_fail(self->op.run, TS_QUERY_EXECUTION, KV_INVALID,
                     "found duplicate series for info metric: existing %.*s @ %" PRId64
                     ", new %.*s @ %" PRId64,
                     KV_ARG(kv_buf_slice(&first)), time_ms, KV_ARG(kv_buf_slice(&second)), time_ms);
out:
    kv_buf_release(&first);
    kv_buf_release(&second);
    return ts_run_status(self->op.run, rc, NULL);
}

static kv_status signature_fold(struct info_op *self, uint32_t *newest, uint32_t row)
{
    const struct ts_column *rows = self->info.items;
    for (size_t i = 0; i < self->op.grid.n; i++) {
        double time = rows[row].values[i];
        if (ts_is_absent(time))
            continue;
        if (newest[i] != NONE && rows[newest[i]].values[i] == time)
            return fail_same_time(self, &rows[newest[i]], &rows[row], time);
        if (newest[i] == NONE || rows[newest[i]].values[i] < time)
            newest[i] = row;
    }
    return KV_OK;
}

static kv_status sort_info(struct info_op *self)
{
    size_t n = self->op.grid.n;
    kv_status rc = KV_OK;
    for (size_t i = 0; i < self->info.n; i++) {
        const struct ts_column *row = &self->info.items[i];
        kv_slice metric = ts_labels_get(row->labels, row->n_labels, TS_METRIC_NAME);
        size_t index;
        bool is_new;
        KV_TRY(ts_keys_put(&self->metrics, metric, &index, &is_new));
        KV_TRY(signature_key(self, metric, row));
        KV_TRY(ts_keys_put(&self->signatures, kv_buf_slice(&self->signatures.scratch), &index, &is_new));
        if (is_new) {
            KV_TRY(ts_run_grow(self->op.run, (void **)&self->newest, &self->newest_room, index + 1,
                               sizeof(*self->newest)));
            if (!(self->newest[index] = ts_pool_alloc(&self->pool, n * sizeof(uint32_t))))
                return ts_pool_status(&self->pool);
            memset(self->newest[index], 0xff, n * sizeof(uint32_t));
        }
        KV_TRY(signature_fold(self, self->newest[index], (uint32_t)i));
    }
out:
    return rc;
}

/* ---- combining */

/* Whether the selector names labels of the info series (then only those are taken), and whether it names this. */
static bool takes_label(const struct info_op *self, kv_slice name)
{
    const struct ts_vector_selector *asked = info_asked(self);
    bool any = false;
    for (size_t i = 0; asked && i < asked->n_matchers; i++) {
        if (on_name(&asked->matchers[i]))
            continue;
        any = true;
        if (kv_slice_equal(asked->matchers[i].name, name))
            return true;
    }
    return !any;
}

/* A series without info stays only if nothing it lacks was asked for. */
static bool may_lack_info(const struct info_op *self)
{
    const struct ts_vector_selector *asked = info_asked(self);
    for (size_t i = 0; asked && i < asked->n_matchers; i++)
        if (!on_name(&asked->matchers[i]) && !ts_matcher_matches(&asked->matchers[i], (kv_slice){NULL, 0}))
            return false;
    return true;
}

/* Adds to scratch (n labels of base so far) the labels of one info series. */
static kv_status add_labels(struct info_op *self, const struct ts_column *base, const struct ts_column *info,
                            size_t *n)
{
    kv_status rc = ts_run_grow(self->op.run, (void **)&self->scratch, &self->scratch_room,
                               *n + info->n_labels + 1, sizeof(*self->scratch));
    for (size_t i = 0; i < info->n_labels && rc == KV_OK; i++) {
        const struct ts_label *label = &info->labels[i];
        if (kv_slice_equal(label->name, TS_METRIC_NAME) || !takes_label(self, label->name))
            continue;
        if (ts_labels_get(base->labels, base->n_labels, label->name).len)
            continue; /* the series' own stands */
        kv_slice had = ts_labels_get(self->scratch, *n, label->name);
        if (had.len && !kv_slice_equal(had, label->value))
            return ts_run_fail(self->op.run, TS_QUERY_EXECUTION, KV_INVALID, "conflicting label: %.*s",
                               KV_ARG(label->name));
        *n = ts_labels_set(self->scratch, *n, label->name, label->value);
    }
    return rc;
}

/* The result row of base with these info rows (one a metric, or NONE); *row SIZE_MAX: it is left out. */
static kv_status combined_row(struct info_op *self, const struct ts_column *base, const uint32_t *infos,
                              size_t *row)
{
    struct ts_run *run = self->op.run;
    size_t n = base->n_labels;
    bool matched = false, is_new;
    kv_status rc;
    KV_TRY(ts_run_grow(run, (void **)&self->scratch, &self->scratch_room, n + 1, sizeof(*self->scratch)));
    if (n)
        memcpy(self->scratch, base->labels, n * sizeof(*self->scratch));
    for (size_t m = 0; m < self->metrics.n; m++) {
        if (infos[m] == NONE)
            continue;
        matched = true;
        KV_TRY(add_labels(self, base, &self->info.items[infos[m]], &n));
    }
    *row = SIZE_MAX;
    if (!matched && !is_info_series(self, base) && !may_lack_info(self))
        return KV_OK;
    KV_TRY(ts_labels_key_all(self->scratch, n, &self->result_keys.scratch));
    KV_TRY(ts_keys_put(&self->result_keys, kv_buf_slice(&self->result_keys.scratch), row, &is_new));
    if (is_new) {
        struct ts_column made = {self->scratch, n, base->drop_name, self->column};
        ts_column_fill(self->column, self->op.grid.n, ts_absent());
        KV_TRY(ts_rows_add(&self->result, &made, self->op.grid.n));
    }
out:
    return ts_run_status(run, rc, NULL);
}

/* The signature numbers of base, one an info metric; NONE where no info series has it. */
static kv_status base_signatures(struct info_op *self, const struct ts_column *base, uint32_t *out)
{
    bool plain = is_info_series(self, base);
    kv_status rc = KV_OK;
    for (size_t i = 0; i < self->info.n; i++) { /* metrics are numbered by their first series */
        const struct ts_column *row = &self->info.items[i];
        kv_slice metric = ts_labels_get(row->labels, row->n_labels, TS_METRIC_NAME);
        size_t m, index;
        if (!ts_keys_find(&self->metrics, metric, &m) || out[m] != NONE || plain)
            continue;
        KV_TRY(signature_key(self, metric, base));
        if (ts_keys_find(&self->signatures, kv_buf_slice(&self->signatures.scratch), &index))
            out[m] = (uint32_t)index;
    }
out:
    return rc;
}

static kv_status combine(struct info_op *self, const struct ts_column *base, uint32_t *signatures,
                         uint32_t *infos)
{
    size_t bytes = self->metrics.n * sizeof(uint32_t), row = SIZE_MAX;
    uint32_t *now = infos + self->metrics.n;
    bool known = false;
    kv_status rc;
    memset(signatures, 0xff, bytes);
    KV_TRY(base_signatures(self, base, signatures));
    for (size_t i = 0; i < self->op.grid.n; i++) {
        if (ts_is_absent(base->values[i]))
            continue;
        for (size_t m = 0; m < self->metrics.n; m++)
            now[m] = signatures[m] == NONE ? NONE : self->newest[signatures[m]][i];
        if (!known || memcmp(now, infos, bytes) != 0) {
            memcpy(infos, now, bytes);
            KV_TRY(combined_row(self, base, infos, &row));
            known = true;
        }
        if (row == SIZE_MAX)
            continue;
        double *value = &self->result.items[row].values[i];
        if (!ts_is_absent(*value))
            return ts_run_fail(self->op.run, TS_QUERY_EXECUTION, KV_INVALID,
                               "vector cannot contain metrics with the same labelset");
        *value = base->values[i];
    }
out:
    return rc;
}

static kv_status info_start(struct info_op *self)
{
    static const kv_slice identifying[IDENTIFYING] = {{(const uint8_t *)"instance", 8},
                                                      {(const uint8_t *)"job", 3}};
    kv_status rc;
    self->started = true;
    if (!(self->column = ts_pool_column(&self->pool, self->op.grid.n)))
        return ts_pool_status(&self->pool);
    KV_TRY(ts_name_list_make(identifying, IDENTIFYING, NULL, &self->pool, &self->identifying));
    KV_TRY(ts_rows_collect(&self->base, self->input));
    KV_TRY(select_info(self));
    KV_TRY(sort_info(self));
    uint32_t *numbers = ts_pool_alloc(&self->pool, (3 * self->metrics.n + 1) * sizeof(*numbers));
    if (!numbers)
        return ts_pool_status(&self->pool);
    for (size_t i = 0; i < self->base.n; i++) {
        KV_TRY(ts_run_samples(self->op.run, self->op.grid.n));
        KV_TRY(combine(self, &self->base.items[i], numbers, numbers + self->metrics.n));
    }
out:
    return rc;
}

/* ---- the operator */

static kv_status info_next(struct ts_operator *op, struct ts_column *out)
{
    struct info_op *self = (struct info_op *)op;
    kv_status rc;
    if (!self->started && (rc = info_start(self)) < 0)
        return rc;
    if (self->at_row == self->result.n)
        return KV_END;
    *out = self->result.items[self->at_row++];
    return KV_OK;
}

static void info_close(struct ts_operator *op)
{
    struct info_op *self = (struct info_op *)op;
    ts_operator_close(self->input);
    ts_operator_close(self->select);
    for (size_t i = 0; i < self->n_matchers; i++)
        ts_matcher_release(&self->matchers[i]);
    ts_run_shrink(op->run, (void **)&self->scratch, &self->scratch_room, sizeof(*self->scratch));
    ts_run_shrink(op->run, (void **)&self->newest, &self->newest_room, sizeof(*self->newest));
    ts_rows_release(&self->base);
    ts_rows_release(&self->info);
    ts_rows_release(&self->result);
    ts_keys_release(&self->metrics);
    ts_keys_release(&self->signatures);
    ts_keys_release(&self->result_keys);
    ts_pool_release(&self->pool);
    kv_free(self);
}

static const struct ts_operator_ops info_ops = {info_next, info_close};

kv_status ts_op_info(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                     struct ts_operator *input, const struct ts_select_at *at, struct ts_operator **out)
{
    struct info_op *self = kv_zalloc(1, sizeof(*self));
    if (!self)
        return ts_run_status(run, KV_NO_MEMORY, NULL);
    self->op = (struct ts_operator){&info_ops, run, grid, call, input->one_name};
    self->input = input;
    self->at = *at;
    ts_pool_init(&self->pool, run);
    ts_rows_init(&self->base, run);
    ts_rows_init(&self->info, run);
    ts_rows_init(&self->result, run);
    ts_keys_init(&self->metrics, run);
    ts_keys_init(&self->signatures, run);
    ts_keys_init(&self->result_keys, run);
    *out = &self->op;
    return KV_OK;
}
