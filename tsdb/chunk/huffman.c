#include "tsdb/chunk/huffman.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "tsdb/chunk/kernel.h"

enum {
    DIRECT = 16,   /* numbers below are symbols */
    ENTRY_MAX = 6, /* symbols in an entry of the table */
    LONG_LOOK = 8, /* bits of a look at least, where many numbers are read */
    WORD_BITS = 57 /* what one load surely gives */
};

#define CODES (1u << TS_HUFFMAN_BITS)

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

/* An entry where every symbol is a number: the lowest byte says how many bits of input it uses, the next how many symbols they are; these follow, a
 * byte each. */
static inline unsigned entry_used(uint64_t entry)
{
    return (uint8_t)entry;
}

static inline unsigned entry_count(uint64_t entry)
{
    return (uint8_t)(entry >> 8);
}

/* `symbol`, then what `rest` has. */
static uint64_t entry_with(const uint8_t *lens, unsigned symbol, uint64_t rest)
{
    unsigned count = entry_count(rest), used = entry_used(rest);
    if (count == ENTRY_MAX) { /* no room for its last */
        used -= lens[(uint8_t)(rest >> (8 * ENTRY_MAX + 8))];
        count--;
    }
    return rest >> 16 << 24 | symbol << 16 | (count + 1) << 8 | (used + lens[symbol]);
}

/* The entries for looks of `bits` bits, from those for fewer: the first symbol, and what the bits behind it give. */
static void several_of(const uint8_t *symbols, const uint8_t *lens, unsigned bits, bool long_read,
                       uint64_t *out)
{
    uint64_t fewer[CODES]; /* for looks of b bits: 1 << b of them, from there on */
    fewer[0] = fewer[1] = 0;
    if (!long_read) {
        for (unsigned i = 0; i < 1u << bits; i++)
            out[i] = entry_with(lens, symbols[i], 0);
        return;
    }
    for (unsigned b = 0; b <= bits; b++) {
        uint64_t *to = b == bits ? out : fewer + ((size_t)1 << b);
        for (unsigned i = 0; i < 1u << b; i++) {
            unsigned symbol = symbols[i], len = lens[symbol];
            to[i] = len > b ? 0 : entry_with(lens, symbol, fewer[(1u << (b - len)) + (i >> len)]);
        }
    }
}

/* A symbol's entry, everywhere from `at` on in steps of `each`. */
static void fill_ones(struct ts_huffman_table *table, unsigned symbol, unsigned at, unsigned each)
{
    unsigned low = symbol < DIRECT ? 0 : symbol_low_bits(symbol), len = table->lens[symbol];
    uint64_t base = symbol < DIRECT ? symbol : symbol_base(symbol);
    const struct ts_huffman_entry one = {base, (uint8_t)len, (uint8_t)low, (uint8_t)(len + low)};
    const struct ts_huffman_small small = {(uint32_t)base, (uint32_t)(((uint64_t)1 << low) - 1), len,
                                           len + low};
    if (table->most <= UINT32_MAX)
        for (; at < 1u << table->bits; at += each)
            table->of.small[at] = small;
    else
        for (; at < 1u << table->bits; at += each)
            table->of.one[at] = one;
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
    uint8_t first, n, symbols[CODES] = {0};
    unsigned next[TS_HUFFMAN_BITS + 1];
    kv_status rc = KV_OK;
    if (kv_take_byte(in, &first) < 0 || kv_take_byte(in, &n) < 0 || n < 1 || first + n > TS_HUFFMAN_SYMBOLS)
        return KV_CORRUPT;
    unsigned last = (unsigned)first + n - 1;
    table->bits = 0;
    table->low_bits = last < DIRECT ? 0 : symbol_low_bits(last);
    table->most = last < DIRECT ? last : symbol_base(last) + (((uint64_t)1 << table->low_bits) - 1);
    memset(table->lens, 0, sizeof table->lens);
    if (n > 1 && (rc = take_lens(in, first, n, table)) < 0)
        return rc;
    if (n > 1 && long_read && !table->low_bits && table->bits < LONG_LOOK)
        table->bits = LONG_LOOK;
    first_codes(table->lens, next);
    for (unsigned s = first; s <= last && n > 1; s++) {
        unsigned len = table->lens[s];
        if (!len)
            continue;
        unsigned begin = reversed(next[len]++, len);
        if (table->low_bits)
            fill_ones(table, s, begin, 1u << len);
        else
            for (unsigned at = begin; at < 1u << table->bits; at += 1u << len)
                symbols[at] = (uint8_t)s;
    }
    if (n == 1 && table->low_bits) /* no bits: as often as wanted */
        fill_ones(table, first, 0, 1);
    else if (n == 1)
        table->of.several[0] = entry_with(table->lens, first, 0);
    else if (!table->low_bits)
        several_of(symbols, table->lens, table->bits, long_read, table->of.several);
    return KV_OK;
}

