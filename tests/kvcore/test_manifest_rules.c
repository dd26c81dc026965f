/*
 * The rules of kvcore/docs/manifest.md, one row each: an edit with a right checksum that breaks a rule is refused, says which, and leaves the
 * state as it was.
 */
#include "kvcore/base/coding.h"
#include "kvcore/db/manifest.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* Tags of kvcore/docs/manifest.md. */
enum {
    TAG_IDENTITY = 2,
    TAG_SPACE = 4,
    TAG_TABLE_ADD = 6,
    TAG_SEAL = 10,
    TAG_LOG_UID = 25,
    TAG_SPACE_ORDER = 26,
    TAG_SEGMENT_ADD = 28,
    TAG_SEGMENT_DROP = 30,
    TAG_DATA_KEY = 34,
    TAG_RANGE_ADD = 42,
    TAG_RANGE_DROP = 44,
    TAG_APP_VERSION = 50,
    TAG_BANS = 52,
};

static char long_key[KV_KEY_LEN_MAX + 1];

static struct kv_table_meta table(uint64_t number)
{
    return (struct kv_table_meta){.number = number,
                                  .run = number,
                                  .version_min = 1,
                                  .version_max = 9,
                                  .entries = 3,
                                  .deletions = 1,
                                  .bytes = 1000,
                                  .smallest = KV_STR("b"),
                                  .largest = KV_STR("m")};
}

static void start(struct kv_edit *edit)
{
    static const uint8_t uuid[KV_UUID_LEN] = {1}, seed[KV_UUID_LEN] = {2};
    struct kv_table_meta one = table(5);
    kv_edit_identity(edit, uuid, seed);
    kv_edit_space(edit, 0, "a", KV_STYLE_RUNS);
    kv_edit_space(edit, 1, "b_9", KV_STYLE_LEVELLED);
    kv_edit_space_order(edit, (const uint8_t[]){0, 1}, 2);
    kv_edit_add_table(edit, &one);
    kv_edit_add_segment(edit, &(struct kv_segment_meta){.number = 7, .bytes = 4096});
    kv_edit_add_range(edit, &(struct kv_range_meta){1, 4, KV_STR("c"), KV_STR("d")});
    kv_edit_log_floor(edit, 5, 5);
    kv_edit_app_floor(edit, 5);
    kv_edit_data_key(edit, &(struct kv_data_key){.id = 3, .created_ms = 1});
    kv_edit_key_sealed(edit, 3, 10);
    kv_edit_bans(edit, KV_STR("\x00\x01x"));
}

static struct kv_buf state_of(const struct kv_manifest_state *state)
{
    struct kv_edit edit = {0};
    kv_edit_snapshot(&edit, state);
    cr_assert_eq(edit.rc, KV_OK);
    return edit.fields;
}

/* Applied to the start: refused, or not. */
static void apply(kv_slice fields, kv_status expect, const char *what, const char *text)
{
    struct kv_manifest_state state = {0};
    struct kv_edit first = {0};
    struct kv_err err = {0};
    start(&first);
    cr_assert_eq(kv_manifest_apply(&state, kv_buf_slice(&first.fields), &err), KV_OK, "%s", err.text);
    struct kv_buf before = state_of(&state);
    kv_status rc = kv_manifest_apply(&state, fields, &err);
    struct kv_buf after = state_of(&state);
    cr_expect_eq(rc, expect, "%s: %s: %s", what, kv_status_name(rc), err.text);
    if (expect < 0) {
        cr_expect(strstr(err.text, text) != NULL, "%s: \"%s\" says nothing of %s", what, err.text, text);
        cr_expect(kv_slice_equal(kv_buf_slice(&before), kv_buf_slice(&after)), "%s changed something", what);
    }
    kv_buf_release(&before);
    kv_buf_release(&after);
    kv_edit_release(&first);
    kv_manifest_state_release(&state);
}

static void apply_edit(struct kv_edit *edit, kv_status expect, const char *what, const char *text)
{
    cr_assert_eq(edit->rc, KV_OK);
    apply(kv_buf_slice(&edit->fields), expect, what, text);
    kv_edit_release(edit);
}

