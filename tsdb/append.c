#include "kvcore/base/mem.h"
#include "tsdb/db.h"

#include <stdio.h>

enum {
    APPEND_GAP =
        64, /* in front of the body: kind and section go there, nearly always without moving anything */
    APPEND_BODY_MAX = 64 << 20,
    APPEND_BYTES_KEPT = 4 << 20,      /* of each buffer, from one request to the next */
    APPEND_BYTES_SERIES = 160,        /* of head memory for a series that is new to a generation */
    APPEND_RULE_BYTES_MAX = 16 << 20, /* of labels looked at for their retention rule */
};

/* A row's labels, copied, to find its retention rule. */
struct append_labels_of {
    struct ts_label_sink sink; /* first */
    struct kv_arena arena;
    struct ts_label *labels;
    size_t n, capacity;
};

struct ts_appender {
    struct ts_db *db;
    struct ts_resolver *resolver;
    struct kv_batch *batch;
    struct kv_buf body;     /* gap, header, series, table of new refs */
    struct kv_buf section;  /* made under the commit lock */
    struct kv_buf record;   /* only when the section does not fit the gap */
    struct kv_buf identity; /* ts_append */
    struct ts_record_writer writer;
    size_t n_new;
    bool started;
    uint64_t rate_refused; /* samples, of result.rejected */
    /* Times taken, asked once a request; both inclusive. Between low_ms and sure_ms the series' retention rule
     * decides: they differ only if there are rules. */
    int64_t low_ms, sure_ms, high_ms, clock_ms;
    struct append_labels_of rule;
    bool *take;
    size_t take_capacity;
    struct ts_exemplar_list exemplars;
    struct ts_append_result result;
};

kv_status ts_appender_new(struct ts_db *db, struct ts_appender **out)
{
    struct ts_appender *a = kv_zalloc(1, sizeof *a);
    if (!a)
        return KV_NO_MEMORY;
    a->db = db;
    kv_buf_init(&a->body, APPEND_BODY_MAX);
    kv_status rc = ts_resolver_new(db->registry, &a->resolver);
    if (rc == KV_OK)
        rc = kv_batch_new(&a->batch);
    if (rc < 0)
        ts_appender_free(a);
    else
        *out = a;
    return rc;
}

void ts_appender_free(struct ts_appender *appender)
{
    if (!appender)
        return;
    ts_resolver_free(appender->resolver);
    kv_batch_free(appender->batch);
    kv_buf_release(&appender->body);
    kv_buf_release(&appender->section);
    kv_buf_release(&appender->record);
    kv_buf_release(&appender->identity);
    ts_exemplar_list_release(&appender->exemplars);
    kv_free(appender->take);
    kv_arena_release(&appender->rule.arena);
    kv_free(appender->rule.labels);
    kv_free(appender);
}

void ts_append_abort(struct ts_appender *appender)
{
    ts_resolver_clear(appender->resolver);
    kv_batch_clear(appender->batch);
    kv_buf_clear_keep(&appender->body, APPEND_BYTES_KEPT);
    kv_buf_clear_keep(&appender->section, APPEND_BYTES_KEPT);
    kv_buf_clear_keep(&appender->record, APPEND_BYTES_KEPT);
    ts_exemplar_list_clear(&appender->exemplars, APPEND_BYTES_KEPT);
    appender->writer = (struct ts_record_writer){0};
    appender->started = false;
    appender->result.accepted = appender->result.rejected = appender->result.series_created =
        appender->result.seq = 0;
    appender->result.n_rejects = 0;
    appender->result.retry_in_ms = 0;
    appender->rate_refused = 0;
}

static int64_t at_least(int64_t time_ms, int64_t least_ms)
{
    return time_ms < least_ms ? least_ms : time_ms;
}

