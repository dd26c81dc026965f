/*
 * range_kernel.c - see the header. One function per family; the table at the end says which serves which name.
 * One file, since each kernel is a few lines over the same windows.
 */
#include "tsdb/query/range_kernel.h"

#include <math.h>
#include <stdlib.h>

size_t ts_times_after(const int64_t *times, size_t n, size_t from, int64_t t)
{
    size_t step = 1, low = from, high = from;
    while (high < n && times[high] <= t) { /* everything before low is at or below t */
        low = high + 1;
        high += step;
        step *= 2;
    }
    high = high < n ? high : n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (times[middle] <= t)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void ts_range_windows(const struct ts_range_in *in, int64_t reach_back_ms, int64_t reach_forward_ms,
                      uint32_t *lo, uint32_t *hi)
{
    size_t first = 0, last = 0;
    for (size_t i = 0; i < in->steps; i++) {
        if (i == 0 || in->end_step_ms) {
            int64_t end = ts_range_end(in, i);
            first = ts_times_after(in->times, in->n, first, end - in->range_ms - reach_back_ms);
            last = ts_times_after(in->times, in->n, last < first ? first : last, end + reach_forward_ms);
        }
        lo[i] = (uint32_t)first;
        hi[i] = (uint32_t)last;
    }
}

/* Samples in all windows together: how far they overlap. */
static size_t windows_total(const struct ts_range_in *in)
{
    size_t total = 0;
    for (size_t i = 0; i < in->steps; i++)
        total += in->hi[i] - in->lo[i];
    return total;
}

/* ---- counters and differences */

double ts_interpolate(int64_t t1, double v1, int64_t t2, double v2, int64_t t, bool counter)
{
    if (counter && v2 < v1)
        v1 = 0;
    return v1 + (v2 - v1) * (double)(t - t1) / (double)(t2 - t1);
}

/* Index of each sample below the one before it. */
static size_t resets_find(const double *values, size_t n, uint32_t *marks)
{
    size_t found = 0;
    for (size_t i = 1; i < n; i++)
        if (values[i] < values[i - 1])
            marks[found++] = (uint32_t)i;
    return found;
}

static size_t changes_find(const double *values, size_t n, uint32_t *marks)
{
    size_t found = 0;
    for (size_t i = 1; i < n; i++)
        if (values[i] != values[i - 1] && !(isnan(values[i]) && isnan(values[i - 1])))
            marks[found++] = (uint32_t)i;
    return found;
}

/* How far the window's increase is stretched to the window's ends, which lie near its first and last sample.
 */
static double extrapolate_factor(const struct ts_range_in *in, size_t i, double result, bool counter)
{
    size_t lo = in->lo[i], hi = in->hi[i];
    int64_t end = ts_range_end(in, i), first = in->times[lo], last = in->times[hi - 1];
    double to_start = (double)(first - (end - in->range_ms)) / 1000;
    double to_end = (double)(end - last) / 1000;
    double sampled = (double)(last - first) / 1000;
    double average = sampled / (double)(ts_range_count(in, lo, hi) - 1);
    double threshold = average * 1.1;
    if (to_start >= threshold)
        to_start = average / 2;
    if (counter) { /* a counter cannot have been below zero */
        double to_zero = to_start;
        if (result > 0 && in->values[lo] >= 0)
            to_zero = sampled * (in->values[lo] / result);
        if (to_zero < to_start)
            to_start = to_zero;
    }
    if (to_end >= threshold)
        to_end = average / 2;
    return (sampled + to_start + to_end) / sampled;
}

/* What resets took from a window's increase, added up in order. */
static double add_resets(const double *values, size_t n, double result)
{
    unsigned any = 0;
    for (size_t i = 1; i < n; i++) /* nearly always none: no addition waits for another */
        any |= values[i] < values[i - 1];
    for (size_t i = 1; i < n && any; i++)
        if (values[i] < values[i - 1])
            result += values[i - 1];
    return result;
}

static void extrapolated(const struct ts_range_in *in, double *out, bool counter, bool per_second)
{
    bool overlapping = windows_total(in) > 2 * in->n; /* then all resets are found once */
    size_t n_resets = counter && overlapping ? resets_find(in->values, in->n, in->marks) : 0, next = 0;
    double seconds = (double)in->range_ms / 1000;
    for (size_t i = 0; i < in->steps; i++) {
        size_t lo = in->lo[i], hi = in->hi[i];
        if (hi - lo < 2)
            continue;
        double result = in->values[hi - 1] - in->values[lo];
        while (next < n_resets && in->marks[next] <= lo)
            next++;
        for (size_t r = next; r < n_resets && in->marks[r] < hi; r++)
            result += in->values[in->marks[r] - 1];
        if (counter && !overlapping)
            result = add_resets(in->values + lo, hi - lo, result);
        double factor = extrapolate_factor(in, i, result, counter);
        if (per_second)
            factor /= seconds;
        out[i] = result * factor;
    }
}

/* The window's borders for anchored and smoothed: indexes of the samples that stand for its ends. */
struct border {
    size_t first, last;
    double left, right;
};

static bool border_find(const int64_t *times, const double *values, size_t lo, size_t hi, int64_t start,
                        int64_t end, bool smoothed, bool counter, struct border *b)
{
    if (hi == lo)
        return false;
    b->last = hi - 1;
    b->first = ts_times_after(times, b->last, lo, start);
    b->first = b->first > lo ? b->first - 1 : lo;
    if (smoothed)
        b->last = ts_times_after(times, b->last, lo, end - 1);
    if (times[b->last] <= start || (smoothed && times[b->first] > end))
        return false;
    b->left = values[b->first];
    b->right = values[b->last];
    if (smoothed && times[b->first] < start)
        b->left = ts_interpolate(times[b->first], values[b->first], times[b->first + 1], values[b->first + 1],
                                 start, counter);
    if (smoothed && b->last > lo && times[b->last] > end)
        b->right = ts_interpolate(times[b->last - 1], values[b->last - 1], times[b->last], values[b->last],
                                  end, counter);
    return true;
}

static double border_resets(const struct ts_range_in *in, const struct border *b, int64_t start, int64_t end)
{
    size_t from = b->first + (in->times[b->first] <= start);
    size_t to = b->last + 1 - (in->times[b->last] >= end); /* exclusive */
    double correction = 0, before = b->left;
    for (size_t i = from; i < to; i++) {
        if (in->values[i] < before)
            correction += before;
        before = in->values[i];
    }
    return b->right < before ? correction + before : correction;
}

static void extended(const struct ts_range_in *in, double *out, bool counter, bool per_second)
{
    bool smoothed = in->mode == TS_RANGE_SMOOTHED;
    for (size_t i = 0; i < in->steps; i++) {
        struct border b;
        int64_t end = ts_range_end(in, i), start = end - in->range_ms;
        if (!border_find(in->times, in->values, in->lo[i], in->hi[i], start, end, smoothed, counter, &b))
            continue;
        double result = b.right - b.left;
        if (counter)
            result += border_resets(in, &b, start, end);
        out[i] = per_second ? result / ((double)in->range_ms / 1000) : result;
    }
}

static kv_status kernel_rate(const struct ts_range_in *in, double *out)
{
    (in->mode ? extended : extrapolated)(in, out, true, true);
    return KV_OK;
}
static kv_status kernel_increase(const struct ts_range_in *in, double *out)
{
    (in->mode ? extended : extrapolated)(in, out, true, false);
    return KV_OK;
}
static kv_status kernel_delta(const struct ts_range_in *in, double *out)
{
    (in->mode ? extended : extrapolated)(in, out, false, false);
    return KV_OK;
}

static kv_status kernel_irate(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++) {
        size_t hi = in->hi[i];
        if (hi - in->lo[i] < 2)
            continue;
        double now = in->values[hi - 1], before = in->values[hi - 2];
        double increase = now < before ? now : now - before; /* behind a reset it began at zero */
        out[i] = increase / ((double)(in->times[hi - 1] - in->times[hi - 2]) / 1000);
    }
    return KV_OK;
}
static kv_status kernel_idelta(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++)
        if (in->hi[i] - in->lo[i] >= 2)
            out[i] = in->values[in->hi[i] - 1] - in->values[in->hi[i] - 2];
    return KV_OK;
}

