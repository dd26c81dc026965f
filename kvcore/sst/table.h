/*
 * table.h - an open table: get, walk, properties. The file never changes. Bytes: kvcore/docs/table.md.
 *
 * Opening reads and verifies header, footer, properties and top index, which stay in memory (counted against
 * the cache). Every block is verified when it is read from the file, whoever asks; a cached one was verified
 * when it was cached.
 * A table that cannot be opened may be stood in for (kv_table_open_damaged): what is known of it from elsewhere counts in
 * its place, and whatever has to be read from it is KV_CORRUPT.
 * Threads    any; an iterator belongs to one.
 * Ownership  counted: open gives one reference. Iterators hold their own. What kv_found lends is held by its
 *            block.
 * Failure    KV_WRONG_KEY: it is encrypted and there is no key. KV_CORRUPT names file and offset in *err and, once per occurrence, in the log; KV_TOO_NEW;
 *            KV_IO; KV_NO_MEMORY. Damage stays local: other blocks go on answering.
 */
#ifndef KV_TABLE_H
#define KV_TABLE_H

#include "kvcore/base/logfmt.h"
#include "kvcore/os/vfs.h"
#include "kvcore/sst/cache.h"
#include "kvcore/sst/entry.h"
#include "kvcore/sst/reads.h"
#include "kvcore/sst/table_build.h"

struct kv_table;

struct kv_table_open_options {
    struct kv_dir *dir;
    const char *name;
    struct kv_cache *cache;
    const struct kv_logger *log; /* may be NULL; outlives the table */
    struct kv_keyring
        *keys; /* of the database; outlives the table. NULL: an encrypted table is KV_WRONG_KEY */
    const uint8_t *db_uuid; /* 16 bytes the header must hold; NULL: any */
    const uint8_t *uid;     /* 16 bytes the header must hold; NULL: any */
    uint64_t file_bytes;    /* size the file must have; 0: any */
    /* Nonzero: the version of every entry (a bulk-loaded table stores 0; KV_CORRUPT if it stores others). */
    uint64_t version;
    /* Called when the last reference is gone and the file is closed, e.g. to remove an obsolete file. May be
     * NULL. */
    void (*gone)(void *ctx, uint64_t number);
    void *gone_ctx;
    uint64_t number; /* handed to gone, kept for the caller */
    struct kv_reads
        *reads; /* where blocks read, and damage met, are counted; outlives the table. NULL: nowhere */
};

KV_MUST kv_status kv_table_open(const struct kv_table_open_options *options, struct kv_table **out,
                                struct kv_err *err);
/*
 * A handle in the place of a table that kv_table_open refused: it has the properties `known` (keys copied; uid,
 * space, counts and versions as a manifest knows them). What asks for keys of [smallest, largest] is answered
 * KV_CORRUPT with the text `why`, in *err and in the log; an iterator is, where it reaches them. The file is not touched.
 */
KV_MUST kv_status kv_table_open_damaged(const struct kv_table_open_options *options,
                                        const struct kv_table_properties *known, const char *why,
                                        struct kv_table **out, struct kv_err *err);
/* Why it could not be opened; NULL: it is open. */
const char *kv_table_damage(const struct kv_table *table);
struct kv_table *kv_table_ref(struct kv_table *table);
void kv_table_unref(struct kv_table *table); /* NULL is fine */
/* Gives a bulk-loaded table its version, before any other thread can see the table. */
void kv_table_set_version(struct kv_table *table, uint64_t version);

/* version_min and version_max are those readers see. Good while a reference is held. */
const struct kv_table_properties *kv_table_properties(const struct kv_table *table);
uint64_t kv_table_number(const struct kv_table *table);

/* The newest entry of key at or below version, deletions included: KV_OK and *out; KV_NOT_FOUND leaves *out
 * empty but for `filtered`. */
KV_MUST kv_status kv_table_get(struct kv_table *table, kv_slice key, uint64_t version, struct kv_found *out,
                               struct kv_err *err);

/* All zero: everything, through the cache. */
struct kv_table_iter_options {
    kv_slice lower,
        upper;          /* user keys, [lower, upper); empty: unbounded. Borrowed: they outlive the iterator */
    bool no_fill;       /* blocks read are not put into the cache: for merges */
    bool uncounted;     /* nor counted among what readers read */
    struct kv_err *err; /* outlives the iterator; may be NULL */
};
KV_MUST kv_status kv_table_iter_open(struct kv_table *table, const struct kv_table_iter_options *options,
                                     struct kv_entry_iter **out);

/* About how many entries and stored bytes lie in [lower, upper) (empty: unbounded), by properties and index; partitions
 * of the index may be read. A table wholly inside counts exactly; one that may hold something counts at least one. */
KV_MUST kv_status kv_table_estimate(struct kv_table *table, kv_slice lower, kv_slice upper, uint64_t *entries,
                                    uint64_t *bytes, struct kv_err *err);

/* Reads every block, and checks order, index, filter and properties against what they hold. For kv_check. */
KV_MUST kv_status kv_table_verify(struct kv_table *table, struct kv_err *err);

#endif
