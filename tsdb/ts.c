/*
 * Opening and closing the store, the apply function, replay, and the caretaker that flushes, merges and
 * drops.
 */
#include "tsdb/ts.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/db.h"

#define TS_RETENTION_MS_DEFAULT     (INT64_C(30) * 86400000)
#define TS_FUTURE_MS_DEFAULT        INT64_C(3600000)
#define TS_GENERATION_AGE_NS        (UINT64_C(7200) * 1000000000)
#define TS_CARE_PERIOD_NS           (UINT64_C(1000) * 1000000)
#define TS_WINDOWS_PERIOD_NS        (UINT64_C(30) * 1000000000)
#define TS_QUERY_MEMORY_MAX_DEFAULT (UINT64_C(512) << 20)
#define TS_ROOM_WAIT_NS             (UINT64_C(10) * 1000000000)
enum { TS_ROOM_STEP_NS = 50000000, TS_REPLAY_FROZEN_MAX = 4 };

static void options_resolve(const struct ts_options *asked, struct ts_options *out)
{
    *out = asked ? *asked : (struct ts_options){0};
    if (out->retention_ms <= 0)
        out->retention_ms = TS_RETENTION_MS_DEFAULT;
    if (out->future_ms <= 0)
        out->future_ms = TS_FUTURE_MS_DEFAULT;
    if (out->request_samples_max == 0)
        out->request_samples_max = UINT64_MAX;
    if (out->query_memory_max == 0)
        out->query_memory_max = TS_QUERY_MEMORY_MAX_DEFAULT;
    if (out->exemplars_max == 0)
        out->exemplars_max = TS_EXEMPLARS_MAX_DEFAULT;
}

/* ---- apply and replay -------------------------------------------------------------------------------- */

static kv_status db_apply_record(struct ts_db *db, struct ts_head *head, uint64_t seq, kv_slice record,
                                 struct ts_erase_commit *erase)
{
    uint8_t kind;
    kv_status rc = kv_take_byte(&record, &kind);
    if (rc < 0)
        return rc;
    if (kind == TS_RECORD_SAMPLES) {
        rc = ts_registry_apply(db->registry, seq, &record);
        return rc < 0 ? rc : ts_head_samples(head, seq, record);
    }
    if (kind == TS_RECORD_DELETE)
        return ts_head_delete(head, seq, record, erase ? ts_erase_take(erase) : NULL);
    return KV_TOO_NEW;
}

static void db_apply(void *ctx, uint64_t seq, kv_slice record, void *commit_ctx)
{
    struct ts_db *db = ctx;
    bool erases = record.len > 0 && record.data[0] == TS_RECORD_DELETE;
    kv_status rc = db_apply_record(db, db->head, seq, record, erases ? commit_ctx : NULL);
    if (rc < 0)
        ts_head_fail(db->head, rc);
}

static kv_status replay_record(struct ts_db *db, struct ts_head *head, uint64_t seq, kv_slice record,
                               struct kv_err *err)
{
    struct ts_head_stats stats;
    kv_status rc = db_apply_record(db, head, seq, record, NULL);
    if (rc < 0)
        return kv_fail(err, rc, 0, "log record %llu: %s", (unsigned long long)seq, kv_status_text(rc));
    ts_head_stats(head, &stats);
    if (db->options.read_only || stats.frozen < TS_REPLAY_FROZEN_MAX)
        return KV_OK;
    kv_mutex_lock(&db->care_lock);
    rc = ts_flush_frozen_of(db, head, err); /* a log far longer than usual is not held in memory whole */
    kv_mutex_unlock(&db->care_lock);
    return rc;
}

static kv_status db_replay(struct ts_db *db, struct ts_head *head, struct kv_err *err)
{
    struct kv_records *records = NULL;
    uint64_t seq, n = 0, started_ns = kv_clock_mono_ns(db->clock);
    kv_slice record;
    kv_status rc;
    KV_TRY(kv_records_open(db->kv, &records, err));
    uint64_t bytes = kv_records_bytes_left(records);
    atomic_store(&db->replay_bytes, bytes);
    while ((rc = kv_records_next(records, &seq, &record, err)) == KV_OK) {
        atomic_store(&db->replay_left, kv_records_bytes_left(records));
        KV_TRY(replay_record(db, head, seq, record, err));
        if ((++n & 255) == 0 && atomic_load(&db->closing))
            KV_TRY(KV_CANCELED);
    }
    if (rc == KV_END)
        rc = KV_OK;
    if (n > 0)
        kv_logf(db->log, rc < 0 ? KV_LOG_ERROR : KV_LOG_INFO, "head_replayed",
                "records=%llu bytes=%llu ms=%llu", (unsigned long long)n, (unsigned long long)bytes,
                (unsigned long long)((kv_clock_mono_ns(db->clock) - started_ns) / 1000000));
out:
    kv_records_close(records);
    return rc;
}

