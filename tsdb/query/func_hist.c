/*
 * func_hist.c - histogram_quantile, histogram_quantiles and histogram_fraction of classic histograms: series
 * of cumulative counts, one a bucket, told apart by the label le.
 *
 * The buckets of a histogram are found and sorted once; each step takes those that have a value there, joins
 * equal bounds, smooths what rounding did to the counts and interpolates linearly.
 */
#include "tsdb/query/func.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/number.h"
#include "tsdb/promql/print.h"
#include "tsdb/query/labelset.h"

#include <math.h>
#include <stdlib.h>
#include <strings.h>

static const double tolerance = 1e-12; /* relative difference of counts that is rounding, not a decrease */

struct bucket {
    double bound, count;
};
/* One series of the input. */
struct source {
    double bound;
    size_t group, row;
};
struct hist {
    struct ts_func_op *self;
    struct ts_rows rows;    /* the input */
    struct ts_keys groups;  /* by labels without le */
    struct source *sources; /* in the pool of rows, sorted by group, then bound */
    size_t n_sources;
    struct bucket *buckets; /* scratch: room for a whole group */
    double **params;        /* columns of the scalar arguments */
    size_t n_params;
    uint32_t at; /* of the histogram argument, for notes */
};

/* ---- bounds */

static bool word_equal(kv_slice text, const char *word)
{
    return text.len == strlen(word) && strncasecmp((const char *)text.data, word, text.len) == 0;
}

/* A number as Go reads it, hexadecimal and _ apart. */
static bool parse_bound(kv_slice text, double *bound)
{
    bool negative = text.len > 0 && text.data[0] == '-';
    kv_slice rest = text.len > 0 && (negative || text.data[0] == '+') ? kv_slice_from(text, 1) : text;
    if (word_equal(rest, "inf") || word_equal(rest, "infinity")) {
        *bound = negative ? -INFINITY : INFINITY;
        return true;
    }
    if (word_equal(text, "nan")) {
        *bound = NAN;
        return true;
    }
    return text.len > 0 && kv_double_parse(text, bound) == text.len && !isinf(*bound);
}

static kv_status warn_bad_bound(struct hist *hist, const struct ts_column *row, kv_slice le)
{
    struct ts_run *run = hist->self->op.run;
    struct kv_buf text = {.max = 16384};
    kv_slice name =
        run->delayed_names ? ts_labels_get(row->labels, row->n_labels, TS_METRIC_NAME) : (kv_slice){0};
    kv_status rc;
    KV_TRY(ts_print_quoted(le, &text));
    if (name.len > 0) {
        KV_TRY(kv_buf_append(&text, KV_STR(" for metric name ")));
        KV_TRY(ts_print_quoted(name, &text));
    }
    ts_notes_add(&run->notes, TS_NOTE_WARNING, hist->at,
                 "bucket label \"le\" is missing or has a malformed value of %.*s",
                 KV_ARG(kv_buf_slice(&text)));
out:
    kv_buf_release(&text);
    return rc;
}

/* ---- groups */

static int compare_sources(const void *a, const void *b)
{
    const struct source *x = a, *y = b;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    if (x->bound != y->bound)
        return x->bound < y->bound ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static kv_status hist_group(struct hist *hist)
{
    static const kv_slice le_name = {(const uint8_t *)"le", 2};
    struct ts_pool *pool = &hist->rows.pool;
    kv_status rc = KV_OK;
    hist->sources = ts_pool_alloc(pool, (hist->rows.n + 1) * sizeof(*hist->sources));
    hist->buckets = ts_pool_alloc(pool, (hist->rows.n + 1) * sizeof(*hist->buckets));
    if (!hist->sources || !hist->buckets)
        return ts_pool_status(pool);
    for (size_t i = 0; i < hist->rows.n; i++) {
        struct ts_column *row = &hist->rows.items[i];
        struct source *source = &hist->sources[hist->n_sources];
        kv_slice le = ts_labels_get(row->labels, row->n_labels, le_name);
        bool is_new;
        if (!parse_bound(le, &source->bound) || isnan(source->bound)) {
            KV_TRY(warn_bad_bound(hist, row, le));
            continue;
        }
        struct ts_label *labels = ts_pool_labels(pool, row->labels, row->n_labels);
        if (!labels)
            return ts_pool_status(pool);
        row->labels = labels;
        row->n_labels = ts_labels_set(labels, row->n_labels, le_name, (kv_slice){0});
        KV_TRY(ts_labels_key_all(labels, row->n_labels, &hist->groups.scratch));
        KV_TRY(ts_keys_put(&hist->groups, kv_buf_slice(&hist->groups.scratch), &source->group, &is_new));
        source->row = i;
        hist->n_sources++;
    }
    qsort(hist->sources, hist->n_sources, sizeof(*hist->sources), compare_sources);
out:
    return rc;
}

/* The buckets which a group of n sources has at a step, equal bounds joined. */
static size_t hist_buckets(const struct hist *hist, const struct source *sources, size_t n, size_t step)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        double value = hist->rows.items[sources[i].row].values[step];
        if (ts_is_absent(value))
            continue;
        if (count > 0 && hist->buckets[count - 1].bound == sources[i].bound)
            hist->buckets[count - 1].count += value;
        else
            hist->buckets[count++] = (struct bucket){sources[i].bound, value};
    }
    return count;
}

