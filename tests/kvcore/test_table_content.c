/* Tables with right sums and wrong contents: each rule of kvcore/docs/table.md broken alone. */
#include "kvcore/base/coding.h"
#include "tests/support/sst_forge.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static kv_status open_forged(struct sst_kit *kit, const struct forge *forge, uint64_t version,
                             struct kv_table **out, struct kv_err *err)
{
    *out = NULL;
    forge_write(forge, kit, "1.tbl");
    return sst_open(kit, "1.tbl", version, out, err);
}

static void expect_sound(struct sst_kit *kit, const struct forge *forge, const char *what)
{
    struct kv_table *table;
    struct kv_err err = {0};
    cr_assert_eq(open_forged(kit, forge, 0, &table, &err), KV_OK, "%s: %s", what, err.text);
    cr_assert_eq(kv_table_verify(table, &err), KV_OK, "%s: %s", what, err.text);
    kv_table_unref(table);
}

static void expect_refused(struct sst_kit *kit, const struct forge *forge, kv_status rc, const char *said,
                           const char *what)
{
    struct kv_table *table;
    struct kv_err err = {0};
    cr_assert_eq(open_forged(kit, forge, 0, &table, &err), rc, "%s: %s", what, err.text);
    cr_assert(strstr(err.text, said) && strstr(err.text, "table 1.tbl, offset "), "%s: %s", what, err.text);
}

/* Opens, and only checking it whole finds the fault. */
static void expect_unverified(struct sst_kit *kit, const struct forge *forge, const char *said)
{
    struct kv_table *table;
    struct kv_err err = {0};
    cr_assert_eq(open_forged(kit, forge, 0, &table, &err), KV_OK, "%s: %s", said, err.text);
    cr_assert_eq(kv_table_verify(table, &err), KV_CORRUPT, "%s", said);
    cr_assert(strstr(err.text, said) && strstr(err.text, "table 1.tbl, offset "), "%s: %s", said, err.text);
    kv_table_unref(table);
}

Test(table_content, a_forged_table_is_sound_before_anything_is_changed)
{
    struct sst_kit kit;
    struct forge forge;
    sst_kit_init(&kit, 1 << 20);
    for (uint32_t levels = 1; levels <= 2; levels++) {
        forge_init(&forge);
        forge.levels = forge.levels_said = levels;
        expect_sound(&kit, &forge, "as it is");
        forge.no_filter = true;
        expect_sound(&kit, &forge, "without a filter");
    }
    sst_kit_release(&kit);
}

/* ---- properties */

static const enum kv_table_tag required[] = {KV_TAG_SPACE,       KV_TAG_CUT_LEN,       KV_TAG_VERSION_MIN,
                                             KV_TAG_VERSION_MAX, KV_TAG_ENTRIES,       KV_TAG_DELETES,
                                             KV_TAG_KEYS,        KV_TAG_RAW_KEY_BYTES, KV_TAG_RAW_VALUE_BYTES,
                                             KV_TAG_DATA_BLOCKS, KV_TAG_DATA_BYTES};
static const enum kv_table_tag optional[] = {KV_TAG_RICH, KV_TAG_RANGES_APPLIED, KV_TAG_DELETES_SINCE,
                                             KV_TAG_WRITTEN_AFTER};

Test(table_content, numbers_of_the_properties_are_whole_varints_and_there)
{
    static const kv_slice no_numbers[] = {
        {(const uint8_t *)"", 0}, {(const uint8_t *)"\x80", 1}, {(const uint8_t *)"\1\1", 2}};
    struct sst_kit kit;
    struct forge forge;
    sst_kit_init(&kit, 1 << 20);
    for (size_t i = 0; i < sizeof required / sizeof *required; i++) {
        forge_init(&forge);
        forge_absent(&forge, required[i]);
        expect_refused(&kit, &forge, KV_CORRUPT, "bad properties", "a number is missing");
        for (size_t j = 0; j < 3; j++) {
            forge_init(&forge);
            forge_bytes(&forge, required[i], no_numbers[j]);
            expect_refused(&kit, &forge, KV_CORRUPT, "bad properties", "no number");
        }
    }
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++)
        for (size_t j = 0; j < 3; j++) {
            forge_init(&forge);
            forge_bytes(&forge, optional[i], no_numbers[j]);
            expect_refused(&kit, &forge, KV_CORRUPT, "bad properties", "no number");
        }
    sst_kit_release(&kit);
}

