/* Manifest files: frames of checksummed edits, appended and synced; a new file whenever the old one cannot be
 * trusted. */
#include "kvcore/db/manifest_mend.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/mem.h"
#include "kvcore/os/secret.h"

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
    static const char *const suffixes[] = {"log", "tbl", "man", "vlg"};
    snprintf(out, 32, "%06" PRIu64 ".%s", number, suffixes[kind]);
}

bool kv_file_name_parse(const char *name, uint64_t *number, enum kv_file_kind_name *kind)
{
    uint64_t n = 0;
    size_t digits = 0;
    for (; name[digits] >= '0' && name[digits] <= '9' && digits < 19; digits++)
        n = n * 10 + (uint64_t)(name[digits] - '0');
    char again[32];
    for (int k = KV_NAME_LOG; k <= KV_NAME_SEGMENT; k++) {
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

/* In an encrypted file the crc is zero, the header is authenticated, and the fields are sealed. */
static kv_status frame_append(struct kv_buf *out, const uint8_t uid[KV_FILE_UID_LEN],
                              struct kv_cipher *cipher, uint64_t offset, uint64_t number, kv_slice fields)
{
    if (fields.len > FRAME_FIELDS_MAX)
        return KV_LIMIT;
    size_t tag = cipher ? KV_CIPHER_TAG_LEN : 0;
    uint8_t *at = kv_buf_extend(out, FRAME_HEADER_LEN + fields.len + tag);
    if (!at)
        return KV_NO_MEMORY;
    kv_put_fixed32(at, FRAME_MAGIC);
    kv_put_fixed32(at + 4, cipher ? 0 : frame_crc(uid, offset, number, fields));
    kv_put_fixed32(at + 8, (uint32_t)fields.len);
    kv_put_fixed64(at + 12, number);
    if (cipher)
        return kv_cipher_seal(cipher, offset, kv_slice_of(at, FRAME_HEADER_LEN), fields,
                              at + FRAME_HEADER_LEN);
    if (fields.len)
        memcpy(at + FRAME_HEADER_LEN, fields.data, fields.len);
    return KV_OK;
}

/* walk->plain has room for what a sealed frame may hold. */
static kv_status frame_open(struct kv_manifest_walk *walk, uint64_t offset, kv_slice header, size_t len,
                            kv_slice *fields)
{
    kv_slice sealed =
        kv_slice_of(walk->file.data + (offset - walk->base) + FRAME_HEADER_LEN, len + KV_CIPHER_TAG_LEN);
    *fields = kv_slice_of(walk->plain.data, len);
    return kv_cipher_open(walk->cipher, offset, header, sealed, walk->plain.data);
}

/* KV_CORRUPT: no valid frame begins there. */
static kv_status frame_at(struct kv_manifest_walk *walk, uint64_t offset, struct kv_manifest_frame *out)
{
    size_t extra = FRAME_HEADER_LEN + (walk->cipher ? KV_CIPHER_TAG_LEN : 0);
    size_t at = (size_t)(offset - walk->base);
    if (walk->file.len - at < extra)
        return KV_CORRUPT;
    const uint8_t *p = walk->file.data + at;
    size_t len = kv_get_fixed32(p + 8);
    if (kv_get_fixed32(p) != FRAME_MAGIC || len > walk->file.len - at - extra)
        return KV_CORRUPT;
    *out = (struct kv_manifest_frame){offset, kv_get_fixed64(p + 12), kv_slice_of(p + FRAME_HEADER_LEN, len)};
    if (walk->cipher)
        return frame_open(walk, offset, kv_slice_of(p, FRAME_HEADER_LEN), len, &out->fields);
    return frame_crc(walk->uid, offset, out->number, out->fields) == kv_get_fixed32(p + 4) ? KV_OK
                                                                                           : KV_CORRUPT;
}

kv_status kv_manifest_walk_next(struct kv_manifest_walk *walk, struct kv_manifest_frame *out,
                                struct kv_err *err)
{
    const uint8_t *file = walk->file.data;
    uint64_t end = walk->base + walk->file.len;
    if (walk->offset >= end)
        return KV_END;
    kv_status rc = walk->cipher ? kv_buf_reserve(&walk->plain, walk->file.len) : KV_OK;
    if (rc == KV_OK)
        rc = frame_at(walk, walk->offset, out);
    if (rc == KV_OK) {
        walk->offset += FRAME_HEADER_LEN + out->fields.len + (walk->cipher ? KV_CIPHER_TAG_LEN : 0);
        return KV_OK;
    }
    /* An edit is appended only after the one before it was synced: a valid frame further on means that this
     * one was once good. */
    for (uint64_t at = walk->offset + 1; at < end && rc == KV_CORRUPT; at++) {
        const uint8_t *magic = memchr(file + (at - walk->base), FRAME_MAGIC & 0xff, end - at);
        if (!magic)
            break;
        at = walk->base + (uint64_t)(magic - file);
        struct kv_manifest_frame later;
        rc = frame_at(walk, at, &later);
        if (rc == KV_OK)
            return kv_fail(err, KV_CORRUPT, 0,
                           "the manifest is damaged at offset %" PRIu64 ": a valid edit follows at %" PRIu64,
                           walk->offset, at);
    }
    return rc == KV_CORRUPT ? KV_END : kv_fail(err, rc, 0, "out of memory reading a manifest");
}

static kv_status replay_walk(struct kv_manifest_walk *walk, const struct kv_file_header *header,
                             const char *name, struct kv_manifest_state *state, struct kv_err *err)
{
    struct kv_manifest_frame frame = {0};
    struct kv_err inner = {0};
    kv_status rc;
    bool first = true;
    while ((rc = kv_manifest_walk_next(walk, &frame, &inner)) == KV_OK) {
        if (!first && frame.number != state->edit + 1)
            return kv_fail(err, KV_CORRUPT, 0,
                           "%s: edit %" PRIu64 " follows edit %" PRIu64 " at offset %" PRIu64, name,
                           frame.number, state->edit, frame.offset);
        rc = kv_manifest_apply(state, frame.fields, &inner);
        if (rc < 0)
            return kv_fail(err, rc, 0, "%s: offset %" PRIu64 ": %.150s", name, frame.offset, inner.text);
        state->edit = frame.number;
        first = false;
    }
    if (rc < 0)
        return kv_fail(err, rc, 0, "%s: %.200s", name, inner.text);
    if (first || state->n_spaces == 0)
        return kv_fail(err, KV_CORRUPT, 0, "%s: no valid snapshot at offset %" PRIu64, name, walk->offset);
    if (memcmp(state->uuid, header->uuid, KV_UUID_LEN) != 0)
        return kv_fail(err, KV_CORRUPT, 0, "%s: header and snapshot belong to different databases", name);
    return KV_OK;
}

static kv_status replay_from(kv_slice file, const struct kv_file_header *header, struct kv_cipher *cipher,
                             const char *name, struct kv_manifest_state *state, uint64_t *end,
                             struct kv_err *err)
{
    struct kv_manifest_walk walk = {
        .file = file, .uid = header->uid, .cipher = cipher, .offset = KV_FILE_HEADER_LEN};
    kv_status rc = replay_walk(&walk, header, name, state, err);
    *end = walk.offset;
    kv_buf_release(&walk.plain);
    return rc;
}

static kv_status check_header(kv_slice file, const char *name, bool encrypted, struct kv_file_header *out,
                              struct kv_err *err)
{
    struct kv_file_expect expect = {
        .kind = KV_FILE_MANIFEST, .format_max = KV_MANIFEST_FORMAT, .name = name, .encrypted = encrypted};
    return kv_file_header_check(file, &expect, out, err);
}

kv_status kv_manifest_replay(kv_slice file, const char *name, struct kv_manifest_state *state,
                             struct kv_err *err)
{
    struct kv_file_header header;
    uint64_t end;
    kv_status rc = check_header(file, name, false, &header, err);
    return rc < 0 ? rc : replay_from(file, &header, NULL, name, state, &end, err);
}

/* ---- reading */

kv_status kv_manifest_read_file(struct kv_dir *dir, const char *name, struct kv_buf *out, struct kv_err *err)
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

kv_status kv_manifest_read_published(struct kv_manifest *manifest, struct kv_err *err)
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
        if (value.len)
            memcpy(manifest->name, value.data, value.len);
        manifest->name[value.len] = 0;
        if (!kv_file_name_parse(manifest->name, &number, &kind) || kind != KV_NAME_MANIFEST)
            rc = kv_fail(err, KV_CORRUPT, 0, "the published manifest name is no manifest's");
    }
out:
    kv_buf_release(&value);
    return rc;
}

