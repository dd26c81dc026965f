#include "kvcore/db/logged.h"
#include "kvcore/db/batch.h"
#include "kvcore/db/values.h"
#include "kvcore/sst/attrs.h"
#include "kvcore/sst/entry.h"

#include <inttypes.h>

static kv_status segment_open(struct kv_env *env, struct kv_dir *dir, const struct kv_manifest *manifest,
                              uint64_t number, struct kv_segment **out, struct kv_err *err)
{
    const struct kv_manifest_state *state = &manifest->state;
    const struct kv_segment_meta *meta = kv_manifest_segment(state, number);
    char name[32];
    kv_file_name(name, number, KV_NAME_SEGMENT);
    if (!meta)
        return kv_fail(err, KV_CORRUPT, 0, "%s is not part of the database", name);
    struct kv_segment_open_options options = {.dir = dir,
                                              .name = name,
                                              .cache = env->cache,
                                              .keys = manifest->keys,
                                              .db_uuid = state->uuid,
                                              .uid = meta->uid,
                                              .file_bytes = meta->bytes,
                                              .number = number};
    kv_status rc = kv_segment_open(&options, out, err);
    return rc == KV_MISSING ? KV_CORRUPT : rc;
}

kv_status kv_logged_verify(struct kv_env *env, struct kv_dir *dir, const struct kv_manifest *manifest,
                           kv_slice value, uint64_t *segment, struct kv_err *err)
{
    struct kv_attrs attrs;
    struct kv_pointer pointer;
    struct kv_value_segment at = {.segment = NULL};
    const struct kv_values values = {&at, 1};
    *segment = 0;
    kv_status rc = kv_attrs_take(&value, &attrs);
    kv_slice rest = value;
    if (rc == KV_OK)
        rc = kv_pointer_take(&rest, &pointer);
    if (rc < 0)
        return kv_fail(err, rc, 0, "a malformed pointer into the value log");
    *segment = pointer.segment;
    rc = segment_open(env, dir, manifest, pointer.segment, &at.segment, err);
    if (rc == KV_OK)
        rc = kv_values_verify(&values, value, err);
    kv_segment_unref(at.segment);
    return rc;
}

static kv_status append_delete(struct kv_buf *out, const struct kv_batch_entry *entry)
{
    kv_status rc;
    KV_TRY(kv_buf_append_byte(out, (uint8_t)entry->space));
    KV_TRY(kv_buf_append_byte(out, KV_KIND_DELETE));
    KV_TRY(kv_buf_append_varint(out, entry->key.len));
    KV_TRY(kv_buf_append(out, entry->key));
out:
    return rc;
}

kv_status kv_logged_mend_batch(const struct kv_logged_mend *mend, kv_slice batch, struct kv_buf *out,
                               struct kv_err *err)
{
    struct kv_batch_entry entry;
    struct kv_buf kept = {0};
    kv_slice rest = batch;
    bool lost = false;
    kv_status rc = KV_OK;
    while (rc == KV_OK) {
        const uint8_t *from = rest.data;
        rc = kv_batch_next(&rest, &entry);
        if (rc < 0)
            kv_fail(err, rc, 0, "a commit of the log cannot be taken apart: %s", kv_status_text(rc));
        if (rc != KV_OK)
            break;
        struct kv_err why = {0};
        uint64_t segment = 0;
        kv_status read = KV_OK;
        if (entry.kind == KV_KIND_POINTER)
            read = kv_logged_verify(mend->env, mend->dir, mend->manifest, entry.value, &segment, &why);
        if (read == KV_OK) {
            rc = kv_buf_append(&kept, kv_slice_of(from, (size_t)(rest.data - from)));
        } else if (read == KV_CORRUPT) {
            lost = true;
            rc = append_delete(&kept, &entry);
            if (rc == KV_OK && mend->each)
                rc = mend->each(mend->ctx, entry.key, segment, why.text, err);
        } else {
            rc = read;
            kv_err_copy(err, &why);
        }
    }
    if (rc == KV_END)
        rc = lost ? kv_buf_append(out, kv_buf_slice(&kept)) : KV_NOT_FOUND;
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory taking lost values out of the log");
    kv_buf_release(&kept);
    return rc;
}
