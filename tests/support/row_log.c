#include "tests/support/row_log.h"
#include "http/text.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/base/number.h"

#include <inttypes.h>
#include <stdlib.h>

enum { LABELS_MAX = 2000 };

struct label_log {
    struct ts_label_sink sink;
    struct kv_arena arena;
    struct ts_label labels[LABELS_MAX];
    size_t n;
};

static void put(kv_status rc)
{
    KV_ASSERT(rc == KV_OK);
}

static kv_status label_add(struct ts_label_sink *sink, kv_slice name, kv_slice value)
{
    struct label_log *log = (struct label_log *)sink;
    if (log->n == LABELS_MAX)
        return KV_LIMIT;
    log->labels[log->n++] =
        (struct ts_label){kv_arena_copy(&log->arena, name), kv_arena_copy(&log->arena, value)};
    return KV_OK;
}

static int by_name(const void *a, const void *b)
{
    const struct ts_label *x = a, *y = b;
    bool x_is_metric = kv_slice_equal(x->name, KV_STR("__name__")),
         y_is_metric = kv_slice_equal(y->name, KV_STR("__name__"));
    return x_is_metric != y_is_metric ? (x_is_metric ? -1 : 1) : kv_slice_compare(x->name, y->name);
}

/* Refuses what a store refuses: names twice, bytes that are not UTF-8. */
static bool labels_print(struct label_log *log, struct kv_buf *out)
{
    qsort(log->labels, log->n, sizeof *log->labels, by_name);
    for (size_t i = 0; i < log->n; i++) {
        struct ts_label *label = &log->labels[i];
        if (!http_utf8_valid(label->name) || !http_utf8_valid(label->value))
            return false;
        if (i && kv_slice_equal(label->name, label[-1].name))
            return false;
        put(kv_buf_printf(out, "%s%.*s=\"%.*s\"", i ? "," : "", KV_ARG(label->name), KV_ARG(label->value)));
    }
    return true;
}

static void exemplar_print(const struct ts_exemplar *e, struct kv_buf *out)
{
    char value[KV_DOUBLE_LEN_MAX];
    put(kv_buf_printf(out, " #{"));
    for (size_t i = 0; i < e->n_labels; i++)
        put(kv_buf_printf(out, "%s%.*s=\"%.*s\"", i ? "," : "", KV_ARG(e->labels[i].name),
                          KV_ARG(e->labels[i].value)));
    int n = (int)kv_double_format(e->value, value);
    put(kv_buf_printf(out, "}%" PRId64 "@%.*s", e->time_ms, n, value));
}

static kv_status log_row(struct http_decode_sink *sink, const struct ts_row *row)
{
    struct row_log *log = (struct row_log *)sink;
    if (++log->rows == log->fail_at)
        return KV_NO_MEMORY;
    put(kv_buf_printf(&log->text, "%" PRIu32 " {", row->position));
    struct label_log *labels = kv_zalloc(1, sizeof *labels);
    KV_ASSERT(labels);
    labels->sink.add = label_add;
    kv_status rc = row->labels(row->labels_ctx, row, &labels->sink);
    bool good = rc >= 0 && labels_print(labels, &log->text);
    kv_arena_release(&labels->arena);
    kv_free(labels);
    put(kv_buf_printf(&log->text, good ? "}" : "} BAD LABELS"));
    for (size_t i = 0; i < row->n; i++) {
        char value[KV_DOUBLE_LEN_MAX];
        int n = (int)kv_double_format(row->values[i], value);
        put(kv_buf_printf(&log->text, " %" PRId64 "@%.*s", row->times_ms[i], n, value));
    }
    for (size_t i = 0; i < row->n_exemplars; i++)
        exemplar_print(&row->exemplars[i], &log->text);
    put(kv_buf_append_byte(&log->text, '\n'));
    return KV_OK;
}

static void log_reject(struct http_decode_sink *sink, uint32_t position, enum ts_reject_reason reason,
                       uint64_t samples, const char *text)
{
    static const char *const names[] = {
#define X(name, word) word,
        TS_REJECT_LIST(X)
#undef X
    };
    struct row_log *log = (struct row_log *)sink;
    put(kv_buf_printf(&log->text, "reject %" PRIu32 " %s %" PRIu64 " %s\n", position, names[reason], samples,
                      text));
}

static kv_status log_metadata(struct http_decode_sink *sink, kv_slice family, kv_slice type, kv_slice help,
                              kv_slice unit)
{
    struct row_log *log = (struct row_log *)sink;
    put(kv_buf_printf(&log->text, "metadata %.*s %.*s \"%.*s\" \"%.*s\"\n", KV_ARG(family), KV_ARG(type),
                      KV_ARG(help), KV_ARG(unit)));
    return KV_OK;
}

void row_log_init(struct row_log *log)
{
    *log = (struct row_log){.sink = {log_row, log_reject, log_metadata}};
}

void row_log_release(struct row_log *log)
{
    kv_buf_release(&log->text);
}

const char *row_log_decode(struct row_log *log, struct http_decoder *decoder, kv_slice body,
                           const struct http_decode_options *options, kv_status *rc)
{
    static const struct http_decode_options none = {.now_ms = 1000};
    kv_buf_clear(&log->text);
    log->rows = 0;
    log->err = (struct kv_err){0};
    kv_status answer =
        http_decode(decoder, body, options ? options : &none, &log->sink, &log->report, &log->err);
    if (rc)
        *rc = answer;
    put(kv_buf_append_byte(&log->text, 0));
    return (const char *)log->text.data;
}
