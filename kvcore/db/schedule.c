#include "kvcore/db/schedule.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"
#include "kvcore/sst/attrs.h"

#include <inttypes.h>

enum { COMPACT, CHECK, BACKUP };
enum { JITTER_SHARE = 10, PERIOD_S_MAX = 366 * 24 * 3600, CHECK_BYTES_PER_S = 16 << 20 };

#define NS_PER_S  ((uint64_t)1000000000)
#define NS_PER_MS ((uint64_t)1000000)

static enum kv_job job_of(int task)
{
    return task == COMPACT ? KV_JOB_COMPACT : task == CHECK ? KV_JOB_CHECK : KV_JOB_BACKUP;
}

static uint64_t period_ns(const struct kv_schedule *s, int task)
{
    uint32_t every_s = task == COMPACT ? s->options.compact_every_s
                       : task == CHECK ? s->options.check_every_s
                                       : s->options.backup_every_s;
    return every_s * NS_PER_S;
}

static uint64_t jitter_ns(struct kv_schedule *s, int task)
{
    return kv_prng_below(&s->prng, period_ns(s, task) / JITTER_SHARE + 1);
}

/* ---- when */

static void set_due(struct kv_db *db, int task, uint64_t now_ns, uint64_t wait_ns)
{
    db->schedule.due_ns[task] = now_ns + wait_ns;
    kv_job_next(db, job_of(task), kv_clock_wall_ms(db->env->clock) + (int64_t)(wait_ns / NS_PER_MS));
}

/* The first time after an open, or after the period changed. */
static void plan_first(struct kv_db *db, int task)
{
    struct kv_schedule *s = &db->schedule;
    uint64_t period = period_ns(s, task), now_ns = kv_clock_mono_ns(db->env->clock), past = 0;
    struct kv_health_report report;
    s->due_ns[task] = 0;
    kv_job_next(db, job_of(task), 0);
    if (!period)
        return;
    kv_health_report(db, &report);
    int64_t last_ms = report.jobs[job_of(task)].last_ok_ms, past_ms = report.wall_ms - last_ms;
    if (last_ms == 0 || (past_ms > 0 && (uint64_t)past_ms >= period / NS_PER_MS))
        past = period; /* never, or missed */
    else if (past_ms > 0)
        past = (uint64_t)past_ms * NS_PER_MS;
    uint64_t left = period - past, shift = jitter_ns(s, task);
    set_due(db, task, now_ns, left == 0 ? shift : left - (shift < left ? shift : left));
}

/* After a failure again after a tenth of the period. */
static void plan_next(struct kv_db *db, int task, kv_status rc)
{
    struct kv_schedule *s = &db->schedule;
    uint64_t period = period_ns(s, task);
    if (!period)
        return; /* it was taken off the schedule meanwhile */
    uint64_t wait = rc < 0 ? period / JITTER_SHARE : period - jitter_ns(s, task);
    set_due(db, task, kv_clock_mono_ns(db->env->clock), wait);
}

static void arm(struct kv_db *db)
{
    struct kv_schedule *s = &db->schedule;
    uint64_t next = s->checking ? s->check_next_ns : 0;
    for (int task = 0; task < KV_TASKS; task++)
        if (s->due_ns[task] && (next == 0 || s->due_ns[task] < next))
            next = s->due_ns[task];
    kv_env_job_at(db->env, &s->job, s->compacting ? kv_clock_mono_ns(db->env->clock) : next);
}

/* ---- compaction: a space a piece */

static kv_status compact_piece(struct kv_db *db, struct kv_err *err)
{
    struct kv_schedule *s = &db->schedule;
    kv_status rc = KV_OK;
    while (s->compact_space < db->n_declared && db->spaces[db->ids[s->compact_space]].hook)
        s->compact_space++; /* when its hook sees what is its owner's to say */
    if (s->compact_space < db->n_declared)
        rc = kv_merge_range(db, s->compact_space++, (kv_slice){0}, (kv_slice){0}, err);
    if (rc >= 0 && s->compact_space < db->n_declared)
        return KV_OK;
    s->compacting = false;
    kv_job_remember(db, KV_JOB_COMPACT, rc, err);
    plan_next(db, COMPACT, rc);
    return rc;
}

/* ---- check: a table a piece */

