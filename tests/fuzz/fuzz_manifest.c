/*
 * Any bytes as a manifest file: replaying and describing them ends with an answer, and what replays has a snapshot that says the same.
 * The first byte chooses: odd, the rest is a file as it is; even, the rest is the fields of an edit, applied without a file around it (a
 * fuzzer does not guess checksums).
 */
#include "kvcore/db/manifest.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore_line(void *ctx, const char *line)
{
    (void)ctx, (void)line;
}

static void replay(kv_slice file)
{
    struct kv_manifest_state state = {0}, again = {0};
    struct kv_edit snapshot = {0}, second = {0};
    struct kv_err err;
    if (kv_manifest_replay(file, "fuzz", &state, &err) == KV_OK) {
        kv_edit_snapshot(&snapshot, &state);
        if (snapshot.rc != KV_OK || kv_manifest_apply(&again, kv_buf_slice(&snapshot.fields), &err) != KV_OK)
            abort();
        kv_edit_snapshot(&second, &again);
        if (!kv_slice_equal(kv_buf_slice(&snapshot.fields), kv_buf_slice(&second.fields)))
            abort();
    }
    kv_edit_release(&snapshot);
    kv_edit_release(&second);
    kv_manifest_state_release(&state);
    kv_manifest_state_release(&again);
}

/* Fields of an edit that follows a snapshot with one space. */
static void apply(kv_slice fields)
{
    struct kv_manifest_state state = {0};
    struct kv_edit first = {0};
    struct kv_err err;
    static const uint8_t uuid[KV_UUID_LEN] = {1}, seed[KV_UUID_LEN] = {2};
    kv_edit_identity(&first, uuid, seed);
    kv_edit_space(&first, 0, "a", KV_STYLE_RUNS);
    if (first.rc != KV_OK || kv_manifest_apply(&state, kv_buf_slice(&first.fields), &err) != KV_OK)
        abort();
    for (int i = 0; i < 2; i++) { /* twice: the second time against what the first made */
        uint64_t tables = state.n_tables;
        kv_status rc = kv_manifest_apply(&state, fields, &err);
        if (rc < 0 && state.n_tables != tables)
            abort();
    }
    kv_status rc = kv_manifest_describe(fields, ignore_line, NULL);
    (void)rc;
    kv_edit_release(&first);
    kv_manifest_state_release(&state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 2)
        replay(kv_slice_of(data + 1, size - 1));
    else
        apply(kv_slice_of(data + 1, size - 1));
    return 0;
}
