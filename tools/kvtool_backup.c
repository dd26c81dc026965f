/* kvtool backup, backups, verify, restore, forget, stream, export. An archive is a file, or - for standard input or output; a repository is
 * a directory. */
#include "kvcore/base/mem.h"
#include "kvcore/os/clock.h"
#include "tools/kvtool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- progress: a bar with rate and time left on a terminal, a line for each tenth otherwise */

struct bar {
    const char *what;
    uint64_t began_ns, drawn_ns;
    uint64_t tenth;
    bool terminal;
};

static void bar_begin(struct bar *bar, const char *what)
{
    *bar = (struct bar){
        .what = what, .began_ns = kv_clock_mono_ns(kv_clock_system()), .terminal = isatty(STDERR_FILENO)};
}

static void bar_draw(const struct bar *bar, const struct kv_progress *p, double seconds)
{
    enum { WIDTH = 30 };
    double part = p->bytes ? (double)p->bytes_done / (double)p->bytes : 0;
    double rate = seconds > 0 ? (double)p->bytes_done / seconds : 0;
    char cells[WIDTH + 1];
    for (int i = 0; i < WIDTH; i++)
        cells[i] = i < part * WIDTH ? '#' : '.';
    cells[WIDTH] = 0;
    fprintf(stderr, "\r%s [%s] %3.0f%%  %.1f MB/s", bar->what, cells, part * 100, rate / 1e6);
    if (rate > 0 && p->bytes > p->bytes_done) {
        uint64_t left = (uint64_t)((double)(p->bytes - p->bytes_done) / rate);
        fprintf(stderr, "  %" PRIu64 ":%02" PRIu64 " left ", left / 60, left % 60);
    } else {
        fprintf(stderr, "             ");
    }
}

static kv_status bar_progress(void *ctx, const struct kv_progress *p)
{
    struct bar *bar = ctx;
    uint64_t now = kv_clock_mono_ns(kv_clock_system());
    double seconds = (double)(now - bar->began_ns) / 1e9;
    bool last = p->bytes && p->bytes_done >= p->bytes;
    if (bar->terminal && (last || now - bar->drawn_ns > 200000000)) {
        bar_draw(bar, p, seconds);
        bar->drawn_ns = now;
        if (last)
            fputc('\n', stderr);
    }
    uint64_t tenth = p->bytes ? p->bytes_done * 10 / p->bytes : 0;
    if (!bar->terminal && tenth > bar->tenth) {
        bar->tenth = tenth;
        fprintf(stderr, "%s %" PRIu64 "%% %" PRIu64 " of %" PRIu64 " bytes, %.1f s\n", bar->what, tenth * 10,
                p->bytes_done, p->bytes, seconds);
    }
    return KV_OK;
}

/* ---- archives as files */

static kv_status file_write(void *ctx, kv_slice bytes, struct kv_err *err)
{
    FILE *f = ctx;
    if (fwrite(bytes.data, 1, bytes.len, f) == bytes.len)
        return KV_OK;
    return kv_fail(err, errno == ENOSPC ? KV_NO_SPACE : KV_IO, errno, "writing the archive at offset %ld",
                   ftell(f));
}

static kv_status file_read(void *ctx, uint8_t *into, size_t len, size_t *got, struct kv_err *err)
{
    FILE *f = ctx;
    *got = fread(into, 1, len, f);
    return *got < len && ferror(f) ? kv_fail(err, KV_IO, errno, "reading the archive at offset %ld", ftell(f))
                                   : KV_OK;
}

static kv_status file_open(const char *path, bool out, FILE **file, struct kv_err *err)
{
    bool standard = strcmp(path, "-") == 0;
    *file = standard ? (out ? stdout : stdin) : fopen(path, out ? "wbx" : "rb");
    return *file ? KV_OK
                 : kv_fail(err,
                           errno == EEXIST   ? KV_EXISTS
                           : errno == ENOENT ? KV_MISSING
                                             : KV_IO,
                           errno, "open %s", path);
}

/* A file that is not whole is removed. */
static kv_status file_done(FILE *file, const char *path, kv_status rc, struct kv_err *err)
{
    if (!file)
        return rc;
    if (rc == KV_OK && (fflush(file) != 0 || (file != stdout && fsync(fileno(file)) != 0)))
        rc = kv_fail(err, errno == ENOSPC ? KV_NO_SPACE : KV_IO, errno, "writing %s", path);
    if (file != stdout) {
        fclose(file);
        if (rc < 0)
            (void)unlink(path);
    }
    return rc;
}

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

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

static void print_info(void *ctx, const struct kv_backup_info *info)
{
    time_t at = (time_t)(info->time_ms / 1000);
    char when[32];
    struct tm tm;
    (void)ctx;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
    printf("backup=%" PRIu64 " time=%s version=%" PRIu64 " files=%" PRIu64 " bytes=%" PRIu64
           " added_files=%" PRIu64 " added_bytes=%" PRIu64 "\n",
           info->number, when, info->version, info->files, info->bytes, info->added_files, info->added_bytes);
}