static bool source_empty(const struct kv_key_source *source)
{
    return !source || (!source->master_key && !source->key_of);
}

/* The keyring of a database whose manifest is (or is to be, id 0) encrypted with master key id. */
static kv_status keys_new(struct kv_manifest *manifest, const struct kv_key_source *source, uint64_t id,
                          const uint8_t uuid[KV_UUID_LEN], struct kv_err *err)
{
    uint8_t *master = kv_secret_alloc(KV_MASTER_KEY_LEN);
    kv_status rc = master ? KV_OK : KV_NO_MEMORY;
    if (rc == KV_OK && source->master_key)
        memcpy(master, source->master_key, KV_MASTER_KEY_LEN);
    else if (rc == KV_OK)
        rc = source->key_of(source->ctx, id, master);
    if (rc < 0 && rc != KV_NO_MEMORY) {
        kv_fail(err, rc, 0, "master key %016" PRIx64 " was not given: %s", id, kv_status_text(rc));
        goto out;
    }
    if (rc >= 0)
        rc = kv_keyring_new(master, uuid, &manifest->keys);
    if (rc < 0)
        kv_fail(err, rc, 0, "out of memory taking in the master key");
out:
    kv_secret_free(master);
    return rc;
}

/* Its keyring and cipher, as its header asks. */
kv_status kv_manifest_load_keys(struct kv_manifest *manifest, const struct kv_key_source *source,
                                const uint8_t *raw, struct kv_cipher **cipher, struct kv_err *err)
{
    const struct kv_file_header *header = &manifest->header;
    kv_status rc = KV_OK;
    if (header->key_id == 0 && !source_empty(source) && !source->allow_plain)
        return kv_fail(err, KV_WRONG_KEY, 0, "%s is not encrypted, but a key was given", manifest->name);
    if (header->key_id != 0 && !source_empty(source))
        rc = keys_new(manifest, source, header->key_id, header->uuid, err);
    return rc < 0 ? rc : kv_keyring_cipher(manifest->keys, raw, 0, manifest->name, cipher, err);
}

