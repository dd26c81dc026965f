/*
 * prom_write.c - Prometheus remote_write 1.0.
 *
 *     WriteRequest { 1: TimeSeries*  3: MetricMetadata* }
 *     TimeSeries   { 1: Label { 1: name  2: value }*  2: Sample { 1: double  2: int64 ms }*  3: Exemplar*  4:
 * Histogram* }
 *     Exemplar     { 1: Label*  2: double  3: int64 ms }
 *
 * A series' identity is the bytes of its Label fields, tags included. Senders write labels first and samples
 * behind them, each in one canonical form; that is walked without a general parser (series_fast), everything
 * else with http/pb (series_slow).
 */
#include "http/decode/decoder.h"
#include "http/pb.h"
#include "kvcore/base/mem.h"

#include <stdio.h>

enum {
    TAG_SERIES = 1,
    TAG_METADATA = 3,
    TAG_LABEL = 1,
    TAG_SAMPLE = 2,
    TAG_EXEMPLAR = 3,
    TAG_HISTOGRAM = 4,
    BYTE_LABEL = TAG_LABEL << 3 | HTTP_PB_BYTES,
    BYTE_SAMPLE = TAG_SAMPLE << 3 | HTTP_PB_BYTES,
    BYTE_VALUE = 1 << 3 | HTTP_PB_FIXED64,
    BYTE_TIME = 2 << 3 | HTTP_PB_VARINT,
    SAMPLES_KEPT = 1 << 16, /* room kept warm between bodies */
};

struct prom_write {
    struct http_decoder base;
    int64_t *times;
    double *values;
    size_t n, capacity;
    struct kv_buf labels; /* of a series whose labels do not stand together */
    struct ts_exemplar
        *exemplars; /* of the series; their labels stand in exemplar_labels, one's after the other's */
    struct ts_label *exemplar_labels;
    size_t n_exemplars, exemplars_capacity, n_exemplar_labels, exemplar_labels_capacity;

    /* of the body being read */
    const uint8_t *body;
    struct http_decode_sink *sink;
    struct http_decode_report *report;
    struct kv_err *err;
    uint32_t position;
};

static kv_status malformed(struct prom_write *d, const uint8_t *at, const char *why)
{
    return kv_fail(d->err, KV_INVALID, 0, "not a remote_write 1.0 request: time series %u, byte %zu: %s",
                   d->position, (size_t)(at - d->body), why);
}

static kv_status samples_reserve(struct prom_write *d)
{
    size_t capacity = d->capacity ? d->capacity * 2 : 64;
    int64_t *times = kv_realloc(d->times, capacity * sizeof *times);
    if (times)
        d->times = times;
    double *values = times ? kv_realloc(d->values, capacity * sizeof *values) : NULL;
    if (!values)
        return kv_fail(d->err, KV_NO_MEMORY, 0, "out of memory decoding a series of %zu samples", d->n);
    d->values = values;
    d->capacity = capacity;
    return KV_OK;
}

static kv_status sample_slow(struct prom_write *d, kv_slice message)
{
    struct http_pb pb;
    struct http_pb_field f;
    double value = 0;
    int64_t time = 0;
    kv_status rc;
    http_pb_init(&pb, message);
    while ((rc = http_pb_next(&pb, &f)) == KV_OK) {
        if (f.number == 1 && f.type == HTTP_PB_FIXED64)
            memcpy(&value, &f.value, sizeof value);
        else if (f.number == 2 && f.type == HTTP_PB_VARINT)
            time = (int64_t)f.value;
        else if (f.number <= 2)
            return malformed(d, pb.at, "wrong wire type in a sample");
    }
    if (rc < 0)
        return malformed(d, pb.at, pb.why);
    if (d->n == d->capacity && (rc = samples_reserve(d)) < 0)
        return rc;
    d->times[d->n] = time;
    d->values[d->n++] = value;
    return KV_OK;
}

