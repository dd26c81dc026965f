/*
 * sst_forge.h - table files whose every sum is right and whose contents are what the test says: for the rules of kvcore/docs/table.md
 * that no flipped bit reaches. What fails in here asserts.
 *
 * A forge begins as a small sound table: the puts a, b | c, d in two blocks, version 5, each with its key as value. The test changes
 * what it wants and writes the file; properties that were not set follow the entries.
 */
#ifndef SST_FORGE_H
#define SST_FORGE_H

#include "kvcore/sst/format.h"
#include "tests/support/sst_kit.h"

enum { FORGE_BLOCKS = 2, FORGE_ENTRIES = 3 };

struct forge_field {
    bool set, absent;
    kv_slice bytes;
    uint8_t number[KV_VARINT_LEN_MAX];
};

struct forge {
    struct kv_entry entries[FORGE_BLOCKS][FORGE_ENTRIES];
    size_t n[FORGE_BLOCKS];
    struct kv_entry separators[FORGE_BLOCKS]; /* values: below */
    struct kv_entry top[FORGE_BLOCKS];        /* with levels 2: one partition a block */
    bool partition_empty[FORGE_BLOCKS], top_empty;
    kv_slice handle_raw[FORGE_BLOCKS]; /* in the index (with levels 2 in the top), instead of the right one */
    bool same_block;                   /* both separators point at the first block */
    size_t gap;                        /* zeros behind the first block */
    uint32_t levels;                   /* 1 or 2 */
    uint32_t levels_said;              /* in the footer */
    int64_t file_bytes_off;            /* in the footer, added */
    bool no_filter;
    kv_slice filter; /* .data NULL: the right one */
    struct forge_field fields[KV_TAG_MAX + 1];
    kv_slice properties; /* .data NULL: of fields */
    kv_slice properties_tail;
};

void forge_init(struct forge *forge);
void forge_number(struct forge *forge, enum kv_table_tag tag, uint64_t v);    /* a property */
void forge_bytes(struct forge *forge, enum kv_table_tag tag, kv_slice bytes); /* must outlive the forge */
void forge_absent(struct forge *forge, enum kv_table_tag tag);
void forge_write(const struct forge *forge, struct sst_kit *kit, const char *name);

#endif
