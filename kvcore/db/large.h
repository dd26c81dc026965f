/*
 * large.h - values that are written piece by piece: the inside of kv_value_writer. The public half is in kv.h.
 *
 * A value longer than kv_options.large_value_bytes goes to a segment of the value log of its own, in blocks
 * (kvcore/vlog/large.h). kv_value_writer_finish syncs the segment and its name, and adds it to the manifest by an edit,
 * all before any commit can name it: so what the log names is always there, and what a crash leaves without the edit is
 * an orphan. From then on the segment is part of every version of the tree for as long as a table points into it or the
 * log is kept from a commit that names it (kv_segment_log_seq, kv_values_make). While no commit names it yet the
 * writer holds it; a writer that goes without one takes it along, and so does an open that finds it named by nothing.
 *
 * Threads    a writer: one at a time, but the caller's handle and a batch that holds it may be let go by different ones.
 * Ownership  counted: the caller's handle, and the batch it was put into.
 */
#ifndef KV_DB_LARGE_H
#define KV_DB_LARGE_H

#include "kvcore/db/db.h"

/* ---- for batches */

/* A batch takes the value: at most one at a time holds it. KV_INVALID: not finished, or of another space; KV_BUSY: a batch
 * holds it; KV_EXISTS: it was committed. */
KV_MUST kv_status kv_value_take(struct kv_value_writer *writer, uint32_t space);
void kv_value_give_back(struct kv_value_writer *writer);
/* The value itself, if it is short enough to be put as any other; then nobody takes it. */
bool kv_value_inline(const struct kv_value_writer *writer, uint32_t space, kv_slice *value);
const struct kv_pointer *kv_value_pointer(const struct kv_value_writer *writer);
const struct kv_db *kv_value_db(const struct kv_value_writer *writer);
bool kv_value_committed(const struct kv_value_writer *writer);

/* ---- for the log */

/* Commit seq, which is in the log, puts this value (attributes and pointer). KV_CORRUPT: its segment is not there, in this
 * version (NULL: the current one). */
KV_MUST kv_status kv_large_logged(struct kv_db *db, const struct kv_version *version, kv_slice value,
                                  uint64_t seq, struct kv_err *err);
/* The log was read: what it does not name is held by tables alone. */
void kv_large_recovered(struct kv_db *db);
/* And what nothing holds goes. */
KV_MUST kv_status kv_large_sweep(struct kv_db *db, struct kv_err *err);

#endif