/* ---- fields that end early, at every place, and bytes behind what is known */

static void field(struct kv_buf *out, uint64_t tag, kv_slice body)
{
    kv_buf_clear(out);
    cr_assert_eq(kv_buf_append_varint(out, tag), KV_OK);
    cr_assert_eq(kv_buf_append_lp(out, body), KV_OK);
}

Test(manifest_rules, any_field_cut_short_is_damage_and_longer_ones_are_of_a_newer_version)
{
    struct kv_edit all = {0};
    struct kv_buf one = {0}, body = {0};
    start(&all);
    kv_edit_seal(&all, &(struct kv_log_seal){9, 4096, 17, 12});
    kv_edit_log_uid(&all, 9, (const uint8_t[KV_FILE_UID_LEN]){1});
    kv_edit_app_version(&all, 4);
    kv_edit_drop_segment(&all, 7);
    kv_edit_drop_range(&all, &(struct kv_range_meta){1, 4, KV_STR("c"), KV_STR("d")});
    kv_slice rest = kv_buf_slice(&all.fields), bytes;
    uint64_t tag;
    int met = 0;
    while (rest.len) {
        cr_assert(kv_take_varint(&rest, &tag) == KV_OK && kv_take_lp(&rest, &bytes) == KV_OK);
        if (tag == TAG_SPACE || tag == TAG_SPACE_ORDER || tag == TAG_BANS)
            continue; /* their ends are their bodies' ends: below */
        for (size_t len = 0; len < bytes.len; len++) {
            field(&one, tag, kv_slice_of(bytes.data, len));
            apply(kv_buf_slice(&one), KV_CORRUPT, "a field cut short", "ends early");
        }
        kv_buf_clear(&body);
        cr_assert(kv_buf_append(&body, bytes) == KV_OK && kv_buf_append_byte(&body, 1) == KV_OK);
        field(&one, tag, kv_buf_slice(&body));
        apply(kv_buf_slice(&one), KV_TOO_NEW, "a longer field", "newer version");
        met++;
    }
    cr_assert_geq(met, 12);
    apply(KV_STR("\x80"), KV_CORRUPT, "half a tag", "ends early");
    apply(KV_STR("\x0a\x7f"), KV_CORRUPT, "a length past the end", "ends early");
    field(&one, TAG_SPACE, KV_STR("\x80"));
    apply(kv_buf_slice(&one), KV_CORRUPT, "half a space", "ends early");
    kv_buf_release(&one);
    kv_buf_release(&body);
    kv_edit_release(&all);
}

Test(manifest_rules, numbers_that_do_not_fit_are_damage)
{
    struct kv_edit edit = {0};
    struct kv_buf one = {0}, body = {0};
    for (int at = 1; at <= 2; at++) { /* a table's space and level */
        kv_buf_clear(&body);
        for (int i = 0; i < 10; i++)
            cr_assert_eq(kv_buf_append_varint(&body, i == at ? (uint64_t)1 << 32 : 1), KV_OK);
        cr_assert_eq(kv_buf_append(&body, kv_slice_of(long_key, KV_FILE_UID_LEN)), KV_OK);
        cr_assert(kv_buf_append_lp(&body, KV_STR("a")) == KV_OK &&
                  kv_buf_append_lp(&body, KV_STR("b")) == KV_OK);
        field(&one, TAG_TABLE_ADD, kv_buf_slice(&body));
        apply(kv_buf_slice(&one), KV_CORRUPT, "a number of 33 bits", "ends early");
    }
    kv_buf_clear(&body);
    cr_assert(kv_buf_append_varint(&body, (uint64_t)1 << 32) == KV_OK &&
              kv_buf_append_varint(&body, 1) == KV_OK);
    cr_assert(kv_buf_append_lp(&body, KV_STR("a")) == KV_OK && kv_buf_append_lp(&body, KV_STR("b")) == KV_OK);
    field(&one, TAG_RANGE_ADD, kv_buf_slice(&body));
    apply(kv_buf_slice(&one), KV_CORRUPT, "a range's space of 33 bits", "ends early");
    kv_buf_clear(&body);
    cr_assert_eq(kv_buf_append_varint(&body, (uint64_t)1 << 32), KV_OK);
    field(&one, TAG_APP_VERSION, kv_buf_slice(&body));
    apply(kv_buf_slice(&one), KV_CORRUPT, "an application version of 33 bits", "application version");
    kv_buf_release(&one);
    kv_buf_release(&body);
    kv_edit_release(&edit);
}

