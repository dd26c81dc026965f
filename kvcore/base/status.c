#include "kvcore/base/status.h"
#include "kvcore/base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *kv_status_text(kv_status code)
{
    switch (code) {
#define X(name, number, text)                                                                                \
    case name:                                                                                               \
        return text;
        KV_STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

const char *kv_status_name(kv_status code)
{
    switch (code) {
#define X(name, number, text)                                                                                \
    case name:                                                                                               \
        return #name;
        KV_STATUS_LIST(X)
#undef X
    }
    return "unknown";
}

kv_status kv_fail(struct kv_err *err, kv_status code, int sys, const char *format, ...)
{
    if (err) {
        err->code = code;
        err->sys = sys;
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        for (char *p = err->text; *p; p++)
            if ((unsigned char)*p < 0x20 || *p == 0x7f)
                *p = '?';
    }
    return code;
}

void kv_err_copy(struct kv_err *err, const struct kv_err *from)
{
    if (err)
        *err = *from;
}

void kv_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "level=fatal event=assert_failed condition=\"%s\" file=%s line=%d\n", condition, file,
            line);
    fflush(stderr);
    abort();
}
