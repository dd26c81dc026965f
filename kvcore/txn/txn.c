/* Begin, commit, try again. Own writes: txn_write.c; reading: txn_read.c, txn_iter.c. */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/trace.h"
#include "kvcore/txn/txn.h"
#include "kvcore/txn/validate.h"

#include <inttypes.h>

enum {
    READS_BYTES_DEFAULT = 16 << 20,
    READS_BYTES_MIN = 64 << 10,
};

/* ---- begin, end */

static kv_status options_check(const struct kv_txn_options *options, struct kv_err *err)
{
    if (options->age_max_ms > KV_TXN_AGE_MS_MAX)
        return kv_fail(err, KV_INVALID, 0, "age_max_ms: %" PRIu32 " is over %d", options->age_max_ms,
                       KV_TXN_AGE_MS_MAX);
    if (options->bytes_max > KV_COMMIT_BYTES_MAX)
        return kv_fail(err, KV_INVALID, 0, "bytes_max: %" PRIu64 " is over %d", options->bytes_max,
                       KV_COMMIT_BYTES_MAX);
    if (options->reads_bytes_max && options->reads_bytes_max < READS_BYTES_MIN)
        return kv_fail(err, KV_INVALID, 0, "reads_bytes_max: %" PRIu64 " is under %d",
                       options->reads_bytes_max, READS_BYTES_MIN);
    if (options->snapshot && !options->read_only)
        return kv_fail(err, KV_INVALID, 0, "snapshot: only a read-only transaction can read at an older one");
    return KV_OK;
}

static uint64_t txn_expires_ns(struct kv_db *db, const struct kv_txn_options *options)
{
    uint64_t age_ms = options->age_max_ms ? options->age_max_ms : KV_TXN_AGE_MS_DEFAULT;
    return kv_clock_mono_ns(db->env->clock) + age_ms * 1000000;
}