static kv_status label_parse(kv_slice message, struct ts_label *out)
{
    struct http_pb label;
    struct http_pb_field part;
    kv_status rc;
    *out = (struct ts_label){0};
    http_pb_init(&label, message);
    while ((rc = http_pb_next(&label, &part)) == KV_OK) {
        if (part.number <= 2 && part.type != HTTP_PB_BYTES)
            return KV_INVALID;
        if (part.number == 1)
            out->name = part.bytes;
        else if (part.number == 2)
            out->value = part.bytes;
    }
    return rc < 0 ? rc : KV_OK;
}

static kv_status exemplar_label(struct prom_write *d, struct ts_exemplar *e, kv_slice message)
{
    struct ts_label *labels =
        kv_grow(d->exemplar_labels, &d->exemplar_labels_capacity, d->n_exemplar_labels + 1, sizeof *labels);
    if (!labels)
        return kv_fail(d->err, KV_NO_MEMORY, 0, "out of memory decoding an exemplar");
    d->exemplar_labels = labels;
    kv_status rc = label_parse(message, &labels[d->n_exemplar_labels]);
    if (rc < 0)
        return malformed(d, message.data, "bad label in an exemplar");
    d->n_exemplar_labels++;
    e->n_labels++;
    return KV_OK;
}

static kv_status exemplar_decode(struct prom_write *d, kv_slice message)
{
    struct http_pb pb;
    struct http_pb_field f;
    struct ts_exemplar e = {0};
    kv_status rc;
    http_pb_init(&pb, message);
    while ((rc = http_pb_next(&pb, &f)) == KV_OK) {
        if (f.number == 1 && f.type == HTTP_PB_BYTES)
            rc = exemplar_label(d, &e, f.bytes);
        else if (f.number == 2 && f.type == HTTP_PB_FIXED64)
            memcpy(&e.value, &f.value, sizeof e.value);
        else if (f.number == 3 && f.type == HTTP_PB_VARINT)
            e.time_ms = (int64_t)f.value;
        else if (f.number <= 3)
            return malformed(d, pb.at, "wrong wire type in an exemplar");
        if (rc < 0)
            return rc;
    }
    if (rc < 0)
        return malformed(d, pb.at, pb.why);
    struct ts_exemplar *at = kv_grow(d->exemplars, &d->exemplars_capacity, d->n_exemplars + 1, sizeof *at);
    if (!at)
        return kv_fail(d->err, KV_NO_MEMORY, 0, "out of memory decoding an exemplar");
    d->exemplars = at;
    d->exemplars[d->n_exemplars++] = e;
    d->report->exemplars++;
    return KV_OK;
}

/* The labels have their final place. */
static void exemplars_finish(struct prom_write *d)
{
    const struct ts_label *labels = d->exemplar_labels;
    for (size_t i = 0; i < d->n_exemplars; i++) {
        d->exemplars[i].labels = labels;
        labels += d->exemplars[i].n_labels;
    }
}

/* The label callback of ts_row: only for series that are not known yet. */
static kv_status labels_parse(void *ctx, const struct ts_row *row, struct ts_label_sink *sink)
{
    (void)ctx;
    struct http_pb pb;
    struct http_pb_field f;
    struct ts_label label;
    kv_status rc;
    http_pb_init(&pb, row->identity[row->identity[1].len > 0 ? 1 : 0]);
    while ((rc = http_pb_next(&pb, &f)) == KV_OK) {
        if ((rc = label_parse(f.bytes, &label)) < 0 || (rc = sink->add(sink, label.name, label.value)) < 0)
            return rc;
    }
    return rc < 0 ? rc : KV_OK;
}

/* gathered: the labels lie in a buffer that the next series uses too. A first piece at the same address is not hashed
 * again (tsdb/ts.h), so they go into the second. */
static kv_status series_emit(struct prom_write *d, kv_slice identity, bool gathered)
{
    if (d->n == 0 && d->n_exemplars == 0)
        return KV_OK;
    exemplars_finish(d);
    struct ts_row row = {
        .protocol = TS_PROTOCOL_PROM_WRITE,
        .position = d->position,
        .identity = {gathered ? KV_STR("labels") : identity, gathered ? identity : (kv_slice){0}},
        .labels = labels_parse,
        .labels_ctx = d,
        .times_ms = d->times,
        .values = d->values,
        .n = d->n,
        .exemplars = d->exemplars,
        .n_exemplars = d->n_exemplars,
    };
    d->report->rows++;
    d->report->samples += d->n;
    return d->sink->row(d->sink, &row);
}

