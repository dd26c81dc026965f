#include "kvcore/backup/set.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"

#include <stdio.h>
#include <stdlib.h>

/* fields := (tag:varint len:varint body[len])*; an even field must be understood, an odd one may be skipped. Never renumber. */
enum {
    FIELD_BACKUP = 2,
    FIELD_FILE = 4,
    FIELD_BASE = 8,
    FIELD_SELF = 10,
    FIELD_REPOSITORY = 2, /* in a catalog */
    FIELD_ENTRY = 4,
};
enum { FORM_MAX = KV_FORM_BASE };

static kv_status put_numbers(struct kv_buf *out, const uint64_t *numbers, size_t n)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = kv_buf_append_varint(out, numbers[i]);
    return rc;
}

static kv_status take_numbers(kv_slice *in, uint64_t *numbers, size_t n)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = kv_take_varint(in, &numbers[i]);
    return rc;
}

static kv_status put_field(struct kv_buf *out, uint64_t tag, const struct kv_buf *body)
{
    kv_status rc = kv_buf_append_varint(out, tag);
    return rc < 0 ? rc : kv_buf_append_lp(out, kv_buf_slice(body));
}

/* ---- a set */

void kv_set_release(struct kv_backup_set *set)
{
    kv_free(set->files);
    *set = (struct kv_backup_set){0};
}

kv_status kv_set_add(struct kv_backup_set *set, const struct kv_backup_file *file)
{
    struct kv_backup_file *grown = kv_grow(set->files, &set->files_capacity, set->n_files + 1, sizeof *grown);
    if (!grown)
        return KV_NO_MEMORY;
    set->files = grown;
    set->files[set->n_files++] = *file;
    return KV_OK;
}

static int compare_names(const void *a, const void *b)
{
    const struct kv_backup_file *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int compare_contents(const void *a, const void *b)
{
    const struct kv_backup_file *x = a, *y = b;
    int c = memcmp(x->uid, y->uid, sizeof x->uid);
    return c ? c : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static void set_sort(struct kv_backup_set *set, int (*compare)(const void *, const void *))
{
    if (set->n_files > 1)
        qsort(set->files, set->n_files, sizeof *set->files, compare);
}

void kv_set_sort_names(struct kv_backup_set *set)
{
    set_sort(set, compare_names);
}

void kv_set_sort_contents(struct kv_backup_set *set)
{
    set_sort(set, compare_contents);
}

static struct kv_backup_file *set_search(const struct kv_backup_set *set, const struct kv_backup_file *wanted,
                                         int (*compare)(const void *, const void *))
{
    return set->n_files ? bsearch(wanted, set->files, set->n_files, sizeof *set->files, compare) : NULL;
}

struct kv_backup_file *kv_set_find(const struct kv_backup_set *set, const uint8_t uid[KV_FILE_UID_LEN],
                                   uint64_t bytes)
{
    struct kv_backup_file wanted = {.bytes = bytes};
    memcpy(wanted.uid, uid, sizeof wanted.uid);
    return set_search(set, &wanted, compare_contents);
}

struct kv_backup_file *kv_set_named(const struct kv_backup_set *set, const char *name)
{
    struct kv_backup_file wanted = {0};
    snprintf(wanted.name, sizeof wanted.name, "%s", name);
    return set_search(set, &wanted, compare_names);
}

static enum kv_file_kind_name kind_of(const struct kv_backup_file *file)
{
    uint64_t number;
    enum kv_file_kind_name kind = KV_NAME_LOG;
    bool known = kv_file_name_parse(file->name, &number, &kind);
    KV_ASSERT(known);
    return kind;
}

const struct kv_backup_file *kv_set_manifest(const struct kv_backup_set *set)
{
    const struct kv_backup_file *found = NULL;
    for (size_t i = 0; i < set->n_files; i++)
        if (kind_of(&set->files[i]) == KV_NAME_MANIFEST) {
            if (found)
                return NULL;
            found = &set->files[i];
        }
    return found;
}

uint64_t kv_set_bytes(const struct kv_backup_set *set)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < set->n_files; i++)
        bytes += set->files[i].bytes;
    return bytes;
}

kv_status kv_set_encode_file(const struct kv_backup_file *file, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(put_numbers(out, (const uint64_t[]){file->bytes, file->stored_bytes, file->form}, 3));
    KV_TRY(kv_buf_append(out, kv_slice_of(file->uid, sizeof file->uid)));
    KV_TRY(kv_buf_append(out, kv_slice_of(file->sha256, sizeof file->sha256)));
    KV_TRY(kv_buf_append(out, kv_slice_str(file->name)));
out:
    return rc;
}

