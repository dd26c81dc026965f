/*
 * frame.h - the container of everything this folder writes: a file header and checksummed frames behind it, written and read front to
 * back, so that it may be a file, a pipe or a socket. Bytes: kvcore/docs/backup.md.
 *
 * A frame's checksum is bound to the container's identity and the frame's place. Its payload may be packed (compressed) and sealed
 * (encrypted by the caller's cipher, with identity, place and kind as associated data). The last frame says how many there were, so a
 * container cut off between frames shows.
 *
 * Threads    one at a time.
 *
 * Ownership  kv_frame_writer_release and kv_frame_reader_release; {0} and twice are fine. Sink, source, cipher and name are borrowed. A
 *            payload read is good until the next call.
 *
 * Failure    writing: what the sink answers, KV_NO_MEMORY, KV_LIMIT. Reading: KV_CORRUPT and KV_TOO_NEW with name and offset in *err,
 *            KV_UNSUPPORTED for a sealed frame without a cipher, what the source answers. After one only release.
 */
#ifndef KV_FRAME_H
#define KV_FRAME_H

#include "kvcore/base/compress.h"
#include "kvcore/base/file_header.h"
#include "kvcore/kv.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/vfs.h"

/* Stored numbers: add, never renumber. A reader passes over unknown ones from KV_FRAME_OPTIONAL on, and refuses others. */
enum kv_frame_kind {
    KV_FRAME_ARCHIVE = 1, /* an archive begins: fields of the backup, without its files */
    KV_FRAME_FILE = 2,    /* a file begins: its name, identity and length */
    KV_FRAME_DATA = 3,    /* the next bytes of a file */
    KV_FRAME_FILE_END = 4,
    KV_FRAME_MANIFEST = 5, /* fields of a backup, in one frame or several behind one another */
    KV_FRAME_CATALOG = 6,  /* fields of a catalog, likewise */
    KV_FRAME_EXPORT = 7,   /* an export begins */
    KV_FRAME_ENTRIES = 8,  /* entries of one space and range, in order */
    KV_FRAME_RANGE_END = 9,
    KV_FRAME_END = 10, /* the last one */
    KV_FRAME_OPTIONAL = 128,
};

enum {
    KV_BACKUP_FORMAT = 1,
    KV_FRAME_HEADER_LEN = 16,
    KV_FRAME_LEN_MAX = 128 << 20, /* payload; also inflated */
    KV_FRAME_PIECE = 1 << 20,     /* what writers put into one frame, about */
};

struct kv_frame_writer {
    const struct kv_sink *sink;
    const struct kv_archive_cipher *cipher; /* NULL: not sealed */
    enum kv_codec codec;                    /* KV_CODEC_PLAIN: not packed */
    uint8_t uid[KV_FILE_UID_LEN];
    uint64_t offset, frames;
    struct kv_buf packed, sealed;
};
/* Writes the header. uuid and owner_epoch are the database's. */
KV_MUST kv_status kv_frame_writer_open(struct kv_frame_writer *writer, const struct kv_sink *sink,
                                       struct kv_clock *clock, const uint8_t uuid[KV_UUID_LEN],
                                       uint64_t owner_epoch, struct kv_err *err);
KV_MUST kv_status kv_frame_put(struct kv_frame_writer *writer, enum kv_frame_kind kind, kv_slice payload,
                               struct kv_err *err);
/* The same in as many frames as it takes. */
KV_MUST kv_status kv_frame_put_long(struct kv_frame_writer *writer, enum kv_frame_kind kind, kv_slice payload,
                                    struct kv_err *err);
/* The last frame. */
KV_MUST kv_status kv_frame_finish(struct kv_frame_writer *writer, struct kv_err *err);
void kv_frame_writer_release(struct kv_frame_writer *writer);

struct kv_frame_reader {
    const struct kv_source *source;
    const struct kv_archive_cipher *cipher;
    const char *name; /* for texts */
    struct kv_file_header header;
    uint64_t offset, frames;
    bool ended;
    uint32_t len; /* of the payload being read */
    struct kv_buf stored, opened, inflated;
};
struct kv_frame {
    enum kv_frame_kind kind;
    uint64_t offset; /* in the container */
    kv_slice payload;
};
/* Reads and checks the header. uuid NULL: any database's. */
KV_MUST kv_status kv_frame_reader_open(struct kv_frame_reader *reader, const struct kv_source *source,
                                       const char *name, const uint8_t *uuid, struct kv_err *err);
/* KV_END: the last frame was right and nothing lies behind it. */
KV_MUST kv_status kv_frame_next(struct kv_frame_reader *reader, struct kv_frame *out, struct kv_err *err);
/* A text about the frame's place in the container; returns rc. */
kv_status kv_frame_fail(const struct kv_frame_reader *reader, uint64_t offset, kv_status rc, const char *what,
                        struct kv_err *err);
void kv_frame_reader_release(struct kv_frame_reader *reader);

/* ---- files of a directory as sinks and sources */

/* A new file; finish syncs it. On failure only discard, which removes it. */
struct kv_file_sink {
    struct kv_sink base;
    struct kv_dir *dir;
    struct kv_file *file;
    char name[65];
    uint64_t bytes;
};
KV_MUST kv_status kv_file_sink_open(struct kv_file_sink *sink, struct kv_dir *dir, const char *name,
                                    struct kv_err *err);
KV_MUST kv_status kv_file_sink_finish(struct kv_file_sink *sink, struct kv_err *err);
void kv_file_sink_discard(struct kv_file_sink *sink); /* nothing after finish; {0} is fine */

struct kv_file_source {
    struct kv_source base;
    struct kv_file *file;
    uint64_t offset;
};
KV_MUST kv_status kv_file_source_open(struct kv_file_source *source, struct kv_dir *dir, const char *name,
                                      struct kv_err *err);
void kv_file_source_close(struct kv_file_source *source); /* {0} and twice are fine */

#endif
