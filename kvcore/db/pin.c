#include "kvcore/db/pin.h"

/* Under manifest_mutex the tree is exactly what the manifest says. */
static kv_status pin_capture(struct kv_pin *pin, struct kv_err *err)
{
    struct kv_db *db = pin->db;
    struct kv_edit snapshot = {0};
    kv_mutex_lock(&db->manifest_mutex);
    kv_edit_snapshot(&snapshot, &db->manifest.state);
    pin->state.edit = db->manifest.state.edit;
    pin->view = kv_view_pin(db, &pin->version);
    kv_mutex_unlock(&db->manifest_mutex);
    kv_status rc = snapshot.rc < 0 ? kv_fail(err, snapshot.rc, 0, "out of memory copying the manifest")
                                   : kv_manifest_apply(&pin->state, kv_buf_slice(&snapshot.fields), err);
    kv_edit_release(&snapshot);
    return rc;
}

/* As the leader: no commit is under way. */
static kv_status pin_rolled(void *ctx, uint64_t seq, struct kv_err *err)
{
    struct kv_pin *pin = ctx;
    (void)seq;
    kv_status rc = kv_log_roll(pin->db->log, err);
    return rc < 0 ? rc : pin_capture(pin, err);
}

static kv_status seal_unsealed(void *ctx, const struct kv_log_seal *file, bool sealed)
{
    if (!sealed && file->valid_len > KV_FILE_HEADER_LEN)
        kv_edit_seal(ctx, file);
    return KV_OK;
}

/* What a read-only open found behind the seals becomes sealed in the pinned state; nothing is written. */
static kv_status pin_as_found(struct kv_pin *pin, struct kv_err *err)
{
    struct kv_edit seals = {0};
    kv_status rc;
    KV_TRY(pin_capture(pin, err));
    KV_TRY(kv_log_files(pin->db->log, seal_unsealed, &seals));
    KV_TRY(seals.rc);
    KV_TRY(kv_manifest_apply(&pin->state, kv_buf_slice(&seals.fields), err));
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory listing the log files");
    kv_edit_release(&seals);
    return rc;
}

kv_status kv_pin_take(struct kv_db *db, struct kv_pin *out, struct kv_err *err)
{
    if (db->follow) { /* its log files may go at any moment */
        *out = (struct kv_pin){0};
        return kv_fail(err, KV_UNSUPPORTED, 0, "%s: a follower cannot be backed up: the writer can",
                       db->path);
    }
    *out = (struct kv_pin){.db = db, .log_held = true};
    kv_mutex_lock(&db->checkpoint_mutex); /* log files stay until it is given back */
    kv_status rc = db->committer ? kv_committer_exclusive(db->committer, false, pin_rolled, out, err)
                                 : pin_as_found(out, err);
    out->state.log_current = 0;
    return rc < 0 ? rc : KV_OK;
}

void kv_pin_let_log_go(struct kv_pin *pin)
{
    if (!pin->log_held)
        return;
    pin->log_held = false;
    kv_mutex_unlock(&pin->db->checkpoint_mutex);
    if (pin->db->committer)
        kv_obsolete_trim_log(pin->db);
}

void kv_pin_release(struct kv_pin *pin)
{
    if (!pin->db)
        return;
    kv_pin_let_log_go(pin);
    kv_view_unref(pin->view);
    kv_manifest_state_release(&pin->state);
    *pin = (struct kv_pin){0};
}

kv_status kv_pin_files(const struct kv_pin *pin, kv_status (*each)(void *ctx, const struct kv_pin_file *file),
                       void *ctx)
{
    const struct kv_manifest_state *state = &pin->state;
    kv_status rc = KV_OK;
    for (size_t i = 0; i < state->n_seals && rc >= 0; i++) {
        const struct kv_log_seal *seal = &state->seals[i];
        struct kv_pin_file file = {.kind = KV_NAME_LOG, .bytes = seal->valid_len, .log = seal};
        kv_file_name(file.name, seal->number, file.kind);
        if (seal->number >= state->log_first)
            rc = each(ctx, &file);
    }
    for (size_t i = 0; i < state->n_tables && rc >= 0; i++) {
        const struct kv_table_meta *table = state->tables[i];
        struct kv_pin_file file = {.kind = KV_NAME_TABLE, .bytes = table->bytes, .table = table};
        kv_file_name(file.name, table->number, file.kind);
        rc = each(ctx, &file);
    }
    for (size_t i = 0; i < state->n_segments && rc >= 0; i++) {
        const struct kv_segment_meta *segment = &state->segments[i];
        struct kv_pin_file file = {.kind = KV_NAME_SEGMENT, .bytes = segment->bytes, .segment = segment};
        kv_file_name(file.name, segment->number, file.kind);
        rc = each(ctx, &file);
    }
    return rc;
}
