/*
 * Random lives of a database beside a sorted array that answers the same questions. Memtables, log files and the key space are small, so
 * that flushes, merges, rolls and recoveries happen all the time. A failing seed is printed and replays exactly.
 */
#include "kvcore/base/prng.h"
#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { KEYS = 60, SPACES = 2, PINNED = 3, OPS = 1500 };

struct pinned {
    struct kv_snapshot *snapshot;
    int values[SPACES][KEYS];
};

struct run {
    struct kv_kit kit;
    struct kv_prng prng;
    uint64_t seed;
    int values[SPACES][KEYS]; /* 0: absent */
    int counter;
    struct pinned pinned[PINNED];
};

static size_t cut_two(kv_slice key)
{
    return key.len < 2 ? key.len : 2;
}

static size_t group_two(void *ctx, kv_slice key)
{
    (void)ctx;
    return cut_two(key);
}

static kv_status keep_begin(void *ctx, kv_slice lower, kv_slice upper, void **merge)
{
    (void)lower, (void)upper;
    *merge = ctx;
    return KV_OK;
}

static kv_status keep_group(void *merge, const struct kv_hook_entry *entries, size_t n,
                            struct kv_hook_sink *sink)
{
    kv_status rc = KV_OK;
    (void)merge;
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        cr_assert(cut_two(entries[i].key) == cut_two(entries[0].key) &&
                  memcmp(entries[i].key.data, entries[0].key.data, cut_two(entries[0].key)) == 0);
        rc = sink->add(sink, entries[i].key, entries[i].value);
    }
    return rc;
}

static void keep_end(void *merge, bool installed)
{
    (void)merge, (void)installed;
}

static const struct kv_hook keep = {NULL, group_two, keep_begin, keep_group, keep_end};

static const char *key_of(int k, char *out, size_t size)
{
    snprintf(out, size, "%c%d%s", 'a' + k / 20, k / 5 % 4,
             "xy" + (k % 5 > 2)); /* some are prefixes of others */
    size_t n = strlen(out);
    snprintf(out + n, size - n, "%d", k % 5);
    if (k % 5 == 0)
        out[2] = 0;
    return out;
}

static uint64_t pick(struct run *r, uint64_t n)
{
    return kv_prng_below(&r->prng, n);
}

static void compare_get(struct run *r, const struct kv_snapshot *snapshot, int values[SPACES][KEYS],
                        int space, int k)
{
    char key[16], value[16];
    snprintf(value, sizeof value, "%d", values[space][k]);
    cr_assert(kv_kit_is(&r->kit, snapshot, (uint32_t)space, key_of(k, key, sizeof key),
                        values[space][k] ? value : NULL),
              "seed %d", (int)r->seed);
}

static int find_key(kv_slice key)
{
    char text[16];
    for (int k = 0; k < KEYS; k++)
        if (kv_slice_equal(kv_slice_str(key_of(k, text, sizeof text)), key))
            return k;
    return -1;
}

static void compare_scan(struct run *r, const struct kv_snapshot *snapshot, int values[SPACES][KEYS],
                         int space)
{
    char low[16], high[16], text[16];
    kv_slice lower = pick(r, 3) ? kv_slice_str(key_of((int)pick(r, KEYS), low, sizeof low)) : (kv_slice){0};
    kv_slice upper = pick(r, 3) ? kv_slice_str(key_of((int)pick(r, KEYS), high, sizeof high)) : (kv_slice){0};
    struct kv_iter *it = NULL;
    int expected = 0, found = 0;
    kv_status rc;
    for (int k = 0; k < KEYS; k++) {
        kv_slice key = kv_slice_str(key_of(k, text, sizeof text));
        expected += values[space][k] && kv_slice_compare(key, lower) >= 0 &&
                    (upper.len == 0 || kv_slice_compare(key, upper) < 0);
    }
    cr_assert_eq(kv_iter_open(r->kit.db, snapshot, (uint32_t)space, lower, upper, &it), KV_OK);
    char last[16] = "";
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it), found++) {
        int k = find_key(it->key);
        snprintf(text, sizeof text, "%d", k < 0 ? -1 : values[space][k]);
        cr_assert(k >= 0 && values[space][k] && kv_slice_equal(it->value, kv_slice_str(text)),
                  "seed %d key %.*s value %.*s", (int)r->seed, KV_ARG(it->key), KV_ARG(it->value));
        cr_assert(!last[0] || kv_slice_compare(kv_slice_str(last), it->key) < 0);
        snprintf(last, sizeof last, "%.*s", KV_ARG(it->key));
    }
    kv_iter_close(it);
    cr_assert(rc == KV_END && found == expected, "seed %d: %d of %d", (int)r->seed, found, expected);
}

