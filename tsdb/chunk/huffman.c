#include "tsdb/chunk/huffman.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"

enum {
    DIRECT = 16,   /* numbers below are symbols */
    ENTRY_MAX = 7, /* symbols in an entry of the table */
    CODES = 1 << TS_HUFFMAN_BITS,
    WORD_BITS = 57 /* what one load surely gives */
};

/* ---- symbols */

static unsigned symbol_of(uint64_t number)
{
    if (number < DIRECT)
        return (unsigned)number;
    unsigned bits = 64 - (unsigned)__builtin_clzll(number);
    return DIRECT + 2 * (bits - 5) + (unsigned)(number >> (bits - 2) & 1);
}

/* Of a symbol of a range: how many low bits follow its code, and its smallest number. */
static unsigned symbol_low_bits(unsigned symbol)
{
    return (symbol - DIRECT) / 2 + 3;
}

static uint64_t symbol_base(unsigned symbol)
{
    return (uint64_t)(2 | (symbol & 1)) << symbol_low_bits(symbol);
}

void ts_huffman_count(struct ts_huffman_counts *counts, const uint64_t *numbers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned symbol = symbol_of(numbers[i]);
        counts->of[symbol]++;
        if (symbol >= DIRECT)
            counts->low_bits += symbol_low_bits(symbol);
    }
}

/* ---- making a code */

/* The depth of each leaf in the tree of Huffman's construction. order: symbols by rising count, at least two. */
static void tree_depths(const uint32_t *of, const uint8_t *order, unsigned n, uint8_t *depths)
{
    uint64_t weight[2 * TS_HUFFMAN_SYMBOLS] = {0};
    uint16_t parent[2 * TS_HUFFMAN_SYMBOLS] = {0};
    for (unsigned i = 0; i < n; i++)
        weight[i] = of[order[i]];
    unsigned leaf = 0, inner = n, next = n; /* leaves and inner nodes, each in rising order */
    for (; next < 2 * n - 1; next++) {
        for (int side = 0; side < 2; side++) {
            unsigned least = leaf < n && (inner == next || weight[leaf] <= weight[inner]) ? leaf++ : inner++;
            weight[next] += weight[least];
            parent[least] = (uint16_t)next;
        }
    }
    uint8_t depth[2 * TS_HUFFMAN_SYMBOLS] = {0};
    for (unsigned i = 2 * n - 2; i-- > 0;)
        depth[i] = (uint8_t)(depth[parent[i]] + 1);
    memcpy(depths, depth, n);
}

/* Cuts depths to TS_HUFFMAN_BITS, pays for it with the rarest of the shorter ones, and gives what is left over to the most frequent. */
static void limit_depths(uint8_t *depths, unsigned n)
{
    unsigned used = 0; /* of CODES codes of the greatest length */
    for (unsigned i = 0; i < n; i++) {
        if (depths[i] > TS_HUFFMAN_BITS)
            depths[i] = TS_HUFFMAN_BITS;
        used += CODES >> depths[i];
    }
    while (used > CODES) {
        unsigned deepest = n;
        for (unsigned i = 0; i < n; i++)
            if (depths[i] < TS_HUFFMAN_BITS && (deepest == n || depths[i] > depths[deepest]))
                deepest = i;
        KV_ASSERT(deepest < n);
        depths[deepest]++;
        used -= CODES >> depths[deepest];
    }
    for (unsigned i = n; i-- > 0;)
        while (used + (CODES >> depths[i]) <= CODES) {
            used += CODES >> depths[i];
            depths[i]--;
        }
    KV_ASSERT(used == CODES);
}

/* The first code of each length, as a number whose highest bit comes first. */
static void first_codes(const uint8_t *lens, unsigned next[TS_HUFFMAN_BITS + 1])
{
    unsigned of_len[TS_HUFFMAN_BITS + 1] = {0}, code = 0;
    for (unsigned s = 0; s < TS_HUFFMAN_SYMBOLS; s++)
        of_len[lens[s]]++;
    of_len[0] = 0;
    next[0] = 0;
    for (unsigned len = 1; len <= TS_HUFFMAN_BITS; len++)
        next[len] = code = (code + of_len[len - 1]) << 1;
}

static unsigned reversed(unsigned code, unsigned len)
{
    unsigned out = 0;
    for (; len > 0; len--, code >>= 1)
        out = out << 1 | (code & 1);
    return out;
}

