/*
 * manifest_mend.h - what can still be known of a database whose manifest is damaged or lost: every whole frame of every
 * manifest file, in the order of their numbers; a snapshot begins anew, a frame that does not fit is left out. For kv_repair.
 *
 * Threads    one.  Ownership  as kv_manifest_load.
 */
#ifndef KV_MANIFEST_MEND_H
#define KV_MANIFEST_MEND_H

#include "kvcore/db/manifest.h"

/* As kv_manifest_load, for the published manifest as it is: *exact. Else what frames there are: state.n_spaces is 0 when there
 * are none. say (may be NULL) gets a line for what was found. KV_WRONG_KEY, KV_TOO_NEW, KV_IO, KV_NO_MEMORY as there; KV_CORRUPT:
 * the published name itself cannot be read. */
KV_MUST kv_status kv_manifest_mend(struct kv_manifest *manifest, struct kv_dir *dir, struct kv_clock *clock,
                                   const struct kv_key_source *source, bool *exact,
                                   void (*say)(void *ctx, const char *line), void *ctx, struct kv_err *err);

/* private: of manifest.c */
KV_MUST kv_status kv_manifest_read_file(struct kv_dir *dir, const char *name, struct kv_buf *out,
                                        struct kv_err *err);
KV_MUST kv_status kv_manifest_read_published(struct kv_manifest *manifest, struct kv_err *err);
KV_MUST kv_status kv_manifest_load_keys(struct kv_manifest *manifest, const struct kv_key_source *source,
                                        const uint8_t *raw, struct kv_cipher **cipher, struct kv_err *err);
KV_MUST kv_status kv_manifest_load_data_keys(struct kv_manifest *manifest, struct kv_err *err);
/* All of what is published but its data keys, into a manifest that is empty but for dir, clock and maybe keys. */
KV_MUST kv_status kv_manifest_read(struct kv_manifest *manifest, const struct kv_key_source *source,
                                   struct kv_err *err);

#endif