static void do_commit(struct run *r)
{
    struct kv_batch *batch = NULL;
    struct kv_commit_options options = {0};
    char key[16], value[16];
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (uint64_t n = pick(r, 6) + 1; n > 0; n--) {
        uint32_t space = (uint32_t)pick(r, SPACES);
        int k = (int)pick(r, KEYS);
        kv_slice slice = kv_slice_str(key_of(k, key, sizeof key));
        r->values[space][k] = pick(r, 4) ? ++r->counter : 0;
        snprintf(value, sizeof value, "%d", r->counter);
        cr_assert_eq(r->values[space][k] ? kv_batch_put(batch, space, slice, kv_slice_str(value))
                                         : kv_batch_delete(batch, space, slice),
                     KV_OK);
    }
    if (pick(r, 3) == 0)
        options.record = KV_STR("a record that takes some room in the log");
    cr_assert_eq(kv_commit(r->kit.db, batch, &options, NULL, &r->kit.err), KV_OK, "%s", r->kit.err.text);
    kv_batch_free(batch);
}

static int order_keys(const void *a, const void *b)
{
    char x[16], y[16];
    return strcmp(key_of(*(const int *)a, x, sizeof x), key_of(*(const int *)b, y, sizeof y));
}

static void do_bulk(struct run *r)
{
    struct kv_bulk *bulk = NULL;
    int chosen[KEYS], n = 0;
    char key[16], value[16];
    uint32_t space = (uint32_t)pick(r, SPACES);
    for (int k = 0; k < KEYS; k++)
        if (pick(r, 5) == 0)
            chosen[n++] = k;
    qsort(chosen, (size_t)n, sizeof *chosen, order_keys);
    int loaded = ++r->counter;
    snprintf(value, sizeof value, "%d", loaded);
    cr_assert_eq(kv_bulk_open(r->kit.db, space, &bulk, &r->kit.err), KV_OK);
    for (int i = 0; i < n; i++) {
        cr_assert_eq(kv_bulk_add(bulk, kv_slice_str(key_of(chosen[i], key, sizeof key)), kv_slice_str(value),
                                 &r->kit.err),
                     KV_OK);
        if (pick(r, 40) == 0)
            do_commit(r);
    }
    if (pick(r, 6) == 0) {
        kv_bulk_abort(bulk);
        return;
    }
    uint64_t floor = pick(r, 2) ? pick(r, kv_seq(r->kit.db) + 1) : 0;
    cr_assert_eq(kv_bulk_install(bulk, floor, NULL, &r->kit.err), KV_OK, "%s", r->kit.err.text);
    for (int i = 0; i < n; i++)
        r->values[space][chosen[i]] = loaded;
}

static void unpin(struct run *r, size_t i)
{
    kv_snapshot_close(r->pinned[i].snapshot);
    r->pinned[i].snapshot = NULL;
}

static void do_pin(struct run *r)
{
    size_t i = (size_t)pick(r, PINNED);
    unpin(r, i);
    cr_assert_eq(kv_snapshot_open(r->kit.db, &r->pinned[i].snapshot), KV_OK);
    memcpy(r->pinned[i].values, r->values, sizeof r->values);
}

static void do_reopen(struct run *r)
{
    for (size_t i = 0; i < PINNED; i++)
        unpin(r, i);
    if (pick(r, 2))
        kv_kit_crash(&r->kit);
    else
        kv_kit_reopen(&r->kit);
}

static void do_merge(struct run *r)
{
    char low[16], high[16];
    kv_slice lower = pick(r, 2) ? kv_slice_str(key_of((int)pick(r, KEYS), low, sizeof low)) : (kv_slice){0};
    kv_slice upper = pick(r, 2) ? kv_slice_str(key_of((int)pick(r, KEYS), high, sizeof high)) : (kv_slice){0};
    cr_assert_eq(kv_merge_range(r->kit.db, (uint32_t)pick(r, SPACES), lower, upper, &r->kit.err), KV_OK, "%s",
                 r->kit.err.text);
}