/* ---- quantile */

struct forced {
    bool any;
    double bucket_min, bucket_max, diff_max;
};

static bool almost_equal(double a, double b)
{
    double sum = fabs(a) + fabs(b), diff = fabs(a - b);
    if (a == b || (isnan(a) && isnan(b)))
        return true;
    if (a == 0 || b == 0 || sum < 0x1p-1022)
        return diff < tolerance * 0x1p-1022;
    return diff / fmin(sum, 0x1.fffffffffffffp+1023) < tolerance;
}

/* Counts may not decrease: small differences are rounding and vanish, larger ones are forced and told. */
static void make_monotonic(struct bucket *buckets, size_t n, struct forced *forced)
{
    double before = buckets[0].count;
    *forced = (struct forced){false, INFINITY, -INFINITY, 0};
    for (size_t i = 1; i < n; i++) {
        double count = buckets[i].count;
        if (count == before)
            continue;
        bool small = almost_equal(before, count);
        if (!small && !(count < before)) {
            before = count;
            continue;
        }
        buckets[i].count = before;
        if (small)
            continue;
        forced->any = true;
        forced->bucket_min = fmin(forced->bucket_min, buckets[i].bound);
        forced->bucket_max = fmax(forced->bucket_max, buckets[i].bound);
        forced->diff_max = fmax(forced->diff_max, before - count);
    }
}

static double bucket_quantile(double q, struct bucket *buckets, size_t n, struct forced *forced)
{
    *forced = (struct forced){0};
    if (isnan(q))
        return NAN;
    if (q < 0 || q > 1)
        return q < 0 ? -INFINITY : INFINITY;
    if (!isinf(buckets[n - 1].bound) || buckets[n - 1].bound < 0)
        return NAN;
    make_monotonic(buckets, n, forced);
    if (n < 2 || buckets[n - 1].count == 0)
        return NAN;
    double rank = q * buckets[n - 1].count;
    size_t low = 0, high = n - 1;
    while (low < high) { /* the first bucket that reaches the rank */
        size_t middle = (low + high) / 2;
        if (buckets[middle].count >= rank)
            high = middle;
        else
            low = middle + 1;
    }
    if (low == n - 1)
        return buckets[n - 2].bound;
    if (low == 0 && buckets[0].bound <= 0)
        return buckets[0].bound;
    double start = low > 0 ? buckets[low - 1].bound : 0, below = low > 0 ? buckets[low - 1].count : 0;
    return start + (buckets[low].bound - start) * ((rank - below) / (buckets[low].count - below));
}

/* ---- fraction */

/* The count of observations up to value, interpolated in its bucket. */
static double fraction_rank(const struct bucket *buckets, size_t n, double value)
{
    double rank = 0, lower = buckets[0].bound <= 0 ? -INFINITY : 0;
    for (size_t i = 0; i < n; i++) {
        if (lower >= value)
            return rank;
        if (buckets[i].bound > value) {
            if (isinf(lower)) /* a bucket without width says nothing about where in it */
                return buckets[i].count;
            return rank + (buckets[i].count - rank) * (value - lower) / (buckets[i].bound - lower);
        }
        rank = buckets[i].count;
        lower = buckets[i].bound;
    }
    return buckets[n - 1].count;
}