static kv_status append_start(struct ts_appender *a)
{
    static const uint8_t front[APPEND_GAP + TS_RECORD_BODY_HEADER_LEN];
    struct ts_db *db = a->db;
    kv_buf_clear(&a->body);
    kv_status rc = kv_buf_append(&a->body, kv_slice_of(front, sizeof front));
    if (rc < 0)
        return rc;
    int64_t wall_ms = kv_clock_wall_ms(db->clock), clock_ms = a->clock_ms = ts_retention_clock_ms(db);
    int64_t now_ms = wall_ms > clock_ms ? wall_ms : clock_ms;
    a->low_ms = at_least(ts_rules_lowest_ms(db->rules, clock_ms), TS_TIME_MIN);
    a->sure_ms = at_least(ts_rules_highest_ms(db->rules, clock_ms), TS_TIME_MIN);
    if (__builtin_add_overflow(now_ms, db->options.future_ms, &a->high_ms) || a->high_ms > -TS_TIME_MIN)
        a->high_ms = -TS_TIME_MIN;
    a->started = true;
    return KV_OK;
}

void ts_append_reject(struct ts_appender *appender, uint32_t position, enum ts_reject_reason reason,
                      uint64_t samples, const char *text)
{
    struct ts_append_result *result = &appender->result;
    result->rejected += samples;
    atomic_fetch_add(&appender->db->counters.rejected[reason], samples);
    if (result->n_rejects == TS_REJECTS_KEPT)
        return;
    struct ts_reject *reject = &result->rejects[result->n_rejects++];
    *reject = (struct ts_reject){.position = position, .reason = reason, .samples = samples};
    snprintf(reject->text, sizeof reject->text, "%s", text);
}

static kv_status rule_label(struct ts_label_sink *sink, kv_slice name, kv_slice value)
{
    struct append_labels_of *of = (struct append_labels_of *)sink;
    if (value.len == 0)
        return KV_OK;
    struct ts_label *labels = kv_grow(of->labels, &of->capacity, of->n + 1, sizeof *labels);
    if (!labels)
        return KV_NO_MEMORY;
    of->labels = labels;
    struct ts_label copy = {kv_arena_copy(&of->arena, name), kv_arena_copy(&of->arena, value)};
    if (!copy.name.data || !copy.value.data)
        return KV_NO_MEMORY;
    of->labels[of->n++] = copy;
    return KV_OK;
}

/* The oldest time that the row's series keeps, and the class that says so. Labels that will not do are not judged
 * here: resolving refuses them, with its reason. */
static kv_status append_rule(struct ts_appender *a, const struct ts_row *row, int64_t *low_ms, size_t *class)
{
    struct append_labels_of *of = &a->rule;
    kv_arena_release(&of->arena);
    kv_arena_init(&of->arena, APPEND_RULE_BYTES_MAX);
    of->sink.add = rule_label;
    of->n = 0;
    kv_status rc = row->labels(row->labels_ctx, row, &of->sink);
    if (rc < 0)
        return rc == KV_NO_MEMORY ? rc : KV_OK;
    if (!ts_labels_sort(of->labels, of->n))
        return KV_OK;
    *class = ts_rules_class_of(a->db->rules, of->labels, of->n);
    *low_ms = at_least(ts_rules_floor_ms(a->db->rules, *class, a->clock_ms), TS_TIME_MIN);
    return KV_OK;
}

static void append_reject_old(struct ts_appender *a, const struct ts_row *row, size_t first, size_t n,
                              int64_t low_ms, size_t class)
{
    long long time_ms = (long long)row->times_ms[first], floor_ms = (long long)low_ms;
    char text[240];
    if (low_ms == TS_TIME_MIN)
        snprintf(text, sizeof text, "time %lld ms is before %lld ms, the oldest there is", time_ms, floor_ms);
    else if (class + 1 == ts_rules_classes(a->db->rules))
        snprintf(text, sizeof text,
                 "time %lld ms is before %lld ms, the oldest that is kept; raise ts_options.retention_ms",
                 time_ms, floor_ms);
    else
        snprintf(text, sizeof text,
                 "time %lld ms is before %lld ms, the oldest that %.100s keeps (ts_options.retention_rules)",
                 time_ms, floor_ms, ts_rules_name(a->db->rules, class));
    ts_append_reject(a, row->position, TS_REJECT_TOO_OLD, n, text);
}

