/*
 * table_salvage.h - what can still be read of a damaged table: every block whose sum (or seal) is right, found by the index
 * where that is readable, else one behind another by trying where each ends.
 *
 * A sum covers the file's uid and the block's place, so a block that opens is one that was written there. A header with one
 * flipped bit is set right. Blocks of the index are told from blocks of entries by what their entries say: handles of
 * blocks in front of them.
 *
 * Threads    one at a time.  Ownership  entries are good for the call.
 * Failure    KV_CORRUPT: nothing can be read (no header, and no uid known; another database's; a key that is not there);
 *            KV_IO, KV_NO_MEMORY, KV_MISSING; what entry answered.
 */
#ifndef KV_TABLE_SALVAGE_H
#define KV_TABLE_SALVAGE_H

#include "kvcore/base/file_header.h"
#include "kvcore/sst/table.h"

struct kv_table_salvage {
    struct kv_dir *dir;
    const char *name;
    uint64_t number;
    struct kv_keyring *keys; /* NULL: the database is not encrypted */
    const uint8_t *uuid;     /* of the database; NULL: any */
    const uint8_t *uid;      /* of the file, if it is known from elsewhere; else NULL */
    kv_status (*entry)(void *ctx,
                       const struct kv_entry *entry); /* in order; versions as stored. May be NULL */
    /* `bytes` of the file from offset on could not be read: what lay between the two keys (empty: none is known). May be NULL. */
    void (*lost)(void *ctx, uint64_t offset, uint64_t bytes, kv_slice after, kv_slice before);
    void *ctx;
};
/* What the properties say, if they could be read. */
struct kv_table_salvaged {
    bool known;
    uint32_t space;
    uint64_t written_after;
};
KV_MUST kv_status kv_table_salvage(const struct kv_table_salvage *how, struct kv_table_salvaged *out,
                                   struct kv_err *err);
/* Sets the one flipped bit of a file's header right. False: that is not what is wrong with it. */
bool kv_header_mend(uint8_t raw[KV_FILE_HEADER_LEN]);

#endif
