/*
 * kvtool - looks into a kvcore database from a shell, and after it. It alone may include kvcore's internal headers. What it can do is the
 * table of commands below: kvtool --help, and kvcore/docs/man/kvtool.1. This file has the commands that read files; those that read and
 * write entries, keep backups or make work lie in tools/kvtool_*.c.
 */
#include "kvcore/base/mem.h"
#include "kvcore/db/batch.h"
#include "kvcore/db/env.h"
#include "kvcore/db/keys.h"
#include "kvcore/db/log_read.h"
#include "kvcore/db/follow.h"
#include "kvcore/db/manifest.h"
#include "kvcore/db/salvage.h"
#include "kvcore/os/secret.h"
#include "kvcore/sst/attrs.h"
#include "kvcore/sst/block.h"
#include "kvcore/sst/table.h"
#include "tools/kvtool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int kvtool_trouble(const struct kv_err *err, kv_status rc)
{
    fprintf(stderr, "kvtool: %s: %s\n", kv_status_text(rc), err->text);
    return EXIT_TROUBLE;
}

/* ---- the key */

static uint8_t key_bytes[KV_MASTER_KEY_LEN];
static struct kv_key_source key; /* empty until --key-file was read; then a plain database is refused */

const struct kv_key_source *kvtool_key(void)
{
    return &key;
}

uint64_t kvtool_now_s(void)
{
    return (uint64_t)kv_clock_wall_ms(kv_clock_system()) / 1000;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* 32 bytes as they are, or as 64 digits with a line end. */
static bool key_parse(const uint8_t *text, size_t len, uint8_t out[KV_MASTER_KEY_LEN])
{
    if (len == KV_MASTER_KEY_LEN) {
        memcpy(out, text, len);
        return true;
    }
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        len--;
    for (size_t i = 0; i < len && len == 2 * KV_MASTER_KEY_LEN; i++) {
        int digit = hex_digit((char)text[i]);
        if (digit < 0)
            return false;
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | digit : digit << 4);
    }
    return len == 2 * KV_MASTER_KEY_LEN;
}