/* How many marks lie strictly behind each window's first sample. Anchored: the sample before the range counts
 * as first. */
static void count_marks(const struct ts_range_in *in, size_t n_marks, double *out)
{
    size_t low = 0, high = 0;
    for (size_t i = 0; i < in->steps; i++) {
        size_t lo = in->lo[i], hi = in->hi[i];
        if (lo == hi)
            continue;
        if (in->mode == TS_RANGE_ANCHORED) {
            size_t inside = ts_times_after(in->times, hi, lo, ts_range_end(in, i) - in->range_ms);
            if (inside == hi)
                continue; /* nothing in the range itself */
            lo = inside > lo ? inside - 1 : lo;
        }
        while (low < n_marks && in->marks[low] <= lo)
            low++;
        high = high < low ? low : high;
        while (high < n_marks && in->marks[high] < hi)
            high++;
        out[i] = (double)(high - low);
    }
}

static kv_status kernel_resets(const struct ts_range_in *in, double *out)
{
    count_marks(in, resets_find(in->values, in->n, in->marks), out);
    return KV_OK;
}
static kv_status kernel_changes(const struct ts_range_in *in, double *out)
{
    count_marks(in, changes_find(in->values, in->n, in->marks), out);
    return KV_OK;
}

/* ---- sums. Whole numbers are added plainly: any order gives what the compensated sum gives, to the bit. */

