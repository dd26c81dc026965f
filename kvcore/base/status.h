/*
 * status.h - how every call answers. Negative: it failed. Zero: done. Positive: an answer that is not an
 * error.
 *
 * One list makes the codes, the names and the texts, so none can be forgotten. Codes are stable: add, never
 * renumber.
 */
#ifndef KV_STATUS_H
#define KV_STATUS_H

#ifndef KV_API
#define KV_API __attribute__((visibility("default")))
#endif

/* An answer that must be looked at. */
#define KV_MUST                       __attribute__((warn_unused_result))
#define KV_PRINTF(format_at, args_at) __attribute__((format(printf, format_at, args_at)))

#define KV_STATUS_LIST(X)                                                                                    \
    X(KV_NOT_FOUND, 2, "not found")                                                                          \
    X(KV_END, 1, "iteration is over")                                                                        \
    X(KV_OK, 0, "ok")                                                                                        \
    X(KV_NO_MEMORY, -1, "out of memory")                                                                     \
    X(KV_IO, -2, "the file system failed")                                                                   \
    X(KV_CORRUPT, -3, "stored bytes are damaged")                                                            \
    X(KV_CONFLICT, -4, "another transaction won; retry")                                                     \
    X(KV_TOO_NEW, -5, "written by a newer version")                                                          \
    X(KV_INVALID, -6, "invalid argument or input")                                                           \
    X(KV_LIMIT, -7, "a limit was reached")                                                                   \
    X(KV_BUSY, -8, "in use; try again later")                                                                \
    X(KV_READ_ONLY, -9, "the database accepts no writes now")                                                \
    X(KV_NO_SPACE, -10, "the disk is full")                                                                  \
    X(KV_UNKNOWN_OUTCOME, -11, "the write may or may not have been stored")                                  \
    X(KV_CLOSED, -12, "the object is closed")                                                                \
    X(KV_UNSUPPORTED, -13, "not supported")                                                                  \
    X(KV_TIMEOUT, -14, "the deadline passed")                                                                \
    X(KV_CANCELED, -15, "canceled")                                                                          \
    X(KV_EXISTS, -16, "already exists")                                                                      \
    X(KV_MISSING, -17, "a file or directory is missing")                                                     \
    X(KV_TOO_OLD, -18, "past its maximum age")                                                               \
    X(KV_WRONG_KEY, -19, "the encryption key is missing or another one")

typedef enum kv_status {
#define X(name, code, text) name = (code),
    KV_STATUS_LIST(X)
#undef X
} kv_status;

/* Detail for people, where people wait (open, restore, config, query parse). The caller's fixed buffer; NULL
 * is accepted wherever a function takes one. text is NUL-terminated, one line, says what failed, where, and
 * what to do. */
struct kv_err {
    kv_status code;
    int sys; /* errno of the system call behind it, or 0 */
    char text[240];
};

/* The text of a code, e.g. "out of memory"; "unknown status" for others. Static; any thread. */
KV_API const char *kv_status_text(kv_status code);
/* The name of a code, e.g. "KV_NO_MEMORY". Static; any thread. */
KV_API const char *kv_status_name(kv_status code);

/* Fills *err (unless NULL) and returns code, so that a failure is one statement: return kv_fail(err, KV_IO,
 * errno, ...). The text is cut at 239 bytes; control bytes in it are replaced by '?'. */
KV_API kv_status kv_fail(struct kv_err *err, kv_status code, int sys, const char *format, ...)
    KV_PRINTF(4, 5);
/* *err (unless NULL) becomes what was kept in from. */
void kv_err_copy(struct kv_err *err, const struct kv_err *from);

/* The only macro that hides a jump: needs a local `kv_status rc` and a label `out`. */
#define KV_TRY(call)                                                                                         \
    do {                                                                                                     \
        if ((rc = (call)) < 0)                                                                               \
            goto out;                                                                                        \
    } while (0)

#endif
