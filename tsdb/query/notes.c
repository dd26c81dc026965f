/* notes.c - annotations: kept once each, printed at the end. */
#include "tsdb/query/notes.h"

#include "kvcore/base/mem.h"
#include "tsdb/promql/parse.h"
#include "tsdb/promql/print.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void ts_notes_release(struct ts_notes *notes)
{
    for (size_t i = 0; i < notes->n; i++)
        kv_free(notes->items[i].text);
    notes->n = 0;
}

/* The note of that text, made when missing; NULL when there is no room. Takes text's memory. */
static struct ts_note *notes_find(struct ts_notes *notes, enum ts_note_kind kind, const char *text)
{
    for (size_t i = 0; i < notes->n; i++)
        if (strcmp(notes->items[i].text, text) == 0)
            return &notes->items[i];
    if (notes->n == TS_NOTES_MAX) {
        notes->omitted++;
        return NULL;
    }
    char *copy = kv_dup_str(text);
    if (!copy) {
        notes->failed = true;
        return NULL;
    }
    notes->items[notes->n] = (struct ts_note){.kind = kind, .text = copy};
    return &notes->items[notes->n++];
}

void ts_notes_add(struct ts_notes *notes, enum ts_note_kind kind, uint32_t at, const char *format, ...)
{
    struct kv_buf text = {.max = 8192};
    va_list args;
    kv_status rc = kv_buf_printf(&text, "PromQL %s: ", kind == TS_NOTE_INFO ? "info" : "warning");
    va_start(args, format);
    if (rc == KV_OK)
        rc = kv_buf_vprintf(&text, format, args);
    va_end(args);
    if (rc == KV_OK)
        rc = kv_buf_append_byte(&text, 0);
    if (rc == KV_OK) {
        struct ts_note *note = notes_find(notes, kind, (const char *)text.data);
        if (note)
            note->at = at;
    } else if (rc == KV_NO_MEMORY) {
        notes->failed = true;
    }
    kv_buf_release(&text);
}

void ts_notes_add_name(struct ts_notes *notes, enum ts_note_kind kind, uint32_t at, const char *text,
                       kv_slice name)
{
    struct kv_buf quoted = {.max = 8192};
    kv_status rc = ts_print_quoted(name, &quoted);
    if (rc == KV_OK)
        ts_notes_add(notes, kind, at, "%s %.*s", text, KV_ARG(kv_buf_slice(&quoted)));
    else if (rc == KV_NO_MEMORY)
        notes->failed = true;
    kv_buf_release(&quoted);
}

static void forced_fold(struct ts_note *note, int64_t time_ms, double bucket_min, double bucket_max,
                        double diff_max)
{
    bool first = note->count == 0;
    note->count++;
    if (first || time_ms < note->time_min_ms)
        note->time_min_ms = time_ms;
    if (first || time_ms > note->time_max_ms)
        note->time_max_ms = time_ms;
    if (first || bucket_min < note->bucket_min)
        note->bucket_min = bucket_min;
    if (first || bucket_max > note->bucket_max)
        note->bucket_max = bucket_max;
    if (first || diff_max > note->diff_max)
        note->diff_max = diff_max;
}

void ts_notes_add_forced(struct ts_notes *notes, uint32_t at, kv_slice name, int64_t time_ms,
                         double bucket_min, double bucket_max, double diff_max)
{
    static const char text[] =
        "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see "
        "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
    struct kv_buf buf = {.max = 8192};
    kv_status rc = kv_buf_append(&buf, kv_slice_str(text));
    if (rc == KV_OK && name.len) {
        rc = kv_buf_append(&buf, KV_STR(" for metric name "));
        if (rc == KV_OK)
            rc = ts_print_quoted(name, &buf);
    }
    if (rc == KV_OK)
        rc = kv_buf_append_byte(&buf, 0);
    struct ts_note *note = rc == KV_OK ? notes_find(notes, TS_NOTE_INFO, (const char *)buf.data) : NULL;
    if (note) {
        note->forced = true;
        note->at = at;
        forced_fold(note, time_ms, bucket_min, bucket_max, diff_max);
    } else if (rc == KV_NO_MEMORY) {
        notes->failed = true;
    }
    kv_buf_release(&buf);
}

static void format_rfc3339(int64_t time_ms, char out[40])
{
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm) || strftime(out, 40, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        (void)snprintf(out, 40, "%" PRId64 "ms", time_ms);
}

kv_status ts_note_print(const struct ts_note *note, kv_slice query, struct kv_buf *out)
{
    uint32_t line, column;
    kv_status rc;
    KV_TRY(kv_buf_append(out, kv_slice_str(note->text)));
    if (note->forced) {
        char from[40], to[40], low[32], high[32];
        format_rfc3339(note->time_min_ms, from);
        format_rfc3339(note->time_max_ms, to);
        KV_TRY(kv_buf_printf(
            out, ", from buckets %s to %s, with a max diff of %.2g, over %" PRIu64 " samples from %s to %s",
            ts_go_g(note->bucket_min, low), ts_go_g(note->bucket_max, high), note->diff_max, note->count,
            from, to));
    }
    ts_position(query, note->at, &line, &column);
    KV_TRY(kv_buf_printf(out, " (%u:%u)", line, column));
out:
    return rc;
}

const char *ts_go_g(double value, char out[32])
{
    int precision = 1;
    if (isnan(value) || isinf(value)) {
        (void)snprintf(out, 32, "%s", isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");
        return out;
    }
    do
        (void)snprintf(out, 32, "%.*e", precision - 1, value);
    while (strtod(out, NULL) != value && precision++ < 17);
    int exponent = (int)strtol(strchr(out, 'e') + 1, NULL, 10);
    if (exponent >= -4 && exponent < 6)
        (void)snprintf(out, 32, "%.*f", precision - 1 > exponent ? precision - 1 - exponent : 0, value);
    return out;
}