/* What the replayed state says of keys, and the keyring does not have, goes into it. */
kv_status kv_manifest_load_data_keys(struct kv_manifest *manifest, struct kv_err *err)
{
    const struct kv_manifest_state *state = &manifest->state;
    kv_status rc = KV_OK;
    if (!manifest->keys)
        return KV_OK;
    kv_keyring_plain_below(manifest->keys, state->plain_below);
    for (size_t i = 0; i < state->n_keys && rc == KV_OK; i++)
        if (state->keys[i].id > kv_keyring_current(manifest->keys))
            rc = kv_keyring_add(manifest->keys, &state->keys[i], err);
    return rc;
}

kv_status kv_manifest_read(struct kv_manifest *manifest, const struct kv_key_source *source,
                           struct kv_err *err)
{
    struct kv_buf bytes = {0};
    struct kv_cipher *cipher = NULL;
    kv_status rc;
    KV_TRY(kv_manifest_read_published(manifest, err));
    if (rc == KV_NOT_FOUND)
        goto out;
    rc = kv_manifest_read_file(manifest->dir, manifest->name, &bytes, err);
    if (rc == KV_MISSING)
        rc = kv_fail(err, KV_CORRUPT, 0, "%s is published but missing", manifest->name);
    KV_TRY(rc);
    KV_TRY(check_header(kv_buf_slice(&bytes), manifest->name, true, &manifest->header, err));
    KV_TRY(kv_manifest_load_keys(manifest, source, bytes.data, &cipher, err));
    KV_TRY(replay_from(kv_buf_slice(&bytes), &manifest->header, cipher, manifest->name, &manifest->state,
                       &manifest->offset, err));
    uint64_t number;
    enum kv_file_kind_name kind;
    if (kv_file_name_parse(manifest->name, &number, &kind) && manifest->state.next_file <= number)
        manifest->state.next_file = number + 1;
    manifest->next_file = manifest->state.next_file;
out:
    kv_cipher_free(cipher);
    kv_buf_release(&bytes);
    return rc;
}

kv_status kv_manifest_load(struct kv_manifest *manifest, struct kv_dir *dir, struct kv_clock *clock,
                           const struct kv_key_source *source, struct kv_err *err)
{
    *manifest = (struct kv_manifest){.dir = dir, .clock = clock, .next_file = 1};
    kv_status rc = kv_manifest_read(manifest, source, err);
    return rc == KV_OK ? kv_manifest_load_data_keys(manifest, err) : rc;
}

kv_status kv_manifest_encrypt(struct kv_manifest *manifest, const struct kv_key_source *source,
                              const uint8_t uuid[KV_UUID_LEN], struct kv_err *err)
{
    if (source_empty(source) || manifest->keys)
        return KV_OK;
    return keys_new(manifest, source, 0, uuid, err);
}