kv_status kv_txn_begin(struct kv_db *db, const struct kv_txn_options *asked, struct kv_txn **out,
                       struct kv_err *err)
{
    static const struct kv_txn_options none;
    const struct kv_txn_options *options = asked ? asked : &none;
    kv_status rc = options_check(options, err);
    if (rc < 0)
        return rc;
    if (!options->read_only && !db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    struct kv_txn *txn = kv_zalloc(1, sizeof *txn);
    if (!txn)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory beginning a transaction");
    txn->db = db;
    txn->refs = 1;
    txn->read_only = options->read_only;
    txn->bytes_max = options->bytes_max ? (size_t)options->bytes_max : KV_COMMIT_BYTES_MAX;
    txn->entries_max = options->entries_max ? options->entries_max : SIZE_MAX;
    kv_list_init(&txn->iters);
    kv_read_set_init(&txn->reads,
                     options->reads_bytes_max ? (size_t)options->reads_bytes_max : READS_BYTES_DEFAULT);
    if (!txn->read_only) /* first of all: from here on nothing that it has to notice is forgotten */
        kv_txn_slot_begin(db, &txn->slot, txn_expires_ns(db, options));
    rc = options->snapshot ? kv_snapshot_share(options->snapshot, &txn->snapshot)
                           : kv_snapshot_open(db, &txn->snapshot);
    if (rc < 0) {
        kv_txn_abort(txn);
        return kv_fail(err, rc, 0, "out of memory beginning a transaction");
    }
    txn->version = txn->newest = kv_snapshot_seq(txn->snapshot);
    KV_COUNT(db, txns);
    *out = txn;
    return KV_OK;
}

/* It no longer reads, writes or holds anything back. Iterators keep what they read from alive themselves. */
static void txn_end(struct kv_txn *txn)
{
    if (txn->ended)
        return;
    txn->ended = true;
    if (!txn->read_only)
        kv_txn_slot_end(txn->db, &txn->slot);
    kv_snapshot_close(txn->snapshot);
    txn->snapshot = NULL;
    kv_read_set_release(&txn->reads);
    kv_batch_free(txn->batch);
    kv_memtable_unref(txn->written);
    txn->batch = NULL;
    txn->written = NULL;
}

void kv_txn_unref(struct kv_txn *txn)
{
    if (--txn->refs > 0)
        return;
    KV_ASSERT(txn->ended);
    kv_free(txn);
}

void kv_txn_abort(struct kv_txn *txn)
{
    if (!txn)
        return;
    txn_end(txn);
    kv_txn_unref(txn);
}

uint64_t kv_txn_version(const struct kv_txn *txn)
{
    return txn->version;
}

kv_status kv_txn_check_open(const struct kv_txn *txn, struct kv_err *err)
{
    return txn->ended ? kv_fail(err, KV_CLOSED, 0, "the transaction has ended") : KV_OK;
}

/* ---- committing */

struct commit {
    struct kv_txn *txn;
    uint64_t checked;     /* everything up to here was found unchanged */
    struct kv_view *view; /* of the check under the lock; given back outside it */
};

static kv_status too_old(struct kv_err *err)
{
    return kv_fail(err, KV_TOO_OLD, 0, "the transaction is past its maximum age (age_max_ms)");
}

static kv_status validate_one_pending(void *ctx, const struct kv_pending *pending)
{
    struct commit *commit = ctx;
    return kv_validate_pending(&commit->txn->reads, pending, NULL);
}

/* kv_commit_guard.validate: the view is pinned first, then asked whether the transaction was still young. */
static kv_status validate_locked(void *ctx, struct kv_err *err)
{
    struct commit *commit = ctx;
    struct kv_txn *txn = commit->txn;
    uint64_t visible;
    commit->view = kv_view_pin(txn->db, &visible);
    if (!kv_txn_slot_alive(txn->db, &txn->slot))
        return too_old(err);
    kv_status rc = kv_validate_view(txn->db, commit->view, &txn->reads, commit->checked, err);
    if (rc == KV_OK)
        rc = kv_committer_pending(txn->db->committer, validate_one_pending, commit);
    if (rc == KV_CONFLICT)
        kv_fail(err, rc, 0, "another transaction changed what this one read; retry");
    return rc;
}

/* Whatever can be found out without the lock. */
static kv_status validate_early(struct commit *commit, struct kv_err *err)
{
    struct kv_txn *txn = commit->txn;
    uint64_t visible;
    kv_status rc = KV_OK;
    struct kv_view *view = kv_view_pin(txn->db, &visible);
    if (visible > commit->checked)
        rc = kv_validate_view(txn->db, view, &txn->reads, commit->checked, err);
    kv_view_unref(view);
    commit->checked = visible;
    return rc;
}

/* Commits, or (done not NULL) queues what done will be told of. */
static kv_status commit_traced(struct kv_txn *txn, const struct kv_commit_options *how,
                               const struct kv_commit_guard *guard, kv_committed_fn done, void *done_ctx,
                               uint64_t *version, struct kv_err *err)
{
    struct kv_trace_span span;
    struct kv_committer *committer = txn->db->committer;
    kv_trace_begin(txn->db, &span, done ? "txn_commit_async" : "txn_commit", KV_SPACE_ALL, (kv_slice){0},
                   txn->batch ? kv_batch_count(txn->batch) : 0);
    span.op.value_bytes = (txn->batch ? kv_batch_payload(txn->batch) : 0) + how->record.len;
    kv_status rc = done ? kv_committer_commit_async(committer, txn->batch, how, guard, done, done_ctx, err)
                        : kv_committer_commit_guarded(committer, txn->batch, how, guard, version, err);
    return kv_trace_end(txn->db, &span, rc);
}

/* Without the lock, then under it: nothing that was read was changed. The commit itself is made in the same step. */
static kv_status txn_validate(struct kv_txn *txn, struct commit *commit, struct kv_err *err)
{
    kv_status rc;
    if (txn->batch)
        KV_TRY(kv_db_check_batch(txn->db, txn->batch, err));
    KV_TRY(kv_txn_iters_note(txn));
    kv_read_set_seal(&txn->reads);
    if (txn->reads.coarsened)
        KV_COUNT(txn->db, txn_coarsened);
    rc = kv_txn_slot_alive(txn->db, &txn->slot) ? validate_early(commit, err) : too_old(err);
out:
    return rc;
}

static kv_status txn_commit(struct kv_txn *txn, const struct kv_txn_commit_options *options, bool async,
                            uint64_t *version, struct kv_err *err)
{
    struct commit commit = {.txn = txn, .checked = txn->version};
    struct kv_commit_guard guard = {validate_locked, &commit};
    struct kv_commit_options how = {.record = options->record,
                                    .past_floor = options->past_floor,
                                    .ctx = options->record_ctx,
                                    .version = options->version};
    kv_committed_fn done = async ? options->done : NULL;
    bool writes = (txn->batch && kv_batch_count(txn->batch) > 0) || options->record.len > 0;
    kv_status rc = txn->broken;
    if (rc < 0)
        return kv_fail(err, rc, 0, "an earlier call of the transaction failed half-way");
    *version = txn->version;
    if (writes || (options->check_reads && !txn->read_only))
        KV_TRY(txn_validate(txn, &commit, err));
    if (writes)
        rc = commit_traced(txn, &how, &guard, done, options->done_ctx, version, err);
    else if (options->check_reads && !txn->read_only)
        rc = kv_committer_validate(txn->db->committer, &guard, err);
    if (rc == KV_OK && !writes && done)
        rc = kv_committer_call_async(txn->db->committer, done, options->done_ctx, txn->version, err);
    if (rc == KV_OK && writes)
        KV_COUNT(txn->db, txn_commits);
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory committing a transaction");
    kv_view_unref(commit.view);
    return rc;
}

static void commit_refused(struct kv_txn *txn, kv_status rc)
{
    if (rc == KV_CONFLICT)
        KV_COUNT(txn->db, txn_conflicts);
    else if (rc == KV_TOO_OLD)
        KV_COUNT(txn->db, txn_too_old);
}

/* May it be committed at all? */
static kv_status commit_check(const struct kv_txn *txn, const struct kv_txn_commit_options *options,
                              struct kv_err *err)
{
    kv_status rc = kv_txn_check_open(txn, err);
    if (rc == KV_OK && txn->read_only && options->record.len)
        rc = kv_fail(err, KV_INVALID, 0, "the transaction was begun read-only");
    return rc;
}

kv_status kv_txn_commit(struct kv_txn *txn, const struct kv_txn_commit_options *asked, uint64_t *version,
                        struct kv_err *err)
{
    static const struct kv_txn_commit_options none;
    const struct kv_txn_commit_options *options = asked ? asked : &none;
    uint64_t at = 0;
    kv_status rc = commit_check(txn, options, err);
    if (rc < 0)
        return rc;
    rc = txn_commit(txn, options, false, &at, err);
    commit_refused(txn, rc);
    txn_end(txn);
    if (rc == KV_OK && version)
        *version = at;
    if (options->done)
        options->done(options->done_ctx, rc, at);
    return rc;
}

kv_status kv_txn_commit_async(struct kv_txn *txn, const struct kv_txn_commit_options *options,
                              struct kv_err *err)
{
    uint64_t at = 0;
    if (!options || !options->done)
        return kv_fail(err, KV_INVALID, 0, "a commit that nobody waits for needs a callback (done)");
    kv_status rc = commit_check(txn, options, err);
    if (rc == KV_OK && !txn->db->committer)
        rc = kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only: there is nothing to wait for");
    if (rc < 0)
        return rc;
    rc = txn_commit(txn, options, true, &at, err);
    commit_refused(txn, rc);
    if (rc != KV_BUSY)
        txn_end(txn);
    return rc;
}

/* ---- trying again */

/* A random part of a pause that doubles: those who met once do not meet again. */
static void run_back_off(struct kv_db *db, uint32_t failed)
{
    enum { PAUSE_NS = 50000, PAUSE_DOUBLED_MAX = 10 };
    uint64_t random;
    uint32_t doubled = failed < PAUSE_DOUBLED_MAX ? failed : PAUSE_DOUBLED_MAX;
    kv_clock_entropy(db->env->clock, &random, sizeof random);
    kv_clock_sleep_ns(db->env->clock, random % ((uint64_t)PAUSE_NS << doubled));
}

kv_status kv_txn_run(struct kv_db *db, const struct kv_txn_options *options, uint32_t tries, kv_txn_fn run,
                     void *ctx, uint64_t *version, struct kv_err *err)
{
    kv_status rc = KV_CONFLICT;
    if (tries == 0)
        tries = KV_TXN_TRIES_DEFAULT;
    for (uint32_t i = 0; i < tries && rc == KV_CONFLICT; i++) {
        struct kv_txn *txn = NULL;
        if (i > 0) {
            /* What it conflicted with may still be under way: another try before that is visible would meet it again.
             * If waiting fails, so does the try. */
            kv_status waited =
                db->committer ? kv_committer_exclusive(db->committer, false, NULL, NULL, NULL) : KV_OK;
            (void)waited;
            run_back_off(db, i - 1);
        }
        rc = kv_txn_begin(db, options, &txn, err);
        if (rc < 0)
            return rc;
        KV_ASSERT(txn != NULL);
        rc = run(ctx, txn, err);
        if (rc >= 0)
            rc = kv_txn_commit(txn, NULL, version, err);
        kv_txn_abort(txn);
    }
    return rc;
}
