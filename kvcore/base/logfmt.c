#include "kvcore/base/logfmt.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

enum { LOG_LINE_MAX = 2048 };

const char *kv_log_quote(kv_slice text, char *out, size_t out_size)
{
    bool plain = text.len > 0;
    for (size_t i = 0; i < text.len && plain; i++)
        plain = text.data[i] > ' ' && text.data[i] != '"' && text.data[i] != '=' && text.data[i] != '\\' &&
                text.data[i] != 0x7f;
    size_t n = 0;
    if (!plain)
        out[n++] = '"';
    for (size_t i = 0; i < text.len && n + 6 < out_size; i++) {
        uint8_t c = text.data[i];
        if (c == '"' || c == '\\') {
            out[n++] = '\\';
            out[n++] = (char)c;
        } else if (c < ' ' || c == 0x7f) {
            n += (size_t)snprintf(out + n, 5, "\\x%02x", c);
        } else {
            out[n++] = (char)c;
        }
    }
    if (!plain)
        out[n++] = '"';
    out[n] = 0;
    return out;
}

void kv_logf(const struct kv_logger *logger, enum kv_log_level level, const char *event, const char *format,
             ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if (!logger || !logger->sink || level < logger->level)
        return;
    char line[LOG_LINE_MAX];
    int n = 0;
    if (logger->now_ms) {
        int64_t ms = logger->now_ms(logger->now_ctx);
        time_t seconds = (time_t)(ms / 1000);
        struct tm tm;
        gmtime_r(&seconds, &tm);
        n = snprintf(line, sizeof line, "ts=%04d-%02d-%02dT%02d:%02d:%02d.%03dZ ", tm.tm_year + 1900,
                     tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(ms % 1000));
    }
    n += snprintf(line + n, sizeof line - (size_t)n, "level=%s event=%s%s", names[level], event,
                  format[0] ? " " : "");
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + n, sizeof line - (size_t)n, format, args);
    va_end(args);
    n = more < 0 ? n : n + more;
    if (n > LOG_LINE_MAX - 1)
        n = LOG_LINE_MAX - 1;
    for (int i = 0; i < n; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    line[n] = 0; /* also where the format could not be written */
    logger->sink(logger->ctx, level, line, (size_t)n);
}
