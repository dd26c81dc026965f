/*
 * table_build.h - streams entries in order into a new table file. Bytes: kvcore/docs/table.md.
 *
 * The file is created exclusively and written front to back once; finish syncs it. The caller then syncs the
 * directory's names (once for several tables) before any manifest edit names the file.
 * Threads    one at a time.
 * Ownership  entries are copied before return; names and slices of the options too.
 * Failure    after any error only kv_table_build_free may be called; it removes the unfinished file.
 */
#ifndef KV_TABLE_BUILD_H
#define KV_TABLE_BUILD_H

#include "kvcore/base/compress.h"
#include "kvcore/crypt/keyring.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/vfs.h"
#include "kvcore/sst/entry.h"

struct kv_table_build;

struct kv_table_build_options {
    struct kv_dir *dir;
    const char *name;       /* of the new file, e.g. 000017.tbl */
    const uint8_t *db_uuid; /* 16 bytes */
    uint64_t owner_epoch;
    struct kv_clock *clock;  /* entropy for the file's uid and salt */
    struct kv_keyring *keys; /* encrypts it, and outlives the builder; NULL: plain */
    uint32_t space;          /* number and name of the space, stored */
    const char *space_name;
    enum kv_codec codec;
    uint32_t block_bytes; /* 0: 4096 */
    uint32_t
        block_bytes_most; /* where the block before it was worth compressing; below block_bytes: block_bytes */
    bool no_filter;
    uint64_t ranges_applied;  /* for properties.ranges_applied */
    uint64_t deletes_since_s; /* for properties.deletes_since_s */
    uint64_t written_after;   /* for properties.written_after */
    size_t
        cut_len; /* length of the key prefix that every key of the table shares by the space's cut function */
};

/* What a table says about itself. Slices: owned by the table or builder they come from. */
struct kv_table_properties {
    uint8_t uid[16];
    uint64_t key_id;            /* of the data key; 0: not encrypted */
    kv_slice smallest, largest; /* user keys; empty only in an empty table */
    kv_slice cut;               /* the cut prefix all keys share; may be empty */
    kv_slice space_name;
    uint32_t space;
    uint64_t version_min, version_max;
    uint64_t entries, deletes, keys; /* keys: distinct user keys */
    uint64_t raw_key_bytes, raw_value_bytes;
    uint64_t data_blocks, data_bytes; /* as stored */
    kv_slice value_refs;     /* (segment:varint bytes:varint)*: stored bytes of the value log it points at */
    uint64_t rich;           /* entries that are neither plain puts nor deletes */
    uint64_t ranges_applied; /* no entry is covered by a range deletion up to this version */
    uint64_t
        deletes_since_s; /* no deletion in it was made before (unix seconds); 0: not known, or none is there */
    uint64_t written_after; /* a bulk load: it is newer than what has this version; 0: not known */
    uint64_t expiring, expiry_min_s, expiry_max_s; /* entries that expire, and when (unix seconds) */
    uint64_t file_bytes;
};

KV_MUST kv_status kv_table_build_open(const struct kv_table_build_options *options,
                                      struct kv_table_build **out, struct kv_err *err);
/* Entries strictly increase in the order of entry.h (KV_INVALID otherwise). A table to be bulk loaded has
 * version 0 everywhere. */
KV_MUST kv_status kv_table_build_add(struct kv_table_build *build, const struct kv_entry *entry,
                                     struct kv_err *err);
/* Bytes the file would have if it were finished now, about. */
uint64_t kv_table_build_bytes(const struct kv_table_build *build);
/* Writes what is left and syncs. *properties (may be NULL) is good until kv_table_build_free. */
KV_MUST kv_status kv_table_build_finish(struct kv_table_build *build, struct kv_table_properties *properties,
                                        struct kv_err *err);
/* Counts an entry into entries, deletes, rich, raw bytes, versions and expiry. KV_CORRUPT, KV_TOO_NEW: its
 * attributes. */
KV_MUST kv_status kv_table_properties_count(struct kv_table_properties *properties,
                                            const struct kv_entry *entry);
/* Every entry a plain put, no key twice. */
static inline bool kv_table_properties_unique_puts(const struct kv_table_properties *properties)
{
    return !properties->deletes && !properties->rich && properties->keys == properties->entries;
}
/* Removes the file unless it was finished. NULL is fine. */
void kv_table_build_free(struct kv_table_build *build);

#endif