Test(table_content, properties_that_contradict_themselves_are_refused)
{
    static const struct {
        const char *what;
        struct {
            enum kv_table_tag tag;
            uint64_t v;
        } numbers[4]; /* tag 0: none */
        const char *smallest, *largest;
    } rows[] = {
        {"a space past 32 bits", {{KV_TAG_SPACE, (uint64_t)1 << 32}}, "a", "d"},
        {"a cut longer than the smallest key", {{KV_TAG_CUT_LEN, 2}}, "a", "d"},
        {"a largest key outside the cut", {{KV_TAG_CUT_LEN, 1}}, "a", "d"},
        {"versions that end before they begin", {{KV_TAG_VERSION_MIN, 6}}, "a", "d"},
        {"a version that is none", {{KV_TAG_VERSION_MAX, KV_VERSION_STORED_MAX + 1}}, "a", "d"},
        {"more deletions than entries", {{KV_TAG_DELETES, 5}}, "a", "d"},
        {"more rich entries than puts", {{KV_TAG_DELETES, 2}, {KV_TAG_RICH, 3}}, "a", "d"},
        {"more keys than entries", {{KV_TAG_KEYS, 5}}, "a", "d"},
        {"no rich entries, said", {{KV_TAG_RICH, 0}}, "a", "d"},
        {"a smallest key of no entries", {{KV_TAG_ENTRIES, 0}, {KV_TAG_KEYS, 0}}, "a", "d"},
        {"a largest key of no entries", {{KV_TAG_ENTRIES, 0}, {KV_TAG_KEYS, 0}}, "", "d"},
        {"entries without a smallest key", {{0}}, "", "d"},
        {"entries without a largest key", {{0}}, "a", ""},
        {"a smallest key behind the largest", {{0}}, "e", "d"},
    };
    struct sst_kit kit;
    struct forge forge;
    sst_kit_init(&kit, 1 << 20);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        forge_init(&forge);
        for (int j = 0; j < 4; j++)
            if (rows[i].numbers[j].tag)
                forge_number(&forge, rows[i].numbers[j].tag, rows[i].numbers[j].v);
        forge_bytes(&forge, KV_TAG_SMALLEST, kv_slice_str(rows[i].smallest));
        forge_bytes(&forge, KV_TAG_LARGEST, kv_slice_str(rows[i].largest));
        expect_refused(&kit, &forge, KV_CORRUPT, "bad properties", rows[i].what);
    }
    static const kv_slice expiries[] = {
        {(const uint8_t *)"", 0},         {(const uint8_t *)"\1", 1},     {(const uint8_t *)"\1\1", 2},
        {(const uint8_t *)"\1\1\1\1", 4}, {(const uint8_t *)"\0\1\1", 3}, {(const uint8_t *)"\2\1\1", 3},
        {(const uint8_t *)"\1\0\1", 3},   {(const uint8_t *)"\1\2\1", 3},
    };
    for (size_t i = 0; i < sizeof expiries / sizeof *expiries; i++) {
        forge_init(&forge);
        forge_number(&forge, KV_TAG_RICH, 1);
        forge_bytes(&forge, KV_TAG_EXPIRY, expiries[i]);
        expect_refused(&kit, &forge, KV_CORRUPT, "bad properties", "expiry");
    }
    sst_kit_release(&kit);
}

