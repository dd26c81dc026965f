/* Manifest files: frames of checksummed edits, appended and synced; a new file whenever the old one cannot be
 * trusted. */
#include "kvcore/db/manifest.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/mem.h"

#include <inttypes.h>
#include <stdio.h>

/* frame := magic:u32 crc:u32 len:u32 number:u64 fields[len]; crc32c of (file uid, offset:u64, number:u64,
 * len:u32, fields). */
enum {
    FRAME_MAGIC = 0x6445764b,
    FRAME_HEADER_LEN = 4 + 4 + 4 + 8,
    FRAME_FIELDS_MAX = 1 << 29,
    RENEW_BYTES_MIN = 64 << 10
};

/* ---- names */

void kv_file_name(char out[32], uint64_t number, enum kv_file_kind_name kind)
{
    static const char *const suffixes[] = {"log", "tbl", "man"};
    snprintf(out, 32, "%06" PRIu64 ".%s", number, suffixes[kind]);
}

bool kv_file_name_parse(const char *name, uint64_t *number, enum kv_file_kind_name *kind)
{
    uint64_t n = 0;
    size_t digits = 0;
    for (; name[digits] >= '0' && name[digits] <= '9' && digits < 19; digits++)
        n = n * 10 + (uint64_t)(name[digits] - '0');
    char again[32];
    for (int k = KV_NAME_LOG; k <= KV_NAME_MANIFEST; k++) {
        kv_file_name(again, n, (enum kv_file_kind_name)k);
        if (digits >= 6 && strcmp(again, name) == 0) {
            *number = n;
            *kind = (enum kv_file_kind_name)k;
            return true;
        }
    }
    return false;
}

/* ---- frames */

static uint32_t frame_crc(const uint8_t uid[KV_FILE_UID_LEN], uint64_t offset, uint64_t number,
                          kv_slice fields)
{
    uint8_t place[KV_FILE_UID_LEN + 8 + 8 + 4];
    memcpy(place, uid, KV_FILE_UID_LEN);
    kv_put_fixed64(place + KV_FILE_UID_LEN, offset);
    kv_put_fixed64(place + KV_FILE_UID_LEN + 8, number);
    kv_put_fixed32(place + KV_FILE_UID_LEN + 16, (uint32_t)fields.len);
    return kv_crc32c(kv_crc32c(0, kv_slice_of(place, sizeof place)), fields);
}

static kv_status frame_append(struct kv_buf *out, const uint8_t uid[KV_FILE_UID_LEN], uint64_t offset,
                              uint64_t number, kv_slice fields)
{
    if (fields.len > FRAME_FIELDS_MAX)
        return KV_LIMIT;
    uint8_t header[FRAME_HEADER_LEN];
    kv_put_fixed32(header, FRAME_MAGIC);
    kv_put_fixed32(header + 4, frame_crc(uid, offset, number, fields));
    kv_put_fixed32(header + 8, (uint32_t)fields.len);
    kv_put_fixed64(header + 12, number);
    kv_status rc = kv_buf_append(out, kv_slice_of(header, sizeof header));
    return rc < 0 ? rc : kv_buf_append(out, fields);
}

static bool frame_at(kv_slice file, const uint8_t uid[KV_FILE_UID_LEN], uint64_t offset,
                     struct kv_manifest_frame *out)
{
    if (file.len - offset < FRAME_HEADER_LEN)
        return false;
    const uint8_t *p = file.data + offset;
    size_t len = kv_get_fixed32(p + 8);
    if (kv_get_fixed32(p) != FRAME_MAGIC || len > file.len - offset - FRAME_HEADER_LEN)
        return false;
    *out = (struct kv_manifest_frame){offset, kv_get_fixed64(p + 12), kv_slice_of(p + FRAME_HEADER_LEN, len)};
    return frame_crc(uid, offset, out->number, out->fields) == kv_get_fixed32(p + 4);
}

