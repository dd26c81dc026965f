#include "kvcore/db/manifest_mend.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/table_salvage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct mend {
    struct kv_manifest *manifest;
    const struct kv_key_source *source;
    struct kv_buf numbers; /* uint64_t: of manifest files */
    void (*say)(void *ctx, const char *line);
    void *ctx;
    struct kv_err *err;
    size_t left_out, gaps;
};

static void mend_say(struct mend *m, const char *format, ...) KV_PRINTF(2, 3);
static void mend_say(struct mend *m, const char *format, ...)
{
    char line[400];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (m->say)
        m->say(m->ctx, line);
}

static kv_status mend_look(void *ctx, const char *name, uint64_t bytes)
{
    struct mend *m = ctx;
    uint64_t number;
    enum kv_file_kind_name kind;
    (void)bytes;
    if (!kv_file_name_parse(name, &number, &kind) || kind != KV_NAME_MANIFEST)
        return KV_OK;
    kv_status rc = kv_buf_append(&m->numbers, kv_slice_of(&number, sizeof number));
    return rc < 0 ? kv_fail(m->err, rc, 0, "out of memory listing the manifests") : KV_OK;
}

static int order_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* A snapshot begins with the identity. */
static bool is_snapshot(const struct kv_manifest_frame *frame)
{
    return frame->fields.len > 0 && frame->fields.data[0] == 2;
}

/* Does it end the mending, or is the frame left out? */
static kv_status mend_refused(const struct mend *m, const struct kv_manifest_frame *frame, kv_status rc,
                              const struct kv_err *why, struct kv_err *err)
{
    if (rc != KV_NO_MEMORY && rc != KV_TOO_NEW)
        return KV_OK;
    return kv_fail(err, rc, 0, "%s: offset %" PRIu64 ": %.150s", m->manifest->name, frame->offset,
                   rc == KV_NO_MEMORY ? "out of memory" : why->text);
}

static kv_status mend_frame(struct mend *m, const struct kv_manifest_frame *frame, struct kv_err *err)
{
    struct kv_manifest_state *state = &m->manifest->state, fresh = {0};
    struct kv_err why = {0};
    if (!is_snapshot(frame)) {
        if (state->n_spaces == 0 || frame->number <= state->edit)
            return KV_OK;
        m->gaps += frame->number != state->edit + 1;
        kv_status rc = kv_manifest_apply(state, frame->fields, &why);
        m->left_out += rc < 0;
        if (rc == KV_OK)
            state->edit = frame->number;
        return mend_refused(m, frame, rc, &why, err);
    }
    kv_status rc = kv_manifest_apply(&fresh, frame->fields, &why);
    if (rc == KV_OK && frame->number >= state->edit) {
        kv_manifest_state_release(state);
        *state = fresh;
        state->edit = frame->number;
        return KV_OK;
    }
    kv_manifest_state_release(&fresh);
    return mend_refused(m, frame, rc, &why, err);
}

/* Over what is damaged, to the next whole frame. */
static kv_status mend_frames(struct mend *m, struct kv_manifest_walk *walk, struct kv_err *err)
{
    struct kv_manifest_frame frame;
    kv_status rc = KV_OK;
    while (rc == KV_OK && walk->offset < walk->file.len) {
        rc = kv_manifest_walk_next(walk, &frame, err);
        if (rc == KV_OK) {
            rc = mend_frame(m, &frame, err);
        } else if (rc == KV_CORRUPT) { /* a whole one was found behind it, and begins so */
            const uint8_t *from = walk->file.data + walk->offset + 1;
            const uint8_t *next = memchr(from, 'K', walk->file.len - walk->offset - 1);
            KV_ASSERT(next != NULL);
            walk->offset = (uint64_t)(next - walk->file.data);
            rc = KV_OK;
        }
    }
    return rc == KV_END ? KV_OK : rc;
}

