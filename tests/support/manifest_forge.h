/*
 * manifest_forge.h - manifest files made by hand, by kvcore/docs/manifest.md: right checksums, any content, not encrypted. What it needs to
 * succeed asserts.
 */
#ifndef MANIFEST_FORGE_H
#define MANIFEST_FORGE_H

#include "kvcore/db/manifest.h"

struct manifest_forge {
    struct kv_file_header header; /* may be changed before the storing; the uid before the first frame */
    struct kv_buf bytes;
};
/* A header alone. id tells this file's uid from others'; the database is always the same. */
void manifest_forge_begin(struct manifest_forge *forge, uint8_t id);
void manifest_forge_release(struct manifest_forge *forge);
void manifest_forge_frame(struct manifest_forge *forge, uint64_t number, kv_slice fields);
void manifest_forge_edit(struct manifest_forge *forge, uint64_t number, struct kv_edit *edit); /* takes it */
/* Identity and one space "a"; next_file tells one snapshot from another. */
void manifest_forge_snapshot(struct manifest_forge *forge, uint64_t number, uint64_t next_file);
/* An edit that moves the last sequence to seq. */
void manifest_forge_seq(struct manifest_forge *forge, uint64_t number, uint64_t seq);
void manifest_forge_store(struct manifest_forge *forge, struct kv_vfs *vfs, const char *path,
                          const char *name);
void manifest_forge_publish(struct kv_dir *dir, const char *name);

#endif
