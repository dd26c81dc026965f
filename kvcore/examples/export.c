/*
 * export DIR FILE - everything in a database at one moment, to a text file, while others go on writing.
 *
 * An iterator pins the moment it was opened at. Values are separated from keys by a tab; what is not printable is written \xHH.
 */
#include <kvcore/kv.h>
#include <stdio.h>

static void write_text(FILE *file, kv_slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        uint8_t c = bytes.data[i];
        if (c >= ' ' && c < 0x7f && c != '\\')
            fputc(c, file);
        else
            fprintf(file, "\\x%02x", c);
    }
}

static kv_status fill(struct kv_db *db, struct kv_err *err)
{
    struct kv_batch *batch = NULL;
    char key[32];
    kv_status rc;
    KV_TRY(kv_batch_new(&batch));
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "room/%03d", i);
        KV_TRY(kv_batch_put(batch, 0, kv_slice_str(key), KV_STR("21.5\tdegrees")));
    }
    KV_TRY(kv_commit(db, batch, NULL, NULL, err));
out:
    kv_batch_free(batch);
    return rc;
}

static kv_status export(struct kv_db *db, FILE *file, uint64_t *rows)
{
    struct kv_iter *it = NULL;
    /* no_fill: what is read once need not push out what is read often */
    const struct kv_iter_options options = {.no_fill = true};
    kv_status rc = kv_iter_open_with(db, 0, &options, &it);
    if (rc < 0)
        return rc;
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK && !ferror(file); rc = kv_iter_next(it), ++*rows) {
        write_text(file, it->key);
        fputc('\t', file);
        write_text(file, it->value);
        fputc('\n', file);
    }
    kv_iter_close(it);
    return rc;
}

int main(int argc, char **argv)
{
    const struct kv_space_options space = {.name = "data"};
    const struct kv_options options = {.spaces = &space, .n_spaces = 1};
    struct kv_env *env = NULL;
    struct kv_db *db = NULL;
    struct kv_err err = {0};
    uint64_t rows = 0;
    if (argc != 3)
        return fprintf(stderr, "usage: export DIR FILE\n"), 2;
    FILE *file = fopen(argv[2], "w");
    if (!file)
        return perror(argv[2]), 1;
    kv_status rc = kv_env_open(NULL, &env, &err);
    KV_TRY(rc);
    KV_TRY(kv_open(env, argv[1], &options, &db, &err));
    KV_TRY(fill(db, &err)); /* so that there is something */
    KV_TRY(export(db, file, &rows));
out:
    if (rc < 0)
        fprintf(stderr, "export: %s: %s\n", kv_status_text(rc), err.text);
    bool written = !ferror(file);
    if (fclose(file) != 0 || !written)
        rc = KV_IO, perror(argv[2]);
    if (kv_close(db, &err) < 0)
        fprintf(stderr, "export: close: %s\n", err.text);
    kv_env_close(env);
    if (rc >= 0)
        printf("%llu entries to %s\n", (unsigned long long)rows, argv[2]);
    return rc < 0;
}