enum { WHOLE_SAMPLES_MAX = 1 << 21 }; /* times 2^31 stays below 2^53 */

static bool all_whole(const double *values, size_t n)
{
    unsigned odd = n > WHOLE_SAMPLES_MAX;
    size_t i = 0;
    for (; i < n && !odd; i += 256) { /* blocks: no branch per sample, and other series are found out soon */
        size_t end = i + 256 < n ? i + 256 : n;
        for (size_t k = i; k < end; k++) {
            double v = values[k];
            int32_t whole = v > -2147483648.0 && v < 2147483648.0 ? (int32_t)v : INT32_MIN;
            odd |= (double)whole != v;
        }
    }
    return !odd;
}

static double sum_whole(const double *values, size_t n)
{
    double a = 0, b = 0, c = 0, d = 0;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        a += values[i];
        b += values[i + 1];
        c += values[i + 2];
        d += values[i + 3];
    }
    for (; i < n; i++)
        a += values[i];
    return (a + b) + (c + d);
}

/* TwoSum's error term is exact, so it is the same number as Neumaier's, without his branch. */
static double sum_compensated(const double *values, size_t n, double *compensation)
{
    double sum = 0, c = 0;
    for (size_t i = 0; i < n; i++) {
        double x = values[i], t = sum + x, back = t - sum;
        c += (sum - (t - back)) + (x - back);
        sum = t;
    }
    *compensation = c;
    return sum;
}

/* For windows whose sum left the finite numbers, in Prometheus's steps. */
static double sum_slow(const double *values, size_t n)
{
    double sum = 0, c = 0;
    for (size_t i = 0; i < n; i++)
        ts_kahan_add(values[i], &sum, &c);
    return isinf(sum) ? sum : sum + c;
}