kv_status kv_manifest_frame_next(kv_slice file, const uint8_t uid[KV_FILE_UID_LEN], uint64_t *offset,
                                 struct kv_manifest_frame *out, struct kv_err *err)
{
    if (*offset >= file.len)
        return KV_END;
    if (frame_at(file, uid, *offset, out)) {
        *offset += FRAME_HEADER_LEN + out->fields.len;
        return KV_OK;
    }
    /* An edit is appended only after the one before it was synced: a valid frame further on means that this
     * one was once good. */
    for (uint64_t at = *offset + 1; at < file.len; at++) {
        const uint8_t *magic = memchr(file.data + at, FRAME_MAGIC & 0xff, file.len - at);
        if (!magic)
            break;
        at = (uint64_t)(magic - file.data);
        struct kv_manifest_frame later;
        if (frame_at(file, uid, at, &later))
            return kv_fail(err, KV_CORRUPT, 0,
                           "the manifest is damaged at offset %" PRIu64 ": a valid edit follows at %" PRIu64,
                           *offset, at);
    }
    return KV_END;
}

static kv_status replay_from(kv_slice file, const struct kv_file_header *header, const char *name,
                             uint64_t *offset, uint64_t *snapshot_bytes, struct kv_manifest_state *state,
                             struct kv_err *err)
{
    struct kv_manifest_frame frame = {0};
    struct kv_err inner = {0};
    kv_status rc;
    bool first = true;
    while ((rc = kv_manifest_frame_next(file, header->uid, offset, &frame, &inner)) == KV_OK) {
        if (!first && frame.number != state->edit + 1)
            return kv_fail(err, KV_CORRUPT, 0,
                           "%s: edit %" PRIu64 " follows edit %" PRIu64 " at offset %" PRIu64, name,
                           frame.number, state->edit, frame.offset);
        rc = kv_manifest_apply(state, frame.fields, &inner);
        if (rc < 0)
            return kv_fail(err, rc, 0, "%s: offset %" PRIu64 ": %.150s", name, frame.offset, inner.text);
        state->edit = frame.number;
        if (first)
            *snapshot_bytes = frame.fields.len;
        first = false;
    }
    if (rc < 0)
        return kv_fail(err, rc, 0, "%s: %.200s", name, inner.text);
    if (first || state->n_spaces == 0)
        return kv_fail(err, KV_CORRUPT, 0, "%s: no valid snapshot at offset %" PRIu64, name, *offset);
    if (memcmp(state->uuid, header->uuid, KV_UUID_LEN) != 0)
        return kv_fail(err, KV_CORRUPT, 0, "%s: header and snapshot belong to different databases", name);
    return KV_OK;
}

static kv_status check_header(kv_slice file, const char *name, struct kv_file_header *out, struct kv_err *err)
{
    struct kv_file_expect expect = {.kind = KV_FILE_MANIFEST, .format_max = KV_MANIFEST_FORMAT, .name = name};
    return kv_file_header_check(file, &expect, out, err);
}

kv_status kv_manifest_replay(kv_slice file, const char *name, struct kv_manifest_state *state,
                             struct kv_err *err)
{
    struct kv_file_header header;
    uint64_t offset = KV_FILE_HEADER_LEN, snapshot_bytes = 0;
    kv_status rc = check_header(file, name, &header, err);
    return rc < 0 ? rc : replay_from(file, &header, name, &offset, &snapshot_bytes, state, err);
}

/* ---- reading */

static kv_status read_whole(struct kv_dir *dir, const char *name, struct kv_buf *out, struct kv_err *err)
{
    struct kv_file *file = NULL;
    uint64_t size = 0;
    kv_status rc;
    KV_TRY(kv_dir_open_file(dir, name, &file, err));
    KV_TRY(kv_file_size(file, &size, err));
    if (size > KV_BUF_MAX_DEFAULT) {
        rc = kv_fail(err, KV_CORRUPT, 0, "%s: %" PRIu64 " bytes are too many for a manifest", name, size);
        goto out;
    }
    uint8_t *into = kv_buf_extend(out, (size_t)size);
    rc = into || size == 0 ? kv_file_read_exact(file, 0, (size_t)size, into, err)
                           : kv_fail(err, KV_NO_MEMORY, 0, "%s: out of memory", name);
out:
    kv_file_close(file);
    return rc;
}

static kv_status read_published(struct kv_manifest *manifest, struct kv_err *err)
{
    struct kv_buf value = {.max = 256};
    manifest->name[0] = 0;
    kv_status rc = manifest->dir->ops->published(manifest->dir, &value, &manifest->generation, err);
    if (rc == KV_OK) {
        uint64_t number;
        enum kv_file_kind_name kind;
        if (value.len >= sizeof manifest->name) {
            rc = kv_fail(err, KV_CORRUPT, 0, "the published manifest name is %zu bytes long", value.len);
            goto out;
        }
        memcpy(manifest->name, value.data, value.len);
        manifest->name[value.len] = 0;
        if (!kv_file_name_parse(manifest->name, &number, &kind) || kind != KV_NAME_MANIFEST)
            rc = kv_fail(err, KV_CORRUPT, 0, "the published manifest name is no manifest's");
    }
out:
    kv_buf_release(&value);
    return rc;
}