static double bucket_fraction(double from, double to, const struct bucket *buckets, size_t n)
{
    double total = buckets[n - 1].count;
    if (!isinf(buckets[n - 1].bound) || buckets[n - 1].bound < 0 || total == 0 || isnan(from) || isnan(to))
        return NAN;
    if (from >= to)
        return 0;
    double low = fraction_rank(buckets, n, from), high = fraction_rank(buckets, n, to);
    return ((high > total ? total : high) - (low > total ? total : low)) / total;
}

/* ---- steps */

static void note_bad_quantiles(struct hist *hist, const struct ts_expr *arg, const double *q)
{
    char text[32];
    for (size_t i = 0; i < hist->self->op.grid.n; i++)
        if (!(q[i] >= 0 && q[i] <= 1))
            ts_notes_add(&hist->self->op.run->notes, TS_NOTE_WARNING, arg->start,
                         "quantile value should be between 0 and 1, got %s", ts_go_g(q[i], text));
}

static void note_forced(struct hist *hist, const struct ts_column *row, size_t step,
                        const struct forced *forced)
{
    struct ts_run *run = hist->self->op.run;
    kv_slice name =
        run->delayed_names ? ts_labels_get(row->labels, row->n_labels, TS_METRIC_NAME) : (kv_slice){0};
    if (forced->any)
        ts_notes_add_forced(&run->notes, hist->at, name, ts_grid_at(&hist->self->op.grid, step),
                            forced->bucket_min, forced->bucket_max, forced->diff_max);
}

/* One row of the result: a group, with extra as a further label for histogram_quantiles. */
static kv_status hist_row(struct hist *hist, const struct ts_column *row, const struct ts_label *extra,
                          double **values)
{
    struct ts_func_op *self = hist->self;
    bool delayed = self->op.run->delayed_names;
    struct ts_label *labels = ts_pool_alloc(&self->out.pool, (row->n_labels + 1) * sizeof(*labels));
    if (!labels)
        return ts_pool_status(&self->out.pool);
    if (row->n_labels > 0)
        memcpy(labels, row->labels, row->n_labels * sizeof(*labels));
    size_t n = delayed ? row->n_labels : ts_labels_drop_name(labels, row->n_labels, labels);
    if (extra)
        n = ts_labels_set(labels, n, extra->name, extra->value);
    return ts_func_add_row(self, labels, n, delayed, values);
}

/* As the exposition formats write a float: "1.0", "0.5", "1e+06", "NaN". */
static kv_slice quantile_text(double q, char out[32])
{
    size_t n = strlen(ts_go_g(q, out));
    bool plain = true;
    for (size_t i = 0; i < n; i++)
        plain = plain && ((out[i] >= '0' && out[i] <= '9') || out[i] == '-');
    if (plain) {
        memcpy(out + n, ".0", 3);
        n += 2;
    }
    return kv_slice_of(out, n);
}

/* histogram_quantiles: the value of q may change from step to step, and with it the label. */
static kv_status hist_labelled_row(struct hist *hist, const struct ts_column *row, double q,
                                   struct ts_keys *seen, size_t **index, size_t *room, double **values)
{
    char text[32];
    struct ts_func_op *self = hist->self;
    kv_slice q_text = quantile_text(q, text);
    size_t at;
    bool is_new;
    kv_status rc = ts_keys_put(seen, q_text, &at, &is_new);
    if (rc < 0)
        return rc;
    if (!is_new) {
        KV_ASSERT(*index); /* made with the first */
        *values = self->out.items[(*index)[at]].values;
        return KV_OK;
    }
    if ((rc = ts_run_grow(self->op.run, (void **)index, room, at + 1, sizeof(**index))) < 0)
        return rc;
    kv_slice value = ts_pool_copy(&self->out.pool, q_text);
    if (!value.data)
        return ts_pool_status(&self->out.pool);
    struct ts_label extra = {ts_func_string(self->op.expr, 1), value};
    (*index)[at] = self->out.n;
    return hist_row(hist, row, &extra, values);
}