static void db_replayer(void *ctx)
{
    struct ts_db *db = ctx;
    struct kv_err err = {0};
    kv_status rc = db_replay(db, db->older ? db->older : db->head, &err);
    if (rc == KV_OK && db->older && (rc = ts_head_prepend(db->head, db->older)) == KV_BUSY) {
        kv_mutex_lock(
            &db->care_lock); /* too many generations to hold at once: the older ones go to tables first */
        rc = ts_head_rotate(db->older, true);
        if (rc == KV_OK || rc == KV_BUSY)
            rc = ts_flush_frozen_of(db, db->older, &err);
        if (rc == KV_OK)
            rc = ts_head_prepend(db->head, db->older);
        kv_mutex_unlock(&db->care_lock);
    }
    kv_mutex_lock(&db->state_lock);
    db->replay_status = rc;
    db->replay_err = err;
    db->ready = true;
    kv_cond_broadcast(&db->state_changed);
    kv_mutex_unlock(&db->state_lock);
}

kv_status ts_wait_ready(struct ts_db *db, struct kv_err *err)
{
    kv_mutex_lock(&db->state_lock);
    while (!db->ready)
        kv_cond_wait(&db->state_changed, &db->state_lock);
    kv_status rc = db->replay_status;
    if (rc < 0 && err)
        *err = db->replay_err;
    kv_mutex_unlock(&db->state_lock);
    return rc;
}

kv_status ts_ready(struct ts_db *db, double *progress)
{
    kv_mutex_lock(&db->state_lock);
    bool ready = db->ready;
    kv_status rc = db->replay_status;
    kv_mutex_unlock(&db->state_lock);
    if (ready) {
        if (progress)
            *progress = 1;
        return rc;
    }
    double all = (double)atomic_load(&db->replay_bytes), left = (double)atomic_load(&db->replay_left);
    if (progress)
        *progress = all > 0 ? 1 - left / all : 0;
    return KV_BUSY;
}

/* ---- care -------------------------------------------------------------------------------------------- */

/* Asks the caretaker for a round. */
static void care_wake(struct ts_db *db)
{
    kv_mutex_lock(&db->state_lock);
    db->care_wanted = true;
    kv_cond_broadcast(&db->state_changed);
    kv_mutex_unlock(&db->state_lock);
}

/* care_lock held. Tells those who wait for room how it ended. */
static kv_status db_flush(struct ts_db *db, struct kv_err *err)
{
    struct kv_err own = {0};
    kv_status rc = ts_flush_frozen(db, &own);
    kv_mutex_lock(&db->state_lock);
    if (rc < 0 && db->flush_status == KV_OK)
        kv_logf(db->log, KV_LOG_ERROR, "head_flush_failed", "error=%s", KV_LOGQ(own.text));
    db->flush_status = rc;
    db->flush_err = own;
    db->flush_rounds++;
    kv_cond_broadcast(&db->state_changed);
    kv_mutex_unlock(&db->state_lock);
    if (rc < 0 && err)
        *err = own;
    return rc;
}

static bool db_is_ready(struct ts_db *db)
{
    kv_mutex_lock(&db->state_lock);
    bool ready = db->ready && db->replay_status == KV_OK;
    kv_mutex_unlock(&db->state_lock);
    return ready;
}

static kv_status db_care(struct ts_db *db, struct kv_err *err)
{
    kv_status rc = KV_OK;
    if (db->options.read_only || !db_is_ready(db))
        return KV_OK;
    kv_mutex_lock(&db->care_lock);
    (void)!ts_meta_save(db->meta, db->kv, NULL); /* tried again by the next round */
    rc = ts_head_rotate(db->head, false);
    if (rc != KV_BUSY) /* as many frozen ones as there may be: flushing them is what helps */
        KV_TRY(rc);
    KV_TRY(db_flush(db, err));
out:
    kv_mutex_unlock(&db->care_lock);
    return rc;
}