static double avg_slow(const double *values, size_t n)
{
    double sum = values[0], c = 0, mean = 0;
    bool incremental = false;
    for (size_t i = 1; i < n; i++) {
        double count = (double)(i + 1);
        if (!incremental) {
            double sum_next = sum, c_next = c;
            ts_kahan_add(values[i], &sum_next, &c_next);
            if (!isinf(sum_next)) {
                sum = sum_next;
                c = c_next;
                continue;
            }
            incremental = true; /* the sum would overflow, the mean need not */
            mean = sum / (count - 1);
            c /= count - 1;
        }
        double q = (count - 1) / count;
        mean *= q;
        c *= q;
        ts_kahan_add(values[i] / count, &mean, &c);
    }
    if (incremental)
        return mean + c;
    return sum / (double)n + c / (double)n;
}

static double window_sum(const double *values, size_t n, bool average)
{
    double c, sum = sum_compensated(values, n, &c);
    if (!isfinite(sum) || !isfinite(c))
        return average ? avg_slow(values, n) : sum_slow(values, n);
    return average ? sum / (double)n + c / (double)n : sum + c;
}

static void sums(const struct ts_range_in *in, double *out, bool average)
{
    bool whole =
        in->ordinals || all_whole(in->values, in->n); /* the operator saw to it (ts_condense_exact) */
    bool prefixes = whole && windows_total(in) > 2 * in->n;
    if (prefixes) {
        in->scratch[0] = 0;
        for (size_t k = 0; k < in->n; k++)
            in->scratch[k + 1] = in->scratch[k] + in->values[k];
    }
    for (size_t i = 0; i < in->steps; i++) {
        size_t lo = in->lo[i], n = in->hi[i] - lo;
        if (n == 0)
            continue;
        if (!whole) {
            out[i] = window_sum(in->values + lo, n, average);
            continue;
        }
        double sum = prefixes ? in->scratch[lo + n] - in->scratch[lo] : sum_whole(in->values + lo, n);
        out[i] = average ? sum / (double)ts_range_count(in, lo, lo + n) : sum;
    }
}

static kv_status kernel_sum(const struct ts_range_in *in, double *out)
{
    sums(in, out, false);
    return KV_OK;
}
static kv_status kernel_avg(const struct ts_range_in *in, double *out)
{
    sums(in, out, true);
    return KV_OK;
}

/* ---- counts and ends */

static kv_status kernel_count(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++)
        if (in->hi[i] > in->lo[i])
            out[i] = (double)ts_range_count(in, in->lo[i], in->hi[i]);
    return KV_OK;
}
static kv_status kernel_present(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++)
        if (in->hi[i] > in->lo[i])
            out[i] = 1;
    return KV_OK;
}
static kv_status kernel_first(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++)
        if (in->hi[i] > in->lo[i])
            out[i] = in->values[in->lo[i]];
    return KV_OK;
}
static kv_status kernel_last(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++)
        if (in->hi[i] > in->lo[i])
            out[i] = in->values[in->hi[i] - 1];
    return KV_OK;
}
static kv_status kernel_ts_first(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++)
        if (in->hi[i] > in->lo[i])
            out[i] = (double)in->times[in->lo[i]] / 1000;
    return KV_OK;
}
static kv_status kernel_ts_last(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++)
        if (in->hi[i] > in->lo[i])
            out[i] = (double)in->times[in->hi[i] - 1] / 1000;
    return KV_OK;
}

/* ---- extremes. NaN counts only where there is nothing else; of equal values the first is the one. */

static double window_max(const double *values, size_t n)
{
    size_t i = 0;
    while (i < n - 1 && isnan(values[i]))
        i++;
    double best = values[i];
    for (i++; i < n; i++)
        best = values[i] > best ? values[i] : best; /* false for NaN */
    return best;
}
static double window_min(const double *values, size_t n)
{
    size_t i = 0;
    while (i < n - 1 && isnan(values[i]))
        i++;
    double best = values[i];
    for (i++; i < n; i++)
        best = values[i] < best ? values[i] : best;
    return best;
}

