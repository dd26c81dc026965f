#include "http/text.h"

size_t http_utf8_len(kv_slice s)
{
    const uint8_t *p = s.data;
    if (s.len == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || s.len < n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    /* overlong, surrogates, past U+10FFFF */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

bool http_utf8_valid(kv_slice text)
{
    while (text.len) {
        size_t n = http_utf8_len(text);
        if (n == 0)
            return false;
        text = kv_slice_from(text, n);
    }
    return true;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

kv_status http_unescape(struct kv_arena *arena, kv_slice text, bool plus_is_blank, kv_slice *out,
                        const char **why)
{
    if (!text.len ||
        (!memchr(text.data, '%', text.len) && !(plus_is_blank && memchr(text.data, '+', text.len)))) {
        *out = text;
        return KV_OK;
    }
    uint8_t *to = kv_arena_alloc(arena, text.len);
    if (!to)
        return KV_NO_MEMORY;
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c == '+' && plus_is_blank) {
            c = ' ';
        } else if (c == '%') {
            bool whole = text.len - i > 2;
            int high = whole ? hex_digit(text.data[i + 1]) : -1;
            int low = whole ? hex_digit(text.data[i + 2]) : -1;
            if (high < 0 || low < 0) {
                *why = "bad percent escape";
                return KV_INVALID;
            }
            c = (uint8_t)(high * 16 + low);
            i += 2;
        }
        to[n++] = c;
    }
    *out = (kv_slice){to, n};
    return KV_OK;
}

bool http_equal_nocase(kv_slice a, kv_slice b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        uint8_t x = a.data[i], y = b.data[i];
        x = x >= 'A' && x <= 'Z' ? (uint8_t)(x | 0x20) : x;
        y = y >= 'A' && y <= 'Z' ? (uint8_t)(y | 0x20) : y;
        if (x != y)
            return false;
    }
    return true;
}

bool http_parse_uint(kv_slice text, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    if (text.len == 0)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)text.data[i] - '0';
        if (digit > 9 || v > (max - digit) / 10 || digit > max)
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    return true;
}

kv_slice http_trim(kv_slice s)
{
    while (s.len && (s.data[0] == ' ' || s.data[0] == '\t'))
        s = kv_slice_from(s, 1);
    while (s.len && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t'))
        s.len--;
    return s;
}
