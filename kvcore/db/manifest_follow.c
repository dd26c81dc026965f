/* Reads on in the manifest of a database that another process writes. */
#include "kvcore/base/mem.h"
#include "kvcore/db/manifest_mend.h"

#include <inttypes.h>

/* Another file was published: everything from its snapshot on. */
static kv_status follow_anew(struct kv_manifest *manifest, struct kv_err *err)
{
    struct kv_manifest fresh = {
        .dir = manifest->dir, .clock = manifest->clock, .keys = manifest->keys, .next_file = 1};
    kv_status rc = kv_manifest_read(&fresh, NULL, err);
    if (rc == KV_NOT_FOUND)
        rc = kv_fail(err, KV_MISSING, 0, "no manifest is published any more");
    if (rc == KV_OK && memcmp(fresh.state.uuid, manifest->state.uuid, KV_UUID_LEN) != 0)
        rc = kv_fail(err, KV_INVALID, 0, "%s is another database's: open it anew", fresh.name);
    if (rc == KV_OK)
        rc = kv_manifest_load_data_keys(&fresh, err);
    if (rc < 0) {
        kv_manifest_state_release(&fresh.state);
        return rc;
    }
    kv_file_close(manifest->file);
    kv_cipher_free(manifest->cipher);
    kv_manifest_state_release(&manifest->state);
    fresh.files_started = manifest->files_started;
    fresh.edits_committed = manifest->edits_committed;
    *manifest = fresh;
    return KV_OK;
}

/* The file that the state was read from. */
static kv_status follow_open(struct kv_manifest *manifest, struct kv_err *err)
{
    uint8_t raw[KV_FILE_HEADER_LEN];
    struct kv_file *file = NULL;
    kv_status rc;
    rc = kv_dir_open_file(manifest->dir, manifest->name, &file, err);
    if (rc == KV_MISSING)
        rc = kv_fail(err, KV_CORRUPT, 0, "%s is published but missing", manifest->name);
    KV_TRY(rc);
    KV_TRY(kv_file_read_exact(file, 0, sizeof raw, raw, err));
    if (memcmp(raw + KV_FILE_HEADER_AT_UID, manifest->header.uid, KV_FILE_UID_LEN) != 0) {
        rc = kv_fail(err, KV_CORRUPT, 0, "%s: another file has taken its place", manifest->name);
        goto out;
    }
    KV_TRY(kv_keyring_cipher(manifest->keys, raw, 0, manifest->name, &manifest->cipher, err));
    manifest->file = file;
    return rc;
out:
    kv_file_close(file);
    return rc;
}

static kv_status apply_frames(struct kv_manifest *manifest, struct kv_manifest_walk *walk, struct kv_err *err)
{
    struct kv_manifest_frame frame;
    struct kv_err inner = {0};
    kv_status rc;
    while ((rc = kv_manifest_walk_next(walk, &frame, &inner)) == KV_OK) {
        if (frame.number != manifest->state.edit + 1)
            return kv_fail(err, KV_CORRUPT, 0,
                           "%s: edit %" PRIu64 " follows edit %" PRIu64 " at offset %" PRIu64, manifest->name,
                           frame.number, manifest->state.edit, frame.offset);
        rc = kv_manifest_apply(&manifest->state, frame.fields, &inner);
        if (rc < 0)
            return kv_fail(err, rc, 0, "%s: offset %" PRIu64 ": %.150s", manifest->name, frame.offset,
                           inner.text);
        manifest->state.edit = frame.number;
        manifest->offset = walk->offset;
    }
    return rc == KV_END ? KV_OK : kv_fail(err, rc, 0, "%s: %.200s", manifest->name, inner.text);
}

/* An edit that is not whole yet ends the walk as a torn one does. */
static kv_status follow_appended(struct kv_manifest *manifest, struct kv_err *err)
{
    struct kv_buf bytes = {0};
    struct kv_manifest_walk walk = {.uid = manifest->header.uid,
                                    .cipher = manifest->cipher,
                                    .base = manifest->offset,
                                    .offset = manifest->offset};
    uint64_t size = 0;
    kv_status rc;
    KV_TRY(kv_file_size(manifest->file, &size, err));
    if (size <= manifest->offset)
        return KV_OK;
    size_t len = (size_t)(size - manifest->offset);
    uint8_t *into = kv_buf_extend(&bytes, len);
    KV_TRY(into ? KV_OK : kv_fail(err, KV_NO_MEMORY, 0, "%s: out of memory", manifest->name));
    KV_TRY(kv_file_read_exact(manifest->file, manifest->offset, len, into, err));
    walk.file = kv_buf_slice(&bytes);
    KV_TRY(apply_frames(manifest, &walk, err));
out:
    kv_buf_release(&walk.plain);
    kv_buf_release(&bytes);
    return rc;
}

kv_status kv_manifest_follow(struct kv_manifest *manifest, struct kv_err *err)
{
    struct kv_manifest now = {.dir = manifest->dir};
    kv_status rc;
    KV_TRY(kv_manifest_read_published(&now, err));
    if (rc == KV_NOT_FOUND)
        return kv_fail(err, KV_MISSING, 0, "no manifest is published any more");
    if (now.generation != manifest->generation || strcmp(now.name, manifest->name) != 0)
        KV_TRY(follow_anew(manifest, err));
    if (!manifest->file)
        KV_TRY(follow_open(manifest, err));
    KV_TRY(follow_appended(manifest, err));
    KV_TRY(kv_manifest_load_data_keys(manifest, err));
out:
    return rc;
}