static kv_status db_care_windows(struct ts_db *db, bool settle, struct kv_err *err)
{
    kv_status rc;
    if (db->options.read_only || !db_is_ready(db))
        return KV_OK;
    kv_mutex_lock(&db->merge_lock);
    KV_TRY(ts_retention_drop(db, err));
    kv_status merged = ts_windows_merge(db, settle, err);
    if (merged < 0 && merged != KV_CORRUPT)
        KV_TRY(merged);
    KV_TRY(ts_leave_round(db, settle, merged < 0 ? NULL : err));
    rc = merged; /* the damage of one window is told when all else is done */
out:
    kv_mutex_unlock(&db->merge_lock);
    return rc;
}

static void db_caretaker(void *ctx)
{
    struct ts_db *db = ctx;
    kv_mutex_lock(&db->state_lock);
    while (!db->stop) {
        if (!db->care_wanted)
            (void)kv_cond_wait_for(&db->state_changed, &db->state_lock, TS_CARE_PERIOD_NS);
        if (db->stop)
            break;
        db->care_wanted = false;
        kv_mutex_unlock(&db->state_lock);
        (void)db_care(db, NULL); /* a failed flush is logged and told to those who wait */
        kv_mutex_lock(&db->state_lock);
    }
    kv_mutex_unlock(&db->state_lock);
}

/* The same words every round are said once. */
static void db_merger_failed(struct ts_db *db, kv_status rc, const struct kv_err *err, struct kv_err *said)
{
    if (said->code == rc && strcmp(said->text, err->text) == 0)
        return;
    kv_logf(db->log, KV_LOG_WARN, "windows_failed", "status=%s error=%s", kv_status_name(rc),
            KV_LOGQ(err->text));
    *said = *err;
    said->code = rc;
}

/* A thread of its own, since a large window takes a while and the head must be flushed meanwhile. */
static void db_merger(void *ctx)
{
    struct ts_db *db = ctx;
    uint64_t due_ns = 0;
    struct kv_err said = {0};
    kv_mutex_lock(&db->state_lock);
    while (!db->stop) {
        if (kv_clock_mono_ns(db->clock) < due_ns) {
            (void)kv_cond_wait_for(&db->state_changed, &db->state_lock, TS_CARE_PERIOD_NS);
            continue;
        }
        kv_mutex_unlock(&db->state_lock);
        struct kv_err err = {0};
        kv_status rc = db_care_windows(db, false, &err);
        if (rc < 0 && rc != KV_CANCELED)
            db_merger_failed(db, rc, &err, &said);
        else if (rc == KV_OK && said.code < 0)
            kv_logf(db->log, KV_LOG_INFO, "windows_resumed", "after=%s", KV_LOGQ(said.text));
        if (rc == KV_OK)
            said = (struct kv_err){0};
        due_ns = kv_clock_mono_ns(db->clock) + TS_WINDOWS_PERIOD_NS;
        kv_mutex_lock(&db->state_lock);
    }
    kv_mutex_unlock(&db->state_lock);
}

kv_status ts_wait_room(struct ts_db *db, uint64_t bytes, struct kv_err *err)
{
    if (KV_LIKELY(ts_head_room(db->head, bytes)))
        return KV_OK;
    if (!db->has_caretaker) {
        kv_mutex_lock(&db->care_lock);
        kv_status rc = db_is_ready(db) ? db_flush(db, err) : KV_OK;
        kv_mutex_unlock(&db->care_lock);
        return rc;
    }
    uint64_t waited_ns = 0;
    kv_status rc = KV_OK;
    care_wake(db);
    kv_mutex_lock(&db->state_lock);
    uint64_t round = db->flush_rounds;
    while (rc == KV_OK && !ts_head_room(db->head, bytes)) {
        if (db->flush_rounds > round + 1 && db->flush_status < 0) {
            rc = db->flush_status;
            if (err)
                *err = db->flush_err;
        } else if (waited_ns >= TS_ROOM_WAIT_NS) {
            rc = kv_fail(err, KV_BUSY, 0, "the head is full and its flush is still under way; try again");
        } else if (!kv_cond_wait_for(&db->state_changed, &db->state_lock, TS_ROOM_STEP_NS)) {
            waited_ns += TS_ROOM_STEP_NS;
        }
    }
    kv_mutex_unlock(&db->state_lock);
    return rc;
}

