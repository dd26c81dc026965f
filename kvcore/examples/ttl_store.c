/*
 * ttl_store DIR - entries that expire while new ones come, and the space they took, which is used again without being asked for.
 *
 * Sessions live for a second. Merges run by themselves in the background and drop what has expired; nothing has to be called, and
 * nothing expired is ever returned meanwhile. So the tables hold a few seconds of sessions, however long this goes on.
 */
#include <kvcore/kv.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 20, PAUSE_MS = 250, SESSIONS = 300, VALUE_BYTES = 2000 };

/* Values that do not compress. */
static kv_slice noise(char value[VALUE_BYTES], unsigned seed)
{
    for (int i = 0; i < VALUE_BYTES; i++)
        value[i] = (char)rand_r(&seed);
    return kv_slice_of(value, VALUE_BYTES);
}

static kv_status add_sessions(struct kv_db *db, unsigned first, struct kv_err *err)
{
    const struct kv_put_options brief = {.expires_at_s = (uint64_t)kv_retention_clock_ms(db) / 1000 + 1};
    struct kv_batch *batch = NULL;
    char key[32], value[VALUE_BYTES];
    kv_status rc;
    KV_TRY(kv_batch_new(&batch));
    for (unsigned i = first; i < first + SESSIONS; i++) {
        snprintf(key, sizeof key, "session/%08u", i * 2654435761u); /* in no order */
        KV_TRY(kv_batch_put_with(batch, 0, kv_slice_str(key), noise(value, i), &brief));
    }
    KV_TRY(kv_commit(db, batch, NULL, NULL, err));
out:
    kv_batch_free(batch);
    return rc;
}

static kv_status count(struct kv_db *db, unsigned *live)
{
    const struct kv_iter_options options = {.keys_only = true};
    struct kv_iter *it = NULL;
    kv_status rc = kv_iter_open_with(db, 0, &options, &it);
    if (rc < 0)
        return rc;
    *live = 0;
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it))
        ++*live;
    kv_iter_close(it);
    return rc;
}

int main(int argc, char **argv)
{
    const struct kv_space_options space = {.name = "sessions", .style = KV_STYLE_LEVELLED};
    /* A small memtable, so that a small example gets to the disk: flushes are what merges follow. */
    const struct kv_options options = {.spaces = &space, .n_spaces = 1, .memtable_bytes = 1 << 20};
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L}, end = {.tv_sec = 2};
    const uint64_t written = (uint64_t)ROUNDS * SESSIONS * VALUE_BYTES;
    struct kv_env *env = NULL;
    struct kv_db *db = NULL;
    struct kv_space_stats stats = {0};
    struct kv_err err = {0};
    unsigned live = 0;
    if (argc != 2)
        return fprintf(stderr, "usage: ttl_store DIR\n"), 2;
    kv_status rc = kv_env_open(NULL, &env, &err);
    KV_TRY(rc);
    KV_TRY(kv_open(env, argv[1], &options, &db, &err));
    for (unsigned i = 0; i < ROUNDS; i++, nanosleep(&pause, NULL))
        KV_TRY(add_sessions(db, i * SESSIONS, &err));
    nanosleep(&end, NULL);
    KV_TRY(count(db, &live));
    KV_TRY(kv_space_stats(db, 0, &stats));
    printf("%d sessions written, %u live, tables hold under half of what was written: %s\n",
           ROUNDS * SESSIONS, live, stats.table_bytes < written / 2 ? "yes" : "NO");
out:
    if (rc < 0)
        fprintf(stderr, "ttl_store: %s: %s\n", kv_status_text(rc), err.text);
    if (kv_close(db, &err) < 0)
        fprintf(stderr, "ttl_store: close: %s\n", err.text);
    kv_env_close(env);
    return rc < 0 || stats.table_bytes >= written / 2;
}