size_t ts_huffman_make(const struct ts_huffman_counts *counts, struct ts_huffman_code *code)
{
    uint8_t order[TS_HUFFMAN_SYMBOLS] = {0}, depths[TS_HUFFMAN_SYMBOLS] = {0};
    unsigned n = 0, next[TS_HUFFMAN_BITS + 1], last = 0;
    *code = (struct ts_huffman_code){.first = TS_HUFFMAN_SYMBOLS};
    for (unsigned s = 0; s < TS_HUFFMAN_SYMBOLS; s++) {
        if (!counts->of[s])
            continue;
        unsigned at = n++;
        for (; at > 0 && counts->of[order[at - 1]] > counts->of[s]; at--)
            order[at] = order[at - 1];
        order[at] = (uint8_t)s;
        code->first = s < code->first ? s : code->first;
        last = s;
    }
    KV_ASSERT(n > 0);
    code->n = last - code->first + 1;
    if (n > 1) {
        tree_depths(counts->of, order, n, depths);
        limit_depths(depths, n);
    }
    uint64_t bits = counts->low_bits;
    for (unsigned i = 0; i < n; i++) {
        code->lens[order[i]] = depths[i];
        bits += (uint64_t)depths[i] * counts->of[order[i]];
    }
    first_codes(code->lens, next);
    for (unsigned s = code->first; s <= last; s++)
        if (code->lens[s])
            code->codes[s] = (uint16_t)reversed(next[code->lens[s]]++, code->lens[s]);
    return 2 + (code->n > 1 ? (code->n + 1) / 2 : 0) + (size_t)((bits + 7) / 8);
}

kv_status ts_huffman_put_code(const struct ts_huffman_code *code, struct kv_buf *out)
{
    uint8_t bytes[2 + (TS_HUFFMAN_SYMBOLS + 1) / 2] = {(uint8_t)code->first, (uint8_t)code->n};
    for (unsigned i = 0; i < code->n && code->n > 1; i++)
        bytes[2 + i / 2] |= (uint8_t)(code->lens[code->first + i] << (i % 2 * 4));
    return kv_buf_append(out, kv_slice_of(bytes, 2 + (code->n > 1 ? (code->n + 1) / 2 : 0)));
}

kv_status ts_huffman_put(const struct ts_huffman_code *code, const uint64_t *numbers, size_t n,
                         struct kv_buf *out)
{
    KV_ASSERT(n <= TS_HUFFMAN_NUMBERS_MAX);
    size_t start = out->len, most = n * (TS_HUFFMAN_BITS + 62) / 8 + 16;
    uint8_t *at = kv_buf_extend(out, most);
    if (!at)
        return KV_NO_MEMORY;
    unsigned __int128 pending = 0;
    unsigned filled = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned symbol = symbol_of(numbers[i]);
        pending |= (unsigned __int128)code->codes[symbol] << filled;
        filled += code->lens[symbol];
        if (symbol >= DIRECT) {
            pending |= (unsigned __int128)(numbers[i] - symbol_base(symbol)) << filled;
            filled += symbol_low_bits(symbol);
        }
        for (; filled >= 8; filled -= 8, pending >>= 8)
            *at++ = (uint8_t)pending;
    }
    if (filled)
        *at++ = (uint8_t)pending;
    out->len = (size_t)(at - out->data);
    KV_ASSERT(out->len - start <= most);
    return KV_OK;
}

/* ---- reading */

/* An entry of the table: bits 0 to 3 how many bits it uses, 4 to 7 how many symbols below DIRECT they are, then these, a byte each. With no
 * such symbol, the first byte is one of a range. */
static uint64_t entry_of(const uint8_t *symbols, const uint8_t *lens, unsigned index, unsigned bits,
                         unsigned most)
{
    uint64_t entry = 0;
    unsigned used = 0, n = 0;
    for (; n < most; n++) {
        unsigned symbol = symbols[index >> used];
        if (used + lens[symbol] > bits || symbol >= DIRECT)
            break;
        entry |= (uint64_t)symbol << (8 * n + 8);
        used += lens[symbol];
    }
    if (n == 0) {
        unsigned symbol = symbols[index];
        return (uint64_t)symbol << 8 | lens[symbol];
    }
    return entry | n << 4 | used;
}

static kv_status take_lens(kv_slice *in, unsigned first, unsigned n, struct ts_huffman_table *table)
{
    kv_slice bytes;
    unsigned used = 0;
    if (kv_take_bytes(in, (n + 1) / 2, &bytes) < 0)
        return KV_CORRUPT;
    for (unsigned i = 0; i < n; i++) {
        unsigned len = bytes.data[i / 2] >> (i % 2 * 4) & 15;
        if (len > TS_HUFFMAN_BITS)
            return KV_CORRUPT;
        table->lens[first + i] = (uint8_t)len;
        table->bits = len > table->bits ? len : table->bits;
        used += len ? CODES >> len : 0;
    }
    bool spare = n % 2 && bytes.data[n / 2] >> 4;
    return used != CODES || spare || !table->lens[first] || !table->lens[first + n - 1] ? KV_CORRUPT : KV_OK;
}

