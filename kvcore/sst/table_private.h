/*
 * table_private.h - what table.c, table_iter.c and table_verify.c share, and nobody else sees.
 */
#ifndef KV_TABLE_PRIVATE_H
#define KV_TABLE_PRIVATE_H

#include "kvcore/sst/block.h"
#include "kvcore/sst/format.h"
#include "kvcore/sst/table.h"

struct kv_table {
    _Atomic uint32_t refs;
    struct kv_file *file;
    char *name;
    struct kv_cache *cache;
    const struct kv_logger *log;
    uint64_t id;      /* in the cache */
    uint64_t version; /* nonzero: of every entry */
    uint32_t uid_sum;
    struct kv_cipher *cipher; /* NULL: not encrypted */
    uint64_t footer_offset;   /* every block ends at or before it */

    uint8_t levels; /* of the index: 1: top points at data; 2: top points at partitions */
    struct kv_block *top;
    struct kv_block_handle top_handle, filter_handle,
        properties_handle;   /* filter: len 0 when there is none */
    struct kv_block *filter; /* NULL: none, or read through the cache */
    uint64_t pinned_bytes;
    struct kv_block *properties_block; /* what the slices of properties point into */
    struct kv_table_properties properties;
    char *
        damage; /* NULL; else the file could not be opened, for this reason, and the keys of properties lie in: */
    uint8_t *known_keys;

    void (*gone)(void *ctx, uint64_t number);
    void *gone_ctx;
    uint64_t number;
    struct kv_reads *reads; /* may be NULL */
};

static inline size_t kv_table_footer_len(const struct kv_cipher *cipher)
{
    return cipher ? KV_TABLE_FOOTER_SEALED_LEN : KV_TABLE_FOOTER_LEN;
}

/* Reports damage at offset: text in *err, a line in the log. Returns rc. */
kv_status kv_table_damaged(const struct kv_table *table, kv_status rc, uint64_t offset, const char *what,
                           struct kv_err *err);
/* A table that could not be opened: what each question that needs the file is answered. */
kv_status kv_table_refuse(const struct kv_table *table, struct kv_err *err);
/* kv_table_iter_open for one; the bounds are the caller's. */
KV_MUST kv_status kv_table_damaged_iter_open(struct kv_table *table,
                                             const struct kv_table_iter_options *options,
                                             struct kv_entry_iter **out);
/* The footer of the file gives the handles of index, filter and properties. */
KV_MUST kv_status kv_table_open_footer(struct kv_table *table, uint64_t file_bytes, struct kv_err *err);
/* Slices of *p point into `in`. */
KV_MUST kv_status kv_table_decode_properties(kv_slice in, struct kv_table_properties *p);
/* Reads and verifies a block from the file, whatever the cache holds. entries: false for filter and
 * properties. */
KV_MUST kv_status kv_table_read_block(struct kv_table *table, struct kv_block_handle handle, bool entries,
                                      struct kv_block **out, struct kv_err *err);
/* What else is done with a block that has to be read: */
enum {
    KV_BLOCK_FILL = 1,  /* put into the cache */
    KV_BLOCK_COUNT = 2, /* counted in the table's reads */
    KV_BLOCK_LOOKUP = KV_BLOCK_FILL | KV_BLOCK_COUNT,
};
/* A block from the cache, or read and verified. */
KV_MUST kv_status kv_table_block(struct kv_table *table, struct kv_block_handle handle, unsigned how,
                                 struct kv_block **out, struct kv_err *err);
/* The handle in an index block's entry i. */
KV_MUST kv_status kv_table_handle(const struct kv_table *table, const struct kv_block *index, uint32_t i,
                                  struct kv_entry *separator, uint8_t key_buf[KV_KEY_LEN_MAX],
                                  struct kv_block_handle *out, struct kv_err *err);

#endif
