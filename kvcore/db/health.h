/*
 * health.h - what became of the work a database does by itself or is asked to do as a whole, for kv_health_report.
 *
 * Threads    any. The mutex is innermost: nothing is called under it.
 */
#ifndef KV_DB_HEALTH_H
#define KV_DB_HEALTH_H

#include "kvcore/kv.h"
#include "kvcore/os/thread.h"

struct kv_jobs {
    kv_mutex mutex;
    struct kv_job_report reports[KV_JOBS];
};

/* What the manifest remembers of earlier opens: unix ms by job, 0: never. */
void kv_jobs_init(struct kv_db *db, const int64_t done_ms[KV_JOBS]);
/* A run ended so; err (may be NULL) has the text of a failure. KV_CANCELED and KV_CONFLICT count as neither. */
void kv_job_ended(struct kv_db *db, enum kv_job job, kv_status rc, const struct kv_err *err);
/* The same, and a success is remembered by the manifest, for the next open. Not under a lock. */
void kv_job_remember(struct kv_db *db, enum kv_job job, kv_status rc, const struct kv_err *err);
/* When it runs next, unix ms; 0: it is not scheduled. */
void kv_job_next(struct kv_db *db, enum kv_job job, int64_t at_ms);

#endif
