/* How a database is: the report and its text. */
#include "kvcore/db/health.h"
#include "kvcore/db/db.h"
#include "kvcore/db/pick.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- jobs */

void kv_jobs_init(struct kv_db *db, const int64_t done_ms[KV_JOBS])
{
    kv_mutex_lock(&db->jobs.mutex);
    for (int i = 0; i < KV_JOBS; i++)
        db->jobs.reports[i].last_ok_ms = done_ms[i];
    kv_mutex_unlock(&db->jobs.mutex);
}

void kv_job_ended(struct kv_db *db, enum kv_job job, kv_status rc, const struct kv_err *err)
{
    if (rc == KV_CANCELED || rc == KV_CONFLICT)
        return;
    int64_t now_ms = kv_clock_wall_ms(db->env->clock);
    kv_mutex_lock(&db->jobs.mutex);
    struct kv_job_report *report = &db->jobs.reports[job];
    report->runs++;
    if (rc >= 0) {
        report->last_ok_ms = now_ms;
        report->error = KV_OK;
        report->text[0] = 0;
    } else {
        report->failures++;
        report->last_failed_ms = now_ms;
        report->error = rc;
        snprintf(report->text, sizeof report->text, "%.*s", (int)sizeof report->text - 1,
                 err ? err->text : kv_status_text(rc));
    }
    kv_mutex_unlock(&db->jobs.mutex);
}

void kv_job_remember(struct kv_db *db, enum kv_job job, kv_status rc, const struct kv_err *err)
{
    struct kv_edit edit = {0};
    struct kv_err local = {0};
    kv_job_ended(db, job, rc, err);
    if (rc < 0 || !db->committer)
        return;
    kv_edit_job_done(&edit, (uint64_t)job, kv_clock_wall_ms(db->env->clock));
    if (kv_db_commit_edit(db, &edit, &local) < 0) /* then the next open does not know of it */
        kv_logf(&db->env->log, KV_LOG_WARN, "job_not_remembered", "error=%s", KV_LOGQ(local.text));
    kv_edit_release(&edit);
}

void kv_job_next(struct kv_db *db, enum kv_job job, int64_t at_ms)
{
    kv_mutex_lock(&db->jobs.mutex);
    db->jobs.reports[job].next_ms = at_ms;
    kv_mutex_unlock(&db->jobs.mutex);
}

/* ---- the report */

static void report_disk(struct kv_db *db, struct kv_health_report *out)
{
    struct kv_space_info space = {0};
    struct kv_err err = {0};
    out->writable = kv_health(db, &err);
    if (out->writable != KV_OK)
        snprintf(out->reason, sizeof out->reason, "%.*s", (int)sizeof out->reason - 1, err.text);
    if (db->dir->ops->space(db->dir, &space, NULL) == KV_OK) {
        out->disk_free_bytes = space.free_bytes;
        out->disk_total_bytes = space.total_bytes;
    }
    out->disk_floor_bytes = db->options.disk_reserve_bytes;
    out->disk_bytes = kv_disk_bytes(db);
}

static void report_log(struct kv_db *db, struct kv_health_report *out)
{
    struct kv_log_stats log;
    kv_log_stats(db->log, &log);
    out->log_files = log.files;
    out->log_bytes = log.file_bytes;
    kv_mutex_lock(&db->manifest_mutex);
    uint64_t floor = db->manifest.state.log_floor;
    kv_mutex_unlock(&db->manifest_mutex);
    uint64_t next = out->version + 1;
    out->log_commits = next > floor ? next - (floor ? floor : 1) : 0;
}

static void report_pressure(struct kv_db *db, struct kv_health_report *out)
{
    struct kv_view *view = kv_view_pin(db, &out->version);
    out->memtables_waiting = view->n_mem - 1;
    (void)kv_version_damaged(view->version, &out->damaged_files);
    for (uint32_t i = 0; i < view->version->n_spaces; i++) {
        struct kv_pick_levels levels = {0};
        if (db->spaces[i].style != KV_STYLE_LEVELLED)
            continue;
        kv_pick_levels(&view->version->trees[i], i, &db->spaces[i], NULL, &levels);
        out->level0_runs = levels.level0_runs > out->level0_runs ? levels.level0_runs : out->level0_runs;
        out->merge_waiting_bytes += levels.excess;
    }
    kv_view_unref(view);
    out->merges_running = atomic_load_explicit(&db->merges_running, memory_order_relaxed);
    out->merges_stopped = db->merging_stopped;
    out->slow_ns_per_kib = atomic_load_explicit(&db->slow_ns_per_kib, memory_order_relaxed);
    out->pressure = out->memtables_waiting >= KV_IMMUTABLE_MAX       ? KV_PRESSURE_STALLED
                    : out->memtables_waiting + 1 >= KV_IMMUTABLE_MAX ? KV_PRESSURE_FLUSH
                    : out->slow_ns_per_kib > 0                       ? KV_PRESSURE_MERGE
                                                                     : KV_PRESSURE_NONE;
}

