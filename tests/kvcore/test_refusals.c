/*
 * What is refused, call by call: by a database that is open read-only, and arguments that cannot be. The code, and a text that says why.
 */
#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct kv_kit kit;
static struct kv_batch *batch;
static char *too_long_bytes;

#define KEY              KV_STR("k1")
#define NO_SPACE_OF_OURS 7

static kv_slice too_long(void)
{
    return kv_slice_of(too_long_bytes, KV_KEY_LEN_MAX + 1);
}

static void setup(void)
{
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k1", "v1");
    kv_kit_put(&kit, 1, "k1", "v2");
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 0, KEY, KV_STR("never")), KV_OK);
    too_long_bytes = calloc(1, KV_VALUE_LEN_MAX + 1);
    cr_assert(too_long_bytes != NULL);
    memset(too_long_bytes, 'z', KV_VALUE_LEN_MAX + 1);
}

static void teardown(void)
{
    free(too_long_bytes);
    kv_batch_free(batch);
    kv_kit_release(&kit);
}

TestSuite(refusals, .init = setup, .fini = teardown);

/* ---- read-only */

static void nothing_done(void *ctx, kv_status rc, uint64_t version)
{
    (void)ctx, (void)rc, (void)version;
    cr_assert(false, "a call that was refused calls back");
}

static kv_status ro_commit(void)
{
    return kv_commit(kit.db, batch, NULL, NULL, &kit.err);
}
static kv_status ro_async(void)
{
    return kv_commit_async(kit.db, batch, NULL, nothing_done, NULL, &kit.err);
}
static kv_status ro_bulk(void)
{
    struct kv_bulk *bulk = NULL;
    return kv_bulk_open(kit.db, 0, &bulk, &kit.err);
}
static kv_status ro_merge(void)
{
    return kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err);
}
static kv_status ro_drop_tables(void)
{
    return kv_drop_tables(kit.db, 0, (kv_slice){0}, (kv_slice){0}, NULL, &kit.err);
}
static kv_status ro_drop_prefix(void)
{
    return kv_drop_prefix(kit.db, 0, KEY, &kit.err);
}
static kv_status ro_drop_all(void)
{
    return kv_drop_all(kit.db, KV_SPACE_ALL, &kit.err);
}
static kv_status ro_ban(void)
{
    return kv_ban_prefix(kit.db, 0, KEY, &kit.err);
}
static kv_status ro_unban(void)
{
    return kv_unban_prefix(kit.db, 0, KEY, &kit.err);
}
static kv_status ro_app_version(void)
{
    return kv_set_app_version(kit.db, 3, &kit.err);
}
static kv_status ro_flush(void)
{
    return kv_flush(kit.db, &kit.err);
}
static kv_status ro_clock(void)
{
    return kv_retention_clock_accept(kit.db, &kit.err);
}
static kv_status ro_checkpoint(void)
{
    return kv_checkpoint(kit.db, "copy", &kit.err);
}
static kv_status ro_rotate_data(void)
{
    return kv_rotate_data_key(kit.db, &kit.err);
}
static kv_status ro_rotate_master(void)
{
    return kv_rotate_master_key(kit.db, (const uint8_t[KV_MASTER_KEY_LEN]){1}, &kit.err);
}
static kv_status ro_schedule(void)
{
    struct kv_maintenance_options options = {.compact_every_s = 60};
    return kv_schedule(kit.db, &options, &kit.err);
}
static kv_status ro_sequence(void)
{
    struct kv_sequence *sequence = NULL;
    return kv_sequence_open(kit.db, 0, KEY, 1, &sequence, &kit.err);
}
static kv_status ro_subscribe(void)
{
    struct kv_subscription *subscription = NULL;
    return kv_subscribe(kit.db, &(struct kv_prefix){0, KEY}, 1, 0, &subscription, NULL, &kit.err);
}
static kv_status ro_txn(void)
{
    struct kv_txn *txn = NULL;
    return kv_txn_begin(kit.db, NULL, &txn, &kit.err);
}
static kv_status ro_txn_async(void)
{
    struct kv_txn *txn = NULL;
    struct kv_txn_commit_options options = {.done = nothing_done};
    cr_assert_eq(kv_txn_begin(kit.db, &(struct kv_txn_options){.read_only = true}, &txn, &kit.err), KV_OK);
    kv_status rc = kv_txn_commit_async(txn, &options, &kit.err);
    kv_txn_abort(txn);
    return rc;
}
static kv_status ro_writer(void)
{
    struct kv_writer *writer = NULL;
    return kv_writer_open(kit.db, NULL, &writer, &kit.err);
}
static kv_status ro_value(void)
{
    struct kv_value_writer *writer = NULL;
    return kv_value_writer_open(kit.db, 0, &writer, &kit.err);
}
static kv_status ro_stream_writer(void)
{
    struct kv_stream_writer *writer = NULL;
    kv_status rc = kv_stream_writer_open(kit.db, 0, &writer, &kit.err);
    kv_stream_writer_abort(writer);
    return rc;
}

