/* quote.c - see quote.h. */
#include "tsdb/promql/quote.h"

#include <stdio.h>

uint32_t ts_rune_decode(kv_slice text, size_t *width)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t first = text.data[0];
    size_t n = first < 0x80   ? 1
               : first < 0xc0 ? 0
               : first < 0xe0 ? 2
               : first < 0xf0 ? 3
               : first < 0xf8 ? 4
                              : 0;
    *width = 1;
    if (n <= 1)
        return n ? first : TS_RUNE_BAD;
    if (text.len < n)
        return TS_RUNE_BAD;
    uint32_t rune = first & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((text.data[i] & 0xc0) != 0x80)
            return TS_RUNE_BAD;
        rune = rune << 6 | (text.data[i] & 0x3fu);
    }
    if (rune < smallest[n] || rune > 0x10ffff || (rune >= 0xd800 && rune < 0xe000))
        return TS_RUNE_BAD;
    *width = n;
    return rune;
}

size_t ts_rune_encode(uint32_t rune, uint8_t out[4])
{
    if (rune < 0x80) {
        out[0] = (uint8_t)rune;
        return 1;
    }
    size_t n = rune < 0x800 ? 2 : rune < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, rune >>= 6)
        out[i] = (uint8_t)(0x80 | (rune & 0x3f));
    out[0] = (uint8_t)((0xf00u >> n) | rune);
    return n;
}

bool ts_rune_printable(uint32_t rune)
{
    /* controls, spaces other than ' ', formats, surrogates and private use, by first and last */
    static const uint32_t hidden[][2] = {
        {0x00, 0x1f},     {0x7f, 0xa0},     {0xad, 0xad},     {0x600, 0x605},      {0x61c, 0x61c},
        {0x6dd, 0x6dd},   {0x70f, 0x70f},   {0x1680, 0x1680}, {0x180e, 0x180e},    {0x2000, 0x200f},
        {0x2028, 0x202f}, {0x205f, 0x206f}, {0x3000, 0x3000}, {0xd800, 0xf8ff},    {0xfdd0, 0xfdef},
        {0xfeff, 0xfeff}, {0xfff0, 0xfffb}, {0xfffe, 0xffff}, {0xe0000, 0x10ffff},
    };
    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++)
        if (rune >= hidden[i][0] && rune <= hidden[i][1])
            return rune >= 0xe0100 && rune <= 0xe01ef; /* variation selectors print */
    return rune <= 0x10ffff;
}

size_t ts_quote_rune(uint32_t rune, char quote, char out[TS_QUOTED_RUNE_MAX])
{
    static const char letters[] = "abtnvfr"; /* 7 to 13 */
    char text[TS_QUOTED_RUNE_MAX + 1];
    int n;
    if (rune == (uint32_t)(uint8_t)quote || rune == '\\')
        n = snprintf(text, sizeof text, "\\%c", (char)rune);
    else if (ts_rune_printable(rune))
        return ts_rune_encode(rune, (uint8_t *)out);
    else if (rune >= 7 && rune <= 13)
        n = snprintf(text, sizeof text, "\\%c", letters[rune - 7]);
    else if (rune < ' ' || rune == 0x7f)
        n = snprintf(text, sizeof text, "\\x%02x", rune);
    else
        n = snprintf(text, sizeof text, rune < 0x10000 ? "\\u%04x" : "\\U%08x", rune);
    memcpy(out, text, (size_t)n);
    return (size_t)n;
}

const char *ts_quote(kv_slice text, size_t runes_max, char *out, size_t size)
{
    size_t n = 0;
    out[n++] = '"';
    while (text.len > 0 && runes_max-- > 0 && n + TS_QUOTED_RUNE_MAX + 2 <= size) {
        size_t width;
        uint32_t rune = ts_rune_decode(text, &width);
        if (rune == TS_RUNE_BAD && width == 1)
            n += (size_t)snprintf(out + n, size - n, "\\x%02x", text.data[0]);
        else
            n += ts_quote_rune(rune, '"', out + n);
        text = kv_slice_from(text, width);
    }
    out[n++] = '"';
    out[n] = '\0';
    return out;
}