kv_status kv_set_decode_file(kv_slice in, struct kv_backup_file *out)
{
    uint64_t n[3], number;
    enum kv_file_kind_name kind;
    kv_slice uid, sum;
    *out = (struct kv_backup_file){0};
    if (take_numbers(&in, n, 3) < 0 || kv_take_bytes(&in, sizeof out->uid, &uid) < 0 ||
        kv_take_bytes(&in, sizeof out->sha256, &sum) < 0 || in.len < 1 || in.len >= sizeof out->name)
        return KV_CORRUPT;
    if (n[2] > FORM_MAX)
        return KV_TOO_NEW;
    out->bytes = n[0];
    out->stored_bytes = n[1];
    out->form = (uint8_t)n[2];
    memcpy(out->uid, uid.data, uid.len);
    memcpy(out->sha256, sum.data, sum.len);
    memcpy(out->name, in.data, in.len);
    if (strlen(out->name) != in.len || !kv_file_name_parse(out->name, &number, &kind))
        return KV_CORRUPT; /* a restore must never be led to another name */
    return KV_OK;
}

static kv_status encode_backup(const struct kv_backup_set *set, struct kv_buf *body, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(put_numbers(body, (const uint64_t[]){set->number, kv_zigzag(set->time_ms), set->version}, 3));
    KV_TRY(kv_buf_append(body, kv_slice_of(set->uuid, sizeof set->uuid)));
    KV_TRY(put_field(out, FIELD_BACKUP, body));
    if (set->has_base) {
        kv_buf_clear(body);
        KV_TRY(kv_buf_append(body, kv_slice_of(set->base, sizeof set->base)));
        KV_TRY(put_field(out, FIELD_BASE, body));
    }
    if (set->has_self) {
        kv_buf_clear(body);
        KV_TRY(kv_buf_append(body, kv_slice_of(set->self, sizeof set->self)));
        KV_TRY(put_field(out, FIELD_SELF, body));
    }
out:
    return rc;
}

kv_status kv_set_encode(const struct kv_backup_set *set, bool with_files, struct kv_buf *out)
{
    struct kv_buf body = {0};
    kv_status rc;
    KV_TRY(encode_backup(set, &body, out));
    for (size_t i = 0; with_files && i < set->n_files; i++) {
        kv_buf_clear(&body);
        KV_TRY(kv_set_encode_file(&set->files[i], &body));
        KV_TRY(put_field(out, FIELD_FILE, &body));
    }
out:
    kv_buf_release(&body);
    return rc;
}

static kv_status decode_backup(kv_slice in, struct kv_backup_set *set)
{
    uint64_t n[3];
    kv_slice uuid;
    if (take_numbers(&in, n, 3) < 0 || kv_take_bytes(&in, sizeof set->uuid, &uuid) < 0)
        return KV_CORRUPT;
    set->number = n[0];
    set->time_ms = kv_unzigzag(n[1]);
    set->version = n[2];
    memcpy(set->uuid, uuid.data, uuid.len);
    return in.len ? KV_TOO_NEW : KV_OK;
}

static kv_status decode_uid(kv_slice in, uint8_t out[KV_FILE_UID_LEN])
{
    if (in.len != KV_FILE_UID_LEN)
        return KV_CORRUPT;
    memcpy(out, in.data, in.len);
    return KV_OK;
}

static kv_status decode_field(uint64_t tag, kv_slice body, struct kv_backup_set *set)
{
    struct kv_backup_file file;
    kv_status rc;
    switch (tag) {
    case FIELD_BACKUP:
        return decode_backup(body, set);
    case FIELD_FILE:
        rc = kv_set_decode_file(body, &file);
        if (rc == KV_OK && set->n_files > 0 && strcmp(file.name, set->files[set->n_files - 1].name) <= 0)
            rc = KV_CORRUPT;
        return rc < 0 ? rc : kv_set_add(set, &file);
    case FIELD_BASE:
        set->has_base = true;
        return decode_uid(body, set->base);
    case FIELD_SELF:
        set->has_self = true;
        return decode_uid(body, set->self);
    default:
        return tag % 2 ? KV_OK : KV_TOO_NEW;
    }
}

