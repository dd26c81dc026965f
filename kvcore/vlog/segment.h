/*
 * segment.h - a segment of the value log: values that were taken out of tables, one behind another. Written front to
 * back once by a flush or merge, never changed, removed when no table points into it. Bytes: kvcore/docs/vlog.md.
 *
 * A pointer (kvcore/sst/attrs.h) names segment, offset and stored length; a record is verified whole when it is
 * read, whoever asks, and its sum covers the segment's uid and its offset: so a pointer that leads to the middle of
 * a record, to another segment, or past the end is damage, never another value.
 *
 * Tables say what they point at; what the log names and no table points at yet is the segment's own to know: the
 * newest sequence whose commit names it (kv_segment_log_seq).
 *
 * Threads    an open segment: any. A builder belongs to one.
 * Ownership  counted. Values come as blocks of the cache (kvcore/sst/block.h): kv_block_unref gives them back.
 * Failure    KV_CORRUPT names file and offset in *err and in the log; KV_TOO_NEW; KV_IO; KV_NO_MEMORY. After a
 *            builder failed only kv_segment_build_free, which removes the unfinished file.
 */
#ifndef KV_SEGMENT_H
#define KV_SEGMENT_H

#include "kvcore/base/compress.h"
#include "kvcore/base/logfmt.h"
#include "kvcore/crypt/keyring.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/vfs.h"
#include "kvcore/sst/attrs.h"
#include "kvcore/sst/block.h"
#include "kvcore/sst/cache.h"

enum { KV_SEGMENT_FORMAT = 1 };

struct kv_segment;

struct kv_segment_open_options {
    struct kv_dir *dir;
    const char *name;
    struct kv_cache *cache;
    const struct kv_logger *log; /* may be NULL; outlives the segment */
    struct kv_keyring *keys;     /* NULL: no encrypted segment can be opened */
    const uint8_t *db_uuid;      /* 16 bytes the header must hold */
    const uint8_t *uid;          /* 16 bytes the header must hold */
    uint64_t file_bytes;         /* size the file must have */
    uint64_t number;             /* of the file, in pointers */
    /* Called when the last reference is gone and the file is closed. May be NULL. */
    void (*gone)(void *ctx, uint64_t number);
    void *gone_ctx;
};
KV_MUST kv_status kv_segment_open(const struct kv_segment_open_options *options, struct kv_segment **out,
                                  struct kv_err *err);
/* A handle in the place of a segment that kv_segment_open refused: every value of it is KV_CORRUPT with the text
 * `why`. The file is not touched. */
KV_MUST kv_status kv_segment_open_damaged(const struct kv_segment_open_options *options, const char *why,
                                          struct kv_segment **out, struct kv_err *err);
/* Why it could not be opened; NULL: it is open. */
const char *kv_segment_damage(const struct kv_segment *segment);
struct kv_segment *kv_segment_ref(struct kv_segment *segment);
void kv_segment_unref(struct kv_segment *segment); /* NULL is fine */
uint64_t kv_segment_number(const struct kv_segment *segment);
uint64_t kv_segment_bytes(const struct kv_segment *segment);     /* of the file */
const uint8_t *kv_segment_uid(const struct kv_segment *segment); /* KV_FILE_UID_LEN bytes */
/* 0: only tables may point into it. Else the newest log sequence that names it; KV_SEGMENT_HELD: it is not known yet, or
 * a commit is still to come. While the log is kept from there on, the segment is. */
#define KV_SEGMENT_HELD UINT64_MAX
uint64_t kv_segment_log_seq(const struct kv_segment *segment);
void kv_segment_set_log_seq(struct kv_segment *segment, uint64_t seq);
/* The value, as the bytes of a block. fill: it goes into the cache. */
KV_MUST kv_status kv_segment_read(struct kv_segment *segment, const struct kv_pointer *pointer, bool fill,
                                  struct kv_block **out, struct kv_err *err);
/* Verifies it as it lies in the file, whatever the cache holds. */
KV_MUST kv_status kv_segment_verify(struct kv_segment *segment, const struct kv_pointer *pointer,
                                    struct kv_err *err);
/* Tells the log, and answers rc with file and offset. */
kv_status kv_segment_damaged(const struct kv_segment *segment, kv_status rc, uint64_t offset,
                             const char *what, struct kv_err *err);

struct kv_segment_build;
struct kv_segment_build_options {
    struct kv_dir *dir;
    const char *name;
    uint64_t number;
    const uint8_t *db_uuid;
    uint64_t owner_epoch;
    struct kv_clock *clock;
    struct kv_keyring *keys; /* NULL: plain */
};
KV_MUST kv_status kv_segment_build_open(const struct kv_segment_build_options *options,
                                        struct kv_segment_build **out, struct kv_err *err);
/* Appends the value and says where it lies. */
KV_MUST kv_status kv_segment_build_add(struct kv_segment_build *build, kv_slice value, enum kv_codec codec,
                                       struct kv_pointer *pointer, struct kv_err *err);
uint64_t kv_segment_build_bytes(const struct kv_segment_build *build); /* of the file so far */
/* Writes what is left and syncs the file; its name is the caller's to sync. uid: copied out. */
KV_MUST kv_status kv_segment_build_finish(struct kv_segment_build *build, uint8_t uid[KV_FILE_UID_LEN],
                                          struct kv_err *err);
void kv_segment_build_free(struct kv_segment_build *build); /* NULL is fine */

#endif
