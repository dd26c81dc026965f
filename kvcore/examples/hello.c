/* hello DIR - open, put, get, iterate, close. */
#include <kvcore/kv.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    const struct kv_space_options space = {.name = "greetings"}; /* all else: defaults */
    const struct kv_options options = {.spaces = &space, .n_spaces = 1};
    struct kv_env *env = NULL;
    struct kv_db *db = NULL;
    struct kv_batch *batch = NULL;
    struct kv_pinned got = {0};
    struct kv_iter *it = NULL;
    struct kv_err err = {0};
    kv_status rc;

    KV_TRY(kv_env_open(NULL, &env, &err));
    KV_TRY(kv_open(env, argc > 1 ? argv[1] : "hello.kv", &options, &db, &err));
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(kv_batch_put(batch, 0, KV_STR("hello"), KV_STR("world")));
    KV_TRY(kv_batch_put(batch, 0, KV_STR("goodbye"), KV_STR("moon")));
    KV_TRY(kv_commit(db, batch, NULL, NULL, &err)); /* both or none, and on disk */

    KV_TRY(kv_get(db, NULL, 0, KV_STR("hello"), &got, &err)); /* KV_NOT_FOUND is no error */
    if (rc == KV_OK)
        printf("hello %.*s\n", KV_ARG(got.value));
    KV_TRY(kv_iter_open(db, NULL, 0, (kv_slice){0}, (kv_slice){0}, &it));
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it))
        printf("%.*s = %.*s\n", KV_ARG(it->key), KV_ARG(it->value));
out: /* everything that ends something takes NULL */
    if (rc < 0)
        fprintf(stderr, "hello: %s: %s\n", kv_status_text(rc), err.text);
    kv_iter_close(it);
    kv_pinned_release(&got);
    kv_batch_free(batch);
    if (kv_close(db, &err) < 0)
        fprintf(stderr, "hello: close: %s\n", err.text);
    kv_env_close(env);
    return rc < 0;
}
