/*
 * kvtool put, del, del-range, compact. A manifest knows of a space its name and style, not its owner's hook, cuts, merge operator and
 * versions to keep. So put and del only append to the log: nothing is flushed or merged here, the owner does that. What would need to know
 * more is refused unless --plain-space says that there is nothing to know.
 */
#include "tools/kvtool.h"

#include <inttypes.h>
#include <stdio.h>

static int needs_plain(const char *command)
{
    fprintf(stderr,
            "kvtool: %s would ignore the hook, cuts, merge operator, versions to keep and separation of "
            "values that the space's "
            "owner may have "
            "declared. If it has none of these: --plain-space\n",
            command);
    return EXIT_TROUBLE;
}

static kv_status commit_and_close(struct kvtool_reading *r, kv_status rc, struct kv_batch *batch,
                                  struct kv_err *err)
{
    uint64_t version = 0;
    if (rc == KV_OK)
        rc = kv_commit(r->db, batch, NULL, &version, err);
    kv_batch_free(batch);
    kv_status closed = kvtool_writing_close(r, rc == KV_OK ? err : NULL);
    if (rc == KV_OK && closed == KV_OK)
        printf("version %" PRIu64 "\n", version);
    return rc < 0 ? rc : closed;
}

static int write_one(const char *dir, const char *space, kv_slice key, const kv_slice *value,
                     const struct kv_put_options *put)
{
    struct kvtool_reading r = {0};
    struct kv_batch *batch = NULL;
    struct kv_err err = {0};
    kv_status rc = kvtool_writing_open(dir, space, &r, &err);
    if (rc == KV_OK && (rc = kv_batch_new(&batch)) == KV_OK) {
        rc = value ? kv_batch_put_with(batch, r.space, key, *value, put)
                   : kv_batch_delete(batch, r.space, key);
        if (rc < 0)
            snprintf(err.text, sizeof err.text, "key of %zu bytes (1 to %d), value of %zu bytes (0 to %d)",
                     key.len, KV_KEY_LEN_MAX, value ? value->len : 0, KV_VALUE_LEN_MAX);
    }
    rc = commit_and_close(&r, rc, batch, &err);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}

int kvtool_put(int argc, char **argv)
{
    uint64_t ttl = 0, meta = 0;
    bool plain = false;
    char *from = NULL;
    const struct tool_option options[] = {{.name = "--ttl", .number = &ttl},
                                          {.name = "--meta", .number = &meta},
                                          {.name = "--from", .text = &from},
                                          {.name = "--plain-space", .flag = &plain}};
    argc = tool_options(argc, argv, options, 4);
    if (argc < 0)
        return EXIT_TROUBLE;
    if (argc != (from ? 3 : 4) || meta > UINT8_MAX)
        return -1;
    if ((ttl || meta || from) && !plain)
        return needs_plain("put with --ttl, --meta or --from");
    struct kv_put_options put = {.meta = (uint8_t)meta};
    if (ttl)
        put.expires_at_s = kvtool_now_s() + ttl;
    if (from)
        return kvtool_put_from(from, argv[0], argv[1], kvtool_parse_bytes(argv[2]), &put);
    kv_slice value = kvtool_parse_bytes(argv[3]);
    return write_one(argv[0], argv[1], kvtool_parse_bytes(argv[2]), &value, &put);
}

int kvtool_del(int argc, char **argv)
{
    argc = tool_options(argc, argv, NULL, 0);
    if (argc < 0)
        return EXIT_TROUBLE;
    return argc == 3 ? write_one(argv[0], argv[1], kvtool_parse_bytes(argv[2]), NULL, NULL) : -1;
}

int kvtool_del_range(int argc, char **argv)
{
    struct kvtool_reading r = {0};
    struct kv_batch *batch = NULL;
    struct kv_err err = {0};
    bool plain = false;
    const struct tool_option options[] = {{.name = "--plain-space", .flag = &plain}};
    argc = tool_options(argc, argv, options, 1);
    if (argc < 0)
        return EXIT_TROUBLE;
    if (argc != 4)
        return -1;
    if (!plain)
        return needs_plain("del-range");
    kv_status rc = kvtool_writing_open(argv[0], argv[1], &r, &err);
    if (rc == KV_OK && (rc = kv_batch_new(&batch)) == KV_OK) {
        rc = kv_batch_delete_range(batch, r.space, kvtool_parse_bytes(argv[2]), kvtool_parse_bytes(argv[3]));
        if (rc < 0)
            snprintf(err.text, sizeof err.text, "LOWER must be below UPPER, and neither be empty");
    }
    rc = commit_and_close(&r, rc, batch, &err);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}

int kvtool_compact(int argc, char **argv)
{
    struct kvtool_reading r = {0};
    struct kv_err err = {0};
    bool plain = false;
    uint64_t before = 0, after = 0;
    const struct tool_option options[] = {{.name = "--plain-space", .flag = &plain}};
    argc = tool_options(argc, argv, options, 1);
    if (argc < 0)
        return EXIT_TROUBLE;
    if (argc < 2 || argc > 4)
        return -1;
    if (!plain)
        return needs_plain("compact");
    kv_status rc = kvtool_writing_open(argv[0], argv[1], &r, &err);
    KV_TRY(rc);
    before = kv_disk_bytes(r.db);
    KV_TRY(kv_merge_range(r.db, r.space, argc > 2 ? kvtool_parse_bytes(argv[2]) : (kv_slice){0},
                          argc > 3 ? kvtool_parse_bytes(argv[3]) : (kv_slice){0}, &err));
    after = kv_disk_bytes(r.db);
out:;
    kv_status closed = kvtool_writing_close(&r, rc >= 0 ? &err : NULL);
    rc = rc < 0 ? rc : closed;
    if (rc >= 0)
        printf("%" PRIu64 " bytes before, %" PRIu64 " after\n", before, after);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}
