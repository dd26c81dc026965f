/*
 * backup.c - backups of the running store: one at a time into the configured repository, on a thread of its own, with a status to look at; or
 * as one archive, streamed to whoever asks.
 */
#include "http/api/app.h"
#include "http/json.h"
#include "http/params.h"
#include "kvcore/base/mem.h"

#include <stdio.h>

static void failed(struct http_reply *reply, kv_status rc, const struct kv_err *err)
{
    http_reply_failed(reply, rc, err->text[0] ? err->text : kv_status_text(rc));
}

static void write_info(struct http_json *json, const struct kv_backup_info *info)
{
    HTTP_JSON_RAW(json, "{\"number\":");
    http_json_uint(json, info->number);
    HTTP_JSON_RAW(json, ",\"time\":");
    http_json_time(json, info->time_ms);
    HTTP_JSON_RAW(json, ",\"version\":");
    http_json_uint(json, info->version);
    HTTP_JSON_RAW(json, ",\"files\":");
    http_json_uint(json, info->files);
    HTTP_JSON_RAW(json, ",\"bytes\":");
    http_json_uint(json, info->bytes);
    HTTP_JSON_RAW(json, ",\"addedFiles\":");
    http_json_uint(json, info->added_files);
    HTTP_JSON_RAW(json, ",\"addedBytes\":");
    http_json_uint(json, info->added_bytes);
    HTTP_JSON_RAW(json, "}");
}

/* ---- into the repository ------------------------------------------------------------------------------------------- */

static kv_status job_progress(void *ctx, const struct kv_progress *at)
{
    struct http_app *app = ctx;
    struct http_backup_job *job = &app->backup;
    kv_mutex_lock(&job->mutex);
    job->progress = *at;
    kv_mutex_unlock(&job->mutex);
    return app->stopping ? KV_CANCELED : KV_OK;
}

static void job_run(void *ctx)
{
    struct http_app *app = ctx;
    struct http_backup_job *job = &app->backup;
    struct kv_err err = {0};
    struct kv_backup_info info = {0};
    const struct kv_repository repository = {.path = app->backup_dir};
    const struct kv_backup_options options = {
        .repository = &repository, .keep = job->keep, .progress = job_progress, .progress_ctx = app};
    kv_status rc = ts_backup(app->db, &options, job->flush_head, &info, &err);
    if (rc < 0 && !err.text[0])
        (void)kv_fail(&err, rc, 0, "%s", kv_status_text(rc));
    if (app->log)
        kv_logf(app->log, rc < 0 ? KV_LOG_ERROR : KV_LOG_INFO, rc < 0 ? "backup_failed" : "backup_made",
                "path=%s number=%llu bytes=%llu added_bytes=%llu error=%s", KV_LOGQ(app->backup_dir),
                (unsigned long long)info.number, (unsigned long long)info.bytes,
                (unsigned long long)info.added_bytes, KV_LOGQ(err.text));
    http_count(rc < 0 ? &app->metrics->backups_failed : &app->metrics->backups, 1);
    kv_mutex_lock(&job->mutex);
    job->state = rc < 0 ? HTTP_BACKUP_FAILED : HTTP_BACKUP_DONE;
    job->info = info;
    job->err = err;
    job->ended_ms = kv_clock_wall_ms(app->clock);
    kv_mutex_unlock(&job->mutex);
}

static kv_status job_start(struct http_app *app, uint32_t keep, bool flush_head, struct kv_err *err)
{
    struct http_backup_job *job = &app->backup;
    kv_status rc = KV_OK;
    kv_mutex_lock(&job->mutex);
    if (job->state == HTTP_BACKUP_RUNNING) {
        rc =
            kv_fail(err, KV_BUSY, 0, "a backup is being made; GET /api/v1/status/backup shows how far it is");
    } else {
        kv_thread_join(&job->thread); /* of the backup before, which has ended */
        job->state = HTTP_BACKUP_RUNNING;
        job->progress = (struct kv_progress){0};
        job->keep = keep;
        job->flush_head = flush_head;
        job->started_ms = kv_clock_wall_ms(app->clock);
        rc = kv_thread_start(&job->thread, "backup", 0, job_run, app);
        if (rc < 0) {
            job->state = HTTP_BACKUP_FAILED;
            job->ended_ms = job->started_ms;
            job->err = (struct kv_err){0};
            rc = kv_fail(err, rc, 0, "no thread for a backup: %s", kv_status_text(rc));
            job->err = *err;
        }
    }
    kv_mutex_unlock(&job->mutex);
    return rc;
}

