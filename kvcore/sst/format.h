/*
 * format.h - the numbers of the table format, in one place. Their meaning: kvcore/docs/table.md.
 */
#ifndef KV_TABLE_FORMAT_H
#define KV_TABLE_FORMAT_H

#include "kvcore/base/limits.h"
#include "kvcore/crypt/cipher.h"

#include <stdint.h>

enum {
    KV_TABLE_FORMAT = 1, /* in the file header */

    /* A stored block: payload, codec:u8 inflated_len:u32 crc:u32; in an encrypted table a tag instead of the crc. */
    KV_BLOCK_TRAILER_LEN = 1 + 4 + 4,
    KV_BLOCK_TRAILER_SEALED_LEN = 1 + 4 + KV_CIPHER_TAG_LEN,
    /* Payload of a block of entries: n:u32 base_version:u64, then entries. */
    KV_BLOCK_HEAD_LEN = 4 + 8,
    KV_BLOCK_ENTRY_LEN_MIN = 4 + 1,
    KV_BLOCK_BYTES_DEFAULT = 4096,
    KV_BLOCK_BYTES_MAX = 1 << 20,     /* of the option: a block is closed once it is this large */
    KV_BLOCK_INFLATED_MAX = 68 << 20, /* of any one block: the option, one more entry, and some */
    KV_INDEX_PARTITION_BYTES = 16384,

    KV_FILTER_KIND_LINES = 1,

    /* top index, filter and properties as offset:u64 len:u64; file_bytes:u64; levels:u8; three zero bytes;
       crc:u32; magic:u64 */
    KV_TABLE_FOOTER_BODY_LEN = 3 * 16 + 8 + 4, /* what crc or tag are over */
    KV_TABLE_FOOTER_LEN = KV_TABLE_FOOTER_BODY_LEN + 4 + 8,
    KV_TABLE_FOOTER_SEALED_LEN = KV_TABLE_FOOTER_BODY_LEN + KV_CIPHER_TAG_LEN + 8,
};

#define KV_TABLE_FOOTER_MAGIC UINT64_C(0x0a454c4241544d54) /* "TMTABLE\n" */

/* Properties: tag:varint len:varint bytes, tags increasing. A reader skips odd tags it does not know and
 * refuses even ones. */
enum kv_table_tag {
    KV_TAG_SPACE = 2, /* varint */
    KV_TAG_SPACE_NAME = 3,
    KV_TAG_SMALLEST = 4,
    KV_TAG_LARGEST = 6,
    KV_TAG_CUT_LEN = 8,          /* varint: the cut prefix is that much of smallest */
    KV_TAG_VERSION_MIN = 10,     /* varint */
    KV_TAG_VERSION_MAX = 12,     /* varint */
    KV_TAG_ENTRIES = 14,         /* varint */
    KV_TAG_DELETES = 16,         /* varint */
    KV_TAG_KEYS = 18,            /* varint */
    KV_TAG_RAW_KEY_BYTES = 19,   /* varint */
    KV_TAG_RAW_VALUE_BYTES = 21, /* varint */
    KV_TAG_DATA_BLOCKS = 22,     /* varint */
    KV_TAG_DATA_BYTES = 24,      /* varint */
    /* Written only when not zero, so that tables without such entries are as they always were. */
    KV_TAG_RICH = 26, /* varint: entries that are neither plain puts nor deletes */
    KV_TAG_RANGES_APPLIED =
        27, /* varint: range deletions up to this version were applied when it was written */
    KV_TAG_DELETES_SINCE = 29, /* varint: unix seconds; none of its deletions is older */
    KV_TAG_WRITTEN_AFTER =
        31, /* varint: bulk loads: it is newer than whatever has this version or an older one */
    KV_TAG_VALUE_REFS = 34, /* (segment:varint bytes:varint)*: of the value log, by segment */
    KV_TAG_EXPIRY = 36,     /* varints: entries that expire, smallest and largest expiry (unix seconds) */
};

enum { KV_TAG_MAX = KV_TAG_EXPIRY };

_Static_assert(KV_BLOCK_INFLATED_MAX >= KV_VALUE_LEN_MAX + KV_KEY_LEN_MAX + KV_BLOCK_BYTES_MAX + 64,
               "the largest entry fits a block");

#endif
