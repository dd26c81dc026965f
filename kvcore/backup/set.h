/*
 * set.h - what a backup consists of (a set), and which backups a repository has (a catalog), as bytes and back. Bytes:
 * kvcore/docs/backup.md.
 *
 * Threads    one at a time.
 *
 * Ownership  a set or catalog owns what it refers to; _release, {0} and twice are fine.
 *
 * Failure    KV_CORRUPT, KV_TOO_NEW with a text; the set or catalog is to be released then.
 */
#ifndef KV_BACKUP_SET_H
#define KV_BACKUP_SET_H

#include "kvcore/backup/frame.h"
#include "kvcore/base/sha256.h"
#include "kvcore/db/manifest.h"

/* Stored numbers. How a backup holds a file. */
enum kv_backup_form {
    KV_FORM_PLAIN = 0,   /* a file of the repository with the same bytes */
    KV_FORM_FRAMED = 1,  /* a file of the repository: a container of its bytes */
    KV_FORM_ARCHIVE = 2, /* in this archive */
    KV_FORM_BASE = 3,    /* in an earlier archive that this one builds upon */
};

/* A file of the database. Its content is known by uid and bytes, and proven by sha256. */
struct kv_backup_file {
    char name[32]; /* in the database */
    uint8_t uid[KV_FILE_UID_LEN];
    uint8_t sha256[KV_SHA256_LEN];
    uint64_t bytes, stored_bytes;
    uint8_t form; /* enum kv_backup_form */
    bool seen;    /* not stored: a mark for whoever goes over them */
};

struct kv_backup_set {
    uint64_t number; /* in its repository; 0: an archive */
    int64_t time_ms;
    uint64_t version; /* of the newest commit in it */
    uint8_t uuid[KV_UUID_LEN];
    bool has_base, has_self;
    uint8_t base[KV_FILE_UID_LEN]; /* identity of the archive it builds upon */
    uint8_t self[KV_FILE_UID_LEN]; /* receipts: of the archive it is of */
    struct kv_backup_file *files;  /* one of them the manifest that is to be published */
    size_t n_files, files_capacity;
};
void kv_set_release(struct kv_backup_set *set);
KV_MUST kv_status kv_set_add(struct kv_backup_set *set, const struct kv_backup_file *file);
/* By name, as they are stored; by content, as they are looked for. */
void kv_set_sort_names(struct kv_backup_set *set);
void kv_set_sort_contents(struct kv_backup_set *set);
/* NULL: not among them. Sorted by content; sorted by name. */
struct kv_backup_file *kv_set_find(const struct kv_backup_set *set, const uint8_t uid[KV_FILE_UID_LEN],
                                   uint64_t bytes);
struct kv_backup_file *kv_set_named(const struct kv_backup_set *set, const char *name);
/* The manifest among them; a decoded set has one. */
const struct kv_backup_file *kv_set_manifest(const struct kv_backup_set *set);
uint64_t kv_set_bytes(const struct kv_backup_set *set); /* of all files, in the database */

/* Sorted by name. with_files false: what an archive begins with, before it knows them. */
KV_MUST kv_status kv_set_encode(const struct kv_backup_set *set, bool with_files, struct kv_buf *out);
/* Checks everything that can be checked without the files. */
KV_MUST kv_status kv_set_decode(kv_slice in, bool with_files, struct kv_backup_set *out, struct kv_err *err);
/* One file's fields, as an archive announces it: identity and length alone are right yet. */
KV_MUST kv_status kv_set_encode_file(const struct kv_backup_file *file, struct kv_buf *out);
KV_MUST kv_status kv_set_decode_file(kv_slice in, struct kv_backup_file *out);

struct kv_catalog_entry {
    uint64_t number;
    int64_t time_ms;
    uint64_t version, bytes, files, added_bytes, added_files; /* added: what it brought into the repository */
    uint8_t uid[KV_FILE_UID_LEN];                             /* of its manifest's container */
};
struct kv_catalog {
    uint8_t uuid[KV_UUID_LEN];        /* of the database */
    uint64_t next;                    /* number of the next backup; grows for ever */
    struct kv_catalog_entry *entries; /* by number */
    size_t n, capacity;
};
void kv_catalog_release(struct kv_catalog *catalog);
KV_MUST kv_status kv_catalog_add(struct kv_catalog *catalog, const struct kv_catalog_entry *entry);
KV_MUST kv_status kv_catalog_encode(const struct kv_catalog *catalog, struct kv_buf *out);
KV_MUST kv_status kv_catalog_decode(kv_slice in, struct kv_catalog *out, struct kv_err *err);

#endif
