/* The manifest's state and its edits: building, parsing, applying and describing them. No I/O. Long, because the four
 * share one list of fields, and a field that one of them does not know would be a hole. */
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/bans.h"
#include "kvcore/db/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* An even field must be understood, an odd one may be skipped by a reader that does not know it. Never
 * renumber. */
enum {
    FIELD_IDENTITY = 2,
    FIELD_SPACE = 4,
    FIELD_TABLE_ADD = 6,
    FIELD_TABLE_DROP = 8,
    FIELD_SEAL = 10,
    FIELD_LOG_FLOOR = 12,
    FIELD_APP_FLOOR = 14,
    FIELD_NEXT_FILE = 16,
    FIELD_LAST_SEQ = 18,
    FIELD_RETENTION = 20,
    FIELD_OWNER_EPOCH = 22,
    FIELD_LOG_CURRENT = 24,
    FIELD_LOG_UID = 25,
    FIELD_SPACE_ORDER = 26,
    FIELD_SEGMENT_ADD = 28,
    FIELD_SEGMENT_DROP = 30,
    FIELD_DATA_KEY = 34,
    FIELD_TABLE_MOVE = 36,
    FIELD_KEY_SEALED = 38,
    FIELD_PLAIN_BELOW = 40,
    FIELD_RANGE_ADD = 42,
    FIELD_RANGE_DROP = 44,
    FIELD_JOB_DONE = 47,
    FIELD_APP_VERSION = 50,
    FIELD_BANS = 52,
    /* 32 follower pin: reserved */
};

static struct kv_table_meta *table_meta_copy(const struct kv_table_meta *meta)
{
    struct kv_table_meta *copy = kv_alloc(sizeof *copy + meta->smallest.len + meta->largest.len);
    if (!copy)
        return NULL;
    uint8_t *keys = (uint8_t *)(copy + 1);
    *copy = *meta;
    memcpy(keys, meta->smallest.data, meta->smallest.len);
    memcpy(keys + meta->smallest.len, meta->largest.data, meta->largest.len);
    copy->smallest.data = keys;
    copy->largest.data = keys + meta->smallest.len;
    return copy;
}

static struct kv_range_meta *range_meta_copy(const struct kv_range_meta *range)
{
    struct kv_range_meta *copy = kv_alloc(sizeof *copy + range->lower.len + range->upper.len);
    if (!copy)
        return NULL;
    uint8_t *keys = (uint8_t *)(copy + 1);
    *copy = *range;
    memcpy(keys, range->lower.data, range->lower.len);
    memcpy(keys + range->lower.len, range->upper.data, range->upper.len);
    copy->lower.data = keys;
    copy->upper.data = keys + range->lower.len;
    return copy;
}

void kv_manifest_state_release(struct kv_manifest_state *state)
{
    for (size_t i = 0; i < state->n_ranges; i++)
        kv_free(state->ranges[i]);
    kv_free(state->ranges);
    kv_free(state->segments);
    kv_buf_release(&state->bans);
    for (size_t i = 0; i < state->n_tables; i++)
        kv_free(state->tables[i]);
    kv_free(state->tables);
    kv_free(state->seals);
    kv_free(state->keys);
    *state = (struct kv_manifest_state){0};
}

