/*
 * progress.h - how far something long has come, on stderr: a bar with rate and time left on a terminal; elsewhere a line for each tenth, or,
 * where nobody knows how much there is, one every ten seconds.
 */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include "kvcore/kv.h"

struct progress {
    const char *what; /* static */
    uint64_t began_ns, said_ns, tenth;
    bool terminal, open; /* open: the terminal's line is not finished */
};
void progress_begin(struct progress *progress, const char *what);
/* A kv_progress_fn, ctx a struct progress; bytes 0: nobody knows. Always KV_OK. */
kv_status progress_show(void *ctx, const struct kv_progress *at);
/* Finishes a bar that did not reach its end. */
void progress_end(struct progress *progress);

#endif
