/*
 * export DIR FILE - everything in a database at one moment, to a text file, while others go on writing.
 *
 * Several threads read ranges of the keys side by side; send is called by one of them at a time. Keys of a range come in order, ranges
 * in any. (For another kvcore database there are kv_export and kv_import.) A tab stands between key and value; what is not printable is
 * written \xHH.
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

struct sheet {
    FILE *file;
    unsigned long long rows;
};

static kv_status send(void *ctx, const struct kv_stream_batch *batch, struct kv_err *err)
{
    struct sheet *sheet = ctx;
    for (size_t i = 0; i < batch->n; i++) {
        write_text(sheet->file, batch->entries[i].key);
        fputc('\t', sheet->file);
        write_text(sheet->file, batch->entries[i].value);
        fputc('\n', sheet->file);
    }
    sheet->rows += batch->n;
    return ferror(sheet->file) ? kv_fail(err, KV_IO, 0, "writing failed behind row %llu", sheet->rows)
                               : KV_OK;
}

int main(int argc, char **argv)
{
    const struct kv_space_options space = {.name = "data"};
    const struct kv_options options = {.spaces = &space, .n_spaces = 1};
    struct kv_env *env = NULL;
    struct kv_db *db = NULL;
    struct kv_err err = {0};
    if (argc != 3)
        return fprintf(stderr, "usage: export DIR FILE\n"), 2;
    FILE *file = fopen(argv[2], "w");
    if (!file)
        return perror(argv[2]), 1;
    struct sheet sheet = {.file = file};
    const struct kv_stream_options everything = {.send = send, .ctx = &sheet};
    kv_status rc = kv_env_open(NULL, &env, &err);
    KV_TRY(rc);
    KV_TRY(kv_open(env, argv[1], &options, &db, &err));
    KV_TRY(fill(db, &err)); /* so that there is something */
    KV_TRY(kv_stream(db, &everything, NULL, &err));
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
        printf("%llu entries to %s\n", sheet.rows, argv[2]);
    return rc < 0;
}
