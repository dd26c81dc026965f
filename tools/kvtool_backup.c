/* kvtool backup, backups, verify, restore, forget, stream, export. An archive is a file, or - for standard input or output; a repository is
 * a directory. */
#include "tools/archive.h"
#include "tools/kvtool.h"
#include "tools/progress.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- options that stand before the other arguments */

struct flags {
    uint64_t number, keep;
    bool plain, archive;
};

static bool number_of(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == 0 && text[0] >= '0' && text[0] <= '9' && *out > 0;
}

/* False: one that does not exist. */
static bool take_flags(int *argc, char ***argv, struct flags *flags)
{
    *flags = (struct flags){0};
    while (*argc > 0 && strncmp(**argv, "--", 2) == 0) {
        const char *name = **argv;
        int used = 1;
        if (strcmp(name, "--plain") == 0)
            flags->plain = true;
        else if (strcmp(name, "--archive") == 0)
            flags->archive = true;
        else if (*argc > 1 && strcmp(name, "--keep") == 0 && number_of((*argv)[1], &flags->keep) &&
                 flags->keep <= UINT32_MAX)
            used = 2;
        else if (*argc > 1 && strcmp(name, "--number") == 0 && number_of((*argv)[1], &flags->number))
            used = 2;
        else
            return false;
        *argc -= used;
        *argv += used;
    }
    return true;
}

/* ---- backup */

int kvtool_backup(int argc, char **argv)
{
    struct kvtool_reading r = {0};
    struct kv_backup_info info;
    struct kv_err err = {0};
    struct flags flags;
    struct progress bar;
    FILE *file = NULL;
    kv_status rc;
    if (!take_flags(&argc, &argv, &flags) || argc != 2)
        return -1;
    struct kv_repository repository = {.path = argv[1]};
    struct kv_sink sink = {0};
    struct kv_backup_options options = {.compression =
                                            flags.plain ? KV_COMPRESSION_NONE : KV_COMPRESSION_ZSTD,
                                        .keep = (uint32_t)flags.keep,
                                        .progress = progress_show,
                                        .progress_ctx = &bar};
    KV_TRY(kvtool_reading_open(argv[0], NULL, &r, &err));
    if (flags.archive) {
        KV_TRY(archive_open(argv[1], true, &file, &err));
        sink = archive_sink(file);
        options.archive = &sink;
    } else {
        options.repository = &repository;
        KV_TRY(archive_outside(argv[1], argv[0], &err));
    }
    progress_begin(&bar, "backup");
    rc = kv_backup(r.db, &options, &info, &err);
    rc = archive_done(file, argv[1], rc, &err);
    if (rc == KV_OK && file != stdout)
        archive_print_info(NULL, &info);
out:
    kvtool_reading_close(&r);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}

/* ---- an environment for what needs no database */

static kv_status quiet_env(struct kv_env **env, struct kv_err *err)
{
    struct kv_env_options options = {.threads = KV_THREADS_NONE};
    return kv_env_open(&options, env, err);
}

int kvtool_backups(int argc, char **argv)
{
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    if (argc != 1)
        return -1;
    kv_status rc = quiet_env(&env, &err);
    if (rc == KV_OK)
        rc = kv_backup_list(env, &(struct kv_repository){.path = argv[0]}, archive_print_info, NULL, &err);
    kv_env_close(env);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}

int kvtool_forget(int argc, char **argv)
{
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    struct flags flags;
    uint64_t number = 0;
    if (!take_flags(&argc, &argv, &flags) || argc != (flags.keep ? 1 : 2) ||
        (argc == 2 && !number_of(argv[1], &number)))
        return -1;
    struct kv_repository repository = {.path = argv[0]};
    kv_status rc = quiet_env(&env, &err);
    if (rc == KV_OK)
        rc = flags.keep ? kv_backup_keep(env, &repository, (uint32_t)flags.keep, &err)
                        : kv_backup_remove(env, &repository, number, &err);
    kv_env_close(env);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}

