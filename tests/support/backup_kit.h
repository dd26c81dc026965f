/*
 * backup_kit.h - backups for a test: an archive in memory, a repository on a vfs of its own, a cipher that only proves that it was used,
 * and a database restored and read in one step. What the kit itself needs to succeed asserts.
 */
#ifndef BACKUP_KIT_H
#define BACKUP_KIT_H

#include "tests/support/kv_kit.h"

/* An archive: a sink that collects, a source that gives back. */
struct backup_bytes {
    struct kv_buf bytes;
    size_t at;        /* read so far */
    size_t read_max;  /* bytes a read gives at most; 0: as many as are asked for */
    uint64_t fail_at; /* writing fails past so many bytes; 0: never */
};
struct kv_sink backup_bytes_sink(struct backup_bytes *archive);
struct kv_source backup_bytes_source(struct backup_bytes *archive); /* from the front */
void backup_bytes_release(struct backup_bytes *archive);

/* A xor with the place, and a sum: not secret, but another place, key or byte is noticed. */
struct kv_archive_cipher backup_cipher(const uint8_t *key);

/* "a/k=v b/k=v ..." of everything in a database, by iterators. */
const char *backup_content(struct kv_kit *kit, char *out, size_t size);
/* The same of the database in `path` of kit's vfs, opened and closed again; kit's own must be closed. */
const char *backup_content_of(struct kv_kit *kit, const char *path, char *out, size_t size);
/* kv_check of the database in path: asserts that it is sound. */
void backup_check(struct kv_kit *kit, const char *path);

kv_status backup_to(struct kv_kit *kit, const struct kv_repository *repository, struct kv_backup_info *info);
/* Backup `number` of the repository into path of kit's vfs; kit has an env of its own for it. */
kv_status backup_restore(struct kv_kit *kit, const struct kv_repository *repository, uint64_t number,
                         const char *path);
/* All of it. */
kv_status backup_verify(struct kv_kit *kit, const struct kv_repository *repository);
/* An environment on kit's vfs when none is open. To be closed by kv_env_close unless it is kit->env. */
struct kv_env *backup_env(struct kv_kit *kit);

#endif