/* Overlapping windows: a queue of candidates, each better than all behind it, entered and left once. */
static void sliding_extremes(const struct ts_range_in *in, double *out, bool max)
{
    uint32_t *queue = in->marks;
    size_t head = 0, tail = 0, next = 0;
    for (size_t i = 0; i < in->steps; i++) {
        size_t lo = in->lo[i], hi = in->hi[i];
        next = next < lo ? lo : next;
        for (; next < hi; next++) {
            double v = in->values[next];
            if (isnan(v))
                continue;
            while (tail > head && (max ? in->values[queue[tail - 1]] < v : in->values[queue[tail - 1]] > v))
                tail--;
            queue[tail++] = (uint32_t)next;
        }
        while (head < tail && queue[head] < lo)
            head++;
        if (hi > lo)
            out[i] = head < tail ? in->values[queue[head]] : in->values[hi - 1];
    }
}

static void extremes(const struct ts_range_in *in, double *out, bool max)
{
    if (windows_total(in) > 6 * in->n) {
        sliding_extremes(in, out, max);
        return;
    }
    for (size_t i = 0; i < in->steps; i++) {
        size_t lo = in->lo[i], n = in->hi[i] - lo;
        if (n)
            out[i] = (max ? window_max : window_min)(in->values + lo, n);
    }
}

static kv_status kernel_max(const struct ts_range_in *in, double *out)
{
    extremes(in, out, true);
    return KV_OK;
}
static kv_status kernel_min(const struct ts_range_in *in, double *out)
{
    extremes(in, out, false);
    return KV_OK;
}

/* The time of the extreme; of equal values the last. */
static void extreme_times(const struct ts_range_in *in, double *out, bool max)
{
    for (size_t i = 0; i < in->steps; i++) {
        size_t best = in->lo[i];
        if (in->hi[i] == best)
            continue;
        for (size_t k = best; k < in->hi[i]; k++) {
            double v = in->values[k], b = in->values[best];
            if ((max ? v >= b : v <= b) || isnan(b))
                best = k;
        }
        out[i] = (double)in->times[best] / 1000;
    }
}
static kv_status kernel_ts_max(const struct ts_range_in *in, double *out)
{
    extreme_times(in, out, true);
    return KV_OK;
}
static kv_status kernel_ts_min(const struct ts_range_in *in, double *out)
{
    extreme_times(in, out, false);
    return KV_OK;
}

/* ---- spread */

static double window_variance(const double *values, size_t n)
{
    double count = 0, mean = 0, mean_c = 0, aux = 0, aux_c = 0;
    for (size_t i = 0; i < n; i++) {
        count++;
        double delta = values[i] - (mean + mean_c);
        ts_kahan_add(delta / count, &mean, &mean_c);
        ts_kahan_add(delta * (values[i] - (mean + mean_c)), &aux, &aux_c);
    }
    return (aux + aux_c) / count;
}

static kv_status kernel_stdvar(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++)
        if (in->hi[i] > in->lo[i])
            out[i] = window_variance(in->values + in->lo[i], in->hi[i] - in->lo[i]);
    return KV_OK;
}
static kv_status kernel_stddev(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++)
        if (in->hi[i] > in->lo[i])
            out[i] = sqrt(window_variance(in->values + in->lo[i], in->hi[i] - in->lo[i]));
    return KV_OK;
}

static bool quantile_less(double a, double b)
{
    return a < b || (isnan(a) && !isnan(b));
}

/* Puts the k-th smallest at k, nothing greater before it and nothing smaller behind it (Hoare's quickselect;
 * a heap of equal or hostile values costs at most the sort it falls back to). */
static int quantile_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return quantile_less(x, y) ? -1 : quantile_less(y, x);
}

