#include "tsdb/moment.h"
#include "tsdb/db.h"

enum { MOMENT_TRIES_MAX = 1000 }; /* a removal is a commit with a sync, a try less than a microsecond */

kv_status ts_moment_open(struct ts_db *db, struct ts_head_pin *pin, struct kv_snapshot **snapshot,
                         struct kv_err *err)
{
    kv_status rc;
    for (int i = 0; i < MOMENT_TRIES_MAX; i++) {
        uint64_t removals = ts_registry_removals(db->registry);
        KV_TRY(ts_head_pin(db->head, pin));
        KV_TRY(kv_snapshot_open(db->kv, snapshot));
        if (ts_registry_removals(db->registry) == removals)
            return KV_OK;
        ts_moment_close(pin, snapshot);
    }
    rc = kv_fail(err, KV_BUSY, 0, "series leave the registry without a pause: try again");
out:
    return rc;
}

void ts_moment_close(struct ts_head_pin *pin, struct kv_snapshot **snapshot)
{
    kv_snapshot_close(*snapshot);
    ts_head_unpin(pin);
    *snapshot = NULL;
}