static kv_status mend_file(struct mend *m, uint64_t number, struct kv_err *err)
{
    struct kv_manifest *manifest = m->manifest;
    struct kv_file_expect expect = {
        .kind = KV_FILE_MANIFEST, .format_max = KV_MANIFEST_FORMAT, .encrypted = true};
    struct kv_buf bytes = {0};
    struct kv_err why = {0};
    struct kv_manifest_walk walk = {.offset = KV_FILE_HEADER_LEN};
    char name[32];
    kv_status rc;
    kv_file_name(name, number, KV_NAME_MANIFEST);
    memcpy(manifest->name, name, sizeof name);
    expect.name = name;
    KV_TRY(kv_manifest_read_file(manifest->dir, name, &bytes, err));
    manifest->header = (struct kv_file_header){0};
    rc = kv_file_header_check(kv_buf_slice(&bytes), &expect, &manifest->header, &why);
    if (rc == KV_CORRUPT && !manifest->header.kind && bytes.len >= KV_FILE_HEADER_LEN &&
        kv_header_mend(bytes.data))
        rc = kv_file_header_check(kv_buf_slice(&bytes), &expect, &manifest->header, &why);
    if (rc == KV_CORRUPT) {
        mend_say(m, "%s: cannot be read: %.200s", name, why.text);
        rc = KV_OK;
        goto out;
    }
    if (rc < 0)
        kv_err_copy(err, &why);
    KV_TRY(rc);
    bool first = !manifest->keys;
    rc = first ? kv_manifest_load_keys(manifest, m->source, bytes.data, &walk.cipher, err)
               : kv_keyring_cipher(manifest->keys, bytes.data, 0, name, &walk.cipher, err);
    if (rc == KV_WRONG_KEY && !first) {
        mend_say(m, "%s: under another master key", name);
        rc = KV_OK;
        goto out;
    }
    KV_TRY(rc);
    walk.file = kv_buf_slice(&bytes);
    walk.uid = manifest->header.uid;
    m->left_out = m->gaps = 0;
    KV_TRY(mend_frames(m, &walk, err));
    mend_say(m, "%s: read up to edit %" PRIu64 "%s%s", name, manifest->state.edit,
             m->gaps ? ", with edits missing in between" : "",
             m->left_out ? ", and some that do not fit what is known" : "");
out:
    kv_cipher_free(walk.cipher);
    kv_buf_release(&walk.plain);
    kv_buf_release(&bytes);
    return rc;
}

static bool ends_mend(kv_status rc)
{
    return rc < 0 && rc != KV_CORRUPT;
}

kv_status kv_manifest_mend(struct kv_manifest *manifest, struct kv_dir *dir, struct kv_clock *clock,
                           const struct kv_key_source *source, bool *exact,
                           void (*say)(void *ctx, const char *line), void *ctx, struct kv_err *err)
{
    struct mend m = {.manifest = manifest, .source = source, .say = say, .ctx = ctx, .err = err};
    struct kv_err why = {0};
    kv_status rc = kv_manifest_load(manifest, dir, clock, source, &why);
    *exact = rc == KV_OK;
    if (rc == KV_OK || ends_mend(rc)) {
        if (rc < 0)
            kv_err_copy(err, &why);
        return rc;
    }
    mend_say(&m, "the manifest: %.300s", rc == KV_NOT_FOUND ? "none is published" : why.text);
    kv_manifest_close(manifest);
    *manifest = (struct kv_manifest){.dir = dir, .clock = clock, .next_file = 1};
    rc = kv_manifest_read_published(manifest, &why); /* for the generation */
    if (ends_mend(rc)) {
        kv_err_copy(err, &why);
        goto out;
    }
    if (rc == KV_CORRUPT && manifest->generation == 0) {
        rc = kv_fail(err, rc, 0, "%.200s: remove it, and repair again", why.text);
        goto out;
    }
    uint64_t generation = manifest->generation;
    KV_TRY(dir->ops->list(dir, mend_look, &m, err));
    size_t n = m.numbers.len / sizeof(uint64_t);
    uint64_t *numbers = (uint64_t *)(void *)m.numbers.data;
    if (n > 1)
        qsort(numbers, n, sizeof *numbers, order_numbers);
    for (size_t i = 0; i < n; i++)
        KV_TRY(mend_file(&m, numbers[i], err));
    manifest->generation = generation;
    KV_TRY(kv_manifest_load_data_keys(manifest, err));
    manifest->next_file = manifest->state.next_file;
out:
    kv_buf_release(&m.numbers);
    return rc;
}