static void quantile_select(double *v, size_t n, size_t k)
{
    size_t low = 0, high = n; /* [low, high) */
    unsigned rounds = 0;
    while (high - low > 16) {
        if (++rounds > 48) {
            qsort(v + low, high - low, sizeof(*v), quantile_compare);
            return;
        }
        double a = v[low], b = v[low + (high - low) / 2], c = v[high - 1];
        double pivot = quantile_less(a, b) ? (quantile_less(b, c)   ? b
                                              : quantile_less(a, c) ? c
                                                                    : a)
                                           : (quantile_less(a, c)   ? a
                                              : quantile_less(b, c) ? c
                                                                    : b);
        size_t i = low, j = high - 1;
        for (;;) {
            while (quantile_less(v[i], pivot))
                i++;
            while (quantile_less(pivot, v[j]))
                j--;
            if (i >= j)
                break;
            double swap = v[i];
            v[i++] = v[j];
            v[j--] = swap;
        }
        if (k <= j)
            high = j + 1;
        else
            low = j + 1;
    }
    for (size_t i = low + 1; i < high; i++) { /* insertion sort of what is left */
        double x = v[i];
        size_t at = i;
        for (; at > low && quantile_less(x, v[at - 1]); at--)
            v[at] = v[at - 1];
        v[at] = x;
    }
}

double ts_quantile(double q, double *values, size_t n)
{
    if (n == 0 || isnan(q))
        return NAN;
    if (q < 0)
        return -INFINITY;
    if (q > 1)
        return INFINITY;
    double rank = q * (double)(n - 1);
    double below = fmax(0, floor(rank)), above = fmin((double)n - 1, below + 1);
    double weight = rank - floor(rank);
    size_t low = (size_t)below, high = (size_t)above;
    quantile_select(values, n, low);
    double value = values[low], next = value;
    if (high > low) { /* the least of what lies behind */
        next = values[high];
        for (size_t i = high + 1; i < n; i++)
            next = quantile_less(values[i], next) ? values[i] : next;
    }
    return value * (1 - weight) + next * weight;
}

static kv_status kernel_quantile(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++) {
        size_t lo = in->lo[i], n = in->hi[i] - lo;
        double q = in->params[0][i];
        if (n == 0)
            continue;
        if (isnan(q) || q < 0 || q > 1) {
            char text[32];
            ts_notes_add(&in->run->notes, TS_NOTE_WARNING, in->call->call.args[0]->start,
                         "quantile value should be between 0 and 1, got %s", ts_go_g(q, text));
        }
        memcpy(in->scratch, in->values + lo, n * sizeof(double));
        out[i] = ts_quantile(q, in->scratch, n);
    }
    return KV_OK;
}

static double window_mad(double *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (isnan(values[i]))
            return NAN;
    double median = ts_quantile(0.5, values, n);
    for (size_t i = 0; i < n; i++)
        values[i] = fabs(values[i] - median);
    return ts_quantile(0.5, values, n);
}

static kv_status kernel_mad(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++) {
        size_t lo = in->lo[i], n = in->hi[i] - lo;
        if (n == 0)
            continue;
        memcpy(in->scratch, in->values + lo, n * sizeof(double));
        out[i] = window_mad(in->scratch, n);
    }
    return KV_OK;
}

/* ---- trends */

/* Least squares; x in seconds from origin. */
static void regression(const int64_t *times, const double *values, size_t n, int64_t origin, double *slope,
                       double *intercept)
{
    double x_sum = 0, x_c = 0, y_sum = 0, y_c = 0, xy_sum = 0, xy_c = 0, xx_sum = 0, xx_c = 0,
           count = (double)n;
    bool constant = true;
    for (size_t i = 0; i < n; i++) {
        double x = (double)(times[i] - origin) / 1e3, y = values[i];
        constant = constant && (i == 0 || y == values[0]);
        ts_kahan_add(x, &x_sum, &x_c);
        ts_kahan_add(y, &y_sum, &y_c);
        ts_kahan_add(x * y, &xy_sum, &xy_c);
        ts_kahan_add(x * x, &xx_sum, &xx_c);
    }
    if (constant) {
        *slope = isinf(values[0]) ? NAN : 0;
        *intercept = isinf(values[0]) ? NAN : values[0];
        return;
    }
    x_sum += x_c;
    y_sum += y_c;
    xy_sum += xy_c;
    xx_sum += xx_c;
    *slope = (xy_sum - x_sum * y_sum / count) / (xx_sum - x_sum * x_sum / count);
    *intercept = y_sum / count - *slope * x_sum / count;
}