static kv_status key_read(const char *path, uint8_t out[KV_MASTER_KEY_LEN], struct kv_err *err)
{
    uint8_t text[2 * KV_MASTER_KEY_LEN + 3];
    struct stat st;
    kv_status rc = KV_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        rc = kv_fail(err, KV_MISSING, errno, "cannot read the key file %s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = kv_fail(err, KV_INVALID, 0, "the key file %s is no regular file", path);
    else if (st.st_mode & 077)
        rc = kv_fail(err, KV_INVALID, 0, "the key file %s may be read by others (mode %03o): chmod 600 %s",
                     path, (unsigned)st.st_mode & 0777, path);
    ssize_t n = rc == KV_OK ? read(fd, text, sizeof text) : 0;
    if (rc == KV_OK && (n < 0 || !key_parse(text, (size_t)n, out)))
        rc = kv_fail(err, KV_INVALID, 0, "the key file %s holds neither 32 bytes nor 64 hexadecimal digits",
                     path);
    kv_secret_wipe(text, sizeof text);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* ---- bytes as text */

void kvtool_print_bytes(kv_slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        uint8_t c = bytes.data[i];
        if (c > ' ' && c < 0x7f && c != '\\')
            putchar(c);
        else
            printf("\\x%02x", c);
    }
}

/* Undoes \xHH in place. */
kv_slice kvtool_parse_bytes(char *text)
{
    size_t n = 0;
    for (char *p = text; *p; n++) {
        if (p[0] == '\\' && p[1] == 'x' && hex_digit(p[2]) >= 0 && hex_digit(p[3]) >= 0) {
            text[n] = (char)(hex_digit(p[2]) * 16 + hex_digit(p[3]));
            p += 4;
        } else {
            text[n] = *p++;
        }
    }
    return kv_slice_of(text, n);
}

/* ---- files given by path */

struct opened {
    struct kv_dir *dir;
    struct kv_manifest manifest; /* empty unless a key was given */
    const char *name;
    char *folder;
};

static kv_status open_folder(const char *path, struct opened *out, struct kv_err *err)
{
    const char *slash = strrchr(path, '/');
    out->name = slash ? slash + 1 : path;
    out->folder = kv_dup_str(slash ? path : ".");
    if (!out->folder)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory");
    if (slash)
        out->folder[slash == path ? 1 : slash - path] = 0;
    return kv_vfs_dir_open(kv_vfs_posix(), out->folder, false, &out->dir, err);
}

/* The keys of the database a file belongs to, by the manifest that lies beside it; NULL when no key was given. */
static kv_status folder_keys(struct opened *opened, struct kv_err *err)
{
    if (!key.master_key)
        return KV_OK;
    kv_status rc = kv_manifest_load(&opened->manifest, opened->dir, kv_clock_system(), &key, err);
    if (rc == KV_NOT_FOUND)
        rc = kv_fail(err, KV_MISSING, 0, "%s holds no database, so nothing says which keys its files have",
                     opened->folder);
    return rc;
}

static void close_folder(struct opened *opened)
{
    kv_manifest_close(&opened->manifest);
    kv_dir_close(opened->dir);
    kv_free(opened->folder);
}

/* ---- dump */

static void print_line(void *ctx, const char *line)
{
    (void)ctx;
    printf("  %s\n", line);
}

static kv_status read_file(struct kv_dir *dir, const char *name, struct kv_buf *out, struct kv_err *err)
{
    struct kv_file *file = NULL;
    uint64_t size;
    kv_status rc;
    KV_TRY(kv_dir_open_file(dir, name, &file, err));
    KV_TRY(kv_file_size(file, &size, err));
    uint8_t *into = size <= KV_BUF_MAX_DEFAULT ? kv_buf_extend(out, (size_t)size) : NULL;
    rc = into ? kv_file_read_exact(file, 0, (size_t)size, into, err)
              : kv_fail(err, size ? KV_NO_MEMORY : KV_CORRUPT, 0, "%s: %" PRIu64 " bytes", name, size);
out:
    kv_file_close(file);
    return rc;
}

/* An entry's kind and what it holds, attributes and pointers in words. */
static void print_payload(enum kv_kind kind, kv_slice value)
{
    static const char *const names[] = {"delete", "put", "delete-range", "put", "put", "merge"};
    struct kv_attrs attrs = {0};
    struct kv_pointer pointer;
    bool has_attrs = kind == KV_KIND_POINTER || kind == KV_KIND_RICH || kind == KV_KIND_MERGE;
    printf("%s ", kind <= KV_KIND_KNOWN_MAX ? names[kind] : "unknown");
    if (has_attrs && kv_attrs_take(&value, &attrs) < 0) {
        printf("DAMAGED ");
        kind = KV_KIND_PUT;
    }
    if (attrs.expires_at_s)
        printf("expires=%" PRIu64 " ", attrs.expires_at_s);
    if (attrs.meta)
        printf("meta=%u ", attrs.meta);
    if (attrs.flags & KV_ATTR_ENDS_HISTORY)
        printf("ends-history ");
    if (kind == KV_KIND_POINTER && kv_pointer_take(&value, &pointer) == KV_OK)
        printf("segment=%06" PRIu64 ".vlg offset=%" PRIu64 " bytes=%" PRIu64 "%s", pointer.segment,
               pointer.offset, pointer.len, pointer.value_len ? " large" : "");
    else
        kvtool_print_bytes(value);
    putchar('\n');
}

static kv_status dump_manifest(const struct opened *at, struct kv_err *err)
{
    struct kv_buf bytes = {0};
    struct kv_file_header header;
    struct kv_file_expect expect = {
        .kind = KV_FILE_MANIFEST, .format_max = KV_MANIFEST_FORMAT, .name = at->name, .encrypted = true};
    struct kv_manifest_walk walk = {.offset = KV_FILE_HEADER_LEN, .uid = header.uid};
    struct kv_manifest_frame frame;
    kv_status rc;
    KV_TRY(read_file(at->dir, at->name, &bytes, err));
    KV_TRY(kv_file_header_check(kv_buf_slice(&bytes), &expect, &header, err));
    KV_TRY(kv_keyring_cipher(at->manifest.keys, bytes.data, 0, at->name, &walk.cipher, err));
    walk.file = kv_buf_slice(&bytes);
    while ((rc = kv_manifest_walk_next(&walk, &frame, err)) == KV_OK) {
        printf("offset=%" PRIu64 " edit=%" PRIu64 " bytes=%zu\n", frame.offset, frame.number,
               frame.fields.len);
        rc = kv_manifest_describe(frame.fields, print_line, NULL);
        if (rc < 0) {
            kv_fail(err, rc, 0, "edit %" PRIu64 " cannot be read", frame.number);
            goto out;
        }
    }
    if (rc == KV_END && walk.offset < bytes.len)
        printf("torn: %" PRIu64 " bytes behind offset %" PRIu64 "\n", bytes.len - walk.offset, walk.offset);
out:
    kv_buf_release(&walk.plain);
    kv_cipher_free(walk.cipher);
    kv_buf_release(&bytes);
    return rc;
}

static kv_status dump_table(const struct opened *at, struct kv_err *err)
{
    struct kv_cache *cache = NULL;
    struct kv_table *table = NULL;
    struct kv_entry_iter *it = NULL;
    kv_status rc;
    KV_TRY(kv_cache_new(16 << 20, &cache));
    struct kv_table_open_options options = {
        .dir = at->dir, .name = at->name, .cache = cache, .keys = at->manifest.keys};
    KV_TRY(kv_table_open(&options, &table, err));
    const struct kv_table_properties *p = kv_table_properties(table);
    printf("space=%" PRIu32 " name=%.*s entries=%" PRIu64 " deletes=%" PRIu64 " keys=%" PRIu64
           " versions=%" PRIu64 "..%" PRIu64 " blocks=%" PRIu64 " bytes=%" PRIu64 "\n",
           p->space, KV_ARG(p->space_name), p->entries, p->deletes, p->keys, p->version_min, p->version_max,
           p->data_blocks, p->file_bytes);
    struct kv_table_iter_options how = {.no_fill = true, .err = err};
    KV_TRY(kv_table_iter_open(table, &how, &it));
    for (rc = kv_entry_iter_seek(it, (kv_slice){0}, KV_VERSION_MAX); rc == KV_OK;
         rc = kv_entry_iter_next(it)) {
        kvtool_print_bytes(it->key);
        printf(" @%" PRIu64 " ", it->version);
        print_payload(it->kind, it->value);
    }
out:
    kv_entry_iter_close(it);
    kv_table_unref(table);
    kv_cache_free(cache);
    return rc;
}

static kv_status dump_commit(const struct kv_log_item *item, struct kv_err *err)
{
    kv_slice batch, record;
    struct kv_batch_entry entry;
    kv_status rc = kv_log_payload_split(item->payload, &batch, &record);
    if (rc < 0)
        return kv_fail(err, rc, 0, "the payload at offset %" PRIu64 " is malformed", item->offset);
    printf("offset=%" PRIu64 " seq=%" PRIu64 " synced=%" PRIu64 " batch=%zu record=%zu\n", item->offset,
           item->seq, item->synced, batch.len, record.len);
    while ((rc = kv_batch_next(&batch, &entry)) == KV_OK) {
        printf("  space=%" PRIu32 " ", entry.space);
        kvtool_print_bytes(entry.key);
        putchar(' ');
        print_payload(entry.kind, entry.value);
    }
    return rc;
}

static kv_status dump_log(const struct opened *at, struct kv_err *err)
{
    struct kv_log_reader reader = {0};
    struct kv_log_item item;
    struct kv_log_fragment fragment;
    uint64_t number, seq;
    kv_status rc;
    if (!kv_log_name_parse(at->name, &number))
        return kv_fail(err, KV_INVALID, 0, "%s is not the name of a log file", at->name);
    KV_TRY(kv_log_reader_open(&reader, at->dir, number, NULL, at->manifest.keys, err));
    seq = reader.header.first_seq;
    printf("first_seq=%" PRIu64 " edit=%" PRIu64 " owner_epoch=%" PRIu64 " bytes=%" PRIu64 "\n", seq,
           reader.header.edit, reader.header.owner_epoch, reader.size);
    while ((rc = kv_log_reader_next(&reader, seq, &item, err)) != KV_END) {
        if (rc == KV_OK) {
            KV_TRY(dump_commit(&item, err));
            seq = item.seq + 1;
        } else if (rc == KV_CORRUPT) {
            printf("no valid record at offset=%" PRIu64 "\n", reader.offset);
            KV_TRY(kv_log_reader_resync(&reader, &fragment, err));
            if (rc == KV_END)
                break;
            seq = fragment.seq;
        } else {
            goto out;
        }
    }
out:
    kv_log_reader_close(&reader);
    return rc;
}

/* ---- check, info */

void kvtool_print_finding(void *ctx, kv_status severity, const char *line)
{
    (void)ctx;
    printf("%s%s\n", severity < 0 ? "DAMAGE " : "", line);
}

static int command_check(int argc, char **argv)
{
    struct kv_env_options options = {.threads = KV_THREADS_NONE};
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    if (argc != 1)
        return -1;
    kv_status rc = kv_env_open(&options, &env, &err);
    if (rc == KV_OK)
        rc = kv_check_with_key(env, argv[0], &key, kvtool_print_finding, NULL, &err);
    kv_env_close(env);
    if (rc == KV_OK)
        puts("sound");
    return rc == KV_OK        ? 0
           : rc == KV_CORRUPT ? (printf("%s\n", err.text), EXIT_FINDINGS)
                              : kvtool_trouble(&err, rc);
}

static bool follow;     /* --follow: another process may be writing it */
static bool may_follow; /* the command knows it */

static kv_status manifest_of(const char *path, struct kv_dir **dir, struct kv_manifest *manifest,
                             struct kv_err *err)
{
    kv_status rc = kv_vfs_dir_open(kv_vfs_posix(), path, false, dir, err);
    if (rc == KV_OK)
        rc = follow ? kv_follow_load(manifest, *dir, kv_clock_system(), &key, err)
                    : kv_manifest_load(manifest, *dir, kv_clock_system(), &key, err);
    return rc == KV_NOT_FOUND ? kv_fail(err, KV_MISSING, 0, "%s holds no database", path) : rc;
}

static void print_info(const struct kv_manifest *manifest)
{
    const struct kv_manifest_state *s = &manifest->state;
    printf("manifest       %s\nuuid           %016" PRIx64 "%016" PRIx64 "\nedit           %" PRIu64
           "\nowner_epoch    %" PRIu64 "\nlog_floor      %" PRIu64 "\napp_floor      %" PRIu64
           "\nlog_current    %" PRIu64 "\nretention_ms   %" PRId64 "\n",
           manifest->name, kv_get_be64(s->uuid), kv_get_be64(s->uuid + 8), s->edit, s->owner_epoch,
           s->log_floor, s->app_floor, s->log_current, s->retention_ms);
    if (manifest->keys)
        printf("master key     %016" PRIx64 "\n", kv_keyring_master(manifest->keys));
    for (size_t i = 0; i < s->n_keys; i++)
        printf("data key       %" PRIu64 " created_ms=%" PRId64 " sealed=%" PRIu64 "\n", s->keys[i].id,
               s->keys[i].created_ms, s->keys[i].sealed);
    for (uint32_t i = 0; i < s->n_spaces; i++) {
        uint64_t tables = 0, bytes = 0, entries = 0;
        for (size_t k = 0; k < s->n_tables; k++)
            if (s->tables[k]->space == i) {
                tables++;
                bytes += s->tables[k]->bytes;
                entries += s->tables[k]->entries;
            }
        printf("space          %s tables=%" PRIu64 " bytes=%" PRIu64 " entries=%" PRIu64 "\n",
               s->spaces[i].name, tables, bytes, entries);
    }
    for (size_t i = 0; i < s->n_seals; i++)
        printf("sealed log     %06" PRIu64 ".log bytes=%" PRIu64 " last_seq=%" PRIu64
               " last_record_seq=%" PRIu64 "\n",
               s->seals[i].number, s->seals[i].valid_len, s->seals[i].last_seq, s->seals[i].last_record_seq);
}

/* Every table by space, level and run. */
static void print_tree(const struct kv_manifest_state *s)
{
    for (uint32_t space = 0; space < s->n_spaces; space++) {
        printf("space %s (%s)\n", s->spaces[space].name,
               s->spaces[space].style == KV_STYLE_LEVELLED ? "levelled" : "runs");
        for (uint32_t level = 0; level < KV_LEVELS_MAX; level++)
            for (size_t i = 0; i < s->n_tables; i++) {
                const struct kv_table_meta *t = s->tables[i];
                if (t->space != space || t->level != level)
                    continue;
                printf("  level=%" PRIu32 " run=%" PRIu64 " table=%06" PRIu64 ".tbl bytes=%" PRIu64
                       " entries=%" PRIu64 " deletions=%" PRIu64 " versions=%" PRIu64 "..%" PRIu64 " keys=",
                       level, t->run, t->number, t->bytes, t->entries, t->deletions, t->version_min,
                       t->version_max);
                kvtool_print_bytes(t->smallest);
                printf("..");
                kvtool_print_bytes(t->largest);
                putchar('\n');
            }
        for (size_t i = 0; i < s->n_ranges; i++)
            if (s->ranges[i]->space == space) {
                printf("  range deleted at version=%" PRIu64 ": ", s->ranges[i]->version);
                kvtool_print_bytes(s->ranges[i]->lower);
                printf("..");
                kvtool_print_bytes(s->ranges[i]->upper);
                putchar('\n');
            }
    }
}

/* Adds what a table points at to live, by the place of its segment. */
static kv_status add_value_refs(const struct kv_table *table, const struct kv_manifest_state *s,
                                uint64_t *live)
{
    kv_slice refs = kv_table_properties(table)->value_refs;
    while (refs.len > 0) {
        uint64_t number, bytes;
        if (kv_take_varint(&refs, &number) < 0 || kv_take_varint(&refs, &bytes) < 0)
            return KV_CORRUPT;
        for (size_t i = 0; i < s->n_segments; i++)
            live[i] += s->segments[i].number == number ? bytes : 0;
    }
    return KV_OK;
}

/* Every segment of the value log, and how much of it tables still point at. */
static kv_status print_vlog(const struct kv_manifest *manifest, struct kv_dir *dir, struct kv_err *err)
{
    const struct kv_manifest_state *s = &manifest->state;
    struct kv_cache *cache = NULL;
    uint64_t *live = kv_zalloc(s->n_segments, sizeof *live);
    if (!live)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory");
    kv_status rc = kv_cache_new(16 << 20, &cache);
    for (size_t i = 0; rc >= 0 && s->n_segments && i < s->n_tables; i++) {
        struct kv_table *table = NULL;
        char name[32];
        kv_file_name(name, s->tables[i]->number, KV_NAME_TABLE);
        struct kv_table_open_options options = {
            .dir = dir, .name = name, .cache = cache, .keys = manifest->keys};
        rc = kv_table_open(&options, &table, err);
        if (rc >= 0 && (rc = add_value_refs(table, s, live)) < 0)
            kv_fail(err, rc, 0, "%s: its list of values cannot be read", name);
        kv_table_unref(table);
    }
    for (size_t i = 0; rc >= 0 && i < s->n_segments; i++)
        printf("segment=%06" PRIu64 ".vlg bytes=%" PRIu64 " live=%" PRIu64 "\n", s->segments[i].number,
               s->segments[i].bytes, live[i]);
    kv_cache_free(cache);
    kv_free(live);
    return rc;
}

static int dump_database(const char *what, const char *path)
{
    struct kv_manifest manifest = {0};
    struct kv_dir *dir = NULL;
    struct kv_err err = {0};
    kv_status rc = manifest_of(path, &dir, &manifest, &err);
    if (rc == KV_OK && strcmp(what, "vlog") == 0)
        rc = print_vlog(&manifest, dir, &err);
    else if (rc == KV_OK)
        print_tree(&manifest.state);
    kv_manifest_close(&manifest);
    kv_dir_close(dir);
    return rc == KV_OK ? 0 : kvtool_trouble(&err, rc);
}

static int command_dump(int argc, char **argv)
{
    struct opened at = {0};
    struct kv_err err = {0};
    if (argc != 2)
        return -1;
    if (strcmp(argv[0], "tree") == 0 || strcmp(argv[0], "vlog") == 0)
        return dump_database(argv[0], argv[1]);
    kv_status rc = open_folder(argv[1], &at, &err);
    if (rc == KV_OK)
        rc = folder_keys(&at, &err);
    if (rc == KV_OK)
        rc = strcmp(argv[0], "manifest") == 0 ? dump_manifest(&at, &err)
             : strcmp(argv[0], "table") == 0  ? dump_table(&at, &err)
             : strcmp(argv[0], "log") == 0 || strcmp(argv[0], "wal") == 0
                 ? dump_log(&at, &err)
                 : kv_fail(&err, KV_INVALID, 0, "%s is none of log, table, manifest, tree, vlog", argv[0]);
    close_folder(&at);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}

static int command_info(int argc, char **argv)
{
    struct kv_manifest manifest = {0};
    struct kv_dir *dir = NULL;
    struct kv_err err = {0};
    if (argc != 1)
        return -1;
    kv_status rc = manifest_of(argv[0], &dir, &manifest, &err);
    if (rc == KV_OK)
        print_info(&manifest);
    kv_manifest_close(&manifest);
    kv_dir_close(dir);
    return rc == KV_OK ? 0 : kvtool_trouble(&err, rc);
}

/* ---- reading entries: the spaces are those of the manifest, without their owner's cuts and hooks */

static kv_status db_open(const char *path, const char *space, bool read_only, struct kvtool_reading *out,
                         struct kv_err *err)
{
    struct kv_manifest manifest = {0};
    struct kv_dir *dir = NULL;
    struct kv_space_options spaces[KV_SPACES_MAX] = {{0}};
    struct kv_env_options env = {.threads = KV_THREADS_NONE};
    kv_status rc;
    KV_TRY(manifest_of(path, &dir, &manifest, err));
    out->space = space ? manifest.state.n_spaces : 0;
    for (uint32_t i = 0; i < manifest.state.n_spaces; i++) {
        spaces[i] = (struct kv_space_options){.name = manifest.state.spaces[i].name,
                                              .style = manifest.state.spaces[i].style};
        if (space && strcmp(spaces[i].name, space) == 0)
            out->space = i;
    }
    if (out->space == manifest.state.n_spaces) {
        rc = kv_fail(err, KV_INVALID, 0, "%s has no space %s", path, space);
        goto out;
    }
    struct kv_options options = {.spaces = spaces,
                                 .n_spaces = manifest.state.n_spaces,
                                 .read_only = read_only,
                                 .follow = read_only && follow,
                                 .must_exist = true,
                                 .memtable_bytes = (uint64_t)4 << 30, /* no flush but a wanted one */
                                 .log_bytes_max = (uint64_t)1 << 40,
                                 .key = key};
    KV_TRY(kv_env_open(&env, &out->env, err));
    rc = kv_open(out->env, path, &options, &out->db, err);
    if (rc == KV_BUSY && may_follow) {
        struct kv_err busy = *err;
        kv_fail(err, rc, 0, "%.180s: --follow reads beside it", busy.text);
    }
out:
    kv_manifest_close(&manifest);
    kv_dir_close(dir);
    return rc;
}

kv_status kvtool_reading_open(const char *path, const char *space, struct kvtool_reading *out,
                              struct kv_err *err)
{
    return db_open(path, space, true, out, err);
}

kv_status kvtool_writing_open(const char *path, const char *space, struct kvtool_reading *out,
                              struct kv_err *err)
{
    return db_open(path, space, false, out, err);
}

kv_status kvtool_writing_close(struct kvtool_reading *writing, struct kv_err *err)
{
    kv_status rc = kv_close(writing->db, err);
    kv_env_close(writing->env);
    return rc;
}

void kvtool_reading_close(struct kvtool_reading *reading)
{
    kv_status rc = kv_close(reading->db, NULL); /* read-only: nothing can be lost */
    (void)rc;
    kv_env_close(reading->env);
}

static int command_get(int argc, char **argv)
{
    struct kvtool_reading r = {0};
    struct kv_pinned value = {0};
    struct kv_err err = {0};
    char *to = NULL;
    const struct tool_option options[] = {{.name = "--to", .text = &to}};
    argc = tool_options(argc, argv, options, 1);
    if (argc < 0)
        return EXIT_TROUBLE;
    if (argc != 3)
        return -1;
    if (to)
        return kvtool_get_to(to, argv[0], argv[1], kvtool_parse_bytes(argv[2]));
    kv_status rc = kvtool_reading_open(argv[0], argv[1], &r, &err);
    if (rc == KV_OK)
        rc = kv_get(r.db, NULL, r.space, kvtool_parse_bytes(argv[2]), &value, &err);
    if (rc == KV_OK) {
        kvtool_print_bytes(value.value);
        putchar('\n');
    }
    kv_pinned_release(&value);
    kvtool_reading_close(&r);
    return rc < 0 ? kvtool_trouble(&err, rc) : rc == KV_OK ? 0 : EXIT_FINDINGS;
}

/* ---- salvage */

static void log_line(void *ctx, enum kv_log_level level, const char *line, size_t len)
{
    (void)ctx, (void)level, (void)len;
    fprintf(stderr, "%s\n", line);
}

static int command_salvage(int argc, char **argv)
{
    struct kv_env_options options = {.threads = KV_THREADS_NONE,
                                     .log = {.sink = log_line, .level = KV_LOG_WARN}};
    struct kv_salvage_report report = {0};
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    if (argc != 1)
        return -1;
    kv_status rc = kv_env_open(&options, &env, &err);
    if (rc == KV_OK)
        rc = kv_salvage(env, argv[0], &key, &report, &err);
    kv_env_close(env);
    if (rc < 0)
        return kvtool_trouble(&err, rc);
    printf("%" PRIu64 " commits of the log kept, %" PRIu64 " lost; the old log files are in %s.damaged\n",
           report.kept, report.lost, argv[0]);
    if (report.values_lost)
        printf("%" PRIu64 " large values are lost: their keys are deleted\n", report.values_lost);
    return report.lost || report.values_lost ? EXIT_FINDINGS : 0;
}

/* ---- keys */

static int command_rotate_key(int argc, char **argv)
{
    struct kv_env_options options = {.threads = KV_THREADS_NONE};
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    uint8_t next[KV_MASTER_KEY_LEN];
    if (argc != 2)
        return -1;
    kv_status rc = kv_env_open(&options, &env, &err);
    if (rc == KV_OK)
        rc = key_read(argv[1], next, &err);
    if (rc == KV_OK)
        rc = kv_rotate_closed(env, argv[0], &key, next, &err);
    kv_secret_wipe(next, sizeof next);
    kv_env_close(env);
    if (rc == KV_OK)
        printf("%s is now under the key of %s\n", argv[0], argv[1]);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}

static int command_key_id(int argc, char **argv)
{
    struct kv_err err = {0};
    uint8_t bytes[KV_MASTER_KEY_LEN];
    uint64_t id = 0;
    if (argc != 1)
        return -1;
    kv_status rc = key_read(argv[0], bytes, &err);
    if (rc == KV_OK)
        rc = kv_master_key_id(bytes, &id);
    kv_secret_wipe(bytes, sizeof bytes);
    if (rc == KV_OK)
        printf("%016" PRIx64 "\n", id);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv); /* -1: wrong arguments */
    const char *arguments, *about;
} commands[] = {
    {"info", command_info, "[--follow] DIR",
     "What the manifest says: identity, floors, keys, spaces, sealed log files."},
    {"health", kvtool_health, "[--follow] DIR",
     "How a database is, opened read-only, as lines of key=value: disk, log, damage, clock, last backup and "
     "check. Exit\n"
     "status 1 when something asks for attention."},
    {"get", command_get, "[--follow] [--to FILE|-] DIR SPACE KEY",
     "The value of a key; exit status 1 when there is none. --to: its bytes as they are, of any length."},
    {"put", kvtool_put,
     "[--ttl SECONDS] [--meta 0-255] [--from FILE|-] [--plain-space] DIR SPACE KEY [VALUE]",
     "Writes an entry, synced. Appends to the log alone: flushes and merges are left to the space's owner, "
     "so its hook, cuts and\n"
     "merge operator are not passed by. --ttl, --meta and --from (the value: a file, up to "
     "1 GiB) need --plain-space: the space has no hook."},
    {"scan", kvtool_scan,
     "[--follow] [--prefix P] [--reverse] [--versions] [--keys-only] [--hex] [--limit N] DIR SPACE [LOWER "
     "[UPPER]]",
     "Keys and values of [LOWER, UPPER), or of a prefix. --versions: every version kept, with deletions "
     "(gone).\n"
     "--hex: digits instead of \\xHH."},
    {"del", kvtool_del, "DIR SPACE KEY", "Deletes a key, synced. Like put, it appends to the log alone."},
    {"del-range", kvtool_del_range, "--plain-space DIR SPACE LOWER UPPER",
     "Deletes every key of [LOWER, UPPER) in O(1). --plain-space: the space has no hook."},
    {"stream", kvtool_stream, "[--follow] DIR SPACE [PREFIX]",
     "Keys and values of one moment, read by several threads."},
    {"export", kvtool_export, "[--follow] DIR FILE|-", "Entries of all spaces as one stream, for kv_import."},
    {"backup", kvtool_backup, "[--plain] [--keep N] DIR REPOSITORY | backup [--plain] --archive DIR FILE|-",
     "A backup into a repository, which copies only what it lacks, or as one archive."},
    {"backups", kvtool_backups, "REPOSITORY", "The backups a repository has."},
    {"verify", kvtool_verify, "[--number N] REPOSITORY | verify ARCHIVE...",
     "Reads backups whole and checks every sum."},
    {"restore", kvtool_restore, "[--number N] REPOSITORY DIR | restore ARCHIVE... DIR",
     "Makes a backup a database in DIR, which must be missing or empty."},
    {"forget", kvtool_forget, "REPOSITORY NUMBER | forget --keep N REPOSITORY",
     "Removes backups, and the files only they need."},
    {"check", command_check, "DIR",
     "Reads every file of a closed database: checksums, order, references. Exit status 1: findings."},
    {"salvage", command_salvage, "DIR",
     "Writes what can be read of a damaged log into a new one; the old one stays in DIR.damaged. Exit status "
     "1: commits were lost."},
    {"repair", kvtool_repair, "[--spaces NAME[:levelled],...] DIR",
     "Makes a damaged database one that opens, with all that can be read: a manifest that is lost is made "
     "again from the "
     "files, of a damaged\n"
     "table the readable blocks are kept, the log is read past its holes. What leaves the database is kept "
     "in DIR.damaged. "
     "--spaces: all spaces\n"
     "in the order they are opened with, wanted only when no manifest can be read. Exit status 1: something "
     "was lost."},
    {"compact", kvtool_compact, "--plain-space DIR SPACE [LOWER [UPPER]]",
     "Merges a range to the bottom, which drops what is deleted, expired or superseded. Never needed for "
     "space to come back.\n"
     "--plain-space: the space has no hook, cuts, merge operator, versions to keep or separated values, "
     "which kvtool cannot "
     "know and would not honour."},
    {"rotate-key", command_rotate_key, "DIR NEW_KEY_FILE",
     "Makes another key the master key of an encrypted database."},
    {"key-id", command_key_id, "KEY_FILE", "What a key is called in texts."},
    {"dump", command_dump, "log|wal|table|manifest FILE | dump tree|vlog DIR",
     "Every record, entry or edit of a file; or every table of a database by space, level and run;\n"
     "or every segment of its value log, and how much of it is live."},
    {"histogram", kvtool_histogram, "[--follow] DIR SPACE",
     "Sizes of keys and values, versions of a key, what is deleted or expired, tables by level."},
    {"bench", kvtool_bench, "[--entries N] [--value-bytes N] [--separate BYTES] DIR",
     "Quick numbers of this machine: fill, flush, read, scan, in a database of its own in DIR. --separate: "
     "values from this length on\n"
     "go to the value log."},
    {"bank", kvtool_bank, "run [--seconds N] [--threads N] [--accounts N] DIR | bank verify DIR",
     "Moves money between accounts by many threads for a while, looking at the sum meanwhile; and whether it "
     "is still right, after a crash,\n"
     "say. Exit status 1: money was made or lost."},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void usage(FILE *to)
{
    fprintf(to, "usage: kvtool [--key-file FILE] COMMAND ...\n\n");
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].arguments);
    fprintf(to, "\n--key-file: of an encrypted database: 32 bytes or 64 hexadecimal digits, in a file only "
                "its owner may read.\n"
                "--follow: reads the database as it is at this moment beside the process that writes it.\n"
                "Keys and values are printed and given with \\xHH for what is not printable.\n"
                "Exit status: 0 fine, 1 findings or not found, 2 wrong usage or a failure.\n"
                "kvtool COMMAND --help says more of one.\n");
}