kv_status kv_manifest_make_key(struct kv_manifest *manifest, struct kv_edit *edit, struct kv_err *err)
{
    struct kv_data_key key;
    kv_status rc = kv_keyring_make(manifest->keys, manifest->clock, &key);
    if (rc < 0)
        return kv_fail(err, rc, 0, "out of memory making a data key");
    kv_edit_data_key(edit, &key);
    return KV_OK;
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
    kv_cipher_free(manifest->cipher);
    manifest->file = NULL;
    manifest->cipher = NULL;
}

static void new_header(struct kv_clock *clock, struct kv_keyring *keys, const struct kv_manifest_state *state,
                       struct kv_file_header *out)
{
    *out = (struct kv_file_header){.kind = KV_FILE_MANIFEST,
                                   .format = KV_MANIFEST_FORMAT,
                                   .owner_epoch = state->owner_epoch,
                                   .key_id = kv_keyring_key_for(keys, KV_FILE_MANIFEST),
                                   .edit = state->edit};
    memcpy(out->uuid, state->uuid, KV_UUID_LEN);
    kv_clock_entropy(clock, out->uid, sizeof out->uid);
    kv_clock_entropy(clock, out->salt, sizeof out->salt);
}

/* Header, snapshot of state, and extra as the edit behind it (NULL: none). *cipher: the file's, NULL: plain. */
static kv_status build_file(const struct kv_file_header *header, struct kv_keyring *keys, kv_slice snapshot,
                            uint64_t snapshot_number, const kv_slice *extra, struct kv_buf *out,
                            struct kv_cipher **cipher)
{
    kv_status rc;
    uint8_t *at = kv_buf_extend(out, KV_FILE_HEADER_LEN);
    if (!at)
        return KV_NO_MEMORY;
    kv_file_header_encode(header, at);
    KV_TRY(kv_keyring_cipher(keys, at, 0, "a new manifest", cipher, NULL));
    KV_TRY(frame_append(out, header->uid, *cipher, out->len, snapshot_number, snapshot));
    if (extra)
        KV_TRY(frame_append(out, header->uid, *cipher, out->len, snapshot_number + 1, *extra));
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
    struct kv_cipher *cipher = NULL;
    char name[32], old[32];
    kv_status rc;
    KV_TRY(kv_manifest_read_published(manifest, err));
    memcpy(old, manifest->name, sizeof old);
    kv_file_name(name, kv_manifest_take_number(manifest), KV_NAME_MANIFEST);
    bool first = manifest->state.n_spaces == 0; /* a database being born: its first edit is its snapshot */
    if (!first)
        kv_edit_snapshot(&snapshot, &manifest->state);
    KV_TRY(snapshot.rc);
    new_header(manifest->clock, manifest->keys, kv_manifest_change_next(change), &manifest->header);
    KV_TRY(build_file(&manifest->header, manifest->keys, first ? fields : kv_buf_slice(&snapshot.fields),
                      manifest->state.edit + 1, first ? NULL : &fields, &bytes, &cipher));
    KV_TRY(write_file(manifest->dir, name, kv_buf_slice(&bytes), &file, err));
    KV_TRY(manifest->dir->ops->publish(manifest->dir, kv_slice_str(name), manifest->generation, err));
    manifest->generation++;
    memcpy(manifest->name, name, sizeof name);
    manifest->state.edit += first ? 0 : 1; /* the snapshot took a number */
    manifest->file = file;
    manifest->cipher = cipher;
    file = NULL;
    cipher = NULL;
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
    kv_cipher_free(cipher);
    kv_edit_release(&snapshot);
    kv_buf_release(&bytes);
    return rc;
}

static kv_status commit_append(struct kv_manifest *manifest, kv_slice fields, struct kv_err *err)
{
    struct kv_buf bytes = {0};
    kv_status rc;
    KV_TRY(frame_append(&bytes, manifest->header.uid, manifest->cipher, manifest->offset,
                        manifest->state.edit + 1, fields));
    KV_TRY(kv_file_append(manifest->file, manifest->offset, kv_buf_slice(&bytes), err));
    KV_TRY(kv_file_sync(manifest->file, err));
    manifest->offset += bytes.len;
    manifest->edit_bytes += bytes.len;
out:
    kv_buf_release(&bytes);
    return rc;
}

/* How much the data key in use has sealed, if that has changed since the last edit. */
static void count_sealed(const struct kv_manifest *manifest, struct kv_edit *edit)
{
    const struct kv_manifest_state *state = &manifest->state;
    uint64_t id = manifest->keys ? kv_keyring_current(manifest->keys) : 0;
    uint64_t sealed = id ? kv_keyring_sealed(manifest->keys) : 0;
    if (id && state->n_keys && state->keys[state->n_keys - 1].sealed != sealed)
        kv_edit_key_sealed(edit, id, sealed);
}

