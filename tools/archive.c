#include "tools/archive.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static kv_status file_write(void *ctx, kv_slice bytes, struct kv_err *err)
{
    FILE *f = ctx;
    if (fwrite(bytes.data, 1, bytes.len, f) == bytes.len)
        return KV_OK;
    int why = errno; /* ftell fails on pipes */
    return kv_fail(err, why == ENOSPC ? KV_NO_SPACE : KV_IO, why, "writing at offset %ld: %s", ftell(f),
                   strerror(why));
}

static kv_status file_read(void *ctx, uint8_t *into, size_t len, size_t *got, struct kv_err *err)
{
    FILE *f = ctx;
    *got = fread(into, 1, len, f);
    if (*got == len || !ferror(f))
        return KV_OK;
    int why = errno;
    return kv_fail(err, KV_IO, why, "reading the archive at offset %ld: %s", ftell(f), strerror(why));
}

kv_status archive_open(const char *path, bool writing, FILE **file, struct kv_err *err)
{
    bool standard = strcmp(path, "-") == 0;
    *file = standard ? (writing ? stdout : stdin) : fopen(path, writing ? "wbx" : "rb");
    if (*file)
        return KV_OK;
    kv_status rc = errno == EEXIST ? KV_EXISTS : errno == ENOENT ? KV_MISSING : KV_IO;
    return kv_fail(err, rc, errno, "open %s: %s", path,
                   rc == KV_EXISTS ? "it already exists, and nothing is overwritten" : strerror(errno));
}

kv_status archive_done(FILE *file, const char *path, kv_status rc, struct kv_err *err)
{
    if (!file)
        return rc;
    if (rc == KV_OK && (fflush(file) != 0 || (file != stdout && fsync(fileno(file)) != 0)))
        rc = kv_fail(err, errno == ENOSPC ? KV_NO_SPACE : KV_IO, errno, "writing %s: %s",
                     file == stdout ? "standard output" : path, strerror(errno));
    if (file != stdout) {
        fclose(file);
        if (rc < 0)
            (void)unlink(path);
    }
    return rc;
}

struct kv_sink archive_sink(FILE *file)
{
    return (struct kv_sink){file_write, file};
}

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

kv_status archive_from_open(struct archive_from *from, int n, char **paths,
                            struct kv_restore_options *options, struct kv_err *err)
{
    kv_status rc = KV_OK;
    if (n == 1 && is_directory(paths[0])) {
        from->repository.path = paths[0];
        options->repository = &from->repository;
        return KV_OK;
    }
    if (n > ARCHIVES_MAX)
        return kv_fail(err, KV_LIMIT, 0, "at most %d archives", ARCHIVES_MAX);
    for (int i = 0; i < n && rc == KV_OK; i++) {
        rc = archive_open(paths[i], false, &from->files[i], err);
        if (rc == KV_OK)
            from->archives[from->n++] = (struct kv_source){file_read, from->files[i]};
    }
    options->archives = from->archives;
    options->n_archives = from->n;
    return rc;
}

void archive_from_close(struct archive_from *from)
{
    for (size_t i = 0; i < from->n; i++)
        if (from->files[i] != stdin)
            fclose(from->files[i]);
}

void archive_print_info(void *ctx, const struct kv_backup_info *info)
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

/* The path without links and dots; what does not exist yet stays as it is written. */
static bool resolve(const char *path, char out[PATH_MAX])
{
    char head[PATH_MAX], tail[PATH_MAX] = "";
    if ((size_t)snprintf(head, sizeof head, "%s%s", *path == '/' ? "" : "./", path) >= sizeof head)
        return false;
    while (!realpath(head, out)) {
        char *slash = strrchr(head, '/'), longer[PATH_MAX];
        if (errno != ENOENT || !slash || slash == head)
            return false;
        if ((size_t)snprintf(longer, sizeof longer, "%s%s", slash, tail) >= sizeof longer)
            return false;
        memcpy(tail, longer, sizeof tail);
        *slash = 0;
    }
    size_t n = strlen(out), more = strlen(tail);
    if (n + more >= PATH_MAX)
        return false;
    memcpy(out + n, tail, more + 1);
    return true;
}

kv_status archive_outside(const char *repository, const char *database, struct kv_err *err)
{
    char in[PATH_MAX], of[PATH_MAX];
    if (!resolve(repository, in) || !resolve(database, of))
        return KV_OK; /* whoever opens them says why not */
    size_t n = strlen(of);
    if (strncmp(in, of, n) != 0 || (in[n] && in[n] != '/' && n > 1))
        return KV_OK;
    return kv_fail(
        err, KV_INVALID, 0,
        "%.90s lies in the data directory %.90s: backups belong outside of what they are backups of",
        repository, database);
}
