/*
 * slice.h - borrowed bytes: never owns, never NUL-terminated, passed by value. Good until the lender's next
 * call.
 */
#ifndef KV_SLICE_H
#define KV_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct kv_slice {
    const uint8_t *data;
    size_t len;
} kv_slice;

/* A string literal as a slice, without its NUL. */
#define KV_STR(literal) ((kv_slice){(const uint8_t *)("" literal), sizeof(literal) - 1})
/* For printf's "%.*s". */
#define KV_ARG(slice) (int)(slice).len, (const char *)(slice).data

static inline kv_slice kv_slice_of(const void *data, size_t len)
{
    return (kv_slice){(const uint8_t *)data, len};
}

/* text is NUL-terminated and stays the caller's. */
static inline kv_slice kv_slice_str(const char *text)
{
    return (kv_slice){(const uint8_t *)text, strlen(text)};
}

static inline bool kv_slice_equal(kv_slice a, kv_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* private: eight bytes as the number that orders as they do */
static inline uint64_t kv_slice_word(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* Order as unsigned bytes; a prefix comes before what it is a prefix of. Negative, zero or positive. (Keys are mostly
 * 8 to 32 bytes long, which takes less time by words than a call of memcmp does.) */
static inline int kv_slice_compare(kv_slice a, kv_slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    if (n >= 8 && n <= 32) {
        for (size_t i = 0;; i = i + 16 <= n ? i + 8 : n - 8) { /* the last word may overlap the one before */
            uint64_t x = kv_slice_word(a.data + i), y = kv_slice_word(b.data + i);
            if (x != y)
                return x < y ? -1 : 1;
            if (i == n - 8)
                break;
        }
    } else if (n) {
        int c = memcmp(a.data, b.data, n);
        if (c)
            return c;
    }
    return (a.len > b.len) - (a.len < b.len);
}

static inline bool kv_slice_has_prefix(kv_slice s, kv_slice prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

/* The bytes from offset on. offset <= s.len. */
static inline kv_slice kv_slice_from(kv_slice s, size_t offset)
{
    return (kv_slice){offset ? s.data + offset : s.data, s.len - offset}; /* NULL + 0 is undefined */
}

#endif