/* Marks in a->take which samples have a time that is taken, rejects the others; *n_taken: how many are. */
static kv_status append_filter(struct ts_appender *a, const struct ts_row *row, size_t *n_taken)
{
    size_t n_old = 0, n_new = 0, first_old = 0, first_new = 0, class = ts_rules_classes(a->db->rules) - 1;
    int64_t low_ms = a->low_ms;
    if (a->low_ms < a->sure_ms) {
        kv_status rc = append_rule(a, row, &low_ms, &class);
        if (rc < 0)
            return rc;
    }
    if (row->n > a->take_capacity) {
        bool *take = kv_realloc(a->take, row->n * sizeof *take);
        if (!take)
            return KV_NO_MEMORY;
        a->take = take;
        a->take_capacity = row->n;
    }
    for (size_t i = 0; i < row->n; i++) {
        bool old = row->times_ms[i]<low_ms, late = row->times_ms[i]> a->high_ms;
        if (old && n_old++ == 0)
            first_old = i;
        if (late && n_new++ == 0)
            first_new = i;
        a->take[i] = !old && !late;
    }
    char text[240];
    if (n_old > 0)
        append_reject_old(a, row, first_old, n_old, low_ms, class);
    if (n_new > 0) {
        snprintf(text, sizeof text,
                 "time %lld ms is after %lld ms, %lld ms past now: check the sender's clock, or raise "
                 "ts_options.future_ms",
                 (long long)row->times_ms[first_new], (long long)a->high_ms,
                 (long long)a->db->options.future_ms);
        ts_append_reject(a, row->position, TS_REJECT_TOO_NEW, n_new, text);
    }
    *n_taken = row->n - n_old - n_new;
    return KV_OK;
}

static bool append_all_taken(const struct ts_appender *a, const struct ts_row *row)
{
    bool outside = false;
    for (size_t i = 0; i < row->n; i++)
        outside |= row->times_ms[i] < a->sure_ms || row->times_ms[i] > a->high_ms;
    return !outside;
}

/* The row makes the request too large. */
static KV_MUST kv_status append_too_many(struct ts_appender *a, const struct ts_row *row, struct kv_err *err)
{
    uint64_t samples = a->result.accepted + row->n;
    atomic_fetch_add(&a->db->counters.rejected[TS_REJECT_REQUEST_LIMIT], samples);
    return kv_fail(err, KV_LIMIT, 0,
                   "the request holds more than %llu samples: send smaller ones, or raise "
                   "ts_options.request_samples_max",
                   (unsigned long long)a->db->options.request_samples_max);
}

static void append_drop_exemplars(struct ts_appender *a, uint64_t n)
{
    atomic_fetch_add(&a->db->counters.exemplars_dropped, n);
}

/* Those of a row whose series is known; the others are dropped. */
static KV_MUST kv_status append_exemplars(struct ts_appender *a, const struct ts_row *row, uint64_t ref,
                                          struct kv_err *err)
{
    for (size_t i = 0; i < row->n_exemplars; i++) {
        const struct ts_exemplar *e = &row->exemplars[i];
        kv_status rc = KV_INVALID;
        if (!a->db->options.exemplars_off && e->time_ms >= a->low_ms && e->time_ms <= a->high_ms)
            rc = ts_exemplar_list_add(&a->exemplars, ref, e);
        if (rc == KV_INVALID)
            append_drop_exemplars(a, 1);
        else if (rc < 0)
            return kv_fail(err, rc, 0, "no memory for the exemplars of a series");
    }
    return KV_OK;
}

/* No sample of the row is taken. */
static KV_MUST kv_status append_exemplars_alone(struct ts_appender *a, const struct ts_row *row,
                                                struct kv_err *err)
{
    uint64_t ref;
    if (row->n_exemplars == 0)
        return KV_OK;
    kv_status rc = ts_resolve_existing(a->resolver, row, &ref, err);
    if (rc == KV_OK)
        return append_exemplars(a, row, ref, err);
    if (rc == KV_NOT_FOUND)
        append_drop_exemplars(a, row->n_exemplars);
    return rc < 0 ? rc : KV_OK;
}

static kv_status append_refused(struct ts_appender *a, const struct ts_row *row, size_t n_taken,
                                const struct ts_refusal *why)
{
    ts_append_reject(a, row->position, why->reason, n_taken, why->text);
    append_drop_exemplars(a, row->n_exemplars);
    if (why->reason == TS_REJECT_SERIES_RATE) {
        a->rate_refused += n_taken;
        a->result.retry_in_ms = why->retry_in_ms;
    }
    return KV_OK;
}