static const struct kv_tree_item *check_next_table(const struct kv_version *version,
                                                   const struct kv_schedule *s)
{
    const struct kv_tree_item *next = NULL;
    for (uint32_t space = 0; space < version->n_spaces; space++)
        for (size_t i = 0; i < version->trees[space].n_items; i++) {
            const struct kv_tree_item *item = &version->trees[space].items[i];
            if (item->number > s->check_at && item->number <= s->check_last &&
                (!next || item->number < next->number))
                next = item;
        }
    return next;
}

static void check_begin(struct kv_db *db)
{
    struct kv_schedule *s = &db->schedule;
    uint64_t visible;
    struct kv_view *view = kv_view_pin(db, &visible);
    s->checking = true;
    s->check_at = s->check_last = s->check_findings = 0;
    s->check_next_ns = kv_clock_mono_ns(db->env->clock);
    for (uint32_t space = 0; space < view->version->n_spaces; space++)
        for (size_t i = 0; i < view->version->trees[space].n_items; i++)
            if (view->version->trees[space].items[i].number > s->check_last)
                s->check_last = view->version->trees[space].items[i].number;
    kv_view_unref(view);
}

static void check_finding(struct kv_db *db, uint64_t number, const struct kv_err *found)
{
    struct kv_schedule *s = &db->schedule;
    KV_COUNT(db, check_findings);
    if (s->check_findings++ == 0)
        s->check_first = *found;
    kv_logf(&db->env->log, KV_LOG_ERROR, "check_finding", "path=%s table=%06" PRIu64 " error=%s",
            KV_LOGQ(db->path), number, KV_LOGQ(found->text));
}

static kv_status check_end(struct kv_db *db, kv_status rc, struct kv_err *err)
{
    struct kv_schedule *s = &db->schedule;
    s->checking = false;
    if (rc == KV_OK && s->check_findings)
        rc = kv_fail(err, KV_CORRUPT, 0, "%" PRIu64 " damaged tables; the first: %.150s", s->check_findings,
                     s->check_first.text);
    KV_COUNT(db, checks);
    kv_job_remember(db, KV_JOB_CHECK, rc, err);
    plan_next(db, CHECK, rc);
    return rc;
}

static kv_status check_piece(struct kv_db *db, struct kv_err *err)
{
    struct kv_schedule *s = &db->schedule;
    struct kv_err found = {0};
    uint64_t visible, bytes = 0;
    uint64_t rate = s->options.check_bytes_per_s ? s->options.check_bytes_per_s : CHECK_BYTES_PER_S;
    kv_status rc = KV_OK;
    struct kv_view *view = kv_view_pin(db, &visible);
    const struct kv_tree_item *item = check_next_table(view->version, s);
    if (item) {
        s->check_at = item->number;
        bytes = item->properties->file_bytes;
        rc = kv_table_verify(item->table, &found);
        if (rc == KV_OK)
            rc = kv_values_verify_table(&view->version->values, item->table, &bytes, &found);
    }
    if (rc == KV_CORRUPT || rc == KV_TOO_NEW) {
        check_finding(db, item->number, &found);
        rc = KV_OK;
    }
    kv_view_unref(view);
    KV_COUNT_BY(db, check_bytes, bytes);
    s->check_next_ns = kv_clock_mono_ns(db->env->clock) + (uint64_t)((double)bytes * 1e9 / (double)rate);
    if (item && rc == KV_OK)
        return KV_OK;
    if (rc < 0)
        *err = found;
    return check_end(db, rc, err);
}

/* ---- backup: one piece */

static kv_status backup_goes_on(void *ctx, const struct kv_progress *progress)
{
    const struct kv_db *db = ctx;
    (void)progress;
    return db->closing ? KV_CANCELED : KV_OK;
}

static kv_status backup_piece(struct kv_db *db, struct kv_err *err)
{
    struct kv_schedule *s = &db->schedule;
    const struct kv_backup_options options = {.repository = &s->repository,
                                              .compression = s->options.backup_compression,
                                              .keep = s->options.backup_keep,
                                              .progress = backup_goes_on,
                                              .progress_ctx = db};
    kv_status rc = kv_backup(db, &options, NULL, err); /* which tells the report */
    plan_next(db, BACKUP, rc);
    return rc;
}

/* ---- which */

