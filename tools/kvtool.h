/* kvtool.h - what the files of kvtool share. Commands answer an exit status, or -1: wrong arguments. */
#ifndef KVTOOL_H
#define KVTOOL_H

#include "kvcore/kv.h"

enum { EXIT_FINDINGS = 1, EXIT_TROUBLE = 2 };

/* Prints the failure; answers EXIT_TROUBLE. */
int kvtool_trouble(const struct kv_err *err, kv_status rc);
/* Printable as it is, the rest as \xHH; and back, in place. */
void kvtool_print_bytes(kv_slice bytes);
kv_slice kvtool_parse_bytes(char *text);
void kvtool_print_finding(void *ctx, kv_status severity, const char *line);

/* A database open read-only, its spaces those of the manifest, without their owner's cuts and hooks. */
struct kvtool_reading {
    struct kv_env *env;
    struct kv_db *db;
    uint32_t space; /* the one named; 0 when none was */
};
/* space may be NULL. Close whatever is answered. */
kv_status kvtool_reading_open(const char *path, const char *space, struct kvtool_reading *out,
                              struct kv_err *err);
void kvtool_reading_close(struct kvtool_reading *reading);

/* ---- kvtool_backup.c */
int kvtool_backup(int argc, char **argv);
int kvtool_backups(int argc, char **argv);
int kvtool_verify(int argc, char **argv);
int kvtool_restore(int argc, char **argv);
int kvtool_forget(int argc, char **argv);
int kvtool_stream(int argc, char **argv);
int kvtool_export(int argc, char **argv);

#endif