static void do_read(struct run *r)
{
    size_t i = (size_t)pick(r, PINNED);
    bool old = r->pinned[i].snapshot && pick(r, 2);
    int space = (int)pick(r, SPACES);
    const struct kv_snapshot *snapshot = old ? r->pinned[i].snapshot : NULL;
    if (pick(r, 2))
        compare_get(r, snapshot, old ? r->pinned[i].values : r->values, space, (int)pick(r, KEYS));
    else
        compare_scan(r, snapshot, old ? r->pinned[i].values : r->values, space);
}

static void levelled(struct run *r, struct kv_space_options *space)
{
    space->style = KV_STYLE_LEVELLED;
    space->table_bytes = 1024;
    space->level_base_bytes = 1024 << pick(r, 2);
    space->level_multiplier = 2 + (uint32_t)pick(r, 2);
    space->level0_runs = 1 + (uint32_t)pick(r, 3);
}

static bool encrypted;

static void encrypt(struct run *r)
{
    static const uint8_t master[KV_MASTER_KEY_LEN] = "a master key of thirty-two bytes";
    r->kit.options.key.master_key = master;
    r->kit.options.data_key_blocks = 1 + pick(r, 500);
}

static void live(uint64_t seed, int threads)
{
    static struct run r;
    r = (struct run){.seed = seed};
    kv_prng_init(&r.prng, seed);
    kv_kit_init(&r.kit, NULL);
    r.kit.threads = threads;
    r.kit.options.memtable_bytes = 2048 << pick(&r, 5);
    r.kit.options.log_file_bytes = 1024 << pick(&r, 5);
    r.kit.options.log_bytes_max = 8192 << pick(&r, 5);
    r.kit.spaces[0].cut_len = pick(&r, 2) ? cut_two : NULL;
    r.kit.spaces[0].hook = pick(&r, 2) ? &keep : NULL;
    r.kit.spaces[1].no_filter = pick(&r, 2);
    r.kit.spaces[1].compression = (enum kv_compression)pick(&r, 3);
    r.kit.spaces[1].block_bytes = 512;
    for (int i = 0; i < SPACES; i++)
        if (pick(&r, 2)) /* as many levels as there can be of so few keys */
            levelled(&r, &r.kit.spaces[i]);
    if (encrypted)
        encrypt(&r);
    kv_kit_must_open(&r.kit);
    for (int op = 0; op < OPS; op++) {
        uint64_t what = pick(&r, 100);
        if (what < 50)
            do_commit(&r);
        else if (what < 84)
            do_read(&r);
        else if (what < 88)
            do_bulk(&r);
        else if (what < 91)
            do_pin(&r);
        else if (what < 93)
            cr_assert_eq(kv_flush(r.kit.db, &r.kit.err), KV_OK);
        else if (what < 96)
            do_merge(&r);
        else if (what < 98 && threads == KV_THREADS_NONE)
            kv_kit_work_all(&r.kit);
        else if (what >= 98)
            do_reopen(&r);
    }
    for (size_t i = 0; i < PINNED; i++)
        unpin(&r, i);
    r.kit.threads =
        KV_THREADS_NONE; /* a worker may be between writing a table and naming it: count without any */
    do_reopen(&r);
    cr_assert_eq(kv_kit_files(&r.kit, ".tbl"),
                 kv_kit_stats(&r.kit, 0).tables + kv_kit_stats(&r.kit, 1).tables, "seed %d", (int)seed);
    kv_kit_release(&r.kit);
}

Test(db_model, answers_what_a_sorted_array_answers, .timeout = 120)
{
    for (uint64_t seed = 1; seed <= 15; seed++)
        live(seed, KV_THREADS_NONE);
}

Test(db_model, and_with_background_threads_too, .timeout = 120)
{
    for (uint64_t seed = 100; seed <= 105; seed++)
        live(seed, 2);
}

Test(db_model, and_under_encryption_with_keys_that_change_all_the_time, .timeout = 120)
{
    encrypted = true;
    for (uint64_t seed = 200; seed <= 206; seed++)
        live(seed, seed % 3 ? KV_THREADS_NONE : 2);
}
