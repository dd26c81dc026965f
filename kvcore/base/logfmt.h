/*
 * logfmt.h - one key=value line an event, to a sink. Values with spaces, quotes or control bytes are quoted
 * and escaped, so bytes from the network cannot forge a line. Lines longer than 2 KiB are cut. Any thread; a
 * sink is called by one at a time.
 *
 *     kv_logf(log, KV_LOG_WARN, "sync_failed", "file=%s offset=%llu", name, offset);   ->
 *     ts=2026-11-21T03:08:03.123Z level=warn event=sync_failed file=000012.log offset=4096
 *
 * A %s that may hold blanks or foreign bytes goes through KV_LOGQ: "path=%s", KV_LOGQ(path).
 */
#ifndef KV_LOGFMT_H
#define KV_LOGFMT_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

enum kv_log_level { KV_LOG_DEBUG, KV_LOG_INFO, KV_LOG_WARN, KV_LOG_ERROR };

struct kv_logger {
    /* line: without its newline, NUL-terminated, valid for the call. Must not log. NULL sink: nothing is
     * written. */
    void (*sink)(void *ctx, enum kv_log_level level, const char *line, size_t len);
    void *ctx;
    enum kv_log_level level;      /* lines below it are dropped before they are formatted */
    int64_t (*now_ms)(void *ctx); /* unix ms for ts=; NULL: no ts field */
    void *now_ctx;
};

/* logger may be NULL. event: [a-z0-9_]+. format: "key=%d key=%s ...", may be "". */
KV_API void kv_logf(const struct kv_logger *logger, enum kv_log_level level, const char *event,
                    const char *format, ...) KV_PRINTF(4, 5);

/* Quotes text into out (cut to fit) if it needs quoting; returns out. */
KV_API const char *kv_log_quote(kv_slice text, char *out, size_t out_size);
#define KV_LOGQ(text) kv_log_quote(kv_slice_str(text), (char[256]){0}, 256)

#endif