static int run_command(const struct command *command, int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0) {
            printf("usage: kvtool %s %s\n%s\n", command->name, command->arguments, command->about);
            return 0;
        }
    int kept = 0;
    may_follow = strstr(command->arguments, "--follow") != NULL;
    for (int i = 0, ended = !may_follow; i < argc; i++) {
        ended = ended || strcmp(argv[i], "--") == 0;
        if (!ended && strcmp(argv[i], "--follow") == 0)
            follow = true;
        else
            argv[kept++] = argv[i];
    }
    argc = kept;
    int code = command->run(argc, argv);
    if (code >= 0)
        return code;
    fprintf(stderr, "usage: kvtool %s %s\n", command->name, command->arguments);
    return EXIT_TROUBLE;
}

static int dispatch(int argc, char **argv)
{
    const char *names[COMMANDS + 1];
    if (argc < 1) {
        usage(stderr);
        return EXIT_TROUBLE;
    }
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "help") == 0) {
        usage(stdout);
        return 0;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[0], commands[i].name) == 0)
            return run_command(&commands[i], argc - 1, argv + 1);
        names[i] = commands[i].name;
    }
    names[COMMANDS] = "--key-file";
    bool option = argv[0][0] == '-';
    tool_unknown(option ? "option" : "command", argv[0], option ? names + COMMANDS : names,
                 option ? 1 : COMMANDS);
    return EXIT_TROUBLE;
}

int main(int argc, char **argv)
{
    struct kv_err err = {0};
    if (argc > 2 && strcmp(argv[1], "--key-file") == 0) {
        kv_status rc = key_read(argv[2], key_bytes, &err);
        if (rc < 0)
            return kvtool_trouble(&err, rc);
        key.master_key = key_bytes;
        argc -= 2;
        argv += 2;
    }
    int code = dispatch(argc - 1, argv + 1);
    kv_secret_wipe(key_bytes, sizeof key_bytes);
    return code;
}