struct listing {
    struct http_json *json;
    size_t n;
};

static void list_one(void *ctx, const struct kv_backup_info *info)
{
    struct listing *list = ctx;
    if (list->n++)
        HTTP_JSON_RAW(list->json, ",");
    write_info(list->json, info);
}

static void write_progress(struct http_json *json, const struct kv_progress *at)
{
    HTTP_JSON_RAW(json, ",\"filesDone\":");
    http_json_uint(json, at->files_done);
    HTTP_JSON_RAW(json, ",\"files\":");
    http_json_uint(json, at->files);
    HTTP_JSON_RAW(json, ",\"bytesDone\":");
    http_json_uint(json, at->bytes_done);
    HTTP_JSON_RAW(json, ",\"bytes\":");
    http_json_uint(json, at->bytes);
}

static void write_status(struct http_app *app, struct http_json *json, enum http_backup_state *state)
{
    static const char *const names[] = {"idle", "running", "done", "failed"};
    struct http_backup_job *job = &app->backup;
    kv_mutex_lock(&job->mutex);
    *state = job->state;
    HTTP_JSON_RAW(json, "{\"state\":");
    http_json_str(json, names[job->state]);
    HTTP_JSON_RAW(json, ",\"directory\":");
    http_json_str(json, app->backup_dir);
    if (job->state != HTTP_BACKUP_IDLE) {
        HTTP_JSON_RAW(json, ",\"started\":");
        http_json_time(json, job->started_ms);
        write_progress(json, &job->progress);
    }
    if (job->state == HTTP_BACKUP_DONE || job->state == HTTP_BACKUP_FAILED) {
        HTTP_JSON_RAW(json, ",\"ended\":");
        http_json_time(json, job->ended_ms);
    }
    if (job->state == HTTP_BACKUP_DONE) {
        HTTP_JSON_RAW(json, ",\"backup\":");
        write_info(json, &job->info);
    }
    if (job->state == HTTP_BACKUP_FAILED) {
        HTTP_JSON_RAW(json, ",\"error\":");
        http_json_str(json, job->err.text);
    }
    kv_mutex_unlock(&job->mutex);
}

/* The status; and, unless one is being made, the backups there are. */
static void answer_status(struct http_app *app, struct http_reply *reply, unsigned status)
{
    struct http_json json;
    struct kv_err err = {0};
    struct listing list = {&json, 0};
    enum http_backup_state state;
    kv_status rc = KV_OK;
    http_api_begin(&json, reply);
    write_status(app, &json, &state);
    if (state != HTTP_BACKUP_RUNNING) {
        HTTP_JSON_RAW(&json, ",\"backups\":[");
        rc =
            kv_backup_list(app->env, &(struct kv_repository){.path = app->backup_dir}, list_one, &list, &err);
        HTTP_JSON_RAW(&json, "]");
    }
    HTTP_JSON_RAW(&json, "}");
    if (rc < 0 && rc != KV_MISSING && rc != KV_BUSY) { /* no backup yet; or the next one has begun */
        failed(reply, rc, &err);
        return;
    }
    http_api_end(&json, reply, NULL);
    if (reply->status == 200)
        reply->status = status;
}

/* Whether there is a directory; otherwise the reply says how to get one. */
static bool has_directory(const struct http_app *app, struct http_reply *reply)
{
    if (app->backup_dir && *app->backup_dir)
        return true;
    http_reply_failed(
        reply, KV_INVALID,
        "no directory for backups is configured: start the server with --backup-dir DIR, or take "
        "an archive: POST /api/v1/admin/backup/archive");
    return false;
}

void http_api_backup_status(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    (void)request;
    if (has_directory(app, reply))
        answer_status(app, reply, 200);
}

void http_api_backup(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct kv_err err = {0};
    bool flush_head = false;
    uint64_t keep = 0;
    if (!has_directory(app, reply))
        return;
    kv_status rc = http_param_bool(request, "flush_head", &flush_head, &err);
    if (rc >= 0)
        rc = http_param_limit(request, "keep", app->backup_keep, &keep, &err);
    if (rc >= 0 && keep > UINT32_MAX)
        rc = kv_fail(&err, KV_INVALID, 0, "invalid parameter \"keep\": too large");
    if (rc >= 0)
        rc = job_start(app, (uint32_t)keep, flush_head, &err);
    if (rc < 0)
        failed(reply, rc, &err);
    else
        answer_status(app, reply, 202);
}

/* ---- as one stream ------------------------------------------------------------------------------------------------- */

