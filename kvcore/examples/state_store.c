/*
 * state_store DIR set KEY VALUE | get KEY | delete KEY | list [PREFIX] - a program's state: small values, written often.
 *
 * A write is answered before it is synced, and synced within 200 ms by the database itself (KV_DURABILITY_INTERVAL): after a crash of
 * the program nothing is missing, after a power cut the last moment may be, always as a whole: never the later of two writes alone.
 * kv_sync makes all of it durable where that matters.
 */
#include <kvcore/kv.h>
#include <stdio.h>

static kv_status write_one(struct kv_db *db, const char *key, const char *value, struct kv_err *err)
{
    struct kv_batch *batch = NULL;
    kv_status rc;
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(value ? kv_batch_put(batch, 0, kv_slice_str(key), kv_slice_str(value))
                 : kv_batch_delete(batch, 0, kv_slice_str(key)));
    KV_TRY(kv_commit(db, batch, NULL, NULL, err));
    KV_TRY(kv_sync(db, err)); /* this program ends now; one that runs on leaves it to the interval */
out:
    kv_batch_free(batch);
    return rc;
}

static kv_status print_one(struct kv_db *db, const char *key, struct kv_err *err)
{
    struct kv_pinned got;
    kv_status rc = kv_get(db, NULL, 0, kv_slice_str(key), &got, err);
    if (rc == KV_OK)
        printf("%.*s\n", KV_ARG(got.value));
    kv_pinned_release(&got);
    return rc;
}

static kv_status list(struct kv_db *db, const char *prefix)
{
    struct kv_buf upper = {0};
    struct kv_iter *it = NULL;
    kv_status rc;
    KV_TRY(kv_prefix_end(kv_slice_str(prefix), &upper));
    KV_TRY(kv_iter_open(db, NULL, 0, kv_slice_str(prefix), kv_buf_slice(&upper), &it));
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it))
        printf("%.*s = %.*s\n", KV_ARG(it->key), KV_ARG(it->value));
out:
    kv_iter_close(it);
    kv_buf_release(&upper);
    return rc;
}

int main(int argc, char **argv)
{
    const struct kv_space_options space = {.name = "state"};
    const struct kv_options options = {
        .spaces = &space, .n_spaces = 1, .durability = KV_DURABILITY_INTERVAL, .sync_interval_ms = 200};
    struct kv_env *env = NULL;
    struct kv_db *db = NULL;
    struct kv_err err = {0};
    const char *verb = argc > 2 ? argv[2] : "";
    bool set = !strcmp(verb, "set") && argc == 5, get = !strcmp(verb, "get") && argc == 4,
         delete = !strcmp(verb, "delete") && argc == 4, all = !strcmp(verb, "list") && argc <= 4;
    if (!set && !get && !delete &&!all) {
        fprintf(stderr, "usage: state_store DIR set KEY VALUE | get KEY | delete KEY | list [PREFIX]\n");
        return 2;
    }
    kv_status rc = kv_env_open(NULL, &env, &err);
    if (rc == KV_OK)
        rc = kv_open(env, argv[1], &options, &db, &err);
    if (rc == KV_OK)
        rc = all   ? list(db, argc == 4 ? argv[3] : "")
             : get ? print_one(db, argv[3], &err)
                   : write_one(db, argv[3], set ? argv[4] : NULL, &err);
    if (rc < 0 || rc == KV_NOT_FOUND)
        fprintf(stderr, "state_store: %s%s%s\n", kv_status_text(rc), err.text[0] ? ": " : "", err.text);
    kv_status closed = kv_close(db, &err);
    if (closed < 0)
        fprintf(stderr, "state_store: close: %s\n", err.text);
    kv_env_close(env);
    return rc < 0 || rc == KV_NOT_FOUND || closed < 0;
}