Test(table_content, tags_of_properties_increase_and_unknown_ones_are_skipped_if_odd)
{
    static const struct {
        const char *what;
        kv_slice tail;
        kv_status rc;
    } tails[] = {{"an odd one past all", {(const uint8_t *)"\x27\1x", 3}, KV_OK},
                 {"an even one past all", {(const uint8_t *)"\x26\1x", 3}, KV_TOO_NEW},
                 {"a tag cut short", {(const uint8_t *)"\x80", 1}, KV_CORRUPT},
                 {"a length cut short", {(const uint8_t *)"\x27", 1}, KV_CORRUPT},
                 {"a value cut short", {(const uint8_t *)"\x27\2x", 3}, KV_CORRUPT},
                 {"a tag that goes back", {(const uint8_t *)"\3\1x", 3}, KV_CORRUPT},
                 {"a tag twice", {(const uint8_t *)"\x27\1x\x27\1x", 6}, KV_CORRUPT}};
    struct sst_kit kit;
    struct forge forge;
    sst_kit_init(&kit, 1 << 20);
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        forge_init(&forge);
        forge.properties_tail = tails[i].tail;
        if (tails[i].rc == KV_OK)
            expect_sound(&kit, &forge, tails[i].what);
        else
            expect_refused(&kit, &forge, tails[i].rc, "bad properties", tails[i].what);
    }
    forge_init(&forge);
    forge_bytes(&forge, (enum kv_table_tag)5, KV_STR("odd")); /* between known ones */
    expect_sound(&kit, &forge, "an odd tag in between");
    forge_init(&forge);
    forge_bytes(&forge, (enum kv_table_tag)20, KV_STR("even"));
    expect_refused(&kit, &forge, KV_TOO_NEW, "bad properties", "an even tag in between");
    sst_kit_release(&kit);
}

/* ---- footer, filter, index */

Test(table_content, a_footer_says_what_the_file_is)
{
    struct sst_kit kit;
    struct forge forge;
    static const uint32_t levels[] = {0, 3, 257};
    sst_kit_init(&kit, 1 << 20);
    for (int i = 0; i < 3; i++) {
        forge_init(&forge);
        forge.levels_said = levels[i];
        expect_refused(&kit, &forge, KV_CORRUPT, "a footer that contradicts itself", "levels");
    }
    forge_init(&forge);
    forge.file_bytes_off = 1;
    expect_refused(&kit, &forge, KV_CORRUPT, "a footer that contradicts itself", "length");
    forge_init(&forge);
    forge.top_empty = true;
    expect_refused(&kit, &forge, KV_CORRUPT, "an index that misses entries", "top");
    sst_kit_release(&kit);
}

/* Kept in memory it is checked when the table is opened; read through the cache, when it is asked. */
Test(table_content, a_filter_has_a_shape)
{
    static uint8_t bytes[67];
    static const struct {
        size_t len;
        uint8_t probes, kind;
        kv_status rc;
    } rows[] = {
        {65, 6, 1, KV_CORRUPT}, {67, 6, 1, KV_CORRUPT}, {66, 6, 2, KV_TOO_NEW}, {66, 5, 1, KV_CORRUPT}};
    for (uint64_t cache = 0; cache < 2; cache++) {
        struct sst_kit kit;
        sst_kit_init(&kit, cache ? 1 << 20 : 0);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            struct forge forge;
            struct kv_table *table;
            struct kv_err err = {0};
            struct kv_found found;
            memset(bytes, 0xff, sizeof bytes);
            bytes[rows[i].len - 2] = rows[i].probes;
            bytes[rows[i].len - 1] = rows[i].kind;
            forge_init(&forge);
            forge.filter = kv_slice_of(bytes, rows[i].len);
            kv_status rc = open_forged(&kit, &forge, 0, &table, &err);
            if (rc == KV_OK) {
                cr_assert_eq(cache, 0);
                rc = kv_table_verify(table, &err);
                cr_assert(rc == rows[i].rc && strstr(err.text, "a bad filter"), "%zu: %s", i, err.text);
                rc = kv_table_get(table, KV_STR("a"), 9, &found, &err);
                kv_table_unref(table);
            }
            cr_assert(rc == rows[i].rc && strstr(err.text, "a bad filter"), "%zu: %s", i, err.text);
        }
        sst_kit_release(&kit);
    }
    struct sst_kit kit;
    struct forge forge;
    sst_kit_init(&kit, 1 << 20);
    memset(bytes, 0, sizeof bytes);
    bytes[64] = 6;
    bytes[65] = 1;
    forge_init(&forge);
    forge.filter = kv_slice_of(bytes, 66);
    expect_unverified(&kit, &forge, "a key that the filter does not know");
    sst_kit_release(&kit);
}

