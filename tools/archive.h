/*
 * archive.h - where backups of either program come from and go to: archives as files, "-" being standard input or output, and repositories
 * as directories.
 */
#ifndef TOOLS_ARCHIVE_H
#define TOOLS_ARCHIVE_H

#include "kvcore/kv.h"

#include <stdio.h>

/* For writing it must not exist. */
KV_MUST kv_status archive_open(const char *path, bool writing, FILE **file, struct kv_err *err);
/* Of an archive that was written: synced and closed; one that is not whole is removed. file NULL is fine. Answers rc, or what failed now. */
KV_MUST kv_status archive_done(FILE *file, const char *path, kv_status rc, struct kv_err *err);
struct kv_sink archive_sink(FILE *file);

enum { ARCHIVES_MAX = 64 };
/* What a backup is read from: one repository, or archives that build upon one another. */
struct archive_from {
    struct kv_repository repository;
    struct kv_source archives[ARCHIVES_MAX];
    FILE *files[ARCHIVES_MAX];
    size_t n;
};
/* Fills in where options reads from. Close whatever is answered. */
KV_MUST kv_status archive_from_open(struct archive_from *from, int n, char **paths,
                                    struct kv_restore_options *options, struct kv_err *err);
void archive_from_close(struct archive_from *from);

/* KV_INVALID when the repository would be the database's directory or lie in it: what takes that away takes its backups along. */
KV_MUST kv_status archive_outside(const char *repository, const char *database, struct kv_err *err);

/* A line on stdout. ctx is not used. */
void archive_print_info(void *ctx, const struct kv_backup_info *info);

#endif