/* care_lock held. */
static kv_status db_flush_all(struct ts_db *db, struct kv_err *err)
{
    kv_status rc = ts_head_rotate(db->head, true);
    if (rc == KV_BUSY) { /* as many frozen ones as there may be: make place first */
        rc = db_flush(db, err);
        if (rc == KV_OK)
            rc = ts_head_rotate(db->head, true);
    }
    if (rc < 0)
        return rc;
    return db_flush(db, err);
}

kv_status ts_flush(struct ts_db *db, bool settle, struct kv_err *err)
{
    if (err)
        *err = (struct kv_err){0};
    if (db->options.read_only)
        return kv_fail(err, KV_READ_ONLY, 0, "the store is open read-only");
    kv_status rc = ts_wait_ready(db, err);
    if (rc < 0)
        return rc;
    kv_mutex_lock(&db->care_lock);
    rc = ts_meta_save(db->meta, db->kv, err);
    if (rc == KV_OK)
        rc = db_flush_all(db, err);
    kv_mutex_unlock(&db->care_lock);
    if (rc == KV_OK && settle)
        rc = db_care_windows(db, true, err);
    if (rc == KV_OK && settle)
        rc = kv_flush(db->kv, err);
    if (rc < 0 && err && err->code == KV_OK)
        (void)kv_fail(err, rc, 0, "flushing: %s", kv_status_text(rc));
    return rc;
}

kv_status ts_maintain(struct ts_db *db, struct kv_err *err)
{
    if (err)
        *err = (struct kv_err){0};
    kv_status rc = db_care(db, err);
    if (rc == KV_OK)
        rc = db_care_windows(db, false, err);
    if (rc < 0 && err && err->code == KV_OK)
        (void)kv_fail(err, rc, 0, "maintenance: %s", kv_status_text(rc));
    return rc;
}

/* ---- open, close ------------------------------------------------------------------------------------- */

static void db_free(struct ts_db *db)
{
    ts_windows_close(db->windows);
    ts_head_free(db->older);
    ts_head_free(db->head);
    ts_meta_free(db->meta);
    ts_exemplars_free(db->exemplars);
    ts_rules_free(db->rules);
    ts_leave_release(&db->leave);
    ts_left_free(db->left);
    kv_mutex_release(&db->merge_lock);
    kv_mutex_release(&db->erase_lock);
    kv_mutex_release(&db->care_lock);
    kv_mutex_release(&db->state_lock);
    kv_cond_release(&db->state_changed);
    kv_free(db);
}

static kv_status db_open_kv(struct ts_db *db, const char *path, struct kv_err *err)
{
    struct kv_space_options spaces[TS_SPACES];
    ts_window_hook(db, &db->chunk_hook);
    ts_postings_hook_of(db->left, &db->index_hook);
    ts_spaces_fill(spaces, &db->chunk_hook);
    spaces[TS_SPACE_INDEX].hook = &db->index_hook;
    const struct kv_options options = {.spaces = spaces,
                                       .n_spaces = TS_SPACES,
                                       .memtable_bytes = db->options.memtable_bytes,
                                       .durability = db->options.durability,
                                       .sync_interval_ms = db->options.sync_interval_ms,
                                       .read_only = db->options.read_only,
                                       .must_exist = db->options.must_exist,
                                       .apply = db_apply,
                                       .apply_ctx = db};
    return kv_open(db->env, path, &options, &db->kv, err);
}

static kv_status db_new_head(struct ts_db *db, uint64_t next_seq, struct ts_head **out)
{
    const struct ts_head_options options = {.bytes_max = db->options.head_bytes_max,
                                            .log_bytes_max = db->options.head_log_bytes_max,
                                            .age_ns_max = TS_GENERATION_AGE_NS,
                                            .next_seq = next_seq,
                                            .clock = db->clock};
    return ts_head_new(&options, out);
}