kv_status ts_huffman_take_code(kv_slice *in, bool long_read, struct ts_huffman_table *table)
{
    uint8_t first, n, symbols[CODES];
    unsigned next[TS_HUFFMAN_BITS + 1];
    kv_status rc = KV_OK;
    if (kv_take_byte(in, &first) < 0 || kv_take_byte(in, &n) < 0 || n < 1 || first + n > TS_HUFFMAN_SYMBOLS)
        return KV_CORRUPT;
    table->bits = 0;
    table->ranges = first + n > DIRECT;
    memset(table->lens, 0, sizeof table->lens);
    if (n > 1 && (rc = take_lens(in, first, n, table)) < 0)
        return rc;
    first_codes(table->lens, next);
    symbols[0] = first; /* of a lone symbol */
    for (unsigned s = first; s < (unsigned)first + n && n > 1; s++) {
        unsigned len = table->lens[s];
        if (!len)
            continue;
        for (unsigned at = reversed(next[len]++, len); at < 1u << table->bits; at += 1u << len)
            symbols[at] = (uint8_t)s;
    }
    for (unsigned index = 0; index < 1u << table->bits; index++)
        table->entries[index] = entry_of(symbols, table->lens, index, table->bits, long_read ? ENTRY_MAX : 1);
    return KV_OK;
}

/* 64 bits from bit `at` on, WORD_BITS or more of them valid; zeros past the end. */
static uint64_t bits_at(kv_slice in, size_t at)
{
    uint8_t last[8] = {0};
    size_t byte = at / 8;
    if (KV_LIKELY(byte + 8 <= in.len))
        return kv_get_fixed64(in.data + byte) >> (at % 8);
    if (byte < in.len)
        memcpy(last, in.data + byte, in.len - byte);
    return kv_get_fixed64(last) >> (at % 8);
}

/* The number of a range whose code ends at bit `at`. */
static uint64_t range_number(kv_slice in, size_t at, unsigned symbol)
{
    unsigned n = symbol_low_bits(symbol);
    uint64_t low = bits_at(in, at);
    if (n > 32)
        low = (low & UINT32_MAX) | bits_at(in, at + 32) << 32;
    return symbol_base(symbol) + (low & (((uint64_t)1 << n) - 1));
}

/* The symbols of an entry that are still wanted, and in *used the bits of these. */
static unsigned entry_part(const struct ts_huffman_table *table, uint64_t entry, size_t wanted,
                           unsigned *used)
{
    *used = 0;
    for (size_t i = 0; i < wanted; i++)
        *used += table->lens[entry >> (8 * i + 8) & 255];
    return (unsigned)wanted;
}

/* Past the bits they end in. */
static kv_status take_bits(kv_slice *in, size_t bits)
{
    size_t used = (bits + 7) / 8;
    if (used > in->len)
        return KV_CORRUPT;
    *in = kv_slice_of(in->data + used, in->len - used);
    return KV_OK;
}

kv_status ts_huffman_take_bytes(kv_slice *in, const struct ts_huffman_table *table, uint8_t *bytes, size_t n)
{
    KV_ASSERT(!table->ranges);
    uint64_t mask = ((uint64_t)1 << table->bits) - 1;
    size_t at = 0, i = 0;
    while (i < n) {
        uint64_t word = bits_at(*in, at);
        for (unsigned look = 0; look < WORD_BITS / TS_HUFFMAN_BITS && i < n; look++) {
            uint64_t entry = table->entries[word & mask];
            unsigned used = entry & 15, symbols = entry >> 4 & 15;
            kv_put_fixed64(bytes + i, entry >> 8);
            if (i + symbols > n)
                symbols = entry_part(table, entry, n - i, &used);
            i += symbols;
            at += used;
            word >>= used;
        }
    }
    return take_bits(in, at);
}

static size_t take_mixed(kv_slice in, const struct ts_huffman_table *table, uint64_t *numbers, size_t n)
{
    uint64_t mask = ((uint64_t)1 << table->bits) - 1;
    size_t at = 0, i = 0;
    while (i < n) {
        uint64_t word = bits_at(in, at);
        unsigned left = WORD_BITS;
        while (left >= TS_HUFFMAN_BITS && i < n) {
            uint64_t entry = table->entries[word & mask];
            unsigned used = entry & 15, symbols = entry >> 4 & 15;
            if (!symbols) {
                unsigned symbol = entry >> 8 & 255, low = symbol_low_bits(symbol);
                if (used + low > left && left == WORD_BITS)
                    numbers[i++] = range_number(in, at + used, symbol);
                else if (used + low > left)
                    break;
                else
                    numbers[i++] = symbol_base(symbol) + (word >> used & (((uint64_t)1 << low) - 1));
                at += used + low;
                if (used + low > left)
                    break;
                used += low;
            } else {
                if (i + symbols > n)
                    symbols = entry_part(table, entry, n - i, &used);
                for (unsigned k = 0; k < symbols; k++)
                    numbers[i++] = entry >> (8 * k + 8) & 255;
                at += used;
            }
            left -= used;
            word >>= used;
        }
    }
    return at;
}

kv_status ts_huffman_take(kv_slice *in, const struct ts_huffman_table *table, uint64_t *numbers, size_t n)
{
    uint8_t bytes[TS_HUFFMAN_NUMBERS_MAX + 8];
    KV_ASSERT(n <= TS_HUFFMAN_NUMBERS_MAX);
    if (table->ranges)
        return take_bits(in, take_mixed(*in, table, numbers, n));
    kv_status rc = ts_huffman_take_bytes(in, table, bytes, n);
    for (size_t i = 0; rc == KV_OK && i < n; i++)
        numbers[i] = bytes[i];
    return rc;
}
