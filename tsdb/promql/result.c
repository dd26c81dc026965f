/* result.c - making results, and reading them. */
#include "tsdb/promql/result.h"

#include "kvcore/base/mem.h"
#include "tsdb/query/labelset.h"

#include <stdlib.h>

kv_status ts_result_build_init(struct ts_result_build *build, struct ts_run *run)
{
    *build = (struct ts_result_build){.run = run};
    ts_pool_init(&build->pool, run);
    ts_pool_init(&build->scratch, run);
    return KV_OK;
}

void ts_result_build_release(struct ts_result_build *build)
{
    ts_run_shrink(build->run, (void **)&build->series, &build->capacity, sizeof(*build->series));
    ts_pool_release(&build->pool);
    ts_pool_release(&build->scratch);
}

/* Labels with their bytes. */
static kv_status copy_labels(struct ts_pool *pool, const struct ts_label *labels, size_t n,
                             const struct ts_label **out)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += labels[i].name.len + labels[i].value.len;
    struct ts_label *copy = ts_pool_alloc(pool, (n ? n : 1) * sizeof(*copy) + bytes);
    if (!copy)
        return ts_pool_status(pool);
    uint8_t *at = (uint8_t *)(copy + n);
    for (size_t i = 0; i < n; i++) {
        memcpy(at, labels[i].name.data, labels[i].name.len);
        copy[i].name = kv_slice_of(at, labels[i].name.len);
        at += labels[i].name.len;
        memcpy(at, labels[i].value.data, labels[i].value.len);
        copy[i].value = kv_slice_of(at, labels[i].value.len);
        at += labels[i].value.len;
    }
    *out = copy;
    return KV_OK;
}

static kv_status add_series(struct ts_result_build *build, const struct ts_label *labels, size_t n_labels,
                            struct ts_series_points **out)
{
    kv_status rc;
    KV_TRY(ts_run_grow(build->run, (void **)&build->series, &build->capacity, build->n + 1,
                       sizeof(*build->series)));
    struct ts_series_points *series = &build->series[build->n];
    *series = (struct ts_series_points){.n_labels = n_labels};
    KV_TRY(copy_labels(&build->pool, labels, n_labels, &series->labels));
    *out = series;
out:
    return rc;
}

kv_status ts_result_add(struct ts_result_build *build, const struct ts_label *labels, size_t n_labels,
                        const int64_t *times, const double *values, size_t n)
{
    struct ts_series_points *series;
    if (n == 0)
        return KV_OK;
    kv_status rc = add_series(build, labels, n_labels, &series);
    if (rc < 0)
        return rc;
    int64_t *times_copy = ts_pool_alloc(&build->pool, n * sizeof(*times_copy));
    double *values_copy = times_copy ? ts_pool_column(&build->pool, n) : NULL;
    if (!values_copy)
        return ts_pool_status(&build->pool);
    memcpy(times_copy, times, n * sizeof(*times));
    memcpy(values_copy, values, n * sizeof(*values));
    series->times_ms = times_copy;
    series->values = values_copy;
    series->n = n;
    build->n++;
    return KV_OK;
}

static kv_status grid_times(struct ts_result_build *build, const struct ts_grid *grid)
{
    if (build->grid_times)
        return KV_OK;
    if (!(build->grid_times = ts_pool_alloc(&build->pool, grid->n * sizeof(int64_t))))
        return ts_pool_status(&build->pool);
    for (size_t i = 0; i < grid->n; i++)
        build->grid_times[i] = ts_grid_at(grid, i);
    return KV_OK;
}

kv_status ts_result_add_column(struct ts_result_build *build, const struct ts_column *column,
                               const struct ts_grid *grid)
{
    struct ts_series_points *series;
    size_t present = 0, at = 0;
    kv_status rc;
    for (size_t i = 0; i < grid->n; i++)
        present += !ts_is_absent(column->values[i]);
    if (present == 0)
        return KV_OK;
    KV_TRY(add_series(build, column->labels, column->n_labels, &series));
    KV_TRY(grid_times(build, grid));
    double *values = ts_pool_column(&build->pool, present);
    int64_t *times = build->grid_times;
    if (values && present < grid->n)
        times = ts_pool_alloc(&build->pool, present * sizeof(*times));
    if (!values || !times)
        return ts_pool_status(&build->pool);
    for (size_t i = 0; i < grid->n; i++) {
        if (ts_is_absent(column->values[i]))
            continue;
        times[at] = build->grid_times[i];
        values[at++] = column->values[i];
    }
    series->times_ms = times;
    series->values = values;
    series->n = present;
    build->n++;
out:
    return rc;
}

