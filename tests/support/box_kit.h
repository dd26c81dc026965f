/*
 * box_kit.h - containers of kvcore/docs/backup.md made frame by frame, and the lists that lie in them, for tests of what is right in
 * sum and wrong in content. What fails in here asserts.
 */
#ifndef BOX_KIT_H
#define BOX_KIT_H

#include "kvcore/backup/set.h"
#include "tests/support/backup_kit.h"
#include "tests/support/sst_kit.h"

struct box {
    struct backup_bytes out;
    struct kv_sink sink;
    struct kv_frame_writer frames;
    struct sst_clock clock;
    struct kv_err err; /* of the last call */
};
void box_open(struct box *box); /* the same header every time, of the database sst_uuid */
void box_put(struct box *box, int kind, kv_slice payload);
/* Any kind, flags and reserved bytes, under the right sum. */
void box_put_raw(struct box *box, uint8_t kind, uint8_t flags, uint8_t zero_1, uint8_t zero_2,
                 kv_slice payload);
void box_finish(struct box *box);
void box_release(struct box *box);

/* A file of a backup: its identity from its name, its sum of content. */
struct kv_backup_file box_file(const char *name, const char *content, enum kv_backup_form form);
/* A log file, "log bytes", and the manifest, "manifest". */
void box_set(struct kv_backup_set *set, enum kv_backup_form form);
void box_put_field(struct kv_buf *out, uint64_t tag, kv_slice body);

#endif