/* ---- rules */

Test(manifest_rules, tables_have_keys_versions_and_counts_that_can_be)
{
    struct rule {
        const char *what, *text;
        struct kv_table_meta meta;
    } rules[] = {
        {"an unknown space", "unknown space", table(9)},
        {"no such level", "impossible level", table(9)},
        {"no smallest key", "impossible keys", table(9)},
        {"a smallest key too long", "impossible keys", table(9)},
        {"no largest key", "impossible keys", table(9)},
        {"a largest key too long", "impossible keys", table(9)},
        {"keys swapped", "impossible keys", table(9)},
        {"versions swapped", "impossible versions", table(9)},
        {"a bulk version that is not its smallest", "bulk version", table(9)},
        {"a bulk version that is not its largest", "bulk version", table(9)},
        {"no entries", "impossible counts", table(9)},
        {"more deletions than entries", "impossible counts", table(9)},
        {"a number there is", "added twice", table(5)},
    };
    rules[0].meta.space = 2;
    rules[1].meta.level = KV_LEVELS_MAX;
    rules[2].meta.smallest = (kv_slice){0};
    rules[3].meta.smallest = kv_slice_of(long_key, sizeof long_key);
    rules[4].meta.largest = (kv_slice){0};
    rules[5].meta.largest = kv_slice_of(long_key, sizeof long_key);
    rules[6].meta.smallest = KV_STR("n");
    rules[7].meta.version_min = 10;
    rules[8].meta.bulk_version = 9;
    rules[9].meta.bulk_version = 1;
    rules[10].meta.entries = rules[10].meta.deletions = 0;
    rules[11].meta.deletions = 4;
    memset(long_key, 'c', sizeof long_key);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        struct kv_edit edit = {0};
        kv_edit_add_table(&edit, &rules[i].meta);
        apply_edit(&edit, KV_CORRUPT, rules[i].what, rules[i].text);
    }
}

