/*
 * cli.h - the commands of the tidemark program. Each takes what stands behind its name and returns the exit status: 0 done, 1 failed, 2 asked
 * wrongly.
 */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H

#include "kvcore/base/logfmt.h"
#include "kvcore/base/buf.h"
#include "tsdb/ts.h"

int cli_main(int argc, char **argv);
int cli_serve(int argc, char **argv);
int cli_query(int argc, char **argv);
int cli_backup(int argc, char **argv);
int cli_restore(int argc, char **argv);
int cli_chunk(int argc, char **argv);
int cli_export(int argc, char **argv);
int cli_import(int argc, char **argv);

/* 2026-11-21T03:08:03.5Z */
const char *cli_time_text(int64_t ms, char out[40]);
/* A time of the API, or "now", "now-1h", "-1h". */
bool cli_time(const char *text, int64_t now_ms, int64_t *out);
/* Appends up{job="x"}. */
KV_MUST kv_status cli_series_text(const struct ts_label *labels, size_t n, struct kv_buf *out);
/* Says what failed; answers 1. */
int cli_failed(const struct kv_err *err, kv_status rc);
/* Cuts "; raise ts_options.FIELD" off what a store said: that is for programs. */
void cli_cut_advice(char *text);

/* key=value lines on stderr. */
void cli_logger(struct kv_logger *log, enum kv_log_level level);

#endif
