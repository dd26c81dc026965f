/* kvtool.h - what the files of kvtool share. Commands answer an exit status, or -1: wrong arguments. */
#ifndef KVTOOL_H
#define KVTOOL_H

#include "kvcore/kv.h"
#include "tools/options.h"

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

/* The same for writing: nothing is flushed or merged unless it is asked for. */
kv_status kvtool_writing_open(const char *path, const char *space, struct kvtool_reading *out,
                              struct kv_err *err);
kv_status kvtool_writing_close(struct kvtool_reading *writing, struct kv_err *err);
const struct kv_key_source *kvtool_key(void); /* of --key-file, or empty */
uint64_t kvtool_now_s(void);                  /* unix */

/* ---- kvtool_look.c, kvtool_write.c, kvtool_bench.c */
int kvtool_scan(int argc, char **argv);
int kvtool_histogram(int argc, char **argv);
int kvtool_health(int argc, char **argv);
int kvtool_put(int argc, char **argv);
int kvtool_del(int argc, char **argv);
int kvtool_del_range(int argc, char **argv);
int kvtool_compact(int argc, char **argv);
int kvtool_bench(int argc, char **argv);
int kvtool_bank(int argc, char **argv);

/* ---- kvtool_repair.c */
int kvtool_repair(int argc, char **argv);

/* ---- kvtool_large.c: a value from a file, and to one; "-": stdin, stdout */
int kvtool_put_from(const char *name, const char *dir, const char *space, kv_slice key,
                    const struct kv_put_options *put);
int kvtool_get_to(const char *name, const char *dir, const char *space, kv_slice key);

/* ---- kvtool_backup.c */
int kvtool_backup(int argc, char **argv);
int kvtool_backups(int argc, char **argv);
int kvtool_verify(int argc, char **argv);
int kvtool_restore(int argc, char **argv);
int kvtool_forget(int argc, char **argv);
int kvtool_stream(int argc, char **argv);
int kvtool_export(int argc, char **argv);

#endif