static void report_readers(struct kv_db *db, struct kv_health_report *out)
{
    uint64_t now_ns = kv_clock_mono_ns(db->env->clock), expires_ns = 0;
    out->pins = atomic_load_explicit(&db->pins, memory_order_relaxed);
    kv_mutex_lock(&db->view_mutex);
    for (struct kv_list *at = db->views_left.next; at != &db->views_left; at = at->next) {
        const struct kv_view *view = KV_CONTAINER(at, struct kv_view, left);
        uint64_t age_ms = (now_ns - view->left_ns) / 1000000;
        out->held_views++;
        out->held_ms = age_ms > out->held_ms ? age_ms : out->held_ms;
    }
    kv_mutex_unlock(&db->view_mutex);
    kv_mutex_lock(&db->obsolete_mutex);
    out->held_files = db->n_obsolete;
    kv_mutex_unlock(&db->obsolete_mutex);
    out->txns = kv_db_txns(db, &out->txn_oldest_version, &expires_ns);
    if (out->txns && expires_ns != UINT64_MAX)
        out->txn_expires_ms = expires_ns > now_ns ? (expires_ns - now_ns) / 1000000 : 0;
}

void kv_health_report(struct kv_db *db, struct kv_health_report *out)
{
    *out = (struct kv_health_report){.wall_ms = kv_clock_wall_ms(db->env->clock)};
    report_disk(db, out);
    report_pressure(db, out);
    report_log(db, out);
    report_readers(db, out);
    out->retention_ms = kv_retention_clock_now(&db->retention, &out->clock_step_ms);
    out->damage_seen = atomic_load_explicit(&db->reads.damage_seen, memory_order_relaxed);
    kv_mutex_lock(&db->jobs.mutex);
    memcpy(out->jobs, db->jobs.reports, sizeof out->jobs);
    kv_mutex_unlock(&db->jobs.mutex);
    bool failing = false;
    for (int i = 0; i < KV_JOBS; i++)
        failing = failing || out->jobs[i].error < 0;
    out->sound = (out->writable == KV_OK || !db->committer) && out->damage_seen == 0 &&
                 out->damaged_files == 0 && !out->merges_stopped && out->clock_step_ms == 0 &&
                 out->pressure != KV_PRESSURE_STALLED && !failing;
}

const char *kv_job_name(enum kv_job job)
{
    static const char *const names[KV_JOBS] = {"flush", "merge", "log_trim", "compact", "check", "backup"};
    return names[job];
}

/* ---- as text */

static const char *pressure_text(enum kv_pressure pressure)
{
    static const char *const texts[] = {"none", "flushes are a little behind", "merges are behind",
                                        "commits wait for a flush"};
    return texts[pressure];
}

static kv_status text_writing(const struct kv_health_report *r, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(kv_buf_printf(out, "sound=%s\nwritable=%s code=%s reason=%s\n", r->sound ? "yes" : "no",
                         r->writable == KV_OK ? "yes" : "no", kv_status_name(r->writable),
                         KV_LOGQ(r->reason)));
    KV_TRY(kv_buf_printf(out,
                         "disk free_bytes=%" PRIu64 " total_bytes=%" PRIu64 " floor_bytes=%" PRIu64
                         " used_bytes=%" PRIu64 "\n",
                         r->disk_free_bytes, r->disk_total_bytes, r->disk_floor_bytes, r->disk_bytes));
    KV_TRY(kv_buf_printf(out,
                         "pressure cause=%s slow_ns_per_kib=%" PRIu64 " memtables_waiting=%" PRIu64
                         " level0_runs=%" PRIu64 "\n",
                         KV_LOGQ(pressure_text(r->pressure)), r->slow_ns_per_kib, r->memtables_waiting,
                         r->level0_runs));
    KV_TRY(kv_buf_printf(out, "merges running=%" PRIu64 " waiting_bytes=%" PRIu64 " stopped=%s\n",
                         r->merges_running, r->merge_waiting_bytes, r->merges_stopped ? "yes" : "no"));
    KV_TRY(kv_buf_printf(out,
                         "log version=%" PRIu64 " files=%" PRIu64 " bytes=%" PRIu64 " commits=%" PRIu64 "\n",
                         r->version, r->log_files, r->log_bytes, r->log_commits));
out:
    return rc;
}

kv_status kv_health_text(const struct kv_health_report *r, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(text_writing(r, out));
    KV_TRY(kv_buf_printf(
        out, "readers pins=%" PRIu64 " held_views=%" PRIu64 " held_ms=%" PRIu64 " held_files=%" PRIu64 "\n",
        r->pins, r->held_views, r->held_ms, r->held_files));
    KV_TRY(kv_buf_printf(out,
                         "transactions live=%" PRIu64 " oldest_version=%" PRIu64 " expires_ms=%" PRIu64 "\n",
                         r->txns, r->txn_oldest_version, r->txn_expires_ms));
    KV_TRY(
        kv_buf_printf(out, "damage files=%" PRIu64 " seen=%" PRIu64 "\n", r->damaged_files, r->damage_seen));
    KV_TRY(kv_buf_printf(out, "clock retention_ms=%" PRId64 " wall_ms=%" PRId64 " step_ms=%" PRId64 "\n",
                         r->retention_ms, r->wall_ms, r->clock_step_ms));
    for (int i = 0; i < KV_JOBS; i++) {
        const struct kv_job_report *job = &r->jobs[i];
        KV_TRY(kv_buf_printf(out,
                             "job name=%s runs=%" PRIu64 " failures=%" PRIu64 " last_ok_ms=%" PRId64
                             " last_failed_ms=%" PRId64 " next_ms=%" PRId64 " code=%s error=%s\n",
                             kv_job_name((enum kv_job)i), job->runs, job->failures, job->last_ok_ms,
                             job->last_failed_ms, job->next_ms, kv_status_name(job->error),
                             KV_LOGQ(job->text)));
    }
out:
    return rc;
}