kv_status ts_result_set_string(struct ts_result_build *build, kv_slice string)
{
    build->string = ts_pool_copy(&build->pool, string);
    return build->string.data ? KV_OK : ts_pool_status(&build->pool);
}

/* ---- finishing */

static int by_labels(const void *a, const void *b)
{
    const struct ts_series_points *x = a, *y = b;
    return ts_labels_compare(x->labels, x->n_labels, y->labels, y->n_labels);
}

/* One label set stands for one series. */
static kv_status check_alike(struct ts_result_build *build)
{
    struct ts_keys seen;
    kv_status rc = KV_OK;
    ts_keys_init(&seen, build->run);
    for (size_t i = 0; i < build->n && build->n > 1; i++) {
        size_t index;
        bool is_new;
        KV_TRY(ts_labels_key_all(build->series[i].labels, build->series[i].n_labels, &seen.scratch));
        KV_TRY(ts_keys_put(&seen, kv_buf_slice(&seen.scratch), &index, &is_new));
        if (!is_new)
            KV_TRY(ts_run_fail(build->run, TS_QUERY_EXECUTION, KV_INVALID,
                               "vector cannot contain metrics with the same labelset"));
    }
out:
    ts_keys_release(&seen);
    return ts_run_status(build->run, rc, NULL);
}

static kv_status print_notes(struct ts_result_build *build, enum ts_note_kind kind, kv_slice **out, size_t *n)
{
    const struct ts_notes *notes = &build->run->notes;
    struct kv_buf text = {0};
    kv_status rc = KV_OK;
    *n = 0;
    if (!(*out = ts_pool_alloc(&build->pool, (notes->n + 1) * sizeof(**out))))
        return ts_pool_status(&build->pool);
    for (size_t i = 0; i < notes->n; i++) {
        if (notes->items[i].kind != kind)
            continue;
        kv_buf_clear(&text);
        KV_TRY(ts_note_print(&notes->items[i], build->run->text, &text));
        (*out)[*n] = ts_pool_copy(&build->pool, kv_buf_slice(&text));
        if (!(*out)[*n].data) {
            rc = ts_pool_status(&build->pool);
            goto out;
        }
        (*n)++;
    }
out:
    kv_buf_release(&text);
    return ts_run_status(build->run, rc, NULL);
}

kv_status ts_result_finish(struct ts_result_build *build, enum ts_result_type type, struct ts_result **out)
{
    struct ts_result *result = kv_zalloc(1, sizeof(*result));
    kv_status rc;
    if (!result || build->run->notes.failed) {
        kv_free(result);
        return ts_run_status(build->run, KV_NO_MEMORY, NULL);
    }
    KV_TRY(check_alike(build));
    if (type == TS_RESULT_MATRIX && build->n > 1)
        qsort(build->series, build->n, sizeof(*build->series), by_labels);
    KV_TRY(print_notes(build, TS_NOTE_WARNING, &result->warnings, &result->n_warnings));
    KV_TRY(print_notes(build, TS_NOTE_INFO, &result->infos, &result->n_infos));
    result->type = type;
    result->series = ts_pool_alloc(&build->pool, (build->n ? build->n : 1) * sizeof(*result->series));
    if (!result->series) {
        rc = ts_pool_status(&build->pool);
        goto out;
    }
    if (build->n)
        memcpy(result->series, build->series, build->n * sizeof(*result->series));
    result->n = build->n;
    result->string = build->string;
    result->time_ms = build->run->end_ms;
    result->arena = build->pool.arena; /* moved */
    build->pool.arena = (struct kv_arena){0};
    *out = result;
    return KV_OK;
out:
    kv_free(result);
    return rc;
}

/* ---- reading */

void ts_result_free(struct ts_result *result)
{
    if (!result)
        return;
    kv_arena_release(&result->arena);
    kv_free(result);
}

enum ts_result_type ts_result_type(const struct ts_result *result)
{
    return result->type;
}

size_t ts_result_count(const struct ts_result *result)
{
    return result->n;
}

void ts_result_series(const struct ts_result *result, size_t i, struct ts_series_points *out)
{
    *out = result->series[i];
}

kv_slice ts_result_string(const struct ts_result *result, int64_t *time_ms)
{
    if (time_ms)
        *time_ms = result->time_ms;
    return result->string;
}

size_t ts_result_warnings(const struct ts_result *result)
{
    return result->n_warnings;
}

kv_slice ts_result_warning(const struct ts_result *result, size_t i)
{
    return result->warnings[i];
}

size_t ts_result_infos(const struct ts_result *result)
{
    return result->n_infos;
}

kv_slice ts_result_info(const struct ts_result *result, size_t i)
{
    return result->infos[i];
}

void ts_result_stats(const struct ts_result *result, struct ts_result_stats *out)
{
    *out = result->stats;
}
