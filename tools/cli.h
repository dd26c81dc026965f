/*
 * cli.h - the commands of the tidemark program. Each takes what stands behind its name and returns the exit status: 0 done, 1 failed, 2 asked
 * wrongly.
 */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H

#include "kvcore/base/logfmt.h"

int cli_main(int argc, char **argv);
int cli_serve(int argc, char **argv);
int cli_query(int argc, char **argv);

/* key=value lines on stderr. */
void cli_logger(struct kv_logger *log, enum kv_log_level level);

#endif