kv_status ts_append_row(struct ts_appender *appender, const struct ts_row *row, struct kv_err *err)
{
    if (!appender->started && append_start(appender) < 0)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory for a write request");
    const struct ts_append_result *so_far = &appender->result;
    if (so_far->accepted + so_far->rejected + row->n > appender->db->options.request_samples_max)
        return append_too_many(appender, row, err);
    size_t n_taken = row->n;
    bool all = append_all_taken(appender, row);
    if (!all && append_filter(appender, row, &n_taken) < 0)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory for a series of %zu samples", row->n);
    if (n_taken == 0)
        return append_exemplars_alone(appender, row, err);
    struct ts_refusal why;
    uint64_t ref;
    kv_status rc = ts_resolve(appender->resolver, row, &ref, &why, err);
    if (rc == KV_INVALID)
        return append_refused(appender, row, n_taken, &why);
    if (rc < 0)
        return rc;
    bool is_new = ts_ref_is_new(ref);
    rc = ts_record_put(&appender->writer, &appender->body, is_new ? ts_ref_series(ref) : ref, is_new,
                       row->times_ms, row->values, row->n, all ? NULL : appender->take, n_taken);
    if (rc == KV_LIMIT)
        return kv_fail(err, rc, 0, "the request holds more than %d MiB of samples", APPEND_BODY_MAX >> 20);
    if (rc < 0)
        return kv_fail(err, rc, 0, "no memory for a series of %zu samples", row->n);
    appender->result.accepted += n_taken;
    return row->n_exemplars > 0 ? append_exemplars(appender, row, ref, err) : KV_OK;
}

struct append_labels {
    const struct ts_label *labels;
    size_t n;
};

static kv_status append_give_labels(void *ctx, const struct ts_row *row, struct ts_label_sink *sink)
{
    const struct append_labels *given = ctx;
    (void)row;
    kv_status rc = KV_OK;
    for (size_t i = 0; i < given->n && rc >= 0; i++)
        rc = sink->add(sink, given->labels[i].name, given->labels[i].value);
    return rc;
}

kv_status ts_append(struct ts_appender *appender, const struct ts_label *labels, size_t n_labels,
                    int64_t time_ms, double value, struct kv_err *err)
{
    struct append_labels given = {labels, n_labels};
    struct kv_buf *identity = &appender->identity;
    kv_buf_clear(identity);
    kv_status rc = KV_OK;
    for (size_t i = 0; i < n_labels && rc == KV_OK; i++) {
        rc = kv_buf_append_lp(identity, labels[i].name);
        if (rc == KV_OK)
            rc = kv_buf_append_lp(identity, labels[i].value);
    }
    if (rc < 0)
        return kv_fail(err, rc, 0, "no memory for a label set");
    struct ts_row row = {
        .protocol = TS_PROTOCOL_LABELS,
        .position = appender->writer.series + 1,
        /* the second piece: a first one at the same address counts as the same (and an empty one as none yet) */
        .identity = {KV_STR("labels"), kv_buf_slice(identity)},
        .labels = append_give_labels,
        .labels_ctx = &given,
        .times_ms = &time_ms,
        .values = &value,
        .n = 1};
    return ts_append_row(appender, &row, err);
}

/* ---- committing -------------------------------------------------------------------------------------- */

/* The record once refs are known: kind and section are put right before the body. */
static kv_status append_assemble(struct ts_appender *a, kv_slice *record)
{
    size_t front = 1 + a->section.len;
    if (front <= APPEND_GAP) {
        uint8_t *start = a->body.data + APPEND_GAP - front;
        start[0] = TS_RECORD_SAMPLES;
        memcpy(start + 1, a->section.data, a->section.len);
        *record = kv_slice_of(start, front + a->body.len - APPEND_GAP);
        return KV_OK;
    }
    kv_status rc;
    kv_buf_clear(&a->record);
    KV_TRY(kv_buf_append_byte(&a->record, TS_RECORD_SAMPLES));
    KV_TRY(kv_buf_append(&a->record, kv_buf_slice(&a->section)));
    KV_TRY(kv_buf_append(&a->record, kv_slice_from(kv_buf_slice(&a->body), APPEND_GAP)));
    *record = kv_buf_slice(&a->record);
out:
    return rc;
}