kv_status kv_manifest_commit(struct kv_manifest *manifest, struct kv_edit *edit, struct kv_err *err)
{
    struct kv_manifest_change *change = NULL;
    kv_status rc;
    count_sealed(manifest, edit);
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
    if (manifest->keys && manifest->state.n_keys) {
        kv_keyring_use(manifest->keys, manifest->state.keys[manifest->state.n_keys - 1].id);
        kv_keyring_plain_below(manifest->keys, manifest->state.plain_below);
    }
    return KV_OK;
}

/* The master key is the new one: every data key wrapped by it, and a file of its own. */
static kv_status rekey_commit(struct kv_manifest *manifest, struct kv_err *err)
{
    struct kv_edit edit = {0};
    kv_status rc = KV_OK;
    for (size_t i = 0; i < manifest->state.n_keys && rc == KV_OK; i++) {
        struct kv_data_key key = manifest->state.keys[i];
        rc = kv_keyring_wrap(manifest->keys, manifest->clock, &key);
        kv_edit_data_key(&edit, &key);
    }
    if (rc == KV_OK) {
        manifest_renew(manifest);
        rc = kv_manifest_commit(manifest, &edit, err);
    } else {
        kv_fail(err, rc, 0, "out of memory wrapping the data keys");
    }
    kv_edit_release(&edit);
    return rc;
}

kv_status kv_manifest_rekey(struct kv_manifest *manifest, const uint8_t master[KV_MASTER_KEY_LEN],
                            struct kv_err *err)
{
    uint64_t id = 0;
    kv_status rc = kv_master_key_id(master, &id);
    if (rc == KV_OK && id == kv_keyring_master(manifest->keys))
        return kv_fail(err, KV_INVALID, 0, "%016" PRIx64 " is the master key in use", id);
    kv_keyring_hold_master(manifest->keys);
    if (rc == KV_OK)
        rc = kv_keyring_next_master(manifest->keys, master);
    if (rc < 0) {
        kv_fail(err, rc, 0, "out of memory taking in a master key");
    } else {
        kv_keyring_swap_master(manifest->keys);
        rc = rekey_commit(manifest, err);
        if (rc < 0)
            kv_keyring_swap_master(manifest->keys);
    }
    kv_keyring_drop_next(manifest->keys);
    kv_keyring_let_master(manifest->keys);
    return rc;
}

/* Keys wrapped by the master key of the moment, header, snapshot. */
kv_status kv_manifest_build_copy(struct kv_clock *clock, struct kv_keyring *keys,
                                 const struct kv_manifest_state *state, struct kv_buf *bytes)
{
    struct kv_edit snapshot = {0};
    struct kv_file_header header;
    struct kv_cipher *cipher = NULL;
    kv_status rc = KV_OK;
    kv_keyring_hold_master(keys);
    new_header(clock, keys, state, &header);
    struct kv_manifest_state others = *state;
    others.n_keys = 0;
    kv_edit_snapshot(&snapshot, &others);
    for (size_t i = 0; keys && i < state->n_keys; i++) {
        struct kv_data_key key = state->keys[i];
        KV_TRY(kv_keyring_wrap(keys, clock, &key));
        kv_edit_data_key(&snapshot, &key);
        kv_edit_key_sealed(&snapshot, key.id, key.sealed);
    }
    KV_TRY(snapshot.rc);
    KV_TRY(build_file(&header, keys, kv_buf_slice(&snapshot.fields), state->edit, NULL, bytes, &cipher));
out:
    kv_keyring_let_master(keys);
    kv_cipher_free(cipher);
    kv_edit_release(&snapshot);
    return rc;
}

kv_status kv_manifest_write_copy(struct kv_dir *target, struct kv_clock *clock, struct kv_keyring *keys,
                                 const struct kv_manifest_state *state, uint64_t file_number, char name[32],
                                 struct kv_err *err)
{
    struct kv_buf bytes = {0};
    struct kv_file *file = NULL;
    kv_status rc;
    KV_TRY(kv_manifest_build_copy(clock, keys, state, &bytes));
    kv_file_name(name, file_number, KV_NAME_MANIFEST);
    KV_TRY(write_file(target, name, kv_buf_slice(&bytes), &file, err));
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory writing a manifest");
    kv_file_close(file);
    kv_buf_release(&bytes);
    return rc;
}

void kv_manifest_close(struct kv_manifest *manifest)
{
    manifest_renew(manifest);
    kv_keyring_free(manifest->keys);
    manifest->keys = NULL;
    kv_manifest_state_release(&manifest->state);
}