/* What goes with samples: damage to it costs no sample. */
static kv_status db_load_extras(struct ts_db *db, struct kv_err *err)
{
    struct kv_err own = {0};
    kv_status rc = ts_meta_load(db->meta, db->kv, &own);
    if (rc == KV_CORRUPT) { /* senders repeat it */
        kv_logf(db->log, KV_LOG_ERROR, "metadata_damaged", "error=%s", KV_LOGQ(own.text));
        rc = KV_OK;
    }
    if (rc == KV_OK)
        rc = ts_exemplars_load(db->exemplars, db->kv, !db->options.read_only, &own);
    if (rc == KV_CORRUPT) {
        kv_logf(db->log, KV_LOG_ERROR, "exemplars_damaged", "error=%s", KV_LOGQ(own.text));
        rc = KV_OK;
    }
    if (rc < 0 && err)
        *err = own;
    return rc;
}

static kv_status db_load(struct ts_db *db, struct kv_err *err)
{
    const struct ts_registry_options registry = {.series_max = db->options.series_max,
                                                 .metric_series_max = db->options.metric_series_max,
                                                 .series_per_s_max = db->options.series_per_s_max,
                                                 .clock = db->clock,
                                                 .cache_bytes = db->options.series_cache_bytes,
                                                 .labels_max = db->options.labels_max,
                                                 .label_name_len_max = db->options.label_name_len_max,
                                                 .label_value_len_max = db->options.label_value_len_max};
    kv_status rc;
    KV_TRY(ts_registry_open(db->kv, &registry, &db->registry, err));
    KV_TRY(db_load_extras(db, err));
    (void)ts_retention_clock_ms(db);
    KV_TRY(db_new_head(db, kv_seq(db->kv) + 1, &db->head));
    KV_TRY(ts_windows_open(db, &db->windows, err));
    KV_TRY(ts_erase_load(db, err));
    KV_TRY(ts_leave_load(db, err));
    atomic_store(&db->hook_ready, true);
    if (db->options.replay_in_background) {
        /* Read-only, nothing is written meanwhile, and nothing could be flushed to make place for it. */
        if (!db->options.read_only)
            KV_TRY(db_new_head(db, 0, &db->older));
        KV_TRY(kv_thread_start(&db->replayer, "ts-replay", 0, db_replayer, db));
    } else {
        KV_TRY(db_replay(db, db->head, err));
        db->ready = true;
    }
    db->has_caretaker = kv_env_threads(db->env) != KV_THREADS_NONE && !db->options.read_only;
    if (db->has_caretaker) {
        KV_TRY(kv_thread_start(&db->caretaker, "ts-care", 0, db_caretaker, db));
        KV_TRY(kv_thread_start(&db->merger, "ts-merge", 0, db_merger, db));
    }
out:
    return rc;
}

static void db_stop_threads(struct ts_db *db)
{
    atomic_store(&db->closing, true);
    kv_thread_join(&db->replayer);
    kv_mutex_lock(&db->state_lock);
    db->stop = true;
    kv_cond_broadcast(&db->state_changed);
    kv_mutex_unlock(&db->state_lock);
    kv_thread_join(&db->caretaker);
    kv_thread_join(&db->merger);
}

/* The store is closed whatever is answered. */
static kv_status db_close(struct ts_db *db, struct kv_err *err)
{
    db_stop_threads(db);
    ts_registry_close(db->registry);
    kv_status rc = db->kv ? kv_close(db->kv, err) : KV_OK;
    db_free(db);
    return rc;
}

kv_status ts_open(struct kv_env *env, const char *path, const struct ts_options *options, struct ts_db **out,
                  struct kv_err *err)
{
    struct ts_db *db = kv_zalloc(1, sizeof *db);
    if (!db)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory to open a store");
    options_resolve(options, &db->options);
    atomic_store(&db->erase_unsynced, UINT64_MAX);
    db->env = env;
    db->clock = kv_env_clock(env);
    db->log = kv_env_log(env);
    kv_mutex_init(&db->merge_lock);
    kv_mutex_init(&db->erase_lock);
    kv_mutex_init(&db->care_lock);
    kv_mutex_init(&db->state_lock);
    kv_cond_init(&db->state_changed);
    if (err)
        *err = (struct kv_err){0};
    kv_status rc;
    KV_TRY(ts_meta_new(&db->meta));
    KV_TRY(ts_exemplars_new(db->options.exemplars_max, &db->exemplars));
    KV_TRY(ts_left_new(&db->left));
    KV_TRY(ts_rules_new(db->options.retention_ms, db->options.retention_rules, db->options.n_retention_rules,
                        &db->rules, err));
    db->options.retention_rules = NULL; /* the caller's */
    KV_TRY(db_open_kv(db, path, err));
    KV_TRY(db_load(db, err));
    *out = db;
    return KV_OK;
out:
    if (err && err->code == KV_OK)
        (void)kv_fail(err, rc, 0, "opening the store: %s", kv_status_text(rc));
    (void)db_close(db, NULL);
    return rc;
}