/* Every way to a block goes through the same check. */
static void expect_unreadable(struct sst_kit *kit, const struct forge *forge, const char *said)
{
    struct kv_table *table;
    struct kv_err err = {0};
    struct kv_found found;
    uint64_t entries, bytes;
    cr_assert_eq(open_forged(kit, forge, 0, &table, &err), KV_OK, "%s", err.text);
    cr_assert_eq(kv_table_get(table, KV_STR("a"), 9, &found, &err), KV_CORRUPT, "%s", said);
    cr_assert(strstr(err.text, said), "%s: %s", said, err.text);
    cr_assert_eq(kv_table_verify(table, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, said), "%s: %s", said, err.text);
    struct kv_table_iter_options options = {.err = &err};
    struct kv_entry_iter *it = NULL;
    cr_assert_eq(kv_table_iter_open(table, &options, &it), KV_OK);
    cr_assert_eq(kv_entry_iter_seek(it, KV_STR("a"), 9), KV_CORRUPT);
    cr_assert(strstr(err.text, said), "%s: %s", said, err.text);
    cr_assert_eq(kv_entry_iter_next(it), KV_CORRUPT, "it stays where it failed");
    cr_assert_eq(kv_entry_iter_seek(it, KV_STR("c"), 9), KV_OK, "the other block can be read");
    cr_assert_eq(kv_entry_iter_prev(it), KV_CORRUPT);
    cr_assert_eq(kv_entry_iter_seek_before(it, KV_STR("b"), 9), KV_CORRUPT);
    kv_entry_iter_close(it);
    kv_status rc = kv_table_estimate(table, KV_STR("aa"), KV_STR("d"), &entries, &bytes, &err);
    cr_assert(rc == KV_CORRUPT || forge->levels == 1 || forge->partition_empty[0],
              "one level needs no block");
    kv_table_unref(table);
}

Test(table_content, handles_of_the_index_lead_to_blocks_of_the_file)
{
    uint8_t far[2 * KV_VARINT_LEN_MAX], long_one[2 * KV_VARINT_LEN_MAX];
    size_t far_len = kv_put_varint(far, 1 << 20), long_len = kv_put_varint(long_one, 128);
    far_len += kv_put_varint(far + far_len, 20);
    long_len += kv_put_varint(long_one + long_len, 1 << 20);
    const struct {
        kv_slice raw;
        const char *said;
    } rows[] = {{KV_STR(""), "a bad index entry"},
                {KV_STR("\x80"), "a bad index entry"},
                {KV_STR("\x80\1"), "a bad index entry"},
                {KV_STR("\x80\1\x14\1"), "a bad index entry"},
                {KV_STR("\x10\x14"), "a block lies outside the file"},
                {KV_STR("\x80\1\x08"), "a block lies outside the file"},
                {kv_slice_of(far, far_len), "a block lies outside the file"},
                {kv_slice_of(long_one, long_len), "a block lies outside the file"}};
    struct sst_kit kit;
    sst_kit_init(&kit, 1 << 20);
    for (uint32_t levels = 1; levels <= 2; levels++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            struct forge forge;
            forge_init(&forge);
            forge.levels = forge.levels_said = levels;
            forge.handle_raw[0] = rows[i].raw;
            expect_unreadable(&kit, &forge, rows[i].said);
        }
    struct forge forge;
    forge_init(&forge);
    forge.levels = forge.levels_said = 2;
    forge.partition_empty[0] = true;
    expect_unreadable(&kit, &forge, "an index partition without entries");
    sst_kit_release(&kit);
}

/* ---- what only checking a table whole finds */

