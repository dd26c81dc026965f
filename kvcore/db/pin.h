/*
 * pin.h - one moment of a database, held: what the manifest says, and every file it takes to open a copy of it. What checkpoint and
 * backup share.
 *
 * Taking a pin rolls the log, so that everything answered so far lies in sealed files. A read-only database has nothing to roll: the
 * log files it replayed count as sealed at what it replayed. Writers are not stopped.
 *
 * Threads    one at a time; several pins of one database may be held, but only one that still holds the log.
 *
 * Ownership  kv_pin_release gives everything back, also after a failed kv_pin_take; {0} and twice are fine. Tables (and whatever the tree
 *            refers to) stay until then; log files stay until kv_pin_let_log_go, which should come early: nothing is trimmed before.
 *
 * Failure    KV_READ_ONLY: the database stopped writing, so the log cannot be rolled; what the log answers.
 */
#ifndef KV_PIN_H
#define KV_PIN_H

#include "kvcore/db/db.h"

struct kv_pin {
    struct kv_db *db;
    struct kv_view *view;
    struct kv_manifest_state state; /* of that moment; all its log files are sealed, none is current */
    uint64_t version;               /* of the newest commit in it */
    bool log_held;
};
KV_MUST kv_status kv_pin_take(struct kv_db *db, struct kv_pin *out, struct kv_err *err);
void kv_pin_let_log_go(struct kv_pin *pin);
void kv_pin_release(struct kv_pin *pin);

/* One file of the pinned moment. */
struct kv_pin_file {
    char name[32]; /* in the database's directory, and of the copy in any other */
    enum kv_file_kind_name kind;
    uint64_t bytes;                        /* what counts of it, from the front; the file may be longer */
    const struct kv_table_meta *table;     /* of KV_NAME_TABLE */
    const struct kv_log_seal *log;         /* of KV_NAME_LOG */
    const struct kv_segment_meta *segment; /* of KV_NAME_SEGMENT */
};
/* Calls each for every file, logs first (they are let go first); good for the call. A negative answer stops and is returned. */
KV_MUST kv_status kv_pin_files(const struct kv_pin *pin,
                               kv_status (*each)(void *ctx, const struct kv_pin_file *file), void *ctx);

#endif