kv_status ts_close(struct ts_db *db, struct kv_err *err)
{
    if (!db)
        return KV_OK;
    kv_status rc = KV_OK;
    if (!db->options.read_only)
        rc = ts_flush(db, false, err);
    kv_status closed = db_close(db, rc < 0 ? NULL : err);
    return rc < 0 ? rc : closed;
}

kv_status ts_close_fast(struct ts_db *db, struct kv_err *err)
{
    return db ? db_close(db, err) : KV_OK;
}

struct kv_db *ts_kv(struct ts_db *db)
{
    return db->kv;
}

const char *ts_reject_name(enum ts_reject_reason reason)
{
    static const char *const names[] = {
#define X(name, text) text,
        TS_REJECT_LIST(X)
#undef X
    };
    return (size_t)reason < sizeof names / sizeof names[0] ? names[reason] : "unknown";
}

/* ---- metadata, stats, snapshot ----------------------------------------------------------------------- */

kv_status ts_metadata_set(struct ts_db *db, kv_slice family, kv_slice type, kv_slice help, kv_slice unit)
{
    return ts_meta_set(db->meta, family, type, help, unit);
}

kv_status ts_metadata_each(struct ts_db *db, kv_slice family,
                           kv_status (*each)(void *ctx, kv_slice family, kv_slice type, kv_slice help,
                                             kv_slice unit),
                           void *ctx)
{
    return ts_meta_each(db->meta, family, each, ctx);
}

void ts_stats(struct ts_db *db, struct ts_stats *out)
{
    struct ts_registry_stats registry;
    struct ts_head_stats head;
    struct ts_window *windows = NULL;
    size_t n;
    ts_registry_stats(db->registry, &registry);
    ts_head_stats(db->head, &head);
    *out = (struct ts_stats){.series = registry.series,
                             .series_created = registry.series_created,
                             .head_samples = head.samples,
                             .head_bytes = head.bytes,
                             .head_series = head.series,
                             .samples_appended = atomic_load(&db->counters.appended),
                             .disk_bytes = kv_disk_bytes(db->kv),
                             .flushes = atomic_load(&db->counters.flushes),
                             .merges = atomic_load(&db->counters.merges),
                             .queries = atomic_load(&db->counters.queries),
                             .exemplars = ts_exemplars_count(db->exemplars),
                             .exemplars_appended = atomic_load(&db->counters.exemplars),
                             .exemplars_dropped = atomic_load(&db->counters.exemplars_dropped),
                             .cache_bytes = registry.cache_bytes,
                             .cache_series = registry.cache_series,
                             .time_min_ms = head.time_min_ms,
                             .time_max_ms = head.time_max_ms,
                             .windows_expired = atomic_load(&db->counters.windows_expired),
                             .windows_cut = atomic_load(&db->counters.windows_cut),
                             .bytes_dropped = atomic_load(&db->counters.bytes_dropped),
                             .series_left = atomic_load(&db->counters.series_left)};
    for (int i = 0; i < TS_REJECT_REASONS; i++)
        out->samples_rejected[i] = atomic_load(&db->counters.rejected[i]);
    if (ts_windows_copy(db->windows, INT32_MIN, INT32_MAX, &windows, &n) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        out->chunks += windows[i].chunks;
        if (windows[i].first_ms < out->time_min_ms)
            out->time_min_ms = windows[i].first_ms;
        if (windows[i].last_ms > out->time_max_ms)
            out->time_max_ms = windows[i].last_ms;
    }
    kv_free(windows);
}

kv_status ts_snapshot(struct ts_db *db, const char *path, bool skip_head, struct kv_err *err)
{
    if (!skip_head) {
        kv_status rc = ts_flush(db, false, err);
        if (rc < 0)
            return rc;
    }
    return kv_checkpoint(db->kv, path, err);
}