static void histograms_reject(struct prom_write *d, uint64_t n)
{
    char text[96];
    snprintf(text, sizeof text, "time series %u: native histograms are not stored yet", d->position);
    d->report->histograms += n;
    d->report->rejected += n;
    d->sink->reject(d->sink, d->position, TS_REJECT_UNSUPPORTED, n, text);
}

/* Any order, any form. */
static kv_status series_slow(struct prom_write *d, kv_slice message)
{
    struct http_pb pb;
    struct http_pb_field f;
    uint64_t histograms = 0;
    kv_status rc;
    d->n = 0;
    kv_buf_clear(&d->labels);
    http_pb_init(&pb, message);
    for (const uint8_t *start = pb.at; (rc = http_pb_next(&pb, &f)) == KV_OK; start = pb.at) {
        if (f.number <= TAG_HISTOGRAM && f.type != HTTP_PB_BYTES)
            return malformed(d, start, "wrong wire type in a time series");
        if (f.number == TAG_LABEL)
            rc = kv_buf_append(&d->labels, kv_slice_of(start, (size_t)(pb.at - start)));
        else if (f.number == TAG_SAMPLE)
            rc = sample_slow(d, f.bytes);
        else if (f.number == TAG_EXEMPLAR)
            rc = exemplar_decode(d, f.bytes);
        else if (f.number == TAG_HISTOGRAM)
            histograms++;
        if (rc < 0)
            return rc;
    }
    if (rc < 0)
        return malformed(d, pb.at, pb.why);
    rc = series_emit(d, kv_buf_slice(&d->labels), true);
    if (histograms && rc == KV_OK)
        histograms_reject(d, histograms);
    return rc;
}

/* A time as senders write it: up to 6 bytes for our century, 10 for negative ones. Returns behind it, NULL
 * when it is not whole. */
static inline const uint8_t *time_fast(const uint8_t *p, const uint8_t *end, int64_t *time)
{
    uint64_t v = 0;
    for (unsigned shift = 0; p < end && shift < 63; shift += 7) {
        v |= (uint64_t)(*p & 0x7f) << shift;
        if (*p++ < 0x80) {
            *time = (int64_t)v;
            return p;
        }
    }
    return NULL;
}

/* Label fields with lengths below 128, then samples with both fields in order. False: something else is
 * there, nothing was emitted. */
static bool series_fast(struct prom_write *d, kv_slice message, kv_slice *identity)
{
    const uint8_t *p = message.data, *end = message.data + message.len;
    while (end - p >= 2 && p[0] == BYTE_LABEL && p[1] < 0x80 && p[1] <= end - p - 2)
        p += 2 + p[1];
    *identity = kv_slice_of(message.data, (size_t)(p - message.data));
    size_t n = 0;
    while (end - p >= 13 && p[0] == BYTE_SAMPLE && p[1] >= 11 && p[1] < 0x80 && p[1] <= end - p - 2) {
        const uint8_t *sample_end = p + 2 + p[1];
        if (p[2] != BYTE_VALUE || p[11] != BYTE_TIME)
            return false;
        if (n == d->capacity && samples_reserve(d) < 0)
            return false; /* series_slow meets and reports it */
        memcpy(&d->values[n], p + 3, 8);
        if (time_fast(p + 12, sample_end, &d->times[n]) != sample_end)
            return false;
        n++;
        p = sample_end;
    }
    d->n = n;
    return p == end;
}

static kv_status series_decode(struct prom_write *d, kv_slice message)
{
    kv_slice identity;
    d->position++;
    d->n_exemplars = d->n_exemplar_labels = 0;
    if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && series_fast(d, message, &identity))
        return series_emit(d, identity, false);
    return series_slow(d, message);
}