kv_status kv_manifest_load(struct kv_manifest *manifest, struct kv_dir *dir, struct kv_clock *clock,
                           struct kv_err *err)
{
    struct kv_buf bytes = {0};
    uint64_t offset = KV_FILE_HEADER_LEN, snapshot_bytes = 0;
    kv_status rc;
    *manifest = (struct kv_manifest){.dir = dir, .clock = clock, .next_file = 1};
    KV_TRY(read_published(manifest, err));
    if (rc == KV_NOT_FOUND)
        goto out;
    KV_TRY(read_whole(dir, manifest->name, &bytes, err));
    KV_TRY(check_header(kv_buf_slice(&bytes), manifest->name, &manifest->header, err));
    KV_TRY(replay_from(kv_buf_slice(&bytes), &manifest->header, manifest->name, &offset, &snapshot_bytes,
                       &manifest->state, err));
    uint64_t number;
    enum kv_file_kind_name kind;
    if (kv_file_name_parse(manifest->name, &number, &kind) && manifest->state.next_file <= number)
        manifest->state.next_file = number + 1;
    manifest->next_file = manifest->state.next_file;
out:
    if (rc == KV_MISSING)
        rc = kv_fail(err, KV_CORRUPT, 0, "%s is published but missing", manifest->name);
    kv_buf_release(&bytes);
    return rc;
}

/* ---- writing */

uint64_t kv_manifest_take_number(struct kv_manifest *manifest)
{
    return manifest->next_file++;
}

/* Makes the next commit start a new file. */
static void manifest_renew(struct kv_manifest *manifest)
{
    kv_file_close(manifest->file);
    manifest->file = NULL;
}

static void new_header(struct kv_clock *clock, const struct kv_manifest_state *state,
                       struct kv_file_header *out)
{
    *out = (struct kv_file_header){.kind = KV_FILE_MANIFEST,
                                   .format = KV_MANIFEST_FORMAT,
                                   .owner_epoch = state->owner_epoch,
                                   .edit = state->edit};
    memcpy(out->uuid, state->uuid, KV_UUID_LEN);
    kv_clock_entropy(clock, out->uid, sizeof out->uid);
    kv_clock_entropy(clock, out->salt, sizeof out->salt);
}

/* Header, snapshot of state, and extra as the edit behind it (NULL: none). */
static kv_status build_file(const struct kv_file_header *header, kv_slice snapshot, uint64_t snapshot_number,
                            const kv_slice *extra, struct kv_buf *out)
{
    kv_status rc;
    uint8_t *at = kv_buf_extend(out, KV_FILE_HEADER_LEN);
    if (!at)
        return KV_NO_MEMORY;
    kv_file_header_encode(header, at);
    KV_TRY(frame_append(out, header->uid, out->len, snapshot_number, snapshot));
    if (extra)
        KV_TRY(frame_append(out, header->uid, out->len, snapshot_number + 1, *extra));
out:
    return rc;
}

static kv_status write_file(struct kv_dir *dir, const char *name, kv_slice bytes, struct kv_file **out,
                            struct kv_err *err)
{
    kv_status rc;
    KV_TRY(kv_dir_create(dir, name, out, err));
    KV_TRY(kv_file_append(*out, 0, bytes, err));
    KV_TRY(kv_file_sync(*out, err));
    KV_TRY(kv_dir_sync_names(dir, err));
out:
    return rc;
}

/* What the new file replaces is removed once it is no longer published; a leftover is an orphan the next open
 * removes. */
