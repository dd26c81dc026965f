#include "kvcore/os/vfs.h"
#include "kvcore/base/mem.h"
#include "kvcore/os/vfs_names.h"

#include <inttypes.h>

kv_status kv_file_read_exact(struct kv_file *file, uint64_t offset, size_t len, uint8_t *into,
                             struct kv_err *err)
{
    struct kv_read range = {.offset = offset, .len = len, .into = into};
    kv_status rc = file->ops->read_at(file, &range, 1, err);
    if (rc == KV_OK && range.got < len)
        return kv_fail(err, KV_CORRUPT, 0,
                       "the file ends at offset %" PRIu64 ", %zu bytes short of what must be there",
                       offset + range.got, len - range.got);
    return rc;
}

bool kv_vfs_name_valid(const char *name)
{
    if (name[0] == '.')
        return false;
    size_t n = 0;
    for (; name[n]; n++) {
        char c = name[n];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                  c == '_' || c == '-';
        if (!ok || n == KV_FILE_NAME_MAX)
            return false;
    }
    return n > 0;
}

kv_status kv_vfs_name_check(const char *name, struct kv_err *err)
{
    if (kv_vfs_name_valid(name))
        return KV_OK;
    return kv_fail(err, KV_INVALID, 0,
                   "bad file name '%.80s': 1 to %d of [A-Za-z0-9._-], not starting with '.'", name,
                   KV_FILE_NAME_MAX);
}

static kv_status copy_bytes(struct kv_file *from, struct kv_file *to, uint8_t *piece, size_t piece_len,
                            struct kv_err *err)
{
    for (uint64_t offset = 0;;) {
        struct kv_read range = {.offset = offset, .len = piece_len, .into = piece};
        kv_status rc = from->ops->read_at(from, &range, 1, err);
        if (rc < 0 || range.got == 0)
            return rc;
        rc = kv_file_append(to, offset, kv_slice_of(piece, range.got), err);
        if (rc < 0)
            return rc;
        offset += range.got;
    }
}

kv_status kv_dir_copy_file(struct kv_dir *dir, const char *name, struct kv_dir *target, struct kv_err *err)
{
    enum { PIECE_BYTES = 1 << 20 };
    struct kv_file *from = NULL, *to = NULL;
    uint8_t *piece = NULL;
    kv_status rc;
    KV_TRY(kv_dir_open_file(dir, name, &from, err));
    KV_TRY(kv_dir_create(target, name, &to, err));
    piece = kv_alloc(PIECE_BYTES);
    KV_TRY(piece ? KV_OK : kv_fail(err, KV_NO_MEMORY, 0, "copying %s", name));
    KV_TRY(copy_bytes(from, to, piece, PIECE_BYTES, err));
    KV_TRY(kv_file_sync(to, err));
out:
    kv_free(piece);
    kv_file_close(from);
    kv_file_close(to);
    if (rc < 0 && to)
        (void)target->ops->remove(target, name, NULL); /* the copy's failure is what is reported */
    return rc;
}