static kv_status metadata_decode(struct prom_write *d, kv_slice message)
{
    static const char *const types[] = {"unknown",        "counter", "gauge", "histogram",
                                        "gaugehistogram", "summary", "info",  "stateset"};
    struct http_pb pb;
    struct http_pb_field f;
    uint64_t type = 0;
    kv_slice family = {0}, help = {0}, unit = {0};
    kv_status rc;
    http_pb_init(&pb, message);
    while ((rc = http_pb_next(&pb, &f)) == KV_OK) {
        bool bytes = f.number == 2 || f.number == 4 || f.number == 5;
        if ((bytes && f.type != HTTP_PB_BYTES) || (f.number == 1 && f.type != HTTP_PB_VARINT))
            return malformed(d, pb.at, "wrong wire type in metadata");
        if (f.number == 1)
            type = f.value;
        else if (f.number == 2)
            family = f.bytes;
        else if (f.number == 4)
            help = f.bytes;
        else if (f.number == 5)
            unit = f.bytes;
    }
    if (rc < 0)
        return malformed(d, pb.at, pb.why);
    d->report->metadata++;
    if (!d->sink->metadata || !family.len)
        return KV_OK;
    const char *name = types[type < sizeof types / sizeof *types ? type : 0];
    return d->sink->metadata(d->sink, family, kv_slice_str(name), help, unit);
}

static kv_status request_decode(struct prom_write *d, kv_slice body)
{
    struct http_pb pb;
    struct http_pb_field f;
    kv_status rc;
    http_pb_init(&pb, body);
    while ((rc = http_pb_next(&pb, &f)) == KV_OK) {
        if ((f.number == TAG_SERIES || f.number == TAG_METADATA) && f.type != HTTP_PB_BYTES)
            return malformed(d, pb.at, "wrong wire type in a write request");
        /* Field 4 is where remote_write 2.0 keeps its symbols, 5 its series. */
        if (f.number == 4 || f.number == 5)
            return malformed(d, pb.at, "this is a remote_write 2.0 request");
        if (f.number == TAG_SERIES)
            rc = series_decode(d, f.bytes);
        else if (f.number == TAG_METADATA)
            rc = metadata_decode(d, f.bytes);
        if (rc < 0)
            return rc;
    }
    return rc < 0 ? malformed(d, pb.at, pb.why) : KV_OK;
}

static kv_status prom_write_decode(struct http_decoder *decoder, kv_slice body,
                                   const struct http_decode_options *options, struct http_decode_sink *sink,
                                   struct http_decode_report *report, struct kv_err *err)
{
    (void)options;
    struct prom_write *d = (struct prom_write *)decoder;
    *report = (struct http_decode_report){0};
    d->body = body.data;
    d->sink = sink;
    d->report = report;
    d->err = err;
    d->position = 0;
    kv_status rc = request_decode(d, body);
    if (d->capacity > SAMPLES_KEPT) {
        kv_free(d->times);
        kv_free(d->values);
        d->times = NULL;
        d->values = NULL;
        d->capacity = 0;
    }
    if (d->exemplars_capacity > SAMPLES_KEPT || d->exemplar_labels_capacity > SAMPLES_KEPT) {
        kv_free(d->exemplars);
        kv_free(d->exemplar_labels);
        d->exemplars = NULL;
        d->exemplar_labels = NULL;
        d->exemplars_capacity = d->exemplar_labels_capacity = 0;
    }
    return rc;
}

static void prom_write_free(struct http_decoder *decoder)
{
    struct prom_write *d = (struct prom_write *)decoder;
    kv_free(d->times);
    kv_free(d->values);
    kv_buf_release(&d->labels);
    kv_free(d->exemplars);
    kv_free(d->exemplar_labels);
    kv_free(d);
}

kv_status http_prom_write_new(struct http_decoder **out)
{
    static const struct http_decoder_ops ops = {"prom_write", prom_write_decode, prom_write_free};
    struct prom_write *d = kv_zalloc(1, sizeof *d);
    if (!d)
        return KV_NO_MEMORY;
    d->base.ops = &ops;
    *out = &d->base;
    return KV_OK;
}
