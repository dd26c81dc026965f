/*
 * logged.h - the large values that the log names, for repair and salvage: which of them can still be read.
 *
 * An open database asks only whether a value's segment is known (kv_large_logged); a damaged one fails the reads of its key.
 *
 * Threads    one; the database is closed.
 */
#ifndef KV_DB_LOGGED_H
#define KV_DB_LOGGED_H

#include "kvcore/db/env.h"
#include "kvcore/db/manifest.h"

/* Reads all of the value that an entry of kind KV_KIND_POINTER in the log stands for. *segment: the number of the segment it lies in,
 * 0 when that cannot be told. KV_CORRUPT: it is lost, and err says why; other failures are not about the value. */
KV_MUST kv_status kv_logged_verify(struct kv_env *env, struct kv_dir *dir, const struct kv_manifest *manifest,
                                   kv_slice value, uint64_t *segment, struct kv_err *err);
struct kv_logged_mend {
    struct kv_env *env;
    struct kv_dir *dir;
    const struct kv_manifest *manifest;
    kv_status (*each)(void *ctx, kv_slice key, uint64_t segment, const char *why, struct kv_err *err);
    void *ctx;
};
/*
 * The batch of a commit without the values that are lost: each is a deletion of its key instead, so that nothing older comes to light.
 * KV_NOT_FOUND: none is, and *out stays as it is; KV_OK: appended to *out. each (may be NULL) is called
 * with every lost one; a negative answer ends it.
 */
KV_MUST kv_status kv_logged_mend_batch(const struct kv_logged_mend *mend, kv_slice batch, struct kv_buf *out,
                                       struct kv_err *err);

#endif