Test(table_content, entries_lie_where_the_index_says)
{
    struct sst_kit kit;
    struct forge forge;
    sst_kit_init(&kit, 1 << 20);
    forge_init(&forge);
    forge.n[1] = 0;
    forge_number(&forge, KV_TAG_ENTRIES, 4);
    forge_number(&forge, KV_TAG_KEYS, 4);
    expect_unverified(&kit, &forge, "an empty block");
    forge_init(&forge);
    forge.separators[0].key = KV_STR("a");
    expect_unverified(&kit, &forge, "an entry outside its block's separators");
    forge_init(&forge);
    forge.separators[0].key = KV_STR("c");
    expect_unverified(&kit, &forge, "an entry outside its block's separators");
    forge_init(&forge);
    forge.separators[0].version = 6; /* in front of b at 5 */
    expect_unverified(&kit, &forge, "an entry outside its block's separators");
    for (int i = 0; i < 2; i++) {
        forge_init(&forge);
        forge.levels = forge.levels_said = 2;
        if (i)
            forge.top[0].version = 1;
        else
            forge.top[0].key = KV_STR("ba");
        expect_unverified(&kit, &forge, "a partition that ends elsewhere than the index says");
    }
    forge_init(&forge);
    forge.gap = 16;
    expect_unverified(&kit, &forge, "bytes that belong to nothing");
    sst_kit_release(&kit);
}

Test(table_content, properties_are_those_of_the_entries)
{
    static const struct {
        enum kv_table_tag tag;
        uint64_t v;
    } rows[] = {{KV_TAG_ENTRIES, 5},
                {KV_TAG_DELETES, 1},
                {KV_TAG_KEYS, 3},
                {KV_TAG_RAW_KEY_BYTES, 5},
                {KV_TAG_RAW_VALUE_BYTES, 5},
                {KV_TAG_DATA_BLOCKS, 3},
                {KV_TAG_DATA_BYTES, 9},
                {KV_TAG_RICH, 1},
                {KV_TAG_VERSION_MIN, 4},
                {KV_TAG_VERSION_MAX, 6}};
    struct sst_kit kit;
    struct forge forge;
    sst_kit_init(&kit, 1 << 20);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        forge_init(&forge);
        forge_number(&forge, rows[i].tag, rows[i].v);
        expect_unverified(&kit, &forge, "properties that do not match the entries");
    }
    /* an entry that expires at 7: how many, the first, the last */
    for (int i = 0; i < 4; i++) {
        static const kv_slice said[] = {{(const uint8_t *)"\1\7\7", 3},
                                        {(const uint8_t *)"\2\7\7", 3},
                                        {(const uint8_t *)"\1\6\7", 3},
                                        {(const uint8_t *)"\1\7\10", 3}};
        forge_init(&forge);
        for (int j = 0; j < 2; j++) {
            forge.entries[0][j].kind = KV_KIND_RICH;
            forge.entries[0][j].value = j ? KV_STR("\2\1") : KV_STR("\1\7");
        }
        forge_number(&forge, KV_TAG_RICH, 2);
        forge_bytes(&forge, KV_TAG_EXPIRY, said[i]);
        if (i)
            expect_unverified(&kit, &forge, "properties that do not match the entries");
        else
            expect_sound(&kit, &forge, "expiry");
    }
    forge_init(&forge);
    forge_bytes(&forge, KV_TAG_SMALLEST, KV_STR("A"));
    expect_unverified(&kit, &forge, "the first key is not the smallest of the properties");
    forge_init(&forge);
    forge_bytes(&forge, KV_TAG_LARGEST, KV_STR("e"));
    expect_unverified(&kit, &forge, "the last key is not the largest of the properties");
    forge_init(&forge);
    forge_number(&forge, KV_TAG_CUT_LEN, 1);
    forge_bytes(&forge, KV_TAG_LARGEST, KV_STR("ad"));
    expect_unverified(&kit, &forge, "a key outside the table's cut");
    static const kv_slice attrs[] = {{(const uint8_t *)"", 0},
                                     {(const uint8_t *)"\x80", 1},
                                     {(const uint8_t *)"\1", 1},
                                     {(const uint8_t *)"\2", 1}};
    for (size_t i = 0; i < sizeof attrs / sizeof *attrs; i++) {
        forge_init(&forge);
        forge.entries[1][0].kind = KV_KIND_RICH;
        forge.entries[1][0].value = attrs[i];
        expect_unverified(&kit, &forge, "an entry with bad attributes");
    }
    sst_kit_release(&kit);
}

