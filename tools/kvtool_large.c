/* kvtool put --from and get --to: values as they are, from and to files, in parts: so of any length. */
#include "tools/kvtool.h"

#include <stdio.h>
#include <string.h>

enum { PIECE_BYTES = 256 << 10 };

static kv_status append_file(struct kv_value_writer *writer, FILE *from, struct kv_err *err)
{
    static uint8_t piece[PIECE_BYTES];
    kv_status rc = KV_OK;
    size_t n;
    while (rc == KV_OK && (n = fread(piece, 1, sizeof piece, from)) > 0)
        rc = kv_value_writer_append(writer, kv_slice_of(piece, n), err);
    if (rc == KV_OK && ferror(from))
        rc = kv_fail(err, KV_IO, 0, "reading the value");
    return rc;
}

static kv_status put_file(struct kvtool_reading *r, kv_slice key, FILE *from,
                          const struct kv_put_options *put, uint64_t *version, struct kv_err *err)
{
    struct kv_value_writer *writer = NULL;
    struct kv_batch *batch = NULL;
    kv_status rc;
    KV_TRY(kv_value_writer_open(r->db, r->space, &writer, err));
    KV_TRY(append_file(writer, from, err));
    KV_TRY(kv_value_writer_finish(writer, err));
    KV_TRY(kv_batch_new(&batch));
    rc = kv_batch_put_value(batch, r->space, key, writer, put);
    if (rc < 0) {
        kv_fail(err, rc, 0, "key of %zu bytes (1 to %d): %s", key.len, KV_KEY_LEN_MAX, kv_status_text(rc));
        goto out;
    }
    KV_TRY(kv_commit(r->db, batch, NULL, version, err));
out:
    kv_batch_free(batch);
    kv_value_writer_free(writer);
    return rc;
}

int kvtool_put_from(const char *name, const char *dir, const char *space, kv_slice key,
                    const struct kv_put_options *put)
{
    struct kvtool_reading r = {0};
    struct kv_err err = {0};
    uint64_t version = 0;
    FILE *from = strcmp(name, "-") == 0 ? stdin : fopen(name, "rb");
    if (!from) {
        kv_status missing = kv_fail(&err, KV_MISSING, 0, "%.150s cannot be read", name);
        return kvtool_trouble(&err, missing);
    }
    kv_status rc = kvtool_writing_open(dir, space, &r, &err);
    if (rc == KV_OK)
        rc = put_file(&r, key, from, put, &version, &err);
    kv_status closed = kvtool_writing_close(&r, rc == KV_OK ? &err : NULL);
    if (from != stdin)
        fclose(from);
    rc = rc < 0 ? rc : closed;
    if (rc == KV_OK)
        printf("version %llu\n", (unsigned long long)version);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}

static kv_status copy_out(struct kv_value_reader *reader, FILE *to, struct kv_err *err)
{
    static uint8_t piece[PIECE_BYTES];
    size_t got = 1;
    kv_status rc = KV_OK;
    for (uint64_t at = 0; rc == KV_OK && got > 0; at += got) {
        rc = kv_value_read_at(reader, at, sizeof piece, piece, &got, err);
        if (rc == KV_OK && fwrite(piece, 1, got, to) != got)
            rc = kv_fail(err, KV_IO, 0, "writing the value");
    }
    return rc;
}

int kvtool_get_to(const char *name, const char *dir, const char *space, kv_slice key)
{
    struct kvtool_reading r = {0};
    struct kv_value_reader *reader = NULL;
    struct kv_err err = {0};
    FILE *to = NULL;
    kv_status rc = kvtool_reading_open(dir, space, &r, &err);
    if (rc == KV_OK)
        rc = kv_value_open(r.db, NULL, r.space, key, &reader, &err);
    if (rc == KV_OK) {
        to = strcmp(name, "-") == 0 ? stdout : fopen(name, "wb");
        rc = to ? copy_out(reader, to, &err) : kv_fail(&err, KV_IO, 0, "%.150s cannot be written", name);
    }
    kv_value_close(reader);
    kvtool_reading_close(&r);
    if (to && (to == stdout ? fflush(to) : fclose(to)) != 0 && rc == KV_OK)
        rc = kv_fail(&err, KV_IO, 0, "writing the value");
    return rc < 0 ? kvtool_trouble(&err, rc) : rc == KV_OK ? 0 : EXIT_FINDINGS;
}