Test(manifest_rules, spaces_have_names_and_an_order)
{
    static const struct rule {
        const char *what, *text;
        uint64_t tag;
        kv_slice body;
        kv_status expect;
    } rules[] = {
        {"a gap in the ids", "impossible space", TAG_SPACE, KV_STR("\x03\x00name"), KV_CORRUPT},
        {"no name", "impossible space", TAG_SPACE, KV_STR("\x02\x00"), KV_CORRUPT},
        {"a name of 33", "impossible space", TAG_SPACE,
         KV_STR("\x02\x00"
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
         KV_CORRUPT},
        {"a capital", "impossible space", TAG_SPACE,
         KV_STR("\x02\x00"
                "A"),
         KV_CORRUPT},
        {"a brace", "impossible space", TAG_SPACE,
         KV_STR("\x02\x00"
                "a{"),
         KV_CORRUPT},
        {"a slash", "impossible space", TAG_SPACE,
         KV_STR("\x02\x00"
                "a/"),
         KV_CORRUPT},
        {"a colon", "impossible space", TAG_SPACE,
         KV_STR("\x02\x00"
                "a:"),
         KV_CORRUPT},
        {"a style to come", "newer version", TAG_SPACE, KV_STR("\x02\x02name"), KV_TOO_NEW},
        {"a good one", "", TAG_SPACE,
         KV_STR("\x02\x01"
                "az_09"),
         KV_OK},
        {"an order of too many", "orders spaces", TAG_SPACE_ORDER, KV_STR("\x00\x01\x02"), KV_CORRUPT},
        {"an order of one that is not there", "order of spaces", TAG_SPACE_ORDER, KV_STR("\x02"), KV_CORRUPT},
        {"one twice", "order of spaces", TAG_SPACE_ORDER, KV_STR("\x01\x01"), KV_CORRUPT},
        {"bans of a space that is not there", "banned", TAG_BANS, KV_STR("\x02\x01x"), KV_CORRUPT},
        {"half a ban", "banned", TAG_BANS, KV_STR("\x00"), KV_CORRUPT},
        {"a ban cut short", "banned", TAG_BANS, KV_STR("\x00\x03xy"), KV_CORRUPT},
        {"no bans", "", TAG_BANS, {0}, KV_OK},
        {"a segment there is", "impossible value log segment", TAG_SEGMENT_ADD,
         KV_STR("\x07\x7f"
                "0123456789abcdef"),
         KV_CORRUPT},
        {"a segment that is too short", "impossible value log segment", TAG_SEGMENT_ADD,
         KV_STR("\x08\x03"
                "0123456789abcdef"),
         KV_CORRUPT},
        {"a segment that is not there", "does not have", TAG_SEGMENT_DROP, KV_STR("\x08"), KV_CORRUPT},
        {"a range of a space that is not there", "range deletion", TAG_RANGE_ADD,
         KV_STR("\x02\x01\x01"
                "a\x01"
                "b"),
         KV_CORRUPT},
        {"a range without a version", "range deletion", TAG_RANGE_ADD,
         KV_STR("\x01\x00\x01"
                "a\x01"
                "b"),
         KV_CORRUPT},
        {"a range from nowhere", "range deletion", TAG_RANGE_ADD,
         KV_STR("\x01\x01\x00\x01"
                "b"),
         KV_CORRUPT},
        {"a range of nothing", "range deletion", TAG_RANGE_ADD,
         KV_STR("\x01\x01\x01"
                "b\x01"
                "b"),
         KV_CORRUPT},
        {"a range that is not there", "does not have", TAG_RANGE_DROP,
         KV_STR("\x01\x04\x01"
                "c\x01"
                "e"),
         KV_CORRUPT},
    };
    struct kv_buf one = {0};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        field(&one, rules[i].tag, rules[i].body);
        apply(kv_buf_slice(&one), rules[i].expect, rules[i].what, rules[i].text);
    }
    kv_buf_release(&one);
}

Test(manifest_rules, keys_and_prefixes_longer_than_any_are_damage)
{
    struct kv_edit edit = {0};
    struct kv_buf bans = {0};
    memset(long_key, 'c', sizeof long_key);
    kv_slice longest = kv_slice_of(long_key, sizeof long_key);
    kv_edit_add_range(&edit, &(struct kv_range_meta){0, 1, longest, KV_STR("d")});
    apply_edit(&edit, KV_CORRUPT, "a range from a key too long", "range deletion");
    kv_edit_add_range(&edit, &(struct kv_range_meta){0, 1, KV_STR("a"), longest});
    apply_edit(&edit, KV_CORRUPT, "a range to a key too long", "range deletion");
    cr_assert(kv_buf_append_byte(&bans, 0) == KV_OK && kv_buf_append_lp(&bans, longest) == KV_OK);
    kv_edit_bans(&edit, kv_buf_slice(&bans));
    apply_edit(&edit, KV_CORRUPT, "a ban too long", "banned");
    kv_buf_clear(&bans);
    for (int i = 0; i <= KV_BANS_MAX; i++)
        cr_assert_eq(kv_buf_append(&bans, KV_STR("\x00\x01z")), KV_OK);
    kv_edit_bans(&edit, kv_buf_slice(&bans));
    apply_edit(&edit, KV_CORRUPT, "a ban too many", "banned");
    kv_buf_release(&bans);
}

Test(manifest_rules, data_keys_come_in_order_and_floors_do_not_go_back)
{
    struct kv_edit edit = {0};
    kv_edit_data_key(&edit, &(struct kv_data_key){.id = 0});
    apply_edit(&edit, KV_CORRUPT, "a key without an id", "data key");
    kv_edit_data_key(&edit, &(struct kv_data_key){.id = 2});
    apply_edit(&edit, KV_CORRUPT, "a key behind a newer one", "data key");
    kv_edit_data_key(&edit, &(struct kv_data_key){.id = 3});
    apply_edit(&edit, KV_OK, "a key wrapped anew", "");
    kv_edit_log_floor(&edit, 4, 5);
    apply_edit(&edit, KV_CORRUPT, "a log floor that goes back", "log floor");
    kv_edit_log_floor(&edit, 5, 4);
    apply_edit(&edit, KV_CORRUPT, "a first log file that goes back", "log floor");
    kv_edit_app_floor(&edit, 4);
    apply_edit(&edit, KV_CORRUPT, "an application floor that goes back", "application floor");
}