static kv_status commit_new_file(struct kv_manifest *manifest, const struct kv_manifest_change *change,
                                 kv_slice fields, struct kv_err *err)
{
    struct kv_edit snapshot = {0};
    struct kv_buf bytes = {0};
    struct kv_file *file = NULL;
    char name[32], old[32];
    kv_status rc;
    KV_TRY(read_published(manifest, err));
    memcpy(old, manifest->name, sizeof old);
    kv_file_name(name, kv_manifest_take_number(manifest), KV_NAME_MANIFEST);
    bool first = manifest->state.n_spaces == 0; /* a database being born: its first edit is its snapshot */
    if (!first)
        kv_edit_snapshot(&snapshot, &manifest->state);
    KV_TRY(snapshot.rc);
    new_header(manifest->clock, kv_manifest_change_next(change), &manifest->header);
    KV_TRY(build_file(&manifest->header, first ? fields : kv_buf_slice(&snapshot.fields),
                      manifest->state.edit + 1, first ? NULL : &fields, &bytes));
    KV_TRY(write_file(manifest->dir, name, kv_buf_slice(&bytes), &file, err));
    KV_TRY(manifest->dir->ops->publish(manifest->dir, kv_slice_str(name), manifest->generation, err));
    manifest->generation++;
    memcpy(manifest->name, name, sizeof name);
    manifest->state.edit += first ? 0 : 1; /* the snapshot took a number */
    manifest->file = file;
    file = NULL;
    manifest->offset = bytes.len;
    manifest->snapshot_bytes = bytes.len - fields.len;
    manifest->edit_bytes = first ? 0 : fields.len;
    manifest->files_started++;
    if (old[0]) {
        kv_status removed = kv_dir_remove(manifest->dir, old, NULL);
        (void)removed;
    }
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory writing a manifest");
    kv_file_close(file);
    kv_edit_release(&snapshot);
    kv_buf_release(&bytes);
    return rc;
}

static kv_status commit_append(struct kv_manifest *manifest, kv_slice fields, struct kv_err *err)
{
    struct kv_buf bytes = {0};
    kv_status rc;
    KV_TRY(frame_append(&bytes, manifest->header.uid, manifest->offset, manifest->state.edit + 1, fields));
    KV_TRY(kv_file_append(manifest->file, manifest->offset, kv_buf_slice(&bytes), err));
    KV_TRY(kv_file_sync(manifest->file, err));
    manifest->offset += bytes.len;
    manifest->edit_bytes += bytes.len;
out:
    kv_buf_release(&bytes);
    return rc;
}

kv_status kv_manifest_commit(struct kv_manifest *manifest, struct kv_edit *edit, struct kv_err *err)
{
    struct kv_manifest_change *change = NULL;
    kv_status rc;
    kv_edit_next_file(edit, manifest->next_file + 2); /* + 2: the manifest file this commit may start */
    if (edit->rc < 0)
        return kv_fail(err, edit->rc, 0, "out of memory building a manifest edit");
    kv_slice fields = kv_buf_slice(&edit->fields);
    rc = kv_manifest_prepare(&manifest->state, fields, &change, err);
    if (rc < 0)
        return rc;
    if (manifest->file && manifest->edit_bytes > manifest->snapshot_bytes &&
        manifest->edit_bytes > RENEW_BYTES_MIN)
        manifest_renew(manifest);
    rc = manifest->file ? commit_append(manifest, fields, err) : KV_IO;
    if (rc < 0) {
        manifest_renew(manifest);
        rc = commit_new_file(manifest, change, fields, err);
    }
    if (rc < 0) {
        kv_manifest_change_free(change);
        return rc;
    }
    kv_manifest_change_apply(&manifest->state, change);
    manifest->state.edit++;
    manifest->edits_committed++;
    return KV_OK;
}

kv_status kv_manifest_write_copy(struct kv_dir *target, struct kv_clock *clock,
                                 const struct kv_manifest_state *state, uint64_t file_number,
                                 struct kv_err *err)
{
    struct kv_edit snapshot = {0};
    struct kv_buf bytes = {0};
    struct kv_file *file = NULL;
    struct kv_file_header header;
    char name[32];
    kv_status rc;
    kv_edit_snapshot(&snapshot, state);
    KV_TRY(snapshot.rc);
    new_header(clock, state, &header);
    KV_TRY(build_file(&header, kv_buf_slice(&snapshot.fields), state->edit, NULL, &bytes));
    kv_file_name(name, file_number, KV_NAME_MANIFEST);
    KV_TRY(write_file(target, name, kv_buf_slice(&bytes), &file, err));
    KV_TRY(target->ops->publish(target, kv_slice_str(name), 0, err));
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory writing a manifest");
    kv_file_close(file);
    kv_edit_release(&snapshot);
    kv_buf_release(&bytes);
    return rc;
}

void kv_manifest_close(struct kv_manifest *manifest)
{
    kv_file_close(manifest->file);
    manifest->file = NULL;
    kv_manifest_state_release(&manifest->state);
}