static const struct refused {
    const char *name;
    kv_status (*run)(void);
} read_only[] = {
    {"kv_commit", ro_commit},
    {"kv_commit_async", ro_async},
    {"kv_bulk_open", ro_bulk},
    {"kv_merge_range", ro_merge},
    {"kv_drop_tables", ro_drop_tables},
    {"kv_drop_prefix", ro_drop_prefix},
    {"kv_drop_all", ro_drop_all},
    {"kv_ban_prefix", ro_ban},
    {"kv_unban_prefix", ro_unban},
    {"kv_set_app_version", ro_app_version},
    {"kv_flush", ro_flush},
    {"kv_retention_clock_accept", ro_clock},
    {"kv_checkpoint", ro_checkpoint},
    {"kv_rotate_data_key", ro_rotate_data},
    {"kv_rotate_master_key", ro_rotate_master},
    {"kv_schedule", ro_schedule},
    {"kv_sequence_open", ro_sequence},
    {"kv_subscribe", ro_subscribe},
    {"kv_txn_begin", ro_txn},
    {"kv_txn_commit_async", ro_txn_async},
    {"kv_writer_open", ro_writer},
    {"kv_value_writer_open", ro_value},
    {"kv_stream_writer_open", ro_stream_writer},
};

Test(refusals, a_database_open_read_only_refuses_every_change_and_says_so)
{
    kit.options.read_only = true;
    kv_kit_reopen(&kit);
    for (size_t i = 0; i < sizeof read_only / sizeof *read_only; i++) {
        kit.err = (struct kv_err){0};
        kv_status rc = read_only[i].run();
        cr_expect_eq(rc, KV_READ_ONLY, "%s answers %s: %s", read_only[i].name, kv_status_name(rc),
                     kit.err.text);
        cr_expect(strstr(kit.err.text, "read-only") != NULL, "%s: %s", read_only[i].name, kit.err.text);
    }
    cr_assert_eq(kv_sync(kit.db, &kit.err), KV_OK); /* all that can be read is durable */
    cr_assert_eq(kv_work(kit.db, &kit.err), KV_END);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k1", "v1"));
}

/* ---- arguments */

struct argument {
    uint32_t space;
    kv_slice key, value;
};

static kv_status arg_get(const struct argument *a)
{
    struct kv_pinned found = {0};
    return kv_get(kit.db, NULL, a->space, a->key, &found, &kit.err);
}
static kv_status arg_stored(const struct argument *a)
{
    uint64_t bytes;
    return kv_stored_bytes(kit.db, NULL, a->space, a->key, &bytes, &kit.err);
}
static kv_status arg_value(const struct argument *a)
{
    struct kv_value_reader *reader = NULL;
    return kv_value_open(kit.db, NULL, a->space, a->key, &reader, &kit.err);
}
static kv_status arg_put(const struct argument *a)
{
    kv_status rc = kv_batch_put(batch, a->space, a->key, a->value);
    return rc < 0 ? rc : kv_commit(kit.db, batch, NULL, NULL, &kit.err);
}
static kv_status arg_delete(const struct argument *a)
{
    kv_status rc = kv_batch_delete(batch, a->space, a->key);
    return rc < 0 ? rc : kv_commit(kit.db, batch, NULL, NULL, &kit.err);
}
static kv_status arg_bulk(const struct argument *a)
{
    struct kv_bulk *bulk = NULL;
    kv_status rc = kv_bulk_open(kit.db, a->space, &bulk, &kit.err);
    if (rc == KV_OK)
        rc = kv_bulk_add(bulk, a->key, a->value, &kit.err);
    kv_bulk_abort(bulk);
    return rc;
}
static kv_status arg_sequence(const struct argument *a)
{
    struct kv_sequence *sequence = NULL;
    return kv_sequence_open(kit.db, a->space, a->key, 1, &sequence, &kit.err);
}
static kv_status arg_writer(const struct argument *a)
{
    struct kv_writer *writer = NULL;
    cr_assert_eq(kv_writer_open(kit.db, NULL, &writer, &kit.err), KV_OK);
    kv_status rc = kv_writer_put(writer, a->space, a->key, a->value, &kit.err);
    if (rc == KV_OK)
        rc = kv_writer_flush(writer, NULL, &kit.err);
    kv_writer_cancel(writer);
    cr_assert_lt(kv_writer_close(writer, NULL), 0);
    return rc;
}
static kv_status arg_txn(const struct argument *a, int how)
{
    struct kv_txn *txn = NULL;
    struct kv_pinned found = {0};
    struct kv_iter *it = NULL;
    cr_assert_eq(kv_txn_begin(kit.db, NULL, &txn, &kit.err), KV_OK);
    kv_status rc = how == 0   ? kv_txn_get(txn, a->space, a->key, &found, &kit.err)
                   : how == 1 ? kv_txn_put(txn, a->space, a->key, a->value, &kit.err)
                   : how == 2 ? kv_txn_delete(txn, a->space, a->key, &kit.err)
                              : kv_txn_iter_open(txn, a->space, a->key, (kv_slice){0}, &it);
    kv_txn_abort(txn);
    kv_iter_close(it);
    return rc;
}
static kv_status arg_txn_get(const struct argument *a)
{
    return arg_txn(a, 0);
}
static kv_status arg_txn_put(const struct argument *a)
{
    return arg_txn(a, 1);
}
static kv_status arg_txn_delete(const struct argument *a)
{
    return arg_txn(a, 2);
}

