/*
 * notes.h - annotations of a query: warnings and infos in Prometheus's words, each once.
 *
 * Texts are compared without their position; the newest position wins, as there.
 * Threads    one query, one thread.
 * Ownership  copies everything.
 * Bounds     TS_NOTES_MAX; the rest is counted.
 */
#ifndef TS_NOTES_H
#define TS_NOTES_H

#include "kvcore/base/buf.h"

enum { TS_NOTES_MAX = 64 };
enum ts_note_kind { TS_NOTE_WARNING = 1, TS_NOTE_INFO };

struct ts_note {
    enum ts_note_kind kind;
    char *text;  /* "PromQL warning: ..." without position */
    uint32_t at; /* byte of the query text */
    /* histogram_quantile's forced monotonicity alone: what was forced, over which steps */
    bool forced;
    double bucket_min, bucket_max, diff_max;
    int64_t time_min_ms, time_max_ms;
    uint64_t count;
};
struct ts_notes {
    struct ts_note items[TS_NOTES_MAX];
    size_t n;
    uint64_t omitted;
    bool failed; /* an allocation failed: reported at the end */
};

void ts_notes_release(struct ts_notes *notes);
void ts_notes_add(struct ts_notes *notes, enum ts_note_kind kind, uint32_t at, const char *format, ...)
    KV_PRINTF(4, 5);
/* text, a blank and the quoted name. */
void ts_notes_add_name(struct ts_notes *notes, enum ts_note_kind kind, uint32_t at, const char *text,
                       kv_slice name);
/* The info of histogram_quantile whose buckets were not monotonic; name may be empty. */
void ts_notes_add_forced(struct ts_notes *notes, uint32_t at, kv_slice name, int64_t time_ms,
                         double bucket_min, double bucket_max, double diff_max);
/* One note as the API shows it, with "(line:column)". */
KV_MUST kv_status ts_note_print(const struct ts_note *note, kv_slice query, struct kv_buf *out);
/* Go's %g of a double, the shortest that reads back: "0.5", "1e+06", "NaN", "+Inf". out: at least 32 bytes.
 * Returns out. */
const char *ts_go_g(double value, char out[32]);

#endif
