#include "tests/model/samples/naive.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- series */

static const char *texts(const char *format, uint32_t n)
{
    static char kept[64][8];
    static unsigned at;
    char *text = kept[at++ % 64];
    snprintf(text, sizeof kept[0], format, n);
    return text;
}

size_t naive_labels(uint32_t series, struct ts_label out[NAIVE_LABELS_MAX])
{
    size_t n = 0;
    out[n++] = (struct ts_label){KV_STR("__name__"), kv_slice_str(texts("m%u", series % NAIVE_METRICS))};
    out[n++] = (struct ts_label){KV_STR("i"), kv_slice_str(texts("%u", series))};
    out[n++] = (struct ts_label){KV_STR("parity"), series % 2 ? KV_STR("odd") : KV_STR("even")};
    if (series % 3 == 0)
        out[n++] = (struct ts_label){KV_STR("zone"), kv_slice_str(texts("z%u", series % 4))};
    return n;
}

static bool selected(uint32_t which, uint32_t series, uint32_t s)
{
    switch (which) {
    case 0:
        return s == series;
    case 1:
        return s % NAIVE_METRICS == series % NAIVE_METRICS;
    case 2:
        return s % 2 == series % 2;
    case 3:
        return s % NAIVE_METRICS <= 1 && s != series;
    case 4:
        return s == series || s / 10 == 1;
    case 5:
        return true;
    case 6:
        return s % 3 == 0 && s % 4 != series % 4;
    default:
        return s % 3 != 0 && s % NAIVE_METRICS == series % NAIVE_METRICS;
    }
}

uint64_t naive_select(uint32_t which, uint32_t series, kv_slice *text)
{
    static char out[128];
    static const char *const forms[NAIVE_SELECTORS] = {
        "{i=\"%u\"}",
        "m%u",
        "{parity=\"%s\"}",
        "{__name__=~\"m[01]\",i!=\"%u\"}",
        "{i=~\"%u|1.\"}",
        "{__name__=~\".+\"}",
        "{zone!=\"\",zone!=\"z%u\"}",
        "m%u{zone=\"\"}",
    };
    static const uint32_t divided[NAIVE_SELECTORS] = {0, NAIVE_METRICS, 0, 0, 0, 0, 4, NAIVE_METRICS};
    uint64_t bits = 0;
    which %= NAIVE_SELECTORS;
    series %= NAIVE_SERIES;
    for (uint32_t s = 0; s < NAIVE_SERIES; s++)
        bits |= (uint64_t)selected(which, series, s) << s;
    uint32_t number = divided[which] ? series % divided[which] : series;
    if (which == 2)
        snprintf(out, sizeof out, "{parity=\"%s\"}", series % 2 ? "odd" : "even");
    else
        snprintf(out, sizeof out, forms[which], number);
    *text = kv_slice_str(out);
    return bits;
}

/* ---- samples */

size_t naive_find(const struct naive_series *series, int64_t time_ms)
{
    size_t low = 0, high = series->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (series->samples[mid].time_ms < time_ms)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void put(struct naive_series *series, const struct naive_sample *sample)
{
    size_t at = naive_find(series, sample->time_ms);
    series->known = true;
    if (at == series->n || series->samples[at].time_ms != sample->time_ms) {
        struct naive_sample *more =
            kv_grow(series->samples, &series->capacity, series->n + 1, sizeof *series->samples);
        KV_ASSERT(more != NULL);
        series->samples = more;
        memmove(more + at + 1, more + at, (series->n - at) * sizeof *more);
        series->n++;
    }
    series->samples[at] = *sample;
}

static void cut(struct naive_series *series, int64_t from_ms, int64_t to_ms)
{
    size_t from = naive_find(series, from_ms), to = from;
    while (to < series->n && series->samples[to].time_ms <= to_ms)
        to++;
    if (to == from)
        return;
    memmove(series->samples + from, series->samples + to, (series->n - to) * sizeof *series->samples);
    series->n -= to - from;
}

static void apply(struct naive *naive, const struct naive_event *event)
{
    for (uint32_t s = 0; s < NAIVE_SERIES; s++) {
        struct naive_series *series = &naive->series[s];
        if (event->kind == NAIVE_PUT && event->series == s)
            for (size_t i = 0; i < event->n; i++)
                put(series, &event->samples[i]);
        if (event->kind == NAIVE_DELETE && event->series >> s & 1)
            cut(series, event->from_ms, event->to_ms);
        if (event->kind == NAIVE_FLOOR && event->series >> s & 1)
            for (size_t i = 0; i < series->n && series->samples[i].time_ms < event->to_ms; i++)
                series->samples[i].maybe = true;
    }
}

void naive_add(struct naive *naive, const struct naive_event *event)
{
    apply(naive, event);
    for (size_t i = naive->n; event->kind == NAIVE_FLOOR && i > 0 && naive->events[i - 1].kind == NAIVE_FLOOR;
         i--)
        if (naive->events[i - 1].series == event->series) { /* nothing happened in between */
            if (naive->events[i - 1].to_ms < event->to_ms)
                naive->events[i - 1].to_ms = event->to_ms;
            return;
        }
    struct naive_event *more = kv_grow(naive->events, &naive->capacity, naive->n + 1, sizeof *more);
    KV_ASSERT(more != NULL);
    naive->events = more;
    naive->events[naive->n++] = *event;
}

void naive_roll_back(struct naive *naive, uint64_t version)
{
    size_t kept = 0;
    bool changed = false;
    for (size_t i = 0; i < naive->n; i++) {
        struct naive_event *event = &naive->events[i];
        if (event->kind == NAIVE_FLOOR || event->version <= version) {
            naive->events[kept++] = *event;
        } else {
            kv_free(event->samples);
            changed = true;
        }
    }
    naive->n = kept;
    if (!changed)
        return;
    for (uint32_t s = 0; s < NAIVE_SERIES; s++) {
        naive->series[s].n = 0;
        naive->series[s].known = false;
    }
    for (size_t i = 0; i < naive->n; i++)
        apply(naive, &naive->events[i]);
}

bool naive_ever(const struct naive *naive, uint32_t series, int64_t from_ms, int64_t to_ms)
{
    for (size_t i = 0; i < naive->n; i++) {
        const struct naive_event *event = &naive->events[i];
        for (size_t j = 0; event->kind == NAIVE_PUT && event->series == series && j < event->n; j++)
            if (event->samples[j].time_ms >= from_ms && event->samples[j].time_ms <= to_ms)
                return true;
    }
    return false;
}

bool naive_has(const struct naive *naive, int64_t from_ms, int64_t to_ms)
{
    for (uint32_t s = 0; s < NAIVE_SERIES; s++) {
        const struct naive_series *series = &naive->series[s];
        for (size_t i = naive_find(series, from_ms); i < series->n && series->samples[i].time_ms <= to_ms;
             i++)
            if (!series->samples[i].maybe)
                return true;
    }
    return false;
}

size_t naive_known(const struct naive *naive)
{
    size_t n = 0;
    for (uint32_t s = 0; s < NAIVE_SERIES; s++)
        n += naive->series[s].known;
    return n;
}

void naive_release(struct naive *naive)
{
    for (size_t i = 0; i < naive->n; i++)
        kv_free(naive->events[i].samples);
    for (uint32_t s = 0; s < NAIVE_SERIES; s++)
        kv_free(naive->series[s].samples);
    kv_free(naive->events);
    *naive = (struct naive){0};
}