/* Which of the arguments a call has. */
enum { HAS_KEY = 1, HAS_VALUE = 2 };
static const struct taking {
    const char *name;
    kv_status (*run)(const struct argument *a);
    int has;
} taking[] = {
    {"kv_get", arg_get, HAS_KEY},
    {"kv_stored_bytes", arg_stored, HAS_KEY},
    {"kv_value_open", arg_value, HAS_KEY},
    {"kv_batch_put", arg_put, HAS_KEY | HAS_VALUE},
    {"kv_batch_delete", arg_delete, HAS_KEY},
    {"kv_bulk_add", arg_bulk, HAS_KEY | HAS_VALUE},
    {"kv_sequence_open", arg_sequence, HAS_KEY},
    {"kv_writer_put", arg_writer, HAS_KEY | HAS_VALUE},
    {"kv_txn_get", arg_txn_get, HAS_KEY},
    {"kv_txn_put", arg_txn_put, HAS_KEY | HAS_VALUE},
    {"kv_txn_delete", arg_txn_delete, HAS_KEY},
};

static void refuse(const struct taking *call, struct argument a, const char *what)
{
    kv_status rc = call->run(&a);
    cr_expect(rc == KV_INVALID || rc == KV_LIMIT, "%s takes %s: %s", call->name, what, kv_status_name(rc));
    kv_batch_clear(batch);
}

Test(refusals, keys_and_values_out_of_range_and_spaces_that_are_not_there)
{
    kv_batch_clear(batch);
    for (size_t i = 0; i < sizeof taking / sizeof *taking; i++) {
        const struct taking *call = &taking[i];
        refuse(call, (struct argument){NO_SPACE_OF_OURS, KEY, KEY}, "an unknown space");
        refuse(call, (struct argument){UINT32_MAX, KEY, KEY}, "an impossible space");
        refuse(call, (struct argument){0, {0}, KEY}, "an empty key");
        refuse(call, (struct argument){0, too_long(), KEY}, "a key that is too long");
        if (call->has & HAS_VALUE)
            refuse(call, (struct argument){0, KEY, kv_slice_of(too_long_bytes, KV_VALUE_LEN_MAX + 1)},
                   "a value that is too long");
    }
    cr_assert(kv_kit_is(&kit, NULL, 0, "k1", "v1"));
    cr_assert_eq(kv_seq(kit.db), 2); /* nothing was committed */
}