enum { STREAM_BYTES_MAX = 4 << 20 }; /* made and not yet sent; past it the backup waits for its reader */

struct stream {
    struct http_app *app;
    bool flush_head;
    kv_thread thread;
    kv_mutex mutex;
    kv_cond changed;
    struct kv_buf made;
    bool ended, abandoned;
    kv_status rc;
    struct kv_err err;
};

static kv_status stream_write(void *ctx, kv_slice bytes, struct kv_err *err)
{
    struct stream *s = ctx;
    kv_status rc;
    kv_mutex_lock(&s->mutex);
    while (s->made.len >= STREAM_BYTES_MAX && !s->abandoned)
        kv_cond_wait(&s->changed, &s->mutex);
    if (s->abandoned)
        rc = kv_fail(err, KV_CANCELED, 0, "whoever asked for the archive is gone");
    else if ((rc = kv_buf_append(&s->made, bytes)) < 0)
        (void)kv_fail(err, rc, 0, "out of memory streaming an archive");
    kv_cond_broadcast(&s->changed);
    kv_mutex_unlock(&s->mutex);
    return rc;
}

static void stream_run(void *ctx)
{
    struct stream *s = ctx;
    const struct kv_sink sink = {stream_write, s};
    struct kv_err err = {0};
    kv_status rc =
        ts_backup(s->app->db, &(struct kv_backup_options){.archive = &sink}, s->flush_head, NULL, &err);
    http_count(rc < 0 ? &s->app->metrics->backups_failed : &s->app->metrics->backups, 1);
    if (rc < 0 && s->app->log)
        kv_logf(s->app->log, KV_LOG_WARN, "archive_failed", "error=%s", KV_LOGQ(err.text));
    kv_mutex_lock(&s->mutex);
    s->ended = true;
    s->rc = rc;
    s->err = err;
    kv_cond_broadcast(&s->changed);
    kv_mutex_unlock(&s->mutex);
}

/* Waits for something to send, or the end. */
static bool stream_wait(struct stream *s)
{
    while (s->made.len == 0 && !s->ended)
        kv_cond_wait(&s->changed, &s->mutex);
    return s->made.len > 0;
}

static kv_status stream_next(void *ctx, struct kv_buf *out)
{
    struct stream *s = ctx;
    kv_mutex_lock(&s->mutex);
    kv_status rc = stream_wait(s) ? kv_buf_append(out, kv_buf_slice(&s->made)) : s->rc < 0 ? s->rc : KV_END;
    kv_buf_clear(&s->made);
    kv_cond_broadcast(&s->changed);
    kv_mutex_unlock(&s->mutex);
    return rc;
}

static void stream_done(void *ctx)
{
    struct stream *s = ctx;
    kv_mutex_lock(&s->mutex);
    s->abandoned = true;
    kv_cond_broadcast(&s->changed);
    kv_mutex_unlock(&s->mutex);
    kv_thread_join(&s->thread);
    kv_buf_release(&s->made);
    kv_cond_release(&s->changed);
    kv_mutex_release(&s->mutex);
    kv_free(s);
}

void http_api_backup_archive(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct kv_err err = {0};
    bool flush_head = false;
    kv_status rc = http_param_bool(request, "flush_head", &flush_head, &err);
    struct stream *s = rc < 0 ? NULL : kv_zalloc(1, sizeof *s);
    if (!s) {
        failed(reply, rc < 0 ? rc : KV_NO_MEMORY, &err);
        return;
    }
    s->app = app;
    s->flush_head = flush_head;
    kv_mutex_init(&s->mutex);
    kv_cond_init(&s->changed);
    rc = kv_thread_start(&s->thread, "archive", 0, stream_run, s);
    kv_mutex_lock(&s->mutex);
    if (rc == KV_OK && !stream_wait(s)) { /* it failed before the first byte: that can still be said */
        rc = s->rc;
        err = s->err;
    }
    kv_mutex_unlock(&s->mutex);
    if (rc < 0) {
        stream_done(s);
        failed(reply, rc, &err);
        return;
    }
    reply->status = 200;
    reply->content_type = "application/octet-stream";
    reply->long_stream = true;
    reply->next = stream_next;
    reply->done = stream_done;
    reply->stream_ctx = s;
}

/* ---- the life of the app ------------------------------------------------------------------------------------------- */

void http_backup_init(struct http_backup_job *job)
{
    *job = (struct http_backup_job){0};
    kv_mutex_init(&job->mutex);
}

void http_backup_release(struct http_backup_job *job)
{
    kv_thread_join(&job->thread);
    kv_mutex_release(&job->mutex);
}