/* With the mutex. KV_END: nothing is due. */
static kv_status piece(struct kv_db *db, struct kv_err *err)
{
    struct kv_schedule *s = &db->schedule;
    uint64_t now_ns = kv_clock_mono_ns(db->env->clock);
    if (db->closing)
        return KV_END;
    if (s->due_ns[BACKUP] && now_ns >= s->due_ns[BACKUP])
        return backup_piece(db, err);
    if (!s->compacting && s->due_ns[COMPACT] && now_ns >= s->due_ns[COMPACT]) {
        s->due_ns[COMPACT] = 0;
        s->compacting = true;
        s->compact_space = 0;
    }
    if (s->compacting)
        return compact_piece(db, err);
    if (!s->checking && s->due_ns[CHECK] && now_ns >= s->due_ns[CHECK]) {
        s->due_ns[CHECK] = 0;
        check_begin(db);
    }
    return s->checking && now_ns >= s->check_next_ns ? check_piece(db, err) : KV_END;
}

static void piece_failed(struct kv_db *db, const struct kv_err *err)
{
    kv_logf(&db->env->log, KV_LOG_ERROR, "maintenance_failed", "path=%s code=%s error=%s", KV_LOGQ(db->path),
            kv_status_name(err->code), KV_LOGQ(err->text));
}

kv_status kv_schedule_work(struct kv_db *db, struct kv_err *err)
{
    struct kv_err local = {0};
    kv_mutex_lock(&db->schedule.mutex);
    kv_status rc = piece(db, &local);
    arm(db);
    kv_mutex_unlock(&db->schedule.mutex);
    if (rc < 0 && rc != KV_CANCELED && rc != KV_CONFLICT)
        piece_failed(db, &local);
    if (rc < 0)
        kv_err_copy(err, &local);
    return rc;
}

static bool schedule_job(void *ctx)
{
    struct kv_db *db = ctx;
    kv_status rc = kv_schedule_work(db, NULL);
    (void)rc; /* reported; the next piece has its time */
    return false;
}

/* ---- the owner's side */

void kv_schedule_init(struct kv_db *db)
{
    kv_mutex_init(&db->schedule.mutex);
    kv_env_job_init(&db->schedule.job, false, 1, schedule_job, db);
    db->schedule.job.idle = true;
}

void kv_schedule_stop(struct kv_db *db)
{
    kv_env_job_stop(db->env, &db->schedule.job);
}

void kv_schedule_release(struct kv_db *db)
{
    kv_free(db->schedule.path);
    kv_mutex_release(&db->schedule.mutex);
}

static kv_status check_options(const struct kv_maintenance_options *o, struct kv_err *err)
{
    const uint32_t every[KV_TASKS] = {o->compact_every_s, o->check_every_s, o->backup_every_s};
    static const char *const names[KV_TASKS] = {"compact_every_s", "check_every_s", "backup_every_s"};
    for (int task = 0; task < KV_TASKS; task++)
        if (every[task] > PERIOD_S_MAX)
            return kv_fail(err, KV_INVALID, 0, "%s: %" PRIu32 " is more than %d", names[task], every[task],
                           PERIOD_S_MAX);
    if (o->backup_every_s && (!o->repository || !o->repository->path))
        return kv_fail(err, KV_INVALID, 0, "backup_every_s: there is no repository to back up to");
    if (o->backup_compression > KV_COMPRESSION_SNAPPY)
        return kv_fail(err, KV_INVALID, 0, "backup_compression: %d does not exist",
                       (int)o->backup_compression);
    return KV_OK;
}

kv_status kv_schedule(struct kv_db *db, const struct kv_maintenance_options *options, struct kv_err *err)
{
    struct kv_schedule *s = &db->schedule;
    char *path = NULL;
    uint64_t seed;
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    kv_status rc;
    KV_TRY(check_options(options, err));
    path = options->repository ? kv_dup_str(options->repository->path) : NULL;
    if (options->repository && !path) {
        rc = kv_fail(err, KV_NO_MEMORY, 0, "out of memory for a schedule");
        goto out;
    }
    KV_TRY(kv_env_maintain(db->env, err));
    kv_clock_entropy(db->env->clock, &seed, sizeof seed);
    kv_mutex_lock(&s->mutex); /* after the piece under way */
    char *old = s->path;
    s->path = path;
    path = old;
    s->options = *options;
    s->repository = options->repository ? *options->repository : (struct kv_repository){0};
    s->repository.path = s->path;
    s->options.repository = &s->repository;
    s->checking = s->compacting = false;
    kv_prng_init(&s->prng, seed);
    for (int task = 0; task < KV_TASKS; task++)
        plan_first(db, task);
    arm(db);
    kv_mutex_unlock(&s->mutex);
out:
    kv_free(path);
    return rc;
}