static void append_undo(void *ctx)
{
    struct ts_appender *a = ctx;
    ts_exemplars_undo(a->db->exemplars, &a->exemplars);
    ts_resolver_undo(a->resolver);
}

static kv_status append_prepare(void *ctx, uint64_t seq, struct kv_batch *batch, kv_slice *record)
{
    struct ts_appender *a = ctx;
    kv_buf_clear(&a->section);
    kv_status rc;
    if (a->result.accepted == 0) { /* exemplars alone: no record, and perhaps nothing at all */
        rc = ts_exemplars_prepare(a->db->exemplars, &a->exemplars, a->resolver, batch);
        return rc == KV_OK && a->exemplars.taken == 0 ? KV_CANCELED : rc;
    }
    rc = ts_resolver_prepare(a->resolver, seq, batch, &a->section);
    if (rc < 0)
        return rc;
    if (a->exemplars.n > 0)
        rc = ts_exemplars_prepare(a->db->exemplars, &a->exemplars, a->resolver, batch);
    uint8_t *table = a->body.data + a->body.len - 8 * a->n_new;
    for (size_t i = 0; i < a->n_new; i++)
        kv_put_fixed64(table + 8 * i, ts_resolver_ref(a->resolver, ts_ref_of(TS_METRIC_NEW, (uint32_t)i)));
    if (rc == KV_OK)
        rc = append_assemble(a, record);
    if (rc < 0)
        append_undo(a);
    return rc;
}

static kv_status append_finish(struct ts_appender *a)
{
    a->n_new = ts_resolver_new_count(a->resolver);
    if (a->n_new > 0) {
        kv_status rc = ts_resolver_stage(a->resolver);
        if (rc < 0)
            return rc;
        uint8_t *table = kv_buf_extend(&a->body, 8 * a->n_new);
        if (!table)
            return KV_NO_MEMORY;
        memset(table, 0, 8 * a->n_new);
    }
    ts_record_finish(&a->writer, a->body.data + APPEND_GAP, (uint32_t)a->n_new);
    return KV_OK;
}

kv_status ts_commit(struct ts_appender *appender, struct ts_append_result *result, struct kv_err *err)
{
    struct ts_appender *a = appender;
    struct ts_db *db = a->db;
    kv_status rc = KV_OK;
    if (a->result.accepted > 0 || a->exemplars.n > 0) {
        if ((rc = ts_head_failed(db->head)) < 0)
            rc = kv_fail(err, rc, 0,
                         "the head ran out of memory; nothing acknowledged is lost: open the store anew");
        else
            rc = ts_wait_room(
                db, 2 * (uint64_t)a->body.len + APPEND_BYTES_SERIES * (uint64_t)a->writer.series, err);
        if (rc == KV_OK && (rc = append_finish(a)) < 0)
            rc = kv_fail(err, rc, 0, "no memory for a write request");
        if (rc == KV_OK) {
            const struct kv_commit_options options = {
                .prepare = append_prepare, .undo = append_undo, .ctx = a};
            rc = kv_commit(db->kv, a->batch, &options, &a->result.seq, err);
            if (rc == KV_CANCELED && a->result.accepted == 0 && a->exemplars.taken == 0)
                rc = KV_OK; /* repeats, all of them */
        }
        if (rc == KV_OK) {
            a->result.series_created = ts_resolver_created(a->resolver);
            atomic_fetch_add(&db->counters.created, a->result.series_created);
            atomic_fetch_add(&db->counters.appended, a->result.accepted);
            ts_exemplars_publish(db->exemplars, &a->exemplars);
            atomic_fetch_add(&db->counters.exemplars, a->exemplars.taken);
            append_drop_exemplars(a, a->exemplars.n - a->exemplars.taken);
        }
    }
    if (a->result.accepted > 0 || a->result.rejected > a->rate_refused)
        a->result.retry_in_ms = 0;
    if (rc == KV_OK)
        *result = a->result;
    ts_append_abort(a);
    return rc;
}