Test(refusals, ranges_prefixes_and_whole_spaces)
{
    struct kv_range_estimate estimate;
    struct kv_space_stats stats;
    struct kv_level_stats levels[KV_LEVELS_MAX];
    struct kv_iter *it = NULL;
    struct kv_iter_options lower = {.lower = too_long()}, upper = {.upper = too_long()};
    struct kv_subscription *subscription = NULL;
    struct kv_txn *txn = NULL;
    uint64_t n;
    const uint32_t none = NO_SPACE_OF_OURS;
    const kv_slice all = {0};
    cr_expect_eq(kv_estimate(kit.db, none, all, all, &estimate, &kit.err), KV_INVALID);
    cr_expect_eq(kv_count(kit.db, NULL, none, all, all, &n, &kit.err), KV_INVALID);
    cr_expect_eq(kv_space_stats(kit.db, none, &stats), KV_INVALID);
    cr_expect_eq(kv_levels(kit.db, none, levels), KV_INVALID);
    cr_expect_eq(kv_merge_range(kit.db, none, all, all, &kit.err), KV_INVALID);
    cr_expect_eq(kv_drop_tables(kit.db, none, all, all, NULL, &kit.err), KV_INVALID);
    cr_expect_eq(kv_drop_all(kit.db, none, &kit.err), KV_INVALID);
    cr_expect_eq(kv_drop_prefix(kit.db, none, KEY, &kit.err), KV_INVALID);
    cr_expect_eq(kv_drop_prefix(kit.db, 0, too_long(), &kit.err), KV_INVALID);
    cr_expect_eq(kv_ban_prefix(kit.db, none, KEY, &kit.err), KV_INVALID);
    cr_expect_eq(kv_ban_prefix(kit.db, 0, too_long(), &kit.err), KV_INVALID);
    cr_expect_eq(kv_iter_open_with(kit.db, none, NULL, &it), KV_INVALID);
    cr_expect_eq(kv_iter_open_with(kit.db, 0, &lower, &it), KV_INVALID);
    cr_expect_eq(kv_iter_open_with(kit.db, 0, &upper, &it), KV_INVALID);
    cr_expect_eq(kv_batch_delete_range(batch, 0, KEY, all), KV_INVALID);
    cr_expect_eq(kv_batch_delete_range(batch, 0, KEY, KEY), KV_INVALID);
    cr_expect_eq(kv_batch_delete_range(batch, 0, KEY, too_long()), KV_INVALID);
    cr_expect_eq(kv_subscribe(kit.db, &(struct kv_prefix){none, KEY}, 1, 0, &subscription, NULL, &kit.err),
                 KV_INVALID);
    cr_expect_eq(
        kv_subscribe(kit.db, &(struct kv_prefix){0, too_long()}, 1, 0, &subscription, NULL, &kit.err),
        KV_INVALID);
    cr_expect_eq(kv_subscribe(kit.db, NULL, 0, 0, &subscription, NULL, &kit.err), KV_INVALID);
    cr_expect_eq(kv_subscribe(kit.db, NULL, 65537, 0, &subscription, NULL, &kit.err), KV_INVALID);
    cr_expect_eq(kv_subscribe(kit.db, &(struct kv_prefix){0, KEY}, 1, 100, &subscription, NULL, &kit.err),
                 KV_INVALID);
    cr_expect_eq(
        kv_subscribe(kit.db, &(struct kv_prefix){0, KEY}, 1, UINT64_MAX, &subscription, NULL, &kit.err),
        KV_INVALID);
    cr_assert_eq(kv_txn_begin(kit.db, NULL, &txn, &kit.err), KV_OK);
    cr_expect_eq(kv_txn_delete_range(txn, 0, KEY, KEY, &kit.err), KV_INVALID);
    cr_expect_eq(kv_txn_delete_range(txn, 0, KEY, too_long(), &kit.err), KV_INVALID);
    cr_expect_eq(kv_txn_iter_open(txn, none, all, all, &it), KV_INVALID);
    kv_txn_abort(txn);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k1", "v1"));
}

Test(refusals, environments_have_bounds)
{
    struct kv_env *env = NULL;
    struct kv_env_options few = {.threads = KV_THREADS_NONE - 1}, many = {.threads = 100000},
                          small = {.memory_bytes = KV_MEMORY_BYTES_MIN - 1};
    cr_expect_eq(kv_env_open(&few, &env, &kit.err), KV_INVALID);
    cr_expect_eq(kv_env_open(&many, &env, &kit.err), KV_INVALID);
    cr_expect_eq(kv_env_open(&small, &env, &kit.err), KV_INVALID);
    cr_assert_eq(kv_env_open(NULL, &env, &kit.err), KV_OK); /* the defaults */
    cr_expect_eq(kv_env_threads(env), 2);
    kv_env_close(env);
    cr_expect_eq(kv_env_threads(kit.env), KV_THREADS_NONE);
    cr_expect_eq(kv_commit(kit.db, NULL, NULL, NULL, &kit.err), KV_INVALID); /* nothing to commit */
}

Test(refusals, large_value_bytes_have_bounds_on_both_sides)
{
    const uint64_t bad[] = {1, 255, (32u << 20) + 1};
    kv_kit_close(&kit);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        kit.options.large_value_bytes = bad[i];
        cr_expect_eq(kv_kit_open(&kit), KV_INVALID);
        cr_expect(strstr(kit.err.text, "large_value_bytes") != NULL, "%s", kit.err.text);
    }
}
