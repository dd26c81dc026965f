/*
 * cli.h - the commands of the tidemark program. Each takes what stands behind its name and returns the exit status: 0 done, 1 failed, 2 asked
 * wrongly.
 */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H

#include "kvcore/base/logfmt.h"
#include "kvcore/base/status.h"

int cli_main(int argc, char **argv);
int cli_serve(int argc, char **argv);
int cli_query(int argc, char **argv);
int cli_backup(int argc, char **argv);
int cli_restore(int argc, char **argv);

/* Says what failed; answers 1. */
int cli_failed(const struct kv_err *err, kv_status rc);

/* key=value lines on stderr. */
void cli_logger(struct kv_logger *log, enum kv_log_level level);

#endif