static kv_status hist_group_quantiles(struct hist *hist, const struct source *sources, size_t n)
{
    const struct ts_column *row = &hist->rows.items[sources[0].row];
    struct ts_func_op *self = hist->self;
    struct ts_keys seen;
    size_t *index = NULL, room = 0;
    struct forced forced;
    kv_status rc = KV_OK;
    ts_keys_init(&seen, self->op.run);
    for (size_t step = 0; step < self->op.grid.n; step++)
        for (size_t i = 0; i < hist->n_params; i++) {
            size_t count = hist_buckets(hist, sources, n, step);
            double q = hist->params[i][step], *values;
            if (count == 0)
                break;
            KV_TRY(hist_labelled_row(hist, row, q, &seen, &index, &room, &values));
            values[step] = bucket_quantile(q, hist->buckets, count, &forced);
            note_forced(hist, row, step, &forced);
        }
out:
    ts_run_shrink(self->op.run, (void **)&index, &room, sizeof(*index));
    ts_keys_release(&seen);
    return rc;
}

static kv_status hist_group_values(struct hist *hist, const struct source *sources, size_t n)
{
    const struct ts_column *row = &hist->rows.items[sources[0].row];
    bool fraction = hist->self->op.expr->call.func->id == TS_FUNC_HISTOGRAM_FRACTION;
    struct forced forced;
    double *values;
    kv_status rc = hist_row(hist, row, NULL, &values);
    for (size_t step = 0; rc >= 0 && step < hist->self->op.grid.n; step++) {
        size_t count = hist_buckets(hist, sources, n, step);
        if (count == 0)
            continue;
        if (fraction) {
            values[step] =
                bucket_fraction(hist->params[0][step], hist->params[1][step], hist->buckets, count);
        } else {
            values[step] = bucket_quantile(hist->params[0][step], hist->buckets, count, &forced);
            note_forced(hist, row, step, &forced);
        }
    }
    return rc;
}

/* Reads the scalar arguments; the histogram is inputs[which]. */
static kv_status hist_read_params(struct hist *hist, size_t which)
{
    struct ts_func_op *self = hist->self;
    struct ts_pool *pool = &hist->rows.pool;
    hist->params = ts_pool_alloc(pool, TS_FUNC_INPUTS_MAX * sizeof(*hist->params));
    if (!hist->params)
        return ts_pool_status(pool);
    for (size_t i = 0; i < self->n_inputs; i++) {
        if (i == which)
            continue;
        double *column = ts_pool_column(pool, self->op.grid.n);
        if (!column)
            return ts_pool_status(pool);
        kv_status rc = ts_scalar_read(self->inputs[i], column);
        if (rc < 0)
            return rc;
        hist->params[hist->n_params++] = column;
    }
    return KV_OK;
}

static kv_status hist_fill(struct ts_func_op *self)
{
    const struct ts_call *call = &self->op.expr->call;
    bool many = call->func->id == TS_FUNC_HISTOGRAM_QUANTILES;
    size_t which = many ? 0 : self->n_inputs - 1; /* where the histogram stands among the inputs */
    struct hist hist = {.self = self, .at = call->args[many ? 0 : call->n_args - 1]->start};
    kv_status rc;
    ts_rows_init(&hist.rows, self->op.run);
    ts_keys_init(&hist.groups, self->op.run);
    KV_TRY(hist_read_params(&hist, which));
    if (call->func->id != TS_FUNC_HISTOGRAM_FRACTION)
        for (size_t i = 0; i < hist.n_params; i++)
            note_bad_quantiles(&hist, call->args[many ? i + 2 : i], hist.params[i]);
    KV_TRY(ts_rows_collect(&hist.rows, self->inputs[which]));
    KV_TRY(hist_group(&hist));
    for (size_t i = 0, n; i < hist.n_sources; i += n) {
        for (n = 1; i + n < hist.n_sources && hist.sources[i + n].group == hist.sources[i].group;)
            n++;
        KV_TRY(many ? hist_group_quantiles(&hist, &hist.sources[i], n)
                    : hist_group_values(&hist, &hist.sources[i], n));
    }
out:
    ts_keys_release(&hist.groups);
    ts_rows_release(&hist.rows);
    return rc;
}

kv_status ts_func_histogram(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                            struct ts_operator **args, size_t n_args, struct ts_operator **out)
{
    struct ts_func_op *self = ts_func_op_new(run, grid, call, args, n_args, hist_fill);
    if (!self)
        return KV_NO_MEMORY;
    if (run->delayed_names) {
        *out = &self->op;
        return KV_OK;
    }
    return ts_func_finish_merged(self, out);
}