int kvtool_backup(int argc, char **argv)
{
    struct kvtool_reading r = {0};
    struct kv_backup_info info;
    struct kv_err err = {0};
    struct flags flags;
    struct bar bar;
    FILE *file = NULL;
    kv_status rc;
    if (!take_flags(&argc, &argv, &flags) || argc != 2)
        return -1;
    struct kv_repository repository = {.path = argv[1]};
    struct kv_sink sink = {.write = file_write};
    struct kv_backup_options options = {.compression =
                                            flags.plain ? KV_COMPRESSION_NONE : KV_COMPRESSION_ZSTD,
                                        .keep = (uint32_t)flags.keep,
                                        .progress = bar_progress,
                                        .progress_ctx = &bar};
    KV_TRY(kvtool_reading_open(argv[0], NULL, &r, &err));
    if (flags.archive) {
        KV_TRY(file_open(argv[1], true, &file, &err));
        sink.ctx = file;
        options.archive = &sink;
    } else {
        options.repository = &repository;
    }
    bar_begin(&bar, "backup");
    rc = kv_backup(r.db, &options, &info, &err);
    rc = file_done(file, argv[1], rc, &err);
    if (rc == KV_OK && file != stdout)
        print_info(NULL, &info);
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
        rc = kv_backup_list(env, &(struct kv_repository){.path = argv[0]}, print_info, NULL, &err);
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

enum { ARCHIVES_MAX = 64 };

struct from {
    struct kv_repository repository;
    struct kv_source archives[ARCHIVES_MAX];
    FILE *files[ARCHIVES_MAX];
    size_t n;
};

static kv_status from_open(struct from *from, int argc, char **argv, struct kv_restore_options *options,
                           struct kv_err *err)
{
    kv_status rc = KV_OK;
    if (argc == 1 && is_directory(argv[0])) {
        from->repository.path = argv[0];
        options->repository = &from->repository;
        return KV_OK;
    }
    if (argc > ARCHIVES_MAX)
        return kv_fail(err, KV_LIMIT, 0, "at most %d archives", ARCHIVES_MAX);
    for (int i = 0; i < argc && rc == KV_OK; i++) {
        rc = file_open(argv[i], false, &from->files[i], err);
        if (rc == KV_OK)
            from->archives[from->n++] = (struct kv_source){file_read, from->files[i]};
    }
    options->archives = from->archives;
    options->n_archives = from->n;
    return rc;
}

static void from_close(struct from *from)
{
    for (size_t i = 0; i < from->n; i++)
        if (from->files[i] != stdin)
            fclose(from->files[i]);
}

int kvtool_verify(int argc, char **argv)
{
    struct from from = {0};
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    struct flags flags;
    struct bar bar;
    kv_status rc;
    if (!take_flags(&argc, &argv, &flags) || argc < 1)
        return -1;
    struct kv_restore_options options = {
        .number = flags.number, .progress = bar_progress, .progress_ctx = &bar};
    KV_TRY(from_open(&from, argc, argv, &options, &err));
    KV_TRY(quiet_env(&env, &err));
    bar_begin(&bar, "verify");
    rc = kv_backup_verify(env, &options, kvtool_print_finding, NULL, &err);
    if (rc == KV_OK)
        puts("sound");
out:
    kv_env_close(env);
    from_close(&from);
    return rc == KV_OK        ? 0
           : rc == KV_CORRUPT ? (printf("%s\n", err.text), EXIT_FINDINGS)
                              : kvtool_trouble(&err, rc);
}

int kvtool_restore(int argc, char **argv)
{
    struct from from = {0};
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    struct kv_backup_info info;
    struct flags flags;
    struct bar bar;
    kv_status rc;
    if (!take_flags(&argc, &argv, &flags) || argc < 2)
        return -1;
    struct kv_restore_options options = {
        .number = flags.number, .progress = bar_progress, .progress_ctx = &bar};
    KV_TRY(from_open(&from, argc - 1, argv, &options, &err));
    KV_TRY(quiet_env(&env, &err));
    bar_begin(&bar, "restore");
    rc = kv_restore(env, argv[argc - 1], &options, &info, &err);
    if (rc == KV_OK)
        print_info(NULL, &info);
out:
    kv_env_close(env);
    from_close(&from);
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
    KV_TRY(file_open(argv[1], true, &file, &err));
    struct kv_sink sink = {file_write, file};
    rc = kv_export(r.db, &(struct kv_export_options){0}, &sink, &entries, &err);
    rc = file_done(file, argv[1], rc, &err);
    if (rc == KV_OK && file != stdout)
        printf("entries=%" PRIu64 "\n", entries);
out:
    kvtool_reading_close(&r);
    return rc < 0 ? kvtool_trouble(&err, rc) : 0;
}