/* The first place whose number is not below `number`. */
static size_t state_table_at(const struct kv_manifest_state *state, uint64_t number)
{
    size_t low = 0, high = state->n_tables;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (state->tables[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct kv_table_meta *kv_manifest_table(const struct kv_manifest_state *state, uint64_t number)
{
    size_t at = state_table_at(state, number);
    return at < state->n_tables && state->tables[at]->number == number ? state->tables[at] : NULL;
}

/* The first place whose number is not below `number`. */
static size_t state_segment_at(const struct kv_manifest_state *state, uint64_t number)
{
    size_t at = state->n_segments;
    while (at > 0 && state->segments[at - 1].number >= number)
        at--;
    return at;
}

const struct kv_segment_meta *kv_manifest_segment(const struct kv_manifest_state *state, uint64_t number)
{
    size_t at = state_segment_at(state, number);
    return at < state->n_segments && state->segments[at].number == number ? &state->segments[at] : NULL;
}

/* n_ranges: there is none. */
static size_t state_range_at(const struct kv_manifest_state *state, const struct kv_range_meta *range)
{
    for (size_t i = 0; i < state->n_ranges; i++) {
        const struct kv_range_meta *at = state->ranges[i];
        if (at->version == range->version && at->space == range->space &&
            kv_slice_equal(at->lower, range->lower) && kv_slice_equal(at->upper, range->upper))
            return i;
    }
    return state->n_ranges;
}

const struct kv_log_seal *kv_manifest_seal_of(const struct kv_manifest_state *state, uint64_t number)
{
    for (size_t i = 0; i < state->n_seals; i++)
        if (state->seals[i].number == number)
            return &state->seals[i];
    return NULL;
}

/* ---- building */

void kv_edit_release(struct kv_edit *edit)
{
    kv_buf_release(&edit->fields);
    edit->rc = KV_OK;
}

static void edit_field(struct kv_edit *edit, uint64_t tag, kv_slice payload)
{
    if (edit->rc == KV_OK)
        edit->rc = kv_buf_append_varint(&edit->fields, tag);
    if (edit->rc == KV_OK)
        edit->rc = kv_buf_append_lp(&edit->fields, payload);
}

static void edit_numbers(struct kv_edit *edit, uint64_t tag, const uint64_t *numbers, size_t n)
{
    uint8_t bytes[4 * KV_VARINT_LEN_MAX];
    size_t len = 0;
    KV_ASSERT(n <= 4);
    for (size_t i = 0; i < n; i++)
        len += kv_put_varint(bytes + len, numbers[i]);
    edit_field(edit, tag, kv_slice_of(bytes, len));
}

void kv_edit_identity(struct kv_edit *edit, const uint8_t uuid[KV_UUID_LEN],
                      const uint8_t hash_seed[KV_UUID_LEN])
{
    uint8_t bytes[2 * KV_UUID_LEN];
    memcpy(bytes, uuid, KV_UUID_LEN);
    memcpy(bytes + KV_UUID_LEN, hash_seed, KV_UUID_LEN);
    edit_field(edit, FIELD_IDENTITY, kv_slice_of(bytes, sizeof bytes));
}

void kv_edit_space(struct kv_edit *edit, uint32_t id, const char *name, enum kv_style style)
{
    uint8_t bytes[2 * KV_VARINT_LEN_MAX + KV_SPACE_NAME_MAX];
    size_t name_len = strlen(name);
    KV_ASSERT(name_len <= KV_SPACE_NAME_MAX);
    size_t len = kv_put_varint(bytes, id);
    len += kv_put_varint(bytes + len, (uint64_t)style);
    memcpy(bytes + len, name, name_len);
    edit_field(edit, FIELD_SPACE, kv_slice_of(bytes, len + name_len));
}

void kv_edit_space_order(struct kv_edit *edit, const uint8_t *ids, size_t n)
{
    edit_field(edit, FIELD_SPACE_ORDER, kv_slice_of(ids, n));
}

void kv_edit_add_table(struct kv_edit *edit, const struct kv_table_meta *meta)
{
    struct kv_buf bytes = {0};
    const uint64_t numbers[] = {meta->number,       meta->space,       meta->level,       meta->run,
                                meta->bulk_version, meta->version_min, meta->version_max, meta->entries,
                                meta->deletions,    meta->bytes};
    kv_status rc;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        KV_TRY(kv_buf_append_varint(&bytes, numbers[i]));
    KV_TRY(kv_buf_append(&bytes, kv_slice_of(meta->uid, sizeof meta->uid)));
    KV_TRY(kv_buf_append_lp(&bytes, meta->smallest));
    KV_TRY(kv_buf_append_lp(&bytes, meta->largest));
    edit_field(edit, FIELD_TABLE_ADD, kv_buf_slice(&bytes));
out:
    if (rc < 0 && edit->rc == KV_OK)
        edit->rc = rc;
    kv_buf_release(&bytes);
}

void kv_edit_drop_table(struct kv_edit *edit, uint64_t number)
{
    edit_numbers(edit, FIELD_TABLE_DROP, &number, 1);
}

void kv_edit_move_table(struct kv_edit *edit, uint64_t number, uint32_t level)
{
    edit_numbers(edit, FIELD_TABLE_MOVE, (const uint64_t[]){number, level}, 2);
}

void kv_edit_add_segment(struct kv_edit *edit, const struct kv_segment_meta *segment)
{
    uint8_t bytes[2 * KV_VARINT_LEN_MAX + KV_FILE_UID_LEN];
    size_t n = kv_put_varint(bytes, segment->number);
    n += kv_put_varint(bytes + n, segment->bytes);
    memcpy(bytes + n, segment->uid, KV_FILE_UID_LEN);
    edit_field(edit, FIELD_SEGMENT_ADD, kv_slice_of(bytes, n + KV_FILE_UID_LEN));
}

void kv_edit_drop_segment(struct kv_edit *edit, uint64_t number)
{
    edit_numbers(edit, FIELD_SEGMENT_DROP, &number, 1);
}

static void edit_range(struct kv_edit *edit, uint64_t tag, const struct kv_range_meta *range)
{
    struct kv_buf bytes = {0};
    kv_status rc;
    KV_TRY(kv_buf_append_varint(&bytes, range->space));
    KV_TRY(kv_buf_append_varint(&bytes, range->version));
    KV_TRY(kv_buf_append_lp(&bytes, range->lower));
    KV_TRY(kv_buf_append_lp(&bytes, range->upper));
    edit_field(edit, tag, kv_buf_slice(&bytes));
out:
    if (rc < 0 && edit->rc == KV_OK)
        edit->rc = rc;
    kv_buf_release(&bytes);
}

void kv_edit_add_range(struct kv_edit *edit, const struct kv_range_meta *range)
{
    edit_range(edit, FIELD_RANGE_ADD, range);
}

void kv_edit_drop_range(struct kv_edit *edit, const struct kv_range_meta *range)
{
    edit_range(edit, FIELD_RANGE_DROP, range);
}

void kv_edit_seal(struct kv_edit *edit, const struct kv_log_seal *seal)
{
    edit_numbers(edit, FIELD_SEAL,
                 (const uint64_t[]){seal->number, seal->valid_len, seal->last_seq, seal->last_record_seq}, 4);
}

void kv_edit_log_floor(struct kv_edit *edit, uint64_t seq, uint64_t first_file)
{
    edit_numbers(edit, FIELD_LOG_FLOOR, (const uint64_t[]){seq, first_file}, 2);
}

void kv_edit_log_current(struct kv_edit *edit, uint64_t number)
{
    edit_numbers(edit, FIELD_LOG_CURRENT, &number, 1);
}

void kv_edit_log_uid(struct kv_edit *edit, uint64_t number, const uint8_t uid[KV_FILE_UID_LEN])
{
    uint8_t bytes[KV_VARINT_LEN_MAX + KV_FILE_UID_LEN];
    size_t len = kv_put_varint(bytes, number);
    memcpy(bytes + len, uid, KV_FILE_UID_LEN);
    edit_field(edit, FIELD_LOG_UID, kv_slice_of(bytes, len + KV_FILE_UID_LEN));
}

void kv_edit_app_floor(struct kv_edit *edit, uint64_t seq)
{
    edit_numbers(edit, FIELD_APP_FLOOR, &seq, 1);
}

void kv_edit_next_file(struct kv_edit *edit, uint64_t number)
{
    edit_numbers(edit, FIELD_NEXT_FILE, &number, 1);
}

void kv_edit_last_seq(struct kv_edit *edit, uint64_t seq)
{
    edit_numbers(edit, FIELD_LAST_SEQ, &seq, 1);
}

void kv_edit_retention(struct kv_edit *edit, int64_t unix_ms)
{
    edit_numbers(edit, FIELD_RETENTION, (const uint64_t[]){kv_zigzag(unix_ms)}, 1);
}

void kv_edit_job_done(struct kv_edit *edit, uint64_t job, int64_t unix_ms)
{
    edit_numbers(edit, FIELD_JOB_DONE, (const uint64_t[]){job, kv_zigzag(unix_ms)}, 2);
}

void kv_edit_owner_epoch(struct kv_edit *edit, uint64_t epoch)
{
    edit_numbers(edit, FIELD_OWNER_EPOCH, &epoch, 1);
}

void kv_edit_data_key(struct kv_edit *edit, const struct kv_data_key *key)
{
    uint8_t bytes[2 * KV_VARINT_LEN_MAX + KV_DATA_KEY_SALT_LEN + KV_DATA_KEY_WRAPPED_LEN];
    size_t len = kv_put_varint(bytes, key->id);
    len += kv_put_varint(bytes + len, kv_zigzag(key->created_ms));
    memcpy(bytes + len, key->salt, sizeof key->salt);
    len += sizeof key->salt;
    memcpy(bytes + len, key->wrapped, sizeof key->wrapped);
    edit_field(edit, FIELD_DATA_KEY, kv_slice_of(bytes, len + sizeof key->wrapped));
}

void kv_edit_key_sealed(struct kv_edit *edit, uint64_t id, uint64_t pieces)
{
    edit_numbers(edit, FIELD_KEY_SEALED, (const uint64_t[]){id, pieces}, 2);
}

void kv_edit_plain_below(struct kv_edit *edit, uint64_t number)
{
    edit_numbers(edit, FIELD_PLAIN_BELOW, &number, 1);
}

void kv_edit_app_version(struct kv_edit *edit, uint32_t version)
{
    edit_numbers(edit, FIELD_APP_VERSION, (const uint64_t[]){version}, 1);
}

void kv_edit_bans(struct kv_edit *edit, kv_slice list)
{
    edit_field(edit, FIELD_BANS, list);
}

void kv_edit_snapshot(struct kv_edit *edit, const struct kv_manifest_state *state)
{
    kv_edit_identity(edit, state->uuid, state->hash_seed);
    kv_edit_owner_epoch(edit, state->owner_epoch);
    kv_edit_next_file(edit, state->next_file);
    kv_edit_last_seq(edit, state->last_seq);
    kv_edit_retention(edit, state->retention_ms);
    for (uint64_t job = 0; job < KV_JOBS; job++)
        if (state->job_done_ms[job])
            kv_edit_job_done(edit, job, state->job_done_ms[job]);
    kv_edit_log_floor(edit, state->log_floor, state->log_first);
    kv_edit_log_current(edit, state->log_current);
    if (kv_manifest_log_uid(state))
        kv_edit_log_uid(edit, state->log_current, state->log_uid);
    kv_edit_app_floor(edit, state->app_floor);
    for (uint32_t i = 0; i < state->n_spaces; i++)
        kv_edit_space(edit, i, state->spaces[i].name, state->spaces[i].style);
    kv_edit_space_order(edit, state->order, state->n_order);
    if (state->plain_below)
        kv_edit_plain_below(edit, state->plain_below);
    if (state->app_version)
        kv_edit_app_version(edit, state->app_version);
    if (state->bans.len)
        kv_edit_bans(edit, kv_buf_slice(&state->bans));
    for (size_t i = 0; i < state->n_keys; i++) {
        kv_edit_data_key(edit, &state->keys[i]);
        if (state->keys[i].sealed)
            kv_edit_key_sealed(edit, state->keys[i].id, state->keys[i].sealed);
    }
    for (size_t i = 0; i < state->n_seals; i++)
        kv_edit_seal(edit, &state->seals[i]);
    for (size_t i = 0; i < state->n_tables; i++)
        kv_edit_add_table(edit, state->tables[i]);
    for (size_t i = 0; i < state->n_segments; i++)
        kv_edit_add_segment(edit, &state->segments[i]);
    for (size_t i = 0; i < state->n_ranges; i++)
        kv_edit_add_range(edit, state->ranges[i]);
}

/* ---- parsing: one decoder for replay, commit and description */

struct field {
    uint64_t tag;
    uint64_t n[4];              /* the numbers of the simple fields */
    kv_slice bytes;             /* identity, or a space's name */
    struct kv_table_meta meta;  /* keys borrowed */
    struct kv_range_meta range; /* the same */
    struct kv_data_key key;
};

static kv_status field_numbers(kv_slice *in, uint64_t *into, size_t n)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = kv_take_varint(in, &into[i]);
    return rc;
}

static kv_status field_table(kv_slice *in, struct kv_table_meta *meta)
{
    uint64_t n[10];
    kv_slice uid;
    if (field_numbers(in, n, 10) < 0 || n[1] > UINT32_MAX || n[2] > UINT32_MAX ||
        kv_take_bytes(in, KV_FILE_UID_LEN, &uid) < 0 || kv_take_lp(in, &meta->smallest) < 0 ||
        kv_take_lp(in, &meta->largest) < 0)
        return KV_CORRUPT;
    meta->number = n[0];
    meta->space = (uint32_t)n[1];
    meta->level = (uint32_t)n[2];
    meta->run = n[3];
    meta->bulk_version = n[4];
    meta->version_min = n[5];
    meta->version_max = n[6];
    meta->entries = n[7];
    meta->deletions = n[8];
    meta->bytes = n[9];
    memcpy(meta->uid, uid.data, KV_FILE_UID_LEN);
    return KV_OK;
}

static kv_status field_key(kv_slice *in, struct kv_data_key *key)
{
    uint64_t n[2];
    kv_slice salt, wrapped;
    if (field_numbers(in, n, 2) < 0 || kv_take_bytes(in, KV_DATA_KEY_SALT_LEN, &salt) < 0 ||
        kv_take_bytes(in, KV_DATA_KEY_WRAPPED_LEN, &wrapped) < 0)
        return KV_CORRUPT;
    *key = (struct kv_data_key){.id = n[0], .created_ms = kv_unzigzag(n[1])};
    memcpy(key->salt, salt.data, salt.len);
    memcpy(key->wrapped, wrapped.data, wrapped.len);
    return KV_OK;
}

static kv_status field_range(kv_slice *in, struct kv_range_meta *range)
{
    uint64_t n[2];
    if (field_numbers(in, n, 2) < 0 || n[0] > UINT32_MAX || kv_take_lp(in, &range->lower) < 0 ||
        kv_take_lp(in, &range->upper) < 0)
        return KV_CORRUPT;
    range->space = (uint32_t)n[0];
    range->version = n[1];
    return KV_OK;
}

static kv_status field_body(struct field *field, kv_slice *in)
{
    switch (field->tag) {
    case FIELD_IDENTITY:
        return kv_take_bytes(in, 2 * KV_UUID_LEN, &field->bytes);
    case FIELD_SPACE:
        if (field_numbers(in, field->n, 2) < 0)
            return KV_CORRUPT;
        field->bytes = *in;
        *in = kv_slice_from(*in, in->len);
        return KV_OK;
    case FIELD_SPACE_ORDER:
    case FIELD_BANS:
        field->bytes = *in;
        *in = kv_slice_from(*in, in->len);
        return KV_OK;
    case FIELD_TABLE_ADD:
        return field_table(in, &field->meta);
    case FIELD_SEGMENT_ADD:
        return field_numbers(in, field->n, 2) < 0 ? KV_CORRUPT
                                                  : kv_take_bytes(in, KV_FILE_UID_LEN, &field->bytes);
    case FIELD_LOG_UID:
        return field_numbers(in, field->n, 1) < 0 ? KV_CORRUPT
                                                  : kv_take_bytes(in, KV_FILE_UID_LEN, &field->bytes);
    case FIELD_RANGE_ADD:
    case FIELD_RANGE_DROP:
        return field_range(in, &field->range);
    case FIELD_SEAL:
        return field_numbers(in, field->n, 4);
    case FIELD_DATA_KEY:
        return field_key(in, &field->key);
    case FIELD_LOG_FLOOR:
    case FIELD_JOB_DONE:
    case FIELD_TABLE_MOVE:
    case FIELD_KEY_SEALED:
        return field_numbers(in, field->n, 2);
    case FIELD_SEGMENT_DROP:
    case FIELD_TABLE_DROP:
    case FIELD_PLAIN_BELOW:
    case FIELD_APP_VERSION:
    case FIELD_APP_FLOOR:
    case FIELD_NEXT_FILE:
    case FIELD_LAST_SEQ:
    case FIELD_RETENTION:
    case FIELD_OWNER_EPOCH:
    case FIELD_LOG_CURRENT:
        return field_numbers(in, field->n, 1);
    default:
        if (field->tag % 2 == 0)
            return KV_TOO_NEW;
        *in = kv_slice_from(*in, in->len);
        return KV_OK;
    }
}

/* Takes one field off *fields. A known field with bytes behind what we know was written by a newer version.
 */
static kv_status field_next(kv_slice *fields, struct field *field, struct kv_err *err)
{
    kv_slice body;
    if (kv_take_varint(fields, &field->tag) < 0 || kv_take_lp(fields, &body) < 0)
        return kv_fail(err, KV_CORRUPT, 0, "a manifest field ends early");
    kv_status rc = field_body(field, &body);
    if (rc == KV_CORRUPT)
        return kv_fail(err, rc, 0, "manifest field %" PRIu64 " ends early", field->tag);
    if (rc == KV_TOO_NEW || body.len > 0)
        return kv_fail(err, KV_TOO_NEW, 0, "manifest field %" PRIu64 " was written by a newer version",
                       field->tag);
    return rc;
}

/* ---- applying: check and allocate everything first, then change the state without a way to fail */

static bool name_is_valid(kv_slice name)
{
    if (name.len < 1 || name.len > KV_SPACE_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    return true;
}

static const char *meta_fault(const struct kv_table_meta *meta, uint32_t n_spaces)
{
    if (meta->space >= n_spaces)
        return "names an unknown space";
    if (meta->level >= KV_LEVELS_MAX)
        return "has an impossible level";
    if (meta->smallest.len < 1 || meta->smallest.len > KV_KEY_LEN_MAX || meta->largest.len < 1 ||
        meta->largest.len > KV_KEY_LEN_MAX || kv_slice_compare(meta->smallest, meta->largest) > 0)
        return "has impossible keys";
    if (meta->version_min > meta->version_max)
        return "has impossible versions";
    if (meta->bulk_version &&
        (meta->version_min != meta->bulk_version || meta->version_max != meta->bulk_version))
        return "has a bulk version beside its range";
    if (meta->entries < 1 || meta->deletions > meta->entries)
        return "has impossible counts";
    return NULL;
}

struct kv_manifest_change {
    struct kv_manifest_state next; /* scalars, spaces; not tables and seals */
    struct kv_table_meta **adds;
    size_t n_adds, adds_capacity;
    struct kv_range_meta **ranges;
    size_t n_ranges, ranges_capacity;
    struct kv_buf bans;
    bool bans_given;
    size_t n_segments;
    size_t n_seals, n_keys;
    uint64_t key_newest;
    kv_slice fields; /* borrowed until applied */
};

static kv_status apply_collect_table(struct kv_manifest_change *change, const struct kv_table_meta *meta)
{
    struct kv_table_meta **adds =
        kv_grow(change->adds, &change->adds_capacity, change->n_adds + 1, sizeof(struct kv_table_meta *));
    if (!adds)
        return KV_NO_MEMORY;
    change->adds = adds;
    struct kv_table_meta *copy = table_meta_copy(meta);
    if (!copy)
        return KV_NO_MEMORY;
    change->adds[change->n_adds++] = copy;
    return KV_OK;
}

static kv_status apply_collect_range(struct kv_manifest_change *change, const struct kv_range_meta *range)
{
    struct kv_range_meta **ranges = kv_grow(change->ranges, &change->ranges_capacity, change->n_ranges + 1,
                                            sizeof(struct kv_range_meta *));
    if (!ranges)
        return KV_NO_MEMORY;
    change->ranges = ranges;
    struct kv_range_meta *copy = range_meta_copy(range);
    if (!copy)
        return KV_NO_MEMORY;
    change->ranges[change->n_ranges++] = copy;
    return KV_OK;
}

static kv_status apply_bans(struct kv_manifest_change *change, kv_slice list, struct kv_err *err)
{
    kv_slice rest = list, prefix;
    uint32_t space = 0, n = 0;
    kv_status rc;
    bool possible = true;
    while ((rc = kv_bans_next(&rest, &space, &prefix)) == KV_OK)
        possible = possible && space < change->next.n_spaces && ++n <= KV_BANS_MAX;
    if (rc != KV_END || !possible)
        return kv_fail(err, KV_CORRUPT, 0, "the manifest has an impossible list of banned prefixes");
    kv_buf_clear(&change->bans);
    change->bans_given = true;
    return kv_buf_append(&change->bans, list);
}

static bool range_is_possible(const struct kv_range_meta *range, uint32_t n_spaces)
{
    return range->space < n_spaces && range->version > 0 && range->lower.len >= 1 &&
           range->lower.len <= KV_KEY_LEN_MAX && range->upper.len <= KV_KEY_LEN_MAX &&
           kv_slice_compare(range->lower, range->upper) < 0;
}

static kv_status apply_space(struct kv_manifest_state *next, const struct field *field, struct kv_err *err)
{
    if (field->n[0] != next->n_spaces || next->n_spaces == KV_SPACES_MAX || !name_is_valid(field->bytes))
        return kv_fail(err, KV_CORRUPT, 0, "the manifest declares an impossible space");
    if (field->n[1] != KV_STYLE_RUNS && field->n[1] != KV_STYLE_LEVELLED)
        return kv_fail(err, KV_TOO_NEW, 0, "a space has a style of a newer version");
    struct kv_manifest_space *space = &next->spaces[next->n_spaces++];
    *space = (struct kv_manifest_space){.style = (enum kv_style)field->n[1]};
    memcpy(space->name, field->bytes.data, field->bytes.len);
    return KV_OK;
}

static kv_status apply_order_of_spaces(struct kv_manifest_state *next, kv_slice order, struct kv_err *err)
{
    uint32_t seen = 0;
    if (order.len > next->n_spaces)
        return kv_fail(err, KV_CORRUPT, 0, "the manifest orders spaces it does not have");
    for (size_t i = 0; i < order.len; i++) {
        uint8_t id = order.data[i];
        if (id >= next->n_spaces || (seen >> id & 1))
            return kv_fail(err, KV_CORRUPT, 0, "the manifest has an impossible order of spaces");
        seen |= (uint32_t)1 << id;
        next->order[i] = id;
    }
    next->n_order = (uint32_t)order.len;
    return KV_OK;
}

static struct kv_data_key *state_key(const struct kv_manifest_state *state, uint64_t id)
{
    for (size_t i = state->n_keys; i-- > 0;)
        if (state->keys[i].id == id)
            return &state->keys[i];
    return NULL;
}

/* Ids are given out in order; one that is there already is the same key wrapped anew. */
static kv_status apply_data_key(struct kv_manifest_change *change, const struct kv_manifest_state *state,
                                uint64_t id, struct kv_err *err)
{
    if (id == 0 || (id <= change->key_newest && !state_key(state, id)))
        return kv_fail(err, KV_CORRUPT, 0, "the manifest has data key %" PRIu64 " behind %" PRIu64, id,
                       change->key_newest);
    change->n_keys++;
    if (id > change->key_newest)
        change->key_newest = id;
    return KV_OK;
}

static kv_status apply_check(struct kv_manifest_change *change, const struct kv_manifest_state *state,
                             const struct field *field, struct kv_err *err)
{
    struct kv_manifest_state *next = &change->next;
    const char *fault;
    switch (field->tag) {
    case FIELD_IDENTITY:
        memcpy(next->uuid, field->bytes.data, KV_UUID_LEN);
        memcpy(next->hash_seed, field->bytes.data + KV_UUID_LEN, KV_UUID_LEN);
        return KV_OK;
    case FIELD_SPACE:
        return apply_space(next, field, err);
    case FIELD_SPACE_ORDER:
        return apply_order_of_spaces(next, field->bytes, err);
    case FIELD_TABLE_ADD:
        fault = meta_fault(&field->meta, next->n_spaces);
        if (!fault && kv_manifest_table(state, field->meta.number))
            fault = "is added twice";
        if (fault)
            return kv_fail(err, KV_CORRUPT, 0, "table %06" PRIu64 " of the manifest %s", field->meta.number,
                           fault);
        return apply_collect_table(change, &field->meta);
    case FIELD_TABLE_DROP:
        if (!kv_manifest_table(state, field->n[0]))
            return kv_fail(err, KV_CORRUPT, 0,
                           "the manifest drops table %06" PRIu64 ", which it does not have", field->n[0]);
        return KV_OK;
    case FIELD_TABLE_MOVE:
        if (!kv_manifest_table(state, field->n[0]) || field->n[1] >= KV_LEVELS_MAX)
            return kv_fail(err, KV_CORRUPT, 0,
                           "the manifest moves table %06" PRIu64 " to level %" PRIu64
                           ": it does not have it, or there is no such level",
                           field->n[0], field->n[1]);
        return KV_OK;
    case FIELD_SEGMENT_ADD:
        if (kv_manifest_segment(state, field->n[0]) || field->n[1] < KV_FILE_HEADER_LEN)
            return kv_fail(err, KV_CORRUPT, 0, "the manifest has an impossible value log segment %06" PRIu64,
                           field->n[0]);
        change->n_segments++;
        return KV_OK;
    case FIELD_SEGMENT_DROP:
        if (!kv_manifest_segment(state, field->n[0]))
            return kv_fail(err, KV_CORRUPT, 0,
                           "the manifest drops value log segment %06" PRIu64 ", which it does not have",
                           field->n[0]);
        return KV_OK;
    case FIELD_RANGE_ADD:
        if (!range_is_possible(&field->range, next->n_spaces))
            return kv_fail(err, KV_CORRUPT, 0, "the manifest has an impossible range deletion");
        return apply_collect_range(change, &field->range);
    case FIELD_RANGE_DROP:
        if (state_range_at(state, &field->range) == state->n_ranges)
            return kv_fail(err, KV_CORRUPT, 0, "the manifest drops a range deletion it does not have");
        return KV_OK;
    case FIELD_SEAL:
        change->n_seals++;
        return KV_OK;
    case FIELD_DATA_KEY:
        return apply_data_key(change, state, field->key.id, err);
    case FIELD_PLAIN_BELOW:
        next->plain_below = field->n[0];
        return KV_OK;
    case FIELD_APP_VERSION:
        if (field->n[0] > UINT32_MAX)
            return kv_fail(err, KV_CORRUPT, 0, "the manifest has an impossible application version");
        next->app_version = (uint32_t)field->n[0];
        return KV_OK;
    case FIELD_BANS:
        return apply_bans(change, field->bytes, err);
    case FIELD_LOG_FLOOR:
        if (field->n[0] < next->log_floor || field->n[1] < next->log_first)
            return kv_fail(err, KV_CORRUPT, 0, "the manifest moves the log floor back");
        next->log_floor = field->n[0];
        next->log_first = field->n[1];
        return KV_OK;
    case FIELD_APP_FLOOR:
        if (field->n[0] < next->app_floor)
            return kv_fail(err, KV_CORRUPT, 0, "the manifest moves the application floor back");
        next->app_floor = field->n[0];
        return KV_OK;
    case FIELD_NEXT_FILE:
        next->next_file = field->n[0] > next->next_file ? field->n[0] : next->next_file;
        return KV_OK;
    case FIELD_LAST_SEQ:
        next->last_seq = field->n[0] > next->last_seq ? field->n[0] : next->last_seq;
        return KV_OK;
    case FIELD_RETENTION:
        next->retention_ms = kv_unzigzag(field->n[0]);
        return KV_OK;
    case FIELD_JOB_DONE:
        if (field->n[0] < KV_JOBS) /* of a later version: not ours to keep */
            next->job_done_ms[field->n[0]] = kv_unzigzag(field->n[1]);
        return KV_OK;
    case FIELD_OWNER_EPOCH:
        next->owner_epoch = field->n[0];
        return KV_OK;
    case FIELD_LOG_CURRENT:
        next->log_current = field->n[0];
        return KV_OK;
    case FIELD_LOG_UID:
        next->log_uid_of = field->n[0];
        memcpy(next->log_uid, field->bytes.data, KV_FILE_UID_LEN);
        return KV_OK;
    default:
        return KV_OK;
    }
}

static kv_status apply_reserve(struct kv_manifest_state *state, size_t tables, size_t seals, size_t keys,
                               size_t ranges, size_t segments)
{
    struct kv_data_key *all_keys =
        kv_grow(state->keys, &state->keys_capacity, state->n_keys + keys, sizeof *all_keys);
    if (!all_keys)
        return KV_NO_MEMORY;
    state->keys = all_keys;
    struct kv_segment_meta *all_segments = kv_grow(state->segments, &state->segments_capacity,
                                                   state->n_segments + segments, sizeof *all_segments);
    if (!all_segments)
        return KV_NO_MEMORY;
    state->segments = all_segments;
    struct kv_range_meta **all_ranges = kv_grow(state->ranges, &state->ranges_capacity,
                                                state->n_ranges + ranges, sizeof(struct kv_range_meta *));
    if (!all_ranges)
        return KV_NO_MEMORY;
    state->ranges = all_ranges;
    struct kv_table_meta **all_tables = kv_grow(state->tables, &state->tables_capacity,
                                                state->n_tables + tables, sizeof(struct kv_table_meta *));
    if (!all_tables)
        return KV_NO_MEMORY;
    state->tables = all_tables;
    struct kv_log_seal *all_seals =
        kv_grow(state->seals, &state->seals_capacity, state->n_seals + seals, sizeof *all_seals);
    if (!all_seals)
        return KV_NO_MEMORY;
    state->seals = all_seals;
    return KV_OK;
}

static void apply_seal(struct kv_manifest_state *state, const struct kv_log_seal *seal)
{
    size_t at = 0;
    while (at < state->n_seals && state->seals[at].number < seal->number)
        at++;
    if (at == state->n_seals || state->seals[at].number != seal->number) {
        memmove(&state->seals[at + 1], &state->seals[at], (state->n_seals - at) * sizeof *seal);
        state->n_seals++;
    }
    state->seals[at] = *seal;
}

static void apply_key(struct kv_manifest_state *state, const struct kv_data_key *key)
{
    struct kv_data_key *found = state_key(state, key->id);
    if (!found) {
        state->keys[state->n_keys++] = *key; /* the newest */
        return;
    }
    memcpy(found->salt, key->salt, sizeof found->salt);
    memcpy(found->wrapped, key->wrapped, sizeof found->wrapped);
}

static void apply_key_sealed(struct kv_manifest_state *state, uint64_t id, uint64_t pieces)
{
    struct kv_data_key *found = state_key(state, id);
    if (found && pieces > found->sealed)
        found->sealed = pieces;
}

static void apply_drop(struct kv_manifest_state *state, uint64_t number)
{
    size_t at = state_table_at(state, number);
    if (at == state->n_tables || state->tables[at]->number != number)
        return; /* dropped twice by one edit */
    kv_free(state->tables[at]);
    memmove(&state->tables[at], &state->tables[at + 1],
            (--state->n_tables - at) * sizeof(struct kv_table_meta *));
}

static void apply_move(struct kv_manifest_state *state, uint64_t number, uint32_t level)
{
    size_t at = state_table_at(state, number);
    if (at < state->n_tables && state->tables[at]->number == number) /* else dropped by the same edit */
        state->tables[at]->level = level;
}

static void apply_segment(struct kv_manifest_state *state, const struct field *field)
{
    size_t at = state_segment_at(state, field->n[0]);
    bool there = at < state->n_segments && state->segments[at].number == field->n[0];
    if (field->tag == FIELD_SEGMENT_DROP) {
        if (there) /* else dropped twice by one edit */
            memmove(&state->segments[at], &state->segments[at + 1],
                    (--state->n_segments - at) * sizeof *state->segments);
        return;
    }
    if (!there)
        memmove(&state->segments[at + 1], &state->segments[at],
                (state->n_segments++ - at) * sizeof *state->segments);
    state->segments[at] = (struct kv_segment_meta){.number = field->n[0], .bytes = field->n[1]};
    memcpy(state->segments[at].uid, field->bytes.data, KV_FILE_UID_LEN);
}

static void apply_drop_range(struct kv_manifest_state *state, const struct kv_range_meta *range)
{
    size_t at = state_range_at(state, range);
    if (at == state->n_ranges)
        return; /* dropped twice by one edit */
    kv_free(state->ranges[at]);
    memmove(&state->ranges[at], &state->ranges[at + 1],
            (--state->n_ranges - at) * sizeof(struct kv_range_meta *));
}

static void apply_add(struct kv_manifest_state *state, struct kv_table_meta *meta)
{
    size_t at = state_table_at(state, meta->number);
    memmove(&state->tables[at + 1], &state->tables[at],
            (state->n_tables++ - at) * sizeof(struct kv_table_meta *));
    state->tables[at] = meta;
}

static int apply_order(const void *a, const void *b)
{
    uint64_t x = (*(struct kv_table_meta *const *)a)->number, y = (*(struct kv_table_meta *const *)b)->number;
    return (x > y) - (x < y);
}

const struct kv_manifest_state *kv_manifest_change_next(const struct kv_manifest_change *change)
{
    return &change->next;
}

void kv_manifest_change_free(struct kv_manifest_change *change)
{
    if (!change)
        return;
    for (size_t i = 0; i < change->n_adds; i++)
        kv_free(change->adds[i]);
    for (size_t i = 0; i < change->n_ranges; i++)
        kv_free(change->ranges[i]);
    kv_free(change->adds);
    kv_free(change->ranges);
    kv_buf_release(&change->bans);
    kv_free(change);
}

void kv_manifest_change_apply(struct kv_manifest_state *state, struct kv_manifest_change *change)
{
    struct field field = {0};
    for (kv_slice rest = change->fields; rest.len > 0 && field_next(&rest, &field, NULL) == KV_OK;) {
        if (field.tag == FIELD_TABLE_DROP)
            apply_drop(state, field.n[0]);
        else if (field.tag == FIELD_TABLE_MOVE)
            apply_move(state, field.n[0], (uint32_t)field.n[1]);
        else if (field.tag == FIELD_SEGMENT_ADD || field.tag == FIELD_SEGMENT_DROP)
            apply_segment(state, &field);
        else if (field.tag == FIELD_RANGE_DROP)
            apply_drop_range(state, &field.range);
        else if (field.tag == FIELD_SEAL)
            apply_seal(state, &(struct kv_log_seal){field.n[0], field.n[1], field.n[2], field.n[3]});
        else if (field.tag == FIELD_DATA_KEY)
            apply_key(state, &field.key);
        else if (field.tag == FIELD_KEY_SEALED)
            apply_key_sealed(state, field.n[0], field.n[1]);
    }
    for (size_t i = 0; i < change->n_adds; i++)
        apply_add(state, change->adds[i]);
    change->n_adds = 0; /* the state owns them now */
    for (size_t i = 0; i < change->n_ranges; i++)
        state->ranges[state->n_ranges++] = change->ranges[i];
    change->n_ranges = 0;
    struct kv_manifest_state *next = &change->next;
    next->edit = state->edit;
    next->seals = state->seals;
    next->n_seals = 0;
    next->seals_capacity = state->seals_capacity;
    for (size_t i = 0; i < state->n_seals; i++)
        if (state->seals[i].number >= next->log_first)
            next->seals[next->n_seals++] = state->seals[i];
    next->keys = state->keys;
    next->n_keys = state->n_keys;
    next->keys_capacity = state->keys_capacity;
    next->tables = state->tables;
    next->n_tables = state->n_tables;
    next->tables_capacity = state->tables_capacity;
    next->segments = state->segments;
    next->n_segments = state->n_segments;
    next->segments_capacity = state->segments_capacity;
    next->ranges = state->ranges;
    next->n_ranges = state->n_ranges;
    next->ranges_capacity = state->ranges_capacity;
    next->bans = state->bans;
    if (change->bans_given) {
        next->bans = change->bans;
        change->bans = state->bans; /* freed with it */
    }
    *state = *next;
    kv_manifest_change_free(change);
}

kv_status kv_manifest_prepare(struct kv_manifest_state *state, kv_slice fields,
                              struct kv_manifest_change **out, struct kv_err *err)
{
    struct kv_manifest_change *change = kv_zalloc(1, sizeof *change);
    kv_status rc = KV_NO_MEMORY;
    if (!change)
        goto out;
    change->next = *state;
    change->fields = fields;
    change->key_newest = state->n_keys ? state->keys[state->n_keys - 1].id : 0;
    for (kv_slice rest = fields; rest.len > 0;) {
        struct field field = {0};
        KV_TRY(field_next(&rest, &field, err));
        KV_TRY(apply_check(change, state, &field, err));
    }
    if (change->n_adds > 1)
        qsort(change->adds, change->n_adds, sizeof(struct kv_table_meta *), apply_order);
    for (size_t i = 1; i < change->n_adds; i++)
        if (change->adds[i - 1]->number == change->adds[i]->number) {
            rc = kv_fail(err, KV_CORRUPT, 0, "table %06" PRIu64 " is added twice by one edit",
                         change->adds[i]->number);
            goto out;
        }
    rc = apply_reserve(state, change->n_adds, change->n_seals, change->n_keys, change->n_ranges,
                       change->n_segments);
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory applying a manifest edit");
    if (rc < 0) {
        kv_manifest_change_free(change);
        return rc;
    }
    *out = change;
    return KV_OK;
}

kv_status kv_manifest_apply(struct kv_manifest_state *state, kv_slice fields, struct kv_err *err)
{
    struct kv_manifest_change *change = NULL;
    kv_status rc = kv_manifest_prepare(state, fields, &change, err);
    if (rc == KV_OK)
        kv_manifest_change_apply(state, change);
    return rc;
}

/* ---- describing */

static void describe_table(const struct kv_table_meta *meta, char *line, size_t size)
{
    char smallest[100], largest[100];
    snprintf(line, size,
             "add_table number=%" PRIu64 " space=%" PRIu32 " level=%" PRIu32 " run=%" PRIu64
             " bulk_version=%" PRIu64 " versions=%" PRIu64 "..%" PRIu64 " entries=%" PRIu64
             " deletions=%" PRIu64 " bytes=%" PRIu64 " smallest=%s largest=%s",
             meta->number, meta->space, meta->level, meta->run, meta->bulk_version, meta->version_min,
             meta->version_max, meta->entries, meta->deletions, meta->bytes,
             kv_log_quote(meta->smallest, smallest, sizeof smallest),
             kv_log_quote(meta->largest, largest, sizeof largest));
}

static void describe_range(const char *verb, const struct kv_range_meta *range, char *line, size_t size)
{
    char lower[100], upper[100];
    snprintf(line, size, "%s_range space=%" PRIu32 " version=%" PRIu64 " lower=%s upper=%s", verb,
             range->space, range->version, kv_log_quote(range->lower, lower, sizeof lower),
             kv_log_quote(range->upper, upper, sizeof upper));
}

static void describe_field(const struct field *field, char *line, size_t size)
{
    const uint64_t *n = field->n;
    switch (field->tag) {
    case FIELD_IDENTITY:
        KV_ASSERT(field->bytes.data != NULL); /* field_next took it */
        snprintf(line, size, "identity uuid=%016" PRIx64 "%016" PRIx64, kv_get_be64(field->bytes.data),
                 kv_get_be64(field->bytes.data + 8));
        break;
    case FIELD_SPACE:
        snprintf(line, size, "space id=%" PRIu64 " style=%" PRIu64 " name=%.*s", n[0], n[1],
                 KV_ARG(field->bytes));
        break;
    case FIELD_SPACE_ORDER:
        snprintf(line, size, "space_order n=%zu", field->bytes.len);
        break;
    case FIELD_TABLE_ADD:
        describe_table(&field->meta, line, size);
        break;
    case FIELD_SEGMENT_ADD:
        snprintf(line, size, "add_segment number=%" PRIu64 " bytes=%" PRIu64, n[0], n[1]);
        break;
    case FIELD_SEGMENT_DROP:
        snprintf(line, size, "drop_segment number=%" PRIu64, n[0]);
        break;
    case FIELD_RANGE_ADD:
        describe_range("add", &field->range, line, size);
        break;
    case FIELD_RANGE_DROP:
        describe_range("drop", &field->range, line, size);
        break;
    case FIELD_TABLE_DROP:
        snprintf(line, size, "drop_table number=%" PRIu64, n[0]);
        break;
    case FIELD_TABLE_MOVE:
        snprintf(line, size, "move_table number=%" PRIu64 " level=%" PRIu64, n[0], n[1]);
        break;
    case FIELD_SEAL:
        snprintf(line, size,
                 "seal number=%" PRIu64 " valid_len=%" PRIu64 " last_seq=%" PRIu64
                 " last_record_seq=%" PRIu64,
                 n[0], n[1], n[2], n[3]);
        break;
    case FIELD_LOG_FLOOR:
        snprintf(line, size, "log_floor seq=%" PRIu64 " first_file=%" PRIu64, n[0], n[1]);
        break;
    case FIELD_APP_FLOOR:
        snprintf(line, size, "app_floor seq=%" PRIu64, n[0]);
        break;
    case FIELD_NEXT_FILE:
        snprintf(line, size, "next_file number=%" PRIu64, n[0]);
        break;
    case FIELD_LAST_SEQ:
        snprintf(line, size, "last_seq seq=%" PRIu64, n[0]);
        break;
    case FIELD_RETENTION:
        snprintf(line, size, "retention_clock ms=%" PRId64, kv_unzigzag(n[0]));
        break;
    case FIELD_JOB_DONE:
        snprintf(line, size, "job_done job=%" PRIu64 " ms=%" PRId64, n[0], kv_unzigzag(n[1]));
        break;
    case FIELD_OWNER_EPOCH:
        snprintf(line, size, "owner_epoch epoch=%" PRIu64, n[0]);
        break;
    case FIELD_LOG_CURRENT:
        snprintf(line, size, "log_current number=%" PRIu64, n[0]);
        break;
    case FIELD_LOG_UID:
        snprintf(line, size, "log_uid number=%" PRIu64, n[0]);
        break;
    case FIELD_DATA_KEY:
        snprintf(line, size, "data_key id=%" PRIu64 " created_ms=%" PRId64, field->key.id,
                 field->key.created_ms);
        break;
    case FIELD_APP_VERSION:
        snprintf(line, size, "app_version version=%" PRIu64, n[0]);
        break;
    case FIELD_BANS:
        snprintf(line, size, "banned_prefixes bytes=%zu", field->bytes.len);
        break;
    case FIELD_KEY_SEALED:
        snprintf(line, size, "data_key_sealed id=%" PRIu64 " pieces=%" PRIu64, n[0], n[1]);
        break;
    case FIELD_PLAIN_BELOW:
        snprintf(line, size, "plain_below number=%" PRIu64, n[0]);
        break;
    default:
        snprintf(line, size, "unknown tag=%" PRIu64, field->tag);
    }
}

kv_status kv_manifest_describe(kv_slice fields, void (*each)(void *ctx, const char *line), void *ctx)
{
    char line[640];
    while (fields.len > 0) {
        struct field field = {0};
        kv_status rc = field_next(&fields, &field, NULL);
        if (rc < 0)
            return rc;
        describe_field(&field, line, sizeof line);
        each(ctx, line);
    }
    return KV_OK;
}
