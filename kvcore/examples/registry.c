/*
 * registry DIR register NAMESPACE SERVICE TTL_S ADDRESS... | deregister NAMESPACE SERVICE [ADDRESS...] | list NAMESPACE [SERVICE]
 *
 * A service registry: instances announce themselves for a time, and are gone when they do not come back. Keys are
 * NAMESPACE/SERVICE/ADDRESS, so a namespace and a service are prefixes; all addresses of a call change in one commit.
 */
#include <kvcore/kv.h>
#include <stdio.h>
#include <stdlib.h>

/* "a/b/", what all keys below begin with, and where they end. */
static kv_status prefix_of(char **names, int n, struct kv_buf *lower, struct kv_buf *upper)
{
    kv_status rc = KV_OK;
    kv_buf_clear(lower);
    for (int i = 0; i < n && rc == KV_OK; i++)
        rc = strchr(names[i], '/') ? KV_INVALID : kv_buf_printf(lower, "%s/", names[i]);
    return rc < 0 ? rc : kv_prefix_end(kv_buf_slice(lower), upper);
}

/* put: NULL: they are deleted, all of the service when none is named. */
static kv_status change(struct kv_db *db, char **names, char **addresses, int n,
                        const struct kv_put_options *put, struct kv_err *err)
{
    struct kv_batch *batch = NULL;
    struct kv_buf lower = {0}, upper = {0};
    kv_status rc;
    KV_TRY(prefix_of(names, 2, &lower, &upper));
    KV_TRY(kv_batch_new(&batch));
    size_t prefix = lower.len;
    for (int i = 0; i < n; i++, lower.len = prefix) {
        KV_TRY(kv_buf_append(&lower, kv_slice_str(addresses[i])));
        KV_TRY(put ? kv_batch_put_with(batch, 0, kv_buf_slice(&lower), KV_STR("up"), put)
                   : kv_batch_delete(batch, 0, kv_buf_slice(&lower)));
    }
    if (n == 0)
        KV_TRY(kv_batch_delete_range(batch, 0, kv_buf_slice(&lower), kv_buf_slice(&upper)));
    KV_TRY(kv_commit(db, batch, NULL, NULL, err));
out:
    kv_batch_free(batch);
    kv_buf_release(&lower);
    kv_buf_release(&upper);
    return rc;
}

static kv_status list(struct kv_db *db, char **names, int n)
{
    struct kv_buf lower = {0}, upper = {0};
    struct kv_iter *it = NULL;
    kv_status rc;
    KV_TRY(prefix_of(names, n, &lower, &upper));
    KV_TRY(kv_iter_open(db, NULL, 0, kv_buf_slice(&lower), kv_buf_slice(&upper), &it));
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it))
        printf("%.*s %.*s\n", KV_ARG(it->key), KV_ARG(it->value));
out:
    kv_iter_close(it);
    kv_buf_release(&lower);
    kv_buf_release(&upper);
    return rc;
}

int main(int argc, char **argv)
{
    const struct kv_space_options space = {.name = "instances", .style = KV_STYLE_LEVELLED};
    const struct kv_options options = {.spaces = &space, .n_spaces = 1};
    struct kv_env *env = NULL;
    struct kv_db *db = NULL;
    struct kv_err err = {0};
    const char *verb = argc > 2 ? argv[2] : "";
    bool on = !strcmp(verb, "register") && argc >= 7, off = !strcmp(verb, "deregister") && argc >= 5,
         show = !strcmp(verb, "list") && (argc == 4 || argc == 5);
    if (!on && !off && !show) {
        fprintf(stderr, "usage: registry DIR register NAMESPACE SERVICE TTL_S ADDRESS...\n"
                        "                    deregister NAMESPACE SERVICE [ADDRESS...]\n"
                        "                    list NAMESPACE [SERVICE]\n");
        return 2;
    }
    kv_status rc = kv_env_open(NULL, &env, &err);
    if (rc == KV_OK)
        rc = kv_open(env, argv[1], &options, &db, &err);
    if (rc == KV_OK && on) {
        const struct kv_put_options put = {.expires_at_s = (uint64_t)kv_retention_clock_ms(db) / 1000 +
                                                           strtoull(argv[5], NULL, 10)};
        rc = change(db, argv + 3, argv + 6, argc - 6, &put, &err);
    } else if (rc == KV_OK) {
        rc = off ? change(db, argv + 3, argv + 5, argc - 5, NULL, &err) : list(db, argv + 3, argc - 3);
    }
    if (rc < 0)
        fprintf(stderr, "registry: %s%s%s\n", kv_status_text(rc), err.text[0] ? ": " : "", err.text);
    kv_status closed = kv_close(db, &err);
    if (closed < 0)
        fprintf(stderr, "registry: close: %s\n", err.text);
    kv_env_close(env);
    return rc < 0 || closed < 0;
}