kv_status kv_set_decode(kv_slice in, bool with_files, struct kv_backup_set *out, struct kv_err *err)
{
    kv_status rc = KV_OK;
    *out = (struct kv_backup_set){0};
    while (in.len > 0 && rc == KV_OK) {
        uint64_t tag;
        kv_slice body;
        if (kv_take_varint(&in, &tag) < 0 || kv_take_lp(&in, &body) < 0)
            rc = KV_CORRUPT;
        else
            rc = decode_field(tag, body, out);
    }
    if (rc == KV_OK && with_files && !kv_set_manifest(out))
        rc = KV_CORRUPT;
    return rc < 0 ? kv_fail(err, rc, 0, "the list of a backup's files cannot be read: %s", kv_status_text(rc))
                  : KV_OK;
}

/* ---- a catalog */

void kv_catalog_release(struct kv_catalog *catalog)
{
    kv_free(catalog->entries);
    *catalog = (struct kv_catalog){0};
}

kv_status kv_catalog_add(struct kv_catalog *catalog, const struct kv_catalog_entry *entry)
{
    struct kv_catalog_entry *grown =
        kv_grow(catalog->entries, &catalog->capacity, catalog->n + 1, sizeof *grown);
    if (!grown)
        return KV_NO_MEMORY;
    catalog->entries = grown;
    catalog->entries[catalog->n++] = *entry;
    return KV_OK;
}

kv_status kv_catalog_encode(const struct kv_catalog *catalog, struct kv_buf *out)
{
    struct kv_buf body = {0};
    kv_status rc;
    KV_TRY(kv_buf_append_varint(&body, catalog->next));
    KV_TRY(kv_buf_append(&body, kv_slice_of(catalog->uuid, sizeof catalog->uuid)));
    KV_TRY(put_field(out, FIELD_REPOSITORY, &body));
    for (size_t i = 0; i < catalog->n; i++) {
        const struct kv_catalog_entry *e = &catalog->entries[i];
        kv_buf_clear(&body);
        KV_TRY(put_numbers(&body,
                           (const uint64_t[]){e->number, kv_zigzag(e->time_ms), e->version, e->bytes,
                                              e->files, e->added_bytes, e->added_files},
                           7));
        KV_TRY(kv_buf_append(&body, kv_slice_of(e->uid, sizeof e->uid)));
        KV_TRY(put_field(out, FIELD_ENTRY, &body));
    }
out:
    kv_buf_release(&body);
    return rc;
}

static kv_status decode_entry(kv_slice in, struct kv_catalog *catalog)
{
    uint64_t n[7];
    kv_slice uid;
    if (take_numbers(&in, n, 7) < 0 || kv_take_bytes(&in, KV_FILE_UID_LEN, &uid) < 0)
        return KV_CORRUPT;
    if (in.len)
        return KV_TOO_NEW;
    struct kv_catalog_entry entry = {.number = n[0],
                                     .time_ms = kv_unzigzag(n[1]),
                                     .version = n[2],
                                     .bytes = n[3],
                                     .files = n[4],
                                     .added_bytes = n[5],
                                     .added_files = n[6]};
    memcpy(entry.uid, uid.data, uid.len);
    if (entry.number == 0 || entry.number >= catalog->next ||
        (catalog->n > 0 && entry.number <= catalog->entries[catalog->n - 1].number))
        return KV_CORRUPT;
    return kv_catalog_add(catalog, &entry);
}

static kv_status decode_repository(kv_slice in, struct kv_catalog *catalog)
{
    kv_slice uuid;
    if (catalog->next || kv_take_varint(&in, &catalog->next) < 0 ||
        kv_take_bytes(&in, KV_UUID_LEN, &uuid) < 0 || !catalog->next)
        return KV_CORRUPT;
    memcpy(catalog->uuid, uuid.data, uuid.len);
    return in.len ? KV_TOO_NEW : KV_OK;
}

kv_status kv_catalog_decode(kv_slice in, struct kv_catalog *out, struct kv_err *err)
{
    kv_status rc = KV_OK;
    *out = (struct kv_catalog){0};
    while (in.len > 0 && rc == KV_OK) {
        uint64_t tag;
        kv_slice body;
        if (kv_take_varint(&in, &tag) < 0 || kv_take_lp(&in, &body) < 0)
            rc = KV_CORRUPT;
        else if (tag == FIELD_REPOSITORY)
            rc = decode_repository(body, out);
        else if (tag == FIELD_ENTRY)
            rc = decode_entry(body, out);
        else
            rc = tag % 2 ? KV_OK : KV_TOO_NEW;
    }
    if (rc == KV_OK && out->next == 0)
        rc = KV_CORRUPT;
    return rc < 0 ? kv_fail(err, rc, 0, "the catalog of backups cannot be read: %s", kv_status_text(rc))
                  : KV_OK;
}