Test(manifest_rules, what_one_edit_does_twice_is_done_once)
{
    struct kv_manifest_state state = {0};
    struct kv_edit edit = {0};
    struct kv_range_meta range = {1, 4, KV_STR("c"), KV_STR("d")};
    start(&edit);
    cr_assert_eq(kv_manifest_apply(&state, kv_buf_slice(&edit.fields), NULL), KV_OK);
    kv_edit_release(&edit);
    for (int i = 0; i < 2; i++) {
        kv_edit_move_table(&edit, 5, 3);
        kv_edit_drop_table(&edit, 5);
        kv_edit_drop_segment(&edit, 7);
        kv_edit_drop_range(&edit, &range);
        kv_edit_seal(&edit, &(struct kv_log_seal){9, 4096, 17, 12});
        kv_edit_add_segment(&edit, &(struct kv_segment_meta){.number = 8, .bytes = 4096 + (uint64_t)i});
        kv_edit_key_sealed(&edit, 3, 11 - (uint64_t)i);
        kv_edit_key_sealed(&edit, 99, 5); /* of no key */
        kv_edit_job_done(&edit, 200, 5);  /* of no job of ours */
    }
    cr_assert_eq(kv_manifest_apply(&state, kv_buf_slice(&edit.fields), NULL), KV_OK);
    cr_assert(state.n_tables == 0 && state.n_ranges == 0 && state.n_seals == 1);
    cr_assert(state.n_segments == 1 && state.segments[0].number == 8 && state.segments[0].bytes == 4097);
    cr_assert_eq(state.keys[0].sealed, 11);
    kv_edit_release(&edit);
    kv_manifest_state_release(&state);
}

static void keep_line(void *ctx, const char *line)
{
    struct kv_buf *out = ctx;
    cr_assert_eq(kv_buf_printf(out, "%s\n", line), KV_OK);
}

Test(manifest_rules, every_field_is_described)
{
    struct kv_edit edit = {0};
    struct kv_buf text = {0};
    static const char *const told[] = {
        "identity",    "space id=1",      "space_order",     "add_segment",     "drop_segment", "log_floor",
        "app_floor",   "data_key id",     "data_key_sealed", "banned_prefixes", "seal",         "log_uid",
        "app_version", "plain_below",     "job_done",        "owner_epoch",     "log_current",  "last_seq",
        "next_file",   "retention_clock", "unknown tag=99"};
    start(&edit);
    kv_edit_seal(&edit, &(struct kv_log_seal){9, 4096, 17, 12});
    kv_edit_log_uid(&edit, 9, (const uint8_t[KV_FILE_UID_LEN]){1});
    kv_edit_app_version(&edit, 4);
    kv_edit_drop_segment(&edit, 7);
    kv_edit_drop_range(&edit, &(struct kv_range_meta){1, 4, KV_STR("c"), KV_STR("d")});
    kv_edit_drop_table(&edit, 5);
    kv_edit_move_table(&edit, 5, 2);
    kv_edit_plain_below(&edit, 5);
    kv_edit_job_done(&edit, 1, -7);
    kv_edit_owner_epoch(&edit, 5);
    kv_edit_log_current(&edit, 5);
    kv_edit_last_seq(&edit, 5);
    kv_edit_next_file(&edit, 5);
    kv_edit_retention(&edit, 5);
    cr_assert_eq(kv_buf_append(&edit.fields, KV_STR("\x63\x01z")), KV_OK);
    cr_assert_eq(kv_manifest_describe(kv_buf_slice(&edit.fields), keep_line, &text), KV_OK);
    cr_assert_eq(kv_buf_append_byte(&text, 0), KV_OK);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        cr_expect(strstr((char *)text.data, told[i]) != NULL, "nothing of %s in\n%s", told[i],
                  (char *)text.data);
    kv_edit_release(&edit);
    kv_buf_release(&text);
}