Test(table_content, a_bulk_loaded_table_has_no_versions_of_its_own)
{
    struct sst_kit kit;
    struct forge forge;
    struct kv_table *table;
    struct kv_err err = {0};
    sst_kit_init(&kit, 1 << 20);
    forge_init(&forge);
    cr_assert_eq(open_forged(&kit, &forge, 9, &table, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "a bulk-loaded table with versions of its own"), "%s", err.text);
    forge_number(&forge, KV_TAG_VERSION_MIN, 0);
    forge_number(&forge, KV_TAG_VERSION_MAX, 0);
    cr_assert_eq(open_forged(&kit, &forge, 9, &table, &err), KV_OK);
    cr_assert_eq(kv_table_verify(table, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "a bulk-loaded table with versions of its own"), "%s", err.text);
    kv_table_unref(table);
    sst_kit_release(&kit);
}

/* All its entries count as written at once: one of the very key lies in front of an older moment of that key. */
Test(table_content, a_bulk_loaded_table_is_walked_under_its_one_version)
{
    static const struct {
        const char *key;
        uint64_t version;
        const char *forward, *backward; /* NULL: the end */
    } rows[] = {{"b", KV_VERSION_MAX, "b", "a"},
                {"b", 10, "b", "a"},
                {"b", 9, "b", "a"},
                {"b", 8, "c", "b"},
                {"bb", 8, "c", "b"},
                {"a", 8, "b", "a"},
                {"d", 8, NULL, "d"},
                {"e", 8, NULL, "d"},
                {"", KV_VERSION_MAX, "a", "d"},
                {"", 3, "a", "d"},
                {"A", 3, "a", NULL}};
    struct sst_kit kit;
    struct forge forge;
    struct kv_table *table;
    struct kv_err err = {0};
    sst_kit_init(&kit, 1 << 20);
    for (uint32_t levels = 1; levels <= 2; levels++) {
        forge_init(&forge);
        forge.levels = forge.levels_said = levels;
        for (int i = 0; i < 4; i++)
            forge.entries[i / 2][i % 2].version = 0;
        forge_number(&forge, KV_TAG_VERSION_MIN, 0);
        forge_number(&forge, KV_TAG_VERSION_MAX, 0);
        cr_assert_eq(open_forged(&kit, &forge, 9, &table, &err), KV_OK, "%s", err.text);
        cr_assert_eq(kv_table_verify(table, &err), KV_OK, "%s", err.text);
        struct kv_table_iter_options options = {.upper = KV_STR("z"), .err = &err};
        struct kv_entry_iter *it = NULL;
        cr_assert_eq(kv_table_iter_open(table, &options, &it), KV_OK);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            kv_slice key = kv_slice_str(rows[i].key);
            kv_status rc = kv_entry_iter_seek(it, key, rows[i].version);
            cr_assert_eq(rc, rows[i].forward ? KV_OK : KV_END, "row %zu", i);
            if (rc == KV_OK)
                cr_assert(kv_slice_equal(it->key, kv_slice_str(rows[i].forward)) && it->version == 9,
                          "row %zu", i);
            rc = kv_entry_iter_seek_before(it, key, rows[i].version);
            cr_assert_eq(rc, rows[i].backward ? KV_OK : KV_END, "row %zu backward", i);
            if (rc == KV_OK)
                cr_assert(kv_slice_equal(it->key, kv_slice_str(rows[i].backward)) && it->version == 9,
                          "row %zu backward", i);
        }
        kv_entry_iter_close(it);
        kv_table_unref(table);
    }
    sst_kit_release(&kit);
}