static kv_status kernel_deriv(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++) {
        size_t lo = in->lo[i], n = in->hi[i] - lo;
        double intercept;
        if (n >= 2)
            regression(in->times + lo, in->values + lo, n, in->times[lo], &out[i], &intercept);
    }
    return KV_OK;
}

static kv_status kernel_predict_linear(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++) {
        size_t lo = in->lo[i], n = in->hi[i] - lo;
        double slope, intercept;
        if (n < 2)
            continue;
        regression(in->times + lo, in->values + lo, n, ts_grid_at(in->grid, i), &slope, &intercept);
        out[i] = slope * in->params[0][i] + intercept;
    }
    return KV_OK;
}

static double window_smooth(const double *values, size_t n, double level_factor, double trend_factor)
{
    double before = 0, level = values[0], trend = values[1] - values[0];
    for (size_t i = 1; i < n; i++) {
        double scaled = level_factor * values[i];
        if (i > 1)
            trend = trend_factor * (level - before) + (1 - trend_factor) * trend;
        double smoothed = (1 - level_factor) * (level + trend);
        before = level;
        level = scaled + smoothed;
    }
    return level;
}

static kv_status kernel_double_exponential(const struct ts_range_in *in, double *out)
{
    for (size_t i = 0; i < in->steps; i++) {
        size_t lo = in->lo[i], n = in->hi[i] - lo;
        double level = in->params[0][i], trend = in->params[1][i];
        if (n == 0)
            continue;
        if (!(level > 0 && level < 1) && !isnan(level))
            return ts_run_fail(in->run, TS_QUERY_EXECUTION, KV_INVALID,
                               "invalid smoothing factor. Expected: 0 < sf < 1, got: %f", level);
        if (!(trend > 0 && trend < 1) && !isnan(trend))
            return ts_run_fail(in->run, TS_QUERY_EXECUTION, KV_INVALID,
                               "invalid trend factor. Expected: 0 < tf < 1, got: %f", trend);
        if (n >= 2)
            out[i] = window_smooth(in->values + lo, n, level, trend);
    }
    return KV_OK;
}

/* ---- top-level anchored and smoothed ranges */

size_t ts_range_extend(const int64_t *times, const double *values, size_t n, int64_t from_ms, int64_t to_ms,
                       bool smoothed, int64_t *out_times, double *out_values)
{
    struct border b;
    size_t count = 0;
    if (n == 0)
        return 0;
    b.last = n - 1;
    b.first = ts_times_after(times, b.last, 0, from_ms);
    b.first -= b.first > 0;
    if (smoothed)
        b.last = ts_times_after(times, b.last, 0, to_ms - 1);
    if (times[b.last] <= from_ms)
        return 0;
    bool cut_left = smoothed && times[b.first] < from_ms,
         cut_right = smoothed && b.last > 0 && times[b.last] > to_ms;
    double left = cut_left ? ts_interpolate(times[b.first], values[b.first], times[b.first + 1],
                                            values[b.first + 1], from_ms, false)
                           : values[b.first];
    double right = cut_right ? ts_interpolate(times[b.last - 1], values[b.last - 1], times[b.last],
                                              values[b.last], to_ms, false)
                             : values[b.last];
    size_t from = b.first + (times[b.first] <= from_ms), to = b.last + 1 - (times[b.last] >= to_ms);
    out_times[count] = from_ms;
    out_values[count++] = left;
    for (size_t i = from; i < to; i++, count++) {
        out_times[count] = times[i];
        out_values[count] = values[i];
    }
    out_times[count] = to_ms;
    out_values[count++] = right;
    return count;
}

