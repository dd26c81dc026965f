/*
 * decoder.h - SEAM: an ingest protocol. Bytes in, rows out to a sink; no sockets, no storage, no clock.
 *
 * Implementations: prom_write, influx, json_lines, prom_text. tests/http/decoder_suite.c runs the same tests on each.
 * Threads    a decoder belongs to one thread at a time; its buffers stay warm between bodies.
 * Ownership  rows, and everything they point at, are borrowed for the call of sink->row; ctx of ts_row.labels
 *            too.
 * Failure    KV_OK: the body was read to its end; faults of single lines or series went to sink->reject.
 *            KV_INVALID: the body as a whole is not of this protocol (err: where and why); the caller must
 *            store nothing of it. KV_LIMIT: a bound of the protocol. Any other negative status came from the
 *            sink and is passed on.
 */
#ifndef HTTP_DECODER_H
#define HTTP_DECODER_H

#include "tsdb/ts.h"

/* Embedded first in what the caller fills. */
struct http_decode_sink {
    /* A negative answer stops the decoder. */
    kv_status (*row)(struct http_decode_sink *sink, const struct ts_row *row);
    /* What the decoder refuses by itself. text: NUL-terminated, with its place; borrowed. */
    void (*reject)(struct http_decode_sink *sink, uint32_t position, enum ts_reject_reason reason,
                   uint64_t samples, const char *text);
    /* Type, help and unit of a metric family, where a protocol carries them. NULL: dropped. */
    kv_status (*metadata)(struct http_decode_sink *sink, kv_slice family, kv_slice type, kv_slice help,
                          kv_slice unit);
};

struct http_decode_options {
    int64_t now_ms; /* the time of samples that carry none */
    int64_t
        unit_ns; /* of timestamps, where the protocol lets the sender choose: 1, 1000, 1000000, ... 0: 1. Prometheus text: seconds for
                    OpenMetrics, else milliseconds */
};

struct http_decode_report {
    uint64_t rows, samples;   /* handed to the sink */
    uint64_t rejected;        /* lines or samples handed to sink->reject */
    uint64_t strings_skipped; /* line protocol: string fields */
    uint64_t histograms, exemplars,
        metadata; /* remote_write: histograms (each also rejected), exemplars, families seen */
};

struct http_decoder;
struct http_decoder_ops {
    const char *name; /* metric label: "prom_write", "influx" */
    kv_status (*decode)(struct http_decoder *decoder, kv_slice body,
                        const struct http_decode_options *options, struct http_decode_sink *sink,
                        struct http_decode_report *report, struct kv_err *err);
    void (*free)(struct http_decoder *decoder);
};
struct http_decoder {
    const struct http_decoder_ops *ops;
};

/* Prometheus remote_write 1.0: an inflated prometheus.WriteRequest. Position: the time series, from 1. */
KV_MUST kv_status http_prom_write_new(struct http_decoder **out);
/* InfluxDB line protocol. Position: the line, from 1. */
KV_MUST kv_status http_influx_new(struct http_decoder **out);

/* Lines of JSON as VictoriaMetrics exports them. Position: the line, from 1. */
KV_MUST kv_status http_json_lines_new(struct http_decoder **out);
/* The text format of Prometheus, or (unit_ns a second) OpenMetrics. Position: the line, from 1. */
KV_MUST kv_status http_prom_text_new(struct http_decoder **out);

/* *report is set, whatever is answered. */
static inline KV_MUST kv_status http_decode(struct http_decoder *decoder, kv_slice body,
                                            const struct http_decode_options *options,
                                            struct http_decode_sink *sink, struct http_decode_report *report,
                                            struct kv_err *err)
{
    return decoder->ops->decode(decoder, body, options, sink, report, err);
}
static inline void http_decoder_free(struct http_decoder *decoder)
{
    if (decoder)
        decoder->ops->free(decoder);
}

#endif