/* The same as bits_at, where the bytes end. */
static __attribute__((noinline)) uint64_t bits_at_end(kv_slice in, size_t at)
{
    uint8_t last[8] = {0};
    size_t byte = at / 8;
    if (byte < in.len)
        memcpy(last, in.data + byte, in.len - byte < 8 ? in.len - byte : 8);
    return kv_get_fixed64(last) >> (at % 8);
}

/* 64 bits from bit `at` on, WORD_BITS or more of them valid; zeros past the end. */
static inline __attribute__((always_inline)) uint64_t bits_at(kv_slice in, size_t at)
{
    if (KV_LIKELY(at / 8 + 8 <= in.len))
        return kv_get_fixed64(in.data + at / 8) >> (at % 8);
    return bits_at_end(in, at);
}

/* The symbols of an entry that are still wanted, and in *used the bits of these. */
static unsigned entry_part(const struct ts_huffman_table *table, uint64_t entry, size_t wanted,
                           unsigned *used)
{
    *used = 0;
    for (size_t i = 0; i < wanted; i++)
        *used += table->lens[entry >> (8 * i + 16) & 255];
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

/* One block being read: the bits read so far, and where the next number goes. */
struct lane {
    kv_slice in;
    size_t at, i;
    uint64_t word;
};

enum { LOOKS = WORD_BITS / TS_HUFFMAN_BITS, LOOKS_MOST = LOOKS * ENTRY_MAX };

static inline void look_several(struct lane *lane, const struct ts_huffman_table *table, uint64_t mask,
                                uint8_t *bytes)
{
    uint64_t entry = table->of.several[lane->word & mask];
    kv_put_fixed64(bytes + lane->i, entry >> 16);
    lane->i += entry_count(entry);
    lane->at += entry_used(entry);
    lane->word >>= entry_used(entry);
}

/* Goes on with a lane up to n numbers; up to 8 bytes behind them are overwritten. */
static void take_bytes(struct lane lane, const struct ts_huffman_table *table, uint64_t mask, uint8_t *bytes,
                       size_t n, size_t *bits)
{
    while (n - lane.i >= LOOKS_MOST) {
        lane.word = bits_at(lane.in, lane.at);
        for (unsigned look = 0; look < LOOKS; look++)
            look_several(&lane, table, mask, bytes);
    }
    while (lane.i < n) {
        uint64_t entry = table->of.several[bits_at(lane.in, lane.at) & mask];
        unsigned used = entry_used(entry), count = entry_count(entry);
        kv_put_fixed64(bytes + lane.i, entry >> 16);
        if (lane.i + count > n)
            count = entry_part(table, entry, n - lane.i, &used);
        lane.i += count;
        lane.at += used;
    }
    *bits = lane.at;
}

/* The loops over lanes below are inlined for each number of them and unrolled, so that all stay in registers. */
#define LANES_INLINE static inline __attribute__((always_inline))
#define FOR_LANES    _Pragma("GCC unroll 4") for (size_t l = 0; l < lanes; l++)

LANES_INLINE bool lanes_far_from(const struct lane *a, size_t lanes, size_t n)
{
    bool far = true;
    FOR_LANES
    far &= n - a[l].i >= LOOKS_MOST;
    return far;
}

LANES_INLINE void take_bytes_of(const kv_slice *in, size_t lanes, const struct ts_huffman_table *table,
                                uint8_t (*bytes)[TS_HUFFMAN_NUMBERS_MAX + 8], size_t n, size_t *bits)
{
    uint64_t mask = ((uint64_t)1 << table->bits) - 1;
    struct lane a[TS_HUFFMAN_LANES];
    FOR_LANES
    a[l] = (struct lane){.in = in[l]};
    while (lanes_far_from(a, lanes, n)) {
        FOR_LANES
        a[l].word = bits_at(a[l].in, a[l].at);
        for (unsigned look = 0; look < LOOKS; look++)
            FOR_LANES
        look_several(&a[l], table, mask, bytes[l]);
    }
    for (size_t l = 0; l < lanes; l++)
        take_bytes(a[l], table, mask, bytes[l], n, &bits[l]);
}

LANES_INLINE uint32_t look_one(struct lane *lane, const struct ts_huffman_table *table, uint64_t mask)
{
    const struct ts_huffman_small *entry = &table->of.small[lane->word & mask];
    uint32_t number = entry->base + ((uint32_t)(lane->word >> entry->len) & entry->mask);
    lane->word >>= entry->whole;
    lane->at += entry->whole;
    return number;
}

LANES_INLINE void take_ones_of(const kv_slice *in, size_t lanes, const struct ts_huffman_table *table,
                               uint32_t *const *numbers, size_t n, size_t *bits)
{
    uint64_t mask = ((uint64_t)1 << table->bits) - 1;
    size_t sure = WORD_BITS / (table->bits + table->low_bits); /* so many are in any word */
    struct lane a[TS_HUFFMAN_LANES];
    FOR_LANES
    a[l] = (struct lane){.in = in[l]};
    for (size_t i = 0; i < n;) {
        size_t end = n - i < sure ? n : i + sure;
        FOR_LANES
        a[l].word = bits_at(a[l].in, a[l].at);
        for (; i < end; i++)
            FOR_LANES
        numbers[l][i] = look_one(&a[l], table, mask);
    }
    FOR_LANES
    bits[l] = a[l].at;
}

/* The next number, however long. */
LANES_INLINE uint64_t look_long(struct lane *lane, const struct ts_huffman_table *table, uint64_t mask)
{
    const struct ts_huffman_entry *entry = &table->of.one[bits_at(lane->in, lane->at) & mask];
    uint64_t low = bits_at(lane->in, lane->at + entry->len);
    if (entry->low > 32)
        low = (low & UINT32_MAX) | bits_at(lane->in, lane->at + entry->len + 32) << 32;
    lane->at += entry->whole;
    return entry->base + (low & (((uint64_t)1 << entry->low) - 1));
}

LANES_INLINE void take_long_of(const kv_slice *in, size_t lanes, const struct ts_huffman_table *table,
                               uint64_t *const *numbers, size_t n, size_t *bits)
{
    uint64_t mask = ((uint64_t)1 << table->bits) - 1;
    struct lane a[TS_HUFFMAN_LANES];
    FOR_LANES
    a[l] = (struct lane){.in = in[l]};
    for (size_t i = 0; i < n; i++)
        FOR_LANES
    numbers[l][i] = look_long(&a[l], table, mask);
    FOR_LANES
    bits[l] = a[l].at;
}

static kv_status take_bits_of(kv_slice *in, size_t lanes, const size_t *bits)
{
    kv_status rc = KV_OK;
    for (size_t l = 0; l < lanes && rc == KV_OK; l++)
        rc = take_bits(&in[l], bits[l]);
    return rc;
}

kv_status ts_huffman_take_small(kv_slice *in, size_t lanes, const struct ts_huffman_table *table,
                                uint32_t *const *numbers, size_t n)
{
    KV_ASSERT(n <= TS_HUFFMAN_NUMBERS_MAX && table->most <= UINT32_MAX &&
              (lanes == 1 || lanes == 2 || lanes == TS_HUFFMAN_LANES));
    size_t bits[TS_HUFFMAN_LANES];
    if (!table->low_bits) {
        uint8_t bytes[TS_HUFFMAN_LANES][TS_HUFFMAN_NUMBERS_MAX + 8];
        if (lanes == TS_HUFFMAN_LANES)
            take_bytes_of(in, TS_HUFFMAN_LANES, table, bytes, n, bits);
        else if (lanes == 2)
            take_bytes_of(in, 2, table, bytes, n, bits);
        else
            take_bytes_of(in, 1, table, bytes, n, bits);
        for (size_t l = 0; l < lanes; l++)
            ts_kernels()->widen(bytes[l], numbers[l], n);
    } else if (lanes == TS_HUFFMAN_LANES) {
        take_ones_of(in, TS_HUFFMAN_LANES, table, numbers, n, bits);
    } else if (lanes == 2) {
        take_ones_of(in, 2, table, numbers, n, bits);
    } else {
        take_ones_of(in, 1, table, numbers, n, bits);
    }
    return take_bits_of(in, lanes, bits);
}

kv_status ts_huffman_take(kv_slice *in, size_t lanes, const struct ts_huffman_table *table,
                          uint64_t *const *numbers, size_t n)
{
    KV_ASSERT(n <= TS_HUFFMAN_NUMBERS_MAX && (lanes == 1 || lanes == 2 || lanes == TS_HUFFMAN_LANES));
    size_t bits[TS_HUFFMAN_LANES];
    if (table->most <= UINT32_MAX) {
        for (size_t l = 0; l < lanes; l++) {
            uint32_t small[TS_HUFFMAN_NUMBERS_MAX + TS_KERNEL_SLACK], *to = small;
            kv_status rc = ts_huffman_take_small(&in[l], 1, table, &to, n);
            if (rc < 0)
                return rc;
            for (size_t i = 0; i < n; i++)
                numbers[l][i] = small[i];
        }
        return KV_OK;
    }
    if (lanes == TS_HUFFMAN_LANES)
        take_long_of(in, TS_HUFFMAN_LANES, table, numbers, n, bits);
    else if (lanes == 2)
        take_long_of(in, 2, table, numbers, n, bits);
    else
        take_long_of(in, 1, table, numbers, n, bits);
    return take_bits_of(in, lanes, bits);
}