static const struct {
    ts_range_kernel kernel;
    enum ts_condense_kind condense;
} functions[TS_FUNCS] = {
    [TS_FUNC_RATE] = {kernel_rate, TS_CONDENSE_RISE},
    [TS_FUNC_INCREASE] = {kernel_increase, TS_CONDENSE_RISE},
    [TS_FUNC_DELTA] = {kernel_delta, TS_CONDENSE_ENDS},
    [TS_FUNC_IRATE] = {kernel_irate, TS_CONDENSE_NOT},
    [TS_FUNC_IDELTA] = {kernel_idelta, TS_CONDENSE_NOT},
    [TS_FUNC_RESETS] = {kernel_resets, TS_CONDENSE_RISE},
    [TS_FUNC_CHANGES] = {kernel_changes, TS_CONDENSE_FLAT},
    [TS_FUNC_SUM_OVER_TIME] = {kernel_sum, TS_CONDENSE_SUM},
    [TS_FUNC_AVG_OVER_TIME] = {kernel_avg, TS_CONDENSE_SUM},
    [TS_FUNC_COUNT_OVER_TIME] = {kernel_count, TS_CONDENSE_ENDS},
    [TS_FUNC_PRESENT_OVER_TIME] = {kernel_present, TS_CONDENSE_ENDS},
    [TS_FUNC_ABSENT_OVER_TIME] = {kernel_present, TS_CONDENSE_ENDS},
    [TS_FUNC_FIRST_OVER_TIME] = {kernel_first, TS_CONDENSE_ENDS},
    [TS_FUNC_LAST_OVER_TIME] = {kernel_last, TS_CONDENSE_ENDS},
    [TS_FUNC_TS_OF_FIRST_OVER_TIME] = {kernel_ts_first, TS_CONDENSE_ENDS},
    [TS_FUNC_TS_OF_LAST_OVER_TIME] = {kernel_ts_last, TS_CONDENSE_ENDS},
    [TS_FUNC_MAX_OVER_TIME] = {kernel_max, TS_CONDENSE_MAX},
    [TS_FUNC_MIN_OVER_TIME] = {kernel_min, TS_CONDENSE_MIN},
    [TS_FUNC_TS_OF_MAX_OVER_TIME] = {kernel_ts_max, TS_CONDENSE_NOT},
    [TS_FUNC_TS_OF_MIN_OVER_TIME] = {kernel_ts_min, TS_CONDENSE_NOT},
    [TS_FUNC_STDVAR_OVER_TIME] = {kernel_stdvar, TS_CONDENSE_NOT},
    [TS_FUNC_STDDEV_OVER_TIME] = {kernel_stddev, TS_CONDENSE_NOT},
    [TS_FUNC_QUANTILE_OVER_TIME] = {kernel_quantile, TS_CONDENSE_NOT},
    [TS_FUNC_MAD_OVER_TIME] = {kernel_mad, TS_CONDENSE_NOT},
    [TS_FUNC_DERIV] = {kernel_deriv, TS_CONDENSE_NOT},
    [TS_FUNC_PREDICT_LINEAR] = {kernel_predict_linear, TS_CONDENSE_NOT},
    [TS_FUNC_DOUBLE_EXPONENTIAL_SMOOTHING] = {kernel_double_exponential, TS_CONDENSE_NOT},
    [TS_FUNC_HOLT_WINTERS] = {kernel_double_exponential, TS_CONDENSE_NOT},
};

ts_range_kernel ts_range_kernel_of(enum ts_func_id id)
{
    return functions[id].kernel;
}

enum ts_condense_kind ts_range_condense_of(enum ts_func_id id)
{
    return functions[id].condense;
}