/* ---- verify, restore: of a repository, or of archives that build upon one another */

int kvtool_verify(int argc, char **argv)
{
    struct archive_from from = {0};
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    struct flags flags;
    struct progress bar;
    kv_status rc;
    if (!take_flags(&argc, &argv, &flags) || argc < 1)
        return -1;
    struct kv_restore_options options = {
        .number = flags.number, .progress = progress_show, .progress_ctx = &bar};
    KV_TRY(archive_from_open(&from, argc, argv, &options, &err));
    KV_TRY(quiet_env(&env, &err));
    progress_begin(&bar, "verify");
    rc = kv_backup_verify(env, &options, kvtool_print_finding, NULL, &err);
    if (rc == KV_OK)
        puts("sound");
out:
    kv_env_close(env);
    archive_from_close(&from);
    return rc == KV_OK        ? 0
           : rc == KV_CORRUPT ? (printf("%s\n", err.text), EXIT_FINDINGS)
                              : kvtool_trouble(&err, rc);
}

int kvtool_restore(int argc, char **argv)
{
    struct archive_from from = {0};
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    struct kv_backup_info info;
    struct flags flags;
    struct progress bar;
    kv_status rc;
    if (!take_flags(&argc, &argv, &flags) || argc < 2)
        return -1;
    struct kv_restore_options options = {
        .number = flags.number, .progress = progress_show, .progress_ctx = &bar};
    KV_TRY(archive_from_open(&from, argc - 1, argv, &options, &err));
    KV_TRY(quiet_env(&env, &err));
    progress_begin(&bar, "restore");
    rc = kv_restore(env, argv[argc - 1], &options, &info, &err);
    if (rc == KV_OK)
        archive_print_info(NULL, &info);
out:
    kv_env_close(env);
    archive_from_close(&from);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}

/* ---- stream, export */

static kv_status stream_print(void *ctx, const struct kv_stream_batch *batch, struct kv_err *err)
{
    (void)ctx;
    for (size_t i = 0; i < batch->n; i++) {
        kvtool_print_bytes(batch->entries[i].key);
        putchar(' ');
        kvtool_print_bytes(batch->entries[i].value);
        putchar('\n');
    }
    return ferror(stdout) ? kv_fail(err, KV_IO, errno, "writing to standard output") : KV_OK;
}

int kvtool_stream(int argc, char **argv)
{
    struct kvtool_reading r = {0};
    struct kv_err err = {0};
    struct kv_buf end = {0};
    kv_status rc;
    if (argc < 2 || argc > 3)
        return -1;
    struct kv_stream_options options = {.send = stream_print};
    KV_TRY(kvtool_reading_open(argv[0], argv[1], &r, &err));
    if (argc == 3) {
        options.lower = kvtool_parse_bytes(argv[2]);
        KV_TRY(kv_prefix_end(options.lower, &end));
        options.upper = kv_buf_slice(&end);
    }
    options.space = r.space;
    rc = kv_stream(r.db, &options, NULL, &err);
out:
    kv_buf_release(&end);
    kvtool_reading_close(&r);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}

int kvtool_export(int argc, char **argv)
{
    struct kvtool_reading r = {0};
    struct kv_err err = {0};
    FILE *file = NULL;
    uint64_t entries = 0;
    kv_status rc;
    if (argc != 2)
        return -1;
    KV_TRY(kvtool_reading_open(argv[0], NULL, &r, &err));
    KV_TRY(archive_open(argv[1], true, &file, &err));
    struct kv_sink sink = archive_sink(file);
    rc = kv_export(r.db, &(struct kv_export_options){0}, &sink, &entries, &err);
    rc = archive_done(file, argv[1], rc, &err);
    if (rc == KV_OK && file != stdout)
        printf("entries=%" PRIu64 "\n", entries);
out:
    kvtool_reading_close(&r);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}
