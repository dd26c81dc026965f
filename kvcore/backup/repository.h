/*
 * repository.h - a directory of backups: files named by their content, a manifest for each backup, and a catalog that says which backups
 * there are. Bytes and names: kvcore/docs/backup.md.
 *
 * A change is one publish: new files and manifests are written and synced, then a catalog that names them is published. What no
 * published catalog leads to is a leftover of a change cut short, and removed by the next one.
 *
 * Threads    one at a time; a lease keeps other processes out (readers share it).
 *
 * Ownership  kv_repo_close gives everything back; {0} and twice are fine. Sets belong to whoever asked for them.
 *
 * Failure    KV_INVALID: the directory holds something else; KV_BUSY; KV_CORRUPT: names the file; KV_MISSING: no such backup, or none.
 */
#ifndef KV_REPOSITORY_H
#define KV_REPOSITORY_H

#include "kvcore/backup/set.h"
#include "kvcore/db/env.h"

enum { KV_REPO_NAME_LEN = 65 };

struct kv_repo {
    const char *path;
    const struct kv_archive_cipher *cipher;
    struct kv_env *env;
    struct kv_dir *dir;
    struct kv_lease *lease;
    uint64_t generation;   /* of what is published; 0: nothing yet */
    char catalog_name[32]; /* "" while none is published */
    struct kv_catalog catalog;
};
/* writable: alone, and the directory is made when missing. */
KV_MUST kv_status kv_repo_open(struct kv_env *env, const struct kv_repository *where, bool writable,
                               struct kv_repo *out, struct kv_err *err);
void kv_repo_close(struct kv_repo *repo);

/* NULL: there is none of that number. 0: the newest. */
const struct kv_catalog_entry *kv_repo_entry(const struct kv_repo *repo, uint64_t number);
/* The files of a backup. */
KV_MUST kv_status kv_repo_load(struct kv_repo *repo, const struct kv_catalog_entry *entry,
                               struct kv_backup_set *out, struct kv_err *err);
/* The files of all backups but `without` (0: none), each once, sorted by content. */
KV_MUST kv_status kv_repo_known(struct kv_repo *repo, uint64_t without, struct kv_backup_set *out,
                                struct kv_err *err);
/* Writes a backup's manifest; *entry gets its number and identity. */
KV_MUST kv_status kv_repo_store(struct kv_repo *repo, struct kv_backup_set *set,
                                struct kv_catalog_entry *entry, struct kv_err *err);
/* Makes next (taken over whatever is answered) the catalog. */
KV_MUST kv_status kv_repo_publish(struct kv_repo *repo, struct kv_catalog *next, struct kv_err *err);
/* Removes what belongs to no backup of the catalog; known: kv_repo_known's answer for it. Foreign files stay. */
KV_MUST kv_status kv_repo_sweep(struct kv_repo *repo, const struct kv_backup_set *known, struct kv_err *err);

/* After a publish: removes what the catalog let go of. What cannot be removed is logged, and left for the next change. */
void kv_repo_let_go(struct kv_repo *repo);
/* Removes catalogs that were never published, so that their numbers are free. */
KV_MUST kv_status kv_repo_sweep_catalogs(struct kv_repo *repo, struct kv_err *err);

/* The name of a database file's copy in a repository. */
void kv_repo_file_name(char out[KV_REPO_NAME_LEN], const struct kv_backup_file *file);

#endif
