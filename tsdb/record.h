/*
 * record.h - the application record of a commit: the samples of a request, or a delete. Bytes:
 * tsdb/docs/journal.md.
 *
 * A samples record is   kind  section (tsdb/series.h)  body   and a delete record   kind  from  to  refs.
 * The body is written as rows arrive, so nothing is sorted or copied; refs that only the commit lock hands
 * out stand in a table at its end and are filled in there.
 *
 * Threads    pure functions; any thread.
 * Failure    readers: KV_CORRUPT for anything a writer here could not have written (bytes come from disk).
 */
#ifndef TS_RECORD_H
#define TS_RECORD_H

#include "kvcore/base/buf.h"
#include "tsdb/sample.h"

enum { TS_RECORD_SAMPLES = 1, TS_RECORD_DELETE = 2 };
enum { TS_RECORD_BODY_HEADER_LEN = 12 }; /* series, samples, new: u32 each */

/* ---- writing a body ---------------------------------------------------------------------------------- */

/* {0} plus an empty buffer starts one. */
struct ts_record_writer {
    uint32_t series, samples;
    uint64_t ref;     /* of the series before, new ones left out */
    int64_t first_ms; /* of the series before */
};
/* Appends one series: either a ref, or (is_new) a place in the table of new refs. n >= 1; only those of
 * times_ms and values with take[i] set go in (take NULL: all), n_taken of them. */
KV_MUST kv_status ts_record_put(struct ts_record_writer *writer, struct kv_buf *out, uint64_t ref,
                                bool is_new, const int64_t *times_ms, const double *values, size_t n,
                                const bool *take, size_t n_taken);
/* Where the body began: fills in its header. */
void ts_record_finish(const struct ts_record_writer *writer, uint8_t header[TS_RECORD_BODY_HEADER_LEN],
                      uint32_t n_new);

/* ---- reading a body ---------------------------------------------------------------------------------- */

struct ts_record_reader {
    const uint8_t *at, *end; /* end: of the series, where the table of new refs begins */
    const uint8_t *refs;
    uint32_t series, samples, n_new; /* series and samples still to come */
    uint64_t ref;
    int64_t first_ms;
    struct ts_sample_state state;
    uint32_t left; /* samples of the current series */
    bool first;    /* none of them read yet */
};
KV_MUST kv_status ts_record_open(kv_slice body, struct ts_record_reader *out);
/* The next series and how many samples it has; all of the one before must have been read. KV_END after the
 * last. */
KV_MUST kv_status ts_record_series(struct ts_record_reader *reader, uint64_t *ref, uint32_t *n);
/* The next sample of the series, into reader->state. */
static inline KV_MUST kv_status ts_record_sample(struct ts_record_reader *reader)
{
    if (reader->left == 0 || !(reader->at = ts_sample_take(&reader->state, reader->at, reader->end)))
        return KV_CORRUPT;
    reader->left--;
    if (reader->first)
        reader->first_ms = reader->state.time_ms; /* what the next series' first sample is written against */
    reader->first = false;
    return KV_OK;
}

/* ---- deletes ----------------------------------------------------------------------------------------- */

/* Appends kind and all. refs are sorted, each once. */
KV_MUST kv_status ts_record_put_delete(struct kv_buf *out, const uint64_t *refs, size_t n, int64_t from_ms,
                                       int64_t to_ms);
struct ts_record_delete {
    int64_t from_ms, to_ms; /* both inclusive */
    uint64_t left;          /* refs still to come */
    uint64_t ref;
    kv_slice in;
};
/* record: behind the kind. */
KV_MUST kv_status ts_record_open_delete(kv_slice record, struct ts_record_delete *out);
/* Refs in order. KV_END after the last. */
KV_MUST kv_status ts_record_deleted(struct ts_record_delete *reader, uint64_t *ref);

#endif
